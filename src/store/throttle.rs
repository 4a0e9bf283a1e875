//! Failed log-ins per source: how many within the window, bounded, and pure with the time passed in.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::ids::source_of;

/// Who counts as one source; see [`source_of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(source_of(address))
    }
}

/// What [`Throttle`] allows and remembers.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThrottleLimits {
    /// Failures within the window from which on a source is refused.
    pub failures_per_source: u32,
    /// How long a failure counts.
    pub window: Duration,
    /// Sources remembered at once; the oldest failures make room.
    pub sources_count: usize,
}

/// The failures of the last window, in their order and by source.
#[derive(Debug)]
pub(super) struct Throttle {
    limits: ThrottleLimits,
    /// Oldest first. A source has at most `failures_per_source` here, since those over it are refused.
    failures: VecDeque<(Instant, Source)>,
    counts: HashMap<Source, u32>,
}

impl Throttle {
    /// Nothing has failed yet.
    #[must_use]
    pub(super) fn new(limits: ThrottleLimits) -> Self {
        Self { limits, failures: VecDeque::new(), counts: HashMap::new() }
    }

    /// Whether a source has failed too often to be tried.
    pub(super) fn refuses(&mut self, source: Source, now: Instant) -> bool {
        self.expire(now);
        self.count(source) >= self.limits.failures_per_source
    }

    /// Counts a failure. Those of a source that is refused already add nothing: its time does not grow.
    pub(super) fn failed(&mut self, source: Source, now: Instant) {
        self.expire(now);
        if self.count(source) >= self.limits.failures_per_source {
            return;
        }
        while self.counts.len() >= self.limits.sources_count && !self.counts.contains_key(&source) {
            self.forget_oldest();
        }
        self.failures.push_back((now, source));
        *self.counts.entry(source).or_default() += 1;
        self.check_invariants();
    }

    /// Sources with a failure that was not found expired yet.
    #[must_use]
    pub(super) fn sources_count(&self) -> usize {
        self.counts.len()
    }

    fn count(&self, source: Source) -> u32 {
        self.counts.get(&source).copied().unwrap_or_default()
    }

    fn check_invariants(&self) {
        debug_assert_eq!(
            self.failures.len() as u64,
            self.counts.values().map(|&count| u64::from(count)).sum::<u64>()
        );
        debug_assert!(self.counts.len() <= self.limits.sources_count);
    }

    fn expire(&mut self, now: Instant) {
        while let Some(&(failed, _)) = self.failures.front()
            && now.saturating_duration_since(failed) >= self.limits.window
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, source)) = self.failures.pop_front() else { return };
        if let Some(count) = self.counts.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: ThrottleLimits =
        ThrottleLimits { failures_per_source: 5, window: Duration::from_secs(60), sources_count: 8 };

    fn source(number: u8) -> Source {
        Source::from(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn addresses_that_one_host_chooses_from_are_one_source() {
        let check = |one: &str, other: &str, same: bool| {
            let (one, other): (IpAddr, IpAddr) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(Source::from(one) == Source::from(other), same, "{one} {other}");
        };
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("::ffff:192.0.2.1", "::ffff:192.0.2.2", false);
        check("2001:db8::1", "2001:db8::ffff:1", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
    }

    #[test]
    fn five_failures_in_a_minute_refuse_until_the_first_is_a_minute_old() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut throttle = Throttle::new(LIMITS);
        for second in 0..5 {
            assert!(!throttle.refuses(source(1), at(second * 10)));
            throttle.failed(source(1), at(second * 10));
        }
        assert!(throttle.refuses(source(1), at(41)));
        assert!(!throttle.refuses(source(2), at(41)), "others are not concerned");
        throttle.failed(source(1), at(50));
        assert!(throttle.refuses(source(1), at(59)));
        assert!(!throttle.refuses(source(1), at(60)), "a refused try does not extend the minute");
        throttle.failed(source(1), at(60));
        assert!(throttle.refuses(source(1), at(61)));
        assert!(!throttle.refuses(source(1), at(70)));
        assert!(!throttle.refuses(source(1), at(121)));
        assert_eq!(throttle.sources_count(), 0);
    }

    #[test]
    fn the_oldest_sources_make_room() {
        let now = Instant::now();
        let mut throttle = Throttle::new(LIMITS);
        (0..5).for_each(|_| throttle.failed(source(0), now));
        (1..8).for_each(|number| throttle.failed(source(number), now));
        assert!(throttle.refuses(source(0), now));
        throttle.failed(source(8), now);
        assert_eq!(throttle.sources_count(), 8);
        assert!(!throttle.refuses(source(0), now));
    }

    proptest! {
        /// Against the plainest thinkable account: every failure with its time, counted anew each time.
        #[test]
        fn agrees_with_a_list_of_all_failures(tries in prop::collection::vec((0u8..6, 0u64..20), 0..200)) {
            let mut now = Instant::now();
            let mut throttle = Throttle::new(LIMITS);
            let mut list: Vec<(Instant, u8)> = Vec::new();
            for (number, wait) in tries {
                now += Duration::from_secs(wait);
                let recent = list.iter().filter(|(at, one)| *one == number && now - *at < LIMITS.window);
                let refused = recent.count() >= 5;
                prop_assert_eq!(throttle.refuses(source(number), now), refused);
                throttle.failed(source(number), now);
                if !refused {
                    list.push((now, number));
                }
                prop_assert!(throttle.failures.len() <= LIMITS.sources_count * 5);
            }
        }
    }
}
