//! Every bound of the client, each with its reason. Those of the link stand beside it.

use std::time::Duration;

/// Rows of a table that are held to choose the widths of its columns: some screens full.
pub const TABLE_ROWS_HELD_MAX: usize = 1000;

/// Longest line of a script: the longest value of a setting, and names, many times over.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Largest configuration file: hundreds of servers.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// How long connecting may take, and each answer, when nobody says.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Shortest and longest time limit.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(10);
/// See [`TIMEOUT_MIN`].
pub const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Time between the beginnings of a watched command when nobody says.
pub const WATCH_INTERVAL_DEFAULT: Duration = Duration::from_secs(2);

/// Time between samples when nobody says.
pub const SAMPLE_INTERVAL_DEFAULT: Duration = Duration::from_secs(1);

/// Shortest and longest interval of watching: that of samples.
pub const INTERVAL_MIN: Duration =
    Duration::from_millis(pipo_protocol::limits::SAMPLE_INTERVAL_MS_MIN as u64);
/// See [`INTERVAL_MIN`].
pub const INTERVAL_MAX: Duration =
    Duration::from_millis(pipo_protocol::limits::SAMPLE_INTERVAL_MS_MAX as u64);

/// Changes of a candidate: what the protocol takes.
pub const CHANGES_COUNT_MAX: usize = pipo_protocol::limits::CHANGES_COUNT_MAX;

/// Octets of the salt of a verifier: 128 bits.
pub const SALT_BYTES: usize = pipo_protocol::limits::SALT_BYTES_MIN;
