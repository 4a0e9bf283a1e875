//! The one table of commands. Dispatch, help, completion, roles and documentation come from it.

use super::body::{BodyError, Field, Message};
use super::messages::*;
use super::values::Role;

/// Whether a command changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Reads only; may be repeated after a lost association.
    Query,
    /// Changes something; never repeated by itself.
    Change,
    /// Concerns this association only.
    Association,
}

/// How a command is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// By one reply on channel 0.
    One,
    /// By replies on the channel that the request names, the last one flagged.
    Parts,
    /// By one reply on channel 0, then events on the channel that the request names.
    Subscription,
    /// Not at all.
    Never,
}

/// A body's definition.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Name in the CDDL.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct CommandRow {
    /// Its value.
    pub command: Command,
    /// COMMAND: noun in the high octet, verb in the low one.
    pub code: u16,
    /// First word of the client's grammar.
    pub noun: &'static str,
    /// Second word; empty where the noun stands alone.
    pub verb: &'static str,
    /// Least role that may use it; `None`: before the login too.
    pub role: Option<Role>,
    /// What it changes.
    pub effect: Effect,
    /// How it is answered.
    pub answer: Answer,
    /// Body of the request.
    pub request: Schema,
    /// Body of the reply; none where there is no reply.
    pub reply: Option<Schema>,
    /// One sentence for people.
    pub help: &'static str,
}

macro_rules! commands {
    (
        answered { $(
            $variant:ident = $code:literal $noun:literal $verb:literal $role:expr, $effect:ident,
                $answer:ident $request:ty => $reply:ty, $help:literal;
        )+ }
        unanswered { $(
            $quiet:ident = $quiet_code:literal $quiet_noun:literal $quiet_verb:literal $quiet_role:expr,
                $quiet_effect:ident, $quiet_request:ty, $quiet_help:literal;
        )+ }
    ) => {
        /// COMMAND.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Command {
            $(#[doc = $help] $variant,)+
            $(#[doc = $quiet_help] $quiet,)+
            /// A number that this side does not know: answered with `unknown-command`.
            Unassigned(u16),
        }

        /// Every command.
        pub const COMMANDS: &[CommandRow] = &[
            $(CommandRow {
                command: Command::$variant, code: $code, noun: $noun, verb: $verb, role: $role,
                effect: Effect::$effect, answer: Answer::$answer,
                request: schema::<$request>(), reply: Some(schema::<$reply>()), help: $help,
            },)+
            $(CommandRow {
                command: Command::$quiet, code: $quiet_code, noun: $quiet_noun, verb: $quiet_verb,
                role: $quiet_role, effect: Effect::$quiet_effect, answer: Answer::Never,
                request: schema::<$quiet_request>(), reply: None, help: $quiet_help,
            },)+
        ];

        impl Command {
            /// COMMAND.
            #[must_use]
            pub fn code(self) -> u16 {
                match self {
                    $(Self::$variant => $code,)+
                    $(Self::$quiet => $quiet_code,)+
                    Self::Unassigned(code) => code,
                }
            }
        }

        impl From<u16> for Command {
            fn from(code: u16) -> Self {
                match code {
                    $($code => Self::$variant,)+
                    $($quiet_code => Self::$quiet,)+
                    other => Self::Unassigned(other),
                }
            }
        }

        /// A request's body, decoded.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Request {
            $(#[doc = $help] $variant($request),)+
            $(#[doc = $quiet_help] $quiet($quiet_request),)+
        }

        impl Request {
            /// Reads the body of a request. `Ok(None)`: the command is not known.
            pub fn decode(command: Command, body: &[u8]) -> Result<Option<Self>, BodyError> {
                Ok(Some(match command {
                    $(Command::$variant => Self::$variant(<$request as Message>::decode(body)?),)+
                    $(Command::$quiet => Self::$quiet(<$quiet_request as Message>::decode(body)?),)+
                    Command::Unassigned(_) => return Ok(None),
                }))
            }

            /// The body's octets.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$variant(body) => body.encode(),)+
                    $(Self::$quiet(body) => body.encode(),)+
                }
            }

            /// Its command.
            #[must_use]
            pub fn command(&self) -> Command {
                match self {
                    $(Self::$variant(_) => Command::$variant,)+
                    $(Self::$quiet(_) => Command::$quiet,)+
                }
            }

            #[cfg(test)]
            pub(super) fn sample(command: Command, source: &mut super::sample::Source) -> Option<Self> {
                use super::body::Value;
                match command {
                    $(Command::$variant => Some(Self::$variant(<$request>::sample(source))),)+
                    $(Command::$quiet => Some(Self::$quiet(<$quiet_request>::sample(source))),)+
                    Command::Unassigned(_) => None,
                }
            }
        }

        /// A reply's body, decoded; replies whose STATUS is not 0 have an [`super::ErrorBody`] instead.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Reply {
            $(#[doc = $help] $variant($reply),)+
        }

        impl Reply {
            /// Reads the body of a reply with STATUS 0. `Ok(None)`: the command is not known, or has no reply.
            pub fn decode(command: Command, body: &[u8]) -> Result<Option<Self>, BodyError> {
                Ok(Some(match command {
                    $(Command::$variant => Self::$variant(<$reply as Message>::decode(body)?),)+
                    $(Command::$quiet)|+ | Command::Unassigned(_) => return Ok(None),
                }))
            }

            /// The body's octets.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self { $(Self::$variant(body) => body.encode(),)+ }
            }

            /// The command it answers.
            #[must_use]
            pub fn command(&self) -> Command {
                match self { $(Self::$variant(_) => Command::$variant,)+ }
            }

            #[cfg(test)]
            pub(super) fn sample(command: Command, source: &mut super::sample::Source) -> Option<Self> {
                use super::body::Value;
                match command {
                    $(Command::$variant => Some(Self::$variant(<$reply>::sample(source))),)+
                    $(Command::$quiet)|+ | Command::Unassigned(_) => None,
                }
            }
        }
    };
}

const fn schema<M: Message>() -> Schema {
    Schema { name: M::NAME, help: M::HELP, fields: M::FIELDS }
}

const ANYONE: Option<Role> = None;
const USER: Option<Role> = Some(Role::User);
const OBSERVER: Option<Role> = Some(Role::Observer);
const OPERATOR: Option<Role> = Some(Role::Operator);
const ADMIN: Option<Role> = Some(Role::Admin);

commands! {
    answered {
        Hello = 0x0001 "hello" "" ANYONE, Association, One HelloRequest => HelloReply,
            "Opens the association and tells features and limits.";
        LoginStart = 0x0002 "login" "start" ANYONE, Association, One LoginStart => LoginChallenge,
            "Names the user and asks for the challenge.";
        LoginProof = 0x0003 "login" "proof" ANYONE, Association, One LoginProof => LoginDone,
            "Proves the password and asks the server for its own proof.";
        Goodbye = 0x0004 "goodbye" "" ANYONE, Association, One Goodbye => Nothing,
            "Ends the association.";
        Cancel = 0x0005 "cancel" "" USER, Association, One Cancel => Cancelled,
            "Cancels a request that is not answered in full yet.";
        Unsubscribe = 0x0006 "unsubscribe" "" USER, Association, One Unsubscribe => Nothing,
            "Ends a subscription.";

        ServerInfo = 0x0101 "server" "info" OBSERVER, Query, One Nothing => ServerInfo,
            "Shows version, uptime, listeners and state of the server.";
        ServerWorkers = 0x0102 "server" "workers" OBSERVER, Query, Parts ListRequest => WorkerPart,
            "Lists the worker threads with their load.";
        ServerDrain = 0x0103 "server" "drain" OPERATOR, Change, One Nothing => DrainReply,
            "Stops accepting sessions and lets those that run end.";
        ServerUndrain = 0x0104 "server" "undrain" OPERATOR, Change, One Nothing => DrainReply,
            "Accepts sessions again.";
        ServerShutdown = 0x0105 "server" "shutdown" ADMIN, Change, One ShutdownRequest => DrainReply,
            "Takes the server down.";

        Metrics = 0x0201 "metrics" "" OBSERVER, Query, Parts MetricsRequest => MetricPart,
            "Lists all metrics with their values.";
        MetricsFollow = 0x0202 "metrics" "follow" OBSERVER, Query, Subscription MetricsFollow => Subscribed,
            "Follows metrics by samples.";
        Statistics = 0x0203 "statistics" "" USER, Query, One Nothing => OwnStatistics,
            "Shows one's own sessions and bytes.";

        UserList = 0x0301 "user" "list" OBSERVER, Query, Parts UserListRequest => UserPart,
            "Lists users with their statistics.";
        UserAdd = 0x0302 "user" "add" ADMIN, Change, One UserAdd => Changed,
            "Adds a user, who can connect at once.";
        UserRemove = 0x0303 "user" "remove" ADMIN, Change, One UserRemove => Changed,
            "Removes a user and ends its sessions.";
        UserPassword = 0x0304 "user" "password" ADMIN, Change, One UserPassword => Changed,
            "Gives a user a new password and ends its sessions.";
        UserRole = 0x0305 "user" "role" ADMIN, Change, One UserRole => Changed,
            "Changes what a user may do and where it may enter.";

        SessionList = 0x0401 "session" "list" OBSERVER, Query, Parts SessionListRequest => SessionPart,
            "Lists live sessions, filtered and sorted.";
        SessionShow = 0x0402 "session" "show" OBSERVER, Query, One SessionShow => SessionDetails,
            "Shows one session in full.";
        SessionKill = 0x0403 "session" "kill" OPERATOR, Change, One SessionKill => Killed,
            "Ends sessions by number or filter, or only counts them.";
        SessionTrace = 0x0404 "session" "trace" OPERATOR, Query, Subscription SessionTrace => Subscribed,
            "Follows every step of one session.";

        SettingList = 0x0501 "setting" "list" OBSERVER, Query, Parts SettingListRequest => SettingPart,
            "Lists settings with range, default, value and source.";
        SettingGet = 0x0502 "setting" "get" OBSERVER, Query, One SettingGet => SettingReply,
            "Shows one setting.";
        SettingSet = 0x0503 "setting" "set" ADMIN, Change, One SettingSet => Changed,
            "Changes one setting.";
        SettingReset = 0x0504 "setting" "reset" ADMIN, Change, One SettingReset => Changed,
            "Takes the runtime change of one setting back.";

        ConfigStatus = 0x0601 "config" "status" OBSERVER, Query, One Nothing => ConfigStatus,
            "Shows the revision in force and a commit that waits.";
        ConfigDiff = 0x0602 "config" "diff" ADMIN, Query, Parts DiffRequest => DiffPart,
            "Shows what a candidate would change.";
        ConfigCheck = 0x0603 "config" "check" ADMIN, Query, One Candidate => Checked,
            "Checks a candidate without applying it.";
        ConfigCommit = 0x0604 "config" "commit" ADMIN, Change, One Commit => Changed,
            "Applies a candidate, all of it or nothing.";
        ConfigConfirm = 0x0605 "config" "confirm" ADMIN, Change, One Confirm => Changed,
            "Makes the commit that waits last.";
        ConfigRollback = 0x0606 "config" "rollback" ADMIN, Change, One Rollback => Changed,
            "Takes the commit that waits back, or returns to a revision.";

        DnsShow = 0x0701 "dns" "show" OBSERVER, Query, Parts DnsShow => CachePart,
            "Lists cached DNS answers.";
        DnsFlush = 0x0702 "dns" "flush" OPERATOR, Change, One DnsFlush => Flushed,
            "Forgets cached DNS answers.";

        LogFollow = 0x0801 "log" "follow" OBSERVER, Query, Subscription LogFollow => Subscribed,
            "Follows log lines.";
        LogRotate = 0x0802 "log" "rotate" OPERATOR, Change, One Nothing => Done,
            "Opens the log files anew.";

        Events = 0x0901 "events" "" OBSERVER, Query, Subscription EventsFollow => Subscribed,
            "Follows sessions and changes as they happen.";
    }
    unanswered {
        Credit = 0x0007 "credit" "" USER, Association, Credit,
            "Returns credit to a channel.";
    }
}

impl Command {
    /// Its row in the table; `None` for numbers that are not known.
    #[must_use]
    pub fn row(self) -> Option<&'static CommandRow> {
        COMMANDS.iter().find(|row| row.command == self)
    }
}

impl CommandRow {
    /// Whether a user of this role may use it; `None`: somebody who has not logged in.
    #[must_use]
    pub fn permits(&self, role: Option<Role>) -> bool {
        match (self.role, role) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(minimum), Some(role)) => role.includes(minimum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_are_unique_and_rows_complete() {
        for row in COMMANDS {
            assert_eq!(Command::from(row.code), row.command);
            assert_eq!(row.command.code(), row.code);
            assert_eq!(COMMANDS.iter().filter(|other| other.code == row.code).count(), 1);
            let words = |other: &&CommandRow| (other.noun, other.verb) == (row.noun, row.verb);
            assert_eq!(COMMANDS.iter().filter(words).count(), 1, "{} {}", row.noun, row.verb);
            assert!(row.help.ends_with('.'));
            let opens = matches!(row.answer, Answer::Parts | Answer::Subscription);
            let credit = row.request.fields.first().is_some_and(|f| (f.key, f.name) == (0, "credit"));
            assert_eq!(opens, credit, "{}: channels open with credit", row.request.name);
            for fields in
                [Some(row.request.fields), row.reply.map(|reply| reply.fields)].into_iter().flatten()
            {
                assert!(fields.is_sorted_by(|a, b| a.key < b.key), "{}: keys ascend", row.noun);
            }
        }
    }

    #[test]
    fn a_role_may_do_what_it_includes() {
        let row = |command: Command| command.row().unwrap();
        assert!(row(Command::Hello).permits(None));
        assert!(!row(Command::Statistics).permits(None));
        assert!(row(Command::Statistics).permits(Some(Role::User)));
        assert!(!row(Command::ServerInfo).permits(Some(Role::User)));
        assert!(row(Command::SessionKill).permits(Some(Role::Operator)));
        assert!(!row(Command::UserAdd).permits(Some(Role::Operator)));
        assert!(row(Command::UserAdd).permits(Some(Role::Admin)));
        assert!(Command::Unassigned(0x7777).row().is_none());
    }
}
