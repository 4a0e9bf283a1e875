//! What looks for credentials in the bytes of a session.

use socks5d::proxy::dissect::{Found, Watch, Way};
use socks5d::settings::Dissector;

use crate::Judged;

/// The longest stretch of a direction that is looked at, and more.
const ENOUGH: usize = 128 * 1024;

/// A dialogue in which `>` and `<` begin what the client and the origin say: findings are the same whole and byte
/// by byte, each fits where it goes, and whatever follows, nobody looks for ever.
pub fn dissectors(octets: &[u8]) -> Judged {
    let pieces = pieces_of(octets);
    let whole = watch(pieces.iter().copied());
    let single = watch(pieces.iter().flat_map(|(way, bytes)| bytes.chunks(1).map(|byte| (*way, byte))));
    assert_eq!(whole, single, "{}", octets.escape_ascii());
    for found in &whole {
        let (user, password) = (&found.credentials.user, &found.credentials.password);
        assert!(user.len() <= 255 && password.len() <= 255, "{found:?}");
        let shown = format!("{found:?}");
        assert!(password.is_empty() || shown.contains("\"***\""), "{shown}");
    }
    (!whole.is_empty()).into()
}

/// Cut at each `>` and `<`, which are no part of what is said.
fn pieces_of(octets: &[u8]) -> Vec<(Way, &[u8])> {
    let mut way = Way::Up;
    let mut pieces = Vec::new();
    let mut rest = octets;
    while !rest.is_empty() {
        let end = rest.iter().position(|octet| b"<>".contains(octet)).unwrap_or(rest.len());
        pieces.push((way, &rest[..end]));
        if let Some(mark) = rest.get(end) {
            way = if *mark == b'<' { Way::Down } else { Way::Up };
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    pieces
}

fn watch<'a>(pieces: impl Iterator<Item = (Way, &'a [u8])>) -> Vec<Found> {
    let mut watch = Watch::new(Dissector::Full);
    for (way, bytes) in pieces {
        if watch.wants(way) {
            watch.see(way, bytes);
        }
    }
    let found = watch.take_found(Dissector::Full);
    for way in [Way::Up, Way::Down, Way::Up, Way::Down] {
        watch.see(way, &[b'x'; ENOUGH]);
    }
    assert!(watch.end().is_some() && !watch.wants(Way::Up) && !watch.wants(Way::Down));
    found
}
