//! A session as others see it: what a filter looks at, a row of a list, everything, and an event.

use std::net::IpAddr;
use std::time::{Instant, SystemTime};

use super::inbox::{SessionKey, Switch};
use super::live::{Details, Glimpse, Happened, News, Row, Told};
use super::session::{Session, Stage, Target};
use super::slot::Slot;
use super::wire::Reply;
use super::worker::Worker;
use crate::resolver::{DomainName, Outcome};

impl Slot {
    pub(super) fn stage(&self) -> Stage {
        // A stage is missing only while its step is at work.
        self.session.as_ref().map_or(Stage::Closing, Session::stage)
    }

    fn last_byte(&self) -> Instant {
        match &self.session {
            Some(Session::Relay(relay)) => relay.last_byte(),
            Some(_) | None => self.begun,
        }
    }

    pub(super) fn glimpse(&self, now: Instant) -> Glimpse<'_> {
        let (bytes_up, bytes_down) = self.bytes();
        Glimpse {
            user: self.facts.user.name().as_octets(),
            source: self.client_address.ip(),
            target: &self.facts.target,
            port: self.facts.port,
            stage: self.stage(),
            age: now.saturating_duration_since(self.begun),
            idle: now.saturating_duration_since(self.last_byte()),
            bytes: bytes_up.saturating_add(bytes_down),
        }
    }

    pub(super) fn row(&self, now: Instant) -> Row {
        let (bytes_up, bytes_down) = self.bytes();
        Row {
            id: self.id,
            user: self.facts.user.clone(),
            client: self.client_address,
            target: self.facts.target.clone(),
            port: self.facts.port,
            resolved: self.facts.resolved,
            stage: self.stage(),
            age: now.saturating_duration_since(self.begun),
            idle: now.saturating_duration_since(self.last_byte()),
            bytes_up,
            bytes_down,
        }
    }
}

impl Worker {
    /// Everything about a session.
    pub(super) fn details(&mut self, key: SessionKey) -> Option<Details> {
        let now = self.now;
        let slot = self.sessions.get(key.index()).filter(|slot| slot.generation == key.generation())?;
        let row = slot.row(now);
        let relay = match &slot.session {
            Some(Session::Relay(relay)) => Some(relay),
            Some(_) | None => None,
        };
        let deadline = slot.session.as_ref().and_then(|session| session.deadline(&self.snapshot.rules));
        let is_asked = slot.facts.target != Target::Unknown;
        Some(Details {
            listener: self.shared.listeners.get(usize::from(slot.listener.0))?.address,
            outgoing: slot.origin.as_ref().and_then(|origin| origin.stream.local_addr().ok()),
            accepted: SystemTime::now().checked_sub(row.age).unwrap_or(SystemTime::UNIX_EPOCH),
            command: is_asked.then(|| slot.facts.command.code()),
            reply: slot.facts.reply.map(Reply::code),
            dns: slot.facts.dns,
            connect: slot.facts.connect,
            candidates: self.addresses_of(&row.target),
            attempts_count: slot.facts.attempts_count,
            mover: relay.map(|relay| relay.mover(&self.tools)),
            held_up_bytes: relay.map_or(0, |relay| relay.up.held_bytes()),
            held_down_bytes: relay.map_or(0, |relay| relay.down.held_bytes()),
            ended: relay.map(super::relay::Relay::ended_sides).unwrap_or_default(),
            deadline: deadline.map(|deadline| deadline.saturating_duration_since(now)),
            row,
        })
    }

    /// What the cache has for a name. A session keeps no addresses once it has connected.
    fn addresses_of(&self, target: &Target) -> Vec<IpAddr> {
        let Target::Name(octets) = target else { return Vec::new() };
        let Ok(name) = DomainName::parse(octets) else { return Vec::new() };
        let mut addresses = Vec::new();
        for entry in self.resolver.entries_of(&name, self.now) {
            match entry.outcome {
                Outcome::Addresses(list) => addresses.extend_from_slice(&list),
                Outcome::NotFound | Outcome::Failed => {}
            }
        }
        addresses
    }

    /// Tells what has happened to a session, if somebody wants to hear it.
    pub(super) fn announce(&mut self, key: SessionKey, happened: Happened) {
        if self.desk.news == Switch::Off {
            return;
        }
        let Some(slot) = self.sessions.get(key.index()) else { return };
        let reply = slot.facts.reply.map(Reply::code);
        let news = News { happened, row: slot.row(self.now), reply };
        self.desk.tell(Told::News(Box::new(news)));
    }
}
