//! A relay that lies, stalls and floods: each mood with the reply it must lead to, whether plain DNS may be
//! asked instead, and a daemon that stays small and answers the next question.

use std::time::{Duration, Instant};

use crate::harness::client::reply_to;
use crate::harness::dns_wire::{NAME_ERROR, REFUSED, SERVER_FAILURE};
use crate::harness::doh_stub::{DohStub, Mood, NAME};
use crate::harness::origin::{Origin, V4};
use crate::harness::plain_dns::{Manner, PlainDns};
use crate::harness::{Daemon, connect_through};

/// Whether the same look-up goes to plain DNS under `--dns auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plain {
    Asked,
    NotAsked,
    /// Not a rule for users: an answer that is HTTP but no sound DNS message.
    Either,
}

/// Mood, reply under `--dns doh`, and whether plain DNS is asked under `auto`.
const MOODS: &[(Mood, u8, Plain)] = &[
    (Mood::Honest, 0, Plain::NotAsked),
    (Mood::Slow, 0, Plain::NotAsked),
    (Mood::Chunked, 0, Plain::NotAsked),
    (Mood::UntilClose, 0, Plain::NotAsked),
    (Mood::ManyAddresses, 0, Plain::NotAsked),
    (Mood::Code(NAME_ERROR), 4, Plain::NotAsked),
    (Mood::Code(SERVER_FAILURE), 1, Plain::NotAsked),
    (Mood::Code(REFUSED), 1, Plain::NotAsked),
    (Mood::Code(15), 1, Plain::NotAsked),
    (Mood::Status(400), 1, Plain::NotAsked),
    (Mood::Status(403), 1, Plain::NotAsked),
    (Mood::Status(404), 1, Plain::NotAsked),
    (Mood::Status(429), 1, Plain::NotAsked),
    (Mood::Status(500), 1, Plain::Asked),
    (Mood::Status(502), 1, Plain::Asked),
    (Mood::Status(503), 1, Plain::Asked),
    (Mood::Silent, 1, Plain::Asked),
    (Mood::WrongType, 1, Plain::Asked),
    (Mood::Truncated, 1, Plain::Asked),
    (Mood::ClosesEarly, 1, Plain::Asked),
    (Mood::ResetsInHead, 1, Plain::Asked),
    (Mood::NotHttp, 1, Plain::Asked),
    (Mood::ChunkedWrong, 1, Plain::Asked),
    (Mood::WrongLength, 1, Plain::Asked),
    (Mood::EndlessHead, 1, Plain::Asked),
    (Mood::MillionRecords, 1, Plain::Either),
    (Mood::EmptyBody, 1, Plain::Either),
    (Mood::RandomBody, 1, Plain::Either),
    (Mood::CompressionLoop, 1, Plain::Either),
    (Mood::CountsTooMuch, 1, Plain::Either),
    (Mood::WrongQuestion, 1, Plain::Either),
    (Mood::Question, 1, Plain::Either),
    (Mood::ShortAddress, 1, Plain::Either),
];

/// Longest a look-up may take, and a busy machine.
const LOOKUP_LIMIT: Duration = Duration::from_secs(8);

fn port(stub: &DohStub) -> String {
    stub.address().port().to_string()
}

#[test]
fn every_mood_of_the_relay_leads_to_its_reply() {
    let origin = Origin::echo(V4);
    in_parallel(|&(mood, expected, _)| {
        let stub = DohStub::start(mood, V4);
        let mut daemon = Daemon::start(&["--doh-ip", "127.0.0.1", "--doh-port", &port(&stub)]);
        let started = Instant::now();
        assert_eq!(reply_to(daemon.address(), (NAME, origin.port())).code, expected, "{mood:?}");
        assert!(started.elapsed() < LOOKUP_LIMIT, "{mood:?} took {:?}", started.elapsed());
        assert!(!stub.asked().is_empty(), "{mood:?}: the relay was asked");
        daemon.assert_alive();
        // Buffers of the relay's answers are bounded, whatever it sends.
        let memory_kib = daemon.memory_kib_max();
        assert!(memory_kib < 64 * 1024, "{mood:?}: {memory_kib} KiB");
        // A relay that comes to its senses is believed again: other names, after at most a probe.
        stub.change_mood(Mood::Honest);
        crate::harness::within(Duration::from_secs(12), "the next name is looked up", || {
            reply_to(daemon.address(), ("other.test", origin.port())).code == 4
        });
    });
}

#[test]
fn plain_dns_is_asked_where_it_may_be_and_nowhere_else() {
    let origin = Origin::echo(V4);
    in_parallel(|&(mood, alone, plain)| {
        let stub = DohStub::start(mood, V4);
        let dns = PlainDns::start(Manner::Answers, &[(NAME, &[V4])]);
        let daemon =
            Daemon::with(&["--dns", "auto", "--doh-port", &port(&stub)]).name_server(dns.address()).start();
        let started = Instant::now();
        let code = reply_to(daemon.address(), (NAME, origin.port())).code;
        let asked = dns.asked_count() > 0;
        match plain {
            Plain::Asked => assert!(asked && code == 0, "{mood:?}: reply {code}, plain DNS asked: {asked}"),
            Plain::NotAsked => {
                assert!(!asked && code == alone, "{mood:?}: reply {code}, plain DNS asked: {asked}")
            }
            Plain::Either => assert_eq!(code == 0, asked, "{mood:?}: reply {code}, plain DNS asked: {asked}"),
        }
        assert!(started.elapsed() < LOOKUP_LIMIT, "{mood:?} took {:?}", started.elapsed());
    });
}

#[test]
fn cname_loops_inside_an_answer_end() {
    let origin = Origin::echo(V4);
    let stub = DohStub::start(Mood::CnameLoop, V4);
    let mut daemon = Daemon::start(&["--doh-ip", "127.0.0.1", "--doh-port", &port(&stub)]);
    let code = reply_to(daemon.address(), (NAME, origin.port())).code;
    assert!(code == 1 || code == 4, "a chain that leads nowhere: {code}");
    daemon.assert_alive();
}

#[test]
fn sessions_with_addresses_do_not_wait_for_a_silent_relay() {
    let origin = Origin::echo(V4);
    let stub = DohStub::start(Mood::Silent, V4);
    let daemon = Daemon::start(&["--workers", "1", "--doh-ip", "127.0.0.1", "--doh-port", &port(&stub)]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| reply_to(daemon.address(), (NAME, origin.port())).code);
        let started = Instant::now();
        for _ in 0..20 {
            connect_through(daemon.address(), origin.address()).assert_echo(b"not waiting");
        }
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        assert_eq!(waiting.join().unwrap(), 1);
    });
}

/// Every mood, a few at a time: most of them wait.
fn in_parallel(check: impl Fn(&(Mood, u8, Plain)) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(case) = MOODS.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    check(case);
                }
            });
        }
    });
}
