//! SCTP over UDP: a socket of tokio and the endpoint of `pipo-encap` with its deadlines.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use pipo_encap::{AssociationId, CloseReason, Endpoint, Event, Limits, SendError};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::carrier::Ended;
use super::limits;

/// One association and the socket that is its alone.
#[derive(Debug)]
pub(super) struct Udp {
    socket: UdpSocket,
    endpoint: Endpoint,
    association: AssociationId,
    remote: SocketAddr,
    /// A datagram that the kernel had no room for.
    held: Option<Vec<u8>>,
    buffer: Vec<u8>,
    /// The system said that nobody has the server's UDP port.
    unreachable: bool,
    /// The endpoint was told of that and may have an event.
    noted: bool,
}

/// Why the handshake failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the endpoint or the system says.
    pub(super) ended: Ended,
    /// Nobody has the UDP port.
    pub(super) unreachable: bool,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { unreachable: error.kind() == ErrorKind::ConnectionRefused, ended: error.into() }
    }
}

impl Udp {
    /// Opens an association with the SCTP `port` behind the UDP address `remote`. The caller limits the time.
    pub(super) async fn open(remote: SocketAddr, port: u16) -> Result<Self, Failure> {
        let local: SocketAddr = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(local).await?;
        // Connected, so that the system passes refusals on and strangers are kept out.
        socket.connect(remote).await?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let bounds = Limits { message_bytes_max: limits::MESSAGE_BYTES_MAX, ..Limits::default() };
        let mut endpoint = Endpoint::client(bounds, seed, Instant::now()).map_err(io::Error::other)?;
        let association = endpoint.connect(remote, port, Instant::now()).map_err(io::Error::other)?;
        let mut udp = Self {
            socket,
            endpoint,
            association,
            remote,
            held: None,
            buffer: vec![0; limits::DATAGRAM_BYTES_MAX],
            unreachable: false,
            noted: false,
        };
        loop {
            while let Some(event) = udp.endpoint.next_event() {
                match event {
                    Event::Opened { .. } => return Ok(udp),
                    Event::Closed { reason, .. } => {
                        return Err(Failure { ended: Ended::Udp(reason), unreachable: udp.unreachable });
                    }
                    Event::Message { .. } | Event::Writable { .. } => {}
                }
            }
            udp.wait().await?;
        }
    }

    /// See [`super::carrier::Carrier::turn`].
    pub(super) async fn turn(&mut self, outgoing: &mut VecDeque<Vec<u8>>) -> Result<Vec<u8>, Ended> {
        loop {
            self.hand_over(outgoing)?;
            match self.endpoint.next_event() {
                Some(Event::Message { bytes, .. }) => {
                    self.transmit()?;
                    return Ok(bytes);
                }
                Some(Event::Closed { reason: CloseReason::PeerClosed, .. }) => return Err(Ended::Closed),
                Some(Event::Closed { reason, .. }) => return Err(Ended::Udp(reason)),
                Some(Event::Opened { .. } | Event::Writable { .. }) => {}
                None => self.wait().await?,
            }
        }
    }

    /// See [`super::carrier::Carrier::close`].
    pub(super) async fn close(mut self, mut outgoing: VecDeque<Vec<u8>>) {
        let closing = async {
            while !outgoing.is_empty() {
                self.hand_over(&mut outgoing)?;
                self.wait().await?;
            }
            self.endpoint.close(self.association, Instant::now());
            while self.endpoint.associations_count() > 0 {
                while self.endpoint.next_event().is_some() {}
                self.wait().await?;
            }
            self.transmit()
        };
        match tokio::time::timeout(limits::CLOSE_TIME_MAX, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("the association was not closed in order: error=\"{error}\""),
            Err(_) => log::debug!("the association was not closed in time"),
        }
    }

    /// Gives the endpoint as many messages as it takes.
    fn hand_over(&mut self, outgoing: &mut VecDeque<Vec<u8>>) -> Result<(), io::Error> {
        while let Some(message) = outgoing.front() {
            match self.endpoint.send(self.association, 0, message, Instant::now()) {
                Ok(()) => {
                    outgoing.pop_front();
                }
                // The event that tells why follows, or Writable does.
                Err(SendError::WouldBlock | SendError::Unknown | SendError::NotOpen) => break,
                Err(error @ (SendError::Stream { .. } | SendError::Empty | SendError::TooLong { .. })) => {
                    return Err(io::Error::other(error));
                }
            }
        }
        Ok(())
    }

    /// Sends what waits, waits for a datagram or the deadline, and does what is due.
    async fn wait(&mut self) -> io::Result<()> {
        self.transmit()?;
        if std::mem::take(&mut self.noted) {
            return Ok(());
        }
        let deadline = self.endpoint.deadline();
        let due = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = self.socket.ready(Interest::READABLE | Interest::ERROR) => drop(ready?),
            ready = self.socket.writable(), if self.held.is_some() => ready?,
            () = due => {}
        }
        self.take_error();
        self.receive();
        self.endpoint.expire(Instant::now());
        Ok(())
    }

    /// Refusals come as errors of the socket, before anything can be read.
    fn take_error(&mut self) {
        let taken = self.socket.try_io(Interest::ERROR, || {
            Err::<(), _>(self.socket.take_error()?.unwrap_or_else(|| ErrorKind::WouldBlock.into()))
        });
        if let Err(error) = taken
            && error.kind() != ErrorKind::WouldBlock
        {
            self.note(&error);
        }
    }

    fn receive(&mut self) {
        for _ in 0..limits::DATAGRAMS_PER_TURN {
            match self.socket.try_recv(&mut self.buffer) {
                Ok(count) => {
                    let datagram = self.buffer.get(..count).unwrap_or_default();
                    self.endpoint.receive(self.remote, datagram, Instant::now());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.note(&error),
            }
        }
    }

    /// Sends the datagrams that wait, as far as the kernel takes them.
    fn transmit(&mut self) -> io::Result<()> {
        while let Some(datagram) =
            self.held.take().or_else(|| self.endpoint.next_datagram().map(|(_, datagram)| datagram))
        {
            match self.socket.try_send(&datagram) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.held = Some(datagram);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
                Err(error) => self.note(&error),
            }
        }
        Ok(())
    }

    /// An error of a datagram that was sent before. Once the association is open, retransmission finds out.
    fn note(&mut self, error: &io::Error) {
        log::debug!("a datagram was lost: remote={} error=\"{error}\"", self.remote);
        if error.kind() == ErrorKind::ConnectionRefused {
            self.unreachable = true;
            self.noted = true;
            self.endpoint.unreachable(self.remote, Instant::now());
        }
    }
}

/// A client that goes without a goodbye leaves nothing behind on the server.
impl Drop for Udp {
    fn drop(&mut self) {
        self.endpoint.abort(self.association, Instant::now());
        if let Err(error) = self.transmit() {
            log::debug!("the server was not told of the end: error=\"{error}\"");
        }
    }
}
