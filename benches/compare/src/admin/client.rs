//! A client of version 2 of the admin channel over SCTP over UDP: one association, blocking, nothing built in
//! between that could wait. What is done with its answers is the next files'.

use pipo_encap::{AssociationId, Endpoint, Event as EncapEvent, Limits};
use pipo_protocol::v2::login::{ClientStarted, Transcript};
use pipo_protocol::v2::messages::{Credit, HelloRequest, LoginChallenge, LoginDone, Nonce};
use pipo_protocol::v2::{Header, Message, Record, Request, Status, Word, encode_raw};
use pipo_protocol::{Name, Password};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// An answer that takes longer is a failure.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Longest datagram: UDP's length field.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Where a daemon's admin channel is: its UDP address, and the SCTP port inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) udp: SocketAddr,
    pub(crate) sctp_port: u16,
}

impl Place {
    /// The first one that a daemon's ready line names: `…; admin 127.0.0.1:8080 (udp 9899), …`.
    pub(crate) fn from_ready_line(line: &str) -> Option<Self> {
        let (_, list) = line.split_once("; admin ")?;
        let (address, rest) = list.split_once(" (udp ")?;
        let (port, _) = rest.split_once(')')?;
        let address: SocketAddr = address.parse().ok()?;
        Some(Self { udp: SocketAddr::new(address.ip(), port.parse().ok()?), sctp_port: address.port() })
    }
}

/// A record that came, and its octets.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
    /// Header and body: what it takes of a channel's credit.
    pub(crate) bytes: u32,
}

/// One association that has logged in.
pub(crate) struct Client {
    socket: UdpSocket,
    endpoint: Endpoint,
    id: AssociationId,
    arrived: VecDeque<Got>,
    next_request: u32,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects and logs in.
    pub(crate) fn log_in(place: Place, user: &str, password: &str) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(place.udp)?;
        let mut seed = [0; 32];
        random(&mut seed)?;
        let mut endpoint =
            Endpoint::client(Limits::default(), seed, Instant::now()).map_err(io::Error::other)?;
        let id = endpoint.connect(place.udp, place.sctp_port, Instant::now()).map_err(io::Error::other)?;
        let (arrived, buffer) = (VecDeque::new(), vec![0; DATAGRAM_BYTES_MAX]);
        let mut client = Self { socket, endpoint, id, arrived, next_request: 1, buffer };
        client.wait_until_open()?;
        client.prove(user, password)?;
        Ok(client)
    }

    fn wait_until_open(&mut self) -> io::Result<()> {
        let until = Instant::now() + ANSWER_MAX;
        while Instant::now() < until {
            self.transmit()?;
            match self.endpoint.next_event() {
                Some(EncapEvent::Opened { .. }) => return Ok(()),
                Some(EncapEvent::Closed { reason, .. }) => return Err(io::Error::other(reason)),
                Some(EncapEvent::Message { .. } | EncapEvent::Writable { .. }) => {}
                None => self.receive(until)?,
            }
        }
        Err(ErrorKind::TimedOut.into())
    }

    fn prove(&mut self, user: &str, password: &str) -> io::Result<()> {
        let mut transcript = Transcript::default();
        let hello = HelloRequest { client: Word::cut("compare"), features: Vec::new() };
        let (sent, got) = self.exchange(&Request::Hello(hello))?;
        transcript.add(&sent);
        transcript.add(&encode_raw(&got.header, &got.body).map_err(io::Error::other)?);
        let mut octets = [0; 16];
        random(&mut octets)?;
        let nonce = Nonce::new(octets).ok_or(ErrorKind::InvalidInput)?;
        let name = Name::new(user.as_bytes()).map_err(io::Error::other)?;
        let (started, start) = ClientStarted::new(name, nonce);
        let (sent, got) = self.exchange(&Request::LoginStart(start))?;
        transcript.add(&sent);
        transcript.add(&encode_raw(&got.header, &got.body).map_err(io::Error::other)?);
        let challenge = LoginChallenge::decode(&got.body).map_err(io::Error::other)?;
        let password = Password::new(password.as_bytes()).map_err(io::Error::other)?;
        let (proved, proof) = started.prove(&challenge, &password, &transcript).map_err(io::Error::other)?;
        let (_, got) = self.exchange(&Request::LoginProof(proof))?;
        let done = LoginDone::decode(&got.body).map_err(io::Error::other)?;
        proved.accept(&done).map_err(io::Error::other)?;
        Ok(())
    }

    /// Sends a request on channel 0; gives its record and the last one of its answer.
    fn exchange(&mut self, request: &Request) -> io::Result<(Vec<u8>, Got)> {
        let (number, sent) = self.dispatch(request, 0)?;
        Ok((sent, self.last_of(number)?))
    }

    /// Sends a request on that channel and gives its number.
    pub(crate) fn send(&mut self, request: &Request, channel: u32) -> io::Result<u32> {
        self.dispatch(request, channel).map(|(number, _)| number)
    }

    fn dispatch(&mut self, request: &Request, channel: u32) -> io::Result<(u32, Vec<u8>)> {
        let number = self.next_request;
        self.next_request += 1;
        let header = Header { channel, ..Header::request(request.command().code(), number) };
        let record = encode_raw(&header, &request.encode()).map_err(io::Error::other)?;
        self.endpoint.send(self.id, 0, &record, Instant::now()).map_err(io::Error::other)?;
        self.transmit()?;
        Ok((number, record))
    }

    /// Sends a request and waits for the last record of its answer; the others are passed over.
    pub(crate) fn ask(&mut self, request: &Request, channel: u32) -> io::Result<Got> {
        let number = self.send(request, channel)?;
        self.last_of(number)
    }

    /// The last record of an answer.
    fn last_of(&mut self, number: u32) -> io::Result<Got> {
        let until = Instant::now() + ANSWER_MAX;
        loop {
            let got = self.next(until)?.ok_or(ErrorKind::TimedOut)?;
            if got.header.request == number && got.header.last {
                if got.header.status == Status::Ok {
                    return Ok(got);
                }
                return Err(io::Error::other(format!("answered with {:?}", got.header.status)));
            }
        }
    }

    /// Returns credit to a channel.
    pub(crate) fn give_credit(&mut self, channel: u32, bytes: u32) -> io::Result<()> {
        self.send(&Request::Credit(Credit { channel, bytes }), 0).map(|_| ())
    }

    /// The next record; `None`: none came until then.
    pub(crate) fn next(&mut self, until: Instant) -> io::Result<Option<Got>> {
        loop {
            while let Some(event) = self.endpoint.next_event() {
                match event {
                    EncapEvent::Message { bytes, .. } => {
                        let record = Record::decode(&bytes).map_err(io::Error::other)?;
                        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
                        let (header, body) = (record.header, record.body.to_vec());
                        self.arrived.push_back(Got { header, body, bytes: length });
                    }
                    EncapEvent::Closed { reason, .. } => return Err(io::Error::other(reason)),
                    EncapEvent::Opened { .. } | EncapEvent::Writable { .. } => {}
                }
            }
            self.transmit()?;
            if let Some(got) = self.arrived.pop_front() {
                return Ok(Some(got));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            self.receive(until)?;
        }
    }

    fn transmit(&mut self) -> io::Result<()> {
        while let Some((_, datagram)) = self.endpoint.next_datagram() {
            self.socket.send(&datagram)?;
        }
        Ok(())
    }

    /// Waits for one datagram, a deadline of the association's, or that moment.
    fn receive(&mut self, until: Instant) -> io::Result<()> {
        let now = Instant::now();
        let wake_at = self.endpoint.deadline().map_or(until, |at| at.min(until));
        let patience = wake_at.saturating_duration_since(now).max(Duration::from_micros(1));
        self.socket.set_read_timeout(Some(patience))?;
        match self.socket.recv(&mut self.buffer) {
            Ok(count) => {
                let datagram = self.buffer.get(..count).unwrap_or_default();
                let from = self.socket.peer_addr()?;
                self.endpoint.receive(from, datagram, Instant::now());
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
        self.endpoint.expire(Instant::now());
        Ok(())
    }
}

fn random(octets: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_says_where_the_admin_channel_is() {
        let line = "listening on 127.0.0.1:1080; admin 127.0.0.1:8080 (udp 9899), [::1]:8080 (udp 9899); x";
        let expected = Place { udp: "127.0.0.1:9899".parse().unwrap(), sctp_port: 8080 };
        assert_eq!(Place::from_ready_line(line), Some(expected));
        assert_eq!(Place::from_ready_line("listening on 127.0.0.1:1080; admin 127.0.0.1:8080 (sctp)"), None);
    }
}
