//! Datagrams waiting to be sent, and what every step of the crate works with.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use crate::counters::Counters;
use crate::limits::Limits;

/// Datagrams in the order they were made. Bounded: past it they are lost, as on any network.
#[derive(Debug, Default)]
pub(crate) struct Outbox(VecDeque<(SocketAddr, Vec<u8>)>);

impl Outbox {
    pub(crate) fn pop(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.0.pop_front()
    }
}

/// What a step may read and write beside its own state.
pub(crate) struct Context<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) counters: &'a mut Counters,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) now: Instant,
}

impl Context<'_> {
    /// Queues a datagram, or counts it as lost.
    pub(crate) fn put(&mut self, remote: SocketAddr, datagram: Vec<u8>) {
        if self.outbox.0.len() >= self.limits.datagrams_queued_max {
            self.counters.dropped_outgoing += 1;
            return;
        }
        self.counters.datagrams_sent += 1;
        self.counters.bytes_sent += datagram.len() as u64;
        self.outbox.0.push_back((remote, datagram));
    }
}
