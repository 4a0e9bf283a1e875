//! A session as the worker keeps it: stage, sockets, and what is known of it. And the tokens that name both.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry};

use super::accept::Place;
use super::inbox::SessionKey;
use super::loan::{Heat, Loan};
use super::order::{Chained, Links};
use super::session::{AttemptId, Facts, Session};
use super::side::{Ready, Side};
use super::timers::Tick;
use crate::ids::{ListenerId, SessionId};
use crate::limits;
use crate::sys::pipe::Pipe;
use crate::sys::socket::TcpOptions;

/// A session of a worker. An idle relay is this and two descriptors.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: SessionId,
    /// Tells this session from others that had or will have its place.
    pub(super) generation: u32,
    /// `None` while a step is at work, and while the relay is on loan.
    pub(super) session: Option<Session>,
    /// Both sockets are missing while the relay is on loan.
    pub(super) client: Option<Socket>,
    pub(super) origin: Option<Socket>,
    /// The relay, while a carrier has it.
    pub(super) loan: Option<Arc<Loan>>,
    /// The attempt that became the origin: its socket keeps that token.
    pub(super) origin_attempt: AttemptId,
    /// Until the relay begins.
    pub(super) handshake: Option<Box<Handshake>>,
    pub(super) facts: Facts,
    pub(super) client_address: SocketAddr,
    pub(super) listener: ListenerId,
    pub(super) place: Option<Place>,
    pub(super) begun: Instant,
    /// The earliest tick that the wheel holds for this session.
    pub(super) armed: Tick,
    /// Waits in one of the worker's queues for its turn.
    pub(super) queued: bool,
    /// How much it has moved lately.
    pub(super) heat: Heat,
    /// The connection to the origin is probed when it is silent.
    pub(super) kept_alive: bool,
    /// Somebody follows every step of it.
    pub(super) traced: bool,
    /// Its neighbours by age.
    pub(super) links: Links,
    /// Counted among its user's sessions.
    pub(super) counted: bool,
    /// Bytes already added to the user's statistics, each way.
    pub(super) reported: (u64, u64),
}

/// What only a handshake needs.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// Bytes of the client that no stage has consumed yet.
    pub(super) inbox: Vec<u8>,
    /// How many of them the stage has seen and left.
    pub(super) shown: usize,
    /// Bytes for the client that it has not taken yet.
    pub(super) outbox: Vec<u8>,
    /// The client's end of stream was read.
    pub(super) client_closed: bool,
    /// Our side was closed after the last answer.
    pub(super) said_goodbye: bool,
    /// The resolver may have answers for this session.
    pub(super) looking_up: bool,
    pub(super) attempts: [Option<Socket>; limits::CANDIDATES_MAX],
}

/// A socket and what is known of its readiness.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    pub(super) ready: Ready,
}

/// Which socket of a session an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SideOf {
    Client,
    /// An attempt, or the origin that it became.
    Attempt(AttemptId),
}

const INDEX_BITS: u32 = 22;
const SIDE_BITS: u32 = 4;
const GENERATION_SHIFT: u32 = INDEX_BITS + SIDE_BITS;
const _: () = assert!(limits::SESSIONS_PER_WORKER_MAX <= 1 << INDEX_BITS, "an index fits its bits");
const _: () = assert!(limits::CANDIDATES_MAX < 1 << SIDE_BITS, "each attempt and the client have a number");
const _: () = assert!(GENERATION_SHIFT + 32 <= 62, "the top two bits tell whose token it is");

impl SessionKey {
    pub(super) fn new(index: usize, generation: u32) -> Self {
        Self(u64::from(generation) << GENERATION_SHIFT | index as u64)
    }

    pub(super) fn index(self) -> usize {
        usize::try_from(self.0 & ((1 << INDEX_BITS) - 1)).unwrap_or(usize::MAX)
    }

    pub(super) fn generation(self) -> u32 {
        u32::try_from(self.0 >> GENERATION_SHIFT & u64::from(u32::MAX)).unwrap_or(u32::MAX)
    }

    pub(super) fn token(self, side: SideOf) -> mio::Token {
        let side = match side {
            SideOf::Client => 0,
            SideOf::Attempt(id) => u64::from(id.0) + 1,
        };
        mio::Token(usize::try_from(self.0 | side << INDEX_BITS).unwrap_or(usize::MAX))
    }

    /// Reads a token of ours back; the caller has checked the top two bits.
    pub(super) fn of_token(token: mio::Token) -> (Self, SideOf) {
        let bits = token.0 as u64;
        let side = bits >> INDEX_BITS & ((1 << SIDE_BITS) - 1);
        let side = match u8::try_from(side) {
            Ok(0) | Err(_) => SideOf::Client,
            Ok(side) => SideOf::Attempt(AttemptId(side - 1)),
        };
        (Self(bits & !(((1 << SIDE_BITS) - 1) << INDEX_BITS)), side)
    }
}

impl Slot {
    /// Has the connection to the origin probed when it is silent, from the first time on.
    pub(super) fn keep_origin_alive(&mut self, tcp: &TcpOptions) {
        let Some(origin) = self.origin.as_ref().filter(|_| !self.kept_alive) else { return };
        self.kept_alive = true;
        if let Err(error) = tcp.set_keepalive_on_origin(&origin.stream) {
            log::debug!("an origin is not probed: session={} error=\"{error}\"", self.id);
        }
    }
}

impl Chained for Slot {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, ready: Ready::default() }
    }

    /// Has its events told under that token.
    pub(super) fn watch(&mut self, registry: &Registry, token: mio::Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Notes what an event says.
    pub(super) fn note(&mut self, event: &mio::event::Event) {
        let ready = &mut self.ready;
        ready.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        ready.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        ready.read_closed |= event.is_read_closed();
        ready.broken |= event.is_error();
    }
}

impl Side for Socket {
    fn ready(&mut self) -> &mut Ready {
        &mut self.ready
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut self.stream, buffer)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut self.stream, bytes)
    }

    fn close_write(&mut self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }

    fn splice_into(&mut self, pipe: &Pipe, bytes: usize) -> io::Result<usize> {
        pipe.fill(&self.stream.as_fd(), bytes)
    }

    fn splice_from(&mut self, pipe: &Pipe, bytes: usize) -> io::Result<usize> {
        pipe.drain(&self.stream.as_fd(), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_session_and_side() {
        for side in [SideOf::Client, SideOf::Attempt(AttemptId(0)), SideOf::Attempt(AttemptId(7))] {
            let key = SessionKey::new(0x3f_fffe, 0xdead_beef);
            assert_eq!(SessionKey::of_token(key.token(side)), (key, side));
            assert_eq!(key.index(), 0x3f_fffe);
            assert_eq!(key.generation(), 0xdead_beef);
            assert_eq!(key.token(side).0 >> 62, 0);
        }
    }
}
