//! The origin: sends, takes and echoes on one thread. Its cost is the same for every server that stands before it.

use crate::poller::{Poller, Ready};
use crate::target::Endpoints;
use rustix::event::epoll::EventFlags;
use rustix::net::{SocketFlags, accept_with};
use slab::Slab;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

/// One write of a source, one read of a sink.
pub(crate) const BLOCK_BYTES: usize = 256 * 1024;

/// Connections waiting to be accepted: more than any load opens at once.
const BACKLOG: i32 = 4096;

/// Tokens from here on are listeners.
const LISTENER_TOKENS: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Source,
    Sink,
    Duplex,
    Echo,
}

struct Connection {
    stream: TcpStream,
    role: Role,
    /// What an echo could not send yet.
    pending: Vec<u8>,
    /// The client's end was read; close when nothing is pending.
    ended: bool,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Keep,
    Close,
}

/// Listens, prints its endpoints as one line and serves until the process is ended.
pub(crate) fn run() -> io::Result<()> {
    let (listeners, endpoints) = listen()?;
    println!("{}", endpoints.to_line());
    Origin::new(listeners)?.serve()
}

struct Origin {
    poller: Poller,
    listeners: Vec<(TcpListener, Role)>,
    connections: Slab<Connection>,
    block: Vec<u8>,
    scratch: Vec<u8>,
}

impl Origin {
    fn new(listeners: Vec<(TcpListener, Role)>) -> io::Result<Self> {
        let poller = Poller::new(1024)?;
        for (token, (listener, _)) in (LISTENER_TOKENS..).zip(&listeners) {
            poller.add(listener, token, EventFlags::IN)?;
        }
        Ok(Self {
            poller,
            listeners,
            connections: Slab::new(),
            block: vec![0x5a; BLOCK_BYTES],
            scratch: vec![0; BLOCK_BYTES],
        })
    }

    fn serve(mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            self.poller.wait(None, &mut ready)?;
            for event in &ready {
                match event.token.checked_sub(LISTENER_TOKENS) {
                    Some(listener) => self.accept(listener)?,
                    None => self.turn(*event)?,
                }
            }
        }
    }

    fn accept(&mut self, listener: u64) -> io::Result<()> {
        let index = usize::try_from(listener).map_err(io::Error::other)?;
        let Some((listener, role)) = self.listeners.get(index) else { return Ok(()) };
        while let Ok(socket) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            let stream = TcpStream::from(socket);
            let interest = match role {
                Role::Source | Role::Duplex => EventFlags::IN | EventFlags::OUT,
                Role::Sink | Role::Echo => EventFlags::IN,
            };
            let entry = self.connections.vacant_entry();
            self.poller.add(&stream, entry.key() as u64, interest)?;
            entry.insert(Connection { stream, role: *role, pending: Vec::new(), ended: false });
        }
        Ok(())
    }

    fn turn(&mut self, event: Ready) -> io::Result<()> {
        let key = usize::try_from(event.token).map_err(io::Error::other)?;
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let fate = match connection.role {
            Role::Echo => echo(connection, event, &mut self.scratch, &self.poller)?,
            Role::Source | Role::Sink | Role::Duplex => {
                stream(connection, event, &mut self.scratch, &self.block)
            }
        };
        if fate == Fate::Close {
            self.connections.remove(key);
        }
        Ok(())
    }
}

/// One read and one write a turn, so that streams stay even. The client's end ends the connection.
fn stream(connection: &mut Connection, event: Ready, scratch: &mut [u8], block: &[u8]) -> Fate {
    if event.is_readable() {
        match connection.stream.read(scratch) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return Fate::Close,
        }
    }
    if event.is_writable() && connection.role != Role::Sink {
        match connection.stream.write(block) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Fate::Close,
        }
    }
    Fate::Keep
}

fn echo(connection: &mut Connection, event: Ready, scratch: &mut [u8], poller: &Poller) -> io::Result<Fate> {
    let was_blocked = !connection.pending.is_empty();
    if was_blocked {
        match connection.stream.write(&connection.pending) {
            Ok(count) => drop(connection.pending.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Ok(Fate::Close),
        }
    } else if event.is_readable() {
        match connection.stream.read(scratch) {
            Ok(0) => connection.ended = true,
            Ok(count) => {
                let message = scratch.get(..count).unwrap_or_default();
                match connection.stream.write(message) {
                    Ok(sent) => connection.pending.extend(message.get(sent..).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        connection.pending.extend(message);
                    }
                    Err(_) => return Ok(Fate::Close),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Ok(Fate::Close),
        }
    }
    let is_blocked = !connection.pending.is_empty();
    if is_blocked != was_blocked {
        let interest = if is_blocked { EventFlags::OUT } else { EventFlags::IN };
        poller.modify(&connection.stream, event.token, interest)?;
    }
    if connection.ended && !is_blocked {
        // The peer may be gone already; the close that follows says the same.
        let _ = connection.stream.shutdown(Shutdown::Write);
        return Ok(Fate::Close);
    }
    Ok(Fate::Keep)
}

/// One port a service, on 127.0.0.1 and, where IPv6 exists, the same port on ::1 (`localhost` may mean either).
fn listen() -> io::Result<(Vec<(TcpListener, Role)>, Endpoints)> {
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for index in 0..Endpoints::COUNT {
        let role = match index {
            0 => Role::Source,
            1 => Role::Sink,
            2 => Role::Duplex,
            _ => Role::Echo,
        };
        let listener = listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        if let Ok(six) = self::listener(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), address.port())) {
            listeners.push((six, role));
        }
        listeners.push((listener, role));
        addresses.push(address);
    }
    let endpoints = Endpoints::from_addresses(&addresses)
        .ok_or_else(|| io::Error::other("the number of listeners is not the number of endpoints"))?;
    Ok((listeners, endpoints))
}

/// A listener that does not block, with a long backlog.
pub(crate) fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
