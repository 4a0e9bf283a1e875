//! What a worker does about loans: gives relays that move much away, takes them back, and hears of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::carrier::Errand;
use super::inbox::SessionKey;
use super::loan::{Cargo, Loan, Returned};
use super::relay::overdue;
use super::session::{Input, Session};
use super::slot::SideOf;
use super::worker::Worker;
use crate::logging::CloseReason;
use crate::metrics::Counter;

impl Worker {
    /// Gives a relay away, to the carrier that has the fewest.
    pub(super) fn lend(&mut self, key: SessionKey) {
        let docks = self.shared.docks.iter().enumerate();
        let Some((carrier, dock)) = docks.min_by_key(|(_, dock)| dock.load.load(Ordering::Relaxed)) else {
            return;
        };
        let Some(slot) = self.sessions.get_mut(key.index()) else { return };
        slot.keep_origin_alive(&self.snapshot.tcp);
        let (mut client, mut origin, relay) =
            match (slot.client.take(), slot.origin.take(), slot.session.take()) {
                (Some(client), Some(origin), Some(Session::Relay(relay))) => (client, origin, relay),
                (client, origin, session) => {
                    (slot.client, slot.origin, slot.session) = (client, origin, session);
                    return;
                }
            };
        for socket in [&mut client, &mut origin] {
            if let Err(error) = self.poll.registry().deregister(&mut socket.stream) {
                log::debug!("a relay was not watched: session={} error=\"{error}\"", slot.id);
            }
        }
        relay.leave(&mut self.tools);
        let user = Arc::clone(&slot.facts.user);
        let cargo = Cargo { client, origin, relay, heat: slot.heat, user, reported: slot.reported };
        let owner = Arc::clone(&self.inbox);
        let loan = Arc::new(Loan::new(key, owner, self.shared.epoch, carrier, cargo));
        slot.loan = Some(Arc::clone(&loan));
        dock.load.fetch_add(1, Ordering::Relaxed);
        dock.send(Errand::Take(loan));
        self.counters.count(Counter::SessionsLent);
    }

    /// Has a relay back, if it is on loan. Its sockets are not watched by anybody then.
    pub(super) fn recall(&mut self, key: SessionKey) {
        let Some(slot) = self.slot(key) else { return };
        let Some(loan) = slot.loan.take() else { return };
        let mut hold = loan.hold();
        let Some(mut cargo) = hold.cargo.take() else { return }; // Only we take it.
        let was_aboard = hold.is_aboard;
        if was_aboard {
            hold.left = cargo.relay.take_held();
        }
        drop(hold);
        slot.client = Some(cargo.client);
        slot.origin = Some(cargo.origin);
        slot.session = Some(Session::Relay(cargo.relay));
        slot.heat = cargo.heat;
        slot.reported = cargo.reported;
        if was_aboard && let Some(dock) = self.shared.docks.get(loan.carrier) {
            dock.send(Errand::Forget(loan));
        }
    }

    /// A carrier has something to say of a relay.
    pub(super) fn returned(&mut self, key: SessionKey, what: Returned) {
        if self.slot(key).is_none_or(|slot| slot.loan.is_none()) {
            return; // The session was ended meanwhile.
        }
        if what == Returned::HalfClosed {
            return self.arm(key);
        }
        self.recall(key);
        match what {
            Returned::HalfClosed => {}
            Returned::Cooled => self.watch_again(key),
            Returned::Finished => self.end(key, CloseReason::Finished),
            Returned::Broken(fault) => self.break_off(key, fault),
        }
    }

    fn watch_again(&mut self, key: SessionKey) {
        let Some(slot) = self.sessions.get_mut(key.index()) else { return };
        let origin_side = SideOf::Attempt(slot.origin_attempt);
        for (socket, side) in [(&mut slot.client, SideOf::Client), (&mut slot.origin, origin_side)] {
            let Some(socket) = socket else { continue };
            if let Err(error) = socket.watch(self.poll.registry(), key.token(side)) {
                log::warn!("a relay could not be watched: session={} error=\"{error}\"", slot.id);
                socket.ready.broken = true; // Its next turn will end it.
            }
        }
        self.arm(key);
        self.enqueue(key);
    }

    /// The deadline of a session has come.
    pub(super) fn deadline_has_come(&mut self, key: SessionKey) {
        match self.slot(key).and_then(|slot| slot.loan.as_ref()).map(|loan| overdue(loan.ended_sides())) {
            None => self.step(key, Input::Tick),
            Some((counter, reason)) => {
                self.counters.count(counter);
                self.end(key, reason);
            }
        }
    }
}
