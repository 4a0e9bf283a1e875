//! Logs over the admin channel: lines as they are written, by kind, level and user; what was missed; rotation.

use pipo_protocol::v2::events::Happening;
use pipo_protocol::v2::messages::*;
use pipo_protocol::v2::{Reply, Request, Role, Status, Text, Word};

use crate::harness::admin_v2::{CREDIT, Client2, name, verifier};
use crate::harness::client::{CONNECT, PASSWORD};
use crate::harness::origin::{Origin, V4};
use crate::harness::{Client, Daemon, connect_through, eventually};

fn admin(daemon: &Daemon) -> Client2 {
    Client2::log_in(daemon, b"root", b"secret")
}

fn everything() -> LogFollow {
    LogFollow { credit: CREDIT, from: None, kinds: Vec::new(), level: None, user: None }
}

fn follow(client: &mut Client2, channel: u32, body: LogFollow) -> u64 {
    match client.follow(&Request::LogFollow(body), channel) {
        Reply::LogFollow(subscribed) => subscribed.as_of,
        other => panic!("{other:?}"),
    }
}

/// The next line of a channel.
fn line(client: &mut Client2, channel: u32) -> LogLine {
    match client.happening(channel) {
        Happening::Line(line) => line,
        other => panic!("{other:?}"),
    }
}

fn set(setting: &str, value: &str) -> Request {
    Request::SettingSet(SettingSet { name: Word::cut(setting), value: Text::cut(value), base: None })
}

fn add(client: &mut Client2, user: &[u8], role: Role) {
    let user = UserAdd { user: name(user), verifier: verifier(b"pw"), role, doors: None };
    client.ask(&Request::UserAdd(user)).unwrap();
}

#[test]
fn lines_come_as_they_stand_in_the_log_while_commands_go_on() {
    let daemon = Daemon::start(&["--admin", "root:secret", "--log-format", "tab"]);
    let origin = Origin::echo(V4);
    let mut root = admin(&daemon);
    follow(&mut root, 7, everything());
    connect_through(daemon.address(), origin.address());
    let access = line(&mut root, 7);
    assert_eq!((access.kind, access.level), (LogKind::Access, None));
    assert_eq!(access.line.as_str(), daemon.stdout().wait_for_count(1)[0]);
    root.ask(&set("buffer-size", "8 KiB")).unwrap();
    let audit = line(&mut root, 7);
    assert_eq!(audit.kind, LogKind::Audit);
    assert!(
        audit.line.as_str().contains("user=root") && audit.line.as_str().contains("setting set"),
        "{audit:?}"
    );
    assert_eq!(daemon.stderr().wait_for("changed: user=root"), audit.line.as_str());
    root.ask(&set("log-format", "json")).unwrap();
    assert_eq!(line(&mut root, 7).kind, LogKind::Audit);
    connect_through(daemon.address(), origin.address());
    let access = line(&mut root, 7);
    assert!(access.line.as_str().starts_with('{'), "the other form holds at once: {access:?}");
    // A warning of the diagnostics, of somebody else's mistake.
    assert!(Client2::connect(&daemon).try_log_in(b"root", b"wrong").is_err());
    let warning = line(&mut root, 7);
    assert_eq!((warning.kind, warning.level), (LogKind::Diagnostic, Some(LogLevel::Warn)));
    assert!(warning.line.as_str().contains("admin log-in refused"), "{warning:?}");
    assert!(!warning.line.as_str().contains("wrong"), "never a password: {warning:?}");
    root.ask(&Request::Unsubscribe(Unsubscribe { channel: 7 })).unwrap();
}

#[test]
fn who_follows_some_lines_gets_those() {
    let daemon = Daemon::start(&["--admin", "root:secret", "--log-format", "tab", "--auth", "optional"]);
    let origin = Origin::echo(V4);
    let mut root = admin(&daemon);
    add(&mut root, b"ada", Role::User);
    follow(
        &mut root,
        1,
        LogFollow { kinds: vec![LogKind::Access], user: Some(name(b"ada")), ..everything() },
    );
    follow(
        &mut root,
        2,
        LogFollow { level: Some(LogLevel::Warn), kinds: vec![LogKind::Diagnostic], ..everything() },
    );
    follow(&mut root, 3, LogFollow { kinds: vec![LogKind::Audit], ..everything() });
    connect_through(daemon.address(), origin.address());
    let mut adas = Client::connect(daemon.address());
    assert_eq!(adas.offer(&[PASSWORD]), PASSWORD);
    assert_eq!(adas.log_in(b"ada", b"pw"), 0);
    assert_eq!(adas.request(CONNECT, &origin.address().into()).code, 0);
    assert!(Client2::connect(&daemon).try_log_in(b"nobody", b"x").is_err());
    root.ask(&set("buffer-size", "8 KiB")).unwrap();
    assert!(line(&mut root, 1).line.as_str().contains("\tada\t"), "not that of anonymous, which came first");
    assert!(line(&mut root, 2).line.as_str().contains("admin log-in refused"));
    assert!(line(&mut root, 3).line.as_str().contains("buffer-size"));
}

#[test]
fn roles_and_fields_are_checked() {
    let daemon = Daemon::start(&["--admin", "root:secret"]);
    let mut root = admin(&daemon);
    add(&mut root, b"eve", Role::Observer);
    let mut eve = Client2::log_in(&daemon, b"eve", b"pw");
    let refused = |client: &mut Client2, body: LogFollow| {
        let number = client.send(&Request::LogFollow(body), 5);
        client.answer_to(number).header.status
    };
    let credentials = LogFollow { kinds: vec![LogKind::Credential], ..everything() };
    assert_eq!(refused(&mut eve, credentials.clone()), Status::NotAllowed);
    assert_eq!(
        refused(&mut root, LogFollow { kinds: vec![LogKind::Unassigned(9)], ..everything() }),
        Status::Invalid
    );
    assert_eq!(
        refused(&mut root, LogFollow { level: Some(LogLevel::Unassigned(9)), ..everything() }),
        Status::Invalid
    );
    follow(&mut root, 5, credentials);
    follow(&mut eve, 6, everything());
    root.ask(&set("buffer-size", "8 KiB")).unwrap();
    assert_eq!(line(&mut eve, 6).kind, LogKind::Audit);
    assert_eq!(eve.refusal(&Request::LogRotate(Nothing {})), Status::NotAllowed);
}

#[test]
fn who_comes_back_gets_what_it_missed_or_is_told() {
    let daemon = Daemon::start(&["--admin", "root:secret"]);
    let mut root = admin(&daemon);
    let audit = || LogFollow { kinds: vec![LogKind::Audit], ..everything() };
    // Nobody followed from the beginning on.
    follow(&mut root, 1, LogFollow { from: Some(0), ..audit() });
    root.ask(&set("buffer-size", "8 KiB")).unwrap();
    let as_of = match root.happening(1) {
        Happening::Gap(gap) => {
            assert_eq!((gap.events_count, gap.first), (0, 1));
            assert!(line(&mut root, 1).line.as_str().contains("buffer-size"));
            gap.last
        }
        other => panic!("{other:?}"),
    };
    root.say_goodbye();
    let mut root = admin(&daemon);
    root.ask(&set("idle-timeout", "9 s")).unwrap();
    follow(&mut root, 2, LogFollow { from: Some(as_of), ..audit() });
    assert!(line(&mut root, 2).line.as_str().contains("buffer-size"));
    assert!(line(&mut root, 2).line.as_str().contains("idle-timeout"));
}

#[test]
fn rotation_opens_the_file_anew() {
    let builder = Daemon::with(&["--admin", "root:secret"]);
    let path = builder.folder().join("access.log");
    let daemon = builder.arg("--access-log").arg(path.to_str().unwrap()).start();
    let origin = Origin::echo(V4);
    let mut root = admin(&daemon);
    connect_through(daemon.address(), origin.address());
    let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    eventually("the first line is there", || lines(&path) == 1);
    let old = path.with_extension("1");
    std::fs::rename(&path, &old).unwrap();
    assert!(matches!(root.ask(&Request::LogRotate(Nothing {})), Ok(Reply::LogRotate(_))));
    connect_through(daemon.address(), origin.address());
    eventually("the second line is in the new file", || lines(&path) == 1);
    assert_eq!(lines(&old), 1);
    // Where that fails lines go on where they did, and it is said.
    let folder = path.parent().unwrap().to_owned();
    std::fs::rename(&path, &old).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(root.refusal(&Request::LogRotate(Nothing {})), Status::Internal);
    connect_through(daemon.address(), origin.address());
    eventually("the third line is in the old file", || lines(&old) == 2);
    std::fs::remove_dir(&path).unwrap();
    drop(folder);
}
