//! What happened, in numbers: every drop has its own, so that nothing is lost in silence.

/// Totals since the endpoint was made. All count events unless the name says bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams handed to [`crate::Endpoint::receive`].
    pub datagrams_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Datagrams put out for [`crate::Endpoint::next_datagram`].
    pub datagrams_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Messages accepted by [`crate::Endpoint::send`].
    pub messages_sent: u64,
    /// Messages given out as [`crate::Event::Message`].
    pub messages_received: u64,

    /// Dropped: shorter than a header and a chunk.
    pub dropped_short: u64,
    /// Dropped: longer than `datagram_bytes_max`.
    pub dropped_long: u64,
    /// Dropped: the CRC32C does not match.
    pub dropped_checksum: u64,
    /// Dropped: an SCTP port is zero, or not the one we listen on.
    pub dropped_port: u64,
    /// Dropped: a chunk's length does not fit the datagram.
    pub dropped_chunk_length: u64,
    /// Dropped: more chunks than `chunks_per_datagram_max`.
    pub dropped_chunk_count: u64,
    /// Dropped: INIT or INIT ACK that is not alone in its packet, or that is malformed.
    pub dropped_init: u64,
    /// Dropped: the verification tag breaks the rules of RFC 9260 §8.5.
    pub dropped_tag: u64,
    /// Dropped: a known tag from another address or port than the association's.
    pub dropped_address: u64,
    /// Dropped: out of the blue, and nothing may be said about it (RFC 9260 §8.4).
    pub dropped_unknown: u64,
    /// Dropped: an INIT to an endpoint that takes none.
    pub dropped_unwanted: u64,
    /// Dropped unanswered: the source has used up its replies of this second.
    pub dropped_rate_source: u64,
    /// Dropped unanswered: all replies of this second are used up.
    pub dropped_rate_total: u64,
    /// Dropped: a state cookie that is not ours, or not for this peer.
    pub dropped_cookie: u64,
    /// Refused: a state cookie past its life.
    pub cookies_stale: u64,
    /// Dropped: a state cookie whose association has already ended.
    pub cookies_spent: u64,
    /// Refused: `associations_max` reached.
    pub refused_full: u64,
    /// Refused: `associations_per_source_max` reached.
    pub refused_source_full: u64,
    /// Dropped: outgoing datagrams beyond `datagrams_queued_max`.
    pub dropped_outgoing: u64,

    /// DATA chunks that had arrived before.
    pub data_duplicate: u64,
    /// DATA chunks dropped: too far ahead.
    pub data_outside_window: u64,
    /// DATA chunks dropped: the receive budget is used up.
    pub data_without_room: u64,
    /// DATA chunks dropped: the peer had already said that it was done.
    pub data_while_closing: u64,
    /// Chunks of types not used here, skipped as RFC 9260 §3.2 says.
    pub chunks_skipped: u64,
    /// Rests of datagrams dropped after a chunk type that asks for it (RFC 9260 §3.2).
    pub chunks_stopped: u64,
    /// Known chunks that make no sense in the state they met, or are malformed without harm.
    pub chunks_unexpected: u64,
    /// ERROR chunks received.
    pub errors_received: u64,
    /// Address parameters (types 5, 6, 9, 11) ignored in INIT and INIT ACK: there is one path.
    pub addresses_ignored: u64,

    /// INITs answered with a state cookie.
    pub cookies_sent: u64,
    /// Heartbeats sent.
    pub heartbeats_sent: u64,
    /// Heartbeats answered.
    pub heartbeats_answered: u64,
    /// Associations opened.
    pub associations_opened: u64,
    /// Associations closed, failed handshakes of ours included.
    pub associations_closed: u64,
    /// Associations aborted because the peer broke the protocol.
    pub violations: u64,
    /// Panics inside the engine, caught; the association was dropped.
    pub engine_panics: u64,
}
