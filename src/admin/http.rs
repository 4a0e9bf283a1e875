//! The metrics endpoint's shell: listeners and connections in the control loop's own poll. It owns sockets,
//! readiness and bounds. What is asked is read by `http/request.rs`, which users are shown is kept by
//! `http/users.rs`, the text is made by [`crate::metrics::exposition`].
//!
//! A turn gives each connection that can do something one bounded piece of work; nothing waits for a worker.

mod connection;
pub mod request;
mod users;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mio::event::Event;
use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use pipo_protocol::v2::messages::ServerState;

use self::connection::{Connection, Turn};
use self::request::{Method, Request, Resource};
use self::users::{Search, Users};
use super::core::Core;
use crate::limits;
use crate::metrics::exposition::{Exposition, Facts, Format};
use crate::metrics::{Counter, Counters, Fact};
use crate::proxy::accept::ListenError;
use crate::sys::{network, socket};

/// Tokens from here on are ours: listeners, then connections.
const LISTENERS: usize = 1 << 6;
const CONNECTIONS: usize = 1 << 7;
/// The admin channel's begin here.
const OTHERS: usize = 1 << 8;
const _: () = assert!(LISTENERS + limits::ADDRESSES_PER_SETTING_MAX <= CONNECTIONS);
const _: () = assert!(CONNECTIONS + limits::METRICS_CONNECTIONS_MAX <= OTHERS);

/// Why no new client is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unready {
    /// The daemon is ending, or was told to take nobody.
    Draining,
    /// No descriptor can be had.
    Descriptors,
    /// Every place of a session is taken.
    Full,
}

/// The endpoint.
#[derive(Debug)]
pub(super) struct Http {
    listeners: Vec<Listener>,
    /// By place; a place is part of the token.
    connections: Vec<Option<Connection>>,
    next_serial: u64,
    /// Given up for a connection when no descriptor can be had, so that somebody is told.
    spare: Option<OwnedFd>,
    /// Descriptors were short: not before this moment.
    retry_at: Option<Instant>,
    users: Users,
    /// Microseconds since 1970.
    started: u64,
    counters: Arc<Counters>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    readable: bool,
}

// ---- for the control loop -------------------------------------------------------------------------------

impl Http {
    /// Listens on every address, or on none.
    pub(super) fn listen(
        addresses: &[SocketAddr],
        registry: &Registry,
        counters: Arc<Counters>,
    ) -> Result<Self, ListenError> {
        let mut listeners = Vec::new();
        for (place, wanted) in addresses.iter().enumerate() {
            let listener = Listener::listen(*wanted, registry, Token(LISTENERS + place));
            listeners.push(listener.map_err(|cause| ListenError { address: *wanted, cause })?);
        }
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut http = Self {
            listeners,
            connections: (0..limits::METRICS_CONNECTIONS_MAX).map(|_| None).collect(),
            next_serial: 0,
            spare: None,
            retry_at: None,
            users: Users::default(),
            started: u64::try_from(started.as_micros()).unwrap_or(0),
            counters,
            buffer: vec![0; limits::METRICS_BYTES_PER_TURN],
        };
        http.spare = http.new_descriptor().ok();
        Ok(http)
    }

    /// Where it is reached, for people; empty: nowhere.
    pub(super) fn places(&self) -> String {
        let places: Vec<_> = self.listeners.iter().map(|listener| listener.address.to_string()).collect();
        places.join(", ")
    }

    /// Descriptors that it may take.
    pub(super) fn descriptors_max(&self) -> u64 {
        let taken = self.listeners.len() + 1 + limits::METRICS_CONNECTIONS_MAX;
        if self.listeners.is_empty() { 0 } else { taken as u64 }
    }

    /// When [`Http::turn`] is wanted although nothing happens.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let waiting = self.listeners.iter().any(|listener| listener.readable);
        if self.connections.iter().flatten().any(Connection::wants_turn) || waiting && self.retry_at.is_none()
        {
            return Some(now);
        }
        let connections = self.connections.iter().flatten().map(Connection::deadline);
        connections.chain(self.retry_at.filter(|_| waiting)).min()
    }

    /// Notes what an event says, if it is one of ours.
    pub(super) fn note_event(&mut self, event: &Event) {
        match event.token().0 {
            token @ LISTENERS..CONNECTIONS => {
                if let Some(listener) = self.listeners.get_mut(token - LISTENERS) {
                    listener.readable = true;
                }
            }
            token @ CONNECTIONS..OTHERS => {
                if let Some(Some(connection)) = self.connections.get_mut(token - CONNECTIONS) {
                    connection.note_event(event);
                }
            }
            _ => {}
        }
    }

    /// Does what there is to do.
    pub(super) fn turn(&mut self, core: &Core, registry: &Registry, now: Instant) {
        if self.listeners.is_empty() {
            return;
        }
        self.accept(registry, now);
        for place in 0..self.connections.len() {
            let Some(Some(connection)) = self.connections.get_mut(place) else { continue };
            if now >= connection.deadline() {
                if !connection.is_parting() {
                    self.counters.count(Counter::HttpTimeout);
                    log::debug!("too slow for the metrics endpoint: source={}", connection.source);
                }
                self.close(place);
            } else if connection.wants_turn() {
                let turn = connection.turn(&core.metrics, &mut self.buffer, now);
                self.carry_out(place, turn, core, now);
            }
        }
    }
}

// ---- coming and going -----------------------------------------------------------------------------------

impl Http {
    fn accept(&mut self, registry: &Registry, now: Instant) {
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        for place in 0..self.listeners.len() {
            // No more than that in a turn: each may displace another.
            for _ in 0..limits::METRICS_CONNECTIONS_MAX {
                let Some(listener) = self.listeners.get_mut(place).filter(|listener| listener.readable)
                else {
                    break;
                };
                let accepted = match listener.socket.accept() {
                    Err(error) if is_shortage(&error) && self.spare.is_some() => {
                        self.spare = None;
                        listener.socket.accept()
                    }
                    accepted => accepted,
                };
                match accepted {
                    Ok((stream, source)) => self.admit(stream, source, registry, now),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.readable = false,
                    Err(error) if is_shortage(&error) => {
                        self.counters.count(Counter::HttpAcceptFailed);
                        self.retry_at = Some(now + limits::ACCEPT_RETRY);
                        return;
                    }
                    // The peer was gone before we came (accept(2), "Error handling").
                    Err(_) => self.counters.count(Counter::HttpAcceptFailed),
                }
            }
        }
        if self.spare.is_none() {
            self.spare = self.new_descriptor().ok();
        }
    }

    /// Gives a connection a place, if need be that of another.
    fn admit(
        &mut self,
        mut stream: mio::net::TcpStream,
        source: SocketAddr,
        registry: &Registry,
        now: Instant,
    ) {
        let free = self.connections.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            let place = self.oldest();
            self.counters.count(Counter::HttpDisplaced);
            self.close(place);
            place
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut stream, Token(CONNECTIONS + place), interest) {
            self.counters.count(Counter::HttpAcceptFailed);
            log::warn!("a connection for metrics could not be watched: source={source} error=\"{error}\"");
            return;
        }
        let connection = Connection::new(stream, source, self.next_serial, now);
        self.next_serial += 1;
        if let Some(slot) = self.connections.get_mut(place) {
            *slot = Some(connection);
        }
    }

    /// Whose place the next one gets: those who have not asked go first, then those who have been there longest.
    fn oldest(&self) -> usize {
        let key = |connection: &Connection| (!connection.is_reading(), connection.serial);
        let taken = self.connections.iter().enumerate();
        let taken =
            taken.filter_map(|(place, slot)| slot.as_ref().map(|connection| (key(connection), place)));
        taken.min().map_or(0, |(_, place)| place)
    }

    /// Ends a connection. Its descriptor becomes the spare one where that is missing, in one step, so that no
    /// other thread gets it in between.
    fn close(&mut self, place: usize) {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::take) else { return };
        if self.spare.is_none()
            && let Some(listener) = self.listeners.first()
        {
            let mut descriptor = connection.into_descriptor();
            let flags = rustix::io::DupFlags::CLOEXEC;
            if rustix::io::dup3(listener.socket.as_fd(), &mut descriptor, flags).is_ok() {
                self.spare = Some(descriptor);
            }
        }
    }

    /// One more descriptor, or the error that nobody could have one.
    fn new_descriptor(&self) -> io::Result<OwnedFd> {
        let listener = self.listeners.first().ok_or(io::ErrorKind::NotFound)?;
        listener.socket.as_fd().try_clone_to_owned()
    }
}

impl Listener {
    fn listen(wanted: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut socket = TcpListener::from_std(socket::listen(wanted)?);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self { address: socket.local_addr()?, socket, readable: true })
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

// ---- answers -------------------------------------------------------------------------------------------

impl Http {
    fn carry_out(&mut self, place: usize, turn: Turn, core: &Core, now: Instant) {
        match turn {
            Turn::GoesOn => {}
            Turn::Over => self.close(place),
            Turn::Asked(request) => self.answer(place, &request, core, now),
            Turn::Refused(error) => {
                self.counters.count(Counter::HttpRefused);
                if let Some(Some(connection)) = self.connections.get_mut(place) {
                    log::debug!(
                        "not served on the metrics endpoint: source={} error=\"{error}\"",
                        connection.source
                    );
                    connection.answer(error.status(), &format!("{error}\n"), Method::Get, now);
                }
            }
            Turn::Search(format, part) => self.search(place, format, part, core),
        }
    }

    fn answer(&mut self, place: usize, request: &Request, core: &Core, now: Instant) {
        self.counters.count(Counter::HttpAnswered);
        let unready = self.unready(core);
        let Some(Some(connection)) = self.connections.get_mut(place) else { return };
        match (request.resource, unready) {
            (Resource::Metrics(format), _) => connection.answer_metrics(format, request, now),
            (Resource::Health, _) => connection.answer("200 OK", "ok\n", request.method, now),
            (Resource::Ready, None) => connection.answer("200 OK", "ready\n", request.method, now),
            (Resource::Ready, Some(because)) => {
                let content = match because {
                    Unready::Draining => "draining\n",
                    Unready::Descriptors => "out of descriptors\n",
                    Unready::Full => "every place of a session is taken\n",
                };
                connection.answer("503 Service Unavailable", content, request.method, now);
            }
        }
    }

    /// Looks for users to show, a part of them in a turn; then everything that is to be rendered is known.
    fn search(&mut self, place: usize, format: Format, part: usize, core: &Core) {
        let directory = core.store.directory();
        let search = match part {
            0 => self.users.begin(directory, core.resolved.settings.metrics_users),
            _ => Search::From(part),
        };
        let search = match search {
            Search::From(part) => self.users.search(directory, part, limits::METRICS_PARTS_PER_TURN),
            Search::Over => Search::Over,
        };
        let exposition = match search {
            Search::From(_) => None,
            Search::Over => Some(Exposition::new(format, self.facts(core), self.users.rows(&core.metrics))),
        };
        let Some(Some(connection)) = self.connections.get_mut(place) else { return };
        match (search, exposition) {
            (Search::From(next), _) => connection.search_from(next),
            (Search::Over, Some(exposition)) => connection.render(exposition),
            (Search::Over, None) => {}
        }
    }

    fn unready(&self, core: &Core) -> Option<Unready> {
        let admission = core.plane.admission();
        let is_ending = match core.state {
            ServerState::Running | ServerState::Paused | ServerState::Unassigned(_) => false,
            ServerState::Draining | ServerState::ShuttingDown => true,
        };
        if is_ending {
            Some(Unready::Draining)
        } else if self.new_descriptor().is_err() {
            Some(Unready::Descriptors)
        } else if admission.entered() >= admission.sessions_max() {
            Some(Unready::Full)
        } else {
            None
        }
    }

    fn facts(&self, core: &Core) -> Facts {
        let mut facts = Facts::default();
        for (to, fact) in facts.iter_mut().zip(Fact::ALL) {
            *to = match fact {
                Fact::Ready => u64::from(self.unready(core).is_none()),
                Fact::StartTime => self.started,
                Fact::Workers => core.metrics.workers().count() as u64,
                Fact::Users => core.store.directory().count() as u64,
                Fact::SessionsMax => core.plane.admission().sessions_max() as u64,
                Fact::DescriptorsMax => network::descriptor_limit(),
            };
        }
        facts
    }
}
