//! Names of things: sessions, workers, listeners, sources. Newtypes, so that one cannot be taken for another.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A worker thread, counted from 0. At most [`crate::limits::WORKERS_COUNT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u16);

/// A row of the listener table, counted from 0; stays the same while the listener lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u16);

/// A session's name for people and the admin channel; unique over restarts.
///
/// Shape, from the top bit: start number (20 bits), worker (10 bits), counter (34 bits).
/// The start number is persisted by the store once it lasts; until then it is drawn from the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u64);

const COUNTER_BITS: u32 = 34;
const WORKER_BITS: u32 = 10;
const START_BITS: u32 = 20;
const _: () = assert!(COUNTER_BITS + WORKER_BITS + START_BITS == 64);

impl SessionId {
    /// The `counter`th session of `worker` in the start `start`. Parts too large for their field wrap.
    #[must_use]
    pub fn new(start: u32, worker: WorkerId, counter: u64) -> Self {
        let start = u64::from(start) & ((1 << START_BITS) - 1);
        let worker = u64::from(worker.0) & ((1 << WORKER_BITS) - 1);
        let counter = counter & ((1 << COUNTER_BITS) - 1);
        Self(start << (COUNTER_BITS + WORKER_BITS) | worker << COUNTER_BITS | counter)
    }

    /// The number as it stands in logs and on the admin channel.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// Reads a number that came over the admin channel back.
    #[must_use]
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Which worker holds the session: where a kill has to be sent.
    #[must_use]
    pub fn worker(self) -> WorkerId {
        let bits = (self.0 >> COUNTER_BITS) & ((1 << WORKER_BITS) - 1);
        WorkerId(u16::try_from(bits).unwrap_or(u16::MAX))
    }
}

/// Sixteen hexadecimal digits: sorts and copies well.
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for SessionId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// What counts as one source: an IPv4 address, or the /64 that an IPv6 host chooses its addresses from.
#[must_use]
pub fn source_of(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_names_its_worker_and_survives_its_text_form() {
        let id = SessionId::new(0x12345, WorkerId(7), 99);
        assert_eq!(id.worker(), WorkerId(7));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(SessionId::from_u64(id.as_u64()), id);
    }
}
