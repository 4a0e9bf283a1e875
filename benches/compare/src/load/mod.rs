//! The loads. Each opens its connections through a [`crate::target::Target`], runs for a window of time and
//! returns what it saw, with the CPU that the server used inside that window.

pub(crate) mod bulk;
pub(crate) mod churn;
pub(crate) mod idle;
pub(crate) mod ping;

use crate::measure::Subject;
use std::io;
use std::time::{Duration, Instant};

/// One message of a ping-pong and of a new session's exchange.
pub(crate) const MESSAGE_BYTES: usize = 64;

/// How long a load runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Before anything is counted: windows of TCP open, movers settle.
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
}

impl Window {
    /// Both parts so many times shorter.
    pub(crate) fn shortened(self, times: u32) -> Self {
        Self { warm_up: self.warm_up / times, length: self.length / times }
    }
}

/// Takes time and the server's CPU at both ends of the counted part.
pub(crate) struct Meter {
    subject: Option<Subject>,
    counts_from: Instant,
    length: Duration,
    begun: Option<(Instant, Duration)>,
}

/// What [`Meter`] read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) elapsed: Duration,
    /// Zero without a subject: the direct connection has no server between.
    pub(crate) cpu: Duration,
}

/// Where a load stands in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    WarmUp,
    /// The first moment of the counted part: counters start here.
    Begins,
    Counts,
    Over,
}

impl Meter {
    pub(crate) fn new(subject: Option<Subject>, window: Window) -> Self {
        Self { subject, counts_from: Instant::now() + window.warm_up, length: window.length, begun: None }
    }

    /// Looks at the clock; called between events.
    pub(crate) fn phase(&mut self) -> io::Result<Phase> {
        let now = Instant::now();
        match self.begun {
            None if now < self.counts_from => Ok(Phase::WarmUp),
            None => {
                self.begun = Some((Instant::now(), self.cpu()?));
                Ok(Phase::Begins)
            }
            Some((begun, _)) if now.duration_since(begun) < self.length => Ok(Phase::Counts),
            Some(_) => Ok(Phase::Over),
        }
    }

    /// The longest that a load may wait for events before it has to look at the clock again.
    pub(crate) fn wait_max() -> Duration {
        Duration::from_millis(20)
    }

    pub(crate) fn read(&self) -> io::Result<Reading> {
        let (begun, cpu) = self.begun.ok_or_else(|| io::Error::other("read before the window began"))?;
        let elapsed = begun.elapsed();
        Ok(Reading { elapsed, cpu: self.cpu()?.saturating_sub(cpu) })
    }

    fn cpu(&self) -> io::Result<Duration> {
        self.subject.map_or(Ok(Duration::ZERO), Subject::cpu)
    }
}
