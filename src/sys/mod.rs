//! The operating system: every `unsafe` block of the daemon, behind safe functions.

pub mod epoll;
pub mod inherit;
pub mod network;
pub mod notify;
pub mod pipe;
pub mod sctp;
pub mod signals;
pub mod socket;
pub mod thread;
