//! One access record and its two forms: a tab-separated line and a JSON object. Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use super::text::{Timestamps, put, put_escaped, put_json_string};
use crate::ids::{ListenerId, SessionId, WorkerId};
use crate::settings::LogFormat;

/// Where a client asked to go, as it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// A domain name, its octets as sent.
    Name(&'a [u8]),
    /// An address.
    Address(IpAddr),
    /// The session ended before it asked.
    Unknown,
}

impl Destination<'_> {
    pub(super) fn write_tab(&self, out: &mut Vec<u8>) {
        match self {
            Self::Name(name) => put_escaped(out, name),
            Self::Address(address) => put(out, format_args!("{address}")),
            Self::Unknown => out.push(b'-'),
        }
    }

    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Name(name) => put_json_octets(out, "destination", name),
            Self::Address(address) => put(out, format_args!(",\"destination\":\"{address}\"")),
            Self::Unknown => out.extend_from_slice(b",\"destination\":null"),
        }
    }
}

/// Why a session ended. The text form is lower-case words joined by `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Both sides closed and everything was delivered.
    Finished,
    /// The client closed before its request was answered.
    ClientClosed,
    /// Either side reset its connection.
    Reset,
    /// No byte either way for the idle limit.
    Idle,
    /// No byte for the half-closed limit after one side had closed.
    HalfClosedTimeout,
    /// The client was too slow with its handshake.
    HandshakeTimeout,
    /// The reply was not 0.
    Refused,
    /// The client broke the dialogue.
    ProtocolError,
    /// Ended by an administrator, or because its user was removed.
    Killed,
    /// The daemon went down.
    Drained,
    /// Another error of the operating system.
    IoError,
}

impl CloseReason {
    /// The word that stands in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::ClientClosed => "client-closed",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::HalfClosedTimeout => "half-closed-timeout",
            Self::HandshakeTimeout => "handshake-timeout",
            Self::Refused => "refused",
            Self::ProtocolError => "protocol-error",
            Self::Killed => "killed",
            Self::Drained => "drained",
            Self::IoError => "io-error",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a session when its line is written: after the reply (tab) or at its end (json).
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// When the line is written.
    pub time: SystemTime,
    /// The session.
    pub session: SessionId,
    /// The worker that holds it.
    pub worker: WorkerId,
    /// The listener it came in by.
    pub listener: ListenerId,
    /// The user's name; `anonymous` for those who did not log in.
    pub user: &'a [u8],
    /// Where the client is.
    pub client: SocketAddr,
    /// The request's command (RFC 1928 §4); 1 is CONNECT.
    pub command: u8,
    /// The destination as asked.
    pub destination: Destination<'a>,
    /// The destination's port.
    pub port: u16,
    /// The reply's code (RFC 1928 §6); 0 is success. `None`: the session ended before there was one.
    pub reply: Option<u8>,
    /// The address that was connected to.
    pub resolved: Option<SocketAddr>,
    /// Payload from client to origin, bytes.
    pub bytes_up: u64,
    /// Payload from origin to client, bytes.
    pub bytes_down: u64,
    /// From accept to `time`.
    pub duration: Duration,
    /// Resolution, where a name was resolved.
    pub dns: Option<Duration>,
    /// All connect attempts together, where any was made.
    pub connect: Option<Duration>,
    /// Why the session ended, once it has.
    pub close: Option<CloseReason>,
}

impl AccessRecord<'_> {
    /// The record as one line with its line end. Workers write theirs through [`super::AccessSink`] instead,
    /// which keeps the buffer and the text of the second.
    #[must_use]
    pub fn to_line(&self, format: LogFormat) -> Vec<u8> {
        let mut line = Vec::new();
        self.write(format, &mut Timestamps::default(), &mut line);
        line
    }

    /// Appends the record as one line with its line end.
    pub(super) fn write(&self, format: LogFormat, timestamps: &mut Timestamps, out: &mut Vec<u8>) {
        match format {
            LogFormat::Tab => self.write_tab(timestamps, out),
            LogFormat::Json => self.write_json(timestamps, out),
        }
        out.push(b'\n');
    }

    /// Shape: `TIME USER A SOURCE PORT DESTINATION PORT REPLY`, separated by tabs; ports and reply decimal.
    /// User and destination are escaped so that they hold no tab and no line end. What is unknown is `-`: a
    /// line is due when a reply was sent, but a caller may be wrong.
    fn write_tab(&self, timestamps: &mut Timestamps, out: &mut Vec<u8>) {
        timestamps.write(self.time, out);
        out.push(b'\t');
        put_escaped(out, self.user);
        put(out, format_args!("\tA\t{}\t{}\t", self.client.ip().to_canonical(), self.client.port()));
        self.destination.write_tab(out);
        put(out, format_args!("\t{}\t", self.port));
        match self.reply {
            Some(reply) => put(out, format_args!("{reply}")),
            None => out.push(b'-'),
        }
    }

    /// Shape: one flat object; every key is always there, `null` where nothing is known, except `user_hex`
    /// and `destination_hex`, which give the octets of a value that is not UTF-8 and is shown with U+FFFD.
    fn write_json(&self, timestamps: &mut Timestamps, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        timestamps.write(self.time, out);
        out.push(b'"');
        put_json_session(out, self.session, self.worker, self.listener);
        put_json_octets(out, "user", self.user);
        put_json_client(out, self.client);
        put_json_command(out, self.command);
        self.destination.write_json(out);
        put(out, format_args!(",\"destination_port\":{}", self.port));
        match self.resolved {
            Some(origin) => put(out, format_args!(",\"resolved_address\":\"{}\"", origin.ip())),
            None => out.extend_from_slice(b",\"resolved_address\":null"),
        }
        match self.reply {
            Some(reply) => put(out, format_args!(",\"reply\":{reply}")),
            None => out.extend_from_slice(b",\"reply\":null"),
        }
        put(out, format_args!(",\"bytes_up\":{},\"bytes_down\":{}", self.bytes_up, self.bytes_down));
        put_json_millis(out, "duration_ms", Some(self.duration));
        put_json_millis(out, "dns_ms", self.dns);
        put_json_millis(out, "connect_ms", self.connect);
        match self.close {
            Some(reason) => put(out, format_args!(",\"close_reason\":\"{reason}\"}}")),
            None => out.extend_from_slice(b",\"close_reason\":null}"),
        }
    }
}

/// Appends a value of octets: as text, and in hexadecimal beside it where text cannot give it exactly.
pub(super) fn put_json_octets(out: &mut Vec<u8>, key: &str, octets: &[u8]) {
    put(out, format_args!(",\"{key}\":"));
    if let Ok(text) = std::str::from_utf8(octets) {
        put_json_string(out, text);
        return;
    }
    put_json_string(out, &String::from_utf8_lossy(octets));
    put(out, format_args!(",\"{key}_hex\":\""));
    for octet in octets {
        put(out, format_args!("{octet:02x}"));
    }
    out.push(b'"');
}

/// Which session, and where it is.
pub(super) fn put_json_session(
    out: &mut Vec<u8>,
    session: SessionId,
    worker: WorkerId,
    listener: ListenerId,
) {
    put(out, format_args!(",\"session\":\"{session}\",\"worker\":{},\"listener\":{}", worker.0, listener.0));
}

/// Where the client is.
pub(super) fn put_json_client(out: &mut Vec<u8>, client: SocketAddr) {
    let ip = client.ip().to_canonical();
    put(out, format_args!(",\"client_address\":\"{ip}\",\"client_port\":{}", client.port()));
}

fn put_json_command(out: &mut Vec<u8>, command: u8) {
    match command {
        1 => out.extend_from_slice(b",\"command\":\"connect\""),
        2 => out.extend_from_slice(b",\"command\":\"bind\""),
        3 => out.extend_from_slice(b",\"command\":\"udp-associate\""),
        0 | 4.. => put(out, format_args!(",\"command\":\"{command:#04x}\"")),
    }
}

/// Appends a duration in milliseconds, exact to the microsecond.
fn put_json_millis(out: &mut Vec<u8>, key: &str, duration: Option<Duration>) {
    match duration {
        Some(duration) => {
            let micros = duration.as_micros();
            put(out, format_args!(",\"{key}\":{}.{:03}", micros / 1000, micros % 1000));
        }
        None => put(out, format_args!(",\"{key}\":null")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    pub(in crate::logging) fn record() -> AccessRecord<'static> {
        AccessRecord {
            time: UNIX_EPOCH + Duration::from_millis(1_795_230_245_678),
            session: SessionId::new(5, WorkerId(1), 9),
            worker: WorkerId(1),
            listener: ListenerId(0),
            user: b"alice",
            client: "127.0.0.1:50000".parse().unwrap(),
            command: 1,
            destination: Destination::Name(b"www.example.org"),
            port: 443,
            reply: Some(0),
            resolved: Some("[2001:db8::1]:443".parse().unwrap()),
            bytes_up: 517,
            bytes_down: u64::MAX,
            duration: Duration::from_micros(1_234_567),
            dns: Some(Duration::from_micros(50)),
            connect: Some(Duration::from_millis(12)),
            close: Some(CloseReason::Finished),
        }
    }

    fn line(format: LogFormat, record: &AccessRecord<'_>) -> String {
        String::from_utf8(record.to_line(format)).unwrap()
    }

    #[test]
    fn a_tab_line_has_the_eight_fields_of_the_wire_facts() {
        expect![[r#"
            2026-11-21T03:04:05.678Z	alice	A	127.0.0.1	50000	www.example.org	443	0
        "#]]
        .assert_eq(&line(LogFormat::Tab, &record()));
    }

    #[test]
    fn a_tab_line_names_addresses_and_escapes_hostile_octets() {
        let hostile = AccessRecord {
            user: b"a\tA\n\\\xff",
            client: "[::ffff:192.0.2.7]:1".parse().unwrap(),
            destination: Destination::Name(b"x\r\ny"),
            reply: Some(4),
            ..record()
        };
        expect![[r#"
            2026-11-21T03:04:05.678Z	a\x09A\x0a\x5c\xff	A	192.0.2.7	1	x\x0d\x0ay	443	4
        "#]]
        .assert_eq(&line(LogFormat::Tab, &hostile));
        let address = AccessRecord {
            client: "[2001:db8::7]:1".parse().unwrap(),
            destination: Destination::Address("::1".parse().unwrap()),
            ..record()
        };
        expect![[r#"
            2026-11-21T03:04:05.678Z	alice	A	2001:db8::7	1	::1	443	0
        "#]]
        .assert_eq(&line(LogFormat::Tab, &address));
    }

    #[test]
    fn a_json_line_gives_names_with_units() {
        expect![[r#"
            {"time":"2026-11-21T03:04:05.678Z","session":"0000500400000009","worker":1,"listener":0,"user":"alice","client_address":"127.0.0.1","client_port":50000,"command":"connect","destination":"www.example.org","destination_port":443,"resolved_address":"2001:db8::1","reply":0,"bytes_up":517,"bytes_down":18446744073709551615,"duration_ms":1234.567,"dns_ms":0.050,"connect_ms":12.000,"close_reason":"finished"}
        "#]]
        .assert_eq(&line(LogFormat::Json, &record()));
    }

    #[test]
    fn a_json_line_says_null_for_what_is_unknown() {
        let early = AccessRecord {
            user: b"\xffoe",
            command: 9,
            destination: Destination::Address("192.0.2.1".parse().unwrap()),
            resolved: None,
            dns: None,
            connect: None,
            close: None,
            ..record()
        };
        expect![[r#"
            {"time":"2026-11-21T03:04:05.678Z","session":"0000500400000009","worker":1,"listener":0,"user":"�oe","user_hex":"ff6f65","client_address":"127.0.0.1","client_port":50000,"command":"0x09","destination":"192.0.2.1","destination_port":443,"resolved_address":null,"reply":0,"bytes_up":517,"bytes_down":18446744073709551615,"duration_ms":1234.567,"dns_ms":null,"connect_ms":null,"close_reason":null}
        "#]]
        .assert_eq(&line(LogFormat::Json, &early));
    }

    proptest! {
        #[test]
        fn one_record_is_one_line_of_eight_fields(user: Vec<u8>, name: Vec<u8>) {
            let record =
                AccessRecord { user: &user, destination: Destination::Name(&name), ..record() };
            let text = line(LogFormat::Tab, &record);
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert_eq!(text.split('\t').count(), 8);
        }

        #[test]
        fn json_gives_every_octet_back(user: Vec<u8>, name: Vec<u8>, command: u8, micros in 0u64..1 << 50) {
            let record = AccessRecord {
                user: &user,
                destination: Destination::Name(&name),
                command,
                duration: Duration::from_micros(micros),
                ..record()
            };
            let text = line(LogFormat::Json, &record);
            prop_assert_eq!(text.lines().count(), 1);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            for (key, octets) in [("user", &user), ("destination", &name)] {
                let exact = value.get(format!("{key}_hex"));
                let shown = value[key].as_str().unwrap();
                match exact {
                    None => prop_assert_eq!(shown.as_bytes(), &octets[..]),
                    Some(hex) => {
                        let expected: String = octets.iter().map(|o| format!("{o:02x}")).collect();
                        prop_assert!(std::str::from_utf8(octets).is_err());
                        prop_assert_eq!(hex.as_str().unwrap(), expected);
                    }
                }
            }
            let millis = value["duration_ms"].as_f64().unwrap();
            prop_assert!((millis * 1000.0 - micros as f64).abs() <= 1.0);
        }
    }
}
