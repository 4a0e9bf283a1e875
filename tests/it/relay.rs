//! The relay: bytes arrive whole and in order, each side closes on its own, resets stay resets, and a slow
//! reader holds the sender back instead of filling memory.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::bytes::assert_same;
use crate::harness::client::{CONNECT, NO_AUTH, greeting, request};
use crate::harness::dns_chain::DnsChain;
use crate::harness::nginx::{Nginx, OriginFile, fetch};
use crate::harness::origin::{Origin, V4, V6, arrival};
use crate::harness::{Client, Daemon, Destination, Ending, connect_through, exclusive, pattern};

#[test]
fn a_client_that_closes_its_side_still_gets_the_whole_answer() {
    let origin = Origin::answers_after_the_end(V4);
    let daemon = Daemon::start(&[]);
    for length in [0, 1, 1000, 300_000, 3_000_000] {
        let mut client = connect_through(daemon.address(), origin.address());
        let sent = pattern(length as u64, length);
        client.send(&sent);
        client.half_close();
        let (mut answer, ending) = client.read_to_end();
        answer.reverse();
        assert_same(&answer, &sent, "the answer after the half-close");
        assert_eq!(ending, Ending::Closed);
    }
}

#[test]
fn an_origin_that_closes_its_side_still_gets_all_that_the_client_sends() {
    for length in [0, 1, 1000, 300_000, 3_000_000] {
        let (origin, receiver) = Origin::source(V4, 5, length);
        let daemon = Daemon::start(&[]);
        let mut client = connect_through(daemon.address(), origin.address());
        let (got, ending) = client.read_to_end();
        assert_same(&got, &pattern(5, length), "the whole of what the origin sent");
        assert_eq!(ending, Ending::Closed);
        let sent = pattern(6, length);
        client.send(&sent);
        client.half_close();
        let (arrived, ending) = arrival(&receiver);
        assert_same(&arrived, &sent, "what the client sent after the origin's end");
        assert_eq!(ending, Ending::Closed);
    }
}

#[test]
fn data_and_end_that_arrive_together_are_both_delivered() {
    // The last bytes and FIN in one segment: a reader that stops at a short read loses the end.
    let (origin, receiver) = Origin::sink(V4);
    let daemon = Daemon::start(&[]);
    for length in 1..50 {
        let mut client = connect_through(daemon.address(), origin.address());
        client.send(&pattern(length, length as usize));
        client.half_close();
        let (arrived, ending) = arrival(&receiver);
        assert_same(&arrived, &pattern(length, length as usize), "last bytes");
        assert_eq!(ending, Ending::Closed);
    }
}

#[test]
fn data_sent_with_the_request_reaches_the_origin_first() {
    let (origin, receiver) = Origin::sink(V4);
    let daemon = Daemon::start(&[]);
    // Little, what fits the room for early data, and more than any room: reading stops until the origin stands.
    for length in [1, 16 * 1024, 1_000_000] {
        let early = pattern(9, length);
        let mut client = Client::connect(daemon.address());
        client.send(
            &[greeting(&[NO_AUTH]), request(CONNECT, &origin.address().into()), early.clone()].concat(),
        );
        client.send(b"and later");
        client.half_close();
        assert_eq!(client.method(), NO_AUTH);
        assert_eq!(client.reply().code, 0);
        let (arrived, _) = arrival(&receiver);
        assert_same(&arrived, &[early, b"and later".to_vec()].concat(), "early data, then the rest");
    }
}

#[test]
fn a_client_that_asks_sends_and_closes_at_once_is_served() {
    let origin = Origin::answers_after_the_end(V4);
    let daemon = Daemon::start(&[]);
    let mut client = Client::connect(daemon.address());
    client.send(
        &[greeting(&[NO_AUTH]), request(CONNECT, &origin.address().into()), b"all at once".to_vec()].concat(),
    );
    client.half_close();
    assert_eq!(client.method(), NO_AUTH);
    assert_eq!(client.reply().code, 0);
    assert_eq!(client.read_to_end(), (b"ecno ta lla".to_vec(), Ending::Closed));
}

#[test]
fn a_reset_of_the_origin_reaches_the_client_as_a_reset() {
    let daemon = Daemon::start(&[]);
    for length in [0, 1000, 200_000] {
        let origin = Origin::resets(V4, 3, length);
        let mut client = connect_through(daemon.address(), origin.address());
        client.send(b"x");
        let (got, ending) = client.read_to_end();
        assert_eq!(ending, Ending::Reset, "after {length} bytes");
        assert!(got.len() <= length);
        assert_same(&got, &pattern(3, length)[..got.len()], "what came before the reset");
    }
}

#[test]
fn a_reset_of_the_client_reaches_the_origin_as_a_reset() {
    let (origin, receiver) = Origin::sink(V4);
    let daemon = Daemon::start(&[]);
    for length in [0, 1000, 200_000] {
        let mut client = connect_through(daemon.address(), origin.address());
        client.send(&pattern(4, length));
        client.reset();
        let (got, ending) = arrival(&receiver);
        assert_eq!(ending, Ending::Reset, "after {length} bytes");
        assert_same(&got, &pattern(4, length)[..got.len()], "what came before the reset");
    }
}

#[test]
fn a_reset_of_the_client_during_a_download_reaches_the_origin_as_a_reset() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let origin = Origin::serve(V4, move |stream| {
        let (mut reader, mut writer) = (stream.try_clone().expect("a second handle"), stream);
        let was_reset = std::thread::scope(|scope| {
            let writing = scope.spawn(|| writer.write_all(&pattern(10, 4 << 20)));
            let (_, ending) = crate::harness::client::read_to_end(&mut reader);
            // The kernel tells of a reset once, to whichever of the two asks first.
            writing.join().unwrap().is_err() || ending == Ending::Reset
        });
        sender.send(was_reset).expect("the test waits");
    });
    let daemon = Daemon::start(&[]);
    for round in 0..100 {
        let mut client = connect_through(daemon.address(), origin.address());
        client.read(1 + 1000 * (round % 50));
        client.reset();
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(true), "round {round}");
    }
}

#[test]
fn a_reset_after_a_half_close_is_still_a_reset() {
    let origin = Origin::serve(V4, |mut stream| {
        let (_, _) = crate::harness::client::read_to_end(&mut stream);
        crate::harness::client::reset(stream);
    });
    let daemon = Daemon::start(&[]);
    let mut client = connect_through(daemon.address(), origin.address());
    client.send(b"a question");
    client.half_close();
    assert_eq!(client.expect_end(), Ending::Reset);
}

#[test]
fn a_reader_that_does_not_read_holds_the_sender_back() {
    let released = Arc::new(AtomicBool::new(false));
    let (origin, receiver) = Origin::ignores(V4, Arc::clone(&released));
    let daemon = Daemon::start(&["--buffer-size", "64K"]);
    let before_kib = daemon.memory_kib_max();
    let mut client = connect_through(daemon.address(), origin.address());
    client.stream.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    let chunk = pattern(8, 1 << 20);
    let mut accepted = 0;
    // The kernel's buffers on both ways and what the daemon may hold: far below this many MiB.
    let blocked = (0..256).any(|_| write_counted(&mut client, &chunk, &mut accepted));
    assert!(blocked, "{accepted} bytes went in although nobody reads them");
    let grown_kib = daemon.memory_kib_max() - before_kib;
    assert!(grown_kib < 32 * 1024, "the daemon grew by {grown_kib} KiB");
    released.store(true, Ordering::Release);
    client.half_close();
    let (arrived, _) = arrival(&receiver);
    assert_eq!(arrived.len(), accepted, "everything that was accepted arrives");
    let expected: Vec<u8> = chunk.iter().copied().cycle().take(accepted).collect();
    assert_same(&arrived, &expected, "held back, not lost");
}

/// Writes a chunk, counts what the kernel took of it, and says whether it blocked.
fn write_counted(client: &mut Client, chunk: &[u8], accepted: &mut usize) -> bool {
    let mut left = chunk;
    while !left.is_empty() {
        match client.stream.write(left) {
            Ok(length) => {
                *accepted += length;
                left = &left[length..];
            }
            Err(_) => return true,
        }
    }
    false
}

#[test]
fn a_slow_reader_gets_every_byte_and_others_do_not_wait_for_it() {
    const LENGTH: usize = 20 << 20;
    let (source, _receiver) = Origin::source(V4, 11, LENGTH);
    let echo = Origin::echo(V4);
    let daemon = Daemon::start(&["--workers", "1"]);
    let mut slow = Client::connect_narrow(daemon.address(), 8 * 1024);
    assert_eq!(slow.ask(&source.address().into()).code, 0);
    let started = Instant::now();
    for round in 0..50 {
        connect_through(daemon.address(), echo.address()).assert_echo(format!("round {round}").as_bytes());
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "fifty sessions beside a slow one: {:?}",
        started.elapsed()
    );
    let (got, _) = slow.read_to_end();
    assert_same(&got, &pattern(11, LENGTH), "the slow reader's bytes");
}

#[test]
fn both_directions_flow_at_once_with_every_buffer_size() {
    const LENGTH: usize = 4 << 20;
    let origin = Origin::echo(V4);
    for size in ["512", "4K", "256K", "16M"] {
        let daemon = Daemon::start(&["--buffer-size", size]);
        let client = connect_through(daemon.address(), origin.address());
        let mut writer = client.stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            writer.write_all(&pattern(12, LENGTH)).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut client = client;
        let (got, ending) = client.read_to_end();
        sending.join().unwrap();
        assert_same(&got, &pattern(12, LENGTH), size);
        assert_eq!(ending, Ending::Closed);
    }
}

#[test]
fn an_idle_session_ends_and_one_that_moves_bytes_does_not() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&["--idle-timeout", "1"]);
    let mut idle = connect_through(daemon.address(), origin.address());
    let mut busy = connect_through(daemon.address(), origin.address());
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(2500) {
        busy.assert_echo(b"not idle");
        crate::harness::waiting::pause(Duration::from_millis(100));
    }
    idle.expect_end();
    busy.assert_echo(b"still there");
    let unlimited = Daemon::start(&["--idle-timeout", "1", "-D"]);
    let mut kept = connect_through(unlimited.address(), origin.address());
    assert!(kept.is_silent_for(Duration::from_millis(2500)), "-D switches the limit off");
    kept.assert_echo(b"after a long silence");
}

#[test]
fn a_half_closed_session_ends_without_bytes_but_not_while_they_flow() {
    let origin = Origin::serve(V4, |mut stream| {
        let (request, _) = crate::harness::client::read_to_end(&mut stream);
        // Slowly for twice the limit, then nothing at all.
        for _ in 0..if request == b"slowly" { 20 } else { 0 } {
            if stream.write_all(b".").is_err() {
                return;
            }
            crate::harness::waiting::pause(Duration::from_millis(100));
        }
        crate::harness::waiting::pause(Duration::from_secs(8));
    });
    let daemon = Daemon::start(&["--half-closed-timeout", "1"]);
    for (word, length) in [(&b"slowly"[..], 20), (b"never", 0)] {
        let mut client = connect_through(daemon.address(), origin.address());
        client.send(word);
        client.half_close();
        let started = Instant::now();
        let (got, _) = client.read_to_end();
        assert_eq!(got.len(), length, "{}", String::from_utf8_lossy(word));
        assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    }
}

#[test]
fn a_client_that_closes_in_the_middle_of_a_turn_has_its_time_limited_as_well() {
    const LENGTH: usize = 2 * 1024 * 1024;
    let (begin, begun) = std::sync::mpsc::channel();
    let begun = std::sync::Mutex::new(begun);
    let origin = Origin::serve(V4, move |mut stream| {
        let bytes = pattern(1, LENGTH);
        begun.lock().unwrap().recv().unwrap();
        stream.write_all(&bytes).unwrap();
        crate::harness::waiting::pause(Duration::from_secs(8));
    });
    let limits = ["--half-closed-timeout", "1s", "--idle-timeout", "off"];
    let mut daemon = Daemon::start(&[&limits[..], &["--buffer-size", "4k"]].concat());
    let mut client = connect_through(daemon.address(), origin.address());
    // The end and more bytes than one turn moves are there when it looks again.
    daemon.signal(Signal::STOP);
    crate::harness::waiting::pause(Duration::from_millis(100)); // Until all of its threads have stopped.
    begin.send(()).unwrap();
    client.half_close();
    crate::harness::waiting::pause(Duration::from_millis(300)); // Until all that fits has come.
    daemon.signal(Signal::CONT);
    assert_same(&client.read(LENGTH), &pattern(1, LENGTH), "what the origin sent");
    let silent_since = Instant::now();
    assert_eq!(client.expect_end(), Ending::Reset);
    assert!(silent_since.elapsed() < Duration::from_secs(4), "{:?}", silent_since.elapsed());
}

#[test]
fn nothing_is_left_of_sessions_that_ended() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&[]);
    let before = daemon.descriptors_count();
    for round in 0..300_u32 {
        let mut client = connect_through(daemon.address(), origin.address());
        client.assert_echo(&round.to_be_bytes());
        if round % 3 == 0 {
            client.reset();
        }
    }
    crate::harness::eventually("every descriptor is closed", || daemon.descriptors_count() <= before);
}

#[test]
fn a_quarter_gibibyte_from_nginx_has_the_right_hash_by_ipv4_ipv6_and_name() {
    let _alone = exclusive();
    let hash = OriginFile::Large.hash();
    let nginx = Nginx::start();
    let chain = DnsChain::start();
    let relay = chain.relay_address();
    let daemon = Daemon::start(&["--doh-ip", "127.0.0.1", "--doh-port", &relay.port().to_string()]);
    let destinations: [(Destination, _); 3] = [
        (nginx.address(V4).into(), daemon.address()),
        (nginx.address(V6).into(), daemon.address_v6()),
        (("both.chain.test", nginx.port()).into(), daemon.address()),
    ];
    for (to, proxy) in destinations {
        let mut client = connect_through(proxy, to.clone());
        assert_eq!(fetch(&mut client.stream, OriginFile::Large), hash, "{to:?}");
    }
}

#[test]
fn four_large_files_at_once_with_eight_workers_have_the_right_hash() {
    let _alone = exclusive();
    let hash = OriginFile::Large.hash();
    let nginx = Nginx::start();
    let daemon = Daemon::start(&["--workers", "8"]);
    std::thread::scope(|scope| {
        for at in [V4, V6, V4, V6] {
            let (address, proxy) = (nginx.address(at), daemon.address());
            scope.spawn(move || {
                let mut client = connect_through(proxy, address);
                assert_eq!(fetch(&mut client.stream, OriginFile::Large), hash);
            });
        }
    });
    let grown_kib = daemon.memory_kib_max();
    assert!(grown_kib < 200 * 1024, "the daemon occupied {grown_kib} KiB");
}
