//! A client in Python, written from the specification, against this crate as the server.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command as Process, Output, Stdio};

use pipo_protocol::v2::credit::SendCredit;
use pipo_protocol::v2::events::{End, Event, Gap, Happening};
use pipo_protocol::v2::login::{ServerStarted, Transcript};
use pipo_protocol::v2::messages::*;
use pipo_protocol::v2::parts::Parts;
use pipo_protocol::v2::{
    Doors, ErrorBody, Header, Key, Kind, Record, Reply, Request, Role, Status, Text, encode_raw,
    encode_record,
};
use pipo_protocol::{Name, Password};

use crate::spec_file;

fn script(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(file)
}

/// The server's end of the pipes, and what the login proves.
struct Server {
    child: Child,
    transcript: Transcript,
}

fn start(arguments: &[&str]) -> Server {
    let child = Process::new("python3")
        .args(["-B", script("pipo2_client.py").to_str().unwrap(), "-", "user"])
        .args(arguments)
        .env("PIPO_PASSWORD", "pencil")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is one of the packages that the tests use");
    Server { child, transcript: Transcript::default() }
}

impl Server {
    fn receive(&mut self) -> (Header, Request) {
        let (input, mut octets) = (self.child.stdout.as_mut().unwrap(), vec![0; 16]);
        input.read_exact(&mut octets).expect("a record, not the end");
        let (header, length) = Header::decode(&octets).unwrap().unwrap();
        octets.resize(length, 0);
        input.read_exact(&mut octets[16..]).unwrap();
        self.transcript.add(&octets);
        let record = Record::decode(&octets).unwrap();
        let request = Request::decode(header.command.into(), record.body).unwrap().unwrap();
        (header, request)
    }

    fn send(&mut self, record: &[u8]) {
        self.transcript.add(record);
        self.child.stdin.as_mut().unwrap().write_all(record).unwrap();
    }

    fn reply(&mut self, to: Header, reply: &Reply) {
        self.send(&encode_raw(&to.reply(Status::Ok), &reply.encode()).unwrap());
    }

    /// HELLO and the login; the signature is what `change` makes of the true one.
    fn login(&mut self, change: impl FnOnce(Key) -> Key) {
        let (header, hello) = self.receive();
        assert!(matches!(hello, Request::Hello(_)));
        let limits = Limits::SPECIFIED;
        let hello = HelloReply { server: Text::cut("test"), features: vec![], limits, iterations: 4096 };
        self.reply(header, &Reply::Hello(hello));
        let (header, Request::LoginStart(start)) = self.receive() else { panic!("the login begins") };
        assert_eq!(start.user.as_bytes(), b"user");
        let verifier =
            Verifier::from_password(&Password::new(*b"pencil").unwrap(), Salt::new([3; 16]).unwrap(), 4096);
        let (server, challenge) = ServerStarted::new(&start, verifier, &Nonce::new([5; 24]).unwrap());
        self.reply(header, &Reply::LoginStart(challenge));
        let transcript = self.transcript.clone();
        let (header, Request::LoginProof(proof)) = self.receive() else { panic!("the proof") };
        let signature = server.check(&proof, &transcript).expect("the proof of the right password");
        let done = LoginDone { as_of: 9, signature: change(signature), role: Role::Admin };
        self.reply(header, &Reply::LoginProof(done));
    }

    fn goodbye(mut self) -> Output {
        let (header, request) = self.receive();
        assert!(matches!(request, Request::Goodbye(_)), "{request:?}");
        self.reply(header, &Reply::Goodbye(Nothing {}));
        self.child.wait_with_output().unwrap()
    }
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_logs_in_and_reads_an_answer() {
    let mut server = start(&["0x0203"]);
    server.login(|signature| signature);
    let (header, request) = server.receive();
    assert_eq!((request, header.channel), (Request::Statistics(Nothing {}), 0));
    server.reply(header, &Reply::Statistics(OwnStatistics { as_of: 10, user: row(0) }));
    let output = server.goodbye();
    assert!(output.status.success(), "{}", shown(&output));
    let user =
        r#"{"1": "757365722030", "2": 0, "3": 1, "4": true, "5": 0, "6": 300, "7": 70000, "8": 5000000000}"#;
    assert_eq!(shown(&output), format!("{{\"status\": 0, \"body\": {{\"0\": 10, \"1\": {user}}}}}\n"));
}

fn row(number: u64) -> UserRow {
    UserRow {
        user: Name::new(format!("user {number}")).unwrap(),
        role: Role::User,
        doors: Doors::Proxy,
        enabled: true,
        sessions_count: number,
        sessions_total_count: 300,
        bytes_up: 70_000,
        bytes_down: 5_000_000_000,
        last_seen_unix_ms: None,
    }
}

#[test]
fn it_returns_credit_until_a_long_list_is_complete() {
    let mut server = start(&["0x0301", "0=4096", "3=500"]);
    server.login(|signature| signature);
    let (header, Request::UserList(list)) = server.receive() else { panic!("the list") };
    assert_eq!((header.channel, list.credit, list.limit), (1, 4096, Some(500)));
    let mut parts = Parts::<UserPart>::new(&header, 11);
    let mut records: Vec<_> = (0..500).filter_map(|number| parts.push(&row(number)).unwrap()).collect();
    records.push(parts.finish().unwrap());
    let mut credit = SendCredit::open(list.credit).unwrap();
    let (last, others) = records.split_last().unwrap();
    assert!(others.len() > 2, "more than the first credit allows");
    for record in others {
        while !credit.take(record.len()) {
            let (_, Request::Credit(returned)) = server.receive() else { panic!("credit") };
            assert_eq!(returned.channel, 1);
            credit.grant(returned.bytes);
        }
        server.send(record);
    }
    // The last one needs none; what the client still returned comes before its goodbye.
    server.send(last);
    let returned = others.len() - usize::from(credit.left() > 0);
    let mut seen = 0;
    let header = loop {
        match server.receive() {
            (_, Request::Credit(_)) => seen += 1,
            (header, Request::Goodbye(_)) => break header,
            (_, other) => panic!("{other:?}"),
        }
    };
    assert!(seen <= returned);
    server.reply(header, &Reply::Goodbye(Nothing {}));
    let output = server.child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(shown(&output).lines().count(), records.len());
    // 757365722d is "user-"; the space of these names is 20.
    assert_eq!(shown(&output).matches("7573657220").count(), 500);
}

#[test]
fn it_follows_events_until_the_channel_ends() {
    let mut server = start(&["0x0801", "0=65536", "1=9"]);
    server.login(|signature| signature);
    let (header, Request::LogFollow(follow)) = server.receive() else { panic!("the subscription") };
    assert_eq!((header.channel, follow.from), (1, Some(9)));
    let event = Header { kind: Kind::Event, last: false, ..header };
    let gap = Happening::Gap(Gap { events_count: 2, first: 10, last: 11 });
    // Events may come before the reply, since they may be on another stream.
    server.send(&encode_record(&event, &Event::new(11, 1, gap)).unwrap());
    server.reply(header, &Reply::LogFollow(Subscribed { as_of: 11 }));
    let end = Event::new(12, 2, Happening::End(End { sentence: None }));
    let last = Header { last: true, status: Status::ShuttingDown, ..event };
    server.send(&encode_record(&last, &end).unwrap());
    let (_, Request::Credit(returned)) = server.receive() else { panic!("credit") };
    assert_eq!(returned.channel, 1);
    let output = server.goodbye();
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(shown(&output).lines().count(), 3);
    assert!(
        shown(&output).contains(r#"{"status": 21, "body": {"0": 12, "1": 2, "10": {}}}"#),
        "{}",
        shown(&output)
    );
}

#[test]
fn it_refuses_a_server_that_cannot_prove_itself() {
    let mut server = start(&["0x0203"]);
    server.login(|_| Key::new([0; 32]));
    let output = server.child.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(shown(&output).contains("could not prove"), "{}", shown(&output));
}

#[test]
fn it_tells_a_refusal_and_a_server_of_version_1() {
    let mut server = start(&["0x0203"]);
    let (header, _) = server.receive();
    let body = ErrorBody::of(Status::TooManyFailures);
    server.send(&encode_record(&header.reply(Status::TooManyFailures), &body).unwrap());
    let output = server.child.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(shown(&output).contains("status 5: Too many failed logins"), "{}", shown(&output));

    let mut server = start(&["0x0203"]);
    server.receive();
    server.send(&[1, 2]);
    let output = server.child.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(shown(&output).contains("version 1 only"), "{}", shown(&output));
}

/// The examples of the specification, read by the other implementation: framing, CBOR, and the login's proofs.
#[test]
fn it_reads_the_examples_of_the_specification() {
    let output = Process::new("python3")
        .arg("-B")
        .arg(script("check_examples.py"))
        .arg(spec_file::path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let count = spec_file::examples("v2").len();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{count} examples\n"));
}
