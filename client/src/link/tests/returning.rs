//! A link that is meant to last: what happens to what waits when the association is lost.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipo_protocol::Name;
use pipo_protocol::v2::events::{Gap, Happening};
use pipo_protocol::v2::messages::{
    DrainReply, Nothing, OwnStatistics, ResolverState, ServerInfo, ServerState, UserRow,
};
use pipo_protocol::v2::{Command, Doors, Header, Reply, Request, Role, Word};

use super::server::{Act, Fake, credentials, reply};
use super::{event, event_record, events, subscribed, until};
use crate::exit::Exit;
use crate::link::{Link, News, RequestError};

pub(super) fn own(role: Role) -> Reply {
    let user = UserRow {
        user: Name::new("root").unwrap(),
        role,
        doors: Doors::Both,
        enabled: true,
        sessions_count: 0,
        sessions_total_count: 0,
        bytes_up: 0,
        bytes_down: 0,
        last_seen_unix_ms: None,
    };
    Reply::Statistics(OwnStatistics { as_of: 1, user })
}

fn info(header: &Header, started_unix_ms: u64) -> Vec<u8> {
    let info = ServerInfo {
        as_of: 1,
        version: Word::cut("fake"),
        started_unix_ms,
        uptime_ms: 1,
        process: 1,
        workers_count: 1,
        state: ServerState::Running,
        sessions_count: 0,
        users_registered_count: 1,
        users_connected_count: 0,
        socks_listeners: Vec::new(),
        admin_listeners: Vec::new(),
        admin_transport: Word::cut("udp"),
        resolver: ResolverState::Plain,
        revision: 1,
        pending: None,
    };
    reply(header, &Reply::ServerInfo(info))
}

/// Breaks off at the first time that `at` is asked, and answers the second time.
async fn breaking(at: Command) -> Fake {
    let mut broken = false;
    Fake::start(move |header, request| {
        if let Request::ServerInfo(_) = request {
            return Some(vec![Act::Send(info(header, 1000))]);
        }
        if request.command() == at && !broken {
            broken = true;
            return Some(vec![Act::Abort]);
        }
        match request {
            Request::Statistics(_) => Some(vec![Act::Send(reply(header, &own(Role::Admin)))]),
            Request::ServerDrain(_) => {
                let drained = DrainReply { as_of: 1, sessions_count: 0 };
                Some(vec![Act::Send(reply(header, &Reply::ServerDrain(drained)))])
            }
            _ => None,
        }
    })
    .await
}

#[tokio::test(flavor = "current_thread")]
async fn a_link_for_one_command_ends_with_its_association() {
    let server = breaking(Command::Statistics).await;
    let link = Link::connect(&server.target(), &credentials()).await.unwrap();
    let error = link.request(Request::Statistics(Nothing {})).await.unwrap_err();
    assert!(matches!(error, RequestError::Lost(_)), "{error}");
    assert_eq!(error.exit(), Exit::Lost);
    assert_eq!(link.request(Request::Statistics(Nothing {})).await.unwrap_err().exit(), Exit::Lost);
}

#[tokio::test(flavor = "current_thread")]
async fn a_query_is_repeated() {
    let server = breaking(Command::Statistics).await;
    let link = Link::connect_for_long(&server.target(), &credentials()).await.unwrap();
    assert_eq!(link.request(Request::Statistics(Nothing {})).await, Ok(own(Role::Admin)));
    assert!(matches!(link.news().await, News::Lost(_)));
    assert_eq!(link.news().await, News::Back);
    let asked = |command| server.commands().iter().filter(|asked| **asked == command).count();
    assert_eq!(asked(Command::Statistics), 2);
}

#[tokio::test(flavor = "current_thread")]
async fn a_change_is_never_repeated() {
    let server = breaking(Command::ServerDrain).await;
    let link = Link::connect_for_long(&server.target(), &credentials()).await.unwrap();
    let error = link.request(Request::ServerDrain(Nothing {})).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Lost);
    // The link is there again, and the change was sent once.
    assert_eq!(link.request(Request::Statistics(Nothing {})).await, Ok(own(Role::Admin)));
    let asked = server.commands();
    assert_eq!(asked.iter().filter(|asked| **asked == Command::ServerDrain).count(), 1);
    // Asked anew, it is a new change.
    assert!(link.request(Request::ServerDrain(Nothing {})).await.is_ok());
}

/// A server that started at that time: gives each follower one event, breaks off at `server undrain`.
async fn follow_server(port: u16, started: u64, sequence: u64, from: &Arc<Mutex<Vec<Option<u64>>>>) -> Fake {
    let from = Arc::clone(from);
    Fake::start_at(port, move |header, request| match request {
        Request::ServerInfo(_) => Some(vec![Act::Send(info(header, started))]),
        Request::Events(body) => {
            from.lock().unwrap().push(body.from);
            Some(vec![
                Act::Send(subscribed(header, body.from.unwrap_or(sequence - 1))),
                Act::Send(event_record(header, body.from.map_or(sequence, |from| from + 1))),
            ])
        }
        Request::ServerUndrain(_) => Some(vec![Act::Abort]),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "current_thread")]
async fn a_subscription_goes_on_after_its_last_event() {
    let from = Arc::default();
    let server = follow_server(0, 1000, 50, &from).await;
    let link = Link::connect_for_long(&server.target(), &credentials()).await.unwrap();
    let mut follow = link.follow(events()).await.unwrap();
    assert_eq!(follow.next().await, Ok(Some(event(50))));
    assert!(link.request(Request::ServerUndrain(Nothing {})).await.is_err());
    assert_eq!(follow.next().await, Ok(Some(event(51))));
    assert_eq!(*from.lock().unwrap(), [None, Some(50)]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_server_that_was_started_anew_leaves_a_gap() {
    let from = Arc::default();
    let server = follow_server(0, 1000, 50, &from).await;
    let link = Link::connect_for_long(&server.target(), &credentials()).await.unwrap();
    let mut follow = link.follow(events()).await.unwrap();
    assert_eq!(follow.next().await, Ok(Some(event(50))));
    let target_port = server.crash().await;
    assert!(matches!(link.news().await, News::Lost(_)));
    let anew = follow_server(target_port, 2000, 3, &from).await;
    let gap = follow.next().await.unwrap().unwrap();
    let expected = Happening::Gap(Gap { events_count: 0, first: 51, last: 51 });
    assert_eq!(gap.happening(), Some(expected));
    assert_eq!(follow.next().await, Ok(Some(event(3))));
    assert_eq!(*from.lock().unwrap(), [None, None]);
    drop(follow);
    until(|| anew.commands().contains(&Command::Unsubscribe)).await;
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_asked_meanwhile_waits_within_its_limit() {
    let server = breaking(Command::Statistics).await;
    let target = super::Target { reply_limit: Duration::from_millis(400), ..server.target() };
    let link = Link::connect_for_long(&target, &credentials()).await.unwrap();
    server.crash().await;
    assert!(matches!(link.news().await, News::Lost(_)));
    let error = link.request(Request::Statistics(Nothing {})).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Lost, "the limit is not the server's fault: {error}");
    link.goodbye().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_user_who_may_not_come_back_is_told() {
    let mut logins = 0;
    let server = Fake::start(move |header, request| match request {
        Request::LoginStart(_) => {
            logins += 1;
            (logins > 1).then(|| vec![Act::Send(super::refuse(header, super::Status::TooManyFailures))])
        }
        Request::ServerInfo(_) => Some(vec![Act::Send(info(header, 1000))]),
        Request::Statistics(_) => Some(vec![Act::Abort]),
        _ => None,
    })
    .await;
    let link = Link::connect_for_long(&server.target(), &credentials()).await.unwrap();
    let error = link.request(Request::Statistics(Nothing {})).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Lost);
    assert!(matches!(link.news().await, News::Lost(_)));
    assert!(matches!(link.news().await, News::GaveUp(_)));
}
