//! What the users of a link wait for, over all associations that the link has in its life.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use pipo_protocol::v1;
use pipo_protocol::v2::events::{Event, Gap, Happening};
use pipo_protocol::v2::{Answer, Effect, ErrorBody, Reply, Request, Status};
use tokio::sync::{mpsc, oneshot};

use super::association::{AskId, Said};
use super::{CREDIT_BYTES, RequestError, limits};

/// What is asked.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// In version 1.
    V1(v1::Request),
    /// In version 2.
    V2(Box<Request>),
}

/// Where the answer goes. Whoever waited may have gone; then nobody is told.
#[derive(Debug)]
pub(super) enum Sink {
    /// One reply of version 1.
    V1(oneshot::Sender<Result<v1::Reply, RequestError>>),
    /// One reply of version 2.
    One(oneshot::Sender<Result<Reply, RequestError>>),
    /// Parts or events. The queue is bounded by the credit of the channel.
    Many(mpsc::UnboundedSender<Item>),
}

/// What comes on a channel.
#[derive(Debug)]
pub(super) enum Item {
    /// A subscription is open.
    Opened,
    /// A part of a list; whether it is the last.
    Part(Weight, Box<Reply>, bool),
    /// An event.
    Event(Weight, Box<Event>),
    /// Nothing more comes.
    Ended(Result<(), RequestError>),
}

/// What an item costs of its channel's credit, and in which association: credit is returned there only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) life: u32,
    pub(super) bytes: usize,
}

/// One thing that is waited for.
#[derive(Debug)]
struct Ask {
    question: Question,
    sink: Sink,
    /// It was given to the association of now.
    sent: bool,
    /// Parts were delivered: a repetition would give them twice.
    begun: bool,
    /// The number of the last event that was delivered, or after which they are.
    sequence: Option<u64>,
    /// Octets delivered and not displayed.
    undisplayed: usize,
}

/// Whether the server of the association of now was started anew since the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It was not: numbers of events are good.
    Same,
    /// It was, or nobody knows.
    Anew,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Asks {
    asks: BTreeMap<AskId, Ask>,
}

impl Asks {
    /// Takes another one. It is refused when there are too many.
    pub(super) fn add(&mut self, id: AskId, question: Question, sink: Sink) {
        if self.asks.len() >= limits::ASKS_MAX {
            let body = ErrorBody::saying(&format!("At most {} requests may wait at once.", limits::ASKS_MAX));
            fail(sink, RequestError::Refused { status: Status::Busy, body });
            return;
        }
        let ask = Ask { question, sink, sent: false, begun: false, sequence: None, undisplayed: 0 };
        self.asks.insert(id, ask);
    }

    /// Nobody waits for it any more.
    pub(super) fn remove(&mut self, id: AskId) {
        self.asks.remove(&id);
    }

    /// An item was displayed.
    pub(super) fn displayed(&mut self, id: AskId, bytes: usize) {
        if let Some(ask) = self.asks.get_mut(&id) {
            ask.undisplayed = ask.undisplayed.saturating_sub(bytes);
        }
    }

    /// The next one that the association of now has not been given.
    pub(super) fn next_unsent(&mut self) -> Option<(AskId, Question)> {
        let (id, ask) = self.asks.iter_mut().find(|(_, ask)| !ask.sent)?;
        ask.sent = true;
        Some((*id, ask.question.clone()))
    }

    /// Answers one in version 1.
    pub(super) fn answer_v1(&mut self, id: AskId, reply: v1::Reply) {
        if let Some(Ask { sink: Sink::V1(sink), .. }) = self.asks.remove(&id) {
            // A failure means that nobody waits any more, here and below.
            drop(sink.send(Ok(reply)));
        }
    }

    /// Ends one.
    pub(super) fn end(&mut self, id: AskId, result: Result<(), RequestError>) {
        let Some(ask) = self.asks.remove(&id) else { return };
        match (ask.sink, result) {
            (Sink::Many(sink), result) => drop(sink.send(Item::Ended(result))),
            (sink, Err(error)) => fail(sink, error),
            // Only channels end without an answer.
            (Sink::One(_) | Sink::V1(_), Ok(())) => {}
        }
    }

    /// Passes on what the server said to one. Notices are not for any of them.
    pub(super) fn pass(&mut self, life: u32, said: Said) {
        match said {
            Said::Reply(id, reply) => {
                if let Some(Ask { sink: Sink::One(sink), .. }) = self.asks.remove(&id) {
                    drop(sink.send(Ok(reply)));
                }
            }
            Said::Part { ask: id, reply, bytes, last } => {
                self.give(id, bytes, |ask| {
                    ask.begun = true;
                    Item::Part(Weight { life, bytes }, Box::new(reply), last)
                });
                if last {
                    self.asks.remove(&id);
                }
            }
            Said::Subscribed { ask: id, as_of } => self.give(id, 0, |ask| {
                ask.sequence = ask.sequence.max(Some(as_of));
                Item::Opened
            }),
            Said::Event { ask: id, event, bytes } => self.give(id, bytes, |ask| {
                ask.sequence = ask.sequence.max(Some(event.sequence));
                Item::Event(Weight { life, bytes }, event)
            }),
            Said::Ended(id, result) => self.end(id, result),
            Said::Notice(_) | Said::Goodbye(_) => {}
        }
    }

    fn give(&mut self, id: AskId, bytes: usize, item: impl FnOnce(&mut Ask) -> Item) {
        let Some(ask) = self.asks.get_mut(&id) else { return };
        ask.undisplayed += bytes;
        let item = item(ask);
        if let Sink::Many(sink) = &ask.sink {
            drop(sink.send(item));
        }
    }

    /// The link is gone for good.
    pub(super) fn fail_all(&mut self, error: &RequestError) {
        for (_, ask) in std::mem::take(&mut self.asks) {
            fail(ask.sink, error.clone());
        }
    }

    /// The association is gone: fails what must not or cannot be repeated on another one. Changes that were sent are
    /// among them, because nobody knows whether the server acted.
    pub(super) fn fail_unrepeatable(&mut self, error: &RequestError) {
        let failed: Vec<AskId> =
            self.asks.iter().filter(|(_, ask)| ask.sent && !ask.is_repeatable()).map(|(id, _)| *id).collect();
        for id in failed {
            self.end(id, Err(error.clone()));
        }
        self.asks.values_mut().for_each(|ask| ask.sent = false);
    }

    /// Before subscriptions are opened again: those that can continue where they stopped do. Where they cannot,
    /// because the server was started anew or knows no numbers for them, a gap tells the reader.
    pub(super) fn continue_from_last(&mut self, start: Start) {
        for ask in self.asks.values_mut() {
            let Some(sequence) = ask.sequence.take() else { continue };
            let from = match &mut ask.question {
                Question::V2(request) => from_of(request),
                Question::V1(_) => None,
            };
            let same = start == Start::Same;
            let continues = same && from.is_some();
            if let Some(from) = from {
                *from = same.then_some(sequence);
            }
            if continues {
                ask.sequence = Some(sequence);
            } else if let Sink::Many(sink) = &ask.sink {
                drop(sink.send(Item::Event(Weight { life: 0, bytes: 0 }, Box::new(gap_after(sequence)))));
            }
        }
    }
}

impl Ask {
    fn is_repeatable(&self) -> bool {
        let row = match &self.question {
            Question::V1(v1::Request::Query(_)) => return true,
            Question::V1(_) => return false,
            Question::V2(request) => request.command().row(),
        };
        let reads = row.is_some_and(|row| row.effect == Effect::Query);
        let list_begun = self.begun && row.is_some_and(|row| row.answer == Answer::Parts);
        // A reader that stands still must not collect one window of octets for each association.
        reads && !list_begun && self.undisplayed <= 2 * CREDIT_BYTES as usize
    }
}

/// Where a subscription names the event after which it goes on.
fn from_of(request: &mut Request) -> Option<&mut Option<u64>> {
    if let Request::LogFollow(body) = request {
        return Some(&mut body.from);
    }
    if let Request::Events(body) = request { Some(&mut body.from) } else { None }
}

/// A gap of unknown size, made here: the server did not see it.
fn gap_after(sequence: u64) -> Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = sequence.saturating_add(1);
    let gap = Gap { events_count: 0, first, last: first };
    Event::new(sequence, u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Happening::Gap(gap))
}

fn fail(sink: Sink, error: RequestError) {
    match sink {
        Sink::V1(sink) => drop(sink.send(Err(error))),
        Sink::One(sink) => drop(sink.send(Err(error))),
        Sink::Many(sink) => drop(sink.send(Item::Ended(Err(error)))),
    }
}
