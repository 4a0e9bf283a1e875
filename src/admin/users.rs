//! Users as the admin channel shows and changes them. The store makes the changes, on its own thread; what
//! follows from them comes back as a note.

use std::sync::Arc;

use pipo_protocol::Name;
use pipo_protocol::v2::messages::{
    Changed, UserAdd, UserListRequest, UserPart, UserPassword, UserRole, UserRow, Verifier,
};
use pipo_protocol::v2::{self, Command, Reply, Status};

use super::answer::{Answer, Asker, Outcome, Refusal};
use super::core::Core;
use super::dispatch::v2::{doors_from, role_from, role_of};
use super::inquiry::Trouble;
use super::notes::Note;
use super::rows::{self, Next};
use crate::limits::ADMIN_USER_LISTS_MAX;
use crate::store::{
    Directory, Doors, NewPassword, NewUser, Role, ScramVerifier, Secret, User, UserError, UserName,
};

/// What is done to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Add,
    Remove,
    Password,
    Rights,
}

impl Deed {
    /// The command of version 2 that does it.
    pub(super) fn command(self) -> Command {
        match self {
            Self::Add => Command::UserAdd,
            Self::Remove => Command::UserRemove,
            Self::Password => Command::UserPassword,
            Self::Rights => Command::UserRole,
        }
    }
}

/// What became of a change.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) deed: Deed,
    /// Whom it concerns.
    pub(super) name: UserName,
    /// The record after it, or the last one; or why nothing was changed.
    pub(super) result: Result<Arc<User>, UserError>,
}

// ---- asking ---------------------------------------------------------------------------------------------

/// Users with a session now, `anonymous` counted as one. Milliseconds for 100,000 users: for a survey.
pub(super) fn connected_count(directory: &Directory) -> u64 {
    directory.count_where(|user| user.live().sessions() > 0) as u64
}

/// Users there are, `anonymous` included.
pub(super) fn registered_count(core: &Core) -> u64 {
    core.store.directory().count() as u64
}

/// Sessions of one user now; nobody has none.
pub(super) fn sessions_of(core: &Core, name: &[u8]) -> u64 {
    core.store.directory().find(name).map_or(0, |user| u64::from(user.live().sessions()))
}

/// One user with its statistics.
pub(super) fn row(user: &Arc<User>) -> Option<UserRow> {
    let (doors, live) = (user.doors(), user.live());
    Some(UserRow {
        user: Name::new(user.name().as_octets()).ok()?,
        role: role_of(user),
        doors: match (doors.proxy, doors.admin) {
            (true, true) => v2::Doors::Both,
            (false, true) => v2::Doors::Admin,
            (true | false, false) => v2::Doors::Proxy,
        },
        enabled: doors.proxy || doors.admin,
        sessions_count: u64::from(live.sessions()),
        sessions_total_count: live.sessions_total(),
        bytes_up: live.bytes_up(),
        bytes_down: live.bytes_down(),
        last_seen_unix_ms: None,
    })
}

/// Users by name. Sorting 100,000 of them takes long, so the store does it; rows are made as they are sent.
pub(super) fn list_rows(core: &Core, body: UserListRequest, asker: &Asker) -> Answer {
    if let Some(name) = body.user {
        let user = core.store.directory().find(name.as_bytes()).ok_or(UserError::NotFound)?;
        return Ok(Outcome::Open(rows::listing_of::<UserPart>(core, row(&user))));
    }
    let permit = Arc::clone(&core.user_lists);
    if Arc::strong_count(&permit) > ADMIN_USER_LISTS_MAX + 1 {
        return Err(Refusal::of(Status::Busy));
    }
    let prefix = body.prefix.map_or_else(Vec::new, |prefix| prefix.as_bytes().to_vec());
    let limit = body.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let (notes, asker, as_of) = (core.notes.clone(), asker.clone(), core.events.sequence());
    core.store.survey(move |directory| {
        let answer = directory.map(|directory| {
            let mut rows = directory.list_some(&prefix, limit).into_iter().filter_map(|user| row(&user));
            let next = move |_: &mut Core| {
                let _held_until_the_list_is_gone = &permit;
                rows.next().map_or(Next::End, Next::Row)
            };
            Outcome::Open(rows::listing::<UserPart>(as_of, next))
        });
        notes.leave(Note::Answered(asker, answer.map_err(Refusal::from)));
    });
    Ok(Outcome::Later)
}

// ---- changing -------------------------------------------------------------------------------------------

/// Adds a user whose password came in clear. What became of it comes as a note.
pub(super) fn add(
    core: &Core,
    name: &[u8],
    password: &[u8],
    role: Role,
    asker: &Asker,
) -> Result<(), UserError> {
    let password = NewPassword::Clear(Secret::new(password));
    let user = NewUser { name: UserName::new(name)?, password, role, doors: Doors::usual(role) };
    add_user(core, user, asker);
    Ok(())
}

/// Adds a user whose verifier was made by the client.
pub(super) fn add_verifier(core: &Core, body: &UserAdd, asker: &Asker) -> Answer {
    let role = role_from(body.role, 3)?;
    let user = NewUser {
        name: UserName::new(body.user.as_bytes())?,
        password: password_of(&body.verifier)?,
        role,
        doors: match body.doors {
            Some(doors) => doors_from(doors, 4)?,
            None => Doors::usual(role),
        },
    };
    add_user(core, user, asker);
    Ok(Outcome::Later)
}

fn add_user(core: &Core, user: NewUser, asker: &Asker) {
    let reply = reply_to(core, Deed::Add, &user.name, asker);
    core.store.add_user(user, reply);
}

/// Removes a user, whose sessions end.
pub(super) fn remove(core: &Core, name: &[u8], asker: &Asker) -> Result<(), UserError> {
    let name = UserName::new(name)?;
    let reply = reply_to(core, Deed::Remove, &name, asker);
    core.store.remove_user(name, reply);
    Ok(())
}

/// Gives a user another password; its sessions end.
pub(super) fn set_password(core: &Core, body: &UserPassword, asker: &Asker) -> Answer {
    let name = UserName::new(body.user.as_bytes())?;
    let password = password_of(&body.verifier)?;
    let reply = reply_to(core, Deed::Password, &name, asker);
    core.store.set_password(name, password, reply);
    Ok(Outcome::Later)
}

/// Gives a user another role, and other doors where they are named.
pub(super) fn set_role(core: &Core, body: &UserRole, asker: &Asker) -> Answer {
    let name = UserName::new(body.user.as_bytes())?;
    let reply = reply_to(core, Deed::Rights, &name, asker);
    let doors = body.doors.map(|doors| doors_from(doors, 3)).transpose()?;
    core.store.set_rights(name, role_from(body.role, 2)?, doors, reply);
    Ok(Outcome::Later)
}

/// What leaves the note, on the store's thread.
fn reply_to(
    core: &Core,
    deed: Deed,
    name: &UserName,
    asker: &Asker,
) -> impl FnOnce(Result<Arc<User>, UserError>) + Send + 'static {
    let (notes, asker, name) = (core.notes.clone(), asker.clone(), name.clone());
    move |result| notes.leave(Note::UserChanged(asker, Change { deed, name, result }))
}

pub(super) fn password_of(verifier: &Verifier) -> Result<NewPassword, Refusal> {
    let (stored, server) = (*verifier.stored_key.as_bytes(), *verifier.server_key.as_bytes());
    ScramVerifier::from_parts(verifier.iterations, verifier.salt.as_bytes(), stored, server)
        .map(NewPassword::Verifier)
        .map_err(|error| Refusal::saying(Status::Invalid, &format!("{error}.")))
}

/// The reply of version 2 to a change, once its consequences are known to everybody.
pub(super) fn changed(core: &Core, change: &Change, ended: Result<u64, Trouble>) -> Answer {
    change.result.as_ref().map_err(|error| Refusal::from(error.clone()))?;
    let body = Changed {
        as_of: core.events.sequence(),
        revision: core.revision(),
        sessions_closed_count: u32::try_from(ended?).unwrap_or(u32::MAX),
    };
    Outcome::reply(match change.deed {
        Deed::Add => Reply::UserAdd(body),
        Deed::Remove => Reply::UserRemove(body),
        Deed::Password => Reply::UserPassword(body),
        Deed::Rights => Reply::UserRole(body),
    })
}
