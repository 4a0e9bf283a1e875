//! Subscriptions: what follows a feed of events from some place on, and what follows metrics by samples.
//!
//! A follower owns nothing but its place in the feed. Without credit or room it falls behind; when the feed has
//! moved on past its place it is told how many events it missed.

use std::time::{Duration, Instant};

use pipo_protocol::limits::{SAMPLE_INTERVAL_MS_MAX, SAMPLE_INTERVAL_MS_MIN};
use pipo_protocol::v2::events::{Event, Gap, Happening};
use pipo_protocol::v2::{Header, Kind, Status, encode_record};

use super::answer::Refusal;
use super::channels::{Content, Pull, Source};
use super::core::Core;
use super::events::{Events, Feed, Past, Seen, unix_ms};
use crate::limits::ADMIN_EVENTS_PER_PULL;

/// Whether an event is for this follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// It is not.
    No,
    /// It is.
    Yes,
    /// It is, and it is the last one.
    Last,
}

/// Which of a feed's events are lost to a follower that falls behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Every event of the feed is for it, so that it can be told how many it has lost.
    All,
    /// Some are: how many it has lost nobody knows.
    Some,
}

/// Follows `feed`: with `from`, the events after that number which are still there; else those from now on.
pub(super) fn follow(
    events: &Events,
    feed: Feed,
    from: Option<u64>,
    taken: Taken,
    interest: impl FnMut(&Past) -> Interest + Send + 'static,
) -> Content {
    let (place, gap) = match from {
        None => (events.end(feed), None),
        Some(from) => {
            let (place, gone) = events.after(feed, from);
            let gap = gone.map(|last| Gap { events_count: 0, first: from.saturating_add(1), last });
            (place, gap)
        }
    };
    let seen = from.unwrap_or_else(|| events.sequence());
    Content::new(Follower { feed, place, seen, gap, taken, interest, is_over: false })
}

struct Follower<F> {
    feed: Feed,
    /// Of the next event to be looked at.
    place: u64,
    /// Sequence of the last one that was looked at.
    seen: u64,
    /// To be told before anything else.
    gap: Option<Gap>,
    taken: Taken,
    interest: F,
    is_over: bool,
}

impl<F: FnMut(&Past) -> Interest + Send> Source for Follower<F> {
    fn pull(&mut self, core: &mut Core, request: &Header, _now: Instant) -> Pull {
        if self.is_over {
            return Pull::Failed(Refusal::of(Status::Ok));
        }
        for _ in 0..ADMIN_EVENTS_PER_PULL {
            if let Some(gap) = self.gap.take() {
                let sequence = gap.last;
                return record(request, &Event::new(sequence, unix_ms(), Happening::Gap(gap)));
            }
            match core.events.at(self.feed, self.place) {
                Seen::Nothing => return Pull::Nothing,
                Seen::Gone { place, last } => {
                    let events_count = match self.taken {
                        Taken::All => place - self.place,
                        Taken::Some => 0,
                    };
                    self.gap = Some(Gap { events_count, first: self.seen.saturating_add(1), last });
                    (self.place, self.seen) = (place, last);
                }
                Seen::Event(past) => {
                    self.place += 1;
                    self.seen = past.sequence;
                    match (self.interest)(&past) {
                        Interest::No => {}
                        Interest::Yes => return record(request, &past.event()),
                        Interest::Last => {
                            self.is_over = true;
                            return record(request, &past.event());
                        }
                    }
                }
            }
        }
        Pull::More
    }
}

/// An event of a channel, as it travels.
fn record(request: &Header, event: &Event) -> Pull {
    let header = Header { kind: Kind::Event, status: Status::Ok, last: false, ..*request };
    encode_record(&header, event).map_or_else(|_| Pull::Failed(Refusal::of(Status::TooLong)), Pull::Record)
}

/// Samples of something, one each interval.
pub(super) struct Samples<F> {
    interval: Duration,
    /// Not before the first.
    next_at: Option<Instant>,
    /// Samples that nobody could take, and when the first of them was due.
    missed: u64,
    /// Of the last sample.
    sequence: u64,
    take: F,
    /// What is left of a sample that needs several records.
    rest: Vec<Happening>,
    taken_unix_ms: u64,
}

/// Samples that `take` makes, the first at once; one that is too long for an event comes in several.
pub(super) fn samples(
    interval_ms: u32,
    take: impl FnMut(&Core) -> Vec<Happening> + Send + 'static,
) -> Result<Content, Refusal> {
    if !(SAMPLE_INTERVAL_MS_MIN..=SAMPLE_INTERVAL_MS_MAX).contains(&interval_ms) {
        let sentence = "Allowed are 100 to 3600000 ms.";
        return Err(Refusal::field(Status::Invalid, 2, sentence));
    }
    let interval = Duration::from_millis(u64::from(interval_ms));
    Ok(Content::new(Samples {
        interval,
        next_at: None,
        missed: 0,
        sequence: 0,
        take,
        rest: Vec::new(),
        taken_unix_ms: 0,
    }))
}

impl<F: FnMut(&Core) -> Vec<Happening> + Send> Samples<F> {
    /// Takes a sample; its parts are sent one after the other.
    fn begin(&mut self, core: &mut Core) {
        self.sequence = core.events.next_sequence();
        self.taken_unix_ms = unix_ms();
        self.rest = (self.take)(core);
        self.rest.reverse();
    }

    /// Lets the samples that were due go by.
    fn catch_up(&mut self, now: Instant) -> u64 {
        let Some(due) = self.next_at else { return 0 };
        let late = now.saturating_duration_since(due);
        if now < due {
            return 0;
        }
        let periods = u64::try_from(late.as_millis() / self.interval.as_millis().max(1)).unwrap_or(0) + 1;
        let step = self.interval.saturating_mul(u32::try_from(periods).unwrap_or(u32::MAX));
        self.next_at = Some(due + step);
        periods
    }
}

impl<F: FnMut(&Core) -> Vec<Happening> + Send> Source for Samples<F> {
    fn pull(&mut self, core: &mut Core, request: &Header, now: Instant) -> Pull {
        if let Some(next) = self.rest.pop() {
            return record(request, &Event::new(self.sequence, self.taken_unix_ms, next));
        }
        if self.next_at.is_some_and(|at| now < at) {
            return Pull::Nothing;
        }
        // Of those that are due only one is taken, and the others are told as missed.
        let due = match self.next_at {
            None => {
                self.next_at = Some(now + self.interval);
                1
            }
            Some(_) => self.catch_up(now),
        };
        self.missed += due.saturating_sub(1);
        if self.missed > 0 {
            let (first, last) = (self.sequence + 1, core.events.next_sequence());
            let gap = Gap { events_count: std::mem::take(&mut self.missed), first, last };
            self.begin(core);
            return record(request, &Event::new(last, self.taken_unix_ms, Happening::Gap(gap)));
        }
        self.begin(core);
        match self.rest.pop() {
            Some(first) => record(request, &Event::new(self.sequence, self.taken_unix_ms, first)),
            None => Pull::Nothing,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.next_at
    }

    fn skip(&mut self, now: Instant) {
        self.missed += self.catch_up(now);
    }
}
