//! What can be wrong with what an operator wrote.

use super::grammar::Rejected;
use super::table;

/// Why the sources do not make a set of settings. One line each, without any password, naming the place
/// first: the option, the variable, or the file with its key or line.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value is out of range, none of the words, or not of the form.
    #[error("{place}: {rejected}")]
    Value {
        /// Option, variable, or file and key.
        place: String,
        /// The value and what is allowed.
        rejected: Rejected,
    },
    /// A key of the configuration file that no setting has.
    #[error("{file}: {}: no such setting{}", .key.escape_debug(), table::hint(.nearest))]
    UnknownKey {
        /// The configuration file.
        file: String,
        /// The key.
        key: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// A value of the configuration file is of a type that the setting does not take.
    #[error("{place}: {got} is not allowed: {allowed}")]
    Type {
        /// File and key.
        place: String,
        /// The type found.
        got: &'static str,
        /// The types and values that are allowed.
        allowed: String,
    },
    /// The configuration file is not TOML.
    #[error("{file}: line {line}: {message}")]
    Syntax {
        /// The configuration file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What the parser says; it repeats no part of the file.
        message: String,
    },
    /// A switch says one thing and its setting another, in a place that has no order.
    #[error("{place}: contradicts {other}; give one of them")]
    Contradiction {
        /// The switch.
        place: String,
        /// The setting.
        other: String,
    },
    /// A file cannot be opened or read.
    #[error("{place}: {path} cannot be read: {error}")]
    Unreadable {
        /// Option, variable or key that named the file.
        place: String,
        /// The file, quoted.
        path: String,
        /// The cause.
        error: std::io::Error,
    },
    /// What is read again has to be a file that can be read again.
    #[error("{place}: {path} is not a regular file and cannot be read again")]
    NotAgain {
        /// Option, variable or key that named the file.
        place: String,
        /// The file, quoted.
        path: String,
    },
    /// A file is longer than any that makes sense.
    #[error("{place}: {path} is not allowed: at most {bytes_max} bytes")]
    TooLong {
        /// Option, variable or key that named the file.
        place: String,
        /// The file, quoted.
        path: String,
        /// Longest file that is read.
        bytes_max: usize,
    },
    /// Others than the owner can open a file of passwords.
    #[error("{place}: {path} has mode {mode:04o}, so that others can open it; make it 0600")]
    Exposed {
        /// Option, variable or key that named the file.
        place: String,
        /// The file, quoted.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// A user of one door has the name of a user of the other, but not the password.
    #[error("{place}: user {name} has another password at {other}; one name has one password")]
    TwoPasswords {
        /// Where the second stands.
        place: String,
        /// Where the first stands.
        other: String,
        /// The name, escaped.
        name: String,
    },
    /// More users than the directory holds.
    #[error("{place}: too many users: at most {max}")]
    TooManyUsers {
        /// Where the first stands that found no room.
        place: String,
        /// Users in the directory.
        max: usize,
    },
}
