//! The part of CBOR (RFC 8949) that bodies use: definite lengths, unsigned integer keys, bounded nesting.
//!
//! [`check`] refuses everything else, so that typed decoding behind it walks a tree that is known to be small and
//! well formed. [`Reader`] and [`Writer`] are the items that messages consist of.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use super::body::{BodyError, Value};
use crate::limits::{BODY_BYTES_MAX, MAP_ENTRIES_MAX, NESTING_MAX};

/// What [`check`] refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxProblem {
    /// The body is not a map.
    #[error("a body is one map")]
    NotAMap,
    /// The octets end inside an item.
    #[error("the item ends early or is not CBOR")]
    Truncated,
    /// More octets follow the map.
    #[error("nothing may follow the map")]
    Trailing,
    /// An indefinite length.
    #[error("lengths must be definite")]
    Indefinite,
    /// A tag, float, null, undefined or other simple value.
    #[error("only integers, octets, text, booleans, arrays and maps are used")]
    Type,
    /// Text that is not UTF-8.
    #[error("text must be UTF-8")]
    Utf8,
    /// A map's key is not an unsigned integer.
    #[error("keys must be unsigned integers")]
    KeyType,
    /// A map has a key twice.
    #[error("a key may stand only once")]
    DuplicateKey,
    /// More than 64 entries.
    #[error("a map has at most 64 entries")]
    Entries,
    /// Deeper than 4.
    #[error("maps and arrays are nested at most 4 deep")]
    Nesting,
    /// More than 4,080 octets.
    #[error("a body has at most 4080 octets")]
    Size,
}

/// Checks that the octets are one map within the protocol's part of CBOR; see [`SyntaxProblem`] for what is not.
pub fn check(body: &[u8]) -> Result<(), BodyError> {
    let mut input = Reader::new(body);
    if body.len() > BODY_BYTES_MAX {
        return Err(input.problem(SyntaxProblem::Size));
    }
    if input.datatype()? != Type::Map {
        return Err(input.problem(SyntaxProblem::NotAMap));
    }
    input.check_item(1)?;
    if input.decoder.position() != body.len() {
        return Err(input.problem(SyntaxProblem::Trailing));
    }
    Ok(())
}

/// Reads items of a body, each method one.
#[derive(Debug)]
pub struct Reader<'b> {
    decoder: Decoder<'b>,
}

impl<'b> Reader<'b> {
    pub(super) fn new(body: &'b [u8]) -> Self {
        Self { decoder: Decoder::new(body) }
    }

    fn problem(&self, problem: SyntaxProblem) -> BodyError {
        BodyError::Syntax { at: self.decoder.position(), problem }
    }

    fn truncated(&self) -> BodyError {
        self.problem(SyntaxProblem::Truncated)
    }

    fn datatype(&self) -> Result<Type, BodyError> {
        self.decoder.datatype().map_err(|_| self.truncated())
    }

    /// Checks one item and what is inside it; `depth` counts the maps and arrays around it, itself included.
    fn check_item(&mut self, depth: usize) -> Result<(), BodyError> {
        let datatype = self.datatype()?;
        match datatype {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => self.decoder.u64().map(drop),
            Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => self.decoder.int().map(drop),
            Type::Bool => self.decoder.bool().map(drop),
            Type::Bytes => self.decoder.bytes().map(drop),
            Type::String => return self.check_text(),
            Type::Array => return self.check_array(depth),
            Type::Map => return self.check_map(depth),
            Type::BytesIndef | Type::StringIndef | Type::ArrayIndef | Type::MapIndef | Type::Break => {
                return Err(self.problem(SyntaxProblem::Indefinite));
            }
            Type::Null | Type::Undefined | Type::Simple | Type::Tag | Type::F16 | Type::F32 | Type::F64 => {
                return Err(self.problem(SyntaxProblem::Type));
            }
            Type::Unknown(_) => return Err(self.truncated()),
        }
        .map_err(|_| self.truncated())
    }

    fn check_text(&mut self) -> Result<(), BodyError> {
        let Err(error) = self.decoder.str() else { return Ok(()) };
        let early = error.is_end_of_input();
        Err(self.problem(if early { SyntaxProblem::Truncated } else { SyntaxProblem::Utf8 }))
    }

    fn check_array(&mut self, depth: usize) -> Result<(), BodyError> {
        if depth > NESTING_MAX {
            return Err(self.problem(SyntaxProblem::Nesting));
        }
        // Every item takes at least one octet, so that a false count ends with the body.
        for _ in 0..self.decoder.array().ok().flatten().ok_or_else(|| self.truncated())? {
            self.check_item(depth + 1)?;
        }
        Ok(())
    }

    fn check_map(&mut self, depth: usize) -> Result<(), BodyError> {
        if depth > NESTING_MAX {
            return Err(self.problem(SyntaxProblem::Nesting));
        }
        let entries = self.decoder.map().ok().flatten().ok_or_else(|| self.truncated())?;
        if entries > MAP_ENTRIES_MAX as u64 {
            return Err(self.problem(SyntaxProblem::Entries));
        }
        let mut keys = Vec::new();
        for _ in 0..entries {
            if !matches!(self.datatype()?, Type::U8 | Type::U16 | Type::U32 | Type::U64) {
                return Err(self.problem(SyntaxProblem::KeyType));
            }
            let key = self.key()?;
            if keys.contains(&key) {
                return Err(self.problem(SyntaxProblem::DuplicateKey));
            }
            keys.push(key);
            self.check_item(depth + 1)?;
        }
        Ok(())
    }

    /// An unsigned integer; the error names what `T` allows.
    pub(super) fn unsigned<T: Value>(&mut self) -> Result<u64, BodyError> {
        self.decoder.u64().map_err(|_| BodyError::value::<T>())
    }

    /// A number of one octet; the error names what `T` allows.
    pub(super) fn octet<T: Value>(&mut self) -> Result<u8, BodyError> {
        self.decoder.u8().map_err(|_| BodyError::value::<T>())
    }

    pub(super) fn key(&mut self) -> Result<u64, BodyError> {
        self.decoder.u64().map_err(|_| self.problem(SyntaxProblem::KeyType))
    }

    pub(super) fn bytes<T: Value>(&mut self) -> Result<&'b [u8], BodyError> {
        self.decoder.bytes().map_err(|_| BodyError::value::<T>())
    }

    pub(super) fn text<T: Value>(&mut self) -> Result<&'b str, BodyError> {
        self.decoder.str().map_err(|_| BodyError::value::<T>())
    }

    pub(super) fn bool(&mut self) -> Result<bool, BodyError> {
        self.decoder.bool().map_err(|_| BodyError::value::<bool>())
    }

    /// Items of the array that starts here.
    pub(super) fn array<T: Value>(&mut self) -> Result<u64, BodyError> {
        self.decoder.array().ok().flatten().ok_or_else(BodyError::value::<T>)
    }

    /// Entries of the map that starts here.
    pub(super) fn map<T: Value>(&mut self) -> Result<u64, BodyError> {
        self.decoder.map().ok().flatten().ok_or_else(BodyError::value::<T>)
    }

    pub(super) fn skip(&mut self) -> Result<(), BodyError> {
        self.decoder.skip().map_err(|_| self.truncated())
    }
}

/// Writes items of a body. Writing into memory cannot fail, so no method can.
#[derive(Debug)]
pub struct Writer {
    octets: Vec<u8>,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { octets: Vec::with_capacity(128) }
    }

    /// Octets written so far.
    pub(super) fn into_octets(self) -> Vec<u8> {
        self.octets
    }

    pub(super) fn unsigned(&mut self, value: u64) {
        let written = Encoder::new(&mut self.octets).u64(value).is_ok();
        debug_assert!(written, "a Vec takes everything");
    }

    #[expect(clippy::fn_params_excessive_bools, reason = "the item that is written is a boolean")]
    pub(super) fn bool(&mut self, value: bool) {
        let written = Encoder::new(&mut self.octets).bool(value).is_ok();
        debug_assert!(written, "a Vec takes everything");
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        let written = Encoder::new(&mut self.octets).bytes(value).is_ok();
        debug_assert!(written, "a Vec takes everything");
    }

    pub(super) fn text(&mut self, value: &str) {
        let written = Encoder::new(&mut self.octets).str(value).is_ok();
        debug_assert!(written, "a Vec takes everything");
    }

    pub(super) fn map(&mut self, entries: usize) {
        let written = Encoder::new(&mut self.octets).map(entries as u64).is_ok();
        debug_assert!(written, "a Vec takes everything");
    }

    pub(super) fn array(&mut self, items: usize) {
        let written = Encoder::new(&mut self.octets).array(items as u64).is_ok();
        debug_assert!(written, "a Vec takes everything");
    }

    /// Items that are CBOR already.
    pub(super) fn raw(&mut self, items: &[u8]) {
        self.octets.extend_from_slice(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syntax(body: &[u8]) -> Option<SyntaxProblem> {
        match check(body) {
            Err(BodyError::Syntax { problem, .. }) => Some(problem),
            Ok(()) => None,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn only_the_protocols_part_of_cbor_is_accepted() {
        use SyntaxProblem as P;
        let table: [(&[u8], Option<P>); 27] = [
            (&[0xa0], None),
            (&[0xa1, 0x01, 0x20], None),
            (&[0xa1, 0x19, 0x12, 0x34, 0x41, 0xff], None),
            (&[0xa1, 1, 0x81, 0xa1, 2, 0x81, 0xf5], None),
            (&[], Some(P::Truncated)),
            (&[0x01], Some(P::NotAMap)),
            (&[0x80], Some(P::NotAMap)),
            (&[0xbf, 0xff], Some(P::NotAMap)),
            (&[0xa1, 0x01], Some(P::Truncated)),
            (&[0xa1, 0x01, 0x44, 1], Some(P::Truncated)),
            (&[0xa1, 0x01, 0x9b, 255, 255, 255, 255, 255, 255, 255, 255], Some(P::Truncated)),
            (&[0xa0, 0x00], Some(P::Trailing)),
            (&[0xa1, 1, 0x9f, 0xff], Some(P::Indefinite)),
            (&[0xa1, 1, 0x5f, 0xff], Some(P::Indefinite)),
            (&[0xa1, 1, 0xff], Some(P::Indefinite)),
            (&[0xa1, 1, 0xf6], Some(P::Type)),
            (&[0xa1, 1, 0xf7], Some(P::Type)),
            (&[0xa1, 1, 0xf9, 0, 0], Some(P::Type)),
            (&[0xa1, 1, 0xc0, 0x60], Some(P::Type)),
            (&[0xa1, 1, 0x61, 0xff], Some(P::Utf8)),
            (&[0xa1, 0x20, 0], Some(P::KeyType)),
            (&[0xa1, 0x61, b'a', 0], Some(P::KeyType)),
            (&[0xa2, 1, 0, 1, 0], Some(P::DuplicateKey)),
            (&[0xa2, 1, 0, 0x18, 1, 0], Some(P::DuplicateKey)),
            (&[0xa1, 1, 0x81, 0x81, 0x81, 0x81, 0], Some(P::Nesting)),
            (&[0xb8, 65, 0], Some(P::Entries)),
            (&[0xbb, 255, 255, 255, 255, 255, 255, 255, 255], Some(P::Entries)),
        ];
        for (body, expected) in table {
            assert_eq!(syntax(body), expected, "{body:02x?}");
        }
        assert_eq!(syntax(&vec![0xa0; BODY_BYTES_MAX + 1]), Some(P::Size));
    }
}
