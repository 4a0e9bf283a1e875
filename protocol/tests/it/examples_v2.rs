//! The examples of version 2: one association from HELLO to goodbye, against the codec in both directions.

use std::fmt::Write as _;

use minicbor::Decoder;
use minicbor::data::Type;
use pipo_protocol::v2::events::{End, Event, Gap, Happening};
use pipo_protocol::v2::login::{ClientStarted, ServerStarted, Transcript};
use pipo_protocol::v2::messages::*;
use pipo_protocol::v2::{
    Command, ErrorBody, Header, Kind, Message, Record, Reply, Request, Role, Status, Text, encode_raw,
    encode_record,
};
use pipo_protocol::{Name, Password, Version};

use crate::spec_file::{examples, path, text, updating};

/// Name and direction as in the specification, and the record.
type Expected = (&'static str, Vec<u8>);

fn name(octets: &str) -> Name {
    Name::new(octets.as_bytes()).unwrap()
}

fn word<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).unwrap()
}

fn request(number: u32, channel: u32, request: &Request) -> Vec<u8> {
    let header = Header { channel, ..Header::request(request.command().code(), number) };
    encode_raw(&header, &request.encode()).unwrap()
}

fn reply(number: u32, reply: &Reply) -> Vec<u8> {
    let header = Header::request(reply.command().code(), number).reply(Status::Ok);
    encode_raw(&header, &reply.encode()).unwrap()
}

fn refusal(number: u32, command: Command, status: Status, body: &ErrorBody) -> Vec<u8> {
    encode_record(&Header::request(command.code(), number).reply(status), body).unwrap()
}

fn event(header: Header, event: &Event) -> Vec<u8> {
    encode_record(&Header { kind: Kind::Event, ..header }, event).unwrap()
}

fn rfc_7677_salt() -> Salt {
    let octets = *b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81";
    Salt::new(octets).unwrap()
}

fn login() -> Vec<Expected> {
    let password = Password::new(*b"pencil").unwrap();
    let verifier = Verifier::from_password(&password, rfc_7677_salt(), 4096);
    let hello =
        Request::Hello(HelloRequest { client: word("example 1.0"), features: vec![word("candidate")] });
    let hello_reply = Reply::Hello(HelloReply {
        server: word("socks5d"),
        features: vec![word("candidate"), word("trace")],
        limits: Limits::SPECIFIED,
        iterations: 4096,
    });
    let nonce = |octet| Nonce::new([octet; 16]).unwrap();
    let (client, start) = ClientStarted::new(name("user"), nonce(0xa1));
    let (server, challenge) = ServerStarted::new(&start, verifier, &nonce(0xb2));
    let four = [
        request(1, 0, &hello),
        reply(1, &hello_reply),
        request(2, 0, &Request::LoginStart(start)),
        reply(2, &Reply::LoginStart(challenge.clone())),
    ];
    let mut transcript = Transcript::default();
    four.iter().for_each(|record| transcript.add(record));
    let (client, proof) = client.prove(&challenge, &password, &transcript).unwrap();
    let signature = server.check(&proof, &transcript).unwrap();
    let done = LoginDone { as_of: 40, signature, role: Role::Admin };
    assert_eq!(client.accept(&done), Ok(Role::Admin));
    let [hello, hello_reply, start, challenge] = four;
    vec![
        ("hello-request C->S", hello),
        ("hello-reply S->C", hello_reply),
        ("login-start C->S", start),
        ("login-challenge S->C", challenge),
        ("login-proof C->S", request(3, 0, &Request::LoginProof(proof))),
        ("login-done S->C", reply(3, &Reply::LoginProof(done))),
    ]
}

fn queries() -> Vec<Expected> {
    let info = ServerInfo {
        as_of: 41,
        version: word("socks5d 0.1.0"),
        started_unix_ms: 1_700_000_000_000,
        uptime_ms: 60_000,
        process: 4711,
        workers_count: 2,
        state: ServerState::Running,
        sessions_count: 1,
        users_registered_count: 2,
        users_connected_count: 1,
        socks_listeners: vec!["127.0.0.1:1080".parse().unwrap()],
        admin_listeners: vec!["127.0.0.1:8080".parse().unwrap(), "[::1]:8080".parse().unwrap()],
        admin_transport: word("kernel"),
        resolver: ResolverState::Relay,
        revision: 7,
        pending: None,
    };
    let list = SessionListRequest {
        credit: 65_536,
        filter: Some(SessionFilter { user: Some(name("ada")), ..SessionFilter::ALL }),
        sort: Some(SessionSort::Bytes),
        descending: Some(true),
        limit: Some(10),
    };
    let row = SessionRow {
        id: 0x0000_1004_0000_0001,
        user: name("ada"),
        source: "127.0.0.1:40000".parse().unwrap(),
        destination: Some(word("example.org")),
        destination_port: Some(443),
        origin: Some("[2001:db8::1]:443".parse().unwrap()),
        stage: Stage::Relay,
        age_ms: 1500,
        idle_ms: 20,
        bytes_up: 517,
        bytes_down: 65_536,
    };
    let part = |rows, last| {
        let body = Reply::SessionList(SessionPart { as_of: 41, rows });
        let header = Header::request(body.command().code(), 5).reply(Status::Ok);
        encode_raw(&Header { last, channel: 1, ..header }, &body.encode()).unwrap()
    };
    vec![
        ("server-info C->S", request(4, 0, &Request::ServerInfo(Nothing {}))),
        ("server-info-reply S->C", reply(4, &Reply::ServerInfo(info))),
        ("session-list C->S", request(5, 1, &Request::SessionList(list))),
        ("session-part S->C", part(vec![row], false)),
        ("session-part-last S->C", part(vec![], true)),
        ("credit C->S", request(6, 0, &Request::Credit(Credit { channel: 2, bytes: 4096 }))),
    ]
}

fn users() -> Vec<Expected> {
    let password = Password::new(*b"pencil").unwrap();
    let verifier = Verifier::from_password(&password, rfc_7677_salt(), 4096);
    let add = UserAdd { user: name("ada"), verifier, role: Role::User, doors: None };
    let changed = Changed { as_of: 42, revision: 8, sessions_closed_count: 0 };
    let exists = ErrorBody {
        field: Some(1),
        ..ErrorBody::saying("There is a user ada already; user password changes it.")
    };
    vec![
        ("user-add C->S", request(7, 0, &Request::UserAdd(add))),
        ("user-add-reply S->C", reply(7, &Reply::UserAdd(changed))),
        ("user-exists S->C", refusal(7, Command::UserAdd, Status::Exists, &exists)),
        (
            "not-allowed S->C",
            refusal(7, Command::UserAdd, Status::NotAllowed, &ErrorBody::of(Status::NotAllowed)),
        ),
    ]
}

fn subscription() -> Vec<Expected> {
    let follow =
        LogFollow { credit: 65_536, from: Some(41), kinds: vec![LogKind::Access], level: None, user: None };
    let header =
        Header { channel: 2, last: false, ..Header::request(Command::LogFollow.code(), 8).reply(Status::Ok) };
    let line = "2023-11-14T22:13:20Z\tada\tA\t127.0.0.1\t40000\texample.org\t443\t0";
    let line = LogLine { kind: LogKind::Access, level: None, line: word(line) };
    let gap = Gap { events_count: 12, first: 45, last: 60 };
    let end = End { sentence: None };
    let time = 1_700_000_000_000;
    vec![
        ("log-follow C->S", request(8, 2, &Request::LogFollow(follow))),
        ("log-follow-reply S->C", reply(8, &Reply::LogFollow(Subscribed { as_of: 41 }))),
        ("log-line S->C", event(header, &Event::new(44, time, Happening::Line(line)))),
        ("gap S->C", event(header, &Event::new(60, time + 5000, Happening::Gap(gap)))),
        ("unsubscribe C->S", request(9, 0, &Request::Unsubscribe(Unsubscribe { channel: 2 }))),
        ("unsubscribe-reply S->C", reply(9, &Reply::Unsubscribe(Nothing {}))),
        (
            "end S->C",
            event(
                Header { last: true, status: Status::Cancelled, ..header },
                &Event::new(61, time + 6000, Happening::End(end)),
            ),
        ),
    ]
}

fn changes() -> Vec<Expected> {
    let old = SessionFilter { age_ms_min: Some(3_600_000), ..SessionFilter::ALL };
    let kill = SessionKill { ids: vec![], filter: Some(old), dry_run: Some(true) };
    let set = |setting, value| Change {
        kind: ChangeKind::Set,
        setting: Some(word(setting)),
        value: Some(word(value)),
        user: None,
        verifier: None,
        role: None,
        doors: None,
    };
    let commit = Commit {
        base: 8,
        changes: vec![set("buffer-size", "64k"), set("idle-timeout", "60s")],
        confirm_seconds: Some(60),
    };
    let conflict = ErrorBody { revision: Some(9), ..ErrorBody::saying("Revision 9 is in force, not 8.") };
    vec![
        ("session-kill C->S", request(10, 0, &Request::SessionKill(kill))),
        ("session-kill-reply S->C", reply(10, &Reply::SessionKill(Killed { as_of: 61, sessions_count: 3 }))),
        ("commit-confirmed C->S", request(11, 0, &Request::ConfigCommit(commit))),
        ("commit-conflict S->C", refusal(11, Command::ConfigCommit, Status::Conflict, &conflict)),
    ]
}

fn endings() -> Vec<Expected> {
    let notice = |kind, sentence: &str, revision| {
        let notice = Notice { kind, sentence: Some(word(sentence)), left_ms: None, revision };
        Event::new(62, 1_700_000_060_000, Happening::Notice(notice))
    };
    let quiet = Header { last: false, ..Header::request(0, 0) };
    let reverted = notice(NoticeKind::Reverted, "Not confirmed within 60 s.", Some(10));
    let down = notice(NoticeKind::Goodbye, "The server is going down.", None);
    vec![
        ("notice-reverted S->C", event(quiet, &reverted)),
        ("goodbye C->S", request(12, 0, &Request::Goodbye(Goodbye { reason: None }))),
        ("goodbye-reply S->C", reply(12, &Reply::Goodbye(Nothing {}))),
        ("notice-goodbye S->C", event(Header { last: true, status: Status::ShuttingDown, ..quiet }, &down)),
    ]
}

fn all() -> Vec<Expected> {
    [login(), queries(), users(), subscription(), changes(), endings()].concat()
}

#[test]
fn every_record_is_the_one_specified() {
    let expected = all();
    if updating() {
        update(&expected);
    }
    let found = examples("v2");
    let names: Vec<_> =
        found.iter().map(|example| format!("{} {}", example.name, example.direction)).collect();
    assert_eq!(names, expected.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (example, (name, octets)) in found.iter().zip(&expected) {
        assert_eq!(&example.octets, octets, "{name}");
        assert!(text().contains(&block(name, octets)), "{name}: layout and notation");
        assert_eq!(Version::choose(&example.octets), Some(Version::V2));
        let record = Record::decode(&example.octets).unwrap();
        assert_eq!(&encode_raw(&record.header, &decoded_and_encoded(&record)).unwrap(), octets, "{name}");
    }
}

/// What the body means, as octets again.
fn decoded_and_encoded(record: &Record<'_>) -> Vec<u8> {
    let command = Command::from(record.header.command);
    match (record.header.kind, record.header.status) {
        (Kind::Request, _) => Request::decode(command, record.body).unwrap().unwrap().encode(),
        (Kind::Reply, Status::Ok) => Reply::decode(command, record.body).unwrap().unwrap().encode(),
        (Kind::Reply, _) => ErrorBody::decode(record.body).unwrap().encode(),
        (Kind::Event, _) => Event::decode(record.body).unwrap().encode(),
        (Kind::Unassigned(code), _) => panic!("type {code}"),
    }
}

fn update(expected: &[Expected]) {
    let mut text = text();
    for (name, octets) in expected {
        let head = format!("   example: v2 {name}\n");
        let start = text.find(&head).unwrap_or_else(|| panic!("no example {name}"));
        let end = start + text[start..].find("\n\n").unwrap() + 1;
        text.replace_range(start..end, &block(name, octets));
    }
    std::fs::write(path(), text).unwrap();
}

/// An example as it stands in the specification: octets, and the body in diagnostic notation as comment.
fn block(name: &str, octets: &[u8]) -> String {
    let mut out = format!("   example: v2 {name}\n");
    for line in octets.chunks(16) {
        let pairs: Vec<_> = line.iter().map(|octet| format!("{octet:02X}")).collect();
        writeln!(out, "      {}", pairs.join(" ")).unwrap();
    }
    let mut line = String::from("      ;");
    for word in diagnostic(&mut Decoder::new(&octets[16..])).split(' ') {
        for piece in word.as_bytes().chunks(56) {
            if line.len() + 1 + piece.len() > 72 {
                writeln!(out, "{line}").unwrap();
                line = String::from("      ;  ");
            }
            line.push(' ');
            line.push_str(std::str::from_utf8(piece).unwrap());
        }
    }
    writeln!(out, "{line}").unwrap();
    out
}

/// One item in the diagnostic notation of RFC 8949 §8.
fn diagnostic(item: &mut Decoder<'_>) -> String {
    match item.datatype().unwrap() {
        Type::Map => {
            let count = item.map().unwrap().unwrap();
            let entry = |_| format!("{}: {}", item.u64().unwrap(), diagnostic(item));
            format!("{{{}}}", (0..count).map(entry).collect::<Vec<_>>().join(", "))
        }
        Type::Array => {
            let count = item.array().unwrap().unwrap();
            format!("[{}]", (0..count).map(|_| diagnostic(item)).collect::<Vec<_>>().join(", "))
        }
        Type::Bytes => {
            let octets = item.bytes().unwrap().iter().map(|octet| format!("{octet:02x}"));
            format!("h'{}'", octets.collect::<String>())
        }
        Type::String => format!("{:?}", item.str().unwrap()),
        Type::Bool => item.bool().unwrap().to_string(),
        _ => item.u64().unwrap().to_string(),
    }
}
