//! How a request of version 2 is answered: at once, later by a note, or on a channel.
//!
//! A noun gets the core, the request's body and an [`Asker`], and gives an [`Outcome`]. What takes time comes as
//! [`Note::Answered`](super::notes::Note) from any thread; the asker says where it belongs.

use std::net::SocketAddr;
use std::sync::Arc;

use pipo_protocol::v2::{BodyError, ErrorBody, Header, Reply, Status};

use super::channels::Content;
use super::core::AdoptError;
use super::notes::PeerKey;
use crate::settings::BadValue;
use crate::store::{User, UserError};

/// Who asked, and what the answer is to. Cheap to clone, and good on any thread.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    /// The association.
    pub(super) peer: PeerKey,
    /// The user who had logged in there.
    pub(super) user: Arc<User>,
    /// Where the association comes from.
    pub(super) source: SocketAddr,
    /// What carries it: `kernel` or `udp`.
    pub(super) transport: &'static str,
    /// The request.
    pub(super) asked: Asked,
}

/// Which request is answered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// The one that version 1 waits for.
    V1,
    /// The one with this header.
    V2(Header),
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The one reply.
    Reply(Box<Reply>),
    /// An answer in parts.
    Open(Content),
    /// The reply to a subscription, and what it delivers.
    Follow(Box<Reply>, Content),
    /// The answer comes by a note.
    Later,
}

/// What a noun gives.
pub(super) type Answer = Result<Outcome, Refusal>;

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: Status,
    /// Boxed: refusals are rare, and answers are moved about.
    pub(super) body: Box<ErrorBody>,
}

impl Outcome {
    /// The one reply, now.
    pub(super) fn reply(reply: Reply) -> Answer {
        Ok(Self::Reply(Box::new(reply)))
    }
}

impl Refusal {
    /// With the status' own sentence.
    pub(super) fn of(status: Status) -> Self {
        Self { status, body: Box::new(ErrorBody::of(status)) }
    }

    /// With a sentence that says what is allowed.
    pub(super) fn saying(status: Status, sentence: &str) -> Self {
        Self { status, body: Box::new(ErrorBody::saying(sentence)) }
    }

    /// A field of the request has a value that is not allowed.
    pub(super) fn field(status: Status, key: u64, sentence: &str) -> Self {
        let body = ErrorBody { field: Some(key), ..ErrorBody::saying(sentence) };
        Self { status, body: Box::new(body) }
    }

    /// The base revision has passed.
    pub(super) fn conflict(revision: u64) -> Self {
        let body = ErrorBody { revision: Some(revision), ..ErrorBody::of(Status::Conflict) };
        Self { status: Status::Conflict, body: Box::new(body) }
    }
}

impl From<&BodyError> for Refusal {
    fn from(error: &BodyError) -> Self {
        let (status, body) = error.into();
        Self { status, body: Box::new(body) }
    }
}

impl From<UserError> for Refusal {
    fn from(error: UserError) -> Self {
        let status = match error {
            UserError::Name(_)
            | UserError::Password(_)
            | UserError::Iterations { .. }
            | UserError::Anonymous => Status::Invalid,
            UserError::Taken => Status::Exists,
            UserError::NotFound => Status::NotFound,
            UserError::NoRoom(_) => Status::NoRoom,
            UserError::LastAdmin => Status::LastAdmin,
            UserError::Busy => Status::Busy,
        };
        Self::saying(status, &format!("{error}."))
    }
}

impl From<AdoptError> for Refusal {
    fn from(error: AdoptError) -> Self {
        Self::saying(Status::Invalid, &format!("{error}."))
    }
}

impl From<BadValue> for Refusal {
    fn from(error: BadValue) -> Self {
        let status = match error {
            BadValue::Unknown { .. } => Status::NotFound,
            BadValue::Rejected { .. } | BadValue::NotAValue { .. } => Status::Invalid,
            BadValue::StartOnly { .. } => Status::StartOnly,
        };
        Self::saying(status, &format!("{error}."))
    }
}
