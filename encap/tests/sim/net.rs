//! A network of endpoints under virtual time, with every fault a real one has, drawn from one seed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pipo_encap::{Endpoint, Event};

/// A small generator (SplitMix64): the same seed, the same run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True `permille` times of a thousand.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    pub(crate) fn seed(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

/// How bad the network is. Chances in permille of all datagrams.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    pub(crate) corruption: u64,
    pub(crate) truncation: u64,
    /// A datagram of random bytes sent along from the same address.
    pub(crate) noise: u64,
    /// One way, in milliseconds; datagrams whose delays differ overtake each other.
    pub(crate) delay_ms_min: u64,
    pub(crate) delay_ms_max: u64,
}

/// One socket and what runs on it.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) endpoint: Endpoint,
}

/// Datagrams under way between nodes.
pub(crate) struct Net {
    pub(crate) random: Random,
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) faults: Faults,
    /// Nothing arrives while it is cut.
    pub(crate) cut: bool,
    pub(crate) nodes: Vec<Node>,
    under_way: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sent: u64,
}

impl Net {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let now = Instant::now();
        Self {
            random: Random::new(seed),
            now,
            start: now,
            faults,
            cut: false,
            nodes: Vec::new(),
            under_way: BTreeMap::new(),
            sent: 0,
        }
    }

    /// Adds a node at 10.0.x.y and returns its number.
    pub(crate) fn add(&mut self, make: impl FnOnce([u8; 32], Instant) -> Endpoint) -> usize {
        let number = self.nodes.len();
        let address = SocketAddr::from(([10, 0, (number / 250) as u8, (number % 250) as u8 + 1], 9899));
        let endpoint = make(self.random.seed(), self.now);
        self.nodes.push(Node { address, endpoint });
        number
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Takes the events and datagrams of all nodes; the events come back with the number of their node.
    pub(crate) fn drain(&mut self) -> Vec<(usize, Event)> {
        let mut events = Vec::new();
        for number in 0..self.nodes.len() {
            while let Some(event) = self.nodes[number].endpoint.next_event() {
                events.push((number, event));
            }
            while let Some((to, datagram)) = self.nodes[number].endpoint.next_datagram() {
                let from = self.nodes[number].address;
                self.transmit(from, to, datagram);
            }
        }
        events
    }

    /// Puts a datagram under way, through all faults.
    pub(crate) fn transmit(&mut self, from: SocketAddr, to: SocketAddr, mut datagram: Vec<u8>) {
        let faults = self.faults;
        if self.cut || self.random.chance(faults.loss) {
            return;
        }
        if self.random.chance(faults.noise) {
            let noise = (0..self.random.below(100)).map(|_| self.random.next() as u8).collect();
            self.put(from, to, noise);
        }
        if self.random.chance(faults.duplication) {
            self.put(from, to, datagram.clone());
        }
        if self.random.chance(faults.corruption) && !datagram.is_empty() {
            let at = self.random.below(datagram.len() as u64) as usize;
            datagram[at] ^= 1 << self.random.below(8);
        }
        if self.random.chance(faults.truncation) {
            datagram.truncate(self.random.below(datagram.len() as u64 + 1) as usize);
        }
        self.put(from, to, datagram);
    }

    fn put(&mut self, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        let span = self.faults.delay_ms_max - self.faults.delay_ms_min + 1;
        let delay = Duration::from_millis(self.faults.delay_ms_min + self.random.below(span));
        self.sent += 1;
        self.under_way.insert((self.now + delay, self.sent), (from, to, datagram));
    }

    /// Goes to the next moment at which something happens, and lets it happen. `false`: nothing ever will, or
    /// not before `until`.
    pub(crate) fn step(&mut self, until: Instant) -> bool {
        let arrival = self.under_way.keys().next().map(|(at, _)| *at);
        let deadline = self.nodes.iter().filter_map(|node| node.endpoint.deadline()).min();
        let Some(next) = arrival.into_iter().chain(deadline).min().filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.under_way.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (from, to, datagram) = entry.remove();
            if let Some(node) = self.nodes.iter_mut().find(|node| node.address == to) {
                node.endpoint.receive(from, &datagram, self.now);
            }
        }
        for node in &mut self.nodes {
            if node.endpoint.deadline().is_some_and(|at| at <= self.now) {
                node.endpoint.expire(self.now);
                let rests = node.endpoint.deadline().is_none_or(|at| at > self.now);
                assert!(rests, "a deadline in the past after expire");
            }
        }
        true
    }
}
