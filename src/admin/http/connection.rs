//! One connection to the metrics endpoint: one request, one answer, and a close that loses neither.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;

use super::request::{self, Method, Request, RequestError, Version};
use crate::limits;
use crate::metrics::Metrics;
use crate::metrics::exposition::{Exposition, Format, Progress};

/// A connection, from accept to its end.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    pub(super) source: SocketAddr,
    /// Its place among all that ever were.
    pub(super) serial: u64,
    readable: bool,
    writable: bool,
    inbox: Vec<u8>,
    /// What is to be sent, of which so much was.
    outbox: Vec<u8>,
    sent: usize,
    stage: Stage,
    deadline: Instant,
}

#[derive(Debug)]
enum Stage {
    /// The request is not complete.
    Reading,
    /// The answer is on its way.
    Answering(Rest),
    /// Our side is closed; what the client still sends is thrown away, so that nothing resets the answer.
    Parting,
}

/// What of an answer is not in the outbox yet.
#[derive(Debug)]
enum Rest {
    Nothing,
    /// Metrics, once it is known which users are shown.
    Users {
        format: Format,
        framing: Framing,
        part: usize,
    },
    Metrics(Box<Exposition>, Framing),
}

/// How the client can tell where the content ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// RFC 9112 §7.1.
    Chunks,
    /// By the end of the connection.
    Close,
}

/// What a turn of a connection came to.
#[derive(Debug)]
pub(super) enum Turn {
    /// It waits, or wants another turn.
    GoesOn,
    /// This is asked.
    Asked(Request),
    /// This was no request to be served.
    Refused(RequestError),
    /// It has to be known which users are shown: those from that part of the directory on.
    Search(Format, usize),
    /// It is over.
    Over,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, source: SocketAddr, serial: u64, now: Instant) -> Self {
        Self {
            stream,
            source,
            serial,
            readable: true,
            writable: true,
            inbox: Vec::new(),
            outbox: Vec::new(),
            sent: 0,
            stage: Stage::Reading,
            deadline: now + limits::METRICS_REQUEST_TIME_MAX,
        }
    }

    /// Events are hints: reading and writing say what is true.
    pub(super) fn note_event(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    /// Whether a turn would do anything.
    pub(super) fn wants_turn(&self) -> bool {
        match self.stage {
            Stage::Reading | Stage::Parting => self.readable,
            Stage::Answering(_) => self.writable,
        }
    }

    /// When it is given up.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Has it not asked yet?
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.stage, Stage::Reading)
    }

    /// Has its answer been sent?
    pub(super) fn is_parting(&self) -> bool {
        matches!(self.stage, Stage::Parting)
    }

    /// The descriptor, for another use.
    pub(super) fn into_descriptor(self) -> OwnedFd {
        self.stream.into()
    }

    /// One turn: a bounded amount of reading, rendering and writing.
    pub(super) fn turn(&mut self, metrics: &Metrics, buffer: &mut [u8], now: Instant) -> Turn {
        match &mut self.stage {
            Stage::Reading => self.read(buffer),
            Stage::Answering(rest) => {
                if self.sent == self.outbox.len() {
                    self.outbox.clear();
                    self.sent = 0;
                    match rest {
                        Rest::Nothing => return self.part(now),
                        Rest::Users { format, part, .. } => return Turn::Search(*format, *part),
                        Rest::Metrics(exposition, framing) => {
                            let framing = *framing;
                            let mut text = String::new();
                            let progress =
                                exposition.render(metrics, &mut text, limits::METRICS_BYTES_PER_TURN);
                            put(&mut self.outbox, &text, framing, progress);
                            if progress == Progress::Finished {
                                self.stage = Stage::Answering(Rest::Nothing);
                            }
                        }
                    }
                }
                self.write()
            }
            Stage::Parting => self.discard(buffer),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Turn {
        match self.stream.read(buffer) {
            Ok(0) => return Turn::Over,
            Ok(count) => self.inbox.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) => return self.after(&error),
        }
        match request::parse(&self.inbox) {
            Ok(None) => Turn::GoesOn,
            Ok(Some(request)) => Turn::Asked(request),
            Err(error) => Turn::Refused(error),
        }
    }

    fn discard(&mut self, buffer: &mut [u8]) -> Turn {
        match self.stream.read(buffer) {
            Ok(0) => Turn::Over,
            Ok(_) => Turn::GoesOn,
            Err(error) => self.after(&error),
        }
    }

    fn write(&mut self) -> Turn {
        match self.stream.write(self.outbox.get(self.sent..).unwrap_or_default()) {
            Ok(count) => {
                self.sent += count;
                Turn::GoesOn
            }
            Err(error) => self.after(&error),
        }
    }

    /// What an error means: to wait, or that the connection is over.
    fn after(&mut self, error: &io::Error) -> Turn {
        match (error.kind(), &self.stage) {
            (io::ErrorKind::Interrupted, _) => {}
            (io::ErrorKind::WouldBlock, Stage::Reading | Stage::Parting) => self.readable = false,
            (io::ErrorKind::WouldBlock, Stage::Answering(_)) => self.writable = false,
            _ => return Turn::Over,
        }
        Turn::GoesOn
    }

    /// Closes our side: everything is sent.
    fn part(&mut self, now: Instant) -> Turn {
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return Turn::Over;
        }
        self.stage = Stage::Parting;
        self.readable = true;
        self.deadline = now + limits::CLOSING_LINGER;
        Turn::GoesOn
    }
}

// ---- answers -------------------------------------------------------------------------------------------

impl Connection {
    /// Answers with a short text.
    pub(super) fn answer(&mut self, status: &str, content: &str, method: Method, now: Instant) {
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let mut head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{allow}{FIELDS}\r\n",
            content.len()
        );
        if method == Method::Get {
            head.push_str(content);
        }
        self.begin(head, Rest::Nothing, now);
    }

    /// Answers with all metrics, which are rendered turn by turn.
    pub(super) fn answer_metrics(&mut self, format: Format, request: &Request, now: Instant) {
        let framing = match request.version {
            Version::Http11 => Framing::Chunks,
            Version::Http10 => Framing::Close,
        };
        let coding = match framing {
            Framing::Chunks => "Transfer-Encoding: chunked\r\n",
            Framing::Close => "",
        };
        let mut head = String::from("HTTP/1.1 200 OK\r\n");
        // Writing to a string cannot fail.
        let _ = write!(head, "Content-Type: {}\r\n{coding}{FIELDS}\r\n", format.content_type());
        let rest = match request.method {
            Method::Get => Rest::Users { format, framing, part: 0 },
            Method::Head => Rest::Nothing,
        };
        self.begin(head, rest, now);
    }

    fn begin(&mut self, head: String, rest: Rest, now: Instant) {
        self.inbox = Vec::new();
        self.outbox = head.into_bytes();
        self.sent = 0;
        self.stage = Stage::Answering(rest);
        self.deadline = now + limits::METRICS_ANSWER_TIME_MAX;
    }

    /// The search for users goes on at that part.
    pub(super) fn search_from(&mut self, next: usize) {
        if let Stage::Answering(Rest::Users { part, .. }) = &mut self.stage {
            *part = next;
        }
    }

    /// The search is over: what is to be rendered.
    pub(super) fn render(&mut self, exposition: Exposition) {
        if let Stage::Answering(Rest::Users { framing, .. }) = self.stage {
            self.stage = Stage::Answering(Rest::Metrics(Box::new(exposition), framing));
        }
    }
}

/// Fields of every answer.
const FIELDS: &str = "Cache-Control: no-store\r\nConnection: close\r\n";

/// Puts a piece of the content into the outbox.
fn put(outbox: &mut Vec<u8>, text: &str, framing: Framing, progress: Progress) {
    match framing {
        Framing::Close => outbox.extend_from_slice(text.as_bytes()),
        Framing::Chunks => {
            if !text.is_empty() {
                outbox.extend_from_slice(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes());
            }
            if progress == Progress::Finished {
                outbox.extend_from_slice(b"0\r\n\r\n");
            }
        }
    }
}
