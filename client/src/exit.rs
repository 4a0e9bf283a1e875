//! The one table of exit codes.

/// How pipoctl ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked is done.
    Done,
    /// The server refused or failed.
    Refused,
    /// The command line or a command is not of the grammar, or cannot be said in this version.
    Usage,
    /// No association with the server.
    NoConnection,
    /// The server does not accept user and password, or could not prove itself.
    LoginFailed,
    /// The role does not include the command.
    NotAllowed,
    /// There is nothing by that name or number.
    NotFound,
    /// A value that is not allowed, something that is there already, or a conflict.
    Invalid,
    /// The server did not answer in time.
    TimeLimit,
    /// The association was lost on the way.
    Lost,
    /// Interrupted by Ctrl-C.
    Interrupted,
}

/// Each with its number and what it means, in the order of the numbers.
pub const EXITS: &[(Exit, u8, &str)] = &[
    (Exit::Done, 0, "done"),
    (Exit::Refused, 1, "refused by the server, or output cannot be written"),
    (Exit::Usage, 2, "usage: options, words or values are not as they must be"),
    (Exit::NoConnection, 3, "cannot connect"),
    (Exit::LoginFailed, 4, "login failed"),
    (Exit::NotAllowed, 5, "not allowed for the role"),
    (Exit::NotFound, 6, "not found"),
    (Exit::Invalid, 7, "invalid or in conflict"),
    (Exit::TimeLimit, 8, "time limit passed"),
    (Exit::Lost, 9, "connection lost"),
    (Exit::Interrupted, 130, "interrupted"),
];

impl Exit {
    /// The number that the process ends with.
    #[must_use]
    pub fn code(self) -> u8 {
        EXITS.iter().find(|(exit, ..)| *exit == self).map_or(1, |(_, code, _)| *code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_has_the_number_that_scripts_rely_on() {
        let codes: Vec<_> = EXITS.iter().map(|(_, code, _)| *code).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130]);
        for (exit, code, _) in EXITS {
            assert_eq!(exit.code(), *code);
        }
    }
}
