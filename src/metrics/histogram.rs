//! Histograms: fixed buckets, plain stores by the one thread that owns them, no allocation.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Histogram;

/// Buckets of a histogram, the last without an upper bound among them.
pub const BUCKETS_MAX: usize = 16;

/// Half a millisecond to ten seconds, in microseconds: what a client waits for.
const WAITS: &[u64] = &[
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Ten milliseconds to a day, in microseconds: a page, a download, a tunnel.
const SESSIONS: &[u64] = &[
    10_000,
    100_000,
    1_000_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
    14_400_000_000,
    86_400_000_000,
];

/// 256 B to 16 GiB, each bound four times the one before.
const BYTES: &[u64] = &[
    1 << 8,
    1 << 10,
    1 << 12,
    1 << 14,
    1 << 16,
    1 << 18,
    1 << 20,
    1 << 22,
    1 << 24,
    1 << 26,
    1 << 28,
    1 << 30,
    1 << 32,
    1 << 34,
];
const _: () = assert!(WAITS.len() < BUCKETS_MAX && SESSIONS.len() < BUCKETS_MAX && BYTES.len() < BUCKETS_MAX);

impl Histogram {
    /// The upper bounds of its buckets, in its unit, each part of its bucket; one more bucket has none.
    #[must_use]
    pub fn bounds(self) -> &'static [u64] {
        match self {
            Self::HandshakeDuration | Self::DnsDuration | Self::ConnectDuration => WAITS,
            Self::SessionDuration => SESSIONS,
            Self::SessionUp | Self::SessionDown => BYTES,
        }
    }
}

/// One histogram of one thread.
#[derive(Debug, Default)]
pub(super) struct Cells {
    buckets: [AtomicU64; BUCKETS_MAX],
    sum: AtomicU64,
}

impl Cells {
    /// By the owning thread only.
    pub(super) fn observe(&self, histogram: Histogram, value: u64) {
        let bounds = histogram.bounds();
        let place = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        if let Some(bucket) = self.buckets.get(place) {
            add(bucket, 1);
        }
        add(&self.sum, value);
    }

    pub(super) fn distribution(&self) -> Distribution {
        let mut now = Distribution { sum: self.sum.load(Ordering::Relaxed), ..Distribution::default() };
        for (to, from) in now.buckets.iter_mut().zip(&self.buckets) {
            *to = from.load(Ordering::Relaxed);
        }
        now
    }
}

fn add(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// A histogram as it was at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Values in each bucket alone: those of [`Histogram::bounds`], then the one without a bound.
    pub buckets: [u64; BUCKETS_MAX],
    /// All values added up.
    pub sum: u64,
}

impl Distribution {
    /// Adds what another thread has.
    pub(super) fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(to, more)| *to = to.wrapping_add(more));
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |count, bucket| count.wrapping_add(*bucket))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Metrics;
    use super::*;

    #[test]
    fn bounds_rise() {
        for histogram in Histogram::ALL {
            assert!(histogram.bounds().is_sorted_by(|one, next| one < next), "{histogram:?}");
        }
    }

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let metrics = Metrics::new(2);
        let [one, other] = [0, 1].map(|place| metrics.worker(place).unwrap());
        for value in [0, 256, 257, u64::from(u32::MAX) * 8] {
            one.observe(Histogram::SessionUp, value);
        }
        other.observe(Histogram::SessionUp, 300);
        let spread = metrics.distribution(Histogram::SessionUp);
        assert_eq!(spread.buckets[..3], [2, 2, 0]);
        assert_eq!(spread.buckets[BYTES.len()], 1, "past every bound");
        assert_eq!(spread.count(), 5);
        assert_eq!(spread.sum, 256 + 257 + u64::from(u32::MAX) * 8 + 300);
        other.observe_time(Histogram::ConnectDuration, Duration::from_micros(700));
        let spread = metrics.distribution(Histogram::ConnectDuration);
        assert_eq!((spread.buckets[1], spread.count(), spread.sum), (1, 1, 700));
    }
}
