//! The resolver cache.

use std::net::IpAddr;

use super::part;
use crate::v2::Text;
use crate::v2::body::message;
use crate::v2::values::wire_enum;

message! {
    /// Asks for cached answers.
    pub struct DnsShow "dns-show" {
        /// Credit of the channel, octets.
        0 credit: u32,
        /// Only this name.
        1 name: Option<Text<255>>,
        /// At most so many rows.
        2 limit: Option<u32>,
    }
}

message! {
    /// One cached answer.
    pub struct CacheRow "cache-row" {
        /// The name.
        1 name: Text<255>,
        /// 4 for A, 6 for AAAA.
        2 family: u8,
        /// Its addresses; none: the name has none of this family.
        3 addresses: Vec<IpAddr>,
        /// Time until it is asked again; 0 when it is stale.
        4 ttl_ms: u64,
        /// Where it came from.
        5 source: CacheSource,
        /// Which worker holds it.
        6 worker: u16,
    }
}

wire_enum! {
    /// Where an answer came from.
    pub enum CacheSource "cache-source" {
        /// The DoH relay.
        Relay = 0 "relay",
        /// Plain DNS.
        Plain = 1 "plain",
        /// The hosts file.
        Hosts = 2 "hosts",
    }
}

part! {
    /// Part of the list of cached answers.
    pub struct CachePart "cache-part" of CacheRow;
}

message! {
    /// Forgets cached answers.
    pub struct DnsFlush "dns-flush" {
        /// Only of this name; all when absent.
        1 name: Option<Text<255>>,
    }
}

message! {
    /// The answer to dns flush.
    pub struct Flushed "flushed" {
        /// The sequence that includes it.
        0 as_of: u64,
        /// Answers forgotten.
        1 entries_count: u64,
    }
}
