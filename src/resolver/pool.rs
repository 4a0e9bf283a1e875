//! The sockets of one worker's resolver: connections to the relay, which are kept, and one socket for each
//! question to plain DNS. The shell of the resolver: it moves bytes and decides nothing about look-ups.
//!
//! A socket's token names its place and its generation, so that an event that was under way when the socket
//! was closed cannot hit the one that took its place. Closing a descriptor takes it out of the epoll set, hence
//! sockets are closed by dropping them, also where no registry is at hand.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use slab::Slab;

use super::exchange::{self, Question, Reply};
use super::http::{HttpError, Parser, Response, Reuse, Template};
use super::plain::{self, Datagram, StreamReader};
use super::table::LookupKey;
use crate::limits::{
    DNS_MESSAGE_BYTES_MAX, LOOKUPS_PER_WORKER_MAX, PLAIN_SOCKETS_PER_WORKER, PLAIN_WRONG_DATAGRAMS_MAX,
    RELAY_CONNECTIONS_PER_WORKER, RELAY_IDLE_MAX,
};
use crate::metrics::{Counter, Counters};

/// The resolver's tokens are those whose top two bits are 01.
pub const TOKEN_BASE: usize = 1 << 62;

/// Low bits of a token that name the socket's place; the 42 above it are its generation.
const PLACE_BITS: u32 = 20;
const PLACE_MASK: usize = (1 << PLACE_BITS) - 1;
const GENERATION_MASK: usize = (TOKEN_BASE - 1) >> PLACE_BITS;
const _: () = assert!(RELAY_CONNECTIONS_PER_WORKER + PLAIN_SOCKETS_PER_WORKER <= PLACE_MASK);
const _: () = assert!(PLAIN_SOCKETS_PER_WORKER <= LOOKUPS_PER_WORKER_MAX);

/// Which socket is meant, for as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketKey {
    place: usize,
    generation: usize,
}

impl SocketKey {
    fn token(self) -> Token {
        Token(TOKEN_BASE | (self.generation & GENERATION_MASK) << PLACE_BITS | self.place)
    }

    fn from_token(token: Token) -> Self {
        let below_base = token.0 & (TOKEN_BASE - 1);
        Self { place: below_base & PLACE_MASK, generation: below_base >> PLACE_BITS }
    }
}

/// Which connection a request to the relay may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    /// A kept one if there is any.
    Any,
    /// A new one: a kept one turned out to be dead, and so may be the others.
    New,
}

/// Why a question could not be sent.
#[derive(Debug)]
pub(super) enum AskError {
    /// This process is out of descriptors or memory: nobody else's fault.
    Exhausted,
    /// The peer cannot be reached.
    Unreachable(io::Error),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Self::Exhausted,
            Some(_) | None => Self::Unreachable(error),
        }
    }
}

/// Why the relay did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayFault {
    #[error("connect: {0}")]
    Connect(io::Error),
    #[error("connection: {0}")]
    Broken(io::Error),
    #[error("HTTP: {0}")]
    Http(HttpError),
    #[error("answer of another type than DNS")]
    NotDns,
    #[error("status {0}")]
    Status(u16),
    #[error("no answer in time")]
    Silence,
}

/// What an event came to for the look-up that owns the socket. The socket is closed or kept already, except
/// where it says otherwise.
#[derive(Debug)]
pub(super) enum Happened {
    /// The relay responded.
    Response(Response),
    /// The relay did not.
    RelayFault(RelayFault),
    /// A kept connection was closed before it brought anything: nobody's fault, ask again on a new one.
    KeptLost,
    /// A plain server replied.
    Reply(Reply),
    /// A plain server has more to say than fits a datagram, or someone is guessing answers: ask by TCP.
    Truncated,
    /// A plain server cannot be reached, or does not speak DNS.
    PlainFault,
}

/// A TCP connection with what is still to be sent.
#[derive(Debug)]
struct Stream {
    socket: TcpStream,
    connected: bool,
    unsent: Vec<u8>,
    sent_bytes: usize,
}

/// What an attempt to send came to.
enum Sending {
    /// The connection does not stand yet.
    Connecting,
    /// What could be sent was.
    Connected,
}

impl Stream {
    fn connect(peer: SocketAddr, unsent: Vec<u8>) -> io::Result<Self> {
        let socket = TcpStream::connect(peer)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, connected: false, unsent, sent_bytes: 0 })
    }

    /// Finds out whether the connection stands, then sends until the kernel takes no more.
    fn send(&mut self) -> io::Result<Sending> {
        if !self.connected {
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
            match self.socket.peer_addr() {
                Ok(_) => self.connected = true,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(Sending::Connecting),
                Err(error) => return Err(error),
            }
        }
        while let Some(rest) = self.unsent.get(self.sent_bytes..).filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Ok(bytes) => self.sent_bytes += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Sending::Connected)
    }

    fn is_all_sent(&self) -> bool {
        self.sent_bytes == self.unsent.len()
    }

    /// Reads once. `None`: nothing is there now. `Some(0)`: the peer closed.
    fn read(&mut self, scratch: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.socket.read(scratch) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A connection to the relay.
#[derive(Debug)]
struct RelayLink {
    stream: Stream,
    parser: Parser,
    /// Whether it carried an exchange before the present one.
    was_kept: bool,
}

impl RelayLink {
    /// Sends and reads what is possible. `None`: the response is not complete yet.
    fn advance(&mut self, scratch: &mut [u8]) -> Option<Happened> {
        match self.stream.send() {
            Ok(Sending::Connecting) => return None,
            Ok(Sending::Connected) => {}
            Err(error) => return Some(self.failure(error)),
        }
        loop {
            let bytes = match self.stream.read(scratch) {
                Ok(None) => return None,
                Ok(Some(0)) => return Some(self.end()),
                Ok(Some(bytes)) => bytes,
                Err(error) => return Some(self.failure(error)),
            };
            match self.parser.feed(scratch.get(..bytes).unwrap_or_default()) {
                Ok((_, None)) => {}
                Ok((taken, Some(mut response))) => {
                    // The peer may have closed together with its answer; events are edges, so nobody would
                    // tell again.
                    let is_quiet = taken == bytes && matches!(self.stream.read(scratch), Ok(None));
                    if !is_quiet || !self.stream.is_all_sent() {
                        response.reuse = Reuse::Close;
                    }
                    return Some(Happened::Response(response));
                }
                Err(error) => return Some(Happened::RelayFault(RelayFault::Http(error))),
            }
        }
    }

    fn failure(&self, error: io::Error) -> Happened {
        if !self.stream.connected {
            return Happened::RelayFault(RelayFault::Connect(error));
        }
        if self.was_kept && self.parser.is_untouched() {
            return Happened::KeptLost;
        }
        Happened::RelayFault(RelayFault::Broken(error))
    }

    fn end(&mut self) -> Happened {
        if self.was_kept && self.parser.is_untouched() {
            return Happened::KeptLost;
        }
        match std::mem::take(&mut self.parser).close() {
            Ok(mut response) => {
                response.reuse = Reuse::Close;
                Happened::Response(response)
            }
            Err(error) => Happened::RelayFault(RelayFault::Http(error)),
        }
    }
}

/// A socket for one question to one plain server: its own random port (RFC 5452 §4.5).
#[derive(Debug)]
struct DatagramLink {
    socket: UdpSocket,
    question: Question,
    wrong_count: u32,
}

impl DatagramLink {
    /// Reads until an answer has come or nothing is left. The kernel drops what is not from the server.
    fn advance(&mut self, scratch: &mut [u8], counters: &Counters) -> Option<Happened> {
        loop {
            let octets = match self.socket.recv(scratch) {
                Ok(bytes) => scratch.get(..bytes).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // A port unreachable came back: nobody listens there.
                Err(_) => return Some(Happened::PlainFault),
            };
            match plain::read_datagram(&self.question, octets) {
                Datagram::Reply(reply) => return Some(Happened::Reply(reply)),
                Datagram::Truncated => return Some(Happened::Truncated),
                Datagram::Wrong(error) => {
                    log::debug!("datagram that is no answer name={} error=\"{error}\"", self.question.name);
                    counters.count(Counter::DnsInvalidAnswer);
                    self.wrong_count += 1;
                    if self.wrong_count >= PLAIN_WRONG_DATAGRAMS_MAX {
                        return Some(Happened::Truncated);
                    }
                }
            }
        }
    }
}

/// A TCP connection for one question to one plain server.
#[derive(Debug)]
struct StreamLink {
    stream: Stream,
    question: Question,
    reader: StreamReader,
}

impl StreamLink {
    fn advance(&mut self, scratch: &mut [u8], counters: &Counters) -> Option<Happened> {
        match self.stream.send() {
            Ok(Sending::Connecting) => return None,
            Ok(Sending::Connected) => {}
            Err(_) => return Some(Happened::PlainFault),
        }
        loop {
            let piece = match self.stream.read(scratch) {
                Ok(None) => return None,
                Ok(Some(0)) | Err(_) => return Some(Happened::PlainFault),
                Ok(Some(bytes)) => scratch.get(..bytes).unwrap_or_default(),
            };
            let Some(message) = self.reader.feed(piece) else { continue };
            return Some(match exchange::check(&self.question, message) {
                Ok(reply) => Happened::Reply(reply),
                Err(error) => {
                    log::debug!("TCP answer is none name={} error=\"{error}\"", self.question.name);
                    counters.count(Counter::DnsInvalidAnswer);
                    Happened::PlainFault
                }
            });
        }
    }
}

#[derive(Debug)]
enum Link {
    Relay(RelayLink),
    Datagram(DatagramLink),
    Stream(StreamLink),
}

#[derive(Debug)]
struct Socket {
    generation: usize,
    /// `None`: a kept connection that waits for its next exchange.
    owner: Option<LookupKey>,
    link: Link,
}

/// All sockets of one worker's resolver.
#[derive(Debug)]
pub(super) struct Pool {
    sockets: Slab<Socket>,
    next_generation: usize,
    /// Kept connections; the one used last at the back, so that those in excess grow old at the front.
    kept: VecDeque<(SocketKey, Instant)>,
    relay_count: usize,
    plain_count: usize,
    /// Every read goes through here; a datagram of any size fits.
    scratch: Box<[u8]>,
    counters: Arc<Counters>,
}

impl Pool {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self {
            sockets: Slab::new(),
            next_generation: 0,
            kept: VecDeque::new(),
            relay_count: 0,
            plain_count: 0,
            scratch: vec![0; DNS_MESSAGE_BYTES_MAX].into_boxed_slice(),
            counters,
        }
    }

    /// Whether the relay can be asked now: a connection is kept or may be opened.
    pub(super) fn has_room_for_relay(&self) -> bool {
        !self.kept.is_empty() || self.relay_count < RELAY_CONNECTIONS_PER_WORKER
    }

    /// Whether a plain server can be asked now.
    pub(super) fn has_room_for_plain(&self) -> bool {
        self.plain_count < PLAIN_SOCKETS_PER_WORKER
    }

    /// Sends a question to the relay. Call it only when there is room.
    pub(super) fn ask_relay(
        &mut self,
        relay: SocketAddr,
        template: &Template,
        question: &Question,
        connection: Connection,
        owner: LookupKey,
        registry: &Registry,
    ) -> Result<SocketKey, AskError> {
        let request = template.encode(&question.encode());
        match connection {
            Connection::Any => {
                if let Some(key) = self.ask_kept(&request, owner) {
                    return Ok(key);
                }
            }
            // Gives up the oldest kept one should there be no room for another.
            Connection::New => {
                if self.relay_count >= RELAY_CONNECTIONS_PER_WORKER
                    && let Some((oldest, _)) = self.kept.pop_front()
                {
                    self.close(oldest);
                }
            }
        }
        let stream = Stream::connect(relay, request)?;
        let link = RelayLink { stream, parser: Parser::default(), was_kept: false };
        self.open(Link::Relay(link), owner, registry)
    }

    /// Sends a request on a kept connection. `None`: there is none that still stands.
    fn ask_kept(&mut self, request: &[u8], owner: LookupKey) -> Option<SocketKey> {
        while let Some((key, _)) = self.kept.pop_back() {
            if let Some(socket) = self.sockets.get_mut(key.place)
                && let Link::Relay(link) = &mut socket.link
            {
                link.was_kept = true;
                link.parser = Parser::default();
                link.stream.unsent.clear();
                link.stream.unsent.extend_from_slice(request);
                link.stream.sent_bytes = 0;
                if link.stream.send().is_ok() {
                    socket.owner = Some(owner);
                    return Some(key);
                }
            }
            self.close(key);
        }
        None
    }

    /// Sends a question to a plain server in a datagram, from a port of its own.
    pub(super) fn ask_datagram(
        &mut self,
        server: SocketAddr,
        question: Question,
        owner: LookupKey,
        registry: &Registry,
    ) -> Result<SocketKey, AskError> {
        let any_port = match server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any_port)?;
        socket.connect(server)?;
        socket.send(&question.encode())?;
        self.open(Link::Datagram(DatagramLink { socket, question, wrong_count: 0 }), owner, registry)
    }

    /// Sends a question to a plain server by TCP.
    pub(super) fn ask_stream(
        &mut self,
        server: SocketAddr,
        question: Question,
        owner: LookupKey,
        registry: &Registry,
    ) -> Result<SocketKey, AskError> {
        // A question is a name and a few octets: it always has a length of 16 bits.
        let unsent = plain::encode_stream(&question.encode()).unwrap_or_default();
        let stream = Stream::connect(server, unsent)?;
        let link = StreamLink { stream, question, reader: StreamReader::default() };
        self.open(Link::Stream(link), owner, registry)
    }

    fn open(&mut self, mut link: Link, owner: LookupKey, registry: &Registry) -> Result<SocketKey, AskError> {
        let key = SocketKey { place: self.sockets.vacant_key(), generation: self.next_generation };
        let both = Interest::READABLE | Interest::WRITABLE;
        let (registered, count) = match &mut link {
            Link::Relay(link) => {
                (registry.register(&mut link.stream.socket, key.token(), both), &mut self.relay_count)
            }
            Link::Stream(link) => {
                (registry.register(&mut link.stream.socket, key.token(), both), &mut self.plain_count)
            }
            Link::Datagram(link) => {
                (registry.register(&mut link.socket, key.token(), Interest::READABLE), &mut self.plain_count)
            }
        };
        registered?;
        *count += 1;
        self.next_generation = (self.next_generation + 1) & GENERATION_MASK;
        self.sockets.insert(Socket { generation: key.generation, owner: Some(owner), link });
        Ok(key)
    }

    /// Closes a socket whose exchange is given up. One that is closed already is no mistake.
    pub(super) fn close(&mut self, key: SocketKey) {
        if self.sockets.get(key.place).is_none_or(|socket| socket.generation != key.generation) {
            return;
        }
        match self.sockets.remove(key.place).link {
            Link::Relay(_) => self.relay_count -= 1,
            Link::Datagram(_) | Link::Stream(_) => self.plain_count -= 1,
        }
    }

    /// Closes the connections that are kept.
    pub(super) fn close_kept(&mut self) {
        while let Some((key, _)) = self.kept.pop_front() {
            self.close(key);
        }
    }

    /// When the next kept connection is too old.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.kept.front().map(|&(_, since)| since + RELAY_IDLE_MAX)
    }

    /// Closes the kept connections that are too old.
    pub(super) fn on_deadline(&mut self, now: Instant) {
        while let Some(&(key, since)) = self.kept.front()
            && now >= since + RELAY_IDLE_MAX
        {
            self.kept.pop_front();
            self.close(key);
        }
    }

    /// Does what an event makes possible. `Some`: the exchange of that look-up has ended; its socket is gone
    /// or kept.
    pub(super) fn on_event(&mut self, token: Token, now: Instant) -> Option<(LookupKey, Happened)> {
        let key = SocketKey::from_token(token);
        let socket = self.sockets.get_mut(key.place)?;
        if socket.generation != key.generation {
            return None;
        }
        let Some(owner) = socket.owner else {
            self.check_kept(key);
            return None;
        };
        let happened = match &mut socket.link {
            Link::Relay(link) => link.advance(&mut self.scratch),
            Link::Datagram(link) => link.advance(&mut self.scratch, &self.counters),
            Link::Stream(link) => link.advance(&mut self.scratch, &self.counters),
        }?;
        match &happened {
            Happened::Response(response) if response.reuse == Reuse::Keep => {
                socket.owner = None;
                self.kept.push_back((key, now));
            }
            Happened::Response(_)
            | Happened::RelayFault(_)
            | Happened::KeptLost
            | Happened::Reply(_)
            | Happened::Truncated
            | Happened::PlainFault => self.close(key),
        }
        Some((owner, happened))
    }

    /// A kept connection has nothing to bring: whatever it brings, most often its end, makes it useless.
    fn check_kept(&mut self, key: SocketKey) {
        let Some(Socket { link: Link::Relay(link), .. }) = self.sockets.get_mut(key.place) else { return };
        if !matches!(link.stream.read(&mut self.scratch), Ok(None)) {
            self.kept.retain(|&(kept, _)| kept != key);
            self.close(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use mio::Poll;

    use super::super::table::Table;
    use super::super::{DomainName, Family};
    use super::*;

    #[test]
    fn a_token_names_place_and_generation_under_the_resolvers_two_bits() {
        for (place, generation) in [(0, 0), (1, 2), (PLACE_MASK, GENERATION_MASK)] {
            let key = SocketKey { place, generation };
            assert_eq!(key.token().0 >> 62, 1);
            assert_eq!(SocketKey::from_token(key.token()), key);
        }
    }

    #[test]
    fn an_event_of_a_closed_socket_does_not_reach_the_one_in_its_place() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = server.local_addr().unwrap();
        let poll = Poll::new().unwrap();
        let name = DomainName::parse(b"host.example").unwrap();
        let owner = Table::default().begin(&name, Family::V4, Instant::now());
        let question = Question { name, family: Family::V4, id: 0 };
        let template = Template::new(crate::settings::DohMethod::Get, "h", "/", "?");
        let mut pool = Pool::new(Arc::default());
        let ask = |pool: &mut Pool| {
            pool.ask_relay(relay, &template, &question, Connection::Any, owner, poll.registry()).unwrap()
        };
        let first = ask(&mut pool);
        pool.close(first);
        let second = ask(&mut pool);
        assert_eq!(first.place, second.place);
        // The server closes the second connection: its own event would report that.
        drop(server.accept().unwrap());
        drop(server.accept().unwrap());
        assert!(pool.on_event(first.token(), Instant::now()).is_none());
        pool.close(first);
        assert_eq!(pool.relay_count, 1);
        let happened = loop {
            if let Some((_, happened)) = pool.on_event(second.token(), Instant::now()) {
                break happened;
            }
        };
        assert!(matches!(happened, Happened::RelayFault(RelayFault::Broken(_) | RelayFault::Http(_))));
        assert_eq!((pool.relay_count, pool.sockets.len()), (0, 0));
    }

    #[test]
    fn want_of_descriptors_is_told_from_a_peer_that_is_not_there() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(matches!(AskError::from(io::Error::from(errno)), AskError::Exhausted), "{errno}");
        }
        let refused = AskError::from(io::Error::from(Errno::CONNREFUSED));
        assert!(matches!(refused, AskError::Unreachable(_)));
    }
}
