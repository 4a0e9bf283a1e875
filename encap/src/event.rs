//! What an endpoint tells its shell, and the errors of what the shell asks.

use std::fmt;
use std::net::SocketAddr;

pub use crate::arrivals::Violation;

/// Names one association of one endpoint. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssociationId(pub(crate) u64);

impl AssociationId {
    /// The number, for logs.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// What happened. Of one association: `Opened` first, `Closed` last, and nothing after it.
///
/// `Debug` shows the length of a message, not its bytes: they may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// The handshake is done.
    Opened {
        /// Which association.
        association: AssociationId,
        /// The peer's UDP address.
        remote: SocketAddr,
        /// Streams the peer may send on: numbers below this.
        inbound_streams: u16,
        /// Streams that may be sent on: numbers below this.
        outbound_streams: u16,
    },
    /// A whole message, in order within its stream.
    Message {
        /// Which association.
        association: AssociationId,
        /// Which stream.
        stream: u16,
        /// The user data.
        bytes: Vec<u8>,
    },
    /// What is queued for the peer has fallen to `low_water_bytes` from above it.
    Writable {
        /// Which association.
        association: AssociationId,
    },
    /// The association has ended, or never came about. Its id means nothing from here on.
    Closed {
        /// Which association.
        association: AssociationId,
        /// Why.
        reason: CloseReason,
    },
}

impl fmt::Debug for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { association, remote, inbound_streams, outbound_streams } => formatter
                .debug_struct("Opened")
                .field("association", &association.0)
                .field("remote", remote)
                .field("inbound_streams", inbound_streams)
                .field("outbound_streams", outbound_streams)
                .finish(),
            Self::Message { association, stream, bytes } => formatter
                .debug_struct("Message")
                .field("association", &association.0)
                .field("stream", stream)
                .field("bytes_count", &bytes.len())
                .finish(),
            Self::Writable { association } => {
                formatter.debug_struct("Writable").field("association", &association.0).finish()
            }
            Self::Closed { association, reason } => formatter
                .debug_struct("Closed")
                .field("association", &association.0)
                .field("reason", reason)
                .finish(),
        }
    }
}

/// Why an association ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// We closed it; everything sent was acknowledged.
    #[error("closed")]
    Closed,
    /// The peer closed it; everything sent was acknowledged.
    #[error("closed by the peer")]
    PeerClosed,
    /// We aborted it.
    #[error("aborted")]
    Aborted,
    /// The peer aborted it, with the code of the cause if it named one (RFC 9260 §3.3.10).
    #[error("aborted by the peer, cause {0:?}")]
    PeerAborted(Option<u16>),
    /// The peer lost its state and opened the association anew.
    #[error("the peer started anew")]
    PeerRestarted,
    /// Nobody takes associations there.
    #[error("refused by the peer")]
    Refused,
    /// No answer within `connect_max`.
    #[error("no answer to the handshake")]
    ConnectTimeout,
    /// The peer owed an answer for `silence_max` and sent nothing.
    #[error("the peer is not reachable any more")]
    Unreachable,
    /// The peer took nothing of what was queued for `stall_max`.
    #[error("the peer takes no data")]
    Stalled,
    /// An orderly close was not done within `close_max`.
    #[error("the close took too long")]
    CloseTimeout,
    /// The peer broke the protocol; it was told by ABORT.
    #[error("protocol violation: {0}")]
    Violation(Violation),
    /// Incomplete messages used up the receive budget.
    #[error("incomplete messages used up the receive budget")]
    ReceiveBudget,
    /// The engine panicked.
    #[error("internal failure")]
    Internal,
}

/// Why [`crate::Endpoint::connect`] did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// A server waits for others.
    #[error("a server endpoint does not connect")]
    Server,
    /// UDP or SCTP port zero.
    #[error("port zero")]
    Port,
    /// `associations_max` reached.
    #[error("all {0} associations are in use")]
    Full(usize),
}

/// Why [`crate::Endpoint::send`] did not take a message. Nothing of it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No such association (any more).
    #[error("no such association")]
    Unknown,
    /// Not open yet, or already closing.
    #[error("the association is not open")]
    NotOpen,
    /// The stream was not granted.
    #[error("stream {got}, streams below {allowed} are granted")]
    Stream {
        /// The stream asked for.
        got: u16,
        /// Streams granted.
        allowed: u16,
    },
    /// SCTP has no empty messages.
    #[error("an empty message")]
    Empty,
    /// Longer than `message_bytes_max`.
    #[error("a message of {got} bytes, at most {allowed} are allowed")]
    TooLong {
        /// Bytes of the message.
        got: usize,
        /// Bytes allowed.
        allowed: usize,
    },
    /// The queue is full; [`Event::Writable`] will tell.
    #[error("the send queue is full")]
    WouldBlock,
}
