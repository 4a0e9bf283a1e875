//! The one table of commands. Nouns stand in the order in which people meet them, verbs from looking to changing.

use pipo_protocol::v2::Command;

use super::{Action, Argument, Arity, Flag, Kind, Row, Version1};

const NAME: Argument = Argument::one("NAME", Kind::User, "the user's name");
const SESSION: Argument =
    Argument::one("SESSION", Kind::Session, "the session's number, as the list shows it");
const SETTING: Argument = Argument::one("SETTING", Kind::Setting, "the setting's name");
const VALUE: Argument = Argument::one("VALUE", Kind::SettingValue, "its value, as socks5d's option takes it");
const ROLE: Argument = Argument::one("ROLE", Kind::Role, "what the user may do on the admin channel");
const CHANGES: Argument =
    Argument::any("SETTING=VALUE", Kind::Assignment, "changes added to the candidate for this command only");
const METRIC: Argument = Argument::optional("PREFIX", Kind::Metric, "only metrics whose names start so");

const PASSWORD_STDIN: Flag = Flag::switch(
    "password-stdin",
    "read the password from standard input, one line, instead of asking twice",
);
const ROLE_OPTION: Flag =
    Flag::valued("role", "ROLE", Kind::Role, "what it may do on the admin channel (user)");
const DOORS: Flag =
    Flag::valued("doors", "DOORS", Kind::Doors, "where it may enter (proxy for the role user, else both)");
const LIMIT: Flag = Flag::valued("limit", "COUNT", Kind::Count(u32::MAX), "at most so many rows");
const COUNT: Flag = Flag::valued("count", "COUNT", Kind::Count(u32::MAX), "end after so many");
const FROM: Flag =
    Flag::valued("from", "SEQUENCE", Kind::Number, "begin after this event, as far as it is kept");
const BASE: Flag =
    Flag::valued("base", "REVISION", Kind::Number, "only if this is still the revision in force");
const FILTER_USER: Flag = Flag::valued("user", "NAME", Kind::User, "sessions of this user");
const SOURCE: Flag = Flag::valued("source", "ADDRESS[/BITS]", Kind::Network, "from this client or network");
const DESTINATION: Flag = Flag::valued(
    "destination",
    "NAME",
    Kind::Host,
    "to this name or address as asked; after a leading dot any name below",
);
const PORT: Flag = Flag::valued("port", "PORT", Kind::Port, "to this port");
const STAGE: Flag = Flag::valued("stage", "STAGE", Kind::Stage, "in this stage");
const AGE_MIN: Flag = Flag::valued("age-min", "TIME", Kind::Span, "at least so old");
const AGE_MAX: Flag = Flag::valued("age-max", "TIME", Kind::Span, "at most so old");
const BYTES_MIN: Flag = Flag::valued("bytes-min", "BYTES", Kind::Bytes, "at least so many octets both ways");
const BYTES_MAX: Flag = Flag::valued("bytes-max", "BYTES", Kind::Bytes, "at most so many octets both ways");
const IDLE_MIN: Flag = Flag::valued("idle-min", "TIME", Kind::Span, "at least so long without an octet");

/// The options that choose sessions, and others after them.
macro_rules! sessions_and {
    ($($more:expr),* $(,)?) => {
        &[
            FILTER_USER, SOURCE, DESTINATION, PORT, STAGE, AGE_MIN, AGE_MAX, BYTES_MIN, BYTES_MAX, IDLE_MIN,
            $($more,)*
        ]
    };
}

/// Names of the options that choose sessions.
pub(crate) const FILTERS: &[&str] = &[
    "user",
    "source",
    "destination",
    "port",
    "stage",
    "age-min",
    "age-max",
    "bytes-min",
    "bytes-max",
    "idle-min",
];

const fn row(noun: &'static str, verb: &'static str, action: Action, help: &'static str) -> Row {
    let (arguments, options): (&[Argument], &[Flag]) = (&[], &[]);
    Row { noun, verb, action, wire: None, arguments, options, version_1: Version1::Cannot, help }
}

impl Row {
    const fn asks(mut self, command: Command) -> Self {
        self.wire = Some(command);
        self
    }

    const fn takes(mut self, arguments: &'static [Argument]) -> Self {
        self.arguments = arguments;
        self
    }

    const fn with(mut self, options: &'static [Flag]) -> Self {
        self.options = options;
        self
    }

    const fn in_version_1(mut self, what: &'static str) -> Self {
        self.version_1 = Version1::Says(what);
        self
    }

    const fn local(mut self) -> Self {
        self.version_1 = Version1::Local;
        self
    }
}

/// Every command.
pub static TABLE: &[Row] = &[
    row("user", "list", Action::UserList, "Lists users with their statistics.")
        .asks(Command::UserList)
        .takes(&[Argument::optional("NAME", Kind::User, "only this user")])
        .with(&[Flag::valued("prefix", "PREFIX", Kind::User, "only names that start so"), LIMIT])
        .in_version_1("names and roles; of one user its sessions"),
    row("user", "add", Action::UserAdd, "Adds a user, who can connect at once.")
        .asks(Command::UserAdd)
        .takes(&[NAME])
        .with(&[PASSWORD_STDIN, ROLE_OPTION, DOORS])
        .in_version_1("roles user and admin, no doors; the password goes in clear"),
    row("user", "remove", Action::UserRemove, "Removes a user and ends its sessions.")
        .asks(Command::UserRemove)
        .takes(&[NAME])
        .in_version_1("all of it"),
    row("user", "password", Action::UserPassword, "Gives a user a new password and ends its sessions.")
        .asks(Command::UserPassword)
        .takes(&[NAME])
        .with(&[PASSWORD_STDIN]),
    row("user", "role", Action::UserRole, "Changes what a user may do and where it may enter.")
        .asks(Command::UserRole)
        .takes(&[NAME, ROLE])
        .with(&[Flag::valued("doors", "DOORS", Kind::Doors, "where it may enter from now on (as before)")]),
    row("session", "list", Action::SessionList, "Lists live sessions, filtered and sorted.")
        .asks(Command::SessionList)
        .with(sessions_and![
            Flag::valued("sort", "ORDER", Kind::Sort, "in this order (id)"),
            Flag::switch("descending", "largest first"),
            LIMIT,
        ]),
    row("session", "show", Action::SessionShow, "Shows one session in full.")
        .asks(Command::SessionShow)
        .takes(&[SESSION]),
    row("session", "kill", Action::SessionKill, "Ends sessions by number or filter, or only counts them.")
        .asks(Command::SessionKill)
        .takes(&[Argument::any("SESSION", Kind::Session, "their numbers")])
        .with(sessions_and![
            Flag::switch("all", "every session"),
            Flag::switch("dry-run", "only count them"),
        ]),
    row("session", "trace", Action::SessionTrace, "Follows every step of one session.")
        .asks(Command::SessionTrace)
        .takes(&[SESSION])
        .with(&[COUNT]),
    row("setting", "list", Action::SettingList, "Lists settings with value, default and source.")
        .asks(Command::SettingList)
        .takes(&[Argument::optional("PREFIX", Kind::Setting, "only names that start so")])
        .in_version_1("buffer-size, poll-timeout and idle-timeout"),
    row("setting", "get", Action::SettingGet, "Shows one setting with what is allowed.")
        .asks(Command::SettingGet)
        .takes(&[SETTING])
        .in_version_1("buffer-size, poll-timeout and idle-timeout"),
    row("setting", "set", Action::SettingSet, "Changes one setting.")
        .asks(Command::SettingSet)
        .takes(&[SETTING, VALUE])
        .with(&[BASE])
        .in_version_1("buffer-size, poll-timeout, idle-timeout (on and off too) and dissector on or off"),
    row("setting", "reset", Action::SettingReset, "Takes the runtime change of one setting back.")
        .asks(Command::SettingReset)
        .takes(&[SETTING])
        .with(&[BASE]),
    row("config", "status", Action::ConfigStatus, "Shows the revision in force and a commit that waits.")
        .asks(Command::ConfigStatus),
    row("config", "set", Action::ConfigSet, "Adds to the candidate: a setting gets a value.")
        .asks(Command::ConfigStatus)
        .takes(&[SETTING, VALUE]),
    row("config", "reset", Action::ConfigReset, "Adds to the candidate: a setting loses its runtime value.")
        .asks(Command::ConfigStatus)
        .takes(&[SETTING]),
    row("config", "add-user", Action::ConfigAddUser, "Adds to the candidate: a new user.")
        .asks(Command::ConfigStatus)
        .takes(&[NAME])
        .with(&[PASSWORD_STDIN, ROLE_OPTION, DOORS]),
    row("config", "remove-user", Action::ConfigRemoveUser, "Adds to the candidate: a user goes.")
        .asks(Command::ConfigStatus)
        .takes(&[NAME]),
    row("config", "password", Action::ConfigPassword, "Adds to the candidate: a user gets a new password.")
        .asks(Command::ConfigStatus)
        .takes(&[NAME])
        .with(&[PASSWORD_STDIN]),
    row("config", "role", Action::ConfigRole, "Adds to the candidate: a user gets another role.")
        .asks(Command::ConfigStatus)
        .takes(&[NAME, ROLE])
        .with(&[Flag::valued("doors", "DOORS", Kind::Doors, "where it may enter from then on (as before)")]),
    row("config", "rebase", Action::ConfigRebase, "Takes the revision in force as the candidate's base.")
        .asks(Command::ConfigStatus),
    row("config", "show", Action::ConfigShow, "Shows the candidate.").local(),
    row("config", "discard", Action::ConfigDiscard, "Forgets the candidate, or one of its changes.")
        .takes(&[Argument::optional("CHANGE", Kind::Count(64), "only this one, as config show numbers them")])
        .local(),
    row("config", "diff", Action::ConfigDiff, "Shows what the candidate would change.")
        .asks(Command::ConfigDiff)
        .takes(&[CHANGES]),
    row("config", "check", Action::ConfigCheck, "Checks the candidate without applying it.")
        .asks(Command::ConfigCheck)
        .takes(&[CHANGES]),
    row("config", "commit", Action::ConfigCommit, "Applies the candidate, all of it or nothing.")
        .asks(Command::ConfigCommit)
        .takes(&[CHANGES])
        .with(&[Flag::valued(
            "confirmed",
            "SECONDS",
            Kind::Count(86_400),
            "take it back after this time unless config confirm comes",
        )
        .or_bare()]),
    row("config", "confirm", Action::ConfigConfirm, "Makes the commit that waits last.")
        .asks(Command::ConfigConfirm)
        .takes(&[Argument::optional("REVISION", Kind::Number, "which, to be sure")]),
    row(
        "config",
        "rollback",
        Action::ConfigRollback,
        "Takes the commit that waits back, or returns to a revision.",
    )
    .asks(Command::ConfigRollback)
    .takes(&[Argument::optional("REVISION", Kind::Number, "return to the settings of this one")]),
    row("dns", "show", Action::DnsShow, "Lists cached DNS answers.")
        .asks(Command::DnsShow)
        .takes(&[Argument::optional("HOST", Kind::Host, "only this name")])
        .with(&[LIMIT]),
    row("dns", "flush", Action::DnsFlush, "Forgets cached DNS answers.")
        .asks(Command::DnsFlush)
        .takes(&[Argument::optional("HOST", Kind::Host, "only of this name")]),
    row("log", "follow", Action::LogFollow, "Follows log lines.").asks(Command::LogFollow).with(&[
        Flag::valued("kind", "KIND", Kind::LogKind, "only this log; may be repeated"),
        Flag::valued("level", "LEVEL", Kind::LogLevel, "diagnostics at least so grave (info)"),
        Flag::valued("user", "NAME", Kind::User, "access lines of this user only"),
        FROM,
        COUNT,
    ]),
    row("log", "rotate", Action::LogRotate, "Opens the log files anew.").asks(Command::LogRotate),
    row("metrics", "", Action::Metrics, "Lists all metrics with their values.")
        .asks(Command::Metrics)
        .takes(&[METRIC])
        .with(&[
            Flag::switch("per-worker", "rows for each worker instead of sums"),
            Flag::switch("meanings", "with the meaning of each"),
        ])
        .in_version_1("the seven numbers that it has"),
    row("metrics", "follow", Action::MetricsFollow, "Follows metrics by samples.")
        .asks(Command::MetricsFollow)
        .takes(&[METRIC])
        .with(&[
            Flag::valued("interval", "TIME", Kind::Span, "time between samples, 100ms to 1h (1s)")
                .or_short('n'),
            COUNT,
        ]),
    row("events", "", Action::Events, "Follows sessions and changes as they happen.")
        .asks(Command::Events)
        .with(sessions_and![
            Flag::valued("kind", "KIND", Kind::EventKind, "only these events; may be repeated"),
            FROM,
            COUNT,
        ]),
    row("server", "info", Action::ServerInfo, "Shows version, uptime, listeners and state of the server.")
        .asks(Command::ServerInfo)
        .with(&[Flag::valued("field", "FIELD", Kind::Field, "only the value of this field")])
        .in_version_1("sessions, users connected and users registered"),
    row("server", "workers", Action::ServerWorkers, "Lists the worker threads with their load.")
        .asks(Command::ServerWorkers),
    row("server", "drain", Action::ServerDrain, "Stops accepting sessions and lets those that run end.")
        .asks(Command::ServerDrain),
    row("server", "undrain", Action::ServerUndrain, "Accepts sessions again.").asks(Command::ServerUndrain),
    row("server", "shutdown", Action::ServerShutdown, "Takes the server down.")
        .asks(Command::ServerShutdown)
        .with(&[Flag::valued(
            "drain",
            "TIME",
            Kind::Span,
            "how long sessions may go on (the setting drain-timeout)",
        )]),
    row("statistics", "", Action::Statistics, "Shows one's own sessions and bytes.")
        .asks(Command::Statistics),
    row("watch", "", Action::Watch, "Repeats a command that only looks.")
        .takes(&[Argument {
            name: "COMMAND",
            kind: Kind::Command,
            arity: Arity::Rest,
            help: "what to repeat",
        }])
        .with(&[
            Flag::valued("interval", "TIME", Kind::Span, "time between the beginnings, 100ms to 1h (2s)")
                .or_short('n'),
            COUNT,
        ])
        .local(),
    row(
        "help",
        "",
        Action::Help,
        "Explains commands; ? does the same, also behind the beginning of a command.",
    )
    .takes(&[Argument::any("COMMAND", Kind::Command, "only this noun or command")])
    .local(),
];
