//! Names through the real chain (unbound, dnsdist, nginx), through plain DNS when the relay is away, and what
//! is kept of the answers.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::harness::client::reply_to;
use crate::harness::dns_chain::DnsChain;
use crate::harness::dns_wire::{A, AAAA};
use crate::harness::doh_stub::{DohStub, Mood, NAME};
use crate::harness::origin::{ClosedPort, Origin, V4, V6};
use crate::harness::plain_dns::{Manner, PlainDns};
use crate::harness::{Daemon, connect_through, exclusive, within};

/// Options for a relay by port alone, which leaves `--dns auto` as it is.
fn auto(relay: SocketAddr) -> [String; 4] {
    ["--dns".to_owned(), "auto".to_owned(), "--doh-port".to_owned(), relay.port().to_string()]
}

fn start(arguments: &[String], servers: &[SocketAddr]) -> Daemon {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    servers.iter().fold(Daemon::with(&arguments), |builder, server| builder.name_server(*server)).start()
}

/// Options for a relay that is the only one to be asked.
fn doh(relay: SocketAddr) -> [String; 4] {
    ["--doh-ip".to_owned(), relay.ip().to_string(), "--doh-port".to_owned(), relay.port().to_string()]
}

#[test]
fn names_resolve_through_the_real_chain_by_get_and_by_post() {
    let chain = DnsChain::start();
    let origin = Origin::echo(V4);
    let origin6 = Origin::echo(V6);
    let posting = [&doh(chain.relay_address())[..], &["--doh-method-post".to_owned()]].concat();
    for arguments in [doh(chain.relay_address()).to_vec(), posting] {
        let daemon = start(&arguments, &[]);
        for name in ["v4.chain.test", "both.chain.test", "alias.chain.test", "V4.Chain.Test."] {
            connect_through(daemon.address(), (name, origin.port())).assert_echo(name.as_bytes());
        }
        for name in ["v6.chain.test", "both.chain.test", "alias6.chain.test"] {
            connect_through(daemon.address(), (name, origin6.port())).assert_echo(name.as_bytes());
        }
        connect_through(daemon.address(), ("mapped.chain.test", origin.port())).assert_echo(b"mapped");
        for name in ["missing.chain.test", "text.chain.test", "missing.elsewhere"] {
            assert_eq!(reply_to(daemon.address(), (name, origin.port())).code, 4, "{name}");
        }
    }
}

#[test]
fn with_the_relay_stopped_names_still_resolve_and_with_it_back_it_is_asked_again() {
    let mut chain = DnsChain::start();
    let origin = Origin::echo(V4);
    let daemon = start(&auto(chain.relay_address()), &[chain.unbound_address()]);
    connect_through(daemon.address(), ("v4.chain.test", origin.port())).assert_echo(b"relay");
    chain.stop_relay();
    for name in ["both.chain.test", "alias.chain.test", "half-dead.chain.test"] {
        let started = Instant::now();
        connect_through(daemon.address(), (name, origin.port())).assert_echo(b"plain");
        assert!(started.elapsed() < Duration::from_secs(2), "{name} took {:?}", started.elapsed());
    }
    assert_eq!(reply_to(daemon.address(), ("missing.chain.test", origin.port())).code, 4);
    assert_eq!(relay_lines(&daemon), 1, "one warning for the switch:\n{}", daemon.stderr().text());
    chain.start_relay();
    // The first look-up after 1 s, 2 s, 4 s … probes; names that were answered meanwhile are not asked again.
    let mut number = 0;
    within(Duration::from_secs(15), "a second line for the switch back", || {
        number += 1;
        reply_to(daemon.address(), (format!("n{number}.chain.test").as_str(), 80));
        relay_lines(&daemon) == 2
    });
    connect_through(daemon.address(), ("alias.chain.test", origin.port())).assert_echo(b"relay again");
}

/// Lines that tell of the relay, without the line said at start.
fn relay_lines(daemon: &Daemon) -> usize {
    let lines = daemon.stderr().all();
    lines.iter().filter(|line| line.contains("relay") && !line.contains("listening on")).count()
}

#[test]
fn without_any_relay_plain_dns_answers_from_the_first_name_on() {
    let dns = PlainDns::start(Manner::Answers, &[("plain.test", &[V4])]);
    let nobody = ClosedPort::new(V4, 0);
    let origin = Origin::echo(V4);
    let daemon = start(&auto(nobody.address()), &[dns.address()]);
    let started = Instant::now();
    connect_through(daemon.address(), ("plain.test", origin.port())).assert_echo(b"plain");
    assert!(started.elapsed() < Duration::from_secs(1), "refused at once, asked elsewhere at once");
}

#[test]
fn doh_never_asks_plain_dns() {
    let dns = PlainDns::start(Manner::Answers, &[(NAME, &[V4])]);
    let nobody = ClosedPort::new(V4, 0);
    let origin = Origin::echo(V4);
    let explicit = [&auto(nobody.address())[2..], &["--dns".to_owned(), "doh".to_owned()]].concat();
    for arguments in [doh(nobody.address()).to_vec(), explicit] {
        let daemon = start(&arguments, &[dns.address()]);
        assert_eq!(reply_to(daemon.address(), (NAME, origin.port())).code, 1);
    }
    assert_eq!(dns.asked_count(), 0, "{:?}", dns.asked());
}

#[test]
fn system_never_asks_the_relay() {
    let stub = DohStub::start(Mood::Honest, V4);
    let dns = PlainDns::start(Manner::Answers, &[(NAME, &[V4])]);
    let origin = Origin::echo(V4);
    let daemon = start(
        &[
            "--dns".to_owned(),
            "system".to_owned(),
            "--doh-port".to_owned(),
            stub.address().port().to_string(),
        ],
        &[dns.address()],
    );
    connect_through(daemon.address(), (NAME, origin.port())).assert_echo(b"system");
    assert!(stub.asked().is_empty());
    assert!(dns.asked_count() >= 1);
}

#[test]
fn questions_have_the_form_of_rfc_8484_and_share_connections() {
    let stub = DohStub::start(Mood::Honest, V4);
    let origin = Origin::echo(V4);
    let shape = ["--doh-host", "resolver.test", "--doh-path", "/some/path", "--doh-query", "?x=1&dns="];
    let arguments =
        [&doh(stub.address())[..], &shape.map(str::to_owned), &["--workers".to_owned(), "1".to_owned()]];
    let daemon = start(&arguments.concat(), &[]);
    connect_through(daemon.address(), (NAME, origin.port())).assert_echo(b"asked");
    for number in 0..20 {
        assert_eq!(reply_to(daemon.address(), (format!("n{number}.test").as_str(), 80)).code, 4);
    }
    let asked = stub.asked();
    for question in &asked {
        assert_eq!(question.method, "GET");
        assert_eq!(question.id, 0, "caches want the same bytes for the same question");
        let message = question.target.strip_prefix("/some/path?x=1&dns=").expect("path and query as told");
        assert!(message.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{message}");
        let head = question.head.to_ascii_lowercase();
        assert!(head.contains("\r\nhost: resolver.test\r\n"), "{head}");
        assert!(head.contains("\r\naccept: application/dns-message\r\n"), "{head}");
    }
    let kinds: Vec<u16> = asked.iter().filter(|question| question.name == NAME).map(|q| q.kind).collect();
    assert!(kinds.contains(&A), "{kinds:?}");
    let connections_count = stub.connections_count();
    assert!(connections_count <= 8, "{connections_count} connections for {} questions", asked.len());
}

#[test]
fn both_families_are_asked_at_once() {
    let stub = DohStub::start(Mood::Honest, V4);
    let origin = Origin::echo(V4);
    let daemon = start(&doh(stub.address()), &[]);
    connect_through(daemon.address(), (NAME, origin.port())).assert_echo(b"both");
    let asked = stub.asked();
    let at = |kind| asked.iter().find(|question| question.kind == kind).map(|question| question.at);
    // Without an IPv6 route AAAA is not asked; where it is, it does not wait for the answer to A.
    if let (Some(first), Some(second)) = (at(A), at(AAAA)) {
        let apart = first.max(second) - first.min(second);
        assert!(apart < Duration::from_millis(500), "{apart:?}");
    }
}

#[test]
fn post_sends_the_message_as_the_body() {
    let stub = DohStub::start(Mood::Honest, V4);
    let origin = Origin::echo(V4);
    let daemon = start(&[&doh(stub.address())[..], &["--doh-method-post".to_owned()]].concat(), &[]);
    connect_through(daemon.address(), (NAME, origin.port())).assert_echo(b"posted");
    for question in stub.asked() {
        assert_eq!((question.method.as_str(), question.target.as_str()), ("POST", "/dns-query"));
        assert!(question.head.to_ascii_lowercase().contains("content-type: application/dns-message\r\n"));
    }
}

#[test]
fn answers_are_kept_for_their_ttl_less_their_age() {
    let _alone = exclusive();
    let origin = Origin::echo(V4);
    let asks = |ttl, age, wait: Duration| {
        let stub = DohStub::with_lifetime(Mood::Honest, V4, ttl, age);
        let daemon =
            start(&[&doh(stub.address())[..], &["--workers".to_owned(), "1".to_owned()]].concat(), &[]);
        for _ in 0..2 {
            connect_through(daemon.address(), (NAME, origin.port())).assert_echo(b"kept");
            crate::harness::waiting::pause(wait);
        }
        stub.asked().iter().filter(|question| question.kind == A).count()
    };
    let soon = Duration::ZERO;
    assert_eq!(asks(300, None, soon), 1, "an answer with a life is asked once");
    assert_eq!(asks(0, None, soon), 2, "a life of 0 is for one look-up");
    assert_eq!(asks(1, None, Duration::from_millis(1600)), 2, "after its life it is asked again");
    assert_eq!(asks(300, Some(299), Duration::from_millis(1600)), 2, "most of its life was spent on the way");
    assert_eq!(asks(300, Some(10), soon), 1, "some of its life was spent on the way");
}

#[test]
fn names_that_do_not_exist_are_remembered_too() {
    let stub = DohStub::start(Mood::Honest, V4);
    let daemon = start(&[&doh(stub.address())[..], &["--workers".to_owned(), "1".to_owned()]].concat(), &[]);
    for _ in 0..5 {
        assert_eq!(reply_to(daemon.address(), ("nobody.test", 80)).code, 4);
    }
    let count = stub.asked().iter().filter(|question| question.kind == A).count();
    assert_eq!(count, 1, "the negative answer lives for the SOA's 60 s");
}

#[test]
fn a_hundred_sessions_for_one_name_ask_once() {
    let stub = DohStub::start(Mood::Slow, V4);
    let origin = Origin::echo(V4);
    let daemon = start(&[&doh(stub.address())[..], &["--workers".to_owned(), "1".to_owned()]].concat(), &[]);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                connect_through(daemon.address(), (NAME, origin.port())).assert_echo(b"one flight")
            });
        }
    });
    let count = stub.asked().iter().filter(|question| question.kind == A).count();
    assert_eq!(count, 1, "look-ups of the same name join");
}

#[test]
fn answers_past_their_life_are_the_last_resort() {
    let stub = DohStub::with_lifetime(Mood::Honest, V4, 1, None);
    let origin = Origin::echo(V4);
    let daemon = start(&doh(stub.address()), &[]);
    connect_through(daemon.address(), (NAME, origin.port())).assert_echo(b"fresh");
    crate::harness::waiting::pause(Duration::from_millis(1500));
    stub.change_mood(Mood::Status(500));
    connect_through(daemon.address(), (NAME, origin.port())).assert_echo(b"stale, but all there is");
    // A name that was never known has no last resort.
    assert_eq!(reply_to(daemon.address(), ("unknown.test", 80)).code, 1);
}

#[test]
fn plain_dns_goes_to_tcp_when_an_answer_is_truncated() {
    let dns = PlainDns::start(Manner::Truncates, &[("large.test", &[V4])]);
    let origin = Origin::echo(V4);
    let daemon = start(&[], &[dns.address()]);
    connect_through(daemon.address(), ("large.test", origin.port())).assert_echo(b"by tcp");
    assert!(dns.asked_by_tcp_count() >= 1);
}

#[test]
fn forged_answers_are_passed_over() {
    let dns = PlainDns::start(Manner::ForgedFirst, &[("true.test", &[V4])]);
    let origin = Origin::echo(V4);
    let daemon = start(&[], &[dns.address()]);
    connect_through(daemon.address(), ("true.test", origin.port())).assert_echo(b"the true one");
}

#[test]
fn ids_and_ports_of_plain_questions_are_not_guessable() {
    let dns = PlainDns::start(Manner::Answers, &[]);
    let daemon = start(&[], &[dns.address()]);
    for number in 0..40 {
        assert_eq!(reply_to(daemon.address(), (format!("n{number}.test").as_str(), 80)).code, 4);
    }
    let asked = dns.asked();
    let distinct = |mut values: Vec<u16>| {
        values.sort_unstable();
        values.dedup();
        values.len()
    };
    let ids = distinct(asked.iter().map(|(_, id, _)| *id).collect());
    let ports = distinct(asked.iter().map(|(from, _, _)| from.port()).collect());
    assert!(asked.len() >= 40 && ids > asked.len() / 2, "{ids} ids in {} questions", asked.len());
    assert!(ports > asked.len() / 4, "{ports} ports in {} questions", asked.len());
}

#[test]
fn a_silent_server_is_passed_over_and_silence_everywhere_ends_in_time() {
    let silent = PlainDns::start(Manner::Silent, &[]);
    let dns = PlainDns::start(Manner::Answers, &[("second.test", &[V4])]);
    let origin = Origin::echo(V4);
    let daemon = start(&[], &[silent.address(), dns.address()]);
    connect_through(daemon.address(), ("second.test", origin.port())).assert_echo(b"the second server");
    let daemon = start(&[], &[silent.address()]);
    let started = Instant::now();
    assert_eq!(reply_to(daemon.address(), ("nobody.test", 80)).code, 1);
    assert!(started.elapsed() < Duration::from_secs(7), "a look-up ends after 5 s: {:?}", started.elapsed());
}

#[test]
fn a_changed_hosts_file_is_taken_up_on_sighup() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::with(&[]).host(V4, "old.test").start();
    connect_through(daemon.address(), ("old.test", origin.port())).assert_echo(b"old");
    let dead: IpAddr = "127.0.0.1".parse().unwrap();
    std::fs::write(daemon.folder().join("hosts"), format!("{dead} new.test\n")).unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    crate::harness::eventually("the new name", || {
        reply_to(daemon.address(), ("new.test", origin.port())).code == 0
    });
}
