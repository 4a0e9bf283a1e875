//! Names to addresses: hosts file, cache, DNS over HTTP, plain DNS.
//!
//! One [`Resolver`] for each worker, driven by the worker's loop; it never blocks. What workers share is in
//! [`Shared`]: the hosts table, and whether the relay is up. A question goes
//! `hosts ► cache ► look-up under way ► relay (exchange in http) ► plain DNS (exchange in plain)`;
//! `lookups` holds these transitions, `table` the look-ups, `pool` the sockets, everything else is pure.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::settings::{DnsMode, DohMethod, Settings};

// In the order in which a question meets them.
pub mod hosts;

pub mod cache;

mod lookups;

mod table;

pub mod health;

pub mod exchange;

pub mod http;

pub mod plain;

mod pool;

pub use cache::{CacheEntryView, Freshness, Source};
pub use hosts::Hosts;
pub use lookups::Resolver;
pub use pool::TOKEN_BASE;

/// Who is asked, and how. [`Resolver::configure`] changes it while questions are under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which of the relay and plain DNS is asked.
    pub mode: DnsMode,
    /// The relay.
    pub relay: SocketAddr,
    /// Its Host field.
    pub host: String,
    /// Its path, with the leading slash.
    pub path: String,
    /// What stands between path and message in a GET.
    pub query: String,
    /// How questions travel to it.
    pub method: DohMethod,
    /// Plain DNS servers, in the order in which they are asked.
    pub servers: Vec<SocketAddr>,
}

impl Config {
    /// What the settings say, and the servers of resolv.conf ([`plain::parse_resolv_conf`]).
    #[must_use]
    pub fn from_settings(settings: &Settings, servers: &[SocketAddr]) -> Self {
        Self {
            mode: settings.dns,
            relay: SocketAddr::new(settings.doh_ip, settings.doh_port),
            host: settings.doh_host.clone(),
            path: settings.doh_path.clone(),
            query: settings.doh_query.clone(),
            method: settings.doh_method,
            servers: servers.to_vec(),
        }
    }
}

/// What the resolvers of all workers have in common.
#[derive(Debug)]
pub struct Shared {
    health: health::Health,
    hosts: ArcSwap<Hosts>,
}

impl Shared {
    /// With a hosts table, and a relay that nothing is known of.
    #[must_use]
    pub fn new(hosts: Hosts) -> Arc<Self> {
        Arc::new(Self { health: health::Health::default(), hosts: ArcSwap::from_pointee(hosts) })
    }

    /// Replaces the hosts table; the next question of each worker sees it.
    pub fn set_hosts(&self, hosts: Hosts) {
        self.hosts.store(Arc::new(hosts));
    }

    /// Whether the relay is up, as far as `auto` knows.
    #[must_use]
    pub fn relay_is_up(&self) -> bool {
        self.health.is_up()
    }
}

/// An address family: which of A and AAAA is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// A records (RFC 1035 §3.4.1).
    V4,
    /// AAAA records (RFC 3596 §2.1).
    V6,
}

/// A host name that may be asked: ASCII letters, digits, `-` and `_`, labels of 1 to 63 octets, at most 253
/// in all, lower case, without the trailing dot. The checked constructor is the only door.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DomainName(Arc<str>);

/// Why octets are not a [`DomainName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No octets, or only a dot.
    #[error("the name is empty")]
    Empty,
    /// More than 253 octets, or a label of more than 63.
    #[error("the name or a label of it is too long")]
    TooLong,
    /// An empty label, or an octet that no host name has (zone ids and non-ASCII among them).
    #[error("octet {0:#04x} may not stand in a name")]
    Octet(u8),
}

impl DomainName {
    /// Checks and lowers a name as a client sent it.
    pub fn parse(octets: &[u8]) -> Result<Self, NameError> {
        let octets = octets.strip_suffix(b".").unwrap_or(octets);
        if octets.is_empty() {
            return Err(NameError::Empty);
        }
        if octets.len() > 253 {
            return Err(NameError::TooLong);
        }
        let mut label_bytes = 0_usize;
        let mut lowered = String::with_capacity(octets.len());
        for &octet in octets {
            match octet {
                b'.' if label_bytes == 0 => return Err(NameError::Octet(octet)),
                b'.' => label_bytes = 0,
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => label_bytes += 1,
                _ => return Err(NameError::Octet(octet)),
            }
            if label_bytes > 63 {
                return Err(NameError::TooLong);
            }
            lowered.push(char::from(octet.to_ascii_lowercase()));
        }
        if label_bytes == 0 {
            return Err(NameError::Octet(b'.'));
        }
        Ok(Self(lowered.into()))
    }

    /// The name in lower case, without a trailing dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for DomainName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who waits for an answer; opaque to the resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiter(pub u64);

/// What one family's question came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one address, in the order served, at most [`crate::limits::ADDRESSES_PER_ANSWER_MAX`].
    Addresses(Arc<[IpAddr]>),
    /// The name, or this kind of address for it, does not exist (NXDOMAIN, NODATA, RFC 2308).
    NotFound,
    /// Nobody could say: timeout, server failure, malformed answers, too many look-ups under way.
    Failed,
}

/// One family's answer to one waiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who asked.
    pub waiter: Waiter,
    /// For which family.
    pub family: Family,
    /// What it came to.
    pub outcome: Outcome,
}
