//! The codecs of the SOCKS dialogue, with messages of usual length.

use std::hint::black_box;
use std::net::SocketAddr;

use socks5d::proxy::wire;

use crate::{Work, repeated};

/// Version 5, no authentication and password offered (RFC 1928 §3).
pub(crate) const METHODS: &[u8] = b"\x05\x02\x00\x02";
/// User name and password (RFC 1929 §2).
pub(crate) const PASSWORD: &[u8] = b"\x01\x05alice\x10correct horse 42";
/// CONNECT to 192.0.2.1 port 443 (RFC 1928 §4).
pub(crate) const REQUEST_ADDRESS: &[u8] = b"\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb";
/// CONNECT to www.example.com port 443.
pub(crate) const REQUEST_NAME: &[u8] = b"\x05\x01\x00\x03\x0fwww.example.com\x01\xbb";

pub(crate) fn decode_methods() -> Work {
    assert!(matches!(wire::decode_methods(METHODS), Ok(Some((&[0, 2], 4)))), "two methods");
    repeated(|| wire::decode_methods(black_box(METHODS)))
}

pub(crate) fn decode_password() -> Work {
    assert!(
        matches!(wire::decode_password(PASSWORD), Ok(Some(((b"alice", b"correct horse 42"), 24)))),
        "name and password"
    );
    repeated(|| wire::decode_password(black_box(PASSWORD)))
}

pub(crate) fn decode_request_address() -> Work {
    assert!(matches!(wire::decode_request(REQUEST_ADDRESS), Ok(Some((_, 10)))), "a whole request");
    repeated(|| wire::decode_request(black_box(REQUEST_ADDRESS)))
}

pub(crate) fn decode_request_name() -> Work {
    assert!(matches!(wire::decode_request(REQUEST_NAME), Ok(Some((_, 22)))), "a whole request");
    repeated(|| wire::decode_request(black_box(REQUEST_NAME)))
}

pub(crate) fn encode_reply() -> Work {
    let bound = SocketAddr::from(([127, 0, 0, 1], 40_000));
    assert_eq!(wire::encode_reply(wire::Reply::Succeeded, bound).1, 10, "an IPv4 reply");
    repeated(move || wire::encode_reply(black_box(wire::Reply::Succeeded), black_box(bound)))
}
