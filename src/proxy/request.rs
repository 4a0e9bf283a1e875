//! Third stage: what to do and where to (RFC 1928 §4). Next: resolve.rs for names, connect.rs for addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::connect::Connect;
use super::resolve::Resolve;
use super::session::{Context, Input, Session, Target};
use super::wire::{self, Command, Destination, Reply, WireError};
use crate::metrics::Counter;
use crate::resolver::DomainName;

/// Waits for the request.
#[derive(Debug)]
pub struct AwaitRequest {
    /// When the whole handshake has to be over.
    pub(super) deadline: Instant,
}

impl AwaitRequest {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline }
    }

    pub(super) fn step(self, input: Input<'_>, context: &mut Context<'_>) -> Session {
        if let Input::Bytes(bytes) = input {
            return self.bytes(bytes, context);
        }
        context.waited_in_vain(&input, self.deadline).unwrap_or(Session::Request(self))
    }

    fn bytes(self, bytes: &[u8], context: &mut Context<'_>) -> Session {
        match wire::decode_request(bytes) {
            Ok(None) => Session::Request(self),
            Ok(Some((request, used))) => {
                context.consume(used);
                accept(request, context)
            }
            Err(WireError::Version { .. }) => {
                context.count(Counter::ProtocolMalformed);
                context.fail(Reply::GeneralFailure)
            }
            Err(WireError::AddressType(_)) => context.fail(Reply::AddressTypeNotSupported),
        }
    }
}

fn accept(request: wire::Request<'_>, context: &mut Context<'_>) -> Session {
    context.facts.requested = Some(context.now);
    context.facts.command = request.command;
    context.facts.port = request.port;
    context.facts.target = match request.destination {
        Destination::Address(ip) => Target::Address(ip),
        Destination::Name(name) => Target::Name(name.into()),
    };
    match request.command {
        Command::Connect => {}
        Command::Bind | Command::UdpAssociate | Command::Unassigned(_) => {
            return context.fail(Reply::CommandNotSupported);
        }
    }
    let ip = match request.destination {
        Destination::Address(ip) => ip,
        Destination::Name(name) => match literal(name) {
            Some(ip) => ip,
            None => return accept_name(name, request.port, context),
        },
    };
    Connect::start(SocketAddr::new(ip, request.port), context)
}

fn accept_name(name: &[u8], port: u16, context: &mut Context<'_>) -> Session {
    match DomainName::parse(name) {
        Ok(name) => {
            context.count(Counter::SessionsByName);
            Resolve::start(name, port, context)
        }
        // Such a name cannot exist, so it is answered like one that does not.
        Err(_) => {
            context.count(Counter::ProtocolBadName);
            context.fail(Reply::HostUnreachable)
        }
    }
}

/// The address that a name spells out, bare or in brackets as in a URL (RFC 3986 §3.2.2).
fn literal(name: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(name).ok()?;
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(inside) => inside.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_literals_inside_names_as_addresses() {
        let cases: [(&[u8], Option<&str>); 8] = [
            (b"192.0.2.1", Some("192.0.2.1")),
            (b"2001:db8::1", Some("2001:db8::1")),
            (b"[2001:db8::1]", Some("2001:db8::1")),
            (b"[192.0.2.1]", None),
            (b"fe80::1%eth0", None),
            (b"example.org", None),
            (b"192.0.2", None),
            (b"", None),
        ];
        for (name, expected) in cases {
            assert_eq!(literal(name), expected.map(|ip| ip.parse().unwrap()), "{name:?}");
        }
    }
}
