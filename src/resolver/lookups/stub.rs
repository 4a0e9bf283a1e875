//! Servers for the tests of the resolver: threads on loopback that do what a script says, question by question.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What a DNS message says in answer to a question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Say {
    /// The address 192.0.2.N, or 2001:db8::N where AAAA is asked, for that many seconds.
    Address(u8, u32),
    /// An RCODE and no records.
    Rcode(u8),
    /// Nothing but TC.
    Truncated,
    /// An address, with another id.
    OtherId,
    /// An address, for another name.
    OtherName,
}

/// What a server does with the next question.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Answers; in HTTP with 200 and a length, keeping the connection.
    Say(Say),
    /// HTTP: answers with these octets, `{T}` standing for the right media type, then waits.
    Raw(String),
    /// Closes the connection without a word.
    Close,
    /// Says nothing, and does not close.
    Silence,
}

/// A server's script: what it does next, what it does when that is used up, and what it saw.
#[derive(Debug)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    default: Mutex<Step>,
    seen: Mutex<Vec<String>>,
    connections: AtomicUsize,
    stop: AtomicBool,
}

impl Script {
    fn new(default: Step) -> Arc<Self> {
        Arc::new(Self {
            steps: Mutex::default(),
            default: Mutex::new(default),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        })
    }

    fn next(&self, seen: String) -> Step {
        self.seen.lock().unwrap().push(seen);
        let step = self.steps.lock().unwrap().pop_front();
        step.unwrap_or_else(|| self.default.lock().unwrap().clone())
    }
}

/// A scripted server, relay or plain; its threads end with it.
#[derive(Debug)]
pub(super) struct Stub {
    pub(super) address: SocketAddr,
    script: Arc<Script>,
}

impl Stub {
    /// A DoH relay.
    pub(super) fn relay(default: Step) -> Self {
        Self::relay_at("127.0.0.1:0".parse().unwrap(), default)
    }

    /// A DoH relay at an address, perhaps one where another was before.
    pub(super) fn relay_at(address: SocketAddr, default: Step) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let stub = Self { address: listener.local_addr().unwrap(), script: Script::new(default) };
        let script = Arc::clone(&stub.script);
        std::thread::spawn(move || accept(&listener, &script, serve_http));
        stub
    }

    /// A plain server: UDP and TCP on the same port.
    pub(super) fn plain(default: Step) -> Self {
        let (socket, listener) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()) {
                break (socket, listener);
            }
        };
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let stub = Self { address: socket.local_addr().unwrap(), script: Script::new(default) };
        let script = Arc::clone(&stub.script);
        std::thread::spawn(move || accept(&listener, &script, serve_tcp));
        let script = Arc::clone(&stub.script);
        std::thread::spawn(move || serve_udp(&socket, &script));
        stub
    }

    /// What is done with the next questions, before the default.
    pub(super) fn then(&self, steps: impl IntoIterator<Item = Step>) {
        self.script.steps.lock().unwrap().extend(steps);
    }

    /// What is done when the steps are used up.
    pub(super) fn otherwise(&self, default: Step) {
        *self.script.default.lock().unwrap() = default;
    }

    /// Each question seen: `GET name`, `POST name`, `UDP name`, `TCP name`.
    pub(super) fn seen(&self) -> Vec<String> {
        self.script.seen.lock().unwrap().clone()
    }

    /// TCP connections accepted so far.
    pub(super) fn connections(&self) -> usize {
        self.script.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.script.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, script: &Arc<Script>, serve: fn(TcpStream, &Script)) {
    while let Ok((stream, _)) = listener.accept() {
        if script.stop.load(Ordering::SeqCst) {
            return;
        }
        script.connections.fetch_add(1, Ordering::SeqCst);
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let script = Arc::clone(script);
        std::thread::spawn(move || serve(stream, &script));
    }
}

fn serve_http(mut stream: TcpStream, script: &Script) {
    let mut buffer = Vec::new();
    while let Some((method, message)) = read_request(&mut stream, &mut buffer) {
        let response = match script.next(format!("{method} {}", name_of(&message))) {
            Step::Say(say) => {
                let body = answer(&message, say);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                [head.into_bytes(), body].concat()
            }
            Step::Raw(text) => text.replace("{T}", "Content-Type: application/dns-message").into_bytes(),
            Step::Close => return,
            Step::Silence => continue,
        };
        if stream.write_all(&response).is_err() {
            return;
        }
    }
}

/// Reads one request; gives its method and the DNS message it carries.
fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            assert!(head.contains("\r\nHost: relay.test\r\n"), "{head}");
            assert!(head.contains("\r\nAccept: application/dns-message"), "{head}");
            let (method, target) = head.split_once(' ').unwrap();
            let length = head.split_once("Content-Length: ").map_or(0, |(_, rest)| rest.parse().unwrap());
            if buffer.len() >= end + 4 + length {
                let body = buffer[end + 4..end + 4 + length].to_vec();
                let message = if method == "GET" {
                    let query = target.strip_prefix("/dns-query?dns=").unwrap();
                    URL_SAFE_NO_PAD.decode(query.split(' ').next().unwrap()).unwrap()
                } else {
                    body
                };
                let method = method.to_owned();
                buffer.drain(..end + 4 + length);
                return Some((method, message));
            }
        }
        match stream.read(&mut piece) {
            Ok(bytes) if bytes > 0 => buffer.extend_from_slice(&piece[..bytes]),
            _ => return None,
        }
    }
}

fn serve_udp(socket: &UdpSocket, script: &Script) {
    let mut buffer = [0; 4096];
    while !script.stop.load(Ordering::SeqCst) {
        let Ok((bytes, peer)) = socket.recv_from(&mut buffer) else { continue };
        let message = &buffer[..bytes];
        match script.next(format!("UDP {}", name_of(message))) {
            Step::Say(say) => drop(socket.send_to(&answer(message, say), peer)),
            // One datagram for each line, each an answer with the wrong id; a line `right` is the right one.
            Step::Raw(lines) => {
                for line in lines.lines() {
                    let say = if line == "right" { Say::Address(9, 60) } else { Say::OtherId };
                    socket.send_to(&answer(message, say), peer).unwrap();
                }
            }
            Step::Close | Step::Silence => {}
        }
    }
}

fn serve_tcp(mut stream: TcpStream, script: &Script) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut message).unwrap();
        match script.next(format!("TCP {}", name_of(&message))) {
            Step::Say(say) => {
                let answer = answer(&message, say);
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                // In two pieces, as it may come.
                stream.write_all(&length[..1]).unwrap();
                stream.write_all(&[&length[1..], &answer].concat()).unwrap();
            }
            Step::Raw(_) | Step::Close => return,
            Step::Silence => {}
        }
    }
}

fn name_of(message: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut at = 12;
    while message[at] != 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8(message[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    labels.join(".")
}

fn answer(question: &[u8], say: Say) -> Vec<u8> {
    let is_v6 = question[question.len() - 3] == 28;
    let mut message = question.to_vec();
    message[2] |= 0x80;
    message[3] = 0x80;
    let (last, ttl_secs) = match say {
        Say::Address(last, ttl_secs) => (last, ttl_secs),
        Say::Rcode(rcode) => {
            message[3] |= rcode;
            return message;
        }
        Say::Truncated => {
            message[2] |= 0x02;
            return message;
        }
        Say::OtherId => {
            message[1] ^= 0x55;
            (1, 60)
        }
        Say::OtherName => {
            message[13] ^= 0x01;
            (1, 60)
        }
    };
    message[7] = 1;
    message.extend_from_slice(&[0xC0, 12, 0, if is_v6 { 28 } else { 1 }, 0, 1]);
    message.extend_from_slice(&ttl_secs.to_be_bytes());
    if is_v6 {
        message.extend_from_slice(&[0, 16, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    } else {
        message.extend_from_slice(&[0, 4, 192, 0, 2, last]);
    }
    message
}
