//! The daemon: flags, run, exit code.
fn main() {}
