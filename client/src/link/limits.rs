//! Every bound of the link, each with its reason.

use std::time::Duration;

use pipo_protocol::limits::{CREDIT_BYTES_MAX, CREDIT_BYTES_MIN, REPLIES_WAITING_COUNT_MAX};

use super::CREDIT_BYTES;

// ---- connecting -----------------------------------------------------------------------------------------

/// One attempt to open an association. Below the handshake's own limit on UDP nothing would be gained.
pub(super) const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(3);

/// Head start of one attempt over the next (RFC 8305 §5 recommends it for TCP).
pub(super) const ATTEMPT_HEAD_START: Duration = Duration::from_millis(250);

/// Addresses of one host that are tried.
pub(super) const ADDRESSES_MAX: usize = 8;

/// An orderly close, where the server does not close by itself.
pub(super) const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

// ---- kernel SCTP, as the daemon has them -----------------------------------------------------------------

/// Three transmissions of at most 600 ms each make a path a dead one in under 2 s.
pub(super) const SCTP_RTO_INITIAL: Duration = Duration::from_millis(300);
/// See [`SCTP_RTO_INITIAL`]; above the 200 ms that a peer may wait with its acknowledgement.
pub(super) const SCTP_RTO_MIN: Duration = Duration::from_millis(250);
/// See [`SCTP_RTO_INITIAL`].
pub(super) const SCTP_RTO_MAX: Duration = Duration::from_millis(600);
/// See [`SCTP_RTO_INITIAL`].
pub(super) const SCTP_PATH_RETRANSMISSIONS: u16 = 2;
/// Of all paths together, before the association is given up.
pub(super) const SCTP_ASSOCIATION_RETRANSMISSIONS: u16 = 6;
/// Silence of a path after which it is probed: an idle link notices a dead server.
pub(super) const SCTP_HEARTBEAT: Duration = Duration::from_secs(1);
/// Streams each way: one for each channel and channel 0, and more than the server uses.
pub(super) const SCTP_STREAMS: u16 = 64;
/// Pause after a send that found no room. The library tells no readiness then, so it is tried again.
pub(super) const SEND_RETRY: Duration = Duration::from_millis(5);

// ---- SCTP over UDP ---------------------------------------------------------------------------------------

/// Longest message: version 1 answers a list of users in one.
pub(super) const MESSAGE_BYTES_MAX: usize = 68 * 1024;
const _: () = assert!(MESSAGE_BYTES_MAX >= pipo_protocol::limits::V1_REPLY_BYTES_MAX);

/// Datagrams taken in before the rest has its turn again.
pub(super) const DATAGRAMS_PER_TURN: usize = 256;

/// Longest datagram: UDP's length field.
pub(super) const DATAGRAM_BYTES_MAX: usize = 65_535;

// ---- dialogue --------------------------------------------------------------------------------------------

const _: () = assert!(CREDIT_BYTES >= CREDIT_BYTES_MIN && CREDIT_BYTES <= CREDIT_BYTES_MAX);

/// Requests, lists and subscriptions under way at once. Below the replies at which a server stops reading.
pub(super) const ASKS_MAX: usize = 48;
const _: () = assert!(ASKS_MAX < REPLIES_WAITING_COUNT_MAX);

/// Records that wait to be sent: each ask's request and its cancel, and credit in between. A server that takes
/// nothing while more than these wait is given up.
pub(super) const OUTGOING_MAX: usize = 1024;
const _: () = assert!(OUTGOING_MAX > 4 * ASKS_MAX);

/// Octets of one list, all parts together: more than a million sessions, and no endless answer. Tests reach it sooner.
pub(super) const LIST_BYTES_MAX: usize = if cfg!(test) { 1024 * 1024 } else { 128 * 1024 * 1024 };

/// News (notices, loss, return of the link) that nobody has asked for yet; later ones are dropped.
pub(super) const NEWS_MAX: usize = 64;

// ---- after a loss ----------------------------------------------------------------------------------------

/// Pause before the second attempt to connect again; the first is made at once, each later pause is twice as long.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(250);

/// Longest of these pauses.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(8);
