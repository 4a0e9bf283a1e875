//! A server and its clients on a simulated network under virtual time: whatever the network does, every message
//! arrives once and in order within its stream, or the association is reported closed.
//!
//! A failure prints its seed; `ENCAP_SEED=<seed>` replays it alone, `ENCAP_SEEDS=<count>` runs more of them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test program")]
#![expect(clippy::cast_possible_truncation, reason = "the test's own small numbers")]

mod net;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use net::{Faults, Net};
use pipo_encap::{AssociationId, CloseReason, Counters, Endpoint, Event, Limits, SendError};

const PORT: u16 = 8080;

fn server(net: &mut Net, limits: Limits) -> usize {
    net.add(|seed, now| Endpoint::server(PORT, limits, seed, now).unwrap())
}

fn client(net: &mut Net, limits: Limits) -> usize {
    net.add(|seed, now| Endpoint::client(limits, seed, now).unwrap())
}

// ---- messages that know what they are -------------------------------------------------------------------

/// The `n`th message of a stream: its number and length, then bytes that follow from both.
fn message(stream: u16, number: u32, bytes: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(bytes.max(10));
    message.extend_from_slice(&stream.to_be_bytes());
    message.extend_from_slice(&number.to_be_bytes());
    message.extend_from_slice(&(bytes as u32).to_be_bytes());
    let mut filler = net::Random::new(u64::from(stream) << 32 | u64::from(number));
    while message.len() < bytes {
        message.push(filler.next() as u8);
    }
    message
}

/// One direction's end of an association: what it still sends, and what it has received.
#[derive(Default)]
struct Side {
    to_send: VecDeque<(u16, Vec<u8>)>,
    accepted: usize,
    received: BTreeMap<u16, u32>,
    received_total: usize,
    closed: Option<CloseReason>,
}

impl Side {
    fn with_messages(random: &mut net::Random, count: u64) -> Self {
        let mut numbers: BTreeMap<u16, u32> = BTreeMap::new();
        let mut side = Self::default();
        for _ in 0..count {
            let stream = random.below(5) as u16;
            let number = numbers.entry(stream).or_default();
            let bytes = match random.below(20) {
                0 => 10 + random.below(60_000),
                1..=4 => 10 + random.below(5_000),
                _ => 10 + random.below(300),
            };
            side.to_send.push_back((stream, message(stream, *number, bytes as usize)));
            *number += 1;
        }
        side
    }

    /// Sends as much as is taken.
    fn pump(&mut self, endpoint: &mut Endpoint, id: AssociationId, now: Instant) {
        while let Some((stream, message)) = self.to_send.front() {
            match endpoint.send(id, *stream, message, now) {
                Ok(()) => {
                    self.accepted += 1;
                    self.to_send.pop_front();
                }
                Err(SendError::WouldBlock | SendError::NotOpen | SendError::Unknown) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn take(&mut self, stream: u16, bytes: &[u8]) {
        let number = self.received.entry(stream).or_default();
        assert_eq!(bytes, message(stream, *number, bytes.len()), "stream {stream}, message {number}");
        *number += 1;
        self.received_total += 1;
    }
}

// ---- dialogues ------------------------------------------------------------------------------------------

/// What became of one client's association.
struct Outcome {
    client: Side,
    server: Option<Side>,
    client_count: usize,
    server_count: usize,
}

impl Outcome {
    fn is_complete(&self) -> bool {
        let server_received = self.server.as_ref().map_or(0, |side| side.received_total);
        self.client.received_total == self.server_count && server_received == self.client_count
    }
}

/// Runs `clients` dialogues at once: each side sends its messages, and the client closes when it has sent and
/// received all. Returns the outcomes and the counters of the server.
fn dialogues(seed: u64, faults: Faults, clients: usize, messages: u64) -> (Vec<Outcome>, Counters, Duration) {
    let mut net = Net::new(seed, faults);
    let server_node = server(&mut net, Limits::default());
    let server_address = net.nodes[server_node].address;
    let mut sides: Vec<Outcome> = Vec::new();
    let mut ids: BTreeMap<(usize, AssociationId), usize> = BTreeMap::new();
    for _ in 0..clients {
        let node = client(&mut net, Limits::default());
        let now = net.now;
        let id = net.nodes[node].endpoint.connect(server_address, PORT, now).unwrap();
        let side = Side::with_messages(&mut net.random, messages);
        ids.insert((node, id), sides.len());
        let client_count = side.to_send.len();
        sides.push(Outcome { client: side, server: None, client_count, server_count: messages as usize });
    }
    let until = net.now + Duration::from_secs(600);
    loop {
        let events = net.drain();
        let idle = events.is_empty();
        for (node, event) in events {
            act(&mut net, &mut sides, &mut ids, server_node, node, event);
        }
        if idle && !net.step(until) {
            break;
        }
    }
    let counters = *net.nodes[server_node].endpoint.counters();
    for node in &net.nodes {
        assert_eq!(node.endpoint.associations_count(), 0, "every association has ended");
        let counters = node.endpoint.counters();
        assert_eq!((counters.engine_panics, counters.violations), (0, 0), "{counters:?}");
    }
    (sides, counters, net.elapsed())
}

fn act(
    net: &mut Net,
    outcomes: &mut [Outcome],
    ids: &mut BTreeMap<(usize, AssociationId), usize>,
    server_node: usize,
    node: usize,
    event: Event,
) {
    let now = net.now;
    let id = match &event {
        Event::Opened { association, remote, .. } => {
            if node == server_node {
                let at = net.nodes.iter().position(|other| other.address == *remote).unwrap() - 1;
                let outcome = &mut outcomes[at];
                // A server may see a peer again only if it knew nothing of the first time.
                assert!(outcome.server.as_ref().is_none_or(|side| side.closed.is_some()));
                if outcome.server.is_none() {
                    let mut random = net::Random::new(at as u64 + 1);
                    outcome.server = Some(Side::with_messages(&mut random, outcome.server_count as u64));
                }
                ids.insert((node, *association), at);
            }
            *association
        }
        Event::Message { association, .. }
        | Event::Writable { association }
        | Event::Closed { association, .. } => *association,
    };
    let outcome = &mut outcomes[ids[&(node, id)]];
    let server_count = outcome.server_count;
    let side = if node == server_node { outcome.server.as_mut().unwrap() } else { &mut outcome.client };
    let endpoint = &mut net.nodes[node].endpoint;
    match event {
        Event::Opened { .. } | Event::Writable { .. } => side.pump(endpoint, id, now),
        Event::Message { stream, bytes, .. } => {
            assert_eq!(side.closed, None, "nothing comes after the end");
            side.take(stream, &bytes);
        }
        Event::Closed { reason, .. } => {
            assert_eq!(side.closed.replace(reason), None, "one end each");
        }
    }
    let done = side.closed.is_none() && side.to_send.is_empty() && side.received_total == server_count;
    if node != server_node && done {
        endpoint.close(id, now);
    }
}

/// Tells the seed of a run that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with ENCAP_SEED={}", self.0);
        }
    }
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match number("ENCAP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ENCAP_SEEDS").unwrap_or(count),
    }
}

#[test]
fn a_clean_network_delivers_everything_and_closes_in_order() {
    let faults = Faults { delay_ms_min: 1, delay_ms_max: 1, ..Faults::default() };
    for seed in seeds(5) {
        let _seed = Seed(seed);
        let (outcomes, counters, _) = dialogues(seed, faults, 4, 60);
        for outcome in outcomes {
            assert!(outcome.is_complete());
            assert_eq!(outcome.client.closed, Some(CloseReason::Closed));
            assert_eq!(outcome.server.unwrap().closed, Some(CloseReason::PeerClosed));
        }
        assert_eq!(
            (counters.data_duplicate, counters.dropped_checksum),
            (0, 0),
            "no needless retransmission"
        );
    }
}

#[test]
fn a_bad_network_delivers_in_order_or_tells() {
    let mut complete = 0;
    let mut broken = 0;
    for seed in seeds(40) {
        let _seed = Seed(seed);
        let mut random = net::Random::new(seed ^ 0xfau64);
        let faults = Faults {
            loss: random.below(150),
            duplication: random.below(100),
            corruption: random.below(60),
            truncation: random.below(40),
            noise: random.below(50),
            delay_ms_min: random.below(20),
            delay_ms_max: 20 + random.below(60),
        };
        let (outcomes, _, _) = dialogues(seed, faults, 3, 40);
        for outcome in outcomes {
            // `dialogues` checked that what arrived is in order and once. What is missing must have been told.
            if outcome.is_complete() {
                complete += 1;
            } else {
                broken += 1;
                let orderly = |reason: &Option<CloseReason>| {
                    matches!(reason, None | Some(CloseReason::Closed | CloseReason::PeerClosed))
                };
                assert!(!orderly(&outcome.client.closed), "{:?} without all messages", outcome.client.closed);
            }
        }
    }
    assert!(complete > broken * 20, "{complete} complete, {broken} broken");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let faults = Faults { loss: 80, duplication: 50, delay_ms_max: 40, ..Faults::default() };
    let run = || {
        let (outcomes, counters, elapsed) = dialogues(11, faults, 2, 30);
        (
            outcomes.iter().map(|outcome| outcome.client.received.clone()).collect::<Vec<_>>(),
            counters,
            elapsed,
        )
    };
    assert_eq!(run(), run());
}

// ---- one client, one server -----------------------------------------------------------------------------

/// An open association over a network with one delay.
struct Pair {
    net: Net,
    server: (usize, AssociationId),
    client: (usize, AssociationId),
}

impl Pair {
    fn open(faults: Faults) -> Self {
        let mut net = Net::new(5, faults);
        let server_node = server(&mut net, Limits::default());
        let client_node = client(&mut net, Limits::default());
        let (address, now) = (net.nodes[server_node].address, net.now);
        let client_id = net.nodes[client_node].endpoint.connect(address, PORT, now).unwrap();
        let mut server_id = None;
        let until = now + Duration::from_secs(2);
        while server_id.is_none() {
            for (node, event) in net.drain() {
                if let Event::Opened { association, .. } = event
                    && node == server_node
                {
                    server_id = Some(association);
                }
            }
            assert!(net.step(until));
        }
        let mut pair =
            Self { net, server: (server_node, server_id.unwrap()), client: (client_node, client_id) };
        pair.run(Duration::from_secs(1));
        pair
    }

    /// Lets time pass; returns what happened, with when and where.
    fn run(&mut self, time: Duration) -> Vec<(Duration, usize, Event)> {
        let until = self.net.now + time;
        let mut all = Vec::new();
        loop {
            let events = self.net.drain();
            let idle = events.is_empty();
            let at = self.net.elapsed();
            all.extend(events.into_iter().map(|(node, event)| (at, node, event)));
            if idle && !self.net.step(until) {
                return all;
            }
        }
    }

    fn send(&mut self, (node, id): (usize, AssociationId), bytes: &[u8]) -> Result<(), SendError> {
        let now = self.net.now;
        self.net.nodes[node].endpoint.send(id, 0, bytes, now)
    }
}

fn quick() -> Faults {
    Faults { delay_ms_min: 5, delay_ms_max: 5, ..Faults::default() }
}

fn closed(events: &[(Duration, usize, Event)]) -> Vec<(Duration, usize, CloseReason)> {
    let end = |(at, node, event): &(Duration, usize, Event)| match event {
        Event::Closed { reason, .. } => Some((*at, *node, *reason)),
        Event::Opened { .. } | Event::Message { .. } | Event::Writable { .. } => None,
    };
    events.iter().filter_map(end).collect()
}

#[test]
fn a_peer_that_falls_silent_under_data_is_noticed_within_two_seconds() {
    let mut pair = Pair::open(quick());
    pair.net.cut = true;
    let cut_at = pair.net.elapsed();
    pair.send(pair.client, b"anybody there?").unwrap();
    let events = pair.run(Duration::from_secs(60));
    let ends = closed(&events);
    let (at, _, reason) = ends.iter().find(|(_, node, _)| *node == pair.client.0).unwrap();
    assert_eq!(*reason, CloseReason::Unreachable);
    assert!(*at - cut_at < Duration::from_secs(2), "{:?}", *at - cut_at);
}

#[test]
fn a_peer_that_falls_silent_while_idle_is_noticed_by_heartbeats() {
    let mut pair = Pair::open(quick());
    pair.net.cut = true;
    let cut_at = pair.net.elapsed();
    let ends = closed(&pair.run(Duration::from_secs(60)));
    assert_eq!(ends.len(), 2, "both sides notice");
    for (at, _, reason) in ends {
        assert_eq!(reason, CloseReason::Unreachable);
        assert!(at - cut_at < Duration::from_secs(7), "{:?}", at - cut_at);
    }
}

#[test]
fn an_idle_association_lives_on_heartbeats() {
    let mut pair = Pair::open(quick());
    let events = pair.run(Duration::from_secs(3600));
    assert_eq!(events, []);
    for (node, _) in [pair.server, pair.client] {
        let counters = *pair.net.nodes[node].endpoint.counters();
        assert!(counters.heartbeats_sent + counters.heartbeats_answered > 700, "{counters:?}");
    }
    pair.send(pair.client, b"still here").unwrap();
    assert!(
        matches!(&pair.run(Duration::from_secs(1))[..], [(_, _, Event::Message { bytes, .. })] if bytes == b"still here")
    );
}

#[test]
fn a_break_shorter_than_the_patience_loses_nothing() {
    let mut pair = Pair::open(quick());
    pair.net.cut = true;
    for number in 0..50u8 {
        pair.send(pair.client, &[number; 500]).unwrap();
    }
    assert_eq!(pair.run(Duration::from_millis(1200)), []);
    pair.net.cut = false;
    let events = pair.run(Duration::from_secs(5));
    let numbers: Vec<u8> = events
        .iter()
        .filter_map(|(_, _, event)| match event {
            Event::Message { bytes, .. } => Some(bytes[0]),
            Event::Writable { .. } => None,
            Event::Opened { .. } | Event::Closed { .. } => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(numbers, (0..50).collect::<Vec<u8>>());
}

#[test]
fn a_peer_that_takes_nothing_is_given_up_but_not_before() {
    let mut pair = Pair::open(quick());
    pair.net.nodes[pair.server.0].endpoint.pause(pair.server.1);
    while pair.send(pair.client, &[1; 1000]).is_ok() {}
    let blocked_at = pair.net.elapsed();
    let mut events = Vec::new();
    // Fill the window of the peer first, then the own queue.
    for _ in 0..40 {
        events.extend(pair.run(Duration::from_secs(1)));
        while pair.send(pair.client, &[1; 1000]).is_ok() {}
    }
    let ends = closed(&events);
    let (at, _, reason) = ends.iter().find(|(_, node, _)| *node == pair.client.0).unwrap();
    assert_eq!(*reason, CloseReason::Stalled);
    let waited = *at - blocked_at;
    assert!(waited > Duration::from_secs(30) && waited < Duration::from_secs(36), "{waited:?}");
}

#[test]
fn a_peer_that_pauses_gets_everything_in_the_end() {
    for seed in seeds(10) {
        let _seed = Seed(seed);
        let mut pair = Pair::open(quick());
        pair.net.faults = Faults { loss: 100, delay_ms_min: 5, delay_ms_max: 30, ..Faults::default() };
        pair.net.random = net::Random::new(seed);
        pair.net.nodes[pair.server.0].endpoint.pause(pair.server.1);
        let mut sent = 0u32;
        let mut received = 0u32;
        let mut events = Vec::new();
        for second in 0..20 {
            while sent < 600 && pair.send(pair.client, &message(0, sent, 1000)).is_ok() {
                sent += 1;
            }
            if second == 4 {
                assert_eq!(received, 0);
                pair.net.nodes[pair.server.0].endpoint.resume(pair.server.1);
            }
            events.clear();
            events.extend(pair.run(Duration::from_secs(1)));
            for (_, _, event) in &events {
                match event {
                    Event::Message { bytes, .. } => {
                        assert_eq!(*bytes, message(0, received, 1000));
                        received += 1;
                    }
                    Event::Writable { .. } => {}
                    Event::Opened { .. } | Event::Closed { .. } => panic!("{event:?}"),
                }
            }
        }
        assert_eq!((sent, received), (600, 600));
    }
}

#[test]
fn nobody_there_is_told_in_bounded_time() {
    let mut net = Net::new(1, quick());
    let node = client(&mut net, Limits::default());
    let now = net.now;
    let nowhere = "10.9.9.9:9899".parse().unwrap();
    let id = net.nodes[node].endpoint.connect(nowhere, PORT, now).unwrap();
    let other = net.nodes[node].endpoint.connect(nowhere, PORT, now).unwrap();
    net.drain();
    net.nodes[node].endpoint.close(other, now);
    assert_eq!(net.drain(), [(node, Event::Closed { association: other, reason: CloseReason::Closed })]);
    let until = now + Duration::from_secs(10);
    let mut events = vec![];
    while events.is_empty() {
        assert!(net.step(until));
        events = net.drain();
    }
    assert_eq!(events, [(node, Event::Closed { association: id, reason: CloseReason::ConnectTimeout })]);
    assert_eq!(net.elapsed(), Duration::from_secs(3));
    let id = net.nodes[node].endpoint.connect(nowhere, PORT, until).unwrap();
    net.nodes[node].endpoint.unreachable(nowhere, until);
    assert_eq!(net.drain(), [(node, Event::Closed { association: id, reason: CloseReason::Refused })]);
}

#[test]
fn a_server_that_started_anew_tells_its_old_clients() {
    let mut pair = Pair::open(quick());
    let now = pair.net.now;
    pair.net.nodes[pair.server.0].endpoint = Endpoint::server(PORT, Limits::default(), [9; 32], now).unwrap();
    pair.send(pair.client, b"hello?").unwrap();
    let ends = closed(&pair.run(Duration::from_secs(1)));
    assert_eq!(
        ends.iter().map(|(_, _, reason)| *reason).collect::<Vec<_>>(),
        [CloseReason::PeerAborted(None)]
    );
}

#[test]
fn both_sides_closing_at_once_part_in_order() {
    let mut pair = Pair::open(quick());
    pair.send(pair.client, b"one").unwrap();
    pair.send(pair.server, b"two").unwrap();
    let now = pair.net.now;
    for (node, id) in [pair.server, pair.client] {
        pair.net.nodes[node].endpoint.close(id, now);
    }
    let events = pair.run(Duration::from_secs(10));
    let messages = events.iter().filter(|(_, _, event)| matches!(event, Event::Message { .. })).count();
    assert_eq!(messages, 2);
    let reasons: Vec<CloseReason> = closed(&events).iter().map(|(_, _, reason)| *reason).collect();
    assert_eq!(reasons, [CloseReason::Closed; 2]);
}

#[test]
fn a_mebibyte_goes_through_at_the_pace_of_the_path() {
    let mut pair = Pair::open(Faults { delay_ms_min: 10, delay_ms_max: 10, ..Faults::default() });
    let started = pair.net.elapsed();
    let mut sent = 0;
    let mut received = 0;
    let mut finished = started;
    while received < 256 {
        while sent < 256 && pair.send(pair.client, &[sent as u8; 4096]).is_ok() {
            sent += 1;
        }
        for (at, _, event) in pair.run(Duration::from_millis(10)) {
            match &event {
                Event::Message { bytes, .. } => {
                    assert_eq!(*bytes, [received as u8; 4096]);
                    received += 1;
                    finished = at;
                }
                Event::Writable { .. } => {}
                Event::Opened { .. } | Event::Closed { .. } => panic!("{event:?}"),
            }
        }
        assert!(pair.net.elapsed() - started < Duration::from_secs(60), "{received} of {sent}");
    }
    // With 20 ms there and back and a window of 256 KiB, a few round trips after slow start.
    assert!(finished - started < Duration::from_secs(1), "{:?}", finished - started);
}

// ---- floods ---------------------------------------------------------------------------------------------

/// An INIT as a flood sends it, with a checksum made here.
fn init(tag: u32) -> Vec<u8> {
    let mut packet = [&5000u16.to_be_bytes()[..], &PORT.to_be_bytes(), &[0; 8], &[1, 0, 0, 20]].concat();
    packet.extend_from_slice(&tag.to_be_bytes());
    packet.extend_from_slice(&65_536u32.to_be_bytes());
    packet.extend_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    packet.extend_from_slice(&tag.to_be_bytes());
    let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// Memory of this process that is in RAM, in bytes. `None`: this system does not tell.
fn resident_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split(' ').nth(1)?.parse::<usize>().ok()? * 4096)
}

#[test]
fn a_flood_of_inits_costs_no_memory_and_lets_others_in() {
    let start = Instant::now();
    let mut endpoint = Endpoint::server(PORT, Limits::default(), [4; 32], start).unwrap();
    let mut random = net::Random::new(1);
    let before = resident_bytes();
    // A hundred thousand in ten virtual seconds from made-up sources, and nobody takes the answers.
    for number in 0..100_000u32 {
        let source =
            ([10, random.next() as u8, random.next() as u8, random.next() as u8], random.next() as u16 | 1);
        let now = start + Duration::from_micros(u64::from(number) * 100);
        endpoint.receive(source.into(), &init(number + 1), now);
    }
    let grown = resident_bytes().zip(before).map_or(0, |(after, before)| after.saturating_sub(before));
    // Other tests run beside this one; 100,000 associations would be more than 200 MiB.
    assert!(grown < 32 << 20, "{grown} bytes more");
    let counters = *endpoint.counters();
    assert_eq!((endpoint.associations_count(), endpoint.deadline()), (0, None));
    assert_eq!(counters.cookies_sent + counters.dropped_rate_total + counters.dropped_rate_source, 100_000);
    assert!(counters.cookies_sent <= 11 * 4096, "{counters:?}");
    assert_eq!(counters.datagrams_sent, 4096, "the queue of datagrams is bounded");
    assert_eq!(counters.dropped_outgoing, counters.cookies_sent - 4096);

    // One source that floods uses up only its own budget.
    while endpoint.next_datagram().is_some() {}
    let later = start + Duration::from_secs(20);
    for number in 0..10_000 {
        endpoint.receive(([10, 0, 0, 1], 9899).into(), &init(number + 1), later);
    }
    endpoint.receive(([10, 0, 0, 2], 9899).into(), &init(1), later);
    let to: Vec<_> =
        std::iter::from_fn(|| endpoint.next_datagram()).map(|(to, _)| to.ip().to_string()).collect();
    assert_eq!(to.iter().filter(|ip| *ip == "10.0.0.1").count(), 256);
    assert_eq!(to.last().map(String::as_str), Some("10.0.0.2"));
}

#[test]
fn random_datagrams_never_panic_and_are_all_counted() {
    for seed in seeds(20) {
        let _seed = Seed(seed);
        let start = Instant::now();
        let mut endpoint = Endpoint::server(PORT, Limits::default(), [4; 32], start).unwrap();
        let mut random = net::Random::new(seed);
        for _ in 0..5_000 {
            let bytes: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
            endpoint.receive(([10, 0, 0, 1], 1).into(), &bytes, start);
        }
        let counters = endpoint.counters();
        let dropped = counters.dropped_short + counters.dropped_checksum;
        assert_eq!((dropped, counters.datagrams_received, counters.datagrams_sent), (5_000, 5_000, 0));
    }
}
