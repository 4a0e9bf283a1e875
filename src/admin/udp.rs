//! SCTP over UDP: one socket and the associations it carries. What is SCTP about it is the crate `pipo-encap`;
//! here datagrams pass between it and the kernel.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::event::Event;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use pipo_encap::{AssociationId, Endpoint, Limits, SendError};
use socket2::{Domain, Protocol, Socket, Type};

use super::peer::Sent;
use crate::limits;

/// Longest datagram: UDP's length field.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A UDP socket with its endpoint.
#[derive(Debug)]
pub(super) struct Carrier {
    socket: UdpSocket,
    pub(super) endpoint: Endpoint,
    /// Where datagrams come in.
    pub(super) address: SocketAddr,
    /// The SCTP port inside of them.
    pub(super) sctp_port: u16,
    readable: bool,
    writable: bool,
    /// A datagram that the kernel had no room for.
    held: Option<(SocketAddr, Vec<u8>)>,
    buffer: Vec<u8>,
    /// Dropped datagrams that were told of already.
    dropped_told: u64,
}

/// A UDP socket that is bound, before its endpoint is made.
pub(super) fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    if let Err(error) = socket.set_recv_buffer_size(limits::ADMIN_UDP_BUFFER_BYTES) {
        log::debug!("the kernel's receive buffer stays as it is: error=\"{error}\"");
    }
    // Without SO_REUSEADDR: with it a second daemon would take half of the datagrams in silence.
    socket.bind(&address.into())?;
    Ok(socket)
}

impl Carrier {
    /// Takes associations with `sctp_port` on a socket that is bound.
    pub(super) fn new(socket: Socket, sctp_port: u16, now: Instant) -> io::Result<Self> {
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let endpoint = Endpoint::server(sctp_port, endpoint_limits(), seed, now).map_err(io::Error::other)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into()),
            endpoint,
            address,
            sctp_port,
            readable: true,
            writable: true,
            held: None,
            buffer: vec![0; DATAGRAM_BYTES_MAX],
            dropped_told: 0,
        })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE | Interest::WRITABLE)
    }

    pub(super) fn note_event(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_error();
        self.writable |= event.is_writable() || event.is_error();
    }

    /// Whether datagrams may wait that were not taken in for want of time.
    pub(super) fn has_more(&self) -> bool {
        self.readable
    }

    /// Takes datagrams in, and does what is due.
    pub(super) fn receive(&mut self, now: Instant) {
        for _ in 0..limits::ADMIN_DATAGRAMS_PER_TURN {
            if !self.readable {
                break;
            }
            match self.socket.recv_from(&mut self.buffer) {
                Ok((count, from)) => {
                    let datagram = self.buffer.get(..count).unwrap_or_default();
                    self.endpoint.receive(from, datagram, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                // An ICMP error of a datagram that was sent: retransmission finds out by itself.
                Err(error) => log::debug!("a datagram was not received: error=\"{error}\""),
            }
        }
        if self.endpoint.deadline().is_some_and(|at| now >= at) {
            self.endpoint.expire(now);
        }
    }

    /// Sends the datagrams that wait, as far as the kernel takes them.
    pub(super) fn transmit(&mut self) {
        while self.writable {
            let Some((to, datagram)) = self.held.take().or_else(|| self.endpoint.next_datagram()) else {
                break;
            };
            match self.socket.send_to(&datagram, to) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    self.held = Some((to, datagram));
                }
                // As if the network had lost it.
                Err(error) => log::debug!("a datagram was not sent: to={to} error=\"{error}\""),
            }
        }
    }

    /// Sends one message of an association.
    pub(super) fn send(&mut self, id: AssociationId, stream: u16, message: &[u8], now: Instant) -> Sent {
        match self.endpoint.send(id, stream, message, now) {
            Ok(()) => Sent::Done,
            Err(SendError::WouldBlock) => Sent::Blocked,
            Err(SendError::Unknown | SendError::NotOpen) => Sent::Gone,
            Err(error @ (SendError::Stream { .. } | SendError::Empty | SendError::TooLong { .. })) => {
                log::error!("a message cannot be sent: {error}");
                Sent::Gone
            }
        }
    }

    /// Datagrams dropped since the last call: malformed, unwanted, or over a rate.
    pub(super) fn take_dropped(&mut self) -> u64 {
        let counters = self.endpoint.counters();
        let dropped = counters.dropped_short
            + counters.dropped_long
            + counters.dropped_checksum
            + counters.dropped_port
            + counters.dropped_chunk_length
            + counters.dropped_chunk_count
            + counters.dropped_init
            + counters.dropped_tag
            + counters.dropped_address
            + counters.dropped_unknown
            + counters.dropped_unwanted
            + counters.dropped_rate_source
            + counters.dropped_rate_total
            + counters.dropped_cookie
            + counters.dropped_outgoing;
        let new = dropped - self.dropped_told;
        self.dropped_told = dropped;
        new
    }
}

/// The endpoint's bounds stand above ours: who is to go is decided where it is known who has logged in.
fn endpoint_limits() -> Limits {
    Limits {
        associations_max: 2 * limits::ADMIN_ASSOCIATIONS_MAX,
        associations_per_source_max: 2 * limits::ADMIN_ASSOCIATIONS_MAX,
        streams_max: limits::ADMIN_STREAMS,
        message_bytes_max: limits::ADMIN_MESSAGE_BYTES_MAX,
        ..Limits::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_socket_on_the_same_port_is_refused() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let carrier = Carrier::new(first, 8080, Instant::now()).unwrap();
        let error = bind(carrier.address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
