//! One exchange of the DNS: a question is encoded, a message is checked against it. Pure.
//!
//! What comes back is hostile until proven otherwise: lengths are checked by hickory's decoder, names may
//! only point backwards and not often, and only records on the path from the question's name through its
//! CNAMEs to addresses count. Whatever else a message holds is walked over, never stored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Header, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

use super::{DomainName, Family};
use crate::limits::{
    ADDRESSES_PER_ANSWER_MAX, CACHE_NEGATIVE_TTL_DEFAULT, CACHE_NEGATIVE_TTL_MAX, CACHE_TTL_MAX,
    CNAME_CHAIN_MAX, DNS_MESSAGE_BYTES_MAX, NAME_POINTERS_MAX, RECORDS_PER_ANSWER_MAX,
};

/// What is asked: one name, one family, and the id the answer must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name.
    pub name: DomainName,
    /// Whether A or AAAA is asked.
    pub family: Family,
    /// 0 over HTTP (RFC 8484 §4.1), random over UDP and TCP (RFC 5452 §4.3).
    pub id: u16,
}

/// A message that answers the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The name has addresses of the family.
    Addresses {
        /// At least one, without duplicates, at most [`ADDRESSES_PER_ANSWER_MAX`], in the order of the message.
        addresses: Arc<[IpAddr]>,
        /// The smallest TTL on the path from the question to the addresses, at most [`CACHE_TTL_MAX`].
        ttl: Duration,
    },
    /// The name, or this kind of address for it, does not exist.
    NotFound {
        /// From the SOA of the authority section (RFC 2308 §5), at most [`CACHE_NEGATIVE_TTL_MAX`].
        ttl: Duration,
    },
    /// Any RCODE but 0 and 3: the server could or would not say.
    ServerFailure {
        /// The RCODE.
        rcode: u16,
    },
}

/// Why a message is no answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Longer than a message can be.
    #[error("{0} octets, more than a message can have")]
    TooLong(usize),
    /// A query, not a response.
    #[error("not a response")]
    NotAResponse,
    /// Another operation than QUERY.
    #[error("another operation than QUERY")]
    Operation,
    /// The id of another question.
    #[error("id {got:#06x}, asked with {asked:#06x}")]
    Id {
        /// The message's.
        got: u16,
        /// The question's.
        asked: u16,
    },
    /// It answers another question, several or none.
    #[error("answers another question")]
    Question,
    /// Cut to fit its transport (TC); what there is must not be used.
    #[error("truncated")]
    Truncated,
    /// The CNAMEs go in circles or on for too long.
    #[error("more than {CNAME_CHAIN_MAX} CNAMEs in a row")]
    Chain,
    /// The server points to others instead of asking them.
    #[error("a referral, not an answer")]
    Referral,
    /// A record's data is not what its type says.
    #[error("record data of {0} octets does not fit its type")]
    RecordData(u16),
    /// A name with a loop, too many pointers, a bad label or too many octets.
    #[error("malformed name")]
    Name,
    /// The sections are longer than the message.
    #[error("the sections go beyond the end of the message")]
    TooShort,
}

/// The decoder is only asked for integers and slices, and these can only be missing.
impl From<DecodeError> for CheckError {
    fn from(_: DecodeError) -> Self {
        Self::TooShort
    }
}

impl Question {
    /// The message to send, RFC 1035 §4.1.
    ///
    /// Shape: `ID(2) FLAGS(2)=RD QDCOUNT(2)=1 0(6) QNAME QTYPE(2) QCLASS(2)=IN`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(12 + self.name.as_str().len() + 2 + 4);
        message.extend_from_slice(&self.id.to_be_bytes());
        message.extend_from_slice(&[0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend_from_slice(WireName::from_domain(&self.name).as_slice());
        message.extend_from_slice(&u16::from(record_type(self.family)).to_be_bytes());
        message.extend_from_slice(&u16::from(DNSClass::IN).to_be_bytes());
        message
    }
}

/// Checks that `message` answers `question` and takes from it what it says.
///
/// A message with TC set is [`CheckError::Truncated`] once id and question fit, so that the caller knows
/// that asking again by TCP makes sense.
pub fn check(question: &Question, message: &[u8]) -> Result<Reply, CheckError> {
    if message.len() > DNS_MESSAGE_BYTES_MAX {
        return Err(CheckError::TooLong(message.len()));
    }
    let mut decoder = BinDecoder::new(message);
    let header = Header::read(&mut decoder)?;
    let asked = WireName::from_domain(&question.name);
    check_header(question, &asked, &header, &mut decoder)?;
    let metadata = header.metadata;
    if !answers_the_name(metadata.response_code) {
        return Ok(Reply::ServerFailure { rcode: metadata.response_code.into() });
    }
    if metadata.truncation {
        return Err(CheckError::Truncated);
    }

    let records = Records::read(&mut decoder, &header, question.family)?;
    let path = records.follow(asked, message)?;
    if metadata.response_code == ResponseCode::NoError && !path.addresses.is_empty() {
        return Ok(Reply::Addresses {
            addresses: path.addresses.into(),
            ttl: Duration::from_secs(path.ttl_secs.into()).min(CACHE_TTL_MAX),
        });
    }
    let delegated = records.name_server_seen && records.start_of_authority.is_none();
    if delegated && !metadata.authoritative && !metadata.recursion_available {
        return Err(CheckError::Referral);
    }
    let ttl = records.negative_ttl(&path.end, message)?.unwrap_or(CACHE_NEGATIVE_TTL_DEFAULT);
    let ttl = ttl.min(Duration::from_secs(path.ttl_secs.into())).min(CACHE_NEGATIVE_TTL_MAX);
    Ok(Reply::NotFound { ttl })
}

/// Everything up to the end of the question section.
fn check_header(
    question: &Question,
    asked: &WireName,
    header: &Header,
    decoder: &mut BinDecoder<'_>,
) -> Result<(), CheckError> {
    let metadata = header.metadata;
    if metadata.id != question.id {
        return Err(CheckError::Id { got: metadata.id, asked: question.id });
    }
    if metadata.message_type != MessageType::Response {
        return Err(CheckError::NotAResponse);
    }
    if metadata.op_code != OpCode::Query {
        return Err(CheckError::Operation);
    }
    if header.counts.queries == 0 && !answers_the_name(metadata.response_code) {
        // A server that could not read the question has none to repeat (RFC 1035 §4.1.1, FORMERR).
        return Ok(());
    }
    if header.counts.queries != 1 {
        return Err(CheckError::Question);
    }
    let name = WireName::read(decoder)?;
    let kind = decoder.read_u16()?.unverified(/* compared below */);
    let class = decoder.read_u16()?.unverified(/* compared below */);
    let ours =
        name == *asked && kind == u16::from(record_type(question.family)) && class == u16::from(DNSClass::IN);
    if ours { Ok(()) } else { Err(CheckError::Question) }
}

/// Whether the RCODE says something about the name rather than about the server.
fn answers_the_name(rcode: ResponseCode) -> bool {
    rcode == ResponseCode::NoError || rcode == ResponseCode::NXDomain
}

fn record_type(family: Family) -> RecordType {
    match family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    }
}

/// Where a record of interest stands in the message; its owner's name is read again when it is needed.
#[derive(Clone, Copy, Debug)]
struct Record {
    owner_at: u16,
    ttl_secs: u32,
    data: RecordData,
}

#[derive(Clone, Copy, Debug)]
enum RecordData {
    Address(IpAddr),
    CanonicalName { at: u16, bytes: u16 },
}

/// The SOA of the authority section: its owner, and what RFC 2308 §5 makes of its TTL and MINIMUM.
#[derive(Clone, Copy, Debug)]
struct StartOfAuthority {
    owner_at: u16,
    ttl_secs: u32,
}

/// What a message holds that can matter for the question.
#[derive(Debug, Default)]
struct Records {
    /// CNAMEs and addresses of the family, in the order of the message, at most [`RECORDS_PER_ANSWER_MAX`].
    answers: Vec<Record>,
    start_of_authority: Option<StartOfAuthority>,
    name_server_seen: bool,
}

/// Where the CNAMEs led.
struct Path {
    end: WireName,
    addresses: Vec<IpAddr>,
    ttl_secs: u32,
}

impl Records {
    /// Walks every section, so that a message that lies about its counts is refused whole.
    fn read(decoder: &mut BinDecoder<'_>, header: &Header, family: Family) -> Result<Self, CheckError> {
        let mut records = Self::default();
        for _ in 0..header.counts.answers {
            let raw = RawRecord::read(decoder)?;
            if records.answers.len() < RECORDS_PER_ANSWER_MAX
                && let Some(record) = raw.to_answer(family)?
            {
                records.answers.push(record);
            }
        }
        for _ in 0..header.counts.authorities {
            let raw = RawRecord::read(decoder)?;
            if raw.is(RecordType::NS) {
                records.name_server_seen = true;
            } else if raw.is(RecordType::SOA) && records.start_of_authority.is_none() {
                records.start_of_authority = Some(raw.to_start_of_authority()?);
            }
        }
        for _ in 0..header.counts.additionals {
            RawRecord::read(decoder)?;
        }
        Ok(records)
    }

    /// Goes from the name asked along CNAMEs until a name has addresses or no CNAME.
    fn follow(&self, asked: WireName, message: &[u8]) -> Result<Path, CheckError> {
        let mut path = Path { end: asked, addresses: Vec::new(), ttl_secs: u32::MAX };
        for _ in 0..=CNAME_CHAIN_MAX {
            let mut next = None;
            for record in &self.answers {
                if WireName::read_at(message, record.owner_at)? != path.end {
                    continue;
                }
                match record.data {
                    RecordData::Address(address) => {
                        path.ttl_secs = path.ttl_secs.min(record.ttl_secs);
                        if path.addresses.len() < ADDRESSES_PER_ANSWER_MAX
                            && !path.addresses.contains(&address)
                        {
                            path.addresses.push(address);
                        }
                    }
                    RecordData::CanonicalName { at, bytes } if next.is_none() => {
                        next = Some((canonical_name(message, at, bytes)?, record.ttl_secs));
                    }
                    RecordData::CanonicalName { .. } => {}
                }
            }
            let Some((name, ttl_secs)) = next.filter(|_| path.addresses.is_empty()) else {
                return Ok(path);
            };
            path.end = name;
            path.ttl_secs = path.ttl_secs.min(ttl_secs);
        }
        Err(CheckError::Chain)
    }

    /// How long the absence holds: only an SOA of a zone that holds the name may say so.
    fn negative_ttl(&self, name: &WireName, message: &[u8]) -> Result<Option<Duration>, CheckError> {
        let Some(authority) = self.start_of_authority else { return Ok(None) };
        let zone = WireName::read_at(message, authority.owner_at)?;
        Ok(name.is_in(&zone).then(|| Duration::from_secs(authority.ttl_secs.into())))
    }
}

fn canonical_name(message: &[u8], at: u16, bytes: u16) -> Result<WireName, CheckError> {
    let mut decoder = BinDecoder::new(message).clone(at);
    let before = decoder.len();
    let name = WireName::read(&mut decoder)?;
    if before - decoder.len() == usize::from(bytes) { Ok(name) } else { Err(CheckError::RecordData(bytes)) }
}

/// A record as it stands in the message, RFC 1035 §4.1.3.
///
/// Shape: `NAME TYPE(2) CLASS(2) TTL(4, seconds) RDLENGTH(2) RDATA(RDLENGTH)`.
struct RawRecord<'a> {
    owner_at: u16,
    kind: RecordType,
    class: DNSClass,
    ttl_secs: u32,
    data_at: u16,
    data: &'a [u8],
}

impl<'a> RawRecord<'a> {
    fn read(decoder: &mut BinDecoder<'a>) -> Result<Self, CheckError> {
        let owner_at = offset(decoder)?;
        skip_name(decoder)?;
        let kind = RecordType::from(decoder.read_u16()?.unverified(/* any type may stand here */));
        let class = DNSClass::from(decoder.read_u16()?.unverified(/* any class may stand here */));
        let ttl_secs = decoder.read_u32()?.unverified(/* its top bit is looked at below */);
        // A TTL with its top bit set counts as 0 (RFC 2181 §8).
        let ttl_secs = if ttl_secs > i32::MAX.cast_unsigned() { 0 } else { ttl_secs };
        let bytes = decoder.read_u16()?.unverified(/* read_slice checks it */);
        let data_at = offset(decoder)?;
        let data = decoder.read_slice(bytes.into())?.unverified(/* each type checks its own */);
        Ok(Self { owner_at, kind, class, ttl_secs, data_at, data })
    }

    fn is(&self, kind: RecordType) -> bool {
        self.kind == kind && self.class == DNSClass::IN
    }

    /// The data's length; it was read from two octets.
    fn data_bytes(&self) -> u16 {
        u16::try_from(self.data.len()).unwrap_or(u16::MAX)
    }

    fn to_answer(&self, family: Family) -> Result<Option<Record>, CheckError> {
        let wrong = |_| CheckError::RecordData(self.data_bytes());
        let data = if self.is(RecordType::CNAME) {
            RecordData::CanonicalName { at: self.data_at, bytes: self.data_bytes() }
        } else if self.is(record_type(family)) {
            RecordData::Address(match family {
                Family::V4 => <[u8; 4]>::try_from(self.data).map(Ipv4Addr::from).map_err(wrong)?.into(),
                Family::V6 => <[u8; 16]>::try_from(self.data).map(Ipv6Addr::from).map_err(wrong)?.into(),
            })
        } else {
            return Ok(None);
        };
        Ok(Some(Record { owner_at: self.owner_at, ttl_secs: self.ttl_secs, data }))
    }

    /// Shape of the data: `MNAME RNAME SERIAL(4) REFRESH(4) RETRY(4) EXPIRE(4) MINIMUM(4)`, RFC 1035 §3.3.13.
    fn to_start_of_authority(&self) -> Result<StartOfAuthority, CheckError> {
        let mut decoder = BinDecoder::new(self.data);
        skip_name(&mut decoder)?;
        skip_name(&mut decoder)?;
        decoder.read_slice(16)?;
        let minimum_secs = decoder.read_u32()?.unverified(/* the smaller of two bounded values is taken */);
        Ok(StartOfAuthority { owner_at: self.owner_at, ttl_secs: self.ttl_secs.min(minimum_secs) })
    }
}

/// The decoder's place. No message is longer than what 16 bits can name.
fn offset(decoder: &BinDecoder<'_>) -> Result<u16, CheckError> {
    u16::try_from(decoder.index()).map_err(|_| CheckError::TooLong(decoder.index()))
}

/// Steps over a name without following its pointers.
fn skip_name(decoder: &mut BinDecoder<'_>) -> Result<(), CheckError> {
    loop {
        let octet = decoder.pop()?.unverified(/* every value is matched */);
        match octet {
            0 => return Ok(()),
            1..=63 => drop(decoder.read_slice(octet.into())?),
            0xC0..=0xFF => {
                decoder.pop()?;
                return Ok(());
            }
            _ => return Err(CheckError::Name),
        }
    }
}

/// A name in lower case and in its uncompressed wire form: the one form in which names compare octet by
/// octet, since a label may hold a dot.
#[derive(Clone, Copy)]
struct WireName {
    octets: [u8; 255],
    bytes: u8,
}

impl WireName {
    const EMPTY: Self = Self { octets: [0; 255], bytes: 0 };

    /// A checked name always fits: at most 253 octets, and two more for the first length and the root.
    fn from_domain(name: &DomainName) -> Self {
        let mut wire = Self::EMPTY;
        for label in name.as_str().split('.') {
            let fits = u8::try_from(label.len()).is_ok_and(|bytes| wire.push(&[bytes]).is_ok())
                && wire.push(label.as_bytes()).is_ok();
            debug_assert!(fits, "a checked name fits its wire form");
        }
        let fits = wire.push(&[0]).is_ok();
        debug_assert!(fits, "a checked name fits its wire form");
        wire
    }

    fn read_at(message: &[u8], at: u16) -> Result<Self, CheckError> {
        if usize::from(at) > message.len() {
            return Err(CheckError::Name);
        }
        Self::read(&mut BinDecoder::new(message).clone(at))
    }

    /// Reads a name and leaves the decoder behind it. Each pointer must lead before the place where the
    /// part it stands in began (RFC 1035 §4.1.4, "a prior occurrence"), so that no loop is possible.
    fn read<'a>(decoder: &mut BinDecoder<'a>) -> Result<Self, CheckError> {
        let mut name = Self::EMPTY;
        let mut started_at = decoder.index();
        let mut elsewhere: Option<BinDecoder<'a>> = None;
        let mut pointers_count = 0;
        loop {
            let source = elsewhere.as_mut().unwrap_or(&mut *decoder);
            let octet = source.pop()?.unverified(/* every value is matched */);
            match octet {
                0 => {
                    name.push(&[0])?;
                    return Ok(name);
                }
                1..=63 => {
                    name.push(&[octet])?;
                    name.push(
                        source.read_slice(octet.into())?.unverified(/* any octet may stand in a label */),
                    )?;
                }
                0xC0..=0xFF => {
                    let low = source.pop()?.unverified(/* compared below */);
                    let to = u16::from_be_bytes([octet & 0x3F, low]);
                    pointers_count += 1;
                    if usize::from(to) >= started_at || pointers_count > NAME_POINTERS_MAX {
                        return Err(CheckError::Name);
                    }
                    started_at = to.into();
                    elsewhere = Some(source.clone(to));
                }
                _ => return Err(CheckError::Name),
            }
        }
    }

    fn push(&mut self, octets: &[u8]) -> Result<(), CheckError> {
        let start = usize::from(self.bytes);
        let end = start + octets.len();
        let room = self.octets.get_mut(start..end).ok_or(CheckError::Name)?;
        for (to, from) in room.iter_mut().zip(octets) {
            *to = from.to_ascii_lowercase();
        }
        self.bytes = u8::try_from(end).map_err(|_| CheckError::Name)?;
        Ok(())
    }

    fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.bytes.into()).unwrap_or_default()
    }

    /// Whether the name is `zone` or below it.
    fn is_in(&self, zone: &Self) -> bool {
        let mut rest = self.as_slice();
        loop {
            if rest == zone.as_slice() {
                return true;
            }
            let Some((&bytes, labels)) = rest.split_first() else { return false };
            let Some(parent) = labels.get(bytes.into()..) else { return false };
            rest = parent;
        }
    }
}

impl PartialEq for WireName {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

#[cfg(test)]
mod tests;
