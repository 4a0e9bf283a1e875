//! What becomes of the credentials that dissectors notice: a line of the access log, an event, counters.
//! Passwords leave the data plane here or nowhere.

use std::sync::Arc;
use std::time::SystemTime;

use super::dissect::{End, Found, Protocol, Watch, Way};
use super::inbox::{SessionKey, Switch};
use super::live::{Noticed, Told};
use super::session::Session;
use super::slot::Slot;
use super::worker::Worker;
use crate::logging::CredentialRecord;
use crate::metrics::Counter;
use crate::settings::Dissector;

impl Slot {
    /// From here on the session's bytes are looked at, `early` ones first.
    pub(super) fn begin_watch(&mut self, mode: Dissector, early: &[u8]) {
        if let Some(Session::Relay(relay)) = self.session.as_mut() {
            let mut watch = Watch::new(mode);
            watch.see(Way::Up, early);
            relay.begin_watch(watch);
        }
    }
}

impl Worker {
    /// Takes what was found in a session that is watched, and lets the session go where nobody looks any more.
    pub(super) fn notice(&mut self, key: SessionKey) {
        let mode = self.snapshot.settings.dissector;
        let Some(Session::Relay(relay)) = self.slot(key).and_then(|slot| slot.session.as_mut()) else {
            return;
        };
        let Some(watch) = relay.watch().as_mut() else { return };
        let (found, end) = (watch.take_found(mode), watch.end());
        if mode == Dissector::Off || end.is_some() {
            *relay.watch() = None;
        }
        for found in found {
            self.counters.count(match found.protocol {
                Protocol::Http => Counter::CredentialsHttp,
                Protocol::Pop3 => Counter::CredentialsPop3,
            });
            self.log_credentials(key, &found);
            self.announce_credentials(key, found);
        }
        match end {
            Some(End::NotMine) => self.counters.count(Counter::DissectorNotMine),
            Some(End::Malformed) => self.counters.count(Counter::DissectorMalformed),
            Some(End::Limit) => self.counters.count(Counter::DissectorLimit),
            Some(End::Switched) => self.counters.count(Counter::DissectorSwitched),
            Some(End::Done) | None => {}
        }
    }

    fn log_credentials(&mut self, key: SessionKey, found: &Found) {
        let format = self.snapshot.settings.log_format;
        let Some(slot) = self.sessions.get(key.index()) else { return };
        let record = CredentialRecord {
            time: SystemTime::now(),
            session: slot.id,
            worker: self.id,
            listener: slot.listener,
            user: slot.facts.user.name().as_octets(),
            client: slot.client_address,
            protocol: found.protocol.name(),
            destination: slot.destination(),
            port: slot.facts.port,
            user_found: &found.credentials.user,
            password_found: &found.credentials.password,
        };
        self.sink.push_credentials(format, &record);
    }

    /// Tells administrators, if somebody wants to hear of sessions.
    fn announce_credentials(&mut self, key: SessionKey, found: Found) {
        if self.desk.news == Switch::Off {
            return;
        }
        let Some(slot) = self.sessions.get(key.index()) else { return };
        let (user, target) = (Arc::clone(&slot.facts.user), slot.facts.target.clone());
        let noticed = Noticed { session: slot.id, user, target, port: slot.facts.port, found };
        self.desk.tell(Told::Noticed(Box::new(noticed)));
    }
}
