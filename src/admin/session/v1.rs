//! Version 1: log-in, then requests, one after the other, each answered before the next is begun. That keeps
//! the replies in order however a request is carried out.

use std::sync::Arc;
use std::time::Instant;

use pipo_protocol::v1::{self, LoginStatus, Reply, Request};

use super::{Arrived, Output};
use crate::store::User;

/// Where the dialogue is.
#[derive(Debug, Default)]
pub(super) enum Dialogue {
    /// The log-in is not complete.
    #[default]
    Login,
    /// Waits for the verdict.
    Checking,
    /// Refused, and says so at that moment.
    Refusing(Instant),
    /// Something is to be sent; then requests are read.
    Answering(Arc<User>, Vec<u8>),
    /// Reads requests.
    Idle(Arc<User>),
    /// Waits for the reply to one.
    Busy(Arc<User>),
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    /// This.
    Output(Output),
    /// The log-in is refused now.
    Refuse,
}

impl Dialogue {
    /// Takes the verdict on the log-in. Version 1 is for administrators only; the others are refused as if
    /// their password were wrong.
    pub(super) fn verdict(&mut self, user: Option<Arc<User>>, refuse_at: Instant) {
        if let Self::Checking = self {
            *self = match user.filter(|user| user.is_admin()) {
                Some(user) => Self::Answering(user, LoginStatus::Accepted.encode().to_vec()),
                None => Self::Refusing(refuse_at),
            };
        }
    }

    /// Takes the reply to the request that was asked last.
    pub(super) fn reply(&mut self, reply: &Reply) {
        if let Self::Busy(user) = self {
            *self = Self::Answering(Arc::clone(user), reply.encode());
        }
    }

    /// `None`: nothing before further input or a later moment.
    pub(super) fn next_output(&mut self, arrived: &mut Arrived, now: Instant) -> Option<Step> {
        match self {
            Self::Login => match v1::decode_login(arrived.bytes()) {
                Ok(None) => None,
                Ok(Some((login, taken))) => {
                    arrived.take(taken);
                    *self = Self::Checking;
                    Some(Step::Output(Output::Check(login)))
                }
                // An empty name or password is no user's: nothing is learnt from being told at once.
                Err(_) => Some(Step::Refuse),
            },
            Self::Refusing(at) => (now >= *at).then_some(Step::Refuse),
            Self::Answering(user, message) => {
                let message = std::mem::take(message);
                *self = Self::Idle(Arc::clone(user));
                Some(Step::Output(Output::Send(message)))
            }
            Self::Idle(user) => {
                let (request, taken) = Request::decode(arrived.bytes())?;
                arrived.take(taken);
                *self = Self::Busy(Arc::clone(user));
                Some(Step::Output(Output::Ask(request)))
            }
            Self::Checking | Self::Busy(_) => None,
        }
    }

    /// When something is to be said although nothing comes in.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Refusing(at) => Some(*at),
            Self::Login | Self::Checking | Self::Answering(..) | Self::Idle(_) | Self::Busy(_) => None,
        }
    }

    /// A request is under way, a change perhaps.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Busy(_))
    }

    /// Who has logged in.
    pub(super) fn user(&self) -> Option<&Arc<User>> {
        match self {
            Self::Answering(user, _) | Self::Idle(user) | Self::Busy(user) => Some(user),
            Self::Login | Self::Checking | Self::Refusing(_) => None,
        }
    }
}
