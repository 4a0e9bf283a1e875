//! One direction of HTTP/1 (RFC 9112): finds the lines of each head and steps over each body. Knows nothing
//! about what the heads mean, beyond how long the body after them is.

use super::End;
use crate::limits;

/// What was reached; [`Messages::line`] is the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The first line of a message.
    Start,
    /// A field that does not tell the body's length.
    Field,
    /// The end of a head: say what body follows by [`Messages::step_over`].
    Head,
}

/// How the body after a head ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// The head does not say.
    Unsaid,
    /// After so many bytes.
    Bytes(u64),
    /// With its last chunk.
    Chunked,
}

#[derive(Debug)]
pub(super) struct Messages {
    state: State,
    /// The line at work, without its end.
    line: Vec<u8>,
    /// The line is longer than what is kept of it.
    is_cut: bool,
    /// It was given out, so the next byte begins another.
    is_complete: bool,
    /// Bytes that may still be looked at.
    left: u64,
    length: Option<u64>,
    is_chunked: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Fields,
    /// That many bytes of a body.
    Bytes(u64),
    ChunkSize,
    /// That many bytes of a chunk.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    Trailers,
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            state: State::Start,
            line: Vec::new(),
            is_cut: false,
            is_complete: false,
            left: limits::DISSECTED_HTTP_BYTES_MAX,
            length: None,
            is_chunked: false,
        }
    }
}

impl Messages {
    /// The line of the last event, or what has come of the next one.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Name and value of a field's line.
    pub(super) fn field(&self) -> (&[u8], &[u8]) {
        let at = self.line.iter().position(|octet| *octet == b':').unwrap_or(self.line.len());
        let (name, value) = self.line.split_at(at);
        (name, value.get(1..).unwrap_or_default().trim_ascii())
    }

    /// The field at hand is longer than what is kept of it.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// No message has begun since the last one ended.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Start && (self.line.is_empty() || self.is_complete)
    }

    /// Takes bytes up to the next event; `None` when more are needed.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Event>, End> {
        loop {
            match self.state {
                State::Bytes(count) => match self.skip(count, bytes)? {
                    0 => self.state = State::Start,
                    rest => {
                        self.state = State::Bytes(rest);
                        return Ok(None);
                    }
                },
                State::Chunk(count) => match self.skip(count, bytes)? {
                    0 => self.state = State::ChunkEnd,
                    rest => {
                        self.state = State::Chunk(rest);
                        return Ok(None);
                    }
                },
                State::Start | State::Fields | State::ChunkSize | State::ChunkEnd | State::Trailers => {
                    if !self.take_line(bytes)? {
                        return Ok(None);
                    }
                    if let Some(event) = self.read_line()? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// What the head that has just ended says about its body.
    pub(super) fn body(&self) -> Result<Body, End> {
        match (self.is_chunked, self.length) {
            (true, Some(_)) => Err(End::Malformed), // RFC 9112 §6.3: somebody smuggles.
            (true, None) => Ok(Body::Chunked),
            (false, Some(bytes)) => Ok(Body::Bytes(bytes)),
            (false, None) => Ok(Body::Unsaid),
        }
    }

    /// Steps over that body; `Unsaid` has none. One that is longer than what is looked at is not begun.
    pub(super) fn step_over(&mut self, body: Body) -> Result<(), End> {
        (self.length, self.is_chunked) = (None, false);
        self.state = match body {
            Body::Unsaid | Body::Bytes(0) => State::Start,
            Body::Bytes(count) if count >= self.left => return Err(End::Limit),
            Body::Bytes(count) => State::Bytes(count),
            Body::Chunked => State::ChunkSize,
        };
        Ok(())
    }

    /// Makes sense of a line that is complete; `None` where it is of interest to nobody else.
    fn read_line(&mut self) -> Result<Option<Event>, End> {
        match self.state {
            // Empty lines before a message are allowed (RFC 9112 §2.2).
            State::Start if self.line.is_empty() => Ok(None),
            State::Start if self.is_cut => Err(End::Limit),
            State::Start => {
                self.state = State::Fields;
                Ok(Some(Event::Start))
            }
            State::Fields if self.line.is_empty() => Ok(Some(Event::Head)),
            State::Fields => self.read_field(),
            State::ChunkSize => {
                self.state = match chunk_size(&self.line)? {
                    0 => State::Trailers,
                    count if count >= self.left => return Err(End::Limit),
                    count => State::Chunk(count),
                };
                Ok(None)
            }
            State::ChunkEnd if !self.line.is_empty() => Err(End::Malformed),
            State::ChunkEnd => {
                self.state = State::ChunkSize;
                Ok(None)
            }
            State::Trailers => {
                if self.line.is_empty() {
                    self.state = State::Start;
                }
                Ok(None)
            }
            State::Bytes(_) | State::Chunk(_) => Ok(None), // These have no lines.
        }
    }

    /// Keeps what tells the body's length; the rest is for the caller.
    fn read_field(&mut self) -> Result<Option<Event>, End> {
        let (name, value) = self.field();
        if name.len() == self.line.len() && !self.is_cut || name.is_empty() || !name.iter().all(is_token) {
            return Err(End::Malformed);
        }
        let is_length = name.eq_ignore_ascii_case(b"content-length");
        let is_coding = name.eq_ignore_ascii_case(b"transfer-encoding");
        if !is_length && !is_coding {
            return Ok(Some(Event::Field));
        }
        if self.is_cut {
            return Err(End::Limit);
        }
        if is_length {
            let length = number(value, 10).ok_or(End::Malformed)?;
            if self.length.is_some_and(|before| before != length) {
                return Err(End::Malformed);
            }
            self.length = Some(length);
        } else {
            let last = value.rsplit(|octet| *octet == b',').next().unwrap_or_default().trim_ascii();
            if !last.eq_ignore_ascii_case(b"chunked") {
                return Err(End::Malformed);
            }
            self.is_chunked = true;
        }
        Ok(None)
    }

    /// Takes bytes up to the end of a line; `false` when it has not come. What is too long is cut.
    fn take_line(&mut self, bytes: &mut &[u8]) -> Result<bool, End> {
        if std::mem::take(&mut self.is_complete) {
            self.line.clear();
            self.is_cut = false;
        }
        let seen = self.within_limit(bytes)?;
        let end = seen.iter().position(|octet| *octet == b'\n');
        let part = end.and_then(|end| seen.get(..end)).unwrap_or(seen);
        let room = limits::DISSECTED_LINE_BYTES_MAX.saturating_sub(self.line.len());
        self.is_cut |= part.len() > room;
        self.line.extend_from_slice(part.get(..room).unwrap_or(part));
        self.take(bytes, end.map_or(seen.len(), |end| end + 1));
        if end.is_some() {
            self.is_complete = true;
            if self.line.last() == Some(&b'\r') {
                self.line.pop();
            }
        }
        Ok(end.is_some())
    }

    /// Steps over `count` bytes or as many as there are; gives what is left of them.
    fn skip(&mut self, count: u64, bytes: &mut &[u8]) -> Result<u64, End> {
        let seen = self.within_limit(bytes)?.len();
        let skipped = usize::try_from(count).map_or(seen, |count| count.min(seen));
        self.take(bytes, skipped);
        Ok(count - skipped as u64)
    }

    /// Those of the bytes that may be looked at.
    fn within_limit<'a>(&self, bytes: &&'a [u8]) -> Result<&'a [u8], End> {
        if self.left == 0 && !bytes.is_empty() {
            return Err(End::Limit);
        }
        Ok(usize::try_from(self.left).ok().and_then(|left| bytes.get(..left)).unwrap_or(bytes))
    }

    fn take(&mut self, bytes: &mut &[u8], count: usize) {
        *bytes = bytes.get(count..).unwrap_or_default();
        self.left = self.left.saturating_sub(count as u64);
    }
}

/// Characters of names and methods (RFC 9110 §5.6.2).
pub(super) fn is_token(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet)
}

/// The size that a chunk's first line gives (RFC 9112 §7.1); extensions are of no interest.
fn chunk_size(line: &[u8]) -> Result<u64, End> {
    let size = line.split(|octet| *octet == b';').next().unwrap_or_default();
    number(size.trim_ascii(), 16).ok_or(End::Malformed)
}

/// A number of at most 15 digits and nothing else.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    if text.is_empty() || text.len() > 15 {
        return None;
    }
    text.iter().try_fold(0, |number: u64, octet| {
        let digit = char::from(*octet).to_digit(radix)?;
        Some(number * u64::from(radix) + u64::from(digit))
    })
}
