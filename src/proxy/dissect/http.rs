//! HTTP/1.0 and 1.1: the Basic scheme (RFC 7617) of the first requests of a connection, once the response to
//! each is a success. The same credentials are told once a connection.
//!
//! Requests and responses are matched in their order, so pipelining needs nothing else. A response that is
//! longer than what is looked at ends the watch with its head: a download costs its first read.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::messages::{Body, Event, Messages};
use super::{Credentials, Dissector, End, Way};
use crate::limits;

/// Padding is often forgotten.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Longest method that is taken for one; the registered ones have at most 17 letters.
const METHOD_BYTES_MAX: usize = 24;

#[derive(Debug, Default)]
pub(super) struct Http {
    requests: Messages,
    responses: Messages,
    /// Some first line was a request's.
    is_recognised: bool,
    /// The request whose head is at work.
    request: Request,
    /// The status of the response whose head is at work.
    status: u16,
    /// Requests that wait for their response.
    waiting: VecDeque<Request>,
    /// How many requests there were.
    requests_count: usize,
    /// Why no more requests are read. Those that wait may still be answered.
    requests_end: Option<End>,
    /// What was told last.
    told: Option<Credentials>,
}

/// What a request's response has to be seen with.
#[derive(Debug, Default)]
struct Request {
    kind: Kind,
    /// An `Authorization` field was seen.
    is_authorized: bool,
    credentials: Option<Credentials>,
}

/// Methods whose responses have a form of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Usual,
    /// HEAD: no body, whatever the head says.
    Head,
    /// CONNECT: a success makes the connection a tunnel.
    Connect,
}

impl Dissector for Http {
    fn see(&mut self, way: Way, bytes: &[u8], found: &mut Vec<Credentials>) -> Result<(), End> {
        match way {
            Way::Up => {
                if let Err(end) = self.read_requests(bytes) {
                    self.requests_end = Some(self.recognised(end));
                }
            }
            Way::Down => self.read_responses(bytes, found).map_err(|end| self.recognised(end))?,
        }
        match self.requests_end {
            Some(end) if self.waiting.iter().all(|request| request.credentials.is_none()) => Err(end),
            Some(_) | None => Ok(()),
        }
    }

    fn wants(&self, way: Way) -> bool {
        match way {
            Way::Up => self.requests_end.is_none(),
            Way::Down => true,
        }
    }
}

impl Http {
    /// What breaks the rules before it was recognised is another protocol.
    fn recognised(&self, end: End) -> End {
        if self.is_recognised { end } else { End::NotMine }
    }

    fn read_requests(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        while let Some(event) = self.requests.next(&mut bytes)? {
            match event {
                Event::Start => {
                    let kind = read_request_line(self.requests.line())?;
                    self.request = Request { kind, ..Request::default() };
                    self.is_recognised = true;
                }
                Event::Field => self.read_request_field()?,
                Event::Head => {
                    self.waiting.push_back(std::mem::take(&mut self.request));
                    self.requests_count += 1;
                    if self.requests_count >= limits::DISSECTED_REQUESTS_MAX {
                        return Err(End::Limit);
                    }
                    let body = self.requests.body()?;
                    self.requests.step_over(body)?;
                }
            }
        }
        // Another protocol is told by the little that it has sent.
        let is_possible = self.is_recognised || may_become_request(self.requests.line());
        if is_possible { Ok(()) } else { Err(End::NotMine) }
    }

    fn read_request_field(&mut self) -> Result<(), End> {
        let (name, value) = self.requests.field();
        if !name.eq_ignore_ascii_case(b"authorization") {
            return Ok(());
        }
        if self.requests.is_cut() {
            return Err(End::Limit);
        }
        let credentials = read_basic(value);
        if std::mem::replace(&mut self.request.is_authorized, true) {
            return Err(End::Malformed); // Which of them the origin takes is anybody's guess.
        }
        self.request.credentials = credentials;
        Ok(())
    }

    fn read_responses(&mut self, mut bytes: &[u8], found: &mut Vec<Credentials>) -> Result<(), End> {
        loop {
            // A response to nothing: the origin speaks first, or gives up waiting.
            if !bytes.is_empty() && self.waiting.is_empty() && self.responses.is_between() {
                return Err(End::Malformed);
            }
            match self.responses.next(&mut bytes)? {
                Some(Event::Start) => self.status = read_status_line(self.responses.line())?,
                Some(Event::Field) => {}
                Some(Event::Head) => self.end_response_head(found)?,
                None => return Ok(()),
            }
        }
    }

    fn end_response_head(&mut self, found: &mut Vec<Credentials>) -> Result<(), End> {
        let is_interim = self.status < 200 && self.status != 101;
        if is_interim {
            return self.responses.step_over(Body::Unsaid);
        }
        let request = self.waiting.pop_front().ok_or(End::Malformed)?;
        let is_success = (200..300).contains(&self.status);
        if is_success
            && let Some(credentials) = request.credentials
            && self.told.as_ref() != Some(&credentials)
        {
            self.told = Some(credentials.clone());
            found.push(credentials);
        }
        if self.status == 101 || is_success && request.kind == Kind::Connect {
            return Err(End::Switched);
        }
        if request.kind == Kind::Head || matches!(self.status, 204 | 304) {
            return self.responses.step_over(Body::Unsaid);
        }
        match self.responses.body()? {
            Body::Unsaid => Err(End::Done), // It ends with the connection.
            body @ (Body::Bytes(_) | Body::Chunked) => self.responses.step_over(body),
        }
    }
}

/// Shape: `METHOD SP TARGET SP HTTP/1.x` (RFC 9112 §3).
fn read_request_line(line: &[u8]) -> Result<Kind, End> {
    let mut words = line.split(|octet| *octet == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(End::Malformed);
    };
    let is_target = !target.is_empty() && target.iter().all(|octet| *octet > b' ' && *octet != 0x7f);
    if !is_method(method) || !is_target || !matches!(version, b"HTTP/1.0" | b"HTTP/1.1") {
        return Err(End::Malformed);
    }
    Ok(match method {
        b"HEAD" => Kind::Head,
        b"CONNECT" => Kind::Connect,
        _ => Kind::Usual,
    })
}

fn is_method(text: &[u8]) -> bool {
    let is_letter = |octet: &u8| octet.is_ascii_uppercase() || *octet == b'-' || *octet == b'_';
    (1..=METHOD_BYTES_MAX).contains(&text.len()) && text.iter().all(is_letter)
}

/// Whether a line that has come in part can be the first of a request.
fn may_become_request(line: &[u8]) -> bool {
    match line.split(|octet| *octet == b' ').next() {
        None | Some([] | b"\r") => line.len() <= 1,
        Some(method) => is_method(method),
    }
}

/// Shape: `HTTP/1.x SP STATUS`, and a reason after one more space (RFC 9112 §4).
fn read_status_line(line: &[u8]) -> Result<u16, End> {
    let (version, rest) = line.split_at_checked(8).ok_or(End::Malformed)?;
    let (status, reason) = rest.split_at_checked(4).ok_or(End::Malformed)?;
    let [b' ', digits @ ..] = status else { return Err(End::Malformed) };
    let is_status = digits.iter().all(u8::is_ascii_digit) && matches!(reason.first(), None | Some(b' '));
    if !matches!(version, b"HTTP/1.0" | b"HTTP/1.1") || !is_status {
        return Err(End::Malformed);
    }
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    if (100..600).contains(&status) { Ok(status) } else { Err(End::Malformed) }
}

/// Shape: `Basic`, spaces, base64 of `USER:PASSWORD` (RFC 7617 §2). Other schemes hold nothing in clear.
fn read_basic(value: &[u8]) -> Option<Credentials> {
    let (scheme, rest) = value.split_at_checked(5)?;
    if !scheme.eq_ignore_ascii_case(b"basic") || !rest.starts_with(b" ") {
        return None;
    }
    let pair = BASE64.decode(rest.trim_ascii()).ok()?;
    let colon = pair.iter().position(|octet| *octet == b':')?;
    Credentials::new(pair.get(..colon)?, pair.get(colon + 1..)?)
}
