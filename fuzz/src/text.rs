//! Text that leaves the daemon: session ids and access lines.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use socks5d::ids::{ListenerId, SessionId, WorkerId};
use socks5d::logging::{AccessRecord, CloseReason, Destination};
use socks5d::settings::LogFormat;

use crate::Judged;
use crate::script::Script;

/// A text that names a session gives that session's own text back, whatever way it was written.
pub fn session_id(octets: &[u8]) -> Judged {
    let Ok(text) = std::str::from_utf8(octets) else { return Judged::Refused };
    let Ok(id) = text.parse::<SessionId>() else { return Judged::Refused };
    let own = id.to_string();
    assert!(own.len() == 16 && own.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f')), "{own}");
    assert_eq!(own.parse(), Ok(id), "{own}");
    assert_eq!(SessionId::from_u64(id.as_u64()), id);
    assert!(id.worker().0 < 1024, "{:?}", id.worker());
    Judged::Accepted
}

/// Whatever a peer sends as user name and destination: one record is one line, in both forms, with nothing in
/// it that steers a terminal, and the octets can be read back exactly.
pub fn access_line(octets: &[u8]) -> Judged {
    let mut script = Script::new(octets);
    let record = AccessRecord {
        time: UNIX_EPOCH + Duration::from_millis(u64::from(script.number()) << 30),
        session: SessionId::from_u64(u64::from(script.number()) << 40),
        worker: WorkerId(script.number()),
        listener: ListenerId(0),
        user: script.piece(),
        client: SocketAddr::from(([192, 0, 2, script.octet()], script.number())),
        command: script.octet(),
        destination: Destination::Name(script.piece()),
        port: script.number(),
        reply: Some(script.octet()),
        resolved: None,
        bytes_up: u64::from(script.number()),
        bytes_down: u64::MAX,
        duration: Duration::from_micros(u64::from(script.number())),
        dns: None,
        connect: Some(Duration::ZERO),
        close: Some(CloseReason::Finished),
    };
    let Destination::Name(destination) = record.destination else { return Judged::Refused };

    let line = record.to_line(LogFormat::Tab);
    let line = line.strip_suffix(b"\n").unwrap_or_else(|| panic!("no line end: {line:?}"));
    let fields: Vec<&[u8]> = line.split(|octet| *octet == b'\t').collect();
    assert_eq!(fields.len(), 8, "{}", line.escape_ascii());
    assert!(fields.iter().flat_map(|field| field.iter()).all(|octet| (b' '..=b'~').contains(octet)));
    assert_eq!(unescape(fields.get(1).copied().unwrap_or_default()).as_deref(), Some(record.user));
    assert_eq!(unescape(fields.get(5).copied().unwrap_or_default()).as_deref(), Some(destination));

    let line = record.to_line(LogFormat::Json);
    let text = std::str::from_utf8(&line).unwrap_or_else(|error| panic!("{error}: {}", line.escape_ascii()));
    let text = text.strip_suffix('\n').unwrap_or_else(|| panic!("no line end: {text:?}"));
    assert!(!text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')), "{text:?}");
    let object: serde_json::Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    assert_eq!(json_octets(&object, "user").as_deref(), Some(record.user), "{text}");
    assert_eq!(json_octets(&object, "destination").as_deref(), Some(destination), "{text}");
    Judged::Accepted
}

/// Undoes the escapes of a tab line: `\xNN`, everything else stands for itself.
fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        if *first != b'\\' {
            octets.push(*first);
            rest = behind;
            continue;
        }
        let (escape, behind) = behind.split_first_chunk::<3>()?;
        let digits = std::str::from_utf8(escape).ok()?.strip_prefix('x')?;
        octets.push(u8::from_str_radix(digits, 16).ok()?);
        rest = behind;
    }
    Some(octets)
}

/// The exact octets of a value: in hexadecimal beside it where text cannot give them.
fn json_octets(object: &serde_json::Value, key: &str) -> Option<Vec<u8>> {
    let shown = object.get(key)?.as_str()?;
    let Some(hex) = object.get(format!("{key}_hex")) else { return Some(shown.as_bytes().to_vec()) };
    let digits = hex.as_str()?.as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
