//! The dialogue of version 1, under a clock of its own. Octets stand as the wire facts have them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::sync_channel;

use pipo_protocol::v1::{ModificationStatus, NumberQuery};
use proptest::prelude::*;

use super::*;
use crate::settings::{Role, UserSpec};
use crate::store::{Check, Door, RefusedBecause, Store, StoreOptions};

/// A record of the store, which alone makes them, of a user who has that door.
pub(super) fn user(name: &str, door: Door) -> Arc<User> {
    let (proxy, admin) = (door == Door::Proxy, door == Door::Admin);
    let spec = UserSpec { name: name.into(), password: b"p".to_vec(), proxy, admin, role: Role::Admin };
    let store = Store::start(vec![spec], StoreOptions::default()).unwrap();
    let (sender, receiver) = sync_channel(1);
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let check = store.check_at(door, source, name.as_bytes(), b"p", Instant::now(), move |verdict| {
        drop(sender.send(verdict));
    });
    match check {
        Check::Accepted(user) => user,
        Check::Pending => match receiver.recv().unwrap() {
            Verdict::Accepted(user) => user,
            Verdict::Refused(because) => panic!("{because:?}"),
        },
        Check::Refused(because) => panic!("{because:?}"),
    }
}

fn accepted(user: Arc<User>) -> Input<'static> {
    Input::Verdict(Verdict::Accepted(user), 0)
}

fn refused_input() -> Input<'static> {
    Input::Verdict(Verdict::Refused(RefusedBecause::Credentials), 0)
}

struct Run {
    session: Session,
    epoch: Instant,
    now: Instant,
}

impl Run {
    fn new() -> Self {
        let epoch = Instant::now();
        Self { session: Session::new(epoch, epoch), epoch, now: epoch }
    }

    fn at(&mut self, ms: u64) -> &mut Self {
        self.now = self.epoch + Duration::from_millis(ms);
        self
    }

    fn give(&mut self, input: Input<'_>) -> &mut Self {
        self.session.handle(input, self.now);
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.give(Input::Message(bytes))
    }

    fn next(&mut self) -> Option<Output> {
        self.session.next_output(0, self.now)
    }

    fn sends(&mut self, expected: &[u8]) -> &mut Self {
        match self.next() {
            Some(Output::Send(message)) => assert_eq!(message, expected),
            other => panic!("{other:?} instead of {expected:02x?}"),
        }
        self
    }

    fn closes(&mut self, expected: Ending) -> &mut Self {
        assert!(matches!(self.next(), Some(Output::Close(ending)) if ending == expected));
        self.is_quiet()
    }

    fn is_quiet(&mut self) -> &mut Self {
        let output = self.next();
        assert!(output.is_none(), "{output:?}");
        self
    }

    fn logged_in() -> Self {
        let mut run = Self::new();
        run.bytes(b"\x01\x05admin\x01p");
        assert!(matches!(run.next(), Some(Output::Check(_))));
        run.is_quiet().give(accepted(user("admin", Door::Admin))).sends(&[1, 0]).is_quiet();
        run
    }
}

#[test]
fn another_version_is_answered_as_soon_as_its_octet_is_read() {
    for version in [0, 3, 5, 255] {
        let mut run = Run::new();
        run.is_quiet().bytes(&[version]).sends(&[1, 2]).closes(Ending::Version(version));
        run.bytes(&[1, 1]).is_quiet();
        assert_eq!(run.session.deadline(), None);
    }
}

#[test]
fn an_administrator_is_let_in_and_asked_for_nothing_more() {
    let run = Run::logged_in();
    assert_eq!(run.session.user().unwrap().name().as_octets(), b"admin");
    assert_eq!(run.session.deadline(), None, "administrators may be idle");
}

#[test]
fn a_refusal_comes_with_the_next_tick_whatever_the_reason() {
    for (reason, user) in [("credentials", None), ("role", Some(user("plain", Door::Proxy)))] {
        let mut run = Run::new();
        run.at(10).bytes(b"\x01\x01u\x01p");
        assert!(matches!(run.next(), Some(Output::Check(_))), "{reason}");
        run.at(30).give(user.map_or_else(refused_input, accepted)).is_quiet();
        assert_eq!(run.session.deadline(), Some(run.epoch + limits::REFUSAL_TICK), "{reason}");
        run.at(249).is_quiet().at(250).sends(&[1, 1]).closes(Ending::LoginRefused);
    }
    Run::new().bytes(&[1, 0, 1, b'p']).sends(&[1, 1]).closes(Ending::LoginRefused);
}

#[test]
fn half_a_login_ends_after_its_time() {
    for half in [&b""[..], b"\x01", b"\x01\x05adm"] {
        let mut run = Run::new();
        run.bytes(half).is_quiet().at(9_999).is_quiet();
        assert_eq!(run.session.deadline(), Some(run.epoch + limits::ADMIN_LOGIN_TIME_MAX));
        run.at(10_000).closes(Ending::LoginTimeout);
    }
}

#[test]
fn requests_are_asked_one_after_the_other() {
    let mut run = Run::logged_in();
    run.bytes(&[0, 2, 1, 6, 60, 9, 9]);
    assert!(matches!(run.next(), Some(Output::Ask(Request::Query(_)))));
    run.is_quiet();
    run.give(Input::Reply(Reply::Number { query: NumberQuery::CurrentConnections, value: 7 }));
    run.sends(&[0, 2, 0, 7]);
    assert!(matches!(run.next(), Some(Output::Ask(Request::Modification(_)))));
    run.give(Input::Reply(Reply::Modified { cmd: 6, status: ModificationStatus::Done })).sends(&[1, 6, 0]);
    assert!(matches!(run.next(), Some(Output::Ask(Request::UnknownType(9)))));
    run.give(Input::Reply(Reply::UnknownType)).sends(&[0xff, 0xff]).is_quiet();
}

#[test]
fn answers_that_nobody_waits_for_are_dropped() {
    let mut run = Run::logged_in();
    run.give(Input::Reply(Reply::UnknownType)).give(refused_input()).is_quiet();
    assert!(run.session.user().is_some());
}

#[test]
fn requests_may_follow_the_login_at_once() {
    let mut run = Run::new();
    run.bytes(b"\x01\x05admin\x01p\x00\x01");
    assert!(matches!(run.next(), Some(Output::Check(_))));
    run.is_quiet().give(accepted(user("admin", Door::Admin))).sends(&[1, 0]);
    assert!(matches!(run.next(), Some(Output::Ask(_))));
    assert_eq!(run.session.backlog_bytes(), 0);
}

/// What comes out for bytes that come in pieces; requests are answered at once.
fn outputs(pieces: &[&[u8]], admin: &Arc<User>) -> Vec<String> {
    let mut run = Run::new();
    let mut seen = Vec::new();
    for piece in pieces {
        run.bytes(piece);
        while let Some(output) = run.next() {
            seen.push(format!("{output:?}"));
            match output {
                Output::Check(_) => drop(run.give(accepted(Arc::clone(admin)))),
                Output::Ask(_) => drop(run.give(Input::Reply(Reply::UnknownType))),
                Output::Send(_)
                | Output::Close(_)
                | Output::Challenge(_)
                | Output::Prove { .. }
                | Output::Request(..) => {}
            }
        }
    }
    seen
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_as_the_whole(
        requests in proptest::collection::vec(any::<u8>(), 0..300),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
    ) {
        static ADMIN: std::sync::OnceLock<Arc<User>> = std::sync::OnceLock::new();
        let admin = ADMIN.get_or_init(|| user("admin", Door::Admin));
        let bytes = [&b"\x01\x05admin\x01p"[..], &requests].concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(outputs(&pieces, admin), outputs(&[&bytes], admin));
    }
}
