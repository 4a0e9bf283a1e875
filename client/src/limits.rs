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

// ---- interactive mode ------------------------------------------------------------------------------------

/// Attempts to log in where a person types the password.
pub const LOGINS_MAX: usize = 3;

/// Commands that follow beside the prompt; each has a channel of the association.
pub const FOLLOWS_MAX: usize = 8;
const _: () = assert!(FOLLOWS_MAX < pipo_protocol::limits::CHANNELS_COUNT_MAX);

/// Texts that wait for the screen: a burst of events. More are counted and not shown.
pub const SCREEN_TEXTS_MAX: usize = 1024;

/// How long a prompt waits for what stands before it.
pub const SCREEN_TIME_MAX: Duration = Duration::from_millis(200);

/// Lines of the history.
pub const HISTORY_LINES_MAX: usize = 1000;

/// How long completion waits for names.
pub const LOOKUP_TIME_MAX: Duration = Duration::from_millis(700);

/// Names of one completion: more than a screen shows.
pub const NAMES_MAX: usize = 500;

/// How long names are good.
pub const NAMES_KEPT: Duration = Duration::from_secs(3);

/// Answers of the server that are kept.
pub const NAMES_KEPT_MAX: usize = 16;
