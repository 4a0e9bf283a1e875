//! What the kernel's SCTP needs and neither socket2 nor sctp-rs has: options, and waiting for a connect. The only
//! unsafe code of the client.
//!
//! Numbers and layouts are those of linux/sctp.h; libc lacks some of both.

#![expect(unsafe_code, reason = "options of SCTP, and registering a socket")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::Socket;
use tokio::io::unix::AsyncFd;

use super::limits;

const SCTP_RTOINFO: libc::c_int = 0;
const SCTP_ASSOCINFO: libc::c_int = 1;
const SCTP_INITMSG: libc::c_int = 2;
const SCTP_NODELAY: libc::c_int = 3;
const SCTP_PEER_ADDR_PARAMS: libc::c_int = 9;

/// `spp_flags`: send heartbeats.
const SPP_HB_ENABLE: u32 = 1;

/// Sets what an association needs before it is opened: no waiting for more to send, streams, and timers that
/// find a dead path in under 2 s.
pub(super) fn prepare(socket: &impl AsFd) -> io::Result<()> {
    set(socket, SCTP_NODELAY, &1_u32.to_ne_bytes())?;
    set(socket, SCTP_INITMSG, &init_message())?;
    set(socket, SCTP_RTOINFO, &rto_information())?;
    set(socket, SCTP_ASSOCINFO, &association_parameters())?;
    set(socket, SCTP_PEER_ADDR_PARAMS, &peer_address_parameters())
}

/// Lets the runtime say when a socket that connects is done.
pub(super) fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor, and gives out this one and no other for as long as it lives.
    let watched = unsafe { AsyncFd::register(socket) };
    Ok(watched?)
}

/// `struct sctp_initmsg`: streams out and in (u16 each), attempts and longest time between them (0: as is).
fn init_message() -> [u8; 8] {
    let mut value = [0; 8];
    put(&mut value, 0, &limits::SCTP_STREAMS.to_ne_bytes());
    put(&mut value, 2, &limits::SCTP_STREAMS.to_ne_bytes());
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

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn put(value: &mut [u8], at: usize, field: &[u8]) {
    value.iter_mut().skip(at).zip(field).for_each(|(to, from)| *to = *from);
}

/// setsockopt(2) at the level of SCTP.
fn set(socket: &impl AsFd, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while `socket` is borrowed; pointer and length are those of `value`.
    let result =
        unsafe { libc::setsockopt(descriptor, libc::IPPROTO_SCTP, name, value.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_options_stand_where_the_kernel_has_them() {
        let value = peer_address_parameters();
        assert_eq!(value[132..138], [&1000_u32.to_ne_bytes()[..], &2_u16.to_ne_bytes()[..]].concat());
        assert_eq!(value[146..150], 1_u32.to_ne_bytes());
        assert_eq!(rto_information()[4..8], 300_u32.to_ne_bytes());
        assert_eq!(association_parameters()[4..6], 6_u16.to_ne_bytes());
        assert_eq!(init_message()[..4], [64_u16.to_ne_bytes(), 64_u16.to_ne_bytes()].concat());
    }

    #[test]
    fn another_protocols_socket_does_not_take_them() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(prepare(&socket).is_err());
    }
}
