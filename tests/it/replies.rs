//! Replies (RFC 1928 §6): each code where it is true, the bound address, and never 00 before there is a
//! connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::harness::client::{CONNECT, NO_AUTH, reply_to};
use crate::harness::origin::{BlackHole, ClosedPort, Origin, V4, V6};
use crate::harness::{Client, Daemon, Ending, connected, exclusive};

#[test]
fn success_names_the_true_local_address_of_the_connection() {
    for at in [V4, V6] {
        let (sender, receiver) = std::sync::mpsc::channel();
        let origin = Origin::serve(at, move |stream| drop(sender.send(stream.peer_addr())));
        let daemon = Daemon::start(&[]);
        let (_client, bound) = connected(daemon.address(), origin.address());
        let seen = receiver.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!(bound, seen, "BND.ADDR and BND.PORT are what the origin sees");
    }
}

#[test]
fn the_source_address_can_be_chosen_and_is_the_bound_address() {
    let source = Ipv4Addr::new(127, 0, 0, 42);
    let (sender, receiver) = std::sync::mpsc::channel();
    let origin = Origin::serve(V4, move |stream| drop(sender.send(stream.peer_addr())));
    let daemon = Daemon::start(&["--bind-outgoing", &source.to_string()]);
    let (_client, bound) = connected(daemon.address(), origin.address());
    assert_eq!(bound.ip(), IpAddr::V4(source));
    assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap().unwrap(), bound);
    // No source address of the other family was given, so there is none to go from.
    let origin6 = Origin::echo(V6);
    assert_ne!(reply_to(daemon.address(), origin6.address()).code, 0);
}

#[test]
fn failures_have_the_code_that_is_true_and_end_the_session() {
    let refused = ClosedPort::new(V4, 0);
    let refused6 = ClosedPort::new(V6, 0);
    let swallowed = BlackHole::new(V4, 0);
    // 224.0.0.1 and 255.255.255.255 cannot be connected to by TCP: connect(2) says ENETUNREACH on any machine.
    let multicast = SocketAddr::from(([224, 0, 0, 1], 80));
    let broadcast = SocketAddr::from(([255, 255, 255, 255], 80));
    let daemon =
        Daemon::with(&["--connect-timeout", "1"]).host(refused.address().ip(), "refusing.test").start();
    let named = ("refusing.test", refused.address().port());
    let cases = [
        (3, crate::harness::Destination::from(multicast), "multicast"),
        (3, broadcast.into(), "broadcast"),
        (4, ("missing.test", 80).into(), "no such name"),
        (5, refused.address().into(), "a closed port"),
        (5, refused6.address().into(), "a closed port, IPv6"),
        (5, named.into(), "a closed port behind a name"),
        (6, swallowed.address().into(), "no answer"),
    ];
    // Names that the hosts file does not have: somebody has to say that they do not exist.
    let dns = crate::harness::plain_dns::PlainDns::start(crate::harness::plain_dns::Manner::Answers, &[]);
    let with_dns = Daemon::with(&[]).name_server(dns.address()).start();
    for (code, to, what) in cases {
        let proxy = if code == 4 { with_dns.address() } else { daemon.address() };
        let mut client = Client::connect(proxy);
        let reply = client.ask(&to);
        assert_eq!(reply.code, code, "{what}");
        assert_eq!(reply.bound, SocketAddr::from(([0, 0, 0, 0], 0)), "{what}");
        assert_eq!(client.expect_end(), Ending::Closed, "{what}");
    }
}

#[test]
fn commands_that_are_not_supported_are_07_and_address_types_08() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&[]);
    for command in [0, 2, 3, 4, 0x80, 0xff] {
        let mut client = Client::connect(daemon.address());
        client.offer(&[NO_AUTH]);
        assert_eq!(client.request(command, &origin.address().into()).code, 7, "command {command:#04x}");
        assert_eq!(client.expect_end(), Ending::Closed);
    }
    for address_type in [0, 2, 5, 0x80, 0xff] {
        let mut client = Client::connect(daemon.address());
        client.offer(&[NO_AUTH]);
        client.send(&[5, CONNECT, 0, address_type]);
        assert_eq!(client.reply().code, 8, "address type {address_type:#04x}");
        client.expect_end();
    }
    assert_eq!(origin.accepted_count(), 0);
}

#[test]
fn an_address_that_is_denied_is_02() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&["--deny-private"]);
    assert_eq!(reply_to(daemon.address(), origin.address()).code, 2);
    assert_eq!(origin.accepted_count(), 0);
}

#[test]
fn success_is_not_said_before_the_connection_stands() {
    let _alone = exclusive();
    let hole = BlackHole::new(V4, 0);
    let daemon = Daemon::start(&["--connect-timeout", "2"]);
    let mut client = Client::connect(daemon.address());
    client.offer(&[NO_AUTH]);
    let started = Instant::now();
    client.send(&crate::harness::client::request(CONNECT, &hole.address().into()));
    assert!(client.is_silent_for(Duration::from_millis(1500)), "an answer while nothing is known");
    assert_eq!(client.reply().code, 6);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_client_that_leaves_while_connecting_leaves_nothing_behind() {
    let hole = BlackHole::new(V4, 0);
    let mut daemon = Daemon::start(&["--connect-timeout", "20"]);
    let before = daemon.descriptors_count();
    for _ in 0..8 {
        let mut client = Client::connect(daemon.address());
        client.offer(&[NO_AUTH]);
        client.send(&crate::harness::client::request(CONNECT, &hole.address().into()));
        client.reset();
    }
    crate::harness::within(Duration::from_secs(10), "sessions of clients that left are gone", || {
        daemon.descriptors_count() <= before
    });
    daemon.assert_alive();
}

#[test]
fn the_unspecified_address_is_taken_as_the_kernel_takes_it_or_refused() {
    // connect(2) to 0.0.0.0 reaches this machine; whatever the answer, it has to be a whole reply.
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&[]);
    let reply = reply_to(daemon.address(), (Ipv4Addr::UNSPECIFIED, origin.port()));
    assert!([0, 1, 2, 3, 4].contains(&reply.code), "{reply:?}");
    let reply = reply_to(daemon.address(), (Ipv6Addr::UNSPECIFIED, origin.port()));
    assert!(reply.code <= 5, "{reply:?}");
}

#[test]
fn port_zero_is_answered_and_not_connected() {
    let daemon = Daemon::start(&[]);
    let reply = reply_to(daemon.address(), (Ipv4Addr::LOCALHOST, 0));
    assert_ne!(reply.code, 0);
}

/// More than fits the buffer of early bytes, sent along with a request that is refused at once, is thrown away
/// like anything else after the last answer; it does not cut the answer short.
#[test]
fn a_refusal_is_read_whole_whatever_follows_the_request() {
    let daemon = Daemon::start(&[]);
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.offer(&[NO_AUTH]), NO_AUTH);
    let mut bytes = vec![5, CONNECT, 0, 2];
    bytes.resize(20_000, b'z');
    client.send(&bytes);
    assert_eq!(client.reply().code, 8);
    client.expect_end();
}
