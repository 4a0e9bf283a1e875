//! Which destinations may be connected to. Pure: what the system knows (own listeners, routes) is handed in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::resolver::Family;

/// Why a destination is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// `deny-private`, and the address is not public.
    Private,
    /// The address is one of our own listeners.
    Loop,
    /// `bind-outgoing` has no source address of this family.
    Family,
}

/// The rules for destinations: an immutable snapshot, made anew when a setting, a listener or a route changes.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Refuse what is not public.
    pub deny_private: bool,
    /// Our own SOCKS and admin listeners.
    pub listeners: Vec<SocketAddr>,
    /// Source addresses; empty: the system's choice.
    pub bind_outgoing: Vec<IpAddr>,
    /// Whether any IPv6 route leads off this machine.
    pub ipv6_route: bool,
    /// Addresses of this machine, for listeners on every interface.
    pub local_addresses: Vec<IpAddr>,
}

impl Policy {
    /// May this address be connected to? Call with the canonical form, after resolution.
    pub fn check(&self, destination: SocketAddr) -> Result<(), Denied> {
        if self.is_own_listener(destination) {
            return Err(Denied::Loop);
        }
        if self.deny_private && !is_public(destination.ip()) {
            return Err(Denied::Private);
        }
        if !self.family_usable(family_of(destination.ip())) {
            return Err(Denied::Family);
        }
        Ok(())
    }

    /// Is there a source address for this family?
    #[must_use]
    pub fn family_usable(&self, family: Family) -> bool {
        self.bind_outgoing.is_empty() || self.bind_outgoing.iter().any(|ip| family_of(*ip) == family)
    }

    /// Should names be asked for addresses of this family?
    #[must_use]
    pub fn asks(&self, family: Family) -> bool {
        self.family_usable(family) && (family == Family::V4 || self.ipv6_route)
    }

    /// The source address for a destination, if one is set.
    #[must_use]
    pub fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        let family = family_of(destination);
        self.bind_outgoing.iter().copied().find(|ip| family_of(*ip) == family)
    }

    fn is_own_listener(&self, destination: SocketAddr) -> bool {
        self.listeners.iter().filter(|listener| listener.port() == destination.port()).any(|listener| {
            // The unspecified destination is this machine (connect(2) treats it as loopback).
            let to = destination.ip();
            let at = listener.ip().to_canonical();
            at == to
                || (to.is_unspecified() && (at.is_loopback() || at.is_unspecified()))
                || (at.is_unspecified() && (to.is_loopback() || self.local_addresses.contains(&to)))
        })
    }
}

/// The family of an address; IPv4 in IPv6 counts as IPv6, so canonicalise before.
#[must_use]
pub fn family_of(ip: IpAddr) -> Family {
    match ip {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

/// `::ffff:192.0.2.1` is 192.0.2.1; everything else stays.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Is the address one that the public Internet routes (RFC 6890 and the registries it began)?
///
/// IPv4 inside IPv6 (mapped, compatible, NAT64, 6to4) is judged by the IPv4 address it leads to.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => embedded_v4(ip).map_or_else(|| is_public_v6(ip), is_public_v4),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0                                   // this network (RFC 791)
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_private()
        || (a == 100 && (64..128).contains(&b)) // shared with carriers (RFC 6598)
        || (a == 192 && b == 0 && c == 0)       // protocol assignments (RFC 6890)
        || (a == 198 && (18..20).contains(&b))  // benchmarks (RFC 2544)
        || a >= 224) // multicast, reserved, broadcast
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let first = ip.segments()[0];
    !(ip.is_unspecified()
        || ip.is_loopback()
        || (first & 0xfe00) == 0xfc00           // unique local (RFC 4193)
        || (first & 0xffc0) == 0xfe80           // link local (RFC 4291)
        || (first & 0xffc0) == 0xfec0           // site local (RFC 3879)
        || (first & 0xff00) == 0xff00) // multicast
}

/// The IPv4 address that an IPv6 address leads to, where it leads to one.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = ip.segments();
    let low = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // Mapped (RFC 4291 §2.5.5.2) and translated (RFC 2765).
        [0, 0, 0, 0, 0, 0xffff, high, lower] | [0, 0, 0, 0, 0xffff, 0, high, lower] => Some(low(high, lower)),
        // Compatible (RFC 4291 §2.5.5.1), but ::1 and :: are themselves.
        [0, 0, 0, 0, 0, 0, high, lower] if high != 0 => Some(low(high, lower)),
        // NAT64, well-known and local prefixes (RFC 6052, RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, high, lower] | [0x64, 0xff9b, 1, _, _, _, high, lower] => {
            Some(low(high, lower))
        }
        // 6to4 (RFC 3056).
        [0x2002, high, lower, ..] => Some(low(high, lower)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_addresses_by_where_they_lead() {
        let cases = [
            ("8.8.8.8", true),
            ("0.1.2.3", false),
            ("127.0.0.1", false),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("169.254.1.1", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700::1", true),
            ("::", false),
            ("::1", false),
            ("fe80::1", false),
            ("fc00::1", false),
            ("ff02::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("::127.0.0.1", false),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b:1::7f00:1", false),
            ("2002:7f00:1::", false),
        ];
        for (text, public) in cases {
            assert_eq!(is_public(text.parse().unwrap()), public, "{text}");
        }
    }

    #[test]
    fn refuses_its_own_listeners_however_they_are_written() {
        let policy = Policy {
            listeners: vec!["0.0.0.0:1080".parse().unwrap(), "[::1]:1081".parse().unwrap()],
            local_addresses: vec!["192.0.2.7".parse().unwrap()],
            ipv6_route: true,
            ..Policy::default()
        };
        let cases = [
            ("127.0.0.1:1080", Err(Denied::Loop)),
            ("127.9.9.9:1080", Err(Denied::Loop)),
            ("192.0.2.7:1080", Err(Denied::Loop)),
            ("0.0.0.0:1080", Err(Denied::Loop)),
            ("192.0.2.8:1080", Ok(())),
            ("127.0.0.1:1082", Ok(())),
            ("[::1]:1081", Err(Denied::Loop)),
            ("[::]:1081", Err(Denied::Loop)),
            ("127.0.0.1:1081", Ok(())),
        ];
        for (text, expected) in cases {
            assert_eq!(policy.check(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_family_without_a_source_address_is_not_used() {
        let policy = Policy {
            bind_outgoing: vec!["192.0.2.1".parse().unwrap()],
            ipv6_route: true,
            ..Policy::default()
        };
        assert!(policy.asks(Family::V4));
        assert!(!policy.asks(Family::V6));
        assert_eq!(policy.check("[2001:db8::1]:80".parse().unwrap()), Err(Denied::Family));
        assert_eq!(policy.source_for("198.51.100.1".parse().unwrap()), Some("192.0.2.1".parse().unwrap()));
    }
}
