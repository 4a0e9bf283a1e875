//! One association as the shell sees it: what carries it, its session, and what waits to be sent.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use pipo_encap::AssociationId;
use pipo_protocol::limits::{CHANNEL_BYTES_IN_FLIGHT_MAX, RECORD_BYTES_MAX};

use super::channels::{Offer, Outgoing};
use super::core::Core;
use super::kernel;
use super::session::Session;
use super::udp::Carrier;
use crate::limits;

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// This many bytes of a message that goes on.
    Piece(usize),
    /// This many bytes, which end a message.
    Message(usize),
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

/// How far sending has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Nothing is left.
    All,
    /// The rest waits for room.
    Blocked,
    /// There is more, and it had its share of this turn.
    More,
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
    /// Streams that may be sent on.
    streams: u16,
    /// Replies and notices: channel 0.
    outgoing: VecDeque<Vec<u8>>,
    outgoing_bytes: usize,
    /// A record of another channel that there was no room for.
    held: Option<Outgoing>,
    /// Channels have to wait for room.
    is_crowded: bool,
    /// When to look whether there is room: the kernel tells of room for one message, not for ours.
    retry_at: Option<Instant>,
    /// When something last went out, or began to wait.
    progress_at: Instant,
}

impl Peer {
    pub(super) fn new(source: SocketAddr, link: Link, streams: u16, session: Session, now: Instant) -> Self {
        Self {
            source,
            link,
            session,
            life: Life::Open,
            queued: false,
            full: false,
            paused: false,
            streams,
            held: None,
            is_crowded: false,
            retry_at: None,
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            progress_at: now,
        }
    }

    /// Queues a message on channel 0.
    pub(super) fn queue(&mut self, message: Vec<u8>, now: Instant) {
        if !self.waits() {
            self.progress_at = now;
        }
        self.outgoing_bytes += message.len();
        self.outgoing.push_back(message);
    }

    /// Sends replies and notices: channel 0. `Err`: they are not all sent.
    pub(super) fn flush_replies(&mut self, carriers: &mut [Carrier], now: Instant) -> Result<(), Flushed> {
        while let Some(message) = self.outgoing.front() {
            match send(&mut self.link, carriers, 0, message, now) {
                Sent::Done => {}
                Sent::Blocked => return Err(Flushed::Blocked),
                Sent::Gone => return Err(Flushed::Gone),
            }
            self.outgoing_bytes -= message.len();
            self.outgoing.pop_front();
            self.progress_at = now;
        }
        Ok(())
    }

    /// Sends what waits, as far as it goes: channel 0 first, then the others while SCTP has little of them.
    pub(super) fn flush(&mut self, carriers: &mut [Carrier], core: &mut Core, now: Instant) -> Flushed {
        if let Err(flushed) = self.flush_replies(carriers, now) {
            return flushed;
        }
        match self.life {
            Life::Open => self.flush_channels(carriers, core, now),
            Life::Parting | Life::Closed(_) => Flushed::All,
        }
    }

    fn flush_channels(&mut self, carriers: &mut [Carrier], core: &mut Core, now: Instant) -> Flushed {
        let Some(dialogue) = self.session.v2() else { return Flushed::All };
        if dialogue.channels.count() == 0 && self.held.is_none() {
            return Flushed::All;
        }
        let mut bytes_left = limits::ADMIN_CHANNEL_BYTES_PER_TURN;
        while bytes_left > 0 {
            let queued = queued_bytes(&self.link, carriers);
            if queued + RECORD_BYTES_MAX > CHANNEL_BYTES_IN_FLIGHT_MAX {
                if !self.is_crowded {
                    (self.is_crowded, self.progress_at) = (true, now);
                }
                self.retry_at = matches!(self.link, Link::Kernel(_)).then(|| now + limits::ADMIN_ROOM_RETRY);
                return Flushed::Blocked;
            }
            (self.is_crowded, self.retry_at) = (false, None);
            if self.held.is_none() {
                match dialogue.channels.offer(core, now) {
                    Offer::Record(record) => self.held = Some(record),
                    Offer::More => return Flushed::More,
                    Offer::Nothing => return Flushed::All,
                }
            }
            let Some(Outgoing { channel, record }) = &self.held else { return Flushed::All };
            match send(&mut self.link, carriers, stream_of(*channel, self.streams), record, now) {
                Sent::Done => {}
                Sent::Blocked => return Flushed::Blocked,
                Sent::Gone => return Flushed::Gone,
            }
            bytes_left = bytes_left.saturating_sub(record.len());
            self.held = None;
            self.progress_at = now;
        }
        Flushed::More
    }

    /// Something is to be sent, and waits for room.
    fn waits(&self) -> bool {
        !self.outgoing.is_empty() || self.held.is_some() || self.is_crowded
    }

    /// Too many replies wait for this association to be read.
    pub(super) fn is_full(&self) -> bool {
        self.outgoing.len() + self.session.waiting_count() >= limits::ADMIN_REPLIES_WAITING_MAX
            || self.outgoing_bytes >= limits::ADMIN_REPLY_BYTES_WAITING_MAX
    }

    /// Reading may go on as far as bytes that wait are concerned.
    pub(super) fn has_room(&self) -> bool {
        self.session.backlog_bytes() < limits::ADMIN_BACKLOG_BYTES
    }

    /// When it has taken no reply for too long.
    pub(super) fn stalls_at(&self) -> Option<Instant> {
        self.waits().then(|| self.progress_at + limits::ADMIN_STALL_MAX)
    }

    /// When something is to be done for it although nothing came in.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let own = match self.life {
            Life::Open => self.session.deadline(),
            Life::Parting => None,
            Life::Closed(until) => Some(until),
        };
        let channels = match self.life {
            // Room, once there is some, brings the channels back.
            Life::Open if !self.waits() => self.session.as_v2().and_then(|v2| v2.channels.deadline()),
            Life::Open | Life::Parting | Life::Closed(_) => None,
        };
        [own, channels, self.retry_at, self.stalls_at()].into_iter().flatten().min()
    }
}

fn send(link: &mut Link, carriers: &mut [Carrier], stream: u16, message: &[u8], now: Instant) -> Sent {
    match link {
        Link::Kernel(association) => association.send(stream, message),
        Link::Udp(place, id) => {
            carriers.get_mut(*place).map_or(Sent::Gone, |carrier| carrier.send(*id, stream, message, now))
        }
    }
}

/// Bytes that SCTP has and the peer has not acknowledged.
fn queued_bytes(link: &Link, carriers: &[Carrier]) -> usize {
    match link {
        Link::Kernel(association) => association.queued_bytes(),
        Link::Udp(place, id) => {
            carriers.get(*place).and_then(|carrier| carrier.endpoint.queued_bytes(*id)).unwrap_or(0)
        }
    }
}

/// The stream of a channel: its own as far as streams were granted, so that a lost packet delays one channel.
/// Channel 0 has stream 0 to itself unless there is no other.
fn stream_of(channel: u32, streams: u16) -> u16 {
    let others = u32::from(streams.saturating_sub(1));
    match channel.checked_sub(1).and_then(|place| place.checked_rem(others)) {
        Some(place) => u16::try_from(place + 1).unwrap_or(0),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_have_streams_of_their_own_as_far_as_they_were_granted() {
        let table = [
            (0, 64, 0),
            (1, 64, 1),
            (63, 64, 63),
            (64, 64, 1),
            (u32::MAX, 64, 3),
            (1, 2, 1),
            (7, 2, 1),
            (5, 1, 0),
            (5, 0, 0),
        ];
        for (channel, streams, expected) in table {
            assert_eq!(stream_of(channel, streams), expected, "channel {channel} of {streams}");
        }
    }
}
