//! How many answers unauthenticated datagrams may get: what bounds the work and the reflection of a flood.
//!
//! A table of fixed size counts the answers of this second by source. Sources that share a slot share its
//! budget; which ones do depends on a secret, so a flood cannot aim at a victim's slot.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Slots: 4 KiB of memory, and one chance in 1,024 to share with a given source.
const SLOTS: usize = 1024;

/// The window over which answers are counted.
const SECOND: Duration = Duration::from_secs(1);

/// Why an answer was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Source,
    Total,
}

/// The answers of the second that began at `since`.
pub(crate) struct Replies {
    secret: u64,
    since: Instant,
    total: u32,
    slots: Box<[u32; SLOTS]>,
}

impl Replies {
    pub(crate) fn new(secret: u64, now: Instant) -> Self {
        Self { secret, since: now, total: 0, slots: Box::new([0; SLOTS]) }
    }

    /// Takes one answer out of the budgets of `source` and of all.
    pub(crate) fn take(
        &mut self,
        source: IpAddr,
        now: Instant,
        source_max: u32,
        total_max: u32,
    ) -> Result<(), Exhausted> {
        if now.saturating_duration_since(self.since) >= SECOND {
            self.since = now;
            self.total = 0;
            self.slots.fill(0);
        }
        let mut hasher = DefaultHasher::new();
        (self.secret, source).hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % SLOTS as u64).unwrap_or(0);
        let Some(slot) = self.slots.get_mut(at) else { return Err(Exhausted::Source) };
        if *slot >= source_max {
            return Err(Exhausted::Source);
        }
        if self.total >= total_max {
            return Err(Exhausted::Total);
        }
        *slot += 1;
        self.total += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_own_budget_and_all_have_one() {
        let start = Instant::now();
        let mut replies = Replies::new(1, start);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut take = |source, now| replies.take(source, now, 2, 3);
        assert_eq!(take(one, start), Ok(()));
        assert_eq!(take(one, start), Ok(()));
        assert_eq!(take(one, start), Err(Exhausted::Source));
        assert_eq!(take(other, start), Ok(()));
        assert_eq!(take(other, start), Err(Exhausted::Total));
        assert_eq!(take(one, start + SECOND), Ok(()), "a new second");
    }
}
