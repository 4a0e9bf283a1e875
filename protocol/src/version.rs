//! The version of an association: its first octet.

/// What the first octet of an association chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 01: a version 1 login follows, this octet being its VER.
    V1,
    /// 02: version 2 records follow, this octet being the first one's VERSION.
    V2,
    /// Anything else: answered with [`crate::v1::LoginStatus::UnsupportedVersion`], then closed.
    Unsupported(u8),
}

impl Version {
    /// Reads the first octet without consuming it. `None`: nothing has arrived.
    #[must_use]
    pub fn choose(arrived: &[u8]) -> Option<Self> {
        Some(match *arrived.first()? {
            1 => Self::V1,
            2 => Self::V2,
            other => Self::Unsupported(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_octet_chooses() {
        let table = [
            (&[][..], None),
            (&[1, 9], Some(Version::V1)),
            (&[2], Some(Version::V2)),
            (&[0], Some(Version::Unsupported(0))),
            (&[255, 1], Some(Version::Unsupported(255))),
        ];
        for (arrived, expected) in table {
            assert_eq!(Version::choose(arrived), expected);
        }
    }
}
