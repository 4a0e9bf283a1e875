//! What each message of the protocol shows, field by field, under the names of the wire.

use std::net::SocketAddr;

use pipo_protocol::v2::events::{ChangeEvent, CredentialEvent, Gap, SessionEvent};
use pipo_protocol::v2::messages::{
    CacheRow, Changed, Checked, ConfigStatus, DiffRow, DrainReply, Flushed, Killed, LogLine, MetricKind,
    MetricRow, MetricUnit, OwnStatistics, PendingCommit, Problem, ServerInfo, SessionDetails, SessionRow,
    SettingRow, TraceStep, UserRow, WorkerRow,
};
use pipo_protocol::v2::{Command, Status, Text};

use super::value::{Field, Record, Value};

fn word(word: impl std::fmt::Display) -> Value {
    Value::Word(word.to_string())
}

/// Sixteen digits, as in logs.
fn session(id: u64) -> Value {
    Value::Word(format!("{id:016x}"))
}

/// A destination as people write it; `-` before it was asked.
fn to(destination: Option<&Text<256>>, port: Option<u16>) -> Value {
    match (destination, port) {
        (Some(host), Some(port)) if host.as_str().contains(':') => Value::Text(format!("[{host}]:{port}")),
        (Some(host), Some(port)) => Value::Text(format!("{host}:{port}")),
        (Some(host), None) => Value::from(host),
        (None, _) => Value::Absent,
    }
}

impl Record for ServerInfo {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::for_programs("as_of", self.as_of),
            Field::new("version", &self.version),
            Field::new("state", word(self.state)),
            Field::new("started_unix_ms", Value::Time(self.started_unix_ms)),
            Field::new("uptime_ms", Value::Milliseconds(self.uptime_ms)),
            Field::new("process", self.process),
            Field::new("workers_count", self.workers_count),
            Field::new("sessions_count", self.sessions_count),
            Field::new("users_connected_count", self.users_connected_count),
            Field::new("users_registered_count", self.users_registered_count),
            Field::new("socks_listeners", self.socks_listeners.clone()),
            Field::new("admin_listeners", self.admin_listeners.clone()),
            Field::new("admin_transport", &self.admin_transport),
            Field::new("resolver", word(self.resolver)),
            Field::new("revision", self.revision),
            Field::new("pending", self.pending.as_ref().map(|pending| Value::Record(pending.fields()))),
        ]
    }
}

impl Record for PendingCommit {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("revision", self.revision),
            Field::new("user", &self.user),
            Field::new("left_ms", Value::Milliseconds(self.left_ms)),
        ]
    }
}

impl Record for WorkerRow {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("worker", self.worker),
            Field::new("sessions_count", self.sessions_count),
            Field::new("sessions_total_count", self.sessions_total_count),
            Field::new("bytes_up", Value::Bytes(self.bytes_up)),
            Field::new("bytes_down", Value::Bytes(self.bytes_down)),
            Field::new("lookups_count", self.lookups_count),
            Field::new("cache_entries_count", self.cache_entries_count),
            Field::new("inbox_count", self.inbox_count),
            Field::new("turn_us_max", self.turn_us_max.map(|us| Value::Microseconds(us.into()))),
        ]
    }
}

impl Record for MetricRow {
    fn fields(&self) -> Vec<Field> {
        let unit = match self.unit {
            MetricUnit::Bytes => Value::Bytes(self.value),
            MetricUnit::Milliseconds => Value::Milliseconds(self.value),
            MetricUnit::Microseconds => Value::Microseconds(self.value),
            MetricUnit::Count | MetricUnit::Unassigned(_) => Value::Number(self.value),
        };
        let mut fields = vec![Field::new("name", &self.name), Field::new("value", unit)];
        fields.push(Field::for_programs("kind", word(self.kind)));
        fields.push(Field::for_programs("unit", word(self.unit)));
        fields.extend(self.worker.map(|worker| Field::new("worker", worker)));
        fields.extend(self.meaning.as_ref().map(|meaning| Field::new("meaning", meaning)));
        fields
    }
}

/// A metric of version 1, as a row of version 2.
pub(crate) fn metric_of_version_1(name: &'static str, value: u64, unit: MetricUnit) -> Vec<Field> {
    let kind = if ["_current", "_highest"].iter().any(|end| name.ends_with(end)) || name.starts_with("users_")
    {
        MetricKind::Gauge
    } else {
        MetricKind::Counter
    };
    let name = Text::cut(name);
    MetricRow { name, value, kind, unit, worker: None, meaning: None }.fields()
}

impl Record for OwnStatistics {
    fn fields(&self) -> Vec<Field> {
        let mut fields = vec![Field::for_programs("as_of", self.as_of)];
        fields.extend(self.user.fields());
        fields
    }
}

impl Record for UserRow {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("user", &self.user),
            Field::new("role", word(self.role)),
            Field::new("doors", word(self.doors)),
            Field::new("enabled", self.enabled),
            Field::new("sessions_count", self.sessions_count),
            Field::new("sessions_total_count", self.sessions_total_count),
            Field::new("bytes_up", Value::Bytes(self.bytes_up)),
            Field::new("bytes_down", Value::Bytes(self.bytes_down)),
            Field::new("last_seen_unix_ms", self.last_seen_unix_ms.map(Value::Time)),
        ]
    }
}

impl Record for SessionRow {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("id", session(self.id)),
            Field::new("user", &self.user),
            Field::new("source", self.source),
            Field::for_people("destination", to(self.destination.as_ref(), self.destination_port)),
            Field::for_programs("destination", self.destination.as_ref()),
            Field::for_programs("destination_port", self.destination_port),
            Field::for_programs("origin", self.origin),
            Field::new("stage", word(self.stage)),
            Field::new("age_ms", Value::Milliseconds(self.age_ms)),
            Field::new("idle_ms", Value::Milliseconds(self.idle_ms)),
            Field::new("bytes_up", Value::Bytes(self.bytes_up)),
            Field::new("bytes_down", Value::Bytes(self.bytes_down)),
        ]
    }
}

impl Record for SessionDetails {
    fn fields(&self) -> Vec<Field> {
        let mut fields = vec![Field::for_programs("as_of", self.as_of)];
        fields.extend(self.session.fields());
        fields.push(Field::for_people("origin", self.session.origin));
        fields.extend([
            Field::new("worker", self.worker),
            Field::new("listener", self.listener),
            Field::new("outgoing", self.outgoing),
            Field::new("accepted_unix_ms", Value::Time(self.accepted_unix_ms)),
            Field::new("command", self.command),
            Field::new("reply", self.reply),
            Field::new("dns_us", self.dns_us.map(Value::Microseconds)),
            Field::new("connect_us", self.connect_us.map(Value::Microseconds)),
            Field::new("candidates", self.candidates.clone()),
            Field::new("attempts_count", self.attempts_count),
            Field::new("mover", self.mover.as_ref()),
            Field::new("buffered_up_bytes", Value::Bytes(self.buffered_up_bytes)),
            Field::new("buffered_down_bytes", Value::Bytes(self.buffered_down_bytes)),
            Field::new("client_ended", self.client_ended),
            Field::new("origin_ended", self.origin_ended),
            Field::new("deadline_ms", self.deadline_ms.map(Value::Milliseconds)),
        ]);
        fields
    }
}

impl Record for SettingRow {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("name", &self.name),
            Field::new("value", &self.value),
            Field::new("default", &self.default),
            Field::new("source", word(self.source)),
            Field::new("effect", word(self.effect)),
            Field::new("kind", word(self.kind)),
            Field::new("unit", self.unit.as_ref()),
            Field::new("allowed", &self.allowed),
            Field::for_programs("words", self.words.iter().map(Value::from).collect::<Vec<_>>()),
            Field::new("help", &self.help),
        ]
    }
}

/// A setting in a list: people get help and range from `setting get`.
pub(crate) fn setting_in_list(row: &SettingRow) -> Vec<Field> {
    let mut fields = row.fields();
    for field in &mut fields {
        if ["kind", "unit", "allowed", "help"].contains(&field.name) {
            field.place = super::value::Place::Programs;
        }
    }
    fields
}

impl Record for ConfigStatus {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::for_programs("as_of", self.as_of),
            Field::new("revision", self.revision),
            Field::new("revision_oldest", self.revision_oldest),
            Field::new("pending", self.pending.as_ref().map(|pending| Value::Record(pending.fields()))),
        ]
    }
}

impl Record for DiffRow {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("kind", word(self.kind)),
            Field::new("setting", self.setting.as_ref()),
            Field::new("user", self.user.as_ref().map(Value::from)),
            Field::new("before", self.before.as_ref()),
            Field::new("after", self.after.as_ref()),
            Field::new("sessions_count", self.sessions_count),
        ]
    }
}

impl Record for Checked {
    fn fields(&self) -> Vec<Field> {
        let problems = self.problems.iter().map(|problem| Value::Record(problem.fields())).collect();
        vec![
            Field::for_programs("as_of", self.as_of),
            Field::new("revision", self.revision),
            Field::new("problems", Value::List(problems)),
            Field::new("problems_count", self.problems_count),
        ]
    }
}

impl Record for Problem {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("change", u64::from(self.change) + 1),
            Field::new("status", Status::from(self.status).name()),
            Field::new("sentence", &self.sentence),
        ]
    }
}

impl Record for Changed {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::for_programs("as_of", self.as_of),
            Field::new("revision", self.revision),
            Field::new("sessions_closed_count", self.sessions_closed_count),
        ]
    }
}

impl Record for Killed {
    fn fields(&self) -> Vec<Field> {
        vec![Field::for_programs("as_of", self.as_of), Field::new("sessions_count", self.sessions_count)]
    }
}

impl Record for DrainReply {
    fn fields(&self) -> Vec<Field> {
        vec![Field::for_programs("as_of", self.as_of), Field::new("sessions_count", self.sessions_count)]
    }
}

impl Record for Flushed {
    fn fields(&self) -> Vec<Field> {
        vec![Field::for_programs("as_of", self.as_of), Field::new("entries_count", self.entries_count)]
    }
}

impl Record for CacheRow {
    fn fields(&self) -> Vec<Field> {
        let kind = match self.family {
            4 => Value::from("A"),
            6 => Value::from("AAAA"),
            other => word(other),
        };
        vec![
            Field::new("name", &self.name),
            Field::new("type", kind),
            Field::new("addresses", self.addresses.clone()),
            Field::new("ttl_ms", Value::Milliseconds(self.ttl_ms)),
            Field::new("source", word(self.source)),
            Field::new("worker", self.worker),
        ]
    }
}

impl Record for LogLine {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("kind", word(self.kind)),
            Field::new("level", self.level.map(word)),
            Field::new("line", &self.line),
        ]
    }
}

impl Record for Gap {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("kind", "gap"),
            Field::new("events_count", self.events_count),
            Field::new("first", self.first),
            Field::new("last", self.last),
        ]
    }
}

impl Record for SessionEvent {
    fn fields(&self) -> Vec<Field> {
        let mut fields = vec![Field::new("kind", word(self.kind))];
        fields.extend(self.session.fields());
        fields.push(Field::new("reply", self.reply));
        fields.push(Field::new("reason", self.reason.as_ref()));
        fields
    }
}

impl Record for ChangeEvent {
    fn fields(&self) -> Vec<Field> {
        let words = Command::from(self.command).row().map(|row| format!("{} {}", row.noun, row.verb));
        vec![
            Field::new("kind", "changed"),
            Field::new("user", &self.user),
            Field::new("source", self.source),
            Field::new("command", words.map(|words| Value::Word(words.trim_end().to_owned()))),
            Field::new("subject", self.subject.as_ref()),
            Field::new("revision", self.revision),
        ]
    }
}

impl Record for CredentialEvent {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("kind", "credential"),
            Field::new("protocol", &self.protocol),
            Field::new("session", session(self.session)),
            Field::new("user", &self.user),
            Field::new("destination", &self.destination),
            Field::new("destination_port", self.destination_port),
            Field::new("user_found", &self.user_found),
            Field::new("password_found", &self.password_found),
        ]
    }
}

impl Record for TraceStep {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("id", session(self.id)),
            Field::new("kind", word(self.kind)),
            Field::new("elapsed_us", Value::Microseconds(self.elapsed_us)),
            Field::new("stage", word(self.stage)),
            Field::new("address", self.address.map(|address: SocketAddr| Value::from(address))),
            Field::new("addresses", self.addresses.clone()),
            Field::new("bytes_up", self.bytes_up.map(Value::Bytes)),
            Field::new("bytes_down", self.bytes_down.map(Value::Bytes)),
            Field::new("reply", self.reply),
            Field::new("detail", self.detail.as_ref()),
        ]
    }
}
