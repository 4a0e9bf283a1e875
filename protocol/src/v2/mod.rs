//! Version 2: records with a fixed header and a CBOR body, channels on credit, login by SCRAM-SHA-256.
//!
//! Bottom up: [`Header`] and [`Record`] frame; [`cbor`] holds the rules of bodies, [`body`] the trait that
//! every message implements; [`messages`] are the bodies of requests and replies, [`events`] those of events;
//! [`COMMANDS`] is the table that binds numbers, words, roles and bodies, and [`Request`] and [`Reply`] are what
//! it decodes to. [`login`] is both sides of SCRAM, [`credit`] both sides of flow control, [`parts`] cuts long
//! answers.

// Framing.
mod header;
mod record;
mod status;
// Bodies.
pub mod body;
pub mod cbor;
pub mod cddl;
mod text;
mod values;
// What is said.
mod commands;
pub mod events;
pub mod messages;
// How it is said.
pub mod credit;
pub mod login;
pub mod parts;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

pub use body::{BodyError, Message};
pub use commands::{Answer, COMMANDS, Command, CommandRow, Effect, Reply, Request, Schema};
pub use header::{FLAG_LAST, Header, Kind, RecordError, VERSION};
pub use record::{Record, encode_raw, encode_record};
pub use status::{ErrorBody, STATUSES, Status, StatusRow};
pub use text::{Key, Octets, Sentence, Text, Word};
pub use values::{Doors, EnumRow, Role};
