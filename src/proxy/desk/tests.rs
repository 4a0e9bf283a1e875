//! Questions to real workers, with real sessions between clients and origins of the test.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};

use super::super::accept::{self, Addresses, Admission};
use super::super::inbox::{Message, Snapshot};
use super::super::live::*;
use super::super::plane::{Ended, Parts, Plane};
use super::super::policy::Policy;
use super::super::session::{Authentication, Rules, Stage};
use super::*;
use crate::logging::AccessWriter;
use crate::metrics::Metrics;
use crate::resolver::{self, Hosts};
use crate::settings::{AccessLog, Settings};
use crate::store::{Doors, NewPassword, NewUser, Role, Secret, Store, StoreOptions, UserName};
use crate::sys::socket::TcpOptions;

/// Nothing on loopback takes that long.
const LIMIT: Duration = Duration::from_secs(20);

const WORKERS: u16 = 2;

/// Workers, an origin that keeps its connections, and the control loop's end of the door.
struct Bench {
    plane: Plane,
    metrics: Metrics,
    store: Arc<Store>,
    poll: Poll,
    origin: TcpListener,
    /// Both ends of sessions, so that they stay.
    ends: Vec<(TcpStream, TcpStream)>,
    last_question: u64,
    told: Vec<(WorkerId, Told)>,
    _access: AccessWriter,
}

impl Bench {
    fn new() -> Self {
        let settings = Arc::new(Settings { workers: usize::from(WORKERS), ..Settings::default() });
        let store = Store::start(Vec::new(), StoreOptions::default()).unwrap();
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let metrics = Metrics::new(usize::from(WORKERS));
        let access = AccessWriter::new(AccessLog::Off).unwrap();
        let rules = Rules {
            auth: Authentication::Optional,
            connect_timeout: LIMIT,
            idle_timeout: Some(Duration::from_secs(300)),
            half_closed_timeout: Duration::from_secs(60),
        };
        let snapshot = Arc::new(Snapshot {
            rules,
            policy: Policy::default(),
            resolver: resolver::Config::from_settings(&settings, &[]),
            tcp: TcpOptions::default(),
            settings,
        });
        let plane = Plane::start(Parts {
            listeners: accept::listen(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0, Addresses::Named).unwrap(),
            admission: Admission::new(10_000, None),
            store: Arc::clone(&store),
            resolver: resolver::Shared::new(Hosts::default()),
            snapshot,
            metrics: &metrics,
            access: &access,
            start: 1,
            waker,
        });
        Self {
            plane: plane.unwrap(),
            metrics,
            store,
            poll,
            origin: TcpListener::bind("127.0.0.1:0").unwrap(),
            ends: Vec::new(),
            last_question: 0,
            told: Vec::new(),
            _access: access,
        }
    }

    fn address(&self) -> SocketAddr {
        self.plane.listeners()[0].address
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address()).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client
    }

    /// A session to the origin, by its address or as `localhost`.
    fn session(&mut self, login: Option<&str>, by_name: &[u8]) {
        let mut client = self.connect();
        let method = u8::from(login.is_some()) * 2;
        client.write_all(&[5, 1, method]).unwrap();
        expect(&mut client, &[5, method]);
        if let Some(name) = login {
            let name = name.as_bytes();
            let length = [u8::try_from(name.len()).unwrap()];
            client.write_all(&[&[1], &length[..], name, &length[..], name].concat()).unwrap();
            expect(&mut client, &[1, 0]);
        }
        let port = self.origin.local_addr().unwrap().port().to_be_bytes();
        let length = [u8::try_from(by_name.len()).unwrap()];
        let request = if by_name.is_empty() {
            [&[5, 1, 0, 1, 127, 0, 0, 1], &port[..]].concat()
        } else {
            [&[5, 1, 0, 3], &length[..], by_name, &port[..]].concat()
        };
        client.write_all(&request).unwrap();
        let mut reply = [0; 10];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(reply[1], 0);
        let (origin, _) = self.origin.accept().unwrap();
        origin.set_read_timeout(Some(LIMIT)).unwrap();
        self.ends.push((client, origin));
    }

    fn hear(&mut self) {
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
        self.plane.take_told(|worker, told| self.told.push((worker, told)));
    }

    /// Takes what was told once it is enough.
    fn until<T>(&mut self, what: &str, mut enough: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(found) = enough(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", self.told);
            self.hear();
        }
    }

    fn ask(&mut self, question: &Question) -> QuestionId {
        self.last_question += 1;
        let id = QuestionId(self.last_question);
        assert_eq!(self.plane.ask_all(id, question), (usize::from(WORKERS), Ok(())));
        id
    }

    fn answers(&self, wanted: QuestionId) -> Vec<&Answer> {
        let answer = |told: &'_ (WorkerId, Told)| matches!(&told.1, Told::Answer(id, _) if *id == wanted);
        let told = self.told.iter().filter(|told| answer(told));
        told.filter_map(|(_, told)| if let Told::Answer(_, answer) = told { Some(answer) } else { None })
            .collect()
    }

    /// Asks every worker and gives the sum of what they counted.
    fn count(&mut self, question: &Question) -> u64 {
        let id = self.ask(question);
        self.until("answers", |bench| {
            let answers = bench.answers(id);
            let count = |answer: &&Answer| match answer {
                Answer::Count(count) => *count,
                Answer::Done => 0,
                Answer::Sessions(_) | Answer::Session(_) | Answer::Cache(_) | Answer::Busy => {
                    panic!("{answer:?}")
                }
            };
            (answers.len() == usize::from(WORKERS)).then(|| answers.iter().map(count).sum())
        })
    }

    /// Every session that matches, page by page, worker by worker.
    fn list(&mut self, filter: &Filter) -> Vec<Row> {
        let mut rows = Vec::new();
        for worker in (0..WORKERS).map(WorkerId) {
            self.last_question += 1;
            let id = QuestionId(self.last_question);
            self.plane.ask(worker, id, Question::Sessions(Arc::new(filter.clone()))).unwrap();
            for pages in 1.. {
                let page = self.until("a page", |bench| {
                    let page = bench.answers(id).get(pages - 1).copied().cloned();
                    page.map(|answer| match answer {
                        Answer::Sessions(page) => page,
                        Answer::Session(_)
                        | Answer::Cache(_)
                        | Answer::Count(_)
                        | Answer::Done
                        | Answer::Busy => panic!("{answer:?}"),
                    })
                });
                assert!(page.rows.len() <= limits::DESK_PAGE_ROWS);
                rows.extend(page.rows);
                if page.rest == Rest::Nothing {
                    break;
                }
                self.plane.tell_one(worker, Message::More(id));
            }
        }
        rows
    }

    /// The session of a client, once it is in.
    fn row_of(&mut self, client: SocketAddr) -> Row {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(row) = self.list(&Filter::default()).into_iter().find(|row| row.client == client) {
                return row;
            }
            assert!(Instant::now() < deadline, "it does not come in");
        }
    }

    fn news(&self) -> Vec<&News> {
        let news = |told: &'_ (WorkerId, Told)| matches!(told.1, Told::News(_));
        let told = self.told.iter().filter(|told| news(told));
        told.filter_map(|(_, told)| if let Told::News(news) = told { Some(&**news) } else { None }).collect()
    }

    fn steps(&self) -> Vec<&TraceStep> {
        self.told
            .iter()
            .filter_map(|(_, told)| if let Told::Step(step) = told { Some(&**step) } else { None })
            .collect()
    }

    fn add_user(&self, name: &str) {
        let (sender, receiver) = channel();
        let user = NewUser {
            name: UserName::new(name.as_bytes()).unwrap(),
            password: NewPassword::Clear(Secret::new(name.as_bytes())),
            role: Role::User,
            doors: Doors::PROXY,
        };
        self.store.add_user(user, move |result| sender.send(result.map(drop)).unwrap());
        receiver.recv_timeout(LIMIT).unwrap().unwrap();
    }

    fn remove_user(&self, name: &str) -> Arc<crate::store::UserLive> {
        let (sender, receiver) = channel();
        let name = UserName::new(name.as_bytes()).unwrap();
        self.store.remove_user(name, move |result| sender.send(result).unwrap());
        Arc::clone(receiver.recv_timeout(LIMIT).unwrap().unwrap().live())
    }

    fn end(self) {
        self.plane.tell(|| Message::Stop);
        assert_eq!(self.plane.join(), Ended::Orderly);
    }
}

fn expect(client: &mut TcpStream, expected: &[u8]) {
    let mut found = vec![0; expected.len()];
    client.read_exact(&mut found).unwrap();
    assert_eq!(found, expected);
}

/// Whether the proxy has ended the connection.
fn is_over(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 1]), Ok(1..))
}

fn all() -> Question {
    Question::Kill(Arc::new(Selection { ids: Vec::new(), filter: Some(Filter::default()) }), Run::Real)
}

#[test]
fn a_list_has_every_session_in_the_order_of_ids_over_many_pages() {
    let mut bench = Bench::new();
    let count = 3 * limits::DESK_SLOTS_PER_TURN;
    let clients: Vec<_> = (0..count).map(|_| bench.connect()).collect();
    bench.session(None, b"");
    bench.until("all are in", |bench| {
        (bench.metrics.gauge(crate::metrics::Gauge::SessionsCurrent) == count as u64 + 1).then_some(())
    });
    let rows = bench.list(&Filter::default());
    assert_eq!(rows.len(), count + 1);
    assert!(rows.is_sorted_by(|a, b| a.id < b.id), "workers and counters ascend");
    let sources: BTreeSet<_> = rows.iter().map(|row| row.client).collect();
    assert!(clients.iter().all(|client| sources.contains(&client.local_addr().unwrap())));
    let relays = bench.list(&Filter { stage: Some(Stage::Relay), ..Filter::default() });
    assert_eq!(relays.len(), 1, "a filter that matches one of many");
    assert_eq!(relays[0].resolved, Some(bench.origin.local_addr().unwrap()));
    assert!(bench.list(&Filter { port: Some(1), ..Filter::default() }).is_empty());
    bench.end();
}

#[test]
fn a_list_goes_on_though_the_sessions_it_would_go_on_with_end() {
    let mut bench = Bench::new();
    let count = 4 * limits::DESK_PAGE_ROWS;
    let mut clients: Vec<_> = (0..count).map(|_| bench.connect()).collect();
    let current = |bench: &Bench| bench.metrics.gauge(crate::metrics::Gauge::SessionsCurrent);
    bench.until("all are in", |bench| (current(bench) == count as u64).then_some(()));
    let worker = WorkerId(0);
    let first = QuestionId(77);
    bench.plane.ask(worker, first, Question::Sessions(Arc::default())).unwrap();
    bench.until("a page", |bench| (bench.answers(first).len() == 1).then_some(()));
    // All but a few of the youngest go while the list waits.
    clients.drain(..count - 10);
    bench.until("they are gone", |bench| (current(bench) == 10).then_some(()));
    bench.plane.tell_one(worker, Message::More(first));
    let rest = bench.until("the rest", |bench| match bench.answers(first).get(1) {
        Some(Answer::Sessions(page)) => Some(page.clone()),
        Some(_) | None => None,
    });
    assert_eq!(rest.rest, Rest::Nothing);
    let left: BTreeSet<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
    assert!(!rest.rows.is_empty() && rest.rows.iter().all(|row| left.contains(&row.client)));
    bench.end();
}

#[test]
fn one_session_is_shown_in_full() {
    let mut bench = Bench::new();
    bench.session(None, b"LocalHost");
    let (mut client, mut origin) = bench.ends.pop().unwrap();
    client.write_all(b"up").unwrap();
    expect(&mut origin, b"up");
    origin.write_all(b"down!").unwrap();
    expect(&mut client, b"down!");
    origin.shutdown(Shutdown::Write).unwrap();
    assert!(is_over(&mut client));
    let row = bench.list(&Filter::default()).pop().unwrap();
    let id = bench.ask(&Question::Session(row.id));
    bench.until("both answers", |bench| (bench.answers(id).len() == 2).then_some(()));
    let found: Vec<_> = bench.answers(id).into_iter().cloned().collect();
    let details: Vec<_> =
        found.into_iter().filter_map(|a| if let Answer::Session(found) = a { found } else { None }).collect();
    let [details] = &details[..] else { panic!("one worker has it") };
    assert_eq!(details.row.target, super::super::session::Target::Name(b"LocalHost"[..].into()));
    assert_eq!((details.row.bytes_up, details.row.bytes_down), (2, 5));
    assert_eq!(details.row.resolved, Some(origin.local_addr().unwrap()));
    assert_eq!(details.outgoing, Some(origin.peer_addr().unwrap()));
    assert_eq!(details.listener, bench.address());
    assert_eq!((details.command, details.reply), (Some(1), Some(0)));
    assert_eq!((details.attempts_count, details.mover), (1, Some("copy")));
    assert_eq!((details.held_up_bytes, details.held_down_bytes), (0, 0));
    assert_eq!(details.ended, EndedSides { client: false, origin: true });
    assert!(details.connect.is_some() && details.dns.is_some());
    let deadline = details.deadline.unwrap();
    assert!(deadline <= Duration::from_secs(60), "the half-closed timeout: {deadline:?}");
    let nobody = SessionId::from_u64(row.id.as_u64() + 1000);
    let id = bench.ask(&Question::Session(nobody));
    bench.until("both answers", |bench| (bench.answers(id).len() == 2).then_some(()));
    assert!(bench.answers(id).iter().all(|answer| matches!(answer, Answer::Session(None))));
    bench.end();
}

#[test]
fn sessions_are_killed_by_number_and_filter_and_only_counted_in_a_dry_run() {
    let mut bench = Bench::new();
    (0..6).for_each(|_| bench.session(None, b""));
    bench.session(None, b"localhost");
    let rows = bench.list(&Filter::default());
    assert_eq!(rows.len(), 7);
    let mut ids: Vec<_> = rows.iter().take(2).map(|row| row.id).collect();
    ids.push(SessionId::from_u64(u64::MAX));
    let filter = Filter { destination: Some(DestinationPattern::new(b"localhost")), ..Filter::default() };
    let selection = Arc::new(Selection { ids, filter: Some(filter) });
    assert_eq!(bench.count(&Question::Kill(Arc::clone(&selection), Run::Dry)), 3);
    assert_eq!(bench.list(&Filter::default()).len(), 7, "nothing ended");
    assert_eq!(bench.count(&Question::Kill(Arc::clone(&selection), Run::Real)), 3);
    assert_eq!(bench.list(&Filter::default()).len(), 4, "they had ended when the answer came");
    assert_eq!(bench.count(&Question::Kill(selection, Run::Real)), 0, "they are over");
    let (client, origin) = bench.ends.last_mut().unwrap();
    assert!(is_over(client) && is_over(origin));
    assert_eq!(bench.count(&all()), 4);
    assert!(bench.list(&Filter::default()).is_empty());
    assert_eq!(bench.metrics.total(crate::metrics::Counter::SessionsKilled), 7);
    bench.end();
}

#[test]
fn only_the_sessions_of_who_was_removed_end() {
    let mut bench = Bench::new();
    for name in ["ann", "ben"] {
        bench.add_user(name);
        (0..3).for_each(|_| bench.session(Some(name), b""));
    }
    bench.session(None, b"");
    let ann = Filter { user: Some(b"ann"[..].into()), ..Filter::default() };
    assert_eq!(bench.list(&ann).len(), 3);
    let live = bench.remove_user("ann");
    bench.remove_user("ben");
    assert_eq!(bench.count(&Question::EndFormer(Whose::One(live))), 3);
    assert!(bench.list(&ann).is_empty());
    assert_eq!(bench.list(&Filter::default()).len(), 4);
    assert_eq!(bench.count(&Question::EndFormer(Whose::Everyone)), 3);
    assert_eq!(bench.list(&Filter::default()).len(), 1, "who did not log in stays");
    bench.end();
}

#[test]
fn events_are_told_while_they_are_wanted() {
    let mut bench = Bench::new();
    bench.session(None, b"");
    bench.plane.tell(|| Message::TellNews(Switch::On));
    bench.count(&Question::Resume); // Whoever has answered has heard it.
    bench.session(None, b"localhost");
    bench.count(&all());
    bench.until("two ends", |bench| {
        let ended = |news: &&&News| matches!(news.happened, Happened::Ended(_));
        (bench.news().iter().filter(ended).count() == 2).then_some(())
    });
    let ends = Happened::Ended(CloseReason::Killed);
    // What two workers tell has no order.
    let opened = |news: &&&News| news.happened == Happened::Opened;
    let second = bench.news().iter().find(opened).unwrap().row.id;
    let news: Vec<_> = bench.news().into_iter().filter(|news| news.row.id == second).collect();
    let happened: Vec<_> = news.iter().map(|news| news.happened).collect();
    assert_eq!(happened, [Happened::Opened, Happened::Connected, ends]);
    assert_eq!(news.iter().map(|news| news.reply).collect::<Vec<_>>(), [None, Some(0), Some(0)]);
    assert_eq!(news[0].row.stage, Stage::Negotiate);
    assert_eq!(news[1].row.stage, Stage::Relay);
    let first: Vec<_> = bench.news().into_iter().filter(|news| news.row.id != second).collect();
    assert_eq!(first.iter().map(|news| news.happened).collect::<Vec<_>>(), [ends]);
    bench.plane.tell(|| Message::TellNews(Switch::Off));
    bench.count(&Question::Resume);
    bench.told.clear();
    bench.session(None, b"");
    bench.count(&all());
    assert!(bench.news().is_empty());
    bench.end();
}

#[test]
fn a_trace_tells_every_step_and_only_of_its_session() {
    let mut bench = Bench::new();
    bench.session(None, b"");
    let mut client = bench.connect();
    let source = client.local_addr().unwrap();
    let row = bench.row_of(source);
    assert_eq!(bench.count(&Question::Trace(row.id)), 1);
    assert_eq!(bench.count(&Question::Trace(SessionId::from_u64(1))), 0);
    client.write_all(&[5, 1, 0]).unwrap();
    expect(&mut client, &[5, 0]);
    let port = bench.origin.local_addr().unwrap().port().to_be_bytes();
    client.write_all(&[&[5, 1, 0, 3, 9], &b"localhost"[..], &port[..]].concat()).unwrap();
    client.read_exact(&mut [0; 10]).unwrap();
    let (mut origin, _) = bench.origin.accept().unwrap();
    client.write_all(b"up").unwrap();
    expect(&mut origin, b"up");
    client.shutdown(Shutdown::Write).unwrap();
    assert!(is_over(&mut origin));
    drop(origin);
    bench.until("the end", |bench| {
        matches!(bench.steps().last().map(|step| &step.what), Some(Traced::Closed(_))).then_some(())
    });
    let address = bench.origin.local_addr().unwrap();
    let what: Vec<_> = bench.steps().iter().map(|step| (step.stage.as_str(), step.what.clone())).collect();
    let kinds: Vec<_> = what.iter().map(|(stage, what)| format!("{stage} {}", kind_of(what))).collect();
    let expected = "negotiate stage, request stage, resolve stage, resolve question, connect answer, \
                    connect stage, connect start, relay connected, relay stage, relay reply, relay bytes, \
                    relay half, relay closed";
    // Both ends may be told at once, and another family's answer may come early or late.
    let mut kinds: Vec<_> = kinds.iter().map(String::as_str).collect();
    kinds.retain(|kind| !matches!(*kind, "resolve answer" | "relay answer"));
    kinds.dedup();
    assert_eq!(kinds.join(", "), expected, "{what:?}");
    assert!(what.iter().any(|(_, what)| *what == Traced::ConnectStart(address)));
    assert!(what.iter().any(|(_, what)| *what == Traced::ConnectEnd(Some(address), Some(Ok(())))));
    assert!(what.iter().any(|(_, what)| *what == Traced::Bytes(2, 0)));
    assert!(bench.steps().iter().all(|step| step.session == row.id));
    assert!(bench.steps().is_sorted_by_key(|step| step.elapsed));
    bench.end();
}

fn kind_of(what: &Traced) -> &'static str {
    match what {
        Traced::Stage => "stage",
        Traced::DnsQuestion(..) => "question",
        Traced::DnsAnswer(..) => "answer",
        Traced::ConnectStart(_) => "start",
        Traced::ConnectEnd(_, Some(Ok(()))) => "connected",
        Traced::ConnectEnd(..) => "failed",
        Traced::Reply(0) => "reply",
        Traced::Reply(_) => "refusal",
        Traced::Bytes(..) => "bytes",
        Traced::HalfClosed(_) => "half",
        Traced::Expired => "expired",
        Traced::Closed(_) => "closed",
    }
}

#[test]
fn a_rest_serves_who_came_before_and_ends_where_it_began() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        let mut early = bench.connect();
        assert_eq!(bench.count(&Question::Rest), 0);
        bench.plane.stop_listening();
        TcpStream::connect(bench.address()).unwrap_err();
        early.write_all(&[5, 1, 0]).unwrap();
        expect(&mut early, &[5, 0]);
        bench.plane.listen_again().unwrap();
        let mut waiting = bench.connect(); // In the backlog until workers accept again.
        bench.count(&Question::Resume);
        waiting.write_all(&[5, 1, 0]).unwrap();
        expect(&mut waiting, &[5, 0]);
        bench.session(None, b"");
    }
    bench.end();
}

#[test]
fn more_questions_than_there_is_room_for_are_refused() {
    let mut bench = Bench::new();
    let count = 2 * limits::DESK_PAGE_ROWS * usize::from(WORKERS);
    let clients: Vec<_> = (0..count).map(|_| bench.connect()).collect();
    bench.until("all are in", |bench| {
        let current = bench.metrics.gauge(crate::metrics::Gauge::SessionsCurrent);
        (current == clients.len() as u64).then_some(())
    });
    // Lists whose next page nobody asks for.
    for _ in 0..limits::DESK_QUESTIONS_MAX {
        let id = bench.ask(&Question::Sessions(Arc::default()));
        bench.until("a page of each", |bench| (bench.answers(id).len() == 2).then_some(()));
    }
    let id = bench.ask(&Question::Sessions(Arc::default()));
    bench.until("refusals", |bench| {
        let refused = |answer: &&&Answer| matches!(answer, Answer::Busy);
        (bench.answers(id).iter().filter(refused).count() == 2).then_some(())
    });
    (1..=limits::DESK_QUESTIONS_MAX as u64)
        .for_each(|id| bench.plane.tell(|| Message::Forget(QuestionId(id))));
    assert_eq!(bench.list(&Filter::default()).len(), clients.len());
    bench.end();
}

#[test]
fn who_has_ended_is_not_asked_and_has_answered_before() {
    let mut bench = Bench::new();
    let id = bench.ask(&all());
    bench.plane.tell(|| Message::Drain);
    bench.until("both end", |bench| bench.plane.has_ended().then_some(()));
    bench.hear();
    assert_eq!(bench.answers(id).len(), usize::from(WORKERS), "no question is left without an answer");
    assert_eq!(bench.plane.ask_all(QuestionId(99), &all()), (0, Ok(())));
    let one = bench.plane.ask(WorkerId(0), QuestionId(99), all());
    assert_eq!(one, Err(crate::proxy::inbox::Unasked::Gone));
    assert_eq!(bench.plane.join(), Ended::Orderly);
}
