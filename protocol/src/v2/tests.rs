//! Properties of every message: round trips, mutations, noise.

use proptest::prelude::*;

use std::net::SocketAddr;

use super::cbor::check;
use super::events::{Event, Happening, SessionEvent};
use super::messages::*;
use super::parts::ROW_BYTES_MAX;
use super::sample::Source;
use super::{
    COMMANDS, Command, Doors, ErrorBody, Header, Kind, Message, Record, Reply, Request, Role, Status, Text,
    encode_raw, encode_record,
};
use crate::Name;
use crate::v2::body::Value;

fn header(seed: u64) -> Header {
    let source = &mut Source::new(seed);
    Header {
        kind: Kind::from(u8::sample(source)),
        command: u16::sample(source),
        status: Status::from(u8::sample(source)),
        last: bool::sample(source),
        request: u32::sample(source),
        channel: u32::sample(source),
    }
}

proptest! {
    #[test]
    fn every_request_and_reply_survives_the_wire(seed: u64, place in 0..COMMANDS.len()) {
        let command = COMMANDS[place].command;
        let source = &mut Source::new(seed);
        let request = Request::sample(command, source).unwrap();
        let body = request.encode();
        prop_assert_eq!(request.command(), command);
        prop_assert_eq!(Request::decode(command, &body), Ok(Some(request)));
        if let Some(reply) = Reply::sample(command, source) {
            prop_assert_eq!(reply.command(), command);
            prop_assert_eq!(Reply::decode(command, &reply.encode()), Ok(Some(reply)));
        } else {
            prop_assert!(COMMANDS[place].reply.is_none());
        }
    }

    #[test]
    fn every_event_and_error_survives_the_wire(seed: u64) {
        let source = &mut Source::new(seed);
        let event = Event::sample(source);
        prop_assert_eq!(Event::decode(&event.encode()), Ok(event));
        let error = ErrorBody::sample(source);
        prop_assert_eq!(ErrorBody::decode(&error.encode()), Ok(error));
    }

    #[test]
    fn an_event_says_one_thing(seed: u64) {
        let source = &mut Source::new(seed);
        let all = Event::sample(source);
        let Some(happening) = all.happening() else { return Ok(()) };
        let event = Event::new(7, 8, happening.clone());
        prop_assert_eq!(event.encode()[0], 0xa3, "sequence, time and one more field");
        let back: Option<Happening> = Event::decode(&event.encode()).unwrap().happening();
        prop_assert_eq!(back, Some(happening));
    }

    #[test]
    fn every_header_survives_the_wire_and_any_split_equals_the_whole(
        seeds in prop::collection::vec((any::<u64>(), 1..300_usize), 1..6),
        cuts in prop::collection::vec(1..64_usize, 1..40),
    ) {
        let expected: Vec<_> = seeds.iter().map(|(seed, size)| (header(*seed), vec![0xa0; *size])).collect();
        let stream: Vec<u8> =
            expected.iter().flat_map(|(header, body)| encode_raw(header, body).unwrap()).collect();
        let (mut found, mut buffer, mut rest) = (Vec::new(), Vec::new(), stream.as_slice());
        for cut in cuts.into_iter().cycle() {
            let (piece, later) = rest.split_at(cut.min(rest.len()));
            (buffer, rest) = ([buffer.as_slice(), piece].concat(), later);
            while let Some((record, taken)) = Record::split(&buffer).unwrap() {
                found.push((record.header, record.body.to_vec()));
                buffer.drain(..taken);
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, expected);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn noise_never_panics(octets in prop::collection::vec(any::<u8>(), 0..5000), command: u16) {
        crate::fuzz::version2(&octets);
        prop_assert_eq!(Request::decode(Command::Unassigned(command), &octets), Ok(None));
        let _ = check(&octets);
        let _ = ErrorBody::decode(&octets);
    }

    /// Octets that often are CBOR of the right kind: small maps of small items.
    #[test]
    fn noise_that_looks_like_bodies_never_panics(
        octets in prop::collection::vec(
            prop::sample::select(vec![0_u8, 1, 2, 3, 4, 0x18, 0x19, 0x41, 0x58, 0x61, 0x81, 0x82, 0xa0, 0xa1, 0xa2, 0xf5]),
            0..40,
        ),
        entries in 0..6_u8,
    ) {
        crate::fuzz::version2(&[&[0xa0 + entries], octets.as_slice()].concat());
    }

    #[test]
    fn mutated_bodies_never_panic_and_errors_have_an_answer(
        seed: u64,
        place in 0..COMMANDS.len(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
    ) {
        let command = COMMANDS[place].command;
        let source = &mut Source::new(seed);
        let mut bodies = vec![Request::sample(command, source).unwrap().encode(), Event::sample(source).encode()];
        bodies.extend(Reply::sample(command, source).map(|reply| reply.encode()));
        for mut body in bodies {
            for (at, octet, how) in &mutations {
                let at = at.index(body.len().max(1));
                match how {
                    0 if at < body.len() => body[at] = *octet,
                    1 => body.insert(at, *octet),
                    _ => body.truncate(at),
                }
            }
            if let Err(error) = Request::decode(command, &body) {
                let (status, answer): (Status, ErrorBody) = (&error).into();
                prop_assert!(matches!(status, Status::Malformed | Status::Invalid));
                prop_assert!(!answer.sentence.as_str().is_empty());
            }
            let _ = Reply::decode(command, &body);
            let _ = Event::decode(&body);
        }
    }
}

#[test]
fn deepest_and_largest_bodies_stay_within_the_rules() {
    // A sample of every message passes check(), which holds nesting, entries and size.
    for seed in 0..200 {
        for row in COMMANDS {
            let source = &mut Source::new(seed);
            let body = Request::sample(row.command, source).unwrap().encode();
            if body.len() <= crate::limits::BODY_BYTES_MAX {
                assert_eq!(check(&body), Ok(()), "{} {}", row.noun, row.verb);
            }
        }
    }
}

/// The longest value of each row that servers list, lists inside it at the bounds the daemon keeps.
#[test]
fn the_longest_rows_and_events_fit_one_record() {
    let user = Name::new([b'u'; 255]).unwrap();
    let endpoint = SocketAddr::from(([0xff; 16], u16::MAX));
    let session = SessionRow {
        id: u64::MAX,
        user: user.clone(),
        source: endpoint,
        destination: Text::new("d".repeat(256)),
        destination_port: Some(u16::MAX),
        origin: Some(endpoint),
        stage: Stage::Unassigned(255),
        age_ms: u64::MAX,
        idle_ms: u64::MAX,
        bytes_up: u64::MAX,
        bytes_down: u64::MAX,
    };
    let setting = SettingRow {
        name: Text::cut(&"n".repeat(64)),
        value: Text::cut(&"v".repeat(1024)),
        default: Text::cut(&"d".repeat(1024)),
        kind: SettingKind::Word,
        unit: Text::new("u".repeat(64)),
        allowed: Text::cut(&"a".repeat(512)),
        words: vec![Text::cut(&"w".repeat(24)); 16],
        source: SettingSource::Flag,
        effect: SettingEffect::AllSessions,
        help: Text::cut(&"h".repeat(512)),
    };
    let cached = CacheRow {
        name: Text::cut(&"n".repeat(255)),
        family: 6,
        addresses: vec![endpoint.ip(); 32],
        ttl_ms: u64::MAX,
        source: CacheSource::Plain,
        worker: u16::MAX,
    };
    for octets in [session.encode(), setting.encode(), cached.encode()] {
        assert!(octets.len() <= ROW_BYTES_MAX, "{}", octets.len());
    }
    let line = LogLine {
        kind: LogKind::Diagnostic,
        level: Some(LogLevel::Trace),
        line: Text::cut(&"l".repeat(5000)),
    };
    for happening in [
        Happening::Line(line),
        Happening::Session(SessionEvent {
            kind: EventKind::SessionClosed,
            session,
            reply: Some(255),
            reason: Text::new("r".repeat(64)),
        }),
    ] {
        let event = Event::new(u64::MAX, u64::MAX, happening);
        assert!(encode_record(&header(1), &event).is_ok());
    }
}

/// What a candidate must be able to hold: every setting the daemon may have, or users with the longest names.
#[test]
fn a_candidate_of_64_settings_or_9_users_fits_one_record() {
    let set = |number: usize| Change {
        kind: ChangeKind::Set,
        setting: Text::new(format!("a-setting-of-usual-length-{number}")),
        value: Text::new("a value, 20 octets.."),
        user: None,
        verifier: None,
        role: None,
        doors: None,
    };
    let add = |number: u8| Change {
        kind: ChangeKind::UserAdd,
        setting: None,
        value: None,
        user: Name::new([number; 255]).ok(),
        verifier: Some(Verifier::stand_in(b"", &Name::new([number]).unwrap(), 4096)),
        role: Some(Role::User),
        doors: Some(Doors::Proxy),
    };
    let settings = Commit { base: 1, changes: (0..64).map(set).collect(), confirm_seconds: Some(60) };
    let users = Commit { base: 1, changes: (0..9).map(add).collect(), confirm_seconds: None };
    for commit in [settings, users] {
        let octets = encode_record(&header(1), &commit).unwrap();
        assert_eq!(Commit::decode(Record::decode(&octets).unwrap().body), Ok(commit));
    }
}
