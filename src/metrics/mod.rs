//! What is counted: per worker, padded against false sharing, summed on read.

pub mod exposition;
mod histogram;
mod names;

pub use histogram::{BUCKETS_MAX, Distribution};
pub use names::{Counter, Fact, Family, Gauge, Histogram, PerUser, Scope, Unit};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use histogram::Cells;

/// The counters of one thread. Only that thread writes, so a write is a plain load and store;
/// everyone may read, and sees each value at most one turn late.
#[repr(align(128))]
#[derive(Debug)]
pub struct Counters {
    values: [AtomicU64; Counter::COUNT],
    gauges: [AtomicU64; Gauge::COUNT],
    histograms: [Cells; Histogram::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            values: std::array::from_fn(|_| AtomicU64::new(0)),
            gauges: std::array::from_fn(|_| AtomicU64::new(0)),
            histograms: std::array::from_fn(|_| Cells::default()),
        }
    }
}

impl Counters {
    /// Adds to a counter. Called by the owning thread only.
    pub fn add(&self, counter: Counter, amount: u64) {
        let Some(cell) = self.values.get(counter as usize) else { return };
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Adds one to a counter. Called by the owning thread only.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Sets a gauge. Called by the owning thread only.
    pub fn set(&self, gauge: Gauge, value: u64) {
        if let Some(cell) = self.gauges.get(gauge as usize) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Adds to a gauge. Called by the owning thread only.
    pub fn raise(&self, gauge: Gauge) {
        self.set(gauge, self.gauge(gauge).wrapping_add(1));
    }

    /// Takes one from a gauge. Called by the owning thread only.
    pub fn lower(&self, gauge: Gauge) {
        self.set(gauge, self.gauge(gauge).saturating_sub(1));
    }

    /// Adds a value, in the histogram's unit, to a histogram. Called by the owning thread only.
    pub fn observe(&self, histogram: Histogram, value: u64) {
        if let Some(cells) = self.histograms.get(histogram as usize) {
            cells.observe(histogram, value);
        }
    }

    /// Adds a time to a histogram of times. Called by the owning thread only.
    pub fn observe_time(&self, histogram: Histogram, time: Duration) {
        self.observe(histogram, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// A histogram as it is now.
    #[must_use]
    pub fn distribution(&self, histogram: Histogram) -> Distribution {
        self.histograms.get(histogram as usize).map_or_else(Distribution::default, Cells::distribution)
    }

    /// A counter's value.
    #[must_use]
    pub fn value(&self, counter: Counter) -> u64 {
        self.values.get(counter as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// A gauge's value.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges.get(gauge as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

/// The counters of every thread, summed on read: workers, the control loop, carriers.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    threads: Vec<Arc<Counters>>,
    workers_count: usize,
}

impl Metrics {
    /// Counters for that many workers, as many carriers, and the control loop.
    #[must_use]
    pub fn new(workers_count: usize) -> Self {
        Self { threads: (0..=2 * workers_count).map(|_| Arc::default()).collect(), workers_count }
    }

    /// The counters of one worker, by its place.
    #[must_use]
    pub fn worker(&self, place: usize) -> Option<&Arc<Counters>> {
        self.threads.get(place).filter(|_| place < self.workers_count)
    }

    /// The counters of the control loop.
    #[must_use]
    pub fn control(&self) -> Arc<Counters> {
        self.threads.get(self.workers_count).map_or_else(Arc::default, Arc::clone)
    }

    /// The counters of one carrier, by its place.
    #[must_use]
    pub fn carrier(&self, place: usize) -> Option<&Arc<Counters>> {
        self.threads.get(self.workers_count + 1 + place)
    }

    /// The counters of one thread of the data plane: the workers come first, then the carriers.
    #[must_use]
    pub fn data_plane(&self, place: usize) -> Option<&Arc<Counters>> {
        self.worker(place).or_else(|| self.carrier(place.checked_sub(self.workers_count)?))
    }

    /// A counter over all threads.
    #[must_use]
    pub fn total(&self, counter: Counter) -> u64 {
        self.threads.iter().map(|thread| thread.value(counter)).fold(0, u64::wrapping_add)
    }

    /// A histogram over all threads.
    #[must_use]
    pub fn distribution(&self, histogram: Histogram) -> Distribution {
        let mut sum = Distribution::default();
        self.threads.iter().for_each(|thread| sum.add(&thread.distribution(histogram)));
        sum
    }

    /// The counters of each worker.
    pub fn workers(&self) -> impl Iterator<Item = &Counters> {
        self.threads.iter().take(self.workers_count).map(Arc::as_ref)
    }

    /// A gauge over all threads.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.threads.iter().map(|thread| thread.gauge(gauge)).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_over_threads() {
        let metrics = Metrics::new(3);
        let threads = [metrics.worker(2).unwrap(), metrics.carrier(2).unwrap(), &metrics.control()];
        assert!(metrics.worker(3).is_none() && metrics.carrier(3).is_none());
        for (place, thread) in threads.into_iter().enumerate() {
            thread.add(Counter::SessionsAccepted, place as u64 + 1);
            thread.set(Gauge::SessionsCurrent, 2);
        }
        assert_eq!(metrics.total(Counter::SessionsAccepted), 6);
        assert_eq!(metrics.gauge(Gauge::SessionsCurrent), 6);
    }
}
