//! The resolver cache over the admin channel: shown, forgotten as a whole or by name.

use std::net::IpAddr;

use pipo_protocol::v2::messages::*;
use pipo_protocol::v2::{Reply, Request, Status, Text};

use crate::harness::admin_v2::{CREDIT, Client2};
use crate::harness::client::reply_to;
use crate::harness::origin::{Origin, V4};
use crate::harness::plain_dns::{Manner, PlainDns};
use crate::harness::{Daemon, connect_through};

fn show(name: Option<&str>, limit: Option<u32>) -> Request {
    Request::DnsShow(DnsShow { credit: CREDIT, name: name.map(Text::cut), limit })
}

fn shown(admin: &mut Client2, request: &Request) -> Vec<CacheRow> {
    let mut rows = admin.rows::<CachePart>(request, 1).1;
    rows.sort_by(|a, b| (a.name.as_str(), a.family).cmp(&(b.name.as_str(), b.family)));
    rows
}

fn flush(admin: &mut Client2, name: Option<&str>) -> u64 {
    match admin.ask(&Request::DnsFlush(DnsFlush { name: name.map(Text::cut) })) {
        Ok(Reply::DnsFlush(flushed)) => flushed.entries_count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn cached_answers_are_shown_and_forgotten() {
    let origin = Origin::echo(V4);
    let known: &[(&str, &[IpAddr])] = &[("one.example.test", &[V4]), ("two.example.test", &[V4])];
    let dns = PlainDns::start(Manner::Answers, known);
    let daemon = Daemon::with(&["--admin", "root:secret", "--dns", "system", "--workers", "1"])
        .name_server(dns.address())
        .start();
    let mut admin = Client2::log_in(&daemon, b"root", b"secret");
    assert!(shown(&mut admin, &show(None, None)).is_empty());
    for name in ["one.example.test", "two.example.test"] {
        connect_through(daemon.address(), (name, origin.port())).assert_echo(name.as_bytes());
    }
    assert_eq!(reply_to(daemon.address(), ("none.example.test", 80)).code, 4);
    let rows = shown(&mut admin, &show(None, None));
    let of = |name: &str| rows.iter().find(|row| row.name.as_str() == name && row.family == 4).unwrap();
    assert_eq!(of("one.example.test").addresses, [V4]);
    assert_eq!((of("one.example.test").source, of("one.example.test").worker), (CacheSource::Plain, 0));
    assert!(of("one.example.test").ttl_ms > 0);
    assert!(of("none.example.test").addresses.is_empty());
    assert_eq!(shown(&mut admin, &show(None, Some(1))).len(), 1);
    let one = shown(&mut admin, &show(Some("ONE.example.test."), None));
    assert!(!one.is_empty() && one.iter().all(|row| row.name.as_str() == "one.example.test"));

    let asked = dns.asked_count();
    connect_through(daemon.address(), ("one.example.test", origin.port())).assert_echo(b"cached");
    assert_eq!(dns.asked_count(), asked);
    assert_eq!(flush(&mut admin, Some("one.example.test")), one.len() as u64);
    assert_eq!(flush(&mut admin, Some("one.example.test")), 0);
    assert!(shown(&mut admin, &show(Some("one.example.test"), None)).is_empty());
    connect_through(daemon.address(), ("one.example.test", origin.port())).assert_echo(b"asked again");
    assert!(dns.asked_count() > asked);
    let left = shown(&mut admin, &show(None, None)).len() as u64;
    assert_eq!(flush(&mut admin, None), left);
    assert!(shown(&mut admin, &show(None, None)).is_empty());
    assert_eq!(
        admin.refusal(&Request::DnsFlush(DnsFlush { name: Some(Text::cut("no name")) })),
        Status::Invalid
    );
}
