//! User names and passwords: 1 to 255 octets of any value, never text that could be normalised.

use std::fmt;

use crate::limits::NAME_BYTES_MAX;

/// A user's name, 1 to 255 octets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Vec<u8>);

/// A password in clear, 1 to 255 octets. Travels in version 1 only; `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

/// Octets that are no name or password: there are none, or more than 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} octets, allowed are 1 to 255")]
pub struct SizeError(pub usize);

impl Name {
    /// Checks the size; the only door.
    pub fn new(octets: impl Into<Vec<u8>>) -> Result<Self, SizeError> {
        check(octets.into()).map(Self)
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The octets, owned.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl Password {
    /// Checks the size; the only door.
    pub fn new(octets: impl Into<Vec<u8>>) -> Result<Self, SizeError> {
        check(octets.into()).map(Self)
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn check(octets: Vec<u8>) -> Result<Vec<u8>, SizeError> {
    match octets.len() {
        1..=NAME_BYTES_MAX => Ok(octets),
        other => Err(SizeError(other)),
    }
}

/// Printable ASCII as it is, everything else and the backslash as `\xNN`: safe on a terminal.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &octet in &self.0 {
            match octet {
                b'\\' => f.write_str("\\x5c")?,
                b' '..=b'~' => write!(f, "{}", char::from(octet))?,
                _ => write!(f, "\\x{octet:02x}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_1_to_255_octets() {
        for (size, accepted) in [(0, false), (1, true), (255, true), (256, false)] {
            assert_eq!(Name::new(vec![b'a'; size]).is_ok(), accepted, "{size}");
            assert_eq!(Password::new(vec![b'a'; size]).is_ok(), accepted, "{size}");
        }
    }

    #[test]
    fn a_name_is_shown_without_control_octets() {
        let name = Name::new(*b"a\x1b\\\xff z").unwrap();
        assert_eq!(name.to_string(), "a\\x1b\\x5c\\xff z");
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(format!("{:?}", Password::new(*b"hunter2").unwrap()), "Password(***)");
    }
}
