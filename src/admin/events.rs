//! What happened: one global sequence, and the last events of each feed, kept so that whoever follows later or
//! slowly still gets them. Nothing here knows followers; each keeps its own place ([`super::follow`]).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pipo_protocol::v2::events::{Event, Gap, Happening};

use crate::limits::{ADMIN_EVENTS_BYTES_MAX, ADMIN_EVENTS_MAX};

/// Events that are kept together: one feed cannot push the events of another out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feed {
    /// Sessions and changes.
    Events,
    /// Log lines.
    Lines,
    /// Steps of traced sessions.
    Steps,
}

impl Feed {
    const COUNT: usize = 3;
}

/// An event that happened.
#[derive(Debug)]
pub(super) struct Past {
    /// Its number in the global sequence.
    pub(super) sequence: u64,
    /// When.
    pub(super) time_unix_ms: u64,
    /// What.
    pub(super) happening: Happening,
    /// The user whom an access line is about: the line itself need not say it in clear.
    pub(super) user: Option<Box<[u8]>>,
}

impl Past {
    /// As it travels.
    pub(super) fn event(&self) -> Event {
        Event::new(self.sequence, self.time_unix_ms, self.happening.clone())
    }
}

/// The sequence and the feeds.
#[derive(Debug, Default)]
pub(super) struct Events {
    sequence: u64,
    rings: [Ring; Feed::COUNT],
}

/// The last events of a feed.
#[derive(Debug, Default)]
struct Ring {
    kept: VecDeque<Arc<Past>>,
    bytes: usize,
    /// Events that made room: the place of the oldest one kept.
    gone: u64,
    /// Sequence of the last event that made room.
    gone_sequence: u64,
}

/// What stands at a place of a feed.
#[derive(Debug)]
pub(super) enum Seen {
    /// This event.
    Event(Arc<Past>),
    /// It made room. The feed begins here now.
    Gone {
        /// Place of the oldest event that is kept.
        place: u64,
        /// Sequence of the last one that is not.
        last: u64,
    },
    /// It has not happened yet.
    Nothing,
}

impl Events {
    /// Number of the last event.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// A number for an event that is not kept.
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Passes over the numbers of events that were lost before they came here. Gives the last of them.
    pub(super) fn skip(&mut self, events_count: u64) -> u64 {
        self.sequence += events_count;
        self.sequence
    }

    /// Makes something known to all who follow the feed, and gives its number.
    pub(super) fn publish(&mut self, feed: Feed, happening: Happening) -> u64 {
        self.publish_about(feed, happening, None)
    }

    /// The same of something that concerns a user.
    pub(super) fn publish_about(&mut self, feed: Feed, happening: Happening, user: Option<Box<[u8]>>) -> u64 {
        let sequence = self.next_sequence();
        let past = Past { sequence, time_unix_ms: unix_ms(), happening, user };
        self.ring_mut(feed).push(past);
        sequence
    }

    /// So many events of a feed were lost before they had a number: tells all who follow it.
    pub(super) fn lost(&mut self, feed: Feed, events_count: u64) {
        let first = self.sequence + 1;
        self.sequence += events_count.max(1);
        let last = self.sequence;
        self.publish(feed, Happening::Gap(Gap { events_count, first, last }));
    }

    /// Nobody has taken the events of a feed for a while: who asks for those of before is told that some are gone.
    pub(super) fn forget(&mut self, feed: Feed) {
        let sequence = self.next_sequence();
        let ring = self.ring_mut(feed);
        ring.gone += ring.kept.len() as u64;
        ring.kept.clear();
        ring.bytes = 0;
        ring.gone_sequence = sequence;
    }

    /// The place after the last event of a feed.
    pub(super) fn end(&self, feed: Feed) -> u64 {
        let ring = self.ring(feed);
        ring.gone + ring.kept.len() as u64
    }

    /// The place of the first event of a feed after that number, and whether others after it are gone: then the
    /// number of the last of them.
    pub(super) fn after(&self, feed: Feed, sequence: u64) -> (u64, Option<u64>) {
        let ring = self.ring(feed);
        let skipped = ring.kept.partition_point(|past| past.sequence <= sequence);
        let gone = (ring.gone_sequence > sequence).then_some(ring.gone_sequence);
        (ring.gone + skipped as u64, gone)
    }

    /// What stands at a place.
    pub(super) fn at(&self, feed: Feed, place: u64) -> Seen {
        let ring = self.ring(feed);
        let Some(offset) = place.checked_sub(ring.gone) else {
            return Seen::Gone { place: ring.gone, last: ring.gone_sequence };
        };
        let past = usize::try_from(offset).ok().and_then(|offset| ring.kept.get(offset));
        past.map_or(Seen::Nothing, |past| Seen::Event(Arc::clone(past)))
    }

    fn ring(&self, feed: Feed) -> &Ring {
        let [events, lines, steps] = &self.rings;
        match feed {
            Feed::Events => events,
            Feed::Lines => lines,
            Feed::Steps => steps,
        }
    }

    fn ring_mut(&mut self, feed: Feed) -> &mut Ring {
        let [events, lines, steps] = &mut self.rings;
        match feed {
            Feed::Events => events,
            Feed::Lines => lines,
            Feed::Steps => steps,
        }
    }
}

impl Ring {
    fn push(&mut self, past: Past) {
        self.bytes += weight(&past);
        self.kept.push_back(Arc::new(past));
        while self.kept.len() > ADMIN_EVENTS_MAX || self.bytes > ADMIN_EVENTS_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= weight(&oldest);
            self.gone += 1;
            self.gone_sequence = oldest.sequence;
        }
    }
}

/// Roughly what an event takes in memory: itself and its texts.
fn weight(past: &Past) -> usize {
    let texts = match &past.happening {
        Happening::Session(session) => {
            let row = &session.session;
            row.user.as_bytes().len() + row.destination.as_ref().map_or(0, |name| name.as_str().len())
        }
        Happening::Line(line) => line.line.as_str().len(),
        Happening::Step(step) => {
            step.detail.as_ref().map_or(0, |detail| detail.as_str().len())
                + step.addresses.len() * size_of::<IpAddr>()
        }
        Happening::Change(change) => {
            change.user.as_bytes().len() + change.subject.as_ref().map_or(0, |text| text.as_str().len())
        }
        Happening::Credential(found) => {
            found.user.as_bytes().len()
                + found.destination.as_str().len()
                + found.user_found.as_str().len()
                + found.password_found.as_str().len()
        }
        Happening::Gap(_) | Happening::Notice(_) | Happening::Sample(_) | Happening::End(_) => 0,
    };
    size_of::<Past>() + texts + past.user.as_ref().map_or(0, |user| user.len())
}

/// The time of day.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
