//! Long lists: many users and sessions, and what a list of all of them does to those who ask for little meanwhile,
//! and to new sessions.

use super::{Control, Options, association, microseconds, session_list, setting_get, with_admin};
use crate::load::idle::{Sessions, pause};
use crate::report::say;
use crate::servers::{Catalogue, Door, Kind, Server};
use crate::stats::{median, percentile};
use crate::target::{Service, Target};
use pipo_protocol::limits::CREDIT_BYTES_MAX;
use pipo_protocol::v2::messages::{SessionListRequest, SessionSort, UserListRequest};
use pipo_protocol::v2::{Request, Status};
use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between an answer and the next question of those who ask for little.
const PAUSE: Duration = Duration::from_micros(200);

/// The channel of the list.
const LIST: u32 = 1;

/// A list and its name.
struct Listed {
    name: &'static str,
    request: Option<Request>,
}

/// What happened while a list was asked for again and again.
#[derive(Default)]
struct Seen {
    /// Time of each list, ms.
    lists_ms: Vec<f64>,
    /// CPU of the control loop for each, ms.
    control_ms: f64,
    rows_bytes: u64,
    /// Times of small commands and of new sessions, sorted, ns.
    commands: Vec<u64>,
    sessions: Vec<u64>,
}

/// Prints a line for each list, and one for none.
pub(crate) fn run(options: &Options, users: usize, sessions: usize) -> io::Result<()> {
    let mut places = with_admin(options.places.clone());
    let words = ["--auth", "optional", "--socks-addr", "127.0.0.1"];
    places.daemon_arguments.extend(words.map(str::to_owned));
    places.daemon_users = Some(users_file(users));
    let catalogue = Catalogue::new(places)?;
    let server = catalogue.start(Kind::Daemon, Door::Open)?;
    measure(&server, options, sessions)
}

/// A line for each user, in no order: the list has to be sorted.
fn users_file(count: usize) -> String {
    let mut text = String::new();
    for number in 0..count as u64 {
        // Writing to a String does not fail.
        let _ = writeln!(text, "user-{:016x}:pw", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    text
}

fn measure(server: &Server, options: &Options, count: usize) -> io::Result<()> {
    let _open = Sessions::open(&server.target, count)?;
    let sorted = |sort, limit| {
        let (filter, descending) = (None, Some(true));
        let body =
            SessionListRequest { credit: CREDIT_BYTES_MAX, filter, sort: Some(sort), descending, limit };
        Some(Request::SessionList(body))
    };
    let users = UserListRequest { credit: CREDIT_BYTES_MAX, user: None, prefix: None, limit: None };
    let lists = [
        Listed { name: "nothing", request: None },
        Listed { name: "`user list`", request: Some(Request::UserList(users.clone())) },
        Listed {
            name: "`user list --limit 10`",
            request: Some(Request::UserList(UserListRequest { limit: Some(10), ..users })),
        },
        Listed { name: "`session list`", request: Some(session_list(None)) },
        Listed { name: "`session list --sort bytes`", request: sorted(SessionSort::Bytes, None) },
        Listed { name: "`session list --sort destination`", request: sorted(SessionSort::Destination, None) },
        Listed {
            name: "`session list --sort idle --limit 20`",
            request: sorted(SessionSort::Idle, Some(20)),
        },
    ];
    say(
        "| beside | lists | time of one, ms | its octets | control loop each, ms | command p50, µs | p99 | longest \
         | new session p50, µs | p99 | longest |",
    )?;
    say(&format!("|{}", " --- |".repeat(11)))?;
    for listed in &lists {
        line(listed.name, &watch(server, listed.request.as_ref(), options.window.length)?)?;
    }
    Ok(())
}

/// Asks for the list again and again for that time; besides, small commands and new sessions are timed.
fn watch(server: &Server, list: Option<&Request>, length: Duration) -> io::Result<Seen> {
    let subject = server.subject().ok_or_else(|| io::Error::other("no process to be measured"))?;
    let stopped = AtomicBool::new(false);
    let mut seen = Seen::default();
    let mut lister = association(server)?;
    let mut commander = association(server)?;
    std::thread::scope(|scope| {
        let is_over = || stopped.load(Ordering::Relaxed);
        let commands = scope.spawn(move || timed(&is_over, || commander.ask(&setting_get(), 0).map(|_| ())));
        let target = &server.target;
        let sessions = scope.spawn(move || timed(&is_over, || new_session(target)));
        let until = Instant::now() + length;
        let before = Control::read(subject)?;
        while Instant::now() < until {
            let Some(list) = list else {
                pause(Duration::from_millis(20));
                continue;
            };
            let begun = Instant::now();
            seen.rows_bytes = read_list(&mut lister, list)?;
            seen.lists_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        let used = Control::read(subject)?.since(before).cpu;
        seen.control_ms = used.as_secs_f64() * 1000.0 / seen.lists_ms.len().max(1) as f64;
        stopped.store(true, Ordering::Relaxed);
        let panicked = |_| io::Error::other("a measuring thread panicked");
        seen.commands = commands.join().map_err(panicked)??;
        seen.sessions = sessions.join().map_err(panicked)??;
        Ok(seen)
    })
}

/// Does it again and again with a pause between; how long each took, sorted, ns.
fn timed(is_over: &impl Fn() -> bool, mut work: impl FnMut() -> io::Result<()>) -> io::Result<Vec<u64>> {
    let mut times = Vec::new();
    while !is_over() {
        pause(PAUSE);
        let begun = Instant::now();
        work()?;
        times.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    times.sort_unstable();
    Ok(times)
}

fn new_session(target: &Target) -> io::Result<()> {
    target.connect(Service::Echo(0), None).and_then(crate::target::reset)
}

/// Reads a whole list, returning credit; its octets.
fn read_list(client: &mut super::client::Client, list: &Request) -> io::Result<u64> {
    let number = client.send(list, LIST)?;
    let mut credit = pipo_protocol::v2::credit::ReceiveCredit::open(CREDIT_BYTES_MAX);
    let mut bytes = 0;
    loop {
        let got = client.next(Instant::now() + Duration::from_secs(20))?.ok_or(io::ErrorKind::TimedOut)?;
        if got.header.request != number {
            continue;
        }
        if got.header.status != Status::Ok {
            return Err(io::Error::other(format!("a list ended with {:?}", got.header.status)));
        }
        bytes += u64::from(got.bytes);
        if got.header.last {
            return Ok(bytes);
        }
        if let Some(owed) = credit.displayed(usize::try_from(got.bytes).map_err(io::Error::other)?) {
            client.give_credit(LIST, owed)?;
        }
    }
}

fn line(name: &str, seen: &Seen) -> io::Result<()> {
    let of = |times: &[u64], percent| {
        percentile(times, percent).map_or("—".to_owned(), |time| format!("{:.0}", microseconds(time)))
    };
    let each = |times: &[u64]| [50, 99, 100].map(|percent| of(times, percent)).join(" | ");
    let time = median(&seen.lists_ms).map_or("—".to_owned(), |time| format!("{time:.1}"));
    say(&format!(
        "| {name} | {} | {time} | {} | {:.1} | {} | {} |",
        seen.lists_ms.len(),
        seen.rows_bytes,
        seen.control_ms,
        each(&seen.commands),
        each(&seen.sessions)
    ))
}
