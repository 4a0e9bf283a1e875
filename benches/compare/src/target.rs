//! What a load runs against: the origin itself, a bare relay, or a SOCKS server before the origin.

use crate::socks::{Credentials, Destination, Dialogue, Script, Step};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for any answer while a session is set up.
const SETUP_WAIT: Duration = Duration::from_secs(10);

/// Ports that echo: many, so that the addresses of closed connections, which the kernel keeps for a while, do not
/// run out when sessions come and go.
pub(crate) const ECHO_PORTS: usize = 8;

/// What the origin does on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Sends for ever.
    Source,
    /// Takes everything.
    Sink,
    /// Both at once.
    Duplex,
    /// Sends back what comes; the number picks the port.
    Echo(usize),
}

/// Where the services are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoints {
    pub(crate) source: SocketAddr,
    pub(crate) sink: SocketAddr,
    pub(crate) duplex: SocketAddr,
    pub(crate) echo: Vec<SocketAddr>,
}

impl Endpoints {
    /// How many listeners that takes.
    pub(crate) const COUNT: usize = 3 + ECHO_PORTS;

    /// Shape: addresses in the order source, sink, duplex, echoes, with a space between.
    pub(crate) fn to_line(&self) -> String {
        self.all().map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
    }

    /// Reads [`Self::to_line`] back; `None` when an address is missing or is none.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let addresses: Option<Vec<SocketAddr>> =
            line.split_ascii_whitespace().map(|word| word.parse().ok()).collect();
        Self::from_addresses(&addresses?)
    }

    pub(crate) fn from_addresses(addresses: &[SocketAddr]) -> Option<Self> {
        let [source, sink, duplex, echo @ ..] = addresses else { return None };
        (echo.len() == ECHO_PORTS).then(|| Self {
            source: *source,
            sink: *sink,
            duplex: *duplex,
            echo: echo.to_vec(),
        })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        [self.source, self.sink, self.duplex].into_iter().chain(self.echo.iter().copied())
    }

    pub(crate) fn of(&self, service: Service) -> SocketAddr {
        match service {
            Service::Source => self.source,
            Service::Sink => self.sink,
            Service::Duplex => self.duplex,
            Service::Echo(number) => {
                self.echo.get(number % self.echo.len().max(1)).copied().unwrap_or(self.source)
            }
        }
    }
}

/// A SOCKS server and how to speak to it.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) credentials: Option<Credentials>,
    /// Ask for this name instead of the origin's address.
    pub(crate) name: Option<String>,
}

/// Where connections of a load go. Without a proxy, `endpoints` are the origin's own or those of a bare relay.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) endpoints: Endpoints,
    pub(crate) proxy: Option<Proxy>,
}

impl Target {
    /// The same server, asked for a name.
    pub(crate) fn with_name(&self, name: &str) -> Self {
        let proxy = self.proxy.clone().map(|proxy| Proxy { name: Some(name.to_owned()), ..proxy });
        Self { proxy, ..self.clone() }
    }

    /// The address that a socket connects to.
    pub(crate) fn first_hop(&self, service: Service) -> SocketAddr {
        self.proxy.as_ref().map_or_else(|| self.endpoints.of(service), |proxy| proxy.address)
    }

    /// What has to be said to a proxy; `None` without one.
    pub(crate) fn script(&self, service: Service) -> Option<Script> {
        let proxy = self.proxy.as_ref()?;
        let address = self.endpoints.of(service);
        let destination = match &proxy.name {
            Some(name) => Destination::Name(name.clone(), address.port()),
            None => Destination::Address(address),
        };
        Some(Script::new(proxy.credentials.as_ref(), &destination))
    }

    /// A connection to the service, the dialogue done, blocking, TCP_NODELAY on. `from`: the loopback address to come
    /// from, for more connections than one address has ports.
    pub(crate) fn connect(&self, service: Service, from: Option<Ipv4Addr>) -> io::Result<TcpStream> {
        let mut stream = connect_from(self.first_hop(service), from)?;
        stream.set_nodelay(true)?;
        let Some(script) = self.script(service) else { return Ok(stream) };
        stream.set_read_timeout(Some(SETUP_WAIT))?;
        stream.set_write_timeout(Some(SETUP_WAIT))?;
        stream.write_all(&script.greeting)?;
        let mut dialogue = Dialogue::new();
        let mut buffer = [0; 512];
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed during the dialogue"));
            }
            let input = buffer.get(..count).unwrap_or_default();
            match dialogue.receive(&script, input).map_err(io::Error::other)? {
                Step::Wait => {}
                Step::Send(message) => stream.write_all(message)?,
                // What came behind the reply is the head of a source's stream, which no load looks at.
                Step::Established(_) => break,
            }
        }
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        Ok(stream)
    }
}

fn connect_from(address: SocketAddr, from: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let Some(from) = from else { return TcpStream::connect_timeout(&address, SETUP_WAIT) };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SockAddr::from(SocketAddr::new(IpAddr::V4(from), 0)))?;
    socket.connect_timeout(&SockAddr::from(address), SETUP_WAIT)?;
    Ok(socket.into())
}

/// A connect that does not wait: what epoll says next tells how it went.
pub(crate) fn connect_nonblocking(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    match socket.connect(&SockAddr::from(address)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// Closes with a reset instead of FIN.
pub(crate) fn reset(stream: TcpStream) -> io::Result<()> {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints() -> Endpoints {
        let addresses: Vec<SocketAddr> =
            (0..11).map(|index| SocketAddr::from(([127, 0, 0, 1], 1000 + index))).collect();
        Endpoints::from_addresses(&addresses).unwrap()
    }

    #[test]
    fn endpoints_survive_their_line() {
        assert_eq!(Endpoints::from_line(&endpoints().to_line()), Some(endpoints()));
        assert_eq!(endpoints().all().count(), Endpoints::COUNT);
        for bad in ["", "127.0.0.1:1", "a b c d e f g h i j k"] {
            assert_eq!(Endpoints::from_line(bad), None, "{bad}");
        }
    }

    #[test]
    fn echo_numbers_go_round_the_ports() {
        let endpoints = endpoints();
        assert_eq!(endpoints.of(Service::Echo(0)), endpoints.of(Service::Echo(ECHO_PORTS)));
        assert_ne!(endpoints.of(Service::Echo(0)), endpoints.of(Service::Echo(1)));
    }

    #[test]
    fn a_name_keeps_the_port_of_the_service() {
        let proxy = Proxy { address: "127.0.0.1:9".parse().unwrap(), credentials: None, name: None };
        let target = Target { endpoints: endpoints(), proxy: Some(proxy) }.with_name("a.test");
        let whole = target.script(Service::Source).unwrap().whole();
        assert!(whole.ends_with(&[6, b'a', b'.', b't', b'e', b's', b't', 0x03, 0xe8]), "{whole:?}");
        assert_eq!(target.first_hop(Service::Source), "127.0.0.1:9".parse().unwrap());
    }
}
