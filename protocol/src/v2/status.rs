//! Statuses: each a stable number, a name and a sentence that says what is allowed.

use super::body::{BodyError, message};
use super::text::Text;

/// A row of the table of statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRow {
    /// Its value.
    pub status: Status,
    /// STATUS.
    pub code: u8,
    /// Stable, for programs that show or compare text.
    pub name: &'static str,
    /// What it means in general; the reply's own sentence says more where there is more to say.
    pub sentence: &'static str,
}

macro_rules! statuses {
    ($($variant:ident = $code:literal $name:literal $sentence:literal;)+) => {
        /// STATUS of a record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Status {
            $(#[doc = $sentence] $variant,)+
            /// A number that this side does not know: an error, named by its sentence in the body.
            Unassigned(u8),
        }

        /// Every status, in the order of the numbers.
        pub const STATUSES: &[StatusRow] = &[
            $(StatusRow { status: Status::$variant, code: $code, name: $name, sentence: $sentence },)+
        ];

        impl Status {
            /// STATUS.
            #[must_use]
            pub fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)+ Self::Unassigned(code) => code }
            }

            /// Stable name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ Self::Unassigned(_) => "unassigned" }
            }

            /// What it means in general.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)+
                    Self::Unassigned(_) => "The server gave a status that this side does not know.",
                }
            }
        }

        impl From<u8> for Status {
            fn from(code: u8) -> Self {
                match code { $($code => Self::$variant,)+ other => Self::Unassigned(other) }
            }
        }
    };
}

statuses! {
    Ok = 0 "ok" "Done.";
    Malformed = 1 "malformed" "The body must be one CBOR map as this command defines it.";
    UnknownCommand = 2 "unknown-command" "The server does not know this command.";
    OutOfOrder = 3 "out-of-order" "HELLO comes first, then the login, each once, then everything else.";
    LoginFailed = 4 "login-failed" "User name and password must belong to an account for the admin channel.";
    TooManyFailures = 5 "too-many-failures" "Too many failed logins came from this address; try again in a minute.";
    NotAllowed = 6 "not-allowed" "The role of this user does not include this command.";
    Invalid = 7 "invalid" "A field has a value that is not allowed.";
    NotFound = 8 "not-found" "There is nothing by this name or number.";
    Exists = 9 "exists" "There is something by this name already.";
    NoRoom = 10 "no-room" "A table of the server is full.";
    Conflict = 11 "conflict" "The base revision has passed, or another commit waits to be confirmed.";
    LastAdmin = 12 "last-admin" "One enabled administrator must remain.";
    StartOnly = 13 "start-only" "This setting is read at start and cannot be changed at runtime.";
    BadChannel = 14 "bad-channel" "The channel must be 0 for a command with one reply, else not 0 and not open.";
    TooManyChannels = 15 "too-many-channels" "No more channels may be open at once than HELLO says.";
    Cancelled = 16 "cancelled" "Cancelled as asked; nothing was changed.";
    Timeout = 17 "timeout" "A part of the server did not answer in time; whether it acted is not known.";
    Busy = 18 "busy" "Too much is waiting already; try again.";
    TooLong = 19 "too-long" "The answer does not fit where it must.";
    Unsupported = 20 "unsupported" "This server was built or started without this function.";
    ShuttingDown = 21 "shutting-down" "The server is going down.";
    Internal = 22 "internal" "The server failed; its log says why.";
}

message! {
    /// Body of every reply whose STATUS is not 0, and of a channel's last record when it failed.
    pub struct ErrorBody "error" {
        /// A sentence for people that says what is allowed.
        1 sentence: Text<1024>,
        /// Key of the request's field at fault, where it is one field.
        2 field: Option<u64>,
        /// The revision in force, with conflict.
        3 revision: Option<u64>,
        /// When it makes sense to try again, milliseconds from now.
        4 retry_ms: Option<u32>,
    }
}

impl ErrorBody {
    /// The body for a status, with that status' own sentence.
    #[must_use]
    pub fn of(status: Status) -> Self {
        Self::saying(status.sentence())
    }

    /// The body with a sentence of its own, cut where it is too long.
    #[must_use]
    pub fn saying(sentence: &str) -> Self {
        Self { sentence: Text::cut(sentence), field: None, revision: None, retry_ms: None }
    }
}

/// What answers a body that could not be decoded: [`Status::Malformed`], or [`Status::Invalid`] when only a value
/// is out of its range.
impl From<&BodyError> for (Status, ErrorBody) {
    fn from(error: &BodyError) -> Self {
        let status = match error {
            BodyError::Value { .. } => Status::Invalid,
            BodyError::Syntax { .. } | BodyError::Missing { .. } => Status::Malformed,
        };
        (status, ErrorBody { field: error.field(), ..ErrorBody::saying(&error.to_string()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::Message;

    #[test]
    fn a_body_that_is_wrong_is_answered_with_the_field_and_what_is_allowed() {
        let error = crate::v2::messages::UserRole::decode(&[0xa2, 1, 0x41, b'u', 2, 0x61, b'x']).unwrap_err();
        let (status, body): (Status, ErrorBody) = (&error).into();
        assert_eq!((status, body.field), (Status::Invalid, Some(2)));
        let allowed = "field role (key 2): allowed is one of 0 user, 1 observer, 2 operator, 3 admin";
        assert_eq!(body.sentence.as_str(), allowed);
    }

    #[test]
    fn numbers_and_names_are_unique_and_stable_both_ways() {
        for (place, row) in STATUSES.iter().enumerate() {
            assert_eq!(usize::from(row.code), place);
            assert_eq!(Status::from(row.code), row.status);
            assert_eq!((row.status.code(), row.status.name()), (row.code, row.name));
            assert!(row.sentence.ends_with('.'), "{}", row.sentence);
            assert_eq!(STATUSES.iter().filter(|other| other.name == row.name).count(), 1);
        }
        assert_eq!(Status::from(200).code(), 200);
    }
}
