//! The admin channel's shell: associations of both transports, in the control loop's own poll. It owns sockets,
//! readiness and queues and decides nothing about the protocol, which is `session.rs`.
//!
//! A turn: take in what has arrived, give each association that has something to do its turn, tell the workers
//! what was changed, and only then send the replies, so that a reply means that the change holds.

mod places;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::{Registry, Token};
use pipo_encap::{AssociationId, Event as EncapEvent};
use pipo_protocol::v1::{Login, Request};

pub use places::AdminListenError;

use super::core::Core;
use super::dispatch;
use super::kernel::{Association, Listener};
use super::notes::{Note, PeerKey};
use super::peer::{Life, Link, Peer, Received, Sent};
use super::session::{Ending, Input, Output, Session};
use super::udp::Carrier;
use super::users::Change;
use crate::ids::source_of;
use crate::limits;
use crate::metrics::{Counter, Counters, Gauge};
use crate::settings::Resolved;
use crate::store::{Check, Door, RefusedBecause, Verdict};
use crate::sys::sctp::Sctp;

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
            epoch: now,
            counters,
            buffer: vec![0; READ_BYTES],
        })
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
        self.accept(registry, now);
        for place in 0..self.carriers.len() {
            if let Some(carrier) = self.carriers.get_mut(place) {
                carrier.receive(now);
            }
            self.take_events(place, now);
        }
        self.expire(now);
        let turn_end = now + limits::TURN_BUDGET;
        let keys: Vec<_> = self.ready.drain(..).collect();
        for key in &keys {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.queued = false;
            }
            self.serve(*key, core, now, turn_end);
        }
        core.publish_changes();
        for key in keys {
            self.flush(key, now);
        }
        for place in 0..self.carriers.len() {
            self.take_events(place, now); // Of associations that are read again.
            if let Some(carrier) = self.carriers.get_mut(place) {
                carrier.transmit();
                self.counters.add(Counter::AdminDatagramsDropped, carrier.take_dropped());
            }
        }
        self.counters.set(Gauge::AdminAssociationsCurrent, self.peers.len() as u64);
    }

    /// Takes a verdict on a log-in.
    pub(super) fn verdict(&mut self, key: PeerKey, verdict: Verdict, now: Instant) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let source = peer.source;
        let (user, because) = match verdict {
            Verdict::Accepted(user) => (Some(user), None),
            Verdict::Refused(because) => (None, Some(because)),
        };
        peer.session.handle(Input::Verdict(user), now);
        match (peer.session.user(), because) {
            (Some(user), _) => {
                self.counters.count(Counter::AdminLoginAccepted);
                log::info!("admin log-in: source={source} user={}", user.name());
            }
            (None, Some(RefusedBecause::Throttled | RefusedBecause::QueueFull)) => {
                self.counters.count(Counter::AdminLoginThrottled);
                log::debug!("admin log-in refused unchecked: source={source}");
            }
            // The password, or the role of who showed the right one.
            (None, Some(RefusedBecause::Credentials) | None) => {
                log::warn!("admin log-in refused: source={source}");
            }
        }
        self.enqueue(key);
    }

    /// Answers a change of users that was asked for, and closes the associations of users who are not who
    /// they were.
    pub(super) fn user_changed(&mut self, key: PeerKey, change: &Change, core: &Core, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.session.handle(Input::Reply(dispatch::changed(change)), now);
            self.enqueue(key);
        }
        self.close_former_users(core);
    }

    /// Gives those a turn who are not any more who logged in: their turn closes them.
    pub(super) fn close_former_users(&mut self, core: &Core) {
        let former = self.peers.iter().filter(|(_, peer)| is_former(peer, core)).map(|(key, _)| *key);
        let former: Vec<_> = former.collect();
        former.into_iter().for_each(|key| self.enqueue(key));
    }

    /// Ends every association: the daemon ends.
    pub(super) fn abort_all(&mut self, now: Instant) {
        let keys: Vec<_> = self.peers.keys().copied().collect();
        keys.into_iter().for_each(|key| self.abort(key, now));
        self.carriers.iter_mut().for_each(Carrier::transmit);
    }
}

/// Whether who logged in could not do so any more.
fn is_former(peer: &Peer, core: &Core) -> bool {
    let Some(user) = peer.session.user() else { return false };
    let present = core.store.directory().present(user);
    !user.is_current(Door::Admin) || !present.is_some_and(|now| peer.session.admits(now.role()))
}

// ---- coming ---------------------------------------------------------------------------------------------

impl Server {
    fn accept(&mut self, registry: &Registry, now: Instant) {
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
            Ok(association) => self.admit(source, Link::Kernel(association), now),
            Err(error) => {
                self.counters.count(Counter::AdminAcceptFailed);
                log::warn!("an admin association could not be watched: source={source} error=\"{error}\"");
            }
        }
    }

    /// Makes an association one of ours, if there is a place for it.
    fn admit(&mut self, source: SocketAddr, link: Link, now: Instant) {
        self.counters.count(Counter::AdminAssociations);
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        if let Link::Udp(place, id) = link {
            self.keys.insert((place, id), key);
        }
        self.peers.insert(key, Peer::new(source, link, Session::new(self.epoch, now), now));
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
    fn take_events(&mut self, place: usize, now: Instant) {
        while let Some(event) = self.carriers.get_mut(place).and_then(|carrier| carrier.endpoint.next_event())
        {
            match event {
                EncapEvent::Opened { association, remote, .. } => {
                    self.admit(remote, Link::Udp(place, association), now);
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
        peer.session.handle(Input::Bytes(bytes), now);
        if !peer.has_room()
            && let Some(carrier) = self.carriers.get_mut(place)
        {
            peer.paused = true;
            carrier.endpoint.pause(association);
        }
        self.enqueue(key);
    }
}

// ---- a turn of one association --------------------------------------------------------------------------

impl Server {
    /// Puts an association in the queue, once.
    fn enqueue(&mut self, key: PeerKey) {
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
            match peer.session.next_output(now) {
                Some(Output::Send(message)) => peer.queue(message, now),
                Some(Output::Check(login)) => self.check(key, &login, core, now),
                Some(Output::Ask(_)) if is_former(peer, core) => return self.part_with_former(key),
                Some(Output::Ask(request)) => {
                    requests_left -= 1;
                    self.ask(key, request, core, now);
                    if Instant::now() >= turn_end {
                        requests_left = 0;
                    }
                }
                Some(Output::Close(ending)) => return self.part(key, ending),
                None if is_former(peer, core) => return self.part_with_former(key),
                None => match self.read(key, now) {
                    Received::Bytes(_) => {}
                    Received::Nothing => return,
                    Received::End => return self.forget(key),
                },
            }
        }
    }

    fn check(&mut self, key: PeerKey, login: &Login, core: &Core, now: Instant) {
        let Some(source) = self.peers.get(&key).map(|peer| peer.source) else { return };
        let (name, password) = (login.name.as_bytes(), login.password.as_bytes());
        let notes = core.notes.clone();
        let reply = move |verdict| notes.leave(Note::Verdict(key, verdict));
        match core.store.check_at(Door::Admin, source.ip(), name, password, now, reply) {
            Check::Accepted(user) => self.verdict(key, Verdict::Accepted(user), now),
            Check::Refused(because) => self.verdict(key, Verdict::Refused(because), now),
            Check::Pending => {}
        }
    }

    fn ask(&mut self, key: PeerKey, request: Request, core: &mut Core, now: Instant) {
        self.counters.count(Counter::AdminRequests);
        match &request {
            Request::Query(_) | Request::Modification(_) => {}
            Request::Invalid(_) => self.counters.count(Counter::AdminInvalidRequests),
            Request::UnknownCommand(_) | Request::UnknownType(_) => {
                self.counters.count(Counter::AdminUnknownRequests);
            }
        }
        let reply = dispatch::dispatch(request, key, core);
        if let (Some(reply), Some(peer)) = (reply, self.peers.get_mut(&key)) {
            peer.session.handle(Input::Reply(reply), now);
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
        if let Received::Bytes(count) = received {
            let bytes = self.buffer.get(..count).unwrap_or_default();
            peer.session.handle(Input::Bytes(bytes), now);
        }
        received
    }

    /// Sends what waits, takes the next step of a close, and goes on reading where there is room again.
    fn flush(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        match (peer.flush(&mut self.carriers, now), peer.life) {
            (Sent::Gone, _) => return self.forget(key),
            (Sent::Done, Life::Parting) => return self.close(key, now),
            (Sent::Done | Sent::Blocked, _) => {}
        }
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

// ---- going ----------------------------------------------------------------------------------------------

impl Server {
    /// The session has ended by itself.
    fn part(&mut self, key: PeerKey, ending: Ending) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let source = peer.source;
        match ending {
            Ending::Version(version) => {
                self.counters.count(Counter::AdminVersionUnsupported);
                log::debug!("admin association of an unknown version: source={source} version={version}");
            }
            Ending::LoginRefused => self.counters.count(Counter::AdminLoginRefused),
            Ending::LoginTimeout => {
                self.counters.count(Counter::AdminLoginTimeout);
                log::debug!("admin log-in took too long: source={source}");
            }
        }
        peer.life = Life::Parting;
    }

    fn part_with_former(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            self.counters.count(Counter::AdminUserGone);
            log::info!("admin association closed: source={} because=\"its user was changed\"", peer.source);
            peer.life = Life::Parting;
        }
    }

    /// Closes in order. What the peer still sends is read and dropped: left unread it would make the kernel
    /// abort, and the last reply be lost.
    fn close(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        match &peer.link {
            Link::Kernel(association) => {
                if association.shutdown() {
                    peer.life = Life::Closed(now + limits::CLOSING_LINGER);
                    self.enqueue(key);
                } else {
                    self.forget(key);
                }
            }
            Link::Udp(place, id) => {
                if let Some(carrier) = self.carriers.get_mut(*place) {
                    carrier.endpoint.resume(*id);
                    carrier.endpoint.close(*id, now);
                }
                self.forget(key);
            }
        }
    }

    /// Reads what comes after the close, until the end.
    fn discard(&mut self, key: PeerKey) {
        let Some(Peer { link: Link::Kernel(association), .. }) = self.peers.get_mut(&key) else { return };
        for _ in 0..limits::HANDSHAKE_READS_PER_TURN {
            match association.receive(&mut self.buffer) {
                Received::Bytes(_) => {}
                Received::Nothing => return,
                Received::End => return self.forget(key),
            }
        }
        self.enqueue(key);
    }

    /// Gives turns to associations whose moment has come, and ends those whose time is up.
    fn expire(&mut self, now: Instant) {
        let due = |peer: &Peer| peer.deadline().is_some_and(|at| now >= at);
        let due: Vec<_> = self.peers.iter().filter(|(_, peer)| due(peer)).map(|(key, _)| *key).collect();
        for key in due {
            let Some(peer) = self.peers.get(&key) else { continue };
            let stalled = peer.stalls_at().is_some_and(|at| now >= at);
            match peer.life {
                Life::Open | Life::Parting if stalled => {
                    self.counters.count(Counter::AdminStalled);
                    log::warn!("admin association aborted: source={} because=\"no progress\"", peer.source);
                    self.abort(key, now);
                }
                Life::Open | Life::Parting => self.enqueue(key),
                Life::Closed(_) => self.abort(key, now),
            }
        }
    }

    /// Ends an association at once.
    fn abort(&mut self, key: PeerKey, now: Instant) {
        if let Some(peer) = self.forget_and_take(key) {
            match peer.link {
                Link::Kernel(association) => association.abort(),
                Link::Udp(place, id) => {
                    if let Some(carrier) = self.carriers.get_mut(place) {
                        carrier.endpoint.abort(id, now);
                    }
                }
            }
        }
    }

    fn forget(&mut self, key: PeerKey) {
        drop(self.forget_and_take(key));
    }

    fn forget_and_take(&mut self, key: PeerKey) -> Option<Peer> {
        let peer = self.peers.remove(&key)?;
        if let Link::Udp(place, id) = peer.link {
            self.keys.remove(&(place, id));
        }
        Some(peer)
    }
}
