//! A request to the metrics endpoint, from bytes to what is wanted. Pure: no socket, no clock.

use std::str;

use crate::limits;
use crate::metrics::exposition::Format;

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What for.
    pub resource: Resource,
    /// With what.
    pub method: Method,
    /// How the answer's end can be told.
    pub version: Version,
}

/// What can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `/metrics`, in that form.
    Metrics(Format),
    /// `/healthz`.
    Health,
    /// `/readyz`.
    Ready,
}

/// How it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// With its content.
    Get,
    /// The head of the answer only.
    Head,
}

/// What the client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The end of the connection is the end of the answer.
    Http10,
    /// The content may come in chunks.
    Http11,
}

/// Why a request gets no answer but a status. The client is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not HTTP/1.0 or 1.1, or against its rules.
    #[error("malformed request")]
    Malformed,
    /// A head longer than [`limits::METRICS_HEAD_BYTES_MAX`], or with too many fields.
    #[error("the head of the request is too long")]
    TooLong,
    /// Neither GET nor HEAD.
    #[error("only GET and HEAD are served")]
    Method,
    /// No such path.
    #[error("there are /metrics, /healthz and /readyz")]
    NotFound,
}

impl RequestError {
    /// The status line's code and phrase (RFC 9110 §15, RFC 6585 §5).
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            Self::Malformed => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::Method => "405 Method Not Allowed",
            Self::TooLong => "431 Request Header Fields Too Large",
        }
    }
}

/// Reads the head of a request. `Ok(None)`: it is not complete.
///
/// # Errors
/// [`RequestError`]; more bytes would not help.
pub fn parse(bytes: &[u8]) -> Result<Option<Request>, RequestError> {
    // What is looked at does not depend on how the bytes arrived.
    let seen = bytes.get(..limits::METRICS_HEAD_BYTES_MAX).unwrap_or(bytes);
    let mut fields = [httparse::EMPTY_HEADER; limits::METRICS_FIELDS_COUNT_MAX];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(seen) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if seen.len() < limits::METRICS_HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(RequestError::TooLong);
        }
        Err(_) => return Err(RequestError::Malformed),
    }
    let version = match head.version {
        Some(0) => Version::Http10,
        Some(1) => Version::Http11,
        Some(_) | None => return Err(RequestError::Malformed),
    };
    let hosts = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host")).count();
    if hosts > 1 || version == Version::Http11 && hosts == 0 {
        return Err(RequestError::Malformed); // RFC 9112 §3.2.
    }
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some(_) | None => return Err(RequestError::Method),
    };
    let accept = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("accept"));
    let accept = accept.filter_map(|field| str::from_utf8(field.value).ok());
    let resource = match path(head.path.unwrap_or_default()) {
        "/metrics" => Resource::Metrics(preferred(accept)),
        "/healthz" => Resource::Health,
        "/readyz" => Resource::Ready,
        _ => return Err(RequestError::NotFound),
    };
    Ok(Some(Request { resource, method, version }))
}

/// The path of a target, which may be absolute (RFC 9112 §3.2.2), without its query.
fn path(target: &str) -> &str {
    let rest = match target.split_once("://") {
        Some(("http", rest)) => rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or("/"),
        Some(_) | None => target,
    };
    rest.split('?').next().unwrap_or(rest)
}

/// The form that the values of Accept prefer (RFC 9110 §12.5.1): OpenMetrics only where it is named, since
/// whoever takes anything knows the older one too.
fn preferred<'a>(accept: impl Iterator<Item = &'a str>) -> Format {
    let (mut openmetrics, mut text) = (0, 0);
    for range in accept.flat_map(|value| value.split(',')) {
        let mut parameters = range.split(';').map(str::trim);
        let media_type = parameters.next().unwrap_or_default().to_ascii_lowercase();
        let mut quality = QUALITY_MAX;
        let mut version = None;
        for (name, value) in parameters.filter_map(|parameter| parameter.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = quality_of(value.trim()),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        match (media_type.as_str(), version) {
            ("application/openmetrics-text", None | Some("1.0.0")) => openmetrics = quality.max(openmetrics),
            ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => text = quality.max(text),
            _ => {}
        }
    }
    if openmetrics > 0 && openmetrics >= text { Format::OpenMetrics } else { Format::Text }
}

const QUALITY_MAX: u32 = 1000;

/// A weight in thousandths: `0`, `0.5`, `0.125`, `1`. What is none counts as nothing.
fn quality_of(text: &str) -> u32 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = format!("{fraction:0<3}").parse::<u32>();
    match (whole, digits, thousandths) {
        ("0", true, Ok(thousandths)) => thousandths,
        ("1", true, Ok(0)) => QUALITY_MAX,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: &str = "Host: x\r\n";

    fn get(path: &str, fields: &str) -> Result<Option<Request>, RequestError> {
        parse(format!("GET {path} HTTP/1.1\r\n{HOST}{fields}\r\n").as_bytes())
    }

    fn resource(path: &str, fields: &str) -> Resource {
        get(path, fields).unwrap().unwrap().resource
    }

    #[test]
    fn paths_are_found_with_and_without_host_and_query() {
        for path in ["/metrics", "/metrics?name=x", "http://proxy:9108/metrics", "http://proxy/metrics?x"] {
            assert_eq!(resource(path, ""), Resource::Metrics(Format::Text), "{path}");
        }
        assert_eq!(resource("/healthz", ""), Resource::Health);
        assert_eq!(resource("/readyz", ""), Resource::Ready);
        for path in ["/", "/metrics/", "/Metrics", "http://proxy", "http://proxy?x", "ftp://x/metrics", "*"] {
            assert_eq!(get(path, ""), Err(RequestError::NotFound), "{path}");
        }
    }

    #[test]
    fn only_sound_requests_of_two_methods_are_served() {
        let head = parse(b"HEAD /metrics HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.method, head.version), (Method::Head, Version::Http10));
        let cases: [(&[u8], RequestError); 8] = [
            (b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", RequestError::Method),
            (b"get /metrics HTTP/1.1\r\nHost: x\r\n\r\n", RequestError::Method),
            (b"GET /metrics HTTP/1.1\r\n\r\n", RequestError::Malformed),
            (b"GET /metrics HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", RequestError::Malformed),
            (b"GET /metrics HTTP/2.0\r\nHost: x\r\n\r\n", RequestError::Malformed),
            (b"GET /metrics\r\n\r\n", RequestError::Malformed),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", RequestError::Malformed),
            (b"\x05\x01\x00", RequestError::Malformed),
        ];
        for (bytes, error) in cases {
            assert_eq!(parse(bytes), Err(error), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_head_has_a_longest_length_and_a_number_of_fields() {
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "y".repeat(limits::METRICS_HEAD_BYTES_MAX));
        let (short, rest) = long.as_bytes().split_at(limits::METRICS_HEAD_BYTES_MAX - 1);
        assert_eq!(parse(short), Ok(None));
        assert_eq!(parse(&[short, &rest[..1]].concat()), Err(RequestError::TooLong));
        let fields = |count| get("/metrics", &"A: b\r\n".repeat(count - 1));
        assert!(fields(limits::METRICS_FIELDS_COUNT_MAX).is_ok());
        assert_eq!(fields(limits::METRICS_FIELDS_COUNT_MAX + 1), Err(RequestError::TooLong));
    }

    #[test]
    fn the_form_is_what_accept_prefers() {
        let v2 = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
                  version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let v3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/\
                  openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                  text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let cases = [
            (v2, Format::OpenMetrics),
            (v3, Format::OpenMetrics),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
            ("application/openmetrics-text; version=\"1.0.0\"", Format::OpenMetrics),
            ("application/openmetrics-text; version=2.0.0", Format::Text),
            ("application/openmetrics-text; q=0", Format::Text),
            ("application/openmetrics-text; q=x", Format::Text),
            ("text/plain;q=0.9, application/openmetrics-text;q=0.8", Format::Text),
            ("text/*, application/openmetrics-text;q=0.999", Format::Text),
            ("*/*", Format::Text),
            ("text/html", Format::Text),
            ("", Format::Text),
        ];
        for (accept, format) in cases {
            let field = format!("Accept: {accept}\r\n");
            assert_eq!(resource("/metrics", &field), Resource::Metrics(format), "{accept}");
        }
        let two = "Accept: text/plain;q=0.1\r\naccept: application/openmetrics-text\r\n";
        assert_eq!(
            resource("/metrics", two),
            Resource::Metrics(Format::OpenMetrics),
            "two fields are one list"
        );
    }

    proptest! {
        #[test]
        fn a_complete_request_does_not_depend_on_what_follows(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            path in "/(metrics|readyz|healthz|other)",
            fields in proptest::collection::vec("[A-Za-z]{1,8}: [ -~]{0,20}\r\n", 0..8),
        ) {
            let head = format!("GET {path} HTTP/1.1\r\n{HOST}{}\r\n", fields.concat());
            let whole = parse(head.as_bytes());
            prop_assert_ne!(whole, Ok(None));
            prop_assert_eq!(parse(&[head.as_bytes(), &bytes].concat()), whole);
            for end in 0..head.len() {
                let part = parse(&head.as_bytes()[..end]);
                prop_assert!(part == Ok(None) || part == whole, "{:?}", part);
            }
        }

        #[test]
        fn any_bytes_are_a_request_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
