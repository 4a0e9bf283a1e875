//! Metrics, and a user's own statistics.

use super::part;
use crate::v2::body::message;
use crate::v2::messages::UserRow;
use crate::v2::values::wire_enum;
use crate::v2::{Sentence, Word};

message! {
    /// Asks for metrics.
    pub struct MetricsRequest "metrics-request" {
        /// Credit of the channel, octets.
        0 credit: u32,
        /// Only names that start so.
        1 prefix: Option<Word>,
        /// Rows for each worker instead of sums.
        2 per_worker: Option<bool>,
        /// With the meaning of each.
        3 meanings: Option<bool>,
    }
}

message! {
    /// One metric.
    pub struct MetricRow "metric-row" {
        /// Its name.
        1 name: Word,
        /// Its value now.
        2 value: u64,
        /// Whether it only grows.
        3 kind: MetricKind,
        /// What the value counts.
        4 unit: MetricUnit,
        /// Which worker, where rows for each were asked.
        5 worker: Option<u16>,
        /// What it means, where that was asked.
        6 meaning: Option<Sentence>,
    }
}

part! {
    /// Part of the list of metrics.
    pub struct MetricPart "metric-part" of MetricRow;
}

wire_enum! {
    /// Whether a metric only grows.
    pub enum MetricKind "metric-kind" {
        /// Only grows while the server runs.
        Counter = 0 "counter",
        /// Goes up and down.
        Gauge = 1 "gauge",
    }
}

wire_enum! {
    /// What a metric's value counts.
    pub enum MetricUnit "metric-unit" {
        /// Things or events.
        Count = 0 "count",
        /// Octets.
        Bytes = 1 "bytes",
        /// Milliseconds.
        Milliseconds = 2 "milliseconds",
        /// Microseconds.
        Microseconds = 3 "microseconds",
    }
}

message! {
    /// Asks for samples of metrics, the first at once.
    pub struct MetricsFollow "metrics-follow" {
        /// Credit of the channel, octets.
        0 credit: u32,
        /// Only names that start so.
        1 prefix: Option<Word>,
        /// Time between samples, 100 to 3,600,000.
        2 interval_ms: u32,
    }
}

message! {
    /// One value of a sample.
    pub struct MetricValue "metric-value" {
        /// The metric's name.
        1 name: Word,
        /// Its value.
        2 value: u64,
    }
}

message! {
    /// Values at one time. A sample too long for one event comes in several with the same sequence and time.
    pub struct MetricSample "metric-sample" {
        /// The values.
        1 values: Vec<MetricValue>,
    }
}

message! {
    /// The statistics of the user who asks.
    pub struct OwnStatistics "own-statistics" {
        /// The sequence of which this is true.
        0 as_of: u64,
        /// The user's row.
        1 user: UserRow,
    }
}
