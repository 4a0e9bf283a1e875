//! The SOCKS messages of `proxy::wire`, both ways.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socks5d::proxy::wire::{
    Decoded, Destination, Reply, VERSION, decode_methods, decode_password, decode_request, encode_reply,
};

use crate::Judged;
use crate::script::Script;

/// Method selection, password and request: what is decoded encodes to the octets it was read from, and every
/// prefix is either incomplete or already the same error.
pub fn client_messages(octets: &[u8]) -> Judged {
    let methods =
        check(octets, decode_methods, |methods| [&[VERSION, length_octet(methods)], *methods].concat());
    let password = check(octets, decode_password, |(name, password)| {
        [&[1, length_octet(name)], *name, &[length_octet(password)], *password].concat()
    });
    // The reserved octet is free, and is copied for the comparison.
    let reserved = octets.get(2).copied().unwrap_or(0);
    let request = check(octets, decode_request, |request| {
        let (kind, address) = match request.destination {
            Destination::Address(IpAddr::V4(ip)) => (1, ip.octets().to_vec()),
            Destination::Address(IpAddr::V6(ip)) => (4, ip.octets().to_vec()),
            Destination::Name(name) => (3, [&[length_octet(name)], name].concat()),
        };
        let head = [VERSION, request.command.code(), reserved, kind];
        [&head[..], &address, &request.port.to_be_bytes()].concat()
    });
    Judged::from(methods || password || request)
}

/// Whether `octets` begin with a message.
fn check<'a, T: PartialEq + std::fmt::Debug>(
    octets: &'a [u8],
    decode: impl Fn(&'a [u8]) -> Decoded<T>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> bool {
    let whole = decode(octets);
    for (end, _) in octets.iter().enumerate().take(600) {
        let Some(prefix) = octets.get(..end) else { return false };
        match (&whole, decode(prefix)) {
            (_, Ok(None)) => {}
            (Ok(Some((_, used))), at_prefix @ Ok(Some(_))) => {
                assert!(end >= *used, "{used} octets taken from {end}");
                assert_eq!(at_prefix, whole);
            }
            (Err(_), at_prefix @ Err(_)) => assert_eq!(at_prefix, whole),
            (whole, at_prefix) => panic!("{whole:?} becomes {at_prefix:?} when cut at {end}"),
        }
    }
    let Ok(Some((message, used))) = whole else { return false };
    assert_eq!(octets.get(..used), Some(&*encode(&message)), "{message:?}");
    true
}

fn length_octet(octets: &[u8]) -> u8 {
    u8::try_from(octets.len()).unwrap_or_else(|_| panic!("{} octets behind a length octet", octets.len()))
}

/// A reply has the address it was made with, and its length is what its address type says.
pub fn reply(octets: &[u8]) -> Judged {
    let mut script = Script::new(octets);
    let code = script.octet();
    let replies = [
        Reply::Succeeded,
        Reply::GeneralFailure,
        Reply::NotAllowed,
        Reply::NetworkUnreachable,
        Reply::HostUnreachable,
        Reply::ConnectionRefused,
        Reply::TtlExpired,
        Reply::CommandNotSupported,
        Reply::AddressTypeNotSupported,
    ];
    let Some(reply) = replies.get(usize::from(code)) else { return Judged::Refused };
    let port = script.number();
    let rest = script.rest();
    let ip = match (rest.first_chunk::<16>(), rest.first_chunk::<4>()) {
        (Some(octets), _) => IpAddr::V6(Ipv6Addr::from(*octets)),
        (None, Some(octets)) => IpAddr::V4(Ipv4Addr::from(*octets)),
        (None, None) => return Judged::Refused,
    };
    let (message, length) = encode_reply(*reply, SocketAddr::new(ip, port));
    assert_eq!((message.first(), message.get(1), message.get(2)), (Some(&5), Some(&code), Some(&0)));
    // A reply has the form of a request: its decoder is a second opinion.
    let whole = message.get(..length).unwrap_or_default();
    match decode_request(whole) {
        Ok(Some((decoded, used))) => {
            assert_eq!(used, length);
            assert_eq!(decoded.port, port);
            assert_eq!(decoded.destination, Destination::Address(ip.to_canonical()));
        }
        other => panic!("{whole:02x?} is no reply: {other:?}"),
    }
    Judged::Accepted
}
