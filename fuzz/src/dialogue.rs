//! Whole SOCKS dialogues through `proxy::session`: the stages are driven as a worker drives them, with octets,
//! answers and time that a script chooses; and every promise that the worker relies on is checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use socks5d::limits::{CANDIDATES_MAX, PASSWORD_REQUEST_BYTES_MAX};
use socks5d::logging::CloseReason;
use socks5d::proxy::connect::AttemptError;
use socks5d::proxy::policy::{Policy, canonical};
use socks5d::proxy::session::{
    AttemptId, Authentication, Context, Facts, Families, Input, Output, Rules, Session, Target,
};
use socks5d::proxy::wire::Reply;
use socks5d::resolver::{Family, Outcome};
use socks5d::store::{Store, StoreOptions, User};

use crate::Judged;
use crate::script::{Script, pieces};

/// Steps after the end of a script until the session has to be over: each step towards the end is a deadline,
/// and a session has no more of them than this.
const STEPS_TO_END_MAX: usize = 64;

/// A session whose client, resolver, store and origins do whatever the script says, also what they never do.
/// Left alone it comes to an end.
pub fn dialogue(octets: &[u8]) -> Judged {
    let mut script = Script::new(octets);
    let mut world = World::new(&mut script);
    while !script.is_over() && world.closed.is_none() {
        world.happen(&mut script);
    }
    for _ in 0..STEPS_TO_END_MAX {
        if world.closed.is_some() || world.lives_for_ever() {
            return Judged::from(world.facts.reply == Some(Reply::Succeeded));
        }
        world.go_on();
    }
    panic!("the session does not end: {:?}", world.session);
}

/// A session that gets every answer at once takes the same steps whether its octets come in one piece or in
/// any others.
pub fn dialogue_split(octets: &[u8]) -> Judged {
    let mut script = Script::new(octets);
    let cuts = script.piece();
    let setting = script.piece();
    let octets = script.rest();
    let whole = told([octets].into_iter(), setting);
    for cuts in [cuts, &[1]] {
        assert_eq!(told(pieces(octets, cuts), setting), whole, "in pieces of {cuts:?}");
    }
    Judged::from(whole.contains("Succeeded"))
}

/// All that a session says and comes to.
fn told<'a>(pieces: impl Iterator<Item = &'a [u8]>, setting: &[u8]) -> String {
    let mut world = World::new(&mut Script::new(setting));
    for piece in pieces {
        world.inbox.extend_from_slice(piece);
        world.show_inbox();
        while world.closed.is_none() && world.answer_at_once() {
            world.show_inbox();
        }
    }
    let stage = world.stage();
    let World { facts, outputs, inbox, .. } = world;
    format!("{outputs:?} {stage:?} {:?} {:?} {:?} {inbox:?}", facts.reply, facts.target, facts.resolved)
}

/// A session and what its worker knows of it.
struct World {
    epoch: Instant,
    now: Instant,
    rules: Rules,
    policy: Policy,
    facts: Facts,
    session: Option<Session>,
    /// What the client has sent and no stage has consumed.
    inbox: Vec<u8>,
    /// Every output, in order.
    outputs: Vec<Output>,
    /// A password waits for its verdict.
    verifying: bool,
    /// The store has said yes.
    accepted: bool,
    /// Families whose answers are awaited.
    asked: Vec<Family>,
    lookups_count: usize,
    /// Attempts under way, in order; the next id is `attempts_count`.
    attempts: Vec<(AttemptId, SocketAddr)>,
    attempts_count: u8,
    adopted: Option<SocketAddr>,
    replies_count: usize,
    /// The first octets that the client was sent.
    method: Option<u8>,
    closed: Option<CloseReason>,
}

/// The one user there is; starting a store takes threads, so once is enough.
fn user() -> Arc<User> {
    static STORE: LazyLock<Arc<Store>> = LazyLock::new(|| {
        Store::start(Vec::new(), StoreOptions::default()).unwrap_or_else(|error| panic!("{error}"))
    });
    STORE.directory().anonymous()
}

/// Addresses of all the kinds that a policy tells apart.
const ADDRESSES: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x7f00, 1)),
    IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xa00, 1)),
];

impl World {
    fn new(script: &mut Script<'_>) -> Self {
        let control = script.octet();
        let auth = match control & 3 {
            0 => Authentication::Required,
            1 => Authentication::Optional,
            _ => Authentication::None,
        };
        let rules = Rules {
            auth,
            connect_timeout: Duration::from_millis(100 + u64::from(script.octet()) * 100),
            idle_timeout: (control & 4 == 0).then_some(Duration::from_secs(300)),
            half_closed_timeout: Duration::from_secs(60),
        };
        let policy = Policy {
            deny_private: control & 8 != 0,
            listeners: vec![SocketAddr::from(([0, 0, 0, 0], 1080))],
            bind_outgoing: if control & 16 == 0 { Vec::new() } else { vec![ADDRESSES[0]] },
            ipv6_route: control & 32 == 0,
            local_addresses: vec![ADDRESSES[1]],
        };
        let epoch = Instant::now();
        let now = epoch + Duration::from_millis(u64::from(script.octet()));
        Self {
            epoch,
            now,
            rules,
            policy,
            facts: Facts::new(user()),
            session: Some(Session::new(now + Duration::from_secs(10))),
            inbox: Vec::new(),
            outputs: Vec::new(),
            verifying: false,
            accepted: false,
            asked: Vec::new(),
            lookups_count: 0,
            attempts: Vec::new(),
            attempts_count: 0,
            adopted: None,
            replies_count: 0,
            method: None,
            closed: None,
        }
    }

    fn stage(&self) -> &'static str {
        self.session.as_ref().map_or("gone", |session| session.stage().as_str())
    }

    fn deadline(&self) -> Option<Instant> {
        self.session.as_ref().and_then(|session| session.deadline(&self.rules))
    }

    /// A relay without a time limit ends with its peers only.
    fn lives_for_ever(&self) -> bool {
        self.stage() == "relay" && self.deadline().is_none()
    }
}

// What happens to the session.
impl World {
    /// One thing that the script says, probable or not.
    fn happen(&mut self, script: &mut Script<'_>) {
        let kind = script.octet();
        match kind % 16 {
            0..=3 => {
                self.inbox.extend_from_slice(script.piece());
                self.show_inbox();
            }
            4 | 5 => drop(self.answer_at_once()),
            6 => self.tick(),
            7 => {
                self.now += Duration::from_millis(u64::from(script.number()));
                self.step(Input::Tick);
            }
            8 => self.verdict((kind & 16 != 0).then(user)),
            9 => self.answer(Family::V4, outcome(script)),
            10 => self.answer(Family::V6, outcome(script)),
            11 => self.connected(AttemptId(script.octet() % 10)),
            12 | 13 => {
                let errors = [
                    AttemptError::Refused,
                    AttemptError::TimedOut,
                    AttemptError::HostUnreachable,
                    AttemptError::NetworkUnreachable,
                    AttemptError::Other,
                ];
                let error = errors[usize::from(script.octet()) % errors.len()];
                self.failed(AttemptId(script.octet() % 10), error);
            }
            14 => self.step(Input::ClientClosed),
            _ if kind & 16 != 0 => self.step(Input::ClientReset),
            _ => self.step(Input::Bytes(&[])),
        }
    }

    /// What a worker does when nobody says anything any more.
    fn go_on(&mut self) {
        if let Some(family) = self.asked.first() {
            self.answer(*family, Outcome::Failed); // The resolver always answers.
        } else {
            self.tick();
        }
    }

    /// Gives the oldest question that is open its most usual answer. `false`: none is open.
    fn answer_at_once(&mut self) -> bool {
        if self.verifying {
            self.verdict(Some(user()));
        } else if let Some(family) = self.asked.first().copied() {
            let fits = |ip: &IpAddr| ip.is_ipv4() == (family == Family::V4);
            self.answer(family, Outcome::Addresses(ADDRESSES.into_iter().filter(fits).collect()));
        } else if let Some((id, _)) = self.attempts.first().copied() {
            if self.attempts_count < 3 {
                self.failed(id, AttemptError::Refused);
            } else {
                self.connected(id);
            }
        } else {
            return false;
        }
        true
    }

    fn verdict(&mut self, verdict: Option<Arc<User>>) {
        if std::mem::take(&mut self.verifying) && self.stage() == "authenticate" {
            self.accepted = verdict.is_some();
        }
        self.step(Input::Verdict(verdict));
    }

    /// An answer, late perhaps, but only to what was asked, and once: the deadlines rely on that.
    fn answer(&mut self, family: Family, outcome: Outcome) {
        let Some(at) = self.asked.iter().position(|asked| *asked == family) else { return };
        self.asked.remove(at);
        self.step(Input::Answer(family, outcome));
    }

    /// The attempt stays known until the session has adopted or dropped it.
    fn connected(&mut self, id: AttemptId) {
        self.step(Input::Connected(id, SocketAddr::from(([192, 0, 2, 9], 40_000))));
    }

    fn failed(&mut self, id: AttemptId, error: AttemptError) {
        self.attempts.retain(|(under_way, _)| *under_way != id);
        self.step(Input::AttemptFailed(id, error));
    }

    /// Goes to the deadline. It has to be of use, or a worker would spin.
    fn tick(&mut self) {
        let Some(deadline) = self.deadline() else { return };
        self.now = self.now.max(deadline);
        self.step(Input::Tick);
        let next = self.deadline();
        assert!(
            self.closed.is_some() || next.is_none_or(|next| next > self.now),
            "after a tick the deadline is still due: {:?}",
            self.session
        );
    }

    /// Shows what the client has sent for as long as the stage takes some of it.
    fn show_inbox(&mut self) {
        while self.closed.is_none() && self.session.as_ref().is_some_and(Session::wants_bytes) {
            let stage = self.stage();
            let inbox = std::mem::take(&mut self.inbox);
            let consumed = self.step_counting(Input::Bytes(&inbox));
            assert!(consumed <= inbox.len(), "{consumed} of {} octets consumed", inbox.len());
            self.inbox = inbox;
            self.inbox.drain(..consumed);
            // A stage that comes next has seen nothing yet.
            if consumed == 0 && self.stage() == stage {
                let octets = self.inbox.len();
                assert!(octets < PASSWORD_REQUEST_BYTES_MAX, "{octets} octets and no message in {stage}");
                return;
            }
        }
    }

    fn step(&mut self, input: Input<'_>) {
        let takes_bytes = matches!(input, Input::Bytes(_));
        let consumed = self.step_counting(input);
        assert!(consumed == 0 || takes_bytes, "{consumed} octets consumed that were not shown");
    }

    fn step_counting(&mut self, input: Input<'_>) -> usize {
        let (mut consumed, mut outputs) = (0, Vec::new());
        let Some(session) = self.session.take().filter(|_| self.closed.is_none()) else { return 0 };
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
        outputs.iter().for_each(|output| self.carry_out(output));
        self.outputs.extend(outputs);
        self.check();
        consumed
    }
}

/// An answer of the resolver: up to 15 addresses, of whatever family.
fn outcome(script: &mut Script<'_>) -> Outcome {
    let control = script.octet();
    match control >> 4 {
        0 => Outcome::NotFound,
        1 => Outcome::Failed,
        _ => {
            let place = |_| ADDRESSES[usize::from(script.octet()) % ADDRESSES.len()];
            Outcome::Addresses((0..control & 15).map(place).collect())
        }
    }
}

// What the session says.
impl World {
    fn carry_out(&mut self, output: &Output) {
        assert!(self.closed.is_none(), "{output:?} after the end");
        match output {
            Output::Send(bytes, length) => self.sent(bytes.get(..usize::from(*length))),
            Output::Verify(login) => {
                assert!(!self.verifying && !self.accepted, "one password is checked once");
                assert!((1..=255).contains(&login.name.len()) && (1..=255).contains(&login.password.len()));
                self.verifying = true;
            }
            Output::Lookup(_, families) => {
                self.lookups_count += 1;
                assert_eq!(self.lookups_count, 1, "a session has one name");
                self.asked = match families {
                    Families::V4 => vec![Family::V4],
                    Families::V6 => vec![Family::V6],
                    Families::Both => vec![Family::V6, Family::V4],
                };
            }
            Output::Attempt(id, address) => {
                assert_eq!(id.0, self.attempts_count, "attempts are counted");
                assert!(usize::from(id.0) < CANDIDATES_MAX && self.adopted.is_none());
                assert_eq!(self.policy.check(*address), Ok(()), "{address}");
                assert_eq!(canonical(*address), *address);
                self.attempts_count += 1;
                self.attempts.push((*id, *address));
            }
            Output::Abandon(id) => assert!(self.take(*id).is_some(), "{id:?} was not under way"),
            Output::Adopt(id) => {
                self.adopted = self.take(*id);
                assert!(self.adopted.is_some(), "{id:?} was not under way");
                assert!(self.attempts.is_empty(), "the others were not given up");
            }
            Output::Replied => {
                self.replies_count += 1;
                assert_eq!(self.replies_count, 1, "one request has one reply");
            }
            Output::Count(_) => {}
            Output::Close(reason) => self.closed = Some(*reason),
        }
    }

    fn take(&mut self, id: AttemptId) -> Option<SocketAddr> {
        let at = self.attempts.iter().position(|(under_way, _)| *under_way == id)?;
        Some(self.attempts.remove(at).1)
    }

    /// The first message is the choice of a method, the last a reply.
    fn sent(&mut self, message: Option<&[u8]>) {
        let Some(message) = message else { panic!("longer than any message") };
        assert_eq!(self.replies_count, 0, "{message:?} after the reply");
        match (self.method, message) {
            (None, [5, method @ (0 | 2 | 0xff)]) => {
                let fits = match self.rules.auth {
                    Authentication::Required => *method != 0,
                    Authentication::Optional => true,
                    Authentication::None => *method != 2,
                };
                assert!(fits, "method {method} with {:?}", self.rules.auth);
                self.method = Some(*method);
            }
            (Some(2), [1, status]) => assert_eq!(*status == 0, self.accepted, "status {status}"),
            (Some(_), [5, reply, 0, 1, _, _, _, _, _, _] | [5, reply, 0, 4, .., _, _]) => {
                assert!(self.may_ask(), "a reply to somebody unknown");
                assert_eq!(*reply == 0, self.adopted.is_some(), "reply {reply}");
            }
            other => panic!("{other:?} is no message of this dialogue"),
        }
    }

    /// Was the client let in?
    fn may_ask(&self) -> bool {
        self.method == Some(0) || (self.method == Some(2) && self.accepted)
    }

    /// What holds after every step.
    fn check(&self) {
        let stage = self.stage();
        if matches!(stage, "request" | "resolve" | "connect" | "relay") {
            assert!(self.may_ask(), "{stage} without a log-in");
        }
        assert!(stage != "relay" || self.adopted.is_some(), "a relay without an origin");
        assert!(self.adopted.is_none() || stage == "relay" || self.closed.is_some(), "{stage} after a relay");
        // The end closes whatever is still open.
        let attempts_allowed = stage == "connect" || self.closed.is_some();
        assert!(attempts_allowed || self.attempts.is_empty(), "attempts go on in {stage}");
        assert_eq!(self.facts.reply.is_some(), self.replies_count == 1);
        assert!(self.replies_count == 0 || matches!(stage, "relay" | "closing"), "{stage} after the reply");
        if let Some(origin) = self.adopted {
            assert_eq!(self.facts.resolved, Some(origin));
            assert_ne!(self.facts.target, Target::Unknown);
        }
        if self.closed.is_none() && !matches!(stage, "resolve" | "relay") {
            assert!(self.deadline().is_some(), "{stage} without a deadline");
        }
    }
}
