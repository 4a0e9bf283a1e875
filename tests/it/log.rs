//! The access log: its two forms, that nobody who reads it slowly or not at all stops the proxy, and rotation.

use std::io::Read;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::client::{PASSWORD, reply_to};
use crate::harness::origin::{ClosedPort, Origin, V4};
use crate::harness::process::Lines;
use crate::harness::{Client, Daemon, Destination, connect_through, eventually};

#[test]
fn a_tab_line_has_eight_fields_and_is_written_with_the_reply() {
    let origin = Origin::echo(V4);
    let refused = ClosedPort::new(V4, 0);
    let daemon = Daemon::start(&["--user", "alice:secret", "--auth", "optional", "--log-format", "tab"]);
    let port = origin.port().to_string();

    let client = connect_through(daemon.address(), origin.address());
    let source = client.stream.local_addr().unwrap();
    let first = daemon.stdout().wait_for_count(1)[0].clone();
    let fields: Vec<&str> = first.split('\t').collect();
    let source_port = source.port().to_string();
    assert_eq!(fields[1..], ["anonymous", "A", "127.0.0.1", &source_port, "127.0.0.1", &port, "0"]);
    assert_time(fields[0]);

    let mut named = Client::connect(daemon.address());
    assert_eq!(named.offer(&[PASSWORD]), PASSWORD);
    assert_eq!(named.log_in(b"alice", b"secret"), 0);
    assert_eq!(named.request(1, &("localhost", origin.port()).into()).code, 0);
    let second = daemon.stdout().wait_for_count(2)[1].clone();
    let fields: Vec<&str> = second.split('\t').collect();
    assert_eq!([fields[1], fields[5], fields[7]], ["alice", "localhost", "0"]);

    reply_to(daemon.address(), refused.address());
    let third = daemon.stdout().wait_for_count(3)[2].clone();
    assert_eq!(third.split('\t').nth(7), Some("5"), "{third}");
    assert_eq!(daemon.stdout().all().len(), 3, "one line for each reply");
    drop((client, named));
}

/// `2026-11-21T03:04:05.678Z`: UTC, and close to now.
fn assert_time(text: &str) {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert!(shape.starts_with("0000-00-00T00:00:00") && shape.ends_with('Z'), "{text}");
    let output = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H"]).output().unwrap();
    let hour = String::from_utf8(output.stdout).unwrap();
    // The hour may change between the two; then the minute of the line is 59.
    assert!(text.starts_with(hour.trim()) || text.contains(":59:"), "{text}, expected {hour}");
}

#[test]
fn what_a_client_sends_cannot_forge_a_line() {
    let daemon = Daemon::start(&["--log-format", "tab"]);
    let name = b"evil\n2026-01-01T00:00:00Z\troot\tA\\\x7f\xff\0.test".to_vec();
    let reply = reply_to(daemon.address(), Destination::Name(name, 80));
    assert_ne!(reply.code, 0);
    let line = daemon.stdout().wait_for_count(1)[0].clone();
    assert_eq!(line.split('\t').count(), 8, "{line}");
    assert!(line.contains(r"evil\x0a2026-01-01T00:00:00Z\x09root\x09A\x5c\x7f"), "{line}");
    assert!(!line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t'), "{line}");
}

#[test]
fn a_json_line_tells_the_whole_session_when_it_ends() {
    let origin = Origin::answers_after_the_end(V4);
    let daemon = Daemon::start(&["--log-format", "json"]);
    let mut client = connect_through(daemon.address(), ("localhost", origin.port()));
    client.send(b"twelve bytes");
    assert!(client.is_silent_for(Duration::from_millis(200)));
    assert!(daemon.stdout().all().is_empty(), "nothing before the end: {}", daemon.stdout().text());
    client.half_close();
    assert_eq!(client.read_to_end().0.len(), 12);
    let record = json(&daemon.stdout().wait_for_count(1)[0]);
    assert_eq!(record["destination"], "localhost");
    assert_eq!(record["destination_port"], origin.port());
    assert_eq!(record["resolved_address"], "127.0.0.1");
    assert_eq!(record["client_address"], "127.0.0.1");
    assert_eq!(record["user"], "anonymous");
    assert_eq!(record["command"], "connect");
    assert_eq!(record["reply"], 0);
    assert_eq!((record["bytes_up"].as_u64(), record["bytes_down"].as_u64()), (Some(12), Some(12)));
    assert_eq!(record["close_reason"], "finished");
    assert_eq!(record["session"].as_str().map(str::len), Some(16), "{record}");
    let duration_ms = record["duration_ms"].as_f64().unwrap();
    assert!((200.0..20_000.0).contains(&duration_ms), "{duration_ms}");
    assert!(record["connect_ms"].is_number() && record["dns_ms"].is_number(), "{record}");
    assert_time(record["time"].as_str().unwrap());
}

#[test]
fn json_lines_of_other_ends_name_their_reason() {
    let echo = Origin::echo(V4);
    let resetting = Origin::resets(V4, 1, 0);
    let refused = ClosedPort::new(V4, 0);
    let daemon = Daemon::start(&["--log-format", "json", "--idle-timeout", "1"]);
    reply_to(daemon.address(), refused.address());
    let mut reset = connect_through(daemon.address(), resetting.address());
    reset.send(b"x");
    reset.read_to_end();
    let mut idle = connect_through(daemon.address(), echo.address());
    idle.expect_end();
    // What is no name cannot break the line.
    reply_to(daemon.address(), Destination::Name(b"\"\n\xff\\".to_vec(), 80));
    let records: Vec<Value> = daemon.stdout().wait_for_count(4).iter().map(|line| json(line)).collect();
    let seen = |reason: &str, reply: u64| {
        records.iter().any(|record| record["close_reason"] == reason && record["reply"] == reply)
    };
    assert!(seen("refused", 5) && seen("reset", 0) && seen("idle", 0) && seen("refused", 4), "{records:#?}");
    let sessions: std::collections::HashSet<_> =
        records.iter().map(|record| record["session"].as_str()).collect();
    assert_eq!(sessions.len(), 4, "each session has a number of its own");
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in: {line}"))
}

#[test]
fn off_writes_nothing() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&["--access-log", "off"]);
    connect_through(daemon.address(), origin.address()).assert_echo(b"unseen");
    connect_through(daemon.address(), origin.address()).assert_echo(b"unseen");
    assert!(daemon.stdout().all().is_empty(), "{}", daemon.stdout().text());
}

#[test]
fn a_reader_of_standard_output_that_stalls_ten_seconds_does_not_stop_the_proxy() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::with(&[]).hold_stdout().start();
    let mut stdout = daemon.take_stdout();
    // A pipe of one page is full after some forty lines.
    rustix::pipe::fcntl_setpipe_size(&stdout, 4096).unwrap();
    let started = Instant::now();
    let mut sessions_count = 0;
    let mut slowest = Duration::ZERO;
    while started.elapsed() < Duration::from_secs(10) {
        let before = Instant::now();
        connect_through(daemon.address(), origin.address()).assert_echo(b"not stopped");
        slowest = slowest.max(before.elapsed());
        sessions_count += 1;
        crate::harness::waiting::pause(Duration::from_millis(5));
    }
    assert!(sessions_count > 200, "{sessions_count} sessions in ten seconds");
    assert!(slowest < Duration::from_secs(2), "the slowest session took {slowest:?}");
    // The reader is back: the lines that fitted the queue are whole and in order.
    let mut first = [0; 20];
    stdout.read_exact(&mut first).unwrap();
    let lines = Lines::collect(stdout);
    let count = lines.wait_for_count(sessions_count).len();
    assert!(lines.all()[1..].iter().all(|line| line.split('\t').count() == 8), "{count} lines");
}

#[test]
fn standard_output_that_is_closed_or_full_does_not_stop_the_proxy() {
    let origin = Origin::echo(V4);
    let mut closed = Daemon::with(&[]).hold_stdout().start();
    drop(closed.take_stdout());
    let full = Daemon::with(&[]).stdout_to("/dev/full").start();
    for mut daemon in [closed, full] {
        for _ in 0..20 {
            connect_through(daemon.address(), origin.address()).assert_echo(b"goes on");
        }
        let lines = daemon.stderr().clone();
        eventually("the loss is said", || lines.text().contains("access log"));
        let said = lines.all().iter().filter(|line| line.contains("access log")).count();
        assert!(said < 5, "once, not for each line:\n{}", lines.text());
        daemon.assert_alive();
    }
}

#[test]
fn a_log_file_on_a_full_disk_does_not_stop_the_proxy() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::start(&["--access-log", "/dev/full"]);
    for _ in 0..20 {
        connect_through(daemon.address(), origin.address()).assert_echo(b"goes on");
    }
    daemon.stderr().wait_for("access log");
    daemon.assert_alive();
}

#[test]
fn a_log_file_that_was_moved_is_opened_again_on_sighup() {
    let origin = Origin::echo(V4);
    let builder = Daemon::with(&[]);
    let path = builder.folder().join("access.log");
    let mut daemon = builder.arg("--access-log").arg(path.display().to_string()).start();
    let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    connect_through(daemon.address(), origin.address()).assert_echo(b"one");
    eventually("the first line", || lines(&path) == 1);
    let moved = path.with_extension("log.1");
    std::fs::rename(&path, &moved).unwrap();
    connect_through(daemon.address(), origin.address()).assert_echo(b"two");
    eventually("the second line goes where the file went", || lines(&moved) == 2);
    daemon.signal(Signal::HUP);
    eventually("a new file", || path.exists());
    connect_through(daemon.address(), origin.address()).assert_echo(b"three");
    eventually("the third line is in the new file", || lines(&path) == 1);
    assert_eq!(lines(&moved), 2, "and not in the old one");
}

#[test]
fn a_log_file_that_cannot_be_opened_is_a_bad_value() {
    let output = Daemon::with(&["--access-log", "/nonexistent/folder/access.log"]).run();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{text}");
    assert!(text.contains("/nonexistent/folder/access.log"), "{text}");
}

#[test]
fn passwords_stand_in_no_log_at_the_most_detailed_level() {
    let origin = Origin::echo(V4);
    let daemon =
        Daemon::start(&["--user", "alice:hunter2", "--log-level", "trace", "--socks-addr", "127.0.0.1"]);
    let mut client = Client::connect(daemon.address());
    client.offer(&[PASSWORD]);
    assert_eq!(client.log_in(b"alice", b"hunter2"), 0);
    assert_eq!(client.request(1, &origin.address().into()).code, 0);
    client.assert_echo(b"payload-that-is-private");
    let mut wrong = Client::connect(daemon.address());
    wrong.offer(&[PASSWORD]);
    assert_ne!(wrong.log_in(b"alice", b"hunter3"), 0);
    drop(client);
    let all = format!("{}\n{}", daemon.stderr().text(), daemon.stdout().text());
    for secret in ["hunter2", "hunter3", "payload-that-is-private", "104, 117, 110, 116"] {
        assert!(!all.contains(secret), "{secret} stands in the log:\n{all}");
    }
}
