//! The files of the system: hosts and resolv.conf.

use std::net::IpAddr;

use socks5d::limits::{ADDRESSES_PER_ANSWER_MAX, PLAIN_SERVERS_MAX};
use socks5d::resolver::plain::{PORT, parse_resolv_conf};
use socks5d::resolver::{DomainName, Family, Hosts, Outcome};

use crate::Judged;

/// Octets of memory that a table of the hosts file may take for each octet of the file. A name of one letter
/// costs a key of its own and a row with two outcomes, several hundred octets at most.
const MEMORY_PER_OCTET_MAX: usize = 1024;

/// A hosts file: whatever stands in it, `localhost` is loopback and `.onion` is nothing; every name on a line
/// with an address is known afterwards, with usable addresses of the right family, bounded.
pub fn hosts(octets: &[u8]) -> Judged {
    let mut hosts = Hosts::default();
    let cost = allocation_counter::measure(|| hosts = Hosts::parse(octets));
    let allowed = 4096 + MEMORY_PER_OCTET_MAX * octets.len();
    assert!(
        cost.bytes_max <= allowed as u64,
        "{} octets of memory for {} of text",
        cost.bytes_max,
        octets.len()
    );

    check_fixed_names(&hosts);
    let mut known = false;
    for word in octets.split(|octet| octet.is_ascii_whitespace() || *octet == b'#') {
        let Ok(name) = DomainName::parse(word) else { continue };
        let answers = [Family::V4, Family::V6].map(|family| (family, hosts.answer(&name, family)));
        // A name is pinned for both families or for none.
        assert_eq!(answers[0].1.is_some(), answers[1].1.is_some(), "{name}");
        for (family, answer) in answers {
            known |= matches!(&answer, Some(Outcome::Addresses(_)));
            check_answer(family, answer.as_ref());
        }
    }
    Judged::from(known)
}

fn check_fixed_names(hosts: &Hosts) {
    for (name, family, loopback) in [
        ("localhost", Family::V4, "127.0.0.1"),
        ("localhost", Family::V6, "::1"),
        ("a.localhost", Family::V4, "127.0.0.1"),
    ] {
        let expected: Option<IpAddr> = loopback.parse().ok();
        let answer = ask(hosts, name, family);
        assert!(
            matches!(&answer, Some(Outcome::Addresses(list)) if list.first().copied() == expected && list.len() == 1),
            "{name}: {answer:?}"
        );
    }
    assert_eq!(ask(hosts, "x.onion", Family::V4), Some(Outcome::NotFound));
}

fn ask(hosts: &Hosts, name: &str, family: Family) -> Option<Outcome> {
    hosts.answer(&DomainName::parse(name.as_bytes()).ok()?, family)
}

fn check_answer(family: Family, answer: Option<&Outcome>) {
    match answer {
        None | Some(Outcome::NotFound) => {}
        Some(Outcome::Failed) => panic!("a table cannot fail"),
        Some(Outcome::Addresses(list)) => {
            assert!((1..=ADDRESSES_PER_ANSWER_MAX).contains(&list.len()), "{} addresses", list.len());
            for (at, address) in list.iter().enumerate() {
                assert_eq!(address.is_ipv4(), family == Family::V4, "{address}");
                assert!(!address.is_unspecified());
                assert!(!list.iter().skip(at + 1).any(|other| other == address), "{address} twice");
            }
        }
    }
}

/// A resolv.conf: there is always a server to ask, never too many, each once and on the right port.
pub fn resolv_conf(octets: &[u8]) -> Judged {
    let mut servers = Vec::new();
    let cost = allocation_counter::measure(|| servers = parse_resolv_conf(octets));
    assert!(cost.bytes_max <= 4096, "{} octets of memory", cost.bytes_max);
    assert!((1..=PLAIN_SERVERS_MAX).contains(&servers.len()), "{servers:?}");
    for (at, server) in servers.iter().enumerate() {
        assert_eq!(server.port(), PORT);
        assert!(!servers.iter().skip(at + 1).any(|other| other == server), "{server} twice");
    }
    // What follows after a comment at the end changes nothing.
    assert_eq!(parse_resolv_conf([octets, b"\n# nameserver 192.0.2.77\n"].concat()), servers);
    let local = servers.iter().all(|server| server.ip() == IpAddr::from([127, 0, 0, 1]));
    Judged::from(!local)
}
