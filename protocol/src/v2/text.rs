//! Bounded texts and octets, and keys that are never shown.

use std::fmt;

use subtle::ConstantTimeEq;

use super::body::{BodyError, Value};
use super::cbor::{Reader, Writer};

/// UTF-8 text of at most `MAX` octets.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text<const MAX: usize>(String);

/// A name of ours: setting, metric, feature.
pub type Word = Text<64>;

/// Something for people to read.
pub type Sentence = Text<512>;

/// `MIN` to `MAX` octets of any value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Octets<const MIN: usize, const MAX: usize>(Vec<u8>);

/// 32 octets of a hash: a key, a proof or a signature. Compared in constant time, never shown.
#[derive(Clone, Copy)]
pub struct Key([u8; 32]);

impl<const MAX: usize> Text<MAX> {
    /// `None`: longer than `MAX` octets.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (text.len() <= MAX).then_some(Self(text))
    }

    /// The text, or as much of it as fits.
    #[must_use]
    pub fn cut(text: &str) -> Self {
        Self(text.get(..text.floor_char_boundary(MAX)).unwrap_or_default().to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> Octets<MIN, MAX> {
    /// `None`: fewer than `MIN` or more than `MAX` octets.
    #[must_use]
    pub fn new(octets: impl Into<Vec<u8>>) -> Option<Self> {
        let octets = octets.into();
        (MIN..=MAX).contains(&octets.len()).then_some(Self(octets))
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Key {
    /// A key that was computed or received.
    #[must_use]
    pub fn new(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Debug for Octets<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Octets({:02x?})", self.0)
    }
}

impl<const MAX: usize> Value for Text<MAX> {
    fn cddl() -> String {
        format!("tstr .size (0..{MAX})")
    }
    fn allowed() -> String {
        format!("text of at most {MAX} octets")
    }
    fn write(&self, out: &mut Writer) {
        out.text(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, BodyError> {
        let text = input.text::<Self>()?;
        Self::new(text).ok_or_else(BodyError::value::<Self>)
    }
    #[cfg(test)]
    fn sample(source: &mut super::sample::Source) -> Self {
        Self::cut(&source.text())
    }
}

impl<const MIN: usize, const MAX: usize> Value for Octets<MIN, MAX> {
    fn cddl() -> String {
        format!("bstr .size ({MIN}..{MAX})")
    }
    fn allowed() -> String {
        format!("{MIN} to {MAX} octets")
    }
    fn write(&self, out: &mut Writer) {
        out.bytes(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, BodyError> {
        let octets = input.bytes::<Self>()?;
        Self::new(octets).ok_or_else(BodyError::value::<Self>)
    }
    #[cfg(test)]
    fn sample(source: &mut super::sample::Source) -> Self {
        Self(source.octets(MIN, MAX))
    }
}

impl Value for Key {
    fn cddl() -> String {
        "bstr .size 32".to_owned()
    }
    fn allowed() -> String {
        "32 octets".to_owned()
    }
    fn write(&self, out: &mut Writer) {
        out.bytes(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, BodyError> {
        let octets = input.bytes::<Self>()?;
        octets.try_into().map(Self).map_err(|_| BodyError::value::<Self>())
    }
    #[cfg(test)]
    fn sample(source: &mut super::sample::Source) -> Self {
        let mut octets = [0; 32];
        octets.copy_from_slice(&source.octets(32, 32));
        Self(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(Text::<4>::cut("abcé").as_str(), "abc");
        assert_eq!(Text::<5>::cut("abcé").as_str(), "abcé");
        assert_eq!(Text::<4>::new("abcé"), None);
    }

    #[test]
    fn a_key_is_never_shown() {
        assert_eq!(format!("{:?}", Key::new([7; 32])), "Key(***)");
    }
}
