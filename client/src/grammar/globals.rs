//! The options of pipoctl itself.

use super::{Flag, Kind};

/// An option that does not belong to one command.
#[derive(Debug)]
pub struct Global {
    /// How it is written.
    pub flag: Flag,
    /// Its heading; lines of scripts and of the interactive mode take those of `OUTPUT` only.
    pub group: &'static str,
    /// The variable that does the same.
    pub variable: Option<&'static str>,
}

/// How to reach the server.
pub(crate) const CONNECTION: &str = "Connection";
/// What to run.
pub(crate) const MODE: &str = "What to run";
/// How to answer.
pub(crate) const OUTPUT: &str = "Output";

const fn global(group: &'static str, flag: Flag) -> Global {
    Global { flag, group, variable: None }
}

impl Global {
    const fn or_variable(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }
}

/// Every one, in the order of help.
pub static GLOBALS: &[Global] = &[
    global(
        CONNECTION,
        Flag::valued(
            "server",
            "HOST[:PORT]",
            Kind::Text,
            "the server, or a name of the configuration file (127.0.0.1:8080); IPv6 as ::1, [::1] or [::1]:8080",
        )
        .or_short('s'),
    )
    .or_variable("PIPO_SERVER"),
    global(CONNECTION, Flag::valued("udp-port", "PORT", Kind::Port, "UDP port of SCTP over UDP (9899)")),
    global(
        CONNECTION,
        Flag::valued("transport", "WHICH", Kind::Transport, "what carries the association (auto)"),
    ),
    global(
        CONNECTION,
        Flag::valued("protocol", "VERSION", Kind::Protocol, "1 sends the password in clear: loopback only (2)"),
    ),
    global(CONNECTION, Flag::valued("user", "NAME", Kind::User, "who logs in; asked for on a terminal").or_short('u'))
        .or_variable("PIPO_USER"),
    global(
        CONNECTION,
        Flag::valued(
            "password-file",
            "FILE",
            Kind::File,
            "a file whose first line is the password; else PIPO_PASSWORD, else it is asked for",
        ),
    ),
    global(
        CONNECTION,
        Flag::valued("timeout", "TIME", Kind::Span, "how long connecting, and each answer, may take (10s)"),
    ),
    global(
        MODE,
        Flag::valued("command", "COMMAND", Kind::Text, "run this line; may be repeated").or_short('c'),
    ),
    global(
        MODE,
        Flag::valued("file", "FILE", Kind::File, "run the lines of this file; - is standard input").or_short('f'),
    ),
    global(MODE, Flag::switch("keep-going", "go on after an error; the first one gives the exit code").or_short('k')),
    global(MODE, Flag::switch("help", "print this text, or that of the command").or_short('h')),
    global(MODE, Flag::switch("version", "print the version").or_short('V')),
    global(OUTPUT, Flag::switch("json", "JSON: an object, or an array of rows; one object a line where it follows")),
    global(OUTPUT, Flag::switch("json-lines", "JSON: one object a line")),
    global(OUTPUT, Flag::switch("yes", "do not ask before sessions are ended by a filter").or_short('y')),
];

/// The option with that long name.
pub(super) fn long(name: &str) -> Option<&'static Global> {
    GLOBALS.iter().find(|global| global.flag.long == name)
}

/// The option with that short name.
pub(super) fn short(name: char) -> Option<&'static Global> {
    GLOBALS.iter().find(|global| global.flag.short == Some(name))
}
