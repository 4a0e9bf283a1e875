//! One association as the shell sees it: what carries it, its session, and what waits to be sent.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use pipo_encap::AssociationId;

use super::kernel;
use super::session::Session;
use super::udp::Carrier;
use crate::limits;

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// This many bytes.
    Bytes(usize),
    /// Nothing is there.
    Nothing,
    /// The association has ended.
    End,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way.
    Done,
    /// There is no room now.
    Blocked,
    /// The association has ended.
    Gone,
}

/// What carries an association.
#[derive(Debug)]
pub(super) enum Link {
    /// The kernel.
    Kernel(kernel::Association),
    /// A UDP socket, by its place, and the association's name there.
    Udp(usize, AssociationId),
}

/// Where in its life an association is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Requests are read.
    Open,
    /// What waits is sent, then it is closed.
    Parting,
    /// Closed from our side; given up at that moment.
    Closed(Instant),
}

/// One association.
#[derive(Debug)]
pub(super) struct Peer {
    /// Where the peer is.
    pub(super) source: SocketAddr,
    pub(super) link: Link,
    pub(super) session: Session,
    pub(super) life: Life,
    /// It waits for its turn.
    pub(super) queued: bool,
    /// Its turn ended for want of room for replies.
    pub(super) full: bool,
    /// Its endpoint gives out no messages, for want of room for bytes.
    pub(super) paused: bool,
    outgoing: VecDeque<Vec<u8>>,
    outgoing_bytes: usize,
    /// When a reply last went out, or the first of those that wait came.
    progress_at: Instant,
}

impl Peer {
    pub(super) fn new(source: SocketAddr, link: Link, session: Session, now: Instant) -> Self {
        Self {
            source,
            link,
            session,
            life: Life::Open,
            queued: false,
            full: false,
            paused: false,
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            progress_at: now,
        }
    }

    /// Queues a message.
    pub(super) fn queue(&mut self, message: Vec<u8>, now: Instant) {
        if self.outgoing.is_empty() {
            self.progress_at = now;
        }
        self.outgoing_bytes += message.len();
        self.outgoing.push_back(message);
    }

    /// Sends what waits, as far as it goes. `Gone`: the association has ended.
    pub(super) fn flush(&mut self, carriers: &mut [Carrier], now: Instant) -> Sent {
        while let Some(message) = self.outgoing.front() {
            let sent = match &mut self.link {
                Link::Kernel(association) => association.send(message),
                Link::Udp(place, id) => {
                    carriers.get_mut(*place).map_or(Sent::Gone, |carrier| carrier.send(*id, message, now))
                }
            };
            if sent != Sent::Done {
                return sent;
            }
            self.outgoing_bytes -= message.len();
            self.outgoing.pop_front();
            self.progress_at = now;
        }
        Sent::Done
    }

    /// Too many replies wait for this association to be read.
    pub(super) fn is_full(&self) -> bool {
        self.outgoing.len() >= limits::ADMIN_REPLIES_WAITING_MAX
            || self.outgoing_bytes >= limits::ADMIN_REPLY_BYTES_WAITING_MAX
    }

    /// Reading may go on as far as bytes that wait are concerned.
    pub(super) fn has_room(&self) -> bool {
        self.session.backlog_bytes() < limits::ADMIN_BACKLOG_BYTES
    }

    /// When it has taken no reply for too long.
    pub(super) fn stalls_at(&self) -> Option<Instant> {
        (!self.outgoing.is_empty()).then(|| self.progress_at + limits::ADMIN_STALL_MAX)
    }

    /// When something is to be done for it although nothing came in.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let own = match self.life {
            Life::Open => self.session.deadline(),
            Life::Parting => None,
            Life::Closed(until) => Some(until),
        };
        [own, self.stalls_at()].into_iter().flatten().min()
    }
}
