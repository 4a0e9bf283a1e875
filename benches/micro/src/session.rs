//! Stages of a session, fed with what its worker would feed them: no socket, no clock.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socks5d::proxy::policy::Policy;
use socks5d::proxy::session::{AttemptId, Authentication, Context, Facts, Input, Output, Rules, Session};
use socks5d::resolver::{Family, Outcome};
use socks5d::store::{Store, StoreOptions, User};

use crate::wire::{METHODS, PASSWORD, REQUEST_ADDRESS, REQUEST_NAME};
use crate::{Work, repeated};

/// What surrounds the sessions of one worker.
struct Dialogue {
    now: Instant,
    rules: Rules,
    policy: Policy,
    user: Arc<User>,
    out: Vec<Output>,
}

impl Dialogue {
    fn new(auth: Authentication) -> Self {
        let store = Store::start(Vec::new(), StoreOptions { hash_threads: 1, ..StoreOptions::default() });
        let rules = Rules {
            auth,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(300)),
            half_closed_timeout: Duration::from_secs(60),
        };
        Self {
            now: Instant::now(),
            rules,
            policy: Policy { ipv6_route: true, ..Policy::default() },
            user: store.expect("a store without users can be started").directory().anonymous(),
            out: Vec::with_capacity(16),
        }
    }

    /// One step, and the outputs carried out, that is forgotten.
    fn step(&mut self, session: Session, facts: &mut Facts, input: Input<'_>) -> Session {
        let mut context = Context {
            now: self.now,
            epoch: self.now,
            rules: &self.rules,
            policy: &self.policy,
            facts,
            consumed: &mut 0,
            out: &mut self.out,
        };
        let session = session.step(black_box(input), &mut context);
        black_box(&self.out);
        self.out.clear();
        session
    }

    fn session(&self) -> (Session, Facts) {
        (Session::new(self.now + Duration::from_secs(10)), Facts::new(Arc::clone(&self.user)))
    }

    fn by_address(&mut self) -> Session {
        let (session, mut facts) = self.session();
        let session = self.step(session, &mut facts, Input::Bytes(METHODS));
        let session = self.step(session, &mut facts, Input::Bytes(REQUEST_ADDRESS));
        self.step(session, &mut facts, Input::Connected(AttemptId(0), local()))
    }

    fn by_name(&mut self, addresses: &Arc<[IpAddr]>) -> Session {
        let (session, mut facts) = self.session();
        let session = self.step(session, &mut facts, Input::Bytes(METHODS));
        let session = self.step(session, &mut facts, Input::Bytes(PASSWORD));
        let verdict = Input::Verdict(Some(Arc::clone(&self.user)));
        let session = self.step(session, &mut facts, verdict);
        let session = self.step(session, &mut facts, Input::Bytes(REQUEST_NAME));
        let session = self.step(session, &mut facts, Input::Answer(Family::V6, Outcome::NotFound));
        let found = Outcome::Addresses(Arc::clone(addresses));
        let session = self.step(session, &mut facts, Input::Answer(Family::V4, found));
        self.step(session, &mut facts, Input::Connected(AttemptId(0), local()))
    }
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 40_000))
}

/// A new session takes its method selection and asks for the request.
pub(crate) fn one_step() -> Work {
    let mut dialogue = Dialogue::new(Authentication::None);
    let mut facts = Facts::new(Arc::clone(&dialogue.user));
    let mut once = move || {
        let session = Session::new(dialogue.now);
        dialogue.step(session, &mut facts, Input::Bytes(METHODS))
    };
    assert_eq!(once().stage().as_str(), "request", "the step was taken");
    repeated(once)
}

/// Accepted, method, request, attempt, connected: up to the relay.
pub(crate) fn handshake_by_address() -> Work {
    let mut dialogue = Dialogue::new(Authentication::None);
    assert_eq!(dialogue.by_address().stage().as_str(), "relay", "the handshake is over");
    repeated(move || dialogue.by_address())
}

/// The same with the password dialogue and both families of a name; what store and resolver do is not in it.
pub(crate) fn handshake_by_name() -> Work {
    let mut dialogue = Dialogue::new(Authentication::Required);
    let addresses: Arc<[IpAddr]> = Arc::new([IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])]);
    assert_eq!(dialogue.by_name(&addresses).stage().as_str(), "relay", "the handshake is over");
    repeated(move || dialogue.by_name(&addresses))
}
