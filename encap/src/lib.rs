//! SCTP over UDP in userspace (RFC 9260 in the encapsulation of RFC 6951), sans-I/O, for daemon and client.
//!
//! ```text
//! datagram ─► wire (checksum, chunk walk) ─► endpoint (whose is it?) ─► opening | open ─► arrivals ─► engine
//!                                              │ INIT, COOKIE ECHO: cookie, replies         (sctp-proto: DATA, SACK)
//! events, datagrams, deadline ◄────────────────┴───────────────────────── open (heartbeats, close, rewriting) ◄┘
//! ```
//!
//! An [`Endpoint`] is all associations of one UDP socket. It opens no socket and reads no clock: the shell gives
//! it datagrams and the time, and takes out datagrams, [`Event`]s and the next deadline. After each call that
//! takes `now`, the shell drains [`Endpoint::next_event`] and [`Endpoint::next_datagram`], in this order, since
//! taking messages may open a window that a datagram has to tell about.
//!
//! The transfer of user data (fragments, acknowledgements, congestion control) is `sctp-proto`'s. The rest is
//! done here, because it lacks it or has it wrong: a handshake with state cookies that costs a server nothing,
//! heartbeats and the discovery of dead peers, orderly close, abort, bounds on everything a peer can make it
//! hold. A peer reaches it with checked DATA and SACK chunks only.
//!
//! One path per association: addresses that a peer offers in its handshake are passed over.
#![forbid(unsafe_code)]

// For whoever uses the crate.
mod counters;
mod endpoint;
mod event;
mod limits;
// From the wire to an association.
mod chunks;
mod cookie;
mod entropy;
mod replies;
mod wire;
// One association.
mod arrivals;
mod engine;
mod open;
mod opening;
mod outbox;

pub use counters::Counters;
pub use endpoint::{Accepting, Endpoint};
pub use event::{AssociationId, CloseReason, ConnectError, Event, SendError, Violation};
pub use limits::{Limits, LimitsError};

/// The UDP port of SCTP over UDP (RFC 6951 §6.1).
pub const UDP_PORT: u16 = 9899;
