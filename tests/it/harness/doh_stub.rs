//! A DoH relay that behaves as badly as a test wants, and otherwise answers one known name.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::dns_wire::{A, AAAA, CNAME, NAME_ERROR, Question, Response, encode_name};
use super::origin::{Origin, V4};
use super::waiting::{LIMIT, pause};

/// The name that the stub answers with the address it was given, unless its mood is another.
pub(crate) const NAME: &str = "stub.test";

/// What the stub does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers as it should, and keeps the connection.
    Honest,
    /// A right answer, a byte at a time, over about a second.
    Slow,
    /// Reads and says nothing.
    Silent,
    /// A web page, as a captive portal sends it.
    WrongType,
    /// A status with an empty body.
    Status(u16),
    /// A body shorter than its Content-Length, then the end.
    Truncated,
    /// A right answer in chunks of a few bytes.
    Chunked,
    /// Chunk sizes that are no numbers.
    ChunkedWrong,
    /// A body without length that ends with the connection (RFC 9112 §6.3).
    UntilClose,
    /// Closes after the question without a word.
    ClosesEarly,
    /// Resets in the middle of the head.
    ResetsInHead,
    /// Something that is not HTTP.
    NotHttp,
    /// A head that never ends.
    EndlessHead,
    /// A negative Content-Length.
    WrongLength,
    /// An empty body with status 200.
    EmptyBody,
    /// Random bytes of the right type.
    RandomBody,
    /// An owner name that points at itself.
    CompressionLoop,
    /// CNAMEs that point at each other.
    CnameLoop,
    /// Sixteen mebibytes of records, and a count that says 65,535.
    MillionRecords,
    /// A count of answers that are not there.
    CountsTooMuch,
    /// As many addresses as a message can hold; that is not wrong.
    ManyAddresses,
    /// An answer to another question.
    WrongQuestion,
    /// The question itself, sent back.
    Question,
    /// An address record that is too short for an address.
    ShortAddress,
    /// An RCODE.
    Code(u8),
}

/// A running stub.
#[derive(Debug)]
pub(crate) struct DohStub {
    origin: Origin,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mood: Mutex<Mood>,
    answer: IpAddr,
    ttl: u32,
    age: Option<u32>,
    questions: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
}

/// A question as it came over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// When.
    pub(crate) at: Instant,
    /// `GET` or `POST`.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Every field line of the head.
    pub(crate) head: String,
    /// Transaction id of the message.
    pub(crate) id: u16,
    /// The name asked for.
    pub(crate) name: String,
    /// A or AAAA.
    pub(crate) kind: u16,
}

impl DohStub {
    /// A stub in this mood, that knows [`NAME`] at `answer`.
    pub(crate) fn start(mood: Mood, answer: IpAddr) -> Self {
        Self::with_lifetime(mood, answer, 300, None)
    }

    /// A stub whose answers live for `ttl` seconds, less `age` where given.
    pub(crate) fn with_lifetime(mood: Mood, answer: IpAddr, ttl: u32, age: Option<u32>) -> Self {
        let shared = Arc::new(Shared {
            mood: Mutex::new(mood),
            answer,
            ttl,
            age,
            questions: Mutex::new(Vec::new()),
            connections: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        let origin = Origin::serve(V4, move |stream| {
            serving.connections.fetch_add(1, Ordering::AcqRel);
            drop(serving.serve(stream)); // The daemon may break off whenever it likes.
        });
        Self { origin, shared }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    /// Changes what it does from the next question on.
    pub(crate) fn change_mood(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// Questions so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections so far.
    pub(crate) fn connections_count(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut unread = Vec::new();
        loop {
            let Some((head, body)) = read_request(&mut stream, &mut unread)? else { return Ok(()) };
            let Some(question) = self.note(&head, &body) else {
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            };
            let mood = *self.mood.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.answer(mood, &question, &mut stream)? {
                return Ok(());
            }
        }
    }

    /// Reads the DNS message out of the request and keeps what is known of it.
    fn note(&self, head: &str, body: &[u8]) -> Option<Question> {
        let mut words = head.split_ascii_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let message = match method.as_str() {
            "GET" => URL_SAFE_NO_PAD.decode(target.rsplit_once('=')?.1).ok()?,
            "POST" => body.to_vec(),
            _ => return None,
        };
        let question = Question::parse(&message)?;
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).push(Asked {
            at: Instant::now(),
            method,
            target,
            head: head.to_owned(),
            id: question.id,
            name: question.name.clone(),
            kind: question.kind,
        });
        Some(question)
    }

    /// Answers; false when the connection is over.
    fn answer(&self, mood: Mood, question: &Question, stream: &mut TcpStream) -> std::io::Result<bool> {
        let honest = self.honest(question);
        match mood {
            Mood::Honest => stream.write_all(&self.http(&honest.encode()))?,
            Mood::Slow => {
                for byte in self.http(&honest.encode()).chunks(1) {
                    stream.write_all(byte)?;
                    pause(Duration::from_millis(5));
                }
            }
            Mood::Silent => {
                pause(LIMIT / 2);
                return Ok(false);
            }
            Mood::WrongType => {
                let page = "<html>Pay</html>";
                let length = page.len();
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n");
                stream.write_all(&[head.as_bytes(), page.as_bytes()].concat())?;
            }
            Mood::Status(code) => {
                stream
                    .write_all(format!("HTTP/1.1 {code} Status\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
            }
            Mood::Chunked => stream.write_all(&chunked(&honest.encode(), |size| format!("{size:x}")))?,
            Mood::ChunkedWrong => stream.write_all(&chunked(&honest.encode(), |_| "zz".to_owned()))?,
            Mood::MillionRecords => return self.million_records(question, stream).map(|()| false),
            Mood::EndlessHead => return endless_head(stream).map(|()| false),
            Mood::Truncated | Mood::UntilClose | Mood::ClosesEarly | Mood::ResetsInHead | Mood::NotHttp => {
                return self.break_off(mood, &honest, stream).map(|()| false);
            }
            Mood::WrongLength => {
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\nContent-Length: -1\r\n\r\n",
                )?;
            }
            Mood::EmptyBody => stream.write_all(&self.http(b""))?,
            Mood::RandomBody => {
                stream.write_all(&self.http(&super::pattern(u64::from(question.kind), 300)))?
            }
            Mood::CompressionLoop
            | Mood::CnameLoop
            | Mood::CountsTooMuch
            | Mood::ManyAddresses
            | Mood::WrongQuestion
            | Mood::Question
            | Mood::ShortAddress
            | Mood::Code(_) => stream.write_all(&self.http(&self.message(mood, question, &honest)))?,
        }
        Ok(true)
    }

    fn honest(&self, question: &Question) -> Response {
        let response = Response::to(question);
        if question.name != NAME {
            return response.code(NAME_ERROR).start_of_authority(60);
        }
        let kind = if self.answer.is_ipv4() { A } else { AAAA };
        if question.kind == kind {
            response.address(self.answer, self.ttl)
        } else {
            response.start_of_authority(60)
        }
    }

    /// Moods whose HTTP is right and whose DNS message is not, or is unusual.
    fn message(&self, mood: Mood, question: &Question, honest: &Response) -> Vec<u8> {
        let empty = Response::to(question);
        match mood {
            // The owner stands right after the question and points at its own first octet.
            Mood::CompressionLoop => {
                let at = u16::try_from(empty.encode().len()).expect("a short message") | 0xc000;
                empty.record(&at.to_be_bytes(), A, 60, &[127, 0, 0, 1]).encode()
            }
            Mood::CnameLoop => empty
                .record(&encode_name(NAME), CNAME, 60, &encode_name("other.test"))
                .record(&encode_name("other.test"), CNAME, 60, &encode_name(NAME))
                .encode(),
            Mood::CountsTooMuch => honest.clone().claim_answers(u16::MAX).encode(),
            Mood::ManyAddresses if question.kind == A => {
                let responses = (0..4000_u16).fold(empty, |response, number| {
                    let [high, low] = number.to_be_bytes();
                    // The right one comes first; the others are addresses where nobody listens.
                    let ip = if number == 0 { self.answer } else { IpAddr::from([127, 77, high, low]) };
                    response.address(ip, 60)
                });
                responses.encode()
            }
            Mood::WrongQuestion => {
                Response::to(question).about("other.test").address(self.answer, 60).encode()
            }
            Mood::Question => {
                let mut message = empty.encode();
                message[2] &= 0x7f; // QR: a query.
                message
            }
            Mood::ShortAddress => empty.record(&[0xc0, 12], question.kind, 60, &[127, 0]).encode(),
            Mood::Code(code) => empty.code(code).start_of_authority(60).encode(),
            _ => honest.encode(),
        }
    }

    /// Moods that end the connection.
    fn break_off(&self, mood: Mood, honest: &Response, stream: &mut TcpStream) -> std::io::Result<()> {
        let whole = self.http(&honest.encode());
        match mood {
            Mood::Truncated => stream.write_all(&whole[..whole.len() - 7]),
            Mood::UntilClose => {
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\nConnection: close\r\n\r\n",
                )?;
                stream.write_all(&honest.encode())
            }
            Mood::NotHttp => stream.write_all(b"220 mail.test ESMTP ready\r\n"),
            Mood::ResetsInHead => {
                stream.write_all(b"HTTP/1.1 200 O")?;
                socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))
            }
            _ => Ok(()),
        }
    }

    fn million_records(&self, question: &Question, stream: &mut TcpStream) -> std::io::Result<()> {
        let record = Response::to(question).address(self.answer, 60).encode();
        let record = &record[Response::to(question).encode().len()..];
        let records = record.repeat(1024);
        let start = Response::to(question).claim_answers(u16::MAX).encode();
        let length = start.len() + 1024 * records.len();
        stream.write_all(&head(length, None))?;
        stream.write_all(&start)?;
        (0..1024).try_for_each(|_| stream.write_all(&records))
    }

    fn http(&self, body: &[u8]) -> Vec<u8> {
        [head(body.len(), self.age).as_slice(), body].concat()
    }
}

fn head(length: usize, age: Option<u32>) -> Vec<u8> {
    let age = age.map_or_else(String::new, |age| format!("Age: {age}\r\n"));
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n{age}Content-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

fn chunked(body: &[u8], size: impl Fn(usize) -> String) -> Vec<u8> {
    let mut bytes =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for chunk in body.chunks(5) {
        bytes.extend(format!("{};why=not\r\n", size(chunk.len())).as_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\nTrailer: yes\r\n\r\n");
    bytes
}

fn endless_head(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
    let line = format!("X-Filler: {}\r\n", "x".repeat(1000));
    (0..100_000).try_for_each(|_| stream.write_all(line.as_bytes()))
}

/// Reads one request: its head as text and its body. `None` at the end of the connection.
fn read_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let head_length = loop {
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if !read_more(stream, unread)? {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&unread[..head_length]).into_owned();
    let lower = head.to_ascii_lowercase();
    let length =
        lower.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    while unread.len() < head_length + length {
        if !read_more(stream, unread)? {
            return Ok(None);
        }
    }
    let body = unread[head_length..head_length + length].to_vec();
    unread.drain(..head_length + length);
    Ok(Some((head, body)))
}

fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut buffer = [0; 4096];
    let length = stream.read(&mut buffer)?;
    bytes.extend_from_slice(&buffer[..length]);
    Ok(length > 0)
}
