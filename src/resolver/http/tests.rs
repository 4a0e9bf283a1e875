//! What the parser of HTTP answers takes and refuses, whatever the split.

use proptest::prelude::*;

use super::*;

/// Feeds the pieces one after the other; closes at the end if the response is not complete by then.
fn parse(pieces: &[&[u8]]) -> Result<Response, HttpError> {
    let mut parser = Parser::default();
    for piece in pieces {
        let (taken, response) = parser.feed(piece)?;
        if let Some(response) = response {
            return Ok(response);
        }
        assert_eq!(taken, piece.len(), "an incomplete response takes everything");
    }
    parser.close()
}

fn answer(body: &[u8], age_secs: u64, reuse: Reuse) -> Response {
    Response { status: 200, is_dns: true, age: Duration::from_secs(age_secs), body: body.to_vec(), reuse }
}

const TYPE: &str = "Content-Type: application/dns-message\r\n";

#[test]
fn a_get_carries_the_message_in_its_query() {
    // The example of RFC 8484 §4.1.1.
    let message = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
    let template = Template::new(DohMethod::Get, "relay.test", "/dns-query", "?dns=");
    let expected = "GET /dns-query?dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB HTTP/1.1\r\n\
                    Host: relay.test\r\nAccept: application/dns-message\r\n\r\n";
    assert_eq!(String::from_utf8(template.encode(message)).unwrap(), expected);
}

#[test]
fn a_post_carries_the_message_as_its_body() {
    let template = Template::new(DohMethod::Post, "relay.test", "/q", "?dns=");
    let expected = "POST /q HTTP/1.1\r\nHost: relay.test\r\nAccept: application/dns-message\r\n\
                    Content-Type: application/dns-message\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(String::from_utf8(template.encode(b"hello")).unwrap(), expected);
}

#[test]
fn bodies_end_by_length_by_chunks_or_by_close() {
    let cases = [
        ("HTTP/1.1 200 OK\r\n{T}Content-Length: 5\r\n\r\nhello", answer(b"hello", 0, Reuse::Keep)),
        ("HTTP/1.1 200\r\n{T}content-length:5\r\nAge: 7\r\n\r\nhello", answer(b"hello", 7, Reuse::Keep)),
        ("HTTP/1.1 200 OK\n{T}Content-Length: 5\n\nhello", answer(b"hello", 0, Reuse::Keep)),
        ("HTTP/1.1 200 OK\r\n{T}Content-Length: 0\r\n\r\n", answer(b"", 0, Reuse::Keep)),
        (
            "HTTP/1.1 200 OK\r\n{T}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            answer(b"x", 0, Reuse::Keep),
        ),
        (
            "HTTP/1.1 200 OK\r\n{T}Transfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n02;a=b\r\nlo\r\n0\r\nX: y\r\n\r\n",
            answer(b"hello", 0, Reuse::Keep),
        ),
        ("HTTP/1.1 200 OK\r\n{T}\r\nhello", answer(b"hello", 0, Reuse::Close)),
        (
            "HTTP/1.1 200 OK\r\n{T}Connection: x, Close\r\nContent-Length: 1\r\n\r\nx",
            answer(b"x", 0, Reuse::Close),
        ),
        ("HTTP/1.0 200 OK\r\n{T}Content-Length: 1\r\n\r\nx", answer(b"x", 0, Reuse::Close)),
        (
            "HTTP/1.0 200 OK\r\n{T}Connection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
            answer(b"x", 0, Reuse::Keep),
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n{T}Content-Length: 1\r\n\r\nx",
            answer(b"x", 0, Reuse::Keep),
        ),
        ("HTTP/1.1 200 OK\r\n{T}Age: old\r\nContent-Length: 1\r\n\r\nx", answer(b"x", 0, Reuse::Keep)),
    ];
    for (text, expected) in cases {
        let octets = text.replace("{T}", TYPE).into_bytes();
        assert_eq!(parse(&[&octets]), Ok(expected.clone()), "{text}");
        let single: Vec<&[u8]> = octets.chunks(1).collect();
        assert_eq!(parse(&single), Ok(expected), "octet by octet: {text}");
    }
}

#[test]
fn the_type_is_compared_without_its_parameters_and_case() {
    for (field, expected) in [
        ("Content-Type: Application/DNS-Message; x=y", true),
        ("content-type:\tapplication/dns-message ", true),
        ("Content-Type: application/dns-messages", false),
        ("Content-Type: text/html", false),
        ("X: application/dns-message", false),
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(parse(&[text.as_bytes()]).map(|response| response.is_dns), Ok(expected), "{field}");
    }
}

#[test]
fn what_is_no_answer_is_complete_with_its_head() {
    let cases = [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 100000\r\n\r\n", 404, Reuse::Close),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, Reuse::Keep),
        ("HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n", 500, Reuse::Close),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, Reuse::Close),
        ("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", 302, Reuse::Close),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", 200, Reuse::Close),
    ];
    for (text, status, reuse) in cases {
        let octets = [text.as_bytes(), b"<html>"].concat();
        let (taken, response) = Parser::default().feed(&octets).unwrap();
        assert_eq!(taken, text.len());
        let age = Duration::ZERO;
        assert_eq!(
            response,
            Some(Response { status, is_dns: false, age, body: Vec::new(), reuse }),
            "{text}"
        );
    }
}

#[test]
fn what_follows_a_response_is_left() {
    let text = format!("HTTP/1.1 200 OK\r\n{TYPE}Content-Length: 2\r\n\r\nxyz");
    let (taken, response) = Parser::default().feed(text.as_bytes()).unwrap();
    assert_eq!(taken, text.len() - 1);
    assert_eq!(response.map(|response| response.body), Some(b"xy".to_vec()));
}

#[test]
fn ambiguous_or_endless_responses_are_errors() {
    let long = "x".repeat(HTTP_HEAD_BYTES_MAX);
    let too_much = DNS_MESSAGE_BYTES_MAX + 1;
    let cases = [
        ("SSH-2.0-OpenSSH".to_owned(), HttpError::Head(httparse::Error::Version)),
        ("HTTP/2.0 200 OK\r\n\r\n".to_owned(), HttpError::Head(httparse::Error::Version)),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned(), HttpError::Head(httparse::Error::Version)),
        ("HTTP/1.1 x\r\n\r\n".to_owned(), HttpError::Head(httparse::Error::Status)),
        ("HTTP/1.1 101 Switch\r\n\r\n".to_owned(), HttpError::Status(101)),
        ("HTTP/1.1 200 OK\r\nA b\r\n\r\n".to_owned(), HttpError::Head(httparse::Error::HeaderName)),
        (format!("HTTP/1.1 200 OK\r\nA: {long}"), HttpError::HeadTooLong),
        (
            format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(100)),
            HttpError::Head(httparse::Error::TooManyHeaders),
        ),
        ("HTTP/1.1 200 OK\r\n".to_owned(), HttpError::Closed),
        (String::new(), HttpError::Closed),
        ("HTTP/1.1 200 OK\r\n{T}Content-Length: 5\r\n\r\nhell".to_owned(), HttpError::Closed),
        ("HTTP/1.1 200 OK\r\n{T}Content-Length: +5\r\n\r\n".to_owned(), HttpError::ContentLength),
        (
            "HTTP/1.1 200 OK\r\n{T}Content-Length: 99999999999999999999\r\n\r\n".to_owned(),
            HttpError::ContentLength,
        ),
        (
            "HTTP/1.1 200 OK\r\n{T}Content-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
            HttpError::ContentLength,
        ),
        (
            "HTTP/1.1 200 OK\r\n{T}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            HttpError::ContentLength,
        ),
        (
            "HTTP/1.1 200 OK\r\n{T}Transfer-Encoding: gzip, chunked\r\n\r\n".to_owned(),
            HttpError::TransferEncoding,
        ),
        (format!("HTTP/1.1 200 OK\r\n{{T}}Content-Length: {too_much}\r\n\r\n"), HttpError::BodyTooLong),
        (format!("HTTP/1.1 200 OK\r\n{{T}}\r\n{}", "x".repeat(too_much)), HttpError::BodyTooLong),
        (
            "HTTP/1.1 200 OK\r\n{T}Transfer-Encoding: chunked\r\n\r\n10000\r\n".to_owned(),
            HttpError::BodyTooLong,
        ),
        (
            "HTTP/1.1 200 OK\r\n{T}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n".to_owned(),
            HttpError::Chunk,
        ),
        ("HTTP/1.1 200 OK\r\n{T}Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n".to_owned(), HttpError::Chunk),
        ("HTTP/1.1 200 OK\r\n{T}Transfer-Encoding: chunked\r\n\r\n1\r\nx\n".to_owned(), HttpError::Chunk),
        (format!("HTTP/1.1 200 OK\r\n{{T}}Transfer-Encoding: chunked\r\n\r\n1;{long}"), HttpError::Chunk),
        (
            format!(
                "HTTP/1.1 200 OK\r\n{{T}}Transfer-Encoding: chunked\r\n\r\n0\r\n{}",
                "A: b\r\n".repeat(5000)
            ),
            HttpError::HeadTooLong,
        ),
        (
            // Chunks of one octet, each with an extension as long as it may be.
            format!(
                "HTTP/1.1 200 OK\r\n{{T}}Transfer-Encoding: chunked\r\n\r\n{}",
                format!("1;{}\r\nx\r\n", "e".repeat(250)).repeat(2000)
            ),
            HttpError::BodyTooLong,
        ),
    ];
    for (text, expected) in cases {
        let octets = text.replace("{T}", TYPE).into_bytes();
        let shown: String = text.chars().take(120).collect();
        assert_eq!(parse(&[&octets]), Err(expected), "{shown}");
        let single: Vec<&[u8]> = octets.chunks(1).collect();
        assert_eq!(parse(&single), Err(expected), "octet by octet: {shown}");
    }
}

#[test]
fn interim_responses_without_end_are_an_error() {
    let text = "HTTP/1.1 100 Continue\r\n\r\n".repeat(20_000);
    assert_eq!(parse(&[text.as_bytes()]), Err(HttpError::BodyTooLong));
}

#[test]
fn a_response_is_judged_by_status_then_type_then_message() {
    let question = Question {
        name: super::super::DomainName::parse(b"host.example").unwrap(),
        family: super::super::Family::V4,
        id: 0,
    };
    let mut message = question.encode();
    message[2] |= 0x80;
    message[3] |= 0x80;
    message[7] = 1;
    message.extend_from_slice(b"\xC0\x0C\0\x01\0\x01\0\0\0\x3C\0\x04\xC0\0\x02\x01");
    let response = |status, is_dns, age_secs, body: &[u8]| Response {
        status,
        is_dns,
        age: Duration::from_secs(age_secs),
        body: body.to_vec(),
        reuse: Reuse::Keep,
    };
    let reply = |ttl_secs| {
        let addresses = [std::net::IpAddr::from([192, 0, 2, 1])].into();
        Verdict::Reply(Reply::Addresses { addresses, ttl: Duration::from_secs(ttl_secs) })
    };
    let cases = [
        (response(200, true, 0, &message), reply(60)),
        (response(200, true, 20, &message), reply(40)),
        (response(200, true, 100, &message), reply(0)),
        (response(200, true, 0, b""), Verdict::Invalid(CheckError::TooShort)),
        (response(200, true, 0, &question.encode()), Verdict::Invalid(CheckError::NotAResponse)),
        (response(200, false, 0, &message), Verdict::NotDns),
        (response(404, true, 0, &message), Verdict::Refused),
        (response(429, false, 0, b""), Verdict::Refused),
        (response(204, true, 0, b""), Verdict::Failure),
        (response(301, false, 0, b""), Verdict::Failure),
        (response(500, true, 0, &message), Verdict::Failure),
        (response(999, true, 0, &message), Verdict::Failure),
    ];
    for (response, expected) in cases {
        assert_eq!(response.judge(&question), expected, "{response:?}");
    }
    message[3] |= 2;
    let failure = Verdict::Reply(Reply::ServerFailure { rcode: 2 });
    assert_eq!(response(200, true, 0, &message).judge(&question), failure);
}

/// Responses of every framing, some of them broken.
fn responses() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..300);
    let chunks = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..6);
    let noise = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    let whole = prop_oneof![
        body.clone().prop_map(|body| {
            let head = format!("HTTP/1.1 200 OK\r\n{TYPE}Content-Length: {}\r\n\r\n", body.len());
            [head.into_bytes(), body].concat()
        }),
        body.clone().prop_map(|body| [format!("HTTP/1.0 200 OK\r\n{TYPE}\r\n").into_bytes(), body].concat()),
        body.prop_map(|body| [b"HTTP/1.1 503 No\r\nContent-Length: 7\r\n\r\n".to_vec(), body].concat()),
        chunks.prop_map(|chunks| {
            let mut octets =
                format!("HTTP/1.1 200 OK\r\n{TYPE}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
            for chunk in chunks {
                octets.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                octets.extend(chunk);
                octets.extend(b"\r\n");
            }
            octets.extend(b"0\r\nTrailer: x\r\n\r\n");
            octets
        }),
    ];
    (whole, noise).prop_map(|(mut octets, noise)| {
        if let Some((at, value)) = noise {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        octets
    })
}

proptest! {
    /// Any split gives the same response, or an error both times.
    #[test]
    fn any_split_of_a_response_equals_the_whole(
        octets in responses(),
        sizes in prop::collection::vec(1_usize..80, 1..12),
    ) {
        let mut pieces: Vec<&[u8]> = Vec::new();
        let (mut rest, mut sizes) = (octets.as_slice(), sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        prop_assert_eq!(parse(&pieces).ok(), parse(&[&octets]).ok());
    }

    #[test]
    fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&[b"HTTP/1.1 200 OK\r\n", &octets]);
        let _ = parse(&[&octets]);
    }
}
