//! Bulk transfer: some streams, one thread, as fast as they go.

use super::{Meter, Phase, Reading, Window};
use crate::measure::Subject;
use crate::origin::BLOCK_BYTES;
use crate::poller::{Poller, Ready};
use crate::target::{Service, Target};
use rustix::event::epoll::EventFlags;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Which way the bytes go, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Down,
    Up,
    Both,
}

/// Bytes of all streams inside the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) bytes: u64,
    pub(crate) reading: Reading,
}

impl Sample {
    /// CPU seconds of the server for each GiB that went through it.
    pub(crate) fn cpu_per_gib(&self) -> f64 {
        self.reading.cpu.as_secs_f64() / self.gib()
    }

    /// GiB a second.
    pub(crate) fn throughput(&self) -> f64 {
        self.gib() / self.reading.elapsed.as_secs_f64()
    }

    #[expect(clippy::cast_precision_loss, reason = "2^52 bytes do not pass in a window")]
    fn gib(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 30)
    }
}

/// Opens `streams` connections and moves bytes until the window is over.
pub(crate) fn run(
    target: &Target,
    subject: Option<Subject>,
    way: Way,
    streams: usize,
    window: Window,
) -> io::Result<Sample> {
    let (service, interest) = match way {
        Way::Down => (Service::Source, EventFlags::IN),
        Way::Up => (Service::Sink, EventFlags::OUT),
        Way::Both => (Service::Duplex, EventFlags::IN | EventFlags::OUT),
    };
    let mut poller = Poller::new(256)?;
    let mut connections = Vec::with_capacity(streams);
    for token in 0..streams {
        let stream = target.connect(service, None)?;
        stream.set_nonblocking(true)?;
        poller.add(&stream, token as u64, interest)?;
        connections.push(stream);
    }
    let mut meter = Meter::new(subject, window);
    let mut buffers = Buffers { block: vec![0xa5; BLOCK_BYTES], scratch: vec![0; BLOCK_BYTES] };
    let mut ready = Vec::new();
    let mut bytes = 0;
    loop {
        match meter.phase()? {
            Phase::Begins => bytes = 0,
            Phase::WarmUp | Phase::Counts => {}
            Phase::Over => break,
        }
        poller.wait(Some(Meter::wait_max()), &mut ready)?;
        for event in &ready {
            let stream = usize::try_from(event.token).ok().and_then(|index| connections.get(index));
            if let Some(stream) = stream {
                bytes += buffers.turn(stream, *event)?;
            }
        }
    }
    let sample = Sample { bytes, reading: meter.read()? };
    if sample.bytes == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "no byte came through in the window"));
    }
    Ok(sample)
}

struct Buffers {
    block: Vec<u8>,
    scratch: Vec<u8>,
}

impl Buffers {
    /// One read and one write, so that the streams stay even.
    fn turn(&mut self, mut stream: &TcpStream, event: Ready) -> io::Result<u64> {
        let mut bytes = 0;
        if event.flags.contains(EventFlags::IN) {
            match stream.read(&mut self.scratch) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a bulk stream ended")),
                Ok(count) => bytes += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if event.flags.contains(EventFlags::OUT) {
            match stream.write(&self.block) {
                Ok(count) => bytes += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        } else if event.is_closed() && !event.flags.contains(EventFlags::IN) {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "a bulk stream broke"));
        }
        Ok(bytes)
    }
}
