//! Before the first stage: the listener table, and who is let in.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::ids::{ListenerId, source_of};
use crate::limits;
use crate::sys::inherit::Inherited;
use crate::sys::socket::{self, UnsuitableError};

/// A listening socket that all workers share.
#[derive(Debug)]
pub struct Listener {
    /// Its row in the table.
    pub id: ListenerId,
    /// Where it listens, with the port that it got.
    pub address: SocketAddr,
    pub(super) socket: mio::net::TcpListener,
    pub(super) bound_by: BoundBy,
}

/// Who has bound a listener, and so may end its listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundBy {
    /// This process.
    Us,
    /// A service manager, which gives it to the next process too: connections wait there meanwhile.
    Manager,
}

/// Why a listener could not be made. The operator is at fault, or another process.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub cause: io::Error,
}

/// A socket that was handed to us cannot be a listener. Whoever started us is at fault.
#[derive(Debug, thiserror::Error)]
#[error("inherited socket {label}: {cause}")]
pub struct UnfitError {
    /// Its number and name.
    pub label: String,
    /// What is wrong with it.
    #[source]
    pub cause: UnsuitableError,
}

/// Whether every address of a list has to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// The operator named them.
    Named,
    /// We chose them: a family that this machine does not have is left out.
    Chosen,
}

/// Listens on all addresses at one port. With port 0 the first one's port is asked for on the others too.
pub fn listen(ips: &[IpAddr], port: u16, addresses: Addresses) -> Result<Vec<Listener>, ListenError> {
    let mut listeners: Vec<Listener> = Vec::new();
    for ip in ips {
        let port = listeners.first().map_or(port, |first| first.address.port());
        let wanted = SocketAddr::new(*ip, port);
        let bound = socket::listen(wanted).and_then(|socket| Ok((socket.local_addr()?, socket)));
        match bound {
            Ok((address, socket)) => {
                listeners.push(Listener::new(listeners.len(), address, socket, BoundBy::Us));
            }
            Err(cause) if addresses == Addresses::Chosen && lacks_family(&cause) => {
                log::info!("not listening: address={wanted} error=\"{cause}\"");
            }
            Err(cause) => return Err(ListenError { address: wanted, cause }),
        }
    }
    if listeners.is_empty() {
        let address = SocketAddr::new(ips.first().copied().unwrap_or(IpAddr::V6(Ipv6Addr::LOCALHOST)), port);
        return Err(ListenError { address, cause: io::Error::from(io::ErrorKind::AddrNotAvailable) });
    }
    Ok(listeners)
}

/// Listens on the sockets that were handed to us, on all of them or not at all.
pub fn adopt(sockets: Vec<Inherited>) -> Result<Vec<Listener>, UnfitError> {
    let adopt = |(row, Inherited { label, socket }): (usize, Inherited)| {
        let adopted =
            socket::inherited_listener(socket).and_then(|socket| Ok((socket.local_addr()?, socket)));
        match adopted {
            Ok((address, socket)) => {
                log::info!("inherited: socket={label} address={address}");
                Ok(Listener::new(row, address, socket, BoundBy::Manager))
            }
            Err(cause) => Err(UnfitError { label, cause }),
        }
    };
    sockets.into_iter().enumerate().map(adopt).collect()
}

impl Listener {
    fn new(row: usize, address: SocketAddr, socket: std::net::TcpListener, bound_by: BoundBy) -> Self {
        let id = ListenerId(u16::try_from(row).unwrap_or(u16::MAX));
        Self { id, address, socket: mio::net::TcpListener::from_std(socket), bound_by }
    }
}

fn lacks_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

/// Counts sessions, of all workers and of each source, against their limits.
#[derive(Debug)]
pub struct Admission {
    sessions: AtomicUsize,
    sessions_max: AtomicUsize,
    /// Connections that were let in: reservations, which come and go while nobody comes, do not count.
    entered: AtomicUsize,
    entered_max: AtomicUsize,
    /// 0: no limit.
    per_source_max: AtomicUsize,
    sources: [Mutex<HashMap<IpAddr, usize>>; limits::SOURCES_SHARDS],
    hasher: RandomState,
}

/// A session's place, to be given back by [`Admission::leave`].
#[derive(Debug)]
#[must_use]
pub struct Place {
    source: Option<IpAddr>,
}

impl Admission {
    /// Nobody is in.
    #[must_use]
    pub fn new(sessions_max: usize, per_source_max: Option<usize>) -> Self {
        Self {
            sessions: AtomicUsize::new(0),
            sessions_max: AtomicUsize::new(sessions_max),
            entered: AtomicUsize::new(0),
            entered_max: AtomicUsize::new(0),
            per_source_max: AtomicUsize::new(per_source_max.unwrap_or(0)),
            sources: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }

    /// Takes other limits up. Who is in stays in.
    pub fn set_limits(&self, sessions_max: usize, per_source_max: Option<usize>) {
        self.sessions_max.store(sessions_max, Ordering::Relaxed);
        self.per_source_max.store(per_source_max.unwrap_or(0), Ordering::Relaxed);
    }

    /// Reserves a place for a connection that is about to be accepted; `false` when all are taken.
    #[must_use]
    pub fn reserve(&self) -> bool {
        let free = self.sessions.fetch_add(1, Ordering::Relaxed) < self.sessions_max.load(Ordering::Relaxed);
        if !free {
            self.cancel();
        }
        free
    }

    /// Gives a reservation back: nobody came.
    pub fn cancel(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Turns a reservation into a place; `None`, and no reservation any more, when the source has its share.
    #[must_use]
    pub fn enter(&self, client: IpAddr) -> Option<Place> {
        let per_source_max = self.per_source_max.load(Ordering::Relaxed);
        if per_source_max == 0 {
            return Some(self.let_in(None));
        }
        let source = source_of(client);
        let mut shard = self.shard(source).lock().unwrap_or_else(PoisonError::into_inner);
        let count = shard.entry(source).or_insert(0);
        if *count >= per_source_max {
            self.cancel();
            return None;
        }
        *count += 1;
        Some(self.let_in(Some(source)))
    }

    fn let_in(&self, source: Option<IpAddr>) -> Place {
        let entered = self.entered.fetch_add(1, Ordering::Relaxed) + 1;
        // The mark is written when it is passed, not by every connection.
        if entered > self.entered_max.load(Ordering::Relaxed) {
            self.entered_max.fetch_max(entered, Ordering::Relaxed);
        }
        Place { source }
    }

    /// Sessions that are possible at once.
    #[must_use]
    pub fn sessions_max(&self) -> usize {
        self.sessions_max.load(Ordering::Relaxed)
    }

    /// Connections that are in.
    #[must_use]
    pub fn entered(&self) -> usize {
        self.entered.load(Ordering::Relaxed)
    }

    /// Most connections that were ever in at once.
    #[must_use]
    pub fn entered_max(&self) -> usize {
        self.entered_max.load(Ordering::Relaxed)
    }

    /// Gives a place back.
    pub fn leave(&self, place: Place) {
        if let Some(source) = place.source {
            let mut shard = self.shard(source).lock().unwrap_or_else(PoisonError::into_inner);
            if let Entry::Occupied(mut entry) = shard.entry(source) {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
        self.entered.fetch_sub(1, Ordering::Relaxed);
        self.cancel();
    }

    fn shard(&self, source: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        let place = usize::try_from(self.hasher.hash_one(source) % self.sources.len() as u64).unwrap_or(0);
        let [first, ..] = &self.sources;
        self.sources.get(place).unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn enter(admission: &Admission, client: &str) -> Option<Place> {
        admission.reserve().then(|| admission.enter(ip(client))).flatten()
    }

    #[test]
    fn a_place_that_was_left_can_be_taken_again() {
        let admission = Admission::new(2, None);
        let first = enter(&admission, "192.0.2.1").unwrap();
        let _second = enter(&admission, "192.0.2.1").unwrap();
        assert!(enter(&admission, "192.0.2.1").is_none());
        admission.leave(first);
        assert!(enter(&admission, "192.0.2.1").is_some());
        assert!(!admission.reserve());
    }

    #[test]
    fn the_highest_mark_counts_who_was_in_at_once() {
        let admission = Admission::new(10, Some(2));
        let first = enter(&admission, "192.0.2.1").unwrap();
        let second = enter(&admission, "192.0.2.1").unwrap();
        assert!(enter(&admission, "192.0.2.1").is_none(), "refused ones do not count");
        assert!(admission.reserve(), "nor do reservations");
        admission.leave(first);
        let _third = enter(&admission, "192.0.2.2").unwrap();
        assert_eq!((admission.entered(), admission.entered_max()), (2, 2));
        admission.leave(second);
        assert_eq!((admission.entered(), admission.entered_max()), (1, 2));
    }

    #[test]
    fn a_source_gets_no_more_than_its_share() {
        let admission = Admission::new(2, Some(1));
        let place = enter(&admission, "2001:db8::1").unwrap();
        for _ in 0..5 {
            assert!(enter(&admission, "2001:db8::2").is_none());
        }
        assert!(enter(&admission, "2001:db8:0:1::1").is_some(), "refusals took no place");
        admission.leave(place);
        assert!(enter(&admission, "2001:db8::2").is_some());
    }

    #[test]
    fn listeners_share_the_port_that_the_first_one_got() {
        let listeners = listen(&[ip("127.0.0.1"), ip("127.0.0.2")], 0, Addresses::Named).unwrap();
        assert_eq!(listeners[0].address.port(), listeners[1].address.port());
        let error = listen(&[ip("127.0.0.1")], listeners[0].address.port(), Addresses::Named).unwrap_err();
        assert!(error.to_string().contains(&listeners[0].address.to_string()));
    }

    #[test]
    fn a_chosen_address_that_this_machine_lacks_is_left_out() {
        let listeners = listen(&[ip("192.0.2.99"), ip("127.0.0.1")], 0, Addresses::Chosen).unwrap();
        assert_eq!(listeners.len(), 1);
        assert!(listen(&[ip("192.0.2.99")], 0, Addresses::Named).is_err());
    }
}
