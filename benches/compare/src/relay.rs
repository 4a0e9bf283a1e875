//! Bare relays: one thread, no SOCKS, no limits, no statistics. What moving bytes costs when nothing else is done.
//!
//! Each listener has one fixed origin. `copy` moves through one scratch buffer, `splice` through pipes that are
//! borrowed while they carry bytes. Everything is edge-triggered and registered once.

use crate::origin::listener;
use crate::poller::{EDGE, Poller, Ready};
use crate::target::{Endpoints, connect_nonblocking};
use rustix::event::epoll::EventFlags;
use rustix::net::{SocketFlags, accept_with};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use slab::Slab;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Full buffers moved for one direction before the others get their turn.
const MOVES_PER_TURN: usize = 4;

/// Tokens from here on are listeners; below, the low bit tells the two sides of a session apart.
const LISTENER_TOKENS: u64 = 1 << 32;

/// How bytes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mover {
    Copy,
    Splice,
}

/// Listens on ports of its own, prints them as one line of endpoints, and relays until the process is ended.
pub(crate) fn run(mover: Mover, buffer_bytes: usize, origins: &Endpoints) -> io::Result<()> {
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for origin in origins.all() {
        let listener = listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        addresses.push(listener.local_addr()?);
        listeners.push((listener, origin));
    }
    let endpoints = Endpoints::from_addresses(&addresses)
        .ok_or_else(|| io::Error::other("the number of listeners is not the number of endpoints"))?;
    let transfer = match mover {
        Mover::Copy => Transfer::Copy(vec![0; buffer_bytes]),
        Mover::Splice => Transfer::Splice { pipe_bytes: buffer_bytes, free: Vec::new() },
    };
    let relay =
        Relay { poller: Poller::new(1024)?, listeners, sessions: Slab::new(), transfer, again: Vec::new() };
    for (token, (listener, _)) in (LISTENER_TOKENS..).zip(&relay.listeners) {
        relay.poller.add(listener, token, EventFlags::IN)?;
    }
    println!("{}", endpoints.to_line());
    relay.serve()
}

struct Relay {
    poller: Poller,
    listeners: Vec<(TcpListener, SocketAddr)>,
    sessions: Slab<Session>,
    transfer: Transfer,
    /// Directions that used up their turn and have more.
    again: Vec<(usize, Direction)>,
}

struct Session {
    client: TcpStream,
    origin: TcpStream,
    up: Flow,
    down: Flow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// One direction of a session.
#[derive(Default)]
struct Flow {
    held: Held,
    /// An event told that the sender is gone. From then on a short read does not prove that nothing follows: no
    /// further event would tell of the end behind it.
    closing: bool,
    /// The sender's FIN was read.
    ended: bool,
    /// It was passed on.
    finished: bool,
}

/// Bytes read and not yet written.
#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Bytes(Vec<u8>),
    Pipe(Pipe),
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    bytes: usize,
}

enum Transfer {
    Copy(Vec<u8>),
    Splice { pipe_bytes: usize, free: Vec<Pipe> },
}

/// How a direction's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Blocked,
    More,
}

impl Relay {
    fn serve(mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            let timeout = (!self.again.is_empty()).then_some(Duration::ZERO);
            self.poller.wait(timeout, &mut ready)?;
            for (key, direction) in std::mem::take(&mut self.again) {
                self.pump(key, direction);
            }
            for event in &ready {
                match event.token.checked_sub(LISTENER_TOKENS) {
                    Some(listener) => self.accept(listener)?,
                    None => self.event(*event)?,
                }
            }
        }
    }

    fn accept(&mut self, listener: u64) -> io::Result<()> {
        let index = usize::try_from(listener).map_err(io::Error::other)?;
        let Some((listener, origin)) = self.listeners.get(index) else { return Ok(()) };
        while let Ok(socket) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            let client = TcpStream::from(socket);
            let Ok(origin) = connect_nonblocking(*origin) else { continue };
            client.set_nodelay(true)?;
            origin.set_nodelay(true)?;
            let entry = self.sessions.vacant_entry();
            let token = (entry.key() as u64) << 1;
            self.poller.add(&client, token, EDGE)?;
            self.poller.add(&origin, token | 1, EDGE)?;
            entry.insert(Session { client, origin, up: Flow::default(), down: Flow::default() });
        }
        Ok(())
    }

    fn event(&mut self, event: Ready) -> io::Result<()> {
        let key = usize::try_from(event.token >> 1).map_err(io::Error::other)?;
        let (reads, writes) = match event.token & 1 {
            0 => (Direction::Up, Direction::Down),
            _ => (Direction::Down, Direction::Up),
        };
        // Room matters only to a direction that waits for it.
        let waits = self.sessions.get(key).is_some_and(|session| session.flow(writes).is_holding());
        if event.is_writable() && waits {
            self.pump(key, writes);
        }
        if event.is_readable() {
            if event.is_closed()
                && let Some(session) = self.sessions.get_mut(key)
            {
                session.flow_mut(reads).closing = true;
            }
            self.pump(key, reads);
        }
        Ok(())
    }

    /// Moves what can be moved; a broken or finished session is dropped.
    fn pump(&mut self, key: usize, direction: Direction) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (from, to, flow) = match direction {
            Direction::Up => (&session.client, &session.origin, &mut session.up),
            Direction::Down => (&session.origin, &session.client, &mut session.down),
        };
        if flow.finished {
            return;
        }
        let turn = match &mut self.transfer {
            Transfer::Copy(scratch) => copy(from, to, flow, scratch),
            Transfer::Splice { pipe_bytes, free } => splice_through(from, to, flow, *pipe_bytes, free),
        };
        match turn {
            Ok(Turn::More) => self.again.push((key, direction)),
            Ok(Turn::Blocked) if session.up.finished && session.down.finished => {
                self.sessions.remove(key);
            }
            Ok(Turn::Blocked) => {}
            Err(_) => {
                self.sessions.remove(key);
            }
        }
    }
}

impl Session {
    fn flow(&self, direction: Direction) -> &Flow {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    fn flow_mut(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

impl Flow {
    fn is_holding(&self) -> bool {
        !matches!(self.held, Held::Nothing)
    }

    fn finish(&mut self, to: &TcpStream) -> io::Result<Turn> {
        self.finished = true;
        to.shutdown(Shutdown::Write)?;
        Ok(Turn::Blocked)
    }
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, flow: &mut Flow, scratch: &mut [u8]) -> io::Result<Turn> {
    for _ in 0..MOVES_PER_TURN {
        if let Held::Bytes(bytes) = &mut flow.held {
            let Some(sent) = unless_blocked(to.write(bytes))? else { return Ok(Turn::Blocked) };
            bytes.drain(..sent);
            if !bytes.is_empty() {
                return Ok(Turn::Blocked);
            }
            flow.held = Held::Nothing;
        }
        if flow.ended {
            return flow.finish(to);
        }
        let Some(count) = unless_blocked(from.read(scratch))? else { return Ok(Turn::Blocked) };
        if count == 0 {
            flow.ended = true;
            continue;
        }
        let bytes = scratch.get(..count).unwrap_or_default();
        let sent = unless_blocked(to.write(bytes))?.unwrap_or(0);
        if sent < count {
            flow.held = Held::Bytes(bytes.get(sent..).unwrap_or_default().to_vec());
            return Ok(Turn::Blocked);
        }
        if count < scratch.len() && !flow.closing {
            return Ok(Turn::Blocked);
        }
    }
    Ok(Turn::More)
}

/// The pipe is empty before each splice from the socket: only then EAGAIN proves that the socket is.
fn splice_through(
    from: &TcpStream,
    to: &TcpStream,
    flow: &mut Flow,
    pipe_bytes: usize,
    free: &mut Vec<Pipe>,
) -> io::Result<Turn> {
    const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
    for _ in 0..MOVES_PER_TURN {
        if let Held::Pipe(pipe) = &mut flow.held {
            let moved = splice(&pipe.read, None, to, None, pipe.bytes, FLAGS).map_err(io::Error::from);
            let Some(count) = unless_blocked(moved)? else { return Ok(Turn::Blocked) };
            pipe.bytes = pipe.bytes.saturating_sub(count);
            if pipe.bytes > 0 {
                continue;
            }
            if let Held::Pipe(pipe) = std::mem::take(&mut flow.held) {
                free.push(pipe);
            }
        }
        if flow.ended {
            return flow.finish(to);
        }
        let mut pipe = match free.pop() {
            Some(pipe) => pipe,
            None => new_pipe(pipe_bytes)?,
        };
        let moved = splice(from, None, &pipe.write, None, pipe_bytes, FLAGS).map_err(io::Error::from);
        let Some(count) = unless_blocked(moved)? else {
            free.push(pipe);
            return Ok(Turn::Blocked);
        };
        if count == 0 {
            free.push(pipe);
            flow.ended = true;
            continue;
        }
        pipe.bytes = count;
        flow.held = Held::Pipe(pipe);
    }
    Ok(Turn::More)
}

fn new_pipe(bytes: usize) -> io::Result<Pipe> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    fcntl_setpipe_size(&write, bytes)?;
    Ok(Pipe { read, write, bytes: 0 })
}

/// `None` where the socket or pipe would have to be waited for.
fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
