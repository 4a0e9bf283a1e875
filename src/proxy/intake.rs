//! Taking connections in: which workers do, how many at a time, and who gets them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use mio::Token;

use super::accept::{Listener, Place};
use super::inbox::{Connection, Inbox, Message, SessionKey};
use super::live::Happened;
use super::loan::Heat;
use super::order::Links;
use super::session::{AttemptId, Facts, Session};
use super::slot::{Handshake, SideOf, Slot, Socket};
use super::timers::Tick;
use super::worker::{LISTENER_BASE, Worker};
use crate::limits;
use crate::metrics::Counter;
use crate::sys::epoll;

/// Whether the listeners are in this worker's epoll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepting {
    Yes,
    /// For want of places or descriptors, until then or until a session ends.
    PausedUntil(Instant),
    /// The first worker accepts for all.
    Spared,
    /// Not until it is told to.
    Resting,
    /// Draining: never again.
    Over,
}

/// What is known of a listener's backlog after some accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backlog {
    Empty,
    Unknown,
}

impl Worker {
    /// Accepts a few connections of a listener; what is left there wakes some worker again.
    pub(super) fn accept(&mut self, place: usize) -> Backlog {
        if self.accepting != Accepting::Yes {
            return Backlog::Unknown;
        }
        let shared = Arc::clone(&self.shared);
        let Some(listener) = shared.listeners.get(place) else { return Backlog::Unknown };
        for _ in 0..limits::ACCEPTS_PER_TURN {
            // The place is taken before the connection: what cannot be served stays in the backlog.
            if !shared.admission.reserve() {
                self.pause_accepting();
                return Backlog::Unknown;
            }
            match listener.socket.accept() {
                Ok((socket, client)) => self.admit(listener, socket.into(), client),
                Err(error) => {
                    shared.admission.cancel();
                    if error.kind() == io::ErrorKind::WouldBlock {
                        return Backlog::Empty;
                    }
                    self.counters.count(Counter::AcceptFailed);
                    // Else the client was gone before we came (accept(2), "Error handling").
                    if !is_peer_error(&error) {
                        log::debug!("accepting pauses: worker={} error=\"{error}\"", self.id.0);
                        self.pause_accepting();
                        return Backlog::Unknown;
                    }
                }
            }
        }
        Backlog::Unknown
    }

    /// Accepts what waits at every listener, a few connections of each. Whether nothing is left that this
    /// worker could take.
    pub(super) fn empty_backlogs(&mut self) -> bool {
        let are_empty = (0..self.shared.listeners.len()).all(|place| self.accept(place) == Backlog::Empty);
        are_empty || self.accepting != Accepting::Yes
    }

    /// Accepts no more until it is told to.
    pub(super) fn rest(&mut self) {
        match self.accepting {
            Accepting::Yes => self.take_listeners_out(),
            Accepting::PausedUntil(_) | Accepting::Spared | Accepting::Resting => {}
            Accepting::Over => return,
        }
        self.set_accepting(Accepting::Resting);
    }

    /// The end of a rest.
    pub(super) fn accept_again(&mut self) {
        if self.accepting == Accepting::Resting {
            self.accept_if_needed();
        }
    }

    /// Accepts, unless the first worker does that for all.
    pub(super) fn accept_if_needed(&mut self) {
        if self.is_needed() { self.resume_accepting() } else { self.set_accepting(Accepting::Spared) }
    }

    /// Sessions that are few are served by one thread with far fewer sleeps and wake-ups than by several that are
    /// half busy; those that move much are carried elsewhere anyway.
    fn is_needed(&self) -> bool {
        self.is_first() || self.shared.is_crowded.load(Ordering::Relaxed)
    }

    fn is_first(&self) -> bool {
        self.id.0 == 0
    }

    /// The first worker has become crowded, or is so no more.
    pub(super) fn look_around(&mut self) {
        match (self.accepting, self.is_needed()) {
            (Accepting::Yes, false) => {
                self.take_listeners_out();
                self.set_accepting(Accepting::Spared);
            }
            (Accepting::PausedUntil(_), false) => self.set_accepting(Accepting::Spared),
            (Accepting::Spared, true) => self.resume_accepting(),
            (Accepting::Yes | Accepting::PausedUntil(_), true)
            | (Accepting::Spared, false)
            | (Accepting::Resting | Accepting::Over, _) => {}
        }
    }

    /// After a turn of the first worker: has the others accept, too, while it has many sessions.
    pub(super) fn note_crowd(&mut self) {
        if !self.is_first() {
            return;
        }
        let was_crowded = self.shared.is_crowded.load(Ordering::Relaxed);
        let sessions_count = self.inbox.load.load(Ordering::Relaxed);
        let spread_from = self.snapshot.settings.spread_from;
        // Half of it ends what all of it began: else each session that comes or goes could change it again.
        let is_crowded = sessions_count >= if was_crowded { spread_from / 2 } else { spread_from };
        if is_crowded == was_crowded {
            return;
        }
        self.shared.is_crowded.store(is_crowded, Ordering::Relaxed);
        for other in self.shared.inboxes.iter().skip(1) {
            if other.send(Message::LookAround).is_err() {
                log::error!("a worker could not be told"); // Only connections and questions are ever refused.
            }
        }
    }

    fn admit(&mut self, listener: &Listener, socket: std::net::TcpStream, client: SocketAddr) {
        let Some(place) = self.shared.admission.enter(client.ip()) else {
            return self.counters.count(Counter::SourceLimit);
        };
        self.counters.count(Counter::SessionsAccepted);
        let connection = Connection { socket, listener: listener.id, client, place };
        let connection = match self.less_loaded() {
            Some(other) => {
                other.load.fetch_add(1, Ordering::Relaxed);
                match other.send(Message::Accepted(connection)) {
                    Ok(()) => return self.counters.count(Counter::HandOff),
                    Err(Message::Accepted(connection)) => {
                        other.load.fetch_sub(1, Ordering::Relaxed);
                        self.counters.count(Counter::InboxFull);
                        connection
                    }
                    Err(_) => return,
                }
            }
            None => connection,
        };
        self.inbox.load.fetch_add(1, Ordering::Relaxed);
        self.begin(connection);
    }

    /// Once the first worker is crowded, the least loaded one, when this one's load exceeds it by more than one.
    fn less_loaded(&self) -> Option<Arc<Inbox>> {
        if !self.shared.is_crowded.load(Ordering::Relaxed) {
            return None;
        }
        let load_of = |inbox: &Inbox| inbox.load.load(Ordering::Relaxed);
        let least = self.shared.inboxes.iter().min_by_key(|inbox| load_of(inbox))?;
        (load_of(&self.inbox) > load_of(least) + 1).then(|| Arc::clone(least))
    }

    /// A session begins.
    pub(super) fn begin(&mut self, connection: Connection) {
        let mut client = Socket::new(mio::net::TcpStream::from_std(connection.socket));
        self.sessions_begun += 1;
        let generation = u32::try_from(self.sessions_begun & u64::from(u32::MAX)).unwrap_or(0);
        let id = self.youngest_id();
        let entry = self.sessions.vacant_entry();
        let key = SessionKey::new(entry.key(), generation);
        if let Err(error) = client.watch(self.poll.registry(), key.token(SideOf::Client)) {
            log::warn!("a connection could not be watched: client={} error=\"{error}\"", connection.client);
            self.counters.count(Counter::AcceptFailed);
            self.counters.count(Counter::SessionsClosed);
            self.leave(connection.place);
            return;
        }
        let deadline = self.now + self.snapshot.settings.handshake_timeout;
        client.ready.writable = true; // A new connection's send buffer is empty.
        entry.insert(Slot {
            id,
            generation,
            session: Some(Session::new(deadline)),
            client: Some(client),
            origin: None,
            loan: None,
            origin_attempt: AttemptId(0),
            handshake: Some(Box::new(Handshake::default())),
            facts: Facts::new(self.shared.store.directory().anonymous()),
            client_address: connection.client,
            listener: connection.listener,
            place: Some(connection.place),
            begun: self.now,
            armed: Tick::NEVER,
            queued: false,
            heat: Heat::default(),
            kept_alive: false,
            traced: false,
            links: Links::default(),
            counted: false,
            reported: (0, 0),
        });
        self.order.append(&mut self.sessions, key.index());
        self.arm(key);
        self.announce(key, Happened::Opened);
    }

    /// Gives a session's place back.
    pub(super) fn leave(&mut self, place: Place) {
        self.inbox.load.fetch_sub(1, Ordering::Relaxed);
        self.shared.admission.leave(place);
        if matches!(self.accepting, Accepting::PausedUntil(_)) {
            self.resume_accepting();
        }
    }

    /// When accepting, which pauses, is to be tried again.
    pub(super) fn accept_retry(&self) -> Option<Instant> {
        match self.accepting {
            Accepting::PausedUntil(at) => Some(at),
            Accepting::Yes | Accepting::Spared | Accepting::Resting | Accepting::Over => None,
        }
    }

    pub(super) fn resume_accepting(&mut self) {
        self.set_accepting(Accepting::Yes);
        for listener in &self.shared.listeners {
            let token = Token(LISTENER_BASE | usize::from(listener.id.0));
            if let Err(error) = epoll::share_listener(&self.poll, &listener.socket, token) {
                log::error!(
                    "a listener could not be watched: address={} error=\"{error}\"",
                    listener.address
                );
            }
        }
    }

    fn pause_accepting(&mut self) {
        self.counters.count(Counter::AcceptPaused);
        self.take_listeners_out();
        self.set_accepting(Accepting::PausedUntil(self.now + limits::ACCEPT_RETRY));
    }

    pub(super) fn stop_accepting(&mut self) {
        if self.accepting == Accepting::Yes {
            self.take_listeners_out();
        }
        self.set_accepting(Accepting::Over);
    }

    fn set_accepting(&mut self, accepting: Accepting) {
        let is_paused = |accepting: Accepting| matches!(accepting, Accepting::PausedUntil(_));
        match (is_paused(self.accepting), is_paused(accepting)) {
            (false, true) => drop(self.shared.paused_count.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.shared.paused_count.fetch_sub(1, Ordering::Relaxed)),
            (true, true) | (false, false) => {}
        }
        self.accepting = accepting;
    }

    fn take_listeners_out(&mut self) {
        for listener in &self.shared.listeners {
            if let Err(error) = epoll::unshare_listener(&self.poll, &listener.socket) {
                log::debug!("a listener was not watched: address={} error=\"{error}\"", listener.address);
            }
        }
    }
}

/// Errors of accept(2) that concern one connection only.
fn is_peer_error(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::EPERM
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
        )
    )
}
