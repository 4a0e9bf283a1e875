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
use crate::metrics::Counter;

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
    let (place, gap, seen) = start(events, feed, from);
    Content::new(Follower { feed, place, seen, gap, taken, missed: None, interest, is_over: false })
}

/// The place where a follower begins, what it has to be told that it missed, and what it has seen.
fn start(events: &Events, feed: Feed, from: Option<u64>) -> (u64, Option<Gap>, u64) {
    let Some(from) = from else { return (events.end(feed), None, events.sequence()) };
    let (place, gone) = events.after(feed, from);
    let gap = gone.map(|last| Gap { events_count: 0, first: from.saturating_add(1), last });
    (place, gap, from)
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
    /// Of the feed, whether they were for it or not; to be counted.
    missed: Option<u64>,
    interest: F,
    is_over: bool,
}

impl<F: FnMut(&Past) -> Interest + Send> Source for Follower<F> {
    fn pull(&mut self, core: &mut Core, request: &Header, _now: Instant) -> Pull {
        let pull = self.pull_from(&core.events, request);
        if let Some(missed) = self.missed.take() {
            core.count(Counter::AdminEventsMissed, missed);
        }
        pull
    }
}

impl<F: FnMut(&Past) -> Interest> Follower<F> {
    fn pull_from(&mut self, events: &Events, request: &Header) -> Pull {
        if self.is_over {
            return Pull::Failed(Refusal::of(Status::Ok));
        }
        for _ in 0..ADMIN_EVENTS_PER_PULL {
            if let Some(gap) = self.gap.take() {
                let sequence = gap.last;
                return record(request, &Event::new(sequence, unix_ms(), Happening::Gap(gap)));
            }
            match events.at(self.feed, self.place) {
                Seen::Nothing => return Pull::Nothing,
                Seen::Gone { place, last } => {
                    let events_count = match self.taken {
                        Taken::All => place - self.place,
                        Taken::Some => 0,
                    };
                    self.missed = Some(place - self.place);
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
            core.count(Counter::AdminEventsMissed, self.missed);
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

#[cfg(test)]
mod tests {
    use pipo_protocol::v2::messages::{LogKind, LogLine};
    use pipo_protocol::v2::{Command, Message, Record, Text};

    use super::*;
    use crate::limits::ADMIN_EVENTS_MAX;

    fn line(number: usize) -> Happening {
        let line = Text::cut(&format!("line {number}"));
        Happening::Line(LogLine { kind: LogKind::Access, level: None, line })
    }

    fn follower(
        from: Option<u64>,
        events: &Events,
        interest: fn(&Past) -> Interest,
    ) -> Follower<fn(&Past) -> Interest> {
        let (place, gap, seen) = start(events, Feed::Lines, from);
        let taken = Taken::All;
        Follower { feed: Feed::Lines, place, seen, gap, taken, missed: None, interest, is_over: false }
    }

    /// What the next record says, and whether more is to come; `None`: nothing now.
    fn next(follower: &mut Follower<fn(&Past) -> Interest>, events: &Events) -> Option<Event> {
        let request = Header { channel: 3, ..Header::request(Command::LogFollow.code(), 7) };
        match follower.pull_from(events, &request) {
            Pull::Record(octets) => {
                let record = Record::decode(&octets).unwrap();
                let header = Header { kind: Kind::Event, last: false, ..request };
                assert_eq!(record.header, header);
                Some(Event::decode(record.body).unwrap())
            }
            Pull::Nothing | Pull::More => None,
            other @ (Pull::Last(_) | Pull::Failed(_)) => panic!("{other:?}"),
        }
    }

    fn publish(events: &mut Events, numbers: std::ops::Range<usize>) {
        for number in numbers {
            events.publish(Feed::Lines, line(number));
        }
    }

    #[test]
    fn events_are_delivered_from_a_number_or_from_now_on() {
        let mut events = Events::default();
        publish(&mut events, 0..5);
        let mut late = follower(None, &events, |_| Interest::Yes);
        let mut early = follower(Some(3), &events, |_| Interest::Yes);
        assert_eq!(next(&mut early, &events).map(|event| event.sequence), Some(4));
        assert_eq!(next(&mut early, &events).map(|event| event.sequence), Some(5));
        assert_eq!(next(&mut early, &events), None);
        assert_eq!(next(&mut late, &events), None);
        publish(&mut events, 5..6);
        for follower in [&mut early, &mut late] {
            let event = next(follower, &events).unwrap();
            assert_eq!((event.sequence, event.line), (6, line_of(5)));
        }
    }

    fn line_of(number: usize) -> Option<LogLine> {
        Event::new(0, 0, line(number)).line
    }

    #[test]
    fn who_falls_behind_is_told_how_many_were_missed_and_which() {
        let mut events = Events::default();
        let mut slow = follower(None, &events, |_| Interest::Yes);
        publish(&mut events, 0..2);
        assert_eq!(next(&mut slow, &events).map(|event| event.sequence), Some(1));
        publish(&mut events, 2..ADMIN_EVENTS_MAX + 10);
        let event = next(&mut slow, &events).unwrap();
        // 1 was delivered; 2 to 10 made room for the last ADMIN_EVENTS_MAX.
        assert_eq!(event.gap, Some(Gap { events_count: 9, first: 2, last: 10 }));
        assert_eq!(slow.missed.take(), Some(9));
        assert_eq!(next(&mut slow, &events).map(|event| event.sequence), Some(11));
    }

    #[test]
    fn a_number_whose_successors_are_gone_begins_with_a_gap() {
        let mut events = Events::default();
        publish(&mut events, 0..ADMIN_EVENTS_MAX + 10);
        let mut late = follower(Some(4), &events, |_| Interest::Yes);
        let gap = next(&mut late, &events).unwrap().gap.unwrap();
        assert_eq!(gap, Gap { events_count: 0, first: 5, last: 10 });
        assert_eq!(next(&mut late, &events).map(|event| event.sequence), Some(11));
        let mut just = follower(Some(10), &events, |_| Interest::Yes);
        assert_eq!(next(&mut just, &events).map(|event| event.sequence), Some(11));
    }

    #[test]
    fn what_does_not_interest_is_passed_over_and_the_last_one_ends_it() {
        let mut events = Events::default();
        let interest = |past: &Past| match past.sequence {
            3 => Interest::Yes,
            5 => Interest::Last,
            _ => Interest::No,
        };
        let mut picky = follower(None, &events, interest);
        publish(&mut events, 0..8);
        assert_eq!(next(&mut picky, &events).map(|event| event.sequence), Some(3));
        assert_eq!(next(&mut picky, &events).map(|event| event.sequence), Some(5));
        let request = Header { channel: 3, ..Header::request(Command::SessionTrace.code(), 7) };
        let end = picky.pull_from(&events, &request);
        assert!(matches!(&end, Pull::Failed(refusal) if refusal.status == Status::Ok), "{end:?}");
    }

    #[test]
    fn a_feed_is_bounded_in_bytes_too() {
        let mut events = Events::default();
        let long = Text::cut(&"x".repeat(3072));
        for _ in 0..ADMIN_EVENTS_MAX {
            let line = LogLine { kind: LogKind::Access, level: None, line: long.clone() };
            events.publish(Feed::Lines, Happening::Line(line));
        }
        assert!(events.end(Feed::Lines) == ADMIN_EVENTS_MAX as u64);
        assert!(matches!(events.at(Feed::Lines, 0), Seen::Gone { .. }));
        let (place, gone) = events.after(Feed::Lines, 0);
        let kept = ADMIN_EVENTS_MAX as u64 - place;
        assert!(kept * 3072 <= crate::limits::ADMIN_EVENTS_BYTES_MAX as u64 && kept > 1000, "{kept}");
        assert_eq!(gone, Some(place));
    }
}
