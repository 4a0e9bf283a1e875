//! SCTP of the kernel (RFC 9260): one-to-one sockets, as socket2 makes them, and the options it does not know.
//!
//! Numbers and layouts of options are those of linux/sctp.h; libc lacks some of both. Options set on a listener
//! are inherited by the associations it accepts.

#![expect(unsafe_code, reason = "socket options that neither socket2 nor rustix has")]

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::limits;

const SCTP_RTOINFO: libc::c_int = 0;
const SCTP_ASSOCINFO: libc::c_int = 1;
const SCTP_INITMSG: libc::c_int = 2;
const SCTP_NODELAY: libc::c_int = 3;
const SCTP_PEER_ADDR_PARAMS: libc::c_int = 9;
const SCTP_STATUS: libc::c_int = 14;
const SCTP_SOCKOPT_BINDX_ADD: libc::c_int = 100;

/// Type of the control message that says on which stream to send: `struct sctp_sndinfo`.
const SCTP_SNDINFO: libc::c_int = 2;
/// Its octets: stream (u16), flags (u16), PPID, context and association (u32 each).
const SNDINFO_BYTES: usize = 16;

/// What of a socket's memory is in use (linux/sock_diag.h): u32 each, the sixth what waits to be sent.
const SO_MEMINFO: libc::c_int = 55;
const SK_MEMINFO_WMEM_QUEUED: usize = 5;

/// `spp_flags`: send heartbeats.
const SPP_HB_ENABLE: u32 = 1;

/// What a receive came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// This many bytes of a message that goes on.
    Piece(usize),
    /// This many bytes, which end a message.
    Message(usize),
    /// The association has ended.
    End,
}

/// A listening socket, or one association of it.
#[derive(Debug)]
pub struct Sctp {
    socket: Socket,
}

/// Whether this kernel has SCTP; asking loads its module where that is allowed.
#[must_use]
pub fn is_available() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, Some(protocol())).is_ok()
}

impl Sctp {
    /// Listens on addresses of one family at one port: one endpoint, whose peers may reach it at each of them.
    ///
    /// # Errors
    /// What the kernel says; an empty list is `InvalidInput`.
    pub fn listen(addresses: &[SocketAddr]) -> io::Result<Self> {
        let (first, further) = addresses.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let socket = new_socket(*first)?;
        socket.set_reuse_address(true)?; // Associations of a former life are no hindrance.
        socket.bind(&(*first).into())?;
        let port = local_address(&socket)?.port();
        let listener = Self { socket };
        for address in further {
            listener.bind_also(SocketAddr::new(address.ip(), port))?;
        }
        listener.socket.listen(limits::ADMIN_BACKLOG_ASSOCIATIONS)?;
        Ok(listener)
    }

    /// Begins an association; the socket is writable once it stands, and [`Sctp::take_error`] says if not.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = new_socket(address)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            Ok(()) | Err(_) => Ok(Self { socket }),
        }
    }

    /// The next association and the address that its peer came from.
    ///
    /// # Errors
    /// What the kernel says; `WouldBlock`: nobody waits.
    pub fn accept(&self) -> io::Result<(Self, SocketAddr)> {
        let (socket, peer) = self.socket.accept()?;
        socket.set_nonblocking(true)?;
        let peer = peer.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok((Self { socket }, peer))
    }

    /// The first address that it is bound to, with the port that it got.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        local_address(&self.socket)
    }

    /// Takes bytes that have arrived, of one message at most.
    ///
    /// # Errors
    /// What the kernel says; `WouldBlock`: nothing is there.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrived> {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut message = empty_message(&mut part);
        // SAFETY: the descriptor is open while `self` is borrowed, and `part` is that of `buffer`, to which
        // nobody else has access.
        let count = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(match count {
            0 => Arrived::End,
            count if message.msg_flags & libc::MSG_EOR == 0 => Arrived::Piece(count),
            count => Arrived::Message(count),
        })
    }

    /// Sends one message on a stream, whole or not at all.
    ///
    /// # Errors
    /// What the kernel says; `WouldBlock`: there is no room; `InvalidInput`: no such stream.
    pub fn send(&self, stream: u16, message: &[u8]) -> io::Result<()> {
        // The kernel only reads what it is given to send (sendmsg(2)).
        let mut part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        let mut control = stream_information(stream);
        let mut header = empty_message(&mut part);
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = size_of::<Control>();
        // SAFETY: the descriptor is open while `self` is borrowed; `part` and `control` outlive the call.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// How many streams may be sent on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn streams(&self) -> io::Result<u16> {
        // `struct sctp_status`: association, state, window (4 octets each), unacknowledged, pending, incoming and
        // outgoing streams (2 each), and what does not concern us.
        let mut value = [0; 256];
        get_option(&self.socket, libc::IPPROTO_SCTP, SCTP_STATUS, &mut value)?;
        let [.., high, low] = value.first_chunk::<20>().copied().unwrap_or([0; 20]);
        Ok(u16::from_ne_bytes([high, low]))
    }

    /// Memory that the kernel holds for what was sent and is not acknowledged: somewhat more than its bytes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn queued_bytes(&self) -> io::Result<usize> {
        let mut value = [0; 4 * (SK_MEMINFO_WMEM_QUEUED + 1)];
        get_option(&self.socket, libc::SOL_SOCKET, SO_MEMINFO, &mut value)?;
        let queued = value.last_chunk::<4>().copied().unwrap_or_default();
        Ok(usize::try_from(u32::from_ne_bytes(queued)).unwrap_or(usize::MAX))
    }

    /// Closes in order: what was sent is delivered, then the association ends.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn shutdown(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Makes the coming close an ABORT: what was not delivered is lost.
    pub fn abort_on_close(&self) {
        if let Err(error) = SockRef::from(self).set_linger(Some(Duration::ZERO)) {
            log::debug!("an association cannot be aborted: error=\"{error}\"");
        }
    }

    /// Why connecting failed, if it did.
    ///
    /// # Errors
    /// What the kernel says to the question.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    fn bind_also(&self, address: SocketAddr) -> io::Result<()> {
        set_option(&self.socket, SCTP_SOCKOPT_BINDX_ADD, &packed(address))
    }
}

impl AsFd for Sctp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl mio::event::Source for Sctp {
    fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).register(registry, token, interest)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).deregister(registry)
    }
}

fn protocol() -> Protocol {
    Protocol::from(libc::IPPROTO_SCTP)
}

/// A socket with the timers of [`limits`], before its fate is decided.
fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol()))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_option(&socket, SCTP_NODELAY, &1_u32.to_ne_bytes())?;
    set_option(&socket, SCTP_INITMSG, &init_message())?;
    set_option(&socket, SCTP_RTOINFO, &rto_information())?;
    set_option(&socket, SCTP_ASSOCINFO, &association_parameters())?;
    set_option(&socket, SCTP_PEER_ADDR_PARAMS, &peer_address_parameters())?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// `struct sctp_initmsg`: streams out and in (u16 each), attempts and longest time between them (0: as is).
fn init_message() -> [u8; 8] {
    let mut value = [0; 8];
    put(&mut value, 0, &limits::ADMIN_STREAMS.to_ne_bytes());
    put(&mut value, 2, &limits::ADMIN_STREAMS.to_ne_bytes());
    value
}

/// `struct sctp_rtoinfo`: association (0: all to come), initial, largest, smallest timeout, u32 milliseconds.
fn rto_information() -> [u8; 16] {
    let mut value = [0; 16];
    put(&mut value, 4, &milliseconds(limits::SCTP_RTO_INITIAL).to_ne_bytes());
    put(&mut value, 8, &milliseconds(limits::SCTP_RTO_MAX).to_ne_bytes());
    put(&mut value, 12, &milliseconds(limits::SCTP_RTO_MIN).to_ne_bytes());
    value
}

/// `struct sctp_assocparams`: association (0: all to come), retransmissions (u16), and what 0 leaves as it is.
fn association_parameters() -> [u8; 20] {
    let mut value = [0; 20];
    put(&mut value, 4, &limits::SCTP_ASSOCIATION_RETRANSMISSIONS.to_ne_bytes());
    value
}

/// `struct sctp_paddrparams`, packed: association (4 bytes), address (128; 0: every peer), heartbeat interval
/// (u32 milliseconds), retransmissions of a path (u16), path MTU, delay of acknowledgements, flags (u32 each),
/// then what 0 leaves as it is.
fn peer_address_parameters() -> [u8; 156] {
    let mut value = [0; 156];
    put(&mut value, 132, &milliseconds(limits::SCTP_HEARTBEAT).to_ne_bytes());
    put(&mut value, 136, &limits::SCTP_PATH_RETRANSMISSIONS.to_ne_bytes());
    put(&mut value, 146, &SPP_HB_ENABLE.to_ne_bytes());
    value
}

fn put(value: &mut [u8], at: usize, field: &[u8]) {
    value.iter_mut().skip(at).zip(field).for_each(|(to, from)| *to = *from);
}

/// A `struct sockaddr_in` or `sockaddr_in6` with nothing after it, as SCTP_SOCKOPT_BINDX_ADD takes them.
fn packed(address: SocketAddr) -> Vec<u8> {
    let family = |family: libc::c_int| u16::try_from(family).unwrap_or(0).to_ne_bytes();
    let mut value = Vec::with_capacity(28);
    match address {
        SocketAddr::V4(address) => {
            value.extend(family(libc::AF_INET));
            value.extend(address.port().to_be_bytes());
            value.extend(address.ip().octets());
            value.extend([0; 8]);
        }
        SocketAddr::V6(address) => {
            value.extend(family(libc::AF_INET6));
            value.extend(address.port().to_be_bytes());
            value.extend(address.flowinfo().to_be_bytes());
            value.extend(address.ip().octets());
            value.extend(address.scope_id().to_ne_bytes());
        }
    }
    value
}

/// A control message with its octets, laid out as cmsg(3) wants it: they follow the head at once, since the head's
/// size is a multiple of what they are aligned to.
#[repr(C)]
struct Control {
    head: libc::cmsghdr,
    octets: [u8; SNDINFO_BYTES],
}

/// Sends on that stream, in order, with the payload protocol identifier 0.
fn stream_information(stream: u16) -> Control {
    let mut octets = [0; SNDINFO_BYTES];
    put(&mut octets, 0, &stream.to_ne_bytes());
    let head = libc::cmsghdr {
        cmsg_len: size_of::<Control>(),
        cmsg_level: libc::IPPROTO_SCTP,
        cmsg_type: SCTP_SNDINFO,
    };
    Control { head, octets }
}

/// A message of one part without address or control.
fn empty_message(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: zero is a value of every field: numbers, and pointers that are null.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message
}

/// getsockopt(2). Less than `value` is no error.
fn get_option(socket: &Socket, level: libc::c_int, name: libc::c_int, value: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open while `socket` is borrowed; pointer and length are those of `value`.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// setsockopt(2) at the level of SCTP.
fn set_option(socket: &Socket, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open while `socket` is borrowed; pointer and length are those of `value`.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_SCTP, name, value.as_ptr().cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_packed_as_the_kernel_reads_them() {
        let v4 = packed("192.0.2.1:8080".parse().unwrap());
        assert_eq!((v4.len(), &v4[2..8]), (16, &[0x1f, 0x90, 192, 0, 2, 1][..]));
        let v6 = packed("[2001:db8::1]:8080".parse().unwrap());
        assert_eq!((v6.len(), &v6[2..4], &v6[8..12]), (28, &[0x1f, 0x90][..], &[0x20, 1, 0x0d, 0xb8][..]));
    }

    #[test]
    fn fields_of_options_stand_where_the_kernel_has_them() {
        let value = peer_address_parameters();
        assert_eq!(value[132..138], [&1000_u32.to_ne_bytes()[..], &2_u16.to_ne_bytes()[..]].concat());
        assert_eq!(value[146..150], 1_u32.to_ne_bytes());
        assert_eq!(rto_information()[4..8], 300_u32.to_ne_bytes());
    }

    #[test]
    fn a_stream_is_named_as_cmsg_lays_it_out() {
        let control = stream_information(7);
        assert_eq!(std::mem::offset_of!(Control, octets), size_of::<libc::cmsghdr>());
        assert_eq!(size_of::<Control>(), control.head.cmsg_len);
        assert_eq!(control.octets[..4], [7_u16.to_ne_bytes(), [0; 2]].concat());
    }

    /// Says the same on every kernel: either SCTP is there and listens, or it is not and says so.
    #[test]
    fn a_kernel_without_sctp_is_recognised() {
        let listener = Sctp::listen(&["127.0.0.1:0".parse().unwrap()]);
        assert_eq!(listener.is_ok(), is_available());
        if let Ok(listener) = listener {
            let address = listener.local_address().unwrap();
            assert_ne!(address.port(), 0);
            assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert!(Sctp::listen(&[address]).is_err());
        }
    }
}
