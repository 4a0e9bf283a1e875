//! Log lines and events: what subscriptions ask for.

use crate::Name;
use crate::v2::Text;
use crate::v2::body::message;
use crate::v2::messages::SessionFilter;
use crate::v2::values::wire_enum;

wire_enum! {
    /// Which log a line belongs to.
    pub enum LogKind "log-kind" {
        /// The access log.
        Access = 0 "access",
        /// Diagnostics.
        Diagnostic = 1 "diagnostic",
        /// What was changed and by whom.
        Audit = 2 "audit",
        /// Credentials seen in clear; for administrators only.
        Credential = 3 "credential",
    }
}

wire_enum! {
    /// How grave a diagnostic is.
    pub enum LogLevel "log-level" {
        /// The operator must act.
        Error = 1 "error",
        /// Something was refused or lost.
        Warn = 2 "warn",
        /// Start, stop, configuration.
        Info = 3 "info",
        /// Transitions.
        Debug = 4 "debug",
        /// Everything.
        Trace = 5 "trace",
    }
}

message! {
    /// Asks for log lines.
    pub struct LogFollow "log-follow" {
        /// Credit of the channel, octets.
        0 credit: u32,
        /// Also those after this sequence that the server still has.
        1 from: Option<u64>,
        /// Which logs; all that the role allows when absent.
        2 kinds: Vec<LogKind>,
        /// Diagnostics at least so grave; info when absent.
        3 level: Option<LogLevel>,
        /// Access lines of this user only.
        4 user: Option<Name>,
    }
}

message! {
    /// A log line.
    pub struct LogLine "log-line" {
        /// Which log.
        1 kind: LogKind,
        /// How grave, for diagnostics.
        2 level: Option<LogLevel>,
        /// The line as it stands in the log, without its end, cut where it is too long.
        3 line: Text<3072>,
    }
}

wire_enum! {
    /// What events are about.
    pub enum EventKind "event-kind" {
        /// A session was accepted.
        SessionOpened = 0 "session-opened",
        /// A session's origin was connected.
        SessionConnected = 1 "session-connected",
        /// A session ended.
        SessionClosed = 2 "session-closed",
        /// Users or settings were changed.
        Changed = 3 "changed",
        /// Credentials were seen in clear; for administrators only.
        Credential = 4 "credential",
    }
}

message! {
    /// Asks for events.
    pub struct EventsFollow "events-follow" {
        /// Credit of the channel, octets.
        0 credit: u32,
        /// Also those after this sequence that the server still has.
        1 from: Option<u64>,
        /// Which; all that the role allows when absent.
        2 kinds: Vec<EventKind>,
        /// Of which sessions only.
        3 filter: Option<SessionFilter>,
    }
}
