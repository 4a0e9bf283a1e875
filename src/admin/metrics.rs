//! What is counted, as the admin channel shows it. The list of all metrics is [`crate::metrics`].

use std::borrow::Cow;

use pipo_protocol::v2::events::Happening;
use pipo_protocol::v2::messages::{
    MetricKind, MetricPart, MetricRow, MetricSample, MetricUnit, MetricValue, MetricsFollow, MetricsRequest,
    Subscribed,
};
use pipo_protocol::v2::{Reply, Sentence, Word};

use super::answer::{Answer, Outcome};
use super::core::Core;
use super::follow;
use super::rows;
use crate::metrics::{Counter, Distribution, Gauge, Histogram, Metrics, Unit};

/// A number that has a name of its own. A histogram is several: how many values there were, their sum, and for
/// each bound how many did not exceed it.
#[derive(Clone, Copy)]
enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Count(Histogram),
    Sum(Histogram),
    /// With the place of the bound.
    Below(Histogram, usize),
}

impl Metric {
    fn all() -> impl Iterator<Item = Self> {
        let counters = Counter::ALL.iter().map(|counter| Self::Counter(*counter));
        let gauges = Gauge::ALL.iter().map(|gauge| Self::Gauge(*gauge));
        let histograms = Histogram::ALL.iter().flat_map(|&histogram| {
            let below = (0..histogram.bounds().len()).map(move |place| Self::Below(histogram, place));
            [Self::Count(histogram), Self::Sum(histogram)].into_iter().chain(below)
        });
        counters.chain(gauges).chain(histograms)
    }

    fn name(self) -> Cow<'static, str> {
        match self {
            Self::Counter(counter) => counter.name().into(),
            Self::Gauge(gauge) => gauge.name().into(),
            Self::Count(histogram) => format!("{}_count", histogram.name()).into(),
            Self::Sum(histogram) => format!("{}_sum", histogram.name()).into(),
            Self::Below(histogram, place) => {
                let bound = histogram.bounds().get(place).copied().unwrap_or(u64::MAX);
                format!("{}_le_{bound}", histogram.name()).into()
            }
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Counter(counter) => counter.meaning(),
            Self::Gauge(gauge) => gauge.meaning(),
            Self::Count(histogram) | Self::Sum(histogram) | Self::Below(histogram, _) => histogram.meaning(),
        }
    }

    fn kind(self) -> MetricKind {
        match self {
            Self::Counter(_) | Self::Count(_) | Self::Sum(_) | Self::Below(..) => MetricKind::Counter,
            Self::Gauge(_) => MetricKind::Gauge,
        }
    }

    fn unit(self) -> MetricUnit {
        let unit = match self {
            Self::Counter(counter) => counter.unit(),
            Self::Gauge(gauge) => gauge.unit(),
            Self::Sum(histogram) => histogram.unit(),
            Self::Count(_) | Self::Below(..) => Unit::Count,
        };
        match unit {
            Unit::Count => MetricUnit::Count,
            Unit::Bytes => MetricUnit::Bytes,
            Unit::Microseconds => MetricUnit::Microseconds,
        }
    }

    fn total(self, metrics: &Metrics) -> u64 {
        match self {
            Self::Counter(counter) => metrics.total(counter),
            Self::Gauge(gauge) => metrics.gauge(gauge),
            Self::Count(histogram) | Self::Sum(histogram) | Self::Below(histogram, _) => {
                self.part_of(&metrics.distribution(histogram))
            }
        }
    }

    fn of_worker(self, metrics: &Metrics, place: usize) -> u64 {
        let Some(counters) = metrics.data_plane(place) else { return 0 };
        match self {
            Self::Counter(counter) => counters.value(counter),
            Self::Gauge(gauge) => counters.gauge(gauge),
            Self::Count(histogram) | Self::Sum(histogram) | Self::Below(histogram, _) => {
                self.part_of(&counters.distribution(histogram))
            }
        }
    }

    /// Its number of a histogram's.
    fn part_of(self, spread: &Distribution) -> u64 {
        match self {
            Self::Sum(_) => spread.sum,
            Self::Below(_, place) => spread.buckets.iter().take(place + 1).sum(),
            Self::Count(_) | Self::Counter(_) | Self::Gauge(_) => spread.count(),
        }
    }
}

/// All metrics, or those whose names start so; as sums, or for each worker and carrier.
pub(super) fn list(core: &Core, body: &MetricsRequest) -> Answer {
    let places: Vec<_> = match body.per_worker {
        Some(true) => (0..core.plane.threads_count()).map(Some).collect(),
        Some(false) | None => vec![None],
    };
    let prefix = body.prefix.clone().unwrap_or_default();
    let has_meaning = body.meanings == Some(true);
    let named = Metric::all().filter(move |metric| metric.name().starts_with(prefix.as_str()));
    let wanted: Vec<_> = named.flat_map(|metric| places.iter().map(move |place| (metric, *place))).collect();
    let metrics = core.metrics.clone();
    let rows = wanted.into_iter().map(move |(metric, place)| MetricRow {
        name: Word::cut(&metric.name()),
        value: place.map_or_else(|| metric.total(&metrics), |place| metric.of_worker(&metrics, place)),
        kind: metric.kind(),
        unit: metric.unit(),
        worker: place.map(|place| u16::try_from(place).unwrap_or(u16::MAX)),
        meaning: has_meaning.then(|| Sentence::cut(metric.meaning())),
    });
    Ok(Outcome::Open(rows::listing_of::<MetricPart>(core, rows)))
}

/// Values of one event: with the longest names they fill it.
const VALUES_PER_EVENT: usize = 48;

/// Samples of all metrics, or of those whose names start so.
pub(super) fn follow(core: &Core, body: &MetricsFollow) -> Answer {
    let prefix = body.prefix.clone().unwrap_or_default();
    let take = move |core: &Core| {
        let named = Metric::all().filter(|metric| metric.name().starts_with(prefix.as_str()));
        let value = |metric: Metric| MetricValue {
            name: Word::cut(&metric.name()),
            value: metric.total(&core.metrics),
        };
        let values: Vec<_> = named.map(value).collect();
        let part = |values: &[MetricValue]| Happening::Sample(MetricSample { values: values.to_vec() });
        values.chunks(VALUES_PER_EVENT).map(part).collect()
    };
    let content = follow::samples(body.interval_ms, take)?;
    let reply = Reply::MetricsFollow(Subscribed { as_of: core.events.sequence() });
    Ok(Outcome::Follow(Box::new(reply), content))
}

/// Connections accepted from clients since the start, whatever became of them: with this meaning the number
/// is never below those of now and of the highest mark.
pub(super) fn sessions_historic(core: &Core) -> u64 {
    core.metrics.total(Counter::SessionsAccepted)
}

/// Connections of clients now.
pub(super) fn sessions_current(core: &Core) -> u64 {
    core.plane.admission().entered() as u64
}

/// Most connections of clients at once since the start.
pub(super) fn sessions_highest(core: &Core) -> u64 {
    core.plane.admission().entered_max() as u64
}

/// Payload sent to clients, bytes.
pub(super) fn bytes_sent(core: &Core) -> u64 {
    core.metrics.total(Counter::BytesDown)
}

/// Payload received from clients, bytes.
pub(super) fn bytes_received(core: &Core) -> u64 {
    core.metrics.total(Counter::BytesUp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_a_count_a_sum_and_what_is_below_each_bound() {
        let metrics = Metrics::new(2);
        for (place, value) in [(0, 100), (0, 300), (1, 5000)] {
            metrics.worker(place).unwrap().observe(Histogram::SessionUp, value);
        }
        let named = |name: &str| Metric::all().find(|metric| metric.name() == name).unwrap();
        let totals = ["count", "sum", "le_256", "le_1024", "le_16384", "le_17179869184"];
        let totals = totals.map(|part| named(&format!("session_up_{part}")).total(&metrics));
        assert_eq!(totals, [3, 5400, 1, 2, 3, 3]);
        assert_eq!(named("session_up_count").of_worker(&metrics, 0), 2);
        assert!(matches!(named("session_up_sum").unit(), MetricUnit::Bytes));
        assert!(matches!(named("connect_duration_sum").unit(), MetricUnit::Microseconds));
    }

    #[test]
    fn every_name_is_a_word_and_stands_once() {
        let mut names: Vec<_> = Metric::all().map(Metric::name).collect();
        assert!(names.iter().all(|name| Word::cut(name).as_str() == name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
