//! The mio shell: one thread, one poll, its own sessions, resolver, cache and timers.
//!
//! A turn: wait; read messages (control before I/O); note what events say; give each session that has
//! something to do its turn; expire deadlines. It decides nothing about SOCKS: `turn.rs` carries out what
//! the stages ask for.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use slab::Slab;

use super::accept::{Admission, Listener};
use super::carrier::Dock;
use super::desk::Desk;
use super::door::Door;
use super::inbox::{Inbox, Message, SessionKey, Snapshot, Waiting};
use super::intake::Accepting;
use super::mover::Tools;
use super::order::Order;
use super::session::Output;
use super::slot::{SideOf, Slot};
use super::timers::{Tick, Wheel};
use crate::ids::{SessionId, WorkerId};
use crate::limits;
use crate::logging::{AccessSink, CloseReason};
use crate::metrics::{Counter, Counters, Gauge};
use crate::resolver::{self, Resolver};
use crate::store::Store;

/// Tokens by their top two bits: 00 sessions, 01 the resolver, 10 listeners and the waker.
const KIND_MASK: usize = 0b11 << 62;
pub(super) const LISTENER_BASE: usize = 0b10 << 62;
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
    /// The first worker has so many sessions that the others accept, too.
    pub(super) is_crowded: AtomicBool,
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
    pub(super) accepting: Accepting,
    /// Since when access lines wait in the sink.
    lines_since: Option<Instant>,
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
        self.accept_if_needed();
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
        let lines = self.lines_since.map(|since| since + limits::ACCESS_LOG_LINGER);
        let moments =
            [self.wheel.next(), self.resolver.deadline(), self.accept_retry(), lines, self.desk.traces.due];
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
                Message::LookAround => self.look_around(),
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
        if self.accept_retry().is_some_and(|at| self.now >= at) {
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
        slot.keep_origin_alive(&snapshot.tcp);
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
        self.note_crowd();
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
