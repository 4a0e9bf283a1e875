//! What a session asks of the kernel, call by call, on a daemon as it is installed: one worker, access log off.
//!
//! Under strace the daemon is slower than its peers, so whatever it waits for has come when it looks; still, a
//! busy machine may part what usually comes together. So each dialogue is had several times, and the most
//! frequent way it went is compared.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use expect_test::{Expect, expect};

use crate::sockets::LIMIT;
use crate::trace::{Call, Traced};

/// How often each dialogue is had.
const TIMES: usize = 9;

/// What a download sends.
const MIB: usize = 1 << 20;

/// Pipes that one download may need: one, made when the first chunks have filled the buffer.
const PIPES_MAX: usize = 1;

#[test]
fn a_round_trip_waits_reads_and_writes_once_each_way() {
    let daemon = Traced::start(&[]);
    let (mut client, mut origin) = session(daemon.address);
    for number in 0..=TIMES {
        let message = marked("round", number);
        exchange(&mut client, &mut origin, &message);
        exchange(&mut origin, &mut client, &message);
    }
    drop((client, origin));
    let calls = daemon.finish();
    compare(
        windows(&calls, "round"),
        0,
        &expect![[r#"
            recvfrom
            sendto
            epoll_wait
            recvfrom
            sendto
            epoll_wait
            = 6: 2 epoll_wait, 2 recvfrom, 2 sendto
        "#]],
    );
}

#[test]
fn a_session_by_address_costs_these_calls() {
    let daemon = Traced::start(&[]);
    for number in 0..=TIMES {
        let (mut client, mut origin) = session(daemon.address);
        let message = marked("session", number);
        exchange(&mut client, &mut origin, &message);
        exchange(&mut origin, &mut client, &message);
        // The client closes first, as most do; the origin sees the end and closes too.
        client.shutdown(std::net::Shutdown::Write).expect("shut down");
        assert_eq!(origin.read(&mut [0; 1]).expect("the end"), 0);
        drop(origin);
        assert_eq!(client.read(&mut [0; 1]).expect("the end"), 0);
    }
    let calls = daemon.finish();
    let accepted: Vec<usize> = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| call.name == "accept4" && !call.text.contains("EAGAIN"))
        .map(|(at, _)| at)
        .collect();
    assert_eq!(accepted.len(), TIMES + 1);
    compare(
        accepted.windows(2).map(|pair| &calls[pair[0]..pair[1]]),
        // A relay that begins looks once more at what has come meanwhile. And the origin's acknowledgement of our
        // FIN is an event, unless its own FIN comes with it.
        2,
        &expect![[r#"
            accept4
            epoll_ctl
            accept4
            epoll_wait
            recvfrom
            sendto
            epoll_wait
            recvfrom
            socket
            setsockopt TCP_NODELAY
            setsockopt TCP_CONGESTION
            connect
            epoll_ctl
            epoll_wait
            getsockname
            sendto
            epoll_wait
            recvfrom
            sendto
            epoll_wait
            recvfrom
            sendto
            epoll_wait
            recvfrom
            shutdown
            epoll_wait
            recvfrom
            close
            close
            epoll_wait
            = 30: 2 accept4, 2 close, 1 connect, 2 epoll_ctl, 8 epoll_wait, 1 getsockname, 6 recvfrom, 4 sendto, 2 setsockopt, 1 shutdown, 1 socket
        "#]],
    );
}

#[test]
fn a_download_of_one_mib_stays_within_its_calls() {
    let daemon = Traced::start(&[]);
    let (mut client, mut origin) = session(daemon.address);
    let body = vec![b'.'; MIB];
    let mut received = vec![0; MIB];
    for number in 0..=TIMES {
        exchange(&mut client, &mut origin, &marked("get", number));
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| origin.write_all(&body).expect("sent"));
            client.read_exact(&mut received).expect("received");
            sending.join().expect("sent");
        });
    }
    drop((client, origin));
    let calls = daemon.finish();
    let mut downloads: Vec<&[Call]> = windows(&calls, "get").collect();
    downloads.sort_by_key(|calls| calls.len());
    let totals: Vec<usize> = downloads.iter().map(|calls| calls.len()).collect();
    let counts = counted(downloads[TIMES / 2]);
    println!("calls of each download: {totals:?}; of the one in the middle: {counts:?}");
    // Reads are as large as what has arrived, so the exact number is up to the kernel's scheduling.
    for (names, calls_max) in [
        (&["epoll_wait"][..], 16),
        (&["recvfrom", "sendto", "splice"], 40),
        (&["pipe2", "fcntl"], 2 * PIPES_MAX),
    ] {
        let calls_count: usize = names.iter().filter_map(|name| counts.get(*name)).sum();
        assert!(calls_count <= calls_max, "{calls_count} of {names:?}, at most {calls_max}: {counts:?}");
    }
    let known = ["epoll_wait", "recvfrom", "sendto", "splice", "pipe2", "fcntl"];
    assert!(counts.keys().all(|name| known.contains(&name.as_str())), "{counts:?}");
}

/// An established session: the client's end and the origin's.
fn session(proxy: SocketAddr) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mut client = TcpStream::connect(proxy).expect("a connection");
    client.set_nodelay(true).expect("TCP_NODELAY");
    client.set_read_timeout(Some(LIMIT)).expect("a time limit");
    client.write_all(&[5, 1, 0]).expect("sent");
    let mut method = [0; 2];
    client.read_exact(&mut method).expect("a method");
    assert_eq!(method, [5, 0]);
    let port = listener.local_addr().expect("an address").port().to_be_bytes();
    client.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, port[0], port[1]]).expect("sent");
    let mut reply = [0; 10];
    client.read_exact(&mut reply).expect("a reply");
    assert_eq!(reply[1], 0, "{reply:?}");
    let (origin, _) = listener.accept().expect("a connection");
    origin.set_nodelay(true).expect("TCP_NODELAY");
    origin.set_read_timeout(Some(LIMIT)).expect("a time limit");
    (client, origin)
}

/// 64 octets that can be told from all others in a trace.
fn marked(what: &str, number: usize) -> Vec<u8> {
    format!("{:-<64}", format!("{what}-{number}-")).into_bytes()
}

fn exchange(from: &mut TcpStream, to: &mut TcpStream, message: &[u8]) {
    from.write_all(message).expect("sent");
    let mut received = vec![0; message.len()];
    to.read_exact(&mut received).expect("received");
    assert_eq!(received, message);
}

/// For each of [`TIMES`] messages of that mark the calls from its arrival to just before the next one's.
fn windows<'a>(calls: &'a [Call], mark: &str) -> impl Iterator<Item = &'a [Call]> {
    let arrivals: Vec<usize> = (0..=TIMES)
        .map(|number| {
            let data = format!("\"{mark}-{number}-");
            let arrives = |call: &Call| call.name == "recvfrom" && call.text.contains(&data);
            calls.iter().position(arrives).unwrap_or_else(|| panic!("no {data} in {calls:#?}"))
        })
        .collect();
    (0..TIMES).map(move |number| &calls[arrivals[number]..arrivals[number + 1]])
}

fn counted(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    calls.iter().for_each(|call| *counts.entry(call.name.clone()).or_default() += 1);
    counts
}

/// Compares the most frequent way that a dialogue went: the calls in order, then how many of each. Waits that
/// brought nothing to do count apart: what is there already, and comes together, is up to the kernel's scheduling.
fn compare<'a>(dialogues: impl Iterator<Item = &'a [Call]>, empty_waits_max: usize, expected: &Expect) {
    let mut ways: BTreeMap<String, usize> = BTreeMap::new();
    let mut empty_waits = Vec::new();
    for calls in dialogues {
        let all_count = calls.len();
        let calls = without_empty_waits(calls);
        empty_waits.push(all_count - calls.len());
        let names: Vec<String> = calls.iter().map(Call::shown).collect();
        let counts: Vec<String> =
            counted(&calls).iter().map(|(name, count)| format!("{count} {name}")).collect();
        let way = format!("{}\n= {}: {}\n", names.join("\n"), calls.len(), counts.join(", "));
        *ways.entry(way).or_default() += 1;
    }
    let (way, times) = ways.iter().max_by_key(|(_, times)| **times).expect("a dialogue");
    println!("{times} of {TIMES}, {} ways in all, empty waits {empty_waits:?}:\n{way}", ways.len());
    expected.assert_eq(way);
    empty_waits.sort_unstable();
    assert!(empty_waits[TIMES / 2] <= empty_waits_max, "waits that brought nothing: {empty_waits:?}");
}

/// Leaves out the waits without an event, and those after whose events the worker just waits again.
fn without_empty_waits(calls: &[Call]) -> Vec<Call> {
    let mut left: Vec<Call> = calls.iter().filter(|call| !call.is_empty_wait()).cloned().collect();
    left.dedup_by(|next, call| next.name == "epoll_wait" && call.name == "epoll_wait");
    left
}
