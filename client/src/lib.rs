//! `pipoctl`, as a library so that its tests reach it: the admin client of socks5d.
//!
//! Modules in the order in which a command passes them.

// What bounds it.
pub mod limits;
// The start: options, configuration file, and the run of lines.
pub mod cli;
pub mod modes;
pub mod profile;
// From words to a command.
pub mod grammar;
// What commands do.
pub mod run;
// A person at a terminal.
pub mod interactive;
// To the server and back.
pub mod link;
// From answers to text, and the end.
pub mod exit;
pub mod output;
