//! Plain DNS as far as bytes go: datagrams and TCP framing on port 53, and resolv.conf. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::exchange::{self, CheckError, Question, Reply};
use crate::limits::{DNS_MESSAGE_BYTES_MAX, PLAIN_SERVERS_MAX};

/// The port of plain DNS.
pub const PORT: u16 = 53;

/// Which of the servers is asked next. Those that were silent come round again; those that cannot say do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    current: usize,
    servers_count: usize,
    /// Bit n: server n refused, failed or cannot be reached.
    useless: u8,
}
const _: () = assert!(PLAIN_SERVERS_MAX <= u8::BITS as usize);

impl Rotation {
    /// Begins with the first of that many servers; more than [`PLAIN_SERVERS_MAX`] are not used.
    #[must_use]
    pub fn new(servers_count: usize) -> Self {
        Self { current: 0, servers_count: servers_count.min(PLAIN_SERVERS_MAX), useless: 0 }
    }

    /// The place of the server whose turn it is. `None`: none is left that could help.
    #[must_use]
    pub fn current(self) -> Option<usize> {
        let useful = self.current < self.servers_count && self.useless & self.bit() == 0;
        useful.then_some(self.current)
    }

    /// The server said nothing in time: the next one, which may be the same.
    pub fn skip(&mut self) {
        for _ in 0..self.servers_count {
            self.current = (self.current + 1) % self.servers_count;
            if self.useless & self.bit() == 0 {
                return;
            }
        }
    }

    /// The server cannot help with this question: the next one, if there is any.
    pub fn strike(&mut self) {
        self.useless |= self.bit();
        self.skip();
    }

    fn bit(self) -> u8 {
        1 << (self.current % PLAIN_SERVERS_MAX)
    }
}

/// What a datagram from the server's address means for the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// The answer.
    Reply(Reply),
    /// The answer is too long for a datagram: ask by TCP (RFC 7766 §5).
    Truncated,
    /// Not the answer: late, forged or broken. The right one may still come.
    Wrong(CheckError),
}

/// Judges a datagram.
#[must_use]
pub fn read_datagram(question: &Question, octets: &[u8]) -> Datagram {
    match exchange::check(question, octets) {
        Ok(reply) => Datagram::Reply(reply),
        Err(CheckError::Truncated) => Datagram::Truncated,
        Err(error) => Datagram::Wrong(error),
    }
}

/// A message framed for TCP, RFC 1035 §4.2.2.
///
/// Shape: `LENGTH(2) MESSAGE(LENGTH)`. `None`: longer than a message can be.
#[must_use]
pub fn encode_stream(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    Some([&length.to_be_bytes()[..], message].concat())
}

/// Gathers one message of a TCP connection from any pieces.
#[derive(Debug, Default)]
pub struct StreamReader {
    octets: Vec<u8>,
}

impl StreamReader {
    /// Takes octets. `Some`: the message is complete; what follows it is ignored, since one was asked for.
    pub fn feed(&mut self, octets: &[u8]) -> Option<&[u8]> {
        let room = (2 + DNS_MESSAGE_BYTES_MAX).saturating_sub(self.octets.len());
        self.octets.extend_from_slice(octets.get(..room).unwrap_or(octets));
        let (length, message) = self.octets.split_first_chunk()?;
        message.get(..u16::from_be_bytes(*length).into())
    }
}

/// The servers that a resolv.conf names, in its order; the local one if it names none (resolv.conf(5)).
///
/// Search lists and options do not matter here: names are asked as they are. A link-local address may carry
/// its interface as a number; one with an interface's name is skipped. `[ADDRESS]:PORT` names another port than
/// 53, as in OpenBSD.
#[must_use]
pub fn parse_resolv_conf(text: impl AsRef<[u8]>) -> Vec<SocketAddr> {
    let mut servers: Vec<SocketAddr> = Vec::new();
    for line in text.as_ref().split(|&octet| octet == b'\n') {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        if words.next() != Some(b"nameserver") {
            continue;
        }
        if let Some(server) = words.next().and_then(parse_server)
            && !servers.contains(&server)
        {
            servers.push(server);
        }
        if servers.len() == PLAIN_SERVERS_MAX {
            break;
        }
    }
    if servers.is_empty() {
        servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
    }
    servers
}

fn parse_server(word: &[u8]) -> Option<SocketAddr> {
    let word = std::str::from_utf8(word).ok()?;
    if let Some((address, port)) = word.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        let port = port.parse().ok().filter(|port| *port != 0)?;
        return Some(SocketAddr::new(address.parse().ok()?, port));
    }
    if let Some((address, zone)) = word.split_once('%') {
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(SocketAddrV6::new(address, PORT, 0, zone.parse().ok()?).into());
    }
    let address: IpAddr = word.parse().ok()?;
    Some(SocketAddr::new(address, PORT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{DomainName, Family};
    use super::*;

    #[test]
    fn resolv_conf_gives_its_servers_in_order_or_the_local_one() {
        let cases = [
            ("", &["127.0.0.1:53"][..]),
            ("# nameserver 192.0.2.1\nsearch example\nnameserver\nnameserver host", &["127.0.0.1:53"]),
            (
                "nameserver 192.0.2.1\r\n nameserver\t2001:db8::1 # x\nnameserver 192.0.2.1",
                &["192.0.2.1:53", "[2001:db8::1]:53"],
            ),
            ("nameserver fe80::1%2\nnameserver fe80::1%eth0", &["[fe80::1%2]:53"]),
            (
                "nameserver [192.0.2.1]:5353\nnameserver [::1]:54\nnameserver [::1]\nnameserver [::1]:0",
                &["192.0.2.1:5353", "[::1]:54"],
            ),
            ("nameservers 192.0.2.1\noptions nameserver 192.0.2.2", &["127.0.0.1:53"]),
        ];
        for (text, expected) in cases {
            let got: Vec<_> = parse_resolv_conf(text).iter().map(ToString::to_string).collect();
            assert_eq!(got, expected, "{text:?}");
        }
        let many: String = (0..50).map(|n| format!("nameserver 192.0.2.{n}\n")).collect();
        assert_eq!(parse_resolv_conf(many).len(), PLAIN_SERVERS_MAX);
    }

    #[test]
    fn a_truncated_datagram_asks_for_tcp_only_if_it_answers_the_question() {
        let question =
            Question { name: DomainName::parse(b"host.example").unwrap(), family: Family::V4, id: 0x1234 };
        let mut message = question.encode();
        message[2] |= 0x82;
        assert_eq!(read_datagram(&question, &message), Datagram::Truncated);
        message[1] ^= 1;
        let wrong = CheckError::Id { got: 0x1235, asked: 0x1234 };
        assert_eq!(read_datagram(&question, &message), Datagram::Wrong(wrong));
    }

    #[test]
    fn silent_servers_come_round_again_and_failed_ones_do_not() {
        let mut rotation = Rotation::new(3);
        let mut turns = Vec::new();
        for _ in 0..4 {
            turns.push(rotation.current());
            rotation.skip();
        }
        assert_eq!(turns, [Some(0), Some(1), Some(2), Some(0)]);
        rotation.strike();
        assert_eq!(rotation.current(), Some(2));
        rotation.skip();
        assert_eq!(rotation.current(), Some(0));
        rotation.strike();
        assert_eq!(rotation.current(), Some(2));
        rotation.skip();
        assert_eq!(rotation.current(), Some(2));
        rotation.strike();
        assert_eq!(rotation.current(), None);
        assert_eq!(Rotation::new(0).current(), None);
    }

    proptest! {
        #[test]
        fn a_message_comes_back_from_any_pieces_of_its_stream(
            message in prop::collection::vec(any::<u8>(), 0..600),
            behind in prop::collection::vec(any::<u8>(), 0..5),
            pieces in prop::collection::vec(1_usize..50, 1..10),
        ) {
            let mut stream = encode_stream(&message).unwrap();
            stream.extend(behind);
            let mut reader = StreamReader::default();
            let (mut rest, mut pieces) = (stream.as_slice(), pieces.iter().cycle());
            loop {
                prop_assert!(!rest.is_empty());
                let (piece, behind) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
                rest = behind;
                if let Some(got) = reader.feed(piece) {
                    prop_assert_eq!(got, &message);
                    break;
                }
            }
        }

        #[test]
        fn no_resolv_conf_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(!parse_resolv_conf(text).is_empty());
        }
    }

    #[test]
    fn a_message_longer_than_its_length_field_is_not_framed() {
        assert_eq!(encode_stream(&vec![0; DNS_MESSAGE_BYTES_MAX + 1]), None);
    }
}
