//! The look-ups of one worker: who waits for what, and where each question goes next.
//!
//! A look-up waits for a socket, asks the relay, waits again, asks plain servers. Only this file decides which
//! stage follows; [`super::table`] keeps the look-ups, [`super::pool`] moves their bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Registry;

use super::cache::{Cache, CacheEntryView, Freshness, Inserted, Source};
use super::exchange::{Question, Reply};
use super::health::{Attempt, Route, Switch};
use super::http::{Response, Template, Verdict};
use super::plain::Rotation;
use super::pool::{AskError, Connection, Happened, Pool, RelayFault};
use super::table::{LookupKey, Stage, Table, Transport};
use super::{Answer, Config, DomainName, Family, Outcome, Shared, Waiter};
use crate::limits::{
    CACHE_FAILURE_TTL, LOOKUP_TIME_MAX, LOOKUPS_PER_WORKER_MAX, PLAIN_SILENCE_MAX, RELAY_SILENCE_MAX,
};
use crate::metrics::{Counter, Counters, Gauge};
use crate::settings::DnsMode;

/// The resolver of one worker. The worker calls it with events and deadlines, and drains
/// [`Resolver::next_answer`] after each call.
#[derive(Debug)]
pub struct Resolver {
    config: Config,
    template: Template,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    cache: Cache,
    lookups: Table,
    waiting: HashMap<(Waiter, Family), LookupKey>,
    /// Look-ups for which there was no connection to the relay; may hold keys of some that have ended.
    relay_queue: VecDeque<LookupKey>,
    /// The same for sockets to plain servers.
    plain_queue: VecDeque<LookupKey>,
    pool: Pool,
    answers: VecDeque<Answer>,
}

impl Resolver {
    /// A resolver that has asked nothing yet.
    #[must_use]
    pub fn new(config: Config, shared: Arc<Shared>, counters: Arc<Counters>) -> Self {
        let template = template(&config);
        shared.health.set_relay(config.relay, resource(&config));
        Self {
            config,
            template,
            shared,
            cache: Cache::default(),
            lookups: Table::default(),
            waiting: HashMap::new(),
            relay_queue: VecDeque::new(),
            plain_queue: VecDeque::new(),
            pool: Pool::new(Arc::clone(&counters)),
            answers: VecDeque::new(),
            counters,
        }
    }

    /// Asks for one family of a name. The answer comes from [`Resolver::next_answer`], at once when the hosts
    /// table or the cache has it. A waiter waits for one name in each family at a time: asking for another
    /// forgets the first.
    pub fn ask(
        &mut self,
        waiter: Waiter,
        name: &DomainName,
        family: Family,
        now: Instant,
        registry: &Registry,
    ) {
        if let Some(outcome) = self.known(name, family, now) {
            self.answers.push_back(Answer { waiter, family, outcome });
            return;
        }
        self.counters.count(Counter::DnsCacheMisses);
        if let Some(key) = self.lookups.under_way(name, family) {
            self.counters.count(Counter::DnsJoined);
            self.join(key, waiter);
            return;
        }
        if self.lookups.len() >= LOOKUPS_PER_WORKER_MAX {
            self.counters.count(Counter::DnsQueueFull);
            let outcome = self.revive(name, family, now).unwrap_or(Outcome::Failed);
            self.answers.push_back(Answer { waiter, family, outcome });
            return;
        }
        let key = self.lookups.begin(name, family, now + LOOKUP_TIME_MAX);
        self.counters.set(Gauge::DnsLookupsCurrent, gauge(self.lookups.len()));
        self.join(key, waiter);
        self.route(key, now);
        self.pump(now, registry);
    }

    /// Forgets a waiter. What it asked goes on, if it was sent already, and fills the cache.
    pub fn forget(&mut self, waiter: Waiter) {
        for family in [Family::V4, Family::V6] {
            if let Some(key) = self.waiting.remove(&(waiter, family)) {
                self.leave(key, family);
            }
        }
        self.answers.retain(|answer| answer.waiter != waiter);
    }

    /// Handles an event of one of the resolver's tokens ([`super::TOKEN_BASE`]).
    pub fn on_event(&mut self, event: &mio::event::Event, now: Instant, registry: &Registry) {
        if let Some((key, happened)) = self.pool.on_event(event.token(), now) {
            self.advance(key, happened, now);
        }
        self.pump(now, registry);
    }

    /// When [`Resolver::on_deadline`] wants to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        [self.lookups.deadline(), self.pool.deadline()].into_iter().flatten().min()
    }

    /// Handles everything whose time has come.
    pub fn on_deadline(&mut self, now: Instant, registry: &Registry) {
        self.pool.on_deadline(now);
        while let Some(key) = self.lookups.pop_due(now) {
            self.expire(key, now);
        }
        self.pump(now, registry);
    }

    /// The next answer that is ready.
    pub fn next_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// Drops what the cache has of a name, or all it has. Says how many entries that were.
    pub fn flush(&mut self, name: Option<&DomainName>) -> usize {
        let dropped = self.cache.flush(name);
        self.counters.set(Gauge::DnsCacheEntries, gauge(self.cache.len()));
        dropped
    }

    /// Changes who is asked. Questions under way start anew with what is left of their time; what others
    /// than those asked from now on have answered is dropped from the cache.
    pub fn configure(&mut self, config: Config, now: Instant, registry: &Registry) {
        if config == self.config {
            return;
        }
        let method = config.method;
        let same_sources = config == Config { method, ..self.config.clone() };
        self.shared.health.set_relay(config.relay, resource(&config));
        self.template = template(&config);
        self.config = config;
        if same_sources {
            return;
        }
        self.flush(None);
        self.pool.close_kept();
        self.relay_queue.clear();
        self.plain_queue.clear();
        for key in self.lookups.keys() {
            self.release_socket(key, now);
            self.route(key, now);
        }
        self.pump(now, registry);
    }

    /// What the cache would answer now, some places at a time: see [`super::cache::Cache::entries`].
    pub fn entries(
        &self,
        start: usize,
        count: usize,
        now: Instant,
    ) -> Option<impl Iterator<Item = CacheEntryView>> {
        self.cache.entries(start, count, now, self.shared.health.epoch())
    }

    /// What the cache would answer now to one name.
    pub fn entries_of(&self, name: &DomainName, now: Instant) -> impl Iterator<Item = CacheEntryView> {
        self.cache.entries_of(name, now, self.shared.health.epoch())
    }

    // ---- waiters ----

    /// The answer that needs no question. Costs no allocation and no system call.
    fn known(&mut self, name: &DomainName, family: Family, now: Instant) -> Option<Outcome> {
        if let Some(outcome) = self.shared.hosts.load().answer(name, family) {
            self.counters.count(Counter::DnsHosts);
            return Some(outcome);
        }
        let (outcome, freshness) = self.cache.hit(name, family, now, self.shared.health.epoch())?;
        self.counters.count(Counter::DnsCacheHits);
        match freshness {
            Freshness::Fresh => {}
            Freshness::Stale => self.counters.count(Counter::DnsStale),
        }
        Some(outcome)
    }

    fn revive(&mut self, name: &DomainName, family: Family, now: Instant) -> Option<Outcome> {
        let outcome = self.cache.revive(name, family, now, self.shared.health.epoch())?;
        self.counters.count(Counter::DnsStale);
        Some(outcome)
    }

    fn join(&mut self, key: LookupKey, waiter: Waiter) {
        let Some(lookup) = self.lookups.get_mut(key) else { return };
        let family = lookup.family;
        // Those who have gone leave their place behind; it is taken back before the list doubles.
        if lookup.waiters.len() > 2 * lookup.waiting_count + 16 {
            let waiting = &self.waiting;
            lookup.waiters.retain(|&waiter| waiting.get(&(waiter, family)) == Some(&key));
        }
        lookup.waiters.push(waiter);
        lookup.waiting_count += 1;
        if let Some(earlier) = self.waiting.insert((waiter, family), key) {
            self.leave(earlier, family);
        }
    }

    fn leave(&mut self, key: LookupKey, family: Family) {
        if let Some(lookup) = self.lookups.get_mut(key) {
            debug_assert_eq!(lookup.family, family, "a waiter's family is that of its look-up");
            lookup.waiting_count = lookup.waiting_count.saturating_sub(1);
        }
    }

    // ---- a look-up's stages ----

    /// Puts a look-up into the queue of those whom its mode asks first.
    fn route(&mut self, key: LookupKey, now: Instant) {
        match self.config.mode {
            DnsMode::Auto | DnsMode::Doh => {
                self.enter(key, Stage::WaitingForRelay(Connection::Any), now);
                self.relay_queue.push_back(key);
            }
            DnsMode::System => self.wait_for_plain(key, now),
        }
    }

    fn wait_for_plain(&mut self, key: LookupKey, now: Instant) {
        let rotation = Rotation::new(self.config.servers.len());
        self.enter(key, Stage::WaitingForPlain(rotation, Transport::Datagram), now);
        self.plain_queue.push_back(key);
    }

    /// Puts a look-up into a stage and sets the stage's timer.
    fn enter(&mut self, key: LookupKey, stage: Stage, now: Instant) {
        let relay_patience = match self.config.mode {
            DnsMode::Auto => RELAY_SILENCE_MAX,
            DnsMode::Doh | DnsMode::System => LOOKUP_TIME_MAX,
        };
        let patience = match stage {
            Stage::WaitingForRelay(_) | Stage::AskingRelay(..) => relay_patience,
            Stage::WaitingForPlain(..) => LOOKUP_TIME_MAX,
            Stage::AskingPlain(..) => PLAIN_SILENCE_MAX,
        };
        self.lookups.enter(key, stage, now + patience);
    }

    /// Sends what waits for sockets as far as there are any.
    fn pump(&mut self, now: Instant, registry: &Registry) {
        while let Some(key) = self.next_for_relay() {
            self.ask_relay(key, now, registry);
        }
        while let Some(key) = self.next_for_plain() {
            self.ask_plain(key, now, registry);
        }
    }

    /// The next look-up that can leave the relay's queue: for a connection, or because the relay is down.
    /// Those that left it by their timer go first, so that the queue is never longer than what waits.
    fn next_for_relay(&mut self) -> Option<LookupKey> {
        while let Some(&key) = self.relay_queue.front()
            && !self
                .lookups
                .get_mut(key)
                .is_some_and(|lookup| matches!(lookup.stage, Stage::WaitingForRelay(_)))
        {
            self.relay_queue.pop_front();
        }
        self.relay_queue.front()?;
        let fails_over = self.config.mode == DnsMode::Auto && !self.shared.health.is_up();
        if !fails_over && !self.pool.has_room_for_relay() {
            return None;
        }
        self.relay_queue.pop_front()
    }

    fn next_for_plain(&mut self) -> Option<LookupKey> {
        while let Some(&key) = self.plain_queue.front()
            && !self
                .lookups
                .get_mut(key)
                .is_some_and(|lookup| matches!(lookup.stage, Stage::WaitingForPlain(..)))
        {
            self.plain_queue.pop_front();
        }
        self.plain_queue.front()?;
        if self.pool.has_room_for_plain() { self.plain_queue.pop_front() } else { None }
    }

    fn ask_relay(&mut self, key: LookupKey, now: Instant, registry: &Registry) {
        let Some(lookup) = self.lookups.get_mut(key) else { return };
        let Stage::WaitingForRelay(connection) = lookup.stage else { return };
        if lookup.waiting_count == 0 {
            self.finish(key, Outcome::Failed, None, now);
            return;
        }
        let question = Question { name: lookup.name.clone(), family: lookup.family, id: 0 };
        let route = match self.config.mode {
            DnsMode::Auto if self.pool.has_room_for_relay() => self.shared.health.route(now),
            DnsMode::Auto => Route::Plain,
            DnsMode::Doh | DnsMode::System => Route::Relay(Attempt::Ordinary),
        };
        let (attempt, connection) = match route {
            Route::Relay(Attempt::Ordinary) => (Attempt::Ordinary, connection),
            // A kept connection is from before the relay went down: it would tell nothing.
            Route::Relay(Attempt::Probe) => (Attempt::Probe, Connection::New),
            Route::Plain => return self.wait_for_plain(key, now),
        };
        self.counters.count(Counter::DnsQueries);
        let relay = self.config.relay;
        match self.pool.ask_relay(relay, &self.template, &question, connection, key, registry) {
            Ok(socket) => self.enter(key, Stage::AskingRelay(socket, attempt), now),
            Err(AskError::Unreachable(error)) => {
                self.relay_failed(key, attempt, &RelayFault::Connect(error), now);
            }
            Err(AskError::Exhausted) => {
                self.abandon(attempt, now);
                self.fail(key, now);
            }
        }
    }

    fn ask_plain(&mut self, key: LookupKey, now: Instant, registry: &Registry) {
        let Some(lookup) = self.lookups.get_mut(key) else { return };
        let Stage::WaitingForPlain(mut rotation, mut transport) = lookup.stage else { return };
        if lookup.waiting_count == 0 {
            self.finish(key, Outcome::Failed, None, now);
            return;
        }
        let (name, family) = (lookup.name.clone(), lookup.family);
        while let Some(&server) = rotation.current().and_then(|place| self.config.servers.get(place)) {
            let Some(id) = random_id() else { break };
            let question = Question { name: name.clone(), family, id };
            self.counters.count(Counter::DnsPlainQueries);
            let asked = match transport {
                Transport::Datagram => self.pool.ask_datagram(server, question, key, registry),
                Transport::Stream => self.pool.ask_stream(server, question, key, registry),
            };
            match asked {
                Ok(socket) => {
                    let epoch = self.shared.health.epoch();
                    return self.enter(key, Stage::AskingPlain(socket, rotation, epoch), now);
                }
                Err(AskError::Unreachable(error)) => {
                    log::debug!("a plain DNS server cannot be reached server={server} error=\"{error}\"");
                    rotation.strike();
                    transport = Transport::Datagram;
                }
                Err(AskError::Exhausted) => break,
            }
        }
        self.fail(key, now);
    }

    // ---- what became of a question ----

    fn advance(&mut self, key: LookupKey, happened: Happened, now: Instant) {
        let Some(stage) = self.lookups.get_mut(key).map(|lookup| lookup.stage) else { return };
        match (stage, happened) {
            (Stage::AskingRelay(_, attempt), Happened::Response(response)) => {
                self.relay_responded(key, attempt, &response, now);
            }
            (Stage::AskingRelay(_, attempt), Happened::RelayFault(fault)) => {
                self.relay_failed(key, attempt, &fault, now);
            }
            (Stage::AskingRelay(_, attempt), Happened::KeptLost) => {
                self.abandon(attempt, now);
                self.enter(key, Stage::WaitingForRelay(Connection::New), now);
                self.relay_queue.push_front(key);
            }
            (Stage::AskingPlain(_, rotation, epoch), Happened::Reply(reply)) => {
                self.plain_replied(key, rotation, epoch, reply, now);
            }
            (Stage::AskingPlain(_, rotation, _), Happened::Truncated) => {
                self.enter(key, Stage::WaitingForPlain(rotation, Transport::Stream), now);
                self.plain_queue.push_front(key);
            }
            (Stage::AskingPlain(_, mut rotation, _), Happened::PlainFault) => {
                rotation.strike();
                self.ask_next_server(key, rotation, now);
            }
            // A socket belongs to the stage that opened it and is closed with it, so nothing else can happen.
            (
                Stage::WaitingForRelay(_)
                | Stage::AskingRelay(..)
                | Stage::WaitingForPlain(..)
                | Stage::AskingPlain(..),
                happened,
            ) => debug_assert!(false, "{happened:?} in stage {stage:?}"),
        }
    }

    fn relay_responded(&mut self, key: LookupKey, attempt: Attempt, response: &Response, now: Instant) {
        let Some(lookup) = self.lookups.get_mut(key) else { return };
        let question = Question { name: lookup.name.clone(), family: lookup.family, id: 0 };
        let verdict = response.judge(&question);
        match &verdict {
            Verdict::Reply(_) | Verdict::Invalid(_) | Verdict::Refused => self.relay_works(),
            Verdict::Failure => {
                return self.relay_failed(key, attempt, &RelayFault::Status(response.status), now);
            }
            Verdict::NotDns => return self.relay_failed(key, attempt, &RelayFault::NotDns, now),
        }
        match verdict {
            Verdict::Reply(Reply::ServerFailure { rcode }) => {
                log::debug!("the relay's server failed name={} rcode={rcode}", question.name);
                self.counters.count(Counter::DnsServerFailure);
                self.fail(key, now);
            }
            Verdict::Reply(reply) => self.succeed(key, reply, Source::Doh, now),
            Verdict::Invalid(error) => {
                log::debug!("the relay's message is no answer name={} error=\"{error}\"", question.name);
                self.counters.count(Counter::DnsInvalidAnswer);
                self.fail(key, now);
            }
            Verdict::Refused | Verdict::Failure | Verdict::NotDns => {
                log::debug!("the relay refused name={} status={}", question.name, response.status);
                self.counters.count(Counter::DnsRelayStatus4xx);
                self.fail(key, now);
            }
        }
    }

    /// The relay did not answer this question: `auto` asks elsewhere, `doh` does not.
    fn relay_failed(&mut self, key: LookupKey, attempt: Attempt, fault: &RelayFault, now: Instant) {
        log::debug!("the relay failed relay={} error=\"{fault}\"", self.config.relay);
        self.counters.count(match fault {
            RelayFault::Connect(_) => Counter::DnsRelayRefused,
            RelayFault::Broken(_) | RelayFault::Http(_) | RelayFault::NotDns => Counter::DnsRelayInvalidHttp,
            RelayFault::Status(_) => Counter::DnsRelayStatus5xx,
            RelayFault::Silence => Counter::DnsTimeout,
        });
        match self.config.mode {
            DnsMode::Auto => {
                let switch = self.shared.health.failed(attempt, fault, now);
                self.count_switch(switch);
                self.wait_for_plain(key, now);
            }
            DnsMode::Doh | DnsMode::System => self.fail(key, now),
        }
    }

    fn relay_works(&mut self) {
        if self.config.mode == DnsMode::Auto {
            let switch = self.shared.health.succeeded();
            self.count_switch(switch);
        }
    }

    fn count_switch(&self, switch: Switch) {
        match switch {
            Switch::None => {}
            Switch::Down | Switch::Up => self.counters.count(Counter::DnsRelaySwitch),
        }
    }

    /// A probe that ends without a finding makes way for another.
    fn abandon(&self, attempt: Attempt, now: Instant) {
        match attempt {
            Attempt::Ordinary => {}
            Attempt::Probe => self.shared.health.probe_abandoned(now),
        }
    }

    fn plain_replied(
        &mut self,
        key: LookupKey,
        mut rotation: Rotation,
        epoch: u64,
        reply: Reply,
        now: Instant,
    ) {
        if matches!(reply, Reply::ServerFailure { .. }) {
            self.counters.count(Counter::DnsServerFailure);
            rotation.strike();
            return self.ask_next_server(key, rotation, now);
        }
        let source = match self.config.mode {
            DnsMode::Auto => Source::Substitute { epoch },
            DnsMode::Doh | DnsMode::System => Source::Plain,
        };
        self.succeed(key, reply, source, now);
    }

    fn ask_next_server(&mut self, key: LookupKey, rotation: Rotation, now: Instant) {
        self.enter(key, Stage::WaitingForPlain(rotation, Transport::Datagram), now);
        self.plain_queue.push_front(key);
    }

    /// The timer of the look-up's stage, or of the look-up itself, has come.
    fn expire(&mut self, key: LookupKey, now: Instant) {
        let Some(lookup) = self.lookups.get_mut(key) else { return };
        let (stage, is_over) = (lookup.stage, now >= lookup.deadline);
        if is_over {
            self.counters.count(Counter::DnsTimeout);
            self.release_socket(key, now);
            return self.fail(key, now);
        }
        match stage {
            // Too many wait for too few connections; that says nothing about the relay.
            Stage::WaitingForRelay(_) => self.wait_for_plain(key, now),
            Stage::AskingRelay(socket, attempt) => {
                self.pool.close(socket);
                self.relay_failed(key, attempt, &RelayFault::Silence, now);
            }
            Stage::AskingPlain(socket, mut rotation, _) => {
                self.counters.count(Counter::DnsTimeout);
                self.pool.close(socket);
                rotation.skip();
                self.ask_next_server(key, rotation, now);
            }
            Stage::WaitingForPlain(..) => self.fail(key, now),
        }
    }

    // ---- ends ----

    fn succeed(&mut self, key: LookupKey, reply: Reply, source: Source, now: Instant) {
        let (outcome, ttl) = match reply {
            Reply::Addresses { addresses, ttl } => (Outcome::Addresses(addresses), ttl),
            Reply::NotFound { ttl } => (Outcome::NotFound, ttl),
            Reply::ServerFailure { .. } => return self.fail(key, now),
        };
        self.finish(key, outcome, Some((source, ttl)), now);
    }

    /// Nobody could say: what the cache has past its time, or the failure itself for a moment.
    fn fail(&mut self, key: LookupKey, now: Instant) {
        let Some(lookup) = self.lookups.get_mut(key) else { return };
        let (name, family) = (lookup.name.clone(), lookup.family);
        match self.revive(&name, family, now) {
            Some(outcome) => self.finish(key, outcome, None, now),
            None => {
                let remembered = Some((Source::Failure, CACHE_FAILURE_TTL));
                self.finish(key, Outcome::Failed, remembered, now);
            }
        }
    }

    /// Ends a look-up: fills the cache where there is something to keep, and answers who still waits.
    fn finish(&mut self, key: LookupKey, outcome: Outcome, keep: Option<(Source, Duration)>, now: Instant) {
        let Some(lookup) = self.lookups.remove(key) else { return };
        if let Some((source, ttl)) = keep {
            match self.cache.insert(&lookup.name, lookup.family, outcome.clone(), source, ttl, now) {
                Inserted::Alone => {}
                Inserted::Evicting => self.counters.count(Counter::DnsCacheEvictions),
            }
        }
        for &waiter in &lookup.waiters {
            let place = (waiter, lookup.family);
            if self.waiting.get(&place) == Some(&key) {
                self.waiting.remove(&place);
                let outcome = outcome.clone();
                self.answers.push_back(Answer { waiter, family: lookup.family, outcome });
            }
        }
        self.counters.set(Gauge::DnsCacheEntries, gauge(self.cache.len()));
        self.counters.set(Gauge::DnsLookupsCurrent, gauge(self.lookups.len()));
    }

    /// Closes the socket of a look-up whose question is given up.
    fn release_socket(&mut self, key: LookupKey, now: Instant) {
        match self.lookups.get_mut(key).map(|lookup| lookup.stage) {
            Some(Stage::AskingRelay(socket, attempt)) => {
                self.pool.close(socket);
                self.abandon(attempt, now);
            }
            Some(Stage::AskingPlain(socket, ..)) => self.pool.close(socket),
            Some(Stage::WaitingForRelay(_) | Stage::WaitingForPlain(..)) | None => {}
        }
    }
}

fn template(config: &Config) -> Template {
    Template::new(config.method, &config.host, &config.path, &config.query)
}

/// What beside its address makes a relay another one.
fn resource(config: &Config) -> String {
    format!("{}{}{}", config.host, config.path, config.query)
}

/// An id that cannot be guessed (RFC 5452 §9.2). `None`: the kernel has no random numbers to give, and one
/// that could be guessed is worse than none.
fn random_id() -> Option<u16> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).ok()?;
    Some(u16::from_ne_bytes(id))
}

fn gauge(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod stub;
#[cfg(test)]
mod tests;
