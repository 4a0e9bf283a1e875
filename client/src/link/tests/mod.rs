//! The link against a server in this process, well behaved and not.

#![expect(clippy::wildcard_enum_match_arm, reason = "each server here answers a few requests only")]

mod hostile;
mod returning;
mod server;

use std::time::Duration;

use pipo_protocol::v1;
use pipo_protocol::v2::events::{Event, Happening};
use pipo_protocol::v2::messages::{
    DrainReply, EventsFollow, ListRequest, Nothing, Notice, NoticeKind, Subscribed, WorkerPart, WorkerRow,
};
use pipo_protocol::v2::parts::Parts as Cutter;
use pipo_protocol::v2::{Command, Header, Kind, Message, Reply, Request, Role, Status, encode_raw};
use pipo_protocol::{Password, Version};

use super::{ConnectError, Credentials, Link, News, RequestError, Target, Transport};
use crate::exit::Exit;
use server::{Act, Fake, credentials, last_on_channel, on_channel, refuse, reply};

pub(super) use server::target;

/// Waits until it is so, no longer than 5 s.
async fn until(mut is_so: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(5);
    while !is_so() {
        assert!(tokio::time::Instant::now() < end, "it was not so within 5 s");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn events() -> Request {
    Request::Events(EventsFollow { credit: 0, from: None, kinds: Vec::new(), filter: None })
}

fn workers() -> Request {
    Request::ServerWorkers(ListRequest { credit: 0 })
}

/// A harmless event with that number.
fn event(sequence: u64) -> Event {
    let notice = Notice { kind: NoticeKind::Draining, sentence: None, left_ms: None, revision: None };
    Event::new(sequence, 0, Happening::Notice(notice))
}

fn event_record(request: &Header, sequence: u64) -> Vec<u8> {
    on_channel(request, Kind::Event, Status::Ok, &event(sequence).encode())
}

fn subscribed(request: &Header, as_of: u64) -> Vec<u8> {
    reply(&Header { channel: 0, ..*request }, &Reply::Events(Subscribed { as_of }))
}

fn worker(number: u16) -> WorkerRow {
    WorkerRow {
        worker: number,
        sessions_count: 1,
        sessions_total_count: 2,
        bytes_up: 3,
        bytes_down: 4,
        lookups_count: 5,
        cache_entries_count: 6,
        inbox_count: 7,
        turn_us_max: None,
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_user_logs_in_asks_and_leaves() {
    let server = Fake::start(|header, request| match request {
        Request::ServerDrain(_) => Some(vec![Act::Send(reply(
            header,
            &Reply::ServerDrain(DrainReply { as_of: 5, sessions_count: 3 }),
        ))]),
        Request::ServerUndrain(_) => Some(vec![Act::Send(refuse(header, Status::NotAllowed))]),
        _ => None,
    })
    .await;
    let link = Link::connect(&server.target(), &credentials()).await.unwrap();
    assert_eq!(link.role(), Role::Admin);
    let said = link.server();
    assert_eq!((said.version, said.transport, said.iterations), (Version::V2, Transport::Udp, 4096));
    assert_eq!(said.software.as_str(), "fake 1.0");
    let drained = link.request(Request::ServerDrain(Nothing {})).await;
    assert_eq!(drained, Ok(Reply::ServerDrain(DrainReply { as_of: 5, sessions_count: 3 })));
    let refused = link.request(Request::ServerUndrain(Nothing {})).await.unwrap_err();
    assert_eq!(refused.exit(), Exit::NotAllowed);
    link.goodbye().await;
    assert_eq!(server.commands(), [Command::ServerDrain, Command::ServerUndrain, Command::Goodbye]);
    let late = link.request(Request::ServerDrain(Nothing {})).await.unwrap_err();
    assert_eq!(late.exit(), Exit::Lost);
}

#[tokio::test(flavor = "current_thread")]
async fn a_wrong_password_is_told_from_everything_else() {
    let server = Fake::start(|_, _| None).await;
    let wrong = Credentials { password: Password::new("wrong").unwrap(), ..credentials() };
    let error = Link::connect(&server.target(), &wrong).await.unwrap_err();
    assert!(matches!(error, ConnectError::LoginFailed(_)), "{error}");
    assert_eq!(error.exit(), Exit::LoginFailed);
}

#[tokio::test(flavor = "current_thread")]
async fn a_server_of_version_1_is_recognised_and_never_sent_the_password() {
    let server = Fake::raw(|message| {
        assert_eq!(message[0], 2, "a record, no login of version 1");
        vec![Act::Send(v1::LoginStatus::UnsupportedVersion.encode().to_vec()), Act::Close]
    })
    .await;
    let error = Link::connect(&server.target(), &credentials()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Version(2)), "{error}");
    assert!(error.to_string().contains("--protocol 1"));
}

#[tokio::test(flavor = "current_thread")]
async fn version_1_is_spoken_when_it_is_asked_for() {
    let server = Fake::raw(|message| match message {
        b"\x01\x04root\x06secret" => vec![Act::Send(vec![1, 0])],
        b"\x00\x07" => vec![Act::Send(vec![0]), Act::Send(vec![7, 2])],
        other => panic!("{other:02x?}"),
    })
    .await;
    let target = Target { version: Version::V1, ..server.target() };
    let link = Link::connect(&target, &credentials()).await.unwrap();
    assert_eq!(link.server().version, Version::V1);
    let asked = v1::Request::Query(v1::Query::Number(v1::NumberQuery::RegisteredUsers));
    let number = v1::Reply::Number { query: v1::NumberQuery::RegisteredUsers, value: 2 };
    assert_eq!(link.ask_v1(asked).await, Ok(number));
    let cannot = link.request(Request::ServerInfo(Nothing {})).await.unwrap_err();
    assert_eq!(cannot, RequestError::Version(1));
    link.goodbye().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_refused_login_of_version_1_is_a_failed_login() {
    for (status, exit) in [(1, Exit::LoginFailed), (2, Exit::NoConnection)] {
        let server = Fake::raw(move |_| vec![Act::Send(vec![1, status]), Act::Close]).await;
        let target = Target { version: Version::V1, ..server.target() };
        assert_eq!(Link::connect(&target, &credentials()).await.unwrap_err().exit(), exit);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_list_comes_in_parts_and_credit_goes_back_as_they_are_displayed() {
    const ROWS: u16 = 4000;
    let mut waiting: Vec<Vec<u8>> = Vec::new();
    let mut left = 0;
    let server = Fake::start(move |header, request| {
        match request {
            Request::ServerWorkers(body) => {
                left = body.credit as usize;
                let mut cutter = Cutter::<WorkerPart>::new(header, 9);
                let full = (0..ROWS).filter_map(|number| cutter.push(&worker(number)).unwrap());
                waiting = full.collect();
                waiting.push(cutter.finish().unwrap());
                waiting.reverse();
            }
            Request::Credit(body) => left += body.bytes as usize,
            _ => return None,
        }
        let mut acts = Vec::new();
        while waiting.last().is_some_and(|record| record.len() <= left) {
            let record = waiting.pop().unwrap();
            left -= record.len();
            acts.push(Act::Send(record));
        }
        Some(acts)
    })
    .await;
    let link = Link::connect(&server.target(), &credentials()).await.unwrap();
    let mut parts = link.parts(workers()).await.unwrap();
    let first = parts.next().await.unwrap();
    assert!(first.is_some());
    // Nothing more is displayed, so nothing goes back.
    assert_eq!(link.request(Request::ServerDrain(Nothing {})).await.unwrap_err().exit(), Exit::TimeLimit);
    assert!(!server.commands().contains(&Command::Credit));
    let mut rows = Vec::new();
    let mut next = first;
    while let Some(part) = next {
        let Reply::ServerWorkers(part) = part else { panic!("{part:?}") };
        assert_eq!(part.as_of, 9);
        rows.extend(part.rows.into_iter().map(|row| row.worker));
        next = parts.next().await.unwrap();
    }
    assert_eq!(rows, (0..ROWS).collect::<Vec<_>>());
    assert!(server.commands().contains(&Command::Credit));
    assert_eq!(parts.next().await, Ok(None));
}

#[tokio::test(flavor = "current_thread")]
async fn events_may_come_before_the_reply_and_the_end_is_told() {
    let server = Fake::start(|header, request| match request {
        Request::Events(_) => {
            let end = event(12).encode();
            Some(vec![
                Act::Send(event_record(header, 11)),
                Act::Send(subscribed(header, 10)),
                Act::Send(last_on_channel(header, Kind::Event, Status::NotAllowed, &end)),
            ])
        }
        _ => None,
    })
    .await;
    let link = Link::connect(&server.target(), &credentials()).await.unwrap();
    let mut follow = link.follow(events()).await.unwrap();
    assert_eq!(follow.next().await, Ok(Some(event(11))));
    assert_eq!(follow.next().await.unwrap_err().exit(), Exit::NotAllowed);
    assert_eq!(follow.next().await, Ok(None));
}

#[tokio::test(flavor = "current_thread")]
async fn what_nobody_waits_for_is_cancelled() {
    let server = Fake::start(|header, request| match request {
        Request::Events(_) => Some(vec![Act::Send(subscribed(header, 10))]),
        _ => None,
    })
    .await;
    let link = Link::connect(&server.target(), &credentials()).await.unwrap();
    drop(link.follow(events()).await.unwrap());
    drop(link.parts(workers()).await.unwrap());
    let short = Duration::from_millis(50);
    assert!(tokio::time::timeout(short, link.request(Request::ServerDrain(Nothing {}))).await.is_err());
    until(|| server.commands().len() == 6).await;
    let expected = [
        Command::Events,
        Command::Unsubscribe,
        Command::ServerWorkers,
        Command::Cancel,
        Command::ServerDrain,
        Command::Cancel,
    ];
    assert_eq!(server.commands(), expected);
    let seen = server.seen.lock().unwrap();
    let (drain, _) = seen.iter().find(|(_, request)| request.command() == Command::ServerDrain).unwrap();
    let Some((_, Request::Cancel(cancel))) = seen.last() else { panic!() };
    assert_eq!(cancel.request, drain.request);
}

#[tokio::test(flavor = "current_thread")]
async fn notices_and_a_new_role_reach_the_user() {
    let server = Fake::start(|header, request| match request {
        Request::ServerDrain(_) => {
            let notice =
                Notice { kind: NoticeKind::RoleChanged, sentence: None, left_ms: None, revision: None };
            let event = Event::new(20, 0, Happening::Notice(notice));
            let notice = Header { kind: Kind::Event, command: 0, request: 0, ..*header };
            Some(vec![
                Act::Send(encode_raw(&notice, &event.encode()).unwrap()),
                Act::Send(reply(header, &Reply::ServerDrain(DrainReply { as_of: 20, sessions_count: 0 }))),
            ])
        }
        Request::Statistics(_) => Some(vec![Act::Send(reply(header, &returning::own(Role::Observer)))]),
        _ => None,
    })
    .await;
    let link = Link::connect(&server.target(), &credentials()).await.unwrap();
    link.request(Request::ServerDrain(Nothing {})).await.unwrap();
    let News::Notice(event) = link.news().await else { panic!() };
    assert_eq!(event.notice.unwrap().kind, NoticeKind::RoleChanged);
    until(|| link.role() == Role::Observer).await;
}
