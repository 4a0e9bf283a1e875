//! SOCKS5 on the wire (RFC 1928, RFC 1929): codes, and the three messages that a client sends.
//!
//! Decoders take everything that has arrived and answer `Ok(None)` while a message is incomplete, consuming
//! nothing; so any split of the bytes gives the same result as the whole. Nothing here does I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use byteorder::{BigEndian, ByteOrder};

/// Protocol version of RFC 1928.
pub const VERSION: u8 = 5;
/// Version of the username/password negotiation (RFC 1929 §2).
pub const PASSWORD_VERSION: u8 = 1;
/// Longest reply: 4 fixed bytes, IPv6 address, port (RFC 1928 §6).
pub const REPLY_BYTES_MAX: usize = 4 + 16 + 2;

/// Authentication method (RFC 1928 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `00`, no authentication required.
    None,
    /// `02`, username/password (RFC 1929).
    Password,
    /// `FF`, no acceptable methods.
    NoneAcceptable,
    /// What we do not speak, GSSAPI among them.
    Unassigned(u8),
}

impl Method {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::None => 0x00,
            Self::Password => 0x02,
            Self::NoneAcceptable => 0xff,
            Self::Unassigned(code) => code,
        }
    }
}

impl From<u8> for Method {
    fn from(code: u8) -> Self {
        match code {
            0x00 => Self::None,
            0x02 => Self::Password,
            0xff => Self::NoneAcceptable,
            code => Self::Unassigned(code),
        }
    }
}

/// What a request asks for (RFC 1928 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `01`.
    Connect,
    /// `02`.
    Bind,
    /// `03`.
    UdpAssociate,
    /// Anything else.
    Unassigned(u8),
}

impl Command {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Connect => 1,
            Self::Bind => 2,
            Self::UdpAssociate => 3,
            Self::Unassigned(code) => code,
        }
    }
}

impl From<u8> for Command {
    fn from(code: u8) -> Self {
        match code {
            1 => Self::Connect,
            2 => Self::Bind,
            3 => Self::UdpAssociate,
            code => Self::Unassigned(code),
        }
    }
}

/// How a destination is written (RFC 1928 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressType {
    /// `01`, 4 octets.
    Ipv4,
    /// `03`, a length octet and as many octets of name.
    DomainName,
    /// `04`, 16 octets.
    Ipv6,
    /// Anything else.
    Unassigned(u8),
}

impl From<u8> for AddressType {
    fn from(code: u8) -> Self {
        match code {
            1 => Self::Ipv4,
            3 => Self::DomainName,
            4 => Self::Ipv6,
            code => Self::Unassigned(code),
        }
    }
}

/// Outcome of a request (RFC 1928 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `00`.
    Succeeded,
    /// `01`, general SOCKS server failure.
    GeneralFailure,
    /// `02`, connection not allowed by ruleset.
    NotAllowed,
    /// `03`.
    NetworkUnreachable,
    /// `04`; a name without addresses too.
    HostUnreachable,
    /// `05`.
    ConnectionRefused,
    /// `06`; an attempt that timed out.
    TtlExpired,
    /// `07`.
    CommandNotSupported,
    /// `08`.
    AddressTypeNotSupported,
}

impl Reply {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::GeneralFailure => 1,
            Self::NotAllowed => 2,
            Self::NetworkUnreachable => 3,
            Self::HostUnreachable => 4,
            Self::ConnectionRefused => 5,
            Self::TtlExpired => 6,
            Self::CommandNotSupported => 7,
            Self::AddressTypeNotSupported => 8,
        }
    }
}

/// A destination as the client wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// An address; IPv4 in IPv6 stays as written.
    Address(IpAddr),
    /// Octets of a domain name, 0 to 255, unchecked.
    Name(&'a [u8]),
}

/// A request (RFC 1928 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What to do.
    pub command: Command,
    /// Where.
    pub destination: Destination<'a>,
    /// Destination port.
    pub port: u16,
}

/// Why bytes are not the message that was due. The client is at fault in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The first octet names another protocol or version.
    #[error("version {got:#04x}, expected {expected:#04x}")]
    Version {
        /// What came.
        got: u8,
        /// What was due.
        expected: u8,
    },
    /// An address type that RFC 1928 does not define.
    #[error("address type {0:?} is not supported")]
    AddressType(AddressType),
}

/// A decoded message and the number of bytes it took; `None` while incomplete.
pub type Decoded<T> = Result<Option<(T, usize)>, WireError>;

/// Method selection, RFC 1928 §3. The result is the list of method codes.
///
/// Shape: `VER(1)=5 NMETHODS(1) METHODS(NMETHODS)`. Error: [`WireError::Version`], on the first octet.
pub fn decode_methods(bytes: &[u8]) -> Decoded<&[u8]> {
    check_version(bytes, VERSION)?;
    let [_, count, rest @ ..] = bytes else { return Ok(None) };
    let count = usize::from(*count);
    Ok(rest.get(..count).map(|methods| (methods, 2 + count)))
}

/// Username/password request, RFC 1929 §2. The result is user name and password, each 0 to 255 octets:
/// whether an empty one is acceptable is not the decoder's business.
///
/// Shape: `VER(1)=1 ULEN(1) UNAME(ULEN) PLEN(1) PASSWD(PLEN)`. Error: [`WireError::Version`].
pub fn decode_password(bytes: &[u8]) -> Decoded<(&[u8], &[u8])> {
    check_version(bytes, PASSWORD_VERSION)?;
    let Some((name, rest)) = bytes.get(1..).and_then(split_counted) else { return Ok(None) };
    let Some((password, _)) = split_counted(rest) else { return Ok(None) };
    Ok(Some(((name, password), 3 + name.len() + password.len())))
}

/// Request, RFC 1928 §4.
///
/// Shape: `VER(1)=5 CMD(1) RSV(1) ATYP(1) DST.ADDR DST.PORT(2)`. RSV is not looked at, as clients differ.
/// Errors: [`WireError::Version`], [`WireError::AddressType`], each as soon as its octet is there.
pub fn decode_request(bytes: &[u8]) -> Decoded<Request<'_>> {
    check_version(bytes, VERSION)?;
    let [_, command, _, address_type, rest @ ..] = bytes else { return Ok(None) };
    let address_type = AddressType::from(*address_type);
    let split = match address_type {
        AddressType::Ipv4 => rest
            .split_first_chunk::<4>()
            .map(|(octets, rest)| (Destination::Address(IpAddr::V4(Ipv4Addr::from(*octets))), rest)),
        AddressType::Ipv6 => rest
            .split_first_chunk::<16>()
            .map(|(octets, rest)| (Destination::Address(IpAddr::V6(Ipv6Addr::from(*octets))), rest)),
        AddressType::DomainName => split_counted(rest).map(|(name, rest)| (Destination::Name(name), rest)),
        AddressType::Unassigned(_) => return Err(WireError::AddressType(address_type)),
    };
    let Some((destination, rest)) = split else { return Ok(None) };
    let Some((port, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
    let request = Request { command: Command::from(*command), destination, port: BigEndian::read_u16(port) };
    Ok(Some((request, bytes.len() - rest.len())))
}

/// Method choice, RFC 1928 §3. Shape: `VER(1)=5 METHOD(1)`.
#[must_use]
pub fn encode_method(method: Method) -> [u8; 2] {
    [VERSION, method.code()]
}

/// Password verdict, RFC 1929 §2. Shape: `VER(1)=1 STATUS(1)`, status 0 for success.
#[must_use]
pub fn encode_password_status(status: u8) -> [u8; 2] {
    [PASSWORD_VERSION, status]
}

/// Reply, RFC 1928 §6, and its length in bytes. IPv4 in IPv6 is written as IPv4.
///
/// Shape: `VER(1)=5 REP(1) RSV(1)=0 ATYP(1) BND.ADDR BND.PORT(2)`.
#[must_use]
pub fn encode_reply(reply: Reply, bound: SocketAddr) -> ([u8; REPLY_BYTES_MAX], usize) {
    let mut bytes = [0; REPLY_BYTES_MAX];
    let (head, tail) = bytes.split_at_mut(4);
    let port_at = match bound.ip().to_canonical() {
        IpAddr::V4(ip) => {
            head.copy_from_slice(&[VERSION, reply.code(), 0, 1]);
            tail.iter_mut().zip(ip.octets()).for_each(|(to, from)| *to = from);
            4
        }
        IpAddr::V6(ip) => {
            head.copy_from_slice(&[VERSION, reply.code(), 0, 4]);
            tail.iter_mut().zip(ip.octets()).for_each(|(to, from)| *to = from);
            16
        }
    };
    if let Some(port) = tail.get_mut(port_at..port_at + 2) {
        BigEndian::write_u16(port, bound.port());
    }
    (bytes, 4 + port_at + 2)
}

fn check_version(bytes: &[u8], expected: u8) -> Result<(), WireError> {
    match bytes.first() {
        Some(&got) if got != expected => Err(WireError::Version { got, expected }),
        Some(_) | None => Ok(()),
    }
}

/// Splits `LEN(1) DATA(LEN)` off the front.
fn split_counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whatever the split, a prefix is incomplete and the whole is the same message.
    fn check_prefixes(bytes: &[u8], used: impl Fn(&[u8]) -> Result<Option<usize>, WireError>) {
        for end in 0..bytes.len() {
            assert_eq!(used(&bytes[..end]), Ok(None), "prefix of {end} bytes");
        }
        assert_eq!(used(bytes), Ok(Some(bytes.len())));
    }

    fn used_of<T>(decoded: Decoded<T>) -> Result<Option<usize>, WireError> {
        decoded.map(|decoded| decoded.map(|(_, used)| used))
    }

    #[test]
    fn decodes_a_request_for_each_address_type() {
        let cases: [(&[u8], Destination<'_>); 3] = [
            (&[5, 1, 0, 1, 192, 0, 2, 1, 0, 80], Destination::Address("192.0.2.1".parse().unwrap())),
            (&[5, 1, 0, 3, 1, b'a', 0, 80], Destination::Name(b"a")),
            (
                &[5, 1, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80],
                Destination::Address("2001:db8::1".parse().unwrap()),
            ),
        ];
        for (bytes, destination) in cases {
            let (request, used) = decode_request(bytes).unwrap().unwrap();
            assert_eq!(request, Request { command: Command::Connect, destination, port: 80 });
            assert_eq!(used, bytes.len());
            check_prefixes(bytes, |bytes| used_of(decode_request(bytes)));
        }
    }

    #[test]
    fn refuses_another_version_on_the_first_octet() {
        assert_eq!(decode_methods(&[4]), Err(WireError::Version { got: 4, expected: 5 }));
        assert_eq!(decode_password(&[5]), Err(WireError::Version { got: 5, expected: 1 }));
        assert_eq!(decode_request(b"GET"), Err(WireError::Version { got: b'G', expected: 5 }));
    }

    #[test]
    fn refuses_an_unknown_address_type_before_the_address() {
        let error = decode_request(&[5, 1, 0, 2]);
        assert_eq!(error, Err(WireError::AddressType(AddressType::Unassigned(2))));
    }

    #[test]
    fn encodes_replies_of_both_families() {
        let (bytes, length) = encode_reply(Reply::Succeeded, "127.0.0.1:1080".parse().unwrap());
        assert_eq!(bytes[..length], [5, 0, 0, 1, 127, 0, 0, 1, 4, 56]);
        let (bytes, length) = encode_reply(Reply::NotAllowed, "[::1]:258".parse().unwrap());
        assert_eq!(bytes[..length], [5, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2]);
        let (bytes, length) = encode_reply(Reply::Succeeded, "[::ffff:127.0.0.1]:1".parse().unwrap());
        assert_eq!(bytes[..length], [5, 0, 0, 1, 127, 0, 0, 1, 0, 1]);
    }

    proptest! {
        #[test]
        fn any_prefix_of_a_message_is_incomplete(
            methods in prop::collection::vec(any::<u8>(), 0..=255),
            name in prop::collection::vec(any::<u8>(), 0..=255),
            password in prop::collection::vec(any::<u8>(), 0..=255),
            port in any::<u16>(),
        ) {
            let mut bytes = vec![VERSION, u8::try_from(methods.len()).unwrap()];
            bytes.extend(&methods);
            check_prefixes(&bytes, |bytes| used_of(decode_methods(bytes)));

            let mut bytes = vec![PASSWORD_VERSION, u8::try_from(name.len()).unwrap()];
            bytes.extend(&name);
            bytes.push(u8::try_from(password.len()).unwrap());
            bytes.extend(&password);
            check_prefixes(&bytes, |bytes| used_of(decode_password(bytes)));

            let mut bytes = vec![VERSION, 1, 0, 3, u8::try_from(name.len()).unwrap()];
            bytes.extend(&name);
            bytes.extend(port.to_be_bytes());
            check_prefixes(&bytes, |bytes| used_of(decode_request(bytes)));
        }

        #[test]
        fn random_bytes_never_take_more_than_there_are(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            for used in [
                decode_methods(&bytes).ok().flatten().map(|(_, used)| used),
                decode_password(&bytes).ok().flatten().map(|(_, used)| used),
                decode_request(&bytes).ok().flatten().map(|(_, used)| used),
            ] {
                prop_assert!(used.unwrap_or(0) <= bytes.len());
            }
        }
    }
}
