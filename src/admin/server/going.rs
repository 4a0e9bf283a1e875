//! Associations that go: by themselves, because they must, or because the daemon does.

use std::time::Instant;

use pipo_protocol::v2::Status;

use super::Server;
use crate::admin::core::Core;
use crate::admin::notes::PeerKey;
use crate::admin::peer::{Life, Link, Peer, Received};
use crate::admin::session::{Ending, v2};
use crate::admin::udp::Carrier;
use crate::limits;
use crate::metrics::Counter;

impl Server {
    /// The session has ended by itself.
    pub(super) fn part(&mut self, key: PeerKey, ending: Ending) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let source = peer.source;
        match ending {
            Ending::Version(version) => {
                self.counters.count(Counter::AdminVersionUnsupported);
                log::debug!("admin association of an unknown version: source={source} version={version}");
            }
            Ending::Malformed => {
                self.counters.count(Counter::AdminRecordsMalformed);
                log::debug!("admin association with octets that are no record: source={source}");
            }
            Ending::Goodbye => log::debug!("admin association said good-bye: source={source}"),
            Ending::LoginRefused => self.counters.count(Counter::AdminLoginRefused),
            Ending::LoginTimeout => {
                self.counters.count(Counter::AdminLoginTimeout);
                log::debug!("admin log-in took too long: source={source}");
            }
        }
        peer.life = Life::Parting;
    }

    pub(super) fn part_with_former(&mut self, key: PeerKey, core: &Core, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&key) {
            if peer.session.as_v2().is_some() {
                let sentence = "This user was changed, or may not use the admin channel any more.";
                peer.queue(v2::goodbye(Status::Ok, Some(sentence), core.events.sequence()), now);
            }
            self.counters.count(Counter::AdminUserGone);
            log::info!("admin association closed: source={} because=\"its user was changed\"", peer.source);
            peer.life = Life::Parting;
        }
    }

    /// Closes in order. What the peer still sends is read and dropped: left unread it would make the kernel
    /// abort, and the last reply be lost.
    pub(super) fn close(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        match &peer.link {
            Link::Kernel(association) => {
                if association.shutdown() {
                    peer.life = Life::Closed(now + limits::CLOSING_LINGER);
                    self.enqueue(key);
                } else {
                    self.forget(key);
                }
            }
            Link::Udp(place, id) => {
                if let Some(carrier) = self.carriers.get_mut(*place) {
                    carrier.endpoint.resume(*id);
                    carrier.endpoint.close(*id, now);
                }
                self.forget(key);
            }
        }
    }

    /// Reads what comes after the close, until the end.
    pub(super) fn discard(&mut self, key: PeerKey) {
        let Some(Peer { link: Link::Kernel(association), .. }) = self.peers.get_mut(&key) else { return };
        for _ in 0..limits::HANDSHAKE_READS_PER_TURN {
            match association.receive(&mut self.buffer) {
                Received::Piece(_) | Received::Message(_) => {}
                Received::Nothing => return,
                Received::End => return self.forget(key),
            }
        }
        self.enqueue(key);
    }

    /// Gives turns to associations whose moment has come, and ends those whose time is up.
    pub(super) fn expire(&mut self, now: Instant) {
        let due = |peer: &Peer| peer.deadline().is_some_and(|at| now >= at);
        let due: Vec<_> = self.peers.iter().filter(|(_, peer)| due(peer)).map(|(key, _)| *key).collect();
        for key in due {
            let Some(peer) = self.peers.get(&key) else { continue };
            let stalled = peer.stalls_at().is_some_and(|at| now >= at);
            match peer.life {
                Life::Open | Life::Parting if stalled => {
                    self.counters.count(Counter::AdminStalled);
                    log::warn!("admin association aborted: source={} because=\"no progress\"", peer.source);
                    self.abort(key, now);
                }
                Life::Open | Life::Parting => self.enqueue(key),
                Life::Closed(_) => self.abort(key, now),
            }
        }
    }

    /// Ends an association at once.
    pub(super) fn abort(&mut self, key: PeerKey, now: Instant) {
        if let Some(peer) = self.forget_and_take(key) {
            match peer.link {
                Link::Kernel(association) => association.abort(),
                Link::Udp(place, id) => {
                    if let Some(carrier) = self.carriers.get_mut(place) {
                        carrier.endpoint.abort(id, now);
                    }
                }
            }
        }
    }

    pub(super) fn forget(&mut self, key: PeerKey) {
        drop(self.forget_and_take(key));
    }

    fn forget_and_take(&mut self, key: PeerKey) -> Option<Peer> {
        let peer = self.peers.remove(&key)?;
        if let Link::Udp(place, id) = peer.link {
            self.keys.remove(&(place, id));
        }
        Some(peer)
    }

    /// Says good-bye to every association, and closes it: the daemon ends.
    pub(in crate::admin) fn part_all(&mut self, core: &mut Core, now: Instant) {
        let keys: Vec<_> = self.peers.keys().copied().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            if peer.life != Life::Open {
                continue;
            }
            if peer.session.as_v2().is_some() {
                peer.queue(v2::goodbye(Status::ShuttingDown, None, core.events.sequence()), now);
            }
            peer.life = Life::Parting;
            self.flush(key, core, now);
        }
        self.carriers.iter_mut().for_each(Carrier::transmit);
    }

    /// Whether nobody is left, and nothing to be said to anybody.
    pub(in crate::admin) fn is_empty(&self) -> bool {
        self.peers.is_empty()
            && self.carriers.iter().all(|carrier| carrier.endpoint.associations_count() == 0)
    }

    /// Ends every association: the daemon ends.
    pub(in crate::admin) fn abort_all(&mut self, now: Instant) {
        let keys: Vec<_> = self.peers.keys().copied().collect();
        keys.into_iter().for_each(|key| self.abort(key, now));
        self.carriers.iter_mut().for_each(Carrier::transmit);
    }
}
