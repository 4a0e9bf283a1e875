//! What workers tell without being asked: whether anybody wants it, and how it is made known.
//!
//! Session events cost something with every session, so workers tell them only while somebody follows them, or
//! has just got a list that a subscription may go on from. Whoever wants them holds a token; the last one that
//! goes turns them off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use pipo_protocol::v2::events::{Gap, Happening};

use super::core::Core;
use super::events::Feed;
use super::session_rows::{credential_event, session_event, trace_step};
use crate::ids::SessionId;
use crate::limits;
use crate::proxy::inbox::{Message, Switch};
use crate::proxy::live::{Told, TraceStep, Traced};

/// Who wants what.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Held by everyone who follows sessions.
    sessions: Arc<()>,
    /// A list was given that a subscription may go on from.
    kept_until: Option<Instant>,
    is_on: bool,
    /// Held by everyone who follows this session.
    traces: BTreeMap<SessionId, Arc<()>>,
}

impl Core {
    /// Has the workers tell what happens to sessions for as long as the token is held.
    pub(super) fn watch_sessions(&mut self) -> Arc<()> {
        self.turn_news(Switch::On);
        Arc::clone(&self.watch.sessions)
    }

    /// Has them tell it for a while: somebody gets a list and may follow what comes after it.
    pub(super) fn watch_sessions_for_a_while(&mut self, now: Instant) {
        self.turn_news(Switch::On);
        self.watch.kept_until = Some(now + limits::ADMIN_LIST_FOLLOWED_WITHIN);
    }

    fn turn_news(&mut self, switch: Switch) {
        if self.watch.is_on != (switch == Switch::On) {
            self.watch.is_on = switch == Switch::On;
            self.plane.tell(|| Message::TellNews(switch));
        }
    }

    /// Whether one more session may be traced; each worker has room for as many.
    pub(super) fn has_room_for_trace(&self, id: SessionId) -> bool {
        self.watch.traces.len() < limits::TRACES_PER_WORKER_MAX || self.watch.traces.contains_key(&id)
    }

    /// The trace of a session goes on for as long as the token is held.
    pub(super) fn hold_trace(&mut self, id: SessionId) -> Arc<()> {
        Arc::clone(self.watch.traces.entry(id).or_default())
    }

    /// Turns off what nobody wants any more.
    pub(super) fn settle_watch(&mut self, now: Instant) {
        if self.watch.kept_until.is_some_and(|until| now >= until) {
            self.watch.kept_until = None;
        }
        if self.watch.kept_until.is_none() && Arc::strong_count(&self.watch.sessions) == 1 {
            self.turn_news(Switch::Off);
        }
        let over = self.watch.traces.extract_if(.., |_, held| Arc::strong_count(held) == 1);
        for (id, _) in over {
            self.plane.tell_one(id.worker(), Message::Untrace(id));
        }
    }

    /// When [`Core::settle_watch`] has something to do though nothing happens.
    pub(super) fn watch_deadline(&self) -> Option<Instant> {
        self.watch.kept_until
    }

    /// Takes what the workers have told.
    pub(super) fn hear_workers(&mut self, now: Instant) {
        let mut all = Vec::new();
        self.plane.take_told(|worker, told| all.push((worker, told)));
        for (worker, told) in all {
            match told {
                Told::Answer(id, answer) => self.answered(worker, id, answer, now),
                Told::News(news) => {
                    if let Some(event) = session_event(&news) {
                        self.events.publish(Feed::Events, Happening::Session(event));
                    }
                }
                Told::Noticed(noticed) => {
                    if let Some(event) = credential_event(&noticed) {
                        self.events.publish(Feed::Events, Happening::Credential(event));
                    }
                }
                Told::Step(step) => self.publish_step(&step),
                Told::Lost(news, steps) => {
                    self.publish_gap(Feed::Events, news);
                    self.publish_gap(Feed::Steps, steps);
                }
            }
        }
    }

    fn publish_step(&mut self, step: &TraceStep) {
        self.events.publish(Feed::Steps, Happening::Step(trace_step(step)));
        if let Traced::Closed(_) = step.what {
            self.watch.traces.remove(&step.session);
        }
    }

    /// Events that a worker had no room for: every follower of the feed learns how many.
    fn publish_gap(&mut self, feed: Feed, events_count: u64) {
        if events_count > 0 {
            let first = self.events.sequence() + 1;
            let last = self.events.skip(events_count);
            self.events.publish(feed, Happening::Gap(Gap { events_count, first, last }));
        }
    }
}
