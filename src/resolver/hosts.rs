//! Names that are known without asking: the hosts file, and `localhost` (RFC 6761 §6.3). Pure; the caller
//! reads the file and hands in its text.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{DomainName, Family, Outcome};
use crate::limits::{ADDRESSES_PER_ANSWER_MAX, HOSTS_ENTRIES_MAX};

/// The table of a hosts file, hosts(5).
#[derive(Debug)]
pub struct Hosts {
    /// What a name has, by family. A name that is here is never asked for elsewhere, also not for the
    /// family that it lacks: who pins a name to one address means it.
    by_name: HashMap<DomainName, [Outcome; 2]>,
    loopback: [Outcome; 2],
}

impl Default for Hosts {
    /// Without a file: only `localhost`.
    fn default() -> Self {
        Self::from_table(&HashMap::new())
    }
}

impl Hosts {
    /// Reads the text of a hosts file: `ADDRESS NAME…`, `#` to the end of a line is a comment. What is
    /// neither address nor name is skipped, as are more than [`HOSTS_ENTRIES_MAX`] lines or names.
    #[must_use]
    pub fn parse(text: impl AsRef<[u8]>) -> Self {
        let mut table: HashMap<DomainName, [Vec<IpAddr>; 2]> = HashMap::new();
        let mut names_left = HOSTS_ENTRIES_MAX;
        for line in text.as_ref().split(|&octet| octet == b'\n').take(HOSTS_ENTRIES_MAX) {
            let line = line.split(|&octet| octet == b'#').next().unwrap_or_default();
            let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let Some(address) = words.next().and_then(parse_address) else { continue };
            for name in words {
                let Ok(name) = DomainName::parse(name) else { continue };
                if names_left == 0 {
                    return Self::from_table(&table);
                }
                names_left -= 1;
                let by_family = table.entry(name).or_default();
                if let Some(addresses) = by_family.get_mut(family_of(address) as usize)
                    && addresses.len() < ADDRESSES_PER_ANSWER_MAX
                    && !addresses.contains(&address)
                {
                    addresses.push(address);
                }
            }
        }
        Self::from_table(&table)
    }

    /// What is known of a name without asking anybody. `None`: nothing.
    #[must_use]
    pub fn answer(&self, name: &DomainName, family: Family) -> Option<Outcome> {
        let outcomes = match Special::of(name) {
            Special::Localhost => &self.loopback,
            Special::Onion => return Some(Outcome::NotFound),
            Special::None => self.by_name.get(name)?,
        };
        outcomes.get(family as usize).cloned()
    }

    fn from_table(table: &HashMap<DomainName, [Vec<IpAddr>; 2]>) -> Self {
        let by_name = table
            .iter()
            .map(|(name, by_family)| (name.clone(), by_family.each_ref().map(|addresses| outcome(addresses))))
            .collect();
        let loopback = [outcome(&[Ipv4Addr::LOCALHOST.into()]), outcome(&[Ipv6Addr::LOCALHOST.into()])];
        Self { by_name, loopback }
    }
}

/// An address of a hosts file. Zone ids have no meaning for a proxy's client.
fn parse_address(word: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

/// The unspecified address is how block lists say that a name has none; taken for an address it would be
/// this host.
fn outcome(addresses: &[IpAddr]) -> Outcome {
    let usable: Arc<[IpAddr]> =
        addresses.iter().copied().filter(|address| !address.is_unspecified()).collect();
    if usable.is_empty() { Outcome::NotFound } else { Outcome::Addresses(usable) }
}

/// Names that never reach a DNS server.
enum Special {
    /// `localhost` and what is below it: loopback, whatever any file or server says (RFC 6761 §6.3).
    Localhost,
    /// `.onion`: does not exist, since only Tor could know (RFC 7686 §2).
    Onion,
    None,
}

impl Special {
    fn of(name: &DomainName) -> Self {
        let last_label = name.as_str().rsplit('.').next();
        match last_label {
            Some("localhost") => Self::Localhost,
            Some("onion") => Self::Onion,
            Some(_) | None => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, name: &str, family: Family, expected: Option<&[&str]>) {
        let name = DomainName::parse(name.as_bytes()).unwrap();
        let expected = expected.map(|addresses| {
            if addresses.is_empty() {
                return Outcome::NotFound;
            }
            Outcome::Addresses(addresses.iter().map(|address| address.parse::<IpAddr>().unwrap()).collect())
        });
        assert_eq!(Hosts::parse(text).answer(&name, family), expected, "{name} {family:?} in {text:?}");
    }

    #[test]
    fn a_name_has_the_addresses_of_all_its_lines_in_order() {
        let text =
            "192.0.2.1 One two\t# comment three\r\n\n#192.0.2.9 one\n 192.0.2.2  one.\n2001:db8::1 two\n";
        check(text, "one", Family::V4, Some(&["192.0.2.1", "192.0.2.2"]));
        check(text, "ONE.", Family::V4, Some(&["192.0.2.1", "192.0.2.2"]));
        check(text, "two", Family::V4, Some(&["192.0.2.1"]));
        check(text, "two", Family::V6, Some(&["2001:db8::1"]));
        check(text, "three", Family::V4, None);
    }

    #[test]
    fn a_pinned_name_is_not_asked_for_in_the_family_it_lacks() {
        check("192.0.2.1 one", "one", Family::V6, Some(&[]));
    }

    #[test]
    fn an_unspecified_address_blocks_a_name() {
        check("0.0.0.0 ads.example\n:: ads.example", "ads.example", Family::V4, Some(&[]));
        check("0.0.0.0 ads.example\n:: ads.example", "ads.example", Family::V6, Some(&[]));
    }

    #[test]
    fn localhost_is_loopback_and_onion_is_nothing_whatever_the_file_says() {
        let text = "192.0.2.1 localhost a.localhost b.onion";
        for name in ["localhost", "a.localhost", "b.a.LOCALHOST."] {
            check(text, name, Family::V4, Some(&["127.0.0.1"]));
            check(text, name, Family::V6, Some(&["::1"]));
        }
        check(text, "b.onion", Family::V4, Some(&[]));
        check(text, "onion", Family::V6, Some(&[]));
        check(text, "notlocalhost", Family::V4, None);
        check(text, "localhost.example", Family::V4, None);
    }

    #[test]
    fn what_is_no_address_or_name_is_skipped() {
        for text in ["one", "192.0.2 one", "fe80::1%eth0 one", "192.0.2.1", "192.0.2.1 \u{fc}ne o..ne"] {
            check(text, "one", Family::V4, None);
        }
        check("192.0.2.1 b\u{e4}d good", "good", Family::V4, Some(&["192.0.2.1"]));
    }

    #[test]
    fn names_and_lines_are_bounded() {
        let line =
            format!("192.0.2.1 {}", (0..HOSTS_ENTRIES_MAX + 5).map(|n| format!("n{n} ")).collect::<String>());
        assert_eq!(Hosts::parse(&line).by_name.len(), HOSTS_ENTRIES_MAX);
        let lines = format!("{}192.0.2.1 late", "\n".repeat(HOSTS_ENTRIES_MAX));
        assert_eq!(Hosts::parse(lines).by_name.len(), 0);
        let many: String = (0..=255).map(|n| format!("192.0.2.{n} one\n")).collect();
        let name = DomainName::parse(b"one").unwrap();
        let Some(Outcome::Addresses(addresses)) = Hosts::parse(many).answer(&name, Family::V4) else {
            panic!("the name has addresses");
        };
        assert_eq!(addresses.len(), ADDRESSES_PER_ANSWER_MAX);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let hosts = Hosts::parse(&text);
            prop_assert!(hosts.by_name.len() <= text.len());
        }
    }
}
