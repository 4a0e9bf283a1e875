//! The admin channel, version 2, over UDP: log-in, roles, every command of the daemon itself, channels, notices.

use std::time::Duration;

use pipo_protocol::v2::events::Happening;
use pipo_protocol::v2::messages::*;
use pipo_protocol::v2::{Doors, Key, Octets, Reply, Request, Role, Status, Text, Word};

use crate::harness::admin::AdminClient;
use crate::harness::admin_v2::{CREDIT, Client2, name, verifier};
use crate::harness::client::{CONNECT, PASSWORD};
use crate::harness::origin::{Origin, V4};
use crate::harness::{Client, Daemon, LIMIT, eventually};

fn daemon() -> Daemon {
    Daemon::start(&["--admin", "root:secret"])
}

fn admin(daemon: &Daemon) -> Client2 {
    Client2::log_in(daemon, b"root", b"secret")
}

fn add(user: &[u8], password: &[u8], role: Role, doors: Option<Doors>) -> Request {
    Request::UserAdd(UserAdd { user: name(user), verifier: verifier(password), role, doors })
}

fn remove(user: &[u8]) -> Request {
    Request::UserRemove(UserRemove { user: name(user) })
}

fn set(setting: &str, value: &str, base: Option<u64>) -> Request {
    Request::SettingSet(SettingSet { name: Word::cut(setting), value: Text::cut(value), base })
}

fn user_list(prefix: Option<&[u8]>, limit: Option<u32>) -> Request {
    let prefix = prefix.map(|prefix| Octets::new(prefix).unwrap());
    Request::UserList(UserListRequest { credit: CREDIT, user: None, prefix, limit })
}

// ---- log-in ---------------------------------------------------------------------------------------------

#[test]
fn both_sides_prove_themselves_and_say_goodbye() {
    let daemon = daemon();
    let mut client = Client2::connect(&daemon);
    assert_eq!(client.try_log_in(b"root", b"secret").unwrap(), Role::Admin);
    let hello = client.hello.clone().unwrap();
    assert_eq!((hello.server.as_str(), hello.iterations), ("socks5d", 4096));
    assert_eq!(hello.limits, Limits::SPECIFIED);
    let features: Vec<_> = hello.features.iter().map(Word::as_str).collect();
    let specified: Vec<_> = FEATURES.iter().map(|(feature, _)| *feature).collect();
    assert_eq!(features, specified, "the daemon has everything that the specification names");
    client.say_goodbye();
    eventually("the association is gone", || {
        let (_, rows) = admin(&daemon).rows::<MetricPart>(&metrics("admin_associations_current"), 1);
        rows[0].value <= 2
    });
}

#[test]
fn a_wrong_password_is_refused_like_an_unknown_user() {
    let daemon = daemon();
    for (user, password) in [(&b"root"[..], &b"wrong"[..]), (b"nobody", b"secret")] {
        let mut client = Client2::connect(&daemon);
        let refused = client.try_log_in(user, password).unwrap_err();
        assert_eq!(refused.header.status, Status::LoginFailed);
        assert_eq!(refused.error().sentence.as_str(), Status::LoginFailed.sentence());
        let (header, said) = client.notice();
        assert_eq!((header.status, header.last), (Status::LoginFailed, true));
        assert_eq!(said.kind, NoticeKind::Goodbye);
        client.expect_close();
    }
}

#[test]
fn before_the_login_nothing_else_is_answered_but_out_of_order() {
    let daemon = daemon();
    let mut client = Client2::connect(&daemon);
    assert_eq!(client.refusal(&Request::ServerInfo(Nothing {})), Status::OutOfOrder);
    let proof = LoginProof { nonce: JoinedNonce::new([7; 32]).unwrap(), proof: Key::new([0; 32]) };
    assert_eq!(client.refusal(&Request::LoginProof(proof)), Status::OutOfOrder);
    assert_eq!(client.try_log_in(b"root", b"secret").unwrap(), Role::Admin);
    let hello = HelloRequest { client: Word::cut("again"), features: Vec::new() };
    assert_eq!(client.refusal(&Request::Hello(hello)), Status::OutOfOrder);
    assert!(client.ask(&Request::ServerInfo(Nothing {})).is_ok(), "the association goes on");
}

// ---- users and roles ------------------------------------------------------------------------------------

#[test]
fn a_user_added_by_verifier_connects_at_once_and_its_sessions_end_with_it() {
    let daemon = daemon();
    let origin = Origin::echo(V4);
    let mut admin = admin(&daemon);
    admin.ask(&add(b"ada", b"pw", Role::User, None)).unwrap();
    let mut session = Client::connect(daemon.address());
    assert_eq!(session.offer(&[PASSWORD]), PASSWORD);
    assert_eq!(session.log_in(b"ada", b"pw"), 0);
    assert_eq!(session.request(CONNECT, &origin.address().into()).code, 0);
    eventually("the session is counted", || {
        let (_, rows) = admin.rows::<UserPart>(&user_list(Some(b"ada"), None), 1);
        rows[0].sessions_count == 1
    });
    let (_, rows) = admin.rows::<UserPart>(&user_list(Some(b"ada"), None), 1);
    assert_eq!((rows[0].role, rows[0].doors, rows[0].enabled), (Role::User, Doors::Proxy, true));
    assert!(admin.ask(&remove(b"ada")).is_ok());
    session.expect_end();
    assert_eq!(admin.refusal(&remove(b"ada")), Status::NotFound);
}

#[test]
fn changes_of_users_are_refused_with_their_statuses() {
    let daemon = daemon();
    let mut admin = admin(&daemon);
    admin.ask(&add(b"ada", b"pw", Role::User, None)).unwrap();
    let wrong = Verifier { iterations: 5000, ..verifier(b"x") };
    let role = |user: &[u8], role| Request::UserRole(UserRole { user: name(user), role, doors: None });
    let table = [
        (add(b"ada", b"pw", Role::User, None), Status::Exists),
        (add(b"anonymous", b"pw", Role::User, None), Status::Exists),
        (remove(b"anonymous"), Status::Invalid),
        (remove(b"nobody"), Status::NotFound),
        (remove(b"root"), Status::LastAdmin),
        (role(b"root", Role::Operator), Status::LastAdmin),
        (role(b"nobody", Role::Operator), Status::NotFound),
        (role(b"ada", Role::Unassigned(9)), Status::Invalid),
        (Request::UserPassword(UserPassword { user: name(b"ada"), verifier: wrong }), Status::Invalid),
    ];
    for (request, status) in table {
        assert_eq!(admin.refusal(&request), status, "{request:?}");
    }
}

#[test]
fn every_role_may_log_in_and_gets_what_it_allows() {
    let daemon = daemon();
    let mut admin = admin(&daemon);
    for (user, role) in
        [(&b"u"[..], Role::User), (b"ob", Role::Observer), (b"op", Role::Operator), (b"ad", Role::Admin)]
    {
        admin.ask(&add(user, b"pw", role, Some(Doors::Both))).unwrap();
        let mut client = Client2::connect(&daemon);
        assert_eq!(client.try_log_in(user, b"pw").unwrap(), role);
        let own = client.ask(&Request::Statistics(Nothing {})).unwrap();
        assert!(format!("{own:?}").contains(&format!("{:?}", name(user))), "{own:?}");
        let rank = [Role::User, Role::Observer, Role::Operator, Role::Admin];
        let allows =
            |least: Role| rank.iter().position(|r| *r == role) >= rank.iter().position(|r| *r == least);
        let info = client.ask(&Request::ServerInfo(Nothing {}));
        assert_eq!(info.is_ok(), allows(Role::Observer), "{role:?}: {info:?}");
        let flush = client.ask(&Request::DnsFlush(DnsFlush { name: None })).map_err(|(status, _)| status);
        assert_eq!(flush != Err(Status::NotAllowed), allows(Role::Operator), "{role:?}: {flush:?}");
        let change = client.ask(&set("log-level", "info", None)).map_err(|(status, _)| status);
        assert_eq!(change != Err(Status::NotAllowed), allows(Role::Admin), "{role:?}: {change:?}");
    }
}

#[test]
fn a_new_role_is_told_and_holds_at_once_and_another_password_ends_associations() {
    let daemon = daemon();
    let mut admin = admin(&daemon);
    admin.ask(&add(b"ada", b"pw", Role::Admin, None)).unwrap();
    let mut ada = Client2::log_in(&daemon, b"ada", b"pw");
    let role = Request::UserRole(UserRole { user: name(b"ada"), role: Role::User, doors: None });
    admin.ask(&role).unwrap();
    let (_, said) = ada.notice();
    assert_eq!(said.kind, NoticeKind::RoleChanged);
    assert_eq!(ada.refusal(&Request::ServerInfo(Nothing {})), Status::NotAllowed);
    // Her own password: she stays, her other association goes.
    let mut root2 = Client2::log_in(&daemon, b"root", b"secret");
    let password = |user: &[u8], password: &[u8]| {
        Request::UserPassword(UserPassword { user: name(user), verifier: verifier(password) })
    };
    admin.ask(&password(b"root", b"other")).unwrap();
    let (header, said) = root2.notice();
    assert_eq!((header.last, said.kind), (true, NoticeKind::Goodbye));
    root2.expect_close();
    assert!(admin.ask(&Request::ServerInfo(Nothing {})).is_ok());
    assert!(Client2::connect(&daemon).try_log_in(b"root", b"secret").is_err());
    assert!(Client2::connect(&daemon).try_log_in(b"root", b"other").is_ok());
    admin.ask(&password(b"ada", b"new")).unwrap();
    ada.notice();
    ada.expect_close();
}

#[test]
fn a_later_request_sees_what_an_earlier_one_changed() {
    let daemon = daemon();
    let mut admin = admin(&daemon);
    let mut adds = Vec::new();
    for number in 0..20 {
        let user = format!("user{number:02}");
        let request = add(user.as_bytes(), b"pw", Role::User, None);
        adds.push(admin.send(&request, 0));
    }
    let (_, rows) = admin.rows::<UserPart>(&user_list(Some(b"user"), None), 5);
    let names: Vec<_> = rows.iter().map(|row| row.user.to_string()).collect();
    let expected: Vec<_> = (0..20).map(|number| format!("user{number:02}")).collect();
    assert_eq!(names, expected);
    for number in adds {
        assert_eq!(admin.answer_to(number).header.status, Status::Ok);
    }
    let (_, rows) = admin.rows::<UserPart>(&user_list(Some(b"user1"), Some(3)), 5);
    assert_eq!(rows.len(), 3);
}

// ---- settings -------------------------------------------------------------------------------------------

#[test]
fn every_setting_of_the_table_is_listed_and_read_singly() {
    let daemon = daemon();
    let mut admin = admin(&daemon);
    let list = Request::SettingList(SettingListRequest { credit: CREDIT, prefix: None });
    let (_, rows) = admin.rows::<SettingPart>(&list, 3);
    let expected: Vec<_> =
        socks5d::settings::rows().filter(|row| row.is_value()).map(|row| row.name.to_owned()).collect();
    let names: Vec<_> = rows.iter().map(|row| row.name.to_string()).collect();
    assert_eq!(names, expected);
    for row in rows {
        let get = Request::SettingGet(SettingGet { name: row.name.clone() });
        let Ok(Reply::SettingGet(reply)) = admin.ask(&get) else {
            panic!("{}", row.name);
        };
        assert_eq!(reply.setting, row);
        assert!(!row.help.as_str().is_empty() && !row.allowed.as_str().is_empty(), "{row:?}");
    }
    let nobody = Request::SettingGet(SettingGet { name: Word::cut("no-such-setting") });
    assert_eq!(admin.refusal(&nobody), Status::NotFound);
}

#[test]
fn settings_are_changed_and_reset_with_a_base_revision() {
    let daemon = daemon();
    let mut admin = admin(&daemon);
    let changed = |reply: Reply| match reply {
        Reply::SettingSet(changed) | Reply::SettingReset(changed) => changed,
        other => panic!("{other:?}"),
    };
    let first = changed(admin.ask(&set("idle-timeout", "7 s", None)).unwrap());
    let get = Request::SettingGet(SettingGet { name: Word::cut("idle-timeout") });
    let row = |reply| match reply {
        Ok(Reply::SettingGet(reply)) => reply.setting,
        other => panic!("{other:?}"),
    };
    let held = row(admin.ask(&get));
    assert_eq!((held.value.as_str(), held.source), ("7 s", SettingSource::Runtime));
    let (status, error) = admin.ask(&set("idle-timeout", "8 s", Some(first.revision - 1))).unwrap_err();
    assert_eq!((status, error.revision), (Status::Conflict, Some(first.revision)));
    let second = changed(admin.ask(&set("idle-timeout", "8 s", Some(first.revision))).unwrap());
    assert_eq!(second.revision, first.revision + 1);
    assert!(second.as_of > first.as_of);
    let reset = Request::SettingReset(SettingReset { name: Word::cut("idle-timeout"), base: None });
    changed(admin.ask(&reset).unwrap());
    let held = row(admin.ask(&get));
    assert_eq!((held.value, held.source), (held.default, SettingSource::Default));
    let table = [
        (set("idle-timeout", "never mind", None), Status::Invalid),
        (set("no-such-setting", "1", None), Status::NotFound),
        (set("workers", "2", None), Status::StartOnly),
        (set("user", "a:b", None), Status::Invalid),
    ];
    for (request, status) in table {
        assert_eq!(admin.refusal(&request), status, "{request:?}");
    }
}

// ---- the server -----------------------------------------------------------------------------------------

fn metrics(prefix: &str) -> Request {
    let prefix = Some(Word::cut(prefix));
    Request::Metrics(MetricsRequest { credit: CREDIT, prefix, per_worker: None, meanings: None })
}

#[test]
fn the_server_tells_what_it_is_and_what_it_counts() {
    let daemon = Daemon::start(&["--admin", "root:secret", "--workers", "2"]);
    let mut admin = admin(&daemon);
    let Ok(Reply::ServerInfo(info)) = admin.ask(&Request::ServerInfo(Nothing {})) else {
        panic!("no server info");
    };
    assert!(info.version.as_str().starts_with("socks5d "), "{info:?}");
    assert_eq!((info.workers_count, info.state), (2, ServerState::Running));
    assert_eq!(info.admin_transport.as_str(), "udp");
    assert_eq!(info.socks_listeners, daemon.listeners());
    assert_eq!(info.users_registered_count, 2);
    let workers = Request::ServerWorkers(ListRequest { credit: CREDIT });
    let (_, rows) = admin.rows::<WorkerPart>(&workers, 1);
    let numbers: Vec<_> = rows.iter().map(|row| row.worker).collect();
    assert_eq!(numbers, [0, 1, 2, 3], "the carriers follow");
    let request =
        MetricsRequest { credit: CREDIT, prefix: None, per_worker: Some(true), meanings: Some(true) };
    let (_, rows) = admin.rows::<MetricPart>(&Request::Metrics(request), 1);
    assert!(rows.iter().all(|row| row.meaning.is_some() && row.worker.is_some()));
    let accepted = |row: &&MetricRow| row.name.as_str() == "admin_login_accepted";
    let (_, rows) = admin.rows::<MetricPart>(&metrics("admin_login_"), 1);
    assert_eq!(rows.iter().find(accepted).map(|row| row.value), Some(1));
    assert!(rows.iter().all(|row| row.name.as_str().starts_with("admin_login_")));
}

#[test]
fn shutdown_is_announced_and_said_goodbye() {
    let mut daemon = daemon();
    let mut admin = admin(&daemon);
    let mut other = self::admin(&daemon);
    daemon.may_end();
    let shutdown = Request::ServerShutdown(ShutdownRequest { drain_ms: Some(1000) });
    admin.ask(&shutdown).unwrap();
    for client in [&mut admin, &mut other] {
        let (_, said) = client.notice();
        assert_eq!((said.kind, said.left_ms), (NoticeKind::ShuttingDown, Some(1000)));
        let (header, said) = client.notice();
        assert_eq!(
            (header.status, header.last, said.kind),
            (Status::ShuttingDown, true, NoticeKind::Goodbye)
        );
        client.expect_close();
    }
    assert!(daemon.wait(LIMIT).success());
}

// ---- channels -------------------------------------------------------------------------------------------

#[test]
fn metrics_are_followed_by_samples_until_somebody_ends_it() {
    let daemon = daemon();
    let mut admin = admin(&daemon);
    let request = MetricsFollow { credit: CREDIT, prefix: Some(Word::cut("admin_l")), interval_ms: 100 };
    admin.follow(&Request::MetricsFollow(request.clone()), 9);
    for _ in 0..3 {
        let Happening::Sample(sample) = admin.happening(9) else { panic!("not a sample") };
        assert!(
            sample.values.iter().any(|value| value.name.as_str() == "admin_login_accepted"),
            "{sample:?}"
        );
    }
    let end = Request::Unsubscribe(Unsubscribe { channel: 9 });
    admin.ask(&end).unwrap();
    let last = admin.next_where(|got| got.header.channel == 9 && got.header.last);
    assert_eq!(last.header.status, Status::Cancelled);
    assert_eq!(admin.refusal(&end), Status::NotFound);
    // The number is free again.
    admin.follow(&Request::MetricsFollow(request), 9);
    assert!(matches!(admin.happening(9), Happening::Sample(_)));
    let never = MetricsFollow { credit: CREDIT, prefix: None, interval_ms: 99 };
    let number = admin.send(&Request::MetricsFollow(never), 10);
    let refused = admin.answer_to(number);
    assert_eq!((refused.header.status, refused.error().field), (Status::Invalid, Some(2)));
}

#[test]
fn a_list_and_a_following_subscription_miss_no_change() {
    let daemon = daemon();
    let mut admin = admin(&daemon);
    let (as_of, _) = admin.rows::<UserPart>(&user_list(None, None), 1);
    let mut other = AdminClient::log_in(&daemon, b"root", b"secret");
    assert_eq!(other.ask(b"\x01\x00\x03eve\x01p\x00"), [1, 0, 0]);
    assert_eq!(other.ask(b"\x01\x06\x07"), [1, 6, 0]);
    let follow = EventsFollow { credit: CREDIT, from: Some(as_of), kinds: Vec::new(), filter: None };
    admin.follow(&Request::Events(follow), 2);
    let mut change = || match admin.happening(2) {
        Happening::Change(change) => change,
        other => panic!("{other:?}"),
    };
    let first = change();
    assert_eq!((first.user.as_bytes(), first.command), (&b"root"[..], 0x0302));
    assert_eq!(first.subject.unwrap().as_str(), "eve");
    let second = change();
    assert_eq!((second.command, second.subject.unwrap().as_str()), (0x0503, "idle-timeout"));
    assert_eq!(second.revision, first.revision.map(|revision| revision + 1));
    assert_eq!(second.source.ip(), std::net::IpAddr::from([127, 0, 0, 1]));
    daemon.stderr().wait_for("changed: user=root");
    admin.ask(&remove(b"eve")).unwrap();
    let Happening::Change(third) = admin.happening(2) else { panic!("not a change") };
    assert_eq!(third.command, 0x0303);
    assert!(admin.is_silent_for(Duration::from_millis(100)));
}
