//! One association of the admin channel as a value: bytes, verdicts and replies come in; what is to be checked,
//! asked and sent comes out. It opens nothing and reads no clock.
//!
//! The first octet chooses the version; each version has its own file with its dialogue. The shell
//! (`server.rs`) takes outputs one at a time, so that it decides how fast an association is served.

mod v1;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipo_protocol::Version;
use pipo_protocol::v1::{Login, LoginStatus, Reply, Request};

use crate::limits;
use crate::store::{Role, User};

/// What the shell tells a session.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// Bytes of the peer, cut anywhere.
    Bytes(&'a [u8]),
    /// Whose name and password were presented; `None`: they were refused.
    Verdict(Option<Arc<User>>),
    /// The answer to [`Output::Ask`].
    Reply(Reply),
}

/// What a session asks of the shell.
#[derive(Debug)]
pub(super) enum Output {
    /// Check name and password; a verdict is to follow.
    Check(Login),
    /// Carry out a request; its reply is to follow.
    Ask(Request),
    /// Send this as one message.
    Send(Vec<u8>),
    /// Close in order, after everything that was sent. The last output.
    Close(Ending),
}

/// Why a session ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The first octet was this, which is no version that is spoken here.
    Version(u8),
    /// Name, password, door or role.
    LoginRefused,
    /// The log-in was not complete in time.
    LoginTimeout,
}

/// An association from its opening to its end.
#[derive(Debug)]
pub(super) struct Session {
    arrived: Arrived,
    stage: Stage,
    /// Log-ins end before this moment.
    login_until: Instant,
    /// Ticks of refusals count from here.
    epoch: Instant,
}

/// The stages in the order of the dialogue.
#[derive(Debug)]
enum Stage {
    /// Nothing has arrived.
    Begin,
    /// Version 1, see its file.
    V1(v1::Dialogue),
    /// Says good-bye, then [`Output::Close`].
    Parting(Option<Vec<u8>>, Ending),
    Over,
}

impl Session {
    /// An association that was opened just now.
    pub(super) fn new(epoch: Instant, now: Instant) -> Self {
        Self {
            arrived: Arrived::default(),
            stage: Stage::Begin,
            login_until: now + limits::ADMIN_LOGIN_TIME_MAX,
            epoch,
        }
    }

    /// Takes an input. What follows from it are the next outputs.
    pub(super) fn handle(&mut self, input: Input<'_>, now: Instant) {
        match (input, &mut self.stage) {
            (Input::Bytes(bytes), Stage::Begin | Stage::V1(_)) => self.arrived.push(bytes),
            (Input::Verdict(user), Stage::V1(dialogue)) => {
                dialogue.verdict(user, next_tick(self.epoch, now));
            }
            (Input::Reply(reply), Stage::V1(dialogue)) => dialogue.reply(&reply),
            // Nothing is expected any more, or not yet.
            (Input::Verdict(_) | Input::Reply(_), Stage::Begin)
            | (Input::Bytes(_) | Input::Verdict(_) | Input::Reply(_), Stage::Parting(..) | Stage::Over) => {}
        }
    }

    /// The next output, if there is one before further input or a later moment.
    pub(super) fn next_output(&mut self, now: Instant) -> Option<Output> {
        if self.user().is_none() && now >= self.login_until && !self.is_parting() {
            self.stage = Stage::Parting(None, Ending::LoginTimeout);
        }
        loop {
            match &mut self.stage {
                Stage::Begin => match Version::choose(self.arrived.bytes())? {
                    Version::V1 => self.stage = Stage::V1(v1::Dialogue::default()),
                    Version::V2 => self.stage = unsupported(2),
                    Version::Unsupported(version) => self.stage = unsupported(version),
                },
                Stage::V1(dialogue) => match dialogue.next_output(&mut self.arrived, now)? {
                    v1::Step::Output(output) => return Some(output),
                    v1::Step::Refuse => self.stage = refused(),
                },
                Stage::Parting(farewell, ending) => match farewell.take() {
                    Some(message) => return Some(Output::Send(message)),
                    None => {
                        let ending = *ending;
                        self.stage = Stage::Over;
                        return Some(Output::Close(ending));
                    }
                },
                Stage::Over => return None,
            }
        }
    }

    /// When [`Session::next_output`] is to be asked although nothing came in.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Begin => Some(self.login_until),
            Stage::V1(dialogue) if dialogue.user().is_none() => {
                Some(dialogue.deadline().map_or(self.login_until, |at| at.min(self.login_until)))
            }
            Stage::V1(_) | Stage::Parting(..) | Stage::Over => None,
        }
    }

    /// Who has logged in.
    pub(super) fn user(&self) -> Option<&Arc<User>> {
        match &self.stage {
            Stage::V1(dialogue) => dialogue.user(),
            Stage::Begin | Stage::Parting(..) | Stage::Over => None,
        }
    }

    /// Whether somebody of that role may be here.
    pub(super) fn admits(&self, role: Role) -> bool {
        match self.stage {
            Stage::V1(_) => role == Role::Admin,
            Stage::Begin | Stage::Parting(..) | Stage::Over => true,
        }
    }

    /// Bytes that have arrived and are not understood yet.
    pub(super) fn backlog_bytes(&self) -> usize {
        self.arrived.bytes().len()
    }

    fn is_parting(&self) -> bool {
        match self.stage {
            Stage::Parting(..) | Stage::Over => true,
            Stage::Begin | Stage::V1(_) => false,
        }
    }
}

/// Whatever is spoken instead: whoever understands this answer knows at least version 1.
fn unsupported(version: u8) -> Stage {
    Stage::Parting(Some(LoginStatus::UnsupportedVersion.encode().to_vec()), Ending::Version(version))
}

fn refused() -> Stage {
    Stage::Parting(Some(LoginStatus::Refused.encode().to_vec()), Ending::LoginRefused)
}

/// The first tick after `now`, counted from `epoch`: the time of a refusal tells nothing.
fn next_tick(epoch: Instant, now: Instant) -> Instant {
    let tick = limits::REFUSAL_TICK.as_millis().max(1);
    let past = now.saturating_duration_since(epoch).as_millis() % tick;
    now + Duration::from_millis(u64::try_from(tick - past).unwrap_or(0))
}

/// Bytes that wait to be understood. Taking from the front costs nothing until all are taken.
#[derive(Default)]
struct Arrived {
    bytes: Vec<u8>,
    taken: usize,
}

impl Arrived {
    fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    fn take(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.bytes.len());
        if self.taken == self.bytes.len() {
            self.taken = 0;
            self.bytes.clear();
            self.bytes.shrink_to(limits::ADMIN_BACKLOG_BYTES);
        }
    }
}

/// The bytes may hold a password.
impl std::fmt::Debug for Arrived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrived").field("bytes_count", &self.bytes().len()).finish()
    }
}

#[cfg(test)]
mod tests;
