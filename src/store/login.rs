//! One log-in attempt: throttled, then by digest at once, else by the hashing pool.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::credentials::{Credentials, KEY_BYTES, Keys, PasswordDigest, ScramVerifier, Secret};
use super::hashing::{HashPool, QueueLimits, Queued};
use super::throttle::{Source, Throttle, ThrottleLimits};
use super::users::{Directory, Door, User};
use crate::limits::{
    FAILURE_SOURCES_MAX, FAILURES_PER_SOURCE_MAX, FAILURES_WINDOW, HASH_QUEUE_MAX, HASH_QUEUE_PER_SOURCE_MAX,
};

/// Why a log-in was refused. The peer is never told which; metrics are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusedBecause {
    /// Name, password or door.
    Credentials,
    /// Too many failures from the source; nothing was compared.
    Throttled,
    /// Too many log-ins wait to be hashed.
    QueueFull,
}

/// The end of a log-in attempt. Refusals are answered at the next tick by whoever asked.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The user's record at that moment.
    Accepted(Arc<User>),
    /// Not let in.
    Refused(RefusedBecause),
}

/// What is known of a log-in attempt at once.
#[derive(Clone, Debug)]
pub enum Check {
    /// The user's record at this moment.
    Accepted(Arc<User>),
    /// Not let in.
    Refused(RefusedBecause),
    /// The callback gets the [`Verdict`].
    Pending,
}

/// What a SCRAM client computes its proof with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The salt.
    pub salt: Vec<u8>,
    /// Rounds of PBKDF2.
    pub iterations: u32,
}

/// What a peer shows to be a user.
pub(super) enum Evidence<'a> {
    Password { digest: PasswordDigest, password: &'a [u8] },
    Proof { auth_message: &'a [u8], proof: [u8; KEY_BYTES] },
}

impl<'a> Evidence<'a> {
    pub(super) fn password(digest: PasswordDigest, password: &'a [u8]) -> Self {
        Self::Password { digest, password }
    }

    pub(super) fn proof(auth_message: &'a [u8], proof: [u8; KEY_BYTES]) -> Self {
        Self::Proof { auth_message, proof }
    }

    fn kept(&self) -> KeptEvidence {
        match *self {
            Self::Password { digest, password } => {
                KeptEvidence::Password { digest, password: Secret::new(password) }
            }
            Self::Proof { auth_message, proof } => {
                KeptEvidence::Proof { auth_message: auth_message.into(), proof }
            }
        }
    }
}

/// [`Evidence`] on its way to the pool.
enum KeptEvidence {
    Password { digest: PasswordDigest, password: Secret },
    Proof { auth_message: Box<[u8]>, proof: [u8; KEY_BYTES] },
}

/// An attempt that waits to be hashed.
pub(super) struct Attempt {
    door: Door,
    source: Source,
    name: Box<[u8]>,
    evidence: KeptEvidence,
    reply: Box<dyn FnOnce(Verdict) + Send>,
}

/// The threads that hash.
pub(super) type Pool = HashPool<Attempt>;

/// What every log-in passes.
pub(super) struct Gate {
    directory: Directory,
    keys: Keys,
    iterations: u32,
    throttle: Mutex<Throttle>,
    /// Sources in `throttle`: while there are none, nobody takes its lock.
    throttled_sources: AtomicUsize,
}

impl Gate {
    pub(super) fn new(iterations: u32) -> Result<Self, getrandom::Error> {
        Ok(Self {
            directory: Directory::new(),
            keys: Keys::random()?,
            iterations,
            throttle: Mutex::new(Throttle::new(ThrottleLimits {
                failures_per_source: FAILURES_PER_SOURCE_MAX,
                window: FAILURES_WINDOW,
                sources_count: FAILURE_SOURCES_MAX,
            })),
            throttled_sources: AtomicUsize::new(0),
        })
    }

    pub(super) fn start_pool(gate: &Arc<Self>, threads_count: usize) -> io::Result<Pool> {
        let gate = Arc::clone(gate);
        let limits = QueueLimits { items_count: HASH_QUEUE_MAX, items_per_source: HASH_QUEUE_PER_SOURCE_MAX };
        HashPool::start(threads_count, limits, move |attempt| gate.conclude(attempt, Instant::now()))
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn digest(&self, name: &[u8], password: &[u8]) -> PasswordDigest {
        self.keys.digest(name, password)
    }

    pub(super) fn challenge(&self, name: &[u8]) -> Challenge {
        let user = self.directory.find(name);
        match user.as_ref().and_then(|user| user.credentials.as_ref()) {
            Some(known) => Challenge { salt: known.salt().to_vec(), iterations: known.iterations() },
            None => Challenge { salt: self.keys.decoy_salt(name).to_vec(), iterations: self.iterations },
        }
    }

    /// Decides what can be decided fast, and leaves the rest to the pool.
    #[expect(clippy::too_many_arguments, reason = "one attempt is exactly these values")]
    pub(super) fn check(
        &self,
        pool: &Pool,
        door: Door,
        source: Source,
        name: &[u8],
        evidence: Evidence<'_>,
        now: Instant,
        reply: impl FnOnce(Verdict) + Send + 'static,
    ) -> Check {
        // Before everything else, right passwords included: a source that guesses must not see a hit.
        if self.throttles(source, now) {
            return Check::Refused(RefusedBecause::Throttled);
        }
        if let Evidence::Password { digest, .. } = &evidence
            && let Some(user) = self.directory.find(name)
            && let Some(accepted) = user.credentials.as_ref().and_then(|known| known.accepts_digest(digest))
        {
            return match self.verdict(Some(user).filter(|_| accepted), door, source, now) {
                Verdict::Accepted(user) => Check::Accepted(user),
                Verdict::Refused(because) => Check::Refused(because),
            };
        }
        let evidence = evidence.kept();
        let attempt = Attempt { door, source, name: name.into(), evidence, reply: Box::new(reply) };
        match pool.submit(source, attempt) {
            Queued::Taken => Check::Pending,
            Queued::Displaced(other) => {
                (other.reply)(Verdict::Refused(RefusedBecause::QueueFull));
                Check::Pending
            }
            Queued::Full(_) => Check::Refused(RefusedBecause::QueueFull),
        }
    }

    /// Decides an attempt whose turn it is in the pool. Everything is looked at anew: since it was queued its
    /// source may have failed too often, and another connection may have made the password's digest known, so
    /// that a browser's thirty connections cost one hash.
    fn conclude(&self, attempt: Attempt, now: Instant) {
        let Attempt { door, source, name, evidence, reply } = attempt;
        if self.throttles(source, now) {
            return reply(Verdict::Refused(RefusedBecause::Throttled));
        }
        let user = self.directory.find(&name);
        let accepted = match user.as_ref().and_then(|user| user.credentials.as_deref()) {
            Some(known) => accepts(known, &evidence),
            None => self.refuse_slowly(&name, &evidence),
        };
        reply(self.verdict(user.filter(|_| accepted), door, source, now));
    }

    /// Does for a name without a password what is done for one with: its time must not tell that it is unknown.
    fn refuse_slowly(&self, name: &[u8], evidence: &KeptEvidence) -> bool {
        match evidence {
            KeptEvidence::Password { password, .. } => {
                let salt = self.keys.decoy_salt(name);
                std::hint::black_box(ScramVerifier::derive(password.as_octets(), &salt, self.iterations));
            }
            // The verifier of a user is nearly always there, so that nothing slow is to be imitated.
            KeptEvidence::Proof { .. } => {}
        }
        false
    }

    /// Lets in who showed to be this user, if anyone did and through a door that is open.
    fn verdict(&self, shown: Option<Arc<User>>, door: Door, source: Source, now: Instant) -> Verdict {
        match shown.filter(|user| user.doors.are_open(door)) {
            Some(user) => Verdict::Accepted(user),
            None => self.failure(source, now),
        }
    }

    fn failure(&self, source: Source, now: Instant) -> Verdict {
        let mut throttle = self.throttle();
        throttle.failed(source, now);
        self.throttled_sources.store(throttle.sources_count(), Ordering::Release);
        Verdict::Refused(RefusedBecause::Credentials)
    }

    fn throttles(&self, source: Source, now: Instant) -> bool {
        if self.throttled_sources.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut throttle = self.throttle();
        let refuses = throttle.refuses(source, now);
        self.throttled_sources.store(throttle.sources_count(), Ordering::Release);
        refuses
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accepts(known: &Credentials, evidence: &KeptEvidence) -> bool {
    match evidence {
        KeptEvidence::Password { digest, password } => {
            known.accepts_digest(digest).unwrap_or_else(|| known.accepts(password.as_octets(), *digest))
        }
        KeptEvidence::Proof { auth_message, proof } => known.verifier().accepts_proof(auth_message, proof),
    }
}
