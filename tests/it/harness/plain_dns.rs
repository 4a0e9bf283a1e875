//! A server of plain DNS (UDP and TCP on one port) that knows a few names and counts what it is asked.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::dns_wire::{A, AAAA, NAME_ERROR, Question, Response};
use super::waiting::LIMIT;

/// How a plain server treats questions that come by UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers.
    Answers,
    /// Answers over UDP that it does not fit, and in full over TCP (RFC 1035 §4.2.1, RFC 7766).
    Truncates,
    /// Says nothing.
    Silent,
    /// Sends a forged answer with a wrong id, one about another name, and then the right one.
    ForgedFirst,
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct PlainDns {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    manner: Manner,
    names: HashMap<String, Vec<IpAddr>>,
    stopped: AtomicBool,
    udp_count: AtomicUsize,
    tcp_count: AtomicUsize,
    asked: Mutex<Vec<(SocketAddr, u16, String)>>,
}

impl PlainDns {
    /// A server that knows these names; all others do not exist.
    pub(crate) fn start(manner: Manner, names: &[(&str, &[IpAddr])]) -> Self {
        let (udp, tcp) = one_port();
        let address = tcp.local_addr().expect("a bound listener");
        let names = names.iter().map(|(name, ips)| ((*name).to_owned(), ips.to_vec())).collect();
        let shared = Arc::new(Shared {
            manner,
            names,
            stopped: AtomicBool::new(false),
            udp_count: AtomicUsize::new(0),
            tcp_count: AtomicUsize::new(0),
            asked: Mutex::new(Vec::new()),
        });
        udp.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
        let (for_udp, for_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        std::thread::spawn(move || for_udp.serve_udp(&udp));
        std::thread::spawn(move || for_tcp.serve_tcp(&tcp));
        Self { address, shared }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Questions so far, by any transport.
    pub(crate) fn asked_count(&self) -> usize {
        self.shared.udp_count.load(Ordering::Acquire) + self.shared.tcp_count.load(Ordering::Acquire)
    }

    /// Questions so far by TCP.
    pub(crate) fn asked_by_tcp_count(&self) -> usize {
        self.shared.tcp_count.load(Ordering::Acquire)
    }

    /// Who asked by UDP: source, id and name of each question.
    pub(crate) fn asked(&self) -> Vec<(SocketAddr, u16, String)> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A port that is free for UDP and TCP.
fn one_port() -> (UdpSocket, TcpListener) {
    let attempt = || {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let udp = UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
        Some((udp, tcp))
    };
    (0..100).find_map(|_| attempt()).expect("a port that is free for both")
}

impl Drop for PlainDns {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1))); // Wakes the accepting thread.
    }
}

impl Shared {
    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 1500];
        while !self.stopped.load(Ordering::Acquire) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            let Some(question) = Question::parse(&buffer[..length]) else { continue };
            self.udp_count.fetch_add(1, Ordering::AcqRel);
            let asked = (from, question.id, question.name.clone());
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            for message in self.answer_udp(&question) {
                drop(socket.send_to(&message, from)); // Who asked may be gone.
            }
        }
    }

    fn answer_udp(&self, question: &Question) -> Vec<Vec<u8>> {
        let right = self.answer(question);
        match self.manner {
            Manner::Answers => vec![right.encode()],
            Manner::Truncates => vec![Response::to(question).truncated().encode()],
            Manner::Silent => Vec::new(),
            Manner::ForgedFirst => {
                let elsewhere = IpAddr::from([127, 66, 66, 66]);
                let forged = Response::to(question).address(elsewhere, 60);
                let other_id = forged.clone().id(question.id ^ 0x5555);
                vec![other_id.encode(), forged.about("other.test").encode(), right.encode()]
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            if self.stopped.load(Ordering::Acquire) {
                return;
            }
            drop(self.serve_stream(stream)); // A client that breaks off is not this server's failure.
        }
    }

    fn serve_stream(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(LIMIT))?;
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message)?;
            self.tcp_count.fetch_add(1, Ordering::AcqRel);
            let Some(question) = Question::parse(&message) else { return Ok(()) };
            let answer = self.answer(&question).encode();
            let length = u16::try_from(answer.len()).expect("a message fits its length field");
            stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())?;
        }
        Ok(())
    }

    fn answer(&self, question: &Question) -> Response {
        let Some(ips) = self.names.get(&question.name) else {
            return Response::to(question).code(NAME_ERROR).start_of_authority(60);
        };
        let of_kind = |ip: &&IpAddr| if ip.is_ipv4() { question.kind == A } else { question.kind == AAAA };
        ips.iter().filter(of_kind).fold(Response::to(question), |response, ip| response.address(*ip, 300))
    }
}
