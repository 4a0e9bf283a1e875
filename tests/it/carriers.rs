//! Relays that are on loan to a carrier: whatever happens to a session there, it is as if its worker had it.

use std::io::{Read, Write};
use std::time::Duration;

use pipo_protocol::v2::events::Happening;
use pipo_protocol::v2::messages::*;
use pipo_protocol::v2::{Reply, Request, Text};

use crate::harness::admin_v2::{CREDIT, Client2};
use crate::harness::bytes::assert_same;
use crate::harness::client::Ending;
use crate::harness::origin::{Origin, V4, arrival};
use crate::harness::{Client, Daemon, connect_through, eventually, pattern};

/// Enough for a session to be lent.
const MUCH: usize = 16 * 1024 * 1024;

fn daemon(arguments: &[&str]) -> Daemon {
    Daemon::start(&[&["--admin", "root:secret"], arguments].concat())
}

fn root(daemon: &Daemon) -> Client2 {
    Client2::log_in(daemon, b"root", b"secret")
}

/// The value of a metric over all threads.
fn metric(admin: &mut Client2, name: &str) -> u64 {
    let request =
        MetricsRequest { credit: CREDIT, prefix: Some(Text::cut(name)), per_worker: None, meanings: None };
    let (_, rows) = admin.rows::<MetricPart>(&Request::Metrics(request), 1);
    rows.iter().find(|row| row.name.as_str() == name).expect("a metric of that name").value
}

fn only_session(admin: &mut Client2) -> SessionRow {
    let request =
        SessionListRequest { credit: CREDIT, filter: None, sort: None, descending: None, limit: None };
    let mut rows = admin.rows::<SessionPart>(&Request::SessionList(request), 1).1;
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

fn shown(admin: &mut Client2, id: u64) -> SessionDetails {
    match admin.ask(&Request::SessionShow(SessionShow { id })) {
        Ok(Reply::SessionShow(details)) => details,
        other => panic!("{other:?}"),
    }
}

/// Echoes, and sends [`MUCH`] of the pattern of a seed when it gets that seed behind an `M`.
fn on_demand() -> Origin {
    Origin::serve(V4, |mut stream| {
        let mut message = [0; 2];
        while stream.read_exact(&mut message).is_ok() {
            let sent = match message {
                [b'M', seed] => stream.write_all(&pattern(seed.into(), MUCH)),
                other => stream.write_all(&other),
            };
            if sent.is_err() {
                return;
            }
        }
    })
}

/// Has a session lent: its origin is [`on_demand`].
fn have_it_lent(client: &mut Client, admin: &mut Client2, seed: u8) {
    let before = metric(admin, "sessions_lent");
    client.send(&[b'M', seed]);
    assert_same(&client.read(MUCH), &pattern(seed.into(), MUCH), "what was to be much");
    assert_eq!(metric(admin, "sessions_lent"), before + 1);
}

#[test]
fn a_session_is_lent_while_it_moves_much_and_comes_back_when_it_does_not() {
    let (daemon, origin) = (daemon(&[]), on_demand());
    let mut admin = root(&daemon);
    let mut client = connect_through(daemon.address(), origin.address());
    client.assert_echo(b"ab");
    assert_eq!(metric(&mut admin, "sessions_lent"), 0);
    for seed in 1..4 {
        have_it_lent(&mut client, &mut admin, seed);
        // Little moves it back, and later much has it lent again.
        (0..50).for_each(|_| client.assert_echo(b"cd"));
    }
    let row = only_session(&mut admin);
    let little = 2 + 3 * 50 * 2;
    assert_eq!((row.bytes_up, row.bytes_down), (little + 3 * 2, little + 3 * MUCH as u64));
    assert_eq!(metric(&mut admin, "bytes_down"), row.bytes_down, "whoever carried them has counted them");
    client.half_close();
    assert_eq!(client.expect_end(), Ending::Closed);
    eventually("it is over", || metric(&mut admin, "sessions_current") == 0);
}

#[test]
fn a_session_on_loan_is_shown_and_ended_like_any_other() {
    let (daemon, origin) = (daemon(&[]), on_demand());
    let mut admin = root(&daemon);
    let mut client = connect_through(daemon.address(), origin.address());
    have_it_lent(&mut client, &mut admin, 1);
    let row = only_session(&mut admin);
    assert_eq!((row.bytes_up, row.bytes_down, row.stage), (2, MUCH as u64, Stage::Relay));
    let details = shown(&mut admin, row.id);
    assert_eq!(details.session.bytes_down, MUCH as u64);
    assert!(details.outgoing.is_some() && details.mover.is_some());
    assert!(!details.client_ended && !details.origin_ended);
    let kill = Request::SessionKill(SessionKill { ids: vec![row.id], filter: None, dry_run: None });
    assert!(matches!(admin.ask(&kill), Ok(Reply::SessionKill(Killed { sessions_count: 1, .. }))));
    assert_eq!(client.expect_end(), Ending::Reset);
    assert_eq!(metric(&mut admin, "sessions_current"), 0);
    // The carrier has put everything away, and carries on.
    let mut next = connect_through(daemon.address(), origin.address());
    have_it_lent(&mut next, &mut admin, 2);
}

#[test]
fn sessions_that_are_ended_while_they_move_as_fast_as_they_can_leave_nothing_behind() {
    let daemon = daemon(&["--workers", "1"]);
    let origin = Origin::serve(V4, |mut stream| {
        let block = vec![7; 256 * 1024];
        while stream.write_all(&block).is_ok() {}
    });
    let mut admin = root(&daemon);
    let before = daemon.descriptors_count();
    for round in 0..20 {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let mut client = connect_through(daemon.address(), origin.address());
                std::thread::spawn(move || client.read_to_end().1)
            })
            .collect();
        eventually("all are lent", || metric(&mut admin, "sessions_lent") >= 4 * (round + 1));
        let all = SessionKill { ids: Vec::new(), filter: Some(SessionFilter::ALL), dry_run: None };
        assert!(matches!(
            admin.ask(&Request::SessionKill(all)),
            Ok(Reply::SessionKill(Killed { sessions_count: 4, .. }))
        ));
        clients.into_iter().for_each(|client| assert_eq!(client.join().unwrap(), Ending::Reset));
    }
    // Pipes that had bytes in them were closed, empty ones wait for the next.
    eventually("descriptors are closed", || daemon.descriptors_count() <= before + 2 * 12);
}

#[test]
fn a_session_that_falls_silent_on_loan_ends_after_its_time() {
    let (daemon, origin) = (daemon(&["--idle-timeout", "1s"]), on_demand());
    let mut admin = root(&daemon);
    let mut client = connect_through(daemon.address(), origin.address());
    have_it_lent(&mut client, &mut admin, 1);
    let silent_since = std::time::Instant::now();
    assert_eq!(client.expect_end(), Ending::Reset);
    let took = silent_since.elapsed();
    assert!(took > Duration::from_millis(800) && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(metric(&mut admin, "idle_timeout"), 1);
}

#[test]
fn each_direction_of_a_loan_ends_by_itself() {
    let daemon = daemon(&["--half-closed-timeout", "1s"]);
    let mut admin = root(&daemon);
    // Both ways much, and one end long before the other.
    let (source, receiver) = Origin::source(V4, 5, MUCH);
    let mut client = connect_through(daemon.address(), source.address());
    let (got, ending) = client.read_to_end();
    assert_same(&got, &pattern(5, MUCH), "what the origin sent");
    assert_eq!(ending, Ending::Closed);
    client.send(&pattern(6, MUCH));
    client.half_close();
    let (arrived, ending) = arrival(&receiver);
    assert_same(&arrived, &pattern(6, MUCH), "what came after the origin's end");
    assert_eq!(ending, Ending::Closed);
    // Half of it ends on loan, and then nothing more comes.
    let (source, _receiver) = Origin::source(V4, 7, MUCH);
    let mut client = connect_through(daemon.address(), source.address());
    assert_same(&client.read_to_end().0, &pattern(7, MUCH), "what the origin sent");
    eventually("the silence of half a session ends it", || metric(&mut admin, "half_closed_timeout") == 1);
    assert!(metric(&mut admin, "sessions_lent") >= 2);
}

#[test]
fn a_trace_goes_on_while_its_session_is_on_loan() {
    let (daemon, origin) = (daemon(&[]), on_demand());
    let mut admin = root(&daemon);
    let mut client = connect_through(daemon.address(), origin.address());
    client.assert_echo(b"ab");
    let id = only_session(&mut admin).id;
    let mut follower = root(&daemon);
    follower.follow(&Request::SessionTrace(SessionTrace { credit: CREDIT, id }), 1);
    have_it_lent(&mut client, &mut admin, 1);
    client.half_close();
    let mut down = 0;
    loop {
        let Happening::Step(step) = follower.happening(1) else { continue };
        down += step.bytes_down.unwrap_or(0);
        if step.kind == TraceKind::Closed {
            break;
        }
    }
    assert_eq!(down, MUCH as u64, "every byte since the trace began");
}
