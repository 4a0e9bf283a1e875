//! A server against a peer whose every packet is written by hand, and a client likewise.

use std::time::Duration;

use super::*;
use crate::chunks::{Data, FLAG_IMMEDIATE, Sack, cause, first_cause};
use crate::event::Violation;
use crate::wire::{ChunkKind, FLAG_REFLECTED, Header, PacketWriter, checksum};

const SERVER_PORT: u16 = 8080;
const PEER_PORT: u16 = 5000;
const PEER_TAG: u32 = 0x5151_5151;
const PEER_TSN: u32 = 1000;

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 9899))
}

/// One chunk: type, flags, value.
type Piece = (ChunkKind, u8, Vec<u8>);

/// A hand-written peer of one endpoint.
struct Bench {
    endpoint: Endpoint,
    now: Instant,
    remote: SocketAddr,
    /// The endpoint's tag, once it told it.
    tag: u32,
    /// The endpoint's first TSN.
    tsn: u32,
}

impl Bench {
    fn server(limits: Limits) -> Self {
        let now = Instant::now();
        let endpoint = Endpoint::server(SERVER_PORT, limits, [3; 32], now).unwrap();
        Self { endpoint, now, remote: address(1), tag: 0, tsn: 0 }
    }

    /// A server with an association open.
    fn open(limits: Limits) -> (Self, AssociationId) {
        let mut bench = Self::server(limits);
        let cookie = bench.init(PEER_TAG, &[]);
        bench.give(bench.tag, vec![(ChunkKind::CookieEcho, 0, cookie)]);
        assert_eq!(kinds(&bench.take()), [ChunkKind::CookieAck]);
        let Some(Event::Opened { association, .. }) = bench.endpoint.next_event() else {
            panic!("not opened")
        };
        (bench, association)
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.endpoint.expire(self.now);
    }

    /// Sends chunks with the given tag in one packet.
    fn give(&mut self, tag: u32, pieces: Vec<Piece>) {
        let header = Header { source: PEER_PORT, destination: SERVER_PORT, tag };
        let mut writer = PacketWriter::new(header, 0);
        for (kind, flags, value) in &pieces {
            writer = writer.chunk(*kind, *flags, &[value]);
        }
        self.endpoint.receive(self.remote, &writer.finish(), self.now);
    }

    /// Everything the endpoint sent, chunk by chunk, after checking checksums, ports and address.
    fn take(&mut self) -> Vec<(u32, Piece)> {
        let mut pieces = Vec::new();
        while let Some((remote, datagram)) = self.endpoint.next_datagram() {
            assert_eq!(remote, self.remote);
            let packet = Packet::parse(&datagram, 100).expect("what is sent is well formed");
            assert_eq!((packet.header.source, packet.header.destination), (SERVER_PORT, PEER_PORT));
            pieces.extend(
                packet
                    .chunks()
                    .map(|chunk| (packet.header.tag, (chunk.kind, chunk.flags, chunk.value.to_vec()))),
            );
        }
        pieces
    }

    /// Sends an INIT with these parameters, takes the INIT ACK, and returns its cookie.
    fn init(&mut self, peer_tag: u32, parameters: &[u8]) -> Vec<u8> {
        let init = Init { tag: peer_tag, window: 100_000, outbound: 10, inbound: 5, tsn: PEER_TSN };
        self.give(0, vec![(ChunkKind::Init, 0, [&init.to_bytes(), parameters].concat())]);
        let sent = self.take();
        let [(tag, (ChunkKind::InitAck, 0, value))] = &sent[..] else { panic!("not one INIT ACK: {sent:?}") };
        assert_eq!(*tag, peer_tag);
        let offer = Init::parse(value).unwrap();
        (self.tag, self.tsn) = (offer.init.tag, offer.init.tsn);
        offer.cookie.unwrap().to_vec()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.endpoint.next_event()).collect()
    }

    /// Sends chunks on the open association; returns why it ended, and the cause its ABORT named.
    fn ends(&mut self, pieces: Vec<Piece>) -> Option<(CloseReason, Option<u16>)> {
        self.give(self.tag, pieces);
        let aborted = self.take().iter().rev().find_map(|(_, (kind, _, value))| {
            (*kind == ChunkKind::Abort).then(|| first_cause(value)).flatten()
        });
        self.events().into_iter().find_map(|event| match event {
            Event::Closed { reason, .. } => Some((reason, aborted)),
            Event::Opened { .. } | Event::Message { .. } | Event::Writable { .. } => None,
        })
    }
}

fn kinds(sent: &[(u32, Piece)]) -> Vec<ChunkKind> {
    sent.iter().map(|(_, (kind, _, _))| *kind).collect()
}

fn data(tsn: u32, stream: u16, sequence: u16, flags: u8, bytes: &[u8]) -> Piece {
    let fields =
        [&tsn.to_be_bytes()[..], &stream.to_be_bytes(), &sequence.to_be_bytes(), &[0, 0, 0, 46], bytes];
    (ChunkKind::Data, flags, fields.concat())
}

fn whole(tsn: u32, sequence: u16, bytes: &[u8]) -> Piece {
    data(tsn, 0, sequence, 3, bytes)
}

fn sack(cumulative: u32, window: u32, gaps: &[(u16, u16)]) -> Piece {
    (ChunkKind::Sack, 0, Sack { cumulative, window, gaps: gaps.to_vec() }.to_value(1500))
}

// ---- handshakes -----------------------------------------------------------------------------------------

#[test]
fn an_init_costs_no_memory_and_its_cookie_opens() {
    let mut bench = Bench::server(Limits::default());
    let cookie = bench.init(PEER_TAG, &[]);
    assert_eq!(bench.endpoint.associations_count(), 0);
    assert_eq!(bench.endpoint.deadline(), None);
    bench.give(
        bench.tag,
        vec![(ChunkKind::CookieEcho, 0, cookie), whole(PEER_TSN, 0, b"along with the echo")],
    );
    assert_eq!(kinds(&bench.take())[..1], [ChunkKind::CookieAck]);
    let events = bench.events();
    let [
        Event::Opened { remote, inbound_streams, outbound_streams, .. },
        Event::Message { stream: 0, bytes, .. },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((*remote, *inbound_streams, *outbound_streams), (address(1), 10, 5));
    assert_eq!(bytes, b"along with the echo");
}

#[test]
fn an_init_with_addresses_is_taken_without_them() {
    // As Linux sends it from a host with two IPv4 addresses and one IPv6: supported address types, ECN, forward
    // TSN, supported extensions, and the addresses.
    let parameters: &[u8] = &[
        0x00, 0x05, 0x00, 0x08, 127, 0, 0, 1, //
        0x00, 0x05, 0x00, 0x08, 10, 0, 2, 15, //
        0x00, 0x06, 0x00, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, //
        0x00, 0x09, 0x00, 0x08, 0, 0, 0x75, 0x30, //
        0x00, 0x0c, 0x00, 0x08, 0x00, 0x05, 0x00, 0x06, //
        0x80, 0x00, 0x00, 0x04, //
        0xc0, 0x00, 0x00, 0x04, //
        0x80, 0x08, 0x00, 0x09, 0xc0, 0x82, 0x0f, 0xc1, 0x80, 0, 0, 0,
    ];
    let mut bench = Bench::server(Limits::default());
    let cookie = bench.init(PEER_TAG, parameters);
    bench.give(bench.tag, vec![(ChunkKind::CookieEcho, 0, cookie)]);
    assert!(matches!(bench.events()[..], [Event::Opened { .. }]));
    assert_eq!(bench.endpoint.counters().addresses_ignored, 4);
    bench.take();
    bench.give(bench.tag, vec![whole(PEER_TSN, 0, b"works")]);
    assert!(matches!(&bench.events()[..], [Event::Message { bytes, .. }] if bytes == b"works"));
}

#[test]
fn a_client_takes_an_init_ack_with_addresses() {
    let now = Instant::now();
    let mut client = Endpoint::client(Limits::default(), [1; 32], now).unwrap();
    let id = client.connect(address(1), SERVER_PORT, now).unwrap();
    let (_, first) = client.next_datagram().unwrap();
    let packet = Packet::parse(&first, 1).unwrap();
    assert_eq!((packet.header.tag, packet.first.kind), (0, ChunkKind::Init));
    let local = Init::parse(packet.first.value).unwrap().init;
    let back = Header { source: SERVER_PORT, destination: packet.header.source, tag: local.tag };
    let init = Init { tag: PEER_TAG, window: 5000, outbound: 2, inbound: 3, tsn: 9 };
    let parameters =
        [&[0, 5, 0, 8, 10, 0, 0, 1, 0, 7, 0, 8][..], b"cook", &[0, 11, 0, 5, b'h', 0, 0, 0]].concat();
    let ack =
        PacketWriter::new(back, 0).chunk(ChunkKind::InitAck, 0, &[&init.to_bytes(), &parameters]).finish();
    client.receive(address(1), &ack, now);
    let (_, echo) = client.next_datagram().unwrap();
    let packet = Packet::parse(&echo, 1).unwrap();
    assert_eq!(
        (packet.header.tag, packet.first.kind, packet.first.value),
        (PEER_TAG, ChunkKind::CookieEcho, &b"cook"[..])
    );
    let ack = PacketWriter::new(back, 0).chunk(ChunkKind::CookieAck, 0, &[]).finish();
    client.receive(address(1), &ack, now);
    assert_eq!(
        client.next_event(),
        Some(Event::Opened { association: id, remote: address(1), inbound_streams: 2, outbound_streams: 3 })
    );
    assert_eq!(client.counters().addresses_ignored, 2);
}

#[test]
fn streams_are_granted_up_to_the_limit_however_many_are_asked_for() {
    let mut bench = Bench::server(Limits::default());
    let init = Init { tag: PEER_TAG, window: 100_000, outbound: u16::MAX, inbound: u16::MAX, tsn: PEER_TSN };
    bench.give(0, vec![(ChunkKind::Init, 0, init.to_bytes().to_vec())]);
    let sent = bench.take();
    let offer = Init::parse(&sent[0].1.2).unwrap();
    assert_eq!((offer.init.outbound, offer.init.inbound), (64, 64));
    bench.tag = offer.init.tag;
    bench.give(bench.tag, vec![(ChunkKind::CookieEcho, 0, offer.cookie.unwrap().to_vec())]);
    assert!(matches!(bench.events()[..], [Event::Opened { inbound_streams: 64, outbound_streams: 64, .. }]));
    assert_eq!(
        bench.ends(vec![data(PEER_TSN, 65_534, 0, 3, b"x")]),
        Some((CloseReason::Violation(Violation::Stream), Some(cause::INVALID_STREAM)))
    );
}

#[test]
fn malformed_inits_and_wrong_tags_are_dropped_in_silence() {
    let init = Init { tag: PEER_TAG, window: 100_000, outbound: 1, inbound: 1, tsn: 1 }.to_bytes().to_vec();
    type Count = fn(&Counters) -> u64;
    let cases: [(&str, u32, Vec<Piece>, Count); 7] = [
        ("INIT with a tag", 7, vec![(ChunkKind::Init, 0, init.clone())], |c| c.dropped_tag),
        ("INIT with company", 0, vec![(ChunkKind::Init, 0, init.clone()), whole(1, 0, b"x")], |c| {
            c.dropped_init
        }),
        ("INIT too short", 0, vec![(ChunkKind::Init, 0, init[..12].to_vec())], |c| c.dropped_init),
        ("tag zero", 0, vec![whole(1, 0, b"x")], |c| c.dropped_tag),
        ("a cookie of nobody", 9, vec![(ChunkKind::CookieEcho, 0, vec![1; 56])], |c| c.dropped_cookie),
        ("a stray ABORT", 9, vec![(ChunkKind::Abort, 0, vec![])], |c| c.dropped_unknown),
        ("a stray ABORT, reflected", 9, vec![(ChunkKind::Abort, FLAG_REFLECTED, vec![])], |c| {
            c.dropped_unknown
        }),
    ];
    for (name, tag, pieces, count) in cases {
        let mut bench = Bench::server(Limits::default());
        bench.give(tag, pieces);
        assert_eq!(count(bench.endpoint.counters()), 1, "{name}");
        assert_eq!(bench.take(), [], "{name}");
    }
}

#[test]
fn what_is_out_of_the_blue_is_answered_with_its_own_tag() {
    for (pieces, expected) in [
        (vec![whole(1, 0, b"x")], ChunkKind::Abort),
        (vec![(ChunkKind::ShutdownAck, 0, vec![])], ChunkKind::ShutdownComplete),
    ] {
        let mut bench = Bench::server(Limits::default());
        bench.give(77, pieces);
        assert_eq!(bench.take(), [(77, (expected, FLAG_REFLECTED, vec![]))]);
    }
}

#[test]
fn replies_to_a_source_are_bounded_and_come_back_with_time() {
    let mut bench = Bench::server(Limits { replies_per_source_second_max: 3, ..Limits::default() });
    for _ in 0..10 {
        bench.give(77, vec![whole(1, 0, b"x")]);
    }
    assert_eq!(bench.take().len(), 3);
    assert_eq!(bench.endpoint.counters().dropped_rate_source, 7);
    bench.now += Duration::from_secs(1);
    bench.give(77, vec![whole(1, 0, b"x")]);
    assert_eq!(bench.take().len(), 1);
}

#[test]
fn a_cookie_is_good_once_and_for_its_life() {
    let mut bench = Bench::server(Limits::default());
    let cookie = bench.init(PEER_TAG, &[]);
    let tag = bench.tag;
    let echo = |bench: &mut Bench| bench.give(tag, vec![(ChunkKind::CookieEcho, 0, cookie.clone())]);
    echo(&mut bench);
    assert_eq!(bench.events().len(), 1);
    echo(&mut bench);
    assert_eq!(bench.events(), [], "a repeated echo opens nothing");
    assert_eq!(kinds(&bench.take()), [ChunkKind::CookieAck; 2], "but is acknowledged again");
    bench.give(tag, vec![(ChunkKind::Abort, 0, vec![])]);
    assert!(matches!(bench.events()[..], [Event::Closed { reason: CloseReason::PeerAborted(None), .. }]));
    echo(&mut bench);
    assert_eq!(bench.events(), [], "a copy brings nothing back to life");
    assert_eq!(bench.endpoint.counters().cookies_spent, 1);
    bench.now += Duration::from_secs(11);
    echo(&mut bench);
    let sent = bench.take();
    assert_eq!(
        sent.iter().map(|(tag, piece)| (*tag, piece.0)).collect::<Vec<_>>(),
        [(PEER_TAG, ChunkKind::Error)]
    );
    assert_eq!(first_cause(&sent[0].1.2), Some(cause::STALE_COOKIE));
}

#[test]
fn a_peer_that_starts_anew_replaces_its_association() {
    let (mut bench, old) = Bench::open(Limits::default());
    let cookie = bench.init(0x6262_6262, &[]);
    assert_eq!(bench.events(), [], "an INIT alone changes nothing");
    bench.give(bench.tag, vec![(ChunkKind::CookieEcho, 0, cookie)]);
    let events = bench.events();
    assert_eq!(events[0], Event::Closed { association: old, reason: CloseReason::PeerRestarted });
    assert!(matches!(events[1], Event::Opened { association, .. } if association != old));
    assert_eq!(bench.endpoint.associations_count(), 1);
}

#[test]
fn associations_are_bounded_in_all_and_by_source() {
    let limits = Limits { associations_max: 3, associations_per_source_max: 2, ..Limits::default() };
    let mut bench = Bench::server(limits);
    let mut outcomes = Vec::new();
    for (host, port) in [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)] {
        bench.remote = SocketAddr::from(([192, 0, 2, host], port));
        let cookie = bench.init(PEER_TAG, &[]);
        bench.give(bench.tag, vec![(ChunkKind::CookieEcho, 0, cookie)]);
        outcomes.extend(kinds(&bench.take()));
    }
    use ChunkKind::{Abort, CookieAck};
    assert_eq!(outcomes, [CookieAck, CookieAck, Abort, CookieAck, Abort]);
    let counters = bench.endpoint.counters();
    assert_eq!((counters.refused_source_full, counters.refused_full), (1, 1));
}

#[test]
fn a_draining_server_refuses_and_keeps_what_it_has() {
    let (mut bench, _) = Bench::open(Limits::default());
    bench.endpoint.set_accepting(Accepting::No);
    let init = Init { tag: 5, window: 100_000, outbound: 1, inbound: 1, tsn: 1 };
    bench.give(0, vec![(ChunkKind::Init, 0, init.to_bytes().to_vec())]);
    assert_eq!(
        bench.take().iter().map(|(tag, piece)| (*tag, piece.0)).collect::<Vec<_>>(),
        [(5, ChunkKind::Abort)]
    );
    assert_eq!(bench.endpoint.associations_count(), 1);
}

#[test]
fn a_client_takes_no_associations() {
    let now = Instant::now();
    let mut client = Endpoint::client(Limits::default(), [1; 32], now).unwrap();
    let init = Init { tag: 5, window: 100_000, outbound: 1, inbound: 1, tsn: 1 };
    let header = Header { source: 1, destination: 2, tag: 0 };
    let packet = PacketWriter::new(header, 0).chunk(ChunkKind::Init, 0, &[&init.to_bytes()]).finish();
    client.receive(address(1), &packet, now);
    assert_eq!((client.next_datagram(), client.counters().dropped_unwanted), (None, 1));
}

// ---- open associations ----------------------------------------------------------------------------------

#[test]
fn a_tag_counts_only_from_its_own_address() {
    let (mut bench, _) = Bench::open(Limits::default());
    bench.remote = address(2);
    bench.give(bench.tag, vec![(ChunkKind::Abort, 0, vec![])]);
    assert_eq!((bench.events(), bench.endpoint.counters().dropped_address), (vec![], 1));
}

#[test]
fn peers_that_break_the_protocol_are_aborted_with_the_cause() {
    use Violation::{Acknowledgement, Fragment, MessageTooLong, NoUserData, Sequence};
    let cases: [(&str, Vec<Piece>, Violation, u16); 9] = [
        ("no user data", vec![whole(PEER_TSN, 0, b"")], NoUserData, cause::NO_USER_DATA),
        (
            "DATA shorter than its fields",
            vec![(ChunkKind::Data, 3, vec![0; 8])],
            NoUserData,
            cause::NO_USER_DATA,
        ),
        ("a sequence number left out", vec![whole(PEER_TSN, 1, b"x")], Sequence, cause::PROTOCOL_VIOLATION),
        ("a fragment of nothing", vec![data(PEER_TSN, 0, 0, 0, b"x")], Fragment, cause::PROTOCOL_VIOLATION),
        (
            "a message too long",
            vec![whole(PEER_TSN, 0, &[0; 65_400]), data(PEER_TSN + 1, 0, 1, 2, &[0; 60])],
            Fragment,
            0,
        ),
        (
            "acknowledges what was never sent",
            vec![sack(0x1234, 5000, &[])],
            Acknowledgement,
            cause::PROTOCOL_VIOLATION,
        ),
        (
            "gaps that overlap",
            vec![(ChunkKind::Sack, 0, [&[0u8; 8][..], &[0, 2, 0, 0, 0, 2, 0, 5, 0, 4, 0, 6]].concat())],
            Acknowledgement,
            cause::PROTOCOL_VIOLATION,
        ),
        (
            "a SACK cut short",
            vec![(ChunkKind::Sack, 0, vec![0; 5])],
            Acknowledgement,
            cause::PROTOCOL_VIOLATION,
        ),
        (
            "fragments beyond the longest message",
            (0..2u32).map(|n| data(PEER_TSN + n, 0, 0, if n == 0 { 2 } else { 0 }, &[0; 40_000])).collect(),
            MessageTooLong,
            cause::PROTOCOL_VIOLATION,
        ),
    ];
    for (name, pieces, violation, code) in cases {
        let (mut bench, _) = Bench::open(Limits { datagram_bytes_max: 65_527, ..Limits::default() });
        // One packet each: two of them would not fit one datagram.
        let mut end = None;
        for piece in pieces {
            end = end.or(bench.ends(vec![piece]));
        }
        if code == 0 {
            assert_eq!(end, None, "{name}: allowed, only close to the limit");
            continue;
        }
        assert_eq!(end, Some((CloseReason::Violation(violation), Some(code))), "{name}");
        assert_eq!(bench.endpoint.counters().engine_panics, 0, "{name}");
    }
}

#[test]
fn sequence_numbers_all_around_the_circle_never_reach_the_engine() {
    // The engine sorts by serial number; a set that spans the whole circle has no order, and sorting it may
    // panic.
    let (mut bench, _) = Bench::open(Limits::default());
    let mut end = None;
    for n in 0..60u32 {
        let sequence = (n * 21_845 % 65_536) as u16;
        end = end.or(bench.ends(vec![whole(PEER_TSN + 1 + n, sequence, b"x")]));
    }
    assert_eq!(end, Some((CloseReason::Violation(Violation::Sequence), Some(cause::PROTOCOL_VIOLATION))));
    assert_eq!(bench.endpoint.counters().engine_panics, 0);
}

#[test]
fn incomplete_messages_cannot_hold_more_than_the_budget() {
    let (mut bench, _) = Bench::open(Limits::default());
    // The first message never comes; single bytes after it pile up.
    for n in 1..5000u32 {
        bench.give(bench.tag, vec![whole(PEER_TSN + n, n as u16, b"x")]);
    }
    let counters = *bench.endpoint.counters();
    assert!(counters.data_without_room > 3000, "{counters:?}");
    let windows: Vec<u32> = bench
        .take()
        .iter()
        .filter(|(_, piece)| piece.0 == ChunkKind::Sack)
        .map(|(_, piece)| Sack::parse(&piece.2).unwrap().window)
        .collect();
    assert!(windows.is_sorted_by(|a, b| a >= b) && windows.last() == Some(&0), "the window closes");
}

#[test]
fn a_message_in_crumbs_uses_up_the_budget_and_ends_the_association() {
    let (mut bench, _) = Bench::open(Limits::default());
    let mut end = None;
    for n in 0..2000u32 {
        end = end.or(bench.ends(vec![data(PEER_TSN + n, 0, 0, if n == 0 { 2 } else { 0 }, b"x")]));
    }
    assert_eq!(end, Some((CloseReason::ReceiveBudget, Some(cause::OUT_OF_RESOURCE))));
}

#[test]
fn messages_wait_in_the_window_until_they_are_taken() {
    let (mut bench, id) = Bench::open(Limits::default());
    bench.endpoint.pause(id);
    let mut tsn = PEER_TSN;
    while bench.endpoint.counters().data_without_room == 0 {
        bench.give(bench.tag, vec![whole(tsn, (tsn - PEER_TSN) as u16, &[7; 1000])]);
        tsn += 1;
    }
    assert_eq!(bench.events(), []);
    let last = bench.take().into_iter().rev().find(|(_, piece)| piece.0 == ChunkKind::Sack).unwrap();
    assert_eq!(Sack::parse(&last.1.2).unwrap().window, 0);
    bench.endpoint.resume(id);
    assert_eq!(bench.events().len(), (tsn - PEER_TSN - 1) as usize);
    let windows: Vec<u32> =
        bench.take().iter().map(|(_, piece)| Sack::parse(&piece.2).unwrap().window).collect();
    assert!(
        windows.iter().any(|window| *window >= 65_536),
        "the peer is told that there is room: {windows:?}"
    );
}

#[test]
fn chunks_of_other_kinds_are_skipped_or_end_the_packet_as_their_type_says() {
    for (code, stops) in [(192u8, false), (130, false), (0x40, true), (0x0f, true)] {
        let (mut bench, _) = Bench::open(Limits::default());
        bench.give(bench.tag, vec![(ChunkKind::from(code), 0, vec![1, 2, 3]), whole(PEER_TSN, 0, b"after")]);
        let counters = *bench.endpoint.counters();
        assert_eq!(
            (counters.chunks_stopped, counters.chunks_skipped),
            (u64::from(stops), u64::from(!stops)),
            "type {code}"
        );
        assert_eq!(bench.events().len(), usize::from(!stops), "type {code}");
    }
}

#[test]
fn heartbeats_are_answered_word_for_word() {
    let (mut bench, _) = Bench::open(Limits::default());
    bench.give(bench.tag, vec![(ChunkKind::Heartbeat, 0, b"\0\x01\0\x09hello".to_vec())]);
    assert_eq!(bench.take(), [(PEER_TAG, (ChunkKind::HeartbeatAck, 0, b"\0\x01\0\x09hello".to_vec()))]);
}

#[test]
fn data_goes_out_with_protocol_zero_and_asks_for_its_acknowledgement() {
    let (mut bench, id) = Bench::open(Limits::default());
    bench.endpoint.send(id, 2, b"abc", bench.now).unwrap();
    let sent = bench.take();
    let [(PEER_TAG, (ChunkKind::Data, flags, value))] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(*flags, 3 | FLAG_IMMEDIATE);
    assert_eq!(value[4..], *b"\0\x02\0\0\0\0\0\0abc");
    assert_eq!(bench.endpoint.queued_bytes(id), Some(3));
    bench.give(bench.tag, vec![sack(bench.tsn, 5000, &[])]);
    assert_eq!(bench.endpoint.queued_bytes(id), Some(0));
}

#[test]
fn messages_that_are_queued_together_share_datagrams() {
    let (mut bench, id) = Bench::open(Limits::default());
    for _ in 0..20 {
        bench.endpoint.send(id, 1, &[1; 100], bench.now).unwrap();
    }
    let datagrams: Vec<_> = std::iter::from_fn(|| bench.endpoint.next_datagram()).collect();
    let chunks = |datagram: &[u8]| Packet::parse(datagram, 100).unwrap().chunks().count();
    assert_eq!(datagrams.iter().map(|(_, datagram)| chunks(datagram)).sum::<usize>(), 20);
    assert!(datagrams.len() <= 3, "{} datagrams", datagrams.len());
}

#[test]
fn sending_is_all_or_nothing() {
    let (mut bench, id) = Bench::open(Limits::default());
    let now = bench.now;
    let send =
        |bench: &mut Bench, stream, bytes: usize| bench.endpoint.send(id, stream, &vec![1; bytes], now);
    assert_eq!(send(&mut bench, 5, 1), Err(SendError::Stream { got: 5, allowed: 5 }));
    assert_eq!(send(&mut bench, 0, 0), Err(SendError::Empty));
    assert_eq!(send(&mut bench, 0, 65_537), Err(SendError::TooLong { got: 65_537, allowed: 65_536 }));
    assert_eq!(bench.endpoint.queued_bytes(id), Some(0));
    let accepted = (0..10).take_while(|_| send(&mut bench, 0, 60_000).is_ok()).count();
    assert_eq!(accepted, 4);
    assert_eq!(send(&mut bench, 0, 60_000), Err(SendError::WouldBlock));
    assert_eq!(bench.endpoint.queued_bytes(id), Some(240_000));
    // Acknowledge everything that comes until the queue is low.
    let mut acknowledged = bench.tsn.wrapping_sub(1);
    let mut events = vec![];
    while events.is_empty() {
        for (_, piece) in bench.take() {
            if piece.0 == ChunkKind::Data {
                acknowledged = u32::from_be_bytes(piece.2[..4].try_into().unwrap());
            }
        }
        bench.give(bench.tag, vec![sack(acknowledged, 100_000, &[])]);
        events = bench.events();
    }
    assert_eq!(events, [Event::Writable { association: id }]);
    assert!(bench.endpoint.queued_bytes(id).unwrap() <= 16_384);
}

// ---- the end --------------------------------------------------------------------------------------------

#[test]
fn a_close_of_ours_tells_the_tsn_that_arrived() {
    let (mut bench, id) = Bench::open(Limits::default());
    bench.give(bench.tag, vec![whole(PEER_TSN, 0, b"x")]);
    bench.take();
    bench.endpoint.close(id, bench.now);
    assert_eq!(bench.take(), [(PEER_TAG, (ChunkKind::Shutdown, 0, PEER_TSN.to_be_bytes().to_vec()))]);
    assert_eq!(bench.endpoint.send(id, 0, b"late", bench.now), Err(SendError::NotOpen));
    bench.give(bench.tag, vec![whole(PEER_TSN + 1, 1, b"still under way")]);
    let again = bench.take();
    assert!(
        again.contains(&(PEER_TAG, (ChunkKind::Shutdown, 0, (PEER_TSN + 1).to_be_bytes().to_vec()))),
        "{again:?}"
    );
    bench.give(bench.tag, vec![(ChunkKind::ShutdownAck, 0, vec![])]);
    assert_eq!(kinds(&bench.take()), [ChunkKind::ShutdownComplete]);
    let events = bench.events();
    assert!(
        matches!(
            &events[..],
            [Event::Message { .. }, Event::Message { .. }, Event::Closed { reason: CloseReason::Closed, .. }]
        ),
        "{events:?}"
    );
    assert_eq!(bench.endpoint.deadline(), None);
}

#[test]
fn a_close_of_the_peer_waits_for_what_is_queued() {
    let (mut bench, id) = Bench::open(Limits::default());
    bench.endpoint.send(id, 0, b"first this", bench.now).unwrap();
    bench.take();
    bench.give(bench.tag, vec![(ChunkKind::Shutdown, 0, bench.tsn.wrapping_sub(1).to_be_bytes().to_vec())]);
    assert_eq!(bench.take(), [], "not acknowledged yet");
    bench.give(bench.tag, vec![(ChunkKind::Shutdown, 0, bench.tsn.to_be_bytes().to_vec())]);
    assert_eq!(kinds(&bench.take()), [ChunkKind::ShutdownAck]);
    bench.wait(Duration::from_millis(300));
    assert_eq!(kinds(&bench.take())[0], ChunkKind::ShutdownAck, "repeated until it is answered");
    bench.give(bench.tag, vec![(ChunkKind::ShutdownComplete, 0, vec![])]);
    assert_eq!(bench.events(), [Event::Closed { association: id, reason: CloseReason::PeerClosed }]);
}

#[test]
fn an_abort_of_ours_is_told_and_final() {
    let (mut bench, id) = Bench::open(Limits::default());
    bench.endpoint.abort(id, bench.now);
    assert_eq!(kinds(&bench.take()), [ChunkKind::Abort]);
    assert_eq!(bench.events(), [Event::Closed { association: id, reason: CloseReason::Aborted }]);
    assert_eq!(bench.endpoint.send(id, 0, b"x", bench.now), Err(SendError::Unknown));
    bench.endpoint.close(id, bench.now);
    bench.endpoint.abort(id, bench.now);
    assert_eq!(bench.events(), []);
}

#[test]
fn a_reflected_abort_ends_the_association_only_with_its_tag() {
    let (mut bench, id) = Bench::open(Limits::default());
    bench.give(PEER_TAG + 1, vec![(ChunkKind::Abort, FLAG_REFLECTED, vec![])]);
    bench.give(PEER_TAG, vec![(ChunkKind::Abort, 0, vec![])]);
    bench.give(bench.tag, vec![(ChunkKind::Abort, FLAG_REFLECTED, vec![])]);
    assert_eq!(bench.events(), []);
    bench.give(PEER_TAG, vec![(ChunkKind::Abort, FLAG_REFLECTED, vec![])]);
    assert_eq!(bench.events(), [Event::Closed { association: id, reason: CloseReason::PeerAborted(None) }]);
}

#[test]
fn a_panic_of_the_engine_ends_only_its_association() {
    let (mut bench, id) = Bench::open(Limits::default());
    bench.remote = address(2);
    let cookie = bench.init(PEER_TAG, &[]);
    bench.give(bench.tag, vec![(ChunkKind::CookieEcho, 0, cookie)]);
    bench.events();
    bench.take();
    let Some(Association::Open(open)) = bench.endpoint.associations.get_mut(&id) else { panic!() };
    let reason = open.break_engine_for_test();
    assert_eq!(reason, CloseReason::Internal);
    bench.remote = address(1);
    bench.endpoint.settle(id, Err(reason));
    assert_eq!(kinds(&bench.take()), [ChunkKind::Abort]);
    assert_eq!(bench.events(), [Event::Closed { association: id, reason: CloseReason::Internal }]);
    assert_eq!((bench.endpoint.counters().engine_panics, bench.endpoint.associations_count()), (1, 1));
    bench.remote = address(2);
    bench.give(bench.tag, vec![whole(PEER_TSN, 0, b"lives")]);
    assert_eq!(bench.events().len(), 1);
}

// ---- anything at all ------------------------------------------------------------------------------------

/// A small generator of test input (SplitMix64): the same seed, the same input.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, below: u64) -> Vec<u8> {
        (0..self.below(below)).map(|_| self.next() as u8).collect()
    }
}

/// What a peer has to know to speak almost correctly.
struct Mischief {
    random: Random,
    /// TSN and sequence number of its next message.
    tsn: u32,
    sequence: u16,
    /// Highest TSN it received.
    received: u32,
}

impl Mischief {
    /// A chunk: most are right, some are near the truth, some are nonsense.
    fn chunk(&mut self) -> Piece {
        let near = self.random.below(12) as u32;
        let bytes = self.random.bytes(40);
        match self.random.below(24) {
            0..=9 => {
                let body = [&bytes[..], b"."].concat();
                self.tsn = self.tsn.wrapping_add(1);
                self.sequence = self.sequence.wrapping_add(1);
                whole(self.tsn.wrapping_sub(1), self.sequence.wrapping_sub(1), &body)
            }
            // Ahead of a gap, or a copy of what was sent.
            10 | 11 => {
                let back = self.random.below(4) as u16;
                whole(self.tsn.wrapping_sub(u32::from(back)), self.sequence.wrapping_sub(back), b"copy")
            }
            12 => whole(self.tsn.wrapping_add(near), self.sequence.wrapping_add(near as u16), b"ahead"),
            13..=17 => sack(self.received, self.random.next() as u32, &[]),
            18 => sack(self.received.wrapping_sub(near), 5000, &[(1 + near as u16, 3 + near as u16)]),
            19 => (ChunkKind::Heartbeat, 0, bytes),
            20 if near == 0 => (ChunkKind::Shutdown, 0, self.received.to_be_bytes().to_vec()),
            21 if near == 0 => {
                let flags = self.random.next() as u8;
                data(self.tsn.wrapping_add(near), near as u16, self.random.next() as u16, flags, &bytes)
            }
            22 if near < 3 => (ChunkKind::from(self.random.below(20) as u8), near as u8, bytes),
            _ => (ChunkKind::from(192 | self.random.next() as u8), 0, bytes),
        }
    }
}

#[test]
fn no_sequence_of_chunks_panics_or_hangs_an_open_association() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("ENCAP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ENCAP_SEEDS").unwrap_or(400),
    };
    let (mut runs, mut survived, mut messages) = (0, 0, 0);
    for seed in seeds {
        let (mut bench, id) = Bench::open(Limits::default());
        let received = bench.tsn.wrapping_sub(1);
        let mut peer = Mischief { random: Random(seed), tsn: PEER_TSN, sequence: 0, received };
        runs += 1;
        for step in 0..100 {
            match peer.random.below(10) {
                0 => bench.wait(Duration::from_millis(peer.random.below(700))),
                1 => {
                    let message = peer.random.bytes(3000);
                    let stream = peer.random.below(6) as u16;
                    let _refused_or_not = bench.endpoint.send(id, stream, &message, bench.now);
                }
                2 if peer.random.below(40) == 0 => bench.endpoint.close(id, bench.now),
                _ => {
                    let count = 1 + peer.random.below(4);
                    let pieces = (0..count).map(|_| peer.chunk()).collect();
                    bench.give(bench.tag, pieces);
                }
            }
            bench.events();
            for (_, (kind, _, value)) in bench.take() {
                if kind == ChunkKind::Data {
                    peer.received = u32::from_be_bytes(value[..4].try_into().unwrap());
                }
            }
            let counters = bench.endpoint.counters();
            assert_eq!(counters.engine_panics, 0, "replay with ENCAP_SEED={seed}, step {step}");
            if bench.endpoint.associations_count() == 0 {
                break;
            }
            let deadline = bench.endpoint.deadline();
            assert!(deadline.is_some_and(|at| at < bench.now + Duration::from_secs(31)), "ENCAP_SEED={seed}");
            survived += usize::from(step == 99);
        }
        messages += bench.endpoint.counters().messages_received;
    }
    // Otherwise the peer is too clumsy for the test to reach anything.
    assert!(
        runs == 1 || (survived * 10 > runs && messages > runs as u64 * 20),
        "{survived} of {runs}, {messages}"
    );
}

#[test]
fn random_datagrams_with_a_right_checksum_are_survived() {
    let mut random = Random(1);
    let (mut bench, _) = Bench::open(Limits::default());
    for _ in 0..50_000 {
        let mut datagram = random.bytes(80);
        if datagram.len() >= 12 {
            datagram[..4].copy_from_slice(&[0x13, 0x88, 0x1f, 0x90]);
            if random.below(2) == 0 {
                datagram[4..8].copy_from_slice(&bench.tag.to_be_bytes());
            }
            let sum = checksum(&datagram).to_le_bytes();
            datagram[8..12].copy_from_slice(&sum);
        }
        bench.endpoint.receive(bench.remote, &datagram, bench.now);
        while bench.endpoint.next_datagram().is_some() {}
        bench.events();
    }
    assert_eq!(bench.endpoint.counters().engine_panics, 0);
}

#[test]
fn what_is_read_of_data_matches_what_is_written() {
    let (kind, flags, value) = data(1, 2, 3, 7, b"abcd");
    let parsed = Data::parse(&crate::wire::Chunk { kind, flags, value: &value }).unwrap();
    let expected =
        Data { tsn: 1, stream: 2, sequence: 3, unordered: true, begins: true, ends: true, bytes: 4 };
    assert_eq!(parsed, expected);
}
