//! Domain names in requests: literals are addresses, what cannot be a name is refused, and 04 is not 01.

use crate::harness::client::reply_to;
use crate::harness::origin::{Origin, V4, V6};
use crate::harness::plain_dns::{Manner, PlainDns};
use crate::harness::{Client, Daemon, Destination, connect_through};

#[test]
fn literals_inside_names_are_addresses_and_nobody_is_asked() {
    let dns = PlainDns::start(Manner::Answers, &[]);
    let daemon = Daemon::with(&[]).name_server(dns.address()).start();
    let origin = Origin::echo(V4);
    let origin6 = Origin::echo(V6);
    let cases = [
        ("127.0.0.1", origin.port()),
        ("::1", origin6.port()),
        ("[::1]", origin6.port()),
        ("0:0:0:0:0:0:0:1", origin6.port()),
        ("::ffff:127.0.0.1", origin.port()),
    ];
    for (name, port) in cases {
        connect_through(daemon.address(), (name, port)).assert_echo(name.as_bytes());
    }
    assert_eq!(dns.asked_count(), 0, "{:?}", dns.asked());
}

#[test]
fn mapped_addresses_work_as_ipv4() {
    let daemon = Daemon::start(&[]);
    let origin = Origin::echo(V4);
    let mapped = "::ffff:127.0.0.1".parse::<std::net::Ipv6Addr>().unwrap();
    connect_through(daemon.address(), (mapped, origin.port())).assert_echo(b"mapped");
}

#[test]
fn what_cannot_be_a_name_is_answered_like_a_name_that_does_not_exist() {
    let dns = PlainDns::start(Manner::Answers, &[]);
    let mut daemon = Daemon::with(&[]).name_server(dns.address()).start();
    let label = "l".repeat(64);
    let long = ["l".repeat(63).as_str(); 4].join(".");
    let names: &[&[u8]] = &[
        b"",
        b".",
        b"..",
        b"a..test",
        b".test",
        b"fe80::1%eth0",
        b"fe80::1%1",
        b"[fe80::1%lo]",
        b"[127.0.0.1]",
        "zoë.test".as_bytes(),
        b"\xff\xfe.test",
        b"a b.test",
        b"nul\0.test",
        b"tab\t.test",
        b"back\\slash.test",
        b"127.0.0.1:80",
        b"http://127.0.0.1/",
        b"user@host.test",
        label.as_bytes(),
        long.as_bytes(),
        &[b'.'; 255],
    ];
    for name in names {
        let reply = reply_to(daemon.address(), Destination::Name(name.to_vec(), 80));
        assert_eq!(reply.code, 4, "{}", String::from_utf8_lossy(name));
    }
    assert_eq!(dns.asked_count(), 0, "{:?}", dns.asked());
    daemon.assert_alive();
}

#[test]
fn a_name_that_does_not_exist_is_04_and_servers_that_fail_are_01() {
    let dns = PlainDns::start(Manner::Answers, &[("text.test", &[])]);
    let daemon = Daemon::with(&[]).name_server(dns.address()).start();
    assert_eq!(reply_to(daemon.address(), ("nobody.test", 80)).code, 4, "no such name");
    assert_eq!(reply_to(daemon.address(), ("text.test", 80)).code, 4, "a name without addresses");
    assert_eq!(reply_to(daemon.address(), ("secret.onion", 80)).code, 4, "onion names are not asked");
    let asked = dns.asked();
    assert!(!asked.iter().any(|(_, _, name)| name.ends_with("onion")), "{asked:?}");

    let dead = crate::harness::origin::ClosedPort::new(V4, 0);
    let daemon = Daemon::with(&[]).name_server(dead.address()).start();
    assert_eq!(reply_to(daemon.address(), ("nobody.test", 80)).code, 1, "nobody could say");
}

#[test]
fn case_and_trailing_dot_do_not_matter() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::with(&[]).host(V4, "Some-Name.Test").start();
    for name in ["some-name.test", "SOME-NAME.TEST", "some-name.test.", "Some-Name.Test"] {
        connect_through(daemon.address(), (name, origin.port())).assert_echo(name.as_bytes());
    }
}

#[test]
fn search_suffixes_are_not_added() {
    let dns = PlainDns::start(Manner::Answers, &[("short.example.test", &[V4])]);
    let builder = Daemon::with(&[]);
    let path = builder.file(
        "resolv-with-search",
        &format!(
            "search example.test\noptions ndots:5\nnameserver [{}]:{}\n",
            dns.address().ip(),
            dns.address().port()
        ),
    );
    let daemon = builder.env("SOCKS5D_RESOLV_CONF", path).start();
    assert_eq!(reply_to(daemon.address(), ("short", 80)).code, 4);
    let asked = dns.asked();
    assert!(!asked.is_empty() && asked.iter().all(|(_, _, name)| name == "short"), "{asked:?}");
}

#[test]
fn localhost_is_this_machine_whatever_name_servers_say() {
    let dns = PlainDns::start(Manner::Answers, &[("localhost", &["192.0.2.66".parse().unwrap()])]);
    let builder = Daemon::with(&[]).name_server(dns.address());
    let empty = builder.file("no-hosts", "");
    let daemon = builder.env("SOCKS5D_HOSTS", empty).start();
    let origin = Origin::echo(V4);
    for name in ["localhost", "LOCALHOST.", "some.localhost"] {
        connect_through(daemon.address(), (name, origin.port())).assert_echo(b"here");
    }
    assert_eq!(dns.asked_count(), 0, "{:?}", dns.asked());
}

#[test]
fn the_hosts_file_comes_before_name_servers() {
    let elsewhere = "127.0.0.66".parse().unwrap();
    let dns = PlainDns::start(Manner::Answers, &[("here.test", &[elsewhere])]);
    let origin = Origin::echo(V4);
    let daemon = Daemon::with(&[]).host(V4, "alias.test here.test").name_server(dns.address()).start();
    connect_through(daemon.address(), ("here.test", origin.port())).assert_echo(b"hosts");
    assert_eq!(dns.asked_count(), 0, "{:?}", dns.asked());
}

#[test]
fn a_request_for_the_longest_name_is_read_whole() {
    let labels = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)];
    let name = labels.join(".");
    assert_eq!(name.len(), 253);
    let origin = Origin::echo(V4);
    let dns = PlainDns::start(Manner::Answers, &[(&name, &[V4])]);
    let daemon = Daemon::with(&[]).name_server(dns.address()).start();
    let mut client: Client = connect_through(daemon.address(), (name.as_str(), origin.port()));
    client.assert_echo(b"253 octets");
}
