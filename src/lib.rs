//! `socks5d`: a SOCKS5 proxy whose users, sessions and settings are managed while it runs.
//!
//! ```text
//! client ──TCP──► accept ► negotiate ► authenticate ► request ► resolve ► connect ► relay ◄──TCP──► origin
//!                   │          (proxy/session.rs holds the stage; proxy/worker.rs moves bytes) │
//!                   │             authenticate ⇄ store     resolve ⇄ resolver ⇄ DoH relay      │
//!                   └────────────► metrics ◄──────────────────── access log ◄──────────────────┘
//! ```
//!
//! Modules stand in reading order. `proxy` never imports `admin`; both meet in `store`, `settings`, `metrics`
//! and in messages. docs/ARCHITECTURE.md says where to change what.

// What the process is told.
pub mod cli;
pub mod settings;
// What everything is measured with and bounded by.
pub mod ids;
pub mod limits;
pub mod metrics;
// The data plane, in the order in which it asks the others.
pub mod logging;
pub mod proxy;
pub mod resolver;
pub mod store;
// The control plane.
pub mod admin;
// The operating system: the only unsafe code.
pub mod sys;
