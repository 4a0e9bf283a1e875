//! The crate against the specification, and against a client written in another language from it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets something unexpected fails by panicking"
)]

mod examples_v1;
mod examples_v2;
mod python;
mod spec_file;
