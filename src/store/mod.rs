//! Users, credentials, and everything that blocks.
//!
//! ```text
//! worker ──check──► throttle ► directory ► digest ──► Accepted / Refused       (a microsecond, on the worker)
//!                                             └─cold─► hashing pool ──reply──► Verdict      (a millisecond)
//! admin  ──add_user, set_password …──► the store's thread ──reply──► done, or why not
//! ```
//!
//! The directory of users is read by everyone without a lock and changed by the store's thread alone, one
//! change after the other. Whatever waits (hashing now; a database, history and audit trail have their place on
//! the same thread) happens here, and answers by calling back. Nothing here knows sessions: who must end them
//! looks at [`User::is_current`].

// A log-in, in the order of its steps.
mod credentials;
mod hashing;
mod login;
mod throttle;
mod users;
// Changes while running.
mod clerk;
mod draft;

pub use crate::settings::Role;
pub use clerk::Replaced;
pub use credentials::{KEY_BYTES, ScramVerifier, Secret, VerifierError};
pub use draft::{NewPassword, NewUser, UserChange, UserDelta};
pub use login::{Challenge, Check, RefusedBecause, Verdict};
pub use users::{ANONYMOUS, Directory, Door, Doors, Origin, User, UserLive, UserName};

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use crate::limits::{
    HASH_THREADS_MAX, SCRAM_ITERATIONS, STORE_COMMANDS_MAX, USER_NAME_BYTES_MAX, USERS_COUNT_MAX,
};
use crate::settings::UserSpec;
use clerk::{Clerk, Command};
use draft::Draft;
use login::{Evidence, Gate};

/// What a store is started with.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// PBKDF2 rounds of every verifier made here.
    pub iterations: u32,
    /// Threads that hash passwords.
    pub hash_threads: usize,
    /// Users besides `anonymous`.
    pub users_count_max: usize,
}

/// Half of the cores may hash: a flood of log-ins must leave the workers theirs.
impl Default for StoreOptions {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            iterations: SCRAM_ITERATIONS,
            hash_threads: (cores / 2).clamp(1, HASH_THREADS_MAX),
            users_count_max: USERS_COUNT_MAX,
        }
    }
}

/// Why a store could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One user of the configuration.
    #[error("user {name}: {error}")]
    User {
        /// The name as given, escaped.
        name: String,
        /// What is wrong with it.
        error: UserError,
    },
    /// All of them together.
    #[error("users: {0}")]
    Users(#[from] UserError),
    /// No randomness for keys.
    #[error("the kernel gave no random keys: {0}")]
    Keys(#[from] getrandom::Error),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Why a change of users was not made; then nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// A name of this many bytes.
    #[error("a name of {0} bytes; allowed are 1 to {USER_NAME_BYTES_MAX}")]
    Name(usize),
    /// A password of this many bytes.
    #[error("a password of {0} bytes; allowed are 1 to {USER_NAME_BYTES_MAX}")]
    Password(usize),
    /// Different counts would betray who got a password when and how.
    #[error("a verifier of {got} iterations; this server uses {allowed}")]
    Iterations {
        /// The verifier's.
        got: u32,
        /// The only count allowed.
        allowed: u32,
    },
    /// The name exists.
    #[error("the name is taken")]
    Taken,
    /// The name does not exist.
    #[error("there is no such user")]
    NotFound,
    /// The directory is full.
    #[error("there is no room for more than {0} users")]
    NoRoom(usize),
    /// `anonymous` always exists as it is.
    #[error("the user anonymous cannot be changed")]
    Anonymous,
    /// Somebody must be able to undo the change.
    #[error("the last administrator must stay one")]
    LastAdmin,
    /// Too many changes wait.
    #[error("too many changes are waiting")]
    Busy,
}

/// Why several changes were not made; then none of them was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("change {place}: {error}")]
pub struct ChangesError {
    /// The first that cannot be made, from 0.
    pub place: usize,
    /// Why.
    pub error: UserError,
}

/// Everything that is known about users, and the threads that know it. Shared by all workers.
pub struct Store {
    gate: Arc<Gate>,
    options: StoreOptions,
    pool: login::Pool,
    commands: SyncSender<Command>,
}

impl Store {
    /// Starts with the users of the configuration; of one name the last counts.
    ///
    /// Takes about a microsecond a user: no password is hashed slowly before that is needed.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(users: Vec<UserSpec>, options: StoreOptions) -> Result<Arc<Self>, StartError> {
        let gate = Arc::new(Gate::new(options.iterations)?);
        let mut clerk = Clerk::new(Arc::clone(&gate), options);
        for user in &users {
            let name = || user.name.escape_ascii().to_string();
            clerk::check_spec(user).map_err(|error| StartError::User { name: name(), error })?;
        }
        clerk.replace_configured(users)?;
        clerk.drop_retired();
        let pool = Gate::start_pool(&gate, options.hash_threads.max(1))?;
        let (commands, waiting) = sync_channel::<Command>(STORE_COMMANDS_MAX);
        thread::Builder::new().name("store".to_owned()).spawn(move || {
            while let Ok(command) = waiting.recv() {
                command(Ok(&mut clerk));
                clerk.drop_retired();
            }
        })?;
        Ok(Arc::new(Self { gate, options, pool, commands }))
    }

    /// The users.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        self.gate.directory()
    }

    /// One log-in attempt through the proxy door. Never blocks, never hashes slowly.
    ///
    /// `reply` is called from a pool thread where the answer is [`Check::Pending`], else never.
    pub fn check(
        &self,
        source: IpAddr,
        name: &[u8],
        password: &[u8],
        now: Instant,
        reply: impl FnOnce(Verdict) + Send + 'static,
    ) -> Check {
        self.check_at(Door::Proxy, source, name, password, now, reply)
    }

    /// The same through any door: admin version 1 presents the clear password too.
    pub fn check_at(
        &self,
        door: Door,
        source: IpAddr,
        name: &[u8],
        password: &[u8],
        now: Instant,
        reply: impl FnOnce(Verdict) + Send + 'static,
    ) -> Check {
        let evidence = Evidence::password(self.gate.digest(name, password), password);
        self.gate.check(&self.pool, door, source.into(), name, evidence, now, reply)
    }

    /// What a SCRAM client of that name computes its proof with (RFC 5802 §5.1, `s` and `i`). A name without a
    /// user gets what a user could have, always the same.
    #[must_use]
    pub fn challenge(&self, name: &[u8]) -> Challenge {
        self.gate.challenge(name)
    }

    /// One log-in attempt by SCRAM proof over `auth_message` (RFC 5802 §3), with the rules of [`Store::check`].
    /// After acceptance [`User::server_signature`] has what the client is to check.
    #[expect(clippy::too_many_arguments, reason = "one attempt is exactly these values")]
    pub fn check_proof(
        &self,
        door: Door,
        source: IpAddr,
        name: &[u8],
        auth_message: &[u8],
        proof: [u8; KEY_BYTES],
        now: Instant,
        reply: impl FnOnce(Verdict) + Send + 'static,
    ) -> Check {
        let evidence = Evidence::proof(auth_message, proof);
        self.gate.check(&self.pool, door, source.into(), name, evidence, now, reply)
    }

    /// PBKDF2 rounds that every verifier must have: differing counts would tell something about a user.
    #[must_use]
    pub fn iterations(&self) -> u32 {
        self.options.iterations
    }

    /// What each of these changes would do after those before it; one that cannot be made says why and is left
    /// out. Nothing changes. Slow where a password is in clear.
    #[must_use]
    pub fn rehearse(&self, changes: &[UserChange]) -> Vec<Result<UserDelta, UserError>> {
        let mut draft = Draft::new(&self.gate, self.options);
        changes.iter().map(|change| draft.make(change)).collect()
    }

    /// Makes all of these changes, in their order, or none of them. `reply` is called once, from the store's
    /// thread, or at once when too much waits ([`UserError::Busy`]); that holds for every change.
    pub fn change(
        &self,
        changes: Vec<UserChange>,
        reply: impl FnOnce(Result<Vec<UserDelta>, ChangesError>) + Send + 'static,
    ) {
        self.command(move |clerk| match clerk {
            Ok(clerk) => reply(clerk.change(&changes)),
            Err(error) => reply(Err(ChangesError { place: 0, error })),
        });
    }

    /// Takes changes back that were made as one: everybody has the records of before, and nobody's sessions come
    /// back. `reply` gets what that did.
    pub fn restore(
        &self,
        deltas: Arc<[UserDelta]>,
        reply: impl FnOnce(Result<Vec<UserDelta>, UserError>) + Send + 'static,
    ) {
        self.command(move |clerk| reply(clerk.map(|clerk| clerk.restore(&deltas))));
    }

    /// Adds a user. `reply` gets the new record.
    pub fn add_user(&self, user: NewUser, reply: impl FnOnce(Result<Arc<User>, UserError>) + Send + 'static) {
        self.change_one(UserChange::Add(user), reply);
    }

    /// Removes a user; what came in by it is not current from then on. `reply` gets the last record.
    pub fn remove_user(
        &self,
        name: UserName,
        reply: impl FnOnce(Result<Arc<User>, UserError>) + Send + 'static,
    ) {
        self.change_one(UserChange::Remove(name), reply);
    }

    /// Sets a password; what came in by the old one is not current from then on.
    pub fn set_password(
        &self,
        name: UserName,
        password: NewPassword,
        reply: impl FnOnce(Result<Arc<User>, UserError>) + Send + 'static,
    ) {
        self.change_one(UserChange::Password(name, password), reply);
    }

    /// Sets the role and, if they are there, the doors; what came in by one that closes is not current from then
    /// on. A role ends nothing: see [`Directory::present`].
    pub fn set_rights(
        &self,
        name: UserName,
        role: Role,
        doors: Option<Doors>,
        reply: impl FnOnce(Result<Arc<User>, UserError>) + Send + 'static,
    ) {
        self.change_one(UserChange::Rights(name, role, doors), reply);
    }

    /// Takes the users of a configuration that was read again. What was changed while running stays as it is,
    /// and who was removed stays removed; an error changes nothing. The last administrator may go this way: who
    /// writes the configuration can give it back.
    pub fn replace_configured(
        &self,
        users: Vec<UserSpec>,
        reply: impl FnOnce(Result<Replaced, UserError>) + Send + 'static,
    ) {
        self.command(move |clerk| reply(clerk.and_then(|clerk| clerk.replace_configured(users))));
    }

    /// Has the store's thread look at all users, after all changes that were asked for before: that takes
    /// milliseconds for 100,000 of them. `look` is called once, there, or at once when too much waits.
    pub fn survey(&self, look: impl FnOnce(Result<&Directory, UserError>) + Send + 'static) {
        let gate = Arc::clone(&self.gate);
        self.command(move |clerk| look(clerk.map(|_| gate.directory())));
    }

    fn change_one(
        &self,
        change: UserChange,
        reply: impl FnOnce(Result<Arc<User>, UserError>) + Send + 'static,
    ) {
        self.command(move |clerk| reply(clerk.and_then(|clerk| clerk.change_one(change))));
    }

    fn command(&self, command: impl FnOnce(Result<&mut Clerk, UserError>) + Send + 'static) {
        let command: Command = Box::new(command);
        if let Err(refused) = self.commands.try_send(command) {
            let command = match refused {
                std::sync::mpsc::TrySendError::Full(command)
                | std::sync::mpsc::TrySendError::Disconnected(command) => command,
            };
            command(Err(UserError::Busy));
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("users_count", &self.directory().count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
