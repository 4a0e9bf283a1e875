//! `compare`: what the daemon costs beside bare relays and other SOCKS servers, and whether its bytes are right.
//!
//! ```text
//! run ─► servers (origin, DoH relay, bare relays, daemon, peers: a process each)
//!     └► loads (bulk, ping, churn, idle) through each in turn ─► rows (ratios, marks) ─► report (Markdown)
//! integrity, scale, admin, admin-lists: the same servers, one question each
//! ```
//!
//! It measures processes from outside, by the kernel's count, and waits where it has nothing to do; nothing of it is
//! in the daemon.

// The numbers.
mod stats;
// The wire and the kernel.
mod dns;
mod measure;
mod poller;
mod socks;
mod target;
// Processes that a measurement is made of.
mod origin;
mod relay;
mod servers;
// The measurements.
mod admin;
mod integrity;
mod load;
mod report;
mod rows;
mod run;
mod scale;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use integrity::Resets;
use integrity::plan::EarlyData;
use load::churn::Pace;
use load::{Window, bulk, churn, ping};
use measure::Subject;
use relay::Mover;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use servers::{Catalogue, Door, Kind, Places, Server};
use socks::Credentials;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use target::{Endpoints, Proxy, Target};

/// Default length of a counted slice and of its warm-up.
const SLICE: Duration = Duration::from_millis(600);
const WARM_UP: Duration = Duration::from_millis(200);

/// `--quick`: enough to see that everything works, too short for a result.
const SLICE_QUICK: Duration = Duration::from_millis(120);
const WARM_UP_QUICK: Duration = Duration::from_millis(40);

fn main() -> ExitCode {
    let matches = command().get_matches();
    let result = raise_descriptor_limit().and_then(|()| dispatch(&matches));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(matches: &ArgMatches) -> io::Result<ExitCode> {
    let passed = |passed: bool| if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    match matches.subcommand() {
        Some(("run", matches)) => {
            let missed = run::run(&run_options(matches))?;
            Ok(passed(missed == 0 || !matches.get_flag("strict")))
        }
        Some(("integrity", matches)) => integrity(matches).map(passed),
        Some(("scale", matches)) => scale(matches).map(passed),
        Some(("admin", matches)) => admin::run(&admin_options(matches)).map(|()| ExitCode::SUCCESS),
        Some(("admin-lists", matches)) => {
            let (users, sessions) = (small(matches, "users"), small(matches, "sessions"));
            admin::large::run(&admin_options(matches), users, sessions).map(|()| ExitCode::SUCCESS)
        }
        Some(("load", matches)) => load(matches).map(|()| ExitCode::SUCCESS),
        Some(("origin", _)) => origin::run().map(|()| ExitCode::SUCCESS),
        Some(("udp-echo", _)) => admin::echo().map(|()| ExitCode::SUCCESS),
        Some(("doh", _)) => dns::run().map(|()| ExitCode::SUCCESS),
        Some(("relay", matches)) => relay(matches).map(|()| ExitCode::SUCCESS),
        _ => Err(invalid("a sub-command is needed")),
    }
}

// ---- the command line -----------------------------------------------------------------------------------

fn command() -> Command {
    Command::new("compare")
        .about("Measures socks5d beside bare relays and other SOCKS servers; checks that no byte is wrong")
        .subcommand_required(true)
        .subcommand(run_command())
        .subcommand(integrity_command())
        .subcommand(scale_command())
        .subcommand(admin_command())
        .subcommand(admin_lists_command())
        .subcommand(load_command())
        .subcommand(Command::new("origin").about("Serve the loads: source, sink, duplex, echoes"))
        .subcommand(Command::new("udp-echo").about("Send every datagram back"))
        .subcommand(Command::new("doh").about("Answer every name over DNS-over-HTTP with 127.0.0.1"))
        .subcommand(
            Command::new("relay")
                .about("Relay without SOCKS, limits or statistics: what moving bytes costs")
                .arg(option("mode", "copy or splice").value_parser(["copy", "splice"]).default_value("copy"))
                .arg(number("buffer-kib", "Scratch buffer or pipe size", "64"))
                .arg(
                    Arg::new("origin")
                        .required(true)
                        .help("The line that `compare origin` prints, in quotes"),
                ),
        )
}

fn run_command() -> Command {
    Command::new("run")
        .about("Every server in turn, round after round; prints the table")
        .args(place_options())
        .arg(number("rounds", "Rounds of every server in turn", "3"))
        .arg(option("slice-ms", "Counted length of a slice").value_parser(value_parser!(u64)))
        .arg(number("minutes", "No round of a load begins after this long", "12"))
        .arg(option("only", "Row or load to measure, repeatable; default: all").action(ArgAction::Append))
        .arg(
            option("server", "Server to measure beside direct and copy-64, repeatable")
                .action(ArgAction::Append),
        )
        .arg(number("idle-sessions", "Sessions that idle memory is measured with", "4000"))
        .arg(
            option("worker-name", "What the names of the threads hold that carry bulk")
                .default_value("carrier"),
        )
        .arg(option("fact", "A line for the list of circumstances, repeatable").action(ArgAction::Append))
        .arg(path("write", "Replace the output in this document"))
        .arg(flag("quick", "One short round, to see that it works; the figures mean nothing"))
        .arg(flag("strict", "Exit with 1 when a mark is missed"))
}

fn integrity_command() -> Command {
    Command::new("integrity")
        .about("Random sessions with half-closes, slow readers, fragments and kills; every byte is checked")
        .args(place_options())
        .args(server_options())
        .arg(number("sessions", "How many", "10000"))
        .arg(number("seed", "What they are drawn from", "1"))
        .arg(option("session", "Only this one, as a failure named it").value_parser(value_parser!(u64)))
        .arg(number("at-once", "Sessions under way together", "64"))
        .arg(flag("no-early-data", "Never send ahead of an answer (not every server keeps it)"))
        .arg(flag("strict-resets", "A reset that arrives as an ordinary end is a fault"))
}

fn scale_command() -> Command {
    Command::new("scale")
        .about("Many idle sessions, half of them active for a while, none lost; memory per session")
        .args(place_options())
        .args(server_options())
        .arg(option("pid", "The server's process, with --socks").value_parser(value_parser!(u32)))
        .arg(number("sessions", "How many", "9000"))
        .arg(number("idle-seconds", "How long all of them are idle", "2"))
        .arg(number("seconds", "How long half of them are active", "10"))
}

fn admin_command() -> Command {
    Command::new("admin")
        .about("Time of commands of the admin channel: idle, under new sessions, and while all is followed")
        .args(place_options())
        .arg(number("rounds", "Rounds of every condition in turn", "5"))
        .arg(number("slice-ms", "Counted length of a slice", "3000"))
        .arg(number("rate", "New sessions a second where their number is fixed", "2000"))
}

fn admin_lists_command() -> Command {
    Command::new("admin-lists")
        .about("Long lists of the admin channel, and what they do to commands and to new sessions meanwhile")
        .args(place_options())
        .arg(number("slice-ms", "How long each list is asked for again and again", "3000"))
        .arg(number("users", "Users of the daemon", "100000"))
        .arg(number("sessions", "Live sessions", "9000"))
}

fn load_command() -> Command {
    let kinds = ["bulk-down", "bulk-up", "bulk-both", "ping", "ping-one", "sessions"];
    Command::new("load")
        .about("One load through one server, for profiles; prints what it saw")
        .args(place_options())
        .args(server_options())
        .arg(Arg::new("kind").required(true).value_parser(kinds))
        .arg(
            option("pid", "The server's process, with --socks: CPU is printed too")
                .value_parser(value_parser!(u32)),
        )
        .arg(number("connections", "Streams, connections or sessions at once", "4"))
        .arg(number("seconds", "How long", "10"))
}

fn place_options() -> [Arg; 3] {
    [
        path("daemon", "The daemon under test"),
        path("peers", "Folder with fast-socks5/bin/server and merino/bin/merino"),
        option("daemon-arg", "A further argument of the daemon, repeatable")
            .action(ArgAction::Append)
            .allow_hyphen_values(true),
    ]
}

fn server_options() -> [Arg; 4] {
    [
        option("server", "Start this server, or `direct` for none")
            .conflicts_with("socks")
            .default_value("socks5d"),
        option("socks", "Use the SOCKS server at this address").value_parser(value_parser!(SocketAddr)),
        option("user", "NAME:PASS for --socks").requires("socks"),
        option("name", "Ask for this name, which has to mean 127.0.0.1, instead of the address"),
    ]
}

fn option(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    option(name, help).action(ArgAction::SetTrue)
}

fn number(name: &'static str, help: &'static str, default: &'static str) -> Arg {
    option(name, help).value_parser(value_parser!(u64)).default_value(default)
}

fn path(name: &'static str, help: &'static str) -> Arg {
    option(name, help).value_parser(value_parser!(PathBuf))
}

fn count(matches: &ArgMatches, name: &str) -> u64 {
    matches.get_one::<u64>(name).copied().unwrap_or(1).max(1)
}

fn small(matches: &ArgMatches, name: &str) -> usize {
    usize::try_from(count(matches, name)).unwrap_or(usize::MAX)
}

fn strings(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).into_iter().flatten().cloned().collect()
}

// ---- the sub-commands -----------------------------------------------------------------------------------

fn run_options(matches: &ArgMatches) -> run::Options {
    let quick = matches.get_flag("quick");
    let (warm_up, slice) = if quick { (WARM_UP_QUICK, SLICE_QUICK) } else { (WARM_UP, SLICE) };
    let length = matches.get_one::<u64>("slice-ms").map_or(slice, |length| Duration::from_millis(*length));
    run::Options {
        places: places(matches),
        rounds: if quick { 1 } else { small(matches, "rounds") },
        is_quick: quick,
        window: Window { warm_up, length },
        idle_sessions: if quick { 200 } else { small(matches, "idle-sessions") },
        time_max: Duration::from_secs(count(matches, "minutes") * 60),
        only: strings(matches, "only"),
        servers: strings(matches, "server"),
        worker_name: matches.get_one::<String>("worker-name").cloned().unwrap_or_default(),
        facts: strings(matches, "fact"),
        write: matches.get_one::<PathBuf>("write").cloned(),
    }
}

fn admin_options(matches: &ArgMatches) -> admin::Options {
    let number = |name| matches.try_get_one::<u64>(name).ok().flatten().copied().unwrap_or(1).max(1);
    admin::Options {
        places: places(matches),
        rounds: usize::try_from(number("rounds")).unwrap_or(usize::MAX),
        window: Window { warm_up: WARM_UP, length: Duration::from_millis(number("slice-ms")) },
        rate: u32::try_from(number("rate")).unwrap_or(u32::MAX),
    }
}

fn integrity(matches: &ArgMatches) -> io::Result<bool> {
    let sessions = match matches.get_one::<u64>("session") {
        Some(number) => *number..number.saturating_add(1),
        None => 0..count(matches, "sessions"),
    };
    let options = integrity::Options {
        seed: matches.get_one::<u64>("seed").copied().unwrap_or(1),
        sessions,
        at_once: small(matches, "at-once"),
        early: if matches.get_flag("no-early-data") { EarlyData::Avoided } else { EarlyData::Sent },
        resets: if matches.get_flag("strict-resets") { Resets::AsResets } else { Resets::AsTheServerLikes },
    };
    let under_test = UnderTest::new(matches)?;
    match (&under_test.server.target.proxy, under_test.kind) {
        (Some(proxy), _) => integrity::run(Some(proxy), &options),
        (None, Some(Kind::Direct)) => integrity::run(None, &options),
        (None, _) => Err(invalid("a bare relay has a fixed origin, which integrity needs to be itself")),
    }
}

fn scale(matches: &ArgMatches) -> io::Result<bool> {
    let under_test = UnderTest::new(matches)?;
    let subject =
        under_test.subject.ok_or_else(|| invalid("--pid is needed with --socks, a server without"))?;
    let plan = scale::Plan {
        count: small(matches, "sessions"),
        idle: Duration::from_secs(count(matches, "idle-seconds")),
        active: Duration::from_secs(count(matches, "seconds")),
    };
    scale::run(&under_test.server.target, subject, plan)
}

fn load(matches: &ArgMatches) -> io::Result<()> {
    let under_test = UnderTest::new(matches)?;
    let (target, subject) = (&under_test.server.target, under_test.subject);
    let window = Window { warm_up: WARM_UP, length: Duration::from_secs(count(matches, "seconds")) };
    let connections = small(matches, "connections");
    if let Some(subject) = subject {
        eprintln!("compare: the server is process {}", subject.pid);
    }
    let bulk = |way| -> io::Result<String> {
        let sample = bulk::run(target, subject, way, connections, window)?;
        Ok(format!("{:.2} GiB/s, {:.3} CPU s/GiB", sample.throughput(), sample.cpu_per_gib()))
    };
    let line = match matches.get_one::<String>("kind").map(String::as_str) {
        Some("bulk-down") => bulk(bulk::Way::Down)?,
        Some("bulk-up") => bulk(bulk::Way::Up)?,
        Some("bulk-both") => bulk(bulk::Way::Both)?,
        Some("ping") => {
            let sample = ping::many(target, subject, connections, window)?;
            format!(
                "{} round trips, {:.2} CPU µs each",
                sample.round_trips,
                sample.cpu_per_round_trip() * 1e6
            )
        }
        Some("ping-one") => {
            let latency = ping::one(target, window)?;
            format!("p50 {} ns, p99 {} ns", latency.p50, latency.p99)
        }
        _ => {
            let sample = churn::run(target, subject, connections, Pace::Full, window)?;
            let (rate, cpu, failed) = (sample.rate(), sample.cpu_per_session() * 1e6, sample.failed);
            format!("{rate:.0} sessions/s, {cpu:.1} CPU µs each, {failed} failed")
        }
    };
    report::say(&line)
}

fn relay(matches: &ArgMatches) -> io::Result<()> {
    let mover = match matches.get_one::<String>("mode").map(String::as_str) {
        Some("splice") => Mover::Splice,
        _ => Mover::Copy,
    };
    let line = matches.get_one::<String>("origin").cloned().unwrap_or_default();
    let origins = Endpoints::from_line(&line).ok_or_else(|| invalid("no line of `compare origin`"))?;
    relay::run(mover, small(matches, "buffer-kib").saturating_mul(1024), &origins)
}

/// The one server of a sub-command: started for it, or found at an address.
struct UnderTest {
    // Before the catalogue, whose directory it uses.
    server: Server,
    subject: Option<Subject>,
    kind: Option<Kind>,
    _catalogue: Catalogue,
}

impl UnderTest {
    fn new(matches: &ArgMatches) -> io::Result<Self> {
        let catalogue = Catalogue::new(places(matches))?;
        let pid = matches.try_get_one::<u32>("pid").ok().flatten().copied();
        let name = matches.get_one::<String>("name").cloned();
        if let Some(address) = matches.get_one::<SocketAddr>("socks") {
            let user = matches.get_one::<String>("user");
            let credentials =
                user.map(|user| Credentials::parse(user).ok_or_else(|| invalid("--user: NAME:PASS")));
            let proxy = Proxy { address: *address, credentials: credentials.transpose()?, name };
            let direct = catalogue.start(Kind::Direct, Door::Open)?;
            let target = Target { proxy: Some(proxy), ..direct.target };
            let subject = pid.map(|pid| Subject { pid, forks: true });
            return Ok(Self {
                server: Server { target, process: None, admin: None },
                subject,
                kind: None,
                _catalogue: catalogue,
            });
        }
        let word = matches.get_one::<String>("server").cloned().unwrap_or_default();
        let kind = Kind::from_name(&word).ok_or_else(|| {
            invalid(&format!("--server {word}: allowed are {}", Kind::ALL.map(Kind::name).join(", ")))
        })?;
        if let Some(why) = catalogue.why_missing(kind) {
            return Err(invalid(&why));
        }
        let mut server = catalogue.start(kind, Door::Open)?;
        if let Some(name) = name {
            server.target = server.target.with_name(&name);
        }
        let subject = server.subject();
        Ok(Self { server, subject, kind: Some(kind), _catalogue: catalogue })
    }
}

fn places(matches: &ArgMatches) -> Places {
    Places {
        daemon: matches.get_one::<PathBuf>("daemon").cloned(),
        daemon_arguments: strings(matches, "daemon-arg"),
        daemon_users: None,
        peers: matches.get_one::<PathBuf>("peers").cloned(),
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.to_owned())
}

/// To the hard limit: the servers that are started inherit it.
fn raise_descriptor_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn quick_is_one_short_round() {
        let matches =
            command().get_matches_from(["compare", "run", "--quick", "--rounds", "9", "--only", "idle"]);
        let options = run_options(matches.subcommand().unwrap().1);
        assert_eq!((options.rounds, options.window.length), (1, SLICE_QUICK));
        assert_eq!(options.only, ["idle"]);
    }
}
