//! pipoctl as a follower that falls behind: stopped, or with output that nobody reads. The others notice nothing of
//! it, the daemon keeps little for it, and it learns what it missed.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use pipo_protocol::v2::messages::{MetricPart, MetricsRequest, Nothing, SettingSet};
use pipo_protocol::v2::{Request, Status, Text, Word};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::admin_v2::{CREDIT, Client2};
use crate::harness::pipoctl::{Pipoctl, ended};
use crate::harness::{Daemon, eventually};

/// More than the daemon keeps and a follower's credit and pipe take.
const CHANGES: u64 = 20_000;

/// What the daemon keeps for all followers together (`limits::ADMIN_EVENTS_MAX`).
const EVENTS_KEPT: u64 = socks5d::limits::ADMIN_EVENTS_MAX as u64;
const _: () = assert!(CHANGES > 2 * EVENTS_KEPT);

/// What one more follower may cost the daemon while all these changes go by: less than a queue of them would.
const MEMORY_KIB_MAX: u64 = 1024;

/// What a command may take beside all this, on a machine that is busy with other tests.
const PROMPT: Duration = Duration::from_secs(5);

fn daemon() -> Daemon {
    Daemon::start(&["--admin", "root:secret", "--log-level", "error"])
}

/// Changes a setting so often, some requests on their way at once, and in between asks for what is answered by one
/// reply: gives the longest time that took.
fn change(busy: &mut Client2, times: u64) -> Duration {
    let mut waiting = VecDeque::new();
    let mut slowest = Duration::ZERO;
    for number in 0..times {
        let value = Text::cut(["error", "off"][number as usize % 2]);
        let request = SettingSet { name: Word::cut("log-level"), value, base: None };
        waiting.push_back(busy.send(&Request::SettingSet(request), 0));
        if waiting.len() == 32 {
            let oldest = waiting.pop_front().expect("one of 32");
            assert_eq!(busy.answer_to(oldest).header.status, Status::Ok);
        }
        if number % 500 == 0 {
            let asked = Instant::now();
            busy.ask(&Request::Statistics(Nothing {})).expect("statistics");
            slowest = slowest.max(asked.elapsed());
        }
    }
    waiting.into_iter().for_each(|number| assert_eq!(busy.answer_to(number).header.status, Status::Ok));
    slowest
}

/// A follower of changes whose first event has come, with the lines behind it; and the number of that event.
fn follower(root: &Pipoctl, busy: &mut Client2) -> (Child, impl Iterator<Item = Value> + use<>, u64) {
    let arguments = ["events", "--json-lines"];
    let mut child = root.command(&arguments).stdout(Stdio::piped()).spawn().expect("pipoctl starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (sender, first) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        drop(sender.send(lines.next().expect("an event").expect("a line")));
        lines
    });
    let mut line = None;
    eventually("the follower follows", || {
        change(busy, 1);
        line = first.try_recv().ok();
        line.is_some()
    });
    let event = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    let first = event(&line.expect("an event"))["sequence"].as_u64().expect("a number");
    let lines = reader.join().expect("a line was read");
    (child, lines.map(move |line| event(&line.expect("a line"))), first)
}

fn associations(busy: &mut Client2) -> u64 {
    let prefix = Some(Word::cut("admin_associations_current"));
    let request = MetricsRequest { credit: CREDIT, prefix, per_worker: None, meanings: None };
    busy.rows::<MetricPart>(&Request::Metrics(request), 1).1[0].value
}

#[test]
fn a_stopped_follower_holds_nobody_up_and_learns_that_it_was_left() {
    let daemon = daemon();
    let root = Pipoctl::new(&daemon, "root", "secret");
    let mut busy = Client2::log_in(&daemon, b"root", b"secret");
    let (child, events, _) = follower(&root, &mut busy);
    assert_eq!(associations(&mut busy), 2);
    change(&mut busy, EVENTS_KEPT);
    let before = daemon.memory_kib_max();
    kill_process(Pid::from_child(&child), Signal::STOP).expect("it runs");
    let slowest = change(&mut busy, CHANGES);
    assert!(slowest < PROMPT, "{slowest:?}");
    let grown = daemon.memory_kib_max() - before;
    assert!(grown < MEMORY_KIB_MAX, "{grown} KiB more for one follower that is stopped");
    // Over UDP the process itself would have to acknowledge: it counts as gone.
    eventually("the association of the follower has ended", || associations(&mut busy) == 1);
    kill_process(Pid::from_child(&child), Signal::CONT).expect("it is stopped");
    // What had come before is still shown.
    drop(events.collect::<Vec<_>>());
    let ran = ended(child);
    assert_eq!((ran.code, ran.stderr.lines().count()), (9, 1), "{ran:?}");
}

#[test]
fn a_reader_that_comes_late_is_told_what_it_missed() {
    let daemon = daemon();
    let root = Pipoctl::new(&daemon, "root", "secret");
    let mut busy = Client2::log_in(&daemon, b"root", b"secret");
    change(&mut busy, EVENTS_KEPT);
    let (child, mut events, first) = follower(&root, &mut busy);
    let before = daemon.memory_kib_max();
    // The pipe is full after some hundreds of lines, and the credit is gone some hundreds later.
    let slowest = change(&mut busy, CHANGES);
    assert!(slowest < PROMPT, "{slowest:?}");
    let grown = daemon.memory_kib_max() - before;
    assert!(grown < MEMORY_KIB_MAX, "{grown} KiB more for one follower that does not read");
    // pipoctl itself goes on: it reads, and leaves in order when it is told to.
    let now = busy.ask(&Request::ServerInfo(Nothing {})).expect("server info");
    let pipo_protocol::v2::Reply::ServerInfo(now) = now else { panic!("{now:?}") };
    let (mut last, mut missed, mut gaps) = (first, 0, 0);
    while last < now.as_of {
        let event = events.next().expect("it goes on");
        let number = |name: &str| event[name].as_u64().unwrap_or_else(|| panic!("{name} in {event}"));
        if event["kind"] == "gap" {
            assert_eq!((number("first"), number("events_count")), (last + 1, number("last") - last));
            (missed, gaps, last) = (missed + number("events_count"), gaps + 1, number("last"));
        } else {
            assert_eq!(number("sequence"), last + 1, "{event}");
            last += 1;
        }
    }
    assert!(now.as_of - first >= CHANGES && missed >= 500 && gaps == 1, "{gaps} gaps, {missed} missed");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    drop(events);
    let ran = ended(child);
    assert_eq!((ran.code, ran.stderr.as_str()), (130, ""));
}
