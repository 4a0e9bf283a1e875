//! What a value may be: checked when a line is read, so that nothing wrong reaches the server, and the source of
//! what completion offers.

use std::net::IpAddr;

use pipo_protocol::Name;
use pipo_protocol::v2::messages::{EventKind, LogKind, LogLevel, SessionSort, Stage};
use pipo_protocol::v2::{Doors, EnumRow, Role};

use super::values::{number_of_bytes, session_id, span};
use crate::output::name_octets;

/// What sort of value an argument or option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user's name.
    User,
    /// A session's number, 16 hexadecimal digits.
    Session,
    /// A setting's name.
    Setting,
    /// A setting's value, checked by the server.
    SettingValue,
    /// `NAME=VALUE`.
    Assignment,
    /// A role.
    Role,
    /// Doors.
    Doors,
    /// A stage of sessions.
    Stage,
    /// What sessions are sorted by.
    Sort,
    /// Which log.
    LogKind,
    /// How grave.
    LogLevel,
    /// Which events.
    EventKind,
    /// `auto`, `kernel`, `udp`.
    Transport,
    /// 1 or 2.
    Protocol,
    /// Any number from 0.
    Number,
    /// 1 to so many.
    Count(u32),
    /// 1 to 65535.
    Port,
    /// Octets, with k, m, g.
    Bytes,
    /// A span of time: `90`, `1.5s`, `10m`.
    Span,
    /// An address, or a network.
    Network,
    /// The beginning of metrics' names.
    Metric,
    /// A host name.
    Host,
    /// A path.
    File,
    /// A field of what is shown.
    Field,
    /// Words of a command.
    Command,
    /// Anything else.
    Text,
}

/// Where completion finds what may stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In this list of words, each with its meaning.
    Words(&'static [EnumRow]),
    /// At the server: names of users.
    Users,
    /// At the server: numbers of sessions.
    Sessions,
    /// At the server: names of settings.
    Settings,
    /// At the server: what the setting named before it may be.
    SettingValues,
    /// At the server: names of metrics.
    Metrics,
    /// In the table of commands.
    Commands,
    /// In the file system.
    Files,
    /// Nowhere.
    Nothing,
}

/// Words of [`Kind::Transport`].
const TRANSPORTS: &[EnumRow] = &[
    EnumRow { code: 0, name: "auto", help: "Both, whichever connects first." },
    EnumRow { code: 1, name: "kernel", help: "The kernel's SCTP." },
    EnumRow { code: 2, name: "udp", help: "SCTP over UDP." },
];

/// Words of [`Kind::Protocol`].
const PROTOCOLS: &[EnumRow] = &[
    EnumRow { code: 1, name: "1", help: "Sends the password in clear." },
    EnumRow { code: 2, name: "2", help: "The usual one." },
];

impl Kind {
    /// Where completion looks.
    #[must_use]
    pub fn source(self) -> Source {
        match self {
            Self::User => Source::Users,
            Self::Session => Source::Sessions,
            Self::Setting | Self::Assignment => Source::Settings,
            Self::Metric => Source::Metrics,
            Self::Command => Source::Commands,
            Self::File => Source::Files,
            Self::Role => Source::Words(Role::ROWS),
            Self::Doors => Source::Words(Doors::ROWS),
            Self::Stage => Source::Words(Stage::ROWS),
            Self::Sort => Source::Words(SessionSort::ROWS),
            Self::LogKind => Source::Words(LogKind::ROWS),
            Self::LogLevel => Source::Words(LogLevel::ROWS),
            Self::EventKind => Source::Words(EventKind::ROWS),
            Self::Transport => Source::Words(TRANSPORTS),
            Self::Protocol => Source::Words(PROTOCOLS),
            Self::SettingValue => Source::SettingValues,
            Self::Number
            | Self::Count(_)
            | Self::Port
            | Self::Bytes
            | Self::Span
            | Self::Network
            | Self::Host
            | Self::Field
            | Self::Text => Source::Nothing,
        }
    }

    /// What is allowed, as a phrase; the words themselves where it is one of some words.
    #[must_use]
    pub fn allowed(self) -> String {
        match self {
            Self::User => "a name of 1 to 255 octets, others than printable ones as \\xNN".to_owned(),
            Self::Session => "up to 16 hexadecimal digits".to_owned(),
            Self::Setting => "the name of a setting".to_owned(),
            Self::SettingValue => "at most 1024 octets".to_owned(),
            Self::Assignment => "SETTING=VALUE".to_owned(),
            Self::Number => "a number from 0".to_owned(),
            Self::Count(most) => format!("a number from 1 to {most}"),
            Self::Port => "a port from 1 to 65535".to_owned(),
            Self::Bytes => "a number of octets, or one with k, m or g".to_owned(),
            Self::Span => "seconds, or a number with ms, s, m, h or d".to_owned(),
            Self::Network => "an address of IPv4 or IPv6, or ADDRESS/BITS".to_owned(),
            Self::Metric => "a name, or the beginning of names, of at most 64 octets".to_owned(),
            Self::Host => "a name of 1 to 255 octets".to_owned(),
            Self::File => "a path".to_owned(),
            Self::Field => "the name of a field".to_owned(),
            Self::Command => "a command".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::Role
            | Self::Doors
            | Self::Stage
            | Self::Sort
            | Self::LogKind
            | Self::LogLevel
            | Self::EventKind
            | Self::Transport
            | Self::Protocol => {
                let words: Vec<_> = self.words().iter().map(|row| row.name).collect();
                words.join(", ")
            }
        }
    }

    /// Whether a value is one of these.
    #[must_use]
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::User => name_octets(text).is_some_and(|octets| Name::new(octets).is_ok()),
            Self::Session => session_id(text).is_some(),
            Self::Setting => (1..=64).contains(&text.len()),
            Self::SettingValue => text.len() <= 1024,
            Self::Assignment => text.split_once('=').is_some_and(|(name, value)| {
                Self::Setting.accepts(name) && Self::SettingValue.accepts(value)
            }),
            Self::Number => text.parse::<u64>().is_ok(),
            Self::Count(most) => text.parse().is_ok_and(|count: u32| (1..=most).contains(&count)),
            Self::Port => text.parse().is_ok_and(|port: u16| port > 0),
            Self::Bytes => number_of_bytes(text).is_some(),
            Self::Span => span(text).is_some(),
            Self::Network => network(text).is_some(),
            Self::Metric => (1..=64).contains(&text.len()),
            Self::Host => (1..=255).contains(&text.len()),
            Self::File | Self::Field | Self::Command => !text.is_empty(),
            Self::Text => true,
            Self::Role
            | Self::Doors
            | Self::Stage
            | Self::Sort
            | Self::LogKind
            | Self::LogLevel
            | Self::EventKind
            | Self::Transport
            | Self::Protocol => self.words().iter().any(|row| row.name == text),
        }
    }

    fn words(self) -> &'static [EnumRow] {
        match self.source() {
            Source::Words(words) => words,
            Source::Users
            | Source::Sessions
            | Source::Settings
            | Source::SettingValues
            | Source::Metrics
            | Source::Commands
            | Source::Files
            | Source::Nothing => &[],
        }
    }
}

/// An address, with the leading bits that count where they are given.
pub(super) fn network(text: &str) -> Option<(IpAddr, Option<u8>)> {
    let Some((address, bits)) = text.split_once('/') else {
        return Some((text.parse().ok()?, None));
    };
    let address: IpAddr = address.parse().ok()?;
    let bits: u8 = bits.parse().ok()?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    (bits <= bits_max).then_some((address, Some(bits)))
}
