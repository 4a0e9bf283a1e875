//! Under a service manager: sockets that were opened before, and what the manager is told.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;

use rustix::process::Signal;

use crate::harness::machine::{free_port, program};
use crate::harness::origin::{Origin, V4, V6};
use crate::harness::{Client, Daemon, LIMIT, TempDir, connect_through, eventually};

/// Anything from here on that a descriptor's flags hold is O_CLOEXEC (proc(5), fcntl(2)).
const CLOSED_ON_EXEC: u32 = 0o2_000_000;

#[test]
fn it_serves_the_sockets_that_systemd_opened() {
    let addresses = [SocketAddr::new(V4, free_port()), SocketAddr::new(V6, free_port())];
    let activate = program("systemd-socket-activate", "systemd").display().to_string();
    let [first, second] = addresses.map(|address| format!("--listen={address}"));
    let builder = Daemon::with(&["-l", "127.0.0.9"]);
    let variables = ["SOCKS5D_HOSTS=hosts", "SOCKS5D_RESOLV_CONF=resolv.conf", "HOME=."];
    let variables = variables.map(|variable| format!("--setenv={variable}"));
    let words = [activate, first, second, "--fdname=socks:more".to_owned()].into_iter().chain(variables);
    // It starts the daemon when the first client comes, who waits in the backlog until then.
    let early = thread::spawn(move || {
        eventually("somebody listens", || TcpStream::connect(addresses[1]).is_ok());
        Client::connect(addresses[1])
    });
    let daemon = builder.started_by(words).start();
    assert_eq!(daemon.listeners(), addresses);
    daemon.stderr().wait_for("--socks-addr is not used");
    daemon.stderr().wait_for(&format!("inherited: socket=4 (more) address={}", addresses[1]));
    assert_eq!(early.join().unwrap().offer(&[0]), 0);
    let origin = Origin::echo(V4);
    for address in addresses {
        connect_through(address, origin.address()).assert_echo(b"activated");
    }
    for number in [3, 4] {
        let info = daemon.proc_file(&format!("fdinfo/{number}"));
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
        assert_ne!(flags & CLOSED_ON_EXEC, 0, "{info}");
    }
}

#[test]
fn clients_that_come_between_two_daemons_are_served_by_the_second() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let origin = Origin::echo(V4);
    let mut first = Daemon::with(&[]).inheriting(listener.try_clone().unwrap()).start();
    assert_eq!(first.listeners(), [address]);
    let mut session = connect_through(address, origin.address());
    first.signal(Signal::TERM);
    first.stderr().wait_for("draining");
    // The workers have been told, and stop accepting in their next turn: whoever is left in the backlog for three
    // looks stays there.
    let mut between = Client::connect(address);
    let mut looks = 0;
    eventually("nobody accepts any more", || {
        if backlog(address.port()) == 0 {
            between = Client::connect(address);
            looks = 0;
        }
        looks += 1;
        looks > 3
    });
    session.assert_echo(b"drains");
    drop(session);
    assert_eq!(first.wait(LIMIT).code(), Some(0));
    let second = Daemon::with(&[]).inheriting(listener).start();
    assert_eq!(between.offer(&[0]), 0);
    connect_through(address, origin.address()).assert_echo(b"second");
    drop(second);
}

/// Connections that nobody has accepted yet at a listener on IPv4: its receive queue in proc_net_tcp(5).
fn backlog(port: u16) -> u32 {
    const LISTEN: &str = "0A";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_port = format!(":{port:04X}");
    let queue = table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        let (_, received) = words.next()?.split_once(':')?;
        (local.ends_with(&of_port) && state == LISTEN).then(|| u32::from_str_radix(received, 16).unwrap())
    });
    queue.unwrap_or_else(|| panic!("nobody listens on port {port}: {table}"))
}

#[test]
fn a_socket_for_both_families_serves_both_and_is_no_destination() {
    let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(16).unwrap();
    let port = TcpListener::from(socket.try_clone().unwrap()).local_addr().unwrap().port();
    let daemon = Daemon::with(&[]).inheriting(socket).start();
    let origin = Origin::echo(V4);
    for at in [V4, V6] {
        connect_through(SocketAddr::new(at, port), origin.address()).assert_echo(b"both");
        let own = SocketAddr::new(at, port);
        assert_eq!(crate::harness::client::reply_to(own, own).code, 2, "{at}");
    }
    daemon.stderr().wait_for("an open proxy");
}

#[test]
fn sockets_that_cannot_be_listened_on_are_named_and_are_exit_1() {
    let refused = |builder: crate::harness::daemon::Builder, expected: &str| {
        let output = builder.run();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("listening on"), "{text}");
    };
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    refused(Daemon::with(&[]).inheriting(datagrams), "inherited socket 3: not a TCP socket");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    refused(Daemon::with(&[]).inheriting(connected), "inherited socket 3: not a listening socket");
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec 3<&-; exec \"$@\"";
    let nothing = Daemon::with(&[]).started_by(["/bin/sh", "-c", script, "sh"]);
    refused(nothing, "inherited socket 3: ");
    let script = "export LISTEN_PID=$$ LISTEN_FDS=many; exec \"$@\"";
    let nonsense = Daemon::with(&[]).started_by(["/bin/sh", "-c", script, "sh"]);
    refused(nonsense, "LISTEN_FDS=\"many\": a number was expected");
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let daemon = Daemon::with(&["-l", "127.0.0.1"]).env("LISTEN_PID", "1").env("LISTEN_FDS", "1").start();
    assert_eq!(daemon.address().ip(), Ipv4Addr::LOCALHOST);
    connect_through(daemon.address(), Origin::echo(V4).address()).assert_echo(b"own");
}

/// A socket for notifications, and what it is called.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self(socket)
    }

    /// The assignments of the next datagram.
    fn next(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).expect("a notification");
        String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_manager_is_told_of_start_reload_and_end() {
    let folder = TempDir::new();
    let manager = Manager::listen(&folder.path().join("notify"));
    let path = folder.path().join("notify").display().to_string();
    let builder = Daemon::with(&["--drain-timeout", "7"]);
    let config = builder.file("socks5d.toml", "idle-timeout = \"60s\"\n");
    let mut daemon = builder.arg("--config").arg(config.clone()).env("NOTIFY_SOCKET", path).start();
    let addresses: Vec<String> = daemon.listeners().iter().map(ToString::to_string).collect();
    assert_eq!(manager.next(), ["READY=1".to_owned(), format!("STATUS=serving on {}", addresses.join(", "))]);

    for (content, status) in
        [("idle-timeout = \"90s\"\n", "serving; reloaded"), ("idle-timeout = \"never\"\n", "refused")]
    {
        std::fs::write(&config, content).unwrap();
        daemon.signal(Signal::HUP);
        let reloading = manager.next();
        assert_eq!(reloading[0], "RELOADING=1");
        assert!(reloading[1].starts_with("MONOTONIC_USEC="), "{reloading:?}");
        let ready = manager.next();
        assert_eq!(ready[0], "READY=1");
        assert!(ready[1].contains(status), "{ready:?}");
    }

    let origin = Origin::echo(V4);
    let mut session = connect_through(daemon.address(), origin.address());
    daemon.signal(Signal::TERM);
    let stopping = manager.next();
    assert_eq!(stopping[0], "STOPPING=1");
    let patience: u64 = stopping[1].strip_prefix("EXTEND_TIMEOUT_USEC=").unwrap().parse().unwrap();
    assert!(patience > 7_000_000, "{patience}");
    assert_eq!(stopping[2], "STATUS=draining, 1 sessions at first");
    session.assert_echo(b"drains");
    drop(session);
    assert_eq!(daemon.wait(LIMIT).code(), Some(0));
}

#[test]
fn a_manager_that_cannot_be_told_is_an_error_at_start_or_a_warning() {
    let output = Daemon::with(&[]).env("NOTIFY_SOCKET", "somewhere").run();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("NOTIFY_SOCKET: neither a path"), "{text}");
    let daemon = Daemon::with(&[]).env("NOTIFY_SOCKET", "/nowhere/notify").start();
    daemon.stderr().wait_for("the service manager was not told");
    connect_through(daemon.address(), Origin::echo(V4).address()).assert_echo(b"serves all the same");
}
