//! First stage: which authentication method (RFC 1928 §3). Next: authenticate.rs or request.rs.

use std::time::Instant;

use super::authenticate::Authenticate;
use super::request::AwaitRequest;
use super::session::{Authentication, Context, Input, Session};
use super::wire::{self, Method};
use crate::logging::CloseReason;
use crate::metrics::Counter;

/// Waits for the method selection.
#[derive(Debug)]
pub struct Negotiate {
    /// When the whole handshake has to be over.
    pub(super) deadline: Instant,
}

impl Negotiate {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline }
    }

    pub(super) fn step(self, input: Input<'_>, context: &mut Context<'_>) -> Session {
        if let Input::Bytes(bytes) = input {
            return self.bytes(bytes, context);
        }
        context.waited_in_vain(&input, self.deadline).unwrap_or(Session::Negotiate(self))
    }

    fn bytes(self, bytes: &[u8], context: &mut Context<'_>) -> Session {
        match wire::decode_methods(bytes) {
            Ok(None) => Session::Negotiate(self),
            Ok(Some((methods, used))) => {
                let method = choose(methods, context.rules.auth);
                context.consume(used);
                context.send(&wire::encode_method(method));
                match method {
                    Method::None => Session::Request(AwaitRequest::new(self.deadline)),
                    Method::Password => Session::Authenticate(Authenticate::new(self.deadline)),
                    Method::NoneAcceptable | Method::Unassigned(_) => {
                        context.count(Counter::ProtocolNoMethod);
                        context.goodbye(CloseReason::ProtocolError)
                    }
                }
            }
            // RFC 1928 has no answer for a peer that speaks something else.
            Err(_) => {
                context.count(Counter::ProtocolVersion);
                context.close(CloseReason::ProtocolError)
            }
        }
    }
}

fn choose(methods: &[u8], auth: Authentication) -> Method {
    let offers = |method: Method| methods.contains(&method.code());
    match auth {
        Authentication::Required | Authentication::Optional if offers(Method::Password) => Method::Password,
        Authentication::Optional | Authentication::None if offers(Method::None) => Method::None,
        Authentication::Required | Authentication::Optional | Authentication::None => Method::NoneAcceptable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_the_method_that_the_rule_asks_for() {
        use Authentication::{None, Optional, Required};
        let cases: [(&[u8], Authentication, Method); 9] = [
            (&[0], None, Method::None),
            (&[0, 2], None, Method::None),
            (&[2], None, Method::NoneAcceptable),
            (&[0, 2], Optional, Method::Password),
            (&[0], Optional, Method::None),
            (&[0], Required, Method::NoneAcceptable),
            (&[1, 2], Required, Method::Password),
            (&[], Optional, Method::NoneAcceptable),
            (&[0xff], None, Method::NoneAcceptable),
        ];
        for (methods, auth, expected) in cases {
            assert_eq!(choose(methods, auth), expected, "{methods:?} {auth:?}");
        }
    }
}
