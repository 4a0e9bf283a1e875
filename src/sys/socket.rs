//! Sockets as the proxy needs them: listeners, connects in progress, resets.

#![expect(unsafe_code, reason = "one socket option that socket2 does not have")]

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::limits;
use crate::settings::Settings;

/// How TCP is to behave, on both sides of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    keepalive: Option<Duration>,
    user_timeout: Option<Duration>,
    congestion: Option<String>,
    mark: Option<u32>,
}

/// The congestion control between two ends of one machine, unless a setting names another. There is no link to be
/// estimated or shared, and one that paces, as BBR does, starts a timer for each burst: with it, streams move half as
/// much. RFC 9293 (section 3.8.2) has every system know this one.
const CONGESTION_ON_LOOPBACK: &str = "reno";

/// An option that the system does not take. The operator is at fault.
#[derive(Debug, thiserror::Error)]
#[error("--{setting}: not accepted by the system: {cause}")]
pub struct OptionError {
    /// The setting.
    pub setting: &'static str,
    /// What the system said.
    #[source]
    pub cause: io::Error,
}

impl TcpOptions {
    /// What the settings say.
    #[must_use]
    pub fn from_settings(settings: &Settings) -> Self {
        Self {
            keepalive: settings.tcp_keepalive,
            user_timeout: settings.tcp_user_timeout,
            congestion: Some(settings.tcp_congestion.clone()).filter(|name| name != "auto"),
            mark: settings.mark.and_then(|mark| u32::try_from(mark).ok()),
        }
    }

    /// Tries every option on a socket of its own.
    ///
    /// # Errors
    /// The first setting that the system refuses.
    pub fn check(&self) -> Result<(), OptionError> {
        let refused = |setting| move |cause| OptionError { setting, cause };
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).map_err(refused("mark"))?;
        let socket = SockRef::from(&socket);
        self.set_keepalive(&socket).map_err(refused("tcp-keepalive"))?;
        self.set_user_timeout(&socket).map_err(refused("tcp-user-timeout"))?;
        if let Some(name) = &self.congestion {
            socket.set_tcp_congestion(name.as_bytes()).map_err(refused("tcp-congestion"))?;
        }
        self.set_mark(&socket).map_err(refused("mark"))
    }

    /// Sets what a listener at `address` hands on to the connections that it accepts from now on.
    pub fn set_on_listener(&self, listener: &impl AsFd, address: IpAddr) -> io::Result<()> {
        let socket = SockRef::from(listener);
        if self.keepalive.is_none() {
            socket.set_keepalive(false)?;
        }
        if self.user_timeout.is_none() {
            socket.set_tcp_user_timeout(None)?;
        }
        self.set_keepalive(&socket)?;
        self.set_user_timeout(&socket)?;
        match self.congestion_towards(address) {
            Some(name) => socket.set_tcp_congestion(name.as_bytes()),
            None => set_default_congestion(&socket, address),
        }
    }

    /// Sets what has to be set before a connect to `address`.
    fn set_on_origin(&self, socket: &Socket, address: IpAddr) -> io::Result<()> {
        let socket = SockRef::from(socket);
        self.set_mark(&socket)?;
        self.set_user_timeout(&socket)?;
        match self.congestion_towards(address) {
            Some(name) => socket.set_tcp_congestion(name.as_bytes()),
            None => Ok(()),
        }
    }

    /// The name of the congestion control; `None`: the kernel's default.
    fn congestion_towards(&self, address: IpAddr) -> Option<&str> {
        let is_loopback = address.to_canonical().is_loopback();
        self.congestion.as_deref().or(is_loopback.then_some(CONGESTION_ON_LOOPBACK))
    }

    /// Has a connection to an origin probed. Three calls that a session of a few seconds can do without.
    pub fn set_keepalive_on_origin(&self, socket: &impl AsFd) -> io::Result<()> {
        self.set_keepalive(&SockRef::from(socket))
    }

    fn set_keepalive(&self, socket: &SockRef<'_>) -> io::Result<()> {
        let Some(silence) = self.keepalive else { return Ok(()) };
        let probes = TcpKeepalive::new().with_time(silence).with_interval(limits::KEEPALIVE_INTERVAL);
        socket.set_tcp_keepalive(&probes)
    }

    fn set_user_timeout(&self, socket: &SockRef<'_>) -> io::Result<()> {
        match self.user_timeout {
            Some(timeout) => socket.set_tcp_user_timeout(Some(timeout)),
            None => Ok(()),
        }
    }

    fn set_mark(&self, socket: &SockRef<'_>) -> io::Result<()> {
        match self.mark {
            Some(mark) => socket.set_mark(mark),
            None => Ok(()),
        }
    }
}

/// A listening socket. IPv4 and IPv6 stay apart, and a port that anybody listens on is refused.
/// What is set here is inherited by every accepted connection, which so needs no calls of its own.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let mut socket = bound(address)?;
    if address.port() == 0
        && let Some(chosen) = socket.local_addr()?.as_socket()
    {
        // A port that the kernel chose is lost when listening ends; one that was asked for is kept.
        socket = bound(chosen)?;
    }
    begin_listening(&SockRef::from(&socket))?;
    Ok(socket.into())
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?; // Connections of a former life in TIME_WAIT are no hindrance.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Why a socket that was handed to us cannot be listened on. Whoever opened it is at fault.
#[derive(Debug, thiserror::Error)]
pub enum UnsuitableError {
    /// Its family, type or protocol is another.
    #[error("not a TCP socket over IPv4 or IPv6 (ListenStream= with a port makes one)")]
    NotTcp,
    /// It is connected, or was never told to listen.
    #[error("not a listening socket (Accept=no makes one)")]
    NotListening,
    /// It is no socket, or the system refused an option.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// A listening socket that somebody else has bound, with the options that ours have. Whether it takes IPv4 as
/// well as IPv6, and how many wait, stays as it is.
pub fn inherited_listener(socket: OwnedFd) -> Result<TcpListener, UnsuitableError> {
    let socket = Socket::from(socket);
    let is_ip = [Domain::IPV4, Domain::IPV6].contains(&socket.domain()?);
    let is_tcp = socket.r#type()? == Type::STREAM && socket.protocol()? == Some(Protocol::TCP);
    if !is_ip || !is_tcp {
        return Err(UnsuitableError::NotTcp);
    }
    if !socket.is_listener()? {
        return Err(UnsuitableError::NotListening);
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    acknowledge_by_answers(&SockRef::from(&socket))?;
    Ok(socket.into())
}

/// Begins to connect. The socket is writable when the attempt has ended either way.
pub fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    options: &TcpOptions,
) -> io::Result<std::net::TcpStream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    options.set_on_origin(&socket, address.ip())?;
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

/// Takes the end of listening back: the socket has kept its address.
pub fn listen_again(listener: &impl AsFd) -> io::Result<()> {
    begin_listening(&SockRef::from(listener))
}

fn begin_listening(socket: &SockRef<'_>) -> io::Result<()> {
    socket.listen(limits::LISTEN_BACKLOG)?;
    acknowledge_by_answers(socket)
}

/// Lets the answer to a connection's first octets acknowledge them: a greeting is answered at once, so a segment of
/// its own (one of 24 in a short session, both connections together) says nothing. Where no answer follows, the
/// kernel acknowledges after 40 ms (TCP_QUICKACK in tcp(7); RFC 1122 §4.2.3.2 allows 500 ms). listen(2) undoes it.
fn acknowledge_by_answers(listener: &SockRef<'_>) -> io::Result<()> {
    listener.set_tcp_quickack(false)
}

/// Makes the coming close send a reset instead of a FIN. Fails only where there is nothing left to reset.
pub fn reset_on_close(socket: &impl AsFd) {
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        log::debug!("a reset could not be passed on: error=\"{error}\"");
    }
}

/// Takes another congestion control back. New sockets have the default.
fn set_default_congestion(socket: &SockRef<'_>, address: IpAddr) -> io::Result<()> {
    let kind = Type::STREAM.cloexec();
    let domain = Domain::for_address(SocketAddr::new(address, 0));
    let default = Socket::new_raw(domain, kind, Some(Protocol::TCP))?.tcp_congestion()?;
    if socket.tcp_congestion()? == default {
        return Ok(());
    }
    socket.set_tcp_congestion(default.split(|octet| *octet == 0).next().unwrap_or_default())
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
    use std::net::Ipv4Addr;

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
    fn only_listening_tcp_sockets_are_taken_over() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let taken = inherited_listener(listener.into()).unwrap();
        assert_eq!(taken.local_addr().unwrap(), address);
        taken.accept().expect("who waits is not lost");
        let _later = std::net::TcpStream::connect(address).unwrap();
        assert!(taken.accept().unwrap().0.nodelay().unwrap());
        assert_eq!(taken.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let refused = |socket: OwnedFd| inherited_listener(socket).unwrap_err();
        assert!(matches!(refused(client.into()), UnsuitableError::NotListening));
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(matches!(refused(bound.into()), UnsuitableError::NotListening));
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(matches!(refused(udp.into()), UnsuitableError::NotTcp));
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(refused(unix.into()), UnsuitableError::NotTcp));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(refused(file.into()), UnsuitableError::System(_)));
    }

    #[test]
    fn listening_can_begin_again_where_it_ended() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..2 {
            stop_listening(&listener).unwrap();
            std::net::TcpStream::connect(address).unwrap_err();
            listen_again(&listener).unwrap();
            let client = std::net::TcpStream::connect(address).unwrap();
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        }
    }

    #[test]
    fn first_octets_are_acknowledged_by_their_answer() {
        let is_immediate = |listener: &TcpListener| {
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            SockRef::from(&listener.accept().unwrap().0).tcp_quickack().unwrap()
        };
        let ordinary = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(is_immediate(&ordinary));
        assert!(!is_immediate(&inherited_listener(ordinary.into()).unwrap()));
        let own = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(!is_immediate(&own));
        stop_listening(&own).unwrap();
        listen_again(&own).unwrap();
        assert!(!is_immediate(&own));
    }

    #[test]
    fn what_is_set_on_a_listener_holds_for_its_connections() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let options = TcpOptions {
            keepalive: Some(Duration::from_secs(77)),
            user_timeout: Some(Duration::from_secs(88)),
            congestion: Some("reno".to_owned()),
            mark: None,
        };
        options.check().unwrap();
        options.set_on_listener(&listener, Ipv4Addr::LOCALHOST.into()).unwrap();
        let client = connect(listener.local_addr().unwrap(), None, &options).unwrap();
        options.set_keepalive_on_origin(&client).unwrap();
        listener.set_nonblocking(false).unwrap();
        for socket in [listener.accept().unwrap().0, client] {
            let socket = SockRef::from(&socket);
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(88)));
            assert!(socket.tcp_congestion().unwrap().starts_with(b"reno"));
        }
        let wrong = TcpOptions { congestion: Some("nonsense".to_owned()), ..TcpOptions::default() };
        assert_eq!(wrong.check().unwrap_err().setting, "tcp-congestion");
    }

    #[test]
    fn nothing_is_paced_within_the_machine_unless_somebody_wants_it() {
        let auto = TcpOptions::default();
        let named = TcpOptions { congestion: Some("cubic".to_owned()), ..TcpOptions::default() };
        for (options, address, expected) in [
            (&auto, "127.0.0.9", Some("reno")),
            (&auto, "::1", Some("reno")),
            (&auto, "::ffff:127.0.0.1", Some("reno")),
            (&auto, "0.0.0.0", None),
            (&auto, "192.0.2.1", None),
            (&named, "127.0.0.1", Some("cubic")),
            (&named, "192.0.2.1", Some("cubic")),
        ] {
            assert_eq!(options.congestion_towards(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_listener_can_go_back_to_the_default_congestion_control() {
        let listener = listen("0.0.0.0:0".parse().unwrap()).unwrap();
        let name_now = || SockRef::from(&listener).tcp_congestion().unwrap();
        let default = name_now();
        let reno = TcpOptions { congestion: Some("reno".to_owned()), ..TcpOptions::default() };
        reno.set_on_listener(&listener, Ipv4Addr::UNSPECIFIED.into()).unwrap();
        assert!(name_now().starts_with(b"reno"));
        TcpOptions::default().set_on_listener(&listener, Ipv4Addr::UNSPECIFIED.into()).unwrap();
        assert_eq!(name_now(), default);
    }

    #[test]
    fn connects_from_the_source_that_was_asked_for() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let source = "127.0.0.9".parse().unwrap();
        let options = TcpOptions::default();
        let stream = connect(listener.local_addr().unwrap(), Some(source), &options).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), source);
    }
}
