//! Associations that come: who is let in, and what arrives of those over UDP.

use std::net::SocketAddr;
use std::time::Instant;

use mio::{Registry, Token};
use pipo_encap::{AssociationId, CloseReason, Event as EncapEvent};

use super::{PEERS, Server};
use crate::admin::kernel::Association;
use crate::admin::notes::PeerKey;
use crate::admin::peer::{Life, Link, Peer};
use crate::admin::session::{Input, Session};
use crate::ids::source_of;
use crate::limits;
use crate::metrics::Counter;
use crate::sys::sctp::Sctp;

impl Server {
    pub(super) fn accept(&mut self, registry: &Registry, now: Instant) {
        for place in 0..self.listeners.len() {
            while let Some(listener) = self.listeners.get_mut(place) {
                match listener.accept(now) {
                    Ok(None) => break,
                    Ok(Some((socket, source))) => self.take_association(socket, source, registry, now),
                    Err(error) => {
                        self.counters.count(Counter::AdminAcceptFailed);
                        log::warn!("admin associations wait: error=\"{error}\"");
                        break;
                    }
                }
            }
        }
    }

    fn take_association(&mut self, socket: Sctp, source: SocketAddr, registry: &Registry, now: Instant) {
        let token = Token(PEERS + usize::try_from(self.next_key).unwrap_or(0));
        match Association::new(socket, registry, token) {
            Ok(association) => {
                let streams = association.streams();
                self.admit(source, Link::Kernel(association), streams, now);
            }
            Err(error) => {
                self.counters.count(Counter::AdminAcceptFailed);
                log::warn!("an admin association could not be watched: source={source} error=\"{error}\"");
            }
        }
    }

    /// Makes an association one of ours, if there is a place for it.
    fn admit(&mut self, source: SocketAddr, link: Link, streams: u16, now: Instant) {
        self.counters.count(Counter::AdminAssociations);
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        if let Link::Udp(place, id) = link {
            self.keys.insert((place, id), key);
        }
        self.peers.insert(key, Peer::new(source, link, streams, Session::new(self.epoch, now), now));
        self.enqueue(key);
        self.make_room(key, source, now);
    }

    /// Keeps the bounds: those who have not logged in make room first, the oldest before the others.
    fn make_room(&mut self, newest: PeerKey, source: SocketAddr, now: Instant) {
        let waiting = |peer: &Peer| peer.life == Life::Open && peer.session.user().is_none();
        if self.peers.values().filter(|peer| waiting(peer)).count() > limits::ADMIN_LOGINS_WAITING_MAX
            && let Some((oldest, _)) = self.peers.iter().find(|(_, peer)| waiting(peer))
        {
            let oldest = *oldest;
            self.counters.count(Counter::AdminLoginDisplaced);
            self.abort(oldest, now);
        }
        let source = source_of(source.ip());
        let same = self.peers.values().filter(|peer| source_of(peer.source.ip()) == source).count();
        let counter = if self.peers.len() > limits::ADMIN_ASSOCIATIONS_MAX {
            Counter::AdminFull
        } else if same > limits::ADMIN_ASSOCIATIONS_PER_SOURCE_MAX {
            Counter::AdminSourceLimit
        } else {
            return;
        };
        self.counters.count(counter);
        log::debug!("an admin association was refused: source={source} because={}", counter.name());
        self.abort(newest, now);
    }

    /// Takes what the endpoint of a UDP socket tells.
    pub(super) fn take_events(&mut self, place: usize, now: Instant) {
        while let Some(event) = self.carriers.get_mut(place).and_then(|carrier| carrier.endpoint.next_event())
        {
            match event {
                EncapEvent::Opened { association, remote, outbound_streams, .. } => {
                    self.admit(remote, Link::Udp(place, association), outbound_streams, now);
                }
                EncapEvent::Message { association, bytes, .. } => {
                    self.take_message(place, association, &bytes, now);
                }
                EncapEvent::Writable { association } => {
                    if let Some(key) = self.keys.get(&(place, association)) {
                        self.enqueue(*key);
                    }
                }
                EncapEvent::Closed { association, reason } => {
                    if let Some(key) = self.keys.get(&(place, association)).copied() {
                        if reason == CloseReason::Stalled {
                            self.counters.count(Counter::AdminStalled);
                        }
                        log::debug!("an admin association has ended: reason=\"{reason}\"");
                        self.forget(key);
                    }
                }
            }
        }
    }

    fn take_message(&mut self, place: usize, association: AssociationId, bytes: &[u8], now: Instant) {
        let Some(key) = self.keys.get(&(place, association)).copied() else { return };
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.session.handle(Input::Message(bytes), now);
        if !peer.has_room()
            && let Some(carrier) = self.carriers.get_mut(place)
        {
            peer.paused = true;
            carrier.endpoint.pause(association);
        }
        self.enqueue(key);
    }
}
