//! All associations of one UDP socket: who a datagram is for, and what becomes of those that are for nobody.
//!
//! This file is what the shell calls, and the books of associations; `route` follows a datagram to the one it is
//! for, and makes new ones. Everything is pure: datagrams and the time come in, datagrams, events and the next
//! deadline come out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::arrivals::window_of;
use crate::chunks::Init;
use crate::cookie::Place;
use crate::counters::Counters;
use crate::entropy::Entropy;
use crate::event::{AssociationId, CloseReason, ConnectError, Event, SendError};
use crate::limits::{Limits, LimitsError};
use crate::open::Open;
use crate::opening::Opening;
use crate::outbox::{Context, Outbox};
use crate::replies::{Exhausted, Replies};
use crate::wire::{Malformed, Packet};

/// Ended associations whose cookies are remembered while they are good, so that a copy of an old COOKIE ECHO
/// does not bring one back to life. At 24 bytes each, 96 KiB; the oldest make room.
const SPENT_MAX: usize = 4096;

/// First port of the range clients take theirs from (RFC 6335 §6).
const EPHEMERAL_PORT_MIN: u16 = 49_152;

/// Both sides of SCTP over UDP, for any number of associations up to [`Limits::associations_max`].
pub struct Endpoint {
    role: Role,
    limits: Limits,
    entropy: Entropy,
    replies: Replies,
    /// When the endpoint was made: cookies count from here.
    epoch: Instant,
    /// The latest time we were told.
    now: Instant,
    associations: BTreeMap<AssociationId, Association>,
    /// By our verification tag.
    tags: BTreeMap<u32, AssociationId>,
    /// By where the peer is.
    places: BTreeMap<Place, AssociationId>,
    /// How many each source has ([`Place::source`]).
    sources: BTreeMap<IpAddr, usize>,
    /// Tags of ended associations of a server, and until when their cookies would be good.
    spent: VecDeque<(Instant, u32)>,
    /// Associations with messages that are in no datagram yet.
    unsent: BTreeSet<AssociationId>,
    /// Associations that may have messages.
    readable: BTreeSet<AssociationId>,
    /// The one read last: the next has its turn.
    turn: AssociationId,
    events: VecDeque<Event>,
    outbox: Outbox,
    counters: Counters,
    next_id: u64,
}

/// What an endpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Takes associations on an SCTP port, unless it is draining.
    Server { port: u16, accepting: Accepting },
    /// Only makes associations.
    Client,
}

/// Whether a server takes new associations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepting {
    /// It does.
    Yes,
    /// Handshakes are answered with ABORT; associations that are open stay.
    No,
}

/// One association, in the order of its life.
enum Association {
    Opening(Opening),
    Open(Box<Open>),
}

impl Association {
    fn place(&self) -> Place {
        match self {
            Self::Opening(opening) => opening.place,
            Self::Open(open) => open.place,
        }
    }

    fn local_tag(&self) -> u32 {
        match self {
            Self::Opening(opening) => opening.local.tag,
            Self::Open(open) => open.local_tag,
        }
    }

    fn peer_tag(&self) -> Option<u32> {
        match self {
            Self::Opening(opening) => opening.peer_tag(),
            Self::Open(open) => Some(open.peer_tag),
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Endpoint")
            .field("role", &self.role)
            .field("associations", &self.associations.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

// ---- for the shell --------------------------------------------------------------------------------------

impl Endpoint {
    /// A server on an SCTP `port`. `seed` must be unpredictable: tags and cookies come from it.
    pub fn server(port: u16, limits: Limits, seed: [u8; 32], now: Instant) -> Result<Self, LimitsError> {
        Self::new(Role::Server { port, accepting: Accepting::Yes }, limits, seed, now)
    }

    /// A client. `seed` must be unpredictable: tags come from it.
    pub fn client(limits: Limits, seed: [u8; 32], now: Instant) -> Result<Self, LimitsError> {
        Self::new(Role::Client, limits, seed, now)
    }

    fn new(role: Role, limits: Limits, seed: [u8; 32], now: Instant) -> Result<Self, LimitsError> {
        limits.check()?;
        let mut entropy = Entropy::new(seed);
        Ok(Self {
            role,
            limits,
            replies: Replies::new(entropy.draw(), now),
            entropy,
            epoch: now,
            now,
            associations: BTreeMap::new(),
            tags: BTreeMap::new(),
            places: BTreeMap::new(),
            sources: BTreeMap::new(),
            spent: VecDeque::new(),
            unsent: BTreeSet::new(),
            readable: BTreeSet::new(),
            turn: AssociationId(0),
            events: VecDeque::new(),
            outbox: Outbox::default(),
            counters: Counters::default(),
            next_id: 1,
        })
    }

    /// Starts a handshake with the SCTP `port` of the peer at `remote`. [`Event::Opened`] or
    /// [`Event::Closed`] tells how it went, within [`Limits::connect_max`].
    pub fn connect(
        &mut self,
        remote: SocketAddr,
        port: u16,
        now: Instant,
    ) -> Result<AssociationId, ConnectError> {
        self.advance(now);
        if self.role != Role::Client {
            return Err(ConnectError::Server);
        }
        if port == 0 || remote.port() == 0 {
            return Err(ConnectError::Port);
        }
        if self.associations.len() >= self.limits.associations_max {
            return Err(ConnectError::Full(self.limits.associations_max));
        }
        let place = self.free_place(remote, port);
        let local = Init {
            tag: self.free_tag(0),
            window: self.window(),
            outbound: self.limits.streams_max,
            inbound: self.limits.streams_max,
            tsn: self.entropy.draw_nonzero(),
        };
        let opening = Opening::start(place, local, &mut self.context());
        Ok(self.enter(Association::Opening(opening)))
    }

    /// Takes a datagram that came from `remote`.
    pub fn receive(&mut self, remote: SocketAddr, datagram: &[u8], now: Instant) {
        self.advance(now);
        self.counters.datagrams_received += 1;
        self.counters.bytes_received += datagram.len() as u64;
        if datagram.len() > self.limits.datagram_bytes_max {
            self.counters.dropped_long += 1;
            return;
        }
        match Packet::parse(datagram, self.limits.chunks_per_datagram_max) {
            Ok(packet) => self.route(remote, &packet),
            Err(malformed) => {
                *match malformed {
                    Malformed::Short => &mut self.counters.dropped_short,
                    Malformed::Checksum => &mut self.counters.dropped_checksum,
                    Malformed::Port => &mut self.counters.dropped_port,
                    Malformed::ChunkLength => &mut self.counters.dropped_chunk_length,
                    Malformed::ChunkCount => &mut self.counters.dropped_chunk_count,
                } += 1;
            }
        }
    }

    /// The system says that nothing listens at `remote` (an ICMP error on the UDP socket): handshakes with it
    /// have failed. Open associations are not touched, since anybody could have sent that.
    pub fn unreachable(&mut self, remote: SocketAddr, now: Instant) {
        self.advance(now);
        let failed: Vec<AssociationId> = self
            .associations
            .iter()
            .filter(|(_, association)| {
                matches!(association, Association::Opening(opening) if opening.place.remote == remote)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in failed {
            self.end(id, CloseReason::Refused);
        }
    }

    /// Queues a message, whole or not at all. Datagrams are made of it when [`Endpoint::next_datagram`] is asked for
    /// them, so that messages queued together travel together.
    pub fn send(
        &mut self,
        association: AssociationId,
        stream: u16,
        message: &[u8],
        now: Instant,
    ) -> Result<(), SendError> {
        self.advance(now);
        let Some((open, mut context)) = self.open(association)? else { return Err(SendError::NotOpen) };
        let sent = open.send(stream, message, &mut context);
        match sent {
            Ok(sent) => {
                self.unsent.insert(association);
                sent
            }
            Err(reason) => {
                self.end(association, reason);
                Err(SendError::NotOpen)
            }
        }
    }

    /// Closes in order: what is queued is sent, then the peers part. [`Event::Closed`] tells the end. A
    /// handshake under way is dropped. Unknown ids: nothing.
    pub fn close(&mut self, association: AssociationId, now: Instant) {
        self.advance(now);
        match self.open(association) {
            Err(_) => {}
            Ok(None) => self.end(association, CloseReason::Closed),
            Ok(Some((open, mut context))) => {
                let result = open.close(&mut context);
                self.settle(association, result);
            }
        }
    }

    /// Ends at once; what is queued is lost, the peer is told. Unknown ids: nothing.
    pub fn abort(&mut self, association: AssociationId, now: Instant) {
        self.advance(now);
        self.end(association, CloseReason::Aborted);
    }

    /// Stops giving out messages of one association: its window fills, then the peer has to wait.
    pub fn pause(&mut self, association: AssociationId) {
        if let Ok(Some((open, _))) = self.open(association) {
            open.pause();
        }
        self.readable.remove(&association);
    }

    /// Gives out messages again.
    pub fn resume(&mut self, association: AssociationId) {
        if let Ok(Some((open, _))) = self.open(association) {
            open.resume();
            self.readable.insert(association);
        }
    }

    /// Whether a server takes new associations. Of no effect on a client.
    pub fn set_accepting(&mut self, wanted: Accepting) {
        if let Role::Server { accepting, .. } = &mut self.role {
            *accepting = wanted;
        }
    }

    /// When [`Endpoint::expire`] is wanted. `None`: there is nothing to wait for.
    pub fn deadline(&self) -> Option<Instant> {
        self.associations.values().map(|association| self.deadline_of(association)).min()
    }

    fn deadline_of(&self, association: &Association) -> Instant {
        match association {
            Association::Opening(opening) => opening.deadline(),
            Association::Open(open) => open.deadline(&self.limits),
        }
    }

    /// Does what is due. Early calls do no harm.
    pub fn expire(&mut self, now: Instant) {
        self.advance(now);
        let due: Vec<AssociationId> = self
            .associations
            .iter()
            .filter(|(_, association)| self.deadline_of(association) <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Self { associations, limits, counters, outbox, .. } = self;
            let mut context = Context { limits, counters, outbox, now: self.now };
            let result = match associations.get_mut(&id) {
                Some(Association::Opening(opening)) => opening.expire(&mut context),
                Some(Association::Open(open)) => open.expire(&mut context),
                None => Ok(()),
            };
            self.settle(id, result);
        }
    }

    /// The next datagram to send, and where to.
    pub fn next_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        while let Some(id) = self.unsent.pop_first() {
            if let Ok(Some((open, mut context))) = self.open(id) {
                let result = open.flush(&mut context);
                self.settle(id, result);
            }
        }
        self.outbox.pop()
    }

    /// The next event. Messages stay in their windows until they are taken here; associations take turns.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let after = self.readable.range(AssociationId(self.turn.0 + 1)..).next();
            let id = *after.or_else(|| self.readable.first())?;
            self.turn = id;
            let Ok(Some((open, mut context))) = self.open(id) else {
                self.readable.remove(&id);
                continue;
            };
            if !open.is_readable() {
                self.readable.remove(&id);
                continue;
            }
            match open.read(&mut context) {
                Ok(Some(received)) => {
                    return Some(Event::Message {
                        association: id,
                        stream: received.stream,
                        bytes: received.bytes,
                    });
                }
                Ok(None) => {}
                Err(reason) => self.end(id, reason),
            }
        }
    }

    /// Bytes sent on an association and not yet acknowledged. `None`: no such association.
    pub fn queued_bytes(&self, association: AssociationId) -> Option<usize> {
        match self.associations.get(&association)? {
            Association::Opening(_) => Some(0),
            Association::Open(open) => Some(open.queued()),
        }
    }

    /// Where the peer is. `None`: no such association.
    pub fn remote(&self, association: AssociationId) -> Option<SocketAddr> {
        self.associations.get(&association).map(|association| association.place().remote)
    }

    /// Associations there are, opening ones included.
    pub fn associations_count(&self) -> usize {
        self.associations.len()
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

// ---- books ----------------------------------------------------------------------------------------------

impl Endpoint {
    /// Time never runs backwards here, whatever the shell says.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while self.spent.front().is_some_and(|(until, _)| *until <= self.now) {
            self.spent.pop_front();
        }
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    fn context(&mut self) -> Context<'_> {
        Context {
            limits: &self.limits,
            counters: &mut self.counters,
            outbox: &mut self.outbox,
            now: self.now,
        }
    }

    /// An association to work on, if it is open. `Err`: there is none.
    fn open(&mut self, id: AssociationId) -> Result<Option<(&mut Open, Context<'_>)>, SendError> {
        let Self { associations, limits, counters, outbox, now, .. } = self;
        match associations.get_mut(&id).ok_or(SendError::Unknown)? {
            Association::Opening(_) => Ok(None),
            Association::Open(open) => Ok(Some((open, Context { limits, counters, outbox, now: *now }))),
        }
    }

    /// The receive window that is offered.
    fn window(&self) -> u32 {
        window_of(self.limits.receive_bytes_max)
    }

    /// Takes one reply out of the budgets, or counts what took its place.
    fn may_reply(&mut self, source: IpAddr) -> bool {
        let Limits { replies_per_source_second_max: per_source, replies_per_second_max: total, .. } =
            self.limits;
        match self.replies.take(source, self.now, per_source, total) {
            Ok(()) => true,
            Err(Exhausted::Source) => {
                self.counters.dropped_rate_source += 1;
                false
            }
            Err(Exhausted::Total) => {
                self.counters.dropped_rate_total += 1;
                false
            }
        }
    }

    /// A tag that no association has, and not the peer's own.
    fn free_tag(&mut self, peer: u32) -> u32 {
        loop {
            let tag = self.entropy.draw_nonzero();
            if tag != peer && !self.tags.contains_key(&tag) {
                return tag;
            }
        }
    }

    /// A local SCTP port that is not in use towards that peer. There are more ports than associations allow
    /// only if the limits say so; then the last one drawn may be shared, which tags tell apart.
    fn free_place(&mut self, remote: SocketAddr, peer_port: u16) -> Place {
        let span = u64::from(u16::MAX - EPHEMERAL_PORT_MIN) + 1;
        let mut place = Place { remote, peer_port, local_port: EPHEMERAL_PORT_MIN };
        for _ in 0..64 {
            let offset = u16::try_from(self.entropy.draw() % span).unwrap_or(0);
            place.local_port = EPHEMERAL_PORT_MIN + offset;
            if !self.places.contains_key(&place) {
                break;
            }
        }
        place
    }

    /// Enters an association into all books.
    fn enter(&mut self, association: Association) -> AssociationId {
        let id = AssociationId(self.next_id);
        self.next_id += 1;
        let place = association.place();
        self.tags.insert(association.local_tag(), id);
        self.places.insert(place, id);
        *self.sources.entry(place.source()).or_insert(0) += 1;
        self.associations.insert(id, association);
        id
    }

    /// After a step of an association: its end, or what it has for the shell.
    fn settle(&mut self, id: AssociationId, result: Result<(), CloseReason>) {
        if let Err(reason) = result {
            self.end(id, reason);
            return;
        }
        let low_water = self.limits.low_water_bytes;
        let Ok(Some((open, _))) = self.open(id) else { return };
        let (writable, readable) = (open.take_writable(low_water), open.is_readable());
        if writable {
            self.events.push_back(Event::Writable { association: id });
        }
        if readable {
            self.readable.insert(id);
        }
    }

    /// Takes an association out of all books. What it received whole is still given out.
    fn end(&mut self, id: AssociationId, reason: CloseReason) {
        let Some(association) = self.associations.remove(&id) else { return };
        let (place, tag) = (association.place(), association.local_tag());
        self.tags.remove(&tag);
        if self.places.get(&place) == Some(&id) {
            self.places.remove(&place);
        }
        self.readable.remove(&id);
        self.unsent.remove(&id);
        if let Some(count) = self.sources.get_mut(&place.source()) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&place.source());
            }
        }
        if self.role != Role::Client {
            if self.spent.len() >= SPENT_MAX {
                self.spent.pop_front();
            }
            self.spent.push_back((self.now + self.limits.cookie_life + Duration::from_millis(1), tag));
        }
        match reason {
            CloseReason::Violation(_) => self.counters.violations += 1,
            CloseReason::Internal => self.counters.engine_panics += 1,
            CloseReason::Closed
            | CloseReason::PeerClosed
            | CloseReason::Aborted
            | CloseReason::PeerAborted(_)
            | CloseReason::PeerRestarted
            | CloseReason::Refused
            | CloseReason::ConnectTimeout
            | CloseReason::Unreachable
            | CloseReason::Stalled
            | CloseReason::CloseTimeout
            | CloseReason::ReceiveBudget => {}
        }
        if let Association::Open(mut open) = association {
            open.bid_farewell(reason, &mut self.context());
            self.deliver_rest(id, &mut open);
        }
        self.counters.associations_closed += 1;
        self.events.push_back(Event::Closed { association: id, reason });
    }

    /// Moves the whole messages of an ended association to the events, before its end.
    fn deliver_rest(&mut self, id: AssociationId, open: &mut Open) {
        open.resume();
        while open.is_readable() {
            let mut silent = Outbox::default();
            let mut context = Context {
                limits: &self.limits,
                counters: &mut self.counters,
                outbox: &mut silent,
                now: self.now,
            };
            let Ok(Some(received)) = open.read(&mut context) else { break };
            self.events.push_back(Event::Message {
                association: id,
                stream: received.stream,
                bytes: received.bytes,
            });
        }
    }
}

mod route;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers of tests")]
mod tests;
