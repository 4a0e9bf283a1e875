//! Requests of version 1: `TYPE(1) CMD(1) arguments`, pipelined, in a byte stream.

use byteorder::{BigEndian, ByteOrder};

use super::cut::Cut;
use super::login::counted;
use super::{Modification, NumberQuery, Privilege, Query, Switch};
use crate::{Name, Password};

const QUERY: u8 = 0x00;
const MODIFICATION: u8 = 0x01;

/// What a request asked for, by its two octets: what a client must remember to read the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// TYPE 00 and this CMD.
    Query(u8),
    /// TYPE 01 and this CMD.
    Modification(u8),
}

/// One request as a server reads it: every octet sequence is one of these, each with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// TYPE 00.
    Query(Query),
    /// TYPE 01.
    Modification(Modification),
    /// Complete, but an argument is not allowed (FE): an empty name or password, a PRIVILEGE or ACTION other
    /// than 00 and 01.
    Invalid(Asked),
    /// Known TYPE with a CMD it does not have: two octets are consumed, the answer is `TYPE FF`.
    UnknownCommand(Asked),
    /// Unknown TYPE: two octets are consumed, the answer is `FF FF`.
    UnknownType(u8),
}

impl Request {
    /// Reads the next request and how many octets it took, at most [`crate::limits::V1_REQUEST_BYTES_MAX`].
    ///
    /// `None`: incomplete, nothing consumed. There are no errors: what cannot be understood has its answer.
    #[must_use]
    pub fn decode(arrived: &[u8]) -> Option<(Self, usize)> {
        let mut cut = Cut::new(arrived);
        let (kind, cmd) = (cut.octet()?, cut.octet()?);
        let request = match kind {
            QUERY => query(cmd, &mut cut)?,
            MODIFICATION => modification(cmd, &mut cut)?,
            other => Self::UnknownType(other),
        };
        Some((request, cut.taken()))
    }

    /// Appends a request as a client sends it. What only a server meets (`Invalid` and the unknown ones) has no
    /// octets of its own, nor has `UserConnections` without its user: `false`, and nothing is appended.
    pub fn encode(&self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Query(Query::Number(NumberQuery::UserConnections)) => return false,
            Self::Query(query) => encode_query(query, out),
            Self::Modification(modification) => encode_modification(modification, out),
            Self::Invalid(_) | Self::UnknownCommand(_) | Self::UnknownType(_) => return false,
        }
        true
    }

    /// What to remember of a request until its reply comes; `None` for an unknown TYPE.
    #[must_use]
    pub fn asked(&self) -> Option<Asked> {
        match self {
            Self::Query(query) => Some(Asked::Query(query.cmd())),
            Self::Modification(modification) => Some(Asked::Modification(modification.cmd())),
            Self::Invalid(asked) | Self::UnknownCommand(asked) => Some(*asked),
            Self::UnknownType(_) => None,
        }
    }
}

fn query(cmd: u8, cut: &mut Cut<'_>) -> Option<Request> {
    let query = match (cmd, NumberQuery::from_cmd(cmd)) {
        (0x00, _) => Query::ListUsers,
        (_, Some(NumberQuery::UserConnections)) => match Name::new(cut.counted()?) {
            Ok(name) => Query::UserConnections(name),
            Err(_) => return Some(Request::Invalid(Asked::Query(cmd))),
        },
        (_, Some(number)) => Query::Number(number),
        (_, None) => return Some(Request::UnknownCommand(Asked::Query(cmd))),
    };
    Some(Request::Query(query))
}

fn modification(cmd: u8, cut: &mut Cut<'_>) -> Option<Request> {
    if cmd > Modification::CMD_MAX {
        return Some(Request::UnknownCommand(Asked::Modification(cmd)));
    }
    let checked = match cmd {
        0x00 => add_user(cut)?,
        0x01 => Name::new(cut.counted()?).ok().map(Modification::RemoveUser),
        0x02 => Switch::from_code(cut.octet()?).map(Modification::Dissector),
        0x03 => Switch::from_code(cut.octet()?).map(Modification::IdleCleanup),
        0x04 => Some(Modification::BufferSize(BigEndian::read_u32(cut.take(4)?))),
        0x05 => Some(Modification::SelectorTimeout(cut.octet()?)),
        _ => Some(Modification::IdleTimeout(cut.octet()?)),
    };
    Some(checked.map_or(Request::Invalid(Asked::Modification(cmd)), Request::Modification))
}

/// The outer `None`: incomplete. The inner one: complete and not allowed.
#[expect(clippy::option_option, reason = "two different questions, both answered by absence")]
fn add_user(cut: &mut Cut<'_>) -> Option<Option<Modification>> {
    let (name, password, privilege) = (cut.counted()?, cut.counted()?, cut.octet()?);
    let checked = || {
        Some(Modification::AddUser {
            name: Name::new(name).ok()?,
            password: Password::new(password).ok()?,
            privilege: Privilege::from_code(privilege)?,
        })
    };
    Some(checked())
}

fn encode_query(query: &Query, out: &mut Vec<u8>) {
    out.extend([QUERY, query.cmd()]);
    match query {
        Query::ListUsers | Query::Number(_) => {}
        Query::UserConnections(name) => counted(name.as_bytes(), out),
    }
}

fn encode_modification(modification: &Modification, out: &mut Vec<u8>) {
    out.extend([MODIFICATION, modification.cmd()]);
    match modification {
        Modification::AddUser { name, password, privilege } => {
            counted(name.as_bytes(), out);
            counted(password.as_bytes(), out);
            out.push(privilege.code());
        }
        Modification::RemoveUser(name) => counted(name.as_bytes(), out),
        Modification::Dissector(switch) | Modification::IdleCleanup(switch) => out.push(switch.code()),
        Modification::BufferSize(bytes) => out.extend(bytes.to_be_bytes()),
        Modification::SelectorTimeout(seconds) | Modification::IdleTimeout(seconds) => out.push(*seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrived: &[u8], expected: Option<(Request, usize)>) {
        assert_eq!(Request::decode(arrived), expected, "{arrived:02x?}");
    }

    #[test]
    fn what_is_unknown_takes_exactly_two_octets() {
        check(&[0x02, 0x00, 0x00], Some((Request::UnknownType(2), 2)));
        check(&[0xfe, 0x00], Some((Request::UnknownType(0xfe), 2)));
        check(&[0x00, 0x0c], Some((Request::UnknownCommand(Asked::Query(0x0c)), 2)));
        check(&[0x00, 0xff], Some((Request::UnknownCommand(Asked::Query(0xff)), 2)));
        check(&[0x01, 0x07, 1], Some((Request::UnknownCommand(Asked::Modification(7)), 2)));
        check(&[0x01, 0xfe], Some((Request::UnknownCommand(Asked::Modification(0xfe)), 2)));
        check(&[0x02], None);
    }

    #[test]
    fn what_is_not_allowed_is_consumed_whole() {
        check(&[0, 0x0b, 0, 9], Some((Request::Invalid(Asked::Query(0x0b)), 3)));
        check(&[1, 0, 0, 1, b'p', 0], Some((Request::Invalid(Asked::Modification(0)), 6)));
        check(&[1, 0, 1, b'u', 0, 0], Some((Request::Invalid(Asked::Modification(0)), 6)));
        check(&[1, 0, 1, b'u', 1, b'p', 2], Some((Request::Invalid(Asked::Modification(0)), 7)));
        check(&[1, 1, 0], Some((Request::Invalid(Asked::Modification(1)), 3)));
        check(&[1, 2, 2], Some((Request::Invalid(Asked::Modification(2)), 3)));
        check(&[1, 3, 0xff], Some((Request::Invalid(Asked::Modification(3)), 3)));
    }

    #[test]
    fn zero_is_a_value_that_the_server_refuses_itself() {
        check(&[1, 4, 0, 0, 0, 0], Some((Request::Modification(Modification::BufferSize(0)), 6)));
        check(&[1, 5, 0], Some((Request::Modification(Modification::SelectorTimeout(0)), 3)));
        check(&[1, 6, 0], Some((Request::Modification(Modification::IdleTimeout(0)), 3)));
    }

    #[test]
    fn only_what_a_client_asks_is_encoded() {
        let mut out = Vec::new();
        assert!(!Request::UnknownType(9).encode(&mut out));
        assert!(!Request::Invalid(Asked::Query(0x0b)).encode(&mut out));
        assert!(!Request::Query(Query::Number(NumberQuery::UserConnections)).encode(&mut out));
        assert!(out.is_empty());
        assert!(Request::Modification(Modification::BufferSize(65_536)).encode(&mut out));
        assert_eq!(out, [1, 4, 0, 1, 0, 0]);
    }
}
