//! Events: what a subscription delivers, and notices on channel 0.

use std::net::SocketAddr;

use super::body::message;
use super::messages::{EventKind, LogLine, MetricSample, Notice, SessionRow, TraceStep};
use super::text::{Sentence, Text, Word};
use crate::Name;

message! {
    /// Body of every event record. Exactly one of the fields from key 2 on is there; a receiver skips an event
    /// in which it finds none that it knows.
    pub struct Event "event" {
        /// Number of the event; grows over all channels of the server, without being dense on any of them.
        0 sequence: u64,
        /// When it happened.
        1 time_unix_ms: u64,
        /// Events of this channel were lost because credit ran out or they are no longer kept.
        2 gap: Option<Gap>,
        /// Something on channel 0.
        3 notice: Option<Notice>,
        /// A session.
        4 session: Option<SessionEvent>,
        /// A log line.
        5 line: Option<LogLine>,
        /// Metrics.
        6 sample: Option<MetricSample>,
        /// A step of a traced session.
        7 step: Option<TraceStep>,
        /// Somebody changed something.
        8 change: Option<ChangeEvent>,
        /// Credentials seen in clear.
        9 credential: Option<CredentialEvent>,
        /// Why the channel ends, in its last event.
        10 end: Option<End>,
    }
}

message! {
    /// Events that the follower missed.
    pub struct Gap "gap" {
        /// How many; 0 where the server no longer knows.
        1 events_count: u64,
        /// Sequence of the first.
        2 first: u64,
        /// Sequence of the last.
        3 last: u64,
    }
}

message! {
    /// A session opened, connected or ended.
    pub struct SessionEvent "session-event" {
        /// Which of these.
        1 kind: EventKind,
        /// The session as it stands after it.
        2 session: SessionRow,
        /// SOCKS reply, once sent.
        3 reply: Option<u8>,
        /// Why it ended.
        4 reason: Option<Word>,
    }
}

message! {
    /// Somebody changed something.
    pub struct ChangeEvent "change-event" {
        /// Who.
        1 user: Name,
        /// From where.
        2 source: SocketAddr,
        /// Number of the command; version 1 modifications as the command that does the same.
        3 command: u16,
        /// What it was applied to: user, setting, name.
        4 subject: Option<Text<256>>,
        /// The revision after it.
        5 revision: Option<u64>,
    }
}

message! {
    /// Credentials seen in clear.
    pub struct CredentialEvent "credential-event" {
        /// In which protocol: HTTP, POP3.
        1 protocol: Word,
        /// In which session.
        2 session: u64,
        /// Whose session.
        3 user: Name,
        /// Destination as asked.
        4 destination: Text<256>,
        /// Destination port.
        5 destination_port: u16,
        /// User name found.
        6 user_found: Text<256>,
        /// Password found, or stars.
        7 password_found: Text<256>,
    }
}

message! {
    /// The last event of a channel; the record's STATUS says the same in one number.
    pub struct End "end" {
        /// For people.
        1 sentence: Option<Sentence>,
    }
}

/// What an event says, as one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Events were lost.
    Gap(Gap),
    /// A notice on channel 0.
    Notice(Notice),
    /// A session opened, connected or ended.
    Session(SessionEvent),
    /// A log line.
    Line(LogLine),
    /// Metrics.
    Sample(MetricSample),
    /// A step of a traced session.
    Step(TraceStep),
    /// Somebody changed something.
    Change(ChangeEvent),
    /// Credentials seen in clear.
    Credential(CredentialEvent),
    /// The channel ends.
    End(End),
}

impl Event {
    /// An event that says this.
    #[must_use]
    pub fn new(sequence: u64, time_unix_ms: u64, happening: Happening) -> Self {
        let mut event = Self {
            sequence,
            time_unix_ms,
            gap: None,
            notice: None,
            session: None,
            line: None,
            sample: None,
            step: None,
            change: None,
            credential: None,
            end: None,
        };
        match happening {
            Happening::Gap(gap) => event.gap = Some(gap),
            Happening::Notice(notice) => event.notice = Some(notice),
            Happening::Session(session) => event.session = Some(session),
            Happening::Line(line) => event.line = Some(line),
            Happening::Sample(sample) => event.sample = Some(sample),
            Happening::Step(step) => event.step = Some(step),
            Happening::Change(change) => event.change = Some(change),
            Happening::Credential(credential) => event.credential = Some(credential),
            Happening::End(end) => event.end = Some(end),
        }
        event
    }

    /// What the event says. `None`: something that this side does not know, to be skipped.
    #[must_use]
    pub fn happening(self) -> Option<Happening> {
        self.gap
            .map(Happening::Gap)
            .or_else(|| self.notice.map(Happening::Notice))
            .or_else(|| self.session.map(Happening::Session))
            .or_else(|| self.line.map(Happening::Line))
            .or_else(|| self.sample.map(Happening::Sample))
            .or_else(|| self.step.map(Happening::Step))
            .or_else(|| self.change.map(Happening::Change))
            .or_else(|| self.credential.map(Happening::Credential))
            .or_else(|| self.end.map(Happening::End))
    }
}
