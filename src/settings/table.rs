//! The one table of settings. Options, environment, configuration file, help text, documents and the admin
//! channel are made from its rows; nothing else knows a setting by name.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::grammar::{
    Address, Addresses, Bytes, Choice, Count, Endpoints, Grammar, Optional, Plenty, Port, Rejected, Shape,
    Switch, Target, Text, Time,
};
use super::users::{self, Door};
use super::{AccessLog, AdminTransport, AuthMode, Dissector, DnsMode, DohMethod, LogFormat, Settings};
use crate::limits;

/// One setting, or one way to say something about it.
pub struct Row {
    /// The option without its dashes, the key in the configuration file, the name on the admin channel.
    pub name: &'static str,
    /// The short option, fixed by those who use it already.
    pub short: Option<char>,
    /// The heading that it stands under.
    pub group: &'static str,
    /// One sentence: what it does.
    pub help: &'static str,
    /// Taken up while the daemon runs; otherwise at the next start.
    pub live: bool,
    pub(super) binding: Binding,
}

/// A row is known by its name.
impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Row").field(&self.name).finish()
    }
}

/// What a row's text does.
pub(super) enum Binding {
    /// Fills a field of the snapshot.
    Value(&'static dyn Field),
    /// Adds a user who may use that door.
    User(Door),
    /// Names a file that is read for further values.
    File(File),
    /// A switch that, on, gives the row `of` the value `text`.
    Alias { of: &'static str, text: &'static str },
}

/// Which file a [`Binding::File`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    Config,
    Users,
}

const LISTENING: &str = "Listening";
const USERS: &str = "Who may connect";
const NAMES: &str = "Names";
const SESSIONS: &str = "Sessions";
const TIME: &str = "Time limits";
const LOGS: &str = "Logs";
const PROCESS: &str = "The daemon";

/// Any time limit of a session.
const TIMEOUT: Time = Time { min: limits::TIMEOUT_MIN, max: limits::TIMEOUT_MAX };

/// In whole seconds, as the kernel has it.
const KEEPALIVE: Time = Time { min: limits::KEEPALIVE_MIN, max: limits::KEEPALIVE_MAX };

/// A file of the system that is read again when it changes; one that is not there is empty.
const SYSTEM_FILE: Text = Text {
    allowed: "a path",
    placeholder: "FILE",
    bytes_max: limits::PATH_BYTES_MAX,
    is_allowed: |text| !text.is_empty() && !text.contains('\0'),
};

/// A field with its grammar and its default, as a [`Binding::Value`].
macro_rules! field {
    ($name:ident, $grammar:expr, $default:expr) => {
        Binding::Value(&Typed {
            read: |settings| &settings.$name,
            write: |settings| &mut settings.$name,
            grammar: $grammar,
            default: || $default,
        })
    };
}

/// Every row, grouped by heading, in the order of the help text.
static TABLE: &[Row] = &[
    Row {
        name: "socks-addr",
        short: Some('l'),
        group: LISTENING,
        help: "Listen for SOCKS clients on this address; auto: every interface where all must log in, else \
               loopback",
        live: false,
        binding: field!(socks_addr, Addresses { none: Some("auto"), plenty: Plenty::Any }, Vec::new()),
    },
    Row {
        name: "socks-port",
        short: Some('p'),
        group: LISTENING,
        help: "Port of the SOCKS listeners",
        live: false,
        binding: field!(socks_port, Port { min: 0 }, 1080),
    },
    Row {
        name: "admin-addr",
        short: Some('L'),
        group: LISTENING,
        help: "Listen for the admin channel on this address",
        live: false,
        binding: field!(
            admin_addr,
            Addresses { none: None, plenty: Plenty::Any },
            vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        ),
    },
    Row {
        name: "admin-port",
        short: Some('P'),
        group: LISTENING,
        help: "Port of the admin channel",
        live: false,
        binding: field!(admin_port, Port { min: 0 }, 8080),
    },
    Row {
        name: "admin-transport",
        short: None,
        group: LISTENING,
        help: "What carries the admin channel: SCTP of the kernel or over UDP; auto: the kernel's where it has \
               SCTP, else UDP",
        live: false,
        binding: field!(
            admin_transport,
            Choice {
                words: &[
                    ("auto", AdminTransport::Auto),
                    ("kernel", AdminTransport::Kernel),
                    ("udp", AdminTransport::Udp),
                    ("both", AdminTransport::Both),
                ]
            },
            AdminTransport::Auto
        ),
    },
    Row {
        name: "admin-udp-port",
        short: None,
        group: LISTENING,
        help: "UDP port of the admin channel, where it is carried over UDP",
        live: false,
        binding: field!(admin_udp_port, Port { min: 0 }, pipo_encap::UDP_PORT),
    },
    Row {
        name: "metrics-listen",
        short: None,
        group: LISTENING,
        help: "Serve metrics and health over HTTP there, to anyone who reaches it",
        live: false,
        binding: field!(metrics_listen, Endpoints, Vec::new()),
    },
    Row {
        name: "user",
        short: Some('u'),
        group: USERS,
        help: "A user of the proxy; everybody can read it in the process list, so prefer --users-file",
        live: true,
        binding: Binding::User(Door::Proxy),
    },
    Row {
        name: "admin",
        short: Some('a'),
        group: USERS,
        help: "An administrator, for the admin channel only; with --user as well, for both",
        live: true,
        binding: Binding::User(Door::Admin),
    },
    Row {
        name: "users-file",
        short: None,
        group: USERS,
        help: "Read users from this file, which only its owner may be able to read: lines NAME:PASS, or \
               with :observer, :operator or :admin behind it (for both doors), and # comments",
        live: true,
        binding: Binding::File(File::Users),
    },
    Row {
        name: "auth",
        short: None,
        group: USERS,
        help: "Who must log in; auto: everybody once there are users, nobody before",
        live: true,
        binding: field!(
            auth,
            Choice {
                words: &[
                    ("auto", AuthMode::Auto),
                    ("required", AuthMode::Required),
                    ("optional", AuthMode::Optional),
                    ("none", AuthMode::None),
                ]
            },
            AuthMode::Auto
        ),
    },
    Row {
        name: "deny-private",
        short: None,
        group: USERS,
        help: "Refuse destinations that are not public: loopback, private and link-local networks, multicast",
        live: true,
        binding: field!(deny_private, Switch { on: true, off: false }, false),
    },
    Row {
        name: "dns",
        short: None,
        group: NAMES,
        help: "Who is asked; auto: the relay, plain DNS while it does not answer. Naming a relay (--doh-ip, \
               --doh-host or --doh-path) makes it doh",
        live: true,
        binding: field!(
            dns,
            Choice { words: &[("auto", DnsMode::Auto), ("doh", DnsMode::Doh), ("system", DnsMode::System)] },
            DnsMode::Auto
        ),
    },
    Row {
        name: "doh-ip",
        short: None,
        group: NAMES,
        help: "Address of the DNS-over-HTTP relay",
        live: true,
        binding: field!(doh_ip, Address, IpAddr::V4(Ipv4Addr::LOCALHOST)),
    },
    Row {
        name: "doh-port",
        short: None,
        group: NAMES,
        help: "Port of the relay",
        live: true,
        binding: field!(doh_port, Port { min: 1 }, 8053),
    },
    Row {
        name: "doh-host",
        short: None,
        group: NAMES,
        help: "What the relay is called in the Host field",
        live: true,
        binding: field!(
            doh_host,
            Text {
                allowed: "a host name or an address, with a port if need be",
                placeholder: "HOST",
                bytes_max: limits::DOH_HOST_BYTES_MAX,
                is_allowed: is_host,
            },
            "localhost".to_owned()
        ),
    },
    Row {
        name: "doh-path",
        short: None,
        group: NAMES,
        help: "Path of the relay",
        live: true,
        binding: field!(
            doh_path,
            Text {
                allowed: "a slash, then visible ASCII without ? and #",
                placeholder: "PATH",
                bytes_max: limits::DOH_TARGET_BYTES_MAX,
                is_allowed: |text| text.starts_with('/') && is_visible(text) && !text.contains(['?', '#']),
            },
            "/dns-query".to_owned()
        ),
    },
    Row {
        name: "doh-query",
        short: None,
        group: NAMES,
        help: "What stands between path and message in a GET",
        live: true,
        binding: field!(
            doh_query,
            Text {
                allowed: "nothing, or ? and visible ASCII without #",
                placeholder: "QUERY",
                bytes_max: limits::DOH_TARGET_BYTES_MAX,
                is_allowed: |text| {
                    text.is_empty() || text.starts_with('?') && is_visible(text) && !text.contains('#')
                },
            },
            "?dns=".to_owned()
        ),
    },
    Row {
        name: "doh-method-post",
        short: None,
        group: NAMES,
        help: "Ask the relay with POST instead of GET",
        live: true,
        binding: field!(doh_method, Switch { on: DohMethod::Post, off: DohMethod::Get }, DohMethod::Get),
    },
    Row {
        name: "hosts",
        short: None,
        group: NAMES,
        help: "The hosts file: its names are never asked for",
        live: true,
        binding: field!(hosts, SYSTEM_FILE, "/etc/hosts".to_owned()),
    },
    Row {
        name: "resolv-conf",
        short: None,
        group: NAMES,
        help: "Where the servers for plain DNS stand, as nameserver lines",
        live: true,
        binding: field!(resolv_conf, SYSTEM_FILE, "/etc/resolv.conf".to_owned()),
    },
    Row {
        name: "buffer-size",
        short: None,
        group: SESSIONS,
        help: "I/O buffer: the most that one read takes",
        live: true,
        binding: field!(
            buffer_size,
            Bytes { min: limits::BUFFER_BYTES_MIN, max: limits::BUFFER_BYTES_MAX },
            256 * 1024
        ),
    },
    Row {
        name: "max-sessions",
        short: None,
        group: SESSIONS,
        help: "Sessions at once; above, new ones wait to be accepted. auto: as many as descriptors allow",
        live: true,
        binding: field!(
            max_sessions,
            Optional {
                none: "auto",
                some: Count { unit: "sessions", min: 1, max: limits::SESSIONS_PER_WORKER_MAX }
            },
            None
        ),
    },
    Row {
        name: "max-sessions-per-source",
        short: None,
        group: SESSIONS,
        help: "Sessions at once from one address; further ones are closed",
        live: true,
        binding: field!(
            max_sessions_per_source,
            Optional {
                none: "off",
                some: Count { unit: "sessions", min: 1, max: limits::SESSIONS_PER_WORKER_MAX }
            },
            None
        ),
    },
    Row {
        name: "spread-from",
        short: None,
        group: SESSIONS,
        help: "Sessions of the first worker from which on new ones go to the others too; 0: at once",
        live: true,
        // Few sessions cost least on one thread, which sleeps and wakes less often than two that are half busy. So many
        // leave it time all the same: an exchange costs it some 10 µs, and a network takes longer for one.
        binding: field!(
            spread_from,
            Count { unit: "sessions", min: 0, max: limits::SESSIONS_PER_WORKER_MAX },
            64
        ),
    },
    Row {
        name: "bind-outgoing",
        short: None,
        group: SESSIONS,
        help: "Connect to origins from this address; auto: the kernel chooses",
        live: true,
        binding: field!(
            bind_outgoing,
            Addresses { none: Some("auto"), plenty: Plenty::OneOfEachFamily },
            Vec::new()
        ),
    },
    Row {
        name: "tcp-keepalive",
        short: None,
        group: SESSIONS,
        help: "Probe connections that are silent for that long, so that dead peers are noticed",
        live: true,
        binding: field!(
            tcp_keepalive,
            Optional { none: "off", some: KEEPALIVE },
            Some(Duration::from_secs(60))
        ),
    },
    Row {
        name: "tcp-user-timeout",
        short: None,
        group: SESSIONS,
        help: "Break a connection whose bytes were not acknowledged for that long; off: the kernel's patience",
        live: true,
        binding: field!(tcp_user_timeout, Optional { none: "off", some: TIMEOUT }, None),
    },
    Row {
        name: "tcp-congestion",
        short: None,
        group: SESSIONS,
        help: "Congestion control of all connections; auto: the kernel's default, on loopback reno",
        live: true,
        binding: field!(
            tcp_congestion,
            Text {
                allowed: "auto, or a name of tcp_available_congestion_control",
                placeholder: "NAME",
                bytes_max: limits::CONGESTION_NAME_BYTES_MAX,
                is_allowed: |text| {
                    !text.is_empty()
                        && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"_-".contains(&octet))
                },
            },
            "auto".to_owned()
        ),
    },
    Row {
        name: "mark",
        short: None,
        group: SESSIONS,
        help: "Mark connections to origins for routing rules (SO_MARK); takes CAP_NET_ADMIN",
        live: true,
        binding: field!(
            mark,
            Optional { none: "off", some: Count { unit: "", min: 1, max: limits::MARK_MAX } },
            None
        ),
    },
    Row {
        name: "dissector",
        short: None,
        group: SESSIONS,
        help: "Log credentials that new sessions send in clear (HTTP Basic, POP3) and the origin takes; mask: \
               stars for the password",
        live: true,
        binding: field!(
            dissector,
            Choice {
                words: &[("off", Dissector::Off), ("mask", Dissector::Mask), ("full", Dissector::Full)]
            },
            Dissector::Off
        ),
    },
    Row {
        name: "no-dissectors",
        short: Some('N'),
        group: SESSIONS,
        help: "The same as --dissector off",
        live: true,
        binding: Binding::Alias { of: "dissector", text: "off" },
    },
    Row {
        name: "idle-timeout",
        short: None,
        group: TIME,
        help: "Close a session after this long without a byte either way",
        live: true,
        binding: field!(
            idle_timeout,
            Optional { none: "off", some: TIMEOUT },
            Some(Duration::from_secs(300))
        ),
    },
    Row {
        name: "no-idle-timeout",
        short: Some('D'),
        group: TIME,
        help: "The same as --idle-timeout off",
        live: true,
        binding: Binding::Alias { of: "idle-timeout", text: "off" },
    },
    Row {
        name: "handshake-timeout",
        short: None,
        group: TIME,
        help: "From accepting a client to the last byte of its request",
        live: true,
        binding: field!(
            handshake_timeout,
            Time { min: limits::TIMEOUT_MIN, max: limits::HANDSHAKE_TIMEOUT_MAX },
            Duration::from_secs(10)
        ),
    },
    Row {
        name: "connect-timeout",
        short: None,
        group: TIME,
        help: "One attempt to connect to one address of an origin",
        live: true,
        binding: field!(
            connect_timeout,
            Time { min: limits::TIMEOUT_MIN, max: limits::CONNECT_TOTAL_MAX },
            Duration::from_secs(10)
        ),
    },
    Row {
        name: "half-closed-timeout",
        short: None,
        group: TIME,
        help: "Close a session of which one side has finished after this long without a byte",
        live: true,
        binding: field!(half_closed_timeout, TIMEOUT, Duration::from_secs(60)),
    },
    Row {
        name: "poll-timeout",
        short: None,
        group: TIME,
        help: "Longest sleep of a worker for which nothing happens",
        live: true,
        // Traffic, deadlines and messages wake a worker anyway; ten seconds leave an idle machine asleep.
        binding: field!(
            poll_timeout,
            Time { min: limits::POLL_TIMEOUT_MIN, max: limits::POLL_TIMEOUT_MAX },
            Duration::from_secs(10)
        ),
    },
    Row {
        name: "drain-timeout",
        short: None,
        group: TIME,
        help: "How long sessions may go on after the first SIGTERM or SIGINT",
        live: true,
        binding: field!(
            drain_timeout,
            Time { min: Duration::ZERO, max: limits::DRAIN_TIMEOUT_MAX },
            Duration::from_secs(10)
        ),
    },
    Row {
        name: "access-log",
        short: None,
        group: LOGS,
        help: "Where a line for each session goes; a file is opened again on SIGHUP",
        live: true,
        binding: field!(access_log, Target, AccessLog::Stdout),
    },
    Row {
        name: "log-format",
        short: None,
        group: LOGS,
        help: "Form of those lines; tab: when the reply is sent, json: when the session ends",
        live: true,
        binding: field!(
            log_format,
            Choice { words: &[("tab", LogFormat::Tab), ("json", LogFormat::Json)] },
            LogFormat::Tab
        ),
    },
    Row {
        name: "log-level",
        short: None,
        group: LOGS,
        help: "Most detailed diagnostics on standard error",
        live: true,
        binding: field!(
            log_level,
            Choice {
                words: &[
                    ("error", log::LevelFilter::Error),
                    ("warn", log::LevelFilter::Warn),
                    ("info", log::LevelFilter::Info),
                    ("debug", log::LevelFilter::Debug),
                    ("trace", log::LevelFilter::Trace),
                    ("off", log::LevelFilter::Off),
                ]
            },
            log::LevelFilter::Info
        ),
    },
    Row {
        name: "metrics-users",
        short: None,
        group: LOGS,
        help: "Users that have metrics of their own; the others are shown as one",
        live: true,
        binding: field!(metrics_users, Count { unit: "users", min: 0, max: limits::METRICS_USERS_MAX }, 20),
    },
    Row {
        name: "workers",
        short: None,
        group: PROCESS,
        help: "Worker threads; one for each usable core by default",
        live: false,
        binding: field!(
            workers,
            Count { unit: "threads", min: 1, max: limits::WORKERS_COUNT_MAX },
            usable_cores()
        ),
    },
    Row {
        name: "state-dir",
        short: None,
        group: PROCESS,
        help: "Folder of what outlives a run; auto: $STATE_DIRECTORY, else socks5d in $XDG_STATE_HOME or \
               ~/.local/state",
        live: false,
        binding: field!(
            state_dir,
            Optional {
                none: "auto",
                some: Text {
                    allowed: "an absolute path",
                    placeholder: "FOLDER",
                    bytes_max: limits::PATH_BYTES_MAX,
                    is_allowed: |text| text.starts_with('/') && !text.contains('\0'),
                }
            },
            None
        ),
    },
    Row {
        name: "config",
        short: None,
        group: PROCESS,
        help: "Read settings from this TOML file; its keys are the long options without dashes before them",
        live: false,
        binding: Binding::File(File::Config),
    },
];

/// What `Host` may be (RFC 9110 §7.2), so that no value can end the field or start another.
fn is_host(text: &str) -> bool {
    let octet = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(octet)
}

/// Neither blanks, nor control characters, nor anything beyond ASCII: may stand in a request line.
fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// One worker for each core that this process may run on.
fn usable_cores() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.min(limits::WORKERS_COUNT_MAX)
}

// ---- looking up, reading, changing ---------------------------------------------------------------------

/// Why a setting was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// There is no such setting.
    #[error("{}: no such setting{}", .name.escape_debug(), hint(.nearest))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// The value is out of range, not one of the words, or not of the form.
    #[error("{name}: {rejected}")]
    Rejected {
        /// The setting.
        name: &'static str,
        /// The value and what is allowed.
        rejected: Rejected,
    },
    /// Users and files are not values: other commands change them.
    #[error("{name}: cannot be set as a value")]
    NotAValue {
        /// The row.
        name: &'static str,
    },
    /// The daemon reads it at its start only.
    #[error("{name}: takes effect at the next start only")]
    StartOnly {
        /// The setting.
        name: &'static str,
    },
}

/// `; did you mean …?`, or nothing.
pub(super) fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// Every row in the order of the help text.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter()
}

/// The row of that name.
#[must_use]
pub fn row(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.name == name)
}

/// The row of that name, if it is one that has a value.
pub fn value_row(name: &str) -> Result<&'static Row, BadValue> {
    let row = row(name).ok_or_else(|| unknown(name))?;
    row.field().map(|_| row)
}

/// Gives the setting `name` the value that `text` says. Lists are separated by commas. Checks the value only:
/// whether the setting is live is for those who ask at run time, see [`super::Resolved::change`].
pub fn set(settings: &mut Settings, name: &str, text: &str) -> Result<(), BadValue> {
    let row = row(name).ok_or_else(|| unknown(name))?;
    row.field()?
        .set(settings, OsStr::new(text))
        .map_err(|rejected| BadValue::Rejected { name: row.name, rejected })
}

/// The current value of `name` as text that [`set`] takes; of users their names only. `None`: there is no
/// such value.
#[must_use]
pub fn show(settings: &Settings, name: &str) -> Option<String> {
    row(name)?.show(settings)
}

/// The error for a name that no row has.
pub(super) fn unknown(name: &str) -> BadValue {
    BadValue::Unknown { name: name.to_owned(), nearest: nearest(name) }
}

/// The row whose name differs least from `name`, if it differs in no more than a third of its letters.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let candidates = TABLE.iter().map(|row| (edits(name, row.name), row.name));
    let (edits_count, nearest) = candidates.min_by_key(|(edits_count, _)| *edits_count)?;
    (edits_count * 3 <= nearest.len()).then_some(nearest)
}

/// Letters to insert, remove or replace to make `b` of `a` (Levenshtein's distance); far for long texts.
fn edits(a: &str, b: &str) -> usize {
    if a.len() > 2 * b.len() {
        return a.len();
    }
    let mut costs: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let (mut diagonal, mut before) = (i, i + 1);
        let mut next = vec![before];
        for (above, right) in costs.iter().skip(1).zip(b.bytes()) {
            before = (diagonal + usize::from(left != right)).min(*above + 1).min(before + 1);
            diagonal = *above;
            next.push(before);
        }
        costs = next;
    }
    costs.last().copied().unwrap_or(0)
}

impl Row {
    /// The variable that sets it: `SOCKS5D_BUFFER_SIZE`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// One word for what kind of value it takes.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.binding {
            Binding::Value(field) => field.kind(),
            Binding::User(_) => "user",
            Binding::File(_) => "file",
            Binding::Alias { .. } => ALIAS.kind(),
        }
    }

    /// What a bare number counts, or nothing.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match &self.binding {
            Binding::Value(field) => field.unit(),
            Binding::User(_) | Binding::File(_) | Binding::Alias { .. } => "",
        }
    }

    /// What may be written.
    #[must_use]
    pub fn range(&self) -> String {
        match &self.binding {
            Binding::Value(field) => field.allowed(),
            Binding::User(_) => users::ALLOWED.to_owned(),
            Binding::File(_) => "the path of a file that can be read".to_owned(),
            Binding::Alias { .. } => ALIAS.allowed(),
        }
    }

    /// The words that its value may be, where it is one of some words.
    #[must_use]
    pub fn words(&self) -> Vec<&'static str> {
        self.field().map_or_else(|_| Vec::new(), Field::words)
    }

    /// What holds when nobody says anything; `None` where that is nothing.
    #[must_use]
    pub fn default(&self) -> Option<String> {
        self.show(&Settings::default()).filter(|_| self.is_value())
    }

    /// The value in `settings` as text; of users their names only. `None` for rows that are no value.
    #[must_use]
    pub fn show(&self, settings: &Settings) -> Option<String> {
        match &self.binding {
            Binding::Value(field) => Some(field.show(settings)),
            Binding::User(door) => Some(users::show(&settings.users, *door)),
            Binding::File(_) | Binding::Alias { .. } => None,
        }
    }

    /// May be given several times, or as a list.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.shape() == Shape::List
    }

    /// Never shown: not in errors, not in logs, not on the admin channel.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self.binding, Binding::User(_))
    }

    /// A value of the snapshot: what the admin channel lists, and sets where `live`.
    #[must_use]
    pub fn is_value(&self) -> bool {
        matches!(self.binding, Binding::Value(_))
    }

    /// An option that needs no value on the command line.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.shape() == Shape::Switch
    }

    /// What stands for the value in the help text.
    #[must_use]
    pub fn placeholder(&self) -> &'static str {
        match &self.binding {
            Binding::Value(field) => field.placeholder(),
            Binding::User(_) => "NAME:PASS",
            Binding::File(_) => "FILE",
            Binding::Alias { .. } => ALIAS.placeholder(),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        match &self.binding {
            Binding::Value(field) => field.shape(),
            Binding::User(_) => Shape::List,
            Binding::File(_) => Shape::Text,
            Binding::Alias { .. } => Shape::Switch,
        }
    }

    /// The field behind the row, for those that have one.
    pub(super) fn field(&self) -> Result<&'static dyn Field, BadValue> {
        match &self.binding {
            Binding::Value(field) => Ok(*field),
            Binding::User(_) | Binding::File(_) | Binding::Alias { .. } => {
                Err(BadValue::NotAValue { name: self.name })
            }
        }
    }

    /// Back to the default.
    pub(super) fn reset(&self, settings: &mut Settings) {
        match &self.binding {
            Binding::Value(field) => field.reset(settings),
            Binding::User(_) => settings.users.clear(),
            Binding::File(_) | Binding::Alias { .. } => {}
        }
    }
}

/// Before the name of every variable.
pub(super) const VARIABLE_PREFIX: &str = "SOCKS5D_";

/// How the value of an alias is read.
pub(super) const ALIAS: Switch<bool> = Switch { on: true, off: false };

// ---- a row's field -------------------------------------------------------------------------------------

/// A field of [`Settings`] whose type is known to nobody but its row.
pub(super) trait Field: Sync {
    fn kind(&self) -> &'static str;
    fn unit(&self) -> &'static str;
    fn shape(&self) -> Shape;
    fn placeholder(&self) -> &'static str;
    fn allowed(&self) -> String;
    fn words(&self) -> Vec<&'static str>;
    fn set(&self, settings: &mut Settings, text: &OsStr) -> Result<(), Rejected>;
    fn show(&self, settings: &Settings) -> String;
    fn reset(&self, settings: &mut Settings);
    fn copy(&self, from: &Settings, to: &mut Settings);
    fn differs(&self, a: &Settings, b: &Settings) -> bool;
}

struct Typed<T: 'static, G> {
    read: fn(&Settings) -> &T,
    write: fn(&mut Settings) -> &mut T,
    grammar: G,
    default: fn() -> T,
}

impl<T: Clone + PartialEq, G: Grammar<T>> Field for Typed<T, G> {
    fn kind(&self) -> &'static str {
        self.grammar.kind()
    }
    fn unit(&self) -> &'static str {
        self.grammar.unit()
    }
    fn shape(&self) -> Shape {
        self.grammar.shape()
    }
    fn placeholder(&self) -> &'static str {
        self.grammar.placeholder()
    }
    fn allowed(&self) -> String {
        self.grammar.allowed()
    }
    fn words(&self) -> Vec<&'static str> {
        self.grammar.words()
    }
    fn set(&self, settings: &mut Settings, text: &OsStr) -> Result<(), Rejected> {
        *(self.write)(settings) = self.grammar.parse(text)?;
        Ok(())
    }
    fn show(&self, settings: &Settings) -> String {
        self.grammar.show((self.read)(settings))
    }
    fn reset(&self, settings: &mut Settings) {
        *(self.write)(settings) = (self.default)();
    }
    fn copy(&self, from: &Settings, to: &mut Settings) {
        (self.write)(to).clone_from((self.read)(from));
    }
    fn differs(&self, a: &Settings, b: &Settings) -> bool {
        (self.read)(a) != (self.read)(b)
    }
}
