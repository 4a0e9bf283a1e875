//! Every setting that is live: changed over the admin channel, and in force everywhere 100 ms after the reply. One
//! table, a probe for each setting; a setting of the daemon's table without a probe is a failure.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pipo_protocol::v2::messages::{Nothing, SettingSet};
use pipo_protocol::v2::{Reply, Request, Text, Word};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};
use socket2::SockRef;

use crate::harness::admin_v2::Client2;
use crate::harness::client::{NO_AUTH, reply_to};
use crate::harness::doh_stub::{DohStub, Mood, NAME};
use crate::harness::http::scrape;
use crate::harness::origin::{BlackHole, Origin, V4};
use crate::harness::plain_dns::{Manner, PlainDns};
use crate::harness::waiting::pause;
use crate::harness::{Client, Daemon, LIMIT, connect_through, eventually};

/// How long a change may take to reach every worker.
const TAKEN_UP: Duration = Duration::from_millis(100);

/// Sessions that begin after a change: enough to meet every one of two workers.
const SESSIONS: usize = 6;

/// The settings and how each shows that it holds. Every probe has a daemon of its own.
const PROBES: &[(&str, fn())] = &[
    ("auth", auth),
    ("deny-private", deny_private),
    ("dns", dns),
    ("doh-ip", doh_ip),
    ("doh-port", doh_port),
    ("doh-host", doh_host),
    ("doh-path", doh_path),
    ("doh-query", doh_query),
    ("doh-method-post", doh_method),
    ("hosts", hosts),
    ("resolv-conf", resolv_conf),
    ("buffer-size", buffer_size),
    ("max-sessions", max_sessions),
    ("max-sessions-per-source", max_sessions_per_source),
    ("spread-from", spread_from),
    ("bind-outgoing", bind_outgoing),
    ("tcp-keepalive", tcp_keepalive),
    ("tcp-user-timeout", tcp_user_timeout),
    ("tcp-congestion", tcp_congestion),
    ("mark", mark),
    ("dissector", dissector),
    ("idle-timeout", idle_timeout),
    ("handshake-timeout", handshake_timeout),
    ("connect-timeout", connect_timeout),
    ("half-closed-timeout", half_closed_timeout),
    ("poll-timeout", poll_timeout),
    ("drain-timeout", drain_timeout),
    ("access-log", access_log),
    ("log-format", log_format),
    ("log-level", log_level),
    ("metrics-users", metrics_users),
];

#[test]
fn every_live_setting_has_a_probe() {
    let live = socks5d::settings::rows().filter(|row| row.live && row.is_value()).map(|row| row.name);
    let mut live: Vec<_> = live.collect();
    let mut probed: Vec<_> = PROBES.iter().map(|(name, _)| *name).collect();
    live.sort_unstable();
    probed.sort_unstable();
    assert_eq!(probed, live);
}

#[test]
fn every_live_setting_is_taken_up_by_all_workers() {
    for probes in PROBES.chunks(4) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = probes.iter().map(|(name, probe)| (name, scope.spawn(probe))).collect();
            for (name, thread) in threads {
                assert!(thread.join().is_ok(), "{name} is not taken up");
            }
        });
    }
}

// ---- a daemon to be changed -----------------------------------------------------------------------------

struct Trial {
    daemon: Daemon,
    admin: Client2,
    origin: Origin,
}

impl Trial {
    fn new(arguments: &[&str]) -> Self {
        Self::of(Daemon::with(&[&["--admin", "root:secret", "--workers", "2"], arguments].concat()).start())
    }

    fn of(daemon: Daemon) -> Self {
        let admin = Client2::log_in(&daemon, b"root", b"secret");
        Self { daemon, admin, origin: Origin::echo(V4) }
    }

    /// Changes a setting, and lets the time pass that workers have for it.
    fn set(&mut self, name: &str, value: &str) {
        let request = SettingSet { name: Word::cut(name), value: Text::cut(value), base: None };
        let reply = self.admin.ask(&Request::SettingSet(request));
        assert!(matches!(reply, Ok(Reply::SettingSet(_))), "{name} = {value}: {reply:?}");
        pause(TAKEN_UP);
    }

    fn session(&self) -> Client {
        connect_through(self.daemon.address(), self.origin.address())
    }

    /// The reply of each of some sessions to the origin.
    fn replies(&self) -> Vec<u8> {
        (0..SESSIONS).map(|_| reply_to(self.daemon.address(), self.origin.address()).code).collect()
    }

    /// A socket of the daemon whose peer is this.
    fn socket_to(&mut self, peer: SocketAddr) -> OwnedFd {
        let Ok(Reply::ServerInfo(info)) = self.admin.ask(&Request::ServerInfo(Nothing {})) else {
            panic!("no server info");
        };
        let pid = rustix::process::Pid::from_raw(i32::try_from(info.process).unwrap()).unwrap();
        let process = pidfd_open(pid, PidfdFlags::empty()).expect("its process");
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", info.process)).unwrap();
        let numbers = descriptors.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let sockets = numbers.filter_map(|fd| pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()).ok());
        let is_wanted = |socket: &OwnedFd| {
            let other = SockRef::from(socket).peer_addr().ok().and_then(|address| address.as_socket());
            other == Some(peer)
        };
        sockets.into_iter().find(is_wanted).unwrap_or_else(|| panic!("no socket to {peer}"))
    }
}

// ---- who may connect ------------------------------------------------------------------------------------

fn auth() {
    let mut trial = Trial::new(&["--user", "ada:pw", "--auth", "optional", "--socks-addr", "127.0.0.1"]);
    for (value, chosen) in [("required", 0xff), ("none", NO_AUTH)] {
        trial.set("auth", value);
        for _ in 0..SESSIONS {
            assert_eq!(Client::connect(trial.daemon.address()).offer(&[NO_AUTH]), chosen, "{value}");
        }
    }
}

fn deny_private() {
    let mut trial = Trial::new(&[]);
    trial.set("deny-private", "on");
    assert_eq!(trial.replies(), [2; SESSIONS]);
    trial.set("deny-private", "off");
    assert_eq!(trial.replies(), [0; SESSIONS]);
}

fn max_sessions() {
    let mut trial = Trial::new(&[]);
    let mut first = trial.session();
    trial.set("max-sessions", "1");
    let mut second = Client::connect(trial.daemon.address());
    second.send(&[5, 1, NO_AUTH]);
    assert!(second.is_silent_for(Duration::from_millis(300)), "it waits");
    first.assert_echo(b"goes on");
    trial.set("max-sessions", "auto");
    assert_eq!(second.method(), NO_AUTH);
}

fn max_sessions_per_source() {
    let mut trial = Trial::new(&[]);
    let first = trial.session();
    trial.set("max-sessions-per-source", "1");
    for _ in 0..SESSIONS {
        Client::connect(trial.daemon.address()).expect_end();
    }
    drop(first);
}

fn spread_from() {
    let mut trial = Trial::new(&["--spread-from", "64"]);
    let first: Vec<_> = (0..SESSIONS).map(|_| trial.session()).collect();
    eventually("all with the first", || trial.admin.sessions_by_worker()[..2] == [6, 0]);
    trial.set("spread-from", "0");
    let second: Vec<_> = (0..SESSIONS).map(|_| trial.session()).collect();
    eventually("the other has as many", || trial.admin.sessions_by_worker()[1] >= 5);
    trial.set("spread-from", "64");
    let before = trial.admin.sessions_by_worker();
    let third: Vec<_> = (0..SESSIONS).map(|_| trial.session()).collect();
    eventually("the first alone", || trial.admin.sessions_by_worker()[..2] == [before[0] + 6, before[1]]);
    drop((first, second, third));
}

// ---- names ----------------------------------------------------------------------------------------------

/// A daemon that asks a relay, and the relay.
fn asking(arguments: &[&str]) -> (Trial, DohStub) {
    let stub = DohStub::start(Mood::Honest, V4);
    let port = stub.address().port().to_string();
    (Trial::new(&[&["--dns", "doh", "--doh-port", &port], arguments].concat()), stub)
}

/// The name that the stub knows resolves.
fn resolves(trial: &Trial) {
    connect_through(trial.daemon.address(), (NAME, trial.origin.port())).assert_echo(b"resolved");
}

fn dns() {
    let server = PlainDns::start(Manner::Answers, &[("plain.test", &[V4])]);
    let stub = DohStub::start(Mood::Honest, V4);
    let port = stub.address().port().to_string();
    let arguments = ["--admin", "root:secret", "--dns", "doh", "--doh-port", &port];
    let mut trial = Trial::of(Daemon::with(&arguments).name_server(server.address()).start());
    trial.set("dns", "system");
    connect_through(trial.daemon.address(), ("plain.test", trial.origin.port())).assert_echo(b"resolved");
    assert_eq!(stub.asked().len(), 0, "the relay is not asked any more");
}

fn doh_ip() {
    let (mut trial, stub) = asking(&["--doh-ip", "127.0.0.77"]);
    trial.set("doh-ip", &stub.address().ip().to_string());
    resolves(&trial);
}

fn doh_port() {
    let stub = DohStub::start(Mood::Honest, V4);
    let mut trial = Trial::new(&["--dns", "doh", "--doh-port", "1"]);
    trial.set("doh-port", &stub.address().port().to_string());
    resolves(&trial);
}

fn doh_host() {
    let (mut trial, stub) = asking(&[]);
    trial.set("doh-host", "relay.test");
    resolves(&trial);
    assert!(stub.asked()[0].head.to_ascii_lowercase().contains("host: relay.test"), "{:?}", stub.asked());
}

fn doh_path() {
    let (mut trial, stub) = asking(&[]);
    trial.set("doh-path", "/elsewhere");
    resolves(&trial);
    assert!(stub.asked()[0].target.starts_with("/elsewhere?dns="), "{:?}", stub.asked());
}

fn doh_query() {
    let (mut trial, stub) = asking(&[]);
    trial.set("doh-query", "?a=b&dns=");
    resolves(&trial);
    assert!(stub.asked()[0].target.contains("?a=b&dns="), "{:?}", stub.asked());
}

fn doh_method() {
    let (mut trial, stub) = asking(&[]);
    trial.set("doh-method-post", "on");
    resolves(&trial);
    assert_eq!(stub.asked()[0].method, "POST");
}

fn hosts() {
    let builder = Daemon::with(&["--admin", "root:secret", "--workers", "2"]);
    let file = builder.file("other-hosts", "127.0.0.1 only-here.test\n");
    let mut trial = Trial::of(builder.start());
    trial.set("hosts", &file);
    for _ in 0..SESSIONS {
        connect_through(trial.daemon.address(), ("only-here.test", trial.origin.port()))
            .assert_echo(b"found");
    }
}

fn resolv_conf() {
    let server = PlainDns::start(Manner::Answers, &[("plain.test", &[V4])]);
    let builder = Daemon::with(&["--admin", "root:secret", "--dns", "system"]);
    let address = server.address();
    let file = builder.file("other-resolv", &format!("nameserver [{}]:{}\n", address.ip(), address.port()));
    let mut trial = Trial::of(builder.start());
    trial.set("resolv-conf", &file);
    connect_through(trial.daemon.address(), ("plain.test", trial.origin.port())).assert_echo(b"resolved");
}

// ---- sessions and sockets -------------------------------------------------------------------------------

fn buffer_size() {
    let mut trial = Trial::new(&["--buffer-size", "4 KiB"]);
    let data = |trial: &Trial| -> u64 {
        let status = trial.daemon.proc_file("status");
        let line = status.lines().find(|line| line.starts_with("VmData:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let mut running = trial.session();
    running.assert_echo(b"with the small buffer");
    let before = data(&trial);
    trial.set("buffer-size", "16 MiB");
    running.assert_echo(b"with the large one");
    let more: Vec<_> = (0..SESSIONS).map(|_| trial.session()).collect();
    drop(more);
    // Each worker has one buffer, made when it reads.
    assert!(data(&trial) >= before + 16 * 1024, "{} KiB, before {before} KiB", data(&trial));
}

fn bind_outgoing() {
    let mut trial = Trial::new(&[]);
    trial.origin = Origin::serve(V4, |mut stream| {
        let IpAddr::V4(from) = stream.peer_addr().unwrap().ip() else { return };
        drop(std::io::Write::write_all(&mut stream, &from.octets()));
    });
    trial.set("bind-outgoing", "127.0.0.9");
    for _ in 0..SESSIONS {
        assert_eq!(trial.session().read(4), [127, 0, 0, 9]);
    }
}

/// Options of the daemon's end of a new client's connection.
fn client_side(trial: &mut Trial) -> OwnedFd {
    let client = trial.session();
    let peer = client.stream.local_addr().unwrap();
    trial.socket_to(peer)
}

fn tcp_keepalive() {
    let mut trial = Trial::new(&[]);
    trial.set("tcp-keepalive", "33 s");
    let socket = client_side(&mut trial);
    let options = SockRef::from(&socket);
    assert!(options.keepalive().unwrap());
    assert_eq!(options.tcp_keepalive_time().unwrap(), Duration::from_secs(33));
    trial.set("tcp-keepalive", "off");
    assert!(!SockRef::from(&client_side(&mut trial)).keepalive().unwrap());
}

fn tcp_user_timeout() {
    let mut trial = Trial::new(&[]);
    trial.set("tcp-user-timeout", "34 s");
    let timeout = SockRef::from(&client_side(&mut trial)).tcp_user_timeout().unwrap();
    assert_eq!(timeout, Some(Duration::from_secs(34)));
}

fn tcp_congestion() {
    let mut trial = Trial::new(&[]);
    let name_now = |trial: &mut Trial| {
        let name = SockRef::from(&client_side(trial)).tcp_congestion().unwrap();
        String::from_utf8(name.split(|octet| *octet == 0).next().unwrap().to_vec()).unwrap()
    };
    assert_eq!(name_now(&mut trial), "reno", "on loopback");
    let allowed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control").unwrap();
    let other =
        allowed.split_whitespace().find(|name| *name != "reno").expect("a kernel has its default, too");
    trial.set("tcp-congestion", other);
    assert_eq!(name_now(&mut trial), other);
    trial.set("tcp-congestion", "auto");
    assert_eq!(name_now(&mut trial), "reno");
}

fn mark() {
    let mut trial = Trial::new(&[]);
    trial.set("mark", "7");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let has_net_admin = u64::from_str_radix(capabilities.trim(), 16).unwrap() >> 12 & 1 == 1;
    if has_net_admin {
        let _session = trial.session();
        let origin = trial.origin.address();
        assert_eq!(SockRef::from(&trial.socket_to(origin)).mark().unwrap(), 7);
    } else {
        // The kernel does not let us mark: no session may go unmarked.
        assert!(trial.replies().iter().all(|code| *code != 0));
    }
}

fn dissector() {
    let mut trial = Trial::new(&["--log-format", "tab"]);
    trial.origin = Origin::serve(V4, |mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            if std::io::Read::read(&mut stream, &mut octet).unwrap_or(0) == 0 {
                return;
            }
            head.push(octet[0]);
        }
        drop(std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    });
    trial.set("dissector", "mask");
    let mut client = trial.session();
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWw6cHc=\r\n\r\n");
    assert!(client.read(15).starts_with(b"HTTP/1.1 200"));
    let line = trial.daemon.stdout().wait_for("\tP\tHTTP\t");
    assert!(line.contains("\tal\t***"), "{line}");
}

// ---- time limits ----------------------------------------------------------------------------------------

/// Waits for an end that would be far away without the change.
fn ends_soon(client: &mut Client) {
    let started = Instant::now();
    client.expect_end();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

fn idle_timeout() {
    let mut trial = Trial::new(&[]);
    let mut running: Vec<_> = (0..SESSIONS).map(|_| trial.session()).collect();
    trial.set("idle-timeout", "300 ms");
    running.iter_mut().for_each(ends_soon);
    ends_soon(&mut trial.session());
}

fn handshake_timeout() {
    let mut trial = Trial::new(&["--handshake-timeout", "60"]);
    trial.set("handshake-timeout", "300 ms");
    for _ in 0..SESSIONS {
        ends_soon(&mut Client::connect(trial.daemon.address()));
    }
}

fn connect_timeout() {
    let nobody = BlackHole::new(V4, 0);
    let mut trial = Trial::new(&["--connect-timeout", "30"]);
    trial.set("connect-timeout", "300 ms");
    let started = Instant::now();
    assert_ne!(reply_to(trial.daemon.address(), nobody.address()).code, 0);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

fn half_closed_timeout() {
    let mut trial = Trial::new(&[]);
    // It says nothing and does not close either.
    let is_over = Arc::new(AtomicBool::new(false));
    let (origin, _arrivals) = Origin::ignores(V4, Arc::clone(&is_over));
    trial.origin = origin;
    let mut client = trial.session();
    client.half_close();
    trial.set("half-closed-timeout", "300 ms");
    ends_soon(&mut client);
    is_over.store(true, Ordering::Release);
}

fn poll_timeout() {
    let mut trial = Trial::new(&[]);
    let sleeps = |trial: &Trial| -> u64 {
        let status = trial.daemon.proc_file("status");
        let line = status.lines().find(|line| line.starts_with("Pid:")).unwrap().to_owned();
        let pid: u32 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(Result::ok);
        let of_task = |path: std::path::PathBuf| -> Option<u64> {
            let status = std::fs::read_to_string(path.join("status")).ok()?;
            let is_worker = status.lines().next()?.contains("worker");
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            is_worker.then(|| line.trim().parse().ok()).flatten()
        };
        tasks.filter_map(|task| of_task(task.path())).sum()
    };
    trial.set("poll-timeout", "1 s");
    let before = sleeps(&trial);
    eventually("two idle workers wake up once a second", || sleeps(&trial) >= before + 6);
    trial.set("poll-timeout", "255 s");
    let before = sleeps(&trial);
    pause(Duration::from_secs(3));
    assert!(sleeps(&trial) < before + 6, "and rest again");
}

fn drain_timeout() {
    let mut trial = Trial::new(&["--drain-timeout", "60"]);
    let _session = trial.session();
    trial.set("drain-timeout", "0");
    trial.daemon.may_end();
    trial.daemon.signal(Signal::TERM);
    assert!(trial.daemon.wait(LIMIT).code().is_some());
}

// ---- logs -----------------------------------------------------------------------------------------------

fn access_log() {
    let mut trial = Trial::new(&[]);
    let path = trial.daemon.folder().join("other.log");
    trial.set("access-log", path.to_str().unwrap());
    for _ in 0..SESSIONS {
        trial.session();
    }
    eventually("the lines are in the file", || {
        std::fs::read_to_string(&path).unwrap_or_default().lines().count() == SESSIONS
    });
    assert!(trial.daemon.stdout().all().is_empty());
}

fn log_format() {
    let mut trial = Trial::new(&["--log-format", "tab"]);
    trial.set("log-format", "json");
    for _ in 0..SESSIONS {
        trial.session();
    }
    let lines = trial.daemon.stdout().wait_for_count(SESSIONS);
    assert!(lines.iter().all(|line| line.starts_with('{')), "{lines:?}");
}

fn log_level() {
    let mut trial = Trial::new(&["--log-level", "error"]);
    trial.set("log-level", "debug");
    assert!(Client2::connect(&trial.daemon).try_log_in(b"root", b"wrong").is_err());
    trial.daemon.stderr().wait_for("admin log-in refused");
    trial.set("log-level", "error");
    let count = trial.daemon.stderr().all().len();
    assert!(Client2::connect(&trial.daemon).try_log_in(b"root", b"wrong").is_err());
    assert_eq!(trial.daemon.stderr().all().len(), count);
}

fn metrics_users() {
    let mut trial = Trial::new(&["--metrics-listen", "127.0.0.1:0"]);
    drop(trial.session());
    let names_users = |trial: &Trial| scrape(&trial.daemon).contains("user=\"anonymous\"");
    eventually("the user is named", || names_users(&trial));
    trial.set("metrics-users", "0");
    assert!(!names_users(&trial));
}
