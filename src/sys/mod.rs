//! The operating system: every `unsafe` block of the daemon, behind safe functions.
