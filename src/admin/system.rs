//! What the system says and the data plane has to know: hosts, name servers, routes, own addresses. Files are
//! read here, so that no worker ever reads one.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::limits;
use crate::resolver::Hosts;
use crate::resolver::plain::parse_resolv_conf;
use crate::settings::Settings;
use crate::sys::network;

/// A reading of the system's facts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct System {
    /// The text of the hosts file.
    pub(super) hosts: String,
    /// Plain DNS servers.
    pub(super) servers: Vec<SocketAddr>,
    /// Does any IPv6 route lead off this machine?
    pub(super) ipv6_route: bool,
    /// Addresses of this machine.
    pub(super) local_addresses: Vec<IpAddr>,
}

impl System {
    /// Reads everything. What cannot be read is empty, and the log says so.
    pub(super) fn read(settings: &Settings) -> Self {
        Self {
            hosts: read_file(&settings.hosts),
            servers: parse_resolv_conf(read_file(&settings.resolv_conf)),
            ipv6_route: network::has_ipv6_route(),
            local_addresses: network::local_addresses(),
        }
    }

    /// The hosts file as a table.
    pub(super) fn hosts_table(&self) -> Hosts {
        Hosts::parse(&self.hosts)
    }
}

/// Reads a small system file.
fn read_file(path: &str) -> String {
    let checked = fs::metadata(path).and_then(|file| match file.len() {
        0..=limits::SYSTEM_FILE_BYTES_MAX if file.is_file() => fs::read(path),
        0..=limits::SYSTEM_FILE_BYTES_MAX => Err(io::Error::other("it is not a file")),
        bytes => Err(io::Error::other(format!("{bytes} bytes are too many"))),
    });
    match checked {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            log::warn!("a file could not be read: path={path} error=\"{error}\"");
            String::new()
        }
    }
}
