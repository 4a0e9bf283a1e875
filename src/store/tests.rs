//! The store as its callers see it.

use super::*;
use crate::limits::{FAILURES_PER_SOURCE_MAX, FAILURES_WINDOW, HASH_QUEUE_PER_SOURCE_MAX};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use std::sync::mpsc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const ITERATIONS: u32 = 4096;

fn options() -> StoreOptions {
    StoreOptions { iterations: ITERATIONS, hash_threads: 1, users_count_max: 100 }
}

fn spec(name: &str, password: &str, doors: Doors) -> UserSpec {
    let role = if doors.admin { Role::Admin } else { Role::User };
    UserSpec { name: name.into(), password: password.into(), proxy: doors.proxy, admin: doors.admin, role }
}

fn start(users: &[(&str, &str, Doors)]) -> Arc<Store> {
    let users = users.iter().map(|&(name, password, doors)| spec(name, password, doors)).collect();
    Store::start(users, options()).unwrap()
}

fn name(text: &str) -> UserName {
    UserName::new(text.as_bytes()).unwrap()
}

fn source(number: u8) -> IpAddr {
    [192, 0, 2, number].into()
}

fn new_user(text: &str, password: NewPassword, doors: Doors) -> NewUser {
    let role = if doors.admin { Role::Admin } else { Role::User };
    NewUser { name: name(text), password, role, doors }
}

fn clear(password: &str) -> NewPassword {
    NewPassword::Clear(Secret::new(password.as_bytes()))
}

fn verifier(password: &str) -> NewPassword {
    NewPassword::Verifier(ScramVerifier::derive(password.as_bytes(), b"a salt of others", ITERATIONS))
}

/// Calls with a callback and waits for what it is given.
fn wait<T: Send + 'static>(call: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> T {
    let (sender, receiver) = mpsc::channel();
    call(Box::new(move |value| sender.send(value).unwrap()));
    receiver.recv_timeout(SOON).unwrap()
}

/// How an attempt ended, and whether at once.
#[derive(Debug, PartialEq, Eq)]
enum End {
    AtOnce(Result<UserName, RefusedBecause>),
    Later(Result<UserName, RefusedBecause>),
}
use End::{AtOnce, Later};
use RefusedBecause::{Credentials, QueueFull, Throttled};

fn end(attempt: impl FnOnce(Box<dyn FnOnce(Verdict) + Send>) -> Check) -> End {
    let (sender, receiver) = mpsc::channel();
    match attempt(Box::new(move |verdict| sender.send(verdict).unwrap())) {
        Check::Accepted(user) => AtOnce(Ok(user.name().clone())),
        Check::Refused(because) => AtOnce(Err(because)),
        Check::Pending => match receiver.recv_timeout(SOON).unwrap() {
            Verdict::Accepted(user) => Later(Ok(user.name().clone())),
            Verdict::Refused(because) => Later(Err(because)),
        },
    }
}

fn log_in(store: &Store, from: u8, user: &str, password: &str) -> End {
    log_in_at(store, Instant::now(), from, user, password)
}

fn log_in_at(store: &Store, now: Instant, from: u8, user: &str, password: &str) -> End {
    end(|reply| store.check(source(from), user.as_bytes(), password.as_bytes(), now, reply))
}

#[test]
fn users_given_at_start_are_checked_at_once() {
    let store = start(&[("alice", "secret", Doors::PROXY), ("root", "toor", Doors::ADMIN)]);
    assert_eq!(log_in(&store, 1, "alice", "secret"), AtOnce(Ok(name("alice"))));
    assert_eq!(log_in(&store, 1, "alice", "wrong"), AtOnce(Err(Credentials)));
    assert_eq!(log_in(&store, 1, "root", "toor"), AtOnce(Err(Credentials)), "not through this door");
    let admin = |user: &'static [u8], password: &'static [u8]| {
        end(|reply| store.check_at(Door::Admin, source(1), user, password, Instant::now(), reply))
    };
    assert_eq!(admin(b"root", b"toor"), AtOnce(Ok(name("root"))));
    assert_eq!(admin(b"alice", b"secret"), AtOnce(Err(Credentials)));
}

#[test]
fn unknown_users_and_anonymous_are_refused_after_hashing() {
    let store = start(&[("alice", "secret", Doors::PROXY)]);
    for (user, password) in [("nobody", "secret"), ("anonymous", "x"), ("", "")] {
        assert_eq!(log_in(&store, 1, user, password), Later(Err(Credentials)), "{user}");
    }
    assert!(store.directory().find(b"anonymous").is_some());
}

#[test]
fn a_user_known_by_verifier_is_hashed_once() {
    let store = start(&[]);
    assert_eq!(store.directory().proxy_users(), 0);
    wait(|reply| store.add_user(new_user("bob", verifier("pencil"), Doors::PROXY), reply)).unwrap();
    assert_eq!(store.directory().proxy_users(), 1);
    assert_eq!(log_in(&store, 1, "bob", "pen"), Later(Err(Credentials)));
    assert_eq!(log_in(&store, 1, "bob", "pencil"), Later(Ok(name("bob"))));
    assert_eq!(log_in(&store, 1, "bob", "pencil"), AtOnce(Ok(name("bob"))));
    assert_eq!(log_in(&store, 1, "bob", "pen"), AtOnce(Err(Credentials)));
}

#[test]
fn five_failures_a_minute_refuse_a_source_even_with_the_right_password() {
    let store = start(&[("alice", "secret", Doors::PROXY)]);
    let begin = Instant::now();
    for _ in 0..FAILURES_PER_SOURCE_MAX {
        assert_eq!(log_in_at(&store, begin, 1, "alice", "wrong"), AtOnce(Err(Credentials)));
    }
    assert_eq!(log_in_at(&store, begin, 1, "alice", "secret"), AtOnce(Err(Throttled)));
    assert_eq!(log_in_at(&store, begin, 2, "alice", "secret"), AtOnce(Ok(name("alice"))), "nobody is locked");
    let later = begin + FAILURES_WINDOW;
    assert_eq!(log_in_at(&store, later - Duration::from_millis(1), 1, "nobody", "x"), AtOnce(Err(Throttled)));
    assert_eq!(log_in_at(&store, later, 1, "alice", "secret"), AtOnce(Ok(name("alice"))));
}

#[test]
fn a_flood_of_guesses_is_bounded_and_only_the_first_few_are_hashed() {
    let store = start(&[]);
    // The only thread is held in the answer to the first attempt.
    let (held, holding) = mpsc::channel();
    let (let_go, go) = mpsc::channel::<()>();
    let hold = move |_| {
        held.send(()).unwrap();
        go.recv_timeout(SOON).unwrap();
    };
    assert!(matches!(store.check(source(9), b"x", b"x", Instant::now(), hold), Check::Pending));
    holding.recv_timeout(SOON).unwrap();

    let (sender, receiver) = mpsc::channel();
    let attempt = |from: u8| {
        let sender = sender.clone();
        let tell = move |verdict| sender.send((from, verdict)).unwrap();
        store.check(source(from), b"nobody", b"guess", Instant::now(), tell)
    };
    for _ in 0..HASH_QUEUE_PER_SOURCE_MAX {
        assert!(matches!(attempt(1), Check::Pending));
    }
    assert!(matches!(attempt(1), Check::Refused(QueueFull)));
    assert!(matches!(attempt(2), Check::Pending), "others still find room");

    let_go.send(()).unwrap();
    let verdicts: Vec<_> =
        (0..=HASH_QUEUE_PER_SOURCE_MAX).map(|_| receiver.recv_timeout(SOON).unwrap()).collect();
    assert!(verdicts.iter().position(|(from, _)| *from == 2).unwrap() <= 1, "the other's turn comes next");
    let because = |wanted| {
        let refused = |(from, verdict): &&(u8, Verdict)| {
            *from == 1 && matches!(verdict, Verdict::Refused(because) if *because == wanted)
        };
        verdicts.iter().filter(refused).count()
    };
    assert_eq!(because(Credentials), FAILURES_PER_SOURCE_MAX as usize);
    assert_eq!(because(Throttled), HASH_QUEUE_PER_SOURCE_MAX - FAILURES_PER_SOURCE_MAX as usize);
}

#[test]
fn many_connections_of_one_cold_user_are_all_let_in() {
    let store = start(&[]);
    wait(|reply| store.add_user(new_user("bob", verifier("pencil"), Doors::PROXY), reply)).unwrap();
    let (sender, receiver) = mpsc::channel();
    let mut pending = 0;
    for _ in 0..30 {
        let sender = sender.clone();
        let tell = move |verdict| sender.send(matches!(verdict, Verdict::Accepted(_))).unwrap();
        match store.check(source(1), b"bob", b"pencil", Instant::now(), tell) {
            Check::Pending => pending += 1,
            Check::Accepted(_) => {}
            Check::Refused(because) => panic!("{because:?}"),
        }
    }
    assert!((0..pending).all(|_| receiver.recv_timeout(SOON).unwrap()));
}

#[test]
fn a_new_password_drops_the_old_one_and_keeps_what_moves() {
    let store = start(&[("alice", "old", Doors::PROXY)]);
    let before = store.directory().find(b"alice").unwrap();
    assert!(before.live().open_session(None));
    let after = wait(|reply| store.set_password(name("alice"), clear("new"), reply)).unwrap();
    for door in [Door::Proxy, Door::Admin] {
        assert!(!before.is_current(door) && after.is_current(door));
    }
    assert_eq!((after.live().sessions(), after.origin()), (1, Origin::Runtime));
    assert!(Arc::ptr_eq(before.live(), after.live()));
    assert_eq!(log_in(&store, 1, "alice", "old"), AtOnce(Err(Credentials)));
    assert_eq!(log_in(&store, 1, "alice", "new"), AtOnce(Ok(name("alice"))));
    wait(|reply| store.set_password(name("alice"), verifier("newer"), reply)).unwrap();
    assert_eq!(log_in(&store, 1, "alice", "new"), Later(Err(Credentials)));
    assert_eq!(log_in(&store, 1, "alice", "newer"), Later(Ok(name("alice"))));
}

#[test]
fn a_removed_user_is_gone_and_its_name_begins_anew() {
    let store = start(&[("alice", "secret", Doors::PROXY)]);
    let old = store.directory().find(b"alice").unwrap();
    old.live().add_bytes(5, 6);
    let removed = wait(|reply| store.remove_user(name("alice"), reply)).unwrap();
    assert!(Arc::ptr_eq(&removed, &old) && !old.is_current(Door::Proxy) && !old.is_current(Door::Admin));
    assert!(store.directory().present(&old).is_none());
    assert_eq!((store.directory().count(), store.directory().proxy_users()), (1, 0));
    assert_eq!(log_in(&store, 1, "alice", "secret"), Later(Err(Credentials)));
    let again =
        wait(|reply| store.add_user(new_user("alice", clear("secret"), Doors::PROXY), reply)).unwrap();
    assert!(again.is_current(Door::Proxy) && !old.is_current(Door::Proxy));
    assert!(store.directory().present(&old).is_none(), "another of the same name");
    assert!(store.directory().present(&again).is_some());
    assert_eq!(again.live().bytes_up(), 0);
    assert_eq!(log_in(&store, 1, "alice", "secret"), AtOnce(Ok(name("alice"))));
}

#[test]
fn a_door_that_closes_ends_what_came_in_by_it_and_a_role_ends_nothing() {
    let store = start(&[("root", "x", Doors::BOTH), ("alice", "x", Doors::PROXY)]);
    let rights = |role, doors: Option<Doors>| {
        let before = store.directory().find(b"alice").unwrap();
        let after = wait(|reply| store.set_rights(name("alice"), role, doors, reply)).unwrap();
        assert!(after.is_current(Door::Proxy) && after.is_current(Door::Admin));
        assert_eq!((after.role(), after.doors()), (role, doors.unwrap_or(before.doors())));
        assert!(store.directory().present(&before).is_some_and(|present| Arc::ptr_eq(&present, &after)));
        (before.is_current(Door::Proxy), before.is_current(Door::Admin))
    };
    assert_eq!(rights(Role::Admin, Some(Doors::BOTH)), (true, true));
    assert_eq!(rights(Role::Operator, None), (true, true));
    assert_eq!(rights(Role::User, Some(Doors::BOTH)), (true, true));
    assert_eq!(rights(Role::Observer, Some(Doors::ADMIN)), (false, true));
    assert_eq!(log_in(&store, 1, "alice", "x"), AtOnce(Err(Credentials)), "the proxy's door is closed");
    assert_eq!(rights(Role::Observer, Some(Doors::PROXY)), (true, false));
    assert_eq!(log_in(&store, 1, "alice", "x"), AtOnce(Ok(name("alice"))));
}

#[test]
fn every_role_may_come_in_by_the_admin_door_if_it_is_open() {
    let store = start(&[("root", "x", Doors::BOTH), ("alice", "x", Doors::PROXY)]);
    let at_admin =
        || end(|reply| store.check_at(Door::Admin, source(1), b"alice", b"x", Instant::now(), reply));
    assert_eq!(at_admin(), AtOnce(Err(Credentials)));
    for role in [Role::User, Role::Observer, Role::Operator, Role::Admin] {
        wait(|reply| store.set_rights(name("alice"), role, Some(Doors::BOTH), reply)).unwrap();
        assert_eq!(at_admin(), AtOnce(Ok(name("alice"))), "{role:?}");
        assert_eq!(store.directory().admins(), if role == Role::Admin { 2 } else { 1 });
    }
}

#[test]
fn what_cannot_be_done_says_why_and_changes_nothing() {
    let users = vec![spec("root", "x", Doors::BOTH), spec("alice", "x", Doors::PROXY)];
    let store = Store::start(users, StoreOptions { users_count_max: 2, ..options() }).unwrap();
    let add = |user| wait(|reply| store.add_user(user, reply)).unwrap_err();
    let remove = |text| wait(|reply| store.remove_user(name(text), reply)).unwrap_err();
    let password =
        |text, password| wait(|reply| store.set_password(name(text), password, reply)).unwrap_err();
    let rights =
        |text, role, doors| wait(|reply| store.set_rights(name(text), role, Some(doors), reply)).unwrap_err();

    assert_eq!(add(new_user("alice", clear("x"), Doors::PROXY)), UserError::Taken);
    assert_eq!(add(new_user("anonymous", clear("x"), Doors::PROXY)), UserError::Taken);
    assert_eq!(add(new_user("carol", clear("x"), Doors::PROXY)), UserError::NoRoom(2));
    assert_eq!(remove("nobody"), UserError::NotFound);
    assert_eq!(remove("anonymous"), UserError::Anonymous);
    assert_eq!(remove("root"), UserError::LastAdmin);
    assert_eq!(rights("root", Role::User, Doors::BOTH), UserError::LastAdmin);
    assert_eq!(rights("root", Role::Admin, Doors::PROXY), UserError::LastAdmin);
    assert_eq!(rights("anonymous", Role::Admin, Doors::BOTH), UserError::Anonymous);
    assert_eq!(password("nobody", clear("x")), UserError::NotFound);
    assert_eq!(password("anonymous", clear("x")), UserError::Anonymous);
    assert_eq!(password("alice", clear("")), UserError::Password(0));
    assert_eq!(password("alice", clear(&"x".repeat(256))), UserError::Password(256));
    let other = NewPassword::Verifier(ScramVerifier::derive(b"x", b"salt", 5000));
    assert_eq!(password("alice", other), UserError::Iterations { got: 5000, allowed: ITERATIONS });

    assert!(store.directory().list().iter().all(|user| user.is_current(Door::Proxy)));
    assert_eq!(store.directory().count(), 3);
    assert_eq!(log_in(&store, 1, "alice", "x"), AtOnce(Ok(name("alice"))));
}

fn deltas(store: &Store, changes: Vec<UserChange>) -> Result<Vec<UserDelta>, ChangesError> {
    let (sender, receiver) = mpsc::channel();
    store.change(changes, move |result| sender.send(result).unwrap());
    receiver.recv_timeout(SOON).unwrap()
}

#[test]
fn several_changes_are_made_in_their_order_or_none_is() {
    let store = start(&[("root", "x", Doors::BOTH), ("alice", "x", Doors::PROXY)]);
    let add = |text: &str| UserChange::Add(new_user(text, verifier("x"), Doors::PROXY));
    let operator = |text: &str| UserChange::Rights(name(text), Role::Operator, Some(Doors::BOTH));
    let remove = |text: &str| UserChange::Remove(name(text));
    let before = store.directory().list();

    let refused = deltas(&store, vec![remove("alice"), add("bob"), remove("root"), add("carol")]);
    assert_eq!(refused.unwrap_err(), ChangesError { place: 2, error: UserError::LastAdmin });
    let twice = deltas(&store, vec![add("bob"), add("bob")]).unwrap_err();
    assert_eq!(twice, ChangesError { place: 1, error: UserError::Taken });
    let after = store.directory().list();
    assert!(
        before.len() == after.len() && before.iter().zip(&after).all(|(one, other)| Arc::ptr_eq(one, other))
    );

    let made = deltas(&store, vec![add("bob"), operator("bob"), remove("alice"), add("alice")]).unwrap();
    let names: Vec<_> = made.iter().map(|delta| (delta.name.to_string(), delta.ended())).collect();
    assert_eq!(names, [("alice".into(), Doors::BOTH), ("bob".into(), Doors::NONE)]);
    assert_eq!(store.directory().find(b"bob").unwrap().role(), Role::Operator);
    assert!(!before[0].is_current(Door::Proxy), "the former alice");
    assert_eq!(store.directory().count(), 4);
}

#[test]
fn a_rehearsal_says_what_would_be_and_changes_nothing() {
    let store = start(&[("root", "x", Doors::BOTH)]);
    let ada = NewUser { role: Role::Admin, ..new_user("ada", verifier("x"), Doors::BOTH) };
    let remove = |text: &str| UserChange::Remove(name(text));
    let changes = [remove("root"), UserChange::Add(ada), remove("root"), remove("root"), remove("ada")];
    let rehearsed: Vec<_> = store.rehearse(&changes).into_iter().map(|each| each.map(|_| ())).collect();
    let expected =
        [Err(UserError::LastAdmin), Ok(()), Ok(()), Err(UserError::NotFound), Err(UserError::LastAdmin)];
    assert_eq!(rehearsed, expected);
    assert_eq!((store.directory().count(), store.directory().admins()), (2, 1));
}

#[test]
fn changes_taken_back_leave_everybody_as_before_but_nothing_that_ended() {
    let given = [("root", "x", Doors::BOTH), ("alice", "x", Doors::PROXY), ("bob", "x", Doors::BOTH)];
    let store = start(&given);
    let old = |text: &str| store.directory().find(text.as_bytes()).unwrap();
    let (alice, bob, root) = (old("alice"), old("bob"), old("root"));
    let made = deltas(
        &store,
        vec![
            UserChange::Password(name("alice"), verifier("y")),
            UserChange::Remove(name("alice")),
            UserChange::Rights(name("bob"), Role::User, Some(Doors::ADMIN)),
            UserChange::Password(name("root"), verifier("y")),
            UserChange::Add(new_user("carol", verifier("x"), Doors::PROXY)),
        ],
    )
    .unwrap();
    assert_eq!(log_in(&store, 1, "root", "y"), Later(Ok(name("root"))));
    let (carol, root_between) = (old("carol"), old("root"));
    wait(|reply| store.restore(made.into(), reply)).unwrap();

    assert!(store.directory().find(b"carol").is_none() && !carol.is_current(Door::Proxy));
    for (before, text) in [(&alice, "alice"), (&bob, "bob"), (&root, "root")] {
        let now = old(text);
        assert_eq!(
            (now.role(), now.doors(), now.origin()),
            (before.role(), before.doors(), Origin::Configured)
        );
        assert!(now.is_current(Door::Proxy) && now.is_current(Door::Admin));
        assert!(!before.is_current(Door::Proxy), "{text}: what has ended stays ended");
        assert!(Arc::ptr_eq(now.live(), before.live()));
        assert_eq!(log_in(&store, 1, text, "x"), AtOnce(Ok(name(text))));
    }
    assert!(!root_between.is_current(Door::Proxy), "who came in by the password that was taken back");
    assert!(bob.is_current(Door::Admin), "what had not ended goes on");
    let again = given.map(|(name, password, doors)| spec(name, password, doors)).to_vec();
    let replaced = wait(|reply| store.replace_configured(again, reply)).unwrap();
    assert_eq!(replaced, Replaced::default(), "they are the configuration's again");
}

#[test]
fn the_last_admin_may_go_once_there_is_another() {
    let store = start(&[("root", "x", Doors::ADMIN)]);
    wait(|reply| store.add_user(new_user("ada", clear("x"), Doors::BOTH), reply)).unwrap();
    wait(|reply| store.remove_user(name("root"), reply)).unwrap();
    assert_eq!(wait(|reply| store.remove_user(name("ada"), reply)).unwrap_err(), UserError::LastAdmin);
}

#[test]
fn a_configuration_read_again_changes_what_it_changed() {
    let store = start(&[
        ("stays", "x", Doors::PROXY),
        ("goes", "x", Doors::PROXY),
        ("password", "old", Doors::PROXY),
        ("grows", "x", Doors::PROXY),
    ]);
    let before = |text: &str| store.directory().find(text.as_bytes()).unwrap();
    let olds = ["stays", "goes", "password", "grows"].map(before);
    let users = vec![
        spec("comes", "x", Doors::PROXY),
        spec("grows", "x", Doors::BOTH),
        spec("password", "new", Doors::PROXY),
        spec("stays", "replaced by the next line", Doors::ADMIN),
        spec("stays", "x", Doors::PROXY),
    ];
    let replaced = wait(|reply| store.replace_configured(users.clone(), reply)).unwrap();
    let names = |texts: &[&str]| texts.iter().map(|text| name(text)).collect::<Vec<_>>();
    let expected = Replaced {
        added: names(&["comes"]),
        removed: names(&["goes"]),
        changed: names(&["grows", "password"]),
    };
    assert_eq!(replaced, expected);
    assert_eq!(olds.map(|user| user.is_current(Door::Proxy)), [true, false, false, true]);
    assert_eq!(log_in(&store, 1, "password", "new"), AtOnce(Ok(name("password"))));
    assert_eq!(log_in(&store, 1, "comes", "x"), AtOnce(Ok(name("comes"))));
    let replaced = wait(|reply| store.replace_configured(users, reply)).unwrap();
    assert_eq!(replaced, Replaced::default());
}

#[test]
fn what_was_changed_while_running_goes_before_the_configuration() {
    let given = [("gone", "x", Doors::PROXY), ("both", "x", Doors::PROXY), ("mine", "x", Doors::PROXY)];
    let store = start(&given);
    wait(|reply| store.remove_user(name("gone"), reply)).unwrap();
    wait(|reply| store.set_password(name("mine"), clear("own"), reply)).unwrap();
    wait(|reply| store.set_password(name("both"), clear("own"), reply)).unwrap();
    wait(|reply| store.remove_user(name("both"), reply)).unwrap();
    wait(|reply| store.add_user(new_user("added", clear("x"), Doors::PROXY), reply)).unwrap();
    let again = given.map(|(name, password, doors)| spec(name, password, doors)).to_vec();
    let replace = |users: Vec<UserSpec>| wait(|reply| store.replace_configured(users, reply)).unwrap();
    assert_eq!(replace(again.clone()), Replaced::default());
    let exists = |text: &str| store.directory().find(text.as_bytes()).is_some();
    assert_eq!(["gone", "both", "mine", "added"].map(exists), [false, false, true, true]);
    assert_eq!(log_in(&store, 1, "mine", "own"), AtOnce(Ok(name("mine"))));
    // Leaving the configuration and coming back is a wish of its own.
    assert_eq!(replace(again[1..].to_vec()), Replaced::default());
    assert_eq!(replace(again).added, [name("gone")]);
}

#[test]
fn a_bad_configuration_changes_nothing() {
    let store = start(&[("alice", "x", Doors::PROXY)]);
    let long = "x".repeat(256);
    for (user, error) in [
        (spec("", "x", Doors::PROXY), UserError::Name(0)),
        (spec(&long, "x", Doors::PROXY), UserError::Name(256)),
        (spec("bob", "", Doors::PROXY), UserError::Password(0)),
        (spec("anonymous", "x", Doors::PROXY), UserError::Anonymous),
    ] {
        let users = vec![spec("carol", "x", Doors::PROXY), user.clone()];
        assert_eq!(wait(|reply| store.replace_configured(users.clone(), reply)).unwrap_err(), error);
        assert!(
            matches!(Store::start(users, options()), Err(StartError::User { error: e, .. }) if e == error)
        );
    }
    let many: Vec<_> = (0..101).map(|number| spec(&format!("u{number}"), "x", Doors::PROXY)).collect();
    let refused = wait(|reply| store.replace_configured(many.clone(), reply)).unwrap_err();
    assert_eq!(refused, UserError::NoRoom(100));
    assert!(matches!(Store::start(many, options()), Err(StartError::Users(UserError::NoRoom(100)))));
    assert_eq!(store.directory().count(), 2);
    assert_eq!(log_in(&store, 1, "alice", "x"), AtOnce(Ok(name("alice"))));
}

#[test]
fn ten_thousand_users_start_without_a_slow_hash() {
    let users = (0..10_000).map(|number| spec(&format!("user{number}"), "x", Doors::PROXY)).collect();
    let store = Store::start(users, StoreOptions { users_count_max: 10_000, ..options() }).unwrap();
    assert_eq!(store.directory().proxy_users(), 10_000);
    let ready = |user: &Arc<User>| user.credentials.as_ref().is_some_and(|c| c.verifier_ready().is_some());
    assert!(!store.directory().list().iter().any(ready));
    assert_eq!(log_in(&store, 1, "user9999", "x"), AtOnce(Ok(name("user9999"))));
}

/// What a SCRAM client computes: the proof, and the server signature it expects (RFC 5802 §3).
fn scram_client(password: &[u8], challenge: &Challenge, auth_message: &[u8]) -> ([u8; 32], [u8; 32]) {
    let mac = |key: &[u8], message: &[u8]| -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(message);
        mac.finalize().into_bytes().into()
    };
    let salted =
        pbkdf2::pbkdf2_array::<Hmac<Sha256>, 32>(password, &challenge.salt, challenge.iterations).unwrap();
    let client_key = mac(&salted, b"Client Key");
    let stored_key: [u8; 32] = Sha256::digest(client_key).into();
    let signature = mac(&stored_key, auth_message);
    let proof = std::array::from_fn(|place| client_key[place] ^ signature[place]);
    (proof, mac(&mac(&salted, b"Server Key"), auth_message))
}

#[test]
fn a_scram_client_logs_in_and_can_check_the_server() {
    let store = start(&[("root", "toor", Doors::ADMIN)]);
    let attempt = |user: &'static [u8], proof| {
        end(|reply| {
            store.check_proof(Door::Admin, source(1), user, b"messages", proof, Instant::now(), reply)
        })
    };
    let challenge = store.challenge(b"root");
    let (proof, server_signature) = scram_client(b"toor", &challenge, b"messages");
    assert_eq!(attempt(b"root", proof), Later(Ok(name("root"))));
    let user = store.directory().find(b"root").unwrap();
    assert_eq!(user.server_signature(b"messages"), Some(server_signature));
    let (wrong, _) = scram_client(b"root", &challenge, b"messages");
    assert_eq!(attempt(b"root", wrong), Later(Err(Credentials)));
    assert_eq!(attempt(b"nobody", proof), Later(Err(Credentials)));
    assert_eq!(attempt(b"anonymous", proof), Later(Err(Credentials)));
    for _ in 0..2 {
        assert_eq!(attempt(b"root", wrong), Later(Err(Credentials)));
    }
    assert_eq!(attempt(b"root", proof), AtOnce(Err(Throttled)));
}

#[test]
fn a_challenge_does_not_tell_whether_a_user_exists() {
    let store = start(&[("alice", "x", Doors::PROXY)]);
    let (known, unknown) = (store.challenge(b"alice"), store.challenge(b"nobody"));
    assert_eq!((known.salt.len(), known.iterations), (unknown.salt.len(), unknown.iterations));
    assert_eq!((store.challenge(b"alice"), store.challenge(b"nobody")), (known.clone(), unknown.clone()));
    assert_ne!(known.salt, unknown.salt);
    assert_ne!(store.challenge(b"nemo").salt, unknown.salt);
}

#[test]
fn readers_find_a_user_while_it_changes() {
    let store = start(&[("alice", "x", Doors::PROXY), ("root", "x", Doors::BOTH)]);
    thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        let store = &store;
        let reader = scope.spawn(move || {
            loop {
                let last = stopped.try_recv() != Err(mpsc::TryRecvError::Empty);
                let user = store.directory().find(b"alice").unwrap();
                assert!(user.doors().proxy && store.directory().proxy_users() == 2);
                if last {
                    return user.role();
                }
            }
        });
        for round in 0..200 {
            let role = if round % 2 == 0 { Role::User } else { Role::Admin };
            wait(|reply| store.set_rights(name("alice"), role, Some(Doors::BOTH), reply)).unwrap();
        }
        stop.send(()).unwrap();
        assert_eq!(reader.join().unwrap(), Role::Admin);
    });
}

#[test]
fn a_store_that_is_busy_says_so_at_once() {
    let store = start(&[("root", "x", Doors::BOTH)]);
    let (held, holding) = mpsc::channel();
    let (let_go, go) = mpsc::channel::<()>();
    store.remove_user(name("nobody"), move |_| {
        held.send(()).unwrap();
        go.recv_timeout(SOON).unwrap();
    });
    holding.recv_timeout(SOON).unwrap();
    for _ in 0..STORE_COMMANDS_MAX {
        store.remove_user(name("nobody"), |_| ());
    }
    assert_eq!(wait(|reply| store.remove_user(name("nobody"), reply)).unwrap_err(), UserError::Busy);
    let_go.send(()).unwrap();
}

#[test]
fn debug_shows_no_password() {
    let store = start(&[("alice", "hunter2", Doors::PROXY)]);
    let user = store.directory().find(b"alice").unwrap();
    let new = new_user("bob", clear("hunter2"), Doors::PROXY);
    let shown = format!("{store:?} {user:?} {:?} {new:?}", store.directory());
    assert!(!shown.contains("hunter2") && !shown.contains(&format!("{:?}", b"hunter2")), "{shown}");
    assert!(shown.contains("alice") && shown.contains("Secret(***)"), "{shown}");
}
