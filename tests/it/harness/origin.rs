//! Origins: servers on loopback, a thread for each connection, each with one habit that a test needs.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::bytes::pattern;
use super::client::{Ending, read_to_end, reset};
use super::waiting::LIMIT;

/// 127.0.0.1.
pub(crate) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// ::1.
pub(crate) const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A server that stops accepting when it is dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

/// What arrived at an origin on one connection, and how it ended.
pub(crate) type Arrival = (Vec<u8>, Ending);

impl Origin {
    /// Gives every connection to `habit`, on a thread of its own. Reads and writes end after [`LIMIT`].
    pub(crate) fn serve(at: IpAddr, habit: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((at, 0)).expect("an address of this machine");
        // A thousand clients may come at once; std listens with 128 and lets the rest wait a second.
        rustix::net::listen(&listener, 4096).expect("a longer queue");
        let address = listener.local_addr().expect("a bound listener");
        let accepted = Arc::new(AtomicUsize::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let (count, stop, habit) = (Arc::clone(&accepted), Arc::clone(&stopped), Arc::new(habit));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                count.fetch_add(1, Ordering::AcqRel);
                let habit = Arc::clone(&habit);
                let thread = std::thread::Builder::new().stack_size(256 * 1024);
                thread.spawn(move || habit(patient(stream))).expect("a thread for a connection");
            }
        });
        Self { address, accepted, stopped }
    }

    /// Sends back whatever comes, and closes when the peer has.
    pub(crate) fn echo(at: IpAddr) -> Self {
        Self::serve(at, |mut stream| {
            let mut buffer = [0; 16 * 1024];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
        })
    }

    /// Keeps what comes until the end and hands it to the test.
    pub(crate) fn sink(at: IpAddr) -> (Self, Receiver<Arrival>) {
        let (sender, receiver) = channel();
        let origin = Self::serve(at, move |mut stream| drop(sender.send(read_to_end(&mut stream))));
        (origin, receiver)
    }

    /// Sends the pattern of `seed` at once and closes its side, then hands what comes to the test.
    pub(crate) fn source(at: IpAddr, seed: u64, length: usize) -> (Self, Receiver<Arrival>) {
        let (sender, receiver) = channel();
        let origin = Self::serve(at, move |mut stream| {
            let sent =
                stream.write_all(&pattern(seed, length)).and_then(|()| stream.shutdown(Shutdown::Write));
            if sent.is_ok() {
                drop(sender.send(read_to_end(&mut stream)));
            }
        });
        (origin, receiver)
    }

    /// Reads to the end and only then answers with what came, reversed: nothing of the answer can be there
    /// unless the half-close arrived and the way back stayed open.
    pub(crate) fn answers_after_the_end(at: IpAddr) -> Self {
        Self::serve(at, |mut stream| {
            let (mut bytes, _) = read_to_end(&mut stream);
            bytes.reverse();
            drop(stream.write_all(&bytes)); // A client that went away is the client's test.
        })
    }

    /// Reads one byte, sends `length` bytes of the pattern of `seed`, then resets.
    pub(crate) fn resets(at: IpAddr, seed: u64, length: usize) -> Self {
        Self::serve(at, move |mut stream| {
            if stream.read_exact(&mut [0]).is_ok() && stream.write_all(&pattern(seed, length)).is_ok() {
                reset(stream);
            }
        })
    }

    /// Accepts and neither reads nor writes nor closes until the other side has ended: the peer's bytes pile up.
    pub(crate) fn ignores(at: IpAddr, until: Arc<AtomicBool>) -> (Self, Receiver<Arrival>) {
        let (sender, receiver) = channel();
        let origin = Self::serve(at, move |mut stream| {
            super::within(4 * LIMIT, "the test lets the origin read", || until.load(Ordering::Acquire));
            drop(sender.send(read_to_end(&mut stream)));
        });
        (origin, receiver)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections it has accepted.
    pub(crate) fn accepted_count(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes the accepting thread; where that fails it is not waiting.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
    }
}

/// What an origin got; panics when nothing ended within the limit.
pub(crate) fn arrival(receiver: &Receiver<Arrival>) -> Arrival {
    receiver.recv_timeout(LIMIT).expect("a connection that came to its end at the origin")
}

/// An address that swallows connects: a listener whose queue is full, so that the kernel answers no SYN.
#[derive(Debug)]
pub(crate) struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl BlackHole {
    /// A black hole on this address, on `port` or, where that is 0, on one of the kernel's choice.
    pub(crate) fn new(at: IpAddr, port: u16) -> Self {
        let wanted = SocketAddr::new(at, port);
        let listener = Socket::new(Domain::for_address(wanted), Type::STREAM, None).expect("a socket");
        listener.set_reuse_address(true).expect("reuse");
        listener.bind(&SockAddr::from(wanted)).expect("an address for the black hole");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().expect("its address").as_socket().expect("of the Internet");
        let mut queued = Vec::new();
        let full = loop {
            let filler = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
            let outcome = filler.connect_timeout(&SockAddr::from(address), Duration::from_millis(150));
            queued.push(filler);
            if outcome.is_err() || queued.len() > 8 {
                break outcome.is_err();
            }
        };
        assert!(full, "a listener with a queue of 0 has to become full");
        Self { address, _listener: listener, _queued: queued }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A port that refuses: bound, so that nobody else gets it, and not listening.
#[derive(Debug)]
pub(crate) struct ClosedPort {
    address: SocketAddr,
    _socket: Socket,
}

impl ClosedPort {
    /// A closed port on this address, `port` or, where that is 0, one of the kernel's choice.
    pub(crate) fn new(at: IpAddr, port: u16) -> Self {
        let wanted = SocketAddr::new(at, port);
        let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, None).expect("a socket");
        socket.bind(&SockAddr::from(wanted)).expect("a free address");
        let address = socket.local_addr().expect("its address").as_socket().expect("of the Internet");
        Self { address, _socket: socket }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Gives a stream the time limits without which a failing test would hang.
fn patient(stream: TcpStream) -> TcpStream {
    drop(stream.set_read_timeout(Some(2 * LIMIT))); // A peer that reset already makes these fail.
    drop(stream.set_write_timeout(Some(2 * LIMIT)));
    drop(stream.set_nodelay(true));
    stream
}
