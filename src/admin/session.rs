//! One association of the admin channel as a value: bytes, verdicts and replies come in; what is to be checked,
//! asked and sent comes out. It opens nothing and reads no clock.
//!
//! The first octet chooses the version; each version has its own file with its dialogue. The shell
//! (`server.rs`) takes outputs one at a time, so that it decides how fast an association is served.

mod v1;
pub(super) mod v2;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipo_protocol::v1::{Login, LoginStatus, Reply, Request};
use pipo_protocol::v2::{self as wire2, Header, Status};
use pipo_protocol::{Name, Version};

use crate::limits;
use crate::store::{KEY_BYTES, Role, User, Verdict};

/// What the shell tells a session.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// Bytes of the peer, part of a message that goes on.
    Piece(&'a [u8]),
    /// Bytes of the peer that end a message.
    Message(&'a [u8]),
    /// What became of [`Output::Check`] or [`Output::Prove`]; the number of the last event.
    Verdict(Verdict, u64),
    /// The answer to [`Output::Ask`].
    Reply(Reply),
    /// The answer to [`Output::Challenge`].
    Seasoning(&'a v2::Seasoning),
}

/// What a session asks of the shell.
#[derive(Debug)]
pub(super) enum Output {
    /// Check name and password; a verdict is to follow.
    Check(Login),
    /// Say what a client of that name computes its proof with.
    Challenge(Name),
    /// Check a proof; a verdict is to follow.
    Prove {
        /// Whose.
        user: Name,
        /// What it is over.
        auth_message: Vec<u8>,
        /// ClientProof.
        proof: [u8; KEY_BYTES],
    },
    /// Carry out a request of version 1; its reply is to follow.
    Ask(Request),
    /// Carry out a request of version 2, which is answered by itself ([`v2::Dialogue::answered`]).
    Request(Header, Box<wire2::Request>),
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
    /// Octets that are no record of version 2.
    Malformed,
    /// The peer asked for it.
    Goodbye,
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
    /// Version 2, see its file.
    V2(Box<v2::Dialogue>),
    /// Says good-bye, then [`Output::Close`].
    Parting(VecDeque<Vec<u8>>, Ending),
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
        if let (Input::Piece(bytes) | Input::Message(bytes), Stage::Begin) = (&input, &self.stage) {
            self.stage = match Version::choose(bytes) {
                None => Stage::Begin,
                Some(Version::V1) => Stage::V1(v1::Dialogue::default()),
                Some(Version::V2) => Stage::V2(Box::default()),
                Some(Version::Unsupported(version)) => unsupported(version),
            };
        }
        match (input, &mut self.stage) {
            (Input::Piece(bytes) | Input::Message(bytes), Stage::V1(_)) => self.arrived.push(bytes),
            (Input::Piece(bytes), Stage::V2(dialogue)) => dialogue.piece(bytes),
            (Input::Message(bytes), Stage::V2(dialogue)) => {
                dialogue.piece(bytes);
                dialogue.message_ended();
            }
            (Input::Verdict(verdict, _), Stage::V1(dialogue)) => {
                let user = match verdict {
                    Verdict::Accepted(user) => Some(user),
                    Verdict::Refused(_) => None,
                };
                dialogue.verdict(user, next_tick(self.epoch, now));
            }
            (Input::Verdict(verdict, as_of), Stage::V2(dialogue)) => {
                dialogue.verdict(verdict, as_of, next_tick(self.epoch, now));
            }
            (Input::Reply(reply), Stage::V1(dialogue)) => dialogue.reply(&reply),
            (Input::Seasoning(seasoning), Stage::V2(dialogue)) => dialogue.season(seasoning),
            // Nothing is expected any more, or not yet.
            (Input::Reply(_), Stage::V2(_))
            | (Input::Seasoning(_), Stage::V1(_))
            | (
                Input::Piece(_)
                | Input::Message(_)
                | Input::Verdict(..)
                | Input::Reply(_)
                | Input::Seasoning(_),
                Stage::Begin | Stage::Parting(..) | Stage::Over,
            ) => {}
        }
    }

    /// The next output, if there is one before further input or a later moment. `sequence`: of the last event.
    pub(super) fn next_output(&mut self, sequence: u64, now: Instant) -> Option<Output> {
        if self.user().is_none() && now >= self.login_until && !self.is_parting() {
            self.stage = Stage::Parting(self.late(sequence), Ending::LoginTimeout);
        }
        loop {
            match &mut self.stage {
                Stage::V1(dialogue) => match dialogue.next_output(&mut self.arrived, now)? {
                    v1::Step::Output(output) => return Some(output),
                    v1::Step::Refuse => self.stage = refused(),
                },
                Stage::V2(dialogue) => match dialogue.next_output(sequence, now)? {
                    v2::Step::Output(output) => return Some(output),
                    v2::Step::End(farewell, ending) => self.stage = Stage::Parting(farewell.into(), ending),
                },
                Stage::Parting(farewell, ending) => match farewell.pop_front() {
                    Some(message) => return Some(Output::Send(message)),
                    None => {
                        let ending = *ending;
                        self.stage = Stage::Over;
                        return Some(Output::Close(ending));
                    }
                },
                Stage::Begin | Stage::Over => return None,
            }
        }
    }

    /// When [`Session::next_output`] is to be asked although nothing came in.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (own, user) = match &self.stage {
            Stage::Begin => (None, None),
            Stage::V1(dialogue) => (dialogue.deadline(), dialogue.user()),
            Stage::V2(dialogue) => (dialogue.deadline(), dialogue.user()),
            Stage::Parting(..) | Stage::Over => return None,
        };
        match user {
            Some(_) => own,
            None => Some(own.map_or(self.login_until, |at| at.min(self.login_until))),
        }
    }

    /// Who has logged in.
    pub(super) fn user(&self) -> Option<&Arc<User>> {
        match &self.stage {
            Stage::V1(dialogue) => dialogue.user(),
            Stage::V2(dialogue) => dialogue.user(),
            Stage::Begin | Stage::Parting(..) | Stage::Over => None,
        }
    }

    /// A change may be under way: who changes itself is told what came of it before anything follows from it.
    pub(super) fn is_changing(&self) -> bool {
        match &self.stage {
            Stage::V1(dialogue) => dialogue.is_busy(),
            Stage::V2(dialogue) => dialogue.is_changing(),
            Stage::Begin | Stage::Parting(..) | Stage::Over => false,
        }
    }

    /// Whether somebody of that role may be here.
    pub(super) fn admits(&self, role: Role) -> bool {
        match self.stage {
            Stage::V1(_) => role == Role::Admin,
            Stage::Begin | Stage::V2(_) | Stage::Parting(..) | Stage::Over => true,
        }
    }

    /// The dialogue, where version 2 is spoken.
    pub(super) fn v2(&mut self) -> Option<&mut v2::Dialogue> {
        match &mut self.stage {
            Stage::V2(dialogue) => Some(dialogue),
            Stage::Begin | Stage::V1(_) | Stage::Parting(..) | Stage::Over => None,
        }
    }

    /// The same, to look at.
    pub(super) fn as_v2(&self) -> Option<&v2::Dialogue> {
        match &self.stage {
            Stage::V2(dialogue) => Some(dialogue),
            Stage::Begin | Stage::V1(_) | Stage::Parting(..) | Stage::Over => None,
        }
    }

    /// Bytes that have arrived and are not understood yet.
    pub(super) fn backlog_bytes(&self) -> usize {
        self.arrived.bytes().len() + self.as_v2().map_or(0, v2::Dialogue::backlog_bytes)
    }

    /// Requests that are begun and not answered. Version 1 has one at most, and reads nothing meanwhile.
    pub(super) fn waiting_count(&self) -> usize {
        self.as_v2().map_or(0, v2::Dialogue::waiting_count)
    }

    fn is_parting(&self) -> bool {
        match self.stage {
            Stage::Parting(..) | Stage::Over => true,
            Stage::Begin | Stage::V1(_) | Stage::V2(_) => false,
        }
    }

    /// What is said to who took too long with the log-in: version 1 has no words for it.
    fn late(&self, sequence: u64) -> VecDeque<Vec<u8>> {
        let sentence = "The log-in was not complete in time.";
        self.as_v2().map(|_| v2::goodbye(Status::Timeout, Some(sentence), sequence)).into_iter().collect()
    }
}

/// Whatever is spoken instead: whoever understands this answer knows at least version 1.
fn unsupported(version: u8) -> Stage {
    let farewell = LoginStatus::UnsupportedVersion.encode().to_vec();
    Stage::Parting([farewell].into(), Ending::Version(version))
}

fn refused() -> Stage {
    Stage::Parting([LoginStatus::Refused.encode().to_vec()].into(), Ending::LoginRefused)
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
