//! The channels of one association: what is open, how much credit each has, and whose record is next.
//!
//! Nothing is built before it can be sent: a channel holds one record at most, and what comes after it waits
//! where it is (users in the directory, events in their ring). So a peer that does not read costs one record for
//! each of its channels, and a list of any length is made as fast as its reader takes it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use pipo_protocol::limits::CHANNELS_COUNT_MAX;
use pipo_protocol::v2::credit::SendCredit;
use pipo_protocol::v2::events::{End, Event, Happening};
use pipo_protocol::v2::{Answer, Command, Header, Kind, Sentence, Status, encode_record};

use super::answer::Refusal;
use super::core::Core;

/// What a channel delivers, made record by record as it can be sent.
pub(super) struct Content(Box<dyn Source>);

impl Content {
    /// What `source` delivers.
    pub(super) fn new(source: impl Source + 'static) -> Self {
        Self(Box::new(source))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content")
    }
}

/// Makes the records of a channel.
pub(super) trait Source: Send {
    /// The next record, to the request of this header. Does a bounded amount of work.
    fn pull(&mut self, core: &mut Core, request: &Header, now: Instant) -> Pull;

    /// When [`Source::pull`] has something although nothing happens.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The channel could not take what was due: it is dropped, and told as a gap.
    fn skip(&mut self, _now: Instant) {}
}

/// What a pull came to.
#[derive(Debug)]
pub(super) enum Pull {
    /// A record; more follow.
    Record(Vec<u8>),
    /// The last record, flagged as such.
    Last(Vec<u8>),
    /// It ends with this status: ok where what a subscription followed is over.
    Failed(Refusal),
    /// Nothing now; there is more without anything happening.
    More,
    /// Nothing until something happens.
    Nothing,
}

/// One channel.
#[derive(Debug)]
struct Channel {
    request: Header,
    credit: SendCredit,
    content: Content,
    /// Made, and waiting for credit or for its turn.
    next: Option<Made>,
}

/// A record that was made.
#[derive(Debug)]
struct Made {
    record: Vec<u8>,
    is_last: bool,
}

/// A record to be sent now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) channel: u32,
    pub(super) record: Vec<u8>,
}

/// What the channels have to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// This.
    Record(Outgoing),
    /// Nothing yet; asking again will bring more.
    More,
    /// Nothing until something happens.
    Nothing,
}

/// Those of one association.
#[derive(Debug, Default)]
pub(super) struct Channels {
    open: BTreeMap<u32, Channel>,
    /// The one whose turn was last.
    turn: u32,
}

impl Channels {
    /// Opens one; the number was checked when the request came.
    pub(super) fn open(&mut self, request: Header, credit: SendCredit, content: Content) {
        debug_assert!(request.channel != 0 && !self.open.contains_key(&request.channel));
        debug_assert!(self.open.len() < CHANNELS_COUNT_MAX);
        self.open.insert(request.channel, Channel { request, credit, content, next: None });
    }

    /// Whether that one is open.
    pub(super) fn is_open(&self, channel: u32) -> bool {
        self.open.contains_key(&channel)
    }

    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether a request has a channel that is open.
    pub(super) fn has_request(&self, request: u32) -> bool {
        self.open.values().any(|channel| channel.request.request == request)
    }

    /// Returned credit. A channel that is not open is none of the client's mistakes: its last record crossed.
    pub(super) fn grant(&mut self, channel: u32, bytes: u32) {
        if let Some(channel) = self.open.get_mut(&channel) {
            channel.credit.grant(bytes);
        }
    }

    /// Ends a subscription. `false`: there is none of that number.
    pub(super) fn unsubscribe(&mut self, channel: u32, core_sequence: u64) -> bool {
        let is_subscription = self
            .open
            .get(&channel)
            .is_some_and(|channel| answer_of(&channel.request) == Answer::Subscription);
        if is_subscription {
            self.end(channel, &Refusal::of(Status::Cancelled), core_sequence);
        }
        is_subscription
    }

    /// Ends the channel of a request. `false`: it has none.
    pub(super) fn cancel(&mut self, request: u32, core_sequence: u64) -> bool {
        let found = self.open.iter().find(|(_, channel)| channel.request.request == request);
        let Some(number) = found.map(|(number, _)| *number) else { return false };
        self.end(number, &Refusal::of(Status::Cancelled), core_sequence);
        true
    }

    /// Ends every channel for which `is_over`.
    pub(super) fn end_where(&mut self, refusal: &Refusal, sequence: u64, is_over: impl Fn(Command) -> bool) {
        let over = self.open.iter().filter(|(_, channel)| is_over(channel.request.command.into()));
        let over: Vec<_> = over.map(|(number, _)| *number).collect();
        over.into_iter().for_each(|number| self.end(number, refusal, sequence));
    }

    /// What was not sent is dropped; the last record says why.
    fn end(&mut self, number: u32, refusal: &Refusal, sequence: u64) {
        if let Some(channel) = self.open.get_mut(&number) {
            let already = channel.next.as_ref().is_some_and(|made| made.is_last);
            if !already {
                channel.next = Some(last_record(&channel.request, refusal, sequence));
            }
        }
    }

    /// The next record that may be sent, each channel in its turn.
    pub(super) fn offer(&mut self, core: &mut Core, now: Instant) -> Offer {
        let after = self.open.range(self.turn.saturating_add(1)..).map(|(number, _)| *number);
        let before = self.open.range(..=self.turn).map(|(number, _)| *number);
        let order: Vec<u32> = after.chain(before).collect();
        let mut there_is_more = false;
        for number in order {
            let Some(channel) = self.open.get_mut(&number) else { continue };
            match channel.offer(core, now) {
                ChannelOffer::Record(made) => {
                    self.turn = number;
                    if made.is_last {
                        self.open.remove(&number);
                    }
                    return Offer::Record(Outgoing { channel: number, record: made.record });
                }
                ChannelOffer::More => there_is_more = true,
                ChannelOffer::Nothing => {}
            }
        }
        if there_is_more { Offer::More } else { Offer::Nothing }
    }

    /// When [`Channels::offer`] has something although nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.values().filter_map(|channel| channel.content.0.deadline()).min()
    }
}

enum ChannelOffer {
    Record(Made),
    More,
    Nothing,
}

impl Channel {
    fn offer(&mut self, core: &mut Core, now: Instant) -> ChannelOffer {
        if self.next.is_none() {
            self.next = match self.content.0.pull(core, &self.request, now) {
                Pull::Record(record) => Some(Made { record, is_last: false }),
                Pull::Last(record) => Some(Made { record, is_last: true }),
                Pull::Failed(refusal) => Some(last_record(&self.request, &refusal, core.events.sequence())),
                Pull::More => return ChannelOffer::More,
                Pull::Nothing => return ChannelOffer::Nothing,
            };
        }
        let Some(made) = self.next.take() else { return ChannelOffer::Nothing };
        if made.is_last || self.credit.take(made.record.len()) {
            return ChannelOffer::Record(made);
        }
        self.next = Some(made);
        self.content.0.skip(now);
        ChannelOffer::Nothing
    }
}

fn answer_of(request: &Header) -> Answer {
    Command::from(request.command).row().map_or(Answer::One, |row| row.answer)
}

/// The record that ends a channel before its time: an error of a list, the end of a subscription.
fn last_record(request: &Header, refusal: &Refusal, sequence: u64) -> Made {
    let header = Header { channel: request.channel, ..request.reply(refusal.status) };
    let record = match answer_of(request) {
        Answer::Subscription => {
            let sentence = Some(Sentence::cut(refusal.body.sentence.as_str()));
            let event = Event::new(sequence, super::events::unix_ms(), Happening::End(End { sentence }));
            encode_record(&Header { kind: Kind::Event, ..header }, &event)
        }
        Answer::One | Answer::Parts | Answer::Never => encode_record(&header, &*refusal.body),
    };
    let record = record.unwrap_or_else(|_| unreachable!("a sentence of 1024 octets fits a record"));
    Made { record, is_last: true }
}
