//! An echo server and its client over a real UDP socket, to try the crate against other implementations.
//!
//! ```text
//! encap_echo server 127.0.0.1:9899 8080
//! encap_echo client 127.0.0.1:9899 8080 [MESSAGES] [BYTES] [LOCAL_UDP_ADDRESS]
//! ```
//! The server sends every message back on the stream it came on. The client sends `MESSAGES` of `BYTES` over its
//! streams in turn, checks what comes back, closes, and says how it went. Against a Linux kernel the client's UDP
//! address must be the one in `net.sctp.encap_port`. A socket with a read timeout stands for an event loop here.
#![expect(clippy::print_stdout, reason = "it is a program for people")]

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pipo_encap::{AssociationId, CloseReason, Endpoint, Event, Limits, SendError};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["server", address, port] => serve(address.parse()?, port.parse()?),
        ["client", address, port, rest @ ..] => {
            let remote: SocketAddr = address.parse()?;
            let count = rest.first().map_or(Ok(10), |text| text.parse())?;
            let bytes = rest.get(1).map_or(Ok(1000), |text| text.parse())?;
            let any = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let local = rest.get(2).copied().unwrap_or(any).parse()?;
            talk(local, remote, port.parse()?, count, bytes)
        }
        _ => {
            Err("encap_echo server ADDRESS PORT | encap_echo client ADDRESS PORT [MESSAGES] [BYTES] [LOCAL]"
                .into())
        }
    }
}

/// Moves datagrams between a socket and an endpoint, and waits for the next thing to happen.
struct Shell {
    socket: UdpSocket,
    endpoint: Endpoint,
    buffer: Vec<u8>,
}

impl Shell {
    fn new(
        local: SocketAddr,
        make: impl FnOnce([u8; 32]) -> Result<Endpoint, Box<dyn Error>>,
    ) -> Result<Self, Box<dyn Error>> {
        let mut seed = [0; 32];
        io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut seed)?;
        Ok(Self { socket: UdpSocket::bind(local)?, endpoint: make(seed)?, buffer: vec![0; 65_536] })
    }

    /// Sends what is to be sent, then waits for a datagram or the deadline, no longer than `patience`.
    fn turn(&mut self, patience: Duration) -> io::Result<()> {
        while let Some((to, datagram)) = self.endpoint.next_datagram() {
            self.socket.send_to(&datagram, to)?;
        }
        let left = self.endpoint.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let wait = left.unwrap_or(patience).clamp(Duration::from_millis(1), patience);
        self.socket.set_read_timeout(Some(wait))?;
        match self.socket.recv_from(&mut self.buffer) {
            Ok((bytes, from)) => {
                let datagram = self.buffer.get(..bytes).unwrap_or_default();
                self.endpoint.receive(from, datagram, Instant::now());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
        self.endpoint.expire(Instant::now());
        Ok(())
    }
}

fn serve(local: SocketAddr, port: u16) -> Result<(), Box<dyn Error>> {
    let make = |seed| Ok(Endpoint::server(port, Limits::default(), seed, Instant::now())?);
    let mut shell = Shell::new(local, make)?;
    println!("SCTP port {port} over UDP {}", shell.socket.local_addr()?);
    let mut echoes: VecDeque<(AssociationId, u16, Vec<u8>)> = VecDeque::new();
    loop {
        while let Some(event) = shell.endpoint.next_event() {
            match event {
                Event::Message { association, stream, bytes } => {
                    // While echoes wait their sender gets no further turn, so that they stay few.
                    shell.endpoint.pause(association);
                    echoes.push_back((association, stream, bytes));
                }
                Event::Opened { .. } | Event::Writable { .. } | Event::Closed { .. } => println!("{event:?}"),
            }
        }
        for (association, stream, bytes) in std::mem::take(&mut echoes) {
            match shell.endpoint.send(association, stream, &bytes, Instant::now()) {
                Ok(()) | Err(SendError::Unknown | SendError::NotOpen) => shell.endpoint.resume(association),
                Err(SendError::WouldBlock) => echoes.push_back((association, stream, bytes)),
                Err(error) => println!("cannot echo: {error}"),
            }
        }
        shell.turn(Duration::from_millis(if echoes.is_empty() { 1000 } else { 5 }))?;
    }
}

fn talk(
    local: SocketAddr,
    remote: SocketAddr,
    port: u16,
    count: usize,
    bytes: usize,
) -> Result<(), Box<dyn Error>> {
    let make = |seed| Ok(Endpoint::client(Limits::default(), seed, Instant::now())?);
    let mut shell = Shell::new(local, make)?;
    let id = shell.endpoint.connect(remote, port, Instant::now())?;
    let started = Instant::now();
    let mut streams = 1;
    let mut opened = false;
    let (mut sent, mut received) = (0usize, 0usize);
    loop {
        while let Some(event) = shell.endpoint.next_event() {
            match event {
                Event::Opened { outbound_streams, inbound_streams, .. } => {
                    println!("open, {outbound_streams} streams out, {inbound_streams} in");
                    streams = outbound_streams.min(inbound_streams);
                    opened = true;
                }
                Event::Message { stream, bytes: message, .. } => {
                    let number = message.first_chunk::<8>().map(|first| u64::from_be_bytes(*first));
                    if number.is_none() || message.len() != bytes.max(8) {
                        return Err(format!("stream {stream} echoed {} bytes", message.len()).into());
                    }
                    received += 1;
                    if received == count {
                        shell.endpoint.close(id, Instant::now());
                    }
                }
                Event::Writable { .. } => {}
                Event::Closed { reason, .. } => {
                    println!("{reason} after {received} of {count} echoes in {:?}", started.elapsed());
                    println!("{:?}", shell.endpoint.counters());
                    while let Some((to, datagram)) = shell.endpoint.next_datagram() {
                        shell.socket.send_to(&datagram, to)?;
                    }
                    let fine =
                        received == count && matches!(reason, CloseReason::Closed | CloseReason::PeerClosed);
                    return if fine { Ok(()) } else { Err(reason.into()) };
                }
            }
        }
        while opened && sent < count {
            let mut message = vec![b'.'; bytes.max(8)];
            for (to, from) in message.iter_mut().zip((sent as u64).to_be_bytes()) {
                *to = from;
            }
            let stream = u16::try_from(sent % usize::from(streams)).unwrap_or(0);
            match shell.endpoint.send(id, stream, &message, Instant::now()) {
                Ok(()) => sent += 1,
                Err(SendError::WouldBlock) => break,
                Err(error) => return Err(error.into()),
            }
        }
        shell.turn(Duration::from_millis(100))?;
    }
}
