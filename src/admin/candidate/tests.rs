//! Random commits, confirmations, rollbacks and time, on real settings and a real store, against a model that keeps
//! whole copies of everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pipo_protocol::v2::messages::{Salt, Verifier};
use pipo_protocol::v2::{self as wire, Key};
use proptest::prelude::*;

use super::*;
use crate::admin::revisions::{Conflict, NotPending, Revisions, confirm_time};
use crate::limits::{CONFIRM_SECONDS_MAX, REVISIONS_KEPT_MAX};
use crate::settings::{Layer, RuntimeChanges, UserSpec};
use crate::store::{Door, StoreOptions, User};

const SOON: Duration = Duration::from_secs(10);
const NAMES: [&str; 3] = ["alice", "bob", "root"];
const ROLES: [Role; 4] = [Role::User, Role::Observer, Role::Operator, Role::Admin];
const SETTINGS: [(&str, [&str; 2]); 3] =
    [("buffer-size", ["1024", "2048"]), ("idle-timeout", ["off", "7 s"]), ("auth", ["none", "optional"])];

// ---- what is changed ------------------------------------------------------------------------------------

fn blank(kind: ChangeKind) -> Change {
    Change { kind, setting: None, value: None, user: None, verifier: None, role: None, doors: None }
}

fn set(name: &str, value: &str) -> Change {
    let (setting, value) = (Some(Word::cut(name)), Some(Text::cut(value)));
    Change { setting, value, ..blank(ChangeKind::Set) }
}

fn of_user(kind: ChangeKind, user: &str) -> Change {
    Change { user: Some(Name::new(user.as_bytes()).unwrap()), ..blank(kind) }
}

/// A verifier of which nothing counts but its salt, by which it is known again.
fn verifier(mark: u8) -> Verifier {
    Verifier {
        salt: Salt::new([mark; 16]).unwrap(),
        iterations: 4096,
        stored_key: Key::new([mark; 32]),
        server_key: Key::new([mark; 32]),
    }
}

fn wire_role(role: Role) -> wire::Role {
    wire::Role::from_name(role.name()).unwrap()
}

fn add(user: &str, role: Role, mark: u8) -> Change {
    let (role, verifier) = (Some(wire_role(role)), Some(verifier(mark)));
    Change { role, verifier, ..of_user(ChangeKind::UserAdd, user) }
}

fn password(user: &str, mark: u8) -> Change {
    Change { verifier: Some(verifier(mark)), ..of_user(ChangeKind::UserPassword, user) }
}

fn role(user: &str, role: Role, doors: Option<wire::Doors>) -> Change {
    Change { role: Some(wire_role(role)), doors, ..of_user(ChangeKind::UserRole, user) }
}

// ---- the real thing -------------------------------------------------------------------------------------

/// What the control loop does, without workers and associations.
struct World {
    resolved: Resolved,
    store: Arc<Store>,
    revisions: Revisions<RuntimeChanges, Arc<[UserDelta]>, u8>,
    now: Instant,
    /// Every record that ever was, and whether sessions of it had to end.
    records: Vec<(Arc<User>, bool)>,
}

fn wait<T: Send + 'static>(call: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> T {
    let (sender, receiver) = mpsc::channel();
    call(Box::new(move |value| sender.send(value).unwrap()));
    receiver.recv_timeout(SOON).unwrap()
}

impl World {
    fn new() -> Self {
        let layer = || Layer::new(Source::Flag);
        let resolved = Resolved::from_layers(layer(), Layer::new(Source::Environment)).unwrap();
        let root = UserSpec {
            name: b"root".to_vec(),
            password: b"x".to_vec(),
            proxy: true,
            admin: true,
            role: Role::Admin,
        };
        let store = Store::start(vec![root], StoreOptions::default()).unwrap();
        let revisions = Revisions::new(resolved.runtime_changes());
        Self { resolved, store, revisions, now: Instant::now(), records: Vec::new() }
    }

    fn commit(
        &mut self,
        base: Option<u64>,
        changes: &[Change],
        confirm: Option<(u8, Duration)>,
    ) -> Result<(), Status> {
        self.revisions.check(base).map_err(|_| Status::Conflict)?;
        let plan = plan(changes, &self.resolved, &self.store);
        plan.refusal().map_err(|refusal| refusal.status)?;
        let rehearsed = plan.deltas.iter().map(user_row).collect::<Vec<_>>();
        let made = wait(|reply| self.store.change(plan.users, reply)).expect("it was rehearsed");
        let mut really = made.iter().map(user_row).collect::<Vec<_>>();
        let mut rehearsed = rehearsed;
        let by_name = |row: &Option<DiffRow>| {
            row.as_ref().and_then(|row| row.user.clone()).map(|n| n.as_bytes().to_vec())
        };
        really.sort_by_key(by_name);
        rehearsed.sort_by_key(by_name);
        assert_eq!(really, rehearsed, "a rehearsal tells what will be");
        let before = self.resolved.runtime_changes();
        self.resolved = plan.resolved;
        let after = self.resolved.runtime_changes();
        match confirm {
            None => self.revisions.advance(after),
            Some((who, time)) => {
                self.revisions.commit_until(self.now + time, who, made.into(), before, after)
            }
        };
        Ok(())
    }

    fn take_back(&mut self, pending: crate::admin::revisions::Pending<RuntimeChanges, Arc<[UserDelta]>, u8>) {
        self.resolved.return_to(&pending.before).unwrap();
        wait(|reply| self.store.restore(pending.undo, reply)).unwrap();
        self.revisions.advance(self.resolved.runtime_changes());
    }

    fn rollback_to(&mut self, revision: u64) -> Result<(), Status> {
        self.revisions.check(None).map_err(|_| Status::Conflict)?;
        let changes = self.revisions.settings_of(revision).ok_or(Status::NotFound)?;
        self.resolved.return_to(changes).unwrap();
        self.revisions.advance(self.resolved.runtime_changes());
        Ok(())
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if let Some(pending) = self.revisions.take_expired(self.now) {
            self.take_back(pending);
        }
    }

    fn settings(&self) -> Vec<String> {
        SETTINGS.map(|(name, _)| crate::settings::show(&self.resolved.settings, name).unwrap()).to_vec()
    }

    /// Whoever has ended stays ended.
    fn check_records(&mut self) {
        for (user, ended) in &mut self.records {
            let is_current = user.is_current(Door::Proxy);
            assert!(!(*ended && is_current), "{user:?} lives again");
            *ended = !is_current;
        }
        for user in self.store.directory().list() {
            assert!(user.is_current(Door::Proxy) && user.is_current(Door::Admin), "{user:?} cannot log in");
            self.records.push((user, false));
        }
    }
}

// ---- the model ------------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq)]
struct State {
    /// Changes at run time only.
    settings: BTreeMap<&'static str, &'static str>,
    /// Role, doors (as they travel) and the mark of the password.
    users: BTreeMap<&'static str, (Role, u8, u8)>,
}

struct Model {
    state: State,
    number: u64,
    kept: BTreeMap<u64, BTreeMap<&'static str, &'static str>>,
    pending: Option<(u64, u8, Duration, State)>,
    now: Duration,
}

/// A change as the model knows it.
#[derive(Clone, Debug)]
enum Step {
    Set(usize, usize),
    Reset(usize),
    SetNonsense,
    SetAtStartOnly,
    Add(usize, usize, u8),
    Remove(usize),
    Password(usize, u8),
    Role(usize, usize, Option<u8>),
}

impl Step {
    fn change(&self) -> Change {
        match *self {
            Self::Set(setting, value) => set(SETTINGS[setting].0, SETTINGS[setting].1[value]),
            Self::Reset(setting) => {
                Change { setting: Some(Word::cut(SETTINGS[setting].0)), ..blank(ChangeKind::Reset) }
            }
            Self::SetNonsense => set("buffer-size", "nonsense"),
            Self::SetAtStartOnly => set("workers", "1"),
            Self::Add(name, of_role, mark) => add(NAMES[name], ROLES[of_role], mark),
            Self::Remove(name) => of_user(ChangeKind::UserRemove, NAMES[name]),
            Self::Password(name, mark) => password(NAMES[name], mark),
            Self::Role(name, to, doors) => role(NAMES[name], ROLES[to], doors.map(wire::Doors::from)),
        }
    }
}

const DOOR_ADMIN: u8 = 2;

impl State {
    fn is_admin(&self, name: &str) -> bool {
        self.users.get(name).is_some_and(|(role, doors, _)| *role == Role::Admin && doors & DOOR_ADMIN != 0)
    }

    fn is_last_admin(&self, name: &str) -> bool {
        self.is_admin(name) && NAMES.iter().filter(|name| self.is_admin(name)).count() == 1
    }

    fn make(&mut self, step: &Step) -> Result<(), Status> {
        match *step {
            Step::Set(setting, value) => {
                self.settings.insert(SETTINGS[setting].0, SETTINGS[setting].1[value]);
            }
            Step::Reset(setting) => {
                self.settings.remove(SETTINGS[setting].0);
            }
            Step::SetNonsense => return Err(Status::Invalid),
            Step::SetAtStartOnly => return Err(Status::StartOnly),
            Step::Add(name, role, mark) => {
                if self.users.contains_key(NAMES[name]) {
                    return Err(Status::Exists);
                }
                let doors = if ROLES[role] == Role::User { 1 } else { 3 };
                self.users.insert(NAMES[name], (ROLES[role], doors, mark));
            }
            Step::Remove(name) => {
                if !self.users.contains_key(NAMES[name]) {
                    return Err(Status::NotFound);
                }
                if self.is_last_admin(NAMES[name]) {
                    return Err(Status::LastAdmin);
                }
                self.users.remove(NAMES[name]);
            }
            Step::Password(name, mark) => {
                self.users.get_mut(NAMES[name]).ok_or(Status::NotFound)?.2 = mark;
            }
            Step::Role(name, role, doors) => {
                let (_, present, mark) = *self.users.get(NAMES[name]).ok_or(Status::NotFound)?;
                let doors = doors.unwrap_or(present);
                let stays = ROLES[role] == Role::Admin && doors & DOOR_ADMIN != 0;
                if self.is_last_admin(NAMES[name]) && !stays {
                    return Err(Status::LastAdmin);
                }
                self.users.insert(NAMES[name], (ROLES[role], doors, mark));
            }
        }
        Ok(())
    }
}

impl Model {
    fn new() -> Self {
        let state =
            State { settings: BTreeMap::new(), users: BTreeMap::from([("root", (Role::Admin, 3, 0))]) };
        Self {
            kept: BTreeMap::from([(1, state.settings.clone())]),
            state,
            number: 1,
            pending: None,
            now: Duration::ZERO,
        }
    }

    fn advance(&mut self) {
        self.number += 1;
        self.kept.insert(self.number, self.state.settings.clone());
        if self.kept.len() > REVISIONS_KEPT_MAX {
            self.kept.pop_first();
        }
    }

    fn commit(
        &mut self,
        base: Option<u64>,
        steps: &[Step],
        confirm: Option<(u8, Duration)>,
    ) -> Result<(), Status> {
        if self.pending.is_some() || base.is_some_and(|base| base != self.number) {
            return Err(Status::Conflict);
        }
        let before = self.state.clone();
        let mut next = before.clone();
        // Settings are looked at on their own, and the first change that has a problem counts.
        let mut first = None;
        for step in steps {
            first = first.or(next.make(step).err());
        }
        if let Some(status) = first {
            return Err(status);
        }
        self.state = next;
        self.advance();
        self.pending = confirm.map(|(who, time)| (self.number, who, self.now + time, before));
        Ok(())
    }

    fn take_back(&mut self) -> Result<(), Status> {
        let (_, _, _, before) = self.pending.take().ok_or(Status::NotFound)?;
        self.state = before;
        self.advance();
        Ok(())
    }

    fn confirm(&mut self, who: u8, revision: Option<u64>) -> Result<(), Status> {
        let (number, by, ..) = self.pending.as_ref().ok_or(Status::NotFound)?;
        if revision.is_some_and(|revision| revision != *number) {
            return Err(Status::Conflict);
        }
        if *by != who {
            return Err(Status::NotAllowed);
        }
        self.pending = None;
        Ok(())
    }

    fn rollback_to(&mut self, revision: u64) -> Result<(), Status> {
        if self.pending.is_some() {
            return Err(Status::Conflict);
        }
        self.state.settings = self.kept.get(&revision).ok_or(Status::NotFound)?.clone();
        self.advance();
        Ok(())
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.pending.as_ref().is_some_and(|(_, _, until, _)| self.now >= *until) {
            self.take_back().unwrap();
        }
    }
}

// ---- both, side by side ---------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Op {
    /// Base as how far behind it is, changes, and who may confirm within how many seconds.
    Commit(Option<u64>, Vec<Step>, Option<(u8, u32)>),
    Confirm(u8, Option<u64>),
    TakeBack,
    /// As how many revisions ago.
    RollbackTo(u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..SETTINGS.len(), 0..2_usize).prop_map(|(setting, value)| Step::Set(setting, value)),
        2 => (0..SETTINGS.len()).prop_map(Step::Reset),
        1 => Just(Step::SetNonsense),
        1 => Just(Step::SetAtStartOnly),
        4 => (0..NAMES.len(), 0..4_usize, 1..9_u8).prop_map(|(name, role, mark)| Step::Add(name, role, mark)),
        3 => (0..NAMES.len()).prop_map(Step::Remove),
        2 => (0..NAMES.len(), 1..9_u8).prop_map(|(name, mark)| Step::Password(name, mark)),
        3 => (0..NAMES.len(), 0..4_usize, proptest::option::of(1..=3_u8))
            .prop_map(|(name, role, doors)| Step::Role(name, role, doors)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let base = proptest::option::of(prop_oneof![4 => Just(0_u64), 1 => Just(1)]);
    let confirm = proptest::option::of((0..2_u8, 1..20_u32));
    let changes = proptest::collection::vec(step(), 1..4);
    prop_oneof![
        6 => (base, changes, confirm).prop_map(|(base, changes, confirm)| Op::Commit(base, changes, confirm)),
        2 => (0..2_u8, proptest::option::of(0..2_u64)).prop_map(|(who, revision)| Op::Confirm(who, revision)),
        1 => Just(Op::TakeBack),
        1 => (0..40_u64).prop_map(Op::RollbackTo),
        2 => (1..15_u64).prop_map(Op::Pass),
    ]
}

fn run(op: &Op, world: &mut World, model: &mut Model) {
    let number = model.number;
    assert_eq!(world.revisions.number(), number);
    let (real, wanted) = match op {
        Op::Commit(behind, steps, confirm) => {
            let base = behind.map(|behind| number - behind.min(number));
            let confirm = confirm.map(|(who, seconds)| (who, confirm_time(seconds).unwrap()));
            let changes: Vec<_> = steps.iter().map(Step::change).collect();
            (world.commit(base, &changes, confirm), model.commit(base, steps, confirm))
        }
        Op::Confirm(who, behind) => {
            let revision = behind.map(|behind| number - behind.min(number));
            let real = world.revisions.confirm(revision, |by| by == who);
            let real = real.map(|_| ()).map_err(|error| Refusal::from(error).status);
            (real, model.confirm(*who, revision))
        }
        Op::TakeBack => {
            let real = world.revisions.take_pending().map(|pending| world.take_back(pending));
            (real.map_err(|error| Refusal::from(error).status), model.take_back())
        }
        Op::RollbackTo(behind) => {
            let revision = number.saturating_sub(*behind);
            (world.rollback_to(revision), model.rollback_to(revision))
        }
        Op::Pass(seconds) => {
            world.pass(Duration::from_secs(*seconds));
            model.pass(Duration::from_secs(*seconds));
            (Ok(()), Ok(()))
        }
    };
    assert_eq!(real, wanted, "{op:?}");
    check(world, model);
}

fn check(world: &mut World, model: &Model) {
    let defaults = crate::settings::Settings::default();
    let wanted = SETTINGS.map(|(name, _)| match model.state.settings.get(name) {
        Some(text) => {
            let mut settings = defaults.clone();
            crate::settings::set(&mut settings, name, text).unwrap();
            crate::settings::show(&settings, name).unwrap()
        }
        None => crate::settings::show(&defaults, name).unwrap(),
    });
    assert_eq!(world.settings(), wanted);
    for (name, _) in SETTINGS {
        let is_runtime = world.resolved.sources.of(name) == Source::Runtime;
        assert_eq!(is_runtime, model.state.settings.contains_key(name), "{name}");
    }
    let users: BTreeMap<_, _> = world
        .store
        .directory()
        .list()
        .into_iter()
        .filter(|user| !user.is_anonymous())
        .map(|user| {
            let doors = u8::from(user.doors().proxy) | u8::from(user.doors().admin) << 1;
            let mark = world.store.challenge(user.name().as_octets()).salt;
            let mark = if mark.iter().all(|octet| *octet == mark[0]) { mark[0] } else { 0 };
            (user.name().to_string(), (user.role(), doors, mark))
        })
        .collect();
    let wanted: BTreeMap<_, _> =
        model.state.users.iter().map(|(name, user)| ((*name).to_owned(), *user)).collect();
    assert_eq!(users, wanted);
    let pending = world.revisions.pending().map(|pending| (pending.revision, pending.who));
    assert_eq!(pending, model.pending.as_ref().map(|(revision, who, ..)| (*revision, *who)));
    assert_eq!(Some(&world.revisions.oldest()), model.kept.keys().next());
    world.check_records();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sequence_of_commits_leaves_what_a_model_says(ops in proptest::collection::vec(op(), 1..60)) {
        let (mut world, mut model) = (World::new(), Model::new());
        check(&mut world, &model);
        for op in &ops {
            run(op, &mut world, &mut model);
        }
    }
}

// ---- one by one -----------------------------------------------------------------------------------------

#[test]
fn a_commit_that_is_not_confirmed_in_time_is_as_if_it_had_never_been() {
    let mut world = World::new();
    world.check_records();
    let changes = [set("buffer-size", "1024"), add("alice", Role::Operator, 1), password("root", 2)];
    world.commit(Some(1), &changes, Some((7, Duration::from_secs(5)))).unwrap();
    assert_eq!(world.revisions.check(None), Err(Conflict::Pending(2)));
    assert_eq!(world.commit(Some(2), &[set("auth", "none")], None), Err(Status::Conflict));
    assert_eq!(world.rollback_to(1), Err(Status::Conflict));
    world.pass(Duration::from_millis(4999));
    assert_eq!((world.revisions.number(), world.settings()[0].as_str()), (2, "1 KiB"));
    world.pass(Duration::from_millis(1));
    assert_eq!((world.revisions.number(), world.settings()[0].as_str()), (3, "256 KiB"));
    assert!(world.store.directory().find(b"alice").is_none());
    world.check_records();
    assert_eq!(world.revisions.confirm(None, |_| true), Err(NotPending::Nothing));
    assert_eq!(world.revisions.deadline(), None);
}

#[test]
fn only_who_made_a_commit_may_confirm_it_and_then_it_lasts() {
    let mut world = World::new();
    world.commit(None, &[set("auth", "none")], Some((7, Duration::from_secs(5)))).unwrap();
    assert_eq!(world.revisions.confirm(None, |who| *who == 8), Err(NotPending::Somebody));
    assert_eq!(world.revisions.confirm(Some(1), |who| *who == 7), Err(NotPending::Other(2)));
    assert_eq!(world.revisions.confirm(Some(2), |who| *who == 7), Ok(2));
    world.pass(Duration::from_secs(100));
    assert_eq!(world.settings()[2], "none");
}

#[test]
fn the_time_to_confirm_has_bounds() {
    for (seconds, is_allowed) in
        [(0, false), (1, true), (CONFIRM_SECONDS_MAX, true), (CONFIRM_SECONDS_MAX + 1, false)]
    {
        assert_eq!(confirm_time(seconds).is_some(), is_allowed, "{seconds}");
    }
}

#[test]
fn every_problem_is_told_with_its_place_and_status() {
    let world = World::new();
    let wrong_iterations = Verifier { iterations: 5000, ..verifier(1) };
    let changes = [
        set("buffer-size", "1024"),
        set("no-such-thing", "1"),
        of_user(ChangeKind::UserRemove, "root"),
        Change { verifier: Some(wrong_iterations), ..password("root", 1) },
        of_user(ChangeKind::UserAdd, "alice"),
        set("workers", "2"),
        of_user(ChangeKind::UserRemove, "anonymous"),
        blank(ChangeKind::Unassigned(9)),
        Change { value: Some(Text::cut("1")), ..blank(ChangeKind::Reset) },
    ];
    let plan = plan(&changes, &world.resolved, &world.store);
    let problems: Vec<_> =
        plan.wire_problems(100).iter().map(|each| (each.change, Status::from(each.status))).collect();
    let expected = [
        (1, Status::NotFound),
        (2, Status::LastAdmin),
        (3, Status::Invalid),
        (4, Status::Invalid),
        (5, Status::StartOnly),
        (6, Status::Invalid),
        (7, Status::Invalid),
        (8, Status::Invalid),
    ];
    assert_eq!(problems, expected);
    assert_eq!(plan.wire_problems(2).len(), 2);
    assert_eq!(plan.refusal().unwrap_err().status, Status::NotFound);
}

#[test]
fn a_diff_names_what_would_be_other_than_now() {
    let world = World::new();
    let changes = [
        set("buffer-size", "1024"),
        set("idle-timeout", "300 s"),
        add("alice", Role::User, 1),
        role("alice", Role::Operator, Some(wire::Doors::Both)),
        password("root", 2),
    ];
    let plan = plan(&changes, &world.resolved, &world.store);
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    let text = |text: &Option<SettingValue>| text.as_ref().map(|text| text.as_str().to_owned());
    let rows: Vec<_> = plan
        .diff(&world.resolved)
        .iter()
        .map(|row| {
            let name = row.user.as_ref().map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
            let subject = row.setting.as_ref().map(|name| name.as_str().to_owned()).or(name).unwrap();
            (row.kind, subject, text(&row.before), text(&row.after), row.sessions_count)
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    let expected = [
        (ChangeKind::Set, "buffer-size".to_owned(), some("256 KiB"), some("1 KiB"), None),
        (ChangeKind::UserAdd, "alice".to_owned(), None, some("operator both"), Some(0)),
        (ChangeKind::UserPassword, "root".to_owned(), some("admin both"), some("admin both"), Some(0)),
    ];
    assert_eq!(rows, expected);
}
