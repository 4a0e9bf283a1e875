//! Real sockets on loopback against scripted servers. Time stands still but for what a test jumps ahead, so
//! that no test waits for a time-out and no slow machine meets one.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use mio::{Events, Poll};

use super::super::Hosts;
use super::stub::{Say, Step, Stub};
use super::*;
use crate::limits::{
    CACHE_PLAIN_TTL_MAX, PLAIN_WRONG_DATAGRAMS_MAX, RELAY_CONNECTIONS_PER_WORKER, RELAY_IDLE_MAX,
};
use crate::settings::DohMethod;

const SECOND: Duration = Duration::from_secs(1);

/// A resolver with the loop that a worker would be.
struct Bench {
    poll: Poll,
    resolver: Resolver,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    now: Instant,
    next_waiter: u64,
    ready: Vec<Answer>,
}

fn config(mode: DnsMode, relay: SocketAddr, servers: &[SocketAddr]) -> Config {
    Config {
        mode,
        relay,
        host: "relay.test".to_owned(),
        path: "/dns-query".to_owned(),
        query: "?dns=".to_owned(),
        method: DohMethod::Get,
        servers: servers.to_vec(),
    }
}

impl Bench {
    fn new(mode: DnsMode, relay: SocketAddr, servers: &[SocketAddr]) -> Self {
        Self::with_config(config(mode, relay, servers))
    }

    fn with_config(config: Config) -> Self {
        let shared = Shared::new(Hosts::parse("192.0.2.77 pinned.test"));
        let counters: Arc<Counters> = Arc::default();
        Self {
            poll: Poll::new().unwrap(),
            resolver: Resolver::new(config, Arc::clone(&shared), Arc::clone(&counters)),
            shared,
            counters,
            now: Instant::now(),
            next_waiter: 0,
            ready: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn ask(&mut self, name: &str, family: Family) -> Waiter {
        let waiter = Waiter(self.next_waiter);
        self.next_waiter += 1;
        let (name, now) = (DomainName::parse(name.as_bytes()).unwrap(), self.now());
        self.resolver.ask(waiter, &name, family, now, self.poll.registry());
        self.drain();
        waiter
    }

    fn drain(&mut self) {
        while let Some(answer) = self.resolver.next_answer() {
            self.ready.push(answer);
        }
    }

    /// Waits a moment for events, then lets the resolver handle them and what is due.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(Duration::from_millis(5))).unwrap();
        let now = self.now();
        for event in &events {
            assert_eq!(event.token().0 >> 62, 1, "the token is one of the resolver's");
            self.resolver.on_event(event, now, self.poll.registry());
            self.drain();
        }
        if self.resolver.deadline().is_some_and(|deadline| deadline <= now) {
            self.resolver.on_deadline(now, self.poll.registry());
            self.drain();
        }
    }

    fn until(&mut self, what: &str, mut is_done: impl FnMut(&mut Self) -> bool) {
        let give_up = Instant::now() + 10 * SECOND;
        while !is_done(self) {
            assert!(Instant::now() < give_up, "waited in vain for {what}");
            self.turn();
        }
    }

    /// Lets time pass at once.
    fn jump(&mut self, time: Duration) {
        self.now += time;
        let now = self.now();
        self.resolver.on_deadline(now, self.poll.registry());
        self.drain();
    }

    fn answer_to(&mut self, waiter: Waiter) -> Outcome {
        self.until("an answer", |bench| bench.ready.iter().any(|answer| answer.waiter == waiter));
        let place = self.ready.iter().position(|answer| answer.waiter == waiter).unwrap();
        self.ready.swap_remove(place).outcome
    }

    fn resolve(&mut self, name: &str) -> Outcome {
        let waiter = self.ask(name, Family::V4);
        self.answer_to(waiter)
    }

    fn count(&self, counter: Counter) -> u64 {
        self.counters.value(counter)
    }
}

fn say(last: u8) -> Step {
    Step::Say(Say::Address(last, 60))
}

fn raw(text: &str) -> Step {
    Step::Raw(text.to_owned())
}

fn address(last: u8) -> Outcome {
    Outcome::Addresses(Arc::from([IpAddr::from([192, 0, 2, last])]))
}

/// A loopback address where nobody listens.
fn nobody() -> SocketAddr {
    let (socket, listener) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    drop(socket);
    listener.local_addr().unwrap()
}

// ---- the relay ----

#[test]
fn the_relay_answers_once_and_the_cache_from_then_on() {
    let relay = Stub::relay(say(1));
    for (method, word) in [(DohMethod::Get, "GET"), (DohMethod::Post, "POST")] {
        let name = format!("{}.test", word.to_lowercase());
        let config = Config { method, ..config(DnsMode::Doh, relay.address, &[]) };
        let mut bench = Bench::with_config(config);
        assert_eq!(bench.resolve(&name), address(1));
        assert_eq!(bench.count(Counter::DnsCacheMisses), 1);
        assert_eq!(bench.resolve(&name), address(1));
        assert_eq!(bench.count(Counter::DnsCacheHits), 1);
        assert_eq!(bench.counters.gauge(Gauge::DnsCacheEntries), 1);
        let waiter = bench.ask(&name, Family::V6);
        let expected = Outcome::Addresses(Arc::from(["2001:db8::1".parse::<IpAddr>().unwrap()]));
        assert_eq!(bench.answer_to(waiter), expected);
        let asked = format!("{word} {name}");
        assert_eq!(relay.seen().iter().filter(|seen| **seen == asked).count(), 2, "one for each family");
        bench.jump(60 * SECOND);
        assert_eq!(bench.resolve(&name), address(1));
        assert_eq!(bench.count(Counter::DnsQueries), 3);
    }
}

#[test]
fn one_connection_serves_question_after_question() {
    let relay = Stub::relay(say(1));
    let mut bench = Bench::new(DnsMode::Doh, relay.address, &[]);
    for n in 0..5 {
        assert_eq!(bench.resolve(&format!("n{n}.test")), address(1));
    }
    assert_eq!((relay.seen().len(), relay.connections()), (5, 1));
    assert_eq!(bench.resolver.pool.deadline().map(|at| at <= bench.now() + RELAY_IDLE_MAX), Some(true));
    bench.jump(RELAY_IDLE_MAX);
    assert_eq!(bench.resolver.deadline(), None, "nothing is kept");
    assert_eq!(bench.resolve("last.test"), address(1));
    assert_eq!(relay.connections(), 2);
}

#[test]
fn a_kept_connection_that_the_relay_gave_up_is_nobodys_failure() {
    let relay = Stub::relay(say(2));
    let mut bench = Bench::new(DnsMode::Auto, relay.address, &[]);
    relay.then([say(1), Step::Close]);
    assert_eq!(bench.resolve("a.test"), address(1));
    assert_eq!(bench.resolve("b.test"), address(2));
    assert_eq!(relay.seen(), ["GET a.test", "GET b.test", "GET b.test"]);
    assert_eq!(relay.connections(), 2);
    assert_eq!(bench.count(Counter::DnsRelayInvalidHttp), 0);
    assert!(bench.shared.relay_is_up());
    // The new one is not asked a third time should it be closed as well.
    relay.then([Step::Close, Step::Close]);
    assert_eq!(bench.resolve("c.test"), Outcome::Failed);
    assert_eq!(bench.count(Counter::DnsRelayInvalidHttp), 1);
}

#[test]
fn a_kept_connection_that_ends_or_speaks_unasked_is_dropped() {
    let closing = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
    let speaking = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\nmore";
    let relay = Stub::relay(raw(closing));
    let mut bench = Bench::new(DnsMode::Doh, relay.address, &[]);
    assert_eq!(bench.resolve("a.test"), Outcome::Failed);
    assert!(bench.resolver.pool.deadline().is_some(), "the connection is kept");
    relay.then([raw(speaking)]);
    assert_eq!(bench.resolve("b.test"), Outcome::Failed);
    assert_eq!(bench.resolver.pool.deadline(), None, "the connection is not kept");
    assert_eq!(bench.resolve("c.test"), Outcome::Failed);
    assert_eq!(relay.connections(), 2);
    bench.until("the end of the relay's connection", |bench| {
        relay.then([Step::Close]);
        bench.ask("d.test", Family::V4);
        bench.resolver.pool.deadline().is_none()
    });
}

#[test]
fn many_names_share_few_connections() {
    let relay = Stub::relay(say(1));
    let mut bench = Bench::new(DnsMode::Doh, relay.address, &[]);
    let waiters: Vec<_> = (0..500).map(|n| bench.ask(&format!("n{n}.test"), Family::V4)).collect();
    for waiter in waiters {
        assert_eq!(bench.answer_to(waiter), address(1));
    }
    assert!(relay.connections() <= RELAY_CONNECTIONS_PER_WORKER);
    assert_eq!(relay.seen().len(), 500);
    assert_eq!(bench.counters.gauge(Gauge::DnsLookupsCurrent), 0);
    assert_eq!(bench.counters.gauge(Gauge::DnsCacheEntries), 500);
}

/// Ways for the relay to fail in which `auto` asks plain DNS; `doh` fails instead. Each is counted.
#[test]
fn a_relay_that_fails_is_replaced_by_plain_dns_in_auto_only() {
    let endless = format!("HTTP/1.1 200 OK\r\n{{T}}\r\n\r\n{}", "x".repeat(70_000));
    let cases = [
        (raw("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), Counter::DnsRelayStatus5xx),
        (raw("HTTP/1.1 302 Found\r\n\r\n"), Counter::DnsRelayStatus5xx),
        (raw("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>"), Counter::DnsRelayInvalidHttp),
        (raw("SSH-2.0-OpenSSH_9.2\r\n"), Counter::DnsRelayInvalidHttp),
        (raw("HTTP/1.1 200 OK\r\n{T}\r\nContent-Length: x\r\n\r\n"), Counter::DnsRelayInvalidHttp),
        (raw(&endless), Counter::DnsRelayInvalidHttp),
        (Step::Close, Counter::DnsRelayInvalidHttp),
    ];
    let plain = Stub::plain(say(7));
    for (step, counter) in cases {
        let relay = Stub::relay(step.clone());
        for (mode, expected) in [(DnsMode::Auto, address(7)), (DnsMode::Doh, Outcome::Failed)] {
            let mut bench = Bench::new(mode, relay.address, &[plain.address]);
            assert_eq!(bench.resolve("a.test"), expected, "{mode:?} {step:?}");
            assert_eq!(bench.count(counter), 1, "{mode:?} {step:?}");
            assert_eq!(bench.count(Counter::DnsQueries), 1);
            assert_eq!(bench.count(Counter::DnsPlainQueries), u64::from(mode == DnsMode::Auto));
        }
    }
}

#[test]
fn a_relay_that_refuses_connections_is_replaced_at_once() {
    let plain = Stub::plain(say(7));
    let relay = nobody();
    let mut bench = Bench::new(DnsMode::Auto, relay, &[plain.address]);
    assert_eq!(bench.resolve("a.test"), address(7));
    assert_eq!(bench.count(Counter::DnsRelayRefused), 1);
    let mut bench = Bench::new(DnsMode::Doh, relay, &[plain.address]);
    assert_eq!(bench.resolve("a.test"), Outcome::Failed);
    assert_eq!(bench.count(Counter::DnsPlainQueries), 0);
}

#[test]
fn a_silent_relay_is_replaced_after_two_seconds_in_auto_and_waited_for_in_doh() {
    // Silence in the middle of a response is silence as well.
    let begun = raw("HTTP/1.1 200 OK\r\n{T}\r\nContent-Length: 50\r\n\r\nbegun");
    let plain = Stub::plain(say(7));
    for step in [Step::Silence, begun] {
        let relay = Stub::relay(step);
        let mut bench = Bench::new(DnsMode::Auto, relay.address, &[plain.address]);
        let waiter = bench.ask("a.test", Family::V4);
        bench.until("the question", |_| relay.seen().len() == 1);
        bench.jump(2 * SECOND - Duration::from_millis(1));
        assert_eq!(bench.count(Counter::DnsPlainQueries), 0);
        bench.jump(Duration::from_millis(1));
        assert_eq!(bench.answer_to(waiter), address(7));
        assert_eq!(bench.count(Counter::DnsTimeout), 1);
    }

    let relay = Stub::relay(Step::Silence);
    let mut bench = Bench::new(DnsMode::Doh, relay.address, &[plain.address]);
    let waiter = bench.ask("a.test", Family::V4);
    bench.until("the question", |_| relay.seen().len() == 1);
    bench.jump(4 * SECOND);
    assert!(bench.ready.is_empty());
    bench.jump(SECOND);
    assert_eq!(bench.answer_to(waiter), Outcome::Failed);
    assert_eq!(bench.resolver.deadline(), None);
}

/// What the relay says with a working HTTP is final, also in `auto`.
#[test]
fn a_relay_that_answers_is_not_replaced_whatever_it_says() {
    let cases = [
        (
            raw("HTTP/1.1 404 No\r\nContent-Length: 100000\r\n\r\n<html>"),
            Outcome::Failed,
            Counter::DnsRelayStatus4xx,
        ),
        (raw("HTTP/1.1 429 Slow\r\n\r\n"), Outcome::Failed, Counter::DnsRelayStatus4xx),
        (Step::Say(Say::Rcode(2)), Outcome::Failed, Counter::DnsServerFailure),
        (Step::Say(Say::Rcode(5)), Outcome::Failed, Counter::DnsServerFailure),
        (Step::Say(Say::Rcode(3)), Outcome::NotFound, Counter::DnsCacheMisses),
        (Step::Say(Say::Rcode(0)), Outcome::NotFound, Counter::DnsCacheMisses),
        (Step::Say(Say::OtherName), Outcome::Failed, Counter::DnsInvalidAnswer),
        (Step::Say(Say::OtherId), Outcome::Failed, Counter::DnsInvalidAnswer),
        (Step::Say(Say::Truncated), Outcome::Failed, Counter::DnsInvalidAnswer),
        (
            raw("HTTP/1.1 200 OK\r\n{T}\r\nContent-Length: 5\r\n\r\nhello"),
            Outcome::Failed,
            Counter::DnsInvalidAnswer,
        ),
    ];
    let plain = Stub::plain(say(7));
    for (step, expected, counter) in cases {
        let relay = Stub::relay(step.clone());
        let mut bench = Bench::new(DnsMode::Auto, relay.address, &[plain.address]);
        assert_eq!(bench.resolve("a.test"), expected, "{step:?}");
        assert_eq!(bench.count(counter), 1, "{step:?}");
        assert_eq!(bench.count(Counter::DnsPlainQueries), 0, "{step:?}");
        assert!(bench.shared.relay_is_up(), "{step:?}");
        // A failure is remembered too, for a second.
        let again = bench.resolve("a.test");
        assert_eq!((again, relay.seen().len()), (expected, 1), "{step:?}");
        bench.jump(SECOND);
        bench.resolve("a.test");
        let asked = if bench.count(Counter::DnsCacheHits) == 2 { 1 } else { 2 };
        assert_eq!(relay.seen().len(), asked, "{step:?}");
    }
}

// ---- fail-over ----

#[test]
fn a_relay_that_is_down_is_left_alone_but_for_probes_until_it_is_back() {
    let (relay, plain) = (Stub::relay(Step::Close), Stub::plain(say(7)));
    let mut bench = Bench::new(DnsMode::Auto, relay.address, &[plain.address]);
    assert_eq!(bench.resolve("a.test"), address(7));
    assert!(bench.shared.relay_is_up());
    assert_eq!(bench.resolve("b.test"), address(7));
    assert!(!bench.shared.relay_is_up());
    assert_eq!(bench.count(Counter::DnsRelaySwitch), 1);
    assert_eq!(bench.resolve("c.test"), address(7));
    assert_eq!(relay.seen().len(), 2, "the relay is left alone");

    bench.jump(SECOND);
    assert_eq!(bench.resolve("d.test"), address(7));
    assert_eq!(bench.resolve("e.test"), address(7));
    assert_eq!(relay.seen(), ["GET a.test", "GET b.test", "GET d.test"], "one probe");
    bench.jump(SECOND);
    assert_eq!(bench.resolve("f.test"), address(7));
    assert_eq!(relay.seen().len(), 3, "the second wait is longer");

    relay.otherwise(say(1));
    bench.jump(SECOND);
    assert_eq!(bench.resolver.entries(0, 100, bench.now()).unwrap().count(), 6);
    assert_eq!(bench.resolve("g.test"), address(1));
    assert!(bench.shared.relay_is_up());
    assert_eq!(bench.count(Counter::DnsRelaySwitch), 2);
    assert_eq!(bench.resolver.entries(0, 100, bench.now()).unwrap().count(), 1, "plain answers are dropped");
    assert_eq!(bench.resolve("a.test"), address(1));
}

#[test]
fn what_one_worker_learns_of_the_relay_the_others_know() {
    let (relay, plain) = (Stub::relay(Step::Close), Stub::plain(say(7)));
    let mut bench = Bench::new(DnsMode::Auto, relay.address, &[plain.address]);
    let config = config(DnsMode::Auto, relay.address, &[plain.address]);
    let mut other = Bench::with_config(config.clone());
    other.resolver = Resolver::new(config, Arc::clone(&bench.shared), Arc::clone(&other.counters));
    bench.resolve("a.test");
    bench.resolve("b.test");
    assert_eq!(other.resolve("c.test"), address(7));
    assert_eq!(relay.seen().len(), 2);
    assert_eq!(other.count(Counter::DnsQueries), 0);
}

#[test]
fn those_who_wait_for_a_silent_relay_go_elsewhere_when_it_is_marked_down() {
    let (relay, plain) = (Stub::relay(Step::Silence), Stub::plain(say(7)));
    let mut bench = Bench::new(DnsMode::Auto, relay.address, &[plain.address]);
    let count = 3 * RELAY_CONNECTIONS_PER_WORKER;
    let waiters: Vec<_> = (0..count).map(|n| bench.ask(&format!("n{n}.test"), Family::V4)).collect();
    bench.until("the first questions", |_| relay.seen().len() == RELAY_CONNECTIONS_PER_WORKER);
    bench.jump(2 * SECOND);
    for waiter in waiters {
        assert_eq!(bench.answer_to(waiter), address(7));
    }
    assert_eq!(relay.seen().len(), RELAY_CONNECTIONS_PER_WORKER);
    assert_eq!(bench.count(Counter::DnsRelaySwitch), 1);
}

#[test]
fn plain_answers_live_a_minute_in_auto_and_their_ttl_in_system() {
    let plain = Stub::plain(Step::Say(Say::Address(7, 3600)));
    for (mode, expected) in [(DnsMode::Auto, 2), (DnsMode::System, 1)] {
        let mut bench = Bench::new(mode, nobody(), &[plain.address]);
        assert_eq!(bench.resolve("a.test"), address(7));
        bench.jump(CACHE_PLAIN_TTL_MAX);
        assert_eq!(bench.resolve("a.test"), address(7));
        assert_eq!(bench.count(Counter::DnsPlainQueries), expected, "{mode:?}");
    }
}

// ---- plain DNS ----

#[test]
fn system_never_asks_the_relay() {
    let (relay, plain) = (Stub::relay(say(1)), Stub::plain(say(7)));
    let mut bench = Bench::new(DnsMode::System, relay.address, &[plain.address]);
    assert_eq!(bench.resolve("a.test"), address(7));
    assert_eq!((relay.connections(), plain.seen()), (0, vec!["UDP a.test".to_owned()]));
}

#[test]
fn a_truncated_datagram_is_followed_by_tcp() {
    let plain = Stub::plain(say(8));
    plain.then([Step::Say(Say::Truncated)]);
    let mut bench = Bench::new(DnsMode::System, nobody(), &[plain.address]);
    assert_eq!(bench.resolve("a.test"), address(8));
    assert_eq!(plain.seen(), ["UDP a.test", "TCP a.test"]);
    plain.then([Step::Say(Say::Truncated), Step::Close]);
    assert_eq!(bench.resolve("b.test"), Outcome::Failed);
}

#[test]
fn datagrams_that_do_not_answer_are_passed_over_until_they_are_too_many() {
    let plain = Stub::plain(say(8));
    let mut bench = Bench::new(DnsMode::System, nobody(), &[plain.address]);
    plain.then([raw("wrong\nwrong\nright")]);
    assert_eq!(bench.resolve("a.test"), address(9));
    assert_eq!(bench.count(Counter::DnsInvalidAnswer), 2);
    let many = usize::try_from(PLAIN_WRONG_DATAGRAMS_MAX).unwrap();
    plain.then([raw(&"wrong\n".repeat(many)), Step::Say(Say::OtherName)]);
    assert_eq!(bench.resolve("b.test"), Outcome::Failed);
    assert_eq!(plain.seen()[1..], ["UDP b.test", "TCP b.test"]);
    assert_eq!(bench.count(Counter::DnsInvalidAnswer), 2 + u64::from(PLAIN_WRONG_DATAGRAMS_MAX) + 1);
}

#[test]
fn the_next_server_is_asked_on_failure_at_once_and_on_silence_after_a_second() {
    let good = Stub::plain(say(8));
    for rcode in [2, 5] {
        let bad = Stub::plain(Step::Say(Say::Rcode(rcode)));
        let servers = [nobody(), bad.address, good.address];
        let mut bench = Bench::new(DnsMode::System, nobody(), &servers);
        assert_eq!(bench.resolve("a.test"), address(8));
        assert_eq!(bench.count(Counter::DnsServerFailure), 1);
    }
    let silent = Stub::plain(Step::Silence);
    let mut bench = Bench::new(DnsMode::System, nobody(), &[silent.address, good.address]);
    let waiter = bench.ask("b.test", Family::V4);
    bench.until("the question", |_| silent.seen().len() == 1);
    bench.jump(SECOND);
    assert_eq!(bench.answer_to(waiter), address(8));
}

#[test]
fn a_look_up_ends_when_every_server_failed_or_after_five_seconds() {
    let refusing = Stub::plain(Step::Say(Say::Rcode(5)));
    let mut bench = Bench::new(DnsMode::System, nobody(), &[refusing.address, nobody()]);
    assert_eq!(bench.resolve("a.test"), Outcome::Failed);
    assert_eq!(refusing.seen().len(), 1);
    assert_eq!(Bench::new(DnsMode::System, nobody(), &[]).resolve("a.test"), Outcome::Failed);

    let silent = Stub::plain(Step::Silence);
    let mut bench = Bench::new(DnsMode::System, nobody(), &[silent.address]);
    let waiter = bench.ask("a.test", Family::V4);
    for asked in 1..=5 {
        bench.until("the question", |_| silent.seen().len() == asked);
        assert!(bench.ready.is_empty());
        bench.jump(SECOND);
    }
    assert_eq!(bench.answer_to(waiter), Outcome::Failed);
    assert_eq!(bench.resolver.deadline(), None);
    assert_eq!(bench.counters.gauge(Gauge::DnsLookupsCurrent), 0);
}

// ---- who waits ----

#[test]
fn who_asks_what_is_under_way_joins_it() {
    let relay = Stub::relay(Step::Silence);
    let plain = Stub::plain(say(7));
    let mut bench = Bench::new(DnsMode::Auto, relay.address, &[plain.address]);
    let waiters: Vec<_> = (0..200).map(|_| bench.ask("a.test", Family::V4)).collect();
    // Some leave; the list of those who waited does not grow for ever.
    for waiter in &waiters[..150] {
        bench.resolver.forget(*waiter);
    }
    for _ in 0..1000 {
        let waiter = bench.ask("A.test.", Family::V4);
        bench.resolver.forget(waiter);
    }
    let listed = {
        let key = bench.resolver.lookups.keys()[0];
        bench.resolver.lookups.get_mut(key).unwrap().waiters.len()
    };
    assert!(listed <= 2 * 50 + 17, "{listed}");
    bench.until("the question", |_| relay.seen().len() == 1);
    bench.jump(2 * SECOND);
    for waiter in &waiters[150..] {
        assert_eq!(bench.answer_to(*waiter), address(7));
    }
    assert!(bench.ready.is_empty(), "who left gets nothing");
    assert_eq!(bench.count(Counter::DnsJoined), 1199);
    assert_eq!(plain.seen().len(), 1);
}

#[test]
fn a_question_whose_waiters_left_still_fills_the_cache() {
    let relay = Stub::relay(say(1));
    let mut bench = Bench::new(DnsMode::Doh, relay.address, &[]);
    let waiter = bench.ask("a.test", Family::V4);
    bench.resolver.forget(waiter);
    bench.until("the cache", |bench| bench.counters.gauge(Gauge::DnsCacheEntries) == 1);
    assert!(bench.ready.is_empty());
    assert_eq!(bench.resolve("a.test"), address(1));
    assert_eq!(relay.seen().len(), 1);
}

#[test]
fn a_waiter_who_asks_for_another_name_gets_only_that_answer() {
    let relay = Stub::relay(say(1));
    let mut bench = Bench::new(DnsMode::Doh, relay.address, &[]);
    let waiter = bench.ask("a.test", Family::V4);
    bench.next_waiter = waiter.0;
    bench.ask("b.test", Family::V4);
    bench.until("both answers", |bench| bench.counters.gauge(Gauge::DnsCacheEntries) == 2);
    assert_eq!(bench.ready.len(), 1);
}

#[test]
fn look_ups_are_bounded_and_all_of_them_end() {
    let relay = Stub::relay(Step::Silence);
    let mut bench = Bench::new(DnsMode::Doh, relay.address, &[]);
    for n in 0..LOOKUPS_PER_WORKER_MAX {
        bench.ask(&format!("n{n}.test"), Family::V4);
    }
    assert!(bench.ready.is_empty());
    assert_eq!(bench.counters.gauge(Gauge::DnsLookupsCurrent), LOOKUPS_PER_WORKER_MAX as u64);
    assert_eq!(bench.resolve("more.test"), Outcome::Failed);
    assert_eq!(bench.count(Counter::DnsQueueFull), 1);
    let joined = bench.ask("n0.test", Family::V4);
    bench.jump(LOOKUP_TIME_MAX);
    assert_eq!(bench.ready.len(), LOOKUPS_PER_WORKER_MAX + 1);
    assert_eq!(bench.answer_to(joined), Outcome::Failed);
    assert_eq!(bench.counters.gauge(Gauge::DnsLookupsCurrent), 0);
    assert!(bench.resolver.waiting.is_empty());
    assert!(bench.resolver.relay_queue.is_empty());
    assert_eq!(bench.resolver.deadline(), None);
}

// ---- what is kept ----

#[test]
fn the_hosts_table_and_special_names_come_first() {
    let relay = Stub::relay(say(1));
    let mut bench = Bench::new(DnsMode::Doh, relay.address, &[]);
    assert_eq!(bench.resolve("pinned.test"), address(77));
    assert_eq!(bench.resolve("x.onion"), Outcome::NotFound);
    let loopback = Outcome::Addresses(Arc::from([IpAddr::from([127, 0, 0, 1])]));
    assert_eq!(bench.resolve("localhost"), loopback);
    assert_eq!(bench.count(Counter::DnsHosts), 3);
    bench.shared.set_hosts(Hosts::default());
    assert_eq!(bench.resolve("pinned.test"), address(1));
    assert_eq!(relay.seen(), ["GET pinned.test"]);
}

#[test]
fn an_answer_past_its_ttl_is_the_last_resort() {
    let relay = Stub::relay(Step::Close);
    relay.then([say(1)]);
    let mut bench = Bench::new(DnsMode::Doh, relay.address, &[]);
    assert_eq!(bench.resolve("a.test"), address(1));
    bench.jump(61 * SECOND);
    assert_eq!(bench.resolve("a.test"), address(1));
    assert_eq!(bench.count(Counter::DnsStale), 1);
    let asked = relay.seen().len();
    assert_eq!(bench.resolve("a.test"), address(1), "for half a minute without asking");
    assert_eq!((relay.seen().len(), bench.count(Counter::DnsStale)), (asked, 2));
    bench.jump(30 * SECOND);
    relay.otherwise(say(2));
    assert_eq!(bench.resolve("a.test"), address(2), "the relay has a new one");
    bench.jump(60 * SECOND + 24 * 3600 * SECOND);
    relay.otherwise(Step::Close);
    assert_eq!(bench.resolve("a.test"), Outcome::Failed, "more than a day old");
}

#[test]
fn an_answer_of_ttl_zero_serves_those_who_wait_and_nobody_else() {
    let relay = Stub::relay(Step::Say(Say::Address(1, 0)));
    let mut bench = Bench::new(DnsMode::Doh, relay.address, &[]);
    let (first, second) = (bench.ask("a.test", Family::V4), bench.ask("a.test", Family::V4));
    assert_eq!((bench.answer_to(first), bench.answer_to(second)), (address(1), address(1)));
    assert_eq!(bench.resolve("a.test"), address(1));
    assert_eq!(relay.seen().len(), 2);
    assert_eq!(bench.counters.gauge(Gauge::DnsCacheEntries), 0);
}

#[test]
fn a_flushed_name_is_asked_again() {
    let relay = Stub::relay(say(1));
    let mut bench = Bench::new(DnsMode::Doh, relay.address, &[]);
    bench.resolve("a.test");
    bench.resolve("b.test");
    assert_eq!(bench.resolver.flush(Some(&DomainName::parse(b"a.test").unwrap())), 1);
    bench.resolve("a.test");
    bench.resolve("b.test");
    assert_eq!(relay.seen().len(), 3);
    assert_eq!(bench.resolver.flush(None), 2);
    assert_eq!(bench.counters.gauge(Gauge::DnsCacheEntries), 0);
}

// ---- changes while questions are under way ----

#[test]
fn another_relay_or_mode_takes_over_what_is_under_way() {
    let (silent, good, plain) = (Stub::relay(Step::Silence), Stub::relay(say(1)), Stub::plain(say(7)));
    let cases = [
        (config(DnsMode::Doh, good.address, &[]), address(1)),
        (config(DnsMode::System, silent.address, &[plain.address]), address(7)),
        (Config { method: DohMethod::Post, ..config(DnsMode::Doh, good.address, &[]) }, address(1)),
    ];
    for (config, expected) in cases {
        let mut bench = Bench::new(DnsMode::Auto, silent.address, &[]);
        let before = silent.seen().len();
        let waiters: Vec<_> = (0..50).map(|n| bench.ask(&format!("n{n}.test"), Family::V4)).collect();
        bench.until("the questions", |_| silent.seen().len() == before + RELAY_CONNECTIONS_PER_WORKER);
        let now = bench.now();
        bench.resolver.configure(config, now, bench.poll.registry());
        for waiter in waiters {
            assert_eq!(bench.answer_to(waiter), expected);
        }
    }
}

#[test]
fn a_change_of_who_answers_empties_the_cache_and_a_change_of_method_does_not() {
    let relay = Stub::relay(say(1));
    let doh = config(DnsMode::Doh, relay.address, &[]);
    let mut bench = Bench::with_config(doh.clone());
    bench.resolve("a.test");
    let now = bench.now();
    let post = Config { method: DohMethod::Post, ..doh };
    bench.resolver.configure(post.clone(), now, bench.poll.registry());
    bench.resolve("a.test");
    bench.resolve("b.test");
    assert_eq!(relay.seen(), ["GET a.test", "POST b.test"]);
    let auto = Config { mode: DnsMode::Auto, ..post };
    bench.resolver.configure(auto, now, bench.poll.registry());
    assert_eq!(bench.counters.gauge(Gauge::DnsCacheEntries), 0);
}
