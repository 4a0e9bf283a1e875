//! The admin channel, version 1, over UDP: octet by octet as others speak it, and what it does to the proxy.

use std::time::{Duration, Instant};

use pipo_encap::{CloseReason, Event};

use crate::harness::admin::{AdminClient, AdminSocket, counted, login, places};
use crate::harness::client::{CONNECT, NO_AUTH, PASSWORD};
use crate::harness::origin::{Origin, V4};
use crate::harness::waiting::look_until;
use crate::harness::{Client, Daemon, LIMIT, connect_through, eventually, exclusive, pattern};

const ADMIN: &[u8] = b"root";
const SECRET: &[u8] = b"secret";

fn daemon() -> Daemon {
    Daemon::start(&["--admin", "root:secret"])
}

fn add_user(name: &[u8], password: &[u8], privilege: u8) -> Vec<u8> {
    [&[0x01, 0x00], &counted(name)[..], &counted(password), &[privilege]].concat()
}

fn remove_user(name: &[u8]) -> Vec<u8> {
    [&[0x01, 0x01], &counted(name)[..]].concat()
}

/// A user's session with an origin behind it.
fn relay_of(daemon: &Daemon, name: &[u8], password: &[u8], origin: &Origin) -> Client {
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.offer(&[PASSWORD]), PASSWORD);
    assert_eq!(client.log_in(name, password), 0);
    assert_eq!(client.request(CONNECT, &origin.address().into()).code, 0);
    client
}

// ---- the octets -----------------------------------------------------------------------------------------

#[test]
fn every_query_of_a_fresh_daemon_has_the_octets_of_version_1() {
    let daemon = Daemon::start(&["--admin", "root:secret", "--user", "ann:x", "--socks-addr", "127.0.0.1"]);
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    let vectors: [(&[u8], &[u8]); 12] = [
        (b"\x00\x00", b"\x00\x00\x03\x03ann\x00\x09anonymous\x00\x04root\x01"),
        (b"\x00\x01", b"\x00\x01\0\0\0\0\0\0\0\0"),
        (b"\x00\x02", b"\x00\x02\0\0"),
        (b"\x00\x03", b"\x00\x03\0\0"),
        (b"\x00\x04", b"\x00\x04\0\0\0\0\0\0\0\0"),
        (b"\x00\x05", b"\x00\x05\0\0\0\0\0\0\0\0"),
        (b"\x00\x06", b"\x00\x06\0"),
        (b"\x00\x07", b"\x00\x07\x03"),
        (b"\x00\x08", b"\x00\x08\x00\x04\x00\x00"),
        (b"\x00\x09", b"\x00\x09\x0a"),
        // 300 seconds are more than the field can say.
        (b"\x00\x0a", b"\x00\x0a\xff"),
        (b"\x00\x0b\x03ann", b"\x00\x0b\0\0"),
    ];
    for (request, reply) in vectors {
        assert_eq!(admin.ask(request), reply, "{request:02x?}");
    }
}

#[test]
fn every_modification_answers_with_the_statuses_of_version_1() {
    let daemon = daemon();
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    let vectors: [(&[u8], u8); 31] = [
        // Users.
        (b"\x01\x00\x03eve\x01p\x00", 0x00),
        (b"\x01\x00\x03eve\x01q\x00", 0x01),
        (b"\x01\x00\x09anonymous\x01q\x00", 0x01),
        (b"\x01\x00\x03two\x01p\x01", 0x00),
        (b"\x01\x00\x00\x01p\x00", 0xfe),
        (b"\x01\x00\x01a\x00\x00", 0xfe),
        (b"\x01\x00\x01a\x01p\x02", 0xfe),
        (b"\x01\x01\x03eve", 0x00),
        (b"\x01\x01\x03eve", 0x01),
        (b"\x01\x01\x09anonymous", 0xfe),
        (b"\x01\x01\x00", 0xfe),
        (b"\x01\x01\x03two", 0x00),
        // The last administrator stays.
        (b"\x01\x01\x04root", 0xfe),
        // Dissector.
        (b"\x01\x02\x01", 0x00),
        (b"\x01\x02\x00", 0x00),
        (b"\x01\x02\x02", 0xfe),
        // Idle clean-up.
        (b"\x01\x03\x00", 0x00),
        (b"\x01\x03\x00", 0x00),
        (b"\x01\x03\x01", 0x00),
        (b"\x01\x03\xff", 0xfe),
        // Buffer size: 512 B to 16 MiB.
        (b"\x01\x04\x00\x00\x02\x00", 0x00),
        (b"\x01\x04\x01\x00\x00\x00", 0x00),
        (b"\x01\x04\x00\x00\x01\xff", 0x01),
        (b"\x01\x04\x01\x00\x00\x01", 0x01),
        (b"\x01\x04\xff\xff\xff\xff", 0x01),
        (b"\x01\x04\x00\x00\x00\x00", 0x01),
        // Seconds.
        (b"\x01\x05\x00", 0x01),
        (b"\x01\x05\x01", 0x00),
        (b"\x01\x05\xff", 0x00),
        (b"\x01\x06\x00", 0x01),
        (b"\x01\x06\x07", 0x00),
    ];
    for (request, status) in vectors {
        assert_eq!(admin.ask(request), [0x01, request[1], status], "{request:02x?}");
    }
    assert_eq!(admin.ask(b"\x00\x08"), b"\x00\x08\x01\x00\x00\x00", "the last size that was allowed");
    assert_eq!(admin.ask(b"\x00\x09"), b"\x00\x09\xff");
    assert_eq!(admin.ask(b"\x00\x0a"), b"\x00\x0a\x07");
    assert_eq!(admin.ask(b"\x00\x07"), b"\x00\x07\x02");
}

#[test]
fn what_is_unknown_takes_two_octets_and_has_its_answer() {
    let daemon = daemon();
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    let vectors: [(&[u8], &[u8]); 9] = [
        (b"\x02\x00", b"\xff\xff"),
        (b"\xfe\x00", b"\xff\xff"),
        (b"\xff\xff", b"\xff\xff"),
        (b"\x00\x0c", b"\x00\xff"),
        (b"\x00\xfe", b"\x00\xff"),
        (b"\x00\xff", b"\x00\xff"),
        (b"\x01\x07", b"\x01\xff"),
        (b"\x01\xfe", b"\x01\xff"),
        (b"\x00\x0b\x00", b"\x00\xfe\xfe"),
    ];
    for (request, reply) in vectors {
        assert_eq!(admin.ask(request), reply, "{request:02x?}");
    }
    admin.send(&vectors.map(|(request, _)| request).concat());
    for (request, reply) in vectors {
        assert_eq!(admin.receive(), reply, "{request:02x?} in one message with others");
    }
    assert_eq!(admin.ask(b"\x00\x0b\x06nobody"), b"\x00\x0b\0\0");
}

#[test]
fn requests_may_be_cut_anywhere_and_joined_at_will() {
    let daemon = daemon();
    let mut admin = AdminClient::connect(&daemon);
    let add = add_user(b"mallory", b"pw", 0);
    let bytes = [login(ADMIN, SECRET), add, b"\x00\x09\x05\x05".to_vec(), remove_user(b"mallory")].concat();
    bytes.chunks(1).for_each(|byte| admin.send(byte));
    let expected: [&[u8]; 5] = [&[1, 0], &[1, 0, 0], &[0, 9, 10], &[0xff, 0xff], &[1, 1, 0]];
    for reply in expected {
        assert_eq!(admin.receive(), reply);
    }
    let mut admin = AdminClient::connect(&daemon);
    admin.send(&bytes);
    for reply in expected {
        assert_eq!(admin.receive(), reply, "all in one message");
    }
}

#[test]
fn a_thousand_requests_in_one_message_have_a_thousand_answers_in_order() {
    let daemon = daemon();
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    let kinds: [(&[u8], &[u8]); 4] = [
        (b"\x00\x02", b"\x00\x02\0\0"),
        (b"\x00\x0b\x04root", b"\x00\x0b\0\0"),
        (b"\x01\x06\x09", b"\x01\x06\x00"),
        (b"\x07\x07", b"\xff\xff"),
    ];
    let requests: Vec<_> = (0..1000).map(|number| kinds[number * 7 % 4]).collect();
    admin.send(&requests.iter().map(|(request, _)| *request).collect::<Vec<_>>().concat());
    for (number, (_, reply)) in requests.iter().enumerate() {
        assert_eq!(admin.receive(), *reply, "reply {number}");
    }
}

#[test]
fn a_list_is_cut_at_255_users() {
    let builder = Daemon::with(&["--admin", "root:secret", "--socks-addr", "127.0.0.1"]);
    let names: Vec<_> = (0..300).map(|number| format!("{number:03}{}", "n".repeat(250))).collect();
    let lines: String = names.iter().map(|name| format!("{name}:pw\n")).collect();
    let path = builder.file("users", &lines);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let daemon = builder.arg("--users-file").arg(path).start();
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    let list = admin.ask(b"\x00\x00");
    assert_eq!(list[..3], [0, 0, 255]);
    assert_eq!(list.len(), 3 + 255 * (1 + 253 + 1));
    assert_eq!(list[3..7], *b"\xfd000");
    assert_eq!(admin.ask(b"\x00\x07"), [0, 7, 255], "as much as the field can say");
}

// ---- the log-in -----------------------------------------------------------------------------------------

#[test]
fn only_administrators_are_let_in_and_the_others_wait_for_the_tick() {
    let daemon = Daemon::start(&["--admin", "root:secret", "--user", "ann:x", "--socks-addr", "127.0.0.1"]);
    let refused: [(&[u8], &[u8]); 4] =
        [(b"root", b"Secret"), (b"ann", b"x"), (b"nobody", b"secret"), (b"anonymous", b"x")];
    for (name, password) in refused {
        let mut client = AdminClient::connect(&daemon);
        client.send(&[login(name, password), b"\x00\x07".to_vec()].concat());
        assert_eq!(client.receive(), [0x01, 0x01], "{}", name.escape_ascii());
        assert_eq!(client.expect_close(), CloseReason::PeerClosed);
    }
    daemon.stderr().wait_for("admin log-in refused: source=127.0.0.1");
    assert!(!daemon.stderr().text().contains("Secret"));
}

#[test]
fn other_versions_are_answered_at_their_first_octet() {
    let daemon = daemon();
    for version in [0, 3, 4, 255] {
        let mut client = AdminClient::connect(&daemon);
        assert_eq!(client.ask(&[version]), [0x01, 0x02]);
        assert_eq!(client.expect_close(), CloseReason::PeerClosed);
    }
}

#[test]
fn an_administrator_that_was_added_uses_both_doors_and_is_out_at_once_when_removed() {
    let origin = Origin::echo(V4);
    let daemon = daemon();
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    assert_eq!(admin.ask(&add_user(b"second", b"pw", 1)), [1, 0, 0]);
    let mut second = AdminClient::log_in(&daemon, b"second", b"pw");
    relay_of(&daemon, b"second", b"pw", &origin).assert_echo(b"both doors");
    assert_eq!(admin.ask(&remove_user(b"second")), [1, 1, 0]);
    assert_eq!(second.expect_close(), CloseReason::PeerClosed);
    // Who removes itself has its answer first.
    assert_eq!(admin.ask(&add_user(b"third", b"pw", 1)), [1, 0, 0]);
    let mut third = AdminClient::log_in(&daemon, b"third", b"pw");
    assert_eq!(third.ask(&remove_user(b"third")), [1, 1, 0]);
    assert_eq!(third.expect_close(), CloseReason::PeerClosed);
    assert_eq!(admin.ask(b"\x00\x07"), [0, 7, 2]);
}

#[test]
fn an_administrator_who_left_the_configuration_is_out_with_the_reload() {
    let builder = Daemon::with(&["--admin", "root:secret"]);
    let path = builder.file("users", "second:pw:admin\n");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut daemon = builder.arg("--users-file").arg(&path).arg("--socks-addr=127.0.0.1").start();
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    let mut second = AdminClient::log_in(&daemon, b"second", b"pw");
    assert_eq!(admin.ask(b"\x01\x06\x15"), [1, 6, 0]);
    std::fs::write(&path, "# nobody any more\n").unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    assert_eq!(second.expect_close(), CloseReason::PeerClosed);
    assert_eq!(admin.ask(b"\x00\x07"), [0, 7, 2]);
    assert_eq!(admin.ask(b"\x00\x0a"), [0, 0x0a, 0x15], "what was set while running stays");
}

#[test]
fn other_roles_are_shown_as_users_and_version_1_is_not_for_them() {
    let builder = Daemon::with(&["--admin", "root:secret"]);
    let path = builder.file("users", "eve:pw:observer\notto:pw:admin\nzoe:pw\n");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut daemon = builder.arg("--users-file").arg(&path).arg("--socks-addr=127.0.0.1").start();
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    let anonymous = b"\x09anonymous\x00".as_slice();
    let list = |otto: u8| {
        [b"\x00\x00\x05", anonymous, b"\x03eve\x00\x04otto", &[otto], b"\x04root\x01\x03zoe\x00"].concat()
    };
    assert_eq!(admin.ask(b"\x00\x00"), list(1));
    let mut eve = AdminClient::connect(&daemon);
    eve.send(&login(b"eve", b"pw"));
    assert_eq!(eve.receive(), [0x01, 0x01], "not even with the right password");
    // Who is not an administrator any more is out, and has what was asked before.
    let mut otto = AdminClient::log_in(&daemon, b"otto", b"pw");
    let origin = Origin::echo(V4);
    let mut proxied = relay_of(&daemon, b"otto", b"pw", &origin);
    std::fs::write(&path, "eve:pw:observer\notto:pw:operator\nzoe:pw\n").unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    assert_eq!(otto.expect_close(), CloseReason::PeerClosed);
    assert_eq!(admin.ask(b"\x00\x00"), list(0));
    proxied.assert_echo(b"its sessions go on");
}

#[test]
fn the_first_administrator_is_made_where_there_is_none_and_kept() {
    let daemon = Daemon::start(&[]);
    let line = daemon.stderr().wait_for("initial-admin");
    let path = daemon.folder().join("socks5d/initial-admin");
    assert!(line.contains(path.to_str().unwrap()), "{line}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let password = std::fs::read_to_string(&path).unwrap();
    assert!(!daemon.stderr().text().contains(password.trim_end()), "the log does not show it");
    let mut admin = AdminClient::log_in(&daemon, b"admin", password.trim_end().as_bytes());
    assert_eq!(admin.ask(b"\x00\x00"), b"\x00\x00\x02\x05admin\x01\x09anonymous\x00");
    assert_eq!(admin.ask(b"\x01\x01\x05admin"), [1, 1, 0xfe], "somebody must be able to undo it");
    // It has the admin door only, and nobody has to log in because of it.
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.offer(&[NO_AUTH, PASSWORD]), NO_AUTH);
    let again = Daemon::with(&["--state-dir"]).arg(daemon.folder().join("socks5d").display().to_string());
    let again = again.start();
    AdminClient::log_in(&again, b"admin", password.trim_end().as_bytes());
}

// ---- what it does to the proxy --------------------------------------------------------------------------

#[test]
fn a_user_that_was_added_connects_at_once_and_its_relay_ends_when_it_is_removed() {
    let origin = Origin::echo(V4);
    let daemon = daemon();
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    let mut anonymous = connect_through(daemon.address(), origin.address());
    assert_eq!(admin.ask(&add_user(b"ann", b"pw", 0)), [1, 0, 0]);
    let mut relays: Vec<_> = (0..3).map(|_| relay_of(&daemon, b"ann", b"pw", &origin)).collect();
    relays.iter_mut().for_each(|relay| relay.assert_echo(b"hello"));
    assert_eq!(admin.ask(b"\x00\x0b\x03ann"), [0, 0x0b, 0, 3]);
    assert_eq!(admin.ask(b"\x00\x0b\x09anonymous"), [0, 0x0b, 0, 1]);
    assert_eq!(admin.ask(b"\x00\x06"), [0, 6, 2]);
    assert_eq!(admin.ask(b"\x00\x02"), [0, 2, 0, 4]);
    assert_eq!(admin.ask(b"\x00\x03"), [0, 3, 0, 4]);
    let _alone = exclusive();
    let started = Instant::now();
    assert_eq!(admin.ask(&remove_user(b"ann")), [1, 1, 0]);
    for relay in &mut relays {
        relay.expect_end();
    }
    let took = started.elapsed();
    assert!(took < Duration::from_millis(100), "its sessions lived for {took:?}");
    anonymous.assert_echo(b"nobody else is touched");
    eventually("ended sessions are counted", || admin.ask(b"\x00\x02") == [0, 2, 0, 1]);
    assert_eq!(admin.ask(b"\x00\x03"), [0, 3, 0, 4], "the highest mark stays");
    assert_eq!(admin.ask(b"\x00\x01"), [0, 1, 0, 0, 0, 0, 0, 0, 0, 4]);
    assert_eq!(admin.ask(b"\x00\x0b\x03ann"), [0, 0x0b, 0, 0]);
}

#[test]
fn bytes_are_counted_as_the_proxy_sends_and_receives_them() {
    let (origin, _arrivals) = Origin::source(V4, 1, 100_000);
    let daemon = daemon();
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    let mut client = connect_through(daemon.address(), origin.address());
    client.send(b"0123456789");
    client.half_close();
    let (bytes, _) = client.read_to_end();
    assert_eq!(bytes.len(), 100_000);
    eventually("bytes sent to clients", || admin.ask(b"\x00\x04") == b"\x00\x04\0\0\0\0\0\x01\x86\xa0");
    eventually("bytes received from clients", || admin.ask(b"\x00\x05") == b"\x00\x05\0\0\0\0\0\0\0\x0a");
}

#[test]
fn settings_change_under_a_transfer_that_arrives_unharmed() {
    const BYTES: usize = 32 << 20;
    let (origin, _arrivals) = Origin::source(V4, 7, BYTES);
    let daemon = daemon();
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    let mut client = connect_through(daemon.address(), origin.address());
    let reader = std::thread::spawn(move || {
        client.half_close();
        client.read_to_end().0
    });
    let sizes: [[u8; 4]; 4] = [[0, 0, 2, 0], [0, 4, 0, 0], [0, 0, 0x10, 0], [0, 0x10, 0, 1]];
    let mut rounds = 0;
    while !reader.is_finished() || rounds < 8 {
        let size = sizes[rounds % sizes.len()];
        assert_eq!(admin.ask(&[&[1, 4], &size[..]].concat()), [1, 4, 0]);
        assert_eq!(admin.ask(b"\x00\x08"), [&[0, 8], &size[..]].concat());
        let seconds = [200, 30, 60][rounds % 3];
        assert_eq!(admin.ask(&[1, 6, seconds]), [1, 6, 0]);
        assert_eq!(admin.ask(b"\x00\x0a"), [0, 0x0a, seconds]);
        rounds += 1;
    }
    let bytes = reader.join().expect("the transfer");
    assert!(bytes == pattern(7, BYTES), "{} bytes, or others", bytes.len());
}

#[test]
fn idle_sessions_are_closed_or_kept_as_the_admin_says() {
    let origin = Origin::echo(V4);
    let daemon = daemon();
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    let mut client = connect_through(daemon.address(), origin.address());
    client.assert_echo(b"there");
    assert_eq!(admin.ask(b"\x01\x03\x00"), [1, 3, 0], "no clean-up");
    assert_eq!(admin.ask(b"\x01\x06\x01"), [1, 6, 0]);
    assert_eq!(admin.ask(b"\x00\x0a"), [0, 0x0a, 1]);
    assert!(client.is_silent_for(Duration::from_millis(1500)), "no clean-up means none");
    assert_eq!(admin.ask(b"\x01\x03\x01"), [1, 3, 0]);
    let started = Instant::now();
    client.expect_end();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

// ---- hostile and clumsy peers ---------------------------------------------------------------------------

#[test]
fn half_a_login_ends_after_ten_seconds_while_others_are_served() {
    let daemon = daemon();
    let place = places(&daemon)[0];
    let clients = [&b""[..], b"\x01", b"\x01\x04ro"].map(|half| {
        std::thread::spawn(move || {
            let mut client = AdminClient::connect_to(place);
            let started = Instant::now();
            if !half.is_empty() {
                client.send(half);
            }
            (client.expect_close(), started.elapsed())
        })
    });
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    assert_eq!(admin.ask(b"\x00\x07"), [0, 7, 2]);
    assert!(admin.is_silent_for(Duration::from_secs(11)), "who logged in may be idle");
    for client in clients {
        let (reason, took) = client.join().expect("a client");
        assert_eq!(reason, CloseReason::PeerClosed);
        assert!(took > Duration::from_secs(9) && took < Duration::from_secs(14), "{took:?}");
    }
    assert_eq!(admin.ask(b"\x00\x07"), [0, 7, 2]);
}

#[test]
fn garbage_is_answered_or_dropped_and_harms_nobody() {
    let mut daemon = daemon();
    let place = places(&daemon)[0];
    let mut rng = crate::harness::Rng::new(5);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..2000 {
        let mut datagram = vec![0; rng.below(200)];
        rng.fill(&mut datagram);
        socket.send_to(&datagram, place.udp).unwrap();
    }
    for _ in 0..4 {
        let mut garbage = vec![0; 500];
        rng.fill(&mut garbage);
        garbage[0] = 1;
        garbage[1] = 255; // A log-in that will never be right.
        let mut client = AdminClient::connect(&daemon);
        client.send(&garbage);
        drop(client);
    }
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    let mut garbage = vec![0; 20_000];
    rng.fill(&mut garbage);
    // Only queries and unknown types, so that the last administrator stays who it is.
    garbage.iter_mut().for_each(|byte| *byte |= 2);
    admin.send(&garbage);
    for number in 0..10_000 {
        assert_eq!(admin.receive(), [0xff, 0xff], "answer {number}");
    }
    daemon.assert_alive();
}

#[test]
fn a_thousand_associations_leave_room_for_who_knows_a_password() {
    let mut daemon = daemon();
    let mut crowd = AdminSocket::new(places(&daemon)[0]);
    let (mut opened, mut ended) = (0, 0);
    for _ in 0..1000 {
        crowd.connect();
        for event in crowd.pump() {
            match event {
                Event::Opened { .. } => opened += 1,
                Event::Closed { .. } => ended += 1,
                Event::Message { .. } | Event::Writable { .. } => {}
            }
        }
    }
    let settled = look_until(Instant::now() + LIMIT, || {
        for event in crowd.pump() {
            match event {
                Event::Opened { .. } => opened += 1,
                Event::Closed { .. } => ended += 1,
                Event::Message { .. } | Event::Writable { .. } => {}
            }
        }
        (1000 - ended <= 64).then_some(())
    });
    assert!(settled.is_some(), "{opened} opened and {ended} ended of 1000");
    assert!(opened > 64, "{opened} opened");
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    assert_eq!(admin.ask(b"\x00\x07"), [0, 7, 2]);
    assert_eq!(admin.ask(b"\x00\x02"), [0, 2, 0, 0], "admin associations are no connections");
    daemon.assert_alive();
}

#[test]
fn whoever_asks_and_never_reads_is_not_read_any_more() {
    let mut daemon = daemon();
    let mut greedy = AdminClient::log_in(&daemon, ADMIN, SECRET);
    greedy.stop_reading();
    let (mut sent, mut refused) = (0, 0);
    let full = look_until(Instant::now() + LIMIT, || {
        let taken = greedy.try_send(&b"\x00\x00".repeat(500));
        sent += usize::from(taken);
        refused = if taken { 0 } else { refused + 1 };
        (refused == 50).then_some(())
    });
    assert!(full.is_some(), "{sent} messages of 500 requests were taken");
    // Our queue, its window, and little more.
    assert!(sent < 1000, "{sent} messages of 500 requests were taken");
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    assert_eq!(admin.ask(b"\x00\x07"), [0, 7, 2]);
    daemon.assert_alive();
}

// ---- where it listens -----------------------------------------------------------------------------------

#[test]
fn a_second_daemon_on_the_same_port_says_what_is_taken() {
    let daemon = daemon();
    let place = places(&daemon)[0];
    let output = Daemon::with(&["--admin-udp-port", &place.udp.port().to_string()]).run();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let expected = format!("socks5d: cannot listen for the admin channel on {} (udp): ", place.udp);
    assert!(stderr.lines().any(|line| line.starts_with(&expected)), "{stderr}");
}

#[test]
fn it_listens_on_ipv6_and_on_the_addresses_that_are_named() {
    let daemon = Daemon::start(&["--admin", "root:secret", "-L", "127.0.0.7", "-L", "::1", "-P", "1234"]);
    let places = places(&daemon);
    let ips: Vec<_> = places.iter().map(|place| place.udp.ip().to_string()).collect();
    assert_eq!(ips, ["127.0.0.7", "::1"]);
    for place in places {
        assert_eq!(place.sctp_port, 1234);
        let mut admin = AdminClient::connect_to(place);
        assert_eq!(admin.ask(&login(ADMIN, SECRET)), [1, 0]);
        assert_eq!(admin.ask(b"\x00\x09"), [0, 9, 10]);
    }
}

#[test]
fn a_daemon_that_ends_closes_its_associations() {
    let mut daemon = daemon();
    let mut admin = AdminClient::log_in(&daemon, ADMIN, SECRET);
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(admin.expect_close(), CloseReason::PeerClosed);
    assert_eq!(daemon.wait(LIMIT).code(), Some(0));
}
