//! Requests of version 1: one match over its commands. The nouns' values and errors become its replies here.

use std::sync::Arc;

use pipo_protocol::limits::V1_USERS_COUNT_MAX;
use pipo_protocol::v1::{
    Modification, ModificationStatus, NumberQuery, Privilege, Query, QueryFailure, Reply, Request, Switch,
    UserEntry,
};
use pipo_protocol::v2::Command;
use pipo_protocol::{Name, Password};

use super::super::answer::Asker;
use super::super::core::Core;
use super::super::inquiry::Trouble;
use super::super::metrics;
use super::super::notes::Note;
use super::super::settings::{self, Cleanup};
use super::super::users::{self, Change, Deed};
use crate::settings::BadValue;
use crate::store::{Directory, Role, User, UserError};

/// Carries a request out. `None`: the reply comes later, as a note for `asker`.
pub(in crate::admin) fn dispatch(request: Request, asker: &Asker, core: &mut Core) -> Option<Reply> {
    match request {
        Request::Query(query) => answer(&query, asker, core),
        Request::Modification(modification) => modify(modification, asker, core),
        Request::Invalid(asked) => Some(Reply::invalid(asked)),
        Request::UnknownCommand(asked) => Some(Reply::UnknownCommand(asked)),
        Request::UnknownType(_) => Some(Reply::UnknownType),
    }
}

fn answer(query: &Query, asker: &Asker, core: &Core) -> Option<Reply> {
    match query {
        Query::ListUsers => survey(core, asker, list_users),
        Query::Number(query @ NumberQuery::ConnectedUsers) => {
            let query = *query;
            survey(core, asker, move |all| Reply::Number { query, value: users::connected_count(all) })
        }
        Query::Number(query) => Some(Reply::Number { query: *query, value: number(*query, core) }),
        Query::UserConnections(name) => Some(Reply::Number {
            query: NumberQuery::UserConnections,
            value: users::sessions_of(core, name.as_bytes()),
        }),
    }
}

/// Answers what all users have to be looked at for: on the store's thread, by a note.
fn survey(
    core: &Core,
    asker: &Asker,
    look: impl FnOnce(&Directory) -> Reply + Send + 'static,
) -> Option<Reply> {
    let (notes, peer) = (core.notes.clone(), asker.peer);
    core.store.survey(move |directory| {
        let reply = directory.map_or(Reply::QueryFailed(QueryFailure::ServerError), look);
        notes.leave(Note::Replied(peer, reply));
    });
    None
}

fn number(query: NumberQuery, core: &Core) -> u64 {
    match query {
        NumberQuery::HistoricConnections => metrics::sessions_historic(core),
        NumberQuery::CurrentConnections => metrics::sessions_current(core),
        NumberQuery::MaximumConnections => metrics::sessions_highest(core),
        NumberQuery::BytesSent => metrics::bytes_sent(core),
        NumberQuery::BytesReceived => metrics::bytes_received(core),
        NumberQuery::RegisteredUsers => users::registered_count(core),
        NumberQuery::BufferSize => settings::buffer_bytes(core),
        NumberQuery::SelectorTimeout => settings::poll_timeout_seconds(core),
        NumberQuery::IdleTimeout => settings::idle_timeout_seconds(core),
        // Answered otherwise, see `answer`.
        NumberQuery::ConnectedUsers | NumberQuery::UserConnections => 0,
    }
}

fn list_users(all: &Directory) -> Reply {
    let entry = |user: &Arc<User>| {
        let privilege = match user.role() {
            Role::Admin => Privilege::Administrator,
            Role::User | Role::Observer | Role::Operator => Privilege::User,
        };
        Name::new(user.name().as_octets()).ok().map(|name| UserEntry { name, privilege })
    };
    let users = all.list_some(&[], V1_USERS_COUNT_MAX);
    let entries: Option<Vec<_>> = users.iter().map(entry).collect();
    entries.map_or(Reply::QueryFailed(QueryFailure::ServerError), Reply::Users)
}

fn modify(modification: Modification, asker: &Asker, core: &mut Core) -> Option<Reply> {
    let cmd = modification.cmd();
    if core.config.check(None).is_err() {
        // A commit waits to be confirmed.
        return Some(Reply::Modified { cmd, status: ModificationStatus::ServerError });
    }
    let status = match modification {
        Modification::AddUser { name, password, privilege } => {
            let role = match privilege {
                Privilege::Administrator => Role::Admin,
                Privilege::User => Role::User,
            };
            return add_user(&name, &password, role, asker, core);
        }
        Modification::RemoveUser(name) => return remove_user(&name, asker, core),
        Modification::Dissector(Switch::Off) => set(core, asker, "dissector", "off"),
        // Version 1 knows one way to be on.
        Modification::Dissector(Switch::On) => set(core, asker, "dissector", "full"),
        Modification::IdleCleanup(switch) => {
            let cleanup = match switch {
                Switch::Off => Cleanup::Off,
                Switch::On => Cleanup::On,
            };
            let result = settings::set_cleanup(core, cleanup);
            was_set(core, asker, settings::IDLE_TIMEOUT, &result)
        }
        Modification::BufferSize(bytes) => set(core, asker, "buffer-size", &bytes.to_string()),
        Modification::SelectorTimeout(seconds) => set(core, asker, "poll-timeout", &seconds.to_string()),
        Modification::IdleTimeout(seconds) => {
            let result = settings::set_idle_timeout(core, seconds);
            was_set(core, asker, settings::IDLE_TIMEOUT, &result)
        }
    };
    Some(Reply::Modified { cmd, status })
}

fn add_user(name: &Name, password: &Password, role: Role, asker: &Asker, core: &mut Core) -> Option<Reply> {
    match users::add(core, name.as_bytes(), password.as_bytes(), role, asker) {
        Ok(()) => None,
        Err(error) => Some(modified(Deed::Add, Err(&error))),
    }
}

fn remove_user(name: &Name, asker: &Asker, core: &mut Core) -> Option<Reply> {
    match users::remove(core, name.as_bytes(), asker) {
        Ok(()) => None,
        Err(error) => Some(modified(Deed::Remove, Err(&error))),
    }
}

/// The reply to a change of users, once the store has made it or not.
pub(in crate::admin) fn changed(change: &Change, ended: Result<u64, Trouble>) -> Reply {
    match (&change.result, ended) {
        (Ok(_), Ok(_)) => modified(change.deed, Ok(())),
        // Who asks again learns that the user is gone; that its sessions are is not known.
        (Ok(_), Err(_)) => modified(change.deed, Err(&UserError::Busy)),
        (Err(error), _) => modified(change.deed, Err(error)),
    }
}

fn modified(deed: Deed, result: Result<(), &UserError>) -> Reply {
    let cmd = match deed {
        Deed::Add => 0x00,
        // Version 1 asks for nothing else.
        Deed::Remove | Deed::Password | Deed::Rights => 0x01,
    };
    let status = match result {
        Ok(()) => ModificationStatus::Done,
        Err(UserError::Taken) => ModificationStatus::NameTaken,
        Err(UserError::NoRoom(_)) => ModificationStatus::NoRoom,
        Err(UserError::NotFound) => ModificationStatus::NoSuchUser,
        Err(UserError::Anonymous | UserError::LastAdmin | UserError::Name(_) | UserError::Password(_)) => {
            ModificationStatus::InvalidParameter
        }
        Err(UserError::Iterations { .. } | UserError::Busy) => ModificationStatus::ServerError,
    };
    Reply::Modified { cmd, status }
}

fn set(core: &mut Core, asker: &Asker, name: &str, text: &str) -> ModificationStatus {
    let result = settings::change(core, name, text);
    was_set(core, asker, name, &result)
}

/// Makes a change known, if there was one.
fn was_set(
    core: &mut Core,
    asker: &Asker,
    name: &str,
    result: &Result<(), settings::ChangeError>,
) -> ModificationStatus {
    if result.is_ok() {
        core.changed(asker, Command::SettingSet, name);
    }
    status_of(result)
}

fn status_of(result: &Result<(), settings::ChangeError>) -> ModificationStatus {
    match result {
        Ok(()) => ModificationStatus::Done,
        Err(settings::ChangeError::Value(BadValue::Rejected { .. })) => ModificationStatus::Unsupported,
        Err(
            settings::ChangeError::Value(
                BadValue::Unknown { .. } | BadValue::NotAValue { .. } | BadValue::StartOnly { .. },
            )
            | settings::ChangeError::Adopt(_),
        ) => ModificationStatus::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_a_user_change_has_its_status() {
        let table = [
            (UserError::Taken, 0x01),
            (UserError::NoRoom(5), 0x02),
            (UserError::NotFound, 0x01),
            (UserError::Anonymous, 0xfe),
            (UserError::LastAdmin, 0xfe),
            (UserError::Name(0), 0xfe),
            (UserError::Password(0), 0xfe),
            (UserError::Busy, 0xff),
        ];
        for (error, status) in table {
            let removed = modified(Deed::Remove, Err(&error));
            assert_eq!(removed.encode(), [0x01, 0x01, status], "{error:?}");
            assert_eq!(modified(Deed::Add, Err(&error)).encode(), [0x01, 0x00, status]);
        }
    }
}
