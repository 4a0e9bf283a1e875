//! Bodies: one CBOR map with unsigned integer keys (RFC 8949), and the macro that declares them.
//!
//! [`check`] refuses everything the protocol does not use, so that typed decoding behind it walks a tree that is
//! known to be small and well formed. A message is declared once by `message!`: struct, encoder, decoder, and the
//! table of its fields that help, CDDL and documentation are rendered from.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use super::cddl::Definitions;
use crate::limits::{BODY_BYTES_MAX, MAP_ENTRIES_MAX, NESTING_MAX};

/// Why a body is not what its command asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not CBOR, or not the part of it that the protocol uses.
    #[error("octet {at} of the body: {problem}")]
    Syntax {
        /// Where, counted from the body's first octet.
        at: usize,
        /// What is wrong there.
        problem: SyntaxProblem,
    },
    /// A field that must be there is not.
    #[error("field {name} (key {key}) is missing")]
    Missing {
        /// Its key.
        key: u64,
        /// Its name.
        name: &'static str,
    },
    /// A field's value has another type or is out of range.
    #[error("field {name} (key {key}): allowed is {allowed}")]
    Value {
        /// Its key.
        key: u64,
        /// Its name.
        name: &'static str,
        /// What is allowed, as CDDL.
        allowed: String,
    },
}

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

impl BodyError {
    /// A value that `T` does not allow; the field's name is filled in by the message around it.
    pub(super) fn value<T: Value>() -> Self {
        Self::Value { key: 0, name: "", allowed: T::cddl() }
    }

    fn in_field(self, field: u64, field_name: &'static str) -> Self {
        match self {
            Self::Value { name: "", allowed, .. } => Self::Value { key: field, name: field_name, allowed },
            Self::Syntax { .. } | Self::Missing { .. } | Self::Value { .. } => self,
        }
    }

    /// Key of the field at fault.
    #[must_use]
    pub fn field(&self) -> Option<u64> {
        match self {
            Self::Syntax { .. } => None,
            Self::Missing { key, .. } | Self::Value { key, .. } => Some(*key),
        }
    }
}

/// One CBOR map: a request's arguments, a reply's or event's content, or a part of one.
pub trait Message: Value {
    /// Name in the CDDL.
    const NAME: &'static str;
    /// Its fields in the order of the keys.
    const FIELDS: &'static [Field];
    /// What it is for.
    const HELP: &'static str;

    /// The body's octets: definite lengths, shortest heads, keys ascending, absent fields left out.
    #[must_use]
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write(&mut out);
        out.octets
    }

    /// Reads a body. Unknown keys are skipped; duplicate keys, trailing octets and everything else that
    /// [`check`] refuses are errors.
    fn decode(body: &[u8]) -> Result<Self, BodyError> {
        check(body)?;
        Self::read(&mut Reader::new(body))
    }
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its key in the map.
    pub key: u64,
    /// Its name: for help, for CDDL (with hyphens), for JSON.
    pub name: &'static str,
    /// May be left out.
    pub optional: bool,
    /// What its value may be, as CDDL.
    pub cddl: fn() -> String,
    /// One sentence on what it means.
    pub help: &'static str,
    /// Collects the CDDL of what its value consists of.
    pub(super) define: fn(&mut Definitions),
}

/// What may stand as a field's value.
pub trait Value: Sized {
    /// May be left out.
    const OPTIONAL: bool = false;

    /// Its CDDL, or the name of its definition.
    fn cddl() -> String;

    /// Collects the definitions it consists of.
    fn define(_definitions: &mut Definitions) {}

    /// Whether it is left out of the map.
    fn is_absent(&self) -> bool {
        false
    }

    /// What a field that is left out means.
    fn absent() -> Option<Self> {
        None
    }

    /// Writes one item.
    fn write(&self, out: &mut Writer);

    /// Reads one item.
    fn read(input: &mut Reader<'_>) -> Result<Self, BodyError>;

    /// A value for property tests.
    #[cfg(test)]
    fn sample(source: &mut super::sample::Source) -> Self;
}

/// Declares a message: struct, codec and table of fields. Keys ascend; doc comments are the help.
macro_rules! message {
    (
        $(#[doc = $help:literal])+
        $visibility:vis struct $name:ident $cddl:literal {
            $($(#[doc = $field_help:literal])+ $key:literal $field:ident: $ty:ty,)*
        }
    ) => {
        $(#[doc = $help])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        $visibility struct $name {
            $($(#[doc = $field_help])+ pub $field: $ty,)*
        }

        impl $crate::v2::body::Message for $name {
            const NAME: &'static str = $cddl;
            const HELP: &'static str = concat!($($help),+);
            const FIELDS: &'static [$crate::v2::body::Field] = &[
                $($crate::v2::body::Field {
                    key: $key,
                    name: stringify!($field),
                    optional: <$ty as $crate::v2::body::Value>::OPTIONAL,
                    cddl: <$ty as $crate::v2::body::Value>::cddl,
                    help: concat!($($field_help),+),
                    define: <$ty as $crate::v2::body::Value>::define,
                },)*
            ];
        }

        impl $crate::v2::body::Value for $name {
            fn cddl() -> String {
                $cddl.to_owned()
            }

            fn define(definitions: &mut $crate::v2::cddl::Definitions) {
                definitions.message::<Self>();
            }

            fn write(&self, out: &mut $crate::v2::body::Writer) {
                #[allow(unused_imports, reason = "a message may have no fields")]
                use $crate::v2::body::Value as _;
                let entries: &[bool] = &[$(!self.$field.is_absent(),)*];
                out.map(entries.iter().filter(|there| **there).count());
                $(if !self.$field.is_absent() {
                    out.unsigned($key);
                    self.$field.write(out);
                })*
            }

            fn read(
                input: &mut $crate::v2::body::Reader<'_>,
            ) -> Result<Self, $crate::v2::body::BodyError> {
                $(let mut $field: Option<$ty> = None;)*
                for _ in 0..input.map::<Self>()? {
                    match input.key()? {
                        $($key => {
                            let value = <$ty as $crate::v2::body::Value>::read(input);
                            $field = Some(value.map_err(|e| {
                                $crate::v2::body::in_field(e, $key, stringify!($field))
                            })?);
                        })*
                        _ => input.skip()?,
                    }
                }
                Ok(Self {
                    $($field: $field.or_else(<$ty as $crate::v2::body::Value>::absent).ok_or(
                        $crate::v2::body::BodyError::Missing { key: $key, name: stringify!($field) },
                    )?,)*
                })
            }

            #[cfg(test)]
            fn sample(_source: &mut $crate::v2::sample::Source) -> Self {
                Self { $($field: <$ty as $crate::v2::body::Value>::sample(_source),)* }
            }
        }
    };
}
pub(super) use message;

/// For `message!`: names the field of an error that has none yet.
pub(super) fn in_field(error: BodyError, key: u64, name: &'static str) -> BodyError {
    error.in_field(key, name)
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

    pub(super) fn key(&mut self) -> Result<u64, BodyError> {
        self.decoder.u64().map_err(|_| self.problem(SyntaxProblem::KeyType))
    }

    pub(super) fn bytes(&mut self) -> Result<&'b [u8], BodyError> {
        self.decoder.bytes().map_err(|_| Self::other_type("bstr"))
    }

    pub(super) fn text(&mut self) -> Result<&'b str, BodyError> {
        self.decoder.str().map_err(|_| Self::other_type("tstr"))
    }

    pub(super) fn bool(&mut self) -> Result<bool, BodyError> {
        self.decoder.bool().map_err(|_| BodyError::value::<bool>())
    }

    /// Entries of the map that starts here.
    pub(super) fn map<T: Value>(&mut self) -> Result<u64, BodyError> {
        self.decoder.map().ok().flatten().ok_or_else(BodyError::value::<T>)
    }

    pub(super) fn skip(&mut self) -> Result<(), BodyError> {
        self.decoder.skip().map_err(|_| self.truncated())
    }

    fn other_type(allowed: &str) -> BodyError {
        BodyError::Value { key: 0, name: "", allowed: allowed.to_owned() }
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

impl<T: Value> Value for Option<T> {
    const OPTIONAL: bool = true;

    fn cddl() -> String {
        T::cddl()
    }
    fn define(definitions: &mut Definitions) {
        T::define(definitions);
    }
    fn is_absent(&self) -> bool {
        self.is_none()
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn write(&self, out: &mut Writer) {
        if let Some(value) = self {
            value.write(out);
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, BodyError> {
        T::read(input).map(Some)
    }
    #[cfg(test)]
    fn sample(source: &mut super::sample::Source) -> Self {
        (source.below(2) == 1).then(|| T::sample(source))
    }
}

/// A list; left out when it is empty.
impl<T: Value> Value for Vec<T> {
    const OPTIONAL: bool = true;

    fn cddl() -> String {
        format!("[+ {}]", T::cddl())
    }
    fn define(definitions: &mut Definitions) {
        T::define(definitions);
    }
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
    fn write(&self, out: &mut Writer) {
        out.array(self.len());
        for item in self {
            item.write(out);
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, BodyError> {
        let count = input.decoder.array().ok().flatten().ok_or_else(BodyError::value::<Self>)?;
        (0..count).map(|_| T::read(input)).collect()
    }
    #[cfg(test)]
    fn sample(source: &mut super::sample::Source) -> Self {
        (0..source.below(4)).map(|_| T::sample(source)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    message! {
        /// Only for these tests.
        pub(super) struct Sample "sample" {
            /// Any number.
            1 number: u16,
            /// May be absent.
            2 flag: Option<bool>,
            /// Numbers again.
            3 list: Vec<u8>,
        }
    }

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

    #[test]
    fn unknown_keys_are_skipped_and_order_does_not_matter() {
        let expected = Sample { number: 7, flag: Some(true), list: vec![] };
        let body = [0xa3, 2, 0xf5, 9, 0x81, 0xa1, 1, 2, 1, 7];
        assert_eq!(Sample::decode(&body), Ok(expected.clone()));
        assert_eq!(expected.encode(), [0xa2, 1, 7, 2, 0xf5]);
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert_eq!(Sample::decode(&[0xa0]), Err(BodyError::Missing { key: 1, name: "number" }));
        let error = Sample::decode(&[0xa1, 1, 0x1a, 0, 1, 0, 0]).unwrap_err();
        assert_eq!(error.to_string(), "field number (key 1): allowed is uint .size 2");
        assert_eq!(error.field(), Some(1));
        let error = Sample::decode(&[0xa2, 1, 1, 3, 0x81, 0x20]).unwrap_err();
        assert_eq!(error.to_string(), "field list (key 3): allowed is uint .size 1");
    }
}
