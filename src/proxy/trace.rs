//! Every step of the sessions that somebody follows. A session that nobody follows pays one branch for each
//! step of its handshake, and nothing while it moves bytes: those are looked at from here, ten times a second.

use std::net::SocketAddr;
use std::time::Instant;

use super::connect::AttemptError;
use super::inbox::SessionKey;
use super::live::{EndedSides, Told, TraceStep, Traced};
use super::session::{AttemptId, Input, Output, Session, Stage};
use super::wire::Reply;
use super::worker::Worker;
use crate::ids::SessionId;
use crate::limits;
use crate::logging::CloseReason;

/// The traced sessions of a worker.
#[derive(Debug, Default)]
pub(super) struct Traces {
    list: Vec<Trace>,
    /// When there will be something to tell of bytes.
    pub(super) due: Option<Instant>,
}

impl Traces {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// One traced session, as far as it was told.
#[derive(Debug)]
struct Trace {
    key: SessionKey,
    id: SessionId,
    bytes: (u64, u64),
    bytes_told_at: Instant,
    ended: EndedSides,
    attempts: [Option<SocketAddr>; limits::CANDIDATES_MAX],
}

/// What there was before a step, which consumes it.
#[derive(Debug)]
pub(super) struct Before {
    stage: Stage,
    input: Heard,
}

#[derive(Debug)]
enum Heard {
    Nothing,
    Tick,
    Told(Traced),
    AttemptEnded(AttemptId, Result<(), AttemptError>),
}

impl Before {
    pub(super) fn new(session: &Session, input: &Input<'_>) -> Self {
        let input = match input {
            Input::Answer(family, outcome) => Heard::Told(Traced::DnsAnswer(*family, outcome.clone())),
            Input::Connected(id, _) => Heard::AttemptEnded(*id, Ok(())),
            Input::AttemptFailed(id, error) => Heard::AttemptEnded(*id, Err(*error)),
            Input::Tick => Heard::Tick,
            Input::Bytes(_) | Input::ClientClosed | Input::ClientReset | Input::Verdict(_) => Heard::Nothing,
        };
        Self { stage: session.stage(), input }
    }
}

impl Worker {
    /// Follows a session from now on; gives how many are followed because of it: none when there are too many.
    pub(super) fn begin_trace(&mut self, key: SessionKey) -> u64 {
        let now = self.now;
        let Some(slot) = self.slot(key) else { return 0 };
        let (id, bytes, was_traced) = (slot.id, slot.bytes(), slot.traced);
        let ended = slot.ended_sides();
        if !was_traced {
            if self.desk.traces.list.len() >= limits::TRACES_PER_WORKER_MAX {
                return 0;
            }
            let attempts = Default::default();
            self.desk.traces.list.push(Trace { key, id, bytes, bytes_told_at: now, ended, attempts });
            if let Some(slot) = self.slot(key) {
                slot.traced = true;
            }
        }
        self.tell_step(key, Traced::Stage);
        1
    }

    /// Nobody follows that session any more.
    pub(super) fn end_trace(&mut self, id: SessionId) {
        let Some(place) = self.desk.traces.list.iter().position(|trace| trace.id == id) else { return };
        let trace = self.desk.traces.list.swap_remove(place);
        if let Some(slot) = self.slot(trace.key) {
            slot.traced = false;
        }
    }

    /// What a step came to.
    pub(super) fn trace_step(&mut self, key: SessionKey, before: Before, outputs: &[Output]) {
        match before.input {
            Heard::Nothing => {}
            Heard::Told(traced) => self.tell_step(key, traced),
            Heard::AttemptEnded(id, result) => {
                let address = self.attempt_of(key, id);
                self.tell_step(key, Traced::ConnectEnd(address, Some(result)));
            }
            Heard::Tick => {
                let is_over = |output: &Output| matches!(output, Output::Close(_) | Output::Abandon(_));
                if outputs.iter().any(is_over) {
                    self.tell_step(key, Traced::Expired);
                }
            }
        }
        let Some(slot) = self.slot(key) else { return };
        let (stage, reply) = (slot.stage(), slot.facts.reply);
        if stage != before.stage {
            self.tell_step(key, Traced::Stage);
        }
        for output in outputs {
            let traced = match output {
                Output::Lookup(name, families) => Traced::DnsQuestion(name.clone(), *families),
                Output::Attempt(id, address) => {
                    self.note_attempt(key, *id, *address);
                    Traced::ConnectStart(*address)
                }
                Output::Abandon(id) => Traced::ConnectEnd(self.attempt_of(key, *id), None),
                Output::Replied => Traced::Reply(reply.map_or(0, Reply::code)),
                Output::Send(..)
                | Output::Verify(_)
                | Output::Adopt(_)
                | Output::Count(_)
                | Output::Close(_) => continue,
            };
            self.tell_step(key, traced);
        }
    }

    /// Bytes and ends since the last time, where it is time to tell of them.
    pub(super) fn trace_progress(&mut self) {
        self.desk.traces.due = None;
        for place in 0..self.desk.traces.list.len() {
            let Some(trace) = self.desk.traces.list.get(place) else { return };
            let (key, told_at) = (trace.key, trace.bytes_told_at);
            let is_due = self.now >= told_at + limits::TRACE_INTERVAL;
            if is_due {
                self.trace_bytes(key);
            }
            // Of what a carrier does, no event tells.
            let is_on_loan = self.slot(key).is_some_and(|slot| slot.loan.is_some());
            if is_on_loan || !is_due && self.slot(key).is_some_and(|slot| slot.traced) {
                let due = if is_due { self.now } else { told_at } + limits::TRACE_INTERVAL;
                let traces = &mut self.desk.traces;
                traces.due = Some(traces.due.map_or(due, |earlier| earlier.min(due)));
            }
        }
    }

    /// The last steps of a session that ends.
    pub(super) fn trace_end(&mut self, key: SessionKey, reason: CloseReason) {
        self.trace_bytes(key);
        self.tell_step(key, Traced::Closed(reason));
        self.desk.traces.list.retain(|trace| trace.key != key);
    }

    fn trace_bytes(&mut self, key: SessionKey) {
        let now = self.now;
        let Some(slot) = self.slot(key) else { return };
        let (bytes, ended) = (slot.bytes(), slot.ended_sides());
        let Some(trace) = self.trace_of(key) else { return };
        let more = (bytes.0 - trace.bytes.0, bytes.1 - trace.bytes.1);
        let ended_now = ended != trace.ended;
        trace.bytes = bytes;
        trace.ended = ended;
        if more != (0, 0) {
            trace.bytes_told_at = now;
            self.tell_step(key, Traced::Bytes(more.0, more.1));
        }
        if ended_now {
            self.tell_step(key, Traced::HalfClosed(ended));
        }
    }

    fn tell_step(&mut self, key: SessionKey, what: Traced) {
        let now = self.now;
        let Some(slot) = self.slot(key) else { return };
        let step = TraceStep {
            session: slot.id,
            elapsed: now.saturating_duration_since(slot.begun),
            stage: slot.stage(),
            what,
        };
        self.desk.tell(Told::Step(Box::new(step)));
    }

    fn trace_of(&mut self, key: SessionKey) -> Option<&mut Trace> {
        self.desk.traces.list.iter_mut().find(|trace| trace.key == key)
    }

    fn note_attempt(&mut self, key: SessionKey, id: AttemptId, address: SocketAddr) {
        let trace = self.trace_of(key);
        if let Some(place) = trace.and_then(|trace| trace.attempts.get_mut(usize::from(id.0))) {
            *place = Some(address);
        }
    }

    /// Where an attempt went; not known of those that began before the trace.
    fn attempt_of(&mut self, key: SessionKey, id: AttemptId) -> Option<SocketAddr> {
        self.trace_of(key)?.attempts.get(usize::from(id.0)).copied().flatten()
    }
}
