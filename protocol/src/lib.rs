//! The pipo admin protocol, versions 1 and 2: frames, requests, replies, login. No I/O, no clock, no state
//! beyond what a dialogue needs. pipoProtocol.txt at the top of the project is the specification; its hex
//! examples and its tables are checked against this crate.
//!
//! Where to start, on either side:
//! - [`Version::choose`] reads the first octet of an association.
//! - Version 1: [`v1::decode_login`], [`v1::Request::decode`] and [`v1::Reply::encode`] in a server,
//!   [`v1::Request::encode`] and [`v1::Reply::decode`] in a client.
//! - Version 2: [`v2::Record::split`] cuts records, [`v2::Request::decode`] and [`v2::Reply::decode`] read
//!   their bodies, [`v2::COMMANDS`] is the table of commands, [`v2::login`] holds both sides of the login.
//!
//! Every decoder takes what has arrived so far: `Ok(None)` means that more octets are needed and that nothing
//! was consumed. None of them panics, whatever the octets.
#![forbid(unsafe_code)]

// What is bounded, and by what.
pub mod limits;
// What both versions share.
mod name;
mod version;
// The versions.
pub mod v1;
pub mod v2;

pub use name::{Name, Password, SizeError};
pub use version::Version;
