//! The HTTP mapping of DNS: requests that are encoded, responses that are parsed in pieces.

use socks5d::admin::http::request::{RequestError, Resource, parse as parse_request};
use socks5d::limits::{DNS_MESSAGE_BYTES_MAX, HTTP_HEAD_BYTES_MAX, METRICS_HEAD_BYTES_MAX};
use socks5d::resolver::exchange::Question;
use socks5d::resolver::http::{HttpError, MEDIA_TYPE, Parser, Response, Reuse, Template};
use socks5d::resolver::{DomainName, Family};
use socks5d::settings::{DohMethod, Settings, set};

use crate::Judged;
use crate::script::{Script, pieces};

/// Memory that a parser may take: a head and a body, each in a vector that has doubled, and a little.
const MEMORY_MAX: usize = 2 * (HTTP_HEAD_BYTES_MAX + DNS_MESSAGE_BYTES_MAX) + 8192;

/// A request made from relay, path and query as the settings take them is one request, with exactly the fields
/// that are meant, whatever an operator wrote.
pub fn request(octets: &[u8]) -> Judged {
    let mut script = Script::new(octets);
    let method = if script.octet() & 1 == 0 { DohMethod::Get } else { DohMethod::Post };
    let texts = [script.piece(), script.piece(), script.piece()].map(String::from_utf8_lossy);
    let message = script.rest();
    let mut settings = Settings::default();
    for (name, text) in ["doh-host", "doh-path", "doh-query"].into_iter().zip(&texts) {
        if !text.is_empty() && set(&mut settings, name, text).is_err() {
            return Judged::Refused;
        }
    }
    let template = Template::new(method, &settings.doh_host, &settings.doh_path, &settings.doh_query);
    let request = template.encode(message);

    let mut fields = [httparse::EMPTY_HEADER; 8];
    let mut parsed = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(head_bytes)) = parsed.parse(&request) else {
        panic!("{} is no request", request.escape_ascii());
    };
    let (expected_method, body, fields_count): (_, &[u8], _) = match method {
        DohMethod::Get => ("GET", &[], 2),
        DohMethod::Post => ("POST", message, 4),
    };
    assert_eq!(parsed.method, Some(expected_method));
    assert_eq!(request.get(head_bytes..), Some(body));
    let path = parsed.path.unwrap_or_default();
    assert!(path.starts_with('/') && path.starts_with(&*settings.doh_path), "{path}");
    assert!(path.bytes().all(|octet| octet.is_ascii_graphic()), "{path}");
    assert_eq!(parsed.headers.len(), fields_count, "{}", request.escape_ascii());
    let field = |name: &str| parsed.headers.iter().find(|field| field.name == name).map(|field| field.value);
    assert_eq!(field("Host"), Some(settings.doh_host.as_bytes()));
    assert_eq!(field("Accept"), Some(MEDIA_TYPE.as_bytes()));
    if method == DohMethod::Post {
        assert_eq!(field("Content-Length"), Some(body.len().to_string().as_bytes()));
    }
    Judged::Accepted
}

/// A request to the metrics endpoint says the same as soon as it says anything, whatever follows and however many
/// bytes of it are there; a complete head never waits for more.
pub fn metrics_request(octets: &[u8]) -> Judged {
    let whole = parse_request(octets);
    let lengths = (0..octets.len()).rev().take(64).chain((0..octets.len()).step_by(97));
    for length in lengths {
        let part = parse_request(&octets[..length]);
        assert!(part == Ok(None) || part == whole, "{part:?} of {length} octets, {whole:?} of all");
    }
    match whole {
        Ok(Some(request)) => {
            assert_eq!(parse_request(&[octets, b"\0 more"].concat()), whole);
            Judged::from(matches!(
                request.resource,
                Resource::Metrics(_) | Resource::Health | Resource::Ready
            ))
        }
        Ok(None) => {
            assert!(octets.len() < METRICS_HEAD_BYTES_MAX, "a head without end");
            Judged::Refused
        }
        Err(
            RequestError::Malformed | RequestError::TooLong | RequestError::Method | RequestError::NotFound,
        ) => Judged::Refused,
    }
}

/// A response in any pieces comes to the same as in one, within a bound of memory.
pub fn response(octets: &[u8]) -> Judged {
    let mut script = Script::new(octets);
    let cuts = script.piece();
    let octets = script.rest();
    let whole = parse([octets].into_iter());
    for cuts in [cuts, &[1]] {
        let split = parse(pieces(octets, cuts));
        assert_eq!(split, whole, "in pieces of {cuts:?}");
    }
    let Ok((taken, response)) = whole else { return Judged::Refused };
    assert!(taken <= octets.len(), "{taken} of {} octets taken", octets.len());
    check(&response);
    if response.reuse == Reuse::Keep {
        // Where the connection is kept, the end of this response does not depend on what follows.
        let followed = [octets.get(..taken).unwrap_or_default(), b"HTTP/1.1 500 \r\n\r\n"].concat();
        assert_eq!(parse([&*followed].into_iter()), Ok((taken, response)));
    }
    Judged::Accepted
}

/// Feeds pieces until there is a response; then the peer closes. Gives how many octets were taken.
fn parse<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<(usize, Response), HttpError> {
    let mut result = Err(HttpError::Closed);
    let cost = allocation_counter::measure(|| result = feed(pieces));
    assert!(cost.bytes_max <= MEMORY_MAX as u64, "{} octets of memory", cost.bytes_max);
    result
}

fn feed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<(usize, Response), HttpError> {
    let mut parser = Parser::default();
    let mut taken_in_all = 0;
    for piece in pieces {
        let (taken, response) = parser.feed(piece)?;
        taken_in_all += taken;
        match response {
            Some(response) => return Ok((taken_in_all, response)),
            None => assert_eq!(taken, piece.len(), "octets are left though there is no response yet"),
        }
    }
    assert_eq!(parser.is_untouched(), taken_in_all == 0);
    parser.close().map(|response| (taken_in_all, response))
}

fn check(response: &Response) {
    assert!((200..=999).contains(&response.status), "{}", response.status);
    assert!(response.body.len() <= DNS_MESSAGE_BYTES_MAX);
    let is_answer = response.status == 200 && response.is_dns;
    assert!(is_answer || response.body.is_empty(), "a body that is no answer was read");
    for family in [Family::V4, Family::V6] {
        let Ok(name) = DomainName::parse(b"www.example.org") else { return };
        let _ = response.judge(&Question { name, family, id: 0 });
    }
}
