//! Logs over the admin channel: lines as they are written, and files opened anew.
//!
//! The loggers copy lines only while somebody follows them, and for a while after, so that a follower that lost
//! its association finds what it has missed.

use std::sync::Arc;
use std::time::Instant;

use pipo_protocol::v2::events::Happening;
use pipo_protocol::v2::messages::{Done, LogFollow, LogKind, LogLevel, LogLine, Subscribed};
use pipo_protocol::v2::{Reply, Role, Status, Text};

use super::answer::{Answer, Asker, Outcome, Refusal};
use super::core::Core;
use super::dispatch::v2::role_of;
use super::events::{Feed, Past};
use super::follow::{self, Interest, Taken};
use super::notes::Note;
use crate::limits::LOG_TAP_LINGER;
use crate::logging::{LineOf, Tap, TappedLine};
use crate::metrics::Counter;

/// Who follows the logs.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Each follower holds one more of these.
    ticket: Arc<()>,
    /// Since when nobody does.
    left_at: Option<Instant>,
}

/// Follows log lines of some kinds, or of all that the role allows.
pub(super) fn follow(core: &mut Core, body: LogFollow, asker: &Asker) -> Answer {
    let is_admin = role_of(&asker.user).includes(Role::Admin);
    if body.kinds.contains(&LogKind::Credential) && !is_admin {
        return Err(Refusal::saying(Status::NotAllowed, "Credentials are for the role admin."));
    }
    if body.kinds.iter().any(|kind| matches!(kind, LogKind::Unassigned(_))) {
        return Err(Refusal::field(Status::Invalid, 2, "Allowed kinds of lines are 0 to 3."));
    }
    let level = body.level.unwrap_or(LogLevel::Info);
    if matches!(level, LogLevel::Unassigned(_)) {
        return Err(Refusal::field(Status::Invalid, 3, "Allowed levels are 1 to 5."));
    }
    let LogFollow { from, kinds, user, .. } = body;
    let is_everything = is_admin && kinds.is_empty() && user.is_none() && level == LogLevel::Trace;
    open(core);
    let (ticket, store, own) =
        (Arc::clone(&core.followed.ticket), Arc::clone(&core.store), Arc::clone(&asker.user));
    let interest = move |past: &Past| {
        let _held = &ticket;
        let Happening::Line(line) = &past.happening else {
            return if matches!(past.happening, Happening::Gap(_)) { Interest::Yes } else { Interest::No };
        };
        // The role may have changed since.
        let is_admin =
            || store.directory().present(&own).is_some_and(|now| role_of(&now).includes(Role::Admin));
        let is_wanted = (kinds.is_empty() || kinds.contains(&line.kind))
            && (line.kind != LogKind::Credential || is_admin())
            && line
                .level
                .is_none_or(|of_line| line.kind != LogKind::Diagnostic || of_line.code() <= level.code())
            && user.as_ref().is_none_or(|user| past.user.as_deref().is_none_or(|of| of == user.as_bytes()));
        if is_wanted { Interest::Yes } else { Interest::No }
    };
    let taken = if is_everything { Taken::All } else { Taken::Some };
    let content = follow::follow(&core.events, Feed::Lines, from, taken, interest);
    let as_of = from.unwrap_or_else(|| core.events.sequence());
    Ok(Outcome::Follow(Box::new(Reply::LogFollow(Subscribed { as_of })), content))
}

/// Opens the log files anew.
pub(super) fn rotate(core: &Core, asker: &Asker) -> Answer {
    log::info!("log rotate: user={} source={}", asker.user.name(), asker.source);
    match core.access.reopen() {
        Ok(()) => Outcome::reply(Reply::LogRotate(Done { as_of: core.events.sequence() })),
        Err(error) => {
            let sentence = format!("The access log cannot be opened again and goes on as it is: {error}.");
            Err(Refusal::saying(Status::Internal, &sentence))
        }
    }
}

/// Makes the lines known that wait for those who follow them.
pub(super) fn take(core: &mut Core, now: Instant) {
    for tapped in [core.diagnostics.tap().take(), core.access.tap().take()] {
        tapped.lines.into_iter().for_each(|line| publish(core, line));
        if tapped.missed > 0 {
            core.count(Counter::AdminLogLinesMissed, tapped.missed);
            core.events.lost(Feed::Lines, tapped.missed);
        }
    }
    if Arc::strong_count(&core.followed.ticket) > 1 {
        core.followed.left_at = None;
    } else if now.saturating_duration_since(*core.followed.left_at.get_or_insert(now)) > LOG_TAP_LINGER {
        taps(core).into_iter().for_each(Tap::close);
    }
}

fn publish(core: &mut Core, line: TappedLine) {
    let (kind, level, user) = match line.of {
        LineOf::Access(user) => (LogKind::Access, None, Some(user)),
        LineOf::Credentials(user) => (LogKind::Credential, None, Some(user)),
        LineOf::Diagnostics(level) => (LogKind::Diagnostic, Some(wire_level(level)), None),
        LineOf::Audit => (LogKind::Audit, None, None),
    };
    let line = LogLine { kind, level, line: Text::cut(&line.text) };
    core.events.publish_about(Feed::Lines, Happening::Line(line), user);
}

/// Has lines copied from now on, if they are not yet.
fn open(core: &mut Core) {
    core.followed.left_at = None;
    if core.access.tap().is_open() {
        return;
    }
    // Whoever asks for lines from before is told that some are missing.
    core.events.forget(Feed::Lines);
    for tap in taps(core) {
        let notes = core.notes.clone();
        tap.open(move || notes.leave(Note::Lines));
    }
}

fn taps(core: &Core) -> [&Tap; 2] {
    [core.diagnostics.tap(), core.access.tap()]
}

fn wire_level(level: log::Level) -> LogLevel {
    match level {
        log::Level::Error => LogLevel::Error,
        log::Level::Warn => LogLevel::Warn,
        log::Level::Info => LogLevel::Info,
        log::Level::Debug => LogLevel::Debug,
        log::Level::Trace => LogLevel::Trace,
    }
}
