//! The admin channel under load: how long commands take while nothing happens, while new sessions come as fast as
//! they can or at a fixed rate, and while somebody follows all of it besides.
//!
//! Every slice asks the same commands in turn, one at a time with a pause between, and a bare UDP echo among them:
//! what the machine itself lets an answer wait for. The next file is large.rs, which measures beside long lists.

pub(crate) mod client;
mod followers;
pub(crate) mod large;

use crate::load::churn::{self, Pace};
use crate::load::idle::pause;
use crate::load::{MESSAGE_BYTES, Window};
use crate::measure::Subject;
use crate::report::say;
use crate::servers::{Catalogue, Door, Kind, Places, Server};
use crate::stats::{Spread, median, percentile, ratios};
use client::Client;
use followers::Followers;
use pipo_protocol::v2::messages::{Nothing, SessionListRequest, SettingGet};
use pipo_protocol::v2::{Request, Word};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Who asks; the daemon is started with it.
const USER: &str = "bench";
const PASSWORD: &str = "interleaved";

/// Between an answer and the next command: somebody who asks is no load.
const PAUSE: Duration = Duration::from_millis(1);

/// Sessions under way at once.
const AT_ONCE: usize = 32;

/// Channels of the one who asks.
const LIST: u32 = 1;

/// What the command line says.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) places: Places,
    pub(crate) rounds: usize,
    pub(crate) window: Window,
    /// New sessions a second where they come at a fixed rate.
    pub(crate) rate: u32,
}

/// What happens besides the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Idle,
    Full,
    FullFollowed,
    Paced,
    PacedFollowed,
}

impl Condition {
    const ALL: [Self; 5] = [Self::Idle, Self::Full, Self::FullFollowed, Self::Paced, Self::PacedFollowed];

    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Full => "full",
            Self::FullFollowed => "full, followed",
            Self::Paced => "paced",
            Self::PacedFollowed => "paced, followed",
        }
    }

    fn pace(self, rate: u32) -> Option<Pace> {
        match self {
            Self::Idle => None,
            Self::Full | Self::FullFollowed => Some(Pace::Full),
            Self::Paced | Self::PacedFollowed => Some(Pace::PerSecond(rate)),
        }
    }

    fn is_followed(self) -> bool {
        matches!(self, Self::FullFollowed | Self::PacedFollowed)
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Answered by the control loop itself.
    SettingGet,
    /// Passes by the store's thread.
    ServerInfo,
    /// Passes by the workers.
    SessionList,
    /// No daemon: a UDP echo in a process of its own.
    Echo,
}

impl Asked {
    const ALL: [Self; 4] = [Self::SettingGet, Self::ServerInfo, Self::SessionList, Self::Echo];

    fn name(self) -> &'static str {
        match self {
            Self::SettingGet => "`setting get`",
            Self::ServerInfo => "`server info`",
            Self::SessionList => "`session list --limit 20`",
            Self::Echo => "bare UDP echo",
        }
    }
}

/// What one slice gave.
#[derive(Clone, Debug, Default)]
struct Slice {
    /// p50 and p99 of each that was asked, µs.
    p50: Vec<Option<f64>>,
    p99: Vec<Option<f64>>,
    sessions_per_second: f64,
    events_per_second: f64,
    missed_per_second: f64,
    /// CPU of the daemon's control loop, per cent of a core.
    control_percent: f64,
    /// What it waited for a core each time, µs.
    control_wait_us: f64,
}

/// Round after round of every condition; prints the tables.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let catalogue = Catalogue::new(with_admin(options.places.clone()))?;
    let server = catalogue.start(Kind::Daemon, Door::Open)?;
    let (_echo_process, line) = catalogue.start_helper(&["udp-echo"])?;
    let mut asker = Asker::new(&server, line.trim().parse().map_err(io::Error::other)?)?;
    let mut slices: Vec<Vec<Slice>> = Condition::ALL.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        for turn in 0..Condition::ALL.len() {
            // Another one begins each time.
            let place = (round + turn) % Condition::ALL.len();
            let (Some(condition), Some(of_it)) = (Condition::ALL.get(place), slices.get_mut(place)) else {
                continue;
            };
            eprintln!("compare: round {} of {}, {}", round + 1, options.rounds, condition.name());
            of_it.push(asker.slice(&server, *condition, options)?);
        }
    }
    tables(&slices)
}

/// The daemon with an administrator, reached over UDP whatever the kernel knows.
fn with_admin(mut places: Places) -> Places {
    let admin = format!("{USER}:{PASSWORD}");
    places.daemon_arguments.extend(["--admin", &admin, "--admin-transport", "udp"].map(str::to_owned));
    places
}

/// Another association with the daemon.
fn association(server: &Server) -> io::Result<Client> {
    let place = server.admin.ok_or_else(|| io::Error::other("the daemon names no admin channel over UDP"))?;
    Client::log_in(place, USER, PASSWORD)
}

/// Who asks, and measures.
struct Asker {
    client: Client,
    echo: UdpSocket,
}

impl Asker {
    fn new(server: &Server, echo_address: SocketAddr) -> io::Result<Self> {
        let echo = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        echo.connect(echo_address)?;
        echo.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(Self { client: association(server)?, echo })
    }

    /// One condition for the length of a window.
    fn slice(&mut self, server: &Server, condition: Condition, options: &Options) -> io::Result<Slice> {
        let window = options.window;
        let subject = server.subject().ok_or_else(|| io::Error::other("no process to be measured"))?;
        std::thread::scope(|scope| {
            let followers =
                condition.is_followed().then(|| Followers::start(association(server)?)).transpose()?;
            let load = condition
                .pace(options.rate)
                .map(|pace| scope.spawn(move || churn::run(&server.target, None, AT_ONCE, pace, window)));
            pause(window.warm_up);
            let (begun, before) = (Instant::now(), Control::read(subject)?);
            let told = followers.as_ref().map_or((0, 0), Followers::told);
            let latencies = self.ask_until(begun + window.length)?;
            let seconds = begun.elapsed().as_secs_f64();
            let control = Control::read(subject)?.since(before);
            let told_after = followers.as_ref().map_or((0, 0), Followers::told);
            let sample = load.map(|load| load.join().map_err(|_| io::Error::other("the load panicked")));
            let sample = sample.transpose()?.transpose()?;
            followers.map(Followers::stop).transpose()?;
            let each = |percent| -> Vec<_> {
                latencies.iter().map(|all| percentile(all, percent).map(microseconds)).collect()
            };
            Ok(Slice {
                p50: each(50),
                p99: each(99),
                sessions_per_second: sample.map_or(0.0, |sample| sample.rate()),
                events_per_second: rate(told_after.0 - told.0, seconds),
                missed_per_second: rate(told_after.1 - told.1, seconds),
                control_percent: control.cpu.as_secs_f64() * 100.0 / seconds,
                control_wait_us: control.waited.as_secs_f64() * 1e6 / rate(control.slices.max(1), 1.0),
            })
        })
    }

    /// Asks each in its turn; the times that they took, sorted, in nanoseconds.
    fn ask_until(&mut self, until: Instant) -> io::Result<Vec<Vec<u64>>> {
        let mut latencies: Vec<Vec<u64>> = Asked::ALL.iter().map(|_| Vec::new()).collect();
        while Instant::now() < until {
            for (asked, of_it) in Asked::ALL.iter().zip(&mut latencies) {
                pause(PAUSE);
                let begun = Instant::now();
                self.ask(*asked)?;
                of_it.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
        }
        latencies.iter_mut().for_each(|all| all.sort_unstable());
        Ok(latencies)
    }

    fn ask(&mut self, asked: Asked) -> io::Result<()> {
        match asked {
            Asked::SettingGet => self.client.ask(&setting_get(), 0).map(|_| ()),
            Asked::ServerInfo => self.client.ask(&Request::ServerInfo(Nothing {}), 0).map(|_| ()),
            Asked::SessionList => self.client.ask(&session_list(Some(20)), LIST).map(|_| ()),
            Asked::Echo => {
                let mut answer = [0; MESSAGE_BYTES];
                self.echo.send(&answer)?;
                self.echo.recv(&mut answer).map(|_| ())
            }
        }
    }
}

fn setting_get() -> Request {
    Request::SettingGet(SettingGet { name: Word::cut("idle-timeout") })
}

/// Sessions in the order of their numbers.
fn session_list(limit: Option<u32>) -> Request {
    let credit = pipo_protocol::limits::CREDIT_BYTES_MAX;
    Request::SessionList(SessionListRequest { credit, filter: None, sort: None, descending: None, limit })
}

/// What the kernel counts of the thread that serves the admin channel: the daemon's first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Control {
    cpu: Duration,
    /// Ready to run, and waiting for a core.
    waited: Duration,
    /// Times that it got one.
    slices: u64,
}

impl Control {
    fn read(subject: Subject) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{0}/task/{0}/schedstat", subject.pid))?;
        Self::parse(&text).ok_or_else(|| io::Error::other("schedstat has a shape that is not known"))
    }

    /// Shape: `NANOSECONDS_ON_CPU NANOSECONDS_WAITING SLICES`.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace().map(|word| word.parse().ok());
        let mut next = || words.next().flatten();
        let (cpu, waited) = (Duration::from_nanos(next()?), Duration::from_nanos(next()?));
        Some(Self { cpu, waited, slices: next()? })
    }

    fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            waited: self.waited.saturating_sub(before.waited),
            slices: self.slices - before.slices,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "times of seconds in nanoseconds stay far below 2^52")]
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "counts of seconds stay far below 2^52")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

/// Sends every datagram back, on a port that it prints, until the process is ended.
pub(crate) fn echo() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", socket.local_addr()?);
    let mut buffer = [0; 2 * MESSAGE_BYTES];
    loop {
        let (count, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(buffer.get(..count).unwrap_or_default(), from)?;
    }
}

// ---- the tables -----------------------------------------------------------------------------------------

/// Ratios inside a round: which condition over which.
const RATIOS: [(Condition, Condition); 6] = [
    (Condition::Full, Condition::Idle),
    (Condition::FullFollowed, Condition::Idle),
    (Condition::FullFollowed, Condition::Full),
    (Condition::Paced, Condition::Idle),
    (Condition::PacedFollowed, Condition::Idle),
    (Condition::PacedFollowed, Condition::Paced),
];

fn tables(slices: &[Vec<Slice>]) -> io::Result<()> {
    let of = |condition: Condition| -> &[Slice] {
        let place = Condition::ALL.iter().position(|one| *one == condition);
        place.and_then(|place| slices.get(place)).map_or(&[], Vec::as_slice)
    };
    let heads: Vec<_> =
        RATIOS.iter().map(|(one, other)| format!("{} over {}", one.name(), other.name())).collect();
    say(&format!("| p99, ratio inside a round | {} |", heads.join(" | ")))?;
    say(&format!("| --- |{}", " --- |".repeat(heads.len())))?;
    for (place, asked) in Asked::ALL.iter().enumerate() {
        let values = |condition: Condition| -> Vec<Option<f64>> {
            of(condition).iter().map(|slice| slice.p99.get(place).copied().flatten()).collect()
        };
        let cells = RATIOS.iter().map(|(one, other)| spread(&ratios(&values(*one), &values(*other))));
        say(&format!("| {} | {} |", asked.name(), cells.collect::<Vec<_>>().join(" | ")))?;
    }
    say("")?;
    let heads: Vec<_> = Condition::ALL.iter().map(|condition| condition.name()).collect();
    say(&format!("| medians of the rounds | {} |", heads.join(" | ")))?;
    say(&format!("| --- |{}", " --- |".repeat(heads.len())))?;
    let row = |name: &str, value: &dyn Fn(&Slice) -> Option<f64>| -> io::Result<()> {
        let cells = Condition::ALL.iter().map(|condition| {
            let values: Vec<_> = of(*condition).iter().filter_map(value).collect();
            median(&values).map_or("—".to_owned(), |value| format!("{value:.0}"))
        });
        say(&format!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | ")))
    };
    for (place, asked) in Asked::ALL.iter().enumerate() {
        row(&format!("{}, p50, µs", asked.name()), &|slice| slice.p50.get(place).copied().flatten())?;
        row(&format!("{}, p99, µs", asked.name()), &|slice| slice.p99.get(place).copied().flatten())?;
    }
    row("new sessions a second", &|slice| Some(slice.sessions_per_second))?;
    row("events and lines taken a second", &|slice| Some(slice.events_per_second))?;
    row("told as missed a second", &|slice| Some(slice.missed_per_second))?;
    row("control loop, % of a core", &|slice| Some(slice.control_percent))?;
    row("control loop, mean wait for a core, µs", &|slice| Some(slice.control_wait_us))
}

/// Median, lowest and highest.
fn spread(values: &[f64]) -> String {
    Spread::of(values).map_or("—".to_owned(), |spread| {
        format!("{:.2} ({:.2}–{:.2})", spread.median, spread.low, spread.high)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_tells_cpu_waits_and_slices() {
        let found = Control::parse("286948 1000 3\n").unwrap();
        let (cpu, waited) = (Duration::from_nanos(286_948), Duration::from_micros(1));
        assert_eq!(found, Control { cpu, waited, slices: 3 });
        assert_eq!(Control::parse("1 2"), None);
        let later = Control { slices: 5, ..found };
        assert_eq!(later.since(found), Control { cpu: Duration::ZERO, waited: Duration::ZERO, slices: 2 });
    }
}
