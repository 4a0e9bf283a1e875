//! A client of the admin channel that knows octets only: SCTP over UDP, one message at a time. What it sends and
//! expects is written by hand in the tests, not made by the daemon's own encoder.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pipo_encap::{AssociationId, CloseReason, Endpoint, Event, Limits, SendError};

use super::Daemon;
use super::waiting::LIMIT;

/// One association, and what came over it.
#[derive(Debug)]
pub(crate) struct AdminClient {
    socket: AdminSocket,
    id: AssociationId,
    messages: VecDeque<Vec<u8>>,
    closed: Option<CloseReason>,
}

/// A UDP socket with any number of associations.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    socket: UdpSocket,
    endpoint: Endpoint,
    place: Place,
    buffer: Vec<u8>,
}

/// Where a daemon's admin channel is: UDP address, and the SCTP port inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) udp: SocketAddr,
    pub(crate) sctp_port: u16,
}

/// Every place that the ready line names: `admin 127.0.0.1:8080 (udp 40000), [::1]:8080 (udp 40000)`.
pub(crate) fn places(daemon: &Daemon) -> Vec<Place> {
    let line = daemon.ready_line();
    let (_, list) = line.split_once("; admin ").expect("the ready line names the admin channel");
    let list = list.split("; ").next().unwrap_or(list);
    list.split(", ").map(place_of).collect()
}

fn place_of(text: &str) -> Place {
    let (address, transport) =
        text.split_once(" (udp ").unwrap_or_else(|| panic!("{text:?} is not over UDP"));
    let address: SocketAddr = address.parse().expect("an address");
    let port: u16 = transport.trim_end_matches(')').parse().expect("a UDP port");
    Place { udp: SocketAddr::new(address.ip(), port), sctp_port: address.port() }
}

impl AdminSocket {
    pub(crate) fn new(place: Place) -> Self {
        Self::with_streams(place, Limits::default().streams_max)
    }

    /// One that asks for that many streams each way.
    pub(crate) fn with_streams(place: Place, streams_max: u16) -> Self {
        let local: SocketAddr = match place.udp {
            SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
        };
        let socket = UdpSocket::bind(local).expect("a UDP socket");
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("random bytes");
        let limits = Limits {
            associations_max: 2000,
            associations_per_source_max: 2000,
            message_bytes_max: 70_000,
            streams_max,
            ..Limits::default()
        };
        let endpoint = Endpoint::client(limits, seed, Instant::now()).expect("sound limits");
        Self { socket, endpoint, place, buffer: vec![0; 65_536] }
    }

    /// Begins an association.
    pub(crate) fn connect(&mut self) -> AssociationId {
        let Place { udp, sctp_port } = self.place;
        self.endpoint.connect(udp, sctp_port, Instant::now()).expect("a free association")
    }

    /// Queues a message of one of its associations.
    pub(crate) fn send(&mut self, association: AssociationId, message: &[u8]) {
        self.endpoint.send(association, 0, message, Instant::now()).expect("room for a message");
    }

    /// Sends what is to be sent, waits a moment for a datagram, and gives what happened.
    pub(crate) fn pump(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            while let Some((to, datagram)) = self.endpoint.next_datagram() {
                self.socket.send_to(&datagram, to).expect("loopback takes datagrams");
            }
            let Some(event) = self.endpoint.next_event() else { break };
            events.push(event);
        }
        if events.is_empty() {
            self.receive();
        }
        events
    }

    /// Takes in one datagram, or lets 10 ms pass.
    fn receive(&mut self) {
        self.socket.set_read_timeout(Some(Duration::from_millis(10))).expect("a time limit");
        match self.socket.recv_from(&mut self.buffer) {
            Ok((count, from)) => self.endpoint.receive(from, &self.buffer[..count], Instant::now()),
            // A receive with a time limit may be interrupted by any signal (signal(7)).
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => panic!("the UDP socket failed: {error}"),
        }
        self.endpoint.expire(Instant::now());
    }
}

impl AdminClient {
    /// An association with the first place of a daemon.
    pub(crate) fn connect(daemon: &Daemon) -> Self {
        Self::connect_to(places(daemon)[0])
    }

    /// An association with a place.
    pub(crate) fn connect_to(place: Place) -> Self {
        Self::over(AdminSocket::new(place))
    }

    /// An association of that socket.
    pub(crate) fn over(mut socket: AdminSocket) -> Self {
        let id = socket.connect();
        let mut client = Self { socket, id, messages: VecDeque::new(), closed: None };
        let deadline = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < deadline, "no association within {LIMIT:?}");
            let events = client.socket.pump();
            if events.iter().any(|event| matches!(event, Event::Opened { .. })) {
                return client;
            }
            assert!(events.is_empty(), "{events:?}");
        }
    }

    /// An association whose log-in was accepted.
    pub(crate) fn log_in(daemon: &Daemon, name: &[u8], password: &[u8]) -> Self {
        let mut client = Self::connect(daemon);
        client.send(&login(name, password));
        assert_eq!(client.receive(), [0x01, 0x00], "the log-in of {}", name.escape_ascii());
        client
    }

    /// Sends one message; waits where there is no room for it.
    pub(crate) fn send(&mut self, message: &[u8]) {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.socket.endpoint.send(self.id, 0, message, Instant::now()) {
                Ok(()) => return self.pump(),
                Err(SendError::WouldBlock) => {
                    assert!(Instant::now() < deadline, "no room for a message within {LIMIT:?}");
                    self.pump();
                }
                Err(error) => panic!("a message was not sent: {error}"),
            }
        }
    }

    /// Queues a message if there is room for it, and lets a moment pass.
    pub(crate) fn try_send(&mut self, message: &[u8]) -> bool {
        let sent = self.socket.endpoint.send(self.id, 0, message, Instant::now()).is_ok();
        self.pump();
        sent
    }

    /// Takes no message any more: what the daemon sends piles up there.
    pub(crate) fn stop_reading(&mut self) {
        self.socket.endpoint.pause(self.id);
    }

    /// Takes messages again.
    pub(crate) fn read_again(&mut self) {
        self.socket.endpoint.resume(self.id);
    }

    /// The next message.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(message) = self.messages.pop_front() {
                return message;
            }
            assert!(self.closed.is_none(), "closed instead of an answer: {:?}", self.closed);
            assert!(Instant::now() < deadline, "no answer within {LIMIT:?}");
            self.pump();
        }
    }

    /// A message that has come, if there is one after a moment.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        if self.messages.is_empty() && self.closed.is_none() {
            self.pump();
        }
        self.messages.pop_front()
    }

    /// Sends a request and gives the message that answers it.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.send(request);
        self.receive()
    }

    /// Whether nothing comes for that time.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.pump();
        }
        self.messages.is_empty() && self.closed.is_none()
    }

    /// Waits for the end.
    pub(crate) fn expect_close(&mut self) -> CloseReason {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(reason) = self.closed {
                assert!(self.messages.is_empty(), "messages before the end: {:02x?}", self.messages);
                return reason;
            }
            assert!(Instant::now() < deadline, "no end within {LIMIT:?}");
            self.pump();
        }
    }

    fn pump(&mut self) {
        for event in self.socket.pump() {
            match event {
                Event::Message { bytes, .. } => self.messages.push_back(bytes),
                Event::Closed { reason, .. } => self.closed = Some(reason),
                Event::Opened { .. } | Event::Writable { .. } => {}
            }
        }
    }
}

/// VER=01, ULEN, UNAME, PLEN, PASSWD.
pub(crate) fn login(name: &[u8], password: &[u8]) -> Vec<u8> {
    [&[0x01], &counted(name)[..], &counted(password)].concat()
}

/// A length octet and the octets.
pub(crate) fn counted(octets: &[u8]) -> Vec<u8> {
    [&[u8::try_from(octets.len()).expect("at most 255 octets")], octets].concat()
}
