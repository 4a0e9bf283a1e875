//! Users: immutable records in a sharded map that is read without a lock, and what moves beside them.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::UserError;
use super::credentials::Credentials;
use crate::limits::{USER_NAME_BYTES_MAX, USER_SHARDS_COUNT};
use crate::settings::Role;

/// The user whom sessions without a log-in count for.
pub const ANONYMOUS: &[u8] = b"anonymous";

/// A user's name: 1 to 255 octets, compared octet by octet.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(Arc<[u8]>);

impl UserName {
    /// Checks the length; any octet may occur.
    ///
    /// # Errors
    /// [`UserError::Name`].
    pub fn new(octets: &[u8]) -> Result<Self, UserError> {
        if octets.is_empty() || octets.len() > USER_NAME_BYTES_MAX {
            return Err(UserError::Name(octets.len()));
        }
        Ok(Self(octets.into()))
    }

    /// The octets as on the wire.
    #[must_use]
    pub fn as_octets(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for UserName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Readable where it is text; what is not printable ASCII is escaped.
impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.escape_ascii(), f)
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// SOCKS (RFC 1929).
    Proxy,
    /// The admin channel.
    Admin,
}

/// The ways in that a user may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Doors {
    /// May use the proxy.
    pub proxy: bool,
    /// May use the admin channel, within the role.
    pub admin: bool,
}

impl Doors {
    /// The proxy only.
    pub const PROXY: Self = Self { proxy: true, admin: false };
    /// The admin channel only.
    pub const ADMIN: Self = Self { proxy: false, admin: true };
    /// Neither.
    pub const NONE: Self = Self { proxy: false, admin: false };
    /// Both.
    pub const BOTH: Self = Self { proxy: true, admin: true };

    /// Whether that one is open.
    #[must_use]
    pub fn are_open(self, door: Door) -> bool {
        match door {
            Door::Proxy => self.proxy,
            Door::Admin => self.admin,
        }
    }

    /// What is open to a new user of whom nobody says it.
    #[must_use]
    pub fn usual(role: Role) -> Self {
        match role {
            Role::User => Self::PROXY,
            Role::Observer | Role::Operator | Role::Admin => Self::BOTH,
        }
    }
}

/// Where a user's present record comes from. Changes at runtime go before the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Flags, environment or files; a reload of the configuration may change or remove it.
    Configured,
    /// Added or changed while running; a reload leaves it alone.
    Runtime,
}

/// A user as it is now. Never changes: a change replaces the record and keeps [`UserLive`].
#[derive(Debug)]
pub struct User {
    pub(super) name: UserName,
    pub(super) role: Role,
    pub(super) doors: Doors,
    pub(super) origin: Origin,
    pub(super) generations: Generations,
    /// `None`: nobody can log in as this user.
    pub(super) credentials: Option<Arc<Credentials>>,
    pub(super) live: Arc<UserLive>,
}

impl User {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &UserName {
        &self.name
    }

    /// The role on the admin channel.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The doors that are open.
    #[must_use]
    pub fn doors(&self) -> Doors {
        self.doors
    }

    /// Where the record comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Counters and the rest that moves; the same for every record of this user.
    #[must_use]
    pub fn live(&self) -> &Arc<UserLive> {
        &self.live
    }

    /// An administrator who can log in as one.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin && self.doors.admin
    }

    /// Whether this is the user of sessions without a log-in.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.name.as_octets() == ANONYMOUS
    }

    /// False once the user was removed, got another password or lost this door: what came in by it with this
    /// record then ends. Checked for sessions on entering relay, and when workers are told to; for associations
    /// of the admin channel when somebody was changed.
    #[must_use]
    pub fn is_current(&self, door: Door) -> bool {
        self.generations.of(door) >= self.live.generation(door)
    }

    /// The doors by which something came in that ends when this record becomes `next`.
    pub(super) fn ended_by(&self, next: &Self) -> Doors {
        let same = |one: &Arc<Credentials>, other: &Arc<Credentials>| Arc::ptr_eq(one, other);
        match (&self.credentials, &next.credentials) {
            (Some(one), Some(other)) if same(one, other) => Doors {
                proxy: self.doors.proxy && !next.doors.proxy,
                admin: self.doors.admin && !next.doors.admin,
            },
            (None | Some(_), None | Some(_)) => Doors::BOTH,
        }
    }

    /// This record's successor: `next`, with the generations that end what has to end.
    pub(super) fn becoming(&self, next: Self) -> Self {
        Self { generations: self.generations.after(self.ended_by(&next)), ..next }
    }

    /// The same record once more, to change something in it.
    pub(super) fn copy(&self) -> Self {
        Self {
            name: self.name.clone(),
            role: self.role,
            doors: self.doors,
            origin: self.origin,
            generations: self.generations,
            credentials: self.credentials.clone(),
            live: Arc::clone(&self.live),
        }
    }

    /// What proves the daemon to a client whose SCRAM proof was accepted (RFC 5802 §3); fast after that.
    /// `None` where nobody can log in, or nobody did by proof yet.
    #[must_use]
    pub fn server_signature(&self, auth_message: &[u8]) -> Option<[u8; super::credentials::KEY_BYTES]> {
        let verifier = self.credentials.as_ref()?.verifier_ready()?;
        Some(verifier.server_signature(auth_message))
    }
}

/// How often what came in by each door had to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generations {
    pub(super) proxy: u64,
    pub(super) admin: u64,
}

impl Generations {
    fn of(self, door: Door) -> u64 {
        match door {
            Door::Proxy => self.proxy,
            Door::Admin => self.admin,
        }
    }

    /// One more for each of `ended`.
    pub(super) fn after(self, ended: Doors) -> Self {
        Self { proxy: self.proxy + u64::from(ended.proxy), admin: self.admin + u64::from(ended.admin) }
    }
}

/// What moves while sessions run: one for each user, for as long as the user exists.
#[derive(Debug, Default)]
pub struct UserLive {
    sessions: AtomicU32,
    sessions_total: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    generation_proxy: AtomicU64,
    generation_admin: AtomicU64,
}

impl UserLive {
    /// Counts a session that begins, unless there are `sessions_max` already. A session that was let in calls
    /// [`UserLive::close_session`] at its end.
    #[must_use = "a session that is not let in must not be closed either"]
    pub fn open_session(&self, sessions_max: Option<u32>) -> bool {
        let before = self.sessions.fetch_add(1, Ordering::Relaxed);
        if sessions_max.is_some_and(|max| before >= max) {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.sessions_total.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Counts a session that ends.
    pub fn close_session(&self) {
        let before = self.sessions.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "closed more sessions than were opened");
    }

    /// Adds payload that was moved since the last call, bytes.
    pub fn add_bytes(&self, up: u64, down: u64) {
        self.bytes_up.fetch_add(up, Ordering::Relaxed);
        self.bytes_down.fetch_add(down, Ordering::Relaxed);
    }

    /// Sessions now.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Sessions ever.
    #[must_use]
    pub fn sessions_total(&self) -> u64 {
        self.sessions_total.load(Ordering::Relaxed)
    }

    /// Payload from clients to origins, bytes.
    #[must_use]
    pub fn bytes_up(&self) -> u64 {
        self.bytes_up.load(Ordering::Relaxed)
    }

    /// Payload from origins to clients, bytes.
    #[must_use]
    pub fn bytes_down(&self) -> u64 {
        self.bytes_down.load(Ordering::Relaxed)
    }

    /// Grows with every change that ends what came in by that door.
    fn generation(&self, door: Door) -> u64 {
        match door {
            Door::Proxy => self.generation_proxy.load(Ordering::Acquire),
            Door::Admin => self.generation_admin.load(Ordering::Acquire),
        }
    }

    /// The least that a current record has.
    pub(super) fn generations(&self) -> Generations {
        Generations { proxy: self.generation(Door::Proxy), admin: self.generation(Door::Admin) }
    }

    /// Makes every record before these outdated.
    pub(super) fn outdate_before(&self, generations: Generations) {
        self.generation_proxy.fetch_max(generations.proxy, Ordering::AcqRel);
        self.generation_admin.fetch_max(generations.admin, Ordering::AcqRel);
    }
}

/// Users whose names have the same upper hash bits.
pub(super) type Shard = HashMap<UserName, Arc<User>, RandomState>;

/// A user to put in the place of the present one, or none to remove it.
pub(super) type Change = (UserName, Option<Arc<User>>);

/// Whether a user belongs to one of the directory's counts.
type Counted = fn(&User) -> bool;

/// All users. Reading takes no lock; the store's thread alone changes it, a shard at a time: copying a whole
/// map of 100,000 users would take 14 ms, a shard of 1,024 takes 17 µs.
#[derive(Debug)]
pub struct Directory {
    shards: Box<[ArcSwap<Shard>]>,
    hasher: RandomState,
    anonymous: Arc<User>,
    users_count: AtomicUsize,
    proxy_users_count: AtomicUsize,
    admins_count: AtomicUsize,
}

impl Directory {
    /// Nobody but `anonymous`.
    pub(super) fn new() -> Self {
        let hasher = RandomState::new();
        let shard = || ArcSwap::from_pointee(Shard::with_hasher(hasher.clone()));
        let shards = (0..USER_SHARDS_COUNT).map(|_| shard()).collect();
        let anonymous = Arc::new(User {
            name: UserName(ANONYMOUS.into()),
            role: Role::User,
            doors: Doors::PROXY,
            origin: Origin::Configured,
            generations: Generations::default(),
            credentials: None,
            live: Arc::default(),
        });
        Self {
            shards,
            hasher,
            anonymous,
            users_count: AtomicUsize::new(0),
            proxy_users_count: AtomicUsize::new(0),
            admins_count: AtomicUsize::new(0),
        }
    }

    /// The user of that name as it is now; `anonymous` always exists.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<Arc<User>> {
        if name == ANONYMOUS {
            return Some(Arc::clone(&self.anonymous));
        }
        let shard = self.shards.get(self.place(name))?;
        shard.load().get(name).map(Arc::clone)
    }

    /// The present record of the very user whose record this is; `None` once that one was removed, although
    /// there may be another of the same name.
    #[must_use]
    pub fn present(&self, user: &User) -> Option<Arc<User>> {
        self.find(user.name.as_octets()).filter(|present| Arc::ptr_eq(&present.live, &user.live))
    }

    /// The user whom sessions without a log-in count for.
    #[must_use]
    pub fn anonymous(&self) -> Arc<User> {
        Arc::clone(&self.anonymous)
    }

    /// Users who can log in to the proxy; whether there are any decides what `auto` means.
    #[must_use]
    pub fn proxy_users(&self) -> usize {
        self.proxy_users_count.load(Ordering::Relaxed)
    }

    /// Administrators who can log in to the admin channel.
    #[must_use]
    pub fn admins(&self) -> usize {
        self.admins_count.load(Ordering::Relaxed)
    }

    /// All users, `anonymous` included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.users_count.load(Ordering::Relaxed) + 1
    }

    /// How many users `is_counted`, `anonymous` included.
    #[must_use]
    pub fn count_where(&self, is_counted: impl Fn(&User) -> bool) -> usize {
        let of_shard = |shard: &ArcSwap<Shard>| shard.load().values().filter(|user| is_counted(user)).count();
        self.shards.iter().map(of_shard).sum::<usize>() + usize::from(is_counted(&self.anonymous))
    }

    /// The first `count_max` users by name whose names start with `prefix`, `anonymous` among them. Takes
    /// milliseconds for 100,000: not for workers, nor for the control loop (see [`super::Store::survey`]).
    #[must_use]
    pub fn list_some(&self, prefix: &[u8], count_max: usize) -> Vec<Arc<User>> {
        let is_wanted = |user: &&Arc<User>| user.name.as_octets().starts_with(prefix);
        let mut users: Vec<_> = Some(&self.anonymous).into_iter().filter(is_wanted).map(Arc::clone).collect();
        for shard in &self.shards {
            users.extend(shard.load().values().filter(is_wanted).map(Arc::clone));
        }
        users.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        users.truncate(count_max);
        users
    }

    /// All users by name, `anonymous` included: as [`Directory::list_some`].
    #[must_use]
    pub fn list(&self) -> Vec<Arc<User>> {
        self.list_some(&[], usize::MAX)
    }

    /// Looks at the users of one part of the directory, of [`USER_SHARDS_COUNT`], `anonymous` not included. For
    /// those who want to go through all users without doing it at once.
    pub fn visit_part(&self, part: usize, visit: impl FnMut(&Arc<User>)) {
        if let Some(shard) = self.shards.get(part) {
            shard.load().values().for_each(visit);
        }
    }

    /// Makes changes visible, each shard's at once. By the store's thread only.
    ///
    /// Gives the shards that were replaced: who drops them last pays for it, and that must not be a worker that
    /// just looked a user up.
    pub(super) fn apply(&self, changes: Vec<Change>) -> Vec<Arc<Shard>> {
        let mut by_place: BTreeMap<usize, Vec<Change>> = BTreeMap::new();
        for change in changes {
            by_place.entry(self.place(change.0.as_octets())).or_default().push(change);
        }
        let mut replaced = Vec::with_capacity(by_place.len());
        for (place, changes) in by_place {
            let Some(shard) = self.shards.get(place) else { continue };
            let mut next = Shard::clone(&shard.load());
            for (name, user) in changes {
                let added = user.clone();
                let removed = match user {
                    Some(user) => next.insert(name, user),
                    None => next.remove(&name),
                };
                self.recount(removed.as_deref(), added.as_deref());
            }
            replaced.push(shard.swap(Arc::new(next)));
        }
        replaced
    }

    fn recount(&self, removed: Option<&User>, added: Option<&User>) {
        let counts: [(&AtomicUsize, Counted); 3] = [
            (&self.users_count, |_| true),
            (&self.proxy_users_count, |user| user.doors.proxy),
            (&self.admins_count, User::is_admin),
        ];
        for (count, counted) in counts {
            // One atomic step each, so that a reader never sees a count below or above both states.
            match (removed.is_some_and(counted), added.is_some_and(counted)) {
                (true, false) => count.fetch_sub(1, Ordering::Relaxed),
                (false, true) => count.fetch_add(1, Ordering::Relaxed),
                (true, true) | (false, false) => continue,
            };
        }
    }

    /// The shard of a name, by the upper bits of its hash: the maps use the lower ones.
    fn place(&self, name: &[u8]) -> usize {
        const { assert!(USER_SHARDS_COUNT.is_power_of_two()) };
        let hash = self.hasher.hash_one(name);
        usize::try_from(hash >> (64 - USER_SHARDS_COUNT.trailing_zeros())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn name(text: &str) -> UserName {
        UserName::new(text.as_bytes()).unwrap()
    }

    fn user(text: &str, role: Role, doors: Doors) -> Change {
        let user = User {
            name: name(text),
            role,
            doors,
            origin: Origin::Runtime,
            generations: Generations::default(),
            credentials: None,
            live: Arc::default(),
        };
        (name(text), Some(Arc::new(user)))
    }

    #[test]
    fn names_have_a_length_and_are_shown_escaped() {
        assert_eq!(UserName::new(b""), Err(UserError::Name(0)));
        assert_eq!(UserName::new(&[b'x'; 256]), Err(UserError::Name(256)));
        assert_eq!(UserName::new(&[b'x'; 255]).unwrap().as_octets().len(), 255);
        let odd = UserName::new(b"a\n\xff").unwrap();
        assert_eq!((odd.to_string(), format!("{odd:?}")), ("a\\n\\xff".into(), "\"a\\n\\xff\"".into()));
    }

    #[test]
    fn whoever_has_a_role_has_both_doors_unless_somebody_says_otherwise() {
        assert_eq!(Doors::usual(Role::User), Doors::PROXY);
        for role in [Role::Observer, Role::Operator, Role::Admin] {
            assert_eq!(Doors::usual(role), Doors::BOTH);
        }
    }

    #[test]
    fn the_directory_finds_counts_and_lists() {
        let directory = Directory::new();
        assert_eq!((directory.count(), directory.proxy_users(), directory.admins()), (1, 0, 0));
        assert!(directory.find(b"anonymous").is_some_and(|user| user.is_anonymous()));
        directory.apply(vec![
            user("bob", Role::User, Doors::PROXY),
            user("alice", Role::Admin, Doors::BOTH),
            user("zoe", Role::Admin, Doors::ADMIN),
        ]);
        assert_eq!((directory.count(), directory.proxy_users(), directory.admins()), (4, 2, 2));
        let names: Vec<_> = directory.list().iter().map(|user| user.name().to_string()).collect();
        assert_eq!(names, ["alice", "anonymous", "bob", "zoe"]);
        directory.apply(vec![user("alice", Role::User, Doors::PROXY), (name("bob"), None)]);
        assert_eq!((directory.count(), directory.proxy_users(), directory.admins()), (3, 1, 1));
        assert!(directory.find(b"bob").is_none());
        assert_eq!(directory.find(b"alice").unwrap().role(), Role::User);
        directory.apply(vec![(name("nobody"), None)]);
        assert_eq!(directory.count(), 3);
    }

    #[test]
    fn thousands_of_users_spread_over_the_shards() {
        let directory = Directory::new();
        let users = (0..20_000).map(|number| user(&format!("user{number}"), Role::User, Doors::PROXY));
        directory.apply(users.collect());
        assert_eq!(directory.proxy_users(), 20_000);
        assert!((0..20_000).all(|number| directory.find(format!("user{number}").as_bytes()).is_some()));
        let largest = directory.shards.iter().map(|shard| shard.load().len()).max().unwrap();
        assert!(largest < 100, "{largest} of 20 expected");
    }

    #[test]
    fn sessions_never_exceed_their_limit_and_undo_what_was_over() {
        const LIMIT: u32 = 3;
        let live = UserLive::default();
        let counted: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut let_in = 0;
                        for _ in 0..20_000 {
                            if live.open_session(Some(LIMIT)) {
                                let_in += 1;
                                live.close_session();
                            }
                        }
                        let_in
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((live.sessions(), live.sessions_total()), (0, counted));
        assert!((0..LIMIT).all(|_| live.open_session(Some(LIMIT))));
        assert!(!live.open_session(Some(LIMIT)));
        assert!(live.open_session(None));
        assert_eq!(live.sessions(), LIMIT + 1);
    }

    #[test]
    fn a_record_is_current_until_its_generation_is_outdated() {
        let (_, old) = user("bob", Role::User, Doors::PROXY);
        let old = old.unwrap();
        assert!(old.is_current(Door::Proxy));
        let generations = old.generations.after(Doors::PROXY);
        let new = User { generations, live: Arc::clone(&old.live), name: name("bob"), ..anyone() };
        let current =
            || [&*old, &new].map(|user| [Door::Proxy, Door::Admin].map(|door| user.is_current(door)));
        assert_eq!(current(), [[true, true], [true, true]], "between showing it and outdating the old one");
        new.live.outdate_before(generations);
        assert_eq!(current(), [[false, true], [true, true]]);
    }

    fn anyone() -> User {
        Arc::into_inner(user("x", Role::User, Doors::PROXY).1.unwrap()).unwrap()
    }
}
