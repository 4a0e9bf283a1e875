//! One open association, from the end of its handshake to its last packet.
//!
//! User data goes through the engine; heartbeats, liveness, shutdown and abort are handled here, since the
//! engine has none, or wrong ones. What goes out of the engine is rewritten on its way ([`Open::forward`]).

use std::time::Instant;

use crate::arrivals::{Arrivals, Verdict, Violation, window_of};
use crate::chunks::{Data, FLAG_IMMEDIATE, Init, Sack, cause, failure, first_cause};
use crate::cookie::Place;
use crate::engine::{Broken, Engine, Received};
use crate::event::{CloseReason, SendError};
use crate::limits::{Limits, PEER_WINDOW_BYTES_MAX};
use crate::outbox::Context;
use crate::wire::{Chunk, ChunkKind, FLAG_REFLECTED, Header, PacketWriter, Reader, chunks_of};

/// Type and length of the Heartbeat Info parameter (RFC 9260 §3.3.5) with our nonce of eight bytes.
const HEARTBEAT_INFO: [u8; 4] = [0, 1, 0, 12];

/// Where the association stands (RFC 9260 §4), in the order of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Established,
    /// We want to close; what is queued goes first.
    ShutdownPending,
    /// We said SHUTDOWN and wait for SHUTDOWN ACK.
    ShutdownSent,
    /// The peer said SHUTDOWN; what is queued goes first.
    ShutdownReceived,
    /// We said SHUTDOWN ACK and wait for SHUTDOWN COMPLETE.
    ShutdownAckSent,
}

/// An open association.
pub(crate) struct Open {
    pub(crate) place: Place,
    pub(crate) local_tag: u32,
    pub(crate) peer_tag: u32,
    pub(crate) inbound_streams: u16,
    pub(crate) outbound_streams: u16,
    engine: Engine,
    arrivals: Arrivals,
    phase: Phase,
    /// Whether the orderly close was our wish.
    closing_ours: bool,

    /// Bytes sent and not acknowledged, as of the last look.
    queued: usize,
    /// The queue went above low water; coming back is worth an event.
    above_low_water: bool,
    /// When the peer last took something of the queue, or the queue was empty.
    progress_at: Instant,
    /// The window the peer last gave.
    peer_window: u32,

    /// The window we last gave.
    advertised: u32,
    /// A SACK is wanted that the engine will not make.
    sack_due: bool,
    /// The shell takes no messages for now.
    paused: bool,

    /// Since when the peer owes an answer.
    owed_since: Option<Instant>,
    heartbeat_at: Instant,
    nonce: u64,

    /// When SHUTDOWN or SHUTDOWN ACK is repeated.
    resend_at: Option<Instant>,
    attempts: u32,
    /// When an orderly close is given up.
    give_up_at: Option<Instant>,
}

impl Open {
    /// An association whose handshake is done.
    pub(crate) fn new(
        place: Place,
        local: Init,
        peer: Init,
        nonce: u64,
        context: &Context<'_>,
    ) -> Result<Self, Broken> {
        let limits = context.limits;
        let believed = Init { window: peer.window.min(PEER_WINDOW_BYTES_MAX), ..peer };
        let arrivals = Arrivals::new(peer.tsn, limits);
        Ok(Self {
            place,
            local_tag: local.tag,
            peer_tag: peer.tag,
            inbound_streams: local.inbound.min(peer.outbound),
            outbound_streams: local.outbound.min(peer.inbound),
            engine: Engine::new(place, local, believed, limits)?,
            advertised: arrivals.window(),
            arrivals,
            phase: Phase::Established,
            closing_ours: false,
            queued: 0,
            above_low_water: false,
            progress_at: context.now,
            peer_window: believed.window,
            sack_due: false,
            paused: false,
            owed_since: None,
            heartbeat_at: context.now + limits.heartbeat_interval,
            nonce,
            resend_at: None,
            attempts: 0,
            give_up_at: None,
        })
    }

    /// The header of packets to the peer.
    fn header(&self) -> Header {
        Header { source: self.place.local_port, destination: self.place.peer_port, tag: self.peer_tag }
    }

    // ---- receiving --------------------------------------------------------------------------------------

    /// Takes chunks of a packet that bears our tag. `Err`: the association has ended.
    pub(crate) fn receive<'a>(
        &mut self,
        chunks: impl Iterator<Item = Chunk<'a>>,
        context: &mut Context<'_>,
    ) -> Result<(), CloseReason> {
        self.owed_since = None;
        self.heartbeat_at = context.now + context.limits.heartbeat_interval;
        for chunk in chunks {
            match chunk.kind {
                ChunkKind::Data => self.data(&chunk, context)?,
                ChunkKind::Sack => self.sack(chunk.value, context)?,
                ChunkKind::Heartbeat => {
                    context.counters.heartbeats_answered += 1;
                    self.put(ChunkKind::HeartbeatAck, &[chunk.value], context);
                }
                // Anything with our tag is the sign of life that was asked for.
                ChunkKind::HeartbeatAck => {}
                ChunkKind::Abort if chunk.flags & FLAG_REFLECTED == 0 => {
                    return Err(CloseReason::PeerAborted(first_cause(chunk.value)));
                }
                ChunkKind::Shutdown => self.shutdown(chunk.value, context)?,
                ChunkKind::ShutdownAck => self.shutdown_ack(context)?,
                ChunkKind::ShutdownComplete if self.phase == Phase::ShutdownAckSent => {
                    return Err(self.orderly());
                }
                ChunkKind::Error => context.counters.errors_received += 1,
                // RFC 9260 §3.2: the highest bit says whether the chunks after an unknown one still count.
                ChunkKind::Unassigned(code) if code & 0x80 == 0 => {
                    context.counters.chunks_stopped += 1;
                    break;
                }
                ChunkKind::Unassigned(_) => context.counters.chunks_skipped += 1,
                ChunkKind::Init
                | ChunkKind::InitAck
                | ChunkKind::Abort
                | ChunkKind::CookieEcho
                | ChunkKind::CookieAck
                | ChunkKind::ShutdownComplete => context.counters.chunks_unexpected += 1,
            }
        }
        self.flush(context)
    }

    /// Takes an ABORT or SHUTDOWN COMPLETE that reflects the peer's tag (RFC 9260 §8.5.1): the peer knows
    /// nothing of this association (any more).
    pub(crate) fn reflected(&self, chunk: &Chunk<'_>) -> Option<CloseReason> {
        if chunk.kind == ChunkKind::Abort {
            return Some(CloseReason::PeerAborted(first_cause(chunk.value)));
        }
        (self.phase == Phase::ShutdownAckSent).then(|| self.orderly())
    }

    fn data(&mut self, chunk: &Chunk<'_>, context: &mut Context<'_>) -> Result<(), CloseReason> {
        if matches!(self.phase, Phase::ShutdownReceived | Phase::ShutdownAckSent) {
            context.counters.data_while_closing += 1;
            return Ok(());
        }
        let data = Data::parse(chunk).ok_or(CloseReason::Violation(Violation::NoUserData))?;
        if data.stream >= self.inbound_streams {
            return Err(CloseReason::Violation(Violation::Stream));
        }
        match self.arrivals.admit(data).map_err(CloseReason::Violation)? {
            Verdict::New => {
                self.feed_data(chunk, chunk.flags, context)?;
                // Full, nothing missing, and still no message: no chunk can ever complete one.
                let stuck = self.arrivals.is_full() && self.arrivals.gaps().is_empty();
                if stuck && !self.engine.is_readable() {
                    return Err(CloseReason::ReceiveBudget);
                }
            }
            // Our acknowledgement was lost: the engine repeats it at once.
            Verdict::Duplicate => {
                context.counters.data_duplicate += 1;
                self.feed_data(chunk, chunk.flags | FLAG_IMMEDIATE, context)?;
            }
            Verdict::OutsideWindow => {
                context.counters.data_outside_window += 1;
                self.sack_due = true;
            }
            Verdict::NoRoom => {
                context.counters.data_without_room += 1;
                self.sack_due = true;
            }
        }
        if self.phase == Phase::ShutdownSent {
            // RFC 9260 §9.2: data after our SHUTDOWN is answered with another one.
            self.send_shutdown(context);
        }
        Ok(())
    }

    /// Gives a DATA chunk to the engine in a packet of its own, so that what the engine keeps of it pins no
    /// more memory than the chunk.
    fn feed_data(&mut self, chunk: &Chunk<'_>, flags: u8, context: &Context<'_>) -> Result<(), CloseReason> {
        let packet = PacketWriter::new(self.inward(), chunk.value.len() + 8)
            .chunk(ChunkKind::Data, flags, &[chunk.value])
            .finish();
        self.engine.receive(packet, context.now).map_err(|broken| ended(broken, Violation::Engine))
    }

    fn sack(&mut self, value: &[u8], context: &Context<'_>) -> Result<(), CloseReason> {
        let sack = Sack::parse(value).ok_or(CloseReason::Violation(Violation::Acknowledgement))?;
        self.peer_window = sack.window.min(PEER_WINDOW_BYTES_MAX);
        self.feed_sack(sack, context)
    }

    fn feed_sack(&mut self, sack: Sack, context: &Context<'_>) -> Result<(), CloseReason> {
        let packet = Sack { window: self.peer_window, ..sack }.to_packet(self.inward(), usize::MAX);
        self.engine.receive(packet, context.now).map_err(|broken| ended(broken, Violation::Acknowledgement))
    }

    /// The header of packets to the engine: what the peer's bear.
    fn inward(&self) -> Header {
        Header { source: self.place.peer_port, destination: self.place.local_port, tag: self.local_tag }
    }

    /// SHUTDOWN, RFC 9260 §3.3.8: `CUMULATIVE(4)`. It acknowledges like a SACK.
    fn shutdown(&mut self, value: &[u8], context: &mut Context<'_>) -> Result<(), CloseReason> {
        let Some(cumulative) = Reader(value).u32() else {
            context.counters.chunks_unexpected += 1;
            return Ok(());
        };
        self.feed_sack(Sack { cumulative, window: self.peer_window, gaps: Vec::new() }, context)?;
        match self.phase {
            Phase::Established | Phase::ShutdownPending => {
                self.phase = Phase::ShutdownReceived;
                self.give_up_at.get_or_insert(context.now + context.limits.close_max);
            }
            Phase::ShutdownReceived => {}
            Phase::ShutdownSent | Phase::ShutdownAckSent => self.send_shutdown_ack(context),
        }
        Ok(())
    }

    fn shutdown_ack(&mut self, context: &mut Context<'_>) -> Result<(), CloseReason> {
        if matches!(self.phase, Phase::ShutdownSent | Phase::ShutdownAckSent) {
            self.put(ChunkKind::ShutdownComplete, &[], context);
            return Err(self.orderly());
        }
        context.counters.chunks_unexpected += 1;
        Ok(())
    }

    /// How an orderly close is reported.
    fn orderly(&self) -> CloseReason {
        if self.closing_ours { CloseReason::Closed } else { CloseReason::PeerClosed }
    }

    // ---- messages ---------------------------------------------------------------------------------------

    /// Queues a message. The outer error: the association has ended.
    pub(crate) fn send(
        &mut self,
        stream: u16,
        message: &[u8],
        context: &mut Context<'_>,
    ) -> Result<Result<(), SendError>, CloseReason> {
        let limits = context.limits;
        let refusal = if self.phase != Phase::Established {
            Some(SendError::NotOpen)
        } else if stream >= self.outbound_streams {
            Some(SendError::Stream { got: stream, allowed: self.outbound_streams })
        } else if message.is_empty() {
            Some(SendError::Empty)
        } else if message.len() > limits.message_bytes_max {
            Some(SendError::TooLong { got: message.len(), allowed: limits.message_bytes_max })
        } else if self.queued + message.len() > limits.send_bytes_max {
            Some(SendError::WouldBlock)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return Ok(Err(refusal));
        }
        if self.queued == 0 {
            self.progress_at = context.now;
        }
        self.engine.send(stream, message).map_err(|broken| ended(broken, Violation::Engine))?;
        self.queued += message.len();
        self.above_low_water |= self.queued > limits.low_water_bytes;
        context.counters.messages_sent += 1;
        Ok(Ok(()))
    }

    /// Bytes sent and not yet acknowledged.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether the queue came down to low water since the last call.
    pub(crate) fn take_writable(&mut self, low_water_bytes: usize) -> bool {
        let writable = self.above_low_water && self.queued <= low_water_bytes;
        self.above_low_water &= !writable;
        writable
    }

    /// Whether [`Open::read`] may have something.
    pub(crate) fn is_readable(&self) -> bool {
        !self.paused && self.engine.is_readable()
    }

    /// Stops or restarts giving out messages.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// Starts giving out messages again.
    pub(crate) fn resume(&mut self) {
        self.paused = false;
    }

    /// The next message. The window grows by it, and the peer is told when that matters.
    pub(crate) fn read(&mut self, context: &mut Context<'_>) -> Result<Option<Received>, CloseReason> {
        let received = self.engine.read().map_err(|broken| ended(broken, Violation::Engine))?;
        if let Some(received) = &received {
            self.arrivals.release(received.chunks, received.bytes.len());
            context.counters.messages_received += 1;
            let much = window_of(context.limits.receive_bytes_max) / 4;
            if self.arrivals.window().saturating_sub(self.advertised) >= much {
                self.send_sack(context);
            }
        }
        Ok(received)
    }

    // ---- closing ----------------------------------------------------------------------------------------

    /// Starts the orderly close (RFC 9260 §9.2). Again, or when the peer was first: nothing more to do.
    pub(crate) fn close(&mut self, context: &mut Context<'_>) -> Result<(), CloseReason> {
        if self.phase == Phase::Established {
            self.phase = Phase::ShutdownPending;
            self.closing_ours = true;
            self.give_up_at = Some(context.now + context.limits.close_max);
        }
        self.flush(context)
    }

    /// Tells the peer by ABORT why the association ends, where it has to know.
    pub(crate) fn bid_farewell(&self, reason: CloseReason, context: &mut Context<'_>) {
        let code = match reason {
            CloseReason::Closed
            | CloseReason::PeerClosed
            | CloseReason::PeerAborted(_)
            | CloseReason::PeerRestarted
            | CloseReason::Refused
            | CloseReason::ConnectTimeout => return,
            CloseReason::Violation(Violation::NoUserData) => cause::NO_USER_DATA,
            CloseReason::Violation(Violation::Stream) => cause::INVALID_STREAM,
            CloseReason::Violation(_) => cause::PROTOCOL_VIOLATION,
            CloseReason::ReceiveBudget => cause::OUT_OF_RESOURCE,
            CloseReason::Aborted
            | CloseReason::Unreachable
            | CloseReason::Stalled
            | CloseReason::CloseTimeout
            | CloseReason::Internal => cause::USER_ABORT,
        };
        context.put(self.place.remote, failure(self.header(), ChunkKind::Abort, code, &[]));
    }

    // ---- sending ----------------------------------------------------------------------------------------

    /// A packet to the peer with one chunk.
    fn put(&self, kind: ChunkKind, parts: &[&[u8]], context: &mut Context<'_>) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let packet = PacketWriter::new(self.header(), bytes + 8).chunk(kind, 0, parts).finish();
        context.put(self.place.remote, packet);
    }

    /// Answers a COOKIE ECHO, the first or a repeated one.
    pub(crate) fn send_cookie_ack(&self, context: &mut Context<'_>) {
        self.put(ChunkKind::CookieAck, &[], context);
    }

    /// From here on the peer owes an answer, unless it did already; heartbeats help it to be heard.
    fn owe(&mut self, context: &Context<'_>) {
        if self.owed_since.is_none() {
            self.owed_since = Some(context.now);
            self.heartbeat_at = self.heartbeat_at.min(context.now + context.limits.heartbeat_retry);
        }
    }

    fn send_heartbeat(&mut self, context: &mut Context<'_>) {
        self.nonce = self.nonce.wrapping_add(1);
        self.put(ChunkKind::Heartbeat, &[&HEARTBEAT_INFO, &self.nonce.to_be_bytes()], context);
        context.counters.heartbeats_sent += 1;
        self.owe(context);
        self.heartbeat_at = context.now + context.limits.heartbeat_retry;
    }

    fn send_shutdown(&mut self, context: &mut Context<'_>) {
        let cumulative = self.arrivals.cumulative().to_be_bytes();
        self.put(ChunkKind::Shutdown, &[&cumulative], context);
        self.await_closing(Phase::ShutdownSent, context);
    }

    fn send_shutdown_ack(&mut self, context: &mut Context<'_>) {
        self.put(ChunkKind::ShutdownAck, &[], context);
        self.await_closing(Phase::ShutdownAckSent, context);
    }

    /// Enters a phase that waits for the peer, or stays in it, and sets the timer of its repetition.
    fn await_closing(&mut self, phase: Phase, context: &Context<'_>) {
        self.attempts = if self.phase == phase { self.attempts + 1 } else { 0 };
        self.phase = phase;
        self.resend_at = Some(context.now + context.limits.backoff(self.attempts));
        self.owe(context);
    }

    /// A SACK of our own, for what the engine does not know: windows, and chunks that it never saw.
    fn send_sack(&mut self, context: &mut Context<'_>) {
        let window = self.arrivals.window();
        let sack = Sack { cumulative: self.arrivals.cumulative(), window, gaps: self.arrivals.gaps() };
        context.put(self.place.remote, sack.to_packet(self.header(), packet_bytes_max(context)));
        self.advertised = window;
        self.sack_due = false;
    }

    /// Sends what the engine has to send, then what follows from how much is left.
    pub(crate) fn flush(&mut self, context: &mut Context<'_>) -> Result<(), CloseReason> {
        let packets = self.engine.transmit(context.now).map_err(|broken| ended(broken, Violation::Engine))?;
        let last_data =
            packets.iter().rposition(|packet| chunks_of(packet).any(|chunk| chunk.kind == ChunkKind::Data));
        for (at, packet) in packets.iter().enumerate() {
            // The last data of a burst asks to be acknowledged at once (RFC 7053): nothing follows that
            // would make the peer do so, and waiting for its delayed acknowledgement looks like loss.
            let flags = if last_data == Some(at) { FLAG_IMMEDIATE } else { 0 };
            let packet = self.forward(packet, flags, context);
            context.put(self.place.remote, packet);
        }
        if last_data.is_some() {
            self.owe(context);
        }
        if self.sack_due {
            self.send_sack(context);
        }
        self.take_stock(context)
    }

    /// Rewrites a packet of the engine: our window into its SACKs, with no more gaps than fit a packet;
    /// protocol identifier 0 and `flags` into its DATA.
    fn forward(&mut self, packet: &[u8], flags: u8, context: &Context<'_>) -> Vec<u8> {
        let mut writer = PacketWriter::new(self.header(), packet.len());
        for chunk in chunks_of(packet) {
            let sack = (chunk.kind == ChunkKind::Sack).then(|| Sack::parse(chunk.value)).flatten();
            writer = match (sack, chunk.value.split_at_checked(8)) {
                (Some(sack), _) => {
                    let window = self.arrivals.window();
                    self.advertised = window;
                    self.sack_due = false;
                    let value = Sack { window, ..sack }.to_value(packet_bytes_max(context));
                    writer.chunk(ChunkKind::Sack, 0, &[&value])
                }
                (None, Some((before, after))) if chunk.kind == ChunkKind::Data => {
                    let user_data = after.get(4..).unwrap_or_default();
                    writer.chunk(ChunkKind::Data, chunk.flags | flags, &[before, &[0; 4], user_data])
                }
                (None, _) => writer.chunk(chunk.kind, chunk.flags, &[chunk.value]),
            };
        }
        writer.finish()
    }

    /// Looks how much is left to acknowledge, and takes the next step of a close when nothing is.
    fn take_stock(&mut self, context: &mut Context<'_>) -> Result<(), CloseReason> {
        let queued = self.engine.queued().map_err(|broken| ended(broken, Violation::Engine))?;
        if queued < self.queued {
            self.progress_at = context.now;
        }
        self.queued = queued;
        match self.phase {
            Phase::ShutdownPending if queued == 0 => self.send_shutdown(context),
            Phase::ShutdownReceived if queued == 0 => self.send_shutdown_ack(context),
            Phase::Established
            | Phase::ShutdownPending
            | Phase::ShutdownSent
            | Phase::ShutdownReceived
            | Phase::ShutdownAckSent => {}
        }
        Ok(())
    }

    // ---- time -------------------------------------------------------------------------------------------

    /// When [`Open::expire`] is wanted.
    pub(crate) fn deadline(&self, limits: &Limits) -> Instant {
        let silence = self.owed_since.map(|since| since + limits.silence_max);
        let stall = (self.queued > 0).then(|| self.progress_at + limits.stall_max);
        [self.engine.deadline(), silence, stall, self.resend_at, self.give_up_at]
            .into_iter()
            .flatten()
            .fold(self.heartbeat_at, Instant::min)
    }

    /// Does what is due. `Err`: the association has ended.
    pub(crate) fn expire(&mut self, context: &mut Context<'_>) -> Result<(), CloseReason> {
        let now = context.now;
        let limits = context.limits;
        if self.owed_since.is_some_and(|since| now >= since + limits.silence_max) {
            return Err(CloseReason::Unreachable);
        }
        if self.give_up_at.is_some_and(|at| now >= at) {
            return Err(CloseReason::CloseTimeout);
        }
        if self.queued > 0 && now >= self.progress_at + limits.stall_max {
            return Err(CloseReason::Stalled);
        }
        if now >= self.heartbeat_at {
            self.send_heartbeat(context);
        }
        if self.resend_at.is_some_and(|at| now >= at) {
            match self.phase {
                Phase::ShutdownSent => self.send_shutdown(context),
                Phase::ShutdownAckSent => self.send_shutdown_ack(context),
                Phase::Established | Phase::ShutdownPending | Phase::ShutdownReceived => {
                    self.resend_at = None;
                }
            }
        }
        if self.engine.deadline().is_some_and(|at| now >= at) {
            self.engine.expire(now).map_err(|broken| ended(broken, Violation::Engine))?;
        }
        self.flush(context)
    }

    #[cfg(test)]
    pub(crate) fn break_engine_for_test(&mut self) -> CloseReason {
        self.engine
            .panic_for_test()
            .map_or_else(|broken| ended(broken, Violation::Engine), |()| CloseReason::Closed)
    }
}

/// What a broken engine means for its association; `suspect` if it only refused.
fn ended(broken: Broken, suspect: Violation) -> CloseReason {
    match broken {
        Broken::Panicked => CloseReason::Internal,
        Broken::Refused => CloseReason::Violation(suspect),
    }
}

/// Longest packet made here: one full DATA chunk.
fn packet_bytes_max(context: &Context<'_>) -> usize {
    usize::try_from(context.limits.payload_bytes).unwrap_or(usize::MAX) + 28
}
