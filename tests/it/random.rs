//! Random sessions: split handshakes, half-closes in every order, slow readers, resets, sizes from nothing to
//! megabytes. Every byte is checked; a wrong one names its seed.
//!
//! `SOCKS5D_TEST_SESSIONS` says how many (10,000), `SOCKS5D_TEST_SEED` replays one alone.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::harness::client::{CONNECT, NO_AUTH, greeting, request};
use crate::harness::origin::{Origin, V4, V6};
use crate::harness::waiting::{LIMIT, pause};
use crate::harness::{Client, Daemon, Destination, Rng, exclusive};

const SESSIONS_COUNT: usize = 10_000;
const THREADS_COUNT: usize = 24;
/// The seed goes first on the way up, so that the origin plays the same script.
const SEED_BYTES: usize = 8;

/// What one session does, drawn from its seed by both ends alike.
#[derive(Clone, Debug)]
struct Script {
    seed: u64,
    /// Bytes from client to origin, after the seed.
    up_bytes: usize,
    /// Bytes from origin to client.
    down_bytes: usize,
    order: Order,
    /// How the client's handshake is cut.
    handshake: Handshake,
    to: To,
    /// One end pauses between small reads.
    slow: Slow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Both directions at once; each end closes its side when it has sent everything.
    Together,
    /// The origin answers only after the client's end.
    ClientFirst,
    /// The client sends only after the origin's end.
    OriginFirst,
    /// The client resets after having sent everything.
    ClientResets,
    /// The origin resets after having sent everything.
    OriginResets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    /// Message by message, waiting for each answer.
    Polite,
    /// Everything and the first payload in one write.
    Joined,
    /// In small pieces.
    Split,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    V4,
    V6,
    Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    Nobody,
    Client,
    Origin,
}

/// How one end reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Fast,
    Slow,
}

impl Script {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        Self {
            seed,
            up_bytes: size(&mut rng),
            down_bytes: size(&mut rng),
            order: match rng.below(10) {
                0..4 => Order::Together,
                4..6 => Order::ClientFirst,
                6..8 => Order::OriginFirst,
                8 => Order::ClientResets,
                _ => Order::OriginResets,
            },
            handshake: [Handshake::Polite, Handshake::Joined, Handshake::Split][rng.below(3)],
            to: [To::V4, To::V6, To::Name][rng.below(3)],
            slow: match rng.below(12) {
                0 => Slow::Client,
                1 => Slow::Origin,
                _ => Slow::Nobody,
            },
        }
    }

    /// How this end reads.
    fn pace(&self, end: Slow) -> Pace {
        if self.slow == end { Pace::Slow } else { Pace::Fast }
    }

    fn resets(&self) -> bool {
        matches!(self.order, Order::ClientResets | Order::OriginResets)
    }
}

/// Mostly small, sometimes larger than any buffer on the way.
fn size(rng: &mut Rng) -> usize {
    match rng.below(40) {
        0..4 => 0,
        4..8 => 1,
        8..24 => rng.below(2000),
        24..34 => rng.below(40_000),
        34..39 => rng.below(300_000),
        _ => rng.below(3_000_000),
    }
}

/// Bytes of one direction, made as they are needed: the same on both ends.
struct Stream {
    rng: Rng,
    word: [u8; 8],
    used: usize,
}

impl Stream {
    fn up(seed: u64) -> Self {
        Self::new(seed ^ 0x0075_7000)
    }

    fn down(seed: u64) -> Self {
        Self::new(seed ^ 0x646f_776e)
    }

    fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), word: [0; 8], used: 8 }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == 8 {
                self.word = self.rng.next().to_le_bytes();
                self.used = 0;
            }
            *byte = self.word[self.used];
            self.used += 1;
        }
    }
}

/// How reading went: how much was right, and how it ended.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    All,
    /// A reset after this many bytes, all of them right.
    Reset(usize),
    /// An end after this many bytes, all of them right, but too few.
    Short(usize),
    Wrong(String),
}

/// Reads to the end and compares every byte.
fn read_and_compare(
    stream: &mut TcpStream,
    mut expected: Stream,
    length: usize,
    pace: Pace,
    seed: u64,
) -> Got {
    let mut rng = Rng::new(seed ^ 0x51_0e);
    let mut buffer = vec![0; 32 * 1024];
    let mut wanted = buffer.clone();
    let mut total = 0;
    loop {
        let slowly = pace == Pace::Slow;
        let at_most = if slowly { 1 + rng.below(4096) } else { buffer.len() };
        if slowly && rng.once_in(6) && total < 100_000 {
            pause(Duration::from_millis(1));
        }
        let got = match stream.read(&mut buffer[..at_most]) {
            Ok(0) if total == length => return Got::All,
            Ok(0) => return Got::Short(total),
            Ok(got) => got,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Got::Reset(total),
            Err(error) => return Got::Wrong(format!("after {total} of {length} bytes: {error}")),
        };
        if total + got > length {
            return Got::Wrong(format!("{} bytes, {length} expected", total + got));
        }
        expected.fill(&mut wanted[..got]);
        if let Some(at) = buffer[..got].iter().zip(&wanted).position(|(got, wanted)| got != wanted) {
            return Got::Wrong(format!("byte {} of {length} is wrong", total + at));
        }
        total += got;
    }
}

/// Writes a direction in pieces of random size. The reader may have reset.
fn write_pieces(stream: &mut TcpStream, mut bytes: Stream, length: usize, seed: u64) -> std::io::Result<()> {
    let mut rng = Rng::new(seed ^ 0x0311_7e5e);
    let mut buffer = vec![0; 64 * 1024];
    let mut left = length;
    while left > 0 {
        let piece = if rng.once_in(3) { 1 + rng.below(100) } else { 1 + rng.below(buffer.len()) };
        let piece = piece.min(left);
        bytes.fill(&mut buffer[..piece]);
        stream.write_all(&buffer[..piece])?;
        left -= piece;
    }
    Ok(())
}

/// What the origin saw of each session.
#[derive(Default)]
struct Verdicts(Mutex<HashMap<u64, Got>>, Condvar);

impl Verdicts {
    fn put(&self, seed: u64, got: Got) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, got);
        self.1.notify_all();
    }

    fn take(&self, seed: u64, limit: Duration) -> Option<Got> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut map, _) = self
            .1
            .wait_timeout_while(map, limit, |map| !map.contains_key(&seed))
            .unwrap_or_else(PoisonError::into_inner);
        map.remove(&seed)
    }
}

/// The origin's part of the script.
fn play_origin(mut stream: TcpStream, verdicts: &Verdicts) {
    let mut seed = [0; SEED_BYTES];
    if stream.read_exact(&mut seed).is_err() {
        return; // The client says what it saw.
    }
    let script = Script::new(u64::from_be_bytes(seed));
    let pace = script.pace(Slow::Origin);
    let read = |stream: &mut TcpStream| {
        read_and_compare(stream, Stream::up(script.seed), script.up_bytes, pace, script.seed)
    };
    let write = |stream: &mut TcpStream| {
        write_pieces(stream, Stream::down(script.seed), script.down_bytes, script.seed)
    };
    let got = match script.order {
        Order::Together | Order::ClientResets => {
            let mut writer = stream.try_clone().expect("a second handle");
            std::thread::scope(|scope| {
                let written = scope.spawn(move || {
                    let written = write(&mut writer);
                    drop(writer.shutdown(Shutdown::Write));
                    written
                });
                let got = read(&mut stream);
                // The kernel tells of a reset once: whoever asks first, here the writer, has it; the reader
                // then sees an end.
                match (got, written.join().expect("no panic")) {
                    (Got::All, Err(_)) => Got::Reset(script.up_bytes),
                    (Got::Short(bytes), Err(_)) => Got::Reset(bytes),
                    (got, _) => got,
                }
            })
        }
        Order::ClientFirst => {
            let got = read(&mut stream);
            drop(write(&mut stream)); // What fails here the other end sees.
            got
        }
        Order::OriginFirst => {
            drop(write(&mut stream));
            drop(stream.shutdown(Shutdown::Write));
            read(&mut stream)
        }
        Order::OriginResets => {
            let got = read(&mut stream);
            drop(write(&mut stream));
            crate::harness::client::reset(stream);
            got
        }
    };
    verdicts.put(script.seed, got);
}

/// Where things are.
struct Stage {
    proxy: SocketAddr,
    origin_v4: SocketAddr,
    origin_v6: SocketAddr,
}

/// The client's part of the script; what it got, or why there was no session.
fn play_client(script: &Script, stage: &Stage) -> Result<Got, String> {
    let to: Destination = match script.to {
        To::V4 => stage.origin_v4.into(),
        To::V6 => stage.origin_v6.into(),
        To::Name => ("origin.test", stage.origin_v4.port()).into(),
    };
    let mut client = match script.slow {
        Slow::Client => Client::connect_narrow(stage.proxy, 4096),
        Slow::Nobody | Slow::Origin => Client::connect(stage.proxy),
    };
    shake_hands(&mut client, script, &to)?;
    let mut stream = client.stream;
    let pace = script.pace(Slow::Client);
    let read = |stream: &mut TcpStream| {
        read_and_compare(stream, Stream::down(script.seed), script.down_bytes, pace, script.seed)
    };
    let write = |stream: &mut TcpStream| {
        drop(write_pieces(stream, Stream::up(script.seed), script.up_bytes, script.seed.rotate_left(1)));
    };
    Ok(match script.order {
        Order::Together => {
            let mut writer = stream.try_clone().map_err(|error| error.to_string())?;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    write(&mut writer);
                    drop(writer.shutdown(Shutdown::Write));
                });
                read(&mut stream)
            })
        }
        Order::ClientFirst | Order::OriginResets => {
            write(&mut stream);
            drop(stream.shutdown(Shutdown::Write));
            read(&mut stream)
        }
        Order::OriginFirst => {
            let got = read(&mut stream);
            write(&mut stream);
            got
        }
        Order::ClientResets => {
            write(&mut stream);
            // A byte of the way back proves that the seed arrived, where there is a way back.
            drop(stream.read(&mut [0; 1][..script.down_bytes.min(1)]));
            crate::harness::client::reset(stream);
            Got::All
        }
    })
}

fn shake_hands(client: &mut Client, script: &Script, to: &Destination) -> Result<(), String> {
    let seed = script.seed.to_be_bytes();
    let all = [greeting(&[NO_AUTH]), request(CONNECT, to), seed.to_vec()].concat();
    let reply = match script.handshake {
        Handshake::Polite => {
            let reply = client.ask(to);
            client.send(&seed);
            reply
        }
        Handshake::Joined => {
            client.send(&all);
            client.method();
            client.reply()
        }
        Handshake::Split => {
            let mut rng = Rng::new(script.seed);
            let mut left = all.as_slice();
            while !left.is_empty() {
                let (piece, rest) = left.split_at(left.len().min(1 + rng.below(5)));
                client.send(piece);
                left = rest;
            }
            client.method();
            client.reply()
        }
    };
    if reply.code == 0 { Ok(()) } else { Err(format!("reply {}", reply.code)) }
}

/// Plays one session and judges both ends; an error tells what was wrong.
fn play(script: &Script, stage: &Stage, verdicts: &Verdicts) -> Result<(), String> {
    let at_client = play_client(script, stage)?;
    // A reset may overtake even the seed; then the origin had no session to judge.
    let overtaken = script.order == Order::ClientResets && script.down_bytes == 0;
    let at_origin = verdicts.take(script.seed, if overtaken { Duration::from_secs(1) } else { LIMIT });
    let judged = match (script.order, &at_client, &at_origin) {
        // Bytes before a reset may be lost, but the reset itself must arrive and no byte may be wrong.
        (Order::ClientResets, _, Some(Got::Reset(_))) => true,
        (Order::ClientResets, _, None) => overtaken,
        (Order::OriginResets, Got::Reset(_), Some(Got::All)) => true,
        (_, Got::All, Some(Got::All)) => !script.resets(),
        _ => false,
    };
    if judged { Ok(()) } else { Err(format!("client: {at_client:?}, origin: {at_origin:?}")) }
}

#[test]
fn random_sessions_show_no_wrong_byte() {
    let _alone = exclusive();
    crate::harness::machine::raise_descriptors(1000);
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let replayed = number("SOCKS5D_TEST_SEED");
    let count =
        if replayed.is_some() { 1 } else { number("SOCKS5D_TEST_SESSIONS").unwrap_or(SESSIONS_COUNT as u64) };
    // Another set on each run; a failure says its seed.
    let first = replayed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("a clock after 1970").as_micros() as u64
    });

    let verdicts = Arc::new(Verdicts::default());
    let origin = |at| {
        let verdicts = Arc::clone(&verdicts);
        Origin::serve(at, move |stream| play_origin(stream, &verdicts))
    };
    let (origin_v4, origin_v6) = (origin(V4), origin(V6));
    let daemon = Daemon::with(&["--buffer-size", "64K"]).host(V4, "origin.test").start();
    let stage =
        Stage { proxy: daemon.address(), origin_v4: origin_v4.address(), origin_v6: origin_v6.address() };
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS_COUNT.min(count as usize) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed) as u64;
                    let broken = failures.lock().unwrap_or_else(PoisonError::into_inner).len() >= 5;
                    if index >= count || broken {
                        return;
                    }
                    let script = Script::new(first + index);
                    // The client's helpers panic; the seed has to be told all the same.
                    let played = AssertUnwindSafe(|| play(&script, &stage, &verdicts));
                    let outcome = catch_unwind(played).unwrap_or_else(|_| Err("see above".to_owned()));
                    if let Err(what) = outcome {
                        let line = format!("SOCKS5D_TEST_SEED={}: {what}\n    {script:?}", script.seed);
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failures.is_empty(), "replay with one of these:\n{}", failures.join("\n"));
}
