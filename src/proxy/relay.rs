//! Last stage of a session that connected: moving bytes both ways until both sides are done.
//!
//! Each direction reads, writes what it read, and holds what the other side would not take; it reads again
//! only when it holds nothing, so a slow reader slows the sender down (back-pressure). A FIN is passed on
//! after the bytes before it, each direction for itself (half-close). `mover.rs` decides how bytes travel.

use std::time::Instant;

use super::dissect::{Watch, Way};
use super::live::EndedSides;
use super::mover::{Carried, Held, Pace, Tools};
use super::session::{Context, Input, Output, Rules, Session};
use super::side::{Fault, Side};
use crate::logging::CloseReason;
use crate::metrics::Counter;

/// A relay's state. Small: an idle session holds nothing else.
#[derive(Debug)]
pub struct Relay {
    /// Client to origin.
    pub up: Direction,
    /// Origin to client.
    pub down: Direction,
    up_course: Course,
    down_course: Course,
    /// When the last byte moved.
    last_byte: Instant,
    /// What looks at the bytes, where somebody does.
    watch: Option<Box<Watch>>,
}

/// One direction of a relay.
#[derive(Debug, Default)]
pub struct Direction {
    /// Bytes passed on.
    pub bytes: u64,
    /// Bytes read and not passed on yet.
    held: Held,
}

/// How far a direction has come. Kept apart from it, so that two of them fit into what would be padding.
#[derive(Debug, Default)]
struct Course {
    /// Where the stream's end is.
    end: End,
    /// How the mover carries the bytes.
    pace: Pace,
}

/// Where the end of a direction's stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// Not seen.
    #[default]
    Ahead,
    /// Read, and not passed on yet.
    Read,
    /// Passed on.
    Passed,
}

const _: () = assert!(size_of::<Relay>() <= 80, "an idle session holds little else");

/// What a turn at a relay came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing more to do until an event comes.
    Waiting,
    /// The budget is used up; there is more to do.
    Unfinished,
    /// Both directions have passed their end on.
    Finished,
}

impl Relay {
    /// A relay that begins now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            up: Direction::default(),
            down: Direction::default(),
            up_course: Course::default(),
            down_course: Course::default(),
            last_byte: now,
            watch: None,
        }
    }

    /// Bytes that were read before the relay began and go out first.
    pub fn preload(&mut self, up: Vec<u8>, down: Vec<u8>, tools: &mut Tools) {
        self.up.held = tools.hold_bytes(up);
        self.down.held = tools.hold_bytes(down);
    }

    /// Lets `watch` look at every byte from here on, except for those that it says it needs not see.
    pub fn begin_watch(&mut self, watch: Watch) {
        self.watch = Some(Box::new(watch));
    }

    /// What looks at the bytes. Whoever takes it ends that.
    pub fn watch(&mut self) -> &mut Option<Box<Watch>> {
        &mut self.watch
    }

    /// The client's end of stream was read before the relay began.
    pub fn client_closed(&mut self) {
        self.up_course.end = End::Read;
    }

    /// Moves what can be moved, both ways, at most the tools' budget each.
    pub fn turn<S: Side>(
        &mut self,
        client: &mut S,
        origin: &mut S,
        tools: &mut Tools,
        now: Instant,
    ) -> Result<Progress, Fault> {
        let before = (self.up.bytes, self.down.bytes);
        let (up, down) = (&mut self.up_course, &mut self.down_course);
        let watch = &mut self.watch;
        let went_up = self.up.pump(up, client, origin, tools, down.end, (&mut *watch, Way::Up));
        let went_down = self.down.pump(down, origin, client, tools, up.end, (watch, Way::Down));
        if before != (self.up.bytes, self.down.bytes) {
            self.last_byte = now;
        }
        let unfinished = went_up? | went_down?;
        if self.up_course.end == End::Passed && self.down_course.end == End::Passed {
            return Ok(Progress::Finished);
        }
        if !unfinished && (client.ready().broken || origin.ready().broken) {
            return Err(Fault::Reset);
        }
        Ok(if unfinished { Progress::Unfinished } else { Progress::Waiting })
    }

    /// Has either side closed while the other goes on?
    #[must_use]
    pub fn is_half_closed(&self) -> bool {
        self.up_course.end != End::Ahead || self.down_course.end != End::Ahead
    }

    /// When the last byte moved; the beginning, where none did.
    #[must_use]
    pub fn last_byte(&self) -> Instant {
        self.last_byte
    }

    /// Which sides have sent their end.
    #[must_use]
    pub fn ended_sides(&self) -> EndedSides {
        EndedSides { client: self.up_course.end != End::Ahead, origin: self.down_course.end != End::Ahead }
    }

    /// How most bytes travel: `splice` as soon as a direction does. What is looked at is copied.
    #[must_use]
    pub fn mover(&self) -> &'static str {
        if self.is_spliced() { "splice" } else { "copy" }
    }

    pub(super) fn is_spliced(&self) -> bool {
        let has_fast_direction = self.up_course.pace.is_spliced() || self.down_course.pace.is_spliced();
        has_fast_direction && self.watch.is_none()
    }

    pub(super) fn deadline(&self, rules: &Rules) -> Option<Instant> {
        deadline_of(self.ended_sides(), self.last_byte, rules)
    }

    /// Whether all that was read was passed on.
    pub(super) fn holds_nothing(&self) -> bool {
        self.up.held.is_empty() && self.down.held.is_empty()
    }

    /// What was read and not passed on, both ways, without its relay.
    pub(super) fn take_held(&mut self) -> [Held; 2] {
        [std::mem::take(&mut self.up.held), std::mem::take(&mut self.down.held)]
    }

    /// Puts away what was read and will not be passed on.
    pub(super) fn drop_held(&mut self, tools: &mut Tools) {
        self.take_held().into_iter().for_each(|held| tools.drop_held(held));
    }

    /// From here on what is held counts among that of these tools.
    pub(super) fn come_under(&self, tools: &mut Tools) {
        [&self.up.held, &self.down.held].into_iter().for_each(|held| tools.take_over(held));
    }

    /// And here not any more.
    pub(super) fn leave(&self, tools: &mut Tools) {
        [&self.up.held, &self.down.held].into_iter().for_each(|held| tools.hand_over(held));
    }

    pub(super) fn step(self, input: Input<'_>, context: &mut Context<'_>) -> Session {
        match input {
            Input::Tick if self.deadline(context.rules).is_some_and(|deadline| context.now >= deadline) => {
                let (counter, reason) = overdue(self.ended_sides());
                context.count(counter);
                context.out.push(Output::Close(reason));
                Session::Relay(self)
            }
            // A late answer of the other family, or a late attempt, is of no interest any more.
            Input::Tick
            | Input::Bytes(_)
            | Input::ClientClosed
            | Input::ClientReset
            | Input::Verdict(_)
            | Input::Answer(..)
            | Input::Connected(..)
            | Input::AttemptFailed(..) => Session::Relay(self),
        }
    }
}

/// When a relay has been silent for too long.
pub(super) fn deadline_of(ended: EndedSides, last_byte: Instant, rules: &Rules) -> Option<Instant> {
    let half_closed = (ended.client || ended.origin).then_some(rules.half_closed_timeout);
    let patience = match (half_closed, rules.idle_timeout) {
        (Some(half_closed), Some(idle)) => half_closed.min(idle),
        (Some(half_closed), None) => half_closed,
        (None, Some(idle)) => idle,
        (None, None) => return None,
    };
    Some(last_byte + patience)
}

/// What it comes to when a relay was silent for too long.
pub(super) fn overdue(ended: EndedSides) -> (Counter, CloseReason) {
    if ended.client || ended.origin {
        (Counter::HalfClosedTimeout, CloseReason::HalfClosedTimeout)
    } else {
        (Counter::IdleTimeout, CloseReason::Idle)
    }
}

impl Direction {
    /// Bytes that were read and not passed on.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Moves bytes until one side has no more to give or to take, or the budget is used up (`true`).
    fn pump<S: Side>(
        &mut self,
        course: &mut Course,
        from: &mut S,
        to: &mut S,
        tools: &mut Tools,
        opposite: End,
        (watch, way): (&mut Option<Box<Watch>>, Way),
    ) -> Result<bool, Fault> {
        let mut budget = tools.turn_bytes();
        loop {
            if !self.flush(to, tools)? {
                return Ok(false);
            }
            match course.end {
                End::Passed => return Ok(false),
                End::Read => {
                    // Where this was the last direction, closing the socket says it as well.
                    if opposite != End::Passed {
                        to.close_write()?;
                    }
                    course.end = End::Passed;
                    return Ok(false);
                }
                End::Ahead => {}
            }
            if !from.ready().readable || !to.ready().writable {
                return Ok(false);
            }
            if budget == 0 {
                return Ok(true);
            }
            let (held, pace) = (&mut self.held, &mut course.pace);
            let carried = match watch.as_deref_mut().filter(|watch| watch.wants(way)) {
                None => tools.carry(held, pace, from, to),
                Some(watch) => tools.carry_shown(held, pace, from, to, |bytes| watch.see(way, bytes)),
            };
            match carried? {
                Carried::Bytes { read, passed } => {
                    self.bytes += passed;
                    budget = budget.saturating_sub(read);
                }
                Carried::End => course.end = End::Read,
                Carried::Nothing => return Ok(false),
            }
        }
    }

    /// Passes on what is held; `false` when the other side would not take all of it.
    fn flush<S: Side>(&mut self, to: &mut S, tools: &mut Tools) -> Result<bool, Fault> {
        if self.held.is_empty() {
            return Ok(true);
        }
        if !to.ready().writable {
            return Ok(false);
        }
        self.bytes += tools.unload(&mut self.held, to)?;
        Ok(self.held.is_empty())
    }
}
