//! Channels of version 2 of the admin protocol: numbers, credit, cancelling, followers that fall behind.

use std::time::{Duration, Instant};

use pipo_protocol::v2::events::Happening;
use pipo_protocol::v2::messages::*;
use pipo_protocol::v2::{Reply, Request, Status, Text, Word};

use crate::harness::admin_v2::{CREDIT, Client2, Got, octets};
use crate::harness::{Daemon, LIMIT};

const RECORD_BYTES_MAX: u32 = 4096;

fn admin(daemon: &Daemon) -> Client2 {
    Client2::log_in(daemon, b"root", b"secret")
}

fn settings(credit: u32) -> Request {
    Request::SettingList(SettingListRequest { credit, prefix: None })
}

/// A list of several records.
fn metrics(credit: u32) -> Request {
    let request = MetricsRequest { credit, prefix: None, per_worker: Some(true), meanings: Some(true) };
    Request::Metrics(request)
}

fn metrics_follow(credit: u32, interval_ms: u32) -> Request {
    Request::MetricsFollow(MetricsFollow { credit, prefix: None, interval_ms })
}

fn events(credit: u32, from: Option<u64>) -> Request {
    Request::Events(EventsFollow { credit, from, kinds: Vec::new(), filter: None })
}

fn set_level(level: &str) -> Request {
    Request::SettingSet(SettingSet { name: Word::cut("log-level"), value: Text::cut(level), base: None })
}

fn refused(client: &mut Client2, request: &Request, channel: u32) -> Got {
    let number = client.send(request, channel);
    let got = client.answer_to(number);
    assert_ne!(got.header.status, Status::Ok, "{request:?} on channel {channel}");
    got
}

#[test]
fn channels_have_numbers_that_fit_their_commands_and_are_few() {
    let daemon = Daemon::start(&["--admin", "root:secret"]);
    let mut admin = admin(&daemon);
    assert_eq!(refused(&mut admin, &Request::Statistics(Nothing {}), 5).header.status, Status::BadChannel);
    assert_eq!(refused(&mut admin, &settings(CREDIT), 0).header.status, Status::BadChannel);
    for credit in [0, RECORD_BYTES_MAX - 1, 262_145] {
        let got = refused(&mut admin, &settings(credit), 1);
        assert_eq!((got.header.status, got.error().field), (Status::Invalid, Some(0)), "{credit}");
    }
    for channel in 1..=16 {
        admin.follow(&metrics_follow(CREDIT, 3_600_000), channel * 1_000_000);
    }
    let again = refused(&mut admin, &metrics_follow(CREDIT, 1000), 1_000_000);
    assert_eq!(again.header.status, Status::BadChannel);
    let more = refused(&mut admin, &metrics_follow(CREDIT, 1000), 7);
    assert_eq!(more.header.status, Status::TooManyChannels);
    admin.ask(&Request::Unsubscribe(Unsubscribe { channel: 3_000_000 })).unwrap();
    admin.next_where(|got| got.header.channel == 3_000_000 && got.header.last);
    admin.follow(&metrics_follow(CREDIT, 1000), 7);
}

#[test]
fn a_list_waits_for_credit_and_goes_on_with_it() {
    let daemon = Daemon::start(&["--admin", "root:secret"]);
    let mut admin = admin(&daemon);
    let number = admin.send(&metrics(RECORD_BYTES_MAX), 1);
    let first = admin.next_of(1);
    assert!(!first.header.last);
    assert!(admin.is_silent_for(Duration::from_millis(300)), "without credit nothing comes");
    assert!(admin.ask(&Request::Statistics(Nothing {})).is_ok(), "channel 0 is none of it");
    let mut got = first;
    while !got.header.last {
        admin.give_credit(1, u32::try_from(octets(&got).len()).unwrap());
        got = admin.next_of(1);
        assert_eq!((got.header.request, got.header.status), (number, Status::Ok));
    }
    // Credit that nobody has use for is ignored.
    admin.give_credit(1, 4096);
    admin.give_credit(99, u32::MAX);
    assert!(admin.ask(&Request::Statistics(Nothing {})).is_ok());
}

#[test]
fn what_is_under_way_can_be_cancelled_and_is_answered_once() {
    let daemon = Daemon::start(&["--admin", "root:secret"]);
    let mut admin = admin(&daemon);
    let number = admin.send(&metrics(RECORD_BYTES_MAX), 1);
    admin.next_of(1);
    let cancel = |request| Request::Cancel(Cancel { request });
    assert_eq!(admin.ask(&cancel(number)), Ok(Reply::Cancel(Cancelled { found: true })));
    let last = admin.next_of(1);
    assert_eq!((last.header.status, last.header.last), (Status::Cancelled, true));
    assert_eq!(last.error().sentence.as_str(), Status::Cancelled.sentence());
    assert_eq!(admin.ask(&cancel(number)), Ok(Reply::Cancel(Cancelled { found: false })));
    let number = admin.send(&metrics_follow(CREDIT, 3_600_000), 2);
    assert_eq!(admin.answer_to(number).header.status, Status::Ok);
    assert_eq!(admin.ask(&cancel(number)), Ok(Reply::Cancel(Cancelled { found: true })));
    let last = admin.next_where(|got| got.header.channel == 2 && got.header.last);
    assert!(matches!(last.event().happening(), Some(Happening::End(_))));
}

#[test]
fn a_sample_that_finds_no_credit_is_told_as_a_gap() {
    let daemon = Daemon::start(&["--admin", "root:secret"]);
    let mut admin = admin(&daemon);
    admin.follow(&metrics_follow(RECORD_BYTES_MAX, 100), 4);
    // What credit allows, then nothing.
    let mut credit = 0;
    while credit < RECORD_BYTES_MAX / 2 || !admin.is_silent_for(Duration::from_millis(700)) {
        let got = admin.next_of(4);
        credit += u32::try_from(octets(&got).len()).unwrap();
        assert!(credit <= RECORD_BYTES_MAX, "{credit}");
    }
    let mut gap = None;
    let deadline = Instant::now() + LIMIT;
    while gap.is_none() {
        assert!(Instant::now() < deadline);
        admin.give_credit(4, credit);
        let got = admin.next_of(4);
        credit = u32::try_from(octets(&got).len()).unwrap();
        gap = got.event().gap;
    }
    let gap = gap.unwrap();
    assert!(gap.events_count >= 3 && gap.first <= gap.last, "{gap:?}");
}

#[test]
fn a_follower_without_credit_costs_nobody_and_is_told_what_it_missed() {
    /// More than the daemon keeps.
    const CHANGES: usize = 9000;
    let mut daemon = Daemon::start(&["--admin", "root:secret", "--log-level", "error"]);
    let mut slow = admin(&daemon);
    let mut busy = admin(&daemon);
    let Reply::Events(subscribed) = slow.follow(&events(RECORD_BYTES_MAX, None), 1) else { panic!() };
    let before = daemon.memory_kib_max();
    let mut asked = std::collections::VecDeque::new();
    for number in 0..CHANGES {
        asked.push_back(busy.send(&set_level(["error", "off"][number % 2]), 0));
        if number % 100 == 0 {
            // It acknowledges what comes, as every living peer does, and returns no credit.
            slow.raw.is_silent_for(Duration::from_millis(1));
        }
        if asked.len() == 32 {
            let oldest = asked.pop_front().unwrap();
            assert_eq!(busy.answer_to(oldest).header.status, Status::Ok);
        }
    }
    asked.into_iter().for_each(|number| drop(busy.answer_to(number)));
    let grown = daemon.memory_kib_max() - before;
    assert!(grown < 24 * 1024, "{grown} KiB more for one follower that does not read");
    // What credit allowed, then the gap, then what is still there, to the last.
    let (mut seen, mut missed, mut last) = (0, 0, subscribed.as_of);
    while seen + missed < CHANGES as u64 {
        match slow.happening(1) {
            Happening::Change(change) => {
                seen += 1;
                assert_eq!(change.command, 0x0503);
            }
            Happening::Gap(gap) => {
                assert_eq!((gap.first, missed), (last + 1, 0), "one gap, after what was delivered");
                assert_eq!(gap.events_count, gap.last + 1 - gap.first);
                (missed, last) = (gap.events_count, gap.last);
                continue;
            }
            other => panic!("{other:?}"),
        }
        last += 1;
    }
    assert!(missed >= 500 && seen > 8000, "missed {missed}, seen {seen}");
    assert_eq!(last, subscribed.as_of + CHANGES as u64);
    let Ok(Reply::ServerInfo(_)) = busy.ask(&Request::ServerInfo(Nothing {})) else { panic!() };
    daemon.assert_alive();
}

#[test]
fn a_long_list_of_users_leaves_the_channel_to_others() {
    let lines: String = (0..20_000).map(|number| format!("user{number:05}:pw\n")).collect();
    let builder = Daemon::with(&["--admin", "root:secret"]);
    let path = builder.file("users", &lines);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let daemon = builder.arg("--users-file").arg(path).arg("--socks-addr=127.0.0.1").start();
    let mut admin = admin(&daemon);
    let list = UserListRequest { credit: 262_144, user: None, prefix: None, limit: None };
    let number = admin.send(&Request::UserList(list), 1);
    let (mut rows, mut answers, mut asked) = (Vec::new(), 0, Vec::new());
    loop {
        asked.push(admin.send(&Request::Statistics(Nothing {}), 0));
        // What was asked before is answered later, when parts of the list are here already.
        let got = admin.next_where(|got| got.header.request == number || asked.contains(&got.header.request));
        if got.header.request != number {
            answers += 1;
            continue;
        }
        assert_eq!(got.header.status, Status::Ok, "{got:?}");
        use pipo_protocol::v2::Message as _;
        rows.extend(UserPart::decode(&got.body).unwrap().rows);
        if got.header.last {
            break;
        }
        admin.give_credit(1, u32::try_from(octets(&got).len()).unwrap());
    }
    assert_eq!(rows.len(), 20_002);
    assert!(rows.is_sorted_by(|one, other| one.user < other.user), "by name, each once");
    assert!(answers > 10, "{answers} requests were answered while the list came");
}

#[test]
fn an_association_that_takes_nothing_is_aborted_and_the_others_go_on() {
    let daemon = Daemon::start(&["--admin", "root:secret"]);
    let mut stopped = admin(&daemon);
    stopped.follow(&metrics_follow(262_144, 100), 1);
    stopped.raw.stop_reading();
    let mut other = admin(&daemon);
    let started = Instant::now();
    let ends = started + Duration::from_secs(60);
    let stalled = |rows: Vec<MetricRow>| rows.first().map(|row| row.value);
    let count = Request::Metrics(MetricsRequest {
        credit: CREDIT,
        prefix: Some(Word::cut("admin_stalled")),
        per_worker: None,
        meanings: None,
    });
    loop {
        assert!(Instant::now() < ends, "it is still there");
        let asked = Instant::now();
        let (_, rows) = other.rows::<MetricPart>(&count, 1);
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        if stalled(rows) == Some(1) {
            break;
        }
        stopped.raw.is_silent_for(Duration::from_millis(200));
    }
    assert!(started.elapsed() >= Duration::from_secs(29), "{:?}", started.elapsed());
}
