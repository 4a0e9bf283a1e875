//! Integration tests: the real daemon on loopback, one file per capability.
//!
//! `harness` holds what they stand on. docs/TESTING.md says how to run and read them; `./test` runs them all.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at the first thing that is not as it should be; only the daemon has to survive"
)]

mod harness;

// The dialogue, in its order.
mod happy_eyeballs;
mod listen;
mod names;
mod negotiate;
mod passwords;
mod relay;
mod replies;
// Where names come from.
mod doh_relay;
mod resolver;
mod resolver_hostile;
// The daemon as an operator sees it.
mod cli;
mod limits;
mod log;
mod signals;
mod systemd;
// What others read of it.
mod manuals;
mod metrics_http;
// The admin channel.
mod admin;
mod admin_channels;
mod admin_hostile;
mod admin_python;
mod admin_under_load;
mod admin_v2;
mod cache;
mod carriers;
mod config;
mod drain;
mod followers;
mod log_follow;
mod pipoctl;
mod pty;
mod second_opinion;
mod sessions;
mod settings_live;
// Many sessions, and programs of others.
mod browser;
mod crowd;
mod dissect;
mod random;
mod real_clients;
// The source itself.
mod tidy;
