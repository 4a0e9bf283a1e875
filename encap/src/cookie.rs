//! The State Cookie (RFC 9260 §5.1.3): a server's half-open association, kept by the client.
//!
//! An INIT costs the server no memory at all. Everything an association needs goes into the cookie with an
//! authenticator over it and over where it came from; only an echo that proves both opens an association.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::chunks::Init;
use crate::entropy::{AUTHENTICATOR_BYTES, Entropy};
use crate::wire::Reader;

/// Fields and authenticator.
pub(crate) const COOKIE_BYTES: usize = FIELDS_BYTES + AUTHENTICATOR_BYTES;

const FIELDS_BYTES: usize = 8 + 16 + 16;

/// A half-open association, as long as a client holds it.
///
/// Shape: `MADE_MS(8) LOCAL(16) PEER(16) AUTHENTICATOR(16)`, the two in the form of INIT's fixed fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cookie {
    /// Milliseconds since the endpoint was made.
    pub(crate) made_ms: u64,
    /// What we offered.
    pub(crate) local: Init,
    /// What the peer offered.
    pub(crate) peer: Init,
}

/// Where a handshake runs: a cookie is good nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The peer's UDP address.
    pub(crate) remote: SocketAddr,
    /// The peer's SCTP port.
    pub(crate) peer_port: u16,
    /// Our SCTP port.
    pub(crate) local_port: u16,
}

impl Place {
    /// Whom the peer's share of the limits is charged to: an IPv4 address, or the /64 that one holder of IPv6
    /// addresses usually has.
    pub(crate) fn source(self) -> IpAddr {
        match self.remote.ip().to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        }
    }

    fn to_bytes(self) -> [u8; 22] {
        let address = match self.remote.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let mut bytes = [0; 22];
        let fields = address
            .octets()
            .into_iter()
            .chain(self.remote.port().to_be_bytes())
            .chain(self.peer_port.to_be_bytes())
            .chain(self.local_port.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }
}

impl Cookie {
    /// The cookie for the peer at `place`.
    pub(crate) fn seal(&self, place: Place, entropy: &Entropy) -> [u8; COOKIE_BYTES] {
        let fields = self.fields();
        let authenticator = entropy.authenticate(&[&fields, &place.to_bytes()]);
        let mut sealed = [0; COOKIE_BYTES];
        for (to, from) in sealed.iter_mut().zip(fields.into_iter().chain(authenticator)) {
            *to = from;
        }
        sealed
    }

    /// Reads back what [`Cookie::seal`] made. `None`: it did not make this, or not for this place.
    pub(crate) fn open(sealed: &[u8], place: Place, entropy: &Entropy) -> Option<Self> {
        let mut reader = Reader(sealed);
        let fields = reader.array::<FIELDS_BYTES>()?;
        let authenticator = reader.array::<AUTHENTICATOR_BYTES>()?;
        if !reader.0.is_empty() || !entropy.verify(&[&fields, &place.to_bytes()], &authenticator) {
            return None;
        }
        let mut reader = Reader(&fields);
        let made_ms = reader.u64()?;
        let (local, peer) = (reader.bytes(16)?, reader.bytes(16)?);
        Some(Self { made_ms, local: Init::parse(local)?.init, peer: Init::parse(peer)?.init })
    }

    fn fields(&self) -> [u8; FIELDS_BYTES] {
        let mut bytes = [0; FIELDS_BYTES];
        let fields =
            self.made_ms.to_be_bytes().into_iter().chain(self.local.to_bytes()).chain(self.peer.to_bytes());
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: Cookie = Cookie {
        made_ms: 12_345,
        local: Init { tag: 1, window: 2000, outbound: 3, inbound: 4, tsn: 5 },
        peer: Init { tag: 6, window: 7000, outbound: 8, inbound: 9, tsn: 10 },
    };

    fn place(remote: &str) -> Place {
        Place { remote: remote.parse().unwrap(), peer_port: 1, local_port: 2 }
    }

    #[test]
    fn a_cookie_opens_where_it_was_sealed() {
        let entropy = Entropy::new([1; 32]);
        for remote in ["127.0.0.1:9899", "[2001:db8::1]:4000"] {
            let sealed = COOKIE.seal(place(remote), &entropy);
            assert_eq!(Cookie::open(&sealed, place(remote), &entropy), Some(COOKIE));
        }
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        for (remote, source) in [
            ("192.0.2.7:1", "192.0.2.7"),
            ("[::ffff:192.0.2.7]:1", "192.0.2.7"),
            ("[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1:2::"),
        ] {
            assert_eq!(place(remote).source().to_string(), source);
        }
    }

    #[test]
    fn a_cookie_opens_nowhere_else_and_never_changed() {
        let entropy = Entropy::new([1; 32]);
        let here = place("127.0.0.1:9899");
        let sealed = COOKIE.seal(here, &entropy);
        for other in [
            place("127.0.0.2:9899"),
            place("127.0.0.1:9900"),
            Place { peer_port: 9, ..here },
            Place { local_port: 9, ..here },
        ] {
            assert_eq!(Cookie::open(&sealed, other, &entropy), None);
        }
        assert_eq!(Cookie::open(&sealed, here, &Entropy::new([2; 32])), None);
        for at in 0..sealed.len() {
            let mut changed = sealed;
            changed[at] ^= 1;
            assert_eq!(Cookie::open(&changed, here, &entropy), None, "byte {at}");
        }
        assert_eq!(Cookie::open(&sealed[..55], here, &entropy), None);
        assert_eq!(Cookie::open(&[&sealed[..], &[0]].concat(), here, &entropy), None);
    }
}
