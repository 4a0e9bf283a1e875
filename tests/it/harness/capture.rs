//! Datagrams between one client and the daemon, passed on by the test and kept as a capture file, which programs
//! of others read. It takes no privileges, and misses nothing.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// How often the threads look whether the capture is over.
const LOOK: Duration = Duration::from_millis(20);

/// The first octets of a capture file: magic number for microseconds, version 2.4, offset and accuracy of time,
/// octets kept of a packet, and LINKTYPE_RAW: packets begin with their IP header.
const FILE_HEADER: [u32; 6] = [0xa1b2_c3d4, 2 << 16 | 4, 0, 0, 65_535, 101];

/// Octets of an IPv4 header without options (RFC 791), and of a UDP header (RFC 768).
const IP_HEADER_BYTES: u16 = 20;
const UDP_HEADER_BYTES: u16 = 8;

/// What goes by between the one client that uses its port and a server.
#[derive(Debug)]
pub(crate) struct Capture {
    port: u16,
    datagrams: Arc<Mutex<Vec<Datagram>>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// One datagram as it went by.
#[derive(Clone, Debug)]
struct Datagram {
    at: Duration,
    from: SocketAddrV4,
    to: SocketAddrV4,
    octets: Vec<u8>,
}

impl Capture {
    /// Passes datagrams on to that server, which is reached by IPv4.
    pub(crate) fn of(server: SocketAddr) -> Self {
        let SocketAddr::V4(server) = server else { panic!("{server} is no address of IPv4") };
        let front = socket();
        let back = socket();
        back.connect(server).expect("loopback has every port");
        let port = front.local_addr().expect("a bound socket").port();
        let datagrams: Arc<Mutex<Vec<Datagram>>> = Arc::default();
        let over = Arc::new(AtomicBool::new(false));
        let client: Arc<Mutex<Option<SocketAddrV4>>> = Arc::default();
        let up = {
            let (front, back) = (clone(&front), clone(&back));
            let (datagrams, over, client) = (Arc::clone(&datagrams), Arc::clone(&over), Arc::clone(&client));
            std::thread::spawn(move || {
                receive_until(&over, &front, |from, octets| {
                    let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
                    assert_eq!(*client.get_or_insert(from), from, "one client");
                    drop(client);
                    keep(&datagrams, from, server, octets);
                    back.send(octets)
                });
            })
        };
        let down = {
            let (datagrams, over) = (Arc::clone(&datagrams), Arc::clone(&over));
            std::thread::spawn(move || {
                receive_until(&over, &back, |_, octets| {
                    let client = *client.lock().unwrap_or_else(PoisonError::into_inner);
                    let client = client.expect("the server answers");
                    keep(&datagrams, server, client, octets);
                    front.send_to(octets, client)
                });
            })
        };
        Self { port, datagrams, over, threads: vec![up, down] }
    }

    /// The UDP port that the client has to use in place of the server's.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The type of the first SCTP chunk of the last datagram: it stands behind the twelve octets of the common header
    /// (RFC 9260 §3).
    pub(crate) fn last_chunk(&self) -> Option<u8> {
        let datagrams = self.datagrams.lock().unwrap_or_else(PoisonError::into_inner);
        datagrams.last().and_then(|datagram| datagram.octets.get(12).copied())
    }

    /// Ends it, and writes what went by as if it had gone straight to the server; gives how many datagrams.
    pub(crate) fn write(mut self, path: &Path) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("every datagram was passed on"));
        let datagrams = self.datagrams.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file: Vec<u8> = FILE_HEADER.iter().flat_map(|word| word.to_be_bytes()).collect();
        datagrams.iter().for_each(|datagram| file.extend(packet(datagram)));
        std::fs::write(path, file).expect("a file in a temporary folder");
        datagrams.len()
    }
}

/// The threads end by themselves, whatever became of the test.
impl Drop for Capture {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a UDP socket");
    socket.set_read_timeout(Some(LOOK)).expect("a time limit");
    socket
}

fn clone(socket: &UdpSocket) -> UdpSocket {
    socket.try_clone().expect("a descriptor")
}

/// Hands each datagram over, until the capture is over and none waits. Errors, here and of what is passed on, tell
/// that client or server have ended, or that nothing came for a moment.
fn receive_until(
    over: &AtomicBool,
    socket: &UdpSocket,
    mut pass_on: impl FnMut(SocketAddrV4, &[u8]) -> std::io::Result<usize>,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((count, SocketAddr::V4(from))) => drop(pass_on(from, &buffer[..count])),
            Ok((_, from)) => panic!("{from} on a socket of IPv4"),
            Err(_) if over.load(Ordering::Relaxed) => return,
            Err(_) => {}
        }
    }
}

fn keep(datagrams: &Mutex<Vec<Datagram>>, from: SocketAddrV4, to: SocketAddrV4, octets: &[u8]) {
    let mut datagrams = datagrams.lock().unwrap_or_else(PoisonError::into_inner);
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    datagrams.push(Datagram { at, from, to, octets: octets.to_vec() });
}

/// The datagram as a capture file has it: time, lengths, then the packet.
fn packet(datagram: &Datagram) -> Vec<u8> {
    let Datagram { at, from, to, octets } = datagram;
    let udp_bytes = UDP_HEADER_BYTES + u16::try_from(octets.len()).expect("a datagram");
    let ip_bytes = IP_HEADER_BYTES + udp_bytes;
    let seconds = u32::try_from(at.as_secs()).expect("a time before 2106");
    let mut packet = Vec::new();
    for word in [seconds, at.subsec_micros(), ip_bytes.into(), ip_bytes.into()] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(ip_header(ip_bytes, *from.ip(), *to.ip()));
    // Without a checksum, which IPv4 allows.
    for field in [from.port(), to.port(), udp_bytes, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(octets);
    packet
}

/// An IPv4 header: version and length in words, no special service, total length, no fragments, 64 hops, UDP (17).
fn ip_header(bytes: u16, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let [from, to] = [from, to].map(|address| u32::from(address).to_be_bytes());
    let mut words = [0x4500, bytes, 0, 0x4000, 64 << 8 | 17, 0, 0, 0, 0, 0];
    for (word, pair) in words[6..].iter_mut().zip([&from[..2], &from[2..], &to[..2], &to[2..]]) {
        *word = u16::from_be_bytes([pair[0], pair[1]]);
    }
    let mut sum: u32 = words.iter().map(|&word| u32::from(word)).sum();
    sum = (sum & 0xffff) + (sum >> 16);
    words[5] = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("two carries at most");
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}
