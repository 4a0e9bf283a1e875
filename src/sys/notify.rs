//! What the service manager is told of our state (sd_notify(3)): one datagram each, to the socket that
//! $NOTIFY_SOCKET names. Without one, nothing is sent.
//!
//! Never waits: what the manager has no room for is sent when the loop comes by again, or is overtaken by the
//! next state.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The variable that names the manager's socket.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// What a manager wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Serving; also after a reload, whatever came of it.
    Ready,
    /// Reading the configuration again.
    Reloading,
    /// Ending; it may take this long.
    Stopping(Duration),
}

/// The way to the manager.
#[derive(Debug, Default)]
pub struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
    /// What there was no room for.
    pending: Option<String>,
}

impl Notify {
    /// To the socket of this name, as $NOTIFY_SOCKET holds it: a path, or an abstract name after an `@`.
    pub fn new(name: Option<OsString>) -> io::Result<Self> {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(Self::default()) };
        let address = match name.as_bytes() {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
            [b'/', ..] => SocketAddr::from_pathname(&name)?,
            _ => return Err(io::Error::other("neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { manager: Some((socket, address)), pending: None })
    }

    /// Tells the state, and a sentence for whoever looks at the service's status.
    pub fn tell(&mut self, state: State, status: &str) {
        if self.manager.is_some() {
            self.pending = Some(message(state, status));
            self.flush();
        }
    }

    /// Whether something waits for room.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Sends what waits, if there is room now.
    pub fn flush(&mut self) {
        let (Some((socket, address)), Some(message)) = (&self.manager, self.pending.take()) else { return };
        match socket.send_to_addr(message.as_bytes(), address) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.pending = Some(message),
            Err(error) => log::warn!("the service manager was not told: error=\"{error}\""),
        }
    }
}

/// The datagram: assignments, one on a line.
fn message(state: State, status: &str) -> String {
    let state = match state {
        State::Ready => "READY=1".to_owned(),
        State::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_usec()),
        State::Stopping(patience) => format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", patience.as_micros()),
    };
    format!("{state}\nSTATUS={}\n", status.escape_debug())
}

/// The clock that the manager compares with its own, to tell this reload from an earlier one.
fn monotonic_usec() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &str) -> (UnixDatagram, Notify) {
        let name = format!("{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (manager, Notify::new(Some(format!("@{name}").into())).unwrap())
    }

    fn next(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_state_is_one_datagram_of_assignments() {
        let (manager, mut notify) = manager("socks5d-states");
        notify.tell(State::Ready, "serving\nREADY=0");
        assert_eq!(next(&manager), "READY=1\nSTATUS=serving\\nREADY=0\n");
        let before = monotonic_usec();
        notify.tell(State::Reloading, "reading");
        let text = next(&manager);
        let usec = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let usec = usec.strip_suffix("\nSTATUS=reading\n").unwrap().parse().unwrap();
        assert!((before..=monotonic_usec()).contains(&usec), "{before} {usec}");
        notify.tell(State::Stopping(Duration::from_millis(1500)), "draining");
        assert_eq!(next(&manager), "STOPPING=1\nEXTEND_TIMEOUT_USEC=1500000\nSTATUS=draining\n");
        assert!(!notify.is_pending());
    }

    #[test]
    fn a_manager_without_room_gets_the_last_state_later() {
        let (manager, mut notify) = manager("socks5d-room");
        let mut told = 0;
        while !notify.is_pending() {
            notify.tell(State::Ready, "again");
            told += 1;
            assert!(told < 100_000, "the queue of a socket has an end");
        }
        notify.tell(State::Stopping(Duration::ZERO), "last");
        assert!(notify.is_pending());
        (1..told).for_each(|_| assert!(next(&manager).starts_with("READY=1")));
        notify.flush();
        assert!(next(&manager).starts_with("STOPPING=1"));
        assert!(!notify.is_pending());
    }

    #[test]
    fn without_a_manager_nothing_waits_and_other_names_are_errors() {
        for name in [None, Some("".into())] {
            let mut notify = Notify::new(name).unwrap();
            notify.tell(State::Ready, "serving");
            assert!(!notify.is_pending());
        }
        assert!(Notify::new(Some("vsock:2:1234".into())).is_err());
        let mut gone = Notify::new(Some("/nowhere/at/all".into())).unwrap();
        gone.tell(State::Ready, "serving");
        assert!(!gone.is_pending(), "nobody will ever have room there");
    }
}
