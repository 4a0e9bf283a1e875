//! Requests of version 2: one match that leads each to its noun. The commands of the association itself (HELLO,
//! log-in, credit, cancel, unsubscribe, good-bye) are answered by its dialogue and never come here.

use pipo_protocol::v2::{Doors as WireDoors, Request, Role as WireRole, Status};

use super::super::answer::{Answer, Asker, Outcome, Refusal};
use super::super::core::Core;
use super::super::{
    commit, dns, drain, happenings, logs, metrics, server_info, sessions, settings, shutdown, statistics,
    users,
};
use crate::store::{Doors, Role, User};

/// What HELLO says that this daemon has (`pipo_protocol::v2::messages::FEATURES`).
pub(in crate::admin) const FEATURES: &[&str] = &["candidate", "trace", "credentials"];

/// The role as it travels.
pub(in crate::admin) fn role_of(user: &User) -> WireRole {
    match user.role() {
        Role::User => WireRole::User,
        Role::Observer => WireRole::Observer,
        Role::Operator => WireRole::Operator,
        Role::Admin => WireRole::Admin,
    }
}

/// The role that travelled in the field of that key.
pub(in crate::admin) fn role_from(role: WireRole, key: u64) -> Result<Role, Refusal> {
    match role {
        WireRole::User => Ok(Role::User),
        WireRole::Observer => Ok(Role::Observer),
        WireRole::Operator => Ok(Role::Operator),
        WireRole::Admin => Ok(Role::Admin),
        WireRole::Unassigned(_) => {
            let sentence = "Allowed roles are 0 user, 1 observer, 2 operator and 3 admin.";
            Err(Refusal::field(Status::Invalid, key, sentence))
        }
    }
}

/// The doors that travelled in the field of that key.
pub(in crate::admin) fn doors_from(doors: WireDoors, key: u64) -> Result<Doors, Refusal> {
    match doors {
        WireDoors::Proxy => Ok(Doors::PROXY),
        WireDoors::Admin => Ok(Doors::ADMIN),
        WireDoors::Both => Ok(Doors::BOTH),
        WireDoors::Unassigned(_) => {
            let sentence = "Allowed doors are 1 proxy, 2 admin and 3 both.";
            Err(Refusal::field(Status::Invalid, key, sentence))
        }
    }
}

/// The credit that a request grants to the channel that it opens.
pub(in crate::admin) fn granted(request: &Request) -> Option<u32> {
    match request {
        Request::ServerWorkers(body) => Some(body.credit),
        Request::Metrics(body) => Some(body.credit),
        Request::MetricsFollow(body) => Some(body.credit),
        Request::UserList(body) => Some(body.credit),
        Request::SessionList(body) => Some(body.credit),
        Request::SessionTrace(body) => Some(body.credit),
        Request::SettingList(body) => Some(body.credit),
        Request::ConfigDiff(body) => Some(body.credit),
        Request::DnsShow(body) => Some(body.credit),
        Request::LogFollow(body) => Some(body.credit),
        Request::Events(body) => Some(body.credit),
        Request::Hello(_)
        | Request::LoginStart(_)
        | Request::LoginProof(_)
        | Request::Goodbye(_)
        | Request::Cancel(_)
        | Request::Unsubscribe(_)
        | Request::Credit(_)
        | Request::ServerInfo(_)
        | Request::ServerDrain(_)
        | Request::ServerUndrain(_)
        | Request::ServerShutdown(_)
        | Request::Statistics(_)
        | Request::UserAdd(_)
        | Request::UserRemove(_)
        | Request::UserPassword(_)
        | Request::UserRole(_)
        | Request::SessionShow(_)
        | Request::SessionKill(_)
        | Request::SettingGet(_)
        | Request::SettingSet(_)
        | Request::SettingReset(_)
        | Request::ConfigStatus(_)
        | Request::ConfigCheck(_)
        | Request::ConfigCommit(_)
        | Request::ConfigConfirm(_)
        | Request::ConfigRollback(_)
        | Request::DnsFlush(_)
        | Request::LogRotate(_) => None,
    }
}

/// Carries a request out, or begins to.
pub(in crate::admin) fn dispatch(request: Request, asker: &Asker, core: &mut Core) -> Answer {
    // Those of the configuration itself know best what they may do while a commit waits.
    if commit::is_change(request.command()) && !is_of_config(&request) {
        core.config.check(None)?;
    }
    match request {
        Request::ServerInfo(_) => server_info::info(core, asker),
        Request::ServerWorkers(_) => server_info::workers(core),
        Request::ServerDrain(_) => drain::drain(core, asker),
        Request::ServerUndrain(_) => drain::undrain(core, asker),
        Request::ServerShutdown(body) => shutdown::shutdown(core, &body, asker),
        Request::Metrics(body) => metrics::list(core, &body),
        Request::MetricsFollow(body) => metrics::follow(core, &body),
        Request::Statistics(_) => statistics::own(core, asker),
        Request::UserList(body) => users::list_rows(core, body, asker),
        Request::UserAdd(body) => users::add_verifier(core, &body, asker),
        Request::UserRemove(body) => {
            users::remove(core, body.user.as_bytes(), asker)?;
            Ok(Outcome::Later)
        }
        Request::UserPassword(body) => users::set_password(core, &body, asker),
        Request::UserRole(body) => users::set_role(core, &body, asker),
        Request::SessionList(body) => sessions::list(core, &body, asker),
        Request::SessionShow(body) => sessions::show(core, &body, asker),
        Request::SessionKill(body) => sessions::kill(core, &body, asker),
        Request::SessionTrace(body) => sessions::trace(core, &body, asker),
        Request::DnsShow(body) => dns::show(core, &body, asker),
        Request::DnsFlush(body) => dns::flush(core, &body, asker),
        Request::SettingList(body) => Ok(settings::list(core, &body)),
        Request::SettingGet(body) => settings::get(core, &body),
        Request::SettingSet(body) => settings::set(core, &body, asker),
        Request::SettingReset(body) => settings::reset(core, &body, asker),
        Request::ConfigStatus(_) => commit::status(core),
        Request::ConfigDiff(body) => commit::diff(core, &body),
        Request::ConfigCheck(body) => commit::check(core, &body),
        Request::ConfigCommit(body) => commit::commit(core, &body, asker),
        Request::ConfigConfirm(body) => commit::confirm(core, &body, asker),
        Request::ConfigRollback(body) => commit::rollback(core, &body, asker),
        Request::LogFollow(body) => logs::follow(core, body, asker),
        Request::LogRotate(_) => logs::rotate(core, asker),
        Request::Events(body) => happenings::follow(core, body, asker),
        Request::Hello(_)
        | Request::LoginStart(_)
        | Request::LoginProof(_)
        | Request::Goodbye(_)
        | Request::Cancel(_)
        | Request::Unsubscribe(_)
        | Request::Credit(_) => Err(Refusal::of(Status::OutOfOrder)),
    }
}

fn is_of_config(request: &Request) -> bool {
    matches!(request, Request::ConfigCommit(_) | Request::ConfigConfirm(_) | Request::ConfigRollback(_))
}
