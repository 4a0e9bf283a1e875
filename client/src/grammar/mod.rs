//! The one grammar: noun, verb, arguments, options. Parsing in all three modes, help, unique prefixes, "did you
//! mean", completion of lines and shells, the manual and docs/ADMIN.md are made from its [`TABLE`].
//!
//! Nothing here asks a server or prints: lines go in, [`Parsed`] commands or a [`UsageError`] come out.

// What there is.
mod globals;
mod kind;
mod menu;
mod table;
// From a line to a command.
mod near;
mod parse;
mod split;
mod values;
// For people who do not know it by heart.
mod complete;
mod help;
#[cfg(test)]
mod tests;

pub use complete::{Candidate, Completion, complete};
pub use globals::{GLOBALS, Global};
pub(crate) use help::aligned;
pub use help::{command_help, overview};
pub use kind::{Kind, Source};
pub use menu::{MENU, MenuRow};
pub use near::nearest;
pub use parse::{Parsed, Said, Scope, UsageError, parse_line, parse_words};
pub use split::split;
pub(crate) use table::FILTERS;
pub use table::TABLE;
pub use values::{Values, number_of_bytes, session_id, span};

use pipo_protocol::v2::{Command, Effect, Role};

/// A command: what may be said after its words, and who may say it.
#[derive(Debug)]
pub struct Row {
    /// First word.
    pub noun: &'static str,
    /// Second word; empty where the noun stands alone.
    pub verb: &'static str,
    /// What it does.
    pub action: Action,
    /// The command of the protocol that does it, from which role and effect follow; none: the client's own.
    pub wire: Option<Command>,
    /// What follows the words, in order.
    pub arguments: &'static [Argument],
    /// What may stand anywhere after the words.
    pub options: &'static [Flag],
    /// Whether version 1 can say it, all of it or some.
    pub version_1: Version1,
    /// One sentence.
    pub help: &'static str,
}

/// What version 1 of the protocol can do of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version1 {
    /// All or some; the sentence says what.
    Says(&'static str),
    /// Nothing.
    Cannot,
    /// It does not concern the server.
    Local,
}

/// A word after the command's own.
#[derive(Debug)]
pub struct Argument {
    /// How help names it, and how the value is asked for.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// How many there may be.
    pub arity: Arity,
    /// A phrase.
    pub help: &'static str,
}

/// How many words an argument takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// One.
    One,
    /// One or none.
    Optional,
    /// Any number, none too; the last argument only.
    Any,
    /// Everything that follows, options too, at least one word; the last argument only.
    Rest,
}

/// An option.
#[derive(Debug)]
pub struct Flag {
    /// Without its dashes; also how the value is asked for.
    pub long: &'static str,
    /// The short form.
    pub short: Option<char>,
    /// What its value may be, with the word that stands for it in help; none: a switch.
    pub value: Option<(&'static str, Kind)>,
    /// Whether it may stand without its dashes too: `config commit confirmed 30`.
    pub bare: bool,
    /// A phrase.
    pub help: &'static str,
}

/// What a command does; the runner's one match goes over these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the words of its row")]
pub enum Action {
    ConfigAddUser,
    ConfigCheck,
    ConfigCommit,
    ConfigConfirm,
    ConfigDiff,
    ConfigDiscard,
    ConfigPassword,
    ConfigRebase,
    ConfigRemoveUser,
    ConfigReset,
    ConfigRole,
    ConfigRollback,
    ConfigSet,
    ConfigShow,
    ConfigStatus,
    DnsFlush,
    DnsShow,
    Events,
    Help,
    LogFollow,
    LogRotate,
    Metrics,
    MetricsFollow,
    ServerDrain,
    ServerInfo,
    ServerShutdown,
    ServerUndrain,
    ServerWorkers,
    SessionKill,
    SessionList,
    SessionShow,
    SessionTrace,
    SettingGet,
    SettingList,
    SettingReset,
    SettingSet,
    Statistics,
    UserAdd,
    UserList,
    UserPassword,
    UserRemove,
    UserRole,
    Watch,
}

impl Row {
    /// Its words, as they are said.
    #[must_use]
    pub fn words(&self) -> String {
        match self.verb {
            "" => self.noun.to_owned(),
            verb => format!("{} {verb}", self.noun),
        }
    }

    /// Least role that may use it; none: everybody.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.wire.and_then(|command| command.row()).and_then(|row| row.role)
    }

    /// Whether somebody of that role may use it; a role that is not known yet hides nothing.
    #[must_use]
    pub fn permits(&self, role: Option<Role>) -> bool {
        match (self.role(), role) {
            (Some(minimum), Some(role)) => role.includes(minimum),
            (None, _) | (_, None) => true,
        }
    }

    /// Whether it changes nothing at the server.
    #[must_use]
    pub fn is_query(&self) -> bool {
        let effect = self.wire.and_then(|command| command.row()).map(|row| row.effect);
        effect.is_none_or(|effect| effect == Effect::Query)
    }

    /// How it is written: words, arguments, options.
    #[must_use]
    pub fn usage(&self) -> String {
        let mut usage = self.words();
        for argument in self.arguments {
            usage.push(' ');
            usage.push_str(&argument.placeholder());
        }
        if !self.options.is_empty() {
            usage.push_str(" [OPTIONS]");
        }
        usage
    }

    /// The option with that long name.
    #[must_use]
    pub fn option(&self, long: &str) -> Option<&'static Flag> {
        self.options.iter().find(|option| option.long == long)
    }
}

impl Argument {
    const fn one(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, arity: Arity::One, help }
    }

    const fn optional(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, arity: Arity::Optional, help }
    }

    const fn any(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, arity: Arity::Any, help }
    }

    /// How help writes it.
    #[must_use]
    pub fn placeholder(&self) -> String {
        match self.arity {
            Arity::One => self.name.to_owned(),
            Arity::Optional => format!("[{}]", self.name),
            Arity::Any => format!("[{}]...", self.name),
            Arity::Rest => format!("{}...", self.name),
        }
    }
}

impl Flag {
    const fn switch(long: &'static str, help: &'static str) -> Self {
        Self { long, short: None, value: None, bare: false, help }
    }

    const fn valued(long: &'static str, value: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { long, short: None, value: Some((value, kind)), bare: false, help }
    }

    const fn or_short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    const fn or_bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// How help writes it: `-n, --interval SECONDS`.
    #[must_use]
    pub fn written(&self) -> String {
        let short = self.short.map(|short| format!("-{short}, ")).unwrap_or_default();
        let value = self.value.map(|(name, _)| format!(" {name}")).unwrap_or_default();
        format!("{short}--{}{value}", self.long)
    }
}
