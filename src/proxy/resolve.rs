//! Fourth stage, for names: A and AAAA asked in parallel. Next: connect.rs, as soon as there is an address.
//!
//! RFC 8305 §3: AAAA starts connecting at once; A waits up to [`limits::RESOLUTION_DELAY`] for AAAA.

use std::time::Instant;

use super::connect::Connect;
use super::session::{Context, Families, Input, Output, Session};
use super::wire::Reply;
use crate::limits;
use crate::metrics::Counter;
use crate::resolver::{DomainName, Family, Outcome};

/// Waits for addresses.
#[derive(Debug)]
pub struct Resolve {
    port: u16,
    started: Instant,
    v4: Slot,
    v6: Slot,
    /// A came first: connecting starts then.
    start_at: Option<Instant>,
}

/// One family's part of the look-up.
#[derive(Debug)]
enum Slot {
    NotAsked,
    Asked,
    Answered(Outcome),
}

impl Resolve {
    /// Asks for the families that can be connected to.
    pub(super) fn start(name: DomainName, port: u16, context: &mut Context<'_>) -> Session {
        let families = match (context.policy.asks(Family::V4), context.policy.asks(Family::V6)) {
            (true, true) => Families::Both,
            (true, false) => Families::V4,
            (false, true) => Families::V6,
            (false, false) => return context.fail(Reply::NetworkUnreachable),
        };
        let slot = |asked: bool| if asked { Slot::Asked } else { Slot::NotAsked };
        context.out.push(Output::Lookup(name, families));
        Session::Resolve(Box::new(Self {
            port,
            started: context.now,
            v4: slot(families != Families::V6),
            v6: slot(families != Families::V4),
            start_at: None,
        }))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.start_at // The look-up itself is bounded by the resolver.
    }

    pub(super) fn step(mut self: Box<Self>, input: Input<'_>, context: &mut Context<'_>) -> Session {
        match input {
            Input::Answer(family, outcome) => {
                let slot = match family {
                    Family::V4 => &mut self.v4,
                    Family::V6 => &mut self.v6,
                };
                *slot = Slot::Answered(outcome);
                self.decide(context)
            }
            Input::Tick => self.decide(context),
            // A client that closed its side may still want the whole answer.
            Input::Bytes(_)
            | Input::ClientClosed
            | Input::ClientReset
            | Input::Verdict(_)
            | Input::Connected(..)
            | Input::AttemptFailed(..) => Session::Resolve(self),
        }
    }

    fn decide(mut self: Box<Self>, context: &mut Context<'_>) -> Session {
        match (&self.v4, &self.v6) {
            (_, Slot::Answered(Outcome::Addresses(_))) => (*self).connect(context),
            (Slot::Answered(Outcome::Addresses(_)), Slot::Asked) => {
                let start_at = *self.start_at.get_or_insert(context.now + limits::RESOLUTION_DELAY);
                if context.now < start_at {
                    return Session::Resolve(self);
                }
                (*self).connect(context)
            }
            (Slot::Answered(Outcome::Addresses(_)), Slot::NotAsked | Slot::Answered(_)) => {
                (*self).connect(context)
            }
            (Slot::Asked, Slot::Asked | Slot::NotAsked | Slot::Answered(_))
            | (Slot::NotAsked | Slot::Answered(_), Slot::Asked) => Session::Resolve(self),
            // All answers are in, and none has an address.
            (Slot::Answered(Outcome::Failed), _) | (_, Slot::Answered(Outcome::Failed)) => {
                self.note_time(context);
                context.fail(Reply::GeneralFailure)
            }
            (Slot::NotAsked | Slot::Answered(Outcome::NotFound), Slot::NotAsked | Slot::Answered(_)) => {
                self.note_time(context);
                context.count(Counter::DnsNotFound);
                context.fail(Reply::HostUnreachable)
            }
        }
    }

    fn connect(self, context: &mut Context<'_>) -> Session {
        self.note_time(context);
        let awaited = match (&self.v4, &self.v6) {
            (Slot::Asked, _) => Some(Family::V4),
            (_, Slot::Asked) => Some(Family::V6),
            (Slot::NotAsked | Slot::Answered(_), Slot::NotAsked | Slot::Answered(_)) => None,
        };
        let mut stage = Connect::new(self.port, awaited, context);
        for slot in [self.v6, self.v4] {
            if let Slot::Answered(outcome) = slot {
                stage.add(outcome, context);
            }
        }
        Box::new(stage).advance(context)
    }

    fn note_time(&self, context: &mut Context<'_>) {
        context.facts.dns = Some(context.now.saturating_duration_since(self.started));
    }
}
