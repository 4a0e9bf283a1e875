//! The fixed 16-octet header of every record, and what its fields may be.

use byteorder::{BigEndian, ByteOrder};

use super::status::Status;
use crate::limits::{HEADER_BYTES, RECORD_BYTES_MAX, RECORD_BYTES_MIN};

/// VERSION: the first octet of every record, and so of the association.
pub const VERSION: u8 = 2;

/// FLAGS bit 0: the last record of its answer or channel.
pub const FLAG_LAST: u8 = 0x01;

/// TYPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 1, client to server.
    Request,
    /// 2, server to client: answers a request.
    Reply,
    /// 3, server to client: was not asked for by one request; what a subscription delivers, and notices.
    Event,
    /// Skipped by a client, answered with `malformed` by a server.
    Unassigned(u8),
}

/// Everything that stands before the body, but for the length, which follows from the body.
///
/// Shape, big-endian: `VERSION(1)=2 TYPE(1) LENGTH(2) COMMAND(2) STATUS(1) FLAGS(1) REQUEST(4) CHANNEL(4)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// TYPE.
    pub kind: Kind,
    /// COMMAND: what is asked; in replies and events, what was. 0 in notices.
    pub command: u16,
    /// STATUS: `Ok` in requests.
    pub status: Status,
    /// FLAGS bit 0; other bits are ignored.
    pub last: bool,
    /// REQUEST: chosen by the client, returned in the reply and in the events of the channel it opened.
    pub request: u32,
    /// CHANNEL: 0 for commands, replies and notices; else what the client chose.
    pub channel: u32,
}

/// Octets that are no record. The association cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// VERSION is not 2.
    #[error("version {0:#04x}, expected 0x02")]
    Version(u8),
    /// LENGTH is out of range.
    #[error("record of {0} octets, allowed are 17 to 4096")]
    Length(usize),
    /// A message that ends before its record does, or holds more than one.
    #[error("a message of {message} octets for a record of {record}")]
    Message {
        /// Octets of the message.
        message: usize,
        /// LENGTH.
        record: usize,
    },
}

impl Header {
    /// Writes the header of a record whose body has that many octets.
    ///
    /// Errors: [`RecordError::Length`].
    pub fn encode(&self, body_bytes: usize) -> Result<[u8; HEADER_BYTES], RecordError> {
        let bytes = HEADER_BYTES.saturating_add(body_bytes);
        let length = u16::try_from(checked(bytes)?).map_err(|_| RecordError::Length(bytes))?;
        let [command_high, command_low] = self.command.to_be_bytes();
        let [length_high, length_low] = length.to_be_bytes();
        let mut out = [0; HEADER_BYTES];
        let (fixed, ids) = out.split_at_mut(8);
        fixed.copy_from_slice(&[
            VERSION,
            self.kind.code(),
            length_high,
            length_low,
            command_high,
            command_low,
            self.status.code(),
            if self.last { FLAG_LAST } else { 0 },
        ]);
        let (request, channel) = ids.split_at_mut(4);
        BigEndian::write_u32(request, self.request);
        BigEndian::write_u32(channel, self.channel);
        Ok(out)
    }

    /// Reads a header and the length of its record, 17 to 4,096. `Ok(None)`: fewer than 16 octets, and nothing
    /// wrong with those that are there.
    ///
    /// Errors: [`RecordError::Version`], [`RecordError::Length`], each as soon as its field is there.
    pub fn decode(arrived: &[u8]) -> Result<Option<(Self, usize)>, RecordError> {
        match arrived.first() {
            None | Some(&VERSION) => {}
            Some(&other) => return Err(RecordError::Version(other)),
        }
        let Some(length) = arrived.get(2..4) else { return Ok(None) };
        let length = checked(usize::from(BigEndian::read_u16(length)))?;
        let Some(&[_, kind, _, _, c0, c1, status, flags, r0, r1, r2, r3, n0, n1, n2, n3]) =
            arrived.first_chunk::<HEADER_BYTES>()
        else {
            return Ok(None);
        };
        let header = Self {
            kind: Kind::from(kind),
            command: u16::from_be_bytes([c0, c1]),
            status: Status::from(status),
            last: flags & FLAG_LAST != 0,
            request: u32::from_be_bytes([r0, r1, r2, r3]),
            channel: u32::from_be_bytes([n0, n1, n2, n3]),
        };
        Ok(Some((header, length)))
    }

    /// A request on channel 0.
    #[must_use]
    pub fn request(command: u16, request: u32) -> Self {
        Self { kind: Kind::Request, command, status: Status::Ok, last: true, request, channel: 0 }
    }

    /// The one reply to this request, on channel 0.
    #[must_use]
    pub fn reply(&self, status: Status) -> Self {
        Self { kind: Kind::Reply, status, last: true, channel: 0, ..*self }
    }
}

fn checked(record_bytes: usize) -> Result<usize, RecordError> {
    match record_bytes {
        RECORD_BYTES_MIN..=RECORD_BYTES_MAX => Ok(record_bytes),
        other => Err(RecordError::Length(other)),
    }
}

impl Kind {
    /// TYPE.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Reply => 2,
            Self::Event => 3,
            Self::Unassigned(code) => code,
        }
    }
}

impl From<u8> for Kind {
    fn from(code: u8) -> Self {
        match code {
            1 => Self::Request,
            2 => Self::Reply,
            3 => Self::Event,
            other => Self::Unassigned(other),
        }
    }
}
