//! The comparison: every server in turn, round after round, and the table from what they gave.

use crate::load::idle::{self, pause};
use crate::load::{Window, bulk, churn, ping};
use crate::measure::worker_seconds;
use crate::report::{Circumstances, insert, markdown, say};
use crate::rows::{Book, Figure, GROUPS, Group, Verdict, Work, judge, rows};
use crate::servers::{Catalogue, Door, Kind, Places, Role, Server};
use crate::stats::shares;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Idle memory hardly varies, and filling a server takes long: more rounds than this teach nothing.
const IDLE_ROUNDS_MAX: usize = 2;

/// A server whose CPU stands still for one look is done with the load before; waited for at most this long.
const QUIET_LOOK: Duration = Duration::from_millis(10);
const QUIET_CPU: Duration = Duration::from_micros(300);
const QUIET_MAX: Duration = Duration::from_millis(500);

/// What the command line says.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) places: Places,
    pub(crate) rounds: usize,
    /// One short round of everything.
    pub(crate) is_quick: bool,
    pub(crate) window: Window,
    pub(crate) idle_sessions: usize,
    /// No round of a group begins after this long.
    pub(crate) time_max: Duration,
    /// Names of rows or groups; empty: all.
    pub(crate) only: Vec<String>,
    /// Names of servers besides direct and the bare copy; empty: all.
    pub(crate) servers: Vec<String>,
    pub(crate) worker_name: String,
    pub(crate) facts: Vec<String>,
    /// The document whose marked part is replaced by the output.
    pub(crate) write: Option<PathBuf>,
}

/// Runs, prints the table on stdout; the number of marks that were missed.
pub(crate) fn run(options: &Options) -> io::Result<usize> {
    let groups = chosen_groups(&options.only)?;
    let catalogue = Catalogue::new(options.places.clone())?;
    let mut runner = Runner::start(options, &catalogue)?;
    let until = Instant::now() + options.time_max;
    let mut rounds_done = 0;
    'rounds: for round in 0..options.rounds {
        for group in &groups {
            if Instant::now() >= until {
                eprintln!("compare: {} s are over in round {}", options.time_max.as_secs(), round + 1);
                break 'rounds;
            }
            eprintln!("compare: round {} of {}, {}", round + 1, options.rounds, group.name);
            let count = if options.is_quick { 1 } else { group.rounds };
            for part in 0..count {
                runner.round(round * count + part, group);
            }
        }
        rounds_done = round + 1;
    }
    let kinds: Vec<Kind> = runner.lines.iter().map(|line| line.kind).collect();
    let circumstances = Circumstances { facts: facts(options, rounds_done), gaps: runner.gaps() };
    let output = markdown(&runner.book, &kinds, &circumstances);
    say(&output)?;
    if let Some(path) = &options.write {
        let document = fs::read_to_string(path)?;
        let document = insert(&document, &output)
            .ok_or_else(|| io::Error::other(format!("{} has no place for the output", path.display())))?;
        fs::write(path, document)?;
    }
    Ok(rows().iter().filter(|row| judge(row, &runner.book) == Verdict::Missed).count())
}

/// The groups that hold the named rows or have the names themselves.
fn chosen_groups(only: &[String]) -> io::Result<Vec<&'static Group>> {
    for name in only {
        let known =
            GROUPS.iter().any(|group| group.name == name) || rows().iter().any(|row| row.name == name);
        if !known {
            let names: Vec<&str> =
                GROUPS.iter().map(|group| group.name).chain(rows().iter().map(|row| row.name)).collect();
            let message = format!("--only {name}: allowed are {}", names.join(", "));
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
    }
    let holds = |group: &Group, name: &String| {
        group.name == name
            || rows().iter().any(|row| row.name == name && group.works.contains(&row.measure.0))
    };
    Ok(GROUPS.iter().filter(|group| only.is_empty() || only.iter().any(|name| holds(group, name))).collect())
}

struct Runner<'a> {
    options: &'a Options,
    catalogue: &'a Catalogue,
    lines: Vec<Line>,
    book: Book,
    missing: Vec<String>,
    /// Cause and number of the slices that failed.
    failed: BTreeMap<String, usize>,
}

/// One server, running for the whole comparison.
struct Line {
    kind: Kind,
    open: Server,
    password: Option<Server>,
}

impl<'a> Runner<'a> {
    fn start(options: &'a Options, catalogue: &'a Catalogue) -> io::Result<Self> {
        for name in &options.servers {
            if Kind::from_name(name).is_none() {
                let names = Kind::ALL.map(Kind::name).join(", ");
                let message = format!("--server {name}: allowed are {names}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        }
        let mut runner = Self {
            options,
            catalogue,
            lines: Vec::new(),
            book: Book::default(),
            missing: Vec::new(),
            failed: BTreeMap::new(),
        };
        let always = [Kind::Direct, Kind::Copy64];
        for kind in Kind::ALL {
            let named = options.servers.iter().any(|name| name == kind.name());
            if !(options.servers.is_empty() || named || always.contains(&kind)) {
                continue;
            }
            runner.add(kind)?;
        }
        Ok(runner)
    }

    /// A server that is not there, or does not start, is a gap and not an error; without references nothing can
    /// be said.
    fn add(&mut self, kind: Kind) -> io::Result<()> {
        if let Some(why) = self.catalogue.why_missing(kind) {
            eprintln!("compare: left out: {why}");
            self.missing.push(why);
            return Ok(());
        }
        let started = self.catalogue.start(kind, Door::Open).and_then(|open| {
            let password =
                kind.takes_password().then(|| self.catalogue.start(kind, Door::Password)).transpose()?;
            Ok(Line { kind, open, password })
        });
        match started {
            Ok(line) => self.lines.push(line),
            Err(error) if kind.role() == Role::Reference => return Err(error),
            Err(error) => {
                eprintln!("compare: left out: {error}");
                self.missing.push(error.to_string());
            }
        }
        Ok(())
    }

    /// Every server has one turn; each round begins with another one, so that no one always follows the same.
    fn round(&mut self, round: usize, group: &Group) {
        let count = self.lines.len();
        let shorter = if self.options.is_quick { 1 } else { group.shorter };
        let window = self.options.window.shortened(shorter);
        for turn in 0..count {
            let index = (turn + round) % count;
            for work in group.works {
                let Some(line) = self.lines.get(index) else { continue };
                if !applies(*work, line.kind) || (*work == Work::Idle && round >= IDLE_ROUNDS_MAX) {
                    continue;
                }
                let kind = line.kind;
                match self.slice(*work, line, window) {
                    Ok(figures) => {
                        for (figure, value) in figures {
                            self.book.note(round, kind, (*work, figure), value);
                        }
                    }
                    Err(error) => {
                        let cause = format!("{}, {}: {error}", kind.name(), work.name());
                        eprintln!("compare: {cause}");
                        *self.failed.entry(cause).or_default() += 1;
                    }
                }
            }
        }
    }

    fn slice(&self, work: Work, line: &Line, window: Window) -> io::Result<Vec<(Figure, f64)>> {
        let server = match (work, &line.password) {
            (Work::SessionsPassword, Some(password)) => password,
            _ => &line.open,
        };
        wait_until_quiet(server)?;
        let subject = server.subject();
        let target = &server.target;
        let stream = |way, streams| -> io::Result<Vec<(Figure, f64)>> {
            let sample = bulk::run(target, subject, way, streams, window)?;
            let mut figures = vec![(Figure::Throughput, sample.throughput())];
            if subject.is_some() {
                figures.push((Figure::CpuPerGib, sample.cpu_per_gib()));
            }
            Ok(figures)
        };
        let sessions = |target| {
            let sample = churn::run(target, subject, 32, churn::Pace::Full, window)?;
            if sample.failed > 0 {
                let message = format!("{} sessions failed beside {}", sample.failed, sample.completed);
                return Err(io::Error::other(message));
            }
            let mut figures = vec![(Figure::Rate, sample.rate())];
            if subject.is_some() {
                figures.push((Figure::CpuPerSession, sample.cpu_per_session()));
            }
            Ok(figures)
        };
        let (cached, hosts) = Catalogue::names();
        match work {
            Work::BulkDown => stream(bulk::Way::Down, 4),
            Work::BulkUp => stream(bulk::Way::Up, 4),
            Work::BulkBoth => stream(bulk::Way::Both, 4),
            Work::BulkMany => stream(bulk::Way::Down, 64),
            Work::BulkOne => stream(bulk::Way::Down, 1),
            Work::PingMany => {
                let sample = ping::many(target, subject, 64, window)?;
                let cpu = subject.map(|_| (Figure::CpuPerRoundTrip, sample.cpu_per_round_trip()));
                Ok(cpu.into_iter().collect())
            }
            Work::PingOne => ping::one(target, window).map(latency_figures),
            Work::PingBeside => beside(server, window).map(latency_figures),
            Work::Sessions | Work::SessionsPassword => sessions(target),
            Work::SessionsCachedName => sessions(&target.with_name(cached)),
            Work::SessionsHostsName => sessions(&target.with_name(hosts)),
            Work::Balance4 => self.balance(server, 4, window),
            Work::Balance8 => self.balance(server, 8, window),
            Work::Balance64 => self.balance(server, 64, window),
            Work::Idle => self.idle(line.kind, window),
        }
    }

    fn balance(&self, server: &Server, streams: usize, window: Window) -> io::Result<Vec<(Figure, f64)>> {
        let Some(subject) = server.subject() else { return Ok(Vec::new()) };
        let before = subject.threads()?;
        bulk::run(&server.target, Some(subject), bulk::Way::Down, streams, window)?;
        let used = worker_seconds(&before, &subject.threads()?, &self.options.worker_name);
        let largest = shares(&used).first().copied();
        Ok(largest.map(|share| (Figure::LargestShare, share)).into_iter().collect())
    }

    /// A server that has done nothing else: what an earlier load left would hide what a session takes.
    fn idle(&self, kind: Kind, window: Window) -> io::Result<Vec<(Figure, f64)>> {
        let server = self.catalogue.start(kind, Door::Open)?;
        let Some(subject) = server.subject() else { return Ok(Vec::new()) };
        let count = self.options.idle_sessions.min(kind.idle_sessions_max());
        let (cost, _sessions) = idle::cost(&server.target, subject, count, window.length)?;
        Ok(vec![
            (Figure::Memory, cost.memory_kib),
            (Figure::Descriptors, cost.descriptors),
            (Figure::IdleCpu, cost.cpu_ms_per_second),
        ])
    }

    fn gaps(&self) -> Vec<String> {
        let failed = self.failed.iter().map(|(cause, count)| format!("{cause} ({count} slices)"));
        self.missing.iter().cloned().chain(failed).collect()
    }
}

/// Whether a server can do a work, and a row asks for it.
fn applies(work: Work, kind: Kind) -> bool {
    match work {
        Work::SessionsPassword => kind.takes_password(),
        Work::SessionsCachedName | Work::Balance4 | Work::Balance8 | Work::Balance64 => {
            kind.role() == Role::Daemon
        }
        Work::SessionsHostsName => kind.role() != Role::Reference,
        Work::Idle => kind != Kind::Direct,
        Work::BulkDown
        | Work::BulkUp
        | Work::BulkBoth
        | Work::BulkMany
        | Work::BulkOne
        | Work::PingMany
        | Work::PingOne
        | Work::PingBeside
        | Work::Sessions => true,
    }
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a round trip stay far below 2^52")]
fn latency_figures(latency: ping::Latency) -> Vec<(Figure, f64)> {
    vec![(Figure::P50, latency.p50 as f64), (Figure::P99, latency.p99 as f64)]
}

/// The ping-pong while another thread downloads through the same server.
fn beside(server: &Server, window: Window) -> io::Result<ping::Latency> {
    let around = Window { warm_up: Duration::ZERO, length: window.length + window.warm_up * 3 };
    let later = Window { warm_up: window.warm_up * 2, length: window.length };
    std::thread::scope(|scope| {
        let bulk = scope.spawn(|| bulk::run(&server.target, None, bulk::Way::Down, 8, around));
        let latency = ping::one(&server.target, later);
        let bulk = bulk.join().map_err(|_| io::Error::other("the bulk load panicked"))?;
        bulk?;
        latency
    })
}

fn wait_until_quiet(server: &Server) -> io::Result<()> {
    let Some(subject) = server.subject() else { return Ok(()) };
    let until = Instant::now() + QUIET_MAX;
    let mut before = subject.cpu()?;
    while Instant::now() < until {
        pause(QUIET_LOOK);
        let now = subject.cpu()?;
        if now.saturating_sub(before) < QUIET_CPU {
            break;
        }
        before = now;
    }
    Ok(())
}

fn facts(options: &Options, rounds_done: usize) -> Vec<String> {
    let mut facts = Vec::new();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, model)| model.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    facts.push(format!("{cores} cores ({model}), Linux {}, everything on loopback", kernel.trim()));
    let more: Vec<String> = GROUPS
        .iter()
        .filter(|group| group.rounds > 1 && !options.is_quick)
        .map(|group| match group.shorter {
            1 => format!(", {} times as many of {}", group.rounds, group.name),
            times => {
                format!(", {} times as many, {times} times as short, of {}", group.rounds, group.name)
            }
        })
        .collect();
    facts.push(format!(
        "{rounds_done} whole rounds of every server in turn{}; {} ms counted after {} ms of warm-up a slice; \
         ratios inside a round, their median (lowest–highest)",
        more.concat(),
        options.window.length.as_millis(),
        options.window.warm_up.as_millis()
    ));
    let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default();
    facts.push(format!("congestion control of the kernel's default: {}", congestion.trim()));
    facts.push(format!(
        "idle sessions: {}; {}",
        options.idle_sessions, "dante 300, thread-per-connection servers at most 1000"
    ));
    facts.extend(options.facts.iter().cloned());
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_groups_choose_groups() {
        let names = |only: &[&str]| -> Vec<&str> {
            let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
            chosen_groups(&only).unwrap().iter().map(|group| group.name).collect()
        };
        assert_eq!(names(&[]).len(), GROUPS.len());
        assert_eq!(names(&["sessions-cpu", "idle"]), ["sessions", "idle"]);
        let error = chosen_groups(&["nothing".to_owned()]).unwrap_err();
        assert!(error.to_string().starts_with("--only nothing: allowed are bulk-down, "), "{error}");
    }
}
