//! The dialogue of RFC 1928 byte by byte: any split gives the same answers, what is not SOCKS5 gets the RFC's
//! answer where there is one, and silence ends.

use std::time::{Duration, Instant};

use crate::harness::client::{CONNECT, NO_AUTH, PASSWORD, greeting, password_request, request};
use crate::harness::origin::{Origin, V4};
use crate::harness::{Client, Daemon, Destination, Ending, Rng, pattern};

#[test]
fn bytes_sent_one_at_a_time_give_the_same_dialogue() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&["--user", "alice:secret", "--socks-addr", "127.0.0.1"]);
    let mut client = Client::connect(daemon.address());
    client.send_singly(&greeting(&[NO_AUTH, PASSWORD]));
    assert_eq!(client.method(), PASSWORD);
    client.send_singly(&password_request(b"alice", b"secret"));
    assert_eq!(client.status(), 0);
    client.send_singly(&request(CONNECT, &origin.address().into()));
    assert_eq!(client.reply().code, 0);
    client.assert_echo(b"one at a time");
}

#[test]
fn a_dialogue_sent_in_one_write_is_answered_in_order() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&["--user", "alice:secret", "--socks-addr", "127.0.0.1"]);
    let mut client = Client::connect(daemon.address());
    let all = [
        greeting(&[PASSWORD]),
        password_request(b"alice", b"secret"),
        request(CONNECT, &origin.address().into()),
        b"and the first bytes for the origin".to_vec(),
    ];
    client.send(&all.concat());
    assert_eq!(client.method(), PASSWORD);
    assert_eq!(client.status(), 0);
    assert_eq!(client.reply().code, 0);
    assert_eq!(client.read(34), b"and the first bytes for the origin");
}

#[test]
fn every_cut_of_a_dialogue_in_two_gives_the_same_answers() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&[]);
    let all =
        [greeting(&[NO_AUTH]), request(CONNECT, &origin.address().into()), b"payload".to_vec()].concat();
    for cut in 1..all.len() {
        let mut client = Client::connect(daemon.address());
        client.send(&all[..cut]);
        client.send(&all[cut..]);
        assert_eq!(client.method(), NO_AUTH, "cut at {cut}");
        assert_eq!(client.reply().code, 0, "cut at {cut}");
        assert_eq!(client.read(7), b"payload", "cut at {cut}");
    }
}

#[test]
fn the_longest_list_of_methods_is_read_whole() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&[]);
    let mut client = Client::connect(daemon.address());
    let mut methods = vec![0x80; 255];
    methods[254] = NO_AUTH;
    assert_eq!(client.offer(&methods), NO_AUTH);
    assert_eq!(client.request(CONNECT, &origin.address().into()).code, 0);
    client.assert_echo(b"after 255 methods");
}

#[test]
fn methods_that_are_not_offered_or_not_allowed_are_refused_with_ff() {
    let open = Daemon::start(&["--auth", "none"]);
    let closed =
        Daemon::start(&["--auth", "required", "--user", "alice:secret", "--socks-addr", "127.0.0.1"]);
    let cases: &[(&Daemon, &[u8])] = &[
        (&open, &[]),
        (&open, &[PASSWORD]),
        (&open, &[0x01]), // GSSAPI
        (&open, &[0x03, 0x7f, 0x80, 0xfe, 0xff]),
        (&closed, &[]),
        (&closed, &[NO_AUTH]),
        (&closed, &[NO_AUTH, 0x01]),
    ];
    for (daemon, methods) in cases {
        let mut client = Client::connect(daemon.address());
        assert_eq!(client.offer(methods), 0xff, "{methods:02x?}");
        assert_eq!(client.expect_end(), Ending::Closed, "{methods:02x?}");
    }
}

#[test]
fn optional_authentication_takes_the_password_where_it_is_offered() {
    let daemon = Daemon::start(&["--auth", "optional", "--user", "alice:secret"]);
    for (methods, expected) in
        [(&[NO_AUTH][..], NO_AUTH), (&[PASSWORD], PASSWORD), (&[NO_AUTH, PASSWORD], PASSWORD)]
    {
        assert_eq!(Client::connect(daemon.address()).offer(methods), expected, "{methods:02x?}");
    }
}

#[test]
fn other_protocols_are_closed_without_a_socks5_answer() {
    let mut daemon = Daemon::start(&[]);
    let speakers: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: example.test\r\n\r\n",
        b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", // SOCKS4
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", // TLS
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00",
        &[0xff; 4096],
    ];
    for bytes in speakers {
        let mut client = Client::connect(daemon.address());
        client.send(bytes);
        // Closed with unread bytes is a reset, and either is an end.
        client.expect_end();
    }
    daemon.assert_alive();
}

#[test]
fn a_dialogue_that_breaks_off_in_the_middle_is_answered_and_closed() {
    let origin = Origin::echo(V4);
    let to: Destination = origin.address().into();
    let daemon = Daemon::start(&[]);
    // The request begins with another version: a general failure, then the end.
    let mut client = Client::connect(daemon.address());
    client.offer(&[NO_AUTH]);
    let mut wrong = request(CONNECT, &to);
    wrong[0] = 4;
    client.send(&wrong);
    assert_eq!(client.reply().code, 1);
    client.expect_end();
    assert_eq!(origin.accepted_count(), 0, "nothing of it reached an origin");
}

#[test]
fn a_client_that_leaves_at_any_byte_harms_nobody() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&[]);
    let all = [greeting(&[NO_AUTH]), request(CONNECT, &origin.address().into())].concat();
    for length in 0..=all.len() {
        let mut leaving = Client::connect(daemon.address());
        leaving.send(&all[..length]);
        if length % 2 == 0 {
            leaving.half_close();
        } else {
            leaving.reset();
        }
    }
    crate::harness::connect_through(daemon.address(), origin.address()).assert_echo(b"still here");
}

#[test]
fn garbage_never_ends_the_daemon_or_opens_a_connection() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::start(&["--handshake-timeout", "2"]);
    let mut rng = Rng::new(7);
    for seed in 0..200 {
        let mut client = Client::connect(daemon.address());
        let mut bytes = pattern(seed, 1 + rng.below(600));
        // Half of them get past the version octet, a quarter past the method.
        if seed % 2 == 0 {
            bytes[0] = 5;
        }
        if seed % 4 == 0 {
            bytes.splice(0..0, greeting(&[NO_AUTH]));
        }
        drop(std::io::Write::write_all(&mut client.stream, &bytes)); // The daemon may be quicker and close.
        client.half_close_if_open();
    }
    daemon.assert_alive();
    crate::harness::connect_through(daemon.address(), origin.address()).assert_echo(b"unharmed");
}

#[test]
fn silence_ends_with_the_handshake_timeout_wherever_it_begins() {
    let daemon = Daemon::start(&["--handshake-timeout", "1", "--user", "a:b", "--socks-addr", "127.0.0.1"]);
    let steps = [vec![], vec![5], greeting(&[PASSWORD]), [greeting(&[PASSWORD]), vec![1, 9]].concat()];
    let started = Instant::now();
    let clients: Vec<Client> = steps
        .iter()
        .map(|bytes| {
            let mut client = Client::connect(daemon.address());
            client.send(bytes);
            client
        })
        .collect();
    for (mut client, bytes) in clients.into_iter().zip(&steps) {
        let (answer, _) = client.read_to_end();
        assert!(answer.len() <= 2, "after {bytes:02x?} came {answer:02x?}");
        let took = started.elapsed();
        assert!(
            took >= Duration::from_millis(900) && took < Duration::from_secs(5),
            "{bytes:02x?}: {took:?}"
        );
    }
}

#[test]
fn bytes_that_trickle_do_not_move_the_handshake_deadline() {
    let daemon = Daemon::start(&["--handshake-timeout", "1"]);
    let mut client = Client::connect(daemon.address());
    let started = Instant::now();
    client.send(&[5, 255]);
    // A method every 100 ms: without a deadline of the whole handshake this takes 25 s.
    let closed = std::iter::repeat_with(|| {
        crate::harness::waiting::pause(Duration::from_millis(100));
        std::io::Write::write_all(&mut client.stream, &[0x80]).is_err()
    });
    let writes_count = closed.take(60).position(|closed| closed).expect("the trickle is cut off");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{writes_count} bytes in {took:?}");
}
