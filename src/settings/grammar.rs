//! How the text of a value is read and shown: one small grammar for each kind of value.
//!
//! A grammar knows nothing of sources or of [`super::Settings`]; the [table](super::table) pairs each with
//! the field it fills. What one shows it reads back as the same value.

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::AccessLog;
use crate::limits::{ADDRESSES_PER_SETTING_MAX, QUOTED_VALUE_CHARS_MAX};

/// A value that was not taken: what stood there, safe to print on one line, and what may stand there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not allowed: {allowed}")]
pub struct Rejected {
    /// The offending part in quotes, escaped and cut; of a secret only what is wrong with it.
    pub what: String,
    /// The range, the words or the form that is allowed.
    pub allowed: String,
}

/// What a value may look like in a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A string.
    Text,
    /// A string or an integer.
    Number,
    /// A boolean; on the command line the bare option means `true`.
    Switch,
    /// A string or an array of strings; on the command line repeatable or separated by commas.
    List,
}

/// Reads and shows values of type `T`.
pub(super) trait Grammar<T>: Sync {
    /// One word for the admin channel and documents: `duration`, `bytes`, `port`, …
    fn kind(&self) -> &'static str;
    /// What a bare number counts: `s`, `B`, `sessions`; empty where nothing is counted.
    fn unit(&self) -> &'static str {
        ""
    }
    /// See [`Shape`].
    fn shape(&self) -> Shape;
    /// What stands for the value in the help text.
    fn placeholder(&self) -> &'static str;
    /// What may be written, as a phrase that ends a sentence.
    fn allowed(&self) -> String;
    /// The words that it may be, where it is one of some words.
    fn words(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// The value of `text`, or `None` where it has none.
    fn read(&self, text: &OsStr) -> Option<T>;
    /// The text of `value`; reading it gives the value again.
    fn show(&self, value: &T) -> String;

    /// [`Grammar::read`], with the reason for people. Lists name the part that is wrong.
    fn parse(&self, text: &OsStr) -> Result<T, Rejected> {
        self.read(text).ok_or_else(|| Rejected { what: quote(text), allowed: self.allowed() })
    }
}

// ---- numbers -------------------------------------------------------------------------------------------

/// A TCP or UDP port.
pub(super) struct Port {
    /// 0 where the kernel may choose, else 1.
    pub(super) min: u16,
}

impl Grammar<u16> for Port {
    fn kind(&self) -> &'static str {
        "port"
    }
    fn shape(&self) -> Shape {
        Shape::Number
    }
    fn placeholder(&self) -> &'static str {
        "PORT"
    }
    fn allowed(&self) -> String {
        let kernel = if self.min == 0 { " (0: the kernel chooses)" } else { "" };
        format!("{} to {}{kernel}", self.min, u16::MAX)
    }
    fn read(&self, text: &OsStr) -> Option<u16> {
        let number = u16::try_from(number(text.to_str()?, &[])?).ok()?;
        (number >= self.min).then_some(number)
    }
    fn show(&self, value: &u16) -> String {
        value.to_string()
    }
}

/// A number of things.
pub(super) struct Count {
    pub(super) unit: &'static str,
    pub(super) min: usize,
    pub(super) max: usize,
}

impl Grammar<usize> for Count {
    fn kind(&self) -> &'static str {
        "count"
    }
    fn unit(&self) -> &'static str {
        self.unit
    }
    fn shape(&self) -> Shape {
        Shape::Number
    }
    fn placeholder(&self) -> &'static str {
        "COUNT"
    }
    fn allowed(&self) -> String {
        format!("{} to {}", self.min, self.max)
    }
    fn read(&self, text: &OsStr) -> Option<usize> {
        let count = usize::try_from(number(text.to_str()?, &[])?).ok()?;
        (self.min..=self.max).contains(&count).then_some(count)
    }
    fn show(&self, value: &usize) -> String {
        value.to_string()
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Units of sizes, all of them powers of two; `KB` is not one, because people disagree about it.
const SIZE_UNITS: [(&str, u64); 7] =
    [("b", 1), ("k", KIB), ("kib", KIB), ("m", MIB), ("mib", MIB), ("g", GIB), ("gib", GIB)];

/// A size; bytes where no unit stands.
pub(super) struct Bytes {
    pub(super) min: usize,
    pub(super) max: usize,
}

impl Grammar<usize> for Bytes {
    fn kind(&self) -> &'static str {
        "bytes"
    }
    fn unit(&self) -> &'static str {
        "B"
    }
    fn shape(&self) -> Shape {
        Shape::Number
    }
    fn placeholder(&self) -> &'static str {
        "SIZE"
    }
    fn allowed(&self) -> String {
        format!("{} to {}", self.show(&self.min), self.show(&self.max))
    }
    fn read(&self, text: &OsStr) -> Option<usize> {
        let lowered = text.to_str()?.to_ascii_lowercase();
        let bytes = usize::try_from(number(&lowered, &SIZE_UNITS)?).ok()?;
        (self.min..=self.max).contains(&bytes).then_some(bytes)
    }
    fn show(&self, value: &usize) -> String {
        let bytes = u64::try_from(*value).unwrap_or(u64::MAX);
        let units = [("GiB", GIB), ("MiB", MIB), ("KiB", KIB)];
        let unit = units.into_iter().find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor));
        let (unit, factor) = unit.unwrap_or(("B", 1));
        format!("{} {unit}", bytes / factor)
    }
}

/// Units of durations in milliseconds.
const TIME_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// A length of time in whole milliseconds; seconds where no unit stands.
pub(super) struct Time {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl Grammar<Duration> for Time {
    fn kind(&self) -> &'static str {
        "duration"
    }
    fn unit(&self) -> &'static str {
        "s"
    }
    fn shape(&self) -> Shape {
        Shape::Number
    }
    fn placeholder(&self) -> &'static str {
        "TIME"
    }
    fn allowed(&self) -> String {
        format!("{} to {}", self.show(&self.min), self.show(&self.max))
    }
    fn read(&self, text: &OsStr) -> Option<Duration> {
        let text = text.to_str()?;
        let bare = text.bytes().all(|byte| byte.is_ascii_digit());
        let ms = if bare { number(text, &[])?.checked_mul(1000)? } else { number(text, &TIME_UNITS)? };
        let time = Duration::from_millis(ms);
        (self.min..=self.max).contains(&time).then_some(time)
    }
    fn show(&self, value: &Duration) -> String {
        if value.subsec_millis() == 0 {
            format!("{} s", value.as_secs())
        } else {
            format!("{} ms", value.as_millis())
        }
    }
}

/// Digits, then optionally blanks and a unit; the number in the unit of factor 1. `None` for everything else,
/// signs and numbers past 64 bits among it.
fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits_end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(digits_end)?;
    let factor = match unit.trim_start_matches(' ') {
        "" if unit.is_empty() => 1,
        unit => units.iter().find(|(name, _)| *name == unit)?.1,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// A value or one word that says that there is none.
pub(super) struct Optional<G> {
    pub(super) none: &'static str,
    pub(super) some: G,
}

impl<T, G: Grammar<T>> Grammar<Option<T>> for Optional<G> {
    fn kind(&self) -> &'static str {
        self.some.kind()
    }
    fn unit(&self) -> &'static str {
        self.some.unit()
    }
    fn shape(&self) -> Shape {
        self.some.shape()
    }
    fn placeholder(&self) -> &'static str {
        self.some.placeholder()
    }
    fn allowed(&self) -> String {
        format!("{}, or {}", self.some.allowed(), self.none)
    }
    fn read(&self, text: &OsStr) -> Option<Option<T>> {
        if text == self.none { Some(None) } else { self.some.read(text).map(Some) }
    }
    fn show(&self, value: &Option<T>) -> String {
        value.as_ref().map_or_else(|| self.none.to_owned(), |value| self.some.show(value))
    }
}

// ---- addresses -----------------------------------------------------------------------------------------

/// One IPv4 or IPv6 address, brackets permitted.
pub(super) struct Address;

impl Grammar<IpAddr> for Address {
    fn kind(&self) -> &'static str {
        "address"
    }
    fn shape(&self) -> Shape {
        Shape::Text
    }
    fn placeholder(&self) -> &'static str {
        "ADDRESS"
    }
    fn allowed(&self) -> String {
        "an IPv4 or IPv6 address".to_owned()
    }
    fn read(&self, text: &OsStr) -> Option<IpAddr> {
        let text = text.to_str()?;
        match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.parse().ok().map(IpAddr::V6),
            None => text.parse().ok(),
        }
    }
    fn show(&self, value: &IpAddr) -> String {
        value.to_string()
    }
}

/// How many addresses a list may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plenty {
    /// At most [`ADDRESSES_PER_SETTING_MAX`].
    Any,
    /// At most one of each family.
    OneOfEachFamily,
}

/// Addresses separated by commas, each counted once.
pub(super) struct Addresses {
    /// The word for an empty list; without one a list has at least one address.
    pub(super) none: Option<&'static str>,
    pub(super) plenty: Plenty,
}

impl Addresses {
    fn rejected(&self, what: String) -> Rejected {
        Rejected { what, allowed: self.allowed() }
    }
}

impl Grammar<Vec<IpAddr>> for Addresses {
    fn kind(&self) -> &'static str {
        "addresses"
    }
    fn shape(&self) -> Shape {
        Shape::List
    }
    fn placeholder(&self) -> &'static str {
        "ADDRESS"
    }
    fn allowed(&self) -> String {
        let many = match self.plenty {
            Plenty::Any => format!("up to {ADDRESSES_PER_SETTING_MAX} IPv4 or IPv6 addresses"),
            Plenty::OneOfEachFamily => "at most one IPv4 and one IPv6 address".to_owned(),
        };
        self.none.map_or(many.clone(), |none| format!("{many}, or {none}"))
    }
    fn read(&self, text: &OsStr) -> Option<Vec<IpAddr>> {
        self.parse(text).ok()
    }
    fn show(&self, value: &Vec<IpAddr>) -> String {
        match self.none {
            Some(none) if value.is_empty() => none.to_owned(),
            Some(_) | None => value.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        }
    }

    fn parse(&self, text: &OsStr) -> Result<Vec<IpAddr>, Rejected> {
        if self.none.is_some_and(|none| text == none) {
            return Ok(Vec::new());
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        for part in text.as_bytes().split(|byte| *byte == b',') {
            let part = OsStr::from_bytes(part.trim_ascii());
            let address = Address.read(part).ok_or_else(|| self.rejected(quote(part)))?;
            if addresses.contains(&address) {
                continue;
            }
            let too_many = match self.plenty {
                Plenty::Any => addresses.len() >= ADDRESSES_PER_SETTING_MAX,
                Plenty::OneOfEachFamily => addresses.iter().any(|other| other.is_ipv4() == address.is_ipv4()),
            };
            if too_many {
                return Err(self.rejected(format!("{} as well", quote(part))));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }
}

/// Addresses with ports, separated by commas, each counted once; none is `off`.
pub(super) struct Endpoints;

const NO_ENDPOINT: &str = "off";

impl Grammar<Vec<SocketAddr>> for Endpoints {
    fn kind(&self) -> &'static str {
        "endpoints"
    }
    fn shape(&self) -> Shape {
        Shape::List
    }
    fn placeholder(&self) -> &'static str {
        "ADDRESS:PORT"
    }
    fn allowed(&self) -> String {
        format!("up to {ADDRESSES_PER_SETTING_MAX} addresses with ports, as 127.0.0.1:9108, or {NO_ENDPOINT}")
    }
    fn read(&self, text: &OsStr) -> Option<Vec<SocketAddr>> {
        self.parse(text).ok()
    }
    fn show(&self, value: &Vec<SocketAddr>) -> String {
        match value.as_slice() {
            [] => NO_ENDPOINT.to_owned(),
            some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        }
    }

    fn parse(&self, text: &OsStr) -> Result<Vec<SocketAddr>, Rejected> {
        if text == NO_ENDPOINT {
            return Ok(Vec::new());
        }
        let mut endpoints: Vec<SocketAddr> = Vec::new();
        for part in text.as_bytes().split(|byte| *byte == b',') {
            let part = OsStr::from_bytes(part.trim_ascii());
            let endpoint = part.to_str().and_then(|part| part.parse().ok());
            let endpoint = endpoint.ok_or_else(|| Rejected { what: quote(part), allowed: self.allowed() })?;
            if endpoints.len() >= ADDRESSES_PER_SETTING_MAX {
                let what = format!("{} as well", quote(part));
                return Err(Rejected { what, allowed: self.allowed() });
            }
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        Ok(endpoints)
    }
}

// ---- words and texts -----------------------------------------------------------------------------------

/// One of some words.
pub(super) struct Choice<T: 'static> {
    pub(super) words: &'static [(&'static str, T)],
}

impl<T: Copy + PartialEq + Sync> Grammar<T> for Choice<T> {
    fn kind(&self) -> &'static str {
        "choice"
    }
    fn shape(&self) -> Shape {
        Shape::Text
    }
    fn placeholder(&self) -> &'static str {
        "WORD"
    }
    fn allowed(&self) -> String {
        match self.words {
            [(only, _)] => format!("only {only}"),
            [rest @ .., (last, _)] => {
                let rest: Vec<&str> = rest.iter().map(|(word, _)| *word).collect();
                format!("{} or {last}", rest.join(", "))
            }
            [] => String::new(),
        }
    }
    fn words(&self) -> Vec<&'static str> {
        self.words.iter().map(|(word, _)| *word).collect()
    }
    fn read(&self, text: &OsStr) -> Option<T> {
        self.words.iter().find(|(word, _)| text == *word).map(|(_, value)| *value)
    }
    fn show(&self, value: &T) -> String {
        let word = self.words.iter().find(|(_, candidate)| candidate == value);
        word.map_or_else(String::new, |(word, _)| (*word).to_owned())
    }
}

/// On or off; the two values that it stands for need not be booleans.
pub(super) struct Switch<T> {
    pub(super) on: T,
    pub(super) off: T,
}

impl<T: Copy + PartialEq + Sync> Grammar<T> for Switch<T> {
    fn kind(&self) -> &'static str {
        "switch"
    }
    fn shape(&self) -> Shape {
        Shape::Switch
    }
    fn placeholder(&self) -> &'static str {
        "true|false"
    }
    fn allowed(&self) -> String {
        "true or false".to_owned()
    }
    fn read(&self, text: &OsStr) -> Option<T> {
        match text.to_str()? {
            "true" | "yes" | "on" | "1" => Some(self.on),
            "false" | "no" | "off" | "0" => Some(self.off),
            _ => None,
        }
    }
    fn show(&self, value: &T) -> String {
        (*value == self.on).to_string()
    }
}

/// A text that goes onto a wire as it is, so that its form is checked octet by octet.
pub(super) struct Text {
    pub(super) allowed: &'static str,
    pub(super) placeholder: &'static str,
    pub(super) bytes_max: usize,
    pub(super) is_allowed: fn(&str) -> bool,
}

impl Grammar<String> for Text {
    fn kind(&self) -> &'static str {
        "text"
    }
    fn shape(&self) -> Shape {
        Shape::Text
    }
    fn placeholder(&self) -> &'static str {
        self.placeholder
    }
    fn allowed(&self) -> String {
        format!("{}, at most {} octets", self.allowed, self.bytes_max)
    }
    fn read(&self, text: &OsStr) -> Option<String> {
        let text = text.to_str()?;
        (text.len() <= self.bytes_max && (self.is_allowed)(text)).then(|| text.to_owned())
    }
    fn show(&self, value: &String) -> String {
        value.clone()
    }
}

/// Where lines go: `stdout`, `off`, or the path of a file. Octets of a path that are not UTF-8 work, but are
/// shown as replacement characters.
pub(super) struct Target;

impl Grammar<AccessLog> for Target {
    fn kind(&self) -> &'static str {
        "target"
    }
    fn shape(&self) -> Shape {
        Shape::Text
    }
    fn placeholder(&self) -> &'static str {
        "TARGET"
    }
    fn allowed(&self) -> String {
        "the path of a file, stdout or off".to_owned()
    }
    fn read(&self, text: &OsStr) -> Option<AccessLog> {
        match text.as_bytes() {
            b"stdout" => Some(AccessLog::Stdout),
            b"off" => Some(AccessLog::Off),
            path if path.is_empty() || path.contains(&0) => None,
            _ => Some(AccessLog::File(PathBuf::from(text))),
        }
    }
    fn show(&self, value: &AccessLog) -> String {
        match value {
            AccessLog::Stdout => "stdout".to_owned(),
            AccessLog::Off => "off".to_owned(),
            AccessLog::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

// ---- printing ------------------------------------------------------------------------------------------

/// `text` in quotes and escaped, cut after [`QUOTED_VALUE_CHARS_MAX`] characters: fit for one line of a
/// terminal whatever it held.
pub(super) fn quote(text: &OsStr) -> String {
    let mut pieces = escaped(text);
    let kept: String = pieces.by_ref().take(QUOTED_VALUE_CHARS_MAX).collect();
    let cut = if pieces.next().is_some() { "…" } else { "" };
    format!("\"{kept}{cut}\"")
}

/// `text` whole, for paths: control characters and octets that are not UTF-8 are escaped.
pub(super) fn escape(text: &OsStr) -> String {
    escaped(text).collect()
}

/// The characters of `text`, each as something that can be printed.
fn escaped(text: &OsStr) -> impl Iterator<Item = String> {
    text.as_bytes().utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(|char| char.escape_debug().to_string());
        valid.chain(chunk.invalid().iter().map(|octet| format!("\\x{octet:02x}")))
    })
}

#[cfg(test)]
mod tests;
