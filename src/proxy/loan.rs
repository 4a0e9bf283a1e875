//! A relay on loan: what a worker gives to a carrier while a session moves much, and what both see of it.
//!
//! The session stays with its worker, which lists it, counts its time and ends it. The lock is held by the carrier
//! for a turn at a time, and taken by the worker to end the session or to have everything back: whoever only
//! looks reads what the carrier published after its last turn.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::inbox::{Inbox, Message, SessionKey};
use super::live::EndedSides;
use super::mover::Held;
use super::relay::{Relay, deadline_of};
use super::session::Rules;
use super::side::Fault;
use super::slot::Socket;
use super::worker::Weight;
use crate::store::User;

/// What is given away.
#[derive(Debug)]
pub(super) struct Cargo {
    pub(super) client: Socket,
    pub(super) origin: Socket,
    pub(super) relay: Relay,
    pub(super) heat: Heat,
    /// Whose bytes they are, and how many of them were added to the user's already, each way.
    pub(super) user: Arc<User>,
    pub(super) reported: (u64, u64),
}

/// How much a session has moved in its latest turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heat(u8);

impl Heat {
    /// Turns that make a session hot, and cold again: what moves in so many of them costs a hundred times what
    /// giving it away does.
    const MAX: u8 = 8;

    pub(super) fn note(&mut self, turn: Weight) {
        self.0 = match turn {
            Weight::Heavy => (self.0 + 1).min(Self::MAX),
            Weight::Light => self.0.saturating_sub(1),
        };
    }

    pub(super) fn is_hot(self) -> bool {
        self.0 == Self::MAX
    }

    pub(super) fn is_cold(self) -> bool {
        self.0 == 0
    }
}

/// Who has it.
#[derive(Debug)]
pub(super) struct Hold {
    /// `None`: the worker has taken it back.
    pub(super) cargo: Option<Cargo>,
    /// The carrier watches the sockets.
    pub(super) is_aboard: bool,
    /// What the carrier has still to put away, after the worker took the rest.
    pub(super) left: [Held; 2],
}

/// What a carrier tells the worker of a loan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// One side has closed; the loan goes on.
    HalfClosed,
    /// It does not move much any more.
    Cooled,
    /// Both directions have passed their end on.
    Finished,
    /// It cannot go on.
    Broken(Fault),
}

/// A loan, as the worker and the carrier share it.
#[derive(Debug)]
pub(super) struct Loan {
    key: SessionKey,
    owner: Arc<Inbox>,
    epoch: Instant,
    /// The place of the carrier that has it.
    pub(super) carrier: usize,
    /// Where the carrier keeps it.
    pub(super) place: AtomicUsize,
    hold: Mutex<Hold>,
    seen: Seen,
}

/// What can be seen without the lock: as it was after the last turn.
#[derive(Debug, Default)]
struct Seen {
    up: AtomicU64,
    down: AtomicU64,
    held_up: AtomicUsize,
    held_down: AtomicUsize,
    /// Microseconds from the epoch on.
    last_byte_us: AtomicU64,
    client_ended: AtomicBool,
    origin_ended: AtomicBool,
    is_spliced: AtomicBool,
}

impl Loan {
    pub(super) fn new(
        key: SessionKey,
        owner: Arc<Inbox>,
        epoch: Instant,
        carrier: usize,
        cargo: Cargo,
    ) -> Self {
        let seen = Seen::default();
        seen.publish(&cargo.relay, epoch);
        let hold = Hold { cargo: Some(cargo), is_aboard: true, left: Default::default() };
        Self { key, owner, epoch, carrier, place: AtomicUsize::new(usize::MAX), hold: Mutex::new(hold), seen }
    }

    /// For the carrier for a turn, for the worker to take everything back. Waits for a turn at most.
    pub(super) fn hold(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the worker.
    pub(super) fn tell_owner(&self, what: Returned) {
        // Never refused: only connections and questions are.
        if self.owner.send(Message::Returned(self.key, what)).is_err() {
            log::error!("a worker was not told of a loan");
        }
    }

    /// Shows how it stands.
    pub(super) fn publish(&self, relay: &Relay) {
        self.seen.publish(relay, self.epoch);
    }

    /// Bytes up and down.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.seen.up.load(Ordering::Relaxed), self.seen.down.load(Ordering::Relaxed))
    }

    /// Bytes that were read and not passed on, up and down.
    pub(super) fn held_bytes(&self) -> (usize, usize) {
        (self.seen.held_up.load(Ordering::Relaxed), self.seen.held_down.load(Ordering::Relaxed))
    }

    /// When the last byte moved.
    pub(super) fn last_byte(&self) -> Instant {
        self.epoch + Duration::from_micros(self.seen.last_byte_us.load(Ordering::Relaxed))
    }

    /// Which sides have sent their end.
    pub(super) fn ended_sides(&self) -> EndedSides {
        EndedSides {
            client: self.seen.client_ended.load(Ordering::Relaxed),
            origin: self.seen.origin_ended.load(Ordering::Relaxed),
        }
    }

    /// When it has been silent for too long.
    pub(super) fn deadline(&self, rules: &Rules) -> Option<Instant> {
        deadline_of(self.ended_sides(), self.last_byte(), rules)
    }

    /// How most bytes travel.
    pub(super) fn mover(&self) -> &'static str {
        if self.seen.is_spliced.load(Ordering::Relaxed) { "splice" } else { "copy" }
    }
}

impl Seen {
    fn publish(&self, relay: &Relay, epoch: Instant) {
        let last_byte = relay.last_byte().saturating_duration_since(epoch).as_micros();
        let ended = relay.ended_sides();
        self.up.store(relay.up.bytes, Ordering::Relaxed);
        self.down.store(relay.down.bytes, Ordering::Relaxed);
        self.held_up.store(relay.up.held_bytes(), Ordering::Relaxed);
        self.held_down.store(relay.down.held_bytes(), Ordering::Relaxed);
        self.last_byte_us.store(u64::try_from(last_byte).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.client_ended.store(ended.client, Ordering::Relaxed);
        self.origin_ended.store(ended.origin, Ordering::Relaxed);
        self.is_spliced.store(relay.is_spliced(), Ordering::Relaxed);
    }
}
