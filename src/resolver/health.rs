//! Whether the relay answers: known to all workers at once, so that `auto` changes over once and not once a
//! worker. It decides, opens nothing and reads no clock; who asks tells it how it went.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{LOOKUP_TIME_MAX, RELAY_FAILURES_MAX, RELAY_PROBE_FIRST, RELAY_PROBE_MAX};

/// Where a look-up goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the relay.
    Relay(Attempt),
    /// To plain DNS: the relay is down.
    Plain,
}

/// In what belief the relay is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is up.
    Ordinary,
    /// It is down, and this look-up finds out whether it still is.
    Probe,
}

/// What a report changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Nothing.
    None,
    /// The relay is down from now on.
    Down,
    /// The relay is up again.
    Up,
}

/// The state of the relay.
#[derive(Debug)]
pub struct Health {
    state: Mutex<State>,
    /// Whether there is anything to know before asking; saves the lock while all is well.
    is_clean: AtomicBool,
    /// Grows whenever the relay comes back; answers got in its place die with their epoch.
    epoch: AtomicU64,
}

#[derive(Debug)]
struct State {
    relay: Option<Relay>,
    failures_in_a_row: u32,
    down: Option<Down>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Relay {
    address: SocketAddr,
    resource: String,
}

#[derive(Clone, Copy, Debug)]
struct Down {
    probe_at: Instant,
    wait: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: Mutex::new(State { relay: None, failures_in_a_row: 0, down: None }),
            is_clean: AtomicBool::new(true),
            epoch: AtomicU64::new(0),
        }
    }
}

impl Health {
    /// Says which relay is meant: its address, and in `resource` what else makes it another one. Another one
    /// than before starts without blame, and answers got in place of the old one die.
    pub fn set_relay(&self, address: SocketAddr, resource: String) {
        let relay = Relay { address, resource };
        let mut state = self.lock();
        if state.relay.as_ref() == Some(&relay) {
            return;
        }
        if state.relay.is_some() {
            self.epoch.fetch_add(1, Ordering::Relaxed);
        }
        *state = State { relay: Some(relay), failures_in_a_row: 0, down: None };
        self.is_clean.store(true, Ordering::Relaxed);
    }

    /// Where the next look-up goes. [`Attempt::Probe`] is given to one look-up at a time.
    #[must_use]
    pub fn route(&self, now: Instant) -> Route {
        if self.is_clean.load(Ordering::Relaxed) {
            return Route::Relay(Attempt::Ordinary);
        }
        let mut state = self.lock();
        let Some(down) = &mut state.down else { return Route::Relay(Attempt::Ordinary) };
        if now < down.probe_at {
            return Route::Plain;
        }
        // Its report sets the time of the next probe; should none come, one look-up's life is waited for.
        down.probe_at = now + LOOKUP_TIME_MAX;
        Route::Relay(Attempt::Probe)
    }

    /// The relay answered, whatever it said about the name.
    pub fn succeeded(&self) -> Switch {
        if self.is_clean.load(Ordering::Relaxed) {
            return Switch::None;
        }
        let mut state = self.lock();
        state.failures_in_a_row = 0;
        self.is_clean.store(true, Ordering::Relaxed);
        if state.down.take().is_none() {
            return Switch::None;
        }
        self.epoch.fetch_add(1, Ordering::Relaxed);
        let relay = state.field();
        drop(state);
        log::warn!("the DNS relay answers again and is asked again {relay}");
        Switch::Up
    }

    /// The relay did not answer, or not in HTTP; `cause` is for the log.
    pub fn failed(&self, attempt: Attempt, cause: &dyn std::fmt::Display, now: Instant) -> Switch {
        let mut state = self.lock();
        self.is_clean.store(false, Ordering::Relaxed);
        match (&mut state.down, attempt) {
            (Some(down), Attempt::Probe) => {
                down.wait = (down.wait * 2).min(RELAY_PROBE_MAX);
                down.probe_at = now + down.wait;
                Switch::None
            }
            // Look-ups sent before the switch tell nothing new.
            (Some(_), Attempt::Ordinary) => Switch::None,
            (None, Attempt::Ordinary | Attempt::Probe) => {
                state.failures_in_a_row += 1;
                if state.failures_in_a_row < RELAY_FAILURES_MAX {
                    return Switch::None;
                }
                state.down = Some(Down { probe_at: now + RELAY_PROBE_FIRST, wait: RELAY_PROBE_FIRST });
                let relay = state.field();
                drop(state);
                log::warn!(
                    "the DNS relay does not answer, plain DNS is asked instead {relay} error=\"{cause}\""
                );
                Switch::Down
            }
        }
    }

    /// The probe ended without a result, for example because its look-up was asked to go elsewhere.
    pub fn probe_abandoned(&self, now: Instant) {
        if let Some(down) = &mut self.lock().down {
            down.probe_at = down.probe_at.min(now + down.wait);
        }
    }

    /// The present epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Whether the relay is up, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_clean.load(Ordering::Relaxed) || self.lock().down.is_none()
    }

    /// Nothing inside the lock can panic half-way, so a poisoned one holds a whole state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// `relay=ADDRESS` for a log line.
    fn field(&self) -> String {
        self.relay
            .as_ref()
            .map_or_else(|| "relay=none".to_owned(), |relay| format!("relay={}", relay.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn down_at(now: Instant) -> Health {
        let health = Health::default();
        assert_eq!(health.failed(Attempt::Ordinary, &"refused", now), Switch::None);
        assert_eq!(health.failed(Attempt::Ordinary, &"refused", now), Switch::Down);
        health
    }

    #[test]
    fn two_failures_in_a_row_mark_the_relay_down_and_an_answer_between_them_does_not() {
        let (health, now) = (Health::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(health.failed(Attempt::Ordinary, &"silence", now), Switch::None);
            assert_eq!(health.route(now), Route::Relay(Attempt::Ordinary));
            assert_eq!(health.succeeded(), Switch::None);
        }
        assert_eq!(health.failed(Attempt::Ordinary, &"silence", now), Switch::None);
        assert_eq!(health.failed(Attempt::Ordinary, &"silence", now), Switch::Down);
        assert_eq!(health.failed(Attempt::Ordinary, &"silence", now), Switch::None);
        assert!(!health.is_up());
        assert_eq!(health.route(now), Route::Plain);
    }

    #[test]
    fn probes_go_one_at_a_time_after_waits_that_double_to_half_a_minute() {
        let mut now = Instant::now();
        let health = down_at(now);
        for wait in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(health.route(now + wait * SECOND - SECOND / 10), Route::Plain, "before {wait} s");
            now += wait * SECOND;
            assert_eq!(health.route(now), Route::Relay(Attempt::Probe), "after {wait} s");
            assert_eq!(health.route(now + SECOND), Route::Plain, "while a probe is under way");
            assert_eq!(health.failed(Attempt::Probe, &"refused", now), Switch::None);
        }
    }

    #[test]
    fn a_probe_that_is_answered_brings_the_relay_back_and_ends_the_epoch() {
        let now = Instant::now();
        let health = down_at(now);
        let before = health.epoch();
        assert_eq!(health.route(now + SECOND), Route::Relay(Attempt::Probe));
        assert_eq!(health.succeeded(), Switch::Up);
        assert_eq!(health.succeeded(), Switch::None);
        assert_eq!(health.route(now + SECOND), Route::Relay(Attempt::Ordinary));
        assert_ne!(health.epoch(), before);
        assert!(health.is_up());
    }

    #[test]
    fn a_probe_that_is_lost_is_followed_by_another() {
        let now = Instant::now();
        let health = down_at(now);
        assert_eq!(health.route(now + SECOND), Route::Relay(Attempt::Probe));
        assert_eq!(health.route(now + SECOND + LOOKUP_TIME_MAX), Route::Relay(Attempt::Probe));
        health.probe_abandoned(now + 7 * SECOND);
        assert_eq!(health.route(now + 8 * SECOND), Route::Relay(Attempt::Probe));
    }

    #[test]
    fn another_relay_starts_without_blame() {
        let now = Instant::now();
        let health = down_at(now);
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        health.set_relay(address, "a/".to_owned());
        assert!(health.is_up());
        let epoch = health.epoch();
        health.set_relay(address, "a/".to_owned());
        assert_eq!(health.epoch(), epoch);
        health.set_relay(address, "b/".to_owned());
        assert_ne!(health.epoch(), epoch);
    }
}
