//! The metrics endpoint: what is counted is shown, in both forms and to Prometheus' own tools; health tells the
//! truth; whoever is slow, long or greedy harms nobody else.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socks5d::limits;
use socks5d::metrics::exposition::Metric;

use crate::harness::client::{PASSWORD, reply_to};
use crate::harness::http::{ACCEPT_OPENMETRICS, ask, endpoints, get, open, promtool, read, scrape, value};
use crate::harness::origin::{Origin, V4};
use crate::harness::waiting::pause;
use crate::harness::{Client, Daemon, LIMIT, TempDir, connect_through, eventually};

const LISTEN: [&str; 2] = ["--metrics-listen", "127.0.0.1:0"];

/// A session of a user, from log-in to its end, that sends and gets these bytes.
fn session_of(daemon: &Daemon, origin: &Origin, name: &str, bytes: &[u8]) {
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.offer(&[PASSWORD]), PASSWORD);
    assert_eq!(client.log_in(name.as_bytes(), b"secret"), 0);
    assert_eq!(client.request(1, &origin.address().into()).code, 0);
    client.assert_echo(bytes);
    client.half_close();
    client.expect_end();
}

fn users_file(names: &[&str]) -> (TempDir, String) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new();
    let lines: String = names.iter().map(|name| format!("{name}:secret\n")).collect();
    let path = folder.file("users", lines);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    (folder, path.display().to_string())
}

// ---- what is shown -------------------------------------------------------------------------------------

#[test]
fn a_session_is_counted_by_outcome_and_measured() {
    let origin = Origin::echo(V4);
    let (_folder, users) = users_file(&["alice"]);
    let daemon = Daemon::start(&[&LISTEN[..], &["--users-file", &users, "-l", "127.0.0.1"]].concat());
    let before = scrape(&daemon);
    session_of(&daemon, &origin, "alice", b"twelve bytes");
    let mut refused = Client::connect(daemon.address());
    refused.offer(&[PASSWORD]);
    assert_ne!(refused.log_in(b"alice", b"wrong"), 0);
    drop(refused);
    eventually("both sessions are over", || value(&scrape(&daemon), "socks5d_sessions_closed_total") == 2.0);
    let after = scrape(&daemon);
    for (series, grown) in [
        ("socks5d_sessions_accepted_total", 2.0),
        ("socks5d_sessions_connected_total{ip=\"ipv4\"}", 1.0),
        ("socks5d_replies_total{reply=\"succeeded\"}", 1.0),
        ("socks5d_logins_total{outcome=\"accepted\"}", 1.0),
        ("socks5d_logins_total{outcome=\"refused\"}", 1.0),
        ("socks5d_payload_bytes_total{direction=\"up\"}", 12.0),
        ("socks5d_payload_bytes_total{direction=\"down\"}", 12.0),
        ("socks5d_handshake_duration_seconds_count", 1.0),
        ("socks5d_dns_duration_seconds_count", 0.0),
        ("socks5d_connect_duration_seconds_count", 1.0),
        ("socks5d_connect_duration_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("socks5d_session_duration_seconds_count", 2.0),
        ("socks5d_session_up_bytes_bucket{le=\"256.0\"}", 1.0),
        ("socks5d_session_up_bytes_sum", 12.0),
    ] {
        assert_eq!(value(&after, series) - value(&before, series), grown, "{series}");
    }
    assert_eq!(value(&after, "socks5d_user_payload_bytes_total{user=\"alice\",direction=\"up\"}"), 12.0);
    assert_eq!(value(&after, "socks5d_user_sessions_relayed_total{user=\"alice\"}"), 1.0);
    assert!(value(&after, "socks5d_session_duration_seconds_sum") > 0.0);
}

#[test]
fn gauges_go_up_and_down_for_each_worker() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&[&LISTEN[..], &["--workers", "2"]].concat());
    let sum = |name: &str| -> f64 {
        let text = scrape(&daemon);
        (0..2).map(|worker| value(&text, &format!("{name}{{worker=\"{worker}\"}}"))).sum()
    };
    let sessions = [connect_through(daemon.address(), origin.address()), Client::connect(daemon.address())];
    eventually("two sessions, of which one has an origin", || {
        (sum("socks5d_sessions_current"), sum("socks5d_sessions_relaying")) == (2.0, 1.0)
    });
    drop(sessions);
    eventually("none", || (sum("socks5d_sessions_current"), sum("socks5d_sessions_relaying")) == (0.0, 0.0));
    assert_eq!(value(&scrape(&daemon), "socks5d_workers"), 2.0);
}

#[test]
fn users_above_the_bound_share_a_label() {
    let origin = Origin::echo(V4);
    let names = ["a", "b", "c", "d"];
    let (_folder, users) = users_file(&names);
    let arguments = ["--users-file", &users, "-l", "127.0.0.1", "--metrics-users", "2"];
    let daemon = Daemon::start(&[&LISTEN[..], &arguments].concat());
    let up = |text: &str, user: &str| {
        value(text, &format!("socks5d_user_payload_bytes_total{{user=\"{user}\",direction=\"up\"}}"))
    };
    for name in names {
        session_of(&daemon, &origin, name, b"ten bytes.");
        // Whoever was first keeps the label.
        eventually("the session is counted", || up(&scrape(&daemon), "(others)") + 10.0 >= 10.0);
    }
    eventually("four sessions are over", || value(&scrape(&daemon), "socks5d_sessions_closed_total") == 4.0);
    let text = scrape(&daemon);
    let labels: BTreeSet<&str> =
        text.lines().filter_map(|line| Some(line.split_once("user=\"")?.1.split_once('"')?.0)).collect();
    assert_eq!(labels, BTreeSet::from(["(others)", "a", "b"]));
    assert_eq!([up(&text, "a"), up(&text, "b"), up(&text, "(others)")], [10.0, 10.0, 20.0]);
    let daemon = Daemon::start(&[&LISTEN[..], &["--metrics-users", "0"]].concat());
    drop(connect_through(daemon.address(), origin.address()));
    assert!(!scrape(&daemon).contains("user=\""), "nobody is to be named");
}

#[test]
fn nothing_is_served_unless_asked_for_and_a_taken_address_is_an_error() {
    let daemon = Daemon::start(&[]);
    assert!(!daemon.ready_line().contains("; metrics "));
    let two = Daemon::start(&["--metrics-listen", "127.0.0.1:0,[::1]:0"]);
    let places = endpoints(&two);
    assert_eq!(places.len(), 2);
    let taken = Daemon::with(&["--metrics-listen", &places[1].to_string()]).run();
    assert_eq!(taken.status.code(), Some(1));
    let line = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(line.contains(&format!("cannot listen on {}", places[1])), "{line}");
}

// ---- Prometheus' own tools -----------------------------------------------------------------------------

#[test]
fn promtool_reads_both_forms() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&LISTEN);
    connect_through(daemon.address(), origin.address()).assert_echo(b"something to count");
    let text = get(&daemon, "/metrics", "");
    assert!(text.head.contains("\r\nContent-Type: text/plain; version=0.0.4"), "{}", text.head);
    promtool(&["check", "metrics"], &text.content);
    let answer = get(&daemon, "/metrics", ACCEPT_OPENMETRICS);
    assert!(answer.head.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0"));
    // The one command of promtool that reads OpenMetrics wants a time with each sample.
    let stamped: String = answer
        .content
        .lines()
        .map(|line| if line.starts_with('#') { format!("{line}\n") } else { format!("{line} 1700000000\n") })
        .collect();
    let folder = TempDir::new();
    let file = folder.file("metrics", stamped).display().to_string();
    let blocks = folder.path().join("blocks").display().to_string();
    promtool(&["tsdb", "create-blocks-from", "openmetrics", &file, &blocks], "");
    let listed = promtool(&["tsdb", "list", &blocks], "");
    let samples = answer.content.lines().filter(|line| !line.starts_with('#')).count();
    assert!(listed.contains(&format!(" {samples} ")), "{samples} samples, and promtool kept: {listed}");
    // Both forms show the same series.
    let series = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    assert_eq!(series(&text.content), series(&answer.content));
}

fn packaged(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus").join(name).display().to_string()
}

#[test]
fn alert_rules_are_sound_and_name_metrics_that_exist() {
    let rules = packaged("alerts.yaml");
    promtool(&["check", "rules", "--lint-fatal", &rules], "");
    promtool(&["test", "rules", &packaged("alerts.test.yaml")], "");
    promtool(&["check", "config", &packaged("prometheus.yaml")], "");
    let known: BTreeSet<String> = Metric::all().into_iter().flat_map(Metric::series).collect();
    for name in ["alerts.yaml", "alerts.test.yaml"] {
        let text = std::fs::read_to_string(packaged(name)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: BTreeSet<&str> = words.filter(|word| word.starts_with("socks5d_")).collect();
        assert!(named.len() > 5, "{name} names {named:?}");
        for metric in named {
            assert!(known.contains(metric), "{name} names {metric}, which does not exist");
        }
    }
}

// ---- health --------------------------------------------------------------------------------------------

#[test]
fn readiness_ends_with_draining_and_health_does_not() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::start(&[&LISTEN[..], &["--drain-timeout", "60"]].concat());
    let mut session = connect_through(daemon.address(), origin.address());
    let ready = get(&daemon, "/readyz", "");
    assert_eq!((ready.status, ready.content.as_str()), (200, "ready\n"));
    assert_eq!(value(&scrape(&daemon), "socks5d_ready"), 1.0);
    daemon.signal(Signal::TERM);
    eventually("it is not ready", || get(&daemon, "/readyz", "").status == 503);
    assert_eq!(get(&daemon, "/readyz", "").content, "draining\n");
    let health = get(&daemon, "/healthz", "");
    assert_eq!((health.status, health.content.as_str()), (200, "ok\n"));
    assert_eq!(value(&scrape(&daemon), "socks5d_ready"), 0.0);
    session.assert_echo(b"goes on");
    session.half_close();
    session.expect_end();
    assert_eq!(daemon.wait(LIMIT).code(), Some(0));
}

#[test]
fn without_descriptors_it_still_says_that_it_is_not_ready() {
    let mut daemon = Daemon::start(&LISTEN);
    assert_eq!(get(&daemon, "/readyz", "").status, 200);
    eventually("the connection before is closed", || {
        let count = daemon.descriptors_count();
        pause(Duration::from_millis(20));
        daemon.descriptors_count() == count
    });
    let before = daemon.forbid_descriptors();
    for _ in 0..3 {
        let answer = get(&daemon, "/readyz", "");
        assert_eq!((answer.status, answer.content.as_str()), (503, "out of descriptors\n"));
        assert_eq!(value(&scrape(&daemon), "socks5d_ready"), 0.0);
    }
    daemon.limit_descriptors(before.current);
    eventually("it is ready again", || get(&daemon, "/readyz", "").status == 200);
    daemon.assert_alive();
}

#[test]
fn it_is_not_ready_while_every_place_is_taken() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&[&LISTEN[..], &["--max-sessions", "1"]].concat());
    let session = connect_through(daemon.address(), origin.address());
    let answer = get(&daemon, "/readyz", "");
    assert_eq!((answer.status, answer.content.as_str()), (503, "every place of a session is taken\n"));
    drop(session);
    eventually("it is ready again", || get(&daemon, "/readyz", "").status == 200);
}

// ---- requests ------------------------------------------------------------------------------------------

#[test]
fn requests_that_are_not_served_get_a_status_and_a_close() {
    let daemon = Daemon::start(&LISTEN);
    let long = "x".repeat(2 * limits::METRICS_HEAD_BYTES_MAX);
    let cases = [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 404),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".to_owned(), 405),
        ("GET /metrics HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("\u{5}\u{1}\u{0}\r\n\r\n".to_owned(), 400),
        (format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"), 431),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), 431),
        (format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100)), 431),
    ];
    for (request, status) in &cases {
        let answer = ask(&daemon, request);
        assert_eq!(answer.status, *status, "{}", request.escape_debug());
        assert!(answer.head.contains("\r\nConnection: close"), "{}", answer.head);
    }
    let refused = value(&scrape(&daemon), "socks5d_http_requests_total{outcome=\"refused\"}");
    assert_eq!(refused, cases.len() as f64);
}

#[test]
fn heads_old_clients_and_pipelines_are_answered_once() {
    let daemon = Daemon::start(&LISTEN);
    let head = ask(&daemon, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((head.status, head.content.as_str()), (200, ""));
    let old = ask(&daemon, "GET /metrics HTTP/1.0\r\n\r\n");
    assert!(old.status == 200 && !old.head.contains("chunked"), "{}", old.head);
    assert!(old.content.contains("\nsocks5d_workers "), "the content is not in chunks");
    let twice = ask(&daemon, &"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2));
    assert_eq!((twice.status, twice.content.as_str()), (200, "ok\n"));
    let mut singly = open(&daemon);
    for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" {
        singly.write_all(&[*byte]).unwrap();
    }
    assert_eq!(read(&mut singly).content, "ok\n");
}

// ---- hostile clients -----------------------------------------------------------------------------------

#[test]
fn who_does_not_ask_is_closed_and_who_asks_gets_through() {
    let daemon = Daemon::start(&LISTEN);
    let started = Instant::now();
    // More than there are places: the newest always gets one, the oldest of the silent ones makes room.
    let mut silent: Vec<TcpStream> =
        (0..4 * limits::METRICS_CONNECTIONS_MAX).map(|_| open(&daemon)).collect();
    let mut slow = open(&daemon);
    slow.write_all(b"GET /met").unwrap();
    for _ in 0..5 {
        assert_eq!(get(&daemon, "/healthz", "").status, 200);
    }
    assert!(started.elapsed() < limits::METRICS_REQUEST_TIME_MAX, "nobody had to wait for the silent ones");
    let displaced = value(&scrape(&daemon), "socks5d_http_connections_broken_total{cause=\"displaced\"}");
    assert!(displaced >= 3.0 * limits::METRICS_CONNECTIONS_MAX as f64, "{displaced}");
    for stream in &mut silent {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "a silent one is closed");
    }
    assert!(matches!(slow.read(&mut [0]), Ok(0) | Err(_)), "half a request is none");
    let took = started.elapsed();
    assert!(took < 2 * limits::METRICS_REQUEST_TIME_MAX, "{took:?}");
    let timeouts = value(&scrape(&daemon), "socks5d_http_connections_broken_total{cause=\"timeout\"}");
    assert!(timeouts >= 1.0);
}

#[test]
fn who_takes_no_answer_holds_up_nobody() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::start(&LISTEN);
    let mut stalled: Vec<TcpStream> = (0..limits::METRICS_CONNECTIONS_MAX).map(|_| open(&daemon)).collect();
    for stream in &mut stalled {
        socket2::SockRef::from(&*stream).set_recv_buffer_size(1024).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    let before = daemon.cpu_time();
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(get(&daemon, "/healthz", "").status, 200);
        assert_eq!(reply_to(daemon.address(), origin.address()).code, 0);
    }
    assert!(started.elapsed() < limits::METRICS_ANSWER_TIME_MAX, "{:?}", started.elapsed());
    pause(Duration::from_secs(1));
    let used = daemon.cpu_time() - before;
    assert!(used < Duration::from_millis(700), "who does not read costs no processor: {used:?}");
    daemon.assert_alive();
}
