//! The other kind of thread: carries the bytes of sessions that move much, so that nobody who moves little waits
//! behind them, neither for a turn nor for a processor. It knows nothing of sessions but their relays.
//!
//! A turn: wait; take what workers send; note what events say; give each relay that has something to do its turn.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Registry, Token, Waker};
use slab::Slab;

use super::inbox::{Inbox, SessionKey};
use super::loan::{Cargo, Loan, Returned};
use super::mover::Tools;
use super::relay::Progress;
use super::session::AttemptId;
use super::slot::SideOf;
use super::turn::{Moved, RelayTurn};
use crate::limits;
use crate::metrics::Counters;

const WAKER: Token = Token(1 << 63);
const ORIGIN: SideOf = SideOf::Attempt(AttemptId(0));

/// A carrier as the others see it. What waits for it is bounded by the number of sessions: each is given away
/// once, and taken back once.
#[derive(Debug)]
pub(super) struct Dock {
    errands: mpsc::Sender<Errand>,
    waker: Waker,
    /// Loans that it has, or that are on their way to it.
    pub(super) load: AtomicUsize,
}

/// What a carrier can be told.
#[derive(Debug)]
pub(super) enum Errand {
    /// Carry this.
    Take(Arc<Loan>),
    /// Its worker has taken it back.
    Forget(Arc<Loan>),
    /// Another buffer size, bytes.
    Resize(usize),
    /// No worker is left.
    Stop,
}

impl Dock {
    /// Leaves an errand, and wakes the carrier.
    pub(super) fn send(&self, errand: Errand) {
        // It ends after the workers, unless it panicked: then the daemon is about to end.
        if self.errands.send(errand).is_err() {
            return log::error!("a carrier is gone");
        }
        if let Err(error) = self.waker.wake()
            && error.kind() != io::ErrorKind::WouldBlock
        {
            log::error!("a carrier could not be woken: error=\"{error}\"");
        }
    }
}

/// A carrier.
#[derive(Debug)]
pub(super) struct Carrier {
    poll: Poll,
    errands: mpsc::Receiver<Errand>,
    dock: Arc<Dock>,
    counters: Arc<Counters>,
    tools: Tools,
    /// Of the workers, whose other sessions are not to wait for long.
    inboxes: Vec<Arc<Inbox>>,
    epoch: Instant,
    loans: Slab<Berth>,
    /// How many came so far.
    taken: u32,
    queue: VecDeque<SessionKey>,
    now: Instant,
}

/// Where a loan is kept.
#[derive(Debug)]
struct Berth {
    loan: Arc<Loan>,
    /// Tells it from others that had or will have its place.
    generation: u32,
    queued: bool,
}

/// Whether the carrier goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    GoesOn,
    Over,
}

impl Carrier {
    /// One that has nothing to carry yet.
    pub(super) fn new(
        counters: Arc<Counters>,
        buffer_size: usize,
        inboxes: Vec<Arc<Inbox>>,
        epoch: Instant,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (sender, errands) = mpsc::channel();
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok(Self {
            poll,
            errands,
            dock: Arc::new(Dock { errands: sender, waker, load: AtomicUsize::new(0) }),
            counters,
            tools: Tools::new(buffer_size, limits::PIPES_PER_CARRIER_MAX),
            inboxes,
            epoch,
            loans: Slab::new(),
            taken: 0,
            queue: VecDeque::new(),
            now: Instant::now(),
        })
    }

    /// Where it is told what to do.
    pub(super) fn dock(&self) -> Arc<Dock> {
        Arc::clone(&self.dock)
    }

    /// Carries until told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(limits::EVENTS_PER_POLL);
        loop {
            let patience = (!self.queue.is_empty()).then_some(Duration::ZERO);
            match self.poll.poll(&mut events, patience) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.now = Instant::now();
            if self.run_errands() == Life::Over {
                return Ok(());
            }
            for event in events.iter().filter(|event| event.token() != WAKER) {
                self.note(event);
            }
            self.serve_queue();
        }
    }

    fn run_errands(&mut self) -> Life {
        while let Ok(errand) = self.errands.try_recv() {
            match errand {
                Errand::Take(loan) => self.take(loan),
                Errand::Forget(loan) => self.forget(&loan),
                Errand::Resize(buffer_size) => self.tools.resize(buffer_size),
                Errand::Stop => return Life::Over,
            }
        }
        Life::GoesOn
    }

    fn take(&mut self, loan: Arc<Loan>) {
        self.taken = self.taken.wrapping_add(1);
        let generation = self.taken;
        let entry = self.loans.vacant_entry();
        let place = entry.key();
        let key = SessionKey::new(place, generation);
        loan.place.store(place, Ordering::Relaxed);
        entry.insert(Berth { loan: Arc::clone(&loan), generation, queued: false });
        let mut hold = loan.hold();
        let Some(cargo) = hold.cargo.as_mut() else {
            // Taken back meanwhile, as an errand will say.
            return hold.left.iter().for_each(|held| self.tools.take_over(held));
        };
        cargo.relay.come_under(&mut self.tools);
        if let Err(error) = board(cargo, self.poll.registry(), key) {
            log::warn!("a relay could not be watched: error=\"{error}\"");
            cargo.client.ready.broken = true; // Its first turn will end it.
        }
        drop(hold);
        self.enqueue(key);
    }

    /// The worker has ended the session. What its relay held in our pipes and chunks is put away here.
    fn forget(&mut self, loan: &Arc<Loan>) {
        let place = loan.place.load(Ordering::Relaxed);
        if self.loans.get(place).is_some_and(|berth| Arc::ptr_eq(&berth.loan, loan)) {
            self.loans.remove(place);
            self.dock.load.fetch_sub(1, Ordering::Relaxed);
        }
        let left = std::mem::take(&mut loan.hold().left);
        left.into_iter().for_each(|held| self.tools.drop_held(held));
    }

    fn note(&mut self, event: &Event) {
        let (key, side) = SessionKey::of_token(event.token());
        let Some(berth) = self.berth(key) else { return };
        {
            let mut hold = berth.loan.hold();
            let Some(cargo) = hold.cargo.as_mut() else { return };
            match side {
                SideOf::Client => cargo.client.note(event),
                SideOf::Attempt(_) => cargo.origin.note(event),
            }
        }
        self.enqueue(key);
    }

    fn berth(&mut self, key: SessionKey) -> Option<&mut Berth> {
        self.loans.get_mut(key.index()).filter(|berth| berth.generation == key.generation())
    }

    fn enqueue(&mut self, key: SessionKey) {
        if let Some(berth) = self.berth(key)
            && !berth.queued
        {
            berth.queued = true;
            self.queue.push_back(key);
        }
    }

    /// One turn for each relay in the queue, as many as fit into a turn of ours.
    fn serve_queue(&mut self) {
        let now = self.now.saturating_duration_since(self.epoch);
        let is_recent = |inbox: &Arc<Inbox>| now.saturating_sub(inbox.served_at()) < limits::SMALL_CALLS_FOR;
        let is_somebody_there = self.inboxes.iter().any(is_recent);
        self.tools.limit_calls(if is_somebody_there { limits::SMALL_CALL_BYTES } else { usize::MAX });
        for _ in 0..self.queue.len() {
            let Some(key) = self.queue.pop_front() else { break };
            let Some(berth) = self.berth(key) else { continue };
            berth.queued = false;
            let loan = Arc::clone(&berth.loan);
            self.take_turn(key, &loan);
            if self.now.elapsed() >= limits::TURN_BUDGET {
                break;
            }
        }
    }

    fn take_turn(&mut self, key: SessionKey, loan: &Arc<Loan>) {
        let mut hold = loan.hold();
        let Some(cargo) = hold.cargo.as_mut() else { return };
        let Cargo { client, origin, relay, heat, user, reported } = cargo;
        let turn = RelayTurn { relay, client, origin, heat, reported, user: user.live() };
        let Moved { progress, half_closed_now, .. } = turn.take(&mut self.tools, &self.counters, self.now);
        loan.publish(&cargo.relay);
        let returned = match progress {
            Ok(Progress::Waiting) if cargo.heat.is_cold() && cargo.relay.holds_nothing() => Returned::Cooled,
            Ok(Progress::Finished) => Returned::Finished,
            Ok(progress) => {
                drop(hold);
                if half_closed_now {
                    loan.tell_owner(Returned::HalfClosed);
                }
                if progress == Progress::Unfinished {
                    self.enqueue(key);
                }
                return;
            }
            Err(fault) => {
                cargo.relay.drop_held(&mut self.tools);
                Returned::Broken(fault)
            }
        };
        leave_ship(cargo, self.poll.registry());
        hold.is_aboard = false;
        drop(hold);
        self.loans.remove(key.index());
        self.dock.load.fetch_sub(1, Ordering::Relaxed);
        loan.tell_owner(returned);
    }
}

fn board(cargo: &mut Cargo, registry: &Registry, key: SessionKey) -> io::Result<()> {
    cargo.client.watch(registry, key.token(SideOf::Client))?;
    cargo.origin.watch(registry, key.token(ORIGIN))
}

/// Whoever was not watched needs not be left.
fn leave_ship(cargo: &mut Cargo, registry: &Registry) {
    for socket in [&mut cargo.client, &mut cargo.origin] {
        if let Err(error) = registry.deregister(&mut socket.stream) {
            log::debug!("a socket of a loan was not watched: error=\"{error}\"");
        }
    }
}
