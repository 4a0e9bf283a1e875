//! The control plane: one thread with its own poll. It starts the data plane, hears signals, serves the admin
//! channel, and tells the workers what has changed; it never makes one wait.
//!
//! ```text
//! kernel | udp ──bytes──► server ► session ──request──► dispatch ► users, settings, metrics ► core ──► workers
//!                           ▲ reply ◄───────────────────────┘            └──► store ──note──► control
//! ```

// The daemon's life.
pub mod control;
mod core;
mod initial;
pub mod manager;
mod notes;
mod system;
// The admin channel, from the wire to what carries a request out.
mod kernel;
mod peer;
pub mod server;
mod session;
mod udp;
// Version 2: how it is answered, what its channels deliver, and what happened.
mod answer;
mod channels;
mod events;
mod follow;
mod rows;
// What workers are asked and tell.
mod inquiry;
mod ranked;
mod session_rows;
mod watch;
// Changes in their order, several as one, and what they can be taken back to.
mod candidate;
mod commit;
mod revisions;
// The metrics endpoint.
pub mod http;
// One match over the commands of each version, and a file for each noun.
mod dispatch;
mod dns;
mod drain;
mod happenings;
mod logs;
mod metrics;
mod server_info;
mod sessions;
mod settings;
mod shutdown;
mod statistics;
mod users;
