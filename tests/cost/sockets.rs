//! The sides of a relay over real sockets, and the peers at their far ends.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use socket2::SockRef;
use socks5d::proxy::side::{Ready, Side};
use socks5d::sys::pipe::Pipe;

/// Nothing on loopback takes that long.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Socket buffers, octets. Fixed, so that the kernel does not make them larger while a test counts.
const SOCKET_BUFFER: usize = 256 * 1024;

/// The proxy's end of a connection, and how bytes went through it.
pub(crate) struct Wire {
    stream: TcpStream,
    ready: Ready,
    /// Receives that brought something.
    pub(crate) received: usize,
    /// Splices that brought something.
    pub(crate) spliced: usize,
    /// Octets that both brought.
    pub(crate) bytes: u64,
}

/// A connection: the proxy's end, non-blocking, and the peer's end, blocking with a time limit.
pub(crate) fn connection() -> (Wire, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let peer = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    let (stream, _) = listener.accept().expect("the other end");
    for socket in [&peer, &stream] {
        socket.set_nodelay(true).expect("TCP_NODELAY");
        SockRef::from(socket).set_send_buffer_size(SOCKET_BUFFER).expect("SO_SNDBUF");
        SockRef::from(socket).set_recv_buffer_size(SOCKET_BUFFER).expect("SO_RCVBUF");
    }
    peer.set_read_timeout(Some(LIMIT)).expect("a time limit");
    peer.set_write_timeout(Some(LIMIT)).expect("a time limit");
    stream.set_nonblocking(true).expect("non-blocking");
    (Wire { stream, ready: Ready::default(), received: 0, spliced: 0, bytes: 0 }, peer)
}

impl Wire {
    /// What an event of the poller would say: try again, either way.
    pub(crate) fn wake(&mut self) {
        self.ready.readable = true;
        self.ready.writable = true;
    }
}

/// Writes without waiting until the socket takes no more; gives back how much it took.
pub(crate) fn fill(mut peer: &TcpStream, chunk: &[u8]) -> usize {
    peer.set_nonblocking(true).expect("non-blocking");
    let mut taken = 0;
    loop {
        match peer.write(chunk) {
            Ok(bytes) => taken += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    peer.set_nonblocking(false).expect("blocking");
    taken
}

/// Reads what is there without waiting.
pub(crate) fn drain(mut peer: &TcpStream, buffer: &mut [u8]) -> usize {
    peer.set_nonblocking(true).expect("non-blocking");
    let mut taken = 0;
    loop {
        match peer.read(buffer) {
            Ok(0) => panic!("the proxy's end was closed"),
            Ok(bytes) => taken += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    peer.set_nonblocking(false).expect("blocking");
    taken
}

/// Repeats until it is done, at most for [`LIMIT`].
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what} takes more than {LIMIT:?}");
        std::thread::yield_now();
    }
}

impl Side for Wire {
    fn ready(&mut self) -> &mut Ready {
        &mut self.ready
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.stream.read(buffer)?;
        self.received += 1;
        self.bytes += bytes as u64;
        Ok(bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn close_write(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    fn splice_into(&mut self, pipe: &Pipe, bytes: usize) -> io::Result<usize> {
        let bytes = pipe.fill(&self.stream.as_fd(), bytes)?;
        self.spliced += 1;
        self.bytes += bytes as u64;
        Ok(bytes)
    }

    fn splice_from(&mut self, pipe: &Pipe, bytes: usize) -> io::Result<usize> {
        pipe.drain(&self.stream.as_fd(), bytes)
    }
}
