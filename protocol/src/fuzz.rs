//! Entry points for fuzzers: any octets in, and the properties that must hold of them asserted.

use crate::v1::{self, Asked};
use crate::v2::events::Event;
use crate::v2::{self, COMMANDS, Command, Kind, Message, Record};

/// Version 1, both directions: a request takes what it needs and no more, what is encoded reads back the same.
pub fn version1(octets: &[u8]) {
    let _ = v1::decode_login(octets);
    let _ = v1::decode_login_reply(octets);
    let mut rest = octets;
    while let Some((request, taken)) = v1::Request::decode(rest) {
        let (used, later) = rest.split_at(taken);
        let mut encoded = Vec::new();
        if request.encode(&mut encoded) {
            assert_eq!(encoded, used, "a request has one form only");
        }
        if let Some(asked) = request.asked() {
            reply(asked, later);
        }
        rest = later;
    }
}

fn reply(asked: Asked, octets: &[u8]) {
    let Ok(Some((reply, taken))) = v1::Reply::decode(asked, octets) else { return };
    let used = octets.get(..taken).unwrap_or_default();
    assert_eq!(reply.encode(), used, "a reply has one form only");
}

/// Version 2, both directions: what decodes is the same when it is encoded and decoded again.
pub fn version2(octets: &[u8]) {
    let _ = Record::decode(octets);
    let mut rest = octets;
    while let Ok(Some((record, taken))) = Record::split(rest) {
        body(record.header.kind, Command::from(record.header.command), record.body);
        rest = rest.get(taken..).unwrap_or_default();
    }
    for row in COMMANDS {
        body(Kind::Request, row.command, octets);
        body(Kind::Reply, row.command, octets);
    }
    body(Kind::Event, Command::Unassigned(0), octets);
}

fn body(kind: Kind, command: Command, octets: &[u8]) {
    match kind {
        Kind::Request => {
            let Ok(Some(request)) = v2::Request::decode(command, octets) else { return };
            assert_eq!(v2::Request::decode(command, &request.encode()), Ok(Some(request)));
        }
        Kind::Reply => {
            let Ok(Some(reply)) = v2::Reply::decode(command, octets) else { return };
            assert_eq!(v2::Reply::decode(command, &reply.encode()), Ok(Some(reply)));
        }
        Kind::Event | Kind::Unassigned(_) => {
            let Ok(event) = Event::decode(octets) else { return };
            assert_eq!(Event::decode(&event.encode()), Ok(event));
        }
    }
}
