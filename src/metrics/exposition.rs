//! Metrics as text, for those who scrape them: OpenMetrics 1.0 and the older text format 0.0.4. Pure: what is
//! rendered goes into a string, a piece at a time, so that nobody waits for a long list.

use std::fmt::{self, Write};
use std::sync::Arc;

use super::{Counter, Distribution, Fact, Family, Gauge, Histogram, Metrics, PerUser, Scope, Unit};

/// In front of every name.
pub const PREFIX: &str = "socks5d_";

/// The label of those who have none of their own. No name of a user is shown so.
pub const OTHERS: &str = "(others)";

/// Users that are rendered at once.
const USERS_AT_ONCE: usize = 64;

/// The form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Text format 0.0.4.
    Text,
}

impl Format {
    /// What stands in Content-Type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What the control loop knows.
pub type Facts = [u64; Fact::COUNT];

/// One user, or all the others together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// The value of the label `user`.
    pub label: Arc<str>,
    /// The values, in the order of [`PerUser::ALL`].
    pub values: [u64; PerUser::COUNT],
}

// ---- what is shown -------------------------------------------------------------------------------------

/// One metric of the endpoint, with all its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// What the control loop knows.
    Fact(Fact),
    /// The version.
    Build,
    /// What goes up and down.
    Gauge(Gauge),
    /// A counter that stands alone.
    Counter(Counter),
    /// Counters that are told apart by a label.
    Family(Family),
    /// How values are spread.
    Histogram(Histogram),
    /// A value of single users that stands alone.
    PerUser(PerUser),
    /// Values of single users that are told apart by a label.
    UserFamily(Family),
}

/// What kind of metric it is, in the words of both formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows.
    Counter,
    /// Is spread over buckets.
    Histogram,
    /// Is always 1; its labels tell something.
    Info,
}

impl Metric {
    /// Every metric, in the order in which they are rendered.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all: Vec<_> = Fact::ALL.iter().map(|fact| Self::Fact(*fact)).collect();
        all.push(Self::Build);
        all.extend(Gauge::ALL.iter().map(|gauge| Self::Gauge(*gauge)));
        let counters = Counter::ALL.iter().map(|counter| match counter.family() {
            Some((family, _)) => Self::Family(family),
            None => Self::Counter(*counter),
        });
        let per_user = PerUser::ALL.iter().map(|value| match value.family() {
            Some((family, _)) => Self::UserFamily(family),
            None => Self::PerUser(*value),
        });
        let histograms = Histogram::ALL.iter().map(|histogram| Self::Histogram(*histogram));
        // A family stands where its first member does.
        for metric in counters.chain(histograms).chain(per_user) {
            if !all.contains(&metric) {
                all.push(metric);
            }
        }
        all
    }

    /// The name without what its kind adds.
    #[must_use]
    pub fn name(self) -> String {
        let (name, unit) = match self {
            Self::Fact(fact) => (fact.name(), fact.unit()),
            Self::Build => ("build", Unit::Count),
            Self::Gauge(gauge) => (gauge.name(), gauge.unit()),
            Self::Counter(counter) => (counter.name(), counter.unit()),
            Self::Family(family) | Self::UserFamily(family) => (family.name(), unit_of(family)),
            Self::Histogram(histogram) => (histogram.name(), histogram.unit()),
            Self::PerUser(value) => (value.name(), value.unit()),
        };
        match unit_name(unit) {
            Some(unit) => format!("{PREFIX}{name}_{unit}"),
            None => format!("{PREFIX}{name}"),
        }
    }

    /// The names that its values have: those that queries use.
    #[must_use]
    pub fn series(self) -> Vec<String> {
        let name = self.name();
        match self.kind() {
            Kind::Gauge => vec![name],
            Kind::Counter => vec![format!("{name}_total")],
            Kind::Info => vec![format!("{name}_info")],
            Kind::Histogram => ["bucket", "count", "sum"].map(|end| format!("{name}_{end}")).to_vec(),
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Fact(_) | Self::Gauge(_) | Self::PerUser(PerUser::Sessions) => Kind::Gauge,
            Self::Build => Kind::Info,
            Self::Counter(_) | Self::Family(_) | Self::UserFamily(_) => Kind::Counter,
            Self::PerUser(PerUser::Relayed | PerUser::Up | PerUser::Down) => Kind::Counter,
            Self::Histogram(_) => Kind::Histogram,
        }
    }

    /// One sentence on what it means.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Fact(fact) => fact.meaning(),
            Self::Build => "The version that runs.",
            Self::Gauge(gauge) => gauge.meaning(),
            Self::Counter(counter) => counter.meaning(),
            Self::Family(family) | Self::UserFamily(family) => family.meaning(),
            Self::Histogram(histogram) => histogram.meaning(),
            Self::PerUser(value) => value.meaning(),
        }
    }

    /// The names of its labels.
    #[must_use]
    pub fn labels(self) -> Vec<&'static str> {
        match self {
            Self::Fact(_) | Self::Counter(_) => Vec::new(),
            Self::Build => vec!["version"],
            Self::Gauge(gauge) => match gauge.scope() {
                Scope::Daemon => Vec::new(),
                Scope::Worker => vec!["worker"],
            },
            Self::Family(family) => vec![family.label()],
            Self::Histogram(_) => vec!["le"],
            Self::PerUser(_) => vec!["user"],
            Self::UserFamily(family) => vec!["user", family.label()],
        }
    }

    /// The unit as part of the name.
    #[must_use]
    pub fn unit(self) -> Option<&'static str> {
        let name = self.name();
        ["bytes", "seconds"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")))
    }
}

impl Kind {
    fn word(self, format: Format) -> &'static str {
        match (self, format) {
            (Self::Counter, _) => "counter",
            (Self::Histogram, _) => "histogram",
            (Self::Info, Format::OpenMetrics) => "info",
            (Self::Gauge, _) | (Self::Info, Format::Text) => "gauge",
        }
    }
}

fn unit_name(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Count => None,
        Unit::Bytes => Some("bytes"),
        Unit::Microseconds => Some("seconds"),
    }
}

/// The unit of a family is that of each of its members.
fn unit_of(family: Family) -> Unit {
    let is_member = |of: Option<(Family, &str)>| of.is_some_and(|(of, _)| of == family);
    let counter = Counter::ALL.iter().find(|counter| is_member(counter.family())).map(|found| found.unit());
    let per_user = || PerUser::ALL.iter().find(|value| is_member(value.family())).map(|found| found.unit());
    counter.or_else(per_user).unwrap_or(Unit::Count)
}

// ---- rendering -----------------------------------------------------------------------------------------

/// Whether a rendering has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more.
    Unfinished,
    /// That was all.
    Finished,
}

/// One rendering of everything, from the first metric to the last.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    facts: Facts,
    users: Vec<UserRow>,
    metrics: std::vec::IntoIter<Metric>,
    /// The metric of users under way, and who is next.
    of_users: Option<(Metric, usize)>,
}

impl Exposition {
    /// Begins. `users` are the rows of the metrics of users.
    #[must_use]
    pub fn new(format: Format, facts: Facts, users: Vec<UserRow>) -> Self {
        Self { format, facts, users, metrics: Metric::all().into_iter(), of_users: None }
    }

    /// Adds to `out` until it has about `bytes` or everything is in it.
    pub fn render(&mut self, metrics: &Metrics, out: &mut String, bytes: usize) -> Progress {
        while out.len() < bytes {
            let step = match self.of_users.take() {
                Some((metric, first)) => self.some_users(metric, first, out),
                None => match self.metrics.next() {
                    Some(metric) => self.metric(metric, metrics, out),
                    None => {
                        if self.format == Format::OpenMetrics {
                            out.push_str("# EOF\n");
                        }
                        return Progress::Finished;
                    }
                },
            };
            debug_assert!(step.is_ok(), "a string takes everything");
        }
        Progress::Unfinished
    }

    fn metric(&mut self, metric: Metric, metrics: &Metrics, out: &mut String) -> fmt::Result {
        let name = metric.name();
        match metric {
            Metric::PerUser(_) | Metric::UserFamily(_) => {
                if self.users.is_empty() {
                    return Ok(()); // Nobody wants to see users.
                }
                self.head(metric, out)?;
                self.of_users = Some((metric, 0));
                return Ok(());
            }
            Metric::Fact(_)
            | Metric::Build
            | Metric::Gauge(_)
            | Metric::Counter(_)
            | Metric::Family(_)
            | Metric::Histogram(_) => self.head(metric, out)?,
        }
        match metric {
            Metric::Fact(fact) => {
                let value = self.facts.get(fact as usize).copied().unwrap_or(0);
                writeln!(out, "{name} {}", Value(value, fact.unit()))
            }
            Metric::Build => writeln!(out, "{name}_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
            Metric::Gauge(gauge) => gauge_lines(&name, gauge, metrics, out),
            Metric::Counter(counter) => {
                writeln!(out, "{name}_total {}", Value(metrics.total(counter), counter.unit()))
            }
            Metric::Family(family) => {
                for counter in Counter::ALL {
                    if let Some((_, value)) = counter.family().filter(|(of, _)| *of == family) {
                        let total = Value(metrics.total(*counter), counter.unit());
                        writeln!(out, "{name}_total{{{}=\"{value}\"}} {total}", family.label())?;
                    }
                }
                Ok(())
            }
            Metric::Histogram(histogram) => {
                histogram_lines(&name, histogram, &metrics.distribution(histogram), out)
            }
            Metric::PerUser(_) | Metric::UserFamily(_) => Ok(()),
        }
    }

    /// What stands before the values of a metric.
    fn head(&self, metric: Metric, out: &mut String) -> fmt::Result {
        let (mut name, kind) = (metric.name(), metric.kind());
        // The older format knows samples only: there a counter is called as its samples are.
        match (self.format, kind) {
            (Format::Text, Kind::Counter) => name.push_str("_total"),
            (Format::Text, Kind::Info) => name.push_str("_info"),
            (Format::Text, Kind::Gauge | Kind::Histogram) | (Format::OpenMetrics, _) => {}
        }
        writeln!(out, "# HELP {name} {}", metric.meaning())?;
        writeln!(out, "# TYPE {name} {}", kind.word(self.format))?;
        match (self.format, metric.unit()) {
            (Format::OpenMetrics, Some(unit)) => writeln!(out, "# UNIT {name} {unit}"),
            (Format::OpenMetrics, None) | (Format::Text, _) => Ok(()),
        }
    }

    /// Some more users of a metric.
    fn some_users(&mut self, metric: Metric, first: usize, out: &mut String) -> fmt::Result {
        let next = first + USERS_AT_ONCE;
        if next < self.users.len() {
            self.of_users = Some((metric, next));
        }
        let name = metric.series().pop().unwrap_or_default();
        for user in self.users.iter().skip(first).take(USERS_AT_ONCE) {
            let label = Escaped(&user.label);
            for (value, number) in PerUser::ALL.iter().zip(user.values) {
                match (metric, value.family()) {
                    (Metric::PerUser(is), None) if is == *value => {
                        writeln!(out, "{name}{{user=\"{label}\"}} {number}")?;
                    }
                    (Metric::UserFamily(is), Some((family, which))) if is == family => {
                        let key = family.label();
                        writeln!(out, "{name}{{user=\"{label}\",{key}=\"{which}\"}} {number}")?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn gauge_lines(name: &str, gauge: Gauge, metrics: &Metrics, out: &mut String) -> fmt::Result {
    match gauge.scope() {
        Scope::Daemon => writeln!(out, "{name} {}", Value(metrics.gauge(gauge), gauge.unit())),
        Scope::Worker => {
            for (worker, counters) in metrics.workers().enumerate() {
                let value = Value(counters.gauge(gauge), gauge.unit());
                writeln!(out, "{name}{{worker=\"{worker}\"}} {value}")?;
            }
            Ok(())
        }
    }
}

fn histogram_lines(name: &str, histogram: Histogram, spread: &Distribution, out: &mut String) -> fmt::Result {
    let mut below = 0_u64;
    for (bound, count) in histogram.bounds().iter().zip(spread.buckets) {
        below = below.wrapping_add(count);
        writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", Bound(*bound, histogram.unit()))?;
    }
    let count = spread.count();
    writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}")?;
    writeln!(out, "{name}_count {count}")?;
    writeln!(out, "{name}_sum {}", Value(spread.sum, histogram.unit()))
}

/// A number of a unit, exactly: times as seconds with their fraction.
struct Value(u64, Unit);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MICROSECONDS: u64 = 1_000_000;
        match self.1 {
            Unit::Count | Unit::Bytes => self.0.fmt(f),
            Unit::Microseconds => write!(f, "{}.{:06}", self.0 / MICROSECONDS, self.0 % MICROSECONDS),
        }
    }
}

/// The bound of a bucket in its shortest form, always with a fraction, as OpenMetrics 1.0 has it.
struct Bound(u64, Unit);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = match self.1 {
            Unit::Count | Unit::Bytes => format!("{}.0", self.0),
            Unit::Microseconds => Value(self.0, self.1).to_string(),
        };
        let shortest = exact.trim_end_matches('0');
        f.write_str(shortest)?;
        if shortest.ends_with('.') { f.write_str("0") } else { Ok(()) }
    }
}

/// The value of a label between its quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                _ => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
