//! Where the daemon listens, to whom it opens itself, and which destinations it refuses.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::client::reply_to;
use crate::harness::machine::free_port;
use crate::harness::origin::{Origin, V4, V6};
use crate::harness::plain_dns::{Manner, PlainDns};
use crate::harness::{Client, Daemon, Destination, connect_through};

#[test]
fn an_anonymous_proxy_listens_on_loopback_only_and_says_so() {
    let daemon = Daemon::start(&[]);
    let addresses: Vec<IpAddr> = daemon.listeners().iter().map(SocketAddr::ip).collect();
    assert_eq!(addresses, [V4, V6]);
    let origin = Origin::echo(V4);
    for listener in daemon.listeners() {
        connect_through(*listener, origin.address()).assert_echo(b"loopback");
    }
    let ready = daemon.ready_line();
    assert!(ready.contains("auth none"), "{ready}");
    daemon.stderr().wait_for("listens on loopback only");
}

#[test]
fn with_users_it_listens_on_every_interface_in_both_families_apart() {
    let daemon = Daemon::start(&["--user", "alice:secret"]);
    let addresses: Vec<String> = daemon.listeners().iter().map(|address| address.ip().to_string()).collect();
    assert_eq!(addresses, ["0.0.0.0", "::"]);
    let port = daemon.address().port();
    for at in [V4, V6, IpAddr::from([127, 0, 0, 2])] {
        let mut client = Client::connect(SocketAddr::new(at, port));
        assert_eq!(client.offer(&[0, 2]), 2, "{at}");
    }
}

#[test]
fn an_open_proxy_has_to_be_asked_for_and_is_warned_about() {
    let daemon = Daemon::start(&["-l", "0.0.0.0"]);
    assert_eq!(daemon.listeners().len(), 1);
    assert!(daemon.address().ip().is_unspecified());
    let warning = daemon.stderr().wait_for("anyone");
    assert!(warning.contains("WARN"), "{warning}");
    let quiet = Daemon::start(&["-l", "127.0.0.1"]);
    assert!(!quiet.stderr().text().contains("WARN"), "{}", quiet.stderr().text());
}

#[test]
fn optional_authentication_stays_on_loopback() {
    let daemon = Daemon::start(&["--auth", "optional", "--user", "alice:secret"]);
    assert!(
        daemon.listeners().iter().all(|listener| listener.ip().is_loopback()),
        "{:?}",
        daemon.listeners()
    );
}

#[test]
fn it_listens_on_the_addresses_that_were_given_with_one_port() {
    let daemon = Daemon::start(&["-l", "127.0.0.5", "-l", "::1", "-l", "127.0.0.6"]);
    let addresses: Vec<String> = daemon.listeners().iter().map(|address| address.ip().to_string()).collect();
    assert_eq!(addresses, ["127.0.0.5", "::1", "127.0.0.6"]);
    let port = daemon.address().port();
    assert!(daemon.listeners().iter().all(|address| address.port() == port));
    let elsewhere = SocketAddr::new(V4, port);
    assert!(TcpStream::connect_timeout(&elsewhere, Duration::from_secs(1)).is_err(), "not on 127.0.0.1");
}

#[test]
fn a_port_in_use_is_named_and_is_exit_1_also_against_another_instance() {
    let first = Daemon::start(&["-l", "127.0.0.1"]);
    let taken = Origin::echo(V4);
    for port in [first.address().port(), taken.port()] {
        let output = Daemon::with(&["-l", "127.0.0.1", "-p", &port.to_string()]).run();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
        assert!(!text.contains("listening on"), "{text}");
    }
    // The first goes on as before.
    connect_through(first.address(), taken.address()).assert_echo(b"first");
}

#[test]
fn an_address_of_another_machine_is_named_and_is_exit_1() {
    let output = Daemon::with(&["-l", "192.0.2.253"]).run();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("192.0.2.253"), "{text}");
}

#[test]
fn a_port_can_be_taken_again_at_once_after_the_daemon_ended() {
    let port = free_port().to_string();
    let origin = Origin::echo(V4);
    for round in 0..3_u8 {
        let daemon = Daemon::start(&["-l", "127.0.0.1", "-p", &port]);
        // A session that the daemon closes first leaves a connection in TIME-WAIT.
        let mut client = connect_through(daemon.address(), origin.address());
        client.assert_echo(&[round]);
    }
}

#[test]
fn its_own_listeners_are_no_destination() {
    let everywhere = Daemon::start(&["-l", "0.0.0.0", "-l", "::"]);
    let port = everywhere.address().port();
    let own: [Destination; 8] = [
        (std::net::Ipv4Addr::LOCALHOST, port).into(),
        (std::net::Ipv4Addr::new(127, 9, 8, 7), port).into(),
        (std::net::Ipv4Addr::UNSPECIFIED, port).into(),
        (std::net::Ipv6Addr::LOCALHOST, port).into(),
        (std::net::Ipv6Addr::UNSPECIFIED, port).into(),
        ("::ffff:127.0.0.1", port).into(),
        ("127.0.0.1", port).into(),
        ("localhost", port).into(),
    ];
    for to in own {
        assert_eq!(reply_to(everywhere.address(), to.clone()).code, 2, "{to:?}");
    }
    let origin = Origin::echo(V4);
    connect_through(everywhere.address(), origin.address()).assert_echo(b"others are");
}

#[test]
fn private_destinations_are_refused_in_every_form_where_told() {
    let private: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.254",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:0:7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "ff02::1",
    ];
    let addresses: Vec<IpAddr> = private.iter().map(|text| text.parse().unwrap()).collect();
    let daemon = Daemon::start(&["--deny-private"]);
    for ip in &addresses {
        let to = SocketAddr::new(*ip, 80);
        assert_eq!(reply_to(daemon.address(), to).code, 2, "{ip}");
        assert_eq!(reply_to(daemon.address(), (ip.to_string().as_str(), 80)).code, 2, "{ip} as a name");
    }
}

#[test]
fn names_that_lead_to_private_addresses_are_refused_after_resolution() {
    let metadata: IpAddr = "169.254.169.254".parse().unwrap();
    let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
    let origin = Origin::echo(V4);
    let names: &[(&str, &[IpAddr])] = &[
        ("rebound.test", &[V4]),
        ("metadata.test", &[metadata]),
        ("six.test", &[V6]),
        ("mapped.test", &[mapped]),
    ];
    let dns = PlainDns::start(Manner::Answers, names);
    let daemon = Daemon::with(&["--deny-private"]).name_server(dns.address()).host(V4, "listed.test").start();
    for name in ["rebound.test", "metadata.test", "six.test", "mapped.test", "listed.test", "localhost"] {
        assert_eq!(reply_to(daemon.address(), (name, origin.port())).code, 2, "{name}");
    }
    assert_eq!(origin.accepted_count(), 0);
}
