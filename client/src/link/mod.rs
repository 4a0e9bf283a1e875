//! The link to one server: transport, login, requests, channels.
//!
//! What the rest of the client calls, all on one tokio thread (`Link` takes `&self`, so that a subscription
//! runs beside commands):
//!
//! ```text
//! Link::connect(&Target, &Credentials) -> Result<Link, ConnectError>        transport, HELLO, login
//! link.server() -> &Server    link.role() -> Role                           what the login said
//! link.request(v2::Request) -> Result<v2::Reply, RequestError>              answers on channel 0
//! link.parts(v2::Request) -> Result<Parts, RequestError>                    Answer::Parts
//!     parts.next() -> Result<Option<v2::Reply>, RequestError>                 the next part; None after the last
//! link.follow(v2::Request) -> Result<Follow, RequestError>                  Answer::Subscription
//!     follow.next() -> Result<Option<v2::events::Event>, RequestError>        the next event; None when it is over
//! link.notice() -> v2::events::Event                                        the next event of channel 0
//! link.news() -> News                                                       notices, and how the link is doing
//! link.ask_v1(v1::Request) -> Result<v1::Reply, RequestError>               version 1 only
//! link.goodbye()                                                            leaves in good order
//! ```
//!
//! [`Link::connect`] gives up when the association is lost. [`Link::connect_for_long`] connects again, repeats queries
//! and continues subscriptions after the last event that they delivered; a change that was sent is never repeated.
//!
//! Asking for the next part or event says that the one before is displayed: its credit goes back. Requests that
//! open a channel are given with [`CREDIT_BYTES`]. Dropping any of these futures, a `Parts` or a `Follow`
//! cancels what it waits for.

// Between the caller and the task that keeps the link.
mod asks;
mod handle;
mod keeper;
// The dialogue, pure.
mod association;
mod login;
mod pipeline;
// What carries it.
mod carrier;
mod dial;
mod kernel;
mod limits;
mod sctp_options;
#[cfg(test)]
mod tests;
mod udp;

use std::fmt;
use std::time::Duration;

use pipo_protocol::v2::events::Event;
use pipo_protocol::v2::{ErrorBody, Status, Word};
use pipo_protocol::{Name, Password, Version};

use crate::exit::Exit;

pub use handle::{Follow, Link, Parts};

/// Credit that opens a channel: sixteen records of any length.
pub const CREDIT_BYTES: u32 = 64 * 1024;

/// Which server, and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The SCTP port.
    pub port: u16,
    /// The UDP port of SCTP over UDP.
    pub udp_port: u16,
    /// What carries the association.
    pub transport: TransportChoice,
    /// The version to speak. Never changed by itself: version 1 sends the password in clear.
    pub version: Version,
    /// How long connecting and the login may take together.
    pub connect_limit: Duration,
    /// How long an answer, or the next part of one, may take.
    pub reply_limit: Duration,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// What a link does when its association is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterLoss {
    /// It is lost, too.
    End,
    /// It connects again.
    Return,
}

/// What nobody asked for by a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// An event of channel 0.
    Notice(Box<Event>),
    /// The association is lost, and why.
    Lost(String),
    /// The next attempt to connect is made after this time.
    Waiting(Duration),
    /// There is an association again.
    Back,
    /// There will be none any more, and why.
    GaveUp(String),
}

/// What may carry the association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportChoice {
    /// The kernel's SCTP and SCTP over UDP beside each other; whichever connects first.
    Auto,
    /// The kernel's SCTP.
    Kernel,
    /// SCTP over UDP.
    Udp,
}

/// What carries an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The kernel's SCTP.
    Kernel,
    /// SCTP over UDP.
    Udp,
}

/// Who logs in. `Debug` does not show the password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user.
    pub user: Name,
    /// Its password.
    pub password: Password,
}

/// What the server said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The version that is spoken.
    pub version: Version,
    /// What carries the association.
    pub transport: Transport,
    /// Name of its software; empty in version 1.
    pub software: Word,
    /// Its features; none in version 1.
    pub features: Vec<Word>,
    /// Iterations that verifiers must have; 0 in version 1.
    pub iterations: u32,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host has no address.
    #[error("{host} has no address: {reason}")]
    NoAddress {
        /// As it was given.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// No transport got through; a sentence for each tells a person what is missing.
    #[error("cannot connect to {server}: {}", .reasons.join("; "))]
    Unreachable {
        /// Where to.
        server: String,
        /// One sentence for each transport that was tried.
        reasons: Vec<String>,
    },
    /// The time for connecting and login has passed.
    #[error("{server} did not finish the login within {limit:?}")]
    TimedOut {
        /// Where to.
        server: String,
        /// The limit.
        limit: Duration,
    },
    /// The server does not speak the version.
    #[error("the server does not speak version {0}{advice}", advice = version_advice(*.0))]
    Version(u8),
    /// What came is not of the protocol.
    #[error("the server does not follow the protocol: {0}")]
    Protocol(String),
    /// The association ended before the login was done.
    #[error("the server closed the association during the login: {0}")]
    Closed(String),
    /// User or password is wrong, or may not enter here.
    #[error("login failed: {0}")]
    LoginFailed(String),
    /// The server could not prove that it knows the password's verifier.
    #[error("the server could not prove that it knows this user: it may be an impostor")]
    Impostor,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The server refused it.
    #[error("{}", .body.sentence)]
    Refused {
        /// STATUS.
        status: Status,
        /// What the server said.
        body: ErrorBody,
    },
    /// The limit passed; whether a change was made is not known.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The association is gone; whether a change was made is not known.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// What came is not of the protocol; the association is of no more use.
    #[error("the server does not follow the protocol: {0}")]
    Protocol(String),
    /// The version that is spoken cannot say this.
    #[error("version {0} of the protocol cannot do this")]
    Version(u8),
}

/// What to do about a version that the server does not speak.
fn version_advice(version: u8) -> &'static str {
    match version {
        2 => "; --protocol 1 may do, but sends the password in clear",
        1 => "; leave out --protocol 1",
        _ => "",
    }
}

impl ConnectError {
    /// How pipoctl ends because of it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoAddress { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Version(_)
            | Self::Protocol(_)
            | Self::Closed(_) => Exit::NoConnection,
            Self::LoginFailed(_) | Self::Impostor => Exit::LoginFailed,
        }
    }
}

impl RequestError {
    /// How pipoctl ends because of it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Refused { status, .. } => refusal_exit(*status),
            Self::TimedOut(_) => Exit::TimeLimit,
            Self::Lost(_) | Self::Protocol(_) => Exit::Lost,
            Self::Version(_) => Exit::Usage,
        }
    }
}

pub(crate) fn refusal_exit(status: Status) -> Exit {
    match status {
        Status::NotAllowed => Exit::NotAllowed,
        Status::NotFound => Exit::NotFound,
        Status::Invalid | Status::Exists | Status::Conflict | Status::LastAdmin | Status::StartOnly => {
            Exit::Invalid
        }
        Status::LoginFailed | Status::TooManyFailures => Exit::LoginFailed,
        Status::Timeout => Exit::TimeLimit,
        Status::Ok
        | Status::Malformed
        | Status::UnknownCommand
        | Status::OutOfOrder
        | Status::NoRoom
        | Status::BadChannel
        | Status::TooManyChannels
        | Status::Cancelled
        | Status::Busy
        | Status::TooLong
        | Status::Unsupported
        | Status::ShuttingDown
        | Status::Internal
        | Status::Unassigned(_) => Exit::Refused,
    }
}
