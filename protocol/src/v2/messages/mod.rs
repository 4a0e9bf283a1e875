//! Bodies of requests and replies, a file for each noun.
//!
//! Key 0 means the same everywhere: in requests that open a channel, the credit granted at once; in replies,
//! `as_of`, the global sequence number of the last event that the answer includes. Times are milliseconds since
//! 1970-01-01 UTC (`…_unix_ms`) or spans (`…_ms`, `…_us`); sizes are octets (`…_bytes`).

mod association;
mod config;
mod dns;
mod log;
mod metrics;
mod server;
mod sessions;
mod settings;
mod users;

pub use association::*;
pub use config::*;
pub use dns::*;
pub use log::*;
pub use metrics::*;
pub use server::*;
pub use sessions::*;
pub use settings::*;
pub use users::*;

use super::body::{Message, message};

message! {
    /// A body without fields.
    pub struct Nothing "nothing" {
    }
}

message! {
    /// Done; nothing more to say.
    pub struct Done "done" {
        /// The sequence of which this is true.
        0 as_of: u64,
    }
}

message! {
    /// A channel is open and will carry events.
    pub struct Subscribed "subscribed" {
        /// Events after this one are delivered.
        0 as_of: u64,
    }
}

message! {
    /// A change was made.
    pub struct Changed "changed" {
        /// The sequence that includes the change.
        0 as_of: u64,
        /// The revision of the configuration after it.
        1 revision: u64,
        /// Sessions that ended because of it.
        2 sessions_closed_count: u32,
    }
}

/// One part of a list: `as_of` (key 0, the same in every part) and rows (key 1).
pub trait Part: Message {
    /// A row.
    type Row: Message;

    /// What a client collects.
    fn into_rows(self) -> (u64, Vec<Self::Row>);
}

/// Declares a part of a list of rows.
macro_rules! part {
    ($(#[doc = $help:literal])+ pub struct $name:ident $cddl:literal of $row:ident;) => {
        $crate::v2::body::message! {
            $(#[doc = $help])+
            pub struct $name $cddl {
                /// The sequence of which the whole list is true.
                0 as_of: u64,
                /// The next rows.
                1 rows: Vec<$row>,
            }
        }

        impl $crate::v2::messages::Part for $name {
            type Row = $row;

            fn into_rows(self) -> (u64, Vec<$row>) {
                (self.as_of, self.rows)
            }
        }
    };
}
use part;
