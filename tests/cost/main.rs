//! What the data path costs in allocations and system calls, counted: numbers that do not depend on how fast
//! or busy the machine is. A change that adds one fails here, and the table shows which.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod allocations;
mod handshake;
mod sockets;
mod syscalls;
mod trace;
