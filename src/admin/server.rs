//! The admin channel's shell: associations of both transports, in the control loop's own poll. It owns sockets,
//! readiness and queues and decides nothing about the protocol, which is `session.rs`.
//!
//! A turn: take in what has arrived, give each association that has something to do its turn, tell the workers
//! what was changed, and only then send the replies, so that a reply means that the change holds. What channels
//! deliver comes after all replies, and for a short time only: whoever asks meanwhile is heard in the next turn.

// Where it listens, who comes, what they ask, and how they go.
mod changes;
mod coming;
mod going;
mod places;
mod requests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::{Registry, Token};
use pipo_encap::AssociationId;

pub use places::AdminListenError;

use super::core::Core;
use super::kernel::Listener;
use super::notes::PeerKey;
use super::peer::{Flushed, Life, Link, Peer, Received};
use super::session::{Input, Output};
use super::udp::Carrier;
use crate::limits;
use crate::metrics::{Counter, Counters, Gauge};
use crate::settings::Resolved;
use requests::is_former;

/// Tokens from here on are ours: listeners, then UDP sockets, then associations of the kernel.
const LISTENERS: usize = 1 << 8;
const CARRIERS: usize = 1 << 12;
const PEERS: usize = 1 << 16;
const _: () = assert!(LISTENERS + 2 * limits::ADDRESSES_PER_SETTING_MAX < CARRIERS);
const _: () = assert!(CARRIERS + 2 * limits::ADDRESSES_PER_SETTING_MAX < PEERS);

/// Bytes that one read takes from an association.
const READ_BYTES: usize = 16 * 1024;

/// All associations and what they come in by.
pub(super) struct Server {
    listeners: Vec<Listener>,
    carriers: Vec<Carrier>,
    /// By age: keys only grow.
    peers: BTreeMap<PeerKey, Peer>,
    /// Whose an association over UDP is.
    keys: HashMap<(usize, AssociationId), PeerKey>,
    /// Associations that wait for their turn.
    ready: VecDeque<PeerKey>,
    next_key: u64,
    /// Of the last event that channels were asked to deliver.
    sequence_told: u64,
    /// Ticks of refusals count from here.
    epoch: Instant,
    counters: Arc<Counters>,
    buffer: Vec<u8>,
}

// ---- for the control loop -------------------------------------------------------------------------------

impl Server {
    /// Listens where the settings say.
    pub(super) fn listen(
        resolved: &Resolved,
        registry: &Registry,
        counters: Arc<Counters>,
        now: Instant,
    ) -> Result<Self, AdminListenError> {
        let (mut listeners, mut carriers) = places::listen(resolved, now)?;
        for (place, listener) in listeners.iter_mut().enumerate() {
            listener.register(registry, Token(LISTENERS + place)).map_err(AdminListenError::Poll)?;
        }
        for (place, carrier) in carriers.iter_mut().enumerate() {
            carrier.register(registry, Token(CARRIERS + place)).map_err(AdminListenError::Poll)?;
        }
        Ok(Self {
            listeners,
            carriers,
            peers: BTreeMap::new(),
            keys: HashMap::new(),
            ready: VecDeque::new(),
            next_key: 0,
            sequence_told: 0,
            epoch: now,
            counters,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Where it is reached.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let kernel = self.listeners.iter().flat_map(|listener| listener.addresses.iter().copied());
        let sctp = |carrier: &Carrier| SocketAddr::new(carrier.address.ip(), carrier.sctp_port);
        kernel.chain(self.carriers.iter().map(sctp)).collect()
    }

    /// Where it is reached, for people: `127.0.0.1:8080 (sctp), 127.0.0.1:8080 (udp 9899)`.
    pub(super) fn places(&self) -> String {
        let kernel = self.listeners.iter().flat_map(|listener| &listener.addresses);
        let kernel = kernel.map(|address| format!("{address} (sctp)"));
        let udp = self.carriers.iter().map(|carrier| {
            let address = SocketAddr::new(carrier.address.ip(), carrier.sctp_port);
            format!("{address} (udp {})", carrier.address.port())
        });
        kernel.chain(udp).collect::<Vec<_>>().join(", ")
    }

    /// Descriptors that associations may take: those over UDP share their socket's.
    pub(super) fn descriptors_max(&self) -> u64 {
        if self.listeners.is_empty() { 0 } else { limits::ADMIN_ASSOCIATIONS_MAX as u64 }
    }

    /// When [`Server::turn`] is wanted although nothing happens.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        if !self.ready.is_empty() || self.carriers.iter().any(Carrier::has_more) {
            return Some(now);
        }
        let peers = self.peers.values().filter_map(Peer::deadline);
        let carriers = self.carriers.iter().filter_map(|carrier| carrier.endpoint.deadline());
        let retries = self.listeners.iter().filter_map(|listener| listener.retry_at);
        peers.chain(carriers).chain(retries).min()
    }

    /// Notes what an event says, if it is one of ours.
    pub(super) fn note_event(&mut self, event: &Event) {
        match event.token().0 {
            token @ LISTENERS..CARRIERS => {
                if let Some(listener) = self.listeners.get_mut(token - LISTENERS) {
                    listener.note_event();
                }
            }
            token @ CARRIERS..PEERS => {
                if let Some(carrier) = self.carriers.get_mut(token - CARRIERS) {
                    carrier.note_event(event);
                }
            }
            token if token >= PEERS => {
                let key = PeerKey((token - PEERS) as u64);
                if let Some(Peer { link: Link::Kernel(association), .. }) = self.peers.get_mut(&key) {
                    association.note_event(event);
                    self.enqueue(key);
                }
            }
            _ => {}
        }
    }

    /// Does what there is to do.
    pub(super) fn turn(&mut self, core: &mut Core, registry: &Registry, now: Instant) {
        let highest = super::metrics::sessions_highest(core);
        self.counters.set(Gauge::SessionsHighest, highest);
        self.accept(registry, now);
        for place in 0..self.carriers.len() {
            if let Some(carrier) = self.carriers.get_mut(place) {
                carrier.receive(now);
            }
            self.take_events(place, now);
        }
        self.expire(now);
        let turn_end = now + limits::TURN_BUDGET;
        let mut keys = std::mem::take(&mut self.ready);
        for key in &keys {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.queued = false;
            }
            self.serve(*key, core, now, turn_end);
            self.count_refused(*key);
        }
        core.publish_changes();
        self.tell_administrators(core, now);
        for key in &keys {
            if let Some(peer) = self.peers.get_mut(key) {
                // What became of it shows when the rest is sent.
                let _: Result<(), Flushed> = peer.flush_replies(&mut self.carriers, now);
            }
        }
        self.transmit(now);
        if self.sequence_told != core.events.sequence() {
            self.sequence_told = core.events.sequence();
            let follows = |peer: &Peer| peer.session.as_v2().is_some_and(|v2| v2.channels.count() > 0);
            let followers = self.peers.iter().filter(|(key, peer)| follows(peer) && !keys.contains(key));
            let followers: Vec<_> = followers.map(|(key, _)| *key).collect();
            keys.extend(followers);
        }
        self.flush_all(keys, core, now);
        self.transmit(now);
        self.counters.set(Gauge::AdminAssociationsCurrent, self.peers.len() as u64);
    }
}

// ---- sending --------------------------------------------------------------------------------------------

impl Server {
    /// Sends what waits for these, the rest of their replies and what their channels deliver, as long as a turn may
    /// last; those for whom that is too short come first in the next.
    fn flush_all(&mut self, mut keys: VecDeque<PeerKey>, core: &mut Core, now: Instant) {
        let end = Instant::now() + limits::ADMIN_CHANNELS_BUDGET;
        while let Some(key) = keys.pop_front() {
            self.flush(key, core, now);
            if Instant::now() >= end {
                break;
            }
        }
        while let Some(key) = keys.pop_back() {
            if let Some(peer) = self.peers.get_mut(&key)
                && !peer.queued
            {
                peer.queued = true;
                self.ready.push_front(key);
            }
        }
    }

    /// Hands the datagrams that were made to the kernel.
    fn transmit(&mut self, now: Instant) {
        for place in 0..self.carriers.len() {
            self.take_events(place, now); // Of associations that are read again.
            if let Some(carrier) = self.carriers.get_mut(place) {
                carrier.transmit();
                self.counters.add(Counter::AdminDatagramsDropped, carrier.take_dropped());
            }
        }
    }
}

// ---- a turn of one association --------------------------------------------------------------------------

impl Server {
    /// Puts an association in the queue, once.
    pub(super) fn enqueue(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key)
            && !peer.queued
        {
            peer.queued = true;
            self.ready.push_back(key);
        }
    }

    /// Carries out what an association asks for: no more than its share, so that the others have theirs.
    fn serve(&mut self, key: PeerKey, core: &mut Core, now: Instant, turn_end: Instant) {
        let mut requests_left = limits::ADMIN_REQUESTS_PER_TURN;
        loop {
            let Some(peer) = self.peers.get_mut(&key) else { return };
            match peer.life {
                Life::Open => {}
                Life::Parting => return,
                Life::Closed(_) => return self.discard(key),
            }
            if peer.is_full() {
                peer.full = true; // Sending what waits brings it back.
                return;
            }
            if requests_left == 0 {
                return self.enqueue(key);
            }
            match peer.session.next_output(core.events.sequence(), now) {
                Some(Output::Send(message)) => peer.queue(message, now),
                Some(Output::Check(login)) => self.check(key, &login, core, now),
                Some(Output::Challenge(user)) => self.challenge(key, &user, core, now),
                Some(Output::Prove { user, auth_message, proof }) => {
                    self.prove(key, &user, &auth_message, proof, core, now);
                }
                Some(Output::Ask(_) | Output::Request(..)) if is_former(key, peer, core) => {
                    return self.part_with_former(key, core, now);
                }
                Some(Output::Ask(request)) => {
                    self.ask(key, request, core, now);
                    requests_left = left(requests_left, turn_end);
                }
                Some(Output::Request(header, request)) => {
                    self.request(key, header, *request, core, now);
                    requests_left = left(requests_left, turn_end);
                }
                Some(Output::Close(ending)) => return self.part(key, ending),
                // Who changed the own password is told so first, and stays.
                None if is_former(key, peer, core) && peer.session.waiting_count() == 0 => {
                    return self.part_with_former(key, core, now);
                }
                // What is read costs a request, too: not everything that is read is one.
                None => match self.read(key, now) {
                    Received::Piece(_) | Received::Message(_) => {
                        requests_left = left(requests_left, turn_end);
                    }
                    Received::Nothing => return,
                    Received::End => return self.forget(key),
                },
            }
        }
    }

    /// Reads more of an association that understands all it has.
    fn read(&mut self, key: PeerKey, now: Instant) -> Received {
        let Some(peer) = self.peers.get_mut(&key) else { return Received::Nothing };
        let Link::Kernel(association) = &mut peer.link else { return Received::Nothing };
        if peer.session.backlog_bytes() >= limits::ADMIN_BACKLOG_BYTES {
            return Received::Nothing; // It waits for an answer, which brings it back.
        }
        let received = association.receive(&mut self.buffer);
        let bytes = |count: usize| self.buffer.get(..count).unwrap_or_default();
        match received {
            Received::Piece(count) => peer.session.handle(Input::Piece(bytes(count)), now),
            Received::Message(count) => peer.session.handle(Input::Message(bytes(count)), now),
            Received::Nothing | Received::End => {}
        }
        received
    }

    /// Sends what waits, takes the next step of a close, and goes on reading where there is room again.
    fn flush(&mut self, key: PeerKey, core: &mut Core, now: Instant) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        match (peer.flush(&mut self.carriers, core, now), peer.life) {
            (Flushed::Gone, _) => return self.forget(key),
            (Flushed::All, Life::Parting) => return self.close(key, now),
            (Flushed::More, _) => self.enqueue(key),
            (Flushed::All | Flushed::Blocked, _) => {}
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.paused
            && peer.has_room()
            && let Link::Udp(place, id) = peer.link
            && let Some(carrier) = self.carriers.get_mut(place)
        {
            peer.paused = false;
            carrier.endpoint.resume(id);
        }
        if peer.full && !peer.is_full() {
            peer.full = false;
            self.enqueue(key);
        }
    }
}

/// Requests that an association may still make in this turn.
fn left(requests: usize, turn_end: Instant) -> usize {
    if Instant::now() >= turn_end { 0 } else { requests.saturating_sub(1) }
}
