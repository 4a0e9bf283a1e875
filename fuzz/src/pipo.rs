//! The admin protocol. Its crate states what must hold of any octets; here the pieces are added in which they
//! may arrive, and which of them were well-formed.

use pipo_protocol::v1::{Request, decode_login, decode_login_reply};
use pipo_protocol::v2::Record;

use crate::Judged;

/// Longest input of which every prefix is looked at.
const PREFIXES_MAX: usize = 600;

/// Version 1: no prefix of a message is another message, and its encoding is its own.
pub fn pipo_version1(octets: &[u8]) -> Judged {
    pipo_protocol::fuzz::version1(octets);
    let login = check_prefixes(octets, |octets| decode_login(octets).ok().flatten());
    let reply = check_prefixes(octets, |octets| decode_login_reply(octets).ok().flatten());
    let request = check_prefixes(octets, Request::decode);
    Judged::from(login || reply || request)
}

/// Version 2: records with bodies in CBOR, and bodies without their record.
pub fn pipo_version2(octets: &[u8]) -> Judged {
    pipo_protocol::fuzz::version2(octets);
    // An octet more or less is another message.
    let whole = Record::decode(octets).is_ok();
    assert!(
        !whole || Record::decode(&[octets, &[0]].concat()).is_err(),
        "a longer message is the same record"
    );
    Judged::from(check_prefixes(octets, |octets| Record::split(octets).ok().flatten()))
}

/// Whether `octets` begin with a message: then so does every prefix that is long enough, and no shorter one.
fn check_prefixes<'a, T: PartialEq + std::fmt::Debug>(
    octets: &'a [u8],
    decode: impl Fn(&'a [u8]) -> Option<(T, usize)>,
) -> bool {
    let whole = decode(octets);
    let used = whole.as_ref().map_or(usize::MAX, |(_, used)| *used);
    assert!(whole.is_none() || used <= octets.len(), "{used} octets taken of {}", octets.len());
    for end in 0..octets.len().min(PREFIXES_MAX) {
        let at_prefix = decode(&octets[..end]);
        if end < used {
            assert_eq!(at_prefix, None, "cut at {end}");
        } else {
            assert_eq!(at_prefix, whole, "cut at {end}");
        }
    }
    whole.is_some()
}
