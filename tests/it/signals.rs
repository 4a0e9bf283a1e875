//! Signals: SIGTERM drains, a second one ends at once, SIGHUP takes up what is right and leaves what is not.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::client::reply_to;
use crate::harness::origin::{Origin, V4};
use crate::harness::{Client, Daemon, connect_through, eventually};

#[test]
fn without_sessions_the_first_signal_ends_the_daemon_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start(&[]);
        daemon.signal(signal);
        let status = daemon.wait(Duration::from_secs(5));
        assert_eq!(status.code(), Some(0), "{signal:?}: {}", daemon.stderr().text());
    }
}

#[test]
fn sessions_may_finish_while_no_new_ones_are_taken() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::start(&["--drain-timeout", "30"]);
    let address = daemon.address();
    let mut client = connect_through(address, origin.address());
    daemon.signal(Signal::TERM);
    eventually("new clients are refused", || {
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err()
    });
    client.assert_echo(b"the session goes on");
    let started = Instant::now();
    client.half_close();
    client.expect_end();
    assert_eq!(daemon.wait(Duration::from_secs(10)).code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(10), "it does not wait for the drain's end");
}

#[test]
fn what_is_left_after_the_drain_timeout_is_closed() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::start(&["--drain-timeout", "1", "--log-format", "json"]);
    let mut client = connect_through(daemon.address(), origin.address());
    client.assert_echo(b"here");
    let started = Instant::now();
    daemon.signal(Signal::TERM);
    client.expect_end();
    assert_eq!(daemon.wait(Duration::from_secs(10)).code(), Some(0));
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(6), "{took:?}");
    let line = daemon.stdout().wait_for_count(1)[0].clone();
    assert!(line.contains("\"close_reason\":\"drained\""), "{line}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::start(&["--drain-timeout", "60"]);
    let mut client = connect_through(daemon.address(), origin.address());
    daemon.signal(Signal::TERM);
    // The first one has been taken when the listener is gone: two signals that wait together are one.
    let address = daemon.address();
    eventually("the first is taken", || {
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err()
    });
    client.assert_echo(b"draining");
    let started = Instant::now();
    daemon.signal(Signal::INT);
    daemon.wait(Duration::from_secs(5));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    client.expect_end();
}

#[test]
fn the_last_lines_of_the_access_log_are_written_before_the_end() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::start(&["--log-format", "tab"]);
    for _ in 0..100 {
        connect_through(daemon.address(), origin.address());
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(Duration::from_secs(15)).code(), Some(0));
    assert_eq!(daemon.stdout().wait_for_count(100).len(), 100);
}

/// A daemon with a configuration file, and a way to change the file and send SIGHUP.
fn with_config(content: &str) -> (Daemon, impl Fn(&mut Daemon, &str)) {
    let builder = Daemon::with(&[]);
    let path = builder.file("config.toml", content);
    let daemon = builder.arg("--config").arg(&path).start();
    let change = move |daemon: &mut Daemon, content: &str| {
        std::fs::write(&path, content).unwrap();
        daemon.signal(Signal::HUP);
    };
    (daemon, change)
}

#[test]
fn a_live_setting_is_taken_up_on_sighup_and_sessions_go_on() {
    let origin = Origin::echo(V4);
    let (mut daemon, change) = with_config("deny-private = false\n");
    let mut running = connect_through(daemon.address(), origin.address());
    change(&mut daemon, "deny-private = true\n");
    eventually("the change holds", || reply_to(daemon.address(), origin.address()).code == 2);
    running.assert_echo(b"begun before, goes on");
    change(&mut daemon, "");
    eventually("the default holds again", || reply_to(daemon.address(), origin.address()).code == 0);
}

#[test]
fn a_bad_file_changes_nothing_at_all() {
    let origin = Origin::echo(V4);
    let (mut daemon, change) = with_config("deny-private = false\n");
    for (bad, named) in [
        ("deny-private = true\nworkers = \"none\"\n", "workers"),
        ("deny-private = true\nnonsense = 1\n", "nonsense"),
        ("deny-private = true\n= broken\n", "line 2"),
    ] {
        let lines_before = daemon.stderr().all().len();
        change(&mut daemon, bad);
        eventually("the mistake is named", || {
            daemon.stderr().all()[lines_before..].iter().any(|line| line.contains(named))
        });
        assert_eq!(reply_to(daemon.address(), origin.address()).code, 0, "{bad:?} was taken up in part");
    }
    daemon.assert_alive();
}

#[test]
fn a_setting_that_needs_a_restart_is_named_and_keeps_its_value() {
    let origin = Origin::echo(V4);
    let (mut daemon, change) = with_config("workers = 2\n");
    change(&mut daemon, "workers = 3\ndeny-private = true\n");
    let named = daemon.stderr().wait_for("[workers]");
    assert!(named.contains("restart"), "{named}");
    eventually("what is live holds", || reply_to(daemon.address(), origin.address()).code == 2);
}

#[test]
fn users_of_a_changed_file_may_log_in_after_sighup_and_removed_ones_may_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let builder = Daemon::with(&["--socks-addr", "127.0.0.1"]);
    let path = builder.file("users", "alice:secret\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut daemon = builder.arg("--users-file").arg(&path).start();
    // One source may fail five times a minute, so each attempt comes from an address of its own.
    let mut last_octet = 10;
    let mut may_log_in = |daemon: &Daemon, name: &[u8], password: &[u8]| {
        last_octet += 1;
        let mut client = Client::connect_from([127, 0, 1, last_octet].into(), daemon.address());
        client.offer(&[2]);
        client.log_in(name, password) == 0
    };
    assert!(may_log_in(&daemon, b"alice", b"secret"));
    assert!(!may_log_in(&daemon, b"bob", b"new"));
    std::fs::write(&path, "bob:new\n").unwrap();
    daemon.signal(Signal::HUP);
    eventually("bob is known", || may_log_in(&daemon, b"bob", b"new"));
    assert!(!may_log_in(&daemon, b"alice", b"secret"), "alice is not any more");
}

#[test]
fn many_signals_under_load_harm_no_session() {
    let origin = Origin::echo(V4);
    let (mut daemon, change) = with_config("");
    let mut client = connect_through(daemon.address(), origin.address());
    for round in 0..50_u32 {
        change(&mut daemon, if round % 2 == 0 { "buffer-size = \"4K\"\n" } else { "" });
        client.assert_echo(&crate::harness::pattern(u64::from(round), 20_000));
    }
    daemon.assert_alive();
}
