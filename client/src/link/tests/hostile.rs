//! Servers that break the protocol, answer nothing, or pose as another.

use std::time::{Duration, Instant};

use pipo_protocol::v2::messages::{Credit, ListRequest, LoginChallenge, LoginDone, Nothing, WorkerPart};
use pipo_protocol::v2::{Header, Key, Kind, Message, Reply, Request, Role, Status};

use super::server::{Act, Fake, credentials, hello, last_on_channel, on_channel, reply};
use super::{event_record, events, subscribed, worker, workers};
use crate::exit::Exit;
use crate::link::{ConnectError, Link, News, RequestError, Target};

async fn connect_error(server: &Fake) -> ConnectError {
    let target = Target { connect_limit: Duration::from_millis(1500), ..server.target() };
    Link::connect(&target, &credentials()).await.unwrap_err()
}

#[tokio::test(flavor = "current_thread")]
async fn an_impostor_is_recognised() {
    let server = Fake::start(|header, request| match request {
        Request::LoginProof(_) => {
            let done = LoginDone { as_of: 1, signature: Key::new([1; 32]), role: Role::Admin };
            Some(vec![Act::Send(reply(header, &Reply::LoginProof(done)))])
        }
        _ => None,
    })
    .await;
    let error = connect_error(&server).await;
    assert!(matches!(error, ConnectError::Impostor), "{error}");
    assert_eq!(error.exit(), Exit::LoginFailed);
}

#[tokio::test(flavor = "current_thread")]
async fn changed_limits_are_noticed_by_the_proof() {
    // The server's transcript has what it said; a peer in the middle said something else to the client.
    let server = Fake::start(|header, request| match request {
        Request::Hello(_) => {
            let mut changed = hello();
            changed.limits.credit_bytes_max = 5000;
            Some(vec![Act::Send(reply(header, &Reply::Hello(changed)))])
        }
        _ => None,
    })
    .await;
    let error = connect_error(&server).await;
    assert!(matches!(error, ConnectError::LoginFailed(_)), "{error}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_challenge_that_costs_too_little_or_too_much_is_not_answered() {
    for iterations in [1, 4095, 1_000_001, u32::MAX] {
        let server = Fake::start(move |header, request| match request {
            Request::LoginStart(start) => {
                let nonce = [start.nonce.as_bytes(), &[3; 16]].concat();
                let challenge = LoginChallenge {
                    nonce: pipo_protocol::v2::Octets::new(nonce).unwrap(),
                    salt: pipo_protocol::v2::Octets::new([4; 16]).unwrap(),
                    iterations,
                };
                Some(vec![Act::Send(reply(header, &Reply::LoginStart(challenge)))])
            }
            Request::LoginProof(_) => panic!("the proof was made"),
            _ => None,
        })
        .await;
        let started = Instant::now();
        let error = connect_error(&server).await;
        assert!(matches!(error, ConnectError::Protocol(_)), "{error}");
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn garbage_for_a_greeting_ends_the_attempt() {
    let of_another = Header { kind: Kind::Reply, ..Header::request(1, 77) };
    let table = [
        vec![0xff; 100],
        vec![2, 2, 0xff, 0xff],
        vec![2, 2, 0, 3],
        vec![2],
        last_on_channel(&of_another, Kind::Reply, Status::Ok, &[0xa0]),
        last_on_channel(&of_another, Kind::Request, Status::Ok, &[0xa0]),
        last_on_channel(&Header::request(1, 1), Kind::Reply, Status::Ok, &[0xff]),
    ];
    for greeting in table {
        let answer = greeting.clone();
        let server = Fake::raw(move |_| vec![Act::Send(answer.clone())]).await;
        let error = connect_error(&server).await;
        // One octet of a record may be followed by the rest.
        let expected = if greeting.len() == 1 {
            matches!(error, ConnectError::TimedOut { .. })
        } else {
            matches!(error, ConnectError::Protocol(_))
        };
        assert!(expected, "{greeting:02x?}: {error}");
        assert_eq!(error.exit(), Exit::NoConnection);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_server_that_says_nothing_or_goes_is_not_waited_for() {
    let silent = Fake::raw(|_| Vec::new()).await;
    let started = Instant::now();
    assert!(matches!(connect_error(&silent).await, ConnectError::TimedOut { .. }));
    assert!(started.elapsed() < Duration::from_secs(3));
    let closing = Fake::raw(|_| vec![Act::Close]).await;
    assert!(matches!(connect_error(&closing).await, ConnectError::Closed(_)));
    let aborting = Fake::raw(|_| vec![Act::Abort]).await;
    assert!(matches!(connect_error(&aborting).await, ConnectError::Closed(_)));
}

#[tokio::test(flavor = "current_thread")]
async fn no_answer_takes_no_longer_than_the_limit() {
    let server = Fake::start(|_, _| None).await;
    let target = Target { reply_limit: Duration::from_millis(100), ..server.target() };
    let link = Link::connect(&target, &credentials()).await.unwrap();
    let limit = Err(RequestError::TimedOut(Duration::from_millis(100)));
    assert_eq!(link.request(Request::ServerInfo(Nothing {})).await, limit.clone());
    assert_eq!(link.follow(events()).await.map(drop), limit.clone().map(drop));
    assert_eq!(link.parts(workers()).await.unwrap().next().await, limit.map(|_: Reply| None));
}

#[tokio::test(flavor = "current_thread")]
async fn whatever_breaks_the_protocol_ends_the_link() {
    type Answer = fn(&Header) -> Vec<Vec<u8>>;
    let table: &[(&str, Answer)] = &[
        ("garbage", |_| vec![vec![0xfe; 64]]),
        ("a huge length", |_| vec![vec![2, 2, 0xff, 0xff, 0]]),
        ("a reply that was not asked", |header| {
            vec![reply(&Header { request: 999, ..*header }, &Reply::Goodbye(Nothing {}))]
        }),
        ("another command", |header| {
            vec![reply(&Header { command: 4, ..*header }, &Reply::Goodbye(Nothing {}))]
        }),
        ("no CBOR", |header| vec![last_on_channel(header, Kind::Reply, Status::Ok, &[0x1f])]),
        ("a request", |header| vec![last_on_channel(header, Kind::Request, Status::Ok, &[0xa0])]),
        ("a channel that is not open", |header| {
            vec![last_on_channel(&Header { channel: 9, ..*header }, Kind::Reply, Status::Ok, &[0xa0])]
        }),
        ("an event on it", |header| {
            vec![on_channel(&Header { channel: 9, ..*header }, Kind::Event, Status::Ok, &[0xa0])]
        }),
    ];
    for (what, answer) in table {
        let server = Fake::start(move |header, request| match request {
            Request::ServerInfo(_) => Some(answer(header).into_iter().map(Act::Send).collect()),
            _ => None,
        })
        .await;
        let link = Link::connect(&server.target(), &credentials()).await.unwrap();
        let error = link.request(Request::ServerInfo(Nothing {})).await.unwrap_err();
        assert!(matches!(error, RequestError::Protocol(_)), "{what}: {error}");
        assert_eq!(error.exit(), Exit::Lost);
        assert_eq!(link.request(Request::ServerInfo(Nothing {})).await.unwrap_err().exit(), Exit::Lost);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn more_events_than_were_granted_end_the_link() {
    let server = Fake::start(|header, request| match request {
        Request::Events(body) => {
            let one = event_record(header, 11).len();
            let mut acts = vec![Act::Send(subscribed(header, 10))];
            let too_many = body.credit as usize / one + 1;
            acts.extend((0..too_many).map(|_| Act::Send(event_record(header, 11))));
            Some(acts)
        }
        _ => None,
    })
    .await;
    let link = Link::connect(&server.target(), &credentials()).await.unwrap();
    let mut follow = link.follow(events()).await.unwrap();
    // Nothing is displayed, so nothing is granted again.
    let News::Lost(reason) = link.news().await else { panic!() };
    assert!(reason.contains("more than was granted"), "{reason}");
    let error = loop {
        match follow.next().await {
            Ok(event) => assert!(event.is_some()),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("more than was granted"), "{error}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_list_without_end_is_left() {
    let (mut asked, mut left) = (None, 0);
    let server = Fake::start(move |header, request| match request {
        Request::ServerWorkers(ListRequest { credit: granted })
        | Request::Credit(Credit { bytes: granted, .. }) => {
            left += *granted as usize;
            let asked = *asked.get_or_insert(*header);
            let part = WorkerPart { as_of: 1, rows: vec![worker(1); 100] };
            let record = on_channel(&asked, Kind::Reply, Status::Ok, &part.encode());
            // As much as was granted, again and again.
            let count = left / record.len();
            left -= count * record.len();
            Some((0..count).map(|_| Act::Send(record.clone())).collect())
        }
        _ => None,
    })
    .await;
    let link = Link::connect(&server.target(), &credentials()).await.unwrap();
    let mut parts = link.parts(workers()).await.unwrap();
    let error = loop {
        match parts.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("without end"), "{error}");
}

#[tokio::test(flavor = "current_thread")]
async fn too_many_requests_at_once_are_refused_here() {
    let server = Fake::start(|_, _| None).await;
    let target = Target { reply_limit: Duration::from_millis(300), ..server.target() };
    let link = Link::connect(&target, &credentials()).await.unwrap();
    let mut lists = Vec::new();
    for _ in 0..super::super::limits::ASKS_MAX {
        lists.push(link.parts(workers()).await.unwrap());
    }
    let error = link.request(Request::ServerInfo(Nothing {})).await.unwrap_err();
    assert!(matches!(error, RequestError::Refused { status: Status::Busy, .. }), "{error}");
    drop(lists);
    let error = link.request(Request::ServerInfo(Nothing {})).await.unwrap_err();
    assert!(matches!(error, RequestError::TimedOut(_)), "{error}");
}
