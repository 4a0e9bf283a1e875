//! Sessions that stay: what one that does nothing holds, and whether all of them live.

use super::MESSAGE_BYTES;
use crate::measure::Subject;
use crate::target::{Service, Target};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

/// Threads that open sessions: while one waits for its answer, the others ask.
const OPENERS: usize = 16;

/// Ports that one loopback address is used for before the next one is taken: half of those that the kernel picks from
/// (ip_local_port_range), since it looks through one half in vain before it takes a port of the other.
const SESSIONS_PER_ADDRESS: usize = 10_000;

/// An exchange on an idle session may take this long before the session counts as lost.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);

/// Exchanges under way at once: each has one packet on loopback at a time, which holds up to
/// net.core.netdev_max_backlog of them, 1,000 by default, and drops what is more.
const UNDER_WAY_MAX: usize = 500;

/// Memory is looked at until it has stood still for two looks, at most this long.
const SETTLE_MAX: Duration = Duration::from_secs(3);
const SETTLE_LOOK: Duration = Duration::from_millis(200);

/// Opened sessions.
pub(crate) struct Sessions {
    streams: Vec<TcpStream>,
}

impl Sessions {
    /// Opens `count` sessions, [`OPENERS`] at once, each with one exchange, so that whatever a server makes on the
    /// first byte has been made.
    pub(crate) fn open(target: &Target, count: usize) -> io::Result<Self> {
        let share = count.div_ceil(OPENERS).max(1);
        let parts: io::Result<Vec<Vec<TcpStream>>> = thread::scope(|scope| {
            let openers: Vec<_> = (0..count)
                .step_by(share)
                .map(|first| scope.spawn(move || open_range(target, first..count.min(first + share))))
                .collect();
            let joined = openers.into_iter().map(thread::ScopedJoinHandle::join);
            joined.map(|part| part.unwrap_or_else(|_| Err(io::Error::other("an opener panicked")))).collect()
        });
        Ok(Self { streams: parts?.into_iter().flatten().collect() })
    }

    /// One exchange on every `step`th session, [`UNDER_WAY_MAX`] at once; what became of those that did not answer
    /// rightly.
    pub(crate) fn exchange(&mut self, step: usize) -> Vec<Lost> {
        let mut chosen: Vec<_> = self.streams.iter_mut().enumerate().step_by(step.max(1)).collect();
        let mut lost = Vec::new();
        for together in chosen.chunks_mut(UNDER_WAY_MAX) {
            let sent: Vec<_> =
                together.iter_mut().map(|(number, stream)| stream.write_all(&message(*number))).collect();
            for ((session, stream), sent) in together.iter_mut().zip(sent) {
                if let Err(because) = sent.and_then(|()| expect_echo(stream, *session)) {
                    lost.push(Lost { session: *session, because });
                }
            }
        }
        lost
    }
}

/// A session that did not answer rightly.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) session: usize,
    pub(crate) because: io::Error,
}

/// Sessions of these numbers, one after the other.
fn open_range(target: &Target, numbers: Range<usize>) -> io::Result<Vec<TcpStream>> {
    numbers
        .map(|number| {
            open_one(target, number)
                .map_err(|error| io::Error::new(error.kind(), format!("session {number}: {error}")))
        })
        .collect()
}

fn open_one(target: &Target, number: usize) -> io::Result<TcpStream> {
    let mut stream = target.connect(Service::Echo(number), source_address(number))?;
    stream.set_read_timeout(Some(EXCHANGE_MAX))?;
    stream.write_all(&message(number))?;
    expect_echo(&mut stream, number)?;
    Ok(stream)
}

/// `None`: the kernel's choice, which is right as long as one address has ports enough.
fn source_address(number: usize) -> Option<Ipv4Addr> {
    let block = number / SESSIONS_PER_ADDRESS;
    let last = u8::try_from(block + 1).ok().filter(|last| *last > 1 && *last < 255)?;
    Some(Ipv4Addr::new(127, 0, 0, last))
}

/// The message tells the session, so an answer that belongs to another one is seen.
fn message(number: usize) -> [u8; MESSAGE_BYTES] {
    let mut message = [0x5c; MESSAGE_BYTES];
    for (byte, part) in message.iter_mut().zip(number.to_be_bytes()) {
        *byte = part;
    }
    message
}

fn expect_echo(stream: &mut TcpStream, number: usize) -> io::Result<()> {
    let mut answer = [0; MESSAGE_BYTES];
    stream.read_exact(&mut answer)?;
    if answer != message(number) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an echo of other bytes"));
    }
    Ok(())
}

/// What an idle session costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// How many were opened a second.
    pub(crate) opened_per_second: f64,
    pub(crate) memory_kib: f64,
    pub(crate) descriptors: f64,
    /// CPU milliseconds a second, of all sessions together.
    pub(crate) cpu_ms_per_second: f64,
}

/// Opens a few sessions first, so that what a server makes once is in the baseline; then the counted ones.
#[expect(clippy::cast_precision_loss, reason = "sessions, KiB and descriptors stay far below 2^52")]
pub(crate) fn cost(
    target: &Target,
    subject: Subject,
    count: usize,
    look: Duration,
) -> io::Result<(Cost, Sessions)> {
    let first = Sessions::open(target, 64.min(count))?;
    let memory_before = settled(subject)?;
    let descriptors_before = subject.descriptors()?;
    let begun = Instant::now();
    let sessions = Sessions::open(target, count)?;
    let opening = begun.elapsed();
    let memory = settled(subject)?.saturating_sub(memory_before);
    let descriptors = subject.descriptors()?.saturating_sub(descriptors_before);
    let cpu_before = subject.cpu()?;
    let begun = Instant::now();
    pause(look);
    let cpu = subject.cpu()?.saturating_sub(cpu_before);
    let cost = Cost {
        opened_per_second: count as f64 / opening.as_secs_f64(),
        memory_kib: memory as f64 / count as f64,
        descriptors: descriptors as f64 / count as f64,
        cpu_ms_per_second: cpu.as_secs_f64() * 1000.0 / begun.elapsed().as_secs_f64(),
    };
    drop(first);
    Ok((cost, sessions))
}

fn settled(subject: Subject) -> io::Result<u64> {
    let until = Instant::now() + SETTLE_MAX;
    let mut memory = subject.memory_kib()?;
    loop {
        pause(SETTLE_LOOK);
        let now = subject.memory_kib()?;
        if now == memory || Instant::now() >= until {
            return Ok(now);
        }
        memory = now;
    }
}

/// Lets the server be; the measuring thread has nothing to wait for.
#[expect(clippy::disallowed_methods, reason = "the thing measured is what happens while nothing happens")]
pub(crate) fn pause(length: Duration) {
    thread::sleep(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_beyond_one_address_come_from_the_next() {
        assert_eq!(source_address(0), None);
        assert_eq!(source_address(SESSIONS_PER_ADDRESS - 1), None);
        assert_eq!(source_address(SESSIONS_PER_ADDRESS), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(source_address(SESSIONS_PER_ADDRESS * 5), Some(Ipv4Addr::new(127, 0, 0, 6)));
    }
}
