//! What is counted, as the admin channel shows it. The list of all metrics is [`crate::metrics`].

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
use crate::metrics::{Counter, Gauge, Metrics, Unit};

/// A metric of either kind.
#[derive(Clone, Copy)]
enum Metric {
    Counter(Counter),
    Gauge(Gauge),
}

impl Metric {
    fn all() -> impl Iterator<Item = Self> {
        let counters = Counter::ALL.iter().map(|counter| Self::Counter(*counter));
        counters.chain(Gauge::ALL.iter().map(|gauge| Self::Gauge(*gauge)))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Counter(counter) => counter.name(),
            Self::Gauge(gauge) => gauge.name(),
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Counter(counter) => counter.meaning(),
            Self::Gauge(gauge) => gauge.meaning(),
        }
    }

    fn kind(self) -> MetricKind {
        match self {
            Self::Counter(_) => MetricKind::Counter,
            Self::Gauge(_) => MetricKind::Gauge,
        }
    }

    fn unit(self) -> MetricUnit {
        let unit = match self {
            Self::Counter(counter) => counter.unit(),
            Self::Gauge(gauge) => gauge.unit(),
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
        }
    }

    fn of_worker(self, metrics: &Metrics, place: usize) -> u64 {
        let Some(counters) = metrics.thread(place) else { return 0 };
        match self {
            Self::Counter(counter) => counters.value(counter),
            Self::Gauge(gauge) => counters.gauge(gauge),
        }
    }
}

/// All metrics, or those whose names start so; as sums, or for each worker.
pub(super) fn list(core: &Core, body: &MetricsRequest) -> Answer {
    let places: Vec<_> = match body.per_worker {
        Some(true) => (0..core.plane.workers_count()).map(Some).collect(),
        Some(false) | None => vec![None],
    };
    let prefix = body.prefix.clone().unwrap_or_default();
    let has_meaning = body.meanings == Some(true);
    let named = Metric::all().filter(move |metric| metric.name().starts_with(prefix.as_str()));
    let wanted: Vec<_> = named.flat_map(|metric| places.iter().map(move |place| (metric, *place))).collect();
    let metrics = core.metrics.clone();
    let rows = wanted.into_iter().map(move |(metric, place)| MetricRow {
        name: Word::cut(metric.name()),
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
            name: Word::cut(metric.name()),
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
