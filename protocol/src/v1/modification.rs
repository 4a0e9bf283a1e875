//! What version 1 can change (TYPE 01).

use crate::{Name, Password};

/// PRIVILEGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// 00.
    User,
    /// 01: proxy and admin channel.
    Administrator,
}

/// ACTION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// 00.
    Off,
    /// 01.
    On,
}

/// A change with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Modification {
    /// 00: arguments ULEN, UNAME, PLEN, PASSWD, PRIVILEGE.
    AddUser {
        /// The new user.
        name: Name,
        /// Its password.
        password: Password,
        /// What it may do.
        privilege: Privilege,
    },
    /// 01: arguments ULEN, UNAME. The user's sessions are closed at once.
    RemoveUser(Name),
    /// 02: argument ACTION.
    Dissector(Switch),
    /// 03: argument ACTION.
    IdleCleanup(Switch),
    /// 04: octets, u32. Zero is well formed and answered [`ModificationStatus::Unsupported`].
    BufferSize(u32),
    /// 05: seconds, u8. Zero likewise.
    SelectorTimeout(u8),
    /// 06: seconds, u8. Zero likewise.
    IdleTimeout(u8),
}

/// STATUS of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModificationStatus {
    /// 00.
    Done,
    /// 01 to "add user".
    NameTaken,
    /// 02 to "add user".
    NoRoom,
    /// 01 to "remove user".
    NoSuchUser,
    /// 01 to sizes and timeouts.
    Unsupported,
    /// FE: a name of length 0, a PRIVILEGE or ACTION other than 00 and 01, removing `anonymous`.
    InvalidParameter,
    /// FF.
    ServerError,
    /// A status that version 1 does not name for this command; only a client meets it.
    Unassigned(u8),
}

impl Modification {
    /// CMD.
    #[must_use]
    pub fn cmd(&self) -> u8 {
        match self {
            Self::AddUser { .. } => 0x00,
            Self::RemoveUser(_) => 0x01,
            Self::Dissector(_) => 0x02,
            Self::IdleCleanup(_) => 0x03,
            Self::BufferSize(_) => 0x04,
            Self::SelectorTimeout(_) => 0x05,
            Self::IdleTimeout(_) => 0x06,
        }
    }

    /// Largest CMD of a modification.
    pub(super) const CMD_MAX: u8 = 0x06;
}

impl ModificationStatus {
    /// STATUS.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0x00,
            Self::NameTaken | Self::NoSuchUser | Self::Unsupported => 0x01,
            Self::NoRoom => 0x02,
            Self::InvalidParameter => 0xfe,
            Self::ServerError => 0xff,
            Self::Unassigned(code) => code,
        }
    }

    /// What STATUS means in the reply to the modification `cmd`.
    #[must_use]
    pub fn from_code(cmd: u8, code: u8) -> Self {
        match (cmd, code) {
            (_, 0x00) => Self::Done,
            (0x00, 0x01) => Self::NameTaken,
            (0x00, 0x02) => Self::NoRoom,
            (0x01, 0x01) => Self::NoSuchUser,
            (0x04..=0x06, 0x01) => Self::Unsupported,
            (_, 0xfe) => Self::InvalidParameter,
            (_, 0xff) => Self::ServerError,
            (_, other) => Self::Unassigned(other),
        }
    }
}

impl Privilege {
    /// PRIVILEGE.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::User => 0,
            Self::Administrator => 1,
        }
    }

    /// `None`: neither 00 nor 01.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::User),
            1 => Some(Self::Administrator),
            _ => None,
        }
    }
}

impl Switch {
    /// ACTION.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::On => 1,
        }
    }

    /// `None`: neither 00 nor 01.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Off),
            1 => Some(Self::On),
            _ => None,
        }
    }
}
