//! The server: what it is, how it is doing, draining and going down.

use std::net::SocketAddr;

use super::part;
use crate::v2::Word;
use crate::v2::body::message;
use crate::v2::messages::PendingCommit;
use crate::v2::values::wire_enum;

message! {
    /// What the server is and how it is doing.
    pub struct ServerInfo "server-info" {
        /// The sequence of which this is true.
        0 as_of: u64,
        /// Name and version.
        1 version: Word,
        /// When it started.
        2 started_unix_ms: u64,
        /// How long it has run.
        3 uptime_ms: u64,
        /// Its process id.
        4 process: u32,
        /// Worker threads.
        5 workers_count: u16,
        /// Whether it accepts sessions.
        6 state: ServerState,
        /// Sessions open now.
        7 sessions_count: u64,
        /// Users registered.
        8 users_registered_count: u32,
        /// Distinct users with a session open now.
        9 users_connected_count: u32,
        /// Where SOCKS clients connect.
        10 socks_listeners: Vec<SocketAddr>,
        /// Where admin clients connect.
        11 admin_listeners: Vec<SocketAddr>,
        /// What carries this association, kernel or udp.
        12 admin_transport: Word,
        /// Where names are resolved now.
        13 resolver: ResolverState,
        /// Revision of the configuration.
        14 revision: u64,
        /// A commit that waits to be confirmed.
        15 pending: Option<PendingCommit>,
    }
}

wire_enum! {
    /// Whether the server accepts sessions.
    pub enum ServerState "server-state" {
        /// It does.
        Running = 0 "running",
        /// Accepting pauses because a limit is reached.
        Paused = 1 "paused",
        /// It does not, and lets the sessions it has end.
        Draining = 2 "draining",
        /// It is going down.
        ShuttingDown = 3 "shutting-down",
    }
}

wire_enum! {
    /// Where names are resolved.
    pub enum ResolverState "resolver-state" {
        /// At the DoH relay.
        Relay = 0 "relay",
        /// At plain DNS while the relay is down.
        Fallback = 1 "fallback",
        /// At plain DNS, as configured.
        Plain = 2 "plain",
        /// The relay is down and nothing else may be asked.
        Down = 3 "down",
    }
}

message! {
    /// Asks for a list without conditions.
    pub struct ListRequest "list-request" {
        /// Credit of the channel, octets.
        0 credit: u32,
    }
}

message! {
    /// One worker thread.
    pub struct WorkerRow "worker-row" {
        /// Its number, from 0.
        1 worker: u16,
        /// Its sessions now.
        2 sessions_count: u64,
        /// Its sessions since the start.
        3 sessions_total_count: u64,
        /// Payload from clients to origins.
        4 bytes_up: u64,
        /// Payload from origins to clients.
        5 bytes_down: u64,
        /// Look-ups under way.
        6 lookups_count: u32,
        /// Answers in its resolver cache.
        7 cache_entries_count: u32,
        /// Messages waiting for it.
        8 inbox_count: u32,
        /// Longest turn of its loop since the last query.
        9 turn_us_max: Option<u32>,
    }
}

part! {
    /// Part of the list of workers.
    pub struct WorkerPart "worker-part" of WorkerRow;
}

message! {
    /// Stops or resumes accepting.
    pub struct DrainReply "drain-reply" {
        /// The sequence of which this is true.
        0 as_of: u64,
        /// Sessions open now.
        1 sessions_count: u64,
    }
}

message! {
    /// Takes the server down.
    pub struct ShutdownRequest "shutdown-request" {
        /// How long sessions may go on; the setting drain-timeout when absent.
        1 drain_ms: Option<u32>,
    }
}
