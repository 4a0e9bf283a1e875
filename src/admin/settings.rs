//! Settings as the admin channel shows and changes them. What there is to set is [`crate::settings::table`].

use std::time::Duration;

use pipo_protocol::v2::messages::{
    Changed, SettingEffect, SettingGet, SettingKind, SettingListRequest, SettingPart, SettingReply,
    SettingReset, SettingRow, SettingSet, SettingSource,
};
use pipo_protocol::v2::{Command, Reply, Sentence, Text, Word};

use super::answer::{Answer, Asker, Outcome, Refusal};
use super::core::{AdoptError, Core};
use super::rows;
use crate::settings::{BadValue, Resolved, Row, Settings, Source};

/// Why a setting was not changed; everything is as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangeError {
    /// The name or the value.
    #[error(transparent)]
    Value(#[from] BadValue),
    /// The system does not let it hold.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
}

/// Whether idle sessions are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleanup {
    /// After the idle timeout.
    On,
    /// Never.
    Off,
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Value(error) => error.into(),
            ChangeError::Adopt(error) => error.into(),
        }
    }
}

// ---- version 2 ------------------------------------------------------------------------------------------

/// All settings, or those whose names start so.
pub(super) fn list(core: &Core, body: &SettingListRequest) -> Outcome {
    let prefix = body.prefix.as_ref().map_or("", Word::as_str);
    let wanted = crate::settings::rows().filter(|row| row.is_value() && row.name.starts_with(prefix));
    let rows: Vec<_> = wanted.map(|row| wire_row(row, &core.resolved)).collect();
    Outcome::Open(rows::listing_of::<SettingPart>(core, rows))
}

/// One setting.
pub(super) fn get(core: &Core, body: &SettingGet) -> Answer {
    let row = crate::settings::value_row(body.name.as_str())?;
    let setting = wire_row(row, &core.resolved);
    let reply = SettingReply { as_of: core.events.sequence(), setting, revision: core.revision() };
    Outcome::reply(Reply::SettingGet(reply))
}

/// Changes one setting.
pub(super) fn set(core: &mut Core, body: &SettingSet, asker: &Asker) -> Answer {
    core.config.check(body.base)?;
    change(core, body.name.as_str(), body.value.as_str())?;
    Outcome::reply(Reply::SettingSet(changed(core, Command::SettingSet, body.name.as_str(), asker)))
}

/// Takes the change of a setting at run time back.
pub(super) fn reset(core: &mut Core, body: &SettingReset, asker: &Asker) -> Answer {
    core.config.check(body.base)?;
    let mut resolved = core.resolved.clone();
    resolved.reset(body.name.as_str()).map_err(ChangeError::from)?;
    core.adopt(resolved).map_err(ChangeError::from)?;
    Outcome::reply(Reply::SettingReset(changed(core, Command::SettingReset, body.name.as_str(), asker)))
}

fn changed(core: &mut Core, command: Command, name: &str, asker: &Asker) -> Changed {
    core.changed(asker, command, name);
    Changed { as_of: core.events.sequence(), revision: core.revision(), sessions_closed_count: 0 }
}

fn wire_row(row: &Row, resolved: &Resolved) -> SettingRow {
    let words = row.words().into_iter().map(Word::cut).collect();
    SettingRow {
        name: Word::cut(row.name),
        value: Text::cut(&row.show(&resolved.settings).unwrap_or_default()),
        default: Text::cut(&row.default().unwrap_or_default()),
        kind: kind_of(row.kind()),
        unit: Some(row.unit()).filter(|unit| !unit.is_empty()).map(Word::cut),
        allowed: Sentence::cut(&row.range()),
        words,
        source: source_of(resolved.sources.of(row.name)),
        effect: effect_of(row),
        help: Sentence::cut(row.help),
    }
}

fn kind_of(kind: &str) -> SettingKind {
    match kind {
        "switch" => SettingKind::Switch,
        "port" | "count" => SettingKind::Number,
        "bytes" => SettingKind::Bytes,
        "duration" => SettingKind::Duration,
        "choice" => SettingKind::Word,
        "address" | "addresses" => SettingKind::Address,
        _ => SettingKind::Text,
    }
}

fn source_of(source: Source) -> SettingSource {
    match source {
        Source::Default => SettingSource::Default,
        Source::File => SettingSource::File,
        Source::Environment => SettingSource::Environment,
        Source::Flag => SettingSource::Flag,
        Source::Runtime => SettingSource::Runtime,
    }
}

/// Settings by which sessions go while they run; the others that are live hold from a session's beginning, or
/// are the daemon's own.
const OF_RUNNING_SESSIONS: &[&str] =
    &["buffer-size", "idle-timeout", "half-closed-timeout", "poll-timeout", "log-format"];

fn effect_of(row: &Row) -> SettingEffect {
    match row.live {
        false => SettingEffect::StartOnly,
        true if OF_RUNNING_SESSIONS.contains(&row.name) => SettingEffect::AllSessions,
        true => SettingEffect::NewSessions,
    }
}

// ---- both versions --------------------------------------------------------------------------------------

/// Changes a setting at run time. Every worker takes it up within 100 ms.
pub(super) fn change(core: &mut Core, name: &str, text: &str) -> Result<(), ChangeError> {
    let mut resolved = core.resolved.clone();
    resolved.change(name, text)?;
    core.adopt(resolved)?;
    Ok(())
}

/// I/O buffer, bytes.
pub(super) fn buffer_bytes(core: &Core) -> u64 {
    core.resolved.settings.buffer_size as u64
}

/// Longest sleep of a worker, in seconds that have begun.
pub(super) fn poll_timeout_seconds(core: &Core) -> u64 {
    seconds(core.resolved.settings.poll_timeout)
}

/// Idle timeout in seconds that have begun; while idle sessions are not closed the one that would hold again.
pub(super) fn idle_timeout_seconds(core: &Core) -> u64 {
    seconds(core.idle_timeout_kept)
}

/// Version 1 has a switch and a timeout where we have one setting: the switch keeps the timeout.
pub(super) fn set_cleanup(core: &mut Core, cleanup: Cleanup) -> Result<(), ChangeError> {
    match (cleanup, core.resolved.settings.idle_timeout) {
        (Cleanup::Off, Some(_)) => change(core, IDLE_TIMEOUT, "off"),
        (Cleanup::On, None) => change(core, IDLE_TIMEOUT, &text_of(core.idle_timeout_kept)),
        (Cleanup::On, Some(_)) | (Cleanup::Off, None) => Ok(()),
    }
}

/// Sets the timeout; whether idle sessions are closed stays as it is.
pub(super) fn set_idle_timeout(core: &mut Core, seconds: u8) -> Result<(), ChangeError> {
    let text = seconds.to_string();
    if core.resolved.settings.idle_timeout.is_some() {
        return change(core, IDLE_TIMEOUT, &text);
    }
    let mut checked = Settings::default();
    crate::settings::set(&mut checked, IDLE_TIMEOUT, &text)?;
    core.idle_timeout_kept = checked.idle_timeout.unwrap_or(core.idle_timeout_kept);
    Ok(())
}

/// The setting that two modifications of version 1 change.
pub(super) const IDLE_TIMEOUT: &str = "idle-timeout";

fn text_of(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

fn seconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_that_has_begun_counts() {
        for (ms, expected) in [(0, 0), (1, 1), (1000, 1), (1500, 2), (300_000, 300)] {
            assert_eq!(seconds(Duration::from_millis(ms)), expected);
        }
    }

    #[test]
    fn a_kept_timeout_is_read_back_as_it_was() {
        for ms in [100, 1500, 300_000] {
            let mut settings = Settings::default();
            let time = Duration::from_millis(ms);
            crate::settings::set(&mut settings, IDLE_TIMEOUT, &text_of(time)).unwrap();
            assert_eq!(settings.idle_timeout, Some(time));
        }
    }
}
