//! A TCP connection of the simulation: two byte streams with windows, and edge-triggered readiness as
//! epoll(7) tells it.

use std::collections::VecDeque;
use std::io;

use socks5d::proxy::side::{Ready, Side};
use socks5d::sys::pipe::Pipe;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    bytes: VecDeque<u8>,
    window: usize,
    fin: bool,
    /// The sender met a full window and waits for an edge.
    starved: bool,
}

/// A connection between the proxy and a peer.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) to_proxy: Stream,
    pub(crate) to_peer: Stream,
    pub(crate) ready: Ready,
    pub(crate) reset: bool,
}

impl Connection {
    pub(crate) fn new(window: usize) -> Self {
        let stream = || Stream { window, ..Stream::default() };
        let ready = Ready { writable: true, ..Ready::default() };
        Self { to_proxy: stream(), to_peer: stream(), ready, reset: false }
    }

    /// The peer sends; gives back how much fitted the window.
    pub(crate) fn peer_sends(&mut self, bytes: &[u8]) -> usize {
        let sent = self.to_proxy.push(bytes);
        self.ready.readable |= sent > 0;
        sent
    }

    /// The peer has no more to send.
    pub(crate) fn peer_finishes(&mut self) {
        self.to_proxy.fin = true;
        self.ready.readable = true;
        self.ready.read_closed = true;
    }

    /// The peer breaks the connection.
    pub(crate) fn peer_resets(&mut self) {
        self.reset = true;
        self.ready = Ready { readable: true, writable: true, read_closed: true, broken: true };
    }

    /// The peer reads up to that many bytes.
    pub(crate) fn peer_reads(&mut self, count: usize) -> Vec<u8> {
        let bytes = self.to_peer.pop(count);
        if self.to_peer.starved && !bytes.is_empty() {
            self.to_peer.starved = false;
            self.ready.writable = true;
        }
        bytes
    }

    /// The proxy closes its socket: whatever it sent still arrives, and then the end.
    pub(crate) fn proxy_closes(&mut self) {
        assert!(self.to_proxy.bytes.is_empty(), "closing with bytes unread would reset the connection");
        self.to_peer.fin = true;
    }

    /// The proxy sends one of its short answers, which always fit a send buffer.
    pub(crate) fn proxy_answers(&mut self, bytes: &[u8]) {
        self.to_peer.bytes.extend(bytes);
    }

    /// The peer has read everything, and the proxy has closed its side.
    pub(crate) fn peer_sees_end(&self) -> bool {
        self.to_peer.fin && self.to_peer.bytes.is_empty()
    }
}

impl Stream {
    fn push(&mut self, bytes: &[u8]) -> usize {
        let room = self.window.saturating_sub(self.bytes.len());
        let count = bytes.len().min(room);
        self.bytes.extend(&bytes[..count]);
        count
    }

    fn pop(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.bytes.len());
        self.bytes.drain(..count).collect()
    }
}

impl Side for Connection {
    fn ready(&mut self) -> &mut Ready {
        &mut self.ready
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "an empty read looks like the end");
        let bytes = self.to_proxy.pop(buffer.len());
        if !bytes.is_empty() {
            buffer[..bytes.len()].copy_from_slice(&bytes);
            return Ok(bytes.len());
        }
        if self.reset {
            return Err(io::Error::from_raw_os_error(libc_errno::ECONNRESET));
        }
        if self.to_proxy.fin { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "an empty send is a waste");
        assert!(!self.to_peer.fin, "nothing is sent after the end");
        if self.reset {
            return Err(io::Error::from_raw_os_error(libc_errno::EPIPE));
        }
        match self.to_peer.push(bytes) {
            0 => {
                self.to_peer.starved = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
            sent => Ok(sent),
        }
    }

    fn close_write(&mut self) -> io::Result<()> {
        assert!(!self.to_peer.fin, "the end is passed on once");
        self.to_peer.fin = true;
        Ok(())
    }

    fn splice_into(&mut self, _pipe: &Pipe, _bytes: usize) -> io::Result<usize> {
        unreachable!("the simulation gives the mover no pipes")
    }

    fn splice_from(&mut self, _pipe: &Pipe, _bytes: usize) -> io::Result<usize> {
        unreachable!("the simulation gives the mover no pipes")
    }
}

/// The two numbers of errno(3) that a broken connection gives on Linux.
mod libc_errno {
    pub(super) const EPIPE: i32 = 32;
    pub(super) const ECONNRESET: i32 = 104;
}
