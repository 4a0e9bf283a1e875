//! What the tests stand on: the daemon as a process, a client with control of every byte, origins, name
//! servers and relays to talk to, and the rule that nothing waits without a limit.
//!
//! Every helper panics with a sentence when it cannot do its work, because a test that cannot run has failed.
//! Nothing listens on a fixed port, so that runs do not meet each other or what else the machine does.

// What is measured in time and bytes.
pub(crate) mod bytes;
pub(crate) mod machine;
pub(crate) mod waiting;
// Processes: the daemon, and those of Debian.
pub(crate) mod daemon;
pub(crate) mod process;
// The metrics endpoint's other end.
pub(crate) mod http;
// The admin channel's other end.
pub(crate) mod admin;
pub(crate) mod admin_v2;
pub(crate) mod capture;
pub(crate) mod pipoctl;
pub(crate) mod terminal;
// The two ends of a session.
pub(crate) mod client;
pub(crate) mod origin;
// Where files come from.
pub(crate) mod nginx;
// Where names come from.
pub(crate) mod dns_chain;
pub(crate) mod dns_wire;
pub(crate) mod doh_stub;
pub(crate) mod plain_dns;

pub(crate) use bytes::{Rng, pattern};
pub(crate) use client::{Client, Destination, Ending, connect_through, connected};
pub(crate) use daemon::Daemon;
pub(crate) use machine::{TempDir, exclusive};
pub(crate) use waiting::{LIMIT, eventually, within};
