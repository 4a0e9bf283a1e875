//! A thin epoll: registration by number, events copied out. No callbacks, no timers, no ownership of sockets.

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

pub(crate) use rustix::event::epoll::EventFlags;

/// Reading, writing and the peer's end, reported once per change: what relays and loads register.
pub(crate) const EDGE: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// Set by the kernel when the peer sent FIN or reset: the last bytes may stand before it.
pub(crate) const CLOSED: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

/// Something happened to the descriptor registered under `token`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    pub(crate) flags: EventFlags,
}

impl Ready {
    /// Bytes, an end or an error can be read.
    pub(crate) fn is_readable(self) -> bool {
        self.flags.intersects(EventFlags::IN.union(CLOSED))
    }

    /// Bytes can be written, or writing would say why not.
    pub(crate) fn is_writable(self) -> bool {
        self.flags.intersects(EventFlags::OUT.union(EventFlags::HUP).union(EventFlags::ERR))
    }

    /// The peer sent its end, or the connection broke.
    pub(crate) fn is_closed(self) -> bool {
        self.flags.intersects(CLOSED)
    }
}

/// One epoll instance and the room for one turn's events.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    /// At most `events_count` events come out of one wait.
    pub(crate) fn new(events_count: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(events_count) })
    }

    pub(crate) fn add(&self, source: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, epoll::EventData::new_u64(token), flags)?)
    }

    pub(crate) fn modify(&self, source: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, source, epoll::EventData::new_u64(token), flags)?)
    }

    /// Waits until something is ready or `timeout` is over (`None`: no end) and replaces `ready`.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let timeout =
            timeout.map(|wait| Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 }));
        self.events.clear();
        ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        ready.extend(self.events.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Ready { token: data.u64(), flags }
        }));
        Ok(())
    }
}
