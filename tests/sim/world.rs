//! A client, the proxy's session, and the origins it tries, in virtual time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use socks5d::logging::CloseReason;
use socks5d::proxy::connect::AttemptError;
use socks5d::proxy::dissect::{Watch, Way};
use socks5d::proxy::mover::Tools;
use socks5d::proxy::policy::Policy;
use socks5d::proxy::relay::Progress;
use socks5d::proxy::session::{
    AttemptId, Authentication, Context, Facts, Families, Input, Output, Rules, Session,
};
use socks5d::proxy::side::Side;
use socks5d::proxy::wire::Reply;
use socks5d::resolver::{Family, Outcome};
use socks5d::settings::Dissector;
use socks5d::store::{Store, StoreOptions, User};

use crate::network::Connection;
use crate::random::Random;

/// What is going to happen.
#[derive(Debug)]
pub(crate) struct Plan {
    by_name: bool,
    password: Option<Verdict>,
    /// What each address of the name does when it is tried.
    addresses: Vec<(IpAddr, Fate)>,
    client_bytes: usize,
    origin_bytes: usize,
    /// The origin answers only after the client has closed its side.
    origin_waits_for_end: bool,
    reset: Option<(Who, usize)>,
    window: usize,
    buffer_size: usize,
    /// Dissectors look at the relay's bytes.
    is_watched: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accept,
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Connects(Duration),
    Refuses(Duration),
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Client,
    Origin,
}

impl Plan {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let by_name = random.once_in(2);
        let addresses = (0..if by_name { random.below(4) } else { 1 })
            .map(|place| {
                let ip = match random.below(2) {
                    0 => format!("192.0.2.{}", place + 1),
                    _ => format!("2001:db8::{}", place + 1),
                };
                let after = Duration::from_millis(random.magnitude(2_000));
                let fate = match random.below(6) {
                    0 => Fate::Refuses(after),
                    1 => Fate::Silent,
                    _ => Fate::Connects(after),
                };
                (ip.parse().expect("an address"), fate)
            })
            .collect();
        let password = match random.below(6) {
            0 => Some(Verdict::Refuse),
            1 | 2 => Some(Verdict::Accept),
            _ => None,
        };
        let window = 1 + usize::try_from(random.magnitude(100_000)).expect("small");
        // A tiny window takes a step for every few bytes: few of those are enough.
        let mut bytes = || usize::try_from(random.magnitude(100_000)).expect("small").min(window * 300);
        let (client_bytes, origin_bytes) = (bytes(), bytes());
        let reset = random.once_in(5).then(|| {
            let who = if random.once_in(2) { Who::Client } else { Who::Origin };
            (who, usize::try_from(random.magnitude(100_000)).expect("small"))
        });
        Self {
            by_name,
            password,
            addresses,
            client_bytes,
            origin_bytes,
            origin_waits_for_end: random.once_in(3),
            reset,
            window,
            buffer_size: 512 + usize::try_from(random.magnitude(65_536)).expect("small"),
            is_watched: random.once_in(2),
        }
    }
}

/// Something that happens later.
#[derive(Debug)]
enum Event {
    Verdict,
    Answer(Family),
    Attempt(AttemptId, Result<SocketAddr, AttemptError>),
    ClientActs,
    OriginActs,
}

/// How far a peer has come.
#[derive(Debug, Default)]
struct Progressed {
    sent: usize,
    received: usize,
    finished: bool,
}

pub(crate) struct World {
    plan: Plan,
    random: Random,
    epoch: Instant,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    events_count: u64,
    rules: Rules,
    policy: Policy,
    facts: Facts,
    session: Option<Session>,
    tools: Tools,
    client: Connection,
    inbox: Vec<u8>,
    shown: usize,
    client_closed: bool,
    origin: Option<Connection>,
    attempts: BTreeMap<u8, SocketAddr>,
    /// What the client says before its payload.
    greeting: Vec<u8>,
    /// What the client has read, before the payload.
    answer: Vec<u8>,
    client_state: Progressed,
    origin_state: Progressed,
    closed: Option<CloseReason>,
    replied: usize,
    reset_done: bool,
    steps: u64,
}

/// The byte that stands at a place of a stream: each direction has its own, and begins as dissectors like it.
fn byte_at(who: Who, place: usize) -> u8 {
    let (opening, salt): (&[u8], _) = match who {
        Who::Client => {
            (b"PUT / HTTP/1.1\r\nAuthorization: Basic YWw6cHc=\r\nContent-Length: 9999\r\n\r\n", 0x51)
        }
        Who::Origin => (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", 0xa7),
    };
    if let Some(byte) = opening.get(place) {
        return *byte;
    }
    u8::try_from((place.wrapping_mul(31) ^ (place >> 8) ^ salt) & 0xff).expect("a byte")
}

/// The one user there is; starting a store takes threads, so once is enough.
fn user() -> Arc<User> {
    static STORE: LazyLock<Arc<Store>> =
        LazyLock::new(|| Store::start(Vec::new(), StoreOptions::default()).expect("no user can be wrong"));
    STORE.directory().anonymous()
}

impl World {
    pub(crate) fn new(plan: Plan, mut random: Random) -> Self {
        let epoch = Instant::now();
        let greeting = greeting(&plan);
        let rules = Rules {
            auth: if plan.password.is_some() { Authentication::Required } else { Authentication::None },
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(300)),
            half_closed_timeout: Duration::from_secs(60),
        };
        let mut world = Self {
            client: Connection::new(plan.window),
            tools: Tools::new(plan.buffer_size, 0),
            epoch,
            now: epoch + Duration::from_millis(random.below(1_000)),
            events: BTreeMap::new(),
            events_count: 0,
            rules,
            policy: Policy { ipv6_route: true, ..Policy::default() },
            facts: Facts::new(user()),
            session: None,
            inbox: Vec::new(),
            shown: 0,
            client_closed: false,
            origin: None,
            attempts: BTreeMap::new(),
            greeting,
            answer: Vec::new(),
            client_state: Progressed::default(),
            origin_state: Progressed::default(),
            closed: None,
            replied: 0,
            reset_done: false,
            steps: 0,
            plan,
            random,
        };
        world.session = Some(Session::new(world.now + Duration::from_secs(10)));
        world.later(Duration::ZERO, Event::ClientActs);
        world
    }

    /// Runs the session to its end; gives a digest of what happened.
    pub(crate) fn run(mut self) -> (u64, usize, usize, Option<CloseReason>) {
        while self.closed.is_none() {
            self.steps += 1;
            assert!(self.steps < 100_000, "the session does not come to an end: {:?}", self.plan);
            let deadline = self.session.as_ref().and_then(|session| session.deadline(&self.rules));
            let event_at = self.events.first_key_value().map(|((at, _), _)| *at);
            match (event_at, deadline) {
                (Some(at), Some(deadline)) if deadline < at => self.tick(deadline),
                (Some(_), _) => {
                    let ((at, _), event) = self.events.pop_first().expect("there is one");
                    self.now = self.now.max(at);
                    self.happen(event);
                }
                (None, Some(deadline)) => self.tick(deadline),
                (None, None) => panic!("the session waits for nothing: {:?}", self.session),
            }
            self.proxy_acts();
        }
        self.check_end();
        (self.steps, self.client_state.received, self.origin_state.received, self.closed)
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.events_count += 1;
        self.events.insert((self.now + after, self.events_count), event);
    }

    fn soon(&mut self) -> Duration {
        Duration::from_micros(self.random.magnitude(200_000))
    }

    fn tick(&mut self, deadline: Instant) {
        self.now = self.now.max(deadline);
        self.step(Input::Tick);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Verdict => {
                self.shown = 0;
                let verdict = self.plan.password.expect("a password was asked for");
                self.step(Input::Verdict(match verdict {
                    Verdict::Accept => Some(user()),
                    Verdict::Refuse => None,
                }));
            }
            Event::Answer(family) => {
                let outcome = self.outcome(family);
                self.step(Input::Answer(family, outcome));
            }
            Event::Attempt(id, result) => {
                match result {
                    Ok(local) if self.attempts.contains_key(&id.0) => {
                        self.step(Input::Connected(id, local));
                    }
                    Err(error) if self.attempts.remove(&id.0).is_some() => {
                        self.step(Input::AttemptFailed(id, error));
                    }
                    Ok(_) | Err(_) => {} // It was given up.
                }
            }
            Event::ClientActs => self.client_acts(),
            Event::OriginActs => self.origin_acts(),
        }
    }

    fn outcome(&self, family: Family) -> Outcome {
        let fits = |ip: &IpAddr| ip.is_ipv4() == (family == Family::V4);
        let list: Vec<_> = self.plan.addresses.iter().map(|(ip, _)| *ip).filter(fits).collect();
        if list.is_empty() { Outcome::NotFound } else { Outcome::Addresses(list.into()) }
    }
}

// The peers.
impl World {
    fn client_acts(&mut self) {
        let total = self.greeting.len() + self.plan.client_bytes;
        let place = self.client_state.sent;
        let piece = 1 + usize::try_from(self.random.magnitude(50_000)).expect("small");
        let bytes: Vec<u8> = (place..total.min(place + piece))
            .map(|place| match self.greeting.get(place) {
                Some(byte) => *byte,
                None => byte_at(Who::Client, place - self.greeting.len()),
            })
            .collect();
        if !self.client.reset {
            self.client_state.sent += self.client.peer_sends(&bytes);
            if self.client_state.sent == total && !self.client_state.finished && self.random.once_in(2) {
                self.client_state.finished = true;
                self.client.peer_finishes();
            }
            let count = usize::try_from(self.random.magnitude(60_000)).expect("small");
            let read = self.client.peer_reads(count);
            self.client_reads(&read);
            self.maybe_reset(Who::Client);
        }
        let after = self.soon();
        self.later(after, Event::ClientActs);
    }

    /// Tells the proxy's answers from the payload, and checks the payload.
    fn client_reads(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.answer.len() < answer_length(&self.answer, self.plan.password.is_some()) {
                self.answer.push(*byte);
            } else {
                let place = self.client_state.received;
                assert_eq!(*byte, byte_at(Who::Origin, place), "byte {place} to the client");
                self.client_state.received += 1;
            }
        }
        assert!(self.client_state.received <= self.plan.origin_bytes, "more arrived than was sent");
    }

    fn origin_acts(&mut self) {
        let Some(origin) = self.origin.as_mut() else { return };
        if !origin.reset {
            let may_send = !self.plan.origin_waits_for_end || origin.peer_sees_end();
            let place = self.origin_state.sent;
            let piece = 1 + usize::try_from(self.random.magnitude(50_000)).expect("small");
            let end = self.plan.origin_bytes.min(place + piece);
            let bytes: Vec<u8> = (place..end).map(|place| byte_at(Who::Origin, place)).collect();
            if may_send {
                self.origin_state.sent += origin.peer_sends(&bytes);
                if self.origin_state.sent == self.plan.origin_bytes && !self.origin_state.finished {
                    self.origin_state.finished = true;
                    origin.peer_finishes();
                }
            }
            let count = usize::try_from(self.random.magnitude(60_000)).expect("small");
            for byte in origin.peer_reads(count) {
                let place = self.origin_state.received;
                assert_eq!(byte, byte_at(Who::Client, place), "byte {place} to the origin");
                self.origin_state.received += 1;
            }
            assert!(self.origin_state.received <= self.plan.client_bytes);
            self.maybe_reset(Who::Origin);
        }
        let after = self.soon();
        self.later(after, Event::OriginActs);
    }

    fn maybe_reset(&mut self, by: Who) {
        let Some((who, after)) = self.plan.reset else { return };
        let (state, connection) = match by {
            Who::Client => (&self.client_state, Some(&mut self.client)),
            Who::Origin => (&self.origin_state, self.origin.as_mut()),
        };
        if who == by && !self.reset_done && state.sent >= after {
            self.reset_done = true;
            connection.expect("it acts").peer_resets();
        }
    }
}

// The proxy: what its worker does, without its sockets.
impl World {
    fn proxy_acts(&mut self) {
        if self.closed.is_some() {
            return;
        }
        if let (Some(Session::Relay(relay)), Some(origin)) = (self.session.as_mut(), self.origin.as_mut()) {
            loop {
                match relay.turn(&mut self.client, origin, &mut self.tools, self.now) {
                    Ok(Progress::Unfinished) => {}
                    Ok(Progress::Waiting) => return,
                    Ok(Progress::Finished) => {
                        self.client.proxy_closes();
                        origin.proxy_closes();
                        return self.closed = Some(CloseReason::Finished);
                    }
                    Err(_) => return self.closed = Some(CloseReason::Reset),
                }
            }
        }
        self.converse();
        if matches!(self.session, Some(Session::Relay(_))) && self.closed.is_none() {
            self.proxy_acts();
        }
    }

    fn converse(&mut self) {
        while self.closed.is_none() {
            let wants_bytes = self.session.as_ref().is_some_and(Session::wants_bytes);
            if !wants_bytes {
                if self.client.ready.broken && !matches!(self.session, Some(Session::Relay(_))) {
                    self.step(Input::ClientReset);
                }
                return;
            }
            if self.shown < self.inbox.len() {
                let inbox = std::mem::take(&mut self.inbox);
                self.shown = inbox.len();
                let consumed = self.step(Input::Bytes(&inbox));
                assert!(consumed <= inbox.len());
                self.inbox = inbox;
                if consumed > 0 {
                    self.inbox.drain(..consumed);
                    self.shown = 0;
                }
                self.start_relay();
                continue;
            }
            if self.client_closed {
                self.step(Input::ClientClosed);
                return;
            }
            let mut buffer = [0; 700];
            match self.client.receive(&mut buffer) {
                Ok(0) => self.client_closed = true,
                Ok(count) => self.inbox.extend(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.step(Input::ClientReset);
                }
            }
        }
    }

    fn step(&mut self, input: Input<'_>) -> usize {
        let mut consumed = 0;
        let mut outputs = Vec::new();
        let session = self.session.take().expect("one step at a time");
        self.session = Some(session.step(
            input,
            &mut Context {
                now: self.now,
                epoch: self.epoch,
                rules: &self.rules,
                policy: &self.policy,
                facts: &mut self.facts,
                consumed: &mut consumed,
                out: &mut outputs,
            },
        ));
        for output in outputs {
            self.carry_out(output);
        }
        self.start_relay();
        consumed
    }

    fn carry_out(&mut self, output: Output) {
        let after = self.soon();
        match output {
            Output::Send(bytes, length) => {
                // Answers are short; a client whose window is smaller still is not drawn.
                let sent = &bytes[..usize::from(length)];
                self.client.proxy_answers(sent);
            }
            Output::Verify(login) => {
                assert_eq!((&*login.name, &*login.password), (&b"me"[..], &b"secret"[..]));
                self.later(after, Event::Verdict);
            }
            Output::Lookup(_, families) => {
                assert_eq!(families, Families::Both);
                self.later(after, Event::Answer(Family::V4));
                let after = self.soon();
                self.later(after, Event::Answer(Family::V6));
            }
            Output::Attempt(id, address) => self.attempt(id, address),
            Output::Abandon(id) => {
                assert!(self.attempts.remove(&id.0).is_some(), "only what was begun is given up");
            }
            Output::Adopt(id) => {
                assert!(self.attempts.remove(&id.0).is_some());
                assert!(self.attempts.is_empty(), "the losers were given up");
                self.origin = Some(Connection::new(self.plan.window));
                self.later(after, Event::OriginActs);
            }
            Output::Replied => self.replied += 1,
            Output::Count(_) => {}
            Output::Close(reason) => self.closed = Some(reason),
        }
    }

    fn attempt(&mut self, id: AttemptId, address: SocketAddr) {
        assert!(self.attempts.insert(id.0, address).is_none(), "an attempt is made once");
        let fate = self.plan.addresses.iter().find(|(ip, _)| *ip == address.ip());
        let (_, fate) = *fate.expect("an address of the plan");
        let local = SocketAddr::new(address.ip(), 40_000);
        match fate {
            Fate::Connects(after) => self.later(after, Event::Attempt(id, Ok(local))),
            Fate::Refuses(after) => self.later(after, Event::Attempt(id, Err(AttemptError::Refused))),
            Fate::Silent => {}
        }
    }

    /// What was read ahead of the relay goes first.
    fn start_relay(&mut self) {
        if let Some(Session::Relay(relay)) = self.session.as_mut()
            && std::mem::take(&mut self.plan.is_watched)
        {
            let mut watch = Watch::new(Dissector::Full);
            watch.see(Way::Up, &self.inbox);
            relay.begin_watch(watch);
        }
        if let Some(Session::Relay(relay)) = self.session.as_mut()
            && (!self.inbox.is_empty() || self.client_closed)
            && self.shown != usize::MAX
        {
            relay.preload(std::mem::take(&mut self.inbox), Vec::new(), &mut self.tools);
            if self.client_closed {
                relay.client_closed();
            }
            self.shown = usize::MAX;
        }
    }

    fn check_end(&mut self) {
        assert!(self.replied <= 1, "a request is answered once");
        let reason = self.closed.expect("closed");
        if reason != CloseReason::Finished {
            // Both peers go on until they are done, so only a reset may cut a relay short.
            let relayed = self.facts.reply == Some(Reply::Succeeded);
            assert!(
                !relayed || (self.reset_done && reason == CloseReason::Reset),
                "{reason}: {:?}",
                self.plan
            );
            assert_ne!(reason, CloseReason::Idle);
            return;
        }
        // Whatever the proxy has passed on is still to be read; then all of it has to have arrived.
        let rest = self.client.peer_reads(usize::MAX);
        self.client_reads(&rest);
        let origin = self.origin.as_mut().expect("a relay has an origin");
        for byte in origin.peer_reads(usize::MAX) {
            assert_eq!(byte, byte_at(Who::Client, self.origin_state.received));
            self.origin_state.received += 1;
        }
        assert_eq!(self.client_state.received, self.plan.origin_bytes, "all of the answer");
        assert_eq!(self.origin_state.received, self.plan.client_bytes, "all of the request");
        assert!(self.client.peer_sees_end() && origin.peer_sees_end(), "both ends were passed on");
    }
}

fn greeting(plan: &Plan) -> Vec<u8> {
    let mut bytes = match plan.password {
        Some(_) => b"\x05\x02\x00\x02\x01\x02me\x06secret".to_vec(),
        None => b"\x05\x01\x00".to_vec(),
    };
    bytes.extend([5, 1, 0]);
    match plan.addresses.first().filter(|_| !plan.by_name) {
        Some((IpAddr::V4(ip), _)) => {
            bytes.push(1);
            bytes.extend(ip.octets());
        }
        Some((IpAddr::V6(ip), _)) => {
            bytes.push(4);
            bytes.extend(ip.octets());
        }
        None => bytes.extend(b"\x03\x0borigin.test"),
    }
    bytes.extend(443_u16.to_be_bytes());
    bytes
}

/// How long the proxy's answers are, as far as what has arrived of them tells.
fn answer_length(answer: &[u8], password: bool) -> usize {
    let head = if password { 4 } else { 2 };
    match answer.get(head + 3) {
        Some(1) => head + 10,
        Some(4) => head + 22,
        Some(other) => panic!("address type {other}"),
        None => head + 4,
    }
}
