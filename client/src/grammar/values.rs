//! The values of a command that was read, and how the text of each kind becomes one.

use std::net::IpAddr;
use std::time::Duration;

use pipo_protocol::Name;

use super::kind::network;
use crate::output::name_octets;

/// What stood after a command's words. Every value has been checked by its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    given: Vec<(&'static str, String)>,
}

impl Values {
    pub(super) fn push(&mut self, name: &'static str, value: impl Into<String>) {
        self.given.push((name, value.into()));
    }

    /// Whether a switch, an option or an argument was given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// The value that was given last.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// Every value, in order.
    pub fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// A user's name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<Name> {
        Name::new(name_octets(self.text(name)?)?).ok()
    }

    /// A number of whichever width.
    #[must_use]
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    /// A number of octets.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<u64> {
        number_of_bytes(self.text(name)?)
    }

    /// A span of time.
    #[must_use]
    pub fn span(&self, name: &str) -> Option<Duration> {
        span(self.text(name)?)
    }

    /// A span of time in milliseconds.
    #[must_use]
    pub fn span_ms(&self, name: &str) -> Option<u64> {
        self.span(name).map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    /// An address, perhaps with leading bits.
    #[must_use]
    pub fn network(&self, name: &str) -> Option<(IpAddr, Option<u8>)> {
        network(self.text(name)?)
    }
}

/// A session's number from its hexadecimal digits.
#[must_use]
pub fn session_id(text: &str) -> Option<u64> {
    let digits = (1..=16).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_hexdigit());
    if digits { u64::from_str_radix(text, 16).ok() } else { None }
}

/// Octets: `65536`, `64k`, `64KiB`, `1.5m`. Units multiply by 1,024.
#[must_use]
pub fn number_of_bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return None,
    };
    thousandths(number)?.checked_mul(1 << shift).map(|thousandths| thousandths / 1000)
}

/// A span: `90`, `1.5s`, `100 ms`, `10m`, `2h`, `1d`. A bare number counts seconds.
#[must_use]
pub fn span(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    thousandths(number)?.checked_mul(unit_ms).map(|thousandths| Duration::from_millis(thousandths / 1000))
}

fn number_and_unit(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at_checked(end).map(|(number, unit)| (number, unit.trim_start()))
}

/// `1.5` is 1500; at most three digits after the point.
fn thousandths(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 3 || !fraction.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = format!("{fraction:0<3}").parse().ok()?;
    whole.checked_mul(1000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_read_with_their_unit() {
        for (text, expected) in [
            ("65536", Some(65_536)),
            ("64k", Some(65_536)),
            ("1.5 KiB", Some(1536)),
            ("1G", Some(1 << 30)),
            ("", None),
            ("k", None),
            ("-1", None),
            ("1x", None),
            ("1.2345", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(number_of_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn a_span_without_a_unit_counts_seconds() {
        for (text, expected_ms) in [
            ("90", Some(90_000)),
            ("0.2", Some(200)),
            ("100 ms", Some(100)),
            ("1.5s", Some(1500)),
            ("10m", Some(600_000)),
            ("2h", Some(7_200_000)),
            ("1d", Some(86_400_000)),
            ("1w", None),
            ("s", None),
            ("1.", None),
            ("", None),
        ] {
            assert_eq!(span(text).map(|span| span.as_millis()), expected_ms, "{text}");
        }
    }

    #[test]
    fn a_session_is_named_by_hexadecimal_digits() {
        assert_eq!(session_id("00000f0000000001"), Some(0x0f00_0000_0001));
        assert_eq!(session_id("ff"), Some(255));
        for wrong in ["", "+1", "0x1", "00000000000000001", "g"] {
            assert_eq!(session_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_network_has_as_many_bits_as_its_family_allows() {
        assert!(network("192.0.2.0/24").is_some() && network("2001:db8::/32").is_some());
        assert!(network("::1").is_some_and(|(_, bits)| bits.is_none()));
        assert!(network("192.0.2.0/33").is_none() && network("::/129").is_none() && network("a").is_none());
    }
}
