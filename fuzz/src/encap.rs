//! SCTP over UDP: a client and a server whose datagrams a script delivers, loses, repeats, changes and invents,
//! with checksums and verification tags that fit, so that what is changed is also looked at.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crc::{CRC_32_ISCSI, Crc};
use pipo_encap::{AssociationId, Endpoint, Event, Limits};

use crate::Judged;
use crate::script::Script;

/// SCTP port of the server.
const PORT: u16 = 8080;

/// Memory that two endpoints with a few associations may take: their windows and queues, twice each.
const MEMORY_MAX: u64 = 8 << 20;

/// Deadlines until a peer that is left alone has given everything up.
const EXPIRIES_MAX: usize = 2_000;

/// Rounds in which two peers that lose nothing have said what they have to say.
const ROUNDS_MAX: usize = 16;

/// Associations that a script may begin: enough for collisions, few enough to stay fast.
const CONNECTS_MAX: usize = 4;

/// Ports, verification tag, checksum.
const HEADER_BYTES: usize = 12;

/// Two endpoints: whatever passes between them, events keep their order, memory stays within its bound, a
/// deadline that was served lies ahead, and associations whose peer is gone end.
pub fn association(octets: &[u8]) -> Judged {
    let mut judged = Judged::Refused;
    let cost = allocation_counter::measure(|| judged = play(octets));
    assert!(cost.bytes_max <= MEMORY_MAX, "{} octets of memory", cost.bytes_max);
    judged
}

fn play(octets: &[u8]) -> Judged {
    let mut script = Script::new(octets);
    let mut pair = Pair::new();
    pair.connect();
    if script.octet() & 1 == 0 {
        pair.settle();
    }
    while !script.is_over() {
        pair.happen(&mut script);
        pair.sides.iter_mut().for_each(Side::take_outputs);
    }
    pair.part();
    Judged::from(pair.sides.iter().any(|side| side.messages_count > 0))
}

/// One endpoint, and what waits to be delivered to it.
struct Side {
    endpoint: Endpoint,
    address: SocketAddr,
    /// Datagrams that it has sent.
    sent: VecDeque<Vec<u8>>,
    /// The header of the last of them: ports and tag that its peer expects.
    header: Vec<u8>,
    /// Whether an association of this id is over.
    known: BTreeMap<AssociationId, bool>,
    messages_count: usize,
    message_bytes_max: usize,
}

struct Pair {
    now: Instant,
    /// Client and server.
    sides: [Side; 2],
    connects_count: usize,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let limits = Limits::default();
        let message_bytes_max = limits.message_bytes_max;
        let client = Endpoint::client(limits.clone(), [1; 32], now);
        let server = Endpoint::server(PORT, limits, [2; 32], now);
        let (Ok(client), Ok(server)) = (client, server) else { panic!("default limits are refused") };
        let side = |endpoint, address: [u8; 4]| Side {
            endpoint,
            address: (address, 9899).into(),
            sent: VecDeque::new(),
            header: Vec::new(),
            known: BTreeMap::new(),
            messages_count: 0,
            message_bytes_max,
        };
        Self { now, sides: [side(client, [192, 0, 2, 1]), side(server, [192, 0, 2, 2])], connects_count: 0 }
    }

    fn happen(&mut self, script: &mut Script<'_>) {
        let control = script.octet();
        let from = usize::from(control >> 7);
        match control % 16 {
            0..=2 => {
                if let Some(datagram) = self.sides[from].sent.pop_front() {
                    self.deliver(from, &datagram);
                }
            }
            3 => drop(self.sides[from].sent.pop_front()),
            4 => {
                let again = self.sides[from].sent.front().cloned();
                self.sides[from].sent.extend(again);
            }
            5 | 6 => self.change(from, script),
            7 | 8 => self.invent(from, script),
            9 | 10 => self.send(from, script),
            11 => self.each(from, |endpoint, id, now| endpoint.close(id, now)),
            12 if control & 16 != 0 => self.each(from, |endpoint, id, now| endpoint.abort(id, now)),
            12 => self.connect(),
            13 if control & 16 != 0 => self.each(from, |endpoint, id, _| endpoint.pause(id)),
            13 => self.each(from, |endpoint, id, _| endpoint.resume(id)),
            14 => self.wait(Duration::from_millis(u64::from(script.number()))),
            _ => self.settle(),
        }
    }

    fn connect(&mut self) {
        self.connects_count += 1;
        if self.connects_count <= CONNECTS_MAX {
            let server = self.sides[1].address;
            let connected = self.sides[0].endpoint.connect(server, PORT, self.now);
            assert!(connected.is_ok(), "{connected:?}");
        }
        self.sides[0].take_outputs();
    }

    fn each(&mut self, side: usize, act: impl Fn(&mut Endpoint, AssociationId, Instant)) {
        let ids: Vec<AssociationId> = self.sides[side].known.keys().copied().collect();
        for id in ids {
            act(&mut self.sides[side].endpoint, id, self.now); // Ids that are over are ignored.
        }
    }

    fn send(&mut self, from: usize, script: &mut Script<'_>) {
        let stream = u16::from(script.octet());
        let repeated = usize::from(script.octet()) + 1;
        let message = script.piece().repeat(repeated);
        let now = self.now;
        self.each(from, |endpoint, id, _| {
            // Refused where the id is over, the stream too high or the queue full.
            let _ = endpoint.send(id, stream, &message, now);
        });
    }

    /// Delivers the oldest datagram of `from` with octets of it changed and its checksum made anew.
    fn change(&mut self, from: usize, script: &mut Script<'_>) {
        let Some(mut datagram) = self.sides[from].sent.pop_front() else { return };
        for _ in 0..=script.octet() % 4 {
            let at = usize::from(script.number()) % datagram.len().max(1);
            let octet = script.octet();
            if let Some(place) = datagram.get_mut(at) {
                *place = octet;
            }
        }
        seal(&mut datagram);
        self.deliver(from, &datagram);
    }

    /// Delivers a datagram with the header that `from` has sent last, and chunks of the script.
    fn invent(&mut self, from: usize, script: &mut Script<'_>) {
        let mut datagram = [&self.sides[from].header, script.piece()].concat();
        seal(&mut datagram);
        self.deliver(from, &datagram);
    }

    fn deliver(&mut self, from: usize, datagram: &[u8]) {
        let source = self.sides[from].address;
        let to = &mut self.sides[1 - from];
        to.endpoint.receive(source, datagram, self.now);
        to.take_outputs();
    }

    /// Everything that was sent arrives, for a while.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            for from in [0, 1] {
                while let Some(datagram) = self.sides[from].sent.pop_front() {
                    self.deliver(from, &datagram);
                }
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for side in &mut self.sides {
            side.endpoint.expire(self.now);
            side.take_outputs();
            let next = side.endpoint.deadline();
            assert!(next.is_none_or(|next| next > self.now), "an expired deadline is still due");
        }
    }

    /// Nothing arrives any more: both sides find out.
    fn part(&mut self) {
        for _ in 0..EXPIRIES_MAX {
            let next = self.sides.iter().filter_map(|side| side.endpoint.deadline()).min();
            let Some(next) = next else { break };
            self.wait(next.saturating_duration_since(self.now));
        }
        for side in &self.sides {
            assert_eq!(side.endpoint.associations_count(), 0, "{:?}", side.endpoint);
            assert!(side.known.values().all(|over| *over), "an association ended in silence");
        }
    }
}

impl Side {
    fn take_outputs(&mut self) {
        while let Some((_, datagram)) = self.endpoint.next_datagram() {
            self.header = datagram.get(..HEADER_BYTES).unwrap_or_default().to_vec();
            self.sent.push_back(datagram);
        }
        while let Some(event) = self.endpoint.next_event() {
            self.note(&event);
        }
        // A script may repeat datagrams without end.
        self.sent.truncate(1_000);
    }

    /// Opened first, Closed last, nothing after it.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Opened { association, .. } => {
                assert!(self.known.insert(*association, false).is_none(), "{event:?} twice");
            }
            Event::Message { association, bytes, .. } => {
                assert_eq!(self.known.get(association), Some(&false), "{event:?}");
                assert!(bytes.len() <= self.message_bytes_max, "{event:?}");
                self.messages_count += 1;
            }
            Event::Writable { association } => {
                assert_eq!(self.known.get(association), Some(&false), "{event:?}");
            }
            Event::Closed { association, .. } => {
                assert_ne!(self.known.insert(*association, true), Some(true), "{event:?} twice");
            }
        }
    }
}

/// Gives a packet the checksum that it should have (RFC 9260 §6.8).
fn seal(packet: &mut [u8]) {
    let Some(field) = packet.get_mut(8..HEADER_BYTES) else { return };
    field.fill(0);
    let sum = Crc::<u32>::new(&CRC_32_ISCSI).checksum(packet);
    if let Some(field) = packet.get_mut(8..HEADER_BYTES) {
        field.copy_from_slice(&sum.to_le_bytes());
    }
}
