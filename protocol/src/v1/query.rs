//! What version 1 can be asked (TYPE 00).

use crate::Name;

/// A query that is answered with one number of a fixed width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberQuery {
    /// 01: sessions since the start, u64.
    HistoricConnections,
    /// 02: sessions now, u16.
    CurrentConnections,
    /// 03: most sessions at once since the start, u16.
    MaximumConnections,
    /// 04: octets sent, u64.
    BytesSent,
    /// 05: octets received, u64.
    BytesReceived,
    /// 06: distinct users connected now, u8.
    ConnectedUsers,
    /// 07: users registered, u8.
    RegisteredUsers,
    /// 08: I/O buffer size in octets, u32.
    BufferSize,
    /// 09: selector timeout in seconds, u8.
    SelectorTimeout,
    /// 0A: idle timeout in seconds, u8.
    IdleTimeout,
    /// 0B: sessions of one user now, u16; the only one with an argument, so asked by [`Query::UserConnections`].
    UserConnections,
}

/// A query with its argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// 00: every user with its privilege.
    ListUsers,
    /// 01 to 0A, without arguments. `UserConnections` does not stand here.
    Number(NumberQuery),
    /// 0B: arguments ULEN, UNAME.
    UserConnections(Name),
}

impl NumberQuery {
    /// All, in the order of their CMD.
    pub const ALL: [Self; 11] = [
        Self::HistoricConnections,
        Self::CurrentConnections,
        Self::MaximumConnections,
        Self::BytesSent,
        Self::BytesReceived,
        Self::ConnectedUsers,
        Self::RegisteredUsers,
        Self::BufferSize,
        Self::SelectorTimeout,
        Self::IdleTimeout,
        Self::UserConnections,
    ];

    /// CMD.
    #[must_use]
    pub fn cmd(self) -> u8 {
        match self {
            Self::HistoricConnections => 0x01,
            Self::CurrentConnections => 0x02,
            Self::MaximumConnections => 0x03,
            Self::BytesSent => 0x04,
            Self::BytesReceived => 0x05,
            Self::ConnectedUsers => 0x06,
            Self::RegisteredUsers => 0x07,
            Self::BufferSize => 0x08,
            Self::SelectorTimeout => 0x09,
            Self::IdleTimeout => 0x0a,
            Self::UserConnections => 0x0b,
        }
    }

    /// The query with that CMD, if it is one of these.
    #[must_use]
    pub fn from_cmd(cmd: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|query| query.cmd() == cmd)
    }

    /// Octets of the value in the reply.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Self::ConnectedUsers | Self::RegisteredUsers | Self::SelectorTimeout | Self::IdleTimeout => 1,
            Self::CurrentConnections | Self::MaximumConnections | Self::UserConnections => 2,
            Self::BufferSize => 4,
            Self::HistoricConnections | Self::BytesSent | Self::BytesReceived => 8,
        }
    }

    /// Largest value that fits; larger ones are sent as this one.
    #[must_use]
    pub fn value_max(self) -> u64 {
        u64::MAX >> (64 - 8 * self.width())
    }
}

impl Query {
    /// CMD.
    #[must_use]
    pub fn cmd(&self) -> u8 {
        match self {
            Self::ListUsers => 0x00,
            Self::Number(query) => query.cmd(),
            Self::UserConnections(_) => NumberQuery::UserConnections.cmd(),
        }
    }
}
