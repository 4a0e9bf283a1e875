//! Users as the admin channel shows and changes them. The store makes the changes, on its own thread; what
//! follows from them comes back as a note.

use std::sync::Arc;

use super::core::Core;
use super::notes::{Note, PeerKey};
use crate::store::{Doors, NewPassword, NewUser, Role, Secret, User, UserError, UserName};

/// What became of a change.
#[derive(Debug)]
pub(super) enum Change {
    /// A user was added, or not.
    Added(Result<Arc<User>, UserError>),
    /// A user was removed, or not.
    Removed(Result<Arc<User>, UserError>),
}

impl Change {
    /// Whether anything is other than before.
    pub(super) fn is_made(&self) -> bool {
        match self {
            Self::Added(result) | Self::Removed(result) => result.is_ok(),
        }
    }
}

/// The first `count_max` users by name, `anonymous` among them.
pub(super) fn list(core: &Core, count_max: usize) -> Vec<Arc<User>> {
    let mut users = core.store.directory().list();
    users.truncate(count_max);
    users
}

/// Users with a session now, `anonymous` counted as one.
pub(super) fn connected_count(core: &Core) -> u64 {
    core.store.directory().list().iter().filter(|user| user.live().sessions() > 0).count() as u64
}

/// Users there are, `anonymous` included.
pub(super) fn registered_count(core: &Core) -> u64 {
    core.store.directory().count() as u64
}

/// Sessions of one user now; nobody has none.
pub(super) fn sessions_of(core: &Core, name: &[u8]) -> u64 {
    core.store.directory().find(name).map_or(0, |user| u64::from(user.live().sessions()))
}

/// Adds a user: for the proxy, and for the admin channel too where it is an administrator. What became of it
/// comes as a note for `asker`.
pub(super) fn add(
    core: &Core,
    name: &[u8],
    password: &[u8],
    role: Role,
    asker: PeerKey,
) -> Result<(), UserError> {
    let doors = Doors::usual(role);
    let password = NewPassword::Clear(Secret::new(password));
    let user = NewUser { name: UserName::new(name)?, password, role, doors };
    let notes = core.notes.clone();
    core.store.add_user(user, move |result| notes.leave(Note::UserChanged(asker, Change::Added(result))));
    Ok(())
}

/// Removes a user, whose sessions end. What became of it comes as a note for `asker`.
pub(super) fn remove(core: &Core, name: &[u8], asker: PeerKey) -> Result<(), UserError> {
    let notes = core.notes.clone();
    core.store.remove_user(UserName::new(name)?, move |result| {
        notes.leave(Note::UserChanged(asker, Change::Removed(result)));
    });
    Ok(())
}
