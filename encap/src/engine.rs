//! The border to `sctp-proto`: one endpoint and one association of it, fenced in.
//!
//! Only the transfer of user data is its business: it gets DATA and SACK chunks that were checked, and gives
//! DATA and SACK back. Handshake, heartbeats, shutdown, abort and every other chunk are handled outside, so
//! most of its code is never reached by a peer. What it may still do wrong on peer data is fenced twice: by the
//! checks of [`crate::arrivals`] and [`crate::chunks`], and here by catching a panic and dropping the engine.
//!
//! What 0.10.8 does with a peer's bytes, and why it does not matter here:
//! - An INIT panics an endpoint without a server configuration, and costs one with it an association; INIT and
//!   INIT ACK with addresses are dropped; equal tags of two peers are confused; `connect` reads the clock. The
//!   handshake is our own, and the engine starts from its result (what it calls SNAP).
//! - HEARTBEAT ACK or an unknown chunk drops the whole packet; ERROR and a second INIT close; it sends no
//!   heartbeats, never gives up retransmission, says SHUTDOWN with a wrong TSN and ends before it is answered.
//!   Control chunks are our own; only DATA and SACK get in.
//! - Empty DATA is kept and never counts against the window; single bytes cost hundreds; streams are made at
//!   will. [`crate::arrivals`] refuses or charges them, and streams are checked before it.
//! - It sorts by serial number. Numbers from all around the circle have no order, and `sort_by` may panic on
//!   that. Windows of TSNs and of sequence numbers keep them in one half.
//! - A chunk it keeps pins its whole datagram. Each chunk comes in a packet of its own.
//! - It visits every TSN of every gap of a SACK, those named twice too. Gaps must ascend.
//! - Its congestion window overflows 32 bits (a panic where that is checked) in endless slow start. The windows
//!   of peers are believed up to 1 MiB.
//! - FORWARD TSN and RE-CONFIG lead to `expect`, `unreachable` and quadratic searches. They are not offered and
//!   not passed on.
//! - It sends SACKs with more gaps than a packet holds, and no protocol identifier 0. [`crate::open`] rewrites
//!   both on the way out.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, ServerConfig, StreamEvent, TransportConfig,
};

use crate::chunks::Init;
use crate::cookie::Place;
use crate::limits::Limits;

/// The engine is gone; the association cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It panicked.
    Panicked,
    /// It gave the association up, or refused what it was given.
    Refused,
}

/// A message taken out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) stream: u16,
    pub(crate) bytes: Vec<u8>,
    /// DATA chunks it came in.
    pub(crate) chunks: usize,
}

/// The protocol identifier the engine is given. It cannot send zero; the way out writes zero over it.
const PROTOCOL: PayloadProtocolIdentifier = PayloadProtocolIdentifier::Binary;

/// Rounds of output taken at once. One is the rule; more would be an engine that never rests.
const ROUNDS_MAX: usize = 16;

/// The fenced engine of one association.
pub(crate) struct Engine {
    /// `None` once it panicked.
    inner: Option<Inner>,
}

struct Inner {
    endpoint: sctp_proto::Endpoint,
    handle: AssociationHandle,
    association: Association,
    remote: SocketAddr,
    /// Streams that were sent on.
    sending: BTreeSet<u16>,
    /// Streams that may have a message to read.
    readable: BTreeSet<u16>,
    /// The stream read last: the next one has its turn.
    turn: u16,
}

impl Engine {
    /// An engine for an association whose handshake is done: `local` and `peer` are what the two sides offered.
    pub(crate) fn new(place: Place, local: Init, peer: Init, limits: &Limits) -> Result<Self, Broken> {
        let made = catch_unwind(AssertUnwindSafe(|| Inner::new(place, local, peer, limits)));
        match made {
            Ok(inner) => inner.map(|inner| Self { inner: Some(inner) }),
            Err(_) => Err(Broken::Panicked),
        }
    }

    /// Runs `work` on the engine. A panic inside ends it for good.
    fn fenced<T>(&mut self, work: impl FnOnce(&mut Inner) -> Result<T, Broken>) -> Result<T, Broken> {
        let inner = self.inner.as_mut().ok_or(Broken::Panicked)?;
        // The engine's state after a panic is never looked at again: it is dropped below.
        if let Ok(result) = catch_unwind(AssertUnwindSafe(|| work(inner))) {
            result
        } else {
            self.inner = None;
            Err(Broken::Panicked)
        }
    }

    /// Hands in one packet that holds a DATA or a SACK chunk.
    pub(crate) fn receive(&mut self, packet: Vec<u8>, now: Instant) -> Result<(), Broken> {
        self.fenced(|inner| inner.receive(packet, now))
    }

    /// Queues a message whole.
    pub(crate) fn send(&mut self, stream: u16, message: &[u8]) -> Result<(), Broken> {
        self.fenced(|inner| inner.send(stream, message))
    }

    /// The next message of any stream, in order within it; streams take turns.
    pub(crate) fn read(&mut self) -> Result<Option<Received>, Broken> {
        self.fenced(Inner::read)
    }

    /// Whether [`Engine::read`] may have something.
    pub(crate) fn is_readable(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| !inner.readable.is_empty())
    }

    /// The packets to send now.
    pub(crate) fn transmit(&mut self, now: Instant) -> Result<Vec<Bytes>, Broken> {
        self.fenced(|inner| Ok(inner.transmit(now)))
    }

    /// Lets timers run.
    pub(crate) fn expire(&mut self, now: Instant) -> Result<(), Broken> {
        self.fenced(|inner| {
            inner.association.handle_timeout(now);
            inner.drain_events()
        })
    }

    /// When [`Engine::expire`] is wanted.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.inner.as_ref().and_then(|inner| inner.association.poll_timeout())
    }

    /// Bytes sent and not yet acknowledged.
    pub(crate) fn queued(&mut self) -> Result<usize, Broken> {
        self.fenced(|inner| Ok(inner.queued()))
    }

    #[cfg(test)]
    pub(crate) fn panic_for_test(&mut self) -> Result<(), Broken> {
        self.fenced(|_| panic!("provoked by a test"))
    }
}

impl Inner {
    fn new(place: Place, local: Init, peer: Init, limits: &Limits) -> Result<Self, Broken> {
        let mut config = EndpointConfig::new();
        config.max_payload_size(limits.payload_bytes);
        // It must have a server configuration, or an INIT panics it; none reaches it, and none is accepted.
        let server = Arc::new(ServerConfig::new());
        let mut endpoint = sctp_proto::Endpoint::new(Arc::new(config), Some(server));
        endpoint.reject_new_associations();
        let mut client = ClientConfig::new().with_snap(local.to_chunk().into(), peer.to_chunk().into());
        client.transport = Arc::new(transport(place, limits));
        let (handle, association) = endpoint.connect(client, place.remote).map_err(|_| Broken::Refused)?;
        let mut inner = Self {
            endpoint,
            handle,
            association,
            remote: place.remote,
            sending: BTreeSet::new(),
            readable: BTreeSet::new(),
            turn: u16::MAX,
        };
        inner.drain_events()?;
        Ok(inner)
    }

    fn receive(&mut self, packet: Vec<u8>, now: Instant) -> Result<(), Broken> {
        match self.endpoint.handle(now, self.remote, None, None, packet.into()) {
            Some((handle, DatagramEvent::AssociationEvent(event))) if handle == self.handle => {
                self.association.handle_event(event);
                self.drain_events()
            }
            Some((_, DatagramEvent::AssociationEvent(_) | DatagramEvent::NewAssociation(_))) | None => {
                Err(Broken::Refused)
            }
        }
    }

    fn drain_events(&mut self) -> Result<(), Broken> {
        while let Some(event) = self.association.poll() {
            match event {
                Event::Stream(StreamEvent::Readable { id }) => {
                    self.readable.insert(id);
                }
                // Streams are looked up by number; the list of opened ones only has to be kept short.
                Event::Stream(StreamEvent::Opened { .. }) => {
                    while self.association.accept_stream().is_some() {}
                }
                Event::AssociationLost { .. } | Event::HandshakeFailed { .. } => return Err(Broken::Refused),
                Event::Connected
                | Event::Stream(_)
                | Event::DataChannelStatsFinal(_)
                | Event::DatagramReceived => {}
                // The enum is open; everything of this version stands above.
                _ => {}
            }
        }
        Ok(())
    }

    fn send(&mut self, stream: u16, message: &[u8]) -> Result<(), Broken> {
        let opened = match self.association.stream(stream) {
            Ok(opened) => Ok(opened),
            Err(_) => self.association.open_stream(stream, PROTOCOL),
        };
        let written = opened.and_then(|mut opened| opened.write_with_ppi(message, PROTOCOL));
        self.sending.insert(stream);
        match written {
            Ok(bytes) if bytes == message.len() => self.drain_events(),
            Ok(_) | Err(_) => Err(Broken::Refused),
        }
    }

    fn read(&mut self) -> Result<Option<Received>, Broken> {
        while let Some(id) = self.next_readable() {
            self.turn = id;
            let mut stream = self.association.stream(id).map_err(|_| Broken::Refused)?;
            match stream.read_sctp() {
                Ok(Some(message)) => {
                    let mut bytes = vec![0; message.len()];
                    message.read(&mut bytes).map_err(|_| Broken::Refused)?;
                    self.drain_events()?;
                    return Ok(Some(Received { stream: id, bytes, chunks: message.chunks.len() }));
                }
                Ok(None) => {
                    self.readable.remove(&id);
                }
                Err(_) => return Err(Broken::Refused),
            }
        }
        Ok(None)
    }

    fn next_readable(&self) -> Option<u16> {
        let after = self.turn.checked_add(1).and_then(|from| self.readable.range(from..).next());
        after.or_else(|| self.readable.first()).copied()
    }

    fn transmit(&mut self, now: Instant) -> Vec<Bytes> {
        let mut packets = Vec::new();
        for _ in 0..ROUNDS_MAX {
            match self.association.poll_transmit(now).map(|transmit| transmit.payload) {
                Some(Payload::RawEncode(round)) => packets.extend(round),
                Some(Payload::PartialDecode(_)) | None => break,
            }
        }
        packets
    }

    fn queued(&mut self) -> usize {
        let association = &mut self.association;
        self.sending
            .iter()
            .filter_map(|id| association.stream(*id).and_then(|stream| stream.buffered_amount()).ok())
            .sum()
    }
}

/// The engine's configuration: retransmission never ends by itself, and its own window never closes, because
/// both are decided outside ([`crate::open`], [`crate::arrivals`]).
fn transport(place: Place, limits: &Limits) -> TransportConfig {
    let message_bytes = u32::try_from(limits.message_bytes_max).unwrap_or(u32::MAX);
    TransportConfig::default()
        .with_local_port(place.local_port)
        .with_remote_port(place.peer_port)
        .with_max_num_inbound_streams(limits.streams_max)
        .with_max_num_outbound_streams(limits.streams_max)
        .with_max_send_message_size(message_bytes)
        .with_max_receive_message_size(message_bytes)
        .with_max_receive_buffer_size(u32::MAX)
        .with_max_data_retransmits(None)
        .with_rto_initial_ms(milliseconds(limits.rto_initial))
        .with_rto_min_ms(milliseconds(limits.rto_min))
        .with_rto_max_ms(milliseconds(limits.rto_max))
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
