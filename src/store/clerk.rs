//! Changes of users, one after the other, on the store's thread.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::credentials::{Credentials, Secret};
use super::draft::{Draft, Drafted, UserChange, UserDelta, check_password};
use super::login::Gate;
use super::users::{ANONYMOUS, Doors, Generations, Origin, Shard, User, UserLive, UserName};
use super::{ChangesError, StoreOptions, UserError};
use crate::settings::UserSpec;

/// What the store's thread is asked to do. An error instead of the clerk: it has no time for it.
pub(super) type Command = Box<dyn FnOnce(Result<&mut Clerk, UserError>) + Send>;

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

    /// Makes all of these changes, in their order, or none of them.
    pub(super) fn change(&mut self, changes: &[UserChange]) -> Result<Vec<UserDelta>, ChangesError> {
        let mut draft = Draft::new(&self.gate, self.options);
        for (place, change) in changes.iter().enumerate() {
            draft.make(change).map_err(|error| ChangesError { place, error })?;
        }
        Ok(self.publish(draft.into_drafted()))
    }

    /// Makes one change; gives the new record, or the last one of a user who is gone.
    pub(super) fn change_one(&mut self, change: UserChange) -> Result<Arc<User>, UserError> {
        let deltas = self.change(&[change]).map_err(|refused| refused.error)?;
        let record = deltas.into_iter().next().and_then(|delta| delta.after.or(delta.before));
        record.ok_or(UserError::NotFound)
    }

    /// Takes changes back that were made as one: everybody has the records of before. What ended stays ended.
    pub(super) fn restore(&mut self, deltas: &[UserDelta]) -> Vec<UserDelta> {
        let mut drafted = Drafted::default();
        for delta in deltas {
            drafted.put_back(delta, self.gate.directory().find(delta.name.as_octets()));
        }
        self.publish(drafted)
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
        let mut drafted = Drafted::default();
        for user in present {
            if user.origin == Origin::Configured && !user.is_anonymous() && !wanted.contains_key(&user.name) {
                replaced.removed.push(user.name.clone());
                drafted.put(user.name.clone(), Some(user), None);
            }
        }
        for (name, spec) in wanted {
            if self.removed_configured.contains(&name) {
                continue;
            }
            let present = self.gate.directory().find(name.as_octets());
            let Some(user) = self.configured(&name, &spec, present.as_deref()) else { continue };
            if present.is_some() { &mut replaced.changed } else { &mut replaced.added }.push(name.clone());
            drafted.put(name, present, Some(Arc::new(user)));
        }
        self.publish(drafted);
        Ok(replaced)
    }

    /// The record that the configuration asks for; `None` where the present one stays.
    fn configured(&self, name: &UserName, spec: &UserSpec, present: Option<&User>) -> Option<User> {
        let role = spec.role;
        let doors = Doors { proxy: spec.proxy, admin: spec.admin };
        let Some(present) = present else {
            return Some(User {
                name: name.clone(),
                role,
                doors,
                origin: Origin::Configured,
                generations: Generations::default(),
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
        let credentials =
            if same_password { known.cloned() } else { Some(self.configured_credentials(name, spec)) };
        Some(present.becoming(User { role, doors, credentials, ..present.copy() }))
    }

    /// Fast: there may be thousands of them, and most never need a verifier (see [`Credentials`]).
    fn configured_credentials(&self, name: &UserName, spec: &UserSpec) -> Arc<Credentials> {
        let secret = Secret::new(&spec.password);
        let iterations = self.options.iterations;
        Arc::new(Credentials::from_password(self.gate.keys(), name.as_octets(), secret, iterations))
    }

    /// Shows the records, and only then outdates the earlier ones: a log-in in between gets the new one, which is
    /// current before and after.
    fn publish(&mut self, drafted: Drafted) -> Vec<UserDelta> {
        let replaced = self.gate.directory().apply(drafted.changes());
        self.retired.extend(replaced);
        let deltas = drafted.outdate();
        for UserDelta { name, after, .. } in &deltas {
            if after.is_some() {
                self.removed_configured.remove(name);
            } else if self.configured.contains(name) {
                self.removed_configured.insert(name.clone());
            }
        }
        deltas
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
