//! Bodies: one CBOR map with unsigned integer keys (RFC 8949), and the macro that declares them.
//!
//! A message is declared once by `message!`: struct, encoder, decoder, and the table of its fields that help, CDDL
//! and documentation are rendered from. What of CBOR may travel at all is decided in [`cbor`](super::cbor).

use super::cbor::{Reader, SyntaxProblem, Writer, check};
use super::cddl::Definitions;

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
        /// What is allowed, in words.
        allowed: String,
    },
}

impl BodyError {
    /// A value that `T` does not allow; the field's name is filled in by the message around it.
    pub(super) fn value<T: Value>() -> Self {
        Self::Value { key: 0, name: "", allowed: T::allowed() }
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
        out.into_octets()
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

    /// What is allowed, in words, for the sentence that refuses something else.
    fn allowed() -> String;

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

            fn allowed() -> String {
                "a map".to_owned()
            }

            fn define(definitions: &mut $crate::v2::cddl::Definitions) {
                definitions.message::<Self>();
            }

            fn write(&self, out: &mut $crate::v2::cbor::Writer) {
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
                input: &mut $crate::v2::cbor::Reader<'_>,
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

impl<T: Value> Value for Option<T> {
    const OPTIONAL: bool = true;

    fn cddl() -> String {
        T::cddl()
    }
    fn allowed() -> String {
        T::allowed()
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
    fn allowed() -> String {
        format!("a list, each item {}", T::allowed())
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
        let count = input.array::<Self>()?;
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
        assert_eq!(error.to_string(), "field number (key 1): allowed is a number from 0 to 65535");
        assert_eq!(error.field(), Some(1));
        let error = Sample::decode(&[0xa2, 1, 1, 3, 0x81, 0x20]).unwrap_err();
        assert_eq!(error.to_string(), "field list (key 3): allowed is a number from 0 to 255");
    }
}
