//! A SOCKS5 client that decides about every byte it sends and says what every byte it got was.
//!
//! Written from RFC 1928 and RFC 1929, not from the daemon's own code, so that both cannot be wrong together.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::waiting::LIMIT;

/// Method 00, no authentication.
pub(crate) const NO_AUTH: u8 = 0x00;
/// Method 02, user name and password.
pub(crate) const PASSWORD: u8 = 0x02;
/// CMD 01.
pub(crate) const CONNECT: u8 = 0x01;

/// Where a request goes: address or name, and port.
#[derive(Clone, Debug)]
pub(crate) enum Destination {
    /// ATYP 01 or 04.
    Address(SocketAddr),
    /// ATYP 03; any octets, so that wrong ones can be sent.
    Name(Vec<u8>, u16),
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// REP.
    pub(crate) code: u8,
    /// BND.ADDR and BND.PORT.
    pub(crate) bound: SocketAddr,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The peer closed its side.
    Closed,
    /// The peer reset the connection.
    Reset,
}

/// A connection to the proxy.
#[derive(Debug)]
pub(crate) struct Client {
    /// The socket, for what the methods do not offer.
    pub(crate) stream: TcpStream,
}

/// A session through the proxy to `to`, without a password; panics unless the reply is 00.
pub(crate) fn connect_through(proxy: SocketAddr, to: impl Into<Destination>) -> Client {
    connected(proxy, to).0
}

/// Like [`connect_through`], with the bound address of the reply.
pub(crate) fn connected(proxy: SocketAddr, to: impl Into<Destination>) -> (Client, SocketAddr) {
    let to = to.into();
    let mut client = Client::connect(proxy);
    let reply = client.ask(&to);
    assert_eq!(reply.code, 0, "reply to a request for {to:?}");
    (client, reply.bound)
}

/// The reply to a request without a password.
pub(crate) fn reply_to(proxy: SocketAddr, to: impl Into<Destination>) -> Reply {
    Client::connect(proxy).ask(&to.into())
}

impl Client {
    /// Connects to the proxy; reads and writes end after [`LIMIT`].
    pub(crate) fn connect(proxy: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&proxy, LIMIT).expect("the proxy accepts"))
    }

    /// Connects from a given local address.
    pub(crate) fn connect_from(source: IpAddr, proxy: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(proxy), Type::STREAM, None).expect("a socket");
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0))).expect("a local address");
        socket.connect_timeout(&SockAddr::from(proxy), LIMIT).expect("the proxy accepts");
        Self::new(socket.into())
    }

    /// Connects with a small receive buffer: a reader whom little data blocks.
    pub(crate) fn connect_narrow(proxy: SocketAddr, receive_bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(proxy), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(receive_bytes).expect("a receive buffer");
        socket.connect_timeout(&SockAddr::from(proxy), LIMIT).expect("the proxy accepts");
        Self::new(socket.into())
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a time limit");
        stream.set_nodelay(true).expect("no delay");
        Self { stream }
    }

    /// Method 00 and a CONNECT; gives the reply.
    pub(crate) fn ask(&mut self, to: &Destination) -> Reply {
        assert_eq!(self.offer(&[NO_AUTH]), NO_AUTH, "the method chosen");
        self.request(CONNECT, to)
    }

    /// Offers methods and gives the one that was chosen.
    pub(crate) fn offer(&mut self, methods: &[u8]) -> u8 {
        self.send(&greeting(methods));
        self.method()
    }

    /// Reads the method that was chosen.
    pub(crate) fn method(&mut self) -> u8 {
        let [version, method] = self.read_array();
        assert_eq!(version, 5, "version of the method selection");
        method
    }

    /// Presents a user name and a password and gives the status.
    pub(crate) fn log_in(&mut self, name: &[u8], password: &[u8]) -> u8 {
        self.send(&password_request(name, password));
        self.status()
    }

    /// Reads the status of a log-in.
    pub(crate) fn status(&mut self) -> u8 {
        let [version, status] = self.read_array();
        assert_eq!(version, 1, "version of the password status");
        status
    }

    /// Sends a request and gives the reply.
    pub(crate) fn request(&mut self, command: u8, to: &Destination) -> Reply {
        self.send(&request(command, to));
        self.reply()
    }

    /// Reads a reply.
    pub(crate) fn reply(&mut self) -> Reply {
        let [version, code, reserved, kind] = self.read_array();
        assert_eq!((version, reserved), (5, 0), "fixed octets of the reply");
        let ip = match kind {
            1 => IpAddr::from(self.read_array::<4>()),
            4 => IpAddr::from(self.read_array::<16>()),
            other => panic!("address type {other} in a reply"),
        };
        Reply { code, bound: SocketAddr::new(ip, u16::from_be_bytes(self.read_array())) }
    }

    /// Sends bytes in one write.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the proxy reads");
    }

    /// Sends bytes one at a time, each in a segment of its own.
    pub(crate) fn send_singly(&mut self, bytes: &[u8]) {
        bytes.chunks(1).for_each(|byte| self.send(byte));
    }

    /// Reads exactly `length` bytes.
    pub(crate) fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap_or_else(|error| panic!("{length} bytes expected: {error}"));
        bytes
    }

    /// Reads to the end, however it comes.
    pub(crate) fn read_to_end(&mut self) -> (Vec<u8>, Ending) {
        read_to_end(&mut self.stream)
    }

    /// What comes until the end or a short silence, for connections that may live or not.
    pub(crate) fn read_to_end_or_silence(&mut self) -> Vec<u8> {
        self.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a time limit");
        let mut bytes = Vec::new();
        drop(self.stream.read_to_end(&mut bytes)); // What was read before the error is what is asked for.
        bytes
    }

    /// Reads to the end and panics unless nothing came before it.
    pub(crate) fn expect_end(&mut self) -> Ending {
        let (bytes, ending) = self.read_to_end();
        assert!(bytes.is_empty(), "bytes before the end: {bytes:02x?}");
        ending
    }

    /// Whether nothing arrives for `time`, not even an end.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a time limit");
        let outcome = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
        outcome.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Closes the writing side.
    pub(crate) fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("a half-close");
    }

    /// Closes the writing side of a connection that the proxy may have ended already.
    pub(crate) fn half_close_if_open(&mut self) {
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        reset(self.stream);
    }

    /// Sends and gets the same back: an echo origin is at the other end.
    pub(crate) fn assert_echo(&mut self, bytes: &[u8]) {
        self.send(bytes);
        assert_eq!(self.read(bytes.len()), bytes, "the echo");
    }

    fn read_array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap_or_else(|error| panic!("{N} bytes of an answer: {error}"));
        bytes
    }
}

/// Closes a socket so that the peer gets a reset.
pub(crate) fn reset(stream: TcpStream) {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).expect("linger");
}

/// Reads a stream to its end and says how it ended; panics when it does not.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, Ending) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => (bytes, Ending::Closed),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => (bytes, Ending::Reset),
        Err(error) => panic!("after {} bytes the stream did not end: {error}", bytes.len()),
    }
}

/// A method selection message.
pub(crate) fn greeting(methods: &[u8]) -> Vec<u8> {
    let count = u8::try_from(methods.len()).expect("at most 255 methods");
    [&[5, count], methods].concat()
}

/// A user name and password message.
pub(crate) fn password_request(name: &[u8], password: &[u8]) -> Vec<u8> {
    let length = |octets: &[u8]| u8::try_from(octets.len()).expect("at most 255 octets");
    [&[1, length(name)], name, &[length(password)], password].concat()
}

/// A request message.
pub(crate) fn request(command: u8, to: &Destination) -> Vec<u8> {
    let mut bytes = vec![5, command, 0];
    let port = match to {
        Destination::Address(address) => {
            match address.ip() {
                IpAddr::V4(ip) => bytes.extend(std::iter::once(1).chain(ip.octets())),
                IpAddr::V6(ip) => bytes.extend(std::iter::once(4).chain(ip.octets())),
            }
            address.port()
        }
        Destination::Name(name, port) => {
            bytes.extend([3, u8::try_from(name.len()).expect("at most 255 octets")]);
            bytes.extend(name);
            *port
        }
    };
    bytes.extend(port.to_be_bytes());
    bytes
}

impl From<SocketAddr> for Destination {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl From<(Ipv4Addr, u16)> for Destination {
    fn from(address: (Ipv4Addr, u16)) -> Self {
        Self::Address(address.into())
    }
}

impl From<(Ipv6Addr, u16)> for Destination {
    fn from(address: (Ipv6Addr, u16)) -> Self {
        Self::Address(address.into())
    }
}

impl From<(&str, u16)> for Destination {
    fn from((name, port): (&str, u16)) -> Self {
        Self::Name(name.as_bytes().to_vec(), port)
    }
}
