//! Values of the chunks that are read here: INIT and INIT ACK, DATA, SACK, and the causes of errors.
//!
//! Decoders take a chunk's value, whose length [`crate::wire::Packet`] has checked, and never panic.

use crate::limits::WINDOW_BYTES_MIN;
use crate::wire::{CHUNK_HEADER_BYTES, Chunk, ChunkKind, HEADER_BYTES, Header, PacketWriter, Reader};

/// Parameter types of INIT and INIT ACK, RFC 9260 §3.3.2 and §3.3.3.
const PARAMETER_IPV4: u16 = 5;
const PARAMETER_IPV6: u16 = 6;
const PARAMETER_STATE_COOKIE: u16 = 7;
const PARAMETER_UNRECOGNIZED: u16 = 8;
const PARAMETER_COOKIE_PRESERVATIVE: u16 = 9;
const PARAMETER_HOST_NAME: u16 = 11;
const PARAMETER_ADDRESS_TYPES: u16 = 12;

/// Type and length of a parameter or an error cause.
const PARAMETER_HEADER_BYTES: usize = 4;

/// Error causes, RFC 9260 §3.3.10, of those that are sent or understood here.
pub(crate) mod cause {
    pub(crate) const INVALID_STREAM: u16 = 1;
    pub(crate) const STALE_COOKIE: u16 = 3;
    pub(crate) const OUT_OF_RESOURCE: u16 = 4;
    pub(crate) const NO_USER_DATA: u16 = 9;
    pub(crate) const USER_ABORT: u16 = 12;
    pub(crate) const PROTOCOL_VIOLATION: u16 = 13;
}

/// The fixed fields of INIT and INIT ACK, RFC 9260 §3.3.2.
///
/// Shape: `TAG(4) WINDOW(4) OUTBOUND(2) INBOUND(2) TSN(4)`, then parameters; the window in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Init {
    pub(crate) tag: u32,
    pub(crate) window: u32,
    pub(crate) outbound: u16,
    pub(crate) inbound: u16,
    pub(crate) tsn: u32,
}

/// What the parameters of an INIT or INIT ACK held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer<'a> {
    pub(crate) init: Init,
    /// The State Cookie of an INIT ACK.
    pub(crate) cookie: Option<&'a [u8]>,
    /// Address parameters passed over.
    pub(crate) addresses: u64,
}

impl Init {
    /// Reads a value. `None`: too short, a field that RFC 9260 §3.3.2 forbids, or a parameter that does not fit.
    ///
    /// Addresses (types 5, 6 and 11) and the Cookie Preservative (9) are passed over: the association runs over
    /// the one path its datagrams come from. Unknown types are skipped, or end the walk, as their highest bit
    /// says (§3.2.1). A first TSN of zero is legal but refused: the engine cannot take it, and 1 peer in 2^32
    /// tries again.
    pub(crate) fn parse(value: &[u8]) -> Option<Offer<'_>> {
        let mut reader = Reader(value);
        let init = Self {
            tag: reader.u32()?,
            window: reader.u32()?,
            outbound: reader.u16()?,
            inbound: reader.u16()?,
            tsn: reader.u32()?,
        };
        let sound = init.tag != 0
            && init.tsn != 0
            && init.outbound != 0
            && init.inbound != 0
            && init.window >= WINDOW_BYTES_MIN;
        if !sound {
            return None;
        }
        let mut offer = Offer { init, cookie: None, addresses: 0 };
        while reader.0.len() >= PARAMETER_HEADER_BYTES {
            let (kind, value) = parameter(&mut reader)?;
            match kind {
                PARAMETER_IPV4 | PARAMETER_IPV6 | PARAMETER_COOKIE_PRESERVATIVE | PARAMETER_HOST_NAME => {
                    offer.addresses += 1;
                }
                PARAMETER_STATE_COOKIE => offer.cookie = offer.cookie.or(Some(value)),
                PARAMETER_UNRECOGNIZED | PARAMETER_ADDRESS_TYPES => {}
                unknown if unknown & 0x8000 == 0 => break,
                _ => {}
            }
        }
        Some(offer)
    }

    /// The fixed fields as they stand on the wire.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let fields = self
            .tag
            .to_be_bytes()
            .into_iter()
            .chain(self.window.to_be_bytes())
            .chain(self.outbound.to_be_bytes())
            .chain(self.inbound.to_be_bytes())
            .chain(self.tsn.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    /// A whole INIT chunk without parameters: how the engine is told what was agreed.
    pub(crate) fn to_chunk(self) -> Vec<u8> {
        let mut chunk = vec![ChunkKind::Init.code(), 0, 0, 20];
        chunk.extend_from_slice(&self.to_bytes());
        chunk
    }
}

/// One parameter: `TYPE(2) LENGTH(2) VALUE`, padded. `None`: the length is below four or beyond the end.
fn parameter<'a>(reader: &mut Reader<'a>) -> Option<(u16, &'a [u8])> {
    let kind = reader.u16()?;
    let length = usize::from(reader.u16()?);
    let value = reader.bytes(length.checked_sub(PARAMETER_HEADER_BYTES)?)?;
    let padding = length.next_multiple_of(4) - length;
    reader.0 = reader.0.get(padding..).unwrap_or_default();
    Some((kind, value))
}

/// An INIT ACK with its State Cookie.
pub(crate) fn init_ack(header: Header, init: Init, cookie: &[u8]) -> Vec<u8> {
    let length = u16::try_from(cookie.len() + PARAMETER_HEADER_BYTES).unwrap_or(u16::MAX);
    let parameter = [PARAMETER_STATE_COOKIE.to_be_bytes(), length.to_be_bytes()].concat();
    PacketWriter::new(header, 24 + cookie.len())
        .chunk(ChunkKind::InitAck, 0, &[&init.to_bytes(), &parameter, cookie])
        .finish()
}

/// A packet with one chunk that holds one error cause: ABORT or ERROR.
pub(crate) fn failure(header: Header, kind: ChunkKind, code: u16, information: &[u8]) -> Vec<u8> {
    let length = u16::try_from(information.len() + PARAMETER_HEADER_BYTES).unwrap_or(u16::MAX);
    let cause = [code.to_be_bytes(), length.to_be_bytes()].concat();
    PacketWriter::new(header, 16 + information.len()).chunk(kind, 0, &[&cause, information]).finish()
}

/// The code of the first cause in an ABORT or ERROR. `None`: it names none.
pub(crate) fn first_cause(value: &[u8]) -> Option<u16> {
    parameter(&mut Reader(value)).map(|(code, _)| code)
}

/// The fields of a DATA chunk, RFC 9260 §3.3.1.
///
/// Shape: flags `I(8) U(4) B(2) E(1)`; value `TSN(4) STREAM(2) SEQUENCE(2) PROTOCOL(4) BYTES(1..)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) tsn: u32,
    pub(crate) stream: u16,
    pub(crate) sequence: u16,
    pub(crate) unordered: bool,
    pub(crate) begins: bool,
    pub(crate) ends: bool,
    pub(crate) bytes: usize,
}

/// The I flag: the receiver should acknowledge at once (RFC 7053).
pub(crate) const FLAG_IMMEDIATE: u8 = 0x08;

impl Data {
    /// Reads a chunk. `None`: shorter than its fields. The payload protocol identifier is not looked at.
    pub(crate) fn parse(chunk: &Chunk<'_>) -> Option<Self> {
        let mut reader = Reader(chunk.value);
        let (tsn, stream, sequence) = (reader.u32()?, reader.u16()?, reader.u16()?);
        let _protocol = reader.u32()?;
        Some(Self {
            tsn,
            stream,
            sequence,
            unordered: chunk.flags & 0x04 != 0,
            begins: chunk.flags & 0x02 != 0,
            ends: chunk.flags & 0x01 != 0,
            bytes: reader.0.len(),
        })
    }
}

/// A run of TSNs that arrived out of order: first and last, counted from the cumulative TSN.
pub(crate) type Gap = (u16, u16);

/// A SACK, RFC 9260 §3.3.4, without its report of duplicates.
///
/// Shape: `CUMULATIVE(4) WINDOW(4) GAPS(2) DUPLICATES(2)`, then each gap as `START(2) END(2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sack {
    pub(crate) cumulative: u32,
    pub(crate) window: u32,
    pub(crate) gaps: Vec<Gap>,
}

/// Fixed fields of a SACK.
const SACK_FIELDS_BYTES: usize = 12;

/// Gaps that the length field of a chunk has room for.
const SACK_GAPS_MAX: usize = (u16::MAX as usize - CHUNK_HEADER_BYTES - SACK_FIELDS_BYTES) / 4;

impl Sack {
    /// Reads a value. `None`: counts that do not fit it, or gaps that are empty, overlap or go backwards.
    ///
    /// The order is what bounds the engine's work: it visits every TSN that a gap names, and the same gap
    /// repeated a thousand times would be visited a thousand times.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let mut reader = Reader(value);
        let (cumulative, window) = (reader.u32()?, reader.u32()?);
        let (gaps_count, duplicates_count) = (usize::from(reader.u16()?), usize::from(reader.u16()?));
        if reader.0.len() < (gaps_count + duplicates_count) * 4 {
            return None;
        }
        let mut gaps = Vec::with_capacity(gaps_count);
        let mut previous = 0;
        for _ in 0..gaps_count {
            let (start, end) = (reader.u16()?, reader.u16()?);
            if start <= previous || end < start {
                return None;
            }
            previous = end;
            gaps.push((start, end));
        }
        Some(Self { cumulative, window, gaps })
    }

    /// The value, with as many gaps as a packet of `packet_bytes_max` holds (the first: RFC 9260 §3.3.4).
    pub(crate) fn to_value(&self, packet_bytes_max: usize) -> Vec<u8> {
        let fixed = HEADER_BYTES + CHUNK_HEADER_BYTES + SACK_FIELDS_BYTES;
        let room = (packet_bytes_max.saturating_sub(fixed) / 4).min(SACK_GAPS_MAX);
        let gaps = self.gaps.get(..room).unwrap_or(&self.gaps);
        let count = u16::try_from(gaps.len()).unwrap_or(u16::MAX);
        let mut value = Vec::with_capacity(SACK_FIELDS_BYTES + gaps.len() * 4);
        value.extend_from_slice(&self.cumulative.to_be_bytes());
        value.extend_from_slice(&self.window.to_be_bytes());
        value.extend_from_slice(&count.to_be_bytes());
        value.extend_from_slice(&[0, 0]);
        for (start, end) in gaps {
            value.extend_from_slice(&start.to_be_bytes());
            value.extend_from_slice(&end.to_be_bytes());
        }
        value
    }

    /// A packet with this SACK alone.
    pub(crate) fn to_packet(&self, header: Header, packet_bytes_max: usize) -> Vec<u8> {
        let value = self.to_value(packet_bytes_max);
        PacketWriter::new(header, CHUNK_HEADER_BYTES + value.len())
            .chunk(ChunkKind::Sack, 0, &[&value])
            .finish()
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers of tests")]
mod tests {
    use super::*;
    use crate::wire::Packet;
    use proptest::prelude::*;

    const INIT: Init = Init { tag: 0xa1b2_c3d4, window: 65_536, outbound: 10, inbound: 20, tsn: 77 };
    const HEADER: Header = Header { source: 1, destination: 2, tag: 3 };

    fn with_parameters(parameters: &[u8]) -> Vec<u8> {
        [&INIT.to_bytes(), parameters].concat()
    }

    #[test]
    fn init_parameters_are_read_or_passed_over() {
        type Case = (&'static str, &'static [u8], Option<&'static [u8]>, u64);
        let cases: [Case; 7] = [
            ("none", &[], None, 0),
            ("two IPv4 addresses", &[0, 5, 0, 8, 127, 0, 0, 1, 0, 5, 0, 8, 10, 0, 0, 1], None, 2),
            (
                "IPv6, preservative, host name, then the cookie",
                &[
                    0, 6, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // IPv6
                    0, 9, 0, 8, 0, 0, 0, 1, // cookie preservative
                    0, 11, 0, 6, b'h', 0, 0, 0, // host name, padded
                    0, 7, 0, 7, 1, 2, 3, 0, // state cookie, padded
                ],
                Some(&[1, 2, 3]),
                3,
            ),
            ("an unknown type that ends the walk", &[0, 99, 0, 4, 0, 7, 0, 5, 1, 0, 0, 0], None, 0),
            ("an unknown type that is skipped", &[0x80, 99, 0, 4, 0, 7, 0, 5, 1, 0, 0, 0], Some(&[1]), 0),
            (
                "forward TSN supported and supported address types",
                &[0xc0, 0, 0, 4, 0, 12, 0, 6, 0, 5, 0, 0],
                None,
                0,
            ),
            ("a rest too short for a parameter", &[0, 0, 0], None, 0),
        ];
        for (name, parameters, cookie, addresses) in cases {
            let value = with_parameters(parameters);
            assert_eq!(Init::parse(&value), Some(Offer { init: INIT, cookie, addresses }), "{name}");
        }
    }

    #[test]
    fn unsound_inits_are_refused() {
        for (name, value) in [
            ("short", INIT.to_bytes()[..15].to_vec()),
            ("tag zero", Init { tag: 0, ..INIT }.to_bytes().to_vec()),
            ("TSN zero", Init { tsn: 0, ..INIT }.to_bytes().to_vec()),
            ("no stream out", Init { outbound: 0, ..INIT }.to_bytes().to_vec()),
            ("no stream in", Init { inbound: 0, ..INIT }.to_bytes().to_vec()),
            ("window below 1500", Init { window: 1499, ..INIT }.to_bytes().to_vec()),
            ("parameter shorter than its header", with_parameters(&[0, 5, 0, 3])),
            ("parameter beyond the end", with_parameters(&[0, 5, 0, 9, 1, 2, 3, 4])),
        ] {
            assert_eq!(Init::parse(&value), None, "{name}");
        }
    }

    #[test]
    fn an_init_ack_carries_its_cookie() {
        let packet = init_ack(HEADER, INIT, &[9; 48]);
        let parsed = Packet::parse(&packet, 1).unwrap();
        assert_eq!(parsed.first.kind, ChunkKind::InitAck);
        let offer = Init::parse(parsed.first.value).unwrap();
        assert_eq!((offer.init, offer.cookie), (INIT, Some(&[9u8; 48][..])));
    }

    #[test]
    fn causes_are_written_and_read() {
        let packet = failure(HEADER, ChunkKind::Abort, cause::USER_ABORT, b"why");
        let parsed = Packet::parse(&packet, 1).unwrap();
        assert_eq!(first_cause(parsed.first.value), Some(cause::USER_ABORT));
        assert_eq!(first_cause(&[]), None);
        assert_eq!(first_cause(&[0, 12, 0, 3]), None);
    }

    #[test]
    fn sack_gaps_must_go_forward() {
        let sack = |gaps: &[Gap]| {
            let mut value = vec![0, 0, 0, 9, 0, 0, 0x10, 0, 0, gaps.len() as u8, 0, 0];
            for (start, end) in gaps {
                value.extend_from_slice(&start.to_be_bytes());
                value.extend_from_slice(&end.to_be_bytes());
            }
            Sack::parse(&value)
        };
        for (gaps, sound) in [
            (&[][..], true),
            (&[(2, 2), (4, 9)], true),
            (&[(1, u16::MAX)], true),
            (&[(0, 1)], false),
            (&[(3, 2)], false),
            (&[(2, 5), (5, 6)], false),
            (&[(4, 5), (2, 3)], false),
        ] {
            assert_eq!(sack(gaps).is_some(), sound, "{gaps:?}");
        }
        assert_eq!(Sack::parse(&[0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0]), None, "a gap that is not there");
    }

    #[test]
    fn a_sack_packet_keeps_the_first_gaps_that_fit() {
        let gaps: Vec<Gap> = (0..500u16).map(|n| (2 + n * 2, 2 + n * 2)).collect();
        let sack = Sack { cumulative: 5, window: 6, gaps };
        let packet = sack.to_packet(HEADER, 1228);
        assert!(packet.len() <= 1228);
        let read = Sack::parse(Packet::parse(&packet, 1).unwrap().first.value).unwrap();
        assert_eq!((read.cumulative, read.window), (5, 6));
        assert_eq!(read.gaps, sack.gaps[..300]);
    }

    proptest! {
        #[test]
        fn decoders_take_any_bytes(value in proptest::collection::vec(any::<u8>(), 0..200), flags: u8) {
            let _ = Init::parse(&value);
            let _ = Sack::parse(&value);
            let _ = first_cause(&value);
            let data = Data::parse(&Chunk { kind: ChunkKind::Data, flags, value: &value });
            prop_assert_eq!(data.map(|data| data.bytes), value.len().checked_sub(12));
        }
    }
}
