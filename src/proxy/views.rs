//! A session as others see it: what a filter looks at, a row of a list, everything, and an event.

use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime};

use super::inbox::{SessionKey, Switch};
use super::live::{Details, EndedSides, Glimpse, Happened, News, Row, Told};
use super::session::{Rules, Session, Stage, Target};
use super::slot::{Slot, Socket};
use super::wire::Reply;
use super::worker::Worker;
use crate::resolver::{DomainName, Outcome};

impl Slot {
    pub(super) fn stage(&self) -> Stage {
        match (&self.session, &self.loan) {
            (Some(session), _) => session.stage(),
            (None, Some(_)) => Stage::Relay,
            (None, None) => Stage::Closing, // While its step is at work.
        }
    }

    fn last_byte(&self) -> Instant {
        match (&self.session, &self.loan) {
            (Some(Session::Relay(relay)), _) => relay.last_byte(),
            (_, Some(loan)) => loan.last_byte(),
            (Some(_) | None, None) => self.begun,
        }
    }

    /// When the session wants [`super::session::Input::Tick`].
    pub(super) fn deadline(&self, rules: &Rules) -> Option<Instant> {
        match (&self.session, &self.loan) {
            (Some(session), _) => session.deadline(rules),
            (None, Some(loan)) => loan.deadline(rules),
            (None, None) => None,
        }
    }

    /// Which sides have sent their end.
    pub(super) fn ended_sides(&self) -> EndedSides {
        match (&self.session, &self.loan) {
            (Some(Session::Relay(relay)), _) => relay.ended_sides(),
            (_, Some(loan)) => loan.ended_sides(),
            (Some(_) | None, None) => EndedSides::default(),
        }
    }

    /// Bytes that were read and not passed on, up and down.
    fn held_bytes(&self) -> (usize, usize) {
        match (&self.session, &self.loan) {
            (Some(Session::Relay(relay)), _) => (relay.up.held_bytes(), relay.down.held_bytes()),
            (_, Some(loan)) => loan.held_bytes(),
            (Some(_) | None, None) => (0, 0),
        }
    }

    /// Where the connection to the origin comes from.
    fn outgoing(&self) -> Option<SocketAddr> {
        let address_of = |origin: &Socket| origin.stream.local_addr().ok();
        match &self.loan {
            None => self.origin.as_ref().and_then(address_of),
            Some(loan) => loan.hold().cargo.as_ref().and_then(|cargo| address_of(&cargo.origin)),
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
        let mover = match (&slot.session, &slot.loan) {
            (Some(Session::Relay(relay)), _) => Some(relay.mover()),
            (_, Some(loan)) => Some(loan.mover()),
            (Some(_) | None, None) => None,
        };
        let (held_up_bytes, held_down_bytes) = slot.held_bytes();
        let deadline = slot.deadline(&self.snapshot.rules);
        let is_asked = slot.facts.target != Target::Unknown;
        Some(Details {
            listener: self.shared.listeners.get(usize::from(slot.listener.0))?.address,
            outgoing: slot.outgoing(),
            accepted: SystemTime::now().checked_sub(row.age).unwrap_or(SystemTime::UNIX_EPOCH),
            command: is_asked.then(|| slot.facts.command.code()),
            reply: slot.facts.reply.map(Reply::code),
            dns: slot.facts.dns,
            connect: slot.facts.connect,
            candidates: self.addresses_of(&row.target),
            attempts_count: slot.facts.attempts_count,
            mover,
            held_up_bytes,
            held_down_bytes,
            ended: slot.ended_sides(),
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
