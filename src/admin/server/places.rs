//! Where the admin channel listens: which transport, which addresses, which ports.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use socket2::Socket;

use crate::admin::kernel::Listener;
use crate::admin::udp::{self, Carrier};
use crate::limits;
use crate::settings::{AdminTransport, Resolved, Source};
use crate::sys::sctp;

/// Why the admin channel cannot be served. One line; nothing was served.
#[derive(Debug, thiserror::Error)]
pub enum AdminListenError {
    /// An address is taken, or not ours.
    #[error("cannot listen for the admin channel on {address} ({transport}): {cause}")]
    Address {
        /// Where.
        address: SocketAddr,
        /// How.
        transport: Transport,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The kernel's SCTP was asked for, and it has none.
    #[error(
        "this kernel has no SCTP for the admin channel: load its module (modprobe sctp), or use \
         --admin-transport udp"
    )]
    NoSctp,
    /// The system refused something that needs no address.
    #[error("cannot serve the admin channel: {0}")]
    Poll(#[source] io::Error),
}

/// What carries associations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The kernel.
    Sctp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sctp => "sctp",
            Self::Udp => "udp",
        })
    }
}

/// SCTP port inside of UDP where the kernel was to choose one: every UDP socket has all of them to itself.
const SCTP_PORT: u16 = 8080;

/// Listens where the settings say, on all addresses or not at all.
pub(super) fn listen(
    resolved: &Resolved,
    now: Instant,
) -> Result<(Vec<Listener>, Vec<Carrier>), AdminListenError> {
    let settings = &resolved.settings;
    let (kernel, udp) = transports(settings.admin_transport, KernelSctp::of_this_kernel())?;
    let wanted =
        Wanted { ips: &settings.admin_addr, is_chosen: resolved.sources.of("admin-addr") == Source::Default };
    let listeners = if kernel { listen_kernel(&wanted, settings.admin_port)? } else { Vec::new() };
    let sctp_port = match (settings.admin_port, listeners.first()) {
        (0, Some(listener)) => listener.port(),
        (0, None) => SCTP_PORT,
        (port, _) => port,
    };
    let sockets = if udp { bind_udp(&wanted, settings.admin_udp_port)? } else { Vec::new() };
    let carriers = sockets.into_iter().map(|socket| Carrier::new(socket, sctp_port, now));
    let carriers = carriers.collect::<io::Result<Vec<_>>>().map_err(AdminListenError::Poll)?;
    Ok((listeners, carriers))
}

/// Whether this kernel has SCTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KernelSctp {
    Present,
    Absent,
}

impl KernelSctp {
    fn of_this_kernel() -> Self {
        if sctp::is_available() { Self::Present } else { Self::Absent }
    }
}

/// Whether associations come by the kernel, and whether by UDP.
fn transports(setting: AdminTransport, sctp: KernelSctp) -> Result<(bool, bool), AdminListenError> {
    match (setting, sctp) {
        (AdminTransport::Auto, KernelSctp::Present) => {
            log::info!("the admin channel is carried by the kernel's SCTP");
            Ok((true, false))
        }
        (AdminTransport::Auto, KernelSctp::Absent) => {
            log::info!("the admin channel is carried over UDP: this kernel has no SCTP");
            Ok((false, true))
        }
        (AdminTransport::Udp, _) => Ok((false, true)),
        (AdminTransport::Kernel | AdminTransport::Both, KernelSctp::Absent) => Err(AdminListenError::NoSctp),
        (AdminTransport::Kernel, KernelSctp::Present) => Ok((true, false)),
        (AdminTransport::Both, KernelSctp::Present) => Ok((true, true)),
    }
}

/// The addresses to listen on.
struct Wanted<'a> {
    ips: &'a [IpAddr],
    /// We chose them: a family that this machine does not have is left out.
    is_chosen: bool,
}

impl Wanted<'_> {
    /// All addresses of one family, as one endpoint listens on them.
    fn families(&self) -> Vec<Vec<IpAddr>> {
        let (v4, v6) = self.ips.iter().copied().partition::<Vec<_>, _>(IpAddr::is_ipv4);
        [v4, v6].into_iter().filter(|family| !family.is_empty()).collect()
    }

    fn singly(&self) -> Vec<Vec<IpAddr>> {
        self.ips.iter().map(|ip| vec![*ip]).collect()
    }
}

fn listen_kernel(wanted: &Wanted<'_>, port: u16) -> Result<Vec<Listener>, AdminListenError> {
    let open = |addresses: &[SocketAddr]| {
        let listener = Listener::listen(addresses)?;
        let port = listener.port();
        Ok((listener, port))
    };
    open_all(wanted, &wanted.families(), port, Transport::Sctp, open)
}

fn bind_udp(wanted: &Wanted<'_>, port: u16) -> Result<Vec<Socket>, AdminListenError> {
    let open = |addresses: &[SocketAddr]| {
        let address = *addresses.first().ok_or(io::ErrorKind::InvalidInput)?;
        let socket = udp::bind(address)?;
        let port = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?.port();
        Ok((socket, port))
    };
    open_all(wanted, &wanted.singly(), port, Transport::Udp, open)
}

/// Opens one endpoint for each group of addresses, all at the same port. Where the kernel chooses the port, and
/// its choice for the first is taken on another, it chooses again.
fn open_all<T>(
    wanted: &Wanted<'_>,
    groups: &[Vec<IpAddr>],
    port: u16,
    transport: Transport,
    open: impl Fn(&[SocketAddr]) -> io::Result<(T, u16)>,
) -> Result<Vec<T>, AdminListenError> {
    let mut choices_left = if port == 0 { limits::PORT_CHOICES_MAX } else { 1 };
    loop {
        choices_left -= 1;
        match open_once(wanted, groups, port, transport, &open) {
            Err(AdminListenError::Address { cause, .. })
                if cause.kind() == io::ErrorKind::AddrInUse && choices_left > 0 => {}
            result => return result,
        }
    }
}

fn open_once<T>(
    wanted: &Wanted<'_>,
    groups: &[Vec<IpAddr>],
    port: u16,
    transport: Transport,
    open: impl Fn(&[SocketAddr]) -> io::Result<(T, u16)>,
) -> Result<Vec<T>, AdminListenError> {
    let mut port = port;
    let mut opened = Vec::new();
    let mut left_out = None;
    for ips in groups {
        let addresses: Vec<_> = ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        let address = addresses.first().copied().unwrap_or(SocketAddr::new(IpAddr::from([0; 4]), port));
        match open(&addresses) {
            Ok((one, got)) => {
                port = got;
                opened.push(one);
            }
            Err(cause) if wanted.is_chosen && lacks_family(&cause) => {
                log::info!("not listening: address={address} error=\"{cause}\"");
                left_out = Some(AdminListenError::Address { address, transport, cause });
            }
            Err(cause) => return Err(AdminListenError::Address { address, transport, cause }),
        }
    }
    match left_out {
        Some(error) if opened.is_empty() => Err(error),
        Some(_) | None => Ok(opened),
    }
}

fn lacks_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn auto_takes_the_kernel_where_it_can() {
        let table = [
            (AdminTransport::Auto, KernelSctp::Present, Some((true, false))),
            (AdminTransport::Auto, KernelSctp::Absent, Some((false, true))),
            (AdminTransport::Udp, KernelSctp::Present, Some((false, true))),
            (AdminTransport::Kernel, KernelSctp::Absent, None),
            (AdminTransport::Both, KernelSctp::Absent, None),
            (AdminTransport::Both, KernelSctp::Present, Some((true, true))),
        ];
        for (setting, sctp, expected) in table {
            assert_eq!(transports(setting, sctp).ok(), expected, "{setting:?} {sctp:?}");
        }
    }

    #[test]
    fn addresses_of_one_family_are_one_endpoint_and_share_a_port() {
        let ips = [ip("127.0.0.1"), ip("::1"), ip("127.0.0.2")];
        let wanted = Wanted { ips: &ips, is_chosen: false };
        assert_eq!(wanted.families(), [vec![ip("127.0.0.1"), ip("127.0.0.2")], vec![ip("::1")]]);
        let sockets = bind_udp(&wanted, 0).unwrap();
        let ports: Vec<_> =
            sockets.iter().map(|socket| socket.local_addr().unwrap().as_socket().unwrap().port()).collect();
        assert_eq!(ports, [ports[0]; 3]);
        assert_ne!(ports[0], 0);
        let error = bind_udp(&wanted, ports[0]).unwrap_err().to_string();
        assert!(error.contains(&format!("127.0.0.1:{} (udp)", ports[0])), "{error}");
    }

    #[test]
    fn a_chosen_address_that_this_machine_lacks_is_left_out() {
        let ips = [ip("192.0.2.99"), ip("127.0.0.1")];
        assert_eq!(bind_udp(&Wanted { ips: &ips, is_chosen: true }, 0).unwrap().len(), 1);
        assert!(bind_udp(&Wanted { ips: &ips, is_chosen: false }, 0).is_err());
        assert!(bind_udp(&Wanted { ips: &ips[..1], is_chosen: true }, 0).is_err());
    }
}
