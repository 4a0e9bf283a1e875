//! What fields are made of: numbers, names, addresses, enumerations.

use std::net::{IpAddr, SocketAddr};

use super::body::{BodyError, Value};
use super::cbor::{Reader, Writer};
use super::cddl::Definitions;
use crate::Name;

macro_rules! unsigned {
    ($($ty:ty, $cddl:literal;)+) => {$(
        impl Value for $ty {
            fn cddl() -> String {
                $cddl.to_owned()
            }
            fn allowed() -> String {
                format!("a number from 0 to {}", Self::MAX)
            }
            fn write(&self, out: &mut Writer) {
                out.unsigned(u64::from(*self));
            }
            fn read(input: &mut Reader<'_>) -> Result<Self, BodyError> {
                Self::try_from(input.unsigned::<Self>()?).map_err(|_| BodyError::value::<Self>())
            }
            #[cfg(test)]
            fn sample(source: &mut super::sample::Source) -> Self {
                let bits = source.below(u64::from(Self::BITS)) + 1;
                Self::try_from(source.next() >> (64 - bits)).unwrap()
            }
        }
    )+};
}

unsigned! {
    u8, "uint .size 1";
    u16, "uint .size 2";
    u32, "uint .size 4";
    u64, "uint .size 8";
}

impl Value for bool {
    fn cddl() -> String {
        "bool".to_owned()
    }
    fn allowed() -> String {
        "true or false".to_owned()
    }
    fn write(&self, out: &mut Writer) {
        out.bool(*self);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, BodyError> {
        input.bool()
    }
    #[cfg(test)]
    fn sample(source: &mut super::sample::Source) -> Self {
        source.below(2) == 1
    }
}

impl Value for Name {
    fn cddl() -> String {
        "bstr .size (1..255)".to_owned()
    }
    fn allowed() -> String {
        "a name of 1 to 255 octets".to_owned()
    }
    fn write(&self, out: &mut Writer) {
        out.bytes(self.as_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, BodyError> {
        Self::new(input.bytes::<Self>()?).map_err(|_| BodyError::value::<Self>())
    }
    #[cfg(test)]
    fn sample(source: &mut super::sample::Source) -> Self {
        Self::new(source.octets(1, 255)).unwrap()
    }
}

/// 4 or 16 octets.
impl Value for IpAddr {
    fn cddl() -> String {
        "address".to_owned()
    }
    fn allowed() -> String {
        "an address of 4 or 16 octets".to_owned()
    }
    fn define(definitions: &mut Definitions) {
        let help = "An address of IPv4 or IPv6.";
        definitions.choice("address", help, "bstr .size 4 / bstr .size 16");
    }
    fn write(&self, out: &mut Writer) {
        match self {
            Self::V4(address) => out.bytes(&address.octets()),
            Self::V6(address) => out.bytes(&address.octets()),
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, BodyError> {
        address(input.bytes::<Self>()?).ok_or_else(BodyError::value::<Self>)
    }
    #[cfg(test)]
    fn sample(source: &mut super::sample::Source) -> Self {
        let size = if source.below(2) == 0 { 4 } else { 16 };
        address(&source.octets(size, size)).unwrap()
    }
}

/// The address's 4 or 16 octets, then the port's 2, big-endian. Flow and scope of IPv6 do not travel.
impl Value for SocketAddr {
    fn cddl() -> String {
        "endpoint".to_owned()
    }
    fn allowed() -> String {
        "an address of 4 or 16 octets and a port of 2".to_owned()
    }
    fn define(definitions: &mut Definitions) {
        let help = "An address of IPv4 or IPv6, then the port, big-endian.";
        definitions.choice("endpoint", help, "bstr .size 6 / bstr .size 18");
    }
    fn write(&self, out: &mut Writer) {
        let mut octets = match self.ip() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        octets.extend(self.port().to_be_bytes());
        out.bytes(&octets);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, BodyError> {
        let octets = input.bytes::<Self>()?;
        let parts = octets.split_last_chunk::<2>();
        parts
            .and_then(|(host, port)| Some(Self::new(address(host)?, u16::from_be_bytes(*port))))
            .ok_or_else(BodyError::value::<Self>)
    }
    #[cfg(test)]
    fn sample(source: &mut super::sample::Source) -> Self {
        Self::new(IpAddr::sample(source), u16::sample(source))
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// A row of an enumeration: number, stable name, meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnumRow {
    /// The number on the wire.
    pub code: u8,
    /// Stable, lower case with hyphens.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// Declares an enumeration that keeps numbers it does not know.
macro_rules! wire_enum {
    (
        $(#[doc = $help:literal])+
        pub enum $name:ident $cddl:literal {
            $($(#[doc = $variant_help:literal])+ $variant:ident = $code:literal $text:literal,)+
        }
    ) => {
        $(#[doc = $help])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $variant_help])+ $variant,)+
            /// A number that this side does not know.
            Unassigned(u8),
        }

        impl $name {
            /// Every value that is known, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// The same with name and meaning.
            pub const ROWS: &'static [$crate::v2::values::EnumRow] = &[
                $($crate::v2::values::EnumRow {
                    code: $code, name: $text, help: concat!($($variant_help),+),
                },)+
            ];

            /// The number on the wire.
            #[must_use]
            pub fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)+ Self::Unassigned(code) => code }
            }

            /// Stable name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ Self::Unassigned(_) => "unassigned" }
            }

            /// The value with that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }

        impl From<u8> for $name {
            fn from(code: u8) -> Self {
                match code { $($code => Self::$variant,)+ other => Self::Unassigned(other) }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    Self::Unassigned(code) => write!(f, "unassigned-{code}"),
                    known => f.write_str(known.name()),
                }
            }
        }

        impl $crate::v2::body::Value for $name {
            fn cddl() -> String {
                $cddl.to_owned()
            }
            fn allowed() -> String {
                let words: Vec<_> = Self::ROWS.iter().map(|row| format!("{} {}", row.code, row.name)).collect();
                format!("one of {}", words.join(", "))
            }
            fn define(definitions: &mut $crate::v2::cddl::Definitions) {
                definitions.enumeration($cddl, concat!($($help),+), Self::ROWS);
            }
            fn write(&self, out: &mut $crate::v2::cbor::Writer) {
                out.unsigned(u64::from(self.code()));
            }
            fn read(
                input: &mut $crate::v2::cbor::Reader<'_>,
            ) -> Result<Self, $crate::v2::body::BodyError> {
                input.octet::<Self>().map(Self::from)
            }
            #[cfg(test)]
            fn sample(source: &mut $crate::v2::sample::Source) -> Self {
                Self::from(<u8 as $crate::v2::body::Value>::sample(source))
            }
        }
    };
}
pub(super) use wire_enum;

wire_enum! {
    /// What a user may do on the admin channel; each includes those before it.
    pub enum Role "role" {
        /// Own statistics only.
        User = 0 "user",
        /// Every query, log and event that shows no secret.
        Observer = 1 "observer",
        /// Acts on traffic: kill, trace, flush, drain, rotate.
        Operator = 2 "operator",
        /// Everything: users, settings, shutdown, credentials.
        Admin = 3 "admin",
    }
}

impl Role {
    /// Whether this role includes what `minimum` may do. A role that is not known includes nothing above `User`.
    #[must_use]
    pub fn includes(self, minimum: Self) -> bool {
        fn rank(role: Role) -> u8 {
            match role {
                Role::User | Role::Unassigned(_) => 0,
                Role::Observer => 1,
                Role::Operator => 2,
                Role::Admin => 3,
            }
        }
        rank(self) >= rank(minimum)
    }
}

wire_enum! {
    /// Which doors a user may enter.
    pub enum Doors "doors" {
        /// The proxy.
        Proxy = 1 "proxy",
        /// The admin channel.
        Admin = 2 "admin",
        /// Both.
        Both = 3 "both",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_is_not_known_includes_nothing_more() {
        assert!(Role::Admin.includes(Role::Operator));
        assert!(Role::Operator.includes(Role::Operator));
        assert!(!Role::Observer.includes(Role::Operator));
        assert!(!Role::Unassigned(200).includes(Role::Observer));
        assert!(Role::Unassigned(200).includes(Role::User));
    }

    #[test]
    fn what_is_allowed_is_said_in_words() {
        assert_eq!(Doors::allowed(), "one of 1 proxy, 2 admin, 3 both");
        assert_eq!(Option::<u16>::allowed(), "a number from 0 to 65535");
        assert_eq!(Vec::<IpAddr>::allowed(), "a list, each item an address of 4 or 16 octets");
    }

    #[test]
    fn an_endpoint_is_address_and_port() {
        let mut out = Writer::new();
        SocketAddr::from(([192, 0, 2, 1], 1080)).write(&mut out);
        let octets = out.into_octets();
        assert_eq!(octets, [0x46, 192, 0, 2, 1, 4, 0x38]);
        let back = SocketAddr::read(&mut Reader::new(&octets));
        assert_eq!(back, Ok(SocketAddr::from(([192, 0, 2, 1], 1080))));
        assert!(SocketAddr::read(&mut Reader::new(&[0x45, 1, 2, 3, 4, 5])).is_err());
    }
}
