//! New sessions: connect, dialogue, one exchange, close; some at once, as fast as they go or at a fixed rate, one
//! thread, nothing blocks.

use super::{MESSAGE_BYTES, Meter, Phase, Reading, Window};
use crate::measure::Subject;
use crate::poller::{EDGE, Poller, Ready};
use crate::socks::{Dialogue, Script, Step};
use crate::target::{ECHO_PORTS, Service, Target, connect_nonblocking};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Sessions that ended inside the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) completed: u64,
    /// Refused, reset or cut; the first one's cause stands in the error when nothing completed.
    pub(crate) failed: u64,
    pub(crate) reading: Reading,
}

impl Sample {
    /// Sessions a second.
    #[expect(clippy::cast_precision_loss, reason = "2^52 sessions do not fit a window")]
    pub(crate) fn rate(&self) -> f64 {
        self.completed as f64 / self.reading.elapsed.as_secs_f64()
    }

    /// CPU seconds of the server for each session.
    #[expect(clippy::cast_precision_loss, reason = "2^52 sessions do not fit a window")]
    pub(crate) fn cpu_per_session(&self) -> f64 {
        self.reading.cpu.as_secs_f64() / self.completed as f64
    }
}

/// When the next session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As soon as there is room for it.
    Full,
    /// So many a second, as far as there is room for them.
    PerSecond(u32),
}

/// Keeps at most `at_once` sessions under way; each that ends is followed by the next.
pub(crate) fn run(
    target: &Target,
    subject: Option<Subject>,
    at_once: usize,
    pace: Pace,
    window: Window,
) -> io::Result<Sample> {
    let mut churn = Churn::new(target, at_once, pace)?;
    let mut meter = Meter::new(subject, window);
    let mut ready = Vec::new();
    loop {
        match meter.phase()? {
            Phase::Begins => (churn.completed, churn.failed) = (0, 0),
            Phase::WarmUp | Phase::Counts => {}
            Phase::Over => break,
        }
        let wait = churn.open_due(Instant::now())?;
        churn.poller.wait(Some(wait.min(Meter::wait_max())), &mut ready)?;
        for event in &ready {
            churn.event(*event)?;
        }
    }
    let reading = meter.read()?;
    if churn.completed == 0 {
        return Err(churn.cause.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::TimedOut, "no session completed in the window")
        }));
    }
    Ok(Sample { completed: churn.completed, failed: churn.failed, reading })
}

struct Churn<'a> {
    target: &'a Target,
    scripts: Vec<Option<Script>>,
    poller: Poller,
    sessions: Vec<Option<Session>>,
    /// Places where no session is under way.
    free: Vec<usize>,
    /// Time from one session to the next; none: they follow at once.
    interval: Duration,
    next_at: Instant,
    opened: usize,
    completed: u64,
    failed: u64,
    cause: Option<io::Error>,
}

struct Session {
    stream: TcpStream,
    port: usize,
    stage: Stage,
}

enum Stage {
    Connecting,
    Dialogue(Dialogue),
    Exchange { received: usize },
}

impl<'a> Churn<'a> {
    fn new(target: &'a Target, at_once: usize, pace: Pace) -> io::Result<Self> {
        let interval = match pace {
            Pace::Full => Duration::ZERO,
            Pace::PerSecond(rate) => Duration::from_secs(1) / rate.max(1),
        };
        Ok(Self {
            target,
            scripts: (0..ECHO_PORTS).map(|port| target.script(Service::Echo(port))).collect(),
            poller: Poller::new(256)?,
            sessions: (0..at_once).map(|_| None).collect(),
            free: (0..at_once).collect(),
            interval,
            next_at: Instant::now(),
            opened: 0,
            completed: 0,
            failed: 0,
            cause: None,
        })
    }

    /// Opens what is due; how long until the next one is. Places that are not free for want of speed are made up for
    /// by no more than there are.
    fn open_due(&mut self, now: Instant) -> io::Result<Duration> {
        while self.next_at <= now {
            let Some(index) = self.free.pop() else {
                self.next_at = now;
                return Ok(Duration::MAX);
            };
            self.open(index)?;
            self.next_at += self.interval;
        }
        Ok(self.next_at.duration_since(now))
    }

    fn open(&mut self, index: usize) -> io::Result<()> {
        let port = self.opened % ECHO_PORTS;
        self.opened += 1;
        let stream = connect_nonblocking(self.target.first_hop(Service::Echo(port)))?;
        stream.set_nodelay(true)?;
        self.poller.add(&stream, index as u64, EDGE)?;
        if let Some(slot) = self.sessions.get_mut(index) {
            *slot = Some(Session { stream, port, stage: Stage::Connecting });
        }
        Ok(())
    }

    fn event(&mut self, event: Ready) -> io::Result<()> {
        let index = usize::try_from(event.token).map_err(io::Error::other)?;
        let Some(session) = self.sessions.get_mut(index).and_then(Option::as_mut) else { return Ok(()) };
        let script = self.scripts.get(session.port).and_then(Option::as_ref);
        match session.turn(event, script) {
            Ok(false) => return Ok(()),
            Ok(true) => self.completed += 1,
            Err(error) => {
                self.failed += 1;
                self.cause.get_or_insert(error);
            }
        }
        if let Some(slot) = self.sessions.get_mut(index) {
            *slot = None;
        }
        self.free.push(index);
        Ok(())
    }
}

impl Session {
    /// `true`: the echo came back whole.
    fn turn(&mut self, event: Ready, script: Option<&Script>) -> io::Result<bool> {
        if let Stage::Connecting = self.stage {
            if !event.is_writable() {
                return Ok(false);
            }
            self.stage = match script {
                Some(script) => {
                    self.stream.write_all(&script.greeting)?;
                    Stage::Dialogue(Dialogue::new())
                }
                None => self.exchange()?,
            };
            return Ok(false);
        }
        if !event.is_readable() {
            return Ok(false);
        }
        let mut buffer = [0; 512];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the echo")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            let input = buffer.get(..count).unwrap_or_default();
            if self.take(input, script)? {
                return Ok(true);
            }
            // A short read proves the socket empty, unless the peer closed.
            if count < buffer.len() && !event.is_closed() {
                return Ok(false);
            }
        }
    }

    fn take(&mut self, input: &[u8], script: Option<&Script>) -> io::Result<bool> {
        match (&mut self.stage, script) {
            (Stage::Dialogue(dialogue), Some(script)) => {
                match dialogue.receive(script, input).map_err(io::Error::other)? {
                    Step::Wait => {}
                    Step::Send(message) => self.stream.write_all(message)?,
                    Step::Established(_) => self.stage = self.exchange()?,
                }
                Ok(false)
            }
            (Stage::Exchange { received }, _) => {
                *received += input.len();
                Ok(*received >= MESSAGE_BYTES)
            }
            (Stage::Connecting, _) | (Stage::Dialogue(_), None) => Ok(false),
        }
    }

    fn exchange(&self) -> io::Result<Stage> {
        (&self.stream).write_all(&[0x42; MESSAGE_BYTES])?;
        Ok(Stage::Exchange { received: 0 })
    }
}
