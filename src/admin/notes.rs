//! What other threads leave for the control loop: verdicts on log-ins, answers, and what became of changes.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use mio::Waker;
use pipo_protocol::v1::Reply;
use pipo_protocol::v2::messages::Notice;

use super::answer::{Answer, Asker};
use super::inquiry::Trouble;
use super::users::Change;
use crate::store::{ChangesError, Replaced, UserDelta, UserError, Verdict};

/// Names one association of the admin channel. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PeerKey(pub(super) u64);

/// What was left. There is at most one for each reload, log-in and request that waits, and those are bounded.
#[derive(Debug)]
pub(super) enum Note {
    /// What became of the users of a configuration that was read again.
    UsersReplaced(Result<Replaced, UserError>),
    /// What became of a log-in.
    Verdict(PeerKey, Verdict),
    /// What became of a change of users.
    UserChanged(Asker, Change),
    /// How many sessions ended because of it.
    UserSettled(Asker, Change, Result<u64, Trouble>),
    /// The answer to a request of version 1.
    Replied(PeerKey, Reply),
    /// What became of the users of a commit.
    Committed(Result<Vec<UserDelta>, ChangesError>),
    /// What became of the users of a commit that is taken back.
    TakenBack(Result<Vec<UserDelta>, UserError>),
    /// Lines of a log wait for those who follow it.
    Lines,
    /// The answer to a request of version 2.
    Answered(Asker, Answer),
    /// To be told to everybody who is logged in.
    Notify(Notice),
}

/// Leaves notes, from any thread.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    sender: Sender<Note>,
    waker: Arc<Waker>,
}

impl Notes {
    /// Where notes are left, and where the control loop takes them.
    pub(super) fn new(waker: Arc<Waker>) -> (Self, Receiver<Note>) {
        let (sender, receiver) = channel();
        (Self { sender, waker }, receiver)
    }

    /// Leaves one. It is lost only when the control loop is over, and then nobody cares.
    pub(super) fn leave(&self, note: Note) {
        if self.sender.send(note).is_ok()
            && let Err(error) = self.waker.wake()
            && error.kind() != io::ErrorKind::WouldBlock
        {
            log::error!("the control loop could not be woken: error=\"{error}\"");
        }
    }
}
