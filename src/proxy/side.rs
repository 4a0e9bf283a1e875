//! What the relay sees of a socket: readiness, and five calls. The simulation has sides of its own.

use std::io;

use crate::sys::pipe::Pipe;

/// What readiness events have said of a socket and no call has contradicted yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready {
    /// A receive may find something.
    pub readable: bool,
    /// A send may find room.
    pub writable: bool,
    /// The peer has closed its side: read on until the end was seen, whatever a short read suggests.
    pub read_closed: bool,
    /// The connection broke.
    pub broken: bool,
}

/// One side of a relay. Sockets are one; the simulation has another.
pub trait Side {
    /// What is known of its readiness.
    fn ready(&mut self) -> &mut Ready;
    /// recv(2): 0 is the peer's FIN.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// send(2).
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// shutdown(2) for writing: passes a FIN on.
    fn close_write(&mut self) -> io::Result<()>;
    /// splice(2) from the socket into an empty or part-filled pipe.
    fn splice_into(&mut self, pipe: &Pipe, bytes: usize) -> io::Result<usize>;
    /// splice(2) from a pipe into the socket.
    fn splice_from(&mut self, pipe: &Pipe, bytes: usize) -> io::Result<usize>;
}

/// Why a relay cannot go on. Both sides are to be reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One side reset its connection, or is gone.
    Reset,
    /// Another I/O error.
    Failed,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN | libc::ECONNABORTED) => Self::Reset,
            Some(_) | None => Self::Failed,
        }
    }
}
