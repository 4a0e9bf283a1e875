//! The same words in version 1 of the protocol, as far as it can say them.

use pipo_protocol::Name;
use pipo_protocol::v1::{
    Asked, Modification, ModificationStatus, NumberQuery, Privilege, Query, QueryFailure, Reply, Request,
    Switch,
};
use pipo_protocol::v2::messages::MetricUnit;

use super::changes::user;
use super::{Failure, Runner};
use crate::exit::Exit;
use crate::grammar::{Action, Parsed, Values, Version1, number_of_bytes, span};
use crate::link::Link;
use crate::output::{Field, Rows, Value, metric_of_version_1, name_text};

/// The settings that version 1 can show, as version 2 names them.
const SETTINGS: &[(&str, NumberQuery)] = &[
    ("buffer-size", NumberQuery::BufferSize),
    ("idle-timeout", NumberQuery::IdleTimeout),
    ("poll-timeout", NumberQuery::SelectorTimeout),
];

/// The numbers that are metrics, as version 2 names them.
const METRICS: &[(&str, NumberQuery)] = &[
    ("sessions_accepted", NumberQuery::HistoricConnections),
    ("sessions_current", NumberQuery::CurrentConnections),
    ("sessions_highest", NumberQuery::MaximumConnections),
    ("bytes_up", NumberQuery::BytesReceived),
    ("bytes_down", NumberQuery::BytesSent),
    ("users_connected", NumberQuery::ConnectedUsers),
    ("users_registered", NumberQuery::RegisteredUsers),
];

impl Runner {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "what version 1 cannot say is all the rest, by its table"
    )]
    pub(super) async fn run_version_1(&mut self, link: &Link, parsed: &Parsed) -> Result<(), Failure> {
        let values = &parsed.values;
        if parsed.row.version_1 == Version1::Cannot {
            return Err(cannot(&parsed.row.words()));
        }
        match parsed.row.action {
            Action::UserList => self.users_1(link, values).await,
            Action::UserAdd => self.user_add_1(link, values).await,
            Action::UserRemove => {
                let user = user(values)?;
                let sentence = format!("User {} removed.", name_text(user.as_bytes()));
                self.modify(link, Modification::RemoveUser(user), &sentence).await
            }
            Action::Metrics => self.metrics_1(link, values).await,
            Action::ServerInfo => self.server_info_1(link, values).await,
            Action::SettingList => self.settings_1(link, values).await,
            Action::SettingGet => self.setting_get_1(link, values).await,
            Action::SettingSet => self.setting_set_1(link, values).await,
            _ => Err(cannot(&parsed.row.words())),
        }
    }

    /// All users with their roles, or one with its sessions.
    async fn users_1(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        if values.has("prefix") || values.has("limit") {
            return Err(cannot("user list with --prefix or --limit"));
        }
        let reply = link.ask_v1(Request::Query(Query::ListUsers)).await?;
        let Reply::Users(users) = reply else { return Err(refused(&reply)) };
        let only = values.user("NAME");
        let mut shown = Vec::new();
        for user in users.iter().filter(|user| only.as_ref().is_none_or(|only| *only == user.name)) {
            let role = match user.privilege {
                Privilege::User => "user",
                Privilege::Administrator => "admin",
            };
            let mut fields = vec![Field::new("user", &user.name), Field::new("role", role)];
            if only.is_some() {
                let query = Query::UserConnections(user.name.clone());
                fields.push(Field::new("sessions_count", number(link, query).await?));
            }
            shown.push(fields);
        }
        let mut rows = Rows::default();
        self.printer.rows(&mut rows, shown).await?;
        Ok(self.printer.end(rows).await?)
    }

    async fn user_add_1(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let privilege = match values.text("role").unwrap_or("user") {
            "user" => Privilege::User,
            "admin" => Privilege::Administrator,
            role => return Err(cannot(&format!("the role {role}"))),
        };
        if values.has("doors") {
            return Err(cannot("--doors"));
        }
        let name: Name = user(values)?;
        let password = self.new_password_of(&name, values).await?;
        let sentence = format!("User {} added.", name_text(name.as_bytes()));
        self.modify(link, Modification::AddUser { name, password, privilege }, &sentence).await
    }

    async fn metrics_1(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        if values.has("per-worker") || values.has("meanings") {
            return Err(cannot("metrics with --per-worker or --meanings"));
        }
        let prefix = values.text("PREFIX").unwrap_or_default();
        let mut shown = Vec::new();
        for (name, query) in METRICS.iter().filter(|(name, _)| name.starts_with(prefix)) {
            let unit = if name.starts_with("bytes") { MetricUnit::Bytes } else { MetricUnit::Count };
            shown.push(metric_of_version_1(name, number(link, Query::Number(*query)).await?, unit));
        }
        let mut rows = Rows::default();
        self.printer.rows(&mut rows, shown).await?;
        Ok(self.printer.end(rows).await?)
    }

    async fn server_info_1(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let mut fields = Vec::new();
        for (name, query) in [
            ("sessions_count", NumberQuery::CurrentConnections),
            ("users_connected_count", NumberQuery::ConnectedUsers),
            ("users_registered_count", NumberQuery::RegisteredUsers),
        ] {
            fields.push(Field::new(name, number(link, Query::Number(query)).await?));
        }
        self.show_record(fields, values.text("field")).await
    }

    async fn settings_1(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let prefix = values.text("PREFIX").unwrap_or_default();
        let mut shown = Vec::new();
        for (name, query) in SETTINGS.iter().filter(|(name, _)| name.starts_with(prefix)) {
            shown.push(setting_fields(name, number(link, Query::Number(*query)).await?));
        }
        let mut rows = Rows::default();
        self.printer.rows(&mut rows, shown).await?;
        Ok(self.printer.end(rows).await?)
    }

    async fn setting_get_1(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let name = values.text("SETTING").unwrap_or_default();
        let Some((name, query)) = SETTINGS.iter().find(|(known, _)| *known == name) else {
            return Err(cannot(&format!("the setting {}", crate::output::safe(name))));
        };
        let fields = setting_fields(name, number(link, Query::Number(*query)).await?);
        Ok(self.printer.record(&fields).await?)
    }

    async fn setting_set_1(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        if values.has("base") {
            return Err(cannot("--base"));
        }
        let name = values.text("SETTING").unwrap_or_default();
        let value = values.text("VALUE").unwrap_or_default();
        let modification = modification(name, value)?;
        self.modify(link, modification, &format!("{name} is {}.", crate::output::safe(value))).await
    }

    async fn modify(
        &mut self,
        link: &Link,
        modification: Modification,
        sentence: &str,
    ) -> Result<(), Failure> {
        let reply = link.ask_v1(Request::Modification(modification)).await?;
        let done = matches!(reply, Reply::Modified { status: ModificationStatus::Done, .. });
        if done { Ok(self.printer.done(sentence, &[]).await?) } else { Err(refused(&reply)) }
    }
}

fn setting_fields(name: &'static str, value: u64) -> Vec<Field> {
    let (unit, value) = match name {
        "buffer-size" => ("bytes", Value::Bytes(value)),
        _ => ("seconds", Value::Number(value)),
    };
    vec![Field::new("name", name), Field::new("value", value), Field::new("unit", unit)]
}

/// The modification that gives a setting that value.
fn modification(name: &str, value: &str) -> Result<Modification, Failure> {
    let switch = match value {
        "on" | "true" => Some(Switch::On),
        "off" | "false" => Some(Switch::Off),
        _ => None,
    };
    let wrong = |allowed: &str| {
        let value = crate::output::safe(value);
        Failure::usage(format!("setting set: {name}: \"{value}\" is not allowed: {allowed}"))
    };
    let seconds = || -> Result<u8, Failure> {
        let whole = span(value).filter(|span| span.subsec_millis() == 0).map(|span| span.as_secs());
        whole.and_then(|seconds| u8::try_from(seconds).ok()).ok_or_else(|| wrong("whole seconds up to 255"))
    };
    match (name, switch) {
        ("dissector", Some(switch)) => Ok(Modification::Dissector(switch)),
        ("dissector", None) => Err(wrong("on, off")),
        ("idle-timeout", Some(switch)) => Ok(Modification::IdleCleanup(switch)),
        ("idle-timeout", None) => Ok(Modification::IdleTimeout(seconds()?)),
        ("poll-timeout", _) => Ok(Modification::SelectorTimeout(seconds()?)),
        ("buffer-size", _) => {
            let bytes = number_of_bytes(value).and_then(|bytes| u32::try_from(bytes).ok());
            Ok(Modification::BufferSize(bytes.ok_or_else(|| wrong("octets below 4 GiB"))?))
        }
        _ => Err(cannot(&format!("the setting {}", crate::output::safe(name)))),
    }
}

fn cannot(what: &str) -> Failure {
    Failure::usage(format!("version 1 of the protocol cannot do this: {what}"))
}

async fn number(link: &Link, query: Query) -> Result<u64, Failure> {
    let reply = link.ask_v1(Request::Query(query)).await?;
    if let Reply::Number { value, .. } = reply { Ok(value) } else { Err(refused(&reply)) }
}

/// What a reply says that is not the one hoped for.
fn refused(reply: &Reply) -> Failure {
    let (exit, sentence) = match reply {
        Reply::Modified { status, .. } => match status {
            ModificationStatus::NameTaken => (Exit::Invalid, "there is a user by this name already"),
            ModificationStatus::NoSuchUser => (Exit::NotFound, "there is no user by this name"),
            ModificationStatus::NoRoom => (Exit::Refused, "there is no room for more users"),
            ModificationStatus::Unsupported => (Exit::Invalid, "the server does not support this value"),
            ModificationStatus::InvalidParameter => (
                Exit::Invalid,
                "the server does not allow this; one administrator has to remain, and anonymous",
            ),
            ModificationStatus::ServerError
            | ModificationStatus::Unassigned(_)
            | ModificationStatus::Done => (Exit::Refused, "the server could not do it"),
        },
        Reply::QueryFailed(QueryFailure::InvalidParameter) => {
            (Exit::Invalid, "the server does not allow this name")
        }
        Reply::QueryFailed(QueryFailure::ServerError | QueryFailure::Unassigned(_)) => {
            (Exit::Refused, "the server failed")
        }
        Reply::UnknownCommand(Asked::Query(_) | Asked::Modification(_)) | Reply::UnknownType => {
            (Exit::Refused, "the server does not know this command")
        }
        Reply::Users(_) | Reply::Number { .. } => return Failure::OtherAnswer,
    };
    Failure::Refused { exit, sentence: sentence.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_modifications() {
        for (name, value, expected) in [
            ("buffer-size", "64k", Some(Modification::BufferSize(65_536))),
            ("buffer-size", "0", Some(Modification::BufferSize(0))),
            ("buffer-size", "4g", None),
            ("poll-timeout", "10", Some(Modification::SelectorTimeout(10))),
            ("poll-timeout", "256", None),
            ("idle-timeout", "2m", Some(Modification::IdleTimeout(120))),
            ("idle-timeout", "1.5s", None),
            ("idle-timeout", "off", Some(Modification::IdleCleanup(Switch::Off))),
            ("idle-timeout", "on", Some(Modification::IdleCleanup(Switch::On))),
            ("dissector", "on", Some(Modification::Dissector(Switch::On))),
            ("dissector", "full", None),
            ("log-level", "debug", None),
        ] {
            assert_eq!(modification(name, value).ok(), expected, "{name} {value}");
        }
    }

    #[test]
    fn statuses_end_as_those_of_version_2_do() {
        let exit = |status| refused(&Reply::Modified { cmd: 0, status }).exit();
        assert_eq!(exit(ModificationStatus::NameTaken), Exit::Invalid);
        assert_eq!(exit(ModificationStatus::NoSuchUser), Exit::NotFound);
        assert_eq!(exit(ModificationStatus::ServerError), Exit::Refused);
        assert_eq!(refused(&Reply::UnknownType).exit(), Exit::Refused);
    }
}
