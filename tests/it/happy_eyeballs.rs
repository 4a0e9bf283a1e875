//! Several addresses of one name (RFC 8305): a dead one costs a quarter of a second, not a time-out.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::harness::client::{CONNECT, NO_AUTH, reply_to, request};
use crate::harness::origin::{BlackHole, ClosedPort, Origin, V4, V6};
use crate::harness::plain_dns::{Manner, PlainDns};
use crate::harness::{Client, Daemon, exclusive};

/// What the whole may take: one attempt delay of 250 ms, and a busy machine. 0.5 s is what users are promised.
const PROMISED: Duration = Duration::from_millis(500);

fn other(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// Time from the request to the reply, which must be `code`.
fn timed(daemon: &Daemon, name: &str, port: u16, code: u8) -> Duration {
    let mut client = Client::connect(daemon.address());
    client.offer(&[NO_AUTH]);
    let started = Instant::now();
    client.send(&request(CONNECT, &(name, port).into()));
    assert_eq!(client.reply().code, code, "{name}");
    started.elapsed()
}

#[test]
fn one_dead_and_one_live_address_connect_in_half_a_second() {
    let _alone = exclusive();
    let live = Origin::echo(V4);
    let _dead = [BlackHole::new(other(7), live.port()), BlackHole::new(V6, live.port())];
    let daemon = Daemon::with(&[])
        .host(other(7), "dead-first.test")
        .host(V4, "dead-first.test")
        .host(V6, "dead-family.test")
        .host(V4, "dead-family.test")
        .start();
    for name in ["dead-first.test", "dead-family.test"] {
        let took = timed(&daemon, name, live.port(), 0);
        assert!(took < PROMISED, "{name} took {took:?}");
    }
}

#[test]
fn a_dead_address_from_name_servers_costs_the_same() {
    let _alone = exclusive();
    let live = Origin::echo(V4);
    let _dead = BlackHole::new(V6, live.port());
    let dns = PlainDns::start(Manner::Answers, &[("dead-family.test", &[V4, V6])]);
    let daemon = Daemon::with(&[]).name_server(dns.address()).start();
    let took = timed(&daemon, "dead-family.test", live.port(), 0);
    assert!(took < PROMISED, "{took:?}");
}

#[test]
fn an_address_that_refuses_costs_no_delay() {
    let _alone = exclusive();
    let live = Origin::echo(V4);
    let _refusing: Vec<ClosedPort> = (8..11).map(|last| ClosedPort::new(other(last), live.port())).collect();
    let daemon = Daemon::with(&[])
        .host(other(8), "refusing.test")
        .host(other(9), "refusing.test")
        .host(other(10), "refusing.test")
        .host(V4, "refusing.test")
        .start();
    let took = timed(&daemon, "refusing.test", live.port(), 0);
    assert!(took < Duration::from_millis(250), "three refusals took {took:?}");
}

#[test]
fn the_loser_of_the_race_is_closed() {
    let live = Origin::echo(V4);
    let _dead = BlackHole::new(other(11), live.port());
    let daemon = Daemon::with(&[]).host(other(11), "race.test").host(V4, "race.test").start();
    let before = daemon.descriptors_count();
    let mut client = crate::harness::connect_through(daemon.address(), ("race.test", live.port()));
    client.assert_echo(b"won");
    // Client, origin, and what a relay may hold; the attempt that lost is none of them.
    crate::harness::eventually("the losing attempt is closed", || daemon.descriptors_count() <= before + 2);
    drop(client);
    crate::harness::eventually("the session is gone", || daemon.descriptors_count() <= before);
}

#[test]
fn when_all_fail_the_first_true_code_is_the_reply() {
    let hole = BlackHole::new(other(12), 0);
    let port = hole.address().port();
    let refusing = ClosedPort::new(other(13), port);
    let daemon = Daemon::with(&["--connect-timeout", "1"])
        .host(hole.address().ip(), "mixed.test")
        .host(refusing.address().ip(), "mixed.test")
        .host(hole.address().ip(), "silent.test")
        .host(IpAddr::from([224, 0, 0, 1]), "unreachable.test")
        .host(IpAddr::from([224, 0, 0, 1]), "silent-or-unreachable.test")
        .host(hole.address().ip(), "silent-or-unreachable.test")
        .start();
    // 05, 06, 04, 03, 01: in this order, whichever came first in time.
    for (name, code) in
        [("mixed.test", 5), ("silent.test", 6), ("unreachable.test", 3), ("silent-or-unreachable.test", 6)]
    {
        assert_eq!(reply_to(daemon.address(), (name, port)).code, code, "{name}");
    }
}

#[test]
fn at_most_eight_addresses_are_tried() {
    let live = Origin::echo(V4);
    let refusing: Vec<IpAddr> = (100..110).map(other).collect();
    let _closed: Vec<ClosedPort> = refusing.iter().map(|ip| ClosedPort::new(*ip, live.port())).collect();
    let start = |before_live: usize| {
        let refusing = refusing.iter().take(before_live);
        let builder = refusing.fold(Daemon::with(&[]), |builder, ip| builder.host(*ip, "many.test"));
        builder.host(V4, "many.test").start()
    };
    assert_eq!(reply_to(start(7).address(), ("many.test", live.port())).code, 0, "the eighth is tried");
    assert_eq!(reply_to(start(8).address(), ("many.test", live.port())).code, 5, "the ninth is not");
}
