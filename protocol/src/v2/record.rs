//! A record: header and body, one SCTP message.

use super::body::Message;
use super::header::{Header, RecordError};
use crate::limits::HEADER_BYTES;

/// A record cut out of what arrived. The body is not looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The fixed part.
    pub header: Header,
    /// One CBOR map, if the peer keeps to the protocol.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// Cuts the first record off, for receivers that meet a message in pieces or several at once. Gives the
    /// record and its octets. `Ok(None)`: incomplete, nothing consumed.
    ///
    /// Errors: [`RecordError::Version`], [`RecordError::Length`].
    pub fn split(arrived: &'a [u8]) -> Result<Option<(Self, usize)>, RecordError> {
        let Some((header, length)) = Header::decode(arrived)? else { return Ok(None) };
        let Some(body) = arrived.get(HEADER_BYTES..length) else { return Ok(None) };
        Ok(Some((Self { header, body }, length)))
    }

    /// Reads a whole SCTP message, which is exactly one record.
    ///
    /// Errors: as [`Record::split`], and [`RecordError::Message`].
    pub fn decode(message: &'a [u8]) -> Result<Self, RecordError> {
        let length = Header::decode(message)?.map_or(HEADER_BYTES, |(_, length)| length);
        match Self::split(message)? {
            Some((record, taken)) if taken == message.len() => Ok(record),
            _ => Err(RecordError::Message { message: message.len(), record: length }),
        }
    }
}

/// Writes a record around a body.
///
/// Errors: [`RecordError::Length`] when header and body exceed 4,096 octets.
pub fn encode_record(header: &Header, body: &impl Message) -> Result<Vec<u8>, RecordError> {
    encode_raw(header, &body.encode())
}

/// As [`encode_record`], for a body that is CBOR already.
pub fn encode_raw(header: &Header, body: &[u8]) -> Result<Vec<u8>, RecordError> {
    let mut out = header.encode(body.len())?.to_vec();
    out.extend_from_slice(body);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::{Kind, Status};

    const EMPTY_MAP: &[u8] = &[0xa0];

    #[test]
    fn a_header_has_each_field_in_its_place() {
        let header = Header {
            kind: Kind::Reply,
            command: 0x0304,
            status: Status::NotFound,
            last: true,
            request: 0x0a0b_0c0d,
            channel: 0x0102_0304,
        };
        let octets = encode_raw(&header, EMPTY_MAP).unwrap();
        assert_eq!(octets, [2, 2, 0, 17, 3, 4, 8, 1, 10, 11, 12, 13, 1, 2, 3, 4, 0xa0]);
        assert_eq!(Record::decode(&octets), Ok(Record { header, body: EMPTY_MAP }));
    }

    #[test]
    fn a_wrong_version_or_length_is_told_as_soon_as_it_is_there() {
        assert_eq!(Record::split(&[1]), Err(RecordError::Version(1)));
        assert_eq!(Record::split(&[2, 1, 0]), Ok(None));
        assert_eq!(Record::split(&[2, 1, 0, 16]), Err(RecordError::Length(16)));
        assert_eq!(Record::split(&[2, 1, 0x10, 0x01]), Err(RecordError::Length(4097)));
        assert_eq!(Record::split(&[2, 1, 0x10, 0x00]), Ok(None));
    }

    #[test]
    fn a_message_is_one_whole_record() {
        let octets = encode_raw(&Header::request(0x0101, 1), EMPTY_MAP).unwrap();
        let twice = [octets.as_slice(), octets.as_slice()].concat();
        assert_eq!(Record::decode(&twice), Err(RecordError::Message { message: 34, record: 17 }));
        assert_eq!(Record::decode(&octets[..9]), Err(RecordError::Message { message: 9, record: 16 }));
        let (first, taken) = Record::split(&twice).unwrap().unwrap();
        assert_eq!((first.header.command, taken), (0x0101, 17));
    }

    #[test]
    fn a_body_too_long_for_a_record_is_refused() {
        let header = Header::request(1, 1);
        assert!(encode_raw(&header, &[0; 4080]).is_ok());
        assert_eq!(encode_raw(&header, &[0; 4081]), Err(RecordError::Length(4097)));
        assert_eq!(encode_raw(&header, &[]), Err(RecordError::Length(16)));
    }
}
