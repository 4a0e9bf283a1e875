//! What a field may hold, and what a record is.

use std::net::{IpAddr, SocketAddr};

use pipo_protocol::Name;
use pipo_protocol::v2::Text;

use super::escape::name_text;

/// One value, with what it counts; each form of output shows it its own way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Not there: `null`, `-`.
    Absent,
    /// A text that strangers may have chosen.
    Text(String),
    /// A word or form of our own, safe already: names, addresses, stages.
    Word(String),
    /// True or false.
    Switch(bool),
    /// A number.
    Number(u64),
    /// Octets.
    Bytes(u64),
    /// A span in milliseconds.
    Milliseconds(u64),
    /// A span in microseconds.
    Microseconds(u64),
    /// A moment, milliseconds since 1970.
    Time(u64),
    /// Several.
    List(Vec<Self>),
    /// A record within.
    Record(Vec<Field>),
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Stable, with the unit behind: the name on the wire where there is one.
    pub name: &'static str,
    /// What it holds.
    pub value: Value,
    /// Who sees it.
    pub place: Place,
}

/// Who sees a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Everybody.
    Everywhere,
    /// Programs; people see the same in another field.
    Programs,
    /// People; programs see the same in other fields.
    People,
}

/// Something that can be shown: a row of a list, or one thing in full.
pub trait Record {
    /// Its fields in order. The same names in the same order for every record of a type.
    fn fields(&self) -> Vec<Field>;
}

impl Record for Vec<Field> {
    fn fields(&self) -> Vec<Field> {
        self.clone()
    }
}

impl Field {
    /// For everybody.
    pub fn new(name: &'static str, value: impl Into<Value>) -> Self {
        Self { name, value: value.into(), place: Place::Everywhere }
    }

    /// For programs only.
    pub fn for_programs(name: &'static str, value: impl Into<Value>) -> Self {
        Self { name, value: value.into(), place: Place::Programs }
    }

    /// For people only.
    pub fn for_people(name: &'static str, value: impl Into<Value>) -> Self {
        Self { name, value: value.into(), place: Place::People }
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Into::into)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Switch(value)
    }
}

macro_rules! numbers {
    ($($ty:ty)+) => {$(
        impl From<$ty> for Value {
            fn from(value: $ty) -> Self {
                Self::Number(u64::from(value))
            }
        }
    )+};
}
numbers!(u8 u16 u32 u64);

impl<const MAX: usize> From<&Text<MAX>> for Value {
    fn from(value: &Text<MAX>) -> Self {
        Self::Text(value.as_str().to_owned())
    }
}

impl From<&Name> for Value {
    fn from(value: &Name) -> Self {
        Self::Word(name_text(value.as_bytes()))
    }
}

impl From<IpAddr> for Value {
    fn from(value: IpAddr) -> Self {
        Self::Word(value.to_string())
    }
}

impl From<SocketAddr> for Value {
    fn from(value: SocketAddr) -> Self {
        Self::Word(value.to_string())
    }
}

impl From<&'static str> for Value {
    fn from(value: &'static str) -> Self {
        Self::Word(value.to_owned())
    }
}
