//! Version 1: a byte stream of fixed layouts, big-endian, no framing. Fixed for ever: others speak it.
//!
//! In the order of the dialogue: [`decode_login`], then any number of [`Request`]s, each answered by one
//! [`Reply`] in the same order. Everything decodes incrementally, since a request may be split over SCTP
//! messages and one message may hold several.

// The parts of the dialogue, in order.
mod login;
mod modification;
mod query;
mod reply;
mod request;
// What they are cut with.
mod cut;
#[cfg(test)]
mod tests;

pub use login::{Login, LoginError, LoginStatus, decode_login, decode_login_reply, encode_login};
pub use modification::{Modification, ModificationStatus, Privilege, Switch};
pub use query::{NumberQuery, Query};
pub use reply::{QueryFailure, Reply, ReplyError, UserEntry};
pub use request::{Asked, Request};
