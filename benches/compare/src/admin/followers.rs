//! Somebody who follows everything there is (events, log lines, samples of all metrics) on an association of its
//! own, and reads as fast as it can.

use super::client::Client;
use pipo_protocol::limits::CREDIT_BYTES_MAX;
use pipo_protocol::v2::credit::ReceiveCredit;
use pipo_protocol::v2::events::{Event, Happening};
use pipo_protocol::v2::messages::{EventsFollow, LogFollow, LogLevel, MetricsFollow};
use pipo_protocol::v2::{Kind, Message, Request};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// Between samples of the metrics.
const SAMPLE_MS: u32 = 100;

/// A thread that follows.
pub(crate) struct Followers {
    shared: Arc<Shared>,
    thread: JoinHandle<io::Result<()>>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    events: AtomicU64,
    missed: AtomicU64,
}

impl Followers {
    /// Follows from now on.
    pub(crate) fn start(mut client: Client) -> io::Result<Self> {
        let credit = CREDIT_BYTES_MAX;
        let requests = [
            Request::Events(EventsFollow { credit, from: None, kinds: Vec::new(), filter: None }),
            Request::LogFollow(LogFollow {
                credit,
                from: None,
                kinds: Vec::new(),
                level: Some(LogLevel::Trace),
                user: None,
            }),
            Request::MetricsFollow(MetricsFollow { credit, prefix: None, interval_ms: SAMPLE_MS }),
        ];
        let mut channels = Vec::new();
        for (channel, request) in (1..).zip(&requests) {
            client.send(request, channel)?;
            channels.push(ReceiveCredit::open(credit));
        }
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || of_thread.follow(&mut client, &mut channels));
        Ok(Self { shared, thread })
    }

    /// Events and lines that came, and those that were told as missed.
    pub(crate) fn told(&self) -> (u64, u64) {
        (self.shared.events.load(Ordering::Relaxed), self.shared.missed.load(Ordering::Relaxed))
    }

    /// Ends it; says what went wrong.
    pub(crate) fn stop(self) -> io::Result<()> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the followers panicked"))?
    }
}

impl Shared {
    fn follow(&self, client: &mut Client, channels: &mut [ReceiveCredit]) -> io::Result<()> {
        while !self.stopped.load(Ordering::Relaxed) {
            let Some(got) = client.next(Instant::now() + LOOK)? else { continue };
            let channel = got.header.channel;
            if got.header.kind != Kind::Event || channel == 0 {
                continue;
            }
            match Event::decode(&got.body).map_err(io::Error::other)?.happening() {
                Some(Happening::Gap(gap)) => self.missed.fetch_add(gap.events_count, Ordering::Relaxed),
                Some(Happening::End(_)) => return Err(io::Error::other("a subscription ended")),
                Some(_) | None => self.events.fetch_add(1, Ordering::Relaxed),
            };
            let place = usize::try_from(channel - 1).map_err(io::Error::other)?;
            let owed = channels.get_mut(place).and_then(|credit| {
                let bytes = usize::try_from(got.bytes).ok()?;
                credit.displayed(bytes)
            });
            if let Some(bytes) = owed {
                client.give_credit(channel, bytes)?;
            }
        }
        Ok(())
    }
}
