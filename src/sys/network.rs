//! What the system says of its network: routes, own addresses, limits. Read at start and now and then by the
//! control loop, never by a worker.

use std::fs;
use std::io;
use std::net::IpAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Does any IPv6 route lead off this machine? Where it cannot be told, yes.
#[must_use]
pub fn has_ipv6_route() -> bool {
    match fs::read_to_string("/proc/net/ipv6_route") {
        Ok(table) => table.lines().any(leads_off_this_machine),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Shape of a line (proc(5)): destination, its prefix length, source, its prefix length, next hop, metric,
/// two counters, flags, device. Addresses are 32 hexadecimal digits.
fn leads_off_this_machine(line: &str) -> bool {
    let mut fields = line.split_ascii_whitespace();
    let Some(destination) = fields.next() else { return false };
    let Some(device) = fields.last() else { return false };
    let link_local_or_multicast = destination.starts_with("fe8") || destination.starts_with("ff");
    device != "lo" && !link_local_or_multicast
}

/// The addresses of this machine's interfaces.
#[must_use]
pub fn local_addresses() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.iter().map(if_addrs::Interface::ip).collect(),
        Err(error) => {
            log::warn!("the interfaces could not be read: error=\"{error}\"");
            Vec::new()
        }
    }
}

/// Raises the soft limit of open descriptors to the hard one; gives the limit in force.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(error) => {
            log::warn!("the limit of open descriptors could not be raised: error=\"{error}\"");
            limit.current.unwrap_or(u64::MAX)
        }
    }
}

/// How many descriptors may be open now.
#[must_use]
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_routes_that_lead_somewhere() {
        let zero = "00000000000000000000000000000000";
        let line = |destination: &str, device: &str| {
            format!("{destination} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 {device}")
        };
        assert!(leads_off_this_machine(&line(zero, "eth0")));
        assert!(leads_off_this_machine(&line("fd000000000000000000000000000000", "eth0")));
        assert!(!leads_off_this_machine(&line("fe800000000000000000000000000000", "eth0")));
        assert!(!leads_off_this_machine(&line("ff000000000000000000000000000000", "eth0")));
        assert!(!leads_off_this_machine(&line(zero, "lo")));
        assert!(!leads_off_this_machine(""));
    }

    #[test]
    fn knows_its_own_addresses() {
        assert!(local_addresses().contains(&"127.0.0.1".parse().unwrap()));
    }
}
