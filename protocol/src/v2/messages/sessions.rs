//! Sessions of the proxy.

use std::net::{IpAddr, SocketAddr};

use super::part;
use crate::Name;
use crate::v2::body::message;
use crate::v2::values::wire_enum;
use crate::v2::{Text, Word};

wire_enum! {
    /// Where a session stands, in the order of the dialogue.
    pub enum Stage "stage" {
        /// Choosing the method (RFC 1928 section 3).
        Negotiate = 0 "negotiate",
        /// Checking name and password (RFC 1929).
        Authenticate = 1 "authenticate",
        /// Reading the request (RFC 1928 section 4).
        Request = 2 "request",
        /// Waiting for DNS.
        Resolve = 3 "resolve",
        /// Connecting to the origin.
        Connect = 4 "connect",
        /// Carrying bytes.
        Relay = 5 "relay",
        /// Flushing what is left.
        Closing = 6 "closing",
    }
}

wire_enum! {
    /// What a list of sessions is sorted by.
    pub enum SessionSort "session-sort" {
        /// Session id: oldest first.
        Id = 0 "id",
        /// Time since accept.
        Age = 1 "age",
        /// Octets both ways together.
        Bytes = 2 "bytes",
        /// User name.
        User = 3 "user",
        /// Destination as asked.
        Destination = 4 "destination",
        /// Time without an octet.
        Idle = 5 "idle",
    }
}

message! {
    /// Which sessions; every field that is there must match, and an empty filter matches all.
    pub struct SessionFilter "session-filter" {
        /// Of this user.
        1 user: Option<Name>,
        /// From this client address, or network with source_prefix.
        2 source: Option<IpAddr>,
        /// Leading bits of source that count.
        3 source_prefix: Option<u8>,
        /// Destination name or address as asked, whole; or, after a leading dot, any name below.
        4 destination: Option<Text<256>>,
        /// Destination port.
        5 destination_port: Option<u16>,
        /// At least so old.
        6 age_ms_min: Option<u64>,
        /// At most so old.
        7 age_ms_max: Option<u64>,
        /// At least so many octets both ways together.
        8 bytes_min: Option<u64>,
        /// At most so many octets both ways together.
        9 bytes_max: Option<u64>,
        /// In this stage.
        10 stage: Option<Stage>,
        /// At least so long without an octet.
        11 idle_ms_min: Option<u64>,
    }
}

impl SessionFilter {
    /// The empty filter.
    pub const ALL: Self = Self {
        user: None,
        source: None,
        source_prefix: None,
        destination: None,
        destination_port: None,
        age_ms_min: None,
        age_ms_max: None,
        bytes_min: None,
        bytes_max: None,
        stage: None,
        idle_ms_min: None,
    };
}

message! {
    /// Asks for sessions.
    pub struct SessionListRequest "session-list-request" {
        /// Credit of the channel, octets.
        0 credit: u32,
        /// Which; all when absent.
        1 filter: Option<SessionFilter>,
        /// In which order; by id when absent.
        2 sort: Option<SessionSort>,
        /// Largest first.
        3 descending: Option<bool>,
        /// At most so many rows.
        4 limit: Option<u32>,
    }
}

message! {
    /// A session.
    pub struct SessionRow "session-row" {
        /// Its number, unique over restarts; shown as 16 hexadecimal digits.
        1 id: u64,
        /// Whose it is.
        2 user: Name,
        /// The client's address.
        3 source: SocketAddr,
        /// Destination as asked, name or address; absent before the request.
        4 destination: Option<Text<256>>,
        /// Destination port as asked.
        5 destination_port: Option<u16>,
        /// The origin's address; absent before it is connected.
        6 origin: Option<SocketAddr>,
        /// Where it stands.
        7 stage: Stage,
        /// Time since accept.
        8 age_ms: u64,
        /// Time without an octet.
        9 idle_ms: u64,
        /// Payload from client to origin.
        10 bytes_up: u64,
        /// Payload from origin to client.
        11 bytes_down: u64,
    }
}

part! {
    /// Part of the list of sessions.
    pub struct SessionPart "session-part" of SessionRow;
}

message! {
    /// Asks for one session.
    pub struct SessionShow "session-show" {
        /// Its number.
        1 id: u64,
    }
}

message! {
    /// One session in full.
    pub struct SessionDetails "session-details" {
        /// The sequence of which this is true.
        0 as_of: u64,
        /// What the list shows.
        1 session: SessionRow,
        /// Which worker holds it.
        2 worker: u16,
        /// The listener it came in by.
        3 listener: SocketAddr,
        /// Our address towards the origin.
        4 outgoing: Option<SocketAddr>,
        /// When it was accepted.
        5 accepted_unix_ms: u64,
        /// SOCKS command as asked.
        6 command: Option<u8>,
        /// SOCKS reply as sent.
        7 reply: Option<u8>,
        /// Time spent on names.
        8 dns_us: Option<u64>,
        /// Time spent connecting.
        9 connect_us: Option<u64>,
        /// Addresses that the name has.
        10 candidates: Vec<IpAddr>,
        /// Connect attempts so far.
        11 attempts_count: u16,
        /// How octets are moved now, copy or splice.
        12 mover: Option<Word>,
        /// Octets from the client not yet given to the origin.
        13 buffered_up_bytes: u64,
        /// Octets from the origin not yet given to the client.
        14 buffered_down_bytes: u64,
        /// The client has sent its end.
        15 client_ended: bool,
        /// The origin has sent its end.
        16 origin_ended: bool,
        /// Time until its next time limit.
        17 deadline_ms: Option<u64>,
    }
}

message! {
    /// Ends sessions: those named, and those a filter matches. At least one of both must be there.
    pub struct SessionKill "session-kill" {
        /// Their numbers.
        1 ids: Vec<u64>,
        /// Which others; an empty filter means all.
        2 filter: Option<SessionFilter>,
        /// Only count them.
        3 dry_run: Option<bool>,
    }
}

message! {
    /// The answer to session kill, sent when every worker has answered.
    pub struct Killed "killed" {
        /// The sequence that includes their end.
        0 as_of: u64,
        /// Sessions that ended, or would have.
        1 sessions_count: u64,
    }
}

message! {
    /// Asks for every step of one session from now on.
    pub struct SessionTrace "session-trace" {
        /// Credit of the channel, octets.
        0 credit: u32,
        /// Its number.
        1 id: u64,
    }
}

wire_enum! {
    /// What happened in a traced session.
    pub enum TraceKind "trace-kind" {
        /// It entered a stage.
        Stage = 0 "stage",
        /// A name was asked.
        DnsQuestion = 1 "dns-question",
        /// DNS answered, or failed.
        DnsAnswer = 2 "dns-answer",
        /// A connect attempt began.
        ConnectStart = 3 "connect-start",
        /// A connect attempt ended.
        ConnectEnd = 4 "connect-end",
        /// A SOCKS reply was sent.
        Reply = 5 "reply",
        /// Octets were carried since the last such step.
        Bytes = 6 "bytes",
        /// One side sent its end.
        HalfClosed = 7 "half-closed",
        /// A time limit passed.
        Expired = 8 "expired",
        /// It is over; the last step.
        Closed = 9 "closed",
    }
}

message! {
    /// One step of a traced session.
    pub struct TraceStep "trace-step" {
        /// The session.
        1 id: u64,
        /// What happened.
        2 kind: TraceKind,
        /// Time since accept.
        3 elapsed_us: u64,
        /// Where the session stands after it.
        4 stage: Stage,
        /// The address tried or connected.
        5 address: Option<SocketAddr>,
        /// Addresses that DNS gave.
        6 addresses: Vec<IpAddr>,
        /// Octets from client to origin, in this step.
        7 bytes_up: Option<u64>,
        /// Octets from origin to client, in this step.
        8 bytes_down: Option<u64>,
        /// SOCKS reply.
        9 reply: Option<u8>,
        /// Name asked, error, or cause.
        10 detail: Option<Text<512>>,
    }
}
