//! What an operator may choose: one value per setting, and the one table they all come from.
//!
//! [`Settings`] is the snapshot that everybody reads. [`table`] says for each setting what it is called, what
//! is allowed, what holds by default and what it does; options, environment, configuration file, help text
//! and the admin channel are made from it. [`Resolved`] keeps beside the snapshot where each value came from,
//! takes changes at run time and reads the sources again. Nothing here opens a socket or reads a clock.

// One value: its text and its meaning.
mod grammar;
mod users;
// All values: the table.
pub mod table;
// Where values come from, and which of them holds.
mod error;
mod files;
mod layers;
mod resolve;

pub use error::SettingsError;
pub use grammar::Rejected;
pub use layers::{Layer, Source};
pub use resolve::{Overridden, Reloaded, Resolved, RuntimeChanges, Sources};
pub use table::{BadValue, Row, row, rows, set, show, value_row};

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Who may use the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Required when proxy users exist, else anonymous.
    Auto,
    /// Only with a user name and password (RFC 1929).
    Required,
    /// With a password when the client offers one, anonymous otherwise.
    Optional,
    /// Never asked.
    None,
}

/// Where names are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsMode {
    /// The DoH relay; plain DNS while it does not answer.
    Auto,
    /// The DoH relay only.
    Doh,
    /// Plain DNS only, at the servers of /etc/resolv.conf.
    System,
}

/// How a question travels to the relay (RFC 8484 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DohMethod {
    /// The message as unpadded base64url in the query.
    Get,
    /// The message as the body.
    Post,
}

/// Where access lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard output.
    Stdout,
    /// A file, opened again on SIGHUP.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// The form of an access line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Tab-separated, one line when the reply is sent.
    Tab,
    /// One JSON object when the session ends.
    Json,
}

/// What carries the admin channel's associations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminTransport {
    /// Kernel SCTP where the kernel has it, else SCTP over UDP.
    Auto,
    /// Kernel SCTP only.
    Kernel,
    /// SCTP over UDP only (RFC 6951).
    Udp,
    /// Both of them.
    Both,
}

/// What is done with credentials seen in clear. The later ones show more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dissector {
    /// Nothing is looked at.
    Off,
    /// Who sent them, where to and for which user; stars for the password.
    Mask,
    /// The password as well.
    Full,
}

/// What a user may do on the admin channel; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Sees what concerns the user itself.
    User,
    /// Sees everything but secrets.
    Observer,
    /// Acts on traffic, too.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Observer => "observer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// A user given at start. `Debug` never shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct UserSpec {
    /// 1 to 255 octets.
    pub name: Vec<u8>,
    /// 1 to 255 octets.
    pub password: Vec<u8>,
    /// May use the proxy.
    pub proxy: bool,
    /// May use the admin channel, within the role.
    pub admin: bool,
    /// What the user may do there.
    pub role: Role,
}

impl std::fmt::Debug for UserSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserSpec")
            .field("name", &String::from_utf8_lossy(&self.name))
            .field("password", &"***")
            .field("proxy", &self.proxy)
            .field("admin", &self.admin)
            .field("role", &self.role)
            .finish()
    }
}

impl UserSpec {
    /// The users that a users file of these `octets` names, one on a line; `file` names it in errors.
    pub fn parse_lines(file: &str, octets: &[u8]) -> Result<Vec<Self>, SettingsError> {
        Ok(files::users_of(file, octets)?.into_iter().map(|(user, _)| user).collect())
    }
}

/// The value of every setting: an immutable snapshot, swapped whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses to listen on; empty: chosen by whether anonymous use is possible.
    pub socks_addr: Vec<IpAddr>,
    /// Port of every SOCKS listener; 0: chosen by the kernel, printed at start.
    pub socks_port: u16,
    /// Addresses of the admin channel.
    pub admin_addr: Vec<IpAddr>,
    /// Port of the admin channel.
    pub admin_port: u16,
    /// See [`AdminTransport`].
    pub admin_transport: AdminTransport,
    /// UDP port of the admin channel; 0: chosen by the kernel, printed at start.
    pub admin_udp_port: u16,
    /// Where metrics and health are served; empty: nowhere.
    pub metrics_listen: Vec<SocketAddr>,
    /// Users that have metrics of their own.
    pub metrics_users: usize,
    /// Users of flags, environment and users file together; later ones replace earlier ones.
    pub users: Vec<UserSpec>,
    /// See [`AuthMode`].
    pub auth: AuthMode,
    /// The relay's address.
    pub doh_ip: IpAddr,
    /// The relay's port.
    pub doh_port: u16,
    /// The relay's Host field.
    pub doh_host: String,
    /// The relay's path, with its leading slash.
    pub doh_path: String,
    /// What stands between path and message in a GET, `?dns=` usually.
    pub doh_query: String,
    /// See [`DohMethod`].
    pub doh_method: DohMethod,
    /// See [`DnsMode`]; `auto` has become `doh` where a relay was named.
    pub dns: DnsMode,
    /// The hosts file.
    pub hosts: String,
    /// Where the servers for plain DNS stand.
    pub resolv_conf: String,
    /// Worker threads.
    pub workers: usize,
    /// Folder of what outlives a run; `None`: where the system's conventions say.
    pub state_dir: Option<String>,
    /// I/O buffer, bytes.
    pub buffer_size: usize,
    /// Without a byte either way; `None`: never ends.
    pub idle_timeout: Option<Duration>,
    /// From accept to the request's last byte.
    pub handshake_timeout: Duration,
    /// One connect attempt.
    pub connect_timeout: Duration,
    /// Without a byte after one side has closed.
    pub half_closed_timeout: Duration,
    /// Longest sleep of a worker without events.
    pub poll_timeout: Duration,
    /// From the first signal until what is left is closed.
    pub drain_timeout: Duration,
    /// Sessions at once; accepting pauses above. `None`: what descriptors allow.
    pub max_sessions: Option<usize>,
    /// Sessions at once from one address. `None`: no limit.
    pub max_sessions_per_source: Option<usize>,
    /// Sessions of the first worker from which on the others accept as well.
    pub spread_from: usize,
    /// Refuses destinations that are not public.
    pub deny_private: bool,
    /// Source addresses for outgoing connections, at most one of each family.
    pub bind_outgoing: Vec<IpAddr>,
    /// Silence after which a connection is probed; `None`: never.
    pub tcp_keepalive: Option<Duration>,
    /// Longest time that sent bytes may stay unacknowledged; `None`: the kernel's choice.
    pub tcp_user_timeout: Option<Duration>,
    /// Name of the congestion control; `auto`: the kernel's choice.
    pub tcp_congestion: String,
    /// SO_MARK of connections to origins; `None`: none.
    pub mark: Option<usize>,
    /// See [`AccessLog`].
    pub access_log: AccessLog,
    /// See [`LogFormat`].
    pub log_format: LogFormat,
    /// Most detailed diagnostics that are printed.
    pub log_level: log::LevelFilter,
    /// See [`Dissector`].
    pub dissector: Dissector,
}

/// Every setting at its default.
impl Default for Settings {
    fn default() -> Self {
        let mut settings = Self::blank();
        rows().for_each(|row| row.reset(&mut settings));
        settings
    }
}

impl Settings {
    /// Something of the right type in each field, for the table to write its defaults over.
    fn blank() -> Self {
        Self {
            socks_addr: Vec::new(),
            socks_port: 0,
            admin_addr: Vec::new(),
            admin_port: 0,
            admin_transport: AdminTransport::Both,
            admin_udp_port: 0,
            metrics_listen: Vec::new(),
            metrics_users: 0,
            users: Vec::new(),
            auth: AuthMode::Required,
            doh_ip: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            doh_port: 0,
            doh_host: String::new(),
            doh_path: String::new(),
            doh_query: String::new(),
            doh_method: DohMethod::Get,
            dns: DnsMode::Doh,
            hosts: String::new(),
            resolv_conf: String::new(),
            workers: 0,
            state_dir: None,
            buffer_size: 0,
            idle_timeout: None,
            handshake_timeout: Duration::ZERO,
            connect_timeout: Duration::ZERO,
            half_closed_timeout: Duration::ZERO,
            poll_timeout: Duration::ZERO,
            drain_timeout: Duration::ZERO,
            max_sessions: None,
            max_sessions_per_source: None,
            spread_from: 0,
            deny_private: true,
            bind_outgoing: Vec::new(),
            tcp_keepalive: None,
            tcp_user_timeout: None,
            tcp_congestion: String::new(),
            mark: None,
            access_log: AccessLog::Off,
            log_format: LogFormat::Tab,
            log_level: log::LevelFilter::Off,
            dissector: Dissector::Off,
        }
    }
}
