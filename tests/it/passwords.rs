//! User name and password (RFC 1929): who gets in, who does not, and that the time of a refusal tells nothing.

use std::time::{Duration, Instant};

use crate::harness::client::{CONNECT, PASSWORD, password_request};
use crate::harness::origin::{Origin, V4};
use crate::harness::{Client, Daemon, Ending};

fn log_in(daemon: &Daemon, name: &[u8], password: &[u8]) -> u8 {
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.offer(&[PASSWORD]), PASSWORD);
    client.log_in(name, password)
}

#[test]
fn the_right_password_opens_the_door_and_any_other_closes_it() {
    let long = "p".repeat(255);
    let long_name = "n".repeat(255);
    let daemon = Daemon::with(&["--socks-addr", "127.0.0.1"])
        .arg("--user=alice:secret")
        .arg("--user=bob:with:colons")
        .arg("--user=zoë:pässword")
        .arg(format!("--user={long_name}:{long}"))
        .start();
    let accepted: &[(&[u8], &[u8])] = &[
        (b"alice", b"secret"),
        (b"bob", b"with:colons"),
        ("zoë".as_bytes(), "pässword".as_bytes()),
        (long_name.as_bytes(), long.as_bytes()),
    ];
    for (name, password) in accepted {
        assert_eq!(log_in(&daemon, name, password), 0, "{}", String::from_utf8_lossy(name));
        assert_eq!(log_in(&daemon, name, password), 0, "a second time, from the kept digest");
    }
    // Four failures: a fifth in a minute from one address would be refused for that.
    let refused: &[(&[u8], &[u8])] =
        &[(b"alice", b"Secret"), (b"alice", b"secret "), (b"Alice", b"secret"), (b"nobody", b"secret")];
    for (name, password) in refused {
        assert_ne!(log_in(&daemon, name, password), 0, "{}", String::from_utf8_lossy(name));
    }
}

#[test]
fn a_refused_client_is_closed_and_reaches_no_origin() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&["--user", "alice:secret", "--socks-addr", "127.0.0.1"]);
    let mut client = Client::connect(daemon.address());
    client.offer(&[PASSWORD]);
    // The request comes along at once, as an impatient client sends it.
    let request = crate::harness::client::request(CONNECT, &origin.address().into());
    client.send(&[password_request(b"alice", b"wrong"), request].concat());
    assert_ne!(client.status(), 0);
    client.expect_end();
    assert_eq!(origin.accepted_count(), 0);
}

#[test]
fn empty_names_and_passwords_and_other_versions_are_refused() {
    let daemon = Daemon::start(&["--user", "alice:secret", "--socks-addr", "127.0.0.1"]);
    for (name, password) in [(&b""[..], &b"secret"[..]), (b"alice", b""), (b"", b"")] {
        assert_ne!(log_in(&daemon, name, password), 0);
    }
    let mut client = Client::connect(daemon.address());
    client.offer(&[PASSWORD]);
    let mut wrong = password_request(b"alice", b"secret");
    wrong[0] = 5;
    client.send(&wrong);
    let (answer, ending) = client.read_to_end();
    assert!(answer != [1, 0], "version 5 is not RFC 1929");
    assert_eq!(ending, Ending::Closed);
}

#[test]
fn an_admin_has_the_admin_door_only() {
    let daemon =
        Daemon::start(&["--admin", "root:secret", "--user", "alice:secret", "--socks-addr", "127.0.0.1"]);
    assert_eq!(log_in(&daemon, b"alice", b"secret"), 0);
    assert_ne!(log_in(&daemon, b"root", b"secret"), 0);
}

#[test]
fn users_of_a_file_may_log_in_and_no_password_is_printed() {
    use std::os::unix::fs::PermissionsExt as _;
    let builder = Daemon::with(&["--socks-addr", "127.0.0.1"]);
    let path = builder.file("users", "alice:from-the-file\nroot:admin-of-the-file:admin\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let daemon = builder.arg("--users-file").arg(path).start();
    assert_eq!(log_in(&daemon, b"alice", b"from-the-file"), 0);
    assert_ne!(log_in(&daemon, b"alice", b"wrong"), 0);
    // An administrator of the file may use both doors; one of --admin only the admin door.
    assert_eq!(log_in(&daemon, b"root", b"admin-of-the-file"), 0);
    let printed = format!("{}{}", daemon.stderr().text(), daemon.stdout().text());
    assert!(!printed.contains("from-the-file") && !printed.contains("admin-of-the-file"), "{printed}");
}

#[test]
fn refusals_take_the_same_time_whether_or_not_the_user_exists() {
    let daemon = Daemon::start(&["--user", "alice:secret", "--socks-addr", "127.0.0.1"]);
    let timed = |name: &[u8]| {
        let started = Instant::now();
        assert_ne!(log_in(&daemon, name, b"wrong"), 0);
        started.elapsed()
    };
    for took in [timed(b"alice"), timed(b"nobody")] {
        // The next tick of 250 ms, and a busy machine.
        assert!(took < Duration::from_millis(1500), "{took:?}");
    }
}

#[test]
fn after_five_failures_a_source_is_refused_and_another_is_not() {
    let daemon = Daemon::start(&["--user", "alice:secret", "--socks-addr", "127.0.0.1"]);
    let attempt = |source: [u8; 4], password: &[u8]| {
        let mut client = Client::connect_from(source.into(), daemon.address());
        assert_eq!(client.offer(&[PASSWORD]), PASSWORD);
        client.log_in(b"alice", password)
    };
    for _ in 0..5 {
        assert_ne!(attempt([127, 0, 0, 3], b"wrong"), 0);
    }
    assert_ne!(attempt([127, 0, 0, 3], b"secret"), 0, "the right password comes too late");
    assert_eq!(attempt([127, 0, 0, 4], b"secret"), 0, "the account itself is not locked");
}

#[test]
fn a_hundred_log_ins_at_once_all_succeed() {
    let daemon = Daemon::start(&["--user", "alice:secret", "--socks-addr", "127.0.0.1"]);
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(daemon.address())).collect();
    for client in &mut clients {
        assert_eq!(client.offer(&[PASSWORD]), PASSWORD);
        client.send(&password_request(b"alice", b"secret"));
    }
    for client in &mut clients {
        assert_eq!(client.status(), 0);
    }
}
