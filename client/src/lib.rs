//! `pipoctl`, as a library so that its tests reach it: the admin client of socks5d.
//!
//! Modules in the order in which a command passes them.

// How it ends.
pub mod exit;
// To the server and back.
pub mod link;
