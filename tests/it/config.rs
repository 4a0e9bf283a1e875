//! Candidates over the admin channel: several changes as one, checked and compared, committed for a time, confirmed
//! and taken back; and that everybody's changes are made in their order.

use std::time::{Duration, Instant};

use pipo_protocol::v2::messages::*;
use pipo_protocol::v2::{Doors, Reply, Request, Role, Status, Text, Word};
use rustix::process::Signal;

use crate::harness::admin::AdminClient;
use crate::harness::admin_v2::{CREDIT, Client2, name, verifier};
use crate::harness::client::{CONNECT, PASSWORD};
use crate::harness::origin::{Origin, V4};
use crate::harness::{Client, Daemon, eventually};

fn daemon() -> Daemon {
    Daemon::start(&["--admin", "root:secret", "--admin", "second:secret", "--socks-addr", "127.0.0.1"])
}

fn admin(daemon: &Daemon) -> Client2 {
    Client2::log_in(daemon, b"root", b"secret")
}

// ---- changes and requests -------------------------------------------------------------------------------

fn blank(kind: ChangeKind) -> Change {
    Change { kind, setting: None, value: None, user: None, verifier: None, role: None, doors: None }
}

fn set(setting: &str, value: &str) -> Change {
    let (setting, value) = (Some(Word::cut(setting)), Some(Text::cut(value)));
    Change { setting, value, ..blank(ChangeKind::Set) }
}

fn add(user: &[u8], role: Role) -> Change {
    let (user, verifier, role) = (Some(name(user)), Some(verifier(b"pw")), Some(role));
    Change { user, verifier, role, ..blank(ChangeKind::UserAdd) }
}

fn remove(user: &[u8]) -> Change {
    Change { user: Some(name(user)), ..blank(ChangeKind::UserRemove) }
}

fn password(user: &[u8], password: &[u8]) -> Change {
    Change { user: Some(name(user)), verifier: Some(verifier(password)), ..blank(ChangeKind::UserPassword) }
}

fn commit(base: u64, changes: &[Change], confirm_seconds: Option<u32>) -> Request {
    Request::ConfigCommit(Commit { base, changes: changes.to_vec(), confirm_seconds })
}

fn confirm(revision: Option<u64>) -> Request {
    Request::ConfigConfirm(Confirm { revision })
}

fn rollback(revision: Option<u64>) -> Request {
    Request::ConfigRollback(Rollback { revision })
}

fn setting_set(setting: &str, value: &str) -> Request {
    Request::SettingSet(SettingSet { name: Word::cut(setting), value: Text::cut(value), base: None })
}

fn status(client: &mut Client2) -> ConfigStatus {
    match client.ask(&Request::ConfigStatus(Nothing {})) {
        Ok(Reply::ConfigStatus(status)) => status,
        other => panic!("{other:?}"),
    }
}

fn revision(client: &mut Client2) -> u64 {
    status(client).revision
}

fn changed(reply: Result<Reply, (Status, pipo_protocol::v2::ErrorBody)>) -> Changed {
    match reply {
        Ok(
            Reply::ConfigCommit(changed)
            | Reply::ConfigConfirm(changed)
            | Reply::ConfigRollback(changed)
            | Reply::SettingSet(changed),
        ) => changed,
        other => panic!("{other:?}"),
    }
}

fn value(client: &mut Client2, setting: &str) -> (String, SettingSource) {
    match client.ask(&Request::SettingGet(SettingGet { name: Word::cut(setting) })) {
        Ok(Reply::SettingGet(reply)) => (reply.setting.value.as_str().to_owned(), reply.setting.source),
        other => panic!("{other:?}"),
    }
}

fn users(client: &mut Client2) -> Vec<(String, Role)> {
    let list = UserListRequest { credit: CREDIT, user: None, prefix: None, limit: None };
    let (_, rows) = client.rows::<UserPart>(&Request::UserList(list), 1);
    rows.into_iter().map(|row| (row.user.to_string(), row.role)).collect()
}

/// A session of that user, that reached its origin.
fn session(daemon: &Daemon, user: &[u8], password: &[u8], origin: &Origin) -> Client {
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.offer(&[PASSWORD]), PASSWORD);
    assert_eq!(client.log_in(user, password), 0);
    assert_eq!(client.request(CONNECT, &origin.address().into()).code, 0);
    client.assert_echo(b"hello");
    client
}

// ---- as one ---------------------------------------------------------------------------------------------

#[test]
fn several_changes_are_made_as_one() {
    let daemon = daemon();
    let mut root = admin(&daemon);
    let before = revision(&mut root);
    let changes = [
        set("buffer-size", "32 KiB"),
        set("idle-timeout", "77 s"),
        add(b"ada", Role::User),
        Change {
            role: Some(Role::Operator),
            doors: Some(Doors::Both),
            verifier: None,
            ..add(b"ada", Role::User)
        },
    ]
    .map(|change| match change {
        Change { verifier: None, role: Some(_), .. } => Change { kind: ChangeKind::UserRole, ..change },
        other => other,
    });
    let reply = changed(root.ask(&commit(before, &changes, None)));
    assert_eq!((reply.revision, reply.sessions_closed_count), (before + 1, 0));
    assert_eq!(value(&mut root, "buffer-size"), ("32 KiB".to_owned(), SettingSource::Runtime));
    assert_eq!(value(&mut root, "idle-timeout").0, "77 s");
    assert!(users(&mut root).contains(&("ada".to_owned(), Role::Operator)));
    session(&daemon, b"ada", b"pw", &Origin::echo(V4));
    assert_eq!(Client2::connect(&daemon).try_log_in(b"ada", b"pw").unwrap(), Role::Operator);
}

#[test]
fn with_one_problem_nothing_is_changed_and_every_problem_is_told() {
    let daemon = daemon();
    let mut root = admin(&daemon);
    let base = revision(&mut root);
    let all_users = users(&mut root);
    let changes = [
        set("buffer-size", "32 KiB"),
        add(b"ada", Role::User),
        set("workers", "3"),
        remove(b"nobody"),
        set("tcp-congestion", "no-such-thing"),
    ];
    assert_eq!(root.refusal(&commit(base, &changes, None)), Status::StartOnly);
    let candidate = Candidate { base, changes: changes.to_vec() };
    let Ok(Reply::ConfigCheck(checked)) = root.ask(&Request::ConfigCheck(candidate)) else {
        panic!("no answer to config check");
    };
    let problems: Vec<_> =
        checked.problems.iter().map(|each| (each.change, Status::from(each.status))).collect();
    assert_eq!(checked.problems_count, 3);
    assert_eq!(problems[..2], [(2, Status::StartOnly), (3, Status::NotFound)]);
    assert_eq!(problems[2].1, Status::Invalid, "what only the system knows");
    let table = [
        (commit(base, &[remove(b"root"), remove(b"second")], None), Status::LastAdmin),
        (commit(base, &[], None), Status::Invalid),
        (commit(base, &vec![set("auth", "none"); 65], None), Status::Invalid),
        (commit(base, &[set("auth", "none")], Some(0)), Status::Invalid),
        (commit(base, &[set("auth", "none")], Some(86_401)), Status::Invalid),
        (commit(base, &[set("access-log", "/no/such/folder/file")], None), Status::Invalid),
        (
            commit(base, &[set("access-log", "/no/such/folder/file"), remove(b"second")], None),
            Status::Invalid,
        ),
        (commit(base + 1, &[set("auth", "none")], None), Status::Conflict),
        (rollback(Some(base + 7)), Status::NotFound),
        (rollback(None), Status::NotFound),
        (confirm(None), Status::NotFound),
    ];
    for (request, expected) in table {
        assert_eq!(root.refusal(&request), expected, "{request:?}");
    }
    assert_eq!((revision(&mut root), users(&mut root)), (base, all_users));
    assert_eq!(value(&mut root, "buffer-size").1, SettingSource::Default);
    let Ok(Reply::ConfigCheck(checked)) =
        root.ask(&Request::ConfigCheck(Candidate { base, changes: vec![set("auth", "none")] }))
    else {
        panic!("no answer to config check");
    };
    assert_eq!((checked.problems_count, checked.revision), (0, base));
}

#[test]
fn a_base_that_has_passed_is_a_conflict_that_names_the_revision() {
    let daemon = daemon();
    let mut root = admin(&daemon);
    let base = revision(&mut root);
    let after = changed(root.ask(&setting_set("buffer-size", "16 KiB"))).revision;
    assert_eq!(after, base + 1);
    let (status, error) = root.ask(&commit(base, &[set("auth", "none")], None)).unwrap_err();
    assert_eq!((status, error.revision), (Status::Conflict, Some(after)));
    // Version 1 counts, too.
    let mut old = AdminClient::log_in(&daemon, b"second", b"secret");
    assert_eq!(old.ask(b"\x01\x06\x15"), [1, 6, 0]);
    assert_eq!(revision(&mut root), after + 1);
    changed(root.ask(&commit(after + 1, &[set("auth", "none")], None)));
}

#[test]
fn a_diff_says_what_would_change_and_changes_nothing() {
    let daemon = daemon();
    let mut root = admin(&daemon);
    root.ask(&Request::UserAdd(UserAdd {
        user: name(b"ada"),
        verifier: verifier(b"pw"),
        role: Role::User,
        doors: None,
    }))
    .unwrap();
    let origin = Origin::echo(V4);
    let mut adas = session(&daemon, b"ada", b"pw", &origin);
    let base = revision(&mut root);
    let changes = vec![set("log-level", "debug"), remove(b"ada"), add(b"bob", Role::Observer)];
    let diff = Request::ConfigDiff(DiffRequest { credit: CREDIT, base, changes });
    let (_, rows) = root.rows::<DiffPart>(&diff, 4);
    let text =
        |text: &Option<SettingValue>| text.as_ref().map_or("-".to_owned(), |text| text.as_str().to_owned());
    let shown: Vec<_> =
        rows.iter().map(|row| (row.kind, text(&row.before), text(&row.after), row.sessions_count)).collect();
    let expected = [
        (ChangeKind::Set, "info".to_owned(), "debug".to_owned(), None),
        (ChangeKind::UserRemove, "user proxy".to_owned(), "-".to_owned(), Some(1)),
        (ChangeKind::UserAdd, "-".to_owned(), "observer both".to_owned(), Some(0)),
    ];
    assert_eq!(shown, expected);
    adas.assert_echo(b"still there");
    assert_eq!(revision(&mut root), base);
}

// ---- for a time -----------------------------------------------------------------------------------------

#[test]
fn a_commit_that_nobody_confirms_is_taken_back_by_itself() {
    let daemon = daemon();
    let origin = Origin::echo(V4);
    let mut root = admin(&daemon);
    let mut second = Client2::log_in(&daemon, b"second", b"secret");
    let base = revision(&mut root);
    let made = Instant::now();
    let changes = [set("buffer-size", "8 KiB"), add(b"ada", Role::User), set("auth", "optional")];
    let reply = changed(root.ask(&commit(base, &changes, Some(2))));
    let mut adas = session(&daemon, b"ada", b"pw", &origin);
    for client in [&mut root, &mut second] {
        let (_, said) = client.notice();
        assert_eq!((said.kind, said.revision), (NoticeKind::ConfirmPending, Some(reply.revision)));
        assert_eq!(said.left_ms, Some(2000));
    }
    let pending = status(&mut second).pending.expect("a commit waits");
    assert_eq!((pending.revision, pending.user), (reply.revision, name(b"root")));
    assert!(pending.left_ms <= 2000);
    let Ok(Reply::ServerInfo(info)) = second.ask(&Request::ServerInfo(Nothing {})) else { panic!("no info") };
    assert!(info.pending.is_some() && info.revision == reply.revision);
    // Nobody changes anything meanwhile, whatever way.
    let other_user = UserAdd { user: name(b"bob"), verifier: verifier(b"x"), role: Role::User, doors: None };
    let others = [
        setting_set("idle-timeout", "9 s"),
        Request::UserAdd(other_user),
        commit(reply.revision, &[set("auth", "none")], None),
        rollback(Some(base)),
    ];
    for request in others {
        assert_eq!(second.refusal(&request), Status::Conflict, "{request:?}");
    }
    let mut old = AdminClient::log_in(&daemon, b"second", b"secret");
    assert_eq!(old.ask(b"\x01\x06\x15"), [1, 6, 0xff]);
    assert_eq!(old.ask(b"\x01\x00\x01b\x01x\x00"), [1, 0, 0xff]);

    for client in [&mut root, &mut second] {
        let (_, said) = client.notice();
        assert_eq!((said.kind, said.revision), (NoticeKind::Reverted, Some(reply.revision + 1)));
    }
    assert!(made.elapsed() >= Duration::from_secs(2), "not before its time");
    adas.expect_end();
    assert_eq!(value(&mut root, "buffer-size").1, SettingSource::Default);
    let names: Vec<_> = users(&mut root).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["anonymous", "root", "second"]);
    assert_eq!(old.ask(b"\x01\x06\x15"), [1, 6, 0], "everybody may change something again");
    assert_eq!(root.refusal(&confirm(None)), Status::NotFound, "too late");
}

#[test]
fn the_same_user_confirms_from_another_association_and_nobody_else() {
    let daemon = daemon();
    let mut root = admin(&daemon);
    let base = revision(&mut root);
    let reply = changed(root.ask(&commit(base, &[set("buffer-size", "8 KiB")], Some(1))));
    root.say_goodbye();
    let mut second = Client2::log_in(&daemon, b"second", b"secret");
    assert_eq!(second.refusal(&confirm(None)), Status::NotAllowed);
    let mut root = admin(&daemon);
    assert_eq!(root.refusal(&confirm(Some(base))), Status::Conflict);
    assert_eq!(changed(root.ask(&confirm(Some(reply.revision)))).revision, reply.revision);
    let (_, said) = second.notice();
    assert_eq!((said.kind, said.revision), (NoticeKind::Confirmed, Some(reply.revision)));
    assert!(second.is_silent_for(Duration::from_millis(1300)), "nothing is taken back");
    assert_eq!(value(&mut root, "buffer-size").0, "8 KiB");
    assert!(status(&mut root).pending.is_none());
}

#[test]
fn what_is_taken_back_leaves_everybody_as_before_but_sessions_that_ended() {
    let daemon = daemon();
    let origin = Origin::echo(V4);
    let mut root = admin(&daemon);
    let first = [add(b"ada", Role::User), add(b"bob", Role::User)];
    let base = revision(&mut root);
    let base = changed(root.ask(&commit(base, &first, None))).revision;
    let mut adas = session(&daemon, b"ada", b"pw", &origin);
    let mut bobs = session(&daemon, b"bob", b"pw", &origin);
    let reply = changed(root.ask(&commit(base, &[remove(b"ada"), password(b"root", b"other")], Some(600))));
    assert_eq!(reply.sessions_closed_count, 1);
    adas.expect_end();
    assert!(Client2::connect(&daemon).try_log_in(b"root", b"secret").is_err());
    // Who changed the own password is still there, and may take it back.
    assert_eq!(changed(root.ask(&rollback(None))).revision, reply.revision + 1);
    session(&daemon, b"ada", b"pw", &origin).assert_echo(b"with the old password");
    bobs.assert_echo(b"was never concerned");
    assert!(Client2::connect(&daemon).try_log_in(b"root", b"secret").is_ok());
    assert!(Client2::connect(&daemon).try_log_in(b"root", b"other").is_err());
}

#[test]
fn the_settings_of_a_former_revision_come_back_as_a_new_one() {
    let daemon = daemon();
    let mut root = admin(&daemon);
    let first = changed(root.ask(&setting_set("buffer-size", "8 KiB"))).revision;
    let second = changed(root.ask(&setting_set("buffer-size", "16 KiB"))).revision;
    changed(root.ask(&commit(second, &[set("idle-timeout", "5 s"), add(b"ada", Role::User)], None)));
    let oldest = status(&mut root).revision_oldest.unwrap();
    let now = changed(root.ask(&rollback(Some(first)))).revision;
    assert_eq!(now, second + 2);
    assert_eq!(value(&mut root, "buffer-size").0, "8 KiB");
    assert_eq!(value(&mut root, "idle-timeout").1, SettingSource::Default);
    assert!(users(&mut root).iter().any(|(name, _)| name == "ada"), "users are not touched");
    changed(root.ask(&rollback(Some(oldest))));
    assert_eq!(value(&mut root, "buffer-size").1, SettingSource::Default);
}

#[test]
fn a_reload_waits_until_a_commit_is_confirmed_or_taken_back() {
    let builder = Daemon::with(&["--admin", "root:secret", "--socks-addr", "127.0.0.1"]);
    let path = builder.file("config.toml", "buffer-size = 65536\n");
    let mut daemon = builder.arg("--config").arg(path.clone()).start();
    let mut root = admin(&daemon);
    let base = revision(&mut root);
    changed(root.ask(&commit(base, &[set("idle-timeout", "5 s")], Some(600))));
    std::fs::write(&path, "buffer-size = 4096\nidle-timeout = 33\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.stderr().wait_for("the configuration is read again once a commit is settled");
    assert_eq!(value(&mut root, "buffer-size").0, "64 KiB");
    changed(root.ask(&rollback(None)));
    eventually("the configuration is read", || value(&mut root, "buffer-size").0 == "4 KiB");
    assert_eq!(value(&mut root, "idle-timeout"), ("33 s".to_owned(), SettingSource::File));
}

// ---- in their order -------------------------------------------------------------------------------------

#[test]
fn changes_that_are_sent_together_are_made_one_after_the_other() {
    let daemon = daemon();
    let mut root = admin(&daemon);
    let base = revision(&mut root);
    let mut numbers = vec![root.send(&commit(base, &[add(b"ada", Role::User)], None), 0)];
    numbers.push(root.send(&setting_set("buffer-size", "8 KiB"), 0));
    numbers.push(root.send(&commit(base + 2, &[remove(b"ada"), add(b"bob", Role::User)], Some(600)), 0));
    numbers.push(root.send(&setting_set("buffer-size", "16 KiB"), 0));
    numbers.push(root.send(&confirm(None), 0));
    numbers.push(root.send(&setting_set("buffer-size", "32 KiB"), 0));
    let answers: Vec<_> = numbers.iter().map(|number| root.answer_to(*number).header.status).collect();
    let ok = Status::Ok;
    assert_eq!(answers, [ok, ok, ok, Status::Conflict, ok, ok]);
    assert_eq!(value(&mut root, "buffer-size").0, "32 KiB");
    let names: Vec<_> = users(&mut root).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["anonymous", "bob", "root", "second"]);
}
