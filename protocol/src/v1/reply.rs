//! Replies of version 1. Each is one SCTP message of its own, since peers read one reply a message.

use super::cut::Cut;
use super::login::counted;
use super::{Asked, ModificationStatus, NumberQuery, Privilege};
use crate::limits::V1_USERS_COUNT_MAX;
use crate::{Name, SizeError};

/// A user in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEntry {
    /// UNAME.
    pub name: Name,
    /// PRIVILEGE; every role but administrator is shown as `User`.
    pub privilege: Privilege,
}

/// STATUS of a query that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryFailure {
    /// FE.
    InvalidParameter,
    /// FF.
    ServerError,
    /// A status that version 1 does not name; only a client meets it.
    Unassigned(u8),
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `00 00 COUNT …`; cut at 255 users.
    Users(Vec<UserEntry>),
    /// `00 CMD VALUE`; values too large for their field are sent as its maximum.
    Number {
        /// Which number.
        query: NumberQuery,
        /// Its value.
        value: u64,
    },
    /// `00 FE STATUS`.
    QueryFailed(QueryFailure),
    /// `01 CMD STATUS`.
    Modified {
        /// CMD of the request.
        cmd: u8,
        /// How it went.
        status: ModificationStatus,
    },
    /// `TYPE FF`; the request's CMD does not stand in the answer, and reads back as FF.
    UnknownCommand(Asked),
    /// `FF FF`.
    UnknownType,
}

/// A reply that does not answer what was asked: the stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The first two octets belong to another request.
    #[error("reply {kind:#04x} {cmd:#04x} does not answer {asked:?}")]
    Unexpected {
        /// What was waited for.
        asked: Asked,
        /// First octet.
        kind: u8,
        /// Second octet.
        cmd: u8,
    },
    /// A listed user has an empty name.
    #[error("a user without a name in the list: {0}")]
    Name(#[from] SizeError),
    /// A listed user has a PRIVILEGE other than 00 and 01.
    #[error("privilege {0:#04x}, allowed are 00 and 01")]
    Privilege(u8),
}

impl Reply {
    /// The reply as one SCTP message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Users(users) => encode_users(users),
            Self::Number { query, value } => encode_number(*query, *value),
            Self::QueryFailed(failure) => vec![0x00, 0xfe, failure.code()],
            Self::Modified { cmd, status } => vec![0x01, *cmd, status.code()],
            Self::UnknownCommand(Asked::Query(_)) => vec![0x00, 0xff],
            Self::UnknownCommand(Asked::Modification(_)) => vec![0x01, 0xff],
            Self::UnknownType => vec![0xff, 0xff],
        }
    }

    /// The answer to a request whose arguments are not allowed.
    #[must_use]
    pub fn invalid(asked: Asked) -> Self {
        match asked {
            Asked::Query(_) => Self::QueryFailed(QueryFailure::InvalidParameter),
            Asked::Modification(cmd) => Self::Modified { cmd, status: ModificationStatus::InvalidParameter },
        }
    }

    /// Reads the reply to `asked` and how many octets it took.
    ///
    /// `Ok(None)`: incomplete, nothing consumed. After an error the association is of no more use.
    pub fn decode(asked: Asked, arrived: &[u8]) -> Result<Option<(Self, usize)>, ReplyError> {
        let mut cut = Cut::new(arrived);
        let (Some(kind), Some(cmd)) = (cut.octet(), cut.octet()) else { return Ok(None) };
        let reply = match (asked, kind, cmd) {
            (_, 0xff, 0xff) => Some(Self::UnknownType),
            (Asked::Query(_), 0x00, 0xff) => Some(Self::UnknownCommand(Asked::Query(0xff))),
            (Asked::Query(_), 0x00, 0xfe) => {
                cut.octet().map(|code| Self::QueryFailed(QueryFailure::from_code(code)))
            }
            (Asked::Query(0x00), 0x00, 0x00) => users(&mut cut)?,
            (Asked::Query(wanted), 0x00, _) if wanted == cmd => match NumberQuery::from_cmd(cmd) {
                Some(query) => cut.number(query.width()).map(|value| Self::Number { query, value }),
                None => return Err(ReplyError::Unexpected { asked, kind, cmd }),
            },
            (Asked::Modification(_), 0x01, 0xff) => Some(Self::UnknownCommand(Asked::Modification(0xff))),
            (Asked::Modification(wanted), 0x01, _) if wanted == cmd => cut
                .octet()
                .map(|code| Self::Modified { cmd, status: ModificationStatus::from_code(cmd, code) }),
            _ => return Err(ReplyError::Unexpected { asked, kind, cmd }),
        };
        Ok(reply.map(|reply| (reply, cut.taken())))
    }
}

fn encode_users(users: &[UserEntry]) -> Vec<u8> {
    let users = users.get(..users.len().min(V1_USERS_COUNT_MAX)).unwrap_or_default();
    let mut out = vec![0x00, 0x00, u8::try_from(users.len()).unwrap_or(u8::MAX)];
    for user in users {
        counted(user.name.as_bytes(), &mut out);
        out.push(user.privilege.code());
    }
    out
}

fn encode_number(query: NumberQuery, value: u64) -> Vec<u8> {
    let octets = value.min(query.value_max()).to_be_bytes();
    let mut out = vec![0x00, query.cmd()];
    out.extend(octets.iter().skip(octets.len() - query.width()));
    out
}

fn users(cut: &mut Cut<'_>) -> Result<Option<Reply>, ReplyError> {
    let Some(count) = cut.octet() else { return Ok(None) };
    let mut users = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let (Some(name), Some(privilege)) = (cut.counted(), cut.octet()) else { return Ok(None) };
        users.push(UserEntry {
            name: Name::new(name)?,
            privilege: Privilege::from_code(privilege).ok_or(ReplyError::Privilege(privilege))?,
        });
    }
    Ok(Some(Reply::Users(users)))
}

impl QueryFailure {
    /// STATUS.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::InvalidParameter => 0xfe,
            Self::ServerError => 0xff,
            Self::Unassigned(code) => code,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            0xfe => Self::InvalidParameter,
            0xff => Self::ServerError,
            other => Self::Unassigned(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_too_large_for_their_field_saturate() {
        let table: [(NumberQuery, u64, &[u8]); 6] = [
            (NumberQuery::CurrentConnections, 65_536, &[0, 2, 0xff, 0xff]),
            (NumberQuery::CurrentConnections, 513, &[0, 2, 2, 1]),
            (NumberQuery::ConnectedUsers, 300, &[0, 6, 0xff]),
            (NumberQuery::BufferSize, u64::MAX, &[0, 8, 0xff, 0xff, 0xff, 0xff]),
            (NumberQuery::HistoricConnections, 1, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 1]),
            (NumberQuery::UserConnections, 3, &[0, 0x0b, 0, 3]),
        ];
        for (query, value, expected) in table {
            assert_eq!(Reply::Number { query, value }.encode(), expected);
        }
    }

    #[test]
    fn a_list_is_cut_at_255_users() {
        let user = UserEntry { name: Name::new(*b"u").unwrap(), privilege: Privilege::User };
        let octets = Reply::Users(vec![user; 300]).encode();
        assert_eq!(octets.len(), 3 + 255 * 3);
        assert_eq!(octets.get(2), Some(&255));
    }

    #[test]
    fn a_reply_to_something_else_is_an_error() {
        let asked = Asked::Query(2);
        assert!(matches!(Reply::decode(asked, &[0, 3, 0, 0]), Err(ReplyError::Unexpected { cmd: 3, .. })));
        assert!(matches!(Reply::decode(asked, &[1, 2, 0]), Err(ReplyError::Unexpected { kind: 1, .. })));
        assert_eq!(Reply::decode(asked, &[0, 2, 0]), Ok(None));
        assert_eq!(Reply::decode(asked, &[0xff, 0xff]), Ok(Some((Reply::UnknownType, 2))));
        assert_eq!(Reply::decode(Asked::Query(0), &[0, 0, 1, 1, b'u', 7]), Err(ReplyError::Privilege(7)));
        assert_eq!(Reply::decode(Asked::Query(0), &[0, 0, 1, 0, 0]), Err(ReplyError::Name(SizeError(0))));
    }
}
