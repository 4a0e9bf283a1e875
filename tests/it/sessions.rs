//! Live sessions over the admin channel: listed, shown, ended, followed and traced while they run.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pipo_protocol::v2::events::{Happening, SessionEvent};
use pipo_protocol::v2::messages::*;
use pipo_protocol::v2::{Kind, Reply, Request, Role, Status, Text};

use crate::harness::admin_v2::{CREDIT, Client2, name, verifier};
use crate::harness::client::{CONNECT, Ending, PASSWORD, reply_to};
use crate::harness::origin::{ClosedPort, Origin, V4};
use crate::harness::{Client, Daemon, connect_through, eventually, exclusive};

fn daemon() -> Daemon {
    Daemon::with(&["--admin", "root:secret", "--user", "ann:pw", "--user", "ben:pw", "--auth", "optional"])
        .host(V4, "www.example.test")
        .start()
}

fn root(daemon: &Daemon) -> Client2 {
    Client2::log_in(daemon, b"root", b"secret")
}

fn all() -> SessionListRequest {
    SessionListRequest { credit: CREDIT, filter: None, sort: None, descending: None, limit: None }
}

fn list(admin: &mut Client2, request: SessionListRequest) -> Vec<SessionRow> {
    admin.rows::<SessionPart>(&Request::SessionList(request), 1).1
}

fn filtered(admin: &mut Client2, filter: SessionFilter) -> Vec<SessionRow> {
    list(admin, SessionListRequest { filter: Some(filter), ..all() })
}

fn kill(ids: Vec<u64>, filter: Option<SessionFilter>, dry_run: Option<bool>) -> Request {
    Request::SessionKill(SessionKill { ids, filter, dry_run })
}

fn killed(admin: &mut Client2, request: &Request) -> u64 {
    match admin.ask(request) {
        Ok(Reply::SessionKill(killed)) => killed.sessions_count,
        other => panic!("{other:?}"),
    }
}

fn session_of(daemon: &Daemon, user: &[u8], origin: &Origin) -> Client {
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.offer(&[PASSWORD]), PASSWORD);
    assert_eq!(client.log_in(user, b"pw"), 0);
    assert_eq!(client.request(CONNECT, &origin.address().into()).code, 0);
    client
}

// ---- list and show --------------------------------------------------------------------------------------

#[test]
fn sessions_are_listed_by_filter_order_and_limit() {
    let (daemon, origin) = (daemon(), Origin::echo(V4));
    let mut admin = root(&daemon);
    assert!(list(&mut admin, all()).is_empty());
    let mut ann = session_of(&daemon, b"ann", &origin);
    let mut ben = session_of(&daemon, b"ben", &origin);
    let mut third = connect_through(daemon.address(), ("www.example.test", origin.port()));
    ann.assert_echo(&[1; 500]);
    ben.assert_echo(&[2; 2000]);
    third.assert_echo(&[3; 10]);
    let rows = list(&mut admin, all());
    assert_eq!(rows.len(), 3);
    assert!(rows.is_sorted_by(|a, b| a.id < b.id));
    assert!(rows.iter().all(|row| row.stage == Stage::Relay && row.origin == Some(origin.address())));
    let row = rows.iter().find(|row| row.user == name(b"ben")).unwrap();
    assert_eq!((row.bytes_up, row.bytes_down), (2000, 2000));
    assert_eq!(row.destination, Some(Text::cut("127.0.0.1")));
    assert_eq!(row.destination_port, Some(origin.port()));

    let of = |filter| move |admin: &mut Client2| filtered(admin, filter);
    let user = |rows: Vec<SessionRow>| rows.iter().map(|row| row.user.clone()).collect::<Vec<_>>();
    let ann_only = of(SessionFilter { user: Some(name(b"ann")), ..SessionFilter::ALL });
    assert_eq!(user(ann_only(&mut admin)), [name(b"ann")]);
    let below = of(SessionFilter { destination: Some(Text::cut(".example.test")), ..SessionFilter::ALL });
    assert_eq!(user(below(&mut admin)), [name(b"anonymous")]);
    let much = of(SessionFilter { bytes_min: Some(1000), bytes_max: Some(3999), ..SessionFilter::ALL });
    assert_eq!(user(much(&mut admin)), [name(b"ann")]);
    let far = SessionFilter { source: Some("192.0.2.0".parse().unwrap()), ..SessionFilter::ALL };
    assert!(filtered(&mut admin, SessionFilter { source_prefix: Some(24), ..far }).is_empty());
    let near = SessionFilter { source: Some("127.9.9.9".parse().unwrap()), ..SessionFilter::ALL };
    assert_eq!(filtered(&mut admin, SessionFilter { source_prefix: Some(8), ..near }).len(), 3);
    assert!(
        filtered(&mut admin, SessionFilter { stage: Some(Stage::Resolve), ..SessionFilter::ALL }).is_empty()
    );
    assert!(
        filtered(&mut admin, SessionFilter { age_ms_min: Some(3_600_000), ..SessionFilter::ALL }).is_empty()
    );

    let most = SessionListRequest {
        sort: Some(SessionSort::Bytes),
        descending: Some(true),
        limit: Some(2),
        ..all()
    };
    assert_eq!(user(list(&mut admin, most)), [name(b"ben"), name(b"ann")]);
    let by_user = SessionListRequest { sort: Some(SessionSort::User), ..all() };
    assert_eq!(user(list(&mut admin, by_user)), [name(b"ann"), name(b"anonymous"), name(b"ben")]);
    let first = list(&mut admin, SessionListRequest { limit: Some(1), ..all() });
    assert_eq!(first.iter().map(|row| row.id).collect::<Vec<_>>(), [rows[0].id]);
    assert!(list(&mut admin, SessionListRequest { limit: Some(0), ..all() }).is_empty());
}

#[test]
fn what_a_list_cannot_be_asked_for_is_refused() {
    let daemon = daemon();
    let mut admin = root(&daemon);
    let wrong = [
        SessionListRequest { sort: Some(SessionSort::Unassigned(77)), ..all() },
        SessionListRequest {
            filter: Some(SessionFilter { source_prefix: Some(8), ..SessionFilter::ALL }),
            ..all()
        },
        SessionListRequest {
            filter: Some(SessionFilter { stage: Some(Stage::Unassigned(9)), ..SessionFilter::ALL }),
            ..all()
        },
    ];
    for request in wrong {
        let number = admin.send(&Request::SessionList(request.clone()), 3);
        assert_eq!(admin.answer_to(number).header.status, Status::Invalid, "{request:?}");
    }
}

#[test]
fn a_long_list_comes_in_parts_as_fast_as_it_is_taken() {
    let daemon = daemon();
    let mut admin = root(&daemon);
    let clients: Vec<_> = (0..700).map(|_| TcpStream::connect(daemon.address()).unwrap()).collect();
    eventually("all are in", || list(&mut admin, all()).len() == clients.len());
    let small = SessionListRequest { credit: 4096, ..all() };
    let rows = list(&mut admin, small);
    assert_eq!(rows.len(), 700);
    assert!(rows.is_sorted_by(|a, b| a.id < b.id), "each once, in order");
    let youngest = SessionListRequest { sort: Some(SessionSort::Id), descending: Some(true), ..all() };
    let down = list(&mut admin, SessionListRequest { limit: Some(300), ..youngest });
    let expected: Vec<_> = rows.iter().rev().take(300).map(|row| row.id).collect();
    assert_eq!(down.iter().map(|row| row.id).collect::<Vec<_>>(), expected);
    // Lists that nobody reads are given up with their association, and make room.
    for _ in 0..3 {
        let mut other = root(&daemon);
        let small = Request::SessionList(SessionListRequest { credit: 4096, ..all() });
        let requests: Vec<_> = (1..=16).map(|channel| other.send(&small, channel)).collect();
        other.next_where(|got| got.header.request == requests[15]);
    }
    eventually("there is room again", || {
        let number = admin.send(&Request::SessionList(all()), 2);
        loop {
            let got = admin.next_where(|got| got.header.request == number);
            if got.header.last {
                return got.header.status == Status::Ok;
            }
        }
    });
}

#[test]
fn one_session_is_shown_in_full_and_another_is_not_found() {
    let (daemon, origin) = (daemon(), Origin::echo(V4));
    let mut admin = root(&daemon);
    let mut client = connect_through(daemon.address(), ("www.example.test", origin.port()));
    client.assert_echo(b"12345");
    let id = list(&mut admin, all())[0].id;
    let show = |id| Request::SessionShow(SessionShow { id });
    let Ok(Reply::SessionShow(details)) = admin.ask(&show(id)) else { panic!() };
    assert_eq!(details.session.destination, Some(Text::cut("www.example.test")));
    assert_eq!((details.session.bytes_up, details.session.bytes_down), (5, 5));
    assert_eq!(details.listener, daemon.address());
    assert_eq!((details.command, details.reply), (Some(1), Some(0)));
    assert_eq!((details.attempts_count, details.mover.unwrap().as_str()), (1, "copy"));
    assert!(details.dns_us.is_some() && details.connect_us.is_some() && details.outgoing.is_some());
    assert!(!details.client_ended && !details.origin_ended);
    for nobody in [id + 1, 0, u64::MAX] {
        assert_eq!(admin.refusal(&show(nobody)), Status::NotFound);
    }
}

// ---- ending ---------------------------------------------------------------------------------------------

#[test]
fn sessions_are_ended_by_number_and_filter_and_counted_in_a_dry_run() {
    let (daemon, origin) = (daemon(), Origin::echo(V4));
    let mut admin = root(&daemon);
    let mut ann = session_of(&daemon, b"ann", &origin);
    let mut bens: Vec<_> = (0..3).map(|_| session_of(&daemon, b"ben", &origin)).collect();
    let of_ben = SessionFilter { user: Some(name(b"ben")), ..SessionFilter::ALL };
    let id = filtered(&mut admin, SessionFilter { user: Some(name(b"ann")), ..SessionFilter::ALL })[0].id;
    assert_eq!(admin.refusal(&kill(Vec::new(), None, None)), Status::Invalid);
    assert_eq!(killed(&mut admin, &kill(vec![id, 77], Some(of_ben.clone()), Some(true))), 4);
    ann.assert_echo(b"alive");
    assert_eq!(killed(&mut admin, &kill(Vec::new(), Some(of_ben), None)), 3);
    assert_eq!(list(&mut admin, all()).len(), 1, "they are over when the reply comes");
    bens.iter_mut().for_each(|ben| assert_eq!(ben.expect_end(), Ending::Reset));
    ann.assert_echo(b"still alive");
    assert_eq!(killed(&mut admin, &kill(vec![id], None, None)), 1);
    assert_eq!(ann.expect_end(), Ending::Reset);
    assert_eq!(killed(&mut admin, &kill(vec![id], None, None)), 0, "a session that is over is no error");
    let counted = MetricsRequest {
        credit: CREDIT,
        prefix: Some(Text::cut("sessions_killed")),
        per_worker: None,
        meanings: None,
    };
    let (_, rows) = admin.rows::<MetricPart>(&Request::Metrics(counted), 1);
    assert_eq!(rows[0].value, 4);
    eventually("the log says who", || {
        daemon.stderr().text().contains("user=root") && daemon.stderr().text().contains("session kill")
    });
}

#[test]
fn the_reply_to_a_removal_says_how_many_sessions_ended_and_comes_after_their_end() {
    let (daemon, origin) = (daemon(), Origin::echo(V4));
    let mut admin = root(&daemon);
    let mut sessions: Vec<_> = (0..5).map(|_| session_of(&daemon, b"ann", &origin)).collect();
    let mut other = session_of(&daemon, b"ben", &origin);
    let new = UserPassword { user: name(b"ann"), verifier: verifier(b"new") };
    let Ok(Reply::UserPassword(changed)) = admin.ask(&Request::UserPassword(new)) else { panic!() };
    assert_eq!(changed.sessions_closed_count, 5);
    assert_eq!(list(&mut admin, all()).len(), 1);
    sessions.iter_mut().for_each(|session| assert_eq!(session.expect_end(), Ending::Reset));
    let remove = Request::UserRemove(UserRemove { user: name(b"ben") });
    let Ok(Reply::UserRemove(changed)) = admin.ask(&remove) else { panic!() };
    assert_eq!(changed.sessions_closed_count, 1);
    assert_eq!(other.expect_end(), Ending::Reset);
}

/// A connection that moves bytes as fast as it can until it is ended.
fn busy(daemon: &Daemon, origin: &Origin) -> std::thread::JoinHandle<Instant> {
    let mut client = connect_through(daemon.address(), origin.address());
    client.send(b"go");
    std::thread::spawn(move || {
        client.read_to_end();
        Instant::now()
    })
}

fn torrent() -> Origin {
    Origin::serve(V4, |mut stream| {
        let block = vec![7; 256 * 1024];
        let mut go = [0; 2];
        if stream.read_exact(&mut go).is_ok() {
            while stream.write_all(&block).is_ok() {}
        }
    })
}

#[test]
fn under_full_load_a_kill_of_one_session_takes_less_than_a_tenth_of_a_second() {
    let _alone = exclusive();
    let (daemon, origin) = (daemon(), torrent());
    let mut admin = root(&daemon);
    let _busy: Vec<_> = (0..8).map(|_| busy(&daemon, &origin)).collect();
    let idle = Origin::echo(V4);
    let mut times = Vec::new();
    for _ in 0..11 {
        let mut client = session_of(&daemon, b"ann", &idle);
        let of_ann = SessionFilter { user: Some(name(b"ann")), ..SessionFilter::ALL };
        let asked = Instant::now();
        let number = admin.send(&kill(Vec::new(), Some(of_ann), None), 0);
        assert_eq!(client.expect_end(), Ending::Reset);
        let ended = asked.elapsed();
        assert_eq!(admin.answer_to(number).header.status, Status::Ok);
        times.push((ended, asked.elapsed()));
    }
    times.sort();
    println!("ended, answered: {times:?}");
    // Other work of this machine may delay some of them.
    assert!(times[times.len() / 2].0 < Duration::from_millis(100), "{times:?}");
    killed(&mut admin, &kill(Vec::new(), Some(SessionFilter::ALL), None));
}

#[test]
fn lists_of_thousands_of_sessions_hold_up_nobody() {
    let _alone = exclusive();
    let (daemon, origin) = (daemon(), Origin::echo(V4));
    let mut admin = root(&daemon);
    let mut probe = connect_through(daemon.address(), origin.address());
    let clients: Vec<_> = (0..4000).map(|_| TcpStream::connect(daemon.address()).unwrap()).collect();
    eventually("all are in", || match admin.ask(&Request::ServerInfo(Nothing {})) {
        Ok(Reply::ServerInfo(info)) => info.sessions_count == clients.len() as u64 + 1,
        other => panic!("{other:?}"),
    });
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&stop);
    let probing = std::thread::spawn(move || {
        let mut waits = Vec::new();
        while !seen.load(std::sync::atomic::Ordering::Relaxed) {
            let sent = Instant::now();
            probe.assert_echo(b"still served");
            waits.push(sent.elapsed());
        }
        waits.sort();
        waits
    });
    let began = Instant::now();
    for sort in [None, Some(SessionSort::Bytes), Some(SessionSort::Age)] {
        let rows = list(&mut admin, SessionListRequest { sort, ..all() });
        assert_eq!(rows.len(), clients.len() + 1, "{sort:?}");
    }
    let of_root = SessionFilter { user: Some(name(b"root")), ..SessionFilter::ALL };
    assert!(filtered(&mut admin, of_root.clone()).is_empty());
    assert_eq!(killed(&mut admin, &kill(Vec::new(), Some(of_root), None)), 0);
    let took = began.elapsed();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let waits = probing.join().unwrap();
    let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!(
        "lists took {took:?}; of {} round trips the median took {median:?}, the longest {longest:?}",
        waits.len()
    );
    assert!(median < Duration::from_millis(20), "{median:?}");
}

#[test]
fn while_the_daemon_ends_sessions_are_still_listed_and_ended() {
    let (mut daemon, origin) = (daemon(), Origin::echo(V4));
    let mut admin = root(&daemon);
    let mut session = session_of(&daemon, b"ann", &origin);
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(admin.notice().1.kind, NoticeKind::ShuttingDown);
    // Workers without a session have ended by now, or will while they are asked.
    for _ in 0..20 {
        assert_eq!(list(&mut admin, all()).len(), 1);
        let by_age = SessionListRequest { sort: Some(SessionSort::Age), ..all() };
        assert_eq!(list(&mut admin, by_age).len(), 1);
    }
    assert_eq!(killed(&mut admin, &kill(Vec::new(), Some(SessionFilter::ALL), None)), 1);
    assert_eq!(session.expect_end(), Ending::Reset);
    assert!(daemon.wait(crate::harness::LIMIT).success());
}

#[test]
fn under_full_load_a_kill_reaches_every_session_at_once() {
    let _alone = exclusive();
    let (daemon, origin) = (daemon(), torrent());
    let mut admin = root(&daemon);
    let busy: Vec<_> = (0..8).map(|_| busy(&daemon, &origin)).collect();
    eventually("all are relayed and busy", || {
        let busy = SessionFilter { bytes_min: Some(1 << 20), ..SessionFilter::ALL };
        filtered(&mut admin, busy).len() == 8
    });
    let asked = Instant::now();
    assert_eq!(killed(&mut admin, &kill(Vec::new(), Some(SessionFilter::ALL), None)), 8);
    let answered = asked.elapsed();
    let ended = busy.into_iter().map(|client| client.join().unwrap()).max().unwrap();
    println!("answered after {answered:?}, the last end seen after {:?}", ended - asked);
    // The clients' own threads and this machine's other work are in it.
    assert!(answered < Duration::from_millis(500), "{answered:?}");
    assert!(ended - asked < Duration::from_secs(1), "{:?}", ended - asked);
}

// ---- following ------------------------------------------------------------------------------------------

fn follow_sessions(admin: &mut Client2, from: Option<u64>, filter: Option<SessionFilter>, channel: u32) {
    let kinds = vec![EventKind::SessionOpened, EventKind::SessionConnected, EventKind::SessionClosed];
    admin.follow(&Request::Events(EventsFollow { credit: CREDIT, from, kinds, filter }), channel);
}

fn next_event(admin: &mut Client2, channel: u32) -> SessionEvent {
    match admin.happening(channel) {
        Happening::Session(event) => event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_happens_to_sessions_is_told_in_order() {
    let (daemon, origin) = (daemon(), Origin::echo(V4));
    let mut admin = root(&daemon);
    let closed = ClosedPort::new(V4, 0);
    follow_sessions(&mut admin, None, None, 5);
    let mut client = session_of(&daemon, b"ann", &origin);
    client.assert_echo(b"abc");
    let id = list(&mut admin, all())[0].id;
    client.half_close();
    client.expect_end();
    let opened = next_event(&mut admin, 5);
    assert_eq!((opened.kind, opened.session.id, opened.reply), (EventKind::SessionOpened, id, None));
    let connected = next_event(&mut admin, 5);
    assert_eq!((connected.kind, connected.session.user), (EventKind::SessionConnected, name(b"ann")));
    assert_eq!((connected.session.origin, connected.reply), (Some(origin.address()), Some(0)));
    let ended = next_event(&mut admin, 5);
    assert_eq!((ended.kind, ended.session.bytes_up), (EventKind::SessionClosed, 3));
    assert_eq!(ended.reason.unwrap().as_str(), "finished");
    assert_eq!(reply_to(daemon.address(), closed.address()).code, 5);
    assert_eq!(next_event(&mut admin, 5).kind, EventKind::SessionOpened);
    let refused = next_event(&mut admin, 5);
    assert_eq!((refused.kind, refused.reply), (EventKind::SessionClosed, Some(5)));
}

#[test]
fn a_list_and_the_events_after_it_miss_no_session() {
    let (daemon, origin) = (daemon(), Origin::echo(V4));
    let mut admin = root(&daemon);
    let before = connect_through(daemon.address(), origin.address());
    let (as_of, rows) = admin.rows::<SessionPart>(&Request::SessionList(all()), 1);
    assert_eq!(rows.len(), 1);
    // Opened and gone before anybody follows.
    let between = connect_through(daemon.address(), origin.address());
    drop(between);
    drop(before);
    eventually("they are gone", || list(&mut admin, all()).is_empty());
    follow_sessions(&mut admin, Some(as_of), None, 7);
    let events: Vec<_> = (0..4).map(|_| next_event(&mut admin, 7)).collect();
    let of_first: Vec<_> = events.iter().filter(|event| event.session.id == rows[0].id).collect();
    assert_eq!(of_first.len(), 1);
    assert_eq!(of_first[0].kind, EventKind::SessionClosed);
    let others: Vec<_> = events.iter().filter(|event| event.session.id != rows[0].id).collect();
    let kinds: Vec<_> = others.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::SessionOpened, EventKind::SessionConnected, EventKind::SessionClosed]);
}

#[test]
fn a_filter_keeps_the_events_of_others_away() {
    let (daemon, origin) = (daemon(), Origin::echo(V4));
    let mut admin = root(&daemon);
    let of_ann = SessionFilter { user: Some(name(b"ann")), ..SessionFilter::ALL };
    follow_sessions(&mut admin, None, Some(of_ann), 5);
    drop(session_of(&daemon, b"ben", &origin));
    drop(session_of(&daemon, b"ann", &origin));
    for kind in [EventKind::SessionConnected, EventKind::SessionClosed] {
        let event = next_event(&mut admin, 5);
        assert_eq!((event.kind, event.session.user), (kind, name(b"ann")));
    }
}

#[test]
fn a_trace_tells_each_step_and_ends_with_its_session() {
    let (daemon, origin) = (daemon(), Origin::echo(V4));
    let mut admin = root(&daemon);
    let trace = |id| Request::SessionTrace(SessionTrace { credit: CREDIT, id });
    let number = admin.send(&trace(77), 4);
    assert_eq!(admin.answer_to(number).header.status, Status::NotFound);
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.offer(&[0]), 0);
    let id = list(&mut admin, all())[0].id;
    admin.follow(&trace(id), 4);
    admin.follow(&trace(id), 5);
    assert_eq!(client.request(CONNECT, &("www.example.test", origin.port()).into()).code, 0);
    client.assert_echo(b"four");
    client.half_close();
    client.expect_end();
    for channel in [4, 5] {
        let mut steps = Vec::new();
        loop {
            match admin.happening(channel) {
                Happening::Step(step) => steps.push(step),
                Happening::End(_) => break,
                other => panic!("{other:?}"),
            }
        }
        let mut kinds: Vec<_> = steps.iter().map(|step| step.kind).collect();
        kinds.dedup();
        use TraceKind::*;
        for kind in
            [Stage, DnsQuestion, DnsAnswer, ConnectStart, ConnectEnd, Reply, Bytes, HalfClosed, Closed]
        {
            assert!(kinds.contains(&kind), "{kind:?} in {kinds:?}");
        }
        assert_eq!(steps.last().unwrap().kind, Closed);
        assert!(steps.is_sorted_by_key(|step| step.elapsed_us));
        let up: u64 = steps.iter().filter_map(|step| step.bytes_up).sum();
        let down: u64 = steps.iter().filter_map(|step| step.bytes_down).sum();
        assert_eq!((up, down), (4, 4));
        let started = steps.iter().find(|step| step.kind == ConnectStart).unwrap();
        assert_eq!(started.address, Some(origin.address()));
    }
}

#[test]
fn no_more_than_64_sessions_are_traced_and_a_trace_ends_with_its_association() {
    let daemon = daemon();
    let mut admin = root(&daemon);
    let clients: Vec<_> = (0..65).map(|_| TcpStream::connect(daemon.address()).unwrap()).collect();
    eventually("all are in", || list(&mut admin, all()).len() == clients.len());
    let ids: Vec<_> = list(&mut admin, all()).iter().map(|row| row.id).collect();
    let trace = |id| Request::SessionTrace(SessionTrace { credit: CREDIT, id });
    let mut others = Vec::new();
    for group in ids[..64].chunks(16) {
        let mut other = root(&daemon);
        (1..).zip(group).for_each(|(channel, id)| drop(other.follow(&trace(*id), channel)));
        others.push(other);
    }
    let number = admin.send(&trace(ids[64]), 9);
    assert_eq!(admin.answer_to(number).header.status, Status::Busy);
    admin.follow(&trace(ids[0]), 8); // One that is traced already.
    others.pop().unwrap().say_goodbye();
    eventually("there is room again", || {
        let number = admin.send(&trace(ids[64]), 9);
        admin.answer_to(number).header.status == Status::Ok
    });
}

#[test]
fn roles_bound_what_may_be_done_to_sessions() {
    let (daemon, origin) = (daemon(), Origin::echo(V4));
    let mut admin = root(&daemon);
    for (user, role) in
        [(&b"user"[..], Role::User), (b"observer", Role::Observer), (b"operator", Role::Operator)]
    {
        let doors = Some(pipo_protocol::v2::Doors::Both);
        let add = UserAdd { user: name(user), verifier: verifier(b"pw"), role, doors };
        admin.ask(&Request::UserAdd(add)).unwrap();
    }
    let _session = connect_through(daemon.address(), origin.address());
    let mut user = Client2::log_in(&daemon, b"user", b"pw");
    let number = user.send(&Request::SessionList(all()), 1);
    assert_eq!(user.answer_to(number).header.status, Status::NotAllowed);
    let mut observer = Client2::log_in(&daemon, b"observer", b"pw");
    assert_eq!(list(&mut observer, all()).len(), 1);
    assert_eq!(observer.refusal(&kill(Vec::new(), Some(SessionFilter::ALL), None)), Status::NotAllowed);
    let mut operator = Client2::log_in(&daemon, b"operator", b"pw");
    assert_eq!(killed(&mut operator, &kill(Vec::new(), Some(SessionFilter::ALL), None)), 1);
}

#[test]
fn events_cost_nobody_who_does_not_follow_them_a_record() {
    let (daemon, origin) = (daemon(), Origin::echo(V4));
    let mut admin = root(&daemon);
    follow_sessions(&mut admin, None, None, 5);
    let gone = admin.send(&Request::Unsubscribe(Unsubscribe { channel: 5 }), 0);
    admin.answer_to(gone);
    let last = admin.next_where(|got| got.header.channel == 5);
    assert!(last.header.last && last.header.kind == Kind::Event);
    connect_through(daemon.address(), origin.address()).assert_echo(b"quiet");
    assert!(admin.is_silent_for(Duration::from_millis(300)));
}
