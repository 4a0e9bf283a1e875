//! Hostile clients of version 2 of the admin protocol: what is no record, what is no body, what is too much.

use std::time::{Duration, Instant};

use pipo_encap::Event;
use pipo_protocol::v2::messages::*;
use pipo_protocol::v2::{Header, Reply, Request, Status, Word, encode_raw};

use crate::harness::admin::{AdminClient, AdminSocket, places};
use crate::harness::admin_v2::{Client2, Got, name, nonce};
use crate::harness::{Daemon, Rng};

fn daemon() -> Daemon {
    Daemon::start(&["--admin", "root:secret"])
}

fn admin(daemon: &Daemon) -> Client2 {
    Client2::log_in(daemon, b"root", b"secret")
}

fn record(command: u16, request: u32, body: &[u8]) -> Vec<u8> {
    encode_raw(&Header::request(command, request), body).expect("a record")
}

/// The last record of an association that is ended as malformed.
fn expect_malformed(mut client: Client2, what: &str) {
    let (header, said) = client.notice();
    assert_eq!((header.status, header.last), (Status::Malformed, true), "{what}");
    assert_eq!(said.kind, NoticeKind::Goodbye, "{what}");
    client.expect_close();
}

#[test]
fn octets_that_are_no_record_end_the_association() {
    let mut daemon = daemon();
    let hello = Request::Hello(HelloRequest { client: Word::cut("x"), features: Vec::new() });
    let hello = record(1, 1, &hello.encode());
    let with = |change: fn(&mut Vec<u8>)| {
        let mut octets = hello.clone();
        change(&mut octets);
        octets
    };
    let table = [
        ("a version that is not 2 later on", [&hello[..], &[1, 2, 3]].concat()),
        ("two records in one message", [&hello[..], &hello].concat()),
        ("a thousand commands in one message", record(0x0203, 2, &[0xa0]).repeat(1000)),
        ("half a record", hello[..10].to_vec()),
        ("one octet", vec![2]),
        ("a length below the header", with(|octets| octets[3] = 3)),
        ("the greatest length", with(|octets| octets[2..4].copy_from_slice(&[255, 255]))),
        ("a record of 4097 octets", with(|octets| octets[2..4].copy_from_slice(&[0x10, 1]))),
        ("the longest message", [&[2, 1, 0x10, 0], &vec![0xff; 66_000][..]].concat()),
    ];
    for (what, octets) in table {
        let mut client = Client2::connect(&daemon);
        client.raw.send(&octets);
        expect_malformed(client, what);
    }
    // After the log-in, too.
    let mut client = admin(&daemon);
    client.raw.send(b"\x01");
    expect_malformed(client, "another version after the log-in");
    daemon.assert_alive();
}

#[test]
fn bodies_that_are_none_are_answered_and_the_association_goes_on() {
    let mut daemon = daemon();
    let mut client = admin(&daemon);
    let deep = [[0xa1, 0x01].repeat(1000), vec![0xa0]].concat();
    let many: Vec<u8> = [vec![0xb8, 65], (0..65).flat_map(|key| [0x18, 100 + key, 0]).collect()].concat();
    let table: [(&str, u16, Vec<u8>, Status); 12] = [
        ("nothing nested a thousand times", 0x0203, deep, Status::Malformed),
        ("65 entries", 0x0203, many, Status::Malformed),
        ("an array", 0x0203, vec![0x80], Status::Malformed),
        ("an indefinite map", 0x0203, vec![0xbf, 0xff], Status::Malformed),
        ("a float", 0x0203, vec![0xa1, 0x01, 0xf9, 0, 0], Status::Malformed),
        ("a text of 4 GiB", 0x0502, vec![0xa1, 0x01, 0x7a, 255, 255, 255, 255], Status::Malformed),
        (
            "an array of 2^64",
            0x0403,
            vec![0xa1, 0x01, 0x9b, 255, 255, 255, 255, 255, 255, 255, 255],
            Status::Malformed,
        ),
        ("a key twice", 0x0502, vec![0xa2, 0x01, 0x61, b'a', 0x01, 0x61, b'b'], Status::Malformed),
        ("octets after the map", 0x0203, vec![0xa0, 0], Status::Malformed),
        ("a field that is missing", 0x0502, vec![0xa0], Status::Malformed),
        ("a name without octets", 0x0303, vec![0xa1, 0x01, 0x40], Status::Invalid),
        ("a command that nobody knows", 0x7f7f, vec![0xa0], Status::UnknownCommand),
    ];
    for (what, command, body, status) in table {
        let number = client.fresh_request();
        client.raw.send(&record(command, number, &body));
        assert_eq!(client.answer_to(number).header.status, status, "{what}");
    }
    // Unknown keys are skipped, whatever they hold.
    let number = client.fresh_request();
    client.raw.send(&record(0x0203, number, &[0xa1, 0x18, 99, 0xa1, 0, 0x81, 0]));
    assert_eq!(client.answer_to(number).header.status, Status::Ok);
    // Requests that name no number, and records that are no requests.
    client.raw.send(&record(0x0203, 0, &[0xa0]));
    assert_eq!(client.answer_to(0).header.status, Status::Malformed);
    let mut reply = record(0x0203, 77_777, &[0xa0]);
    reply[1] = 2;
    client.raw.send(&reply);
    assert_eq!(client.answer_to(77_777).header.status, Status::Malformed);
    assert!(client.ask(&Request::Statistics(Nothing {})).is_ok());
    daemon.assert_alive();
}

#[test]
fn half_a_login_of_version_2_ends_after_ten_seconds() {
    let daemon = daemon();
    let started = Instant::now();
    let hello = Request::Hello(HelloRequest { client: Word::cut("slow"), features: Vec::new() });
    let mut begun = Client2::connect(&daemon);
    begun.ask(&hello).unwrap();
    let mut challenged = Client2::connect(&daemon);
    challenged.ask(&hello).unwrap();
    challenged.ask(&Request::LoginStart(LoginStart { user: name(b"root"), nonce: nonce() })).unwrap();
    let mut other = admin(&daemon);
    // All are kept going: an association of which nothing is heard would be aborted.
    while started.elapsed() < Duration::from_secs(9) {
        assert!(begun.is_silent_for(Duration::from_millis(20)));
        assert!(challenged.is_silent_for(Duration::from_millis(20)));
        assert!(other.is_silent_for(Duration::from_millis(20)), "who logged in may be idle");
    }
    let ends = [begun, challenged].map(|client| std::thread::spawn(move || told_that_it_was_late(client)));
    ends.into_iter().for_each(|end| end.join().expect("an end"));
    assert!(other.ask(&Request::Statistics(Nothing {})).is_ok());
}

fn told_that_it_was_late(mut client: Client2) {
    let (header, said) = client.notice();
    assert_eq!((header.status, said.kind), (Status::Timeout, NoticeKind::Goodbye));
    client.expect_close();
}

#[test]
fn a_proof_cannot_be_replayed_or_guessed_and_guessing_is_stopped() {
    let daemon = daemon();
    let mut statuses = Vec::new();
    for _ in 0..7 {
        let mut client = Client2::connect(&daemon);
        let refused = client.try_log_in(b"root", b"guess").unwrap_err();
        statuses.push(refused.header.status);
    }
    assert_eq!(statuses[0], Status::LoginFailed);
    assert_eq!(statuses[6], Status::TooManyFailures, "{statuses:?}");
}

#[test]
fn sixty_five_thousand_streams_are_granted_as_few() {
    let mut daemon = daemon();
    let mut clients = Vec::new();
    let before = daemon.memory_kib_max();
    for _ in 0..20 {
        let socket = AdminSocket::with_streams(places(&daemon)[0], u16::MAX);
        let mut client = Client2::over(AdminClient::over(socket));
        client.try_log_in(b"root", b"secret").unwrap();
        clients.push(client);
    }
    for client in &mut clients {
        let list = Request::SettingList(SettingListRequest { credit: 65_536, prefix: None });
        let (_, rows) = client.rows::<SettingPart>(&list, u32::MAX);
        assert!(rows.len() > 10);
    }
    let grown = daemon.memory_kib_max() - before;
    assert!(grown < 32 * 1024, "{grown} KiB more for 20 associations");
    daemon.assert_alive();
}

#[test]
fn a_pipeline_of_a_thousand_commands_is_answered_as_it_is_read() {
    let daemon = daemon();
    let mut client = admin(&daemon);
    let mut other = admin(&daemon);
    client.raw.stop_reading();
    let mut numbers = Vec::new();
    let request = Request::Statistics(Nothing {});
    for _ in 0..1000 {
        let number = client.fresh_request();
        let octets = record(request.command().code(), number, &request.encode());
        if client.raw.try_send(&octets) {
            numbers.push(number);
        }
    }
    assert!(other.ask(&request).is_ok(), "the others are served meanwhile");
    client.raw.read_again();
    for number in numbers {
        let got: Got = client.answer_to(number);
        assert_eq!(got.header.status, Status::Ok);
    }
    assert!(client.ask(&request).is_ok());
}

#[test]
fn a_thousand_associations_that_say_hello_keep_nobody_out() {
    let mut daemon = daemon();
    let mut inside = admin(&daemon);
    let hello = Request::Hello(HelloRequest { client: Word::cut("crowd"), features: Vec::new() });
    let hello = record(1, 1, &hello.encode());
    let mut crowd = AdminSocket::new(places(&daemon)[0]);
    for round in 0..1000 {
        crowd.connect();
        for event in crowd.pump() {
            if let Event::Opened { association, .. } = event {
                crowd.send(association, &hello);
            }
        }
        if round % 100 == 99 {
            let asked = Instant::now();
            assert!(matches!(inside.ask(&Request::Statistics(Nothing {})), Ok(Reply::Statistics(_))));
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        }
    }
    admin(&daemon).say_goodbye();
    daemon.assert_alive();
}

#[test]
fn garbage_after_the_version_harms_nobody() {
    let mut daemon = daemon();
    let mut rng = Rng::new(11);
    for _ in 0..60 {
        let mut octets = vec![0; 1 + rng.below(5000)];
        rng.fill(&mut octets);
        octets[0] = 2;
        if octets.len() >= 17 && octets.len() <= 4096 && rng.below(2) == 0 {
            // A header that can be read, with garbage for a body.
            octets[1] = 1;
            let length = u16::try_from(octets.len()).expect("at most 4096");
            octets[2..4].copy_from_slice(&length.to_be_bytes());
        }
        let mut client = AdminClient::connect(&daemon);
        client.send(&octets);
        drop(client);
    }
    admin(&daemon).say_goodbye();
    daemon.assert_alive();
}
