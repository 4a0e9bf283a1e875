//! A client of admin versions 1 and 2 over the kernel's SCTP, for tests in a virtual machine: in version 1 it sends and
//! expects octets that were written by hand, and says what differs.
//!
//! ```text
//! sctp_admin 127.0.0.1:8080
//! sctp_admin 192.0.2.1:8080 'ip address del 192.0.2.1/32 dev dummy0'
//! ```
//! With a command it asks, runs the command, and wants the answer to its next request within 2 s.
//! It knows the administrator `root`, password `secret`, of a daemon that was just started.
#![expect(clippy::print_stdout, reason = "it is a program for people")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use pipo_protocol::v2::login::{ClientStarted, Transcript};
use pipo_protocol::v2::messages::{
    Goodbye, HelloRequest, LoginChallenge, LoginDone, MetricsRequest, Nonce, Nothing,
};
use pipo_protocol::v2::{Header, Message, Record, Request, Status, Word, encode_raw};
use pipo_protocol::{Name, Password};
use socket2::{Domain, Protocol, Socket, Type};
use socks5d::sys::sctp::{Arrived, Sctp};

/// IPPROTO_SCTP (RFC 9260).
const SCTP: i32 = 132;

/// How long any answer may take.
const LIMIT: Duration = Duration::from_secs(15);

const LOGIN: &[u8] = b"\x01\x04root\x06secret";

/// A request and its reply.
type Vector = (&'static [u8], &'static [u8]);

const VECTORS: &[Vector] = &[
    (b"\x00\x00", b"\x00\x00\x02\x09anonymous\x00\x04root\x01"),
    (b"\x00\x01", b"\x00\x01\0\0\0\0\0\0\0\0"),
    (b"\x00\x02", b"\x00\x02\0\0"),
    (b"\x00\x07", b"\x00\x07\x02"),
    (b"\x00\x09", b"\x00\x09\x0a"),
    (b"\x00\x0b\x00", b"\x00\xfe\xfe"),
    (b"\x00\x0c", b"\x00\xff"),
    (b"\x02\x00", b"\xff\xff"),
    (b"\x01\x00\x03eve\x02pw\x00", b"\x01\x00\x00"),
    (b"\x01\x00\x03eve\x02pw\x00", b"\x01\x00\x01"),
    (b"\x00\x07", b"\x00\x07\x03"),
    (b"\x01\x01\x03eve", b"\x01\x01\x00"),
    (b"\x01\x01\x04root", b"\x01\x01\xfe"),
    (b"\x01\x04\x00\x00\x10\x00", b"\x01\x04\x00"),
    (b"\x00\x08", b"\x00\x08\x00\x00\x10\x00"),
    (b"\x01\x05\x00", b"\x01\x05\x01"),
    (b"\x01\x06\x1e", b"\x01\x06\x00"),
    (b"\x00\x0a", b"\x00\x0a\x1e"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args().nth(1).ok_or("sctp_admin ADDRESS:PORT")?.parse()?;
    if let Some(command) = std::env::args().nth(2) {
        return over_another_path(address, &command);
    }
    one_after_the_other(address)?;
    pipelined(address)?;
    octet_by_octet(address)?;
    a_thousand(address)?;
    refused(address, &[0x03], &[0x01, 0x02])?;
    refused(address, b"\x01\x04root\x05wrong", &[0x01, 0x01])?;
    refused(address, b"\x01\x04root\x05wrong\x00\x07\x00\x07", &[0x01, 0x01])?;
    half_a_login(address)?;
    version_2(address)?;
    println!("{address}: passed");
    Ok(())
}

fn connect(address: SocketAddr) -> Result<Socket, Box<dyn Error>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::from(SCTP)))?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.set_write_timeout(Some(LIMIT))?;
    socket.connect(&address.into())?;
    Ok(socket)
}

/// Reads one message and compares it.
fn expect(mut socket: &Socket, expected: &[u8], what: &str) -> Result<(), Box<dyn Error>> {
    let mut buffer = vec![0; 65_536];
    let count = socket.read(&mut buffer).map_err(|error| format!("{what}: {error}"))?;
    let got = buffer.get(..count).unwrap_or_default();
    if got == expected {
        Ok(())
    } else {
        Err(format!("{what}: {got:02x?} instead of {expected:02x?}").into())
    }
}

fn one_after_the_other(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let socket = connect(address)?;
    let started = Instant::now();
    (&socket).write_all(LOGIN)?;
    expect(&socket, &[0x01, 0x00], "the log-in")?;
    for (request, reply) in VECTORS {
        (&socket).write_all(request)?;
        expect(&socket, reply, &format!("{request:02x?}"))?;
    }
    println!("{address}: {} requests in {:?}", VECTORS.len(), started.elapsed());
    socket.shutdown(Shutdown::Write)?;
    // After the handshake of the close there is no association, and the kernel may say that instead of an end.
    match (&socket).read(&mut [0]) {
        Ok(0) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotConnected => Ok(()),
        other => Err(format!("the end: {other:?}").into()),
    }
}

fn pipelined(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let socket = connect(address)?;
    let requests: Vec<u8> = VECTORS.iter().flat_map(|(request, _)| *request).copied().collect();
    (&socket).write_all(&[LOGIN, &requests].concat())?;
    expect(&socket, &[0x01, 0x00], "the log-in of a pipeline")?;
    for (request, reply) in VECTORS {
        expect(&socket, reply, &format!("{request:02x?} in a pipeline"))?;
    }
    Ok(())
}

fn octet_by_octet(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let socket = connect(address)?;
    for octet in [LOGIN, b"\x00\x0b\x03eve\x00\x09"].concat() {
        (&socket).write_all(&[octet])?;
    }
    expect(&socket, &[0x01, 0x00], "the log-in in octets")?;
    expect(&socket, b"\x00\x0b\0\0", "a query in octets")?;
    expect(&socket, b"\x00\x09\x0a", "a second query in octets")
}

fn a_thousand(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let socket = connect(address)?;
    (&socket).write_all(LOGIN)?;
    expect(&socket, &[0x01, 0x00], "the log-in")?;
    (&socket).write_all(&b"\x00\x09".repeat(1000))?;
    for number in 0..1000 {
        expect(&socket, b"\x00\x09\x0a", &format!("answer {number} of a thousand"))?;
    }
    Ok(())
}

/// The answer arrives whatever else was sent, and then the association ends.
fn refused(address: SocketAddr, login: &[u8], answer: &[u8]) -> Result<(), Box<dyn Error>> {
    let socket = connect(address)?;
    (&socket).write_all(login)?;
    expect(&socket, answer, "a refused log-in")?;
    expect(&socket, &[], "the end after a refusal")
}

/// Takes a path away from under an association.
fn over_another_path(address: SocketAddr, command: &str) -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut socket = Sctp::connect(address)?;
    poll.registry().register(&mut socket, Token(0), Interest::READABLE | Interest::WRITABLE)?;
    poll.poll(&mut Events::with_capacity(1), Some(LIMIT))?;
    if let Some(error) = socket.take_error()? {
        return Err(error.into());
    }
    ask(&mut poll, &socket, LOGIN, &[0x01, 0x00])?;
    ask(&mut poll, &socket, b"\x00\x09", b"\x00\x09\x0a")?;
    let status = std::process::Command::new("/bin/sh").args(["-c", command]).status()?;
    if !status.success() {
        return Err(format!("{command}: {status}").into());
    }
    let started = Instant::now();
    ask(&mut poll, &socket, b"\x00\x09", b"\x00\x09\x0a")?;
    let took = started.elapsed();
    println!("{address}: answered {took:?} after the path was gone");
    if took < Duration::from_secs(2) { Ok(()) } else { Err(format!("it took {took:?}").into()) }
}

fn ask(poll: &mut Poll, socket: &Sctp, request: &[u8], reply: &[u8]) -> Result<(), Box<dyn Error>> {
    socket.send(0, request)?;
    let end = Instant::now() + LIMIT;
    let mut buffer = [0; 64];
    loop {
        match socket.receive(&mut buffer) {
            Ok(Arrived::Message(count)) if buffer.get(..count) == Some(reply) => return Ok(()),
            Ok(arrived) => return Err(format!("{arrived:?}: {buffer:02x?}").into()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(format!("no answer within {LIMIT:?}").into());
                }
                poll.poll(&mut Events::with_capacity(1), Some(left))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn half_a_login(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let socket = connect(address)?;
    let started = Instant::now();
    (&socket).write_all(b"\x01\x04ro")?;
    expect(&socket, &[], "the end of half a log-in")?;
    let took = started.elapsed();
    if took > Duration::from_secs(9) { Ok(()) } else { Err(format!("it ended after {took:?}").into()) }
}

/// An association of version 2, record by record.
struct Association {
    socket: Socket,
    request: u32,
}

impl Association {
    fn send(&mut self, request: &Request, channel: u32) -> Result<Vec<u8>, Box<dyn Error>> {
        self.request += 1;
        let header = Header { channel, ..Header::request(request.command().code(), self.request) };
        let record = encode_raw(&header, &request.encode())?;
        (&self.socket).write_all(&record)?;
        Ok(record)
    }

    fn receive(&self) -> Result<(Header, Vec<u8>), Box<dyn Error>> {
        let mut buffer = vec![0; 65_536];
        let count = (&self.socket).read(&mut buffer)?;
        buffer.truncate(count);
        let record = Record::decode(&buffer)?;
        Ok((record.header, buffer))
    }

    /// Sends a request and gives both records.
    fn ask(&mut self, request: &Request) -> Result<(Vec<u8>, Vec<u8>), Box<dyn Error>> {
        let sent = self.send(request, 0)?;
        let (header, record) = self.receive()?;
        if header.status != Status::Ok || header.channel != 0 {
            return Err(format!("{header:?}").into());
        }
        Ok((sent, record))
    }

    fn log_in(&mut self) -> Result<(), Box<dyn Error>> {
        let mut transcript = Transcript::default();
        let hello = HelloRequest { client: Word::cut("sctp_admin"), features: Vec::new() };
        let (sent, got) = self.ask(&Request::Hello(hello))?;
        [sent, got].iter().for_each(|record| transcript.add(record));
        let nonce = Nonce::new([7; 16]).ok_or("a nonce")?;
        let (started, start) = ClientStarted::new(Name::new(*b"root")?, nonce);
        let (sent, got) = self.ask(&Request::LoginStart(start))?;
        [&sent, &got].iter().for_each(|record| transcript.add(record));
        let challenge = LoginChallenge::decode(Record::decode(&got)?.body)?;
        let (proved, proof) = started.prove(&challenge, &Password::new(*b"secret")?, &transcript)?;
        let (_, got) = self.ask(&Request::LoginProof(proof))?;
        proved.accept(&LoginDone::decode(Record::decode(&got)?.body)?)?;
        Ok(())
    }
}

/// Logs in, asks for more lists at once than the daemon may have on their way, reads late, and says good-bye.
fn version_2(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut association = Association { socket: connect(address)?, request: 0 };
    association.log_in()?;
    let metrics = MetricsRequest { credit: 262_144, prefix: None, per_worker: None, meanings: Some(true) };
    for channel in 1..=16 {
        association.send(&Request::Metrics(metrics.clone()), channel)?;
    }
    std::thread::park_timeout(Duration::from_millis(300));
    association.send(&Request::Statistics(Nothing {}), 0)?;
    let (mut lists_left, mut bytes, mut is_answered) = (16, 0, false);
    while lists_left > 0 || !is_answered {
        let (header, record) = association.receive()?;
        if header.status != Status::Ok {
            return Err(format!("{header:?}").into());
        }
        bytes += record.len();
        is_answered |= header.channel == 0;
        lists_left -= u32::from(header.channel != 0 && header.last);
    }
    println!("{address}: version 2: 16 lists at once, {bytes} bytes");
    association.ask(&Request::Goodbye(Goodbye { reason: None }))?;
    expect(&association.socket, &[], "the end after good-bye")
}
