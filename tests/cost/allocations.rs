//! A relay allocates nothing for the bytes that it moves, whichever way they travel and however slowly they
//! are taken: counted by an allocator that counts for each thread.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use allocation_counter::{AllocationInfo, measure};
use socks5d::proxy::dissect::Watch;
use socks5d::proxy::mover::Tools;
use socks5d::proxy::relay::{Progress, Relay};
use socks5d::settings::Dissector;

use crate::sockets::{Wire, connection, drain, fill, until};

/// Rounds before counting: pools fill, vectors reach their size.
const ROUNDS_BEFORE: usize = 20;

/// Rounds that are counted.
const ROUNDS: usize = 50;

#[test]
fn small_messages_cost_no_allocation() {
    let mut bench = Bench::new(256 * 1024, 4);
    let chunks = bench.rounds(Bench::ping_pong);
    assert_eq!((chunks.received, chunks.spliced), (2 * ROUNDS, 0), "each message is copied at once");
    assert_eq!(chunks.allocations, 0, "{chunks:?}");
}

#[test]
fn chunks_that_are_copied_cost_no_allocation() {
    let mut bench = Bench::new(64 * 1024, 0);
    let chunks = bench.rounds(Bench::download);
    assert!(chunks.received >= ROUNDS && chunks.spliced == 0, "{chunks:?}");
    assert_eq!(chunks.allocations, 0, "{chunks:?}");
}

#[test]
fn chunks_that_are_held_for_a_slow_reader_cost_no_allocation() {
    let mut bench = Bench::new(64 * 1024, 0);
    let chunks = bench.rounds(Bench::slow_download);
    assert!(chunks.held >= ROUNDS && chunks.spliced == 0, "{chunks:?}");
    assert_eq!(chunks.allocations, 0, "{chunks:?}");
}

#[test]
fn chunks_that_are_spliced_cost_no_allocation() {
    let mut bench = Bench::new(64 * 1024, 4);
    let chunks = bench.rounds(Bench::download);
    assert!(chunks.spliced >= ROUNDS, "{chunks:?}");
    assert_eq!(chunks.allocations, 0, "{chunks:?}");
}

#[test]
fn a_dissector_that_has_given_up_costs_no_allocation_and_no_copy() {
    let mut bench = Bench::new(64 * 1024, 4);
    bench.relay.begin_watch(Watch::new(Dissector::Full));
    let chunks = bench.rounds(Bench::download);
    assert!(chunks.spliced >= ROUNDS, "{chunks:?}");
    assert_eq!(chunks.allocations, 0, "{chunks:?}");
}

#[test]
fn chunks_that_are_held_in_a_pipe_cost_no_allocation() {
    let mut bench = Bench::new(64 * 1024, 4);
    let chunks = bench.rounds(Bench::slow_download);
    assert!(chunks.held >= ROUNDS && chunks.spliced >= ROUNDS, "{chunks:?}");
    assert_eq!(chunks.allocations, 0, "{chunks:?}");
}

/// What a number of rounds came to.
#[derive(Debug)]
struct Chunks {
    /// By copying, by splicing.
    received: usize,
    spliced: usize,
    /// Rounds at whose height the proxy held something.
    held: usize,
    allocations: u64,
}

/// A relay between two peers, turned by hand.
struct Bench {
    relay: Relay,
    tools: Tools,
    client: Wire,
    origin: Wire,
    client_peer: TcpStream,
    origin_peer: TcpStream,
    now: Instant,
    /// What the peers write from and read into.
    buffer: Vec<u8>,
    /// What all turns together have allocated.
    cost: AllocationInfo,
    held: usize,
    /// Octets that did not come from the origin.
    preloaded: u64,
}

impl Bench {
    fn new(buffer_size: usize, pipes_count_max: usize) -> Self {
        let ((client, client_peer), (origin, origin_peer)) = (connection(), connection());
        let now = Instant::now();
        Self {
            relay: Relay::new(now),
            tools: Tools::new(buffer_size, pipes_count_max),
            client,
            origin,
            client_peer,
            origin_peer,
            now,
            buffer: vec![7; 64 * 1024],
            cost: AllocationInfo::default(),
            held: 0,
            preloaded: 0,
        }
    }

    /// Some rounds that do not count, then some that do.
    fn rounds(&mut self, mut round: impl FnMut(&mut Self)) -> Chunks {
        self.hold_a_full_buffer();
        (0..ROUNDS_BEFORE).for_each(|_| round(self));
        let before = self.chunks();
        (0..ROUNDS).for_each(|_| round(self));
        let after = self.chunks();
        Chunks {
            received: after.received - before.received,
            spliced: after.spliced - before.spliced,
            held: after.held - before.held,
            allocations: after.allocations - before.allocations,
        }
    }

    /// What holds bytes grows to the most that it had to hold so far: let that be all there can be.
    fn hold_a_full_buffer(&mut self) {
        let mut left = self.tools.scratch().len();
        self.preloaded += left as u64;
        self.relay.preload(Vec::new(), vec![0; left], &mut self.tools);
        until("a full buffer", || {
            self.turn();
            left -= drain(&self.client_peer, &mut self.buffer);
            left == 0
        });
    }

    fn chunks(&self) -> Chunks {
        Chunks {
            received: self.client.received + self.origin.received,
            spliced: self.client.spliced + self.origin.spliced,
            held: self.held,
            allocations: self.cost.count_total,
        }
    }

    /// One turn, with everything to be tried again.
    fn turn(&mut self) {
        self.client.wake();
        self.origin.wake();
        let mut progress = Ok(Progress::Waiting);
        self.cost += measure(|| {
            progress = self.relay.turn(&mut self.client, &mut self.origin, &mut self.tools, self.now);
        });
        assert!(matches!(progress, Ok(Progress::Waiting | Progress::Unfinished)), "{progress:?}");
    }

    /// 64 octets there and back.
    fn ping_pong(&mut self) {
        let mut message = [1; 64];
        let (up, down) = (self.relay.up.bytes + 64, self.relay.down.bytes + 64);
        self.client_peer.write_all(&message).expect("sent");
        until("a message", || {
            self.turn();
            self.relay.up.bytes == up
        });
        self.origin_peer.read_exact(&mut message).expect("received");
        self.origin_peer.write_all(&message).expect("sent");
        until("an answer", || {
            self.turn();
            self.relay.down.bytes == down
        });
        self.client_peer.read_exact(&mut message).expect("received");
    }

    /// The origin sends as much as fits, the client takes it: all of it passes.
    fn download(&mut self) {
        let mut left = fill(&self.origin_peer, &self.buffer);
        until("a download", || {
            self.turn();
            left -= drain(&self.client_peer, &mut self.buffer);
            left == 0
        });
    }

    /// The same towards a client that takes nothing until nothing moves any more: bytes have to be held.
    fn slow_download(&mut self) {
        let mut left = 0;
        loop {
            let more = fill(&self.origin_peer, &self.buffer);
            let before = self.origin.bytes;
            self.turn();
            left += more;
            if more == 0 && before == self.origin.bytes {
                break;
            }
        }
        self.held += usize::from(self.preloaded + self.origin.bytes > self.relay.down.bytes);
        until("a slow download", || {
            left -= drain(&self.client_peer, &mut self.buffer);
            self.turn();
            left == 0
        });
    }
}
