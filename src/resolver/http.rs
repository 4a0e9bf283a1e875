//! The HTTP mapping of RFC 8484 as far as bytes go: requests are encoded, responses parsed in any pieces. Pure.
//!
//! The relay is a peer like any other: each part of a response has a bound, ambiguous framing is an error
//! rather than a guess (RFC 9112 §6.3), and the body of a response that is not an answer is never read.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::exchange::{self, CheckError, Question, Reply};
use crate::limits::{
    DNS_MESSAGE_BYTES_MAX, HTTP_ANSWER_BYTES_MAX, HTTP_CHUNK_LINE_BYTES_MAX, HTTP_FIELDS_COUNT_MAX,
    HTTP_HEAD_BYTES_MAX,
};
use crate::settings::DohMethod;

/// The media type of DNS messages (RFC 8484 §6).
pub const MEDIA_TYPE: &str = "application/dns-message";

/// What is the same in every request to one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    method: DohMethod,
    before_message: String,
    after_message: String,
}

impl Template {
    /// A template for requests. `host`, `path` and `query` come from the settings, which refuse what would
    /// break a head; `query` stands in a GET only.
    #[must_use]
    pub fn new(method: DohMethod, host: &str, path: &str, query: &str) -> Self {
        let (before_message, after_message) = match method {
            DohMethod::Get => (
                format!("GET {path}{query}"),
                format!(" HTTP/1.1\r\nHost: {host}\r\nAccept: {MEDIA_TYPE}\r\n\r\n"),
            ),
            DohMethod::Post => (
                format!(
                    "POST {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {MEDIA_TYPE}\r\n\
                     Content-Type: {MEDIA_TYPE}\r\nContent-Length: "
                ),
                "\r\n\r\n".to_owned(),
            ),
        };
        Self { method, before_message, after_message }
    }

    /// The request that carries `message`: in the query as unpadded base64url, or as the body.
    #[must_use]
    pub fn encode(&self, message: &[u8]) -> Vec<u8> {
        let (middle, body) = match self.method {
            DohMethod::Get => (URL_SAFE_NO_PAD.encode(message), &[][..]),
            DohMethod::Post => (message.len().to_string(), message),
        };
        [self.before_message.as_bytes(), middle.as_bytes(), self.after_message.as_bytes(), body].concat()
    }
}

/// A response, complete as far as it is of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The final status code, never 1xx.
    pub status: u16,
    /// Whether Content-Type is [`MEDIA_TYPE`].
    pub is_dns: bool,
    /// How long the answer has been in caches on the way (RFC 9111 §5.1, RFC 8484 §5.1).
    pub age: Duration,
    /// The body of a 200 of the right type, at most [`DNS_MESSAGE_BYTES_MAX`]; empty otherwise.
    pub body: Vec<u8>,
    /// Whether the connection can carry another exchange.
    pub reuse: Reuse,
}

/// What becomes of a connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It may be kept.
    Keep,
    /// It has to be closed: asked for, or the rest of the response was not read.
    Close,
}

/// What a response means for the question it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is an answer; its TTL is already less the time spent in caches.
    Reply(Reply),
    /// It carries a DNS message that does not answer the question.
    Invalid(CheckError),
    /// The relay refuses the request (4xx): it works, and others need not be asked.
    Refused,
    /// The relay fails: 5xx, or a status that is neither answer nor refusal.
    Failure,
    /// A 200 of another type: not a DNS relay.
    NotDns,
}

impl Response {
    /// Judges the response to `question`.
    #[must_use]
    pub fn judge(&self, question: &Question) -> Verdict {
        match self.status {
            200 if self.is_dns => match exchange::check(question, &self.body) {
                Ok(Reply::Addresses { addresses, ttl }) => {
                    Verdict::Reply(Reply::Addresses { addresses, ttl: ttl.saturating_sub(self.age) })
                }
                Ok(Reply::NotFound { ttl }) => {
                    Verdict::Reply(Reply::NotFound { ttl: ttl.saturating_sub(self.age) })
                }
                Ok(reply @ Reply::ServerFailure { .. }) => Verdict::Reply(reply),
                Err(error) => Verdict::Invalid(error),
            },
            200 => Verdict::NotDns,
            400..=499 => Verdict::Refused,
            _ => Verdict::Failure,
        }
    }
}

/// Why octets are no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The head is not HTTP/1.x.
    #[error("not an HTTP/1.x head: {0}")]
    Head(httparse::Error),
    /// The head ended in the middle of a field.
    #[error("incomplete head")]
    HeadIncomplete,
    /// The head is longer than [`HTTP_HEAD_BYTES_MAX`].
    #[error("head of more than {HTTP_HEAD_BYTES_MAX} octets")]
    HeadTooLong,
    /// A status that cannot stand here: 101, or not three digits from 1xx to 9xx.
    #[error("status {0}")]
    Status(u16),
    /// Content-Length is no number, has several values or stands beside Transfer-Encoding.
    #[error("bad Content-Length")]
    ContentLength,
    /// A transfer coding other than `chunked`.
    #[error("unknown Transfer-Encoding")]
    TransferEncoding,
    /// A chunk's length line or end is malformed or too long.
    #[error("malformed chunk")]
    Chunk,
    /// A body longer than a DNS message, or framing without end.
    #[error("body of more than {DNS_MESSAGE_BYTES_MAX} octets")]
    BodyTooLong,
    /// The connection was closed before the response was complete.
    #[error("closed before the response was complete")]
    Closed,
}

/// How the body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// What the next octet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    /// That many octets of content are left.
    Content(usize),
    ChunkLine,
    ChunkContent(usize),
    /// The line end behind a chunk's content.
    ChunkEnd,
    Trailer,
    UntilClose,
    Complete,
}

/// What the head of a final response said.
#[derive(Clone, Debug)]
struct Head {
    status: u16,
    is_dns: bool,
    age: Duration,
    reuse: Reuse,
    framing: Framing,
}

/// Parses one response, fed in any pieces.
#[derive(Debug)]
pub struct Parser {
    part: Part,
    /// The head, or the line of a chunk or trailer, as far as it has come.
    line: Vec<u8>,
    /// Where in `line` the last line of the head begins.
    head_line_at: usize,
    head: Option<Head>,
    body: Vec<u8>,
    wire_bytes: usize,
    trailer_bytes: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            part: Part::Head,
            line: Vec::new(),
            head_line_at: 0,
            head: None,
            body: Vec::new(),
            wire_bytes: 0,
            trailer_bytes: 0,
        }
    }
}

impl Parser {
    /// Takes octets until the response is complete; says how many it took, and the response when it is.
    /// After a response or an error the parser has done its work.
    pub fn feed(&mut self, octets: &[u8]) -> Result<(usize, Option<Response>), HttpError> {
        let mut rest = octets;
        while self.part != Part::Complete && !rest.is_empty() {
            let taken = self.step(rest)?;
            self.wire_bytes += taken;
            if self.wire_bytes > HTTP_ANSWER_BYTES_MAX {
                return Err(HttpError::BodyTooLong);
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
        let response = if self.part == Part::Complete { self.complete() } else { None };
        Ok((octets.len() - rest.len(), response))
    }

    /// The peer closed its side: the end of a response without length, an error for any other.
    pub fn close(mut self) -> Result<Response, HttpError> {
        match self.part {
            Part::UntilClose | Part::Complete => self.complete().ok_or(HttpError::Closed),
            Part::Head
            | Part::Content(_)
            | Part::ChunkLine
            | Part::ChunkContent(_)
            | Part::ChunkEnd
            | Part::Trailer => Err(HttpError::Closed),
        }
    }

    /// Whether nothing has come yet.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.wire_bytes == 0
    }

    fn complete(&mut self) -> Option<Response> {
        let head = self.head.take()?;
        Some(Response {
            status: head.status,
            is_dns: head.is_dns,
            age: head.age,
            body: std::mem::take(&mut self.body),
            reuse: head.reuse,
        })
    }

    /// Takes what belongs to the present part, at least one octet of a piece that has any.
    fn step(&mut self, octets: &[u8]) -> Result<usize, HttpError> {
        match self.part {
            Part::Head => self.step_head(octets),
            Part::Content(left) => {
                let taken = self.take_content(octets, left)?;
                self.part = if taken == left { Part::Complete } else { Part::Content(left - taken) };
                Ok(taken)
            }
            Part::ChunkLine => self.step_chunk_line(octets),
            Part::ChunkContent(left) => {
                let taken = self.take_content(octets, left)?;
                self.part = if taken == left { Part::ChunkEnd } else { Part::ChunkContent(left - taken) };
                Ok(taken)
            }
            Part::ChunkEnd => {
                let taken = self.take_line(octets, 2, HttpError::Chunk)?;
                if self.line == b"\r\n" {
                    self.line.clear();
                    self.part = Part::ChunkLine;
                } else if self.line != b"\r" {
                    return Err(HttpError::Chunk);
                }
                Ok(taken)
            }
            Part::Trailer => self.step_trailer(octets),
            Part::UntilClose => self.take_content(octets, usize::MAX),
            Part::Complete => Ok(0),
        }
    }

    fn take_content(&mut self, octets: &[u8], left: usize) -> Result<usize, HttpError> {
        let piece = octets.get(..left).unwrap_or(octets);
        if self.body.len() + piece.len() > DNS_MESSAGE_BYTES_MAX {
            return Err(HttpError::BodyTooLong);
        }
        self.body.extend_from_slice(piece);
        Ok(piece.len())
    }

    /// Moves octets to the line up to and with the next line feed. `error` if the line grows over `bytes_max`.
    fn take_line(&mut self, octets: &[u8], bytes_max: usize, error: HttpError) -> Result<usize, HttpError> {
        let end = octets.iter().position(|&octet| octet == b'\n').map_or(octets.len(), |at| at + 1);
        if self.line.len() + end > bytes_max {
            return Err(error);
        }
        self.line.extend_from_slice(octets.get(..end).unwrap_or(octets));
        Ok(end)
    }

    /// The head is gathered line by line and parsed once, so that a slow peer costs no repeated parsing.
    fn step_head(&mut self, octets: &[u8]) -> Result<usize, HttpError> {
        let taken = self.take_line(octets, HTTP_HEAD_BYTES_MAX, HttpError::HeadTooLong)?;
        let start = b"HTTP/1.";
        if self.line.iter().zip(start).any(|(got, expected)| got != expected) {
            return Err(HttpError::Head(httparse::Error::Version));
        }
        if !self.line.ends_with(b"\n") {
            return Ok(taken);
        }
        if !matches!(self.line.get(self.head_line_at..), Some(b"\r\n" | b"\n")) {
            self.head_line_at = self.line.len();
            return Ok(taken);
        }
        let head = Head::parse(&self.line)?;
        self.line.clear();
        self.head_line_at = 0;
        if let Some(head) = head {
            self.part = head.first_part();
            if let Part::Content(length) = self.part {
                self.body.reserve_exact(length);
            }
            self.head = Some(head);
        }
        Ok(taken)
    }

    fn step_chunk_line(&mut self, octets: &[u8]) -> Result<usize, HttpError> {
        let taken = self.take_line(octets, HTTP_CHUNK_LINE_BYTES_MAX, HttpError::Chunk)?;
        if !self.line.ends_with(b"\n") {
            return Ok(taken);
        }
        let size = match httparse::parse_chunk_size(&self.line) {
            Ok(httparse::Status::Complete((_, size))) => size,
            Ok(httparse::Status::Partial) | Err(httparse::InvalidChunkSize) => return Err(HttpError::Chunk),
        };
        let size = usize::try_from(size).map_err(|_| HttpError::BodyTooLong)?;
        if size > DNS_MESSAGE_BYTES_MAX - self.body.len() {
            return Err(HttpError::BodyTooLong);
        }
        self.line.clear();
        self.part = if size == 0 { Part::Trailer } else { Part::ChunkContent(size) };
        Ok(taken)
    }

    /// Trailer fields mean nothing here; they are skipped up to the empty line.
    fn step_trailer(&mut self, octets: &[u8]) -> Result<usize, HttpError> {
        let taken = self.take_line(octets, HTTP_HEAD_BYTES_MAX, HttpError::HeadTooLong)?;
        self.trailer_bytes += taken;
        if self.trailer_bytes > HTTP_HEAD_BYTES_MAX {
            return Err(HttpError::HeadTooLong);
        }
        if self.line.ends_with(b"\n") {
            if matches!(self.line.as_slice(), b"\r\n" | b"\n") {
                self.part = Part::Complete;
            }
            self.line.clear();
        }
        Ok(taken)
    }
}

impl Head {
    /// Parses a complete head. `None`: an interim response, after which the final one follows (RFC 9110 §15.2).
    fn parse(octets: &[u8]) -> Result<Option<Self>, HttpError> {
        let mut fields = [httparse::EMPTY_HEADER; HTTP_FIELDS_COUNT_MAX];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(octets) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(HttpError::HeadIncomplete),
            Err(error) => return Err(HttpError::Head(error)),
        }
        let status = response.code.ok_or(HttpError::HeadIncomplete)?;
        match status {
            101 | 0..=99 => return Err(HttpError::Status(status)),
            100 | 102..=199 => return Ok(None),
            _ => {}
        }
        let version_keeps = response.version == Some(1);
        let fields = Fields::read(response.headers)?;
        let is_answer = status == 200 && fields.is_dns;
        // The body of anything but an answer is not waited for, so its connection cannot go on.
        let framing = if is_answer { fields.framing()? } else { fields.framing_unread() };
        let keeps = !fields.close && (version_keeps || fields.keep_alive);
        let reuse = if keeps && framing != Framing::UntilClose { Reuse::Keep } else { Reuse::Close };
        let age = Duration::from_secs(fields.age_secs);
        Ok(Some(Self { status, is_dns: fields.is_dns, age, reuse, framing }))
    }

    fn first_part(&self) -> Part {
        if self.status != 200 || !self.is_dns {
            return Part::Complete;
        }
        match self.framing {
            Framing::Length(0) => Part::Complete,
            Framing::Length(length) => Part::Content(length),
            Framing::Chunked => Part::ChunkLine,
            Framing::UntilClose => Part::UntilClose,
        }
    }
}

/// The fields that matter.
#[derive(Default)]
struct Fields {
    is_dns: bool,
    age_secs: u64,
    close: bool,
    keep_alive: bool,
    chunked: bool,
    content_length: Option<u64>,
}

impl Fields {
    fn read(headers: &[httparse::Header<'_>]) -> Result<Self, HttpError> {
        let mut fields = Self::default();
        for header in headers {
            let value = header.value.trim_ascii();
            if header.name.eq_ignore_ascii_case("content-type") {
                let media_type = value.split(|&octet| octet == b';').next().unwrap_or_default();
                fields.is_dns = media_type.trim_ascii().eq_ignore_ascii_case(MEDIA_TYPE.as_bytes());
            } else if header.name.eq_ignore_ascii_case("age") {
                // A value that is no number says nothing (RFC 9111 §5.1).
                fields.age_secs = decimal(value).unwrap_or(0);
            } else if header.name.eq_ignore_ascii_case("connection") {
                for option in value.split(|&octet| octet == b',').map(<[u8]>::trim_ascii) {
                    fields.close |= option.eq_ignore_ascii_case(b"close");
                    fields.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                if fields.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HttpError::TransferEncoding);
                }
                fields.chunked = true;
            } else if header.name.eq_ignore_ascii_case("content-length") {
                let length = decimal(value).ok_or(HttpError::ContentLength)?;
                if fields.content_length.is_some_and(|earlier| earlier != length) {
                    return Err(HttpError::ContentLength);
                }
                fields.content_length = Some(length);
            }
        }
        Ok(fields)
    }

    /// How the body of an answer ends.
    fn framing(&self) -> Result<Framing, HttpError> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(HttpError::ContentLength),
            (true, None) => Ok(Framing::Chunked),
            (false, None) => Ok(Framing::UntilClose),
            (false, Some(length)) => match usize::try_from(length) {
                Ok(length) if length <= DNS_MESSAGE_BYTES_MAX => Ok(Framing::Length(length)),
                Ok(_) | Err(_) => Err(HttpError::BodyTooLong),
            },
        }
    }

    /// The framing of a body that is not read: only one that is surely empty leaves the connection usable.
    fn framing_unread(&self) -> Framing {
        if self.content_length == Some(0) && !self.chunked { Framing::Length(0) } else { Framing::UntilClose }
    }
}

/// Digits only: no sign, no blanks, no overflow.
fn decimal(octets: &[u8]) -> Option<u64> {
    if octets.is_empty() {
        return None;
    }
    octets.iter().try_fold(0_u64, |value, octet| {
        let digit = octet.is_ascii_digit().then(|| u64::from(octet - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests;
