//! The mio shell: one thread, one poll, its own sessions, resolver, cache and timers.
//!
//! A turn: wait; read messages (control before I/O); note what events say; give each session that has
//! something to do its turn; expire deadlines. It decides nothing about SOCKS: `turn.rs` carries out what
//! the stages ask for.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::accept::{Admission, Listener};
use super::carrier::Dock;
use super::desk::Desk;
use super::door::Door;
use super::inbox::{Connection, Inbox, Message, SessionKey, Snapshot, Waiting};
use super::live::Happened;
use super::loan::Heat;
use super::mover::Tools;
use super::order::{Links, Order};
use super::session::{AttemptId, Facts, Output, Session};
use super::slot::{Handshake, SideOf, Slot, Socket};
use super::timers::{Tick, Wheel};
use crate::ids::{SessionId, WorkerId};
use crate::limits;
use crate::logging::{AccessSink, CloseReason};
use crate::metrics::{Counter, Counters, Gauge};
use crate::resolver::{self, Resolver};
use crate::store::Store;
use crate::sys::epoll;

/// Tokens by their top two bits: 00 sessions, 01 the resolver, 10 listeners and the waker.
const KIND_MASK: usize = 0b11 << 62;
const LISTENER_BASE: usize = 0b10 << 62;
pub(super) const WAKER: Token = Token(LISTENER_BASE | 1 << 32);

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The listener table.
    pub listeners: Vec<Listener>,
    /// Every worker's inbox, by worker.
    pub inboxes: Vec<Arc<Inbox>>,
    /// Where carriers are told what to carry.
    pub(super) docks: Vec<Arc<Dock>>,
    /// Who is in.
    pub admission: Admission,
    /// Users and their passwords.
    pub store: Arc<Store>,
    /// The number of this start, in every session id.
    pub start: u32,
    /// The moment that ticks are counted from.
    pub epoch: Instant,
    /// Workers that do not accept for want of places or descriptors.
    pub paused_count: AtomicUsize,
}

/// What one worker begins with.
pub(super) struct Seed {
    pub(super) id: WorkerId,
    pub(super) poll: Poll,
    pub(super) inbox: Arc<Inbox>,
    pub(super) shared: Arc<Shared>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) counters: Arc<Counters>,
    pub(super) sink: AccessSink,
    pub(super) resolver: Arc<resolver::Shared>,
    pub(super) door: Arc<Door>,
    pub(super) pipes_count_max: usize,
}

/// A worker.
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) poll: Poll,
    pub(super) inbox: Arc<Inbox>,
    pub(super) shared: Arc<Shared>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) counters: Arc<Counters>,
    pub(super) sink: AccessSink,
    pub(super) resolver: Resolver,
    pub(super) tools: Tools,
    pub(super) sessions: Slab<Slot>,
    /// The sessions by age.
    pub(super) order: Order,
    /// What the control loop asks.
    pub(super) desk: Desk,
    pub(super) wheel: Wheel,
    /// The time of this turn.
    pub(super) now: Instant,
    /// Sessions that wait for their turn.
    queue: VecDeque<SessionKey>,
    /// Those among them that move much: they wait for the others.
    bulk_queue: VecDeque<SessionKey>,
    /// Outputs of the step at work, and the bytes among them.
    pub(super) outputs: Vec<Output>,
    pub(super) outgoing: Vec<u8>,
    /// Where a handshake's bytes are read into.
    pub(super) incoming: Vec<u8>,
    messages: Waiting,
    expired: Vec<(Tick, u64)>,
    pub(super) sessions_begun: u64,
    accepting: Accepting,
    /// Since when access lines wait in the sink.
    lines_since: Option<Instant>,
}

/// Whether the listeners are in this worker's epoll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Yes,
    /// For want of places or descriptors, until then or until a session ends.
    PausedUntil(Instant),
    /// Not until it is told to.
    Resting,
    /// Draining: never again.
    Over,
}

impl Worker {
    pub(super) fn new(seed: Seed) -> Self {
        let now = Instant::now();
        let settings = &seed.snapshot.settings;
        Self {
            tools: Tools::new(settings.buffer_size, seed.pipes_count_max),
            resolver: Resolver::new(
                seed.snapshot.resolver.clone(),
                seed.resolver,
                Arc::clone(&seed.counters),
            ),
            id: seed.id,
            poll: seed.poll,
            inbox: seed.inbox,
            shared: seed.shared,
            snapshot: seed.snapshot,
            counters: seed.counters,
            sink: seed.sink,
            sessions: Slab::new(),
            order: Order::default(),
            desk: Desk::new(seed.door),
            wheel: Wheel::new(now),
            now,
            queue: VecDeque::new(),
            bulk_queue: VecDeque::new(),
            outputs: Vec::new(),
            outgoing: Vec::new(),
            incoming: vec![0; limits::EARLY_BYTES_MAX],
            messages: Waiting::default(),
            expired: Vec::new(),
            sessions_begun: 0,
            accepting: Accepting::Over,
            lines_since: None,
        }
    }

    /// Serves until told to stop, or until the last session has ended after a drain.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(limits::EVENTS_PER_POLL);
        self.resume_accepting();
        loop {
            match self.poll.poll(&mut events, Some(self.patience())) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.now = Instant::now();
            if self.read_messages() == Life::Over {
                break;
            }
            for event in &events {
                self.note(event);
            }
            self.answer_lookups();
            self.work();
            self.serve_queues();
            self.expire();
            self.finish_turn();
            if self.accepting == Accepting::Over && self.sessions.is_empty() {
                break;
            }
            if events.is_empty() {
                self.hand_lines_over(); // Time to look whether the writer lost any.
            }
        }
        self.inbox.close(&mut self.messages);
        self.answer_what_is_left();
        self.finish_turn();
        self.hand_lines_over();
        Ok(())
    }

    /// There is no session any more: every question has its answer.
    fn answer_what_is_left(&mut self) {
        for message in std::mem::take(&mut self.messages.messages) {
            if let Message::Ask(id, question) = message {
                self.ask(id, question);
            }
        }
        self.desk.answer_all();
    }

    /// How long this worker may sleep.
    fn patience(&self) -> Duration {
        if !self.queue.is_empty() || !self.bulk_queue.is_empty() || self.desk.is_busy() {
            return Duration::ZERO;
        }
        let retry = match self.accepting {
            Accepting::PausedUntil(at) => Some(at),
            Accepting::Yes | Accepting::Resting | Accepting::Over => None,
        };
        let lines = self.lines_since.map(|since| since + limits::ACCESS_LOG_LINGER);
        let moments = [self.wheel.next(), self.resolver.deadline(), retry, lines, self.desk.traces.due];
        let earliest = moments.into_iter().flatten().min();
        let poll_timeout = self.snapshot.settings.poll_timeout;
        earliest.map_or(poll_timeout, |at| at.saturating_duration_since(Instant::now()).min(poll_timeout))
    }

    fn read_messages(&mut self) -> Life {
        let mut messages = std::mem::take(&mut self.messages);
        self.inbox.take(&mut messages);
        let mut life = Life::GoesOn;
        if let Some(snapshot) = messages.snapshot.take() {
            self.adopt(snapshot);
        }
        for message in messages.messages.drain(..) {
            match message {
                Message::Accepted(connection) => self.begin(connection),
                Message::Verdict(key, verdict) => self.verdict(key, verdict),
                Message::Returned(key, what) => self.returned(key, what),
                Message::Snapshot(snapshot) => self.adopt(snapshot),
                Message::Ask(id, question) => self.ask(id, question),
                Message::More(id) => self.desk.more(id),
                Message::Forget(id) => self.desk.forget(id),
                Message::TellNews(switch) => self.desk.news = switch,
                Message::Untrace(id) => self.end_trace(id),
                Message::Drain => self.stop_accepting(),
                Message::Stop => {
                    self.stop_accepting();
                    self.end_sessions(CloseReason::Drained);
                    life = Life::Over;
                }
            }
        }
        self.messages = messages;
        life
    }

    fn adopt(&mut self, snapshot: Arc<Snapshot>) {
        self.tools.resize(snapshot.settings.buffer_size);
        self.resolver.configure(snapshot.resolver.clone(), self.now, self.poll.registry());
        self.snapshot = snapshot;
        // Deadlines that came nearer have to be armed anew; those that moved away arm themselves.
        let keys: Vec<_> = self.sessions.iter().map(|(index, slot)| slot.key(index)).collect();
        for key in keys {
            self.arm(key);
        }
    }

    fn note(&mut self, event: &mio::event::Event) {
        match event.token().0 & KIND_MASK {
            0 => {
                let (key, side) = SessionKey::of_token(event.token());
                self.note_session(key, side, event);
            }
            resolver::TOKEN_BASE => self.resolver.on_event(event, self.now, self.poll.registry()),
            _ if event.token() == WAKER => {}
            _ => {
                self.accept(event.token().0 & !KIND_MASK);
            }
        }
    }

    fn note_session(&mut self, key: SessionKey, side: SideOf, event: &mio::event::Event) {
        let Some(slot) = self.slot(key) else { return };
        let attempt = match side {
            SideOf::Client => None,
            SideOf::Attempt(id) => Some(id),
        };
        let socket = match (attempt, slot.handshake.as_mut()) {
            (None, _) => slot.client.as_mut(),
            (Some(id), Some(handshake)) => {
                handshake.attempts.get_mut(usize::from(id.0)).and_then(Option::as_mut)
            }
            // Events of attempts that were given up may still be on their way.
            (Some(id), None) if id == slot.origin_attempt => slot.origin.as_mut(),
            (Some(_), None) => None,
        };
        if let Some(socket) = socket {
            socket.note(event);
            self.enqueue(key);
        }
    }

    /// Puts a session in its queue, once.
    pub(super) fn enqueue(&mut self, key: SessionKey) {
        if let Some(slot) = self.slot(key)
            && !slot.queued
        {
            slot.queued = true;
            let queue = if slot.heat.is_cold() { &mut self.queue } else { &mut self.bulk_queue };
            queue.push_back(key);
        }
    }

    /// Gives each session in the queue one turn, then those that move much as many as fit into the time that
    /// they may keep the others waiting, or that the others took.
    fn serve_queues(&mut self) {
        if !self.queue.is_empty() {
            self.inbox.note_served(self.now.saturating_duration_since(self.shared.epoch));
        }
        self.serve_queue(|worker| &mut worker.queue, self.now, limits::TURN_BUDGET);
        if self.bulk_queue.is_empty() {
            return;
        }
        let begun = Instant::now();
        let budget =
            begun.saturating_duration_since(self.now).clamp(limits::BULK_BUDGET, limits::TURN_BUDGET);
        self.serve_queue(|worker| &mut worker.bulk_queue, begun, budget);
    }

    /// One turn for each session in a queue; turns that may take long end with the budget.
    fn serve_queue(
        &mut self,
        queue: fn(&mut Self) -> &mut VecDeque<SessionKey>,
        begun: Instant,
        budget: Duration,
    ) {
        for _ in 0..queue(self).len() {
            let Some(key) = queue(self).pop_front() else { break };
            let Some(slot) = self.slot(key) else { continue };
            slot.queued = false;
            if self.take_turn(key) == Weight::Heavy && begun.elapsed() >= budget {
                break;
            }
        }
    }

    fn expire(&mut self) {
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(self.now, &mut expired);
        for (tick, key) in expired.drain(..) {
            self.tick(SessionKey(key), tick);
        }
        self.expired = expired;
        if self.resolver.deadline().is_some_and(|at| self.now >= at) {
            self.resolver.on_deadline(self.now, self.poll.registry());
            self.answer_lookups();
        }
        if matches!(self.accepting, Accepting::PausedUntil(at) if self.now >= at) {
            self.resume_accepting();
        }
    }

    fn tick(&mut self, key: SessionKey, tick: Tick) {
        let now = self.now;
        let snapshot = Arc::clone(&self.snapshot);
        let Some(slot) = self.slot(key).filter(|slot| slot.armed == tick) else { return };
        slot.armed = Tick::NEVER;
        // The first tick of a relay comes when the handshake's time would have been over: whoever lasts that
        // long may last longer.
        if let Some(origin) = slot.origin.as_ref().filter(|_| !slot.kept_alive) {
            slot.kept_alive = true;
            if let Err(error) = snapshot.tcp.set_keepalive_on_origin(&origin.stream) {
                log::debug!("an origin is not probed: session={} error=\"{error}\"", slot.id);
            }
        }
        if slot.deadline(&snapshot.rules).is_some_and(|deadline| now >= deadline) {
            self.deadline_has_come(key);
        }
        self.arm(key);
    }

    /// Makes sure that the wheel comes back to a session no later than its deadline.
    pub(super) fn arm(&mut self, key: SessionKey) {
        let Some(slot) =
            self.sessions.get_mut(key.index()).filter(|slot| slot.generation == key.generation())
        else {
            return;
        };
        if let Some(deadline) = slot.deadline(&self.snapshot.rules) {
            let tick = self.wheel.tick_of(deadline);
            if tick < slot.armed {
                slot.armed = tick;
                self.wheel.insert(tick, key.0);
            }
        }
    }

    fn finish_turn(&mut self) {
        if !self.desk.traces.is_empty() {
            self.trace_progress();
        }
        let lost = self.desk.hand_over(self.id);
        if lost > 0 {
            self.counters.add(Counter::NewsDropped, lost);
        }
        self.counters.set(Gauge::SessionsCurrent, self.sessions.len() as u64);
        if self.sink.has_lines() {
            let since = *self.lines_since.get_or_insert(self.now);
            if self.now >= since + limits::ACCESS_LOG_LINGER {
                self.hand_lines_over();
            }
        }
    }

    fn hand_lines_over(&mut self) {
        self.lines_since = None;
        let dropped = self.sink.flush();
        if dropped > 0 {
            self.counters.add(Counter::LogLinesDropped, dropped);
        }
    }

    /// The session that a key names, unless it is over.
    pub(super) fn slot(&mut self, key: SessionKey) -> Option<&mut Slot> {
        self.sessions.get_mut(key.index()).filter(|slot| slot.generation == key.generation())
    }

    /// The id of the session that began last.
    pub(super) fn youngest_id(&self) -> SessionId {
        SessionId::new(self.shared.start, self.id, self.sessions_begun)
    }

    /// Ends every session.
    fn end_sessions(&mut self, reason: CloseReason) {
        let keys: Vec<_> = self.sessions.iter().map(|(index, slot)| slot.key(index)).collect();
        for key in keys {
            self.end(key, reason);
        }
    }
}

/// What is known of a listener's backlog after some accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backlog {
    Empty,
    Unknown,
}

/// Whether the worker goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    GoesOn,
    Over,
}

/// Whether a session's turn may have taken long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Light,
    Heavy,
}

// Accepting.
impl Worker {
    /// Accepts a few connections of a listener; what is left there wakes some worker again.
    fn accept(&mut self, place: usize) -> Backlog {
        if self.accepting != Accepting::Yes {
            return Backlog::Unknown;
        }
        let shared = Arc::clone(&self.shared);
        let Some(listener) = shared.listeners.get(place) else { return Backlog::Unknown };
        for _ in 0..limits::ACCEPTS_PER_TURN {
            // The place is taken before the connection: what cannot be served stays in the backlog.
            if !shared.admission.reserve() {
                self.pause_accepting();
                return Backlog::Unknown;
            }
            match listener.socket.accept() {
                Ok((socket, client)) => self.admit(listener, socket.into(), client),
                Err(error) => {
                    shared.admission.cancel();
                    if error.kind() == io::ErrorKind::WouldBlock {
                        return Backlog::Empty;
                    }
                    self.counters.count(Counter::AcceptFailed);
                    // Else the client was gone before we came (accept(2), "Error handling").
                    if !is_peer_error(&error) {
                        log::debug!("accepting pauses: worker={} error=\"{error}\"", self.id.0);
                        self.pause_accepting();
                        return Backlog::Unknown;
                    }
                }
            }
        }
        Backlog::Unknown
    }

    /// Accepts what waits at every listener, a few connections of each. Whether nothing is left that this
    /// worker could take.
    pub(super) fn empty_backlogs(&mut self) -> bool {
        let are_empty = (0..self.shared.listeners.len()).all(|place| self.accept(place) == Backlog::Empty);
        are_empty || self.accepting != Accepting::Yes
    }

    /// Accepts no more until it is told to.
    pub(super) fn rest(&mut self) {
        match self.accepting {
            Accepting::Yes => self.take_listeners_out(),
            Accepting::PausedUntil(_) | Accepting::Resting => {}
            Accepting::Over => return,
        }
        self.set_accepting(Accepting::Resting);
    }

    /// The end of a rest.
    pub(super) fn accept_again(&mut self) {
        if self.accepting == Accepting::Resting {
            self.resume_accepting();
        }
    }

    fn admit(&mut self, listener: &Listener, socket: std::net::TcpStream, client: SocketAddr) {
        let Some(place) = self.shared.admission.enter(client.ip()) else {
            return self.counters.count(Counter::SourceLimit);
        };
        self.counters.count(Counter::SessionsAccepted);
        let connection = Connection { socket, listener: listener.id, client, place };
        let connection = match self.less_loaded() {
            Some(other) => {
                other.load.fetch_add(1, Ordering::Relaxed);
                match other.send(Message::Accepted(connection)) {
                    Ok(()) => return self.counters.count(Counter::HandOff),
                    Err(Message::Accepted(connection)) => {
                        other.load.fetch_sub(1, Ordering::Relaxed);
                        self.counters.count(Counter::InboxFull);
                        connection
                    }
                    Err(_) => return,
                }
            }
            None => connection,
        };
        self.inbox.load.fetch_add(1, Ordering::Relaxed);
        self.begin(connection);
    }

    /// The least loaded worker, when this one's load exceeds it by more than one.
    fn less_loaded(&self) -> Option<Arc<Inbox>> {
        let load_of = |inbox: &Inbox| inbox.load.load(Ordering::Relaxed);
        let least = self.shared.inboxes.iter().min_by_key(|inbox| load_of(inbox))?;
        (load_of(&self.inbox) > load_of(least) + 1).then(|| Arc::clone(least))
    }

    /// A session begins.
    fn begin(&mut self, connection: Connection) {
        let mut stream = mio::net::TcpStream::from_std(connection.socket);
        self.sessions_begun += 1;
        let generation = u32::try_from(self.sessions_begun & u64::from(u32::MAX)).unwrap_or(0);
        let id = self.youngest_id();
        let entry = self.sessions.vacant_entry();
        let key = SessionKey::new(entry.key(), generation);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut stream, key.token(SideOf::Client), interest);
        if let Err(error) = registered {
            log::warn!("a connection could not be watched: client={} error=\"{error}\"", connection.client);
            self.counters.count(Counter::AcceptFailed);
            self.counters.count(Counter::SessionsClosed);
            self.leave(connection.place);
            return;
        }
        let deadline = self.now + self.snapshot.settings.handshake_timeout;
        let mut client = Socket::new(stream);
        client.ready.writable = true; // A new connection's send buffer is empty.
        entry.insert(Slot {
            id,
            generation,
            session: Some(Session::new(deadline)),
            client: Some(client),
            origin: None,
            loan: None,
            origin_attempt: AttemptId(0),
            handshake: Some(Box::new(Handshake::default())),
            facts: Facts::new(self.shared.store.directory().anonymous()),
            client_address: connection.client,
            listener: connection.listener,
            place: Some(connection.place),
            begun: self.now,
            armed: Tick::NEVER,
            queued: false,
            heat: Heat::default(),
            kept_alive: false,
            traced: false,
            links: Links::default(),
            counted: false,
            reported: (0, 0),
        });
        self.order.append(&mut self.sessions, key.index());
        self.arm(key);
        self.announce(key, Happened::Opened);
    }

    /// Gives a session's place back.
    pub(super) fn leave(&mut self, place: super::accept::Place) {
        self.inbox.load.fetch_sub(1, Ordering::Relaxed);
        self.shared.admission.leave(place);
        if matches!(self.accepting, Accepting::PausedUntil(_)) {
            self.resume_accepting();
        }
    }

    fn resume_accepting(&mut self) {
        self.set_accepting(Accepting::Yes);
        for listener in &self.shared.listeners {
            let token = Token(LISTENER_BASE | usize::from(listener.id.0));
            if let Err(error) = epoll::share_listener(&self.poll, &listener.socket, token) {
                log::error!(
                    "a listener could not be watched: address={} error=\"{error}\"",
                    listener.address
                );
            }
        }
    }

    fn pause_accepting(&mut self) {
        self.counters.count(Counter::AcceptPaused);
        self.take_listeners_out();
        self.set_accepting(Accepting::PausedUntil(self.now + limits::ACCEPT_RETRY));
    }

    fn stop_accepting(&mut self) {
        if self.accepting == Accepting::Yes {
            self.take_listeners_out();
        }
        self.set_accepting(Accepting::Over);
    }

    fn set_accepting(&mut self, accepting: Accepting) {
        let is_paused = |accepting: Accepting| matches!(accepting, Accepting::PausedUntil(_));
        match (is_paused(self.accepting), is_paused(accepting)) {
            (false, true) => drop(self.shared.paused_count.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.shared.paused_count.fetch_sub(1, Ordering::Relaxed)),
            (true, true) | (false, false) => {}
        }
        self.accepting = accepting;
    }

    fn take_listeners_out(&mut self) {
        for listener in &self.shared.listeners {
            if let Err(error) = epoll::unshare_listener(&self.poll, &listener.socket) {
                log::debug!("a listener was not watched: address={} error=\"{error}\"", listener.address);
            }
        }
    }
}

/// Errors of accept(2) that concern one connection only.
fn is_peer_error(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::EPERM
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
        )
    )
}
