//! The data plane: SOCKS5 sessions over TCP.
//!
//! Stages are pure values, one file each, in the order of the dialogue; `session.rs` has the enum and its one
//! match. The worker is the shell around them: it owns sockets, time and buffers, and decides nothing about
//! the protocol. Nothing in here imports `admin`.

// The stages, in the order of the dialogue.
pub mod wire;
// (kept apart so that the formatter leaves the order)
pub mod accept;
pub mod authenticate;
pub mod connect;
pub mod negotiate;
pub mod policy;
pub mod relay;
pub mod request;
pub mod resolve;
pub mod session;
pub mod side;

// What moves the bytes and keeps the time.
pub mod mover;
pub mod timers;

// What looks at the bytes, where somebody asked for it.
pub mod dissect;

// The shell.
pub mod inbox;
mod intake;
mod notice;
pub mod plane;
mod slot;
mod turn;
pub mod worker;

// Relays that move much, and the threads that carry them.
mod carrier;
mod lend;
mod loan;

// What the control loop asks and is told while sessions run.
mod desk;
pub mod door;
pub mod live;
mod order;
mod trace;
mod views;
