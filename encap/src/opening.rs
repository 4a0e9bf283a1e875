//! A client's handshake: INIT, INIT ACK, COOKIE ECHO, COOKIE ACK (RFC 9260 §5.1). Next stage: [`crate::open`].
//!
//! It is done here and not in the engine, whose own start reads the clock and drops what every kernel sends.

use std::time::Instant;

use crate::chunks::{Init, Offer, cause, first_cause};
use crate::cookie::Place;
use crate::event::CloseReason;
use crate::outbox::Context;
use crate::wire::{ChunkKind, FLAG_REFLECTED, Header, Packet, PacketWriter};

/// Longest cookie echoed. Those of Linux have about 300 bytes, plus the parameters they embed.
const COOKIE_BYTES_MAX: usize = 8192;

/// An association being opened.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) place: Place,
    pub(crate) local: Init,
    waiting: Waiting,
    attempts: u32,
    resend_at: Instant,
    give_up_at: Instant,
}

/// What the peer owes.
#[derive(Debug)]
enum Waiting {
    /// The INIT ACK (RFC 9260's COOKIE-WAIT).
    InitAck,
    /// The COOKIE ACK (RFC 9260's COOKIE-ECHOED).
    CookieAck { peer: Init, cookie: Vec<u8> },
}

/// Where a packet led.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Wait,
    /// The handshake is done; this is what the peer offered. The rest of the packet belongs to the next stage.
    Open(Init),
    Failed(CloseReason),
}

impl Opening {
    /// Sends the first INIT.
    pub(crate) fn start(place: Place, local: Init, context: &mut Context<'_>) -> Self {
        let now = context.now;
        let mut opening = Self {
            place,
            local,
            waiting: Waiting::InitAck,
            attempts: 0,
            resend_at: now,
            give_up_at: now + context.limits.connect_max,
        };
        opening.transmit(context);
        opening
    }

    /// Sends what is due in this state, and sets the timer.
    fn transmit(&mut self, context: &mut Context<'_>) {
        let (tag, kind, value) = match &self.waiting {
            Waiting::InitAck => (0, ChunkKind::Init, self.local.to_bytes().to_vec()),
            Waiting::CookieAck { peer, cookie } => (peer.tag, ChunkKind::CookieEcho, cookie.clone()),
        };
        let packet = PacketWriter::new(self.header(tag), value.len() + 4).chunk(kind, 0, &[&value]).finish();
        context.put(self.place.remote, packet);
        self.resend_at = context.now + context.limits.backoff(self.attempts);
        self.attempts += 1;
    }

    fn header(&self, tag: u32) -> Header {
        Header { source: self.place.local_port, destination: self.place.peer_port, tag }
    }

    /// Takes a packet that bears our tag, or (reflected) the peer's.
    pub(crate) fn receive(&mut self, packet: &Packet<'_>, context: &mut Context<'_>) -> Step {
        let ours = packet.header.tag == self.local.tag;
        for chunk in packet.chunks() {
            match chunk.kind {
                // A reflected tag is the peer's, which only the second half of the handshake knows.
                ChunkKind::Abort if (chunk.flags & FLAG_REFLECTED == 0) == ours => {
                    return Step::Failed(CloseReason::Refused);
                }
                ChunkKind::InitAck if ours && packet.is_single() => self.init_ack(chunk.value, context),
                ChunkKind::CookieAck if ours => {
                    if let Waiting::CookieAck { peer, .. } = &self.waiting {
                        return Step::Open(*peer);
                    }
                    context.counters.chunks_unexpected += 1;
                }
                ChunkKind::Error if ours => {
                    context.counters.errors_received += 1;
                    let echoed = matches!(self.waiting, Waiting::CookieAck { .. });
                    if echoed && first_cause(chunk.value) == Some(cause::STALE_COOKIE) {
                        self.waiting = Waiting::InitAck;
                        self.transmit(context);
                    }
                }
                ChunkKind::Data
                | ChunkKind::Init
                | ChunkKind::InitAck
                | ChunkKind::Sack
                | ChunkKind::Heartbeat
                | ChunkKind::HeartbeatAck
                | ChunkKind::Abort
                | ChunkKind::Shutdown
                | ChunkKind::ShutdownAck
                | ChunkKind::Error
                | ChunkKind::CookieEcho
                | ChunkKind::CookieAck
                | ChunkKind::ShutdownComplete
                | ChunkKind::Unassigned(_) => context.counters.chunks_unexpected += 1,
            }
        }
        Step::Wait
    }

    /// The INIT ACK decides the peer's tag and what is echoed. A second one is an answer to a repeated INIT:
    /// the first counts (RFC 9260 §5.2.3).
    fn init_ack(&mut self, value: &[u8], context: &mut Context<'_>) {
        let waiting = matches!(self.waiting, Waiting::InitAck);
        let offer = Init::parse(value).filter(|_| waiting);
        let Some(Offer { init: peer, cookie: Some(cookie), addresses }) = offer else {
            context.counters.chunks_unexpected += 1;
            return;
        };
        if cookie.len() > COOKIE_BYTES_MAX || peer.tag == self.local.tag {
            context.counters.dropped_init += 1;
            return;
        }
        context.counters.addresses_ignored += addresses;
        self.waiting = Waiting::CookieAck { peer, cookie: cookie.to_vec() };
        self.attempts = 0;
        self.transmit(context);
    }

    /// The peer's tag, once it is known.
    pub(crate) fn peer_tag(&self) -> Option<u32> {
        match &self.waiting {
            Waiting::InitAck => None,
            Waiting::CookieAck { peer, .. } => Some(peer.tag),
        }
    }

    /// When [`Opening::expire`] is wanted.
    pub(crate) fn deadline(&self) -> Instant {
        self.resend_at.min(self.give_up_at)
    }

    /// Repeats what was not answered, or gives up.
    pub(crate) fn expire(&mut self, context: &mut Context<'_>) -> Result<(), CloseReason> {
        if context.now >= self.give_up_at {
            return Err(CloseReason::ConnectTimeout);
        }
        if context.now >= self.resend_at {
            self.transmit(context);
        }
        Ok(())
    }
}
