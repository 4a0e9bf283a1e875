//! Ping-pong: small messages there and back, on many connections for CPU, on one for time.

use super::{MESSAGE_BYTES, Meter, Phase, Reading, Window};
use crate::measure::Subject;
use crate::poller::Poller;
use crate::stats::percentile;
use crate::target::{Service, Target};
use rustix::event::epoll::EventFlags;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A round trip that takes longer is a hang.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(5);

/// Round trips of all connections inside the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) round_trips: u64,
    pub(crate) reading: Reading,
}

impl Sample {
    /// CPU seconds of the server for each round trip.
    #[expect(clippy::cast_precision_loss, reason = "2^52 round trips do not fit a window")]
    pub(crate) fn cpu_per_round_trip(&self) -> f64 {
        self.reading.cpu.as_secs_f64() / self.round_trips as f64
    }
}

/// `connections_count` connections, one message under way on each.
pub(crate) fn many(
    target: &Target,
    subject: Option<Subject>,
    connections_count: usize,
    window: Window,
) -> io::Result<Sample> {
    let mut poller = Poller::new(256)?;
    let mut connections = Vec::with_capacity(connections_count);
    for number in 0..connections_count {
        let stream = target.connect(Service::Echo(number), None)?;
        stream.set_nonblocking(true)?;
        poller.add(&stream, number as u64, EventFlags::IN)?;
        connections.push((stream, 0));
    }
    let mut meter = Meter::new(subject, window);
    let message = [0x33; MESSAGE_BYTES];
    for (stream, _) in &mut connections {
        stream.write_all(&message)?;
    }
    let mut ready = Vec::new();
    let mut round_trips = 0;
    loop {
        match meter.phase()? {
            Phase::Begins => round_trips = 0,
            Phase::WarmUp | Phase::Counts => {}
            Phase::Over => break,
        }
        poller.wait(Some(Meter::wait_max()), &mut ready)?;
        for event in &ready {
            let connection = usize::try_from(event.token).ok().and_then(|index| connections.get_mut(index));
            let Some((stream, received)) = connection else { continue };
            *received += read_some(stream)?;
            if *received == MESSAGE_BYTES {
                *received = 0;
                round_trips += 1;
                stream.write_all(&message)?;
            }
        }
    }
    if round_trips == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "no message came back in the window"));
    }
    Ok(Sample { round_trips, reading: meter.read()? })
}

fn read_some(stream: &mut TcpStream) -> io::Result<usize> {
    let mut buffer = [0; MESSAGE_BYTES];
    match stream.read(&mut buffer) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "an echo ended")),
        Ok(count) => Ok(count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

/// Times of round trips on one connection, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

/// One connection, one message at a time, blocking: what a person at a prompt feels.
pub(crate) fn one(target: &Target, window: Window) -> io::Result<Latency> {
    let mut stream = target.connect(Service::Echo(0), None)?;
    stream.set_read_timeout(Some(ROUND_TRIP_MAX))?;
    let message = [0x33; MESSAGE_BYTES];
    let mut answer = [0; MESSAGE_BYTES];
    let counts_from = Instant::now() + window.warm_up;
    let over = counts_from + window.length;
    let mut times = Vec::new();
    loop {
        let sent = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut answer)?;
        if sent >= counts_from {
            times.push(u64::try_from(sent.elapsed().as_nanos()).map_err(io::Error::other)?);
        }
        if sent >= over {
            break;
        }
    }
    times.sort_unstable();
    match (percentile(&times, 50), percentile(&times, 99)) {
        (Some(p50), Some(p99)) => Ok(Latency { p50, p99 }),
        _ => Err(io::Error::new(io::ErrorKind::TimedOut, "no message came back in the window")),
    }
}
