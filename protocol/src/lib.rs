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
//!
//! A server's loop over what has arrived, and a version 2 request with its reply:
//!
//! ```
//! use pipo_protocol::v2::messages::{Flushed, Nothing};
//! use pipo_protocol::v2::{self, Header, Record, Reply, Status, encode_raw};
//! use pipo_protocol::v1;
//!
//! // Version 1: current connections, then half of another request.
//! let arrived = [0x00, 0x02, 0x00];
//! let (request, taken) = v1::Request::decode(&arrived).expect("the first one is complete");
//! assert_eq!((request, taken), (v1::Request::Query(v1::Query::Number(v1::NumberQuery::CurrentConnections)), 2));
//! assert_eq!(v1::Request::decode(&arrived[taken..]), None);
//!
//! // Version 2: the client asks, the server cuts the record, finds the command's row, and answers.
//! let request = v2::Request::ServerInfo(Nothing {});
//! let octets = encode_raw(&Header::request(request.command().code(), 1), &request.encode())?;
//! let (record, taken) = Record::split(&octets)?.expect("complete");
//! assert_eq!(taken, octets.len());
//! let command = v2::Command::from(record.header.command);
//! assert!(!command.row().is_some_and(|row| row.permits(None)), "not before the login");
//! assert_eq!(v2::Request::decode(command, record.body)?, Some(request));
//!
//! let reply = Reply::DnsFlush(Flushed { as_of: 7, entries_count: 2 });
//! let header = Header::request(reply.command().code(), 2).reply(Status::Ok);
//! let octets = encode_raw(&header, &reply.encode())?;
//! let record = Record::decode(&octets)?;
//! assert_eq!(Reply::decode(record.header.command.into(), record.body)?, Some(reply));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

// What is bounded, and by what.
pub mod limits;
// What both versions share.
mod name;
mod version;
// The versions.
pub mod v1;
pub mod v2;
// What fuzzers call.
pub mod fuzz;

pub use name::{Name, Password, SizeError};
pub use version::Version;
