//! Every bound and every time of the crate as data, with defaults that suit an admin channel.
//!
//! A caller starts from [`Limits::default`], changes what it needs, and hands the value to
//! [`crate::Endpoint`], which refuses contradictions ([`LimitsError`]).

use std::time::Duration;

use crate::arrivals::window_of;

/// What one received DATA chunk is charged for beside its bytes: the bookkeeping that holds it.
///
/// With it a peer that sends single bytes uses up its window as fast as the memory it costs.
pub(crate) const CHUNK_OVERHEAD_BYTES: usize = 256;

/// How far ahead of the last TSN in order a chunk may be. Four times the chunks that the default receive
/// budget can hold; well below 2^15, so that stream sequence numbers in use stay comparable (RFC 1982).
pub(crate) const TSN_WINDOW: u32 = 4096;

/// Largest window of a peer that is believed. More would let its congestion window grow without need.
pub(crate) const PEER_WINDOW_BYTES_MAX: u32 = 1 << 20;

/// Smallest window an INIT may offer (RFC 9260 §3.3.2).
pub(crate) const WINDOW_BYTES_MIN: u32 = 1500;

/// Longest time any limit may name: sums of instants cannot overflow.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// The bounds of one [`crate::Endpoint`]. Bytes count user data unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Associations at once, opening ones of a client included. At most this times
    /// (`receive_bytes_max` + `send_bytes_max`) of user data is held: 128 MiB with the defaults.
    pub associations_max: usize,
    /// Associations of one source: an IPv4 address or an IPv6 /64, any port. Below `associations_max`, so that one host cannot
    /// shut out the others.
    pub associations_per_source_max: usize,
    /// Streams granted each way, however many a peer asks for. Each used one costs about 400 bytes and a
    /// look at every message.
    pub streams_max: u16,
    /// Longest message, sent or received.
    pub message_bytes_max: usize,
    /// Received and not yet taken by [`crate::Endpoint::next_event`], per association, each chunk charged
    /// with 256 bytes more. Half of it is the window the peer is told, which does not count that.
    pub receive_bytes_max: usize,
    /// Sent and not yet acknowledged, per association; past it sending says `WouldBlock`.
    pub send_bytes_max: usize,
    /// [`crate::Event::Writable`] tells that the queue has fallen to this from above it.
    pub low_water_bytes: usize,
    /// User data in one DATA chunk. 1,200 fits every path with IPv6 (RFC 8200 §5), UDP and tunnels.
    pub payload_bytes: u32,
    /// Longest datagram looked at. The largest UDP payload: kernels bundle up to the loopback's MTU.
    pub datagram_bytes_max: usize,
    /// Chunks in one datagram. More than the smallest DATA chunks that fit one (3,275), so that only
    /// floods of empty chunks are refused.
    pub chunks_per_datagram_max: usize,
    /// Datagrams waiting for [`crate::Endpoint::next_datagram`]; the next ones are dropped, as a network may.
    pub datagrams_queued_max: usize,
    /// Answers to unauthenticated datagrams (INIT and out of the blue) per second, all sources together:
    /// what this endpoint can be made to reflect.
    pub replies_per_second_max: u32,
    /// The same for one source.
    pub replies_per_source_second_max: u32,
    /// How long a state cookie is good (RFC 9260 §5.1.3 suggests 60 s; a handshake here is given up sooner).
    pub cookie_life: Duration,
    /// All attempts of one handshake.
    pub connect_max: Duration,
    /// Retransmission timeout before anything was measured (RFC 9260 §16 has 1 s, for the open internet).
    pub rto_initial: Duration,
    /// Smallest retransmission timeout. Above 200 ms, the time a peer may wait with its acknowledgement.
    pub rto_min: Duration,
    /// Largest retransmission timeout.
    pub rto_max: Duration,
    /// Silence of an idle peer after which it is asked for a sign of life.
    pub heartbeat_interval: Duration,
    /// Time between further heartbeats while a peer owes an answer.
    pub heartbeat_retry: Duration,
    /// How long a peer may owe an answer (to data, a heartbeat, a shutdown) and send nothing at all.
    pub silence_max: Duration,
    /// How long a peer that is alive may take nothing of what is queued for it.
    pub stall_max: Duration,
    /// An orderly close, from its first step to its last; then the association is aborted.
    pub close_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            associations_max: 256,
            associations_per_source_max: 128,
            streams_max: 64,
            message_bytes_max: 64 * 1024,
            receive_bytes_max: 256 * 1024,
            send_bytes_max: 256 * 1024,
            low_water_bytes: 16 * 1024,
            payload_bytes: 1200,
            datagram_bytes_max: 65_527,
            chunks_per_datagram_max: 4096,
            datagrams_queued_max: 4096,
            replies_per_second_max: 4096,
            replies_per_source_second_max: 256,
            cookie_life: Duration::from_secs(10),
            connect_max: Duration::from_secs(3),
            rto_initial: Duration::from_millis(300),
            rto_min: Duration::from_millis(250),
            rto_max: Duration::from_millis(600),
            heartbeat_interval: Duration::from_secs(5),
            heartbeat_retry: Duration::from_millis(400),
            silence_max: Duration::from_millis(1800),
            stall_max: Duration::from_secs(30),
            close_max: Duration::from_secs(5),
        }
    }
}

/// Limits that contradict each other or the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// No association or no stream would be possible.
    #[error("associations and streams must be at least one")]
    Nothing,
    /// A message could never be sent.
    #[error("low water plus the longest message exceed the send queue")]
    SendQueue,
    /// A message in chunks of an ordinary size does not fit the window.
    #[error("the longest message with its overhead exceeds half the receive budget")]
    ReceiveBudget,
    /// More than the 32 bits of a window, or a message beyond what the engine counts.
    #[error("a byte limit exceeds {0}")]
    Bytes(usize),
    /// Chunks or datagrams outside what SCTP and UDP can carry.
    #[error("payload or datagram size is outside what the protocols carry")]
    Datagram,
    /// Zero, longer than a day, or in the wrong order.
    #[error("a time limit is zero, longer than a day, or in the wrong order")]
    Times,
}

/// Largest byte limit: keeps every sum inside 32 bits.
const BYTES_MAX: usize = 1 << 30;

/// Smallest and largest user data of one DATA chunk that the limits may name.
const PAYLOAD_BYTES: std::ops::RangeInclusive<u32> = 256..=32_768;

/// UDP's largest payload over IPv6, whose length field does not count its own header (RFC 8200 §3).
const UDP_PAYLOAD_MAX: usize = 65_527;

impl Limits {
    /// Whether an endpoint can work within these limits.
    pub(crate) fn check(&self) -> Result<(), LimitsError> {
        if self.associations_max == 0 || self.associations_per_source_max == 0 || self.streams_max == 0 {
            return Err(LimitsError::Nothing);
        }
        for bytes in [self.message_bytes_max, self.receive_bytes_max, self.send_bytes_max] {
            if bytes == 0 || bytes > BYTES_MAX {
                return Err(LimitsError::Bytes(BYTES_MAX));
            }
        }
        if self.low_water_bytes.saturating_add(self.message_bytes_max) > self.send_bytes_max {
            return Err(LimitsError::SendQueue);
        }
        // Peers with the smallest MTU in use (576) fragment at about 512 bytes.
        let charge = self.message_bytes_max + self.message_bytes_max.div_ceil(512) * CHUNK_OVERHEAD_BYTES;
        if window_of(self.receive_bytes_max) < WINDOW_BYTES_MIN || charge > self.receive_bytes_max / 2 {
            return Err(LimitsError::ReceiveBudget);
        }
        if !PAYLOAD_BYTES.contains(&self.payload_bytes)
            || !(1500..=UDP_PAYLOAD_MAX).contains(&self.datagram_bytes_max)
            || self.chunks_per_datagram_max == 0
            || self.datagrams_queued_max == 0
        {
            return Err(LimitsError::Datagram);
        }
        self.check_times()
    }

    fn check_times(&self) -> Result<(), LimitsError> {
        let all = [
            self.cookie_life,
            self.connect_max,
            self.rto_initial,
            self.rto_min,
            self.rto_max,
            self.heartbeat_interval,
            self.heartbeat_retry,
            self.silence_max,
            self.stall_max,
            self.close_max,
        ];
        let sound = all.iter().all(|time| *time >= Duration::from_millis(1) && *time <= TIME_MAX)
            && self.rto_min <= self.rto_initial
            && self.rto_initial <= self.rto_max
            && self.rto_max <= self.silence_max;
        if sound { Ok(()) } else { Err(LimitsError::Times) }
    }

    /// The retransmission timeout after `attempts` transmissions: doubled each time up to the largest.
    pub(crate) fn backoff(&self, attempts: u32) -> Duration {
        self.rto_initial.saturating_mul(1u32 << attempts.min(16)).min(self.rto_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn contradictions_are_refused() {
        type Change = fn(&mut Limits);
        let cases: [(Change, LimitsError); 8] = [
            (|limits| limits.associations_max = 0, LimitsError::Nothing),
            (|limits| limits.streams_max = 0, LimitsError::Nothing),
            (|limits| limits.send_bytes_max = 70_000, LimitsError::SendQueue),
            (|limits| limits.receive_bytes_max = 196_000, LimitsError::ReceiveBudget),
            (|limits| limits.message_bytes_max = usize::MAX, LimitsError::Bytes(BYTES_MAX)),
            (|limits| limits.payload_bytes = 10, LimitsError::Datagram),
            (|limits| limits.rto_max = Duration::from_secs(3), LimitsError::Times),
            (|limits| limits.stall_max = Duration::MAX, LimitsError::Times),
        ];
        for (change, expected) in cases {
            let mut limits = Limits::default();
            change(&mut limits);
            assert_eq!(limits.check(), Err(expected), "{limits:?}");
        }
    }

    #[test]
    fn backoff_doubles_up_to_the_largest() {
        let limits = Limits::default();
        let times: Vec<u128> =
            [0, 1, 2, u32::MAX].iter().map(|attempts| limits.backoff(*attempts).as_millis()).collect();
        assert_eq!(times, [300, 600, 600, 600]);
    }
}
