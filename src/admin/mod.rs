//! The control plane: one thread with its own poll. It starts the data plane, hears signals, and tells the
//! workers what has changed; it never makes one wait.

pub mod control;
mod system;
