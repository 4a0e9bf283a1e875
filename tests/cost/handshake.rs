//! What the pure stages of one handshake allocate, counted step by step and asserted exactly: a session that is
//! set up does what it can without the heap.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use expect_test::{Expect, expect};
use socks5d::proxy::policy::Policy;
use socks5d::proxy::session::{AttemptId, Authentication, Context, Facts, Input, Output, Rules, Session};
use socks5d::resolver::{Family, Outcome};
use socks5d::store::{Store, StoreOptions, User};

#[test]
fn a_session_by_address_allocates_once() {
    check(
        Authentication::None,
        &[
            Step::Bytes("greeting", b"\x05\x01\x00"),
            Step::Bytes("request", b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"),
            Step::Connected,
        ],
        &expect![[r#"
            greeting: 0 allocations, 0 bytes
            request: 1 allocations, 976 bytes
            connected: 0 allocations, 0 bytes
            in all: 1 allocations, 976 bytes
        "#]],
    );
}

#[test]
fn a_session_by_name_allocates_for_the_name_and_its_stages() {
    check(
        Authentication::None,
        &[
            Step::Bytes("greeting", b"\x05\x01\x00"),
            Step::Bytes("request", b"\x05\x01\x00\x03\x0bexample.org\x00\x50"),
            Step::Answer(Family::V6),
            Step::Answer(Family::V4),
            Step::Connected,
        ],
        &expect![[r#"
            greeting: 0 allocations, 0 bytes
            request: 4 allocations, 142 bytes
            answer V6: 1 allocations, 976 bytes
            answer V4: 0 allocations, 0 bytes
            connected: 0 allocations, 0 bytes
            in all: 5 allocations, 1118 bytes
        "#]],
    );
}

#[test]
fn a_password_allocates_for_itself_and_its_user() {
    check(
        Authentication::Required,
        &[
            Step::Bytes("greeting", b"\x05\x01\x02"),
            Step::Bytes("password", b"\x01\x02me\x06secret"),
            Step::Verdict,
            Step::Bytes("request", b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"),
            Step::Connected,
        ],
        &expect![[r#"
            greeting: 0 allocations, 0 bytes
            password: 2 allocations, 8 bytes
            verdict: 0 allocations, 0 bytes
            request: 1 allocations, 976 bytes
            connected: 0 allocations, 0 bytes
            in all: 3 allocations, 984 bytes
        "#]],
    );
}

enum Step {
    Bytes(&'static str, &'static [u8]),
    Verdict,
    Answer(Family),
    Connected,
}

/// Takes the steps and compares a line for each with what is expected.
fn check(auth: Authentication, steps: &[Step], expected: &Expect) {
    let mut bench = Bench::new(auth);
    let mut table = String::new();
    let (mut count, mut bytes) = (0, 0);
    for step in steps {
        let (name, cost) = bench.take(step);
        writeln!(table, "{name}: {} allocations, {} bytes", cost.count_total, cost.bytes_total)
            .expect("text");
        count += cost.count_total;
        bytes += cost.bytes_total;
    }
    writeln!(table, "in all: {count} allocations, {bytes} bytes").expect("text");
    println!("{table}");
    assert!(matches!(bench.session, Some(Session::Relay(_))), "{:?}", bench.session);
    expected.assert_eq(&table);
}

/// A session and what its worker has ready for every step.
struct Bench {
    now: Instant,
    rules: Rules,
    policy: Policy,
    facts: Facts,
    session: Option<Session>,
    user: Arc<User>,
    outputs: Vec<Output>,
}

impl Bench {
    fn new(auth: Authentication) -> Self {
        let store = Store::start(Vec::new(), StoreOptions::default()).expect("no user can be wrong");
        let (user, now) = (store.directory().anonymous(), Instant::now());
        Self {
            now,
            rules: Rules {
                auth,
                connect_timeout: Duration::from_secs(10),
                idle_timeout: None,
                half_closed_timeout: Duration::from_secs(60),
            },
            policy: Policy { ipv6_route: true, ..Policy::default() },
            facts: Facts::new(Arc::clone(&user)),
            session: Some(Session::new(now + Duration::from_secs(10))),
            user,
            outputs: Vec::with_capacity(64),
        }
    }

    fn take(&mut self, step: &Step) -> (String, allocation_counter::AllocationInfo) {
        let (name, input) = match step {
            Step::Bytes(name, bytes) => ((*name).to_owned(), Input::Bytes(bytes)),
            Step::Verdict => ("verdict".to_owned(), Input::Verdict(Some(Arc::clone(&self.user)))),
            Step::Answer(family) => {
                let ip: IpAddr = match family {
                    Family::V4 => IpAddr::from([192, 0, 2, 1]),
                    Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
                };
                (format!("answer {family:?}"), Input::Answer(*family, Outcome::Addresses([ip].into())))
            }
            Step::Connected => {
                let local = SocketAddr::from(([192, 0, 2, 9], 40_000));
                ("connected".to_owned(), Input::Connected(AttemptId(0), local))
            }
        };
        let session = self.session.take().expect("one step at a time");
        let mut consumed = 0;
        let mut context = Context {
            now: self.now,
            epoch: self.now,
            rules: &self.rules,
            policy: &self.policy,
            facts: &mut self.facts,
            consumed: &mut consumed,
            out: &mut self.outputs,
        };
        let mut next = None;
        let cost = measure(|| next = Some(session.step(input, &mut context)));
        self.session = next;
        self.outputs.clear();
        (name, cost)
    }
}
