//! The look-ups under way: each by its key, by what it asks, and by the time at which something must happen.
//!
//! A look-up is one name and family, however many sessions wait for it. It is in one stage, which has one
//! timer. The table keeps its three indices in step and decides nothing.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use slab::Slab;

use super::health::Attempt;
use super::plain::Rotation;
use super::pool::{Connection, SocketKey};
use super::{DomainName, Family, Waiter};

/// Which look-up is meant; one that has ended is not taken for the one in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LookupKey {
    place: usize,
    serial: u64,
}

/// A question under way.
#[derive(Debug)]
pub(super) struct Lookup {
    serial: u64,
    pub(super) name: DomainName,
    pub(super) family: Family,
    /// Who asked. Some may have gone since; the resolver knows who still waits.
    pub(super) waiters: Vec<Waiter>,
    /// How many still wait.
    pub(super) waiting_count: usize,
    /// When the look-up ends, whatever stage it is in.
    pub(super) deadline: Instant,
    timer: Instant,
    /// Changed by [`Table::enter`] only.
    pub(super) stage: Stage,
}

/// Where a question is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// In the queue for a connection to the relay.
    WaitingForRelay(Connection),
    /// Sent to the relay.
    AskingRelay(SocketKey, Attempt),
    /// In the queue for a socket to a plain server.
    WaitingForPlain(Rotation, Transport),
    /// Sent to a plain server, in that epoch of the relay's health.
    AskingPlain(SocketKey, Rotation, u64),
}

/// How a plain server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Datagram,
    Stream,
}

/// All look-ups of one worker.
#[derive(Debug, Default)]
pub(super) struct Table {
    lookups: Slab<Lookup>,
    next_serial: u64,
    by_question: [HashMap<DomainName, LookupKey>; 2],
    timers: BTreeSet<(Instant, usize)>,
}

impl Table {
    /// Begins a look-up that ends at `deadline`. Nobody waits for it yet.
    pub(super) fn begin(&mut self, name: &DomainName, family: Family, deadline: Instant) -> LookupKey {
        let serial = self.next_serial;
        self.next_serial += 1;
        let place = self.lookups.insert(Lookup {
            serial,
            name: name.clone(),
            family,
            waiters: Vec::with_capacity(1),
            waiting_count: 0,
            deadline,
            timer: deadline,
            stage: Stage::WaitingForRelay(Connection::Any),
        });
        let key = LookupKey { place, serial };
        self.timers.insert((deadline, place));
        if let Some(by_name) = self.by_question.get_mut(family as usize) {
            by_name.insert(name.clone(), key);
        }
        self.check_invariants();
        key
    }

    /// The look-up, if it has not ended.
    pub(super) fn get_mut(&mut self, key: LookupKey) -> Option<&mut Lookup> {
        self.lookups.get_mut(key.place).filter(|lookup| lookup.serial == key.serial)
    }

    /// The look-up that asks this already.
    pub(super) fn under_way(&self, name: &DomainName, family: Family) -> Option<LookupKey> {
        self.by_question.get(family as usize)?.get(name).copied()
    }

    /// Puts a look-up into a stage that lasts until `until`, or until the look-up's own end if that is earlier.
    pub(super) fn enter(&mut self, key: LookupKey, stage: Stage, until: Instant) {
        let Some(lookup) = self.get_mut(key) else { return };
        let before = lookup.timer;
        let after = lookup.deadline.min(until);
        lookup.stage = stage;
        lookup.timer = after;
        self.timers.remove(&(before, key.place));
        self.timers.insert((after, key.place));
    }

    /// Ends a look-up.
    pub(super) fn remove(&mut self, key: LookupKey) -> Option<Lookup> {
        self.get_mut(key)?;
        let lookup = self.lookups.remove(key.place);
        self.timers.remove(&(lookup.timer, key.place));
        if let Some(by_name) = self.by_question.get_mut(lookup.family as usize) {
            by_name.remove(&lookup.name);
        }
        self.check_invariants();
        Some(lookup)
    }

    /// When the next timer runs out.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|&(timer, _)| timer)
    }

    /// Takes the next timer that has run out. Its look-up has to enter a stage or end.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<LookupKey> {
        let &(timer, place) = self.timers.first()?;
        if timer > now {
            return None;
        }
        self.timers.pop_first();
        self.lookups.get(place).map(|lookup| LookupKey { place, serial: lookup.serial })
    }

    /// The keys of all look-ups.
    pub(super) fn keys(&self) -> Vec<LookupKey> {
        let key = |(place, lookup): (usize, &Lookup)| LookupKey { place, serial: lookup.serial };
        self.lookups.iter().map(key).collect()
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.lookups.len()
    }

    /// Every look-up is found by its question, and nothing else is.
    fn check_invariants(&self) {
        debug_assert_eq!(
            self.lookups.len(),
            self.by_question.iter().map(HashMap::len).sum::<usize>(),
            "one question each"
        );
        debug_assert!(self.timers.len() <= self.lookups.len(), "at most one timer each");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn name(text: &str) -> DomainName {
        DomainName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_key_does_not_find_the_look_up_that_took_its_place() {
        let (mut table, now) = (Table::default(), Instant::now());
        let first = table.begin(&name("a"), Family::V4, now);
        assert!(table.remove(first).is_some());
        let second = table.begin(&name("b"), Family::V4, now);
        assert_eq!(first.place, second.place);
        assert!(table.get_mut(first).is_none());
        assert!(table.remove(first).is_none());
        assert_eq!(table.under_way(&name("a"), Family::V4), None);
        assert_eq!(table.under_way(&name("b"), Family::V4), Some(second));
        assert_eq!(table.under_way(&name("b"), Family::V6), None);
    }

    #[test]
    fn a_stage_ends_at_its_timer_but_never_after_its_look_up() {
        let (mut table, now) = (Table::default(), Instant::now());
        let key = table.begin(&name("a"), Family::V4, now + 5 * SECOND);
        let stage = Stage::WaitingForRelay(Connection::Any);
        table.enter(key, stage, now + 2 * SECOND);
        assert_eq!(table.pop_due(now + SECOND), None);
        assert_eq!(table.pop_due(now + 2 * SECOND), Some(key));
        table.enter(key, stage, now + 9 * SECOND);
        assert_eq!(table.deadline(), Some(now + 5 * SECOND));
        table.remove(key);
        assert_eq!(table.deadline(), None);
        assert_eq!(table.len(), 0);
    }
}
