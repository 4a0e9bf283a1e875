//! The way of a datagram: to its association by verification tag (RFC 9260 §8.5), into a handshake, or out of
//! the blue.
//!
//! A server answers an INIT with a state cookie and keeps nothing; only its echo makes an association.

use std::net::{IpAddr, SocketAddr};

use super::{Accepting, Association, Endpoint, Role};
use crate::chunks::{Init, cause, failure, init_ack};
use crate::cookie::{Cookie, Place};
use crate::engine::Broken;
use crate::event::{AssociationId, CloseReason, Event};
use crate::open::Open;
use crate::opening::Step;
use crate::outbox::Context;
use crate::wire::{Chunk, ChunkKind, FLAG_REFLECTED, Header, Packet, PacketWriter};

/// Events waiting for the shell, in associations: past it no association is opened.
const EVENTS_PER_ASSOCIATION: usize = 4;

// ---- whose datagram is it -------------------------------------------------------------------------------

impl Endpoint {
    /// Finds the association of a packet by its verification tag (RFC 9260 §8.5), or what else it may be.
    pub(super) fn route(&mut self, remote: SocketAddr, packet: &Packet<'_>) {
        let Header { source, destination, tag } = packet.header;
        if matches!(self.role, Role::Server { port, .. } if port != destination) {
            self.counters.dropped_port += 1;
            return;
        }
        let place = Place { remote, peer_port: source, local_port: destination };
        if packet.first.kind == ChunkKind::Init {
            self.init(place, packet);
            return;
        }
        if tag == 0 {
            self.counters.dropped_tag += 1;
            return;
        }
        if let Some(id) = self.tags.get(&tag).copied() {
            if self.associations.get(&id).map(Association::place) == Some(place) {
                self.deliver(id, place, packet);
            } else {
                self.counters.dropped_address += 1;
            }
            return;
        }
        let reflected = matches!(packet.first.kind, ChunkKind::Abort | ChunkKind::ShutdownComplete)
            && packet.first.flags & FLAG_REFLECTED != 0;
        if reflected {
            self.reflected(place, packet);
        } else if packet.first.kind == ChunkKind::CookieEcho && self.role != Role::Client {
            self.cookie_echo(place, packet);
        } else {
            self.out_of_the_blue(place, packet);
        }
    }

    /// Hands a packet to its association.
    fn deliver(&mut self, id: AssociationId, place: Place, packet: &Packet<'_>) {
        if packet.first.kind == ChunkKind::CookieEcho && self.opened_by(place, packet).is_none() {
            self.counters.dropped_cookie += 1;
            return;
        }
        let Self { associations, limits, counters, outbox, .. } = self;
        let mut context = Context { limits, counters, outbox, now: self.now };
        match associations.get_mut(&id) {
            Some(Association::Opening(opening)) => {
                match opening.receive(packet, &mut context) {
                    Step::Wait => {}
                    Step::Open(peer) => self.complete(id, peer, packet),
                    Step::Failed(reason) => self.end(id, reason),
                };
            }
            Some(Association::Open(open)) => {
                let mut chunks = packet.chunks().peekable();
                // A repeated COOKIE ECHO: our COOKIE ACK was lost (RFC 9260 §5.2.4, action D).
                if chunks.next_if(|chunk| chunk.kind == ChunkKind::CookieEcho).is_some() {
                    open.send_cookie_ack(&mut context);
                }
                let result = open.receive(chunks, &mut context);
                self.settle(id, result);
            }
            None => {}
        }
    }

    /// An ABORT or SHUTDOWN COMPLETE that bears the tag we send to: the peer says that it knows no more.
    fn reflected(&mut self, place: Place, packet: &Packet<'_>) {
        let id = self.places.get(&place).copied();
        let found = id.and_then(|id| Some((id, self.associations.get(&id)?)));
        let known = found.filter(|(_, association)| association.peer_tag() == Some(packet.header.tag));
        let reason = known.and_then(|(id, association)| match association {
            Association::Opening(_) => {
                (packet.first.kind == ChunkKind::Abort).then_some((id, CloseReason::Refused))
            }
            Association::Open(open) => open.reflected(&packet.first).map(|reason| (id, reason)),
        });
        match reason {
            Some((id, reason)) => self.end(id, reason),
            None => self.counters.dropped_unknown += 1,
        }
    }

    /// A packet for no association (RFC 9260 §8.4): the peer is told, within the budget of replies.
    fn out_of_the_blue(&mut self, place: Place, packet: &Packet<'_>) {
        let silent = packet.chunks().any(|chunk| {
            matches!(
                chunk.kind,
                ChunkKind::Abort
                    | ChunkKind::ShutdownComplete
                    | ChunkKind::CookieAck
                    | ChunkKind::Error
                    | ChunkKind::Init
                    | ChunkKind::InitAck
                    | ChunkKind::HeartbeatAck
            )
        });
        if silent || !self.may_reply(place.source()) {
            self.counters.dropped_unknown += 1;
            return;
        }
        self.counters.dropped_unknown += 1;
        let kind = if packet.first.kind == ChunkKind::ShutdownAck {
            ChunkKind::ShutdownComplete
        } else {
            ChunkKind::Abort
        };
        let reply =
            PacketWriter::new(answer(packet, packet.header.tag), 4).chunk(kind, FLAG_REFLECTED, &[]).finish();
        self.context().put(place.remote, reply);
    }
}

/// The header of an answer to a packet, with the tag it must bear.
fn answer(packet: &Packet<'_>, tag: u32) -> Header {
    Header { source: packet.header.destination, destination: packet.header.source, tag }
}

// ---- handshakes -----------------------------------------------------------------------------------------

impl Endpoint {
    /// INIT (RFC 9260 §5.1, B): answered with a cookie; nothing is kept.
    fn init(&mut self, place: Place, packet: &Packet<'_>) {
        let Role::Server { accepting, .. } = self.role else {
            self.counters.dropped_unwanted += 1;
            return;
        };
        let offer = Init::parse(packet.first.value).filter(|_| packet.is_single());
        let Some(offer) = offer else {
            self.counters.dropped_init += 1;
            return;
        };
        if packet.header.tag != 0 {
            self.counters.dropped_tag += 1;
            return;
        }
        if !self.may_reply(place.source()) {
            return;
        }
        let header = answer(packet, offer.init.tag);
        if accepting == Accepting::No {
            self.counters.dropped_unwanted += 1;
            self.refuse(place.remote, header);
            return;
        }
        let local = Init {
            tag: self.free_tag(offer.init.tag),
            window: self.window(),
            outbound: self.limits.streams_max.min(offer.init.inbound),
            inbound: self.limits.streams_max,
            tsn: self.entropy.draw_nonzero(),
        };
        let cookie = Cookie { made_ms: self.milliseconds(), local, peer: offer.init };
        let sealed = cookie.seal(place, &self.entropy);
        self.counters.addresses_ignored += offer.addresses;
        self.counters.cookies_sent += 1;
        self.context().put(place.remote, init_ack(header, local, &sealed));
    }

    fn refuse(&mut self, remote: SocketAddr, header: Header) {
        let abort = failure(header, ChunkKind::Abort, cause::OUT_OF_RESOURCE, &[]);
        self.context().put(remote, abort);
    }

    /// The cookie that a packet echoes, if it is ours, for this place, and bears the tag we gave with it.
    fn opened_by(&self, place: Place, packet: &Packet<'_>) -> Option<Cookie> {
        let cookie = Cookie::open(packet.first.value, place, &self.entropy)?;
        (cookie.local.tag == packet.header.tag).then_some(cookie)
    }

    /// COOKIE ECHO for an association that is not there yet (RFC 9260 §5.1, D; §5.2.4).
    fn cookie_echo(&mut self, place: Place, packet: &Packet<'_>) {
        let Some(cookie) = self.opened_by(place, packet) else {
            self.counters.dropped_cookie += 1;
            return;
        };
        let header = answer(packet, cookie.peer.tag);
        let age_ms = self.milliseconds().saturating_sub(cookie.made_ms);
        if u128::from(age_ms) > self.limits.cookie_life.as_millis() {
            self.counters.cookies_stale += 1;
            if self.may_reply(place.source()) {
                let error = failure(header, ChunkKind::Error, cause::STALE_COOKIE, &[0; 4]);
                self.context().put(place.remote, error);
            }
            return;
        }
        if self.spent.iter().any(|(_, tag)| *tag == cookie.local.tag) {
            self.counters.cookies_spent += 1;
            return;
        }
        // The same peer with a new tag has lost its state (RFC 9260 §5.2.4, action A).
        if let Some(old) = self.places.get(&place).copied() {
            self.end(old, CloseReason::PeerRestarted);
        }
        if !self.has_room(place.source()) {
            self.refuse(place.remote, header);
            return;
        }
        let nonce = self.entropy.draw();
        match Open::new(place, cookie.local, cookie.peer, nonce, &self.context()) {
            Ok(open) => {
                let id = self.enter(Association::Open(Box::new(open)));
                self.announce(id, packet.chunks().skip(1));
            }
            Err(broken) => {
                self.counters.engine_panics += u64::from(broken == Broken::Panicked);
                self.refuse(place.remote, header);
            }
        }
    }

    /// Whether one more association from `source` fits.
    fn has_room(&mut self, source: IpAddr) -> bool {
        let events_max = self.limits.associations_max.saturating_mul(EVENTS_PER_ASSOCIATION);
        if self.associations.len() >= self.limits.associations_max || self.events.len() >= events_max {
            self.counters.refused_full += 1;
            return false;
        }
        let count = self.sources.get(&source).copied().unwrap_or(0);
        if count >= self.limits.associations_per_source_max {
            self.counters.refused_source_full += 1;
            return false;
        }
        true
    }

    /// A client's handshake is done: the rest of the packet with the COOKIE ACK is for the open association.
    fn complete(&mut self, id: AssociationId, peer: Init, packet: &Packet<'_>) {
        let Some(Association::Opening(opening)) = self.associations.get(&id) else { return };
        let (place, local) = (opening.place, opening.local);
        let nonce = self.entropy.draw();
        match Open::new(place, local, peer, nonce, &self.context()) {
            Ok(open) => {
                self.associations.insert(id, Association::Open(Box::new(open)));
                let rest = packet.chunks().skip_while(|chunk| chunk.kind != ChunkKind::CookieAck).skip(1);
                self.announce(id, rest);
            }
            Err(_) => self.end(id, CloseReason::Internal),
        }
    }

    /// Tells that an association is open, and gives it the chunks that came along with the last of the handshake.
    fn announce<'a>(&mut self, id: AssociationId, rest: impl Iterator<Item = Chunk<'a>>) {
        let server = self.role != Role::Client;
        let Ok(Some((open, mut context))) = self.open(id) else { return };
        let opened = Event::Opened {
            association: id,
            remote: open.place.remote,
            inbound_streams: open.inbound_streams,
            outbound_streams: open.outbound_streams,
        };
        if server {
            open.send_cookie_ack(&mut context);
        }
        context.counters.associations_opened += 1;
        let result = open.receive(rest, &mut context);
        self.events.push_back(opened);
        self.settle(id, result);
    }
}
