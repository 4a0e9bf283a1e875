//! What events look like: a line for people, fields for programs.

use pipo_protocol::v2::Command;
use pipo_protocol::v2::events::{Event, Happening, SessionEvent};
use pipo_protocol::v2::messages::{EventKind, MetricSample, Notice, TraceStep};

use super::escape::{name_text, safe};
use super::units::{bytes_for_people, duration_for_people, microseconds_for_people, time_text};
use super::value::{Field, Record, Value};

/// An event as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// For people.
    pub line: String,
    /// For programs.
    pub fields: Vec<Field>,
    /// For pipes.
    pub piped: Piped,
}

/// What of an event goes into a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piped {
    /// The line: it is what programs look for.
    Line,
    /// The fields.
    Fields,
}

/// An event as a line and as fields. `None`: nothing that this side knows.
#[must_use]
pub fn shown(event: &Event) -> Option<Shown> {
    let mut fields = vec![
        Field::new("sequence", event.sequence),
        Field::new("time_unix_ms", Value::Time(event.time_unix_ms)),
    ];
    let time = time_text(event.time_unix_ms);
    let (line, more) = match event.clone().happening()? {
        Happening::Gap(gap) => {
            let count = if gap.events_count == 0 { "some".to_owned() } else { gap.events_count.to_string() };
            (format!("{time}  -- {count} events missed, {} to {} --", gap.first, gap.last), gap.fields())
        }
        Happening::Notice(notice) => (notice_line(&notice), notice.fields()),
        Happening::Session(session) => (format!("{time}  {}", session_line(&session)), session.fields()),
        Happening::Line(line) => (safe(line.line.as_str()).into_owned(), line.fields()),
        Happening::Sample(sample) => (sample_lines(&time, &sample), sample.fields()),
        Happening::Step(step) => (step_line(&step), step.fields()),
        Happening::Change(change) => {
            let words = Command::from(change.command).row().map_or_else(
                || format!("command {:#06x}", change.command),
                |row| format!("{} {}", row.noun, row.verb).trim_end().to_owned(),
            );
            let subject = change.subject.as_ref().map(|subject| format!(" {}", safe(subject.as_str())));
            let revision = change.revision.map(|revision| format!(" (revision {revision})"));
            let user = name_text(change.user.as_bytes());
            let (subject, revision) = (subject.unwrap_or_default(), revision.unwrap_or_default());
            (format!("{time}  {user} from {}: {words}{subject}{revision}", change.source), change.fields())
        }
        Happening::Credential(seen) => {
            let line = format!(
                "{time}  credential {:016x} {} {} {}:{} {} {}",
                seen.session,
                name_text(seen.user.as_bytes()),
                safe(seen.protocol.as_str()),
                safe(seen.destination.as_str()),
                seen.destination_port,
                safe(seen.user_found.as_str()),
                safe(seen.password_found.as_str()),
            );
            (line, seen.fields())
        }
        Happening::End(end) => {
            let sentence = end.sentence.as_ref().map(|sentence| safe(sentence.as_str()).into_owned());
            let line = sentence.map_or_else(|| "-- end --".to_owned(), |sentence| format!("-- {sentence}"));
            (line, vec![Field::new("kind", "end"), Field::new("sentence", end.sentence.as_ref())])
        }
    };
    fields.extend(more);
    let piped = if event.line.is_some() || event.sample.is_some() { Piped::Line } else { Piped::Fields };
    Some(Shown { line, fields, piped })
}

/// What a notice says to people.
fn notice_line(notice: &Notice) -> String {
    let sentence = notice.sentence.as_ref().map(|sentence| format!(": {}", safe(sentence.as_str())));
    let left = notice.left_ms.map(|ms| format!(" ({} left)", duration_for_people(ms.into())));
    format!("-- {}{}{} --", notice.kind, left.unwrap_or_default(), sentence.unwrap_or_default())
}

fn session_line(event: &SessionEvent) -> String {
    let session = &event.session;
    let what = match event.kind {
        EventKind::SessionOpened => "opened".to_owned(),
        EventKind::SessionConnected => "connected".to_owned(),
        EventKind::SessionClosed => "closed".to_owned(),
        EventKind::Changed | EventKind::Credential | EventKind::Unassigned(_) => event.kind.to_string(),
    };
    let mut line =
        format!("{what:<9}  {:016x}  {}  {}", session.id, name_text(session.user.as_bytes()), session.source);
    if let Some(destination) = &session.destination {
        let port = session.destination_port.unwrap_or_default();
        line.push_str(&format!(" -> {}:{port}", safe(destination.as_str())));
    }
    if event.kind == EventKind::SessionClosed {
        let up = bytes_for_people(session.bytes_up);
        let down = bytes_for_people(session.bytes_down);
        line.push_str(&format!("  {up} up, {down} down, {}", duration_for_people(session.age_ms)));
    }
    line.extend(event.reply.filter(|reply| *reply != 0).map(|reply| format!("  reply {reply:02}")));
    line.extend(event.reason.as_ref().map(|reason| format!("  {}", safe(reason.as_str()))));
    line
}

fn sample_lines(time: &str, sample: &MetricSample) -> String {
    let lines = sample
        .values
        .iter()
        .map(|value| format!("{time}  {:<32} {}", safe(value.name.as_str()), value.value));
    lines.collect::<Vec<_>>().join("\n")
}

fn step_line(step: &TraceStep) -> String {
    let mut line = format!(
        "+{:<9} {:<13} {}",
        microseconds_for_people(step.elapsed_us),
        step.kind.to_string(),
        step.stage
    );
    line.extend(step.address.map(|address| format!("  {address}")));
    if !step.addresses.is_empty() {
        let addresses: Vec<_> = step.addresses.iter().map(ToString::to_string).collect();
        line.push_str(&format!("  {}", addresses.join(", ")));
    }
    line.extend(step.bytes_up.map(|bytes| format!("  {} up", bytes_for_people(bytes))));
    line.extend(step.bytes_down.map(|bytes| format!("  {} down", bytes_for_people(bytes))));
    line.extend(step.reply.map(|reply| format!("  reply {reply:02}")));
    line.extend(step.detail.as_ref().map(|detail| format!("  {}", safe(detail.as_str()))));
    line
}

impl Record for MetricSample {
    fn fields(&self) -> Vec<Field> {
        let values = self.values.iter().map(|value| {
            Value::Record(vec![Field::new("name", &value.name), Field::new("value", value.value)])
        });
        vec![Field::new("values", Value::List(values.collect()))]
    }
}

impl Record for Notice {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("kind", Value::Word(self.kind.to_string())),
            Field::new("sentence", self.sentence.as_ref()),
            Field::new("left_ms", self.left_ms.map(|ms| Value::Milliseconds(ms.into()))),
            Field::new("revision", self.revision),
        ]
    }
}
