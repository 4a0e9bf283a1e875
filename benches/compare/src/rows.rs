//! The table: which work gives which figures, what each is compared with, and the mark that it has to reach.
//! Pure; run.rs fills a [`Book`] and report.rs prints it.

use crate::servers::{Kind, Role};
use crate::stats::{median, ratios};
use std::collections::HashMap;

/// One kind of load. Those of a group run one after the other on a server before the next one's turn, because their
/// figures are compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    BulkDown,
    BulkUp,
    BulkBoth,
    BulkMany,
    BulkOne,
    PingMany,
    PingOne,
    PingBeside,
    Sessions,
    SessionsPassword,
    SessionsCachedName,
    SessionsHostsName,
    Balance4,
    Balance8,
    Balance64,
    Idle,
}

impl Work {
    /// Its name where a gap is reported.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BulkDown => "bulk down",
            Self::BulkUp => "bulk up",
            Self::BulkBoth => "bulk both ways",
            Self::BulkMany => "bulk down, 64 streams",
            Self::BulkOne => "bulk down, one stream",
            Self::PingMany => "ping-pong, 64 connections",
            Self::PingOne => "ping-pong, one connection",
            Self::PingBeside => "ping-pong beside bulk",
            Self::Sessions => "sessions by address",
            Self::SessionsPassword => "sessions with a password",
            Self::SessionsCachedName => "sessions by a cached name",
            Self::SessionsHostsName => "sessions by a name of the hosts file",
            Self::Balance4 => "balance, 4 streams",
            Self::Balance8 => "balance, 8 streams",
            Self::Balance64 => "balance, 64 streams",
            Self::Idle => "idle sessions",
        }
    }
}

/// Works that share a server's turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// How many of its rounds are in a round of all: the figures of some vary more.
    pub(crate) rounds: usize,
    /// Slices are so many times shorter, so that servers follow each other while the machine has one speed. For means
    /// only: a percentile has to have met whatever happens now and then.
    pub(crate) shorter: u32,
    pub(crate) works: &'static [Work],
}

/// In the order in which a round does them.
pub(crate) const GROUPS: &[Group] = &[
    Group { name: "bulk-down", rounds: 1, shorter: 1, works: &[Work::BulkDown] },
    Group { name: "bulk-up", rounds: 1, shorter: 1, works: &[Work::BulkUp] },
    Group { name: "bulk-both", rounds: 1, shorter: 1, works: &[Work::BulkBoth] },
    Group { name: "bulk-many", rounds: 1, shorter: 1, works: &[Work::BulkMany] },
    Group { name: "bulk-one", rounds: 1, shorter: 1, works: &[Work::BulkOne] },
    Group { name: "ping-many", rounds: 8, shorter: 3, works: &[Work::PingMany] },
    Group { name: "ping-one", rounds: 5, shorter: 1, works: &[Work::PingOne, Work::PingBeside] },
    Group {
        name: "sessions",
        rounds: 8,
        shorter: 3,
        works: &[Work::Sessions, Work::SessionsPassword, Work::SessionsCachedName, Work::SessionsHostsName],
    },
    Group {
        name: "balance",
        rounds: 1,
        shorter: 1,
        works: &[Work::Balance4, Work::Balance8, Work::Balance64],
    },
    Group { name: "idle", rounds: 1, shorter: 1, works: &[Work::Idle] },
];

/// A number that a work gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Figure {
    CpuPerGib,
    Throughput,
    CpuPerRoundTrip,
    P50,
    P99,
    Rate,
    CpuPerSession,
    LargestShare,
    Memory,
    Descriptors,
    IdleCpu,
}

impl Figure {
    /// How the number reads for people: the factor and the unit.
    pub(crate) fn unit(self) -> (f64, &'static str) {
        match self {
            Self::CpuPerGib => (1.0, "CPU s/GiB"),
            Self::Throughput => (1.0, "GiB/s"),
            Self::CpuPerRoundTrip => (1e6, "CPU µs"),
            Self::P50 | Self::P99 => (1e-3, "µs"),
            Self::Rate => (1.0, "sessions/s"),
            Self::CpuPerSession => (1e6, "CPU µs"),
            Self::LargestShare => (1.0, "%"),
            Self::Memory => (1.0, "KiB"),
            Self::Descriptors => (1.0, "descriptors"),
            Self::IdleCpu => (1.0, "CPU ms/s"),
        }
    }
}

/// A cell's address without its server and round.
pub(crate) type Measure = (Work, Figure);

/// What a figure is divided by, in the same round.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Versus {
    /// A figure of another server.
    Server(Kind, Measure),
    /// Another figure of the same server.
    Own(Measure),
    /// Nothing: the number itself.
    Absolute,
}

/// What has to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mark {
    AtMost(f64),
    AtLeast(f64),
    /// And not less than any peer of the run.
    AtLeastAndEveryPeer(f64),
    /// So many times the best peer of the run.
    TimesBestPeer(f64),
    /// Nothing was asked; the row informs.
    Shown,
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) measure: Measure,
    pub(crate) versus: Versus,
    pub(crate) mark: Mark,
}

const COPY: fn(Measure) -> Versus = |measure| Versus::Server(Kind::Copy64, measure);
const DIRECT: fn(Measure) -> Versus = |measure| Versus::Server(Kind::Direct, measure);

/// Every line, in the order of the table.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(crate) fn rows() -> Vec<Row> {
    use Figure::{
        CpuPerGib, CpuPerRoundTrip, CpuPerSession, Descriptors, IdleCpu, LargestShare, Memory, P50, P99,
        Rate, Throughput,
    };
    let row = |name, title, measure, versus, mark| Row { name, title, measure, versus, mark };
    let against = |reference: fn(Measure) -> Versus, name, title, measure, mark| Row {
        name,
        title,
        measure,
        versus: reference(measure),
        mark,
    };
    let sessions = (Work::Sessions, Rate);
    vec![
        against(
            COPY,
            "bulk-down-cpu",
            "bulk down, 4 streams: CPU per GiB, bare copy 64 KiB = 1",
            (Work::BulkDown, CpuPerGib),
            Mark::AtMost(0.50),
        ),
        against(
            COPY,
            "bulk-up-cpu",
            "bulk up, 4 streams: CPU per GiB, bare copy 64 KiB = 1",
            (Work::BulkUp, CpuPerGib),
            Mark::AtMost(0.53),
        ),
        against(
            COPY,
            "bulk-both-cpu",
            "bulk both ways, 4 streams: CPU per GiB, bare copy 64 KiB = 1",
            (Work::BulkBoth, CpuPerGib),
            Mark::AtMost(0.48),
        ),
        against(
            COPY,
            "bulk-many-cpu",
            "bulk down, 64 streams: CPU per GiB, bare copy 64 KiB = 1",
            (Work::BulkMany, CpuPerGib),
            Mark::AtMost(0.50),
        ),
        against(
            DIRECT,
            "bulk-down-throughput",
            "bulk down, 4 streams: throughput, direct = 1",
            (Work::BulkDown, Throughput),
            Mark::AtLeastAndEveryPeer(0.43),
        ),
        against(
            DIRECT,
            "bulk-one-throughput",
            "bulk down, one stream: throughput, direct = 1",
            (Work::BulkOne, Throughput),
            Mark::AtLeast(0.70),
        ),
        against(
            COPY,
            "ping-many-cpu",
            "64-byte ping-pong, 64 connections: CPU, bare copy = 1",
            (Work::PingMany, CpuPerRoundTrip),
            Mark::AtMost(1.10),
        ),
        against(
            COPY,
            "ping-one-p50",
            "64-byte ping-pong, one connection: p50, bare copy = 1",
            (Work::PingOne, P50),
            Mark::AtMost(1.08),
        ),
        against(
            COPY,
            "ping-one-p99",
            "64-byte ping-pong, one connection: p99, bare copy = 1",
            (Work::PingOne, P99),
            Mark::Shown,
        ),
        row(
            "ping-beside-p99",
            "p99 of that ping-pong beside 8 bulk downloads, own p99 beside none = 1",
            (Work::PingBeside, P99),
            Versus::Own((Work::PingOne, P99)),
            Mark::AtMost(3.0),
        ),
        against(
            DIRECT,
            "sessions-rate",
            "new sessions, 32 at once: rate, direct = 1",
            sessions,
            Mark::TimesBestPeer(1.1),
        ),
        against(
            COPY,
            "sessions-cpu",
            "CPU per such session, bare copy = 1",
            (Work::Sessions, CpuPerSession),
            Mark::AtMost(1.35),
        ),
        row(
            "sessions-password-cpu",
            "the same with a password: CPU, bare copy without one = 1",
            (Work::SessionsPassword, CpuPerSession),
            COPY((Work::Sessions, CpuPerSession)),
            Mark::AtMost(1.6),
        ),
        row(
            "sessions-password-rate",
            "the same with a password: rate, own rate without = 1",
            (Work::SessionsPassword, Rate),
            Versus::Own(sessions),
            Mark::Shown,
        ),
        row(
            "sessions-cached-rate",
            "the same by a name, answer cached: rate, own rate by address = 1",
            (Work::SessionsCachedName, Rate),
            Versus::Own(sessions),
            Mark::AtLeast(0.95),
        ),
        row(
            "sessions-hosts-rate",
            "the same by a name of the hosts file: rate, own rate by address = 1",
            (Work::SessionsHostsName, Rate),
            Versus::Own(sessions),
            Mark::AtLeast(0.95),
        ),
        row(
            "balance-4",
            "4 bulk streams: busiest carrier's share of the carriers' CPU, %",
            (Work::Balance4, LargestShare),
            Versus::Absolute,
            Mark::Shown,
        ),
        row(
            "balance-8",
            "8 bulk streams: busiest carrier's share of the carriers' CPU, %",
            (Work::Balance8, LargestShare),
            Versus::Absolute,
            Mark::Shown,
        ),
        row(
            "balance-64",
            "64 bulk streams: busiest carrier's share of the carriers' CPU, %",
            (Work::Balance64, LargestShare),
            Versus::Absolute,
            Mark::Shown,
        ),
        row(
            "idle-memory",
            "own memory per idle session, KiB",
            (Work::Idle, Memory),
            Versus::Absolute,
            Mark::AtMost(0.6),
        ),
        row(
            "idle-descriptors",
            "descriptors per idle session",
            (Work::Idle, Descriptors),
            Versus::Absolute,
            Mark::AtMost(2.0),
        ),
        row(
            "idle-cpu",
            "CPU of all idle sessions together, ms a second",
            (Work::Idle, IdleCpu),
            Versus::Absolute,
            Mark::AtMost(1.0),
        ),
    ]
}

/// Everything that was measured: a value, or a gap, for each round.
#[derive(Debug, Default)]
pub(crate) struct Book {
    cells: HashMap<(Measure, Kind), HashMap<usize, f64>>,
    rounds: usize,
}

impl Book {
    pub(crate) fn note(&mut self, round: usize, kind: Kind, measure: Measure, value: f64) {
        self.rounds = self.rounds.max(round + 1);
        self.cells.entry((measure, kind)).or_default().insert(round, value);
    }

    /// A figure of a server in every round; `None` where it was not measured or failed.
    pub(crate) fn values(&self, kind: Kind, measure: Measure) -> Vec<Option<f64>> {
        let cell = self.cells.get(&(measure, kind));
        (0..self.rounds).map(|round| cell.and_then(|cell| cell.get(&round)).copied()).collect()
    }

    /// A server's values in a row, one for each round that has both sides.
    pub(crate) fn ratios(&self, row: &Row, kind: Kind) -> Vec<f64> {
        let values = self.values(kind, row.measure);
        match row.versus {
            Versus::Server(other, measure) => ratios(&values, &self.values(other, measure)),
            Versus::Own(measure) => ratios(&values, &self.values(kind, measure)),
            Versus::Absolute => values.into_iter().flatten().collect(),
        }
    }

    /// The daemon's values over a peer's, round by round, for the peer with the lowest median of them: the best one of
    /// the run. (The best one of each round would be whoever was lucky in it.) Larger is better in every row that asks.
    pub(crate) fn over_best_peer(&self, measure: Measure) -> Option<(Kind, Vec<f64>)> {
        let own = self.values(Kind::Daemon, measure);
        let over = |peer| {
            let over = ratios(&own, &self.values(peer, measure));
            Some((median(&over)?, peer, over))
        };
        let peers = Kind::ALL.into_iter().filter(|kind| kind.role() == Role::Peer);
        let best = peers.filter_map(over).min_by(|one, other| one.0.total_cmp(&other.0))?;
        Some((best.1, best.2))
    }
}

/// Whether a row's mark was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Reached,
    Missed,
    /// The row asks for nothing, or the daemon or the peers gave no figure.
    Open,
}

/// Judges the medians, unrounded.
pub(crate) fn judge(row: &Row, book: &Book) -> Verdict {
    let own = median(&book.ratios(row, Kind::Daemon));
    let over_peers = || median(&book.over_best_peer(row.measure)?.1);
    let held = match (row.mark, own) {
        (Mark::Shown, _) | (_, None) => None,
        (Mark::AtMost(limit), Some(own)) => Some(own <= limit),
        (Mark::AtLeast(limit), Some(own)) => Some(own >= limit),
        (Mark::AtLeastAndEveryPeer(limit), Some(own)) => over_peers().map(|over| own >= limit && over >= 1.0),
        (Mark::TimesBestPeer(factor), Some(_)) => over_peers().map(|over| over >= factor),
    };
    match held {
        Some(true) => Verdict::Reached,
        Some(false) => Verdict::Missed,
        None => Verdict::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Measure = (Work::BulkDown, Figure::CpuPerGib);
    const SPEED: Measure = (Work::BulkDown, Figure::Throughput);

    fn row(name: &str) -> Row {
        rows().into_iter().find(|row| row.name == name).unwrap()
    }

    fn book(entries: &[(usize, Kind, Measure, f64)]) -> Book {
        let mut book = Book::default();
        for (round, kind, measure, value) in entries {
            book.note(*round, *kind, *measure, *value);
        }
        book
    }

    #[test]
    fn every_row_is_filled_by_a_group_and_named_once() {
        let rows = rows();
        for row in &rows {
            assert!(GROUPS.iter().any(|group| group.works.contains(&row.measure.0)), "{}", row.name);
            assert_eq!(rows.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
        }
    }

    #[test]
    fn what_is_compared_runs_in_one_turn() {
        for row in rows() {
            let other = match row.versus {
                Versus::Server(_, measure) | Versus::Own(measure) => measure.0,
                Versus::Absolute => continue,
            };
            let together =
                |group: &&Group| group.works.contains(&row.measure.0) && group.works.contains(&other);
            assert!(GROUPS.iter().any(|group| together(&group)), "{}", row.name);
        }
    }

    #[test]
    fn ratios_stay_inside_their_round() {
        let book = book(&[
            (0, Kind::Copy64, CPU, 1.0),
            (0, Kind::Daemon, CPU, 0.4),
            (1, Kind::Daemon, CPU, 9.0),
            (2, Kind::Copy64, CPU, 2.0),
            (2, Kind::Daemon, CPU, 0.8),
        ]);
        assert_eq!(book.ratios(&row("bulk-down-cpu"), Kind::Daemon), vec![0.4, 0.4]);
        assert_eq!(judge(&row("bulk-down-cpu"), &book), Verdict::Reached);
        assert_eq!(judge(&row("bulk-up-cpu"), &book), Verdict::Open);
    }

    #[test]
    fn throughput_has_to_beat_its_mark_and_the_best_peer() {
        let check = |daemon: f64, peer: f64, expected| {
            let book = book(&[
                (0, Kind::Direct, SPEED, 10.0),
                (0, Kind::Daemon, SPEED, daemon),
                (0, Kind::Merino, SPEED, peer),
                (0, Kind::Dante, SPEED, 0.1),
            ]);
            assert_eq!(judge(&row("bulk-down-throughput"), &book), expected, "{daemon} {peer}");
        };
        check(5.0, 4.0, Verdict::Reached);
        check(5.0, 6.0, Verdict::Missed);
        check(4.0, 3.0, Verdict::Missed);
    }

    #[test]
    fn the_best_peer_is_that_of_the_run_and_not_the_lucky_one_of_a_round() {
        let rate = (Work::Sessions, Figure::Rate);
        let rates =
            |kind, rates: [f64; 3]| (0..).zip(rates).map(move |(round, value)| (round, kind, rate, value));
        let entries: Vec<_> = rates(Kind::Daemon, [110.0, 110.0, 110.0])
            .chain(rates(Kind::Merino, [100.0, 100.0, 50.0]))
            .chain(rates(Kind::Dante, [50.0, 50.0, 220.0]))
            .collect();
        assert_eq!(book(&entries).over_best_peer(rate), Some((Kind::Merino, vec![1.1, 1.1, 2.2])));
        assert_eq!(book(&entries[..3]).over_best_peer(rate), None);
    }
}
