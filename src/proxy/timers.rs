//! Deadlines of a worker's sessions: a hierarchical timing wheel (Varghese and Lauck, 1987). Setting one and
//! expiring one cost O(1). There is no removal: a session keeps the tick it is armed for, ignores any other
//! that comes, and arms itself anew when its deadline has moved on meanwhile.

use std::time::{Duration, Instant};

/// A moment in wheel time: ticks of [`TICK`] since the wheel was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

impl Tick {
    /// Later than every deadline: not armed.
    pub const NEVER: Self = Self(u64::MAX);
}

/// The wheel's resolution: fine enough for the 50 ms of RFC 8305.
pub const TICK: Duration = Duration::from_millis(4);

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 4;
/// Ticks that the wheel spans (18 hours). What lies further off comes back early and is armed anew.
const SPAN: u64 = 1 << (SLOT_BITS + SHIFTS[LEVELS - 1]);
/// A slot of each level lasts `1 << shift` ticks.
const SHIFTS: [u32; LEVELS] = [0, SLOT_BITS, 2 * SLOT_BITS, 3 * SLOT_BITS];

/// The wheel. Keys are opaque to it.
#[derive(Debug)]
pub struct Wheel {
    start: Instant,
    now: u64,
    levels: [Level; LEVELS],
}

#[derive(Debug)]
struct Level {
    /// One bit a slot: is anything in it?
    occupied: u64,
    slots: [Vec<Entry>; SLOTS],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tick: u64,
    key: u64,
}

impl Wheel {
    /// A wheel whose time begins at `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        let level = || Level { occupied: 0, slots: std::array::from_fn(|_| Vec::new()) };
        Self { start, now: 0, levels: std::array::from_fn(|_| level()) }
    }

    /// The tick that will expire for a deadline: never before it, and at least one tick ahead.
    #[must_use]
    pub fn tick_of(&self, deadline: Instant) -> Tick {
        let since = deadline.saturating_duration_since(self.start).as_millis();
        let ticks = since.div_ceil(TICK.as_millis());
        Tick(u64::try_from(ticks).unwrap_or(u64::MAX - 1).clamp(self.now + 1, self.now + SPAN - 1))
    }

    /// Has `key` expire at `tick`, which [`Wheel::tick_of`] gave.
    pub fn insert(&mut self, tick: Tick, key: u64) {
        let tick = tick.0.clamp(self.now + 1, self.now + SPAN - 1);
        self.place(Entry { tick, key });
    }

    /// Takes everything that has expired by `now`, as pairs of tick and key.
    pub fn expire(&mut self, now: Instant, expired: &mut Vec<(Tick, u64)>) {
        let since = now.saturating_duration_since(self.start).as_millis() / TICK.as_millis();
        let target = u64::try_from(since).unwrap_or(u64::MAX);
        while let Some(next) = self.next_stop().filter(|next| *next <= target) {
            self.now = next;
            self.cascade();
            let place = slot_of(next, 0);
            let Some(level) = self.levels.first_mut() else { break };
            level.occupied &= !(1 << place);
            if let Some(slot) = level.slots.get_mut(place) {
                expired.extend(slot.drain(..).map(|entry| (Tick(entry.tick), entry.key)));
            }
        }
        self.now = self.now.max(target);
    }

    /// When [`Wheel::expire`] has something to do next.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let ticks = u32::try_from(self.next_stop()?).unwrap_or(u32::MAX);
        Some(self.start + TICK * ticks)
    }

    /// The next tick at which a slot expires or has to be spread over the level below.
    fn next_stop(&self) -> Option<u64> {
        (0..LEVELS).filter_map(|level| self.next_stop_of(level)).min()
    }

    fn next_stop_of(&self, place: usize) -> Option<u64> {
        let occupied = self.levels.get(place)?.occupied;
        if occupied == 0 {
            return None;
        }
        let shift = *SHIFTS.get(place)?;
        let current = self.now >> shift;
        // Slots stand in a ring; the one of the current time holds what is a whole turn away.
        let ahead = occupied.rotate_right(u32::try_from((current + 1) % SLOTS as u64).ok()?).trailing_zeros();
        Some((current + 1 + u64::from(ahead)) << shift)
    }

    /// At the border of a higher level's slot: spreads that slot over the levels below.
    fn cascade(&mut self) {
        for (place, shift) in SHIFTS.iter().enumerate().skip(1).rev() {
            if self.now & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot_place = slot_of(self.now, place);
            let Some(level) = self.levels.get_mut(place) else { continue };
            level.occupied &= !(1 << slot_place);
            let entries = level.slots.get_mut(slot_place).map(std::mem::take).unwrap_or_default();
            for entry in entries {
                self.place(entry);
            }
        }
    }

    fn place(&mut self, entry: Entry) {
        let ahead = entry.tick.saturating_sub(self.now);
        let place = SHIFTS.iter().skip(1).take_while(|shift| ahead >= 1 << **shift).count();
        let slot_place = slot_of(entry.tick, place);
        let Some(level) = self.levels.get_mut(place) else { return };
        level.occupied |= 1 << slot_place;
        if let Some(slot) = level.slots.get_mut(slot_place) {
            slot.push(entry);
        }
    }
}

fn slot_of(tick: u64, level: usize) -> usize {
    let slot = (tick >> SHIFTS.get(level).unwrap_or(&0)) & (SLOTS as u64 - 1);
    usize::try_from(slot).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_wheel_has_nothing_to_do() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        assert_eq!(wheel.next(), None);
        let mut expired = Vec::new();
        wheel.expire(start + Duration::from_secs(3600), &mut expired);
        assert!(expired.is_empty());
    }

    proptest! {
        /// Each deadline expires exactly once: not before its time, and at most one tick after it when the
        /// wheel is asked at the times it names itself.
        #[test]
        fn deadlines_expire_once_and_in_time(
            deadlines in prop::collection::vec(0_u64..100_000_000, 1..60),
            first in 0_u64..1_000_000,
        ) {
            let start = Instant::now();
            let mut wheel = Wheel::new(start);
            let mut expired = Vec::new();
            wheel.expire(start + Duration::from_millis(first), &mut expired);
            let span = TICK * u32::try_from(SPAN).unwrap();
            for (key, ms) in deadlines.iter().enumerate() {
                let tick = wheel.tick_of(start + Duration::from_millis(*ms));
                wheel.insert(tick, key as u64);
            }
            let mut seen = vec![false; deadlines.len()];
            while let Some(next) = wheel.next() {
                wheel.expire(next, &mut expired);
                for (_, key) in expired.drain(..) {
                    let key = usize::try_from(key).unwrap();
                    prop_assert!(!seen[key]);
                    seen[key] = true;
                    let due = start + Duration::from_millis(deadlines[key].max(first));
                    let early = due.saturating_duration_since(next);
                    prop_assert!(early == Duration::ZERO || next + TICK >= start + span, "early by {early:?}");
                    prop_assert!(next.saturating_duration_since(due) <= TICK * 2);
                }
            }
            prop_assert!(seen.iter().all(|seen| *seen));
        }
    }
}
