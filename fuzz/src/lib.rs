//! Fuzz targets: for each decoder one function that takes any octets and panics where a promise is broken.
//!
//! Two drivers run the same functions: libFuzzer, guided by coverage (`fuzz_targets/`, for `cargo fuzz`), and
//! [`driver`], which changes committed seeds (`seeds/`) on any toolchain. README.md says how to run both.

#![allow(clippy::indexing_slicing, reason = "a panic is how a target fails")]

// The targets, in the order in which octets meet them in the daemon.
mod wire;
// (kept apart so that the formatter leaves the order)
mod dialogue;
mod dissect;
mod dns;
mod encap;
mod files;
mod http;
mod pipo;
mod settings;
mod text;
// What targets are made with.
mod script;
// What runs them.
pub mod driver;
pub mod mutate;

pub use dialogue::{dialogue, dialogue_split};
pub use dissect::dissectors;
pub use dns::{domain_name, message, stream};
pub use encap::association;
pub use files::{hosts, resolv_conf};
pub use http::{metrics_request, request, response};
pub use pipo::{pipo_version1, pipo_version2};
pub use settings::{config, secrets, setting, users_file};
pub use text::{access_line, session_id};
pub use wire::{client_messages, reply};

/// How a target took its input. Both are fine; a run that sees only one of them tests half of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// As something well-formed, in whole or in part.
    Accepted,
    /// As an error, or as incomplete.
    Refused,
}

impl From<bool> for Judged {
    fn from(accepted: bool) -> Self {
        if accepted { Self::Accepted } else { Self::Refused }
    }
}

/// What can come of a target's inputs at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Both [`Judged`] variants.
    Both,
    /// No input is an error.
    Total,
}

/// A target: its function and what helps to find inputs for it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of the function, of the directory of seeds, of the file in `fuzz_targets`.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]) -> Judged,
    /// What may come out of it.
    pub range: Range,
    /// Pieces that random changes would hardly ever make.
    pub words: &'static [&'static [u8]],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "client_messages", run: client_messages, range: Range::Both, words: SOCKS_WORDS },
    Target { name: "reply", run: reply, range: Range::Both, words: SOCKS_WORDS },
    Target { name: "dialogue", run: dialogue, range: Range::Both, words: SOCKS_WORDS },
    Target { name: "dialogue_split", run: dialogue_split, range: Range::Both, words: SOCKS_WORDS },
    Target { name: "domain_name", run: domain_name, range: Range::Both, words: NAME_WORDS },
    Target { name: "message", run: message, range: Range::Both, words: DNS_WORDS },
    Target { name: "stream", run: stream, range: Range::Both, words: DNS_WORDS },
    Target { name: "request", run: request, range: Range::Both, words: HTTP_WORDS },
    Target { name: "response", run: response, range: Range::Both, words: HTTP_WORDS },
    Target { name: "metrics_request", run: metrics_request, range: Range::Both, words: HTTP_WORDS },
    Target { name: "hosts", run: hosts, range: Range::Both, words: FILE_WORDS },
    Target { name: "resolv_conf", run: resolv_conf, range: Range::Both, words: FILE_WORDS },
    Target { name: "config", run: config, range: Range::Both, words: CONFIG_WORDS },
    Target { name: "setting", run: setting, range: Range::Both, words: CONFIG_WORDS },
    Target { name: "secrets", run: secrets, range: Range::Both, words: CONFIG_WORDS },
    Target { name: "users_file", run: users_file, range: Range::Both, words: CONFIG_WORDS },
    Target {
        name: "session_id",
        run: session_id,
        range: Range::Both,
        words: &[b"ffffffffffffffff", b"+", b"0x"],
    },
    Target { name: "access_line", run: access_line, range: Range::Total, words: TEXT_WORDS },
    Target { name: "dissectors", run: dissectors, range: Range::Both, words: LOGIN_WORDS },
    Target { name: "association", run: association, range: Range::Both, words: SCTP_WORDS },
    Target { name: "pipo_version1", run: pipo_version1, range: Range::Both, words: PIPO_WORDS },
    Target { name: "pipo_version2", run: pipo_version2, range: Range::Both, words: PIPO_WORDS },
];

const SOCKS_WORDS: &[&[u8]] = &[
    &[5, 1, 0],
    &[5, 2, 0, 2],
    &[1, 1, b'a', 1, b'b'],
    &[5, 1, 0, 1, 127, 0, 0, 1, 0, 80],
    &[5, 1, 0, 3, 1, b'a', 0, 80],
    &[5, 1, 0, 3, 9, b'1', b'2', b'7', b'.', b'0', b'.', b'0', b'.', b'1', 0, 80],
    &[5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1, 0, 80],
    &[5, 3, 0, 1],
    b"[::1]",
    b"::ffff:127.0.0.1",
    b"fe80::1%eth0",
];

const NAME_WORDS: &[&[u8]] =
    &[b".", b"..", b"localhost", b"x.onion", b"_", b"-", b"xn--", &[0xc3, 0xa9], b"%"];

const DNS_WORDS: &[&[u8]] = &[
    &[0xc0, 0x0c],
    &[0xc0, 0xff],
    &[3, b'w', b'w', b'w'],
    &[0, 1, 0, 1],
    &[0, 5, 0, 1],
    &[0, 6, 0, 1],
    &[0, 28, 0, 1],
    &[0, 2, 0, 1],
    &[0, 41, 0, 1],
    &[0xff, 0xff],
    &[0x81, 0x80],
    &[0x83, 0x80],
    &[0x81, 0x83],
];

const HTTP_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 \r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 204 No\r\n",
    b"Content-Type: application/dns-message\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Content-Length: +5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Age: 99999999999999999999\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b";a=b",
    b" HTTP/1.1",
    b"\t",
    b"#",
    b"?",
    b"\xff",
];

const LOGIN_WORDS: &[&[u8]] = &[
    b"<",
    b">",
    b"\r\n",
    b">GET / HTTP/1.1\r\n",
    b">HEAD / HTTP/1.1\r\n",
    b"Authorization: Basic YWw6cHc=\r\n\r\n",
    b"Content-Length: 5\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    b"<HTTP/1.1 200 OK\r\n",
    b"<HTTP/1.1 100 Continue\r\n\r\n",
    b"<HTTP/1.1 401 No\r\n",
    b"<+OK\r\n",
    b"<-ERR\r\n",
    b"<+ \r\n",
    b"<.\r\n",
    b">USER al\r\n",
    b">PASS pw\r\n",
    b">AUTH PLAIN\r\n",
    b"AGFsAHB3\r\n",
    b">CAPA\r\n",
    b">STLS\r\n",
];

const FILE_WORDS: &[&[u8]] = &[
    b"127.0.0.1 ",
    b"::1 ",
    b"0.0.0.0 ",
    b"fe80::1%2",
    b"localhost",
    b"nameserver ",
    b"search example.org",
    b"#",
    b"\n",
    b"\r\n",
    b"\t",
];

const CONFIG_WORDS: &[&[u8]] = &[
    b" = ",
    b"\n",
    b"\"",
    b"'''",
    b"\"\"\"",
    b"[",
    b"]",
    b"{",
    b"}",
    b"[[a]]\n",
    b"\\u0000",
    b"\\U0010FFFF",
    b"true",
    b"inf",
    b"1979-05-27T07:32:00Z",
    b"0xff",
    b"1e9",
    b"buffer-size",
    b"idle-timeout",
    b"socks-addr",
    b"doh-host",
    b"doh-path",
    b"user",
    b"admin",
    b"off",
    b"auto",
    b"16MiB",
    b"250ms",
    b"18446744073709551616",
    b":admin",
    b":",
    b",",
];

const TEXT_WORDS: &[&[u8]] =
    &[b"\t", b"\n", b"\r", b"\x1b[31m", b"\\x", b"\"", b"\xe2\x80\xa8", b"\xc2\x85", b"\x7f"];

const SCTP_WORDS: &[&[u8]] = &[
    &[0, 3, 0, 16],
    &[1, 0, 0, 20],
    &[3, 0, 0, 16],
    &[4, 0, 0, 8],
    &[6, 0, 0, 4],
    &[7, 0, 0, 8],
    &[8, 0, 0, 4],
    &[9, 0, 0, 4],
    &[10, 0, 0, 4],
    &[11, 0, 0, 4],
    &[14, 0, 0, 4],
    &[0xc0, 0, 0, 8],
    &[0xff, 0xff, 0xff, 0xff],
];

const PIPO_WORDS: &[&[u8]] = &[
    &[1, 1, b'a', 1, b'b'],
    &[0, 2],
    &[1, 0],
    &[0xff, 0xff],
    &[0xa0],
    &[0xbf, 0xff],
    &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x78, 0xff],
    &[0x58, 0x20],
    &[0xf6],
    &[0xf9, 0x7e, 0x00],
];
