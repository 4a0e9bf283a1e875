//! What another program makes of the admin channel over UDP: tshark decodes everything that went by while pipoctl
//! logged in, worked and left. Our own code only says what the octets inside the messages mean.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use pipo_protocol::v2::{Command as Asked, Header, Kind, Record};

use crate::harness::admin::{login, places};
use crate::harness::capture::Capture;
use crate::harness::machine::program;
use crate::harness::pipoctl::Pipoctl;
use crate::harness::{Daemon, TempDir, eventually};

/// Passwords that occur nowhere by chance.
const SECRET: &str = "hold-on-to-your-hat";
const NEW_SECRET: &str = "gone-with-the-wind";

/// Types of chunks (RFC 9260 §3.2).
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Client,
    Server,
}

/// What tshark says of one datagram.
#[derive(Debug)]
struct Packet {
    from: Side,
    tag: u32,
    /// The types of its chunks.
    chunks: Vec<u8>,
    /// The tags and first TSNs that INIT and INIT ACK offer.
    offered_tags: Vec<u32>,
    offered_tsns: Vec<u32>,
    /// The TSN up to which SACK and SHUTDOWN acknowledge.
    acknowledged: Vec<u32>,
    data: Vec<Data>,
    /// Messages that are whole with this packet, in the order of its chunks.
    messages: Vec<Vec<u8>>,
}

/// A DATA chunk.
#[derive(Debug)]
struct Data {
    tsn: u32,
    stream: u16,
    is_last: bool,
}

/// What tshark is asked for, in the order of the columns of its answer.
const FIELDS: [&str; 19] = [
    "udp.srcport",
    "sctp.checksum.status",
    "_ws.malformed",
    "_ws.expert.message",
    "sctp.verification_tag",
    "sctp.chunk_type",
    "sctp.init_initiate_tag",
    "sctp.initack_initiate_tag",
    "sctp.init_initial_tsn",
    "sctp.initack_initial_tsn",
    "sctp.sack_cumulative_tsn_ack_raw",
    "sctp.shutdown_cumulative_tsn_ack",
    "sctp.data_tsn_raw",
    "sctp.data_sid",
    "sctp.data_u_bit",
    "sctp.data_e_bit",
    "sctp.data_payload_proto_id",
    "sctp.retransmission",
    "data.data",
];

/// Runs pipoctl with that script past a capture; gives what tshark reads there, and the file's octets.
fn captured(daemon: &Daemon, arguments: &[&str], script: &str) -> (Vec<Packet>, Vec<u8>) {
    let server = places(daemon)[0].udp;
    let capture = Capture::of(server);
    let root = Pipoctl::by_way_of(daemon, capture.port(), "root", SECRET);
    let ran = root.run_with(arguments, script);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    eventually("the association is closed", || capture.last_chunk() == Some(SHUTDOWN_COMPLETE));
    let folder = TempDir::new();
    let file = folder.path().join("capture.pcap");
    let count = capture.write(&file);
    let mut tshark = Command::new(program("tshark", "tshark"));
    tshark.env("HOME", folder.path()).arg("-n").arg("-r").arg(&file);
    tshark.args(["-d", &format!("udp.port=={},sctp", server.port())]);
    tshark.args(["-o", "sctp.checksum:crc-32c", "-o", "sctp.reassembly:true"]);
    tshark.args(["-T", "fields", "-E", "separator=|", "-E", "aggregator=,"]);
    tshark.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    let output = tshark.output().expect("tshark starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("hexadecimal and decimal numbers");
    let packets: Vec<_> = text.lines().map(|line| packet(line, server.port())).collect();
    assert_eq!(packets.len(), count, "{text}");
    (packets, std::fs::read(file).expect("the capture"))
}

/// Reads a line of tshark, and holds it to what is true of every datagram.
fn packet(line: &str, server_port: u16) -> Packet {
    let columns: Vec<&str> = line.split('|').collect();
    assert_eq!(columns.len(), FIELDS.len(), "{line}");
    let column = |field: &str| columns[FIELDS.iter().position(|each| *each == field).expect("a field")];
    let numbers = |field: &str| -> Vec<u32> {
        column(field).split(',').filter(|text| !text.is_empty()).map(number).collect()
    };
    assert_eq!(column("sctp.checksum.status"), "1", "the checksum is wrong, or it is no SCTP: {line}");
    assert_eq!(column("_ws.malformed"), "", "{line}");
    // On a busy machine an acknowledgement may come too late. Nothing else may look odd.
    let is_repeated = !column("sctp.retransmission").is_empty();
    assert!(is_repeated || column("_ws.expert.message").is_empty(), "{line}");
    assert!(numbers("sctp.data_payload_proto_id").iter().all(|&identifier| identifier == 0), "{line}");
    assert!(numbers("sctp.data_u_bit").iter().all(|&bit| bit == 0), "everything is ordered: {line}");
    let data = numbers("sctp.data_tsn_raw")
        .into_iter()
        .zip(numbers("sctp.data_sid"))
        .zip(numbers("sctp.data_e_bit"))
        .map(|((tsn, stream), last)| Data { tsn, stream: stream as u16, is_last: last == 1 })
        .collect();
    let both = |one, other| [numbers(one), numbers(other)].concat();
    Packet {
        from: if column("udp.srcport") == server_port.to_string() { Side::Server } else { Side::Client },
        tag: numbers("sctp.verification_tag")[0],
        chunks: numbers("sctp.chunk_type").iter().map(|&kind| kind as u8).collect(),
        offered_tags: both("sctp.init_initiate_tag", "sctp.initack_initiate_tag"),
        offered_tsns: both("sctp.init_initial_tsn", "sctp.initack_initial_tsn"),
        acknowledged: both("sctp.sack_cumulative_tsn_ack_raw", "sctp.shutdown_cumulative_tsn_ack"),
        data,
        messages: column("data.data").split(',').filter(|text| !text.is_empty()).map(octets).collect(),
    }
}

/// tshark writes some fields in decimal and some in hexadecimal.
fn number(text: &str) -> u32 {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16));
    parsed.unwrap_or_else(|_| panic!("{text:?} is no number"))
}

fn octets(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("two digits")).collect()
}

/// Holds a whole association to RFC 9260: handshake (§5.1), tags (§8.5), numbers and acknowledgements (§6), and the
/// close (§9.2), which `closer` begins.
fn check_association(packets: &[Packet], closer: Side) {
    let other = if closer == Side::Client { Side::Server } else { Side::Client };
    let chunks = || packets.iter().flat_map(|packet| packet.chunks.iter().map(|&kind| (packet.from, kind)));
    let mut seen = BTreeSet::new();
    let control: Vec<_> = chunks()
        .filter(|(_, kind)| ![DATA, SACK, HEARTBEAT, HEARTBEAT_ACK].contains(kind))
        .filter(|chunk| seen.insert(*chunk))
        .collect();
    let expected = [
        (Side::Client, INIT),
        (Side::Server, INIT_ACK),
        (Side::Client, COOKIE_ECHO),
        (Side::Server, COOKIE_ACK),
        (closer, SHUTDOWN),
        (other, SHUTDOWN_ACK),
        (closer, SHUTDOWN_COMPLETE),
    ];
    assert_eq!(control, expected);
    assert_eq!((packets[0].chunks.as_slice(), packets[0].tag), (&[INIT][..], 0));
    let offer = |side| packets.iter().find(|packet| packet.from == side).expect("both sides speak");
    for (side, peer) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
        let [tag] = offer(peer).offered_tags[..] else { panic!("{:?}", offer(peer)) };
        assert_ne!(tag, 0);
        for packet in packets.iter().filter(|packet| packet.from == side && packet.chunks != [INIT]) {
            assert_eq!(packet.tag, tag, "{packet:?}");
        }
        // How far from the first TSN each is: none is missing.
        let first = offer(side).offered_tsns[0];
        let sent = packets.iter().filter(|packet| packet.from == side).flat_map(|packet| &packet.data);
        let sent: BTreeSet<u32> = sent.map(|data| data.tsn.wrapping_sub(first)).collect();
        assert!(sent.iter().copied().eq(0..sent.len() as u32), "{side:?}: {sent:?}");
        let acknowledged = packets.iter().filter(|packet| packet.from == peer);
        let acknowledged = acknowledged.flat_map(|packet| &packet.acknowledged).copied();
        let acknowledged = acknowledged.map(|tsn| tsn.wrapping_sub(first).wrapping_add(1)).max();
        assert_eq!(acknowledged, Some(sent.len() as u32), "the peer of {side:?} has acknowledged everything");
    }
}

/// Messages of one side in the order of their last chunks, each with its stream.
fn messages(packets: &[Packet], side: Side) -> Vec<(u16, Vec<u8>)> {
    let mut messages = BTreeMap::new();
    let first = packets.iter().find(|packet| packet.from == side).expect("both sides speak").offered_tsns[0];
    for packet in packets.iter().filter(|packet| packet.from == side) {
        let ends = packet.data.iter().filter(|data| data.is_last);
        for (data, message) in ends.zip(&packet.messages) {
            messages.entry(data.tsn.wrapping_sub(first)).or_insert((data.stream, message.clone()));
        }
    }
    let sent = packets.iter().filter(|packet| packet.from == side).flat_map(|packet| &packet.data);
    let ends: BTreeSet<u32> = sent.filter(|data| data.is_last).map(|data| data.tsn).collect();
    assert_eq!(messages.len(), ends.len(), "tshark put every message of {side:?} together");
    messages.into_values().collect()
}

fn has(capture: &[u8], text: &str) -> bool {
    capture.windows(text.len()).any(|window| window == text.as_bytes())
}

fn daemon() -> Daemon {
    Daemon::start(&["--admin", &format!("root:{SECRET}"), "--workers", "1"])
}

/// The records of one side, each with its stream; every message is one.
fn records(packets: &[Packet], side: Side) -> Vec<(u16, Header)> {
    let read = |(stream, message): (u16, Vec<u8>)| {
        let record = Record::decode(&message).unwrap_or_else(|error| panic!("{error}: {message:02x?}"));
        (stream, record.header)
    };
    messages(packets, side).into_iter().map(read).collect()
}

#[test]
fn version_2_is_sound_sctp_and_carries_no_password() {
    let daemon = daemon();
    let script = format!(
        "user list\nuser add ada --password-stdin\n{NEW_SECRET}\nmetrics --meanings\n\
         events --from 0 --kind changed --count 1\nserver info\n"
    );
    let (packets, capture) = captured(&daemon, &[], &script);
    check_association(&packets, Side::Server);
    for secret in [SECRET, NEW_SECRET] {
        assert!(!has(&capture, secret), "{secret} went by in clear");
    }

    let requests = records(&packets, Side::Client);
    let mut numbers = BTreeSet::new();
    for (stream, header) in &requests {
        assert_eq!((header.kind, header.last, stream), (Kind::Request, true, &0), "{header:?}");
        assert!(header.request != 0 && numbers.insert(header.request), "{header:?}");
    }
    // Credit goes back as the client sees fit.
    let requests: Vec<Header> = requests.into_iter().map(|(_, header)| header).collect();
    let requests: Vec<_> = requests.iter().filter(|header| header.command != Asked::Credit.code()).collect();
    let asked = [
        Asked::Hello,
        Asked::LoginStart,
        Asked::LoginProof,
        Asked::UserList,
        Asked::UserAdd,
        Asked::Metrics,
        Asked::Events,
        Asked::Unsubscribe,
        Asked::ServerInfo,
        Asked::Goodbye,
    ];
    assert_eq!(requests.iter().map(|header| header.command).collect::<Vec<_>>(), asked.map(Asked::code));

    let answers = records(&packets, Side::Server);
    let mut streams: BTreeMap<u32, BTreeSet<u16>> = BTreeMap::new();
    for (stream, header) in &answers {
        let request = requests.iter().find(|request| request.request == header.request).expect("a request");
        assert_eq!(header.command, request.command, "{header:?}");
        assert!(header.channel == 0 || header.channel == request.channel, "{header:?}");
        assert_eq!(*stream == 0, header.channel == 0, "channels have streams of their own: {header:?}");
        streams.entry(header.request).or_default().insert(*stream);
    }
    for request in &requests {
        let answers = answers.iter().map(|(_, header)| header);
        let of_it: Vec<_> = answers.filter(|header| header.request == request.request).collect();
        let (last, before) = of_it.split_last().expect("an answer");
        assert!(last.last, "{last:?}");
        // The reply to a subscription is the last of its kind, and its channel has a last record, too.
        let ends = usize::from(request.command == Asked::Events.code());
        assert_eq!(before.iter().filter(|header| header.last).count(), ends, "{of_it:?}");
        assert!(streams[&request.request].len() <= 1 + ends, "one stream for one channel: {of_it:?}");
    }
    let parts = answers.iter().filter(|(_, header)| header.command == Asked::Metrics.code()).count();
    assert!(parts >= 3, "a list of several records, each in several chunks: {parts}");
    let events = answers.iter().filter(|(_, header)| header.kind == Kind::Event).count();
    assert_eq!(events, 2, "what happened, and the end of the subscription");
}

#[test]
fn version_1_travels_as_its_octets_say() {
    let daemon = daemon();
    let script = format!("0\nuser add ada --password-stdin\n{NEW_SECRET}\n7\n11 ada\n");
    let (packets, capture) = captured(&daemon, &["--protocol", "1"], &script);
    check_association(&packets, Side::Client);
    assert!(has(&capture, SECRET) && has(&capture, NEW_SECRET), "version 1 has no other way");
    let added = [b"\x01\x00\x03ada\x12", NEW_SECRET.as_bytes(), b"\x00"].concat();
    let dialogue: [(&[u8], &[u8]); 8] = [
        (&login(b"root", SECRET.as_bytes()), b"\x01\x00"),
        (b"\x00\x00", b"\x00\x00\x02\x09anonymous\x00\x04root\x01"),
        (&added, b"\x01\x00\x00"),
        // Three numbers belong together, and so do name, role and sessions of a user.
        (b"\x00\x02", b"\x00\x02\x00\x00"),
        (b"\x00\x06", b"\x00\x06\x00"),
        (b"\x00\x07", b"\x00\x07\x03"),
        (b"\x00\x00", b"\x00\x00\x03\x03ada\x00\x09anonymous\x00\x04root\x01"),
        (b"\x00\x0b\x03ada", b"\x00\x0b\x00\x00"),
    ];
    let sent = messages(&packets, Side::Client);
    assert!(sent.iter().all(|(stream, _)| *stream == 0), "{sent:02x?}");
    // A stream of octets, however they are cut.
    let sent = sent.into_iter().flat_map(|(_, message)| message).collect::<Vec<_>>();
    assert_eq!(sent, dialogue.map(|(request, _)| request).concat());
    let answered = messages(&packets, Side::Server);
    assert_eq!(answered, dialogue.map(|(_, answer)| (0, answer.to_vec())), "each reply is one message");
}
