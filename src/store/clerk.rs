//! Changes of users, one after the other, on the store's thread.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::credentials::{Credentials, ScramVerifier, Secret};
use super::login::Gate;
use super::users::{ANONYMOUS, Change, Doors, Origin, Role, Shard, User, UserLive, UserName};
use super::{StoreOptions, UserError};
use crate::limits::USER_NAME_BYTES_MAX;
use crate::settings::UserSpec;

/// What the store's thread is asked to do. An error instead of the clerk: it has no time for it.
pub(super) type Command = Box<dyn FnOnce(Result<&mut Clerk, UserError>) + Send>;

/// A password as it is set. `Debug` shows neither.
#[derive(Debug)]
pub enum NewPassword {
    /// In clear, 1 to 255 octets; its verifier is made by the store.
    Clear(Secret),
    /// The verifier that a client made.
    Verifier(ScramVerifier),
}

/// A user to add.
#[derive(Debug)]
pub struct NewUser {
    /// The name.
    pub name: UserName,
    /// The password.
    pub password: NewPassword,
    /// The role on the admin channel.
    pub role: Role,
    /// The doors to open.
    pub doors: Doors,
}

/// What a configuration read again has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Users that are new.
    pub added: Vec<UserName>,
    /// Users that are gone.
    pub removed: Vec<UserName>,
    /// Users with another password or other rights.
    pub changed: Vec<UserName>,
}

/// What a change means for sessions that began before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sessions {
    Stay,
    End,
}

/// Does the changes. The only one who writes to the directory.
pub(super) struct Clerk {
    gate: Arc<Gate>,
    options: StoreOptions,
    /// The names of the present configuration.
    configured: HashSet<UserName>,
    /// Those of them that were removed while running: the configuration does not bring them back.
    removed_configured: HashSet<UserName>,
    /// Replaced shards that somebody may still be reading; kept so that it is not a worker who frees them.
    retired: Vec<Arc<Shard>>,
}

impl Clerk {
    pub(super) fn new(gate: Arc<Gate>, options: StoreOptions) -> Self {
        Self {
            gate,
            options,
            configured: HashSet::new(),
            removed_configured: HashSet::new(),
            retired: Vec::new(),
        }
    }

    /// Frees replaced shards that nobody reads any more.
    pub(super) fn drop_retired(&mut self) {
        self.retired.retain(|shard| Arc::strong_count(shard) > 1);
    }

    pub(super) fn add(&mut self, new: NewUser) -> Result<Arc<User>, UserError> {
        let directory = self.gate.directory();
        if directory.find(new.name.as_octets()).is_some() {
            return Err(UserError::Taken);
        }
        // The count includes `anonymous`.
        if directory.count() > self.options.users_count_max {
            return Err(UserError::NoRoom(self.options.users_count_max));
        }
        let credentials = self.credentials(&new.name, new.password)?;
        let user = User {
            name: new.name,
            role: new.role,
            doors: new.doors,
            origin: Origin::Runtime,
            generation: 0,
            credentials: Some(credentials),
            live: Arc::new(UserLive::default()),
        };
        Ok(self.publish(user, Sessions::Stay))
    }

    pub(super) fn remove(&mut self, name: &UserName) -> Result<Arc<User>, UserError> {
        let user = self.find(name)?;
        self.keep_an_admin(&user, Role::User, user.doors)?;
        if self.configured.contains(name) {
            self.removed_configured.insert(name.clone());
        }
        self.apply(vec![(name.clone(), None)]);
        user.live.outdate_before(user.generation + 1);
        Ok(user)
    }

    pub(super) fn set_password(
        &mut self,
        name: &UserName,
        password: NewPassword,
    ) -> Result<Arc<User>, UserError> {
        let user = self.find(name)?;
        let credentials = Some(self.credentials(name, password)?);
        Ok(self.publish(User { credentials, origin: Origin::Runtime, ..copy(&user) }, Sessions::End))
    }

    pub(super) fn set_rights(
        &mut self,
        name: &UserName,
        role: Role,
        doors: Doors,
    ) -> Result<Arc<User>, UserError> {
        let user = self.find(name)?;
        self.keep_an_admin(&user, role, doors)?;
        let sessions = if has_rights_of(&user, role, doors) { Sessions::Stay } else { Sessions::End };
        Ok(self.publish(User { role, doors, origin: Origin::Runtime, ..copy(&user) }, sessions))
    }

    pub(super) fn replace_configured(&mut self, users: Vec<UserSpec>) -> Result<Replaced, UserError> {
        let mut wanted = BTreeMap::new();
        for user in users {
            check_spec(&user)?;
            wanted.insert(UserName::new(&user.name)?, user);
        }
        let present = self.gate.directory().list();
        let runtime = present.iter().filter(|user| user.origin == Origin::Runtime);
        let runtime_only = runtime.filter(|user| !wanted.contains_key(&user.name)).count();
        if wanted.len() + runtime_only > self.options.users_count_max {
            return Err(UserError::NoRoom(self.options.users_count_max));
        }
        self.configured = wanted.keys().cloned().collect();
        // Who left the configuration may come back with it.
        self.removed_configured.retain(|name| wanted.contains_key(name));

        let mut replaced = Replaced::default();
        let mut changes: Vec<Change> = Vec::new();
        let mut outdated: Vec<(Arc<UserLive>, u64)> = Vec::new();
        for user in present {
            if user.origin == Origin::Configured && !user.is_anonymous() && !wanted.contains_key(&user.name) {
                outdated.push((Arc::clone(&user.live), user.generation + 1));
                replaced.removed.push(user.name.clone());
                changes.push((user.name.clone(), None));
            }
        }
        for (name, spec) in wanted {
            if self.removed_configured.contains(&name) {
                continue;
            }
            let present = self.gate.directory().find(name.as_octets());
            let Some(user) = self.configured(&name, &spec, present.as_deref()) else { continue };
            if present.is_some() { &mut replaced.changed } else { &mut replaced.added }.push(name.clone());
            outdated.push((Arc::clone(&user.live), user.generation));
            changes.push((name, Some(Arc::new(user))));
        }
        self.apply(changes);
        outdated.into_iter().for_each(|(live, generation)| live.outdate_before(generation));
        Ok(replaced)
    }

    /// The record that the configuration asks for; `None` where the present one stays.
    fn configured(&self, name: &UserName, spec: &UserSpec, present: Option<&User>) -> Option<User> {
        let role = if spec.admin { Role::Admin } else { Role::User };
        let doors = Doors { proxy: spec.proxy, admin: spec.admin };
        let Some(present) = present else {
            return Some(User {
                name: name.clone(),
                role,
                doors,
                origin: Origin::Configured,
                generation: 0,
                credentials: Some(self.configured_credentials(name, spec)),
                live: Arc::new(UserLive::default()),
            });
        };
        let digest = self.gate.digest(&spec.name, &spec.password);
        let known = present.credentials.as_ref();
        let same_password = known.and_then(|known| known.accepts_digest(&digest)) == Some(true);
        let same_rights = present.role == role && present.doors == doors;
        if present.origin == Origin::Runtime || (same_password && same_rights) {
            return None;
        }
        let stay = same_password && has_rights_of(present, role, doors);
        let credentials =
            if same_password { known.cloned() } else { Some(self.configured_credentials(name, spec)) };
        let generation = present.generation + u64::from(!stay);
        Some(User { role, doors, credentials, generation, ..copy(present) })
    }

    /// Fast: there may be thousands of them, and most never need a verifier (see [`Credentials`]).
    fn configured_credentials(&self, name: &UserName, spec: &UserSpec) -> Arc<Credentials> {
        let secret = Secret::new(&spec.password);
        let iterations = self.options.iterations;
        Arc::new(Credentials::from_password(self.gate.keys(), name.as_octets(), secret, iterations))
    }

    /// Slow where the password is in clear: a user set while running has its verifier from the beginning.
    fn credentials(&self, name: &UserName, password: NewPassword) -> Result<Arc<Credentials>, UserError> {
        let allowed = self.options.iterations;
        let credentials = match password {
            NewPassword::Clear(secret) => {
                check_password(secret.as_octets())?;
                let credentials =
                    Credentials::from_password(self.gate.keys(), name.as_octets(), secret, allowed);
                let _ = credentials.verifier();
                credentials
            }
            NewPassword::Verifier(verifier) if verifier.iterations() == allowed => {
                Credentials::from_verifier(verifier)
            }
            NewPassword::Verifier(verifier) => {
                return Err(UserError::Iterations { got: verifier.iterations(), allowed });
            }
        };
        Ok(Arc::new(credentials))
    }

    /// A user that may be changed.
    fn find(&self, name: &UserName) -> Result<Arc<User>, UserError> {
        let user = self.gate.directory().find(name.as_octets()).ok_or(UserError::NotFound)?;
        if user.is_anonymous() { Err(UserError::Anonymous) } else { Ok(user) }
    }

    /// Refuses a change to these rights where nobody would be left who could undo it.
    fn keep_an_admin(&self, user: &User, role: Role, doors: Doors) -> Result<(), UserError> {
        let stays = role == Role::Admin && doors.admin;
        if user.is_admin() && !stays && self.gate.directory().admins() <= 1 {
            return Err(UserError::LastAdmin);
        }
        Ok(())
    }

    /// Shows a record, and only then outdates the earlier ones: a log-in in between gets the new one, which is
    /// current before and after.
    fn publish(&mut self, mut user: User, sessions: Sessions) -> Arc<User> {
        if sessions == Sessions::End {
            user.generation += 1;
        }
        let user = Arc::new(user);
        self.apply(vec![(user.name.clone(), Some(Arc::clone(&user)))]);
        user.live.outdate_before(user.generation);
        user
    }

    fn apply(&mut self, changes: Vec<Change>) {
        let replaced = self.gate.directory().apply(changes);
        self.retired.extend(replaced);
    }
}

/// Whether these rights include all that the user has.
fn has_rights_of(user: &User, role: Role, doors: Doors) -> bool {
    role >= user.role && doors.cover(user.doors)
}

/// The same record once more, to change something in it.
fn copy(user: &User) -> User {
    User {
        name: user.name.clone(),
        role: user.role,
        doors: user.doors,
        origin: user.origin,
        generation: user.generation,
        credentials: user.credentials.clone(),
        live: Arc::clone(&user.live),
    }
}

/// Whether the configuration may name such a user.
pub(super) fn check_spec(user: &UserSpec) -> Result<(), UserError> {
    if user.name == ANONYMOUS {
        return Err(UserError::Anonymous);
    }
    UserName::new(&user.name)?;
    check_password(&user.password)
}

fn check_password(password: &[u8]) -> Result<(), UserError> {
    if password.is_empty() || password.len() > USER_NAME_BYTES_MAX {
        return Err(UserError::Password(password.len()));
    }
    Ok(())
}
