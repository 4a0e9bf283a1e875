//! Opening an association: every address of the host, over each transport that is allowed, side by side.
//!
//! Like happy eyeballs (RFC 8305): each attempt has a head start over the next, a failure starts the next at once,
//! the first association that stands wins and the others are dropped. A failure is told as what is missing.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipo_encap::CloseReason;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::carrier::{Carrier, Ended};
use super::kernel::{self, Kernel};
use super::udp::{self, Udp};
use super::{ConnectError, Target, Transport, TransportChoice, limits};

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attempt {
    transport: Transport,
    /// Where to: the SCTP address, or the UDP address.
    address: SocketAddr,
    /// The SCTP port.
    port: u16,
}

/// Opens an association with the target.
pub(super) async fn dial(target: &Target) -> Result<Carrier, ConnectError> {
    let addresses = addresses(&target.host).await?;
    let mut attempts = plan(target, &addresses).into_iter();
    let mut running = JoinSet::new();
    let mut reasons = Vec::new();
    let mut next_start = Instant::now();
    let mut more = true;
    while more || !running.is_empty() {
        tokio::select! {
            () = tokio::time::sleep_until(next_start), if more => {
                next_start = Instant::now() + limits::ATTEMPT_HEAD_START;
                match attempts.next() {
                    Some(attempt) => {
                        running.spawn(open(attempt));
                    }
                    None => more = false,
                }
            }
            Some(ended) = running.join_next() => match ended {
                Ok(Ok(carrier)) => return Ok(carrier),
                Ok(Err(reason)) => {
                    // The same sentence for each address would teach nothing.
                    if !reasons.contains(&reason) {
                        reasons.push(reason);
                    }
                    next_start = Instant::now();
                }
                Err(error) => reasons.push(format!("internal failure: {error}")),
            }
        }
    }
    Err(ConnectError::Unreachable { server: target.to_string(), reasons })
}

/// The addresses of a host, in the order of the system.
async fn addresses(host: &str) -> Result<Vec<IpAddr>, ConnectError> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let none = |reason: String| ConnectError::NoAddress { host: host.to_owned(), reason };
    let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| none(error.to_string()))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map(|address| address.ip()).take(4 * limits::ADDRESSES_MAX) {
        if !addresses.contains(&address) && addresses.len() < limits::ADDRESSES_MAX {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(none("the system knows none".to_owned())) } else { Ok(addresses) }
}

/// Each address over each transport, the kernel's first.
fn plan(target: &Target, addresses: &[IpAddr]) -> Vec<Attempt> {
    let kernel = matches!(target.transport, TransportChoice::Auto | TransportChoice::Kernel);
    let udp = matches!(target.transport, TransportChoice::Auto | TransportChoice::Udp);
    let mut attempts = Vec::new();
    for &address in addresses {
        let port = target.port;
        let attempt = |transport, outer| Attempt { transport, address: (address, outer).into(), port };
        attempts.extend(kernel.then(|| attempt(Transport::Kernel, port)));
        attempts.extend(udp.then(|| attempt(Transport::Udp, target.udp_port)));
    }
    attempts
}

/// Makes one attempt; its failure is a sentence for people.
async fn open(attempt: Attempt) -> Result<Carrier, String> {
    let Attempt { transport, address, port } = attempt;
    let late = limits::ATTEMPT_TIME_MAX;
    match transport {
        Transport::Kernel => match tokio::time::timeout(late, Kernel::open(address)).await {
            Ok(Ok(kernel)) => Ok(Carrier::Kernel(kernel)),
            Ok(Err(ended)) => Err(kernel_sentence(address, &ended)),
            Err(_) => Err(format!("kernel SCTP to {address}: {}", silence(late))),
        },
        Transport::Udp => {
            match tokio::time::timeout(late + Duration::from_secs(1), Udp::open(address, port)).await {
                Ok(Ok(udp)) => Ok(Carrier::Udp(Box::new(udp))),
                Ok(Err(failure)) => Err(udp_sentence(address, port, &failure)),
                Err(_) => Err(format!("SCTP over UDP to {address}: {}", silence(late))),
            }
        }
    }
}

fn silence(limit: Duration) -> String {
    format!("no answer within {} s (is a firewall in between?)", limit.as_secs())
}

fn kernel_sentence(address: SocketAddr, ended: &Ended) -> String {
    match ended {
        Ended::System(error) if kernel::is_missing(error) => {
            "this kernel has no SCTP (the module sctp is not loaded; try modprobe sctp)".to_owned()
        }
        Ended::System(error) if error.kind() == ErrorKind::ConnectionRefused => {
            format!("kernel SCTP to {address}: nobody listens there")
        }
        Ended::System(_) | Ended::Closed | Ended::Udp(_) => format!("kernel SCTP to {address}: {ended}"),
    }
}

fn udp_sentence(address: SocketAddr, port: u16, failure: &udp::Failure) -> String {
    let over = format!("SCTP over UDP to {address}");
    match &failure.ended {
        _ if failure.unreachable => format!("{over}: nobody listens there"),
        Ended::Udp(CloseReason::Refused | CloseReason::PeerAborted(_)) => {
            format!("{over}: a server is there, but takes no associations at SCTP port {port}")
        }
        Ended::Udp(CloseReason::ConnectTimeout) => format!("{over}: {}", silence(limits::ATTEMPT_TIME_MAX)),
        Ended::Udp(_) | Ended::System(_) | Ended::Closed => format!("{over}: {}", failure.ended),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::link::tests::target;

    #[test]
    fn the_kernel_comes_first_and_udp_has_its_own_port() {
        let addresses = ["::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        let plan_of = |transport| {
            let plan = plan(&Target { transport, ..target() }, &addresses);
            plan.iter().map(|a| format!("{:?} {} {}", a.transport, a.address, a.port)).collect::<Vec<_>>()
        };
        assert_eq!(
            plan_of(TransportChoice::Auto),
            [
                "Kernel [::1]:8080 8080",
                "Udp [::1]:9899 8080",
                "Kernel 192.0.2.1:8080 8080",
                "Udp 192.0.2.1:9899 8080"
            ]
        );
        assert_eq!(plan_of(TransportChoice::Udp), ["Udp [::1]:9899 8080", "Udp 192.0.2.1:9899 8080"]);
        assert_eq!(
            plan_of(TransportChoice::Kernel),
            ["Kernel [::1]:8080 8080", "Kernel 192.0.2.1:8080 8080"]
        );
    }

    #[test]
    fn a_failure_says_what_is_missing() {
        let address = "127.0.0.1:9899".parse().unwrap();
        let system = |code| Ended::System(io::Error::from_raw_os_error(code));
        assert!(kernel_sentence(address, &system(libc::EPROTONOSUPPORT)).contains("modprobe sctp"));
        assert_eq!(
            kernel_sentence(address, &system(libc::ECONNREFUSED)),
            "kernel SCTP to 127.0.0.1:9899: nobody listens there"
        );
        let udp = |ended, unreachable| udp_sentence(address, 8080, &udp::Failure { ended, unreachable });
        let refused = || Ended::Udp(CloseReason::Refused);
        assert_eq!(udp(refused(), true), "SCTP over UDP to 127.0.0.1:9899: nobody listens there");
        assert_eq!(
            udp(refused(), false),
            "SCTP over UDP to 127.0.0.1:9899: a server is there, but takes no associations at SCTP port 8080"
        );
        assert!(udp(Ended::Udp(CloseReason::ConnectTimeout), false).contains("no answer within 3 s"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn every_transport_that_failed_is_named() {
        // A port that was free a moment ago.
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let target = Target { port: free, udp_port: free, ..target() };
        let error = dial(&target).await.unwrap_err().to_string();
        assert!(
            error.contains(&format!("SCTP over UDP to 127.0.0.1:{free}: nobody listens there")),
            "{error}"
        );
        assert!(error.contains("kernel"), "{error}");
    }
}
