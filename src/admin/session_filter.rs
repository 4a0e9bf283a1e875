//! Which sessions a filter means. Every field that is there must match.

use std::net::IpAddr;

use pipo_protocol::v2::messages::{SessionFilter, SessionRow};

/// Whether the session of this row is meant.
pub(super) fn matches(filter: &SessionFilter, row: &SessionRow) -> bool {
    let bytes = row.bytes_up.saturating_add(row.bytes_down);
    filter.user.as_ref().is_none_or(|user| *user == row.user)
        && filter.source.is_none_or(|source| is_within(row.source.ip(), source, filter.source_prefix))
        && filter.destination.as_ref().is_none_or(|wanted| {
            row.destination.as_ref().is_some_and(|asked| is_named(asked.as_str(), wanted.as_str()))
        })
        && filter.destination_port.is_none_or(|port| row.destination_port == Some(port))
        && filter.age_ms_min.is_none_or(|least| row.age_ms >= least)
        && filter.age_ms_max.is_none_or(|most| row.age_ms <= most)
        && filter.bytes_min.is_none_or(|least| bytes >= least)
        && filter.bytes_max.is_none_or(|most| bytes <= most)
        && filter.stage.is_none_or(|stage| row.stage == stage)
        && filter.idle_ms_min.is_none_or(|least| row.idle_ms >= least)
}

/// Whether an address is `network`, or in it where only its leading bits count. An IPv4 address that came in by an
/// IPv6 socket is the IPv4 address.
fn is_within(address: IpAddr, network: IpAddr, prefix: Option<u8>) -> bool {
    let (address, network) = (address.to_canonical(), network.to_canonical());
    let (address, network, bits) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u128::from(u32::from(address)), u128::from(u32::from(network)), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (u128::from(address), u128::from(network), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let ignored = u32::from(prefix.map_or(0, |prefix| bits - prefix.min(bits)));
    (address ^ network).checked_shr(ignored).unwrap_or(0) == 0
}

/// Whether a destination is the one that is wanted, or, after a leading dot, any name below.
fn is_named(asked: &str, wanted: &str) -> bool {
    if wanted.starts_with('.') {
        let start = asked.len().checked_sub(wanted.len());
        let end = start.and_then(|start| asked.get(start..));
        return start != Some(0) && end.is_some_and(|end| end.eq_ignore_ascii_case(wanted));
    }
    asked.eq_ignore_ascii_case(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_compared_by_their_leading_bits() {
        let table = [
            ("192.0.2.7", "192.0.2.0", Some(24), true),
            ("192.0.3.7", "192.0.2.0", Some(24), false),
            ("192.0.2.7", "192.0.2.7", None, true),
            ("192.0.2.7", "192.0.2.6", None, false),
            ("192.0.2.7", "198.51.100.1", Some(0), true),
            ("::ffff:192.0.2.7", "192.0.2.7", None, true),
            ("2001:db8::1", "2001:db8::", Some(32), true),
            ("2001:db9::1", "2001:db8::", Some(32), false),
            ("2001:db8::1", "::", Some(0), true),
            ("2001:db8::1", "0.0.0.0", Some(0), false),
            ("192.0.2.7", "192.0.2.7", Some(200), true),
        ];
        for (address, network, prefix, expected) in table {
            let found = is_within(address.parse().unwrap(), network.parse().unwrap(), prefix);
            assert_eq!(found, expected, "{address} in {network}/{prefix:?}");
        }
    }

    #[test]
    fn names_are_whole_or_below_a_dot() {
        let table = [
            ("example.org", "example.org", true),
            ("Example.ORG", "example.org", true),
            ("www.example.org", "example.org", false),
            ("www.example.org", ".example.org", true),
            ("example.org", ".example.org", false),
            ("badexample.org", ".example.org", false),
        ];
        for (asked, wanted, expected) in table {
            assert_eq!(is_named(asked, wanted), expected, "{asked} {wanted}");
        }
    }
}
