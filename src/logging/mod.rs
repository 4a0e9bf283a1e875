//! Access lines and diagnostics: what is written, and how it leaves without ever holding up a worker.
//!
//! A worker formats its lines into a batch ([`AccessSink`]) and hands it over once a turn; diagnostics go
//! through the `log` facade. Both end in a queue bounded in bytes (`queue.rs`), drained by a thread of its own
//! (`output.rs`): a reader that stalls or a full disk costs lines, which are counted, and nothing else.
//! Nothing here decides what is worth a line; that is the caller's business.

// What one line looks like.
mod credential;
mod record;
mod text;
// How lines reach their output.
mod access;
mod diagnostics;
mod output;
mod queue;
// And those who follow them.
mod tap;

pub use access::{AccessSink, AccessWriter, Opened};
pub use credential::CredentialRecord;
pub use diagnostics::{Diagnostics, DiagnosticsError, start_diagnostics};
pub use record::{AccessRecord, CloseReason, Destination};
pub use tap::{LineOf, Tap, Tapped, TappedLine};

/// Target of the diagnostics that say what was changed and by whom.
pub const AUDIT: &str = "socks5d::audit";
