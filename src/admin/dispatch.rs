//! Requests of version 1 and what carries them out: one match over its commands, one file for each noun.
//!
//! The nouns (`users.rs`, `settings.rs`, `metrics.rs`) know no version; here their values and errors become
//! the replies of version 1.

use pipo_protocol::v1::{
    Modification, ModificationStatus, NumberQuery, Privilege, Query, QueryFailure, Reply, Request, Switch,
    UserEntry,
};
use pipo_protocol::{Name, Password};

use super::core::Core;
use super::metrics;
use super::notes::PeerKey;
use super::settings::{self, Cleanup};
use super::users::{self, Change};
use crate::settings::BadValue;
use crate::store::{Role, UserError};

/// Carries a request out. `None`: the reply comes later, as a note for `asker`.
pub(super) fn dispatch(request: Request, asker: PeerKey, core: &mut Core) -> Option<Reply> {
    match request {
        Request::Query(query) => Some(answer(&query, core)),
        Request::Modification(modification) => modify(modification, asker, core),
        Request::Invalid(asked) => Some(Reply::invalid(asked)),
        Request::UnknownCommand(asked) => Some(Reply::UnknownCommand(asked)),
        Request::UnknownType(_) => Some(Reply::UnknownType),
    }
}

fn answer(query: &Query, core: &Core) -> Reply {
    match query {
        Query::ListUsers => list_users(core),
        Query::Number(query) => Reply::Number { query: *query, value: number(*query, core) },
        Query::UserConnections(name) => Reply::Number {
            query: NumberQuery::UserConnections,
            value: users::sessions_of(core, name.as_bytes()),
        },
    }
}

fn number(query: NumberQuery, core: &Core) -> u64 {
    match query {
        NumberQuery::HistoricConnections => metrics::sessions_historic(core),
        NumberQuery::CurrentConnections => metrics::sessions_current(core),
        NumberQuery::MaximumConnections => metrics::sessions_highest(core),
        NumberQuery::BytesSent => metrics::bytes_sent(core),
        NumberQuery::BytesReceived => metrics::bytes_received(core),
        NumberQuery::ConnectedUsers => users::connected_count(core),
        NumberQuery::RegisteredUsers => users::registered_count(core),
        NumberQuery::BufferSize => settings::buffer_bytes(core),
        NumberQuery::SelectorTimeout => settings::poll_timeout_seconds(core),
        NumberQuery::IdleTimeout => settings::idle_timeout_seconds(core),
        // Asked with a name only, see `answer`.
        NumberQuery::UserConnections => 0,
    }
}

fn list_users(core: &Core) -> Reply {
    let entry = |user: &std::sync::Arc<crate::store::User>| {
        let privilege = match user.role() {
            Role::Admin => Privilege::Administrator,
            Role::User | Role::Observer | Role::Operator => Privilege::User,
        };
        Name::new(user.name().as_octets()).ok().map(|name| UserEntry { name, privilege })
    };
    let entries: Option<Vec<_>> =
        users::list(core, pipo_protocol::limits::V1_USERS_COUNT_MAX).iter().map(entry).collect();
    entries.map_or(Reply::QueryFailed(QueryFailure::ServerError), Reply::Users)
}

fn modify(modification: Modification, asker: PeerKey, core: &mut Core) -> Option<Reply> {
    let cmd = modification.cmd();
    let status = match modification {
        Modification::AddUser { name, password, privilege } => {
            let role = match privilege {
                Privilege::Administrator => Role::Admin,
                Privilege::User => Role::User,
            };
            return add_user(&name, &password, role, asker, core);
        }
        Modification::RemoveUser(name) => return remove_user(&name, asker, core),
        Modification::Dissector(Switch::Off) => status_of(&settings::change(core, "dissector", "off")),
        // This build looks at nothing, so there is nothing to turn on.
        Modification::Dissector(Switch::On) => ModificationStatus::ServerError,
        Modification::IdleCleanup(Switch::Off) => status_of(&settings::set_cleanup(core, Cleanup::Off)),
        Modification::IdleCleanup(Switch::On) => status_of(&settings::set_cleanup(core, Cleanup::On)),
        Modification::BufferSize(bytes) => {
            status_of(&settings::change(core, "buffer-size", &bytes.to_string()))
        }
        Modification::SelectorTimeout(seconds) => {
            status_of(&settings::change(core, "poll-timeout", &seconds.to_string()))
        }
        Modification::IdleTimeout(seconds) => status_of(&settings::set_idle_timeout(core, seconds)),
    };
    Some(Reply::Modified { cmd, status })
}

fn add_user(name: &Name, password: &Password, role: Role, asker: PeerKey, core: &mut Core) -> Option<Reply> {
    match users::add(core, name.as_bytes(), password.as_bytes(), role, asker) {
        Ok(()) => None,
        Err(error) => Some(changed(&Change::Added(Err(error)))),
    }
}

fn remove_user(name: &Name, asker: PeerKey, core: &mut Core) -> Option<Reply> {
    match users::remove(core, name.as_bytes(), asker) {
        Ok(()) => None,
        Err(error) => Some(changed(&Change::Removed(Err(error)))),
    }
}

/// The reply to a change of users, once the store has made it or not.
pub(super) fn changed(change: &Change) -> Reply {
    let (cmd, result) = match change {
        Change::Added(result) => (0x00, result),
        Change::Removed(result) => (0x01, result),
    };
    let status = match result {
        Ok(_) => ModificationStatus::Done,
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
            let removed = changed(&Change::Removed(Err(error.clone())));
            assert_eq!(removed.encode(), [0x01, 0x01, status], "{error:?}");
            assert_eq!(changed(&Change::Added(Err(error))).encode(), [0x01, 0x00, status]);
        }
    }
}
