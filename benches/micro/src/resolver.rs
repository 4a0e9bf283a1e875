//! A name's way through the resolver: its check, the cache, the question, the answer in DNS and in HTTP.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use socks5d::resolver::cache::{Cache, Source};
use socks5d::resolver::exchange::{self, Question, Reply};
use socks5d::resolver::http::{Parser, Verdict};
use socks5d::resolver::{DomainName, Family, Outcome};

use crate::{Work, repeated};

const NAME: &[u8] = b"WWW.example.com";
/// Enough names that the random seeds of the cache's tables even out over them.
const NAMES_COUNT: usize = 1000;

fn question() -> Question {
    Question { name: DomainName::parse(NAME).expect("a plain name"), family: Family::V4, id: 0 }
}

/// An answer as relays give it: the question, one CNAME, two addresses, names compressed (RFC 1035 §4.1.4).
fn answer() -> Vec<u8> {
    let mut message = b"\0\0\x81\x80\0\x01\0\x03\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01".to_vec();
    // The question's name stands at octet 12, the CNAME's target at 45.
    message.extend_from_slice(b"\xc0\x0c\0\x05\0\x01\0\0\x01\x2c\0\x12\x04edge\x07example\x03net\0");
    message.extend_from_slice(b"\xc0\x2d\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\x00\x02\x01");
    message.extend_from_slice(b"\xc0\x2d\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\x00\x02\x02");
    message
}

fn check_reply(reply: &Reply) {
    let expected = [IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])];
    assert!(
        matches!(reply, Reply::Addresses { addresses, ttl } if **addresses == expected && ttl.as_secs() == 60),
        "the addresses of the message: {reply:?}"
    );
}

pub(crate) fn name_parse() -> Work {
    assert_eq!(question().name.as_str(), "www.example.com", "in lower case");
    repeated(|| DomainName::parse(black_box(NAME)))
}

pub(crate) fn cache_hit() -> Work {
    let now = Instant::now();
    let mut cache = Cache::default();
    let names: Vec<DomainName> = (0..NAMES_COUNT)
        .map(|place| format!("host-{place:04}.example.com"))
        .map(|name| DomainName::parse(name.as_bytes()).expect("a plain name"))
        .collect();
    for name in &names {
        let outcome = Outcome::Addresses(vec![IpAddr::from([192, 0, 2, 1])].into());
        cache.insert(name, Family::V4, outcome, Source::Doh, Duration::from_secs(300), now);
    }
    for name in &names {
        assert!(cache.hit(name, Family::V4, now, 0).is_some(), "{name} was inserted");
    }
    let mut place = 0;
    repeated(move || {
        place = if place + 1 < names.len() { place + 1 } else { 0 };
        let name = names.get(place)?;
        cache.hit(black_box(name), Family::V4, now, 0)
    })
}

pub(crate) fn question_encode() -> Work {
    let question = question();
    assert_eq!(question.encode().len(), 33, "header, name, type and class");
    repeated(move || black_box(&question).encode())
}

pub(crate) fn answer_check() -> Work {
    let (question, message) = (question(), answer());
    check_reply(&exchange::check(&question, &message).expect("a good answer"));
    repeated(move || exchange::check(black_box(&question), black_box(&message)))
}

/// The parser alone: what it finds goes to `answer-check`.
pub(crate) fn http_answer_parse() -> Work {
    let body = answer();
    let mut response = format!(
        "HTTP/1.1 200 OK\r\nServer: relay\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
         Content-Type: application/dns-message\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\
         Cache-Control: max-age=60\r\n\r\n",
        body.len()
    )
    .into_bytes();
    response.extend_from_slice(&body);

    let (taken, parsed) = Parser::default().feed(&response).expect("a good response");
    assert_eq!(taken, response.len(), "all of it");
    let verdict = parsed.expect("complete").judge(&question());
    assert!(matches!(&verdict, Verdict::Reply(_)), "an answer: {verdict:?}");
    if let Verdict::Reply(reply) = &verdict {
        check_reply(reply);
    }
    repeated(move || Parser::default().feed(black_box(&response)))
}
