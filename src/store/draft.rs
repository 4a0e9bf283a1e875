//! Changes of users before anybody sees them: several are made one after the other on a draft, and all of them
//! become the directory's, or none. What is checked here is all that there is to check.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::credentials::{Credentials, ScramVerifier, Secret};
use super::login::Gate;
use super::users::{Change, Doors, Generations, Origin, User, UserLive, UserName};
use super::{StoreOptions, UserError};
use crate::limits::USER_NAME_BYTES_MAX;
use crate::settings::Role;

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

/// A change of one user.
#[derive(Debug)]
pub enum UserChange {
    /// There is one more.
    Add(NewUser),
    /// It is no more; what came in by it ends.
    Remove(UserName),
    /// It gets another password; what came in by the old one ends.
    Password(UserName, NewPassword),
    /// It gets another role and, if they are there, other doors; what came in by one that closes ends.
    Rights(UserName, Role, Option<Doors>),
}

/// What changes did to one user.
#[derive(Clone, Debug)]
pub struct UserDelta {
    /// Whose name it is.
    pub name: UserName,
    /// The record before; `None`: there was no such user.
    pub before: Option<Arc<User>>,
    /// The record after; `None`: there is none any more.
    pub after: Option<Arc<User>>,
}

impl UserDelta {
    /// The doors by which something came in that ends now.
    #[must_use]
    pub fn ended(&self) -> Doors {
        match (&self.before, &self.after) {
            (None, _) => Doors::NONE,
            (Some(before), Some(after)) if Arc::ptr_eq(&before.live, &after.live) => before.ended_by(after),
            (Some(_), _) => Doors::BOTH,
        }
    }
}

/// Records that nobody sees yet.
#[derive(Debug, Default)]
pub(super) struct Drafted {
    /// By name: several changes of one user come to one.
    staged: BTreeMap<UserName, UserDelta>,
    /// What ends with them.
    outdated: Vec<(Arc<UserLive>, Generations)>,
}

impl Drafted {
    /// Puts a record in the place of the present one, or takes that one away.
    pub(super) fn put(&mut self, name: UserName, present: Option<Arc<User>>, after: Option<Arc<User>>) {
        if let Some(present) = &present {
            let same = after.as_ref().filter(|after| Arc::ptr_eq(&after.live, &present.live));
            let generations = same.map_or(present.generations.after(Doors::BOTH), |after| after.generations);
            self.outdated.push((Arc::clone(&present.live), generations));
        }
        let delta = UserDelta { name: name.clone(), before: present, after: None };
        self.staged.entry(name).or_insert(delta).after = after;
    }

    /// Puts the record of before in the place of the present one. What has ended since stays ended.
    pub(super) fn put_back(&mut self, delta: &UserDelta, present: Option<Arc<User>>) {
        let after = delta.before.as_ref().map(|before| {
            let user = match present.as_ref().filter(|present| Arc::ptr_eq(&present.live, &before.live)) {
                Some(present) => present.becoming(before.copy()),
                // Removed meanwhile: no record of this user is current any more.
                None => User { generations: before.live.generations(), ..before.copy() },
            };
            Arc::new(user)
        });
        self.put(delta.name.clone(), present, after);
    }

    /// What the directory is to make visible.
    pub(super) fn changes(&self) -> Vec<Change> {
        self.staged.values().map(|delta| (delta.name.clone(), delta.after.clone())).collect()
    }

    /// Outdates the records of before: to be called once the others are visible.
    pub(super) fn outdate(self) -> Vec<UserDelta> {
        self.outdated.into_iter().for_each(|(live, generations)| live.outdate_before(generations));
        self.staged.into_values().collect()
    }
}

/// The directory with changes that nobody sees yet.
pub(super) struct Draft<'a> {
    gate: &'a Gate,
    options: StoreOptions,
    drafted: Drafted,
    /// All but `anonymous`.
    users_count: usize,
    admins_count: usize,
}

impl<'a> Draft<'a> {
    pub(super) fn new(gate: &'a Gate, options: StoreOptions) -> Self {
        let directory = gate.directory();
        let users_count = directory.count().saturating_sub(1);
        Self { gate, options, drafted: Drafted::default(), users_count, admins_count: directory.admins() }
    }

    pub(super) fn into_drafted(self) -> Drafted {
        self.drafted
    }

    /// Makes one change, or says why not and stays as it is.
    pub(super) fn make(&mut self, change: &UserChange) -> Result<UserDelta, UserError> {
        match change {
            UserChange::Add(new) => self.add(new),
            UserChange::Remove(name) => {
                let user = self.changeable(name)?;
                self.keep_an_admin(&user, Role::User, user.doors)?;
                Ok(self.put(name, Some(user), None))
            }
            UserChange::Password(name, password) => {
                let user = self.changeable(name)?;
                let credentials = Some(self.credentials(name, password)?);
                let next = User { credentials, origin: Origin::Runtime, ..user.copy() };
                let next = user.becoming(next);
                Ok(self.put(name, Some(user), Some(next)))
            }
            UserChange::Rights(name, role, doors) => {
                let user = self.changeable(name)?;
                let doors = doors.unwrap_or(user.doors);
                self.keep_an_admin(&user, *role, doors)?;
                let next = user.becoming(User { role: *role, doors, origin: Origin::Runtime, ..user.copy() });
                Ok(self.put(name, Some(user), Some(next)))
            }
        }
    }

    fn add(&mut self, new: &NewUser) -> Result<UserDelta, UserError> {
        if self.find(&new.name).is_some() {
            return Err(UserError::Taken);
        }
        if self.users_count >= self.options.users_count_max {
            return Err(UserError::NoRoom(self.options.users_count_max));
        }
        let user = User {
            name: new.name.clone(),
            role: new.role,
            doors: new.doors,
            origin: Origin::Runtime,
            generations: Generations::default(),
            credentials: Some(self.credentials(&new.name, &new.password)?),
            live: Arc::default(),
        };
        Ok(self.put(&new.name, None, Some(user)))
    }

    fn put(&mut self, name: &UserName, before: Option<Arc<User>>, after: Option<User>) -> UserDelta {
        let after = after.map(Arc::new);
        let admins =
            |user: &Option<Arc<User>>| usize::from(user.as_ref().is_some_and(|user| user.is_admin()));
        let users = |user: &Option<Arc<User>>| usize::from(user.is_some());
        self.admins_count = self.admins_count + admins(&after) - admins(&before).min(self.admins_count);
        self.users_count = self.users_count + users(&after) - users(&before).min(self.users_count);
        self.drafted.put(name.clone(), before.clone(), after.clone());
        UserDelta { name: name.clone(), before, after }
    }

    /// The user as it would be.
    fn find(&self, name: &UserName) -> Option<Arc<User>> {
        match self.drafted.staged.get(name) {
            Some(delta) => delta.after.clone(),
            None => self.gate.directory().find(name.as_octets()),
        }
    }

    /// A user that may be changed.
    fn changeable(&self, name: &UserName) -> Result<Arc<User>, UserError> {
        let user = self.find(name).ok_or(UserError::NotFound)?;
        if user.is_anonymous() { Err(UserError::Anonymous) } else { Ok(user) }
    }

    /// Refuses a change to these rights where nobody would be left who could undo it.
    fn keep_an_admin(&self, user: &User, role: Role, doors: Doors) -> Result<(), UserError> {
        let stays = role == Role::Admin && doors.admin;
        if user.is_admin() && !stays && self.admins_count <= 1 {
            return Err(UserError::LastAdmin);
        }
        Ok(())
    }

    /// Slow where the password is in clear: a user set while running has its verifier from the beginning.
    fn credentials(&self, name: &UserName, password: &NewPassword) -> Result<Arc<Credentials>, UserError> {
        let allowed = self.options.iterations;
        let credentials = match password {
            NewPassword::Clear(secret) => {
                check_password(secret.as_octets())?;
                let secret = Secret::new(secret.as_octets());
                let credentials =
                    Credentials::from_password(self.gate.keys(), name.as_octets(), secret, allowed);
                let _ = credentials.verifier();
                credentials
            }
            NewPassword::Verifier(verifier) if verifier.iterations() == allowed => {
                Credentials::from_verifier(verifier.clone())
            }
            NewPassword::Verifier(verifier) => {
                return Err(UserError::Iterations { got: verifier.iterations(), allowed });
            }
        };
        Ok(Arc::new(credentials))
    }
}

pub(super) fn check_password(password: &[u8]) -> Result<(), UserError> {
    if password.is_empty() || password.len() > USER_NAME_BYTES_MAX {
        return Err(UserError::Password(password.len()));
    }
    Ok(())
}
