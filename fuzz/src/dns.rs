//! DNS: names, messages that claim to be answers, and their framing over TCP.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use socks5d::limits::{
    ADDRESSES_PER_ANSWER_MAX, CACHE_NEGATIVE_TTL_MAX, CACHE_TTL_MAX, DNS_MESSAGE_BYTES_MAX,
    RECORDS_PER_ANSWER_MAX,
};
use socks5d::resolver::exchange::{CheckError, Question, Reply, check};
use socks5d::resolver::plain::{Datagram, StreamReader, encode_stream, read_datagram};
use socks5d::resolver::{DomainName, Family};

use crate::Judged;
use crate::script::{Script, pieces};

/// Memory that checking a message may take: the records that are kept, in a vector that has doubled, the
/// addresses, and a little.
const MEMORY_MAX: usize = 2 * 64 * RECORDS_PER_ANSWER_MAX + 8192;

/// A name that is taken is a host name in lower case; its question is one that another library reads as such.
pub fn domain_name(octets: &[u8]) -> Judged {
    let Ok(name) = DomainName::parse(octets) else { return Judged::Refused };
    let text = name.as_str();
    assert!((1..=253).contains(&text.len()), "{text}");
    assert!(text.split('.').all(|label| (1..=63).contains(&label.len())), "{text}");
    assert!(
        text.bytes().all(|o| o.is_ascii_lowercase() || o.is_ascii_digit() || b"-_.".contains(&o)),
        "{text}"
    );
    assert_eq!(DomainName::parse(text.as_bytes()).as_ref(), Ok(&name));
    assert_eq!(text.as_bytes(), octets.strip_suffix(b".").unwrap_or(octets).to_ascii_lowercase());
    for (family, kind) in [(Family::V4, RecordType::A), (Family::V6, RecordType::AAAA)] {
        let question = Question { name: name.clone(), family, id: 0xbeef };
        let message = match Message::from_vec(&question.encode()) {
            Ok(message) => message,
            Err(error) => panic!("{text}: {error}"),
        };
        assert_eq!(message.metadata.id, 0xbeef);
        let [query] = message.queries.as_slice() else { panic!("{} questions", message.queries.len()) };
        assert_eq!(query.query_type(), kind);
        assert!(query.name().iter().eq(text.split('.').map(str::as_bytes)), "{}", query.name());
    }
    Judged::Accepted
}

/// A message that may answer a question: what is taken from it is bounded and stands in it.
///
/// The first octet says for which family, and whether header and question are made to fit, so that changes
/// reach the records behind them.
pub fn message(octets: &[u8]) -> Judged {
    let mut script = Script::new(octets);
    let control = script.octet();
    let family = if control & 1 == 0 { Family::V4 } else { Family::V6 };
    let Ok(name) = DomainName::parse(b"www.example.org") else { return Judged::Refused };
    let question = Question { name, family, id: 0 };
    let fitted;
    let octets = if control & 2 == 0 {
        script.rest()
    } else {
        fitted = fit(&question, script.rest());
        &fitted
    };

    let mut result = Err(CheckError::TooShort);
    let cost = allocation_counter::measure(|| result = check(&question, octets));
    assert!(cost.bytes_max <= MEMORY_MAX as u64, "{} octets of memory", cost.bytes_max);
    assert_eq!(check(&question, octets), result, "the second look sees something else");
    match (read_datagram(&question, octets), &result) {
        (Datagram::Reply(reply), Ok(expected)) => assert_eq!(reply, *expected),
        (Datagram::Truncated, Err(CheckError::Truncated)) => {}
        (Datagram::Wrong(error), Err(expected)) => assert_eq!(error, *expected),
        (datagram, result) => panic!("{datagram:?} and {result:?}"),
    }
    match result {
        Ok(Reply::Addresses { addresses, ttl }) => {
            check_addresses(family, &addresses, ttl);
            check_against_hickory(octets, &addresses);
            Judged::Accepted
        }
        Ok(Reply::NotFound { ttl }) => {
            assert!(ttl <= CACHE_NEGATIVE_TTL_MAX, "{ttl:?}");
            Judged::Accepted
        }
        Ok(Reply::ServerFailure { rcode }) => {
            assert!(rcode != 0 && rcode != 3, "RCODE {rcode} says something about the name");
            Judged::Accepted
        }
        Err(_) => Judged::Refused,
    }
}

/// A response header with the counts of `octets`, the question, and the rest of `octets` as records.
fn fit(question: &Question, octets: &[u8]) -> Vec<u8> {
    let mut message = question.encode();
    let (counts, records) = octets.split_at(octets.len().min(3));
    for (place, count) in [7, 9, 11].into_iter().zip(counts) {
        if let Some(octet) = message.get_mut(place) {
            *octet = *count;
        }
    }
    message.splice(2..4, [0x81, 0x80]);
    message.extend_from_slice(records);
    message
}

fn check_addresses(family: Family, addresses: &[IpAddr], ttl: Duration) {
    assert!((1..=ADDRESSES_PER_ANSWER_MAX).contains(&addresses.len()), "{}", addresses.len());
    assert!(ttl <= CACHE_TTL_MAX, "{ttl:?}");
    for (at, address) in addresses.iter().enumerate() {
        assert_eq!(address.is_ipv4(), family == Family::V4, "{address}");
        assert!(!addresses.iter().skip(at + 1).any(|other| other == address), "{address} twice");
    }
}

/// Where another library can read the whole message, the addresses are records of its answer section.
fn check_against_hickory(octets: &[u8], addresses: &[IpAddr]) {
    let Ok(message) = Message::from_vec(octets) else { return };
    for address in addresses {
        let found = message.answers.iter().any(|record| record.data.ip_addr() == Some(*address));
        assert!(found, "{address} stands in no record");
    }
}

/// Messages framed for TCP: any pieces come to the same message, what follows is ignored, memory is bounded.
pub fn stream(octets: &[u8]) -> Judged {
    let mut script = Script::new(octets);
    let cuts = script.piece();
    let octets = script.rest();
    let whole = gather([octets].into_iter());
    for cuts in [cuts, &[1]] {
        assert_eq!(gather(pieces(octets, cuts)), whole, "in pieces of {cuts:?}");
    }
    let framed = encode_stream(octets);
    assert_eq!(framed.is_none(), octets.len() > DNS_MESSAGE_BYTES_MAX);
    if let Some(framed) = framed {
        assert_eq!(gather([&*framed].into_iter()).as_deref(), Some(octets));
    }
    Judged::from(whole.is_some())
}

fn gather<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut reader = StreamReader::default();
    let mut message = None;
    let cost = allocation_counter::measure(|| {
        for piece in pieces {
            if let Some(complete) = reader.feed(piece) {
                message = Some(complete.to_vec());
                return;
            }
        }
    });
    // The reader's vector may have doubled; the copy is the target's own.
    assert!(cost.bytes_max <= 3 * (2 + DNS_MESSAGE_BYTES_MAX) as u64, "{} octets of memory", cost.bytes_max);
    message
}
