//! Associations of the kernel's SCTP: readiness as edge-triggered events tell it, and what a call comes to.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::event::Event;
use mio::{Interest, Registry, Token};

use super::peer::{Received, Sent};
use crate::limits;
use crate::sys::sctp::{Arrived, Sctp};

/// A listening endpoint: the addresses of one family.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Sctp,
    pub(super) addresses: Vec<SocketAddr>,
    readable: bool,
    /// Descriptors were short: not before this moment.
    pub(super) retry_at: Option<Instant>,
}

impl Listener {
    /// Listens; port 0 lets the kernel choose one.
    pub(super) fn listen(addresses: &[SocketAddr]) -> io::Result<Self> {
        let socket = Sctp::listen(addresses)?;
        let port = socket.local_address()?.port();
        let addresses = addresses.iter().map(|address| SocketAddr::new(address.ip(), port)).collect();
        Ok(Self { socket, addresses, readable: true, retry_at: None })
    }

    /// The port it got.
    pub(super) fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE)
    }

    pub(super) fn note_event(&mut self) {
        self.readable = true;
    }

    /// The next association that waits. `Err`: descriptors are short, it pauses.
    pub(super) fn accept(&mut self, now: Instant) -> io::Result<Option<(Sctp, SocketAddr)>> {
        if self.retry_at.is_some_and(|at| now < at) {
            return Ok(None);
        }
        while self.readable {
            self.retry_at = None;
            match self.socket.accept() {
                Ok(accepted) => return Ok(Some(accepted)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if is_shortage(&error) => {
                    self.retry_at = Some(now + limits::ACCEPT_RETRY);
                    return Err(error);
                }
                // The peer was gone before we came (accept(2), "Error handling").
                Err(error) => log::debug!("an association was gone: error=\"{error}\""),
            }
        }
        Ok(None)
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// One association.
#[derive(Debug)]
pub(super) struct Association {
    socket: Sctp,
    readable: bool,
    writable: bool,
}

impl Association {
    /// Takes an accepted association; its events bear `token`.
    pub(super) fn new(mut socket: Sctp, registry: &Registry, token: Token) -> io::Result<Self> {
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { socket, readable: true, writable: true })
    }

    /// Events are hints: reading and writing say what is true.
    pub(super) fn note_event(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    /// Takes what has arrived into `buffer`.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        while self.readable {
            match self.socket.receive(buffer) {
                Ok(Arrived::End) => return Received::End,
                Ok(Arrived::Piece(count)) => return Received::Piece(count),
                Ok(Arrived::Message(count)) => return Received::Message(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                // ECONNRESET and ECONNABORTED are ordinary ends here.
                Err(_) => return Received::End,
            }
        }
        Received::Nothing
    }

    /// Streams that it may send on.
    pub(super) fn streams(&self) -> u16 {
        self.socket.streams().unwrap_or(1)
    }

    /// Bytes that were sent and are not acknowledged, roughly.
    pub(super) fn queued_bytes(&self) -> usize {
        self.socket.queued_bytes().unwrap_or(0)
    }

    /// Sends one message.
    pub(super) fn send(&mut self, stream: u16, message: &[u8]) -> Sent {
        while self.writable {
            match self.socket.send(stream, message) {
                Ok(()) => return Sent::Done,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(_) => return Sent::Gone,
            }
        }
        Sent::Blocked
    }

    /// Begins to close in order. `false`: there is nothing left to close.
    pub(super) fn shutdown(&self) -> bool {
        self.socket.shutdown().is_ok()
    }

    /// Ends it at once.
    pub(super) fn abort(self) {
        self.socket.abort_on_close();
    }
}
