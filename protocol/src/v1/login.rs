//! The login of version 1: the first thing on the association, password in clear.

use super::cut::Cut;
use crate::{Name, Password};

/// What a client presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// UNAME.
    pub name: Name,
    /// PASSWD.
    pub password: Password,
}

/// A login that can only be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// VER is not 01. Known as soon as that octet is read.
    #[error("version {0:#04x}, expected 0x01")]
    Version(u8),
    /// ULEN is 0.
    #[error("empty user name")]
    EmptyName,
    /// PLEN is 0.
    #[error("empty password")]
    EmptyPassword,
    /// The server answered with a STATUS that version 1 does not have.
    #[error("unknown login status {0:#04x}")]
    Status(u8),
}

/// STATUS of the answer. On any but `Accepted` the server closes the association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginStatus {
    /// 00.
    Accepted,
    /// 01.
    Refused,
    /// 02.
    UnsupportedVersion,
}

/// Reads a login.
///
/// Shape: `VER(1)=01 ULEN(1) UNAME(ULEN) PLEN(1) PASSWD(PLEN)`; lengths in octets, 1 to 255.
/// Gives the login and the octets it took; what follows is requests. `Ok(None)`: incomplete, nothing consumed.
/// Errors: every [`LoginError`] but `Status`; [`LoginError::status`] is the answer.
pub fn decode_login(arrived: &[u8]) -> Result<Option<(Login, usize)>, LoginError> {
    match arrived.first() {
        None | Some(1) => {}
        Some(&other) => return Err(LoginError::Version(other)),
    }
    let mut cut = Cut::new(arrived);
    let Some((name, password)) = fields(&mut cut) else { return Ok(None) };
    let name = Name::new(name).map_err(|_| LoginError::EmptyName)?;
    let password = Password::new(password).map_err(|_| LoginError::EmptyPassword)?;
    Ok(Some((Login { name, password }, cut.taken())))
}

fn fields<'a>(cut: &mut Cut<'a>) -> Option<(&'a [u8], &'a [u8])> {
    cut.octet()?;
    Some((cut.counted()?, cut.counted()?))
}

/// Writes a login.
#[must_use]
pub fn encode_login(login: &Login) -> Vec<u8> {
    let mut out = vec![1];
    counted(login.name.as_bytes(), &mut out);
    counted(login.password.as_bytes(), &mut out);
    out
}

/// Appends a length octet and the octets. Names and passwords have at most 255 by their type.
pub(super) fn counted(octets: &[u8], out: &mut Vec<u8>) {
    let octets = octets.get(..octets.len().min(usize::from(u8::MAX))).unwrap_or_default();
    out.push(u8::try_from(octets.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(octets);
}

/// Reads the server's answer `VER(1)=01 STATUS(1)`. `Ok(None)`: incomplete, nothing consumed; else it took 2.
///
/// Errors: [`LoginError::Version`], [`LoginError::Status`].
pub fn decode_login_reply(arrived: &[u8]) -> Result<Option<(LoginStatus, usize)>, LoginError> {
    match *arrived {
        [] | [1] => Ok(None),
        [1, status, ..] => Ok(Some((LoginStatus::from_code(status).ok_or(LoginError::Status(status))?, 2))),
        [other, ..] => Err(LoginError::Version(other)),
    }
}

impl LoginError {
    /// The status that answers it.
    #[must_use]
    pub fn status(self) -> LoginStatus {
        match self {
            Self::Version(_) => LoginStatus::UnsupportedVersion,
            Self::EmptyName | Self::EmptyPassword | Self::Status(_) => LoginStatus::Refused,
        }
    }
}

impl LoginStatus {
    /// STATUS.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Refused => 1,
            Self::UnsupportedVersion => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Accepted, Self::Refused, Self::UnsupportedVersion].into_iter().find(|s| s.code() == code)
    }

    /// The whole answer: VER=01, STATUS.
    #[must_use]
    pub fn encode(self) -> [u8; 2] {
        [1, self.code()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrived: &[u8], expected: Result<Option<usize>, LoginError>) {
        let found = decode_login(arrived).map(|found| {
            found.map(|(login, taken)| {
                assert_eq!((login.name.as_bytes(), login.password.as_bytes()), (&b"ab"[..], &b"c"[..]));
                taken
            })
        });
        assert_eq!(found, expected, "{arrived:02x?}");
    }

    #[test]
    fn a_login_is_read_when_it_is_complete() {
        check(b"", Ok(None));
        check(b"\x01", Ok(None));
        check(b"\x01\x02ab\x01", Ok(None));
        check(b"\x01\x02ab\x01c", Ok(Some(6)));
        check(b"\x01\x02ab\x01c\x00\x01", Ok(Some(6)));
    }

    #[test]
    fn a_login_that_can_only_be_refused_says_why() {
        check(b"\x05", Err(LoginError::Version(5)));
        check(b"\x00\x02ab\x01c", Err(LoginError::Version(0)));
        check(b"\x01\x00\x01c", Err(LoginError::EmptyName));
        check(b"\x01\x01a\x00", Err(LoginError::EmptyPassword));
        assert_eq!(LoginError::Version(5).status().encode(), [1, 2]);
        assert_eq!(LoginError::EmptyName.status().encode(), [1, 1]);
    }

    #[test]
    fn the_answer_is_two_octets() {
        assert_eq!(decode_login_reply(&[1]), Ok(None));
        assert_eq!(decode_login_reply(&[1, 0, 0]), Ok(Some((LoginStatus::Accepted, 2))));
        assert_eq!(decode_login_reply(&[1, 7]), Err(LoginError::Status(7)));
        assert_eq!(decode_login_reply(&[2]), Err(LoginError::Version(2)));
    }
}
