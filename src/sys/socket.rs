//! Sockets as the proxy needs them: listeners, connects in progress, resets.

#![expect(unsafe_code, reason = "one socket option that socket2 does not have")]

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::limits;

/// A listening socket. IPv4 and IPv6 stay apart, and a port that anybody listens on is refused.
/// What is set here is inherited by every accepted connection, which so needs no calls of its own.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?; // Connections of a former life in TIME_WAIT are no hindrance.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Begins to connect. The socket is writable when the attempt has ended either way.
pub fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<std::net::TcpStream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        // The port is chosen by connect, which knows the destination: 64,000 for each instead of in all.
        choose_port_late(&socket)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => Ok(socket.into()),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error),
    }
}

/// Ends listening while the socket stays open, as others may hold it: new connections are refused from now on.
pub fn stop_listening(listener: &impl AsFd) -> io::Result<()> {
    SockRef::from(listener).shutdown(std::net::Shutdown::Read)
}

/// Makes the coming close send a reset instead of a FIN. Fails only where there is nothing left to reset.
pub fn reset_on_close(socket: &impl AsFd) {
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        log::debug!("a reset could not be passed on: error=\"{error}\"");
    }
}

/// IP_BIND_ADDRESS_NO_PORT (ip(7)).
fn choose_port_late(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(0);
    // SAFETY: the descriptor is open while `socket` is borrowed; pointer and length are those of `on`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_listener_on_the_same_port_is_refused() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = listen(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn after_the_end_of_listening_connects_are_refused() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        std::net::TcpStream::connect(address).unwrap();
        stop_listening(&listener).unwrap();
        let error = std::net::TcpStream::connect(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn connects_from_the_source_that_was_asked_for() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let source = "127.0.0.9".parse().unwrap();
        let stream = connect(listener.local_addr().unwrap(), Some(source)).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), source);
    }
}
