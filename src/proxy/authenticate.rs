//! Second stage, where asked for: user name and password (RFC 1929). Next: request.rs.
//!
//! Whoever fails is told so at the next tick of [`limits::REFUSAL_TICK`], so the time until the answer says
//! nothing about whether the user exists or how the password was checked.

use std::sync::Arc;
use std::time::Instant;

use super::request::AwaitRequest;
use super::session::{Context, Input, Login, Output, Session};
use super::wire;
use crate::limits;
use crate::logging::CloseReason;
use crate::metrics::Counter;
use crate::store::User;

const STATUS_SUCCESS: u8 = 0;
const STATUS_FAILURE: u8 = 1;

/// Waits for user name and password, then for their verdict, then perhaps for the tick.
#[derive(Debug)]
pub struct Authenticate {
    handshake_deadline: Instant,
    waiting: Waiting,
}

#[derive(Debug)]
enum Waiting {
    Bytes,
    Verdict,
    Tick(Instant),
}

impl Authenticate {
    pub(super) fn new(handshake_deadline: Instant) -> Self {
        Self { handshake_deadline, waiting: Waiting::Bytes }
    }

    pub(super) fn deadline(&self) -> Instant {
        match self.waiting {
            Waiting::Bytes | Waiting::Verdict => self.handshake_deadline,
            Waiting::Tick(at) => at,
        }
    }

    pub(super) fn wants_bytes(&self) -> bool {
        matches!(self.waiting, Waiting::Bytes)
    }

    pub(super) fn step(self, input: Input<'_>, context: &mut Context<'_>) -> Session {
        match (input, &self.waiting) {
            (Input::Bytes(bytes), Waiting::Bytes) => self.bytes(bytes, context),
            (Input::Verdict(verdict), Waiting::Verdict) => self.verdict(verdict, context),
            (Input::ClientClosed, Waiting::Bytes) => {
                context.count(Counter::ClientGone);
                context.close(CloseReason::ClientClosed)
            }
            (Input::Tick, Waiting::Tick(at)) if context.now >= *at => {
                context.send(&wire::encode_password_status(STATUS_FAILURE));
                context.goodbye(CloseReason::Refused)
            }
            (Input::Tick, Waiting::Bytes | Waiting::Verdict) if context.now >= self.handshake_deadline => {
                context.count(Counter::HandshakeTimeout);
                context.close(CloseReason::HandshakeTimeout)
            }
            // A client that has sent all it has to say may close its side and still get its answer.
            (Input::Bytes(_) | Input::ClientClosed, Waiting::Verdict | Waiting::Tick(_))
            | (Input::Verdict(_), Waiting::Bytes | Waiting::Tick(_))
            | (
                Input::Tick
                | Input::ClientReset
                | Input::Answer(..)
                | Input::Connected(..)
                | Input::AttemptFailed(..),
                _,
            ) => Session::Authenticate(self),
        }
    }

    fn bytes(self, bytes: &[u8], context: &mut Context<'_>) -> Session {
        match wire::decode_password(bytes) {
            Ok(None) => Session::Authenticate(self),
            Ok(Some(((name, password), used))) => {
                context.consume(used);
                // RFC 1929 gives both a length of 1 to 255. Nobody has an empty name or password.
                if name.is_empty() || password.is_empty() {
                    context.count(Counter::AuthRefused);
                    return self.refuse(context);
                }
                context.out.push(Output::Verify(Login { name: name.into(), password: password.into() }));
                Session::Authenticate(Self { waiting: Waiting::Verdict, ..self })
            }
            Err(_) => {
                context.count(Counter::ProtocolMalformed);
                context.send(&wire::encode_password_status(STATUS_FAILURE));
                context.goodbye(CloseReason::ProtocolError)
            }
        }
    }

    fn verdict(self, verdict: Option<Arc<User>>, context: &mut Context<'_>) -> Session {
        match verdict {
            Some(user) => {
                context.count(Counter::AuthAccepted);
                context.facts.user = user;
                context.send(&wire::encode_password_status(STATUS_SUCCESS));
                Session::Request(AwaitRequest::new(self.handshake_deadline))
            }
            None => self.refuse(context),
        }
    }

    fn refuse(self, context: &mut Context<'_>) -> Session {
        let at = next_tick(context.epoch, context.now);
        Session::Authenticate(Self { waiting: Waiting::Tick(at), ..self })
    }
}

/// The first tick after `now`, counted from `epoch`.
fn next_tick(epoch: Instant, now: Instant) -> Instant {
    let tick = limits::REFUSAL_TICK.as_millis().max(1);
    let past = now.saturating_duration_since(epoch).as_millis() % tick;
    let wait = u64::try_from(tick - past).unwrap_or(u64::MAX);
    now + std::time::Duration::from_millis(wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_next_tick_is_ahead_and_at_most_one_tick_away() {
        let epoch = Instant::now();
        for ms in [0, 1, 249, 250, 251, 1000, 1249] {
            let now = epoch + Duration::from_millis(ms);
            let wait = next_tick(epoch, now) - now;
            assert!(wait > Duration::ZERO && wait <= limits::REFUSAL_TICK, "{ms} ms: {wait:?}");
        }
    }
}
