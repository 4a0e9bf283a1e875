//! Fifth stage: Happy Eyeballs (RFC 8305) over the addresses of the destination. Next: relay.rs.
//!
//! Families take turns, IPv6 first; the next address is tried when the last attempt has failed or after
//! [`limits::CONNECTION_ATTEMPT_DELAY`]; the first that connects wins. Addresses of the family that was
//! answered late join in.

use std::net::SocketAddr;
use std::time::Instant;

use super::policy::{Denied, canonical};
use super::relay::Relay;
use super::session::{AttemptId, Context, Input, Output, Session};
use super::wire::Reply;
use crate::limits;
use crate::metrics::Counter;
use crate::resolver::{Family, Outcome};

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptError {
    /// ECONNREFUSED.
    Refused,
    /// ETIMEDOUT, or our own limit.
    TimedOut,
    /// EHOSTUNREACH and what resembles it.
    HostUnreachable,
    /// ENETUNREACH and what resembles it.
    NetworkUnreachable,
    /// Anything else: no descriptors, no source port, a reset.
    Other,
}

impl AttemptError {
    fn reply(self) -> Reply {
        match self {
            Self::Refused => Reply::ConnectionRefused,
            Self::TimedOut => Reply::TtlExpired,
            Self::HostUnreachable => Reply::HostUnreachable,
            Self::NetworkUnreachable => Reply::NetworkUnreachable,
            Self::Other => Reply::GeneralFailure,
        }
    }

    fn counter(self) -> Counter {
        match self {
            Self::Refused => Counter::ConnectRefused,
            Self::TimedOut => Counter::ConnectTimeout,
            Self::HostUnreachable | Self::NetworkUnreachable => Counter::ConnectUnreachable,
            Self::Other => Counter::ConnectFailed,
        }
    }
}

/// Which reply is given when all attempts failed: the first of these that occurred.
const REPLY_ORDER: [Reply; 5] = [
    Reply::ConnectionRefused,
    Reply::TtlExpired,
    Reply::HostUnreachable,
    Reply::NetworkUnreachable,
    Reply::GeneralFailure,
];

/// Tries addresses until one connects.
#[derive(Debug)]
pub struct Connect {
    port: u16,
    started: Instant,
    /// The family whose answer is not in yet.
    awaited: Option<Family>,
    v4: Addresses,
    v6: Addresses,
    /// The family that was tried last.
    last: Option<Family>,
    attempts: [Option<Attempt>; limits::CANDIDATES_MAX],
    attempts_count: u8,
    next_attempt_at: Instant,
    denied: bool,
    /// Failures that occurred, as places in [`REPLY_ORDER`].
    failures: [bool; REPLY_ORDER.len()],
}

/// Addresses of one family that were not tried yet.
#[derive(Debug, Default)]
struct Addresses {
    list: [Option<SocketAddr>; limits::CANDIDATES_MAX],
    next: usize,
    end: usize,
}

/// An attempt under way.
#[derive(Debug)]
struct Attempt {
    address: SocketAddr,
    deadline: Instant,
}

impl Connect {
    /// An empty race; addresses of `awaited` may still come.
    pub(super) fn new(port: u16, awaited: Option<Family>, context: &Context<'_>) -> Self {
        Self {
            port,
            started: context.now,
            awaited,
            v4: Addresses::default(),
            v6: Addresses::default(),
            last: None,
            attempts: Default::default(),
            attempts_count: 0,
            next_attempt_at: context.now,
            denied: false,
            failures: [false; REPLY_ORDER.len()],
        }
    }

    /// Connects to the one address that the client named.
    pub(super) fn start(address: SocketAddr, context: &mut Context<'_>) -> Session {
        let mut stage = Self::new(address.port(), None, context);
        stage.consider(address, context);
        Box::new(stage).advance(context)
    }

    /// Takes the addresses of one family in.
    pub(super) fn add(&mut self, outcome: Outcome, context: &mut Context<'_>) {
        match outcome {
            Outcome::Addresses(list) => {
                for ip in list.iter() {
                    self.consider(SocketAddr::new(*ip, self.port), context);
                }
            }
            Outcome::NotFound => {}
            Outcome::Failed => self.note_failure(Reply::GeneralFailure),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let total = self.started + limits::CONNECT_TOTAL_MAX;
        let attempts = self.attempts.iter().flatten().map(|attempt| attempt.deadline);
        let next = self.has_next().then_some(self.next_attempt_at);
        attempts.chain(next).fold(total, Instant::min)
    }

    pub(super) fn step(mut self: Box<Self>, input: Input<'_>, context: &mut Context<'_>) -> Session {
        match input {
            Input::Answer(family, outcome) => {
                if self.awaited == Some(family) {
                    self.awaited = None;
                }
                self.add(outcome, context);
            }
            Input::Connected(id, local) => return self.connected(id, local, context),
            Input::AttemptFailed(id, error) => self.failed(id, error, context),
            Input::Tick => self.expire(context),
            // A client that closed its side may still want the whole answer.
            Input::Bytes(_) | Input::ClientClosed | Input::ClientReset | Input::Verdict(_) => {}
        }
        self.advance(context)
    }

    /// Starts the next attempt if it is due, or fails if nothing is left to hope for.
    pub(super) fn advance(mut self: Box<Self>, context: &mut Context<'_>) -> Session {
        let pending = self.attempts.iter().any(Option::is_some);
        let out_of_time = context.now >= self.started + limits::CONNECT_TOTAL_MAX;
        if !out_of_time
            && (!pending || context.now >= self.next_attempt_at)
            && let Some(address) = self.take_next()
        {
            self.attempt(address, context);
            return Session::Connect(self);
        }
        if !out_of_time && (pending || self.awaited.is_some()) {
            return Session::Connect(self);
        }
        self.give_up(context)
    }

    fn attempt(&mut self, address: SocketAddr, context: &mut Context<'_>) {
        let id = AttemptId(self.attempts_count);
        if let Some(slot) = self.attempts.get_mut(usize::from(id.0)) {
            *slot = Some(Attempt { address, deadline: context.now + context.rules.connect_timeout });
            self.attempts_count += 1;
            context.facts.attempts_count = self.attempts_count;
            self.next_attempt_at = context.now + limits::CONNECTION_ATTEMPT_DELAY;
            context.out.push(Output::Attempt(id, address));
        }
    }

    fn connected(
        mut self: Box<Self>,
        id: AttemptId,
        local: SocketAddr,
        context: &mut Context<'_>,
    ) -> Session {
        let Some(winner) = self.attempts.get_mut(usize::from(id.0)).and_then(Option::take) else {
            return Session::Connect(self);
        };
        self.abandon_all(context);
        context.facts.resolved = Some(winner.address);
        self.note_time(context);
        context.count(if winner.address.is_ipv4() { Counter::SessionsIpv4 } else { Counter::SessionsIpv6 });
        context.count(Counter::SessionsRelayed);
        context.out.push(Output::Adopt(id));
        context.reply(Reply::Succeeded, local);
        Session::Relay(Relay::new(context.now))
    }

    fn failed(&mut self, id: AttemptId, error: AttemptError, context: &mut Context<'_>) {
        let slot = self.attempts.get_mut(usize::from(id.0));
        if slot.and_then(Option::take).is_some() {
            context.count(error.counter());
            self.note_failure(error.reply());
            self.next_attempt_at = context.now; // RFC 8305 §5: a failure is no reason to wait.
        }
    }

    fn expire(&mut self, context: &mut Context<'_>) {
        for place in 0..self.attempts_count {
            let slot = self.attempts.get(usize::from(place)).and_then(Option::as_ref);
            if slot.is_some_and(|attempt| context.now >= attempt.deadline) {
                context.out.push(Output::Abandon(AttemptId(place)));
                self.failed(AttemptId(place), AttemptError::TimedOut, context);
            }
        }
    }

    fn give_up(mut self: Box<Self>, context: &mut Context<'_>) -> Session {
        if self.attempts.iter().any(Option::is_some) {
            self.note_failure(Reply::TtlExpired); // Out of time in all.
            context.count(Counter::ConnectTimeout);
        }
        self.abandon_all(context);
        self.note_time(context);
        let occurred = REPLY_ORDER.iter().zip(self.failures).find(|(_, occurred)| *occurred);
        let reply = match occurred {
            Some((reply, _)) => *reply,
            None if self.denied => Reply::NotAllowed,
            None => Reply::HostUnreachable,
        };
        context.fail(reply)
    }

    fn abandon_all(&mut self, context: &mut Context<'_>) {
        for (place, slot) in (0_u8..).zip(&mut self.attempts) {
            if slot.take().is_some() {
                context.out.push(Output::Abandon(AttemptId(place)));
            }
        }
    }

    /// Queues an address if it is allowed, not queued already, and there is room.
    fn consider(&mut self, address: SocketAddr, context: &mut Context<'_>) {
        let address = canonical(address);
        match context.policy.check(address) {
            Ok(()) => {
                let list = if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
                list.push(address);
            }
            Err(Denied::Family) => self.note_failure(Reply::NetworkUnreachable),
            Err(Denied::Private) => {
                self.denied = true;
                context.count(Counter::ConnectDenied);
            }
            Err(Denied::Loop) => {
                self.denied = true;
                context.count(Counter::ConnectLoop);
            }
        }
    }

    fn has_next(&self) -> bool {
        usize::from(self.attempts_count) < limits::CANDIDATES_MAX
            && (!self.v4.is_empty() || !self.v6.is_empty())
    }

    /// The next address: of the other family than the last one, where there is one; IPv6 first.
    fn take_next(&mut self) -> Option<SocketAddr> {
        if !self.has_next() {
            return None;
        }
        let address = match self.last {
            Some(Family::V6) => self.v4.pop().or_else(|| self.v6.pop()),
            Some(Family::V4) | None => self.v6.pop().or_else(|| self.v4.pop()),
        }?;
        self.last = Some(if address.is_ipv4() { Family::V4 } else { Family::V6 });
        Some(address)
    }

    fn note_failure(&mut self, reply: Reply) {
        if let Some((_, slot)) = REPLY_ORDER.iter().zip(&mut self.failures).find(|(each, _)| **each == reply)
        {
            *slot = true;
        }
    }

    fn note_time(&self, context: &mut Context<'_>) {
        context.facts.connect = Some(context.now.saturating_duration_since(self.started));
    }
}

impl Addresses {
    fn is_empty(&self) -> bool {
        self.next == self.end
    }

    fn push(&mut self, address: SocketAddr) {
        if self.list.contains(&Some(address)) {
            return;
        }
        if let Some(slot) = self.list.get_mut(self.end) {
            *slot = Some(address);
            self.end += 1;
        }
    }

    fn pop(&mut self) -> Option<SocketAddr> {
        if self.is_empty() {
            return None;
        }
        self.next += 1;
        self.list.get(self.next - 1).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::policy::Policy;
    use crate::proxy::session::{Authentication, Facts, Rules};
    use crate::store::{Store, StoreOptions};
    use std::net::IpAddr;
    use std::time::Duration;

    /// A stage with its surroundings; time is a number of milliseconds.
    struct Race {
        start: Instant,
        now_ms: u64,
        rules: Rules,
        policy: Policy,
        facts: Facts,
        session: Option<Session>,
    }

    impl Race {
        fn new(policy: Policy, v6: &[&str], v4: &[&str], awaited: Option<Family>) -> (Self, Vec<String>) {
            let mut race = Self {
                start: Instant::now(),
                now_ms: 0,
                rules: Rules {
                    auth: Authentication::None,
                    connect_timeout: Duration::from_secs(10),
                    idle_timeout: None,
                    half_closed_timeout: Duration::from_secs(60),
                },
                policy,
                facts: Facts::new(
                    Store::start(Vec::new(), StoreOptions::default()).unwrap().directory().anonymous(),
                ),
                session: None,
            };
            let outputs = race.with(|_, context| {
                let mut stage = Connect::new(443, awaited, context);
                stage.add(addresses(v6), context);
                stage.add(addresses(v4), context);
                Box::new(stage).advance(context)
            });
            (race, outputs)
        }

        fn with(&mut self, act: impl FnOnce(Option<Session>, &mut Context<'_>) -> Session) -> Vec<String> {
            let mut out = Vec::new();
            let session = self.session.take();
            let mut context = Context {
                now: self.start + Duration::from_millis(self.now_ms),
                epoch: self.start,
                rules: &self.rules,
                policy: &self.policy,
                facts: &mut self.facts,
                consumed: &mut 0,
                out: &mut out,
            };
            self.session = Some(act(session, &mut context));
            out.iter().filter_map(told).collect()
        }

        fn step(&mut self, input: Input<'_>) -> Vec<String> {
            self.with(|session, context| session.expect("a session").step(input, context))
        }

        /// Lets time pass up to the next deadline.
        fn tick(&mut self) -> (u64, Vec<String>) {
            let deadline = self.session.as_ref().unwrap().deadline(&self.rules).unwrap();
            self.now_ms = u64::try_from((deadline - self.start).as_millis()).unwrap();
            let outputs = self.step(Input::Tick);
            (self.now_ms, outputs)
        }
    }

    fn told(output: &Output) -> Option<String> {
        match output {
            Output::Attempt(id, address) => Some(format!("try {} {}", id.0, address.ip())),
            Output::Abandon(id) => Some(format!("drop {}", id.0)),
            Output::Adopt(id) => Some(format!("adopt {}", id.0)),
            Output::Send(bytes, _) => Some(format!("reply {}", bytes[1])),
            Output::Verify(_)
            | Output::Lookup(..)
            | Output::Replied
            | Output::Count(_)
            | Output::Close(_) => None,
        }
    }

    fn addresses(list: &[&str]) -> Outcome {
        if list.is_empty() {
            return Outcome::NotFound;
        }
        Outcome::Addresses(list.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect())
    }

    fn local() -> SocketAddr {
        "127.0.0.1:9".parse().unwrap()
    }

    #[test]
    fn families_take_turns_a_quarter_of_a_second_apart() {
        let (mut race, first) =
            Race::new(Policy::default(), &["2001:db8::1", "2001:db8::2"], &["192.0.2.1", "192.0.2.2"], None);
        assert_eq!(first, ["try 0 2001:db8::1"]);
        assert_eq!(race.tick(), (250, vec!["try 1 192.0.2.1".to_owned()]));
        assert_eq!(race.tick(), (500, vec!["try 2 2001:db8::2".to_owned()]));
        let won = race.step(Input::Connected(AttemptId(1), local()));
        assert_eq!(won, ["drop 0", "drop 2", "adopt 1", "reply 0"]);
        assert!(matches!(race.session, Some(Session::Relay(_))));
    }

    #[test]
    fn a_failure_is_followed_at_once() {
        let (mut race, _) = Race::new(Policy::default(), &["2001:db8::1"], &["192.0.2.1"], None);
        race.now_ms = 3;
        let next = race.step(Input::AttemptFailed(AttemptId(0), AttemptError::NetworkUnreachable));
        assert_eq!(next, ["try 1 192.0.2.1"]);
        let over = race.step(Input::AttemptFailed(AttemptId(1), AttemptError::Refused));
        assert_eq!(over, ["reply 5"], "the first in the order of replies, not in time");
    }

    #[test]
    fn addresses_of_a_late_answer_join_in() {
        let (mut race, first) = Race::new(Policy::default(), &["2001:db8::1"], &[], Some(Family::V4));
        assert_eq!(first, ["try 0 2001:db8::1"]);
        let none = race.step(Input::AttemptFailed(AttemptId(0), AttemptError::Refused));
        assert!(none.is_empty(), "waits for the other family");
        let next = race.step(Input::Answer(Family::V4, addresses(&["192.0.2.1"])));
        assert_eq!(next, ["try 1 192.0.2.1"]);
    }

    #[test]
    fn silence_ends_in_a_timeout_and_no_more_than_eight_are_tried() {
        let many: Vec<String> = (1..=12).map(|host| format!("192.0.2.{host}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (mut race, mut all) = Race::new(Policy::default(), &[], &many, None);
        while !all.iter().any(|told| told.starts_with("reply")) {
            all.extend(race.tick().1);
        }
        assert_eq!(all.iter().filter(|told| told.starts_with("try")).count(), limits::CANDIDATES_MAX);
        assert_eq!(all.last().unwrap(), "reply 6");
        assert!(race.now_ms <= 12_000, "{} ms", race.now_ms);
    }

    #[test]
    fn says_not_allowed_only_when_every_address_was_denied() {
        let policy = Policy { deny_private: true, ..Policy::default() };
        let (_, denied) = Race::new(policy.clone(), &["::1"], &["127.0.0.1"], None);
        assert_eq!(denied, ["reply 2"]);
        let (mut race, first) = Race::new(policy, &["::1"], &["8.8.8.8"], None);
        assert_eq!(first, ["try 0 8.8.8.8"]);
        assert_eq!(race.step(Input::AttemptFailed(AttemptId(0), AttemptError::TimedOut)), ["reply 6"]);
    }
}
