//! Requests and what carries them out: one match over the commands of each version, one file for each noun.
//!
//! The nouns (`users.rs`, `settings.rs`, `metrics.rs` …) do the work. Version 1's match makes its replies here;
//! version 2's nouns answer by themselves, through [`super::answer`].

pub(super) mod v1;
pub(super) mod v2;
