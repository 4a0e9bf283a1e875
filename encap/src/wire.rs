//! SCTP packets (RFC 9260 §3): the common header, CRC32C, the walk over chunks, and a writer.
//!
//! Everything a peer sends passes [`Packet::parse`] first: after it each chunk is known to lie inside the
//! datagram. Chunk values are read in [`crate::chunks`].

use crc::{CRC_32_ISCSI, Crc, Table};

/// The polynomial of RFC 3309, a table of sixteen steps at once.
const CASTAGNOLI: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Ports, verification tag, checksum.
pub(crate) const HEADER_BYTES: usize = 12;

/// Type, flags, length.
pub(crate) const CHUNK_HEADER_BYTES: usize = 4;

/// The T flag of ABORT and SHUTDOWN COMPLETE: the verification tag is the receiver's reflected one.
pub(crate) const FLAG_REFLECTED: u8 = 0x01;

/// Common header, RFC 9260 §3.1: `SOURCE(2) DESTINATION(2) TAG(4) CHECKSUM(4)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) tag: u32,
}

/// Chunk types, RFC 9260 §3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkKind {
    Data,
    Init,
    InitAck,
    Sack,
    Heartbeat,
    HeartbeatAck,
    Abort,
    Shutdown,
    ShutdownAck,
    Error,
    CookieEcho,
    CookieAck,
    ShutdownComplete,
    Unassigned(u8),
}

impl ChunkKind {
    /// The byte on the wire.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Init => 1,
            Self::InitAck => 2,
            Self::Sack => 3,
            Self::Heartbeat => 4,
            Self::HeartbeatAck => 5,
            Self::Abort => 6,
            Self::Shutdown => 7,
            Self::ShutdownAck => 8,
            Self::Error => 9,
            Self::CookieEcho => 10,
            Self::CookieAck => 11,
            Self::ShutdownComplete => 14,
            Self::Unassigned(code) => code,
        }
    }
}

impl From<u8> for ChunkKind {
    fn from(code: u8) -> Self {
        match code {
            0 => Self::Data,
            1 => Self::Init,
            2 => Self::InitAck,
            3 => Self::Sack,
            4 => Self::Heartbeat,
            5 => Self::HeartbeatAck,
            6 => Self::Abort,
            7 => Self::Shutdown,
            8 => Self::ShutdownAck,
            9 => Self::Error,
            10 => Self::CookieEcho,
            11 => Self::CookieAck,
            14 => Self::ShutdownComplete,
            _ => Self::Unassigned(code),
        }
    }
}

/// One chunk of a packet: `TYPE(1) FLAGS(1) LENGTH(2) VALUE`, padded to four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    pub(crate) kind: ChunkKind,
    pub(crate) flags: u8,
    pub(crate) value: &'a [u8],
}

/// Why a datagram is not a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    Short,
    Checksum,
    Port,
    ChunkLength,
    ChunkCount,
}

/// A packet whose checksum and chunk lengths are right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) header: Header,
    pub(crate) first: Chunk<'a>,
    body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks length, checksum, ports and the walk over the chunks, in this order.
    pub(crate) fn parse(datagram: &'a [u8], chunks_max: usize) -> Result<Self, Malformed> {
        let mut reader = Reader(datagram);
        let (Some(source), Some(destination), Some(tag), Some(sum)) =
            (reader.u16(), reader.u16(), reader.u32(), reader.array::<4>())
        else {
            return Err(Malformed::Short);
        };
        let body = reader.0;
        if body.len() < CHUNK_HEADER_BYTES {
            return Err(Malformed::Short);
        }
        if u32::from_le_bytes(sum) != checksum(datagram) {
            return Err(Malformed::Checksum);
        }
        if source == 0 || destination == 0 {
            return Err(Malformed::Port);
        }
        let mut rest = body;
        let mut first = None;
        let mut count = 0usize;
        while !rest.is_empty() {
            let (chunk, after) = split_chunk(rest).ok_or(Malformed::ChunkLength)?;
            first = first.or(Some(chunk));
            rest = after;
            count += 1;
            if count > chunks_max {
                return Err(Malformed::ChunkCount);
            }
        }
        let first = first.ok_or(Malformed::Short)?;
        Ok(Self { header: Header { source, destination, tag }, first, body })
    }

    /// The chunks in order.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Chunk<'a>> + use<'a> {
        walk(self.body)
    }

    /// Whether there is only one chunk.
    pub(crate) fn is_single(&self) -> bool {
        self.chunks().nth(1).is_none()
    }
}

/// The chunks of a packet that the engine made: its checksum is not looked at.
pub(crate) fn chunks_of(packet: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    walk(packet.get(HEADER_BYTES..).unwrap_or_default())
}

/// Chunk after chunk, up to the end or the first that does not fit.
fn walk(mut rest: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    std::iter::from_fn(move || {
        let (chunk, after) = split_chunk(rest)?;
        rest = after;
        Some(chunk)
    })
}

/// The first chunk and what follows it. `None`: its length is below four or beyond the end.
///
/// Padding missing after the very last chunk is forgiven: nothing is read from it.
fn split_chunk(body: &[u8]) -> Option<(Chunk<'_>, &[u8])> {
    let mut reader = Reader(body);
    let kind = ChunkKind::from(reader.u8()?);
    let flags = reader.u8()?;
    let length = usize::from(reader.u16()?);
    let value = reader.bytes(length.checked_sub(CHUNK_HEADER_BYTES)?)?;
    let padding = length.next_multiple_of(4) - length;
    let rest = reader.0.get(padding..).unwrap_or_default();
    Some((Chunk { kind, flags, value }, rest))
}

/// CRC32C over a whole packet, its checksum field read as zero (RFC 9260 appendix A). Sent little-endian.
pub(crate) fn checksum(packet: &[u8]) -> u32 {
    let mut digest = CASTAGNOLI.digest();
    digest.update(packet.get(..8).unwrap_or(packet));
    digest.update(&[0; 4]);
    digest.update(packet.get(HEADER_BYTES..).unwrap_or_default());
    digest.finalize()
}

/// Builds one packet chunk by chunk.
pub(crate) struct PacketWriter(Vec<u8>);

impl PacketWriter {
    /// A packet without chunks, with room for `bytes` of them.
    pub(crate) fn new(header: Header, bytes: usize) -> Self {
        let mut packet = Vec::with_capacity(HEADER_BYTES + bytes);
        packet.extend_from_slice(&header.source.to_be_bytes());
        packet.extend_from_slice(&header.destination.to_be_bytes());
        packet.extend_from_slice(&header.tag.to_be_bytes());
        packet.extend_from_slice(&[0; 4]);
        Self(packet)
    }

    /// Adds a chunk whose value is `parts` one after the other, and pads it.
    ///
    /// Values here are below 64 KiB by construction; a longer one would be cut to what the length can say.
    pub(crate) fn chunk(mut self, kind: ChunkKind, flags: u8, parts: &[&[u8]]) -> Self {
        let room = usize::from(u16::MAX) - CHUNK_HEADER_BYTES;
        let value: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert!(value <= room, "a chunk value of {value} bytes");
        let length = u16::try_from(value.min(room) + CHUNK_HEADER_BYTES).unwrap_or(u16::MAX);
        self.0.push(kind.code());
        self.0.push(flags);
        self.0.extend_from_slice(&length.to_be_bytes());
        let mut left = value.min(room);
        for part in parts {
            let taken = part.get(..left.min(part.len())).unwrap_or_default();
            self.0.extend_from_slice(taken);
            left -= taken.len();
        }
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// The packet with its checksum.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let sum = checksum(&self.0).to_le_bytes();
        if let Some(field) = self.0.get_mut(8..HEADER_BYTES) {
            field.copy_from_slice(&sum);
        }
        self.0
    }
}

/// Takes big-endian fields off the front of a slice. `None`: not enough bytes.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: Header = Header { source: 5000, destination: 8080, tag: 0x0102_0304 };

    #[test]
    fn crc32c_matches_the_vectors_of_rfc_3720() {
        // RFC 3720 appendix B.4, the vectors that RFC 3309 implementations are checked against.
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        for (bytes, expected) in [
            (&[0u8; 32][..], 0x8a91_36aau32),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
        ] {
            assert_eq!(CASTAGNOLI.checksum(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn the_checksum_stands_little_endian_with_its_field_read_as_zero() {
        let packet = PacketWriter::new(HEADER, 0).chunk(ChunkKind::CookieAck, 0, &[]).finish();
        let mut zeroed = packet.clone();
        zeroed[8..12].fill(0);
        assert_eq!(packet[8..12], CASTAGNOLI.checksum(&zeroed).to_le_bytes());
        assert_eq!(Packet::parse(&packet, 1).unwrap().header, HEADER);
    }

    #[test]
    fn chunks_come_back_in_order_without_their_padding() {
        let packet = PacketWriter::new(HEADER, 64)
            .chunk(ChunkKind::CookieAck, 0, &[])
            .chunk(ChunkKind::Data, 3, &[b"abc", b"de"])
            .chunk(ChunkKind::Unassigned(200), 9, &[b"f"])
            .finish();
        assert_eq!(packet.len() % 4, 0);
        let parsed = Packet::parse(&packet, 3).unwrap();
        let chunks: Vec<_> =
            parsed.chunks().map(|chunk| (chunk.kind, chunk.flags, chunk.value.to_vec())).collect();
        assert_eq!(
            chunks,
            [
                (ChunkKind::CookieAck, 0, vec![]),
                (ChunkKind::Data, 3, b"abcde".to_vec()),
                (ChunkKind::Unassigned(200), 9, b"f".to_vec()),
            ]
        );
        assert!(!parsed.is_single());
        assert_eq!(Packet::parse(&packet, 2).unwrap_err(), Malformed::ChunkCount);
    }

    #[test]
    fn malformed_datagrams_are_told_apart() {
        let good = PacketWriter::new(HEADER, 8).chunk(ChunkKind::Data, 0, &[b"abcd"]).finish();
        let seal = |mut packet: Vec<u8>| {
            let sum = checksum(&packet).to_le_bytes();
            packet[8..12].copy_from_slice(&sum);
            packet
        };
        let changed = |at: usize, byte: u8| {
            let mut packet = good.clone();
            packet[at] = byte;
            packet
        };
        let portless =
            PacketWriter::new(Header { source: 0, ..HEADER }, 8).chunk(ChunkKind::Data, 0, &[b"abcd"]);
        for (datagram, expected) in [
            (good[..11].to_vec(), Malformed::Short),
            (good[..15].to_vec(), Malformed::Short),
            (changed(16, 0), Malformed::Checksum),
            (portless.finish(), Malformed::Port),
            (seal(changed(15, 3)), Malformed::ChunkLength),
            (seal(changed(15, 9)), Malformed::ChunkLength),
            (seal(changed(14, 0xff)), Malformed::ChunkLength),
        ] {
            assert_eq!(Packet::parse(&datagram, 8).unwrap_err(), expected, "{datagram:02x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), sealed: bool) {
            if sealed && bytes.len() >= HEADER_BYTES {
                let sum = checksum(&bytes).to_le_bytes();
                bytes[8..12].copy_from_slice(&sum);
            }
            if let Ok(packet) = Packet::parse(&bytes, 64) {
                let total: usize = packet.chunks().map(|chunk| CHUNK_HEADER_BYTES + chunk.value.len()).sum();
                prop_assert!(total <= bytes.len() - HEADER_BYTES);
            }
        }

        #[test]
        fn what_is_written_is_read(tag: u32, chunks in proptest::collection::vec((any::<u8>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 1..10)) {
            let header = Header { tag, ..HEADER };
            let mut writer = PacketWriter::new(header, 0);
            for (kind, flags, value) in &chunks {
                writer = writer.chunk(ChunkKind::from(*kind), *flags, &[value]);
            }
            let packet = writer.finish();
            let parsed = Packet::parse(&packet, chunks.len()).unwrap();
            prop_assert_eq!(parsed.header, header);
            let read: Vec<_> = parsed.chunks().map(|chunk| (chunk.kind.code(), chunk.flags, chunk.value.to_vec())).collect();
            prop_assert_eq!(read, chunks);
        }
    }
}
