//! The workers as a whole: started together, told together, ended together.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use mio::{Poll, Waker};

use super::accept::{Admission, BoundBy, ListenError, Listener};
use super::carrier::{Carrier, Errand};
use super::door::Door;
use super::inbox::{Inbox, Message, Snapshot, Unasked};
use super::live::{Question, QuestionId, Told};
use super::worker::{self, Seed, Shared, Worker};
use crate::ids::WorkerId;
use crate::limits;
use crate::logging::AccessWriter;
use crate::metrics::Metrics;
use crate::resolver;
use crate::store::Store;
use crate::sys::socket::{self, TcpOptions};
use crate::sys::thread;

/// All workers.
#[derive(Debug)]
pub struct Plane {
    shared: Arc<Shared>,
    door: Arc<Door>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// Workers that have ended.
    ended_count: Arc<AtomicUsize>,
    carriers: Vec<JoinHandle<io::Result<()>>>,
    /// Carriers that have: only when they are told to, or by a fault.
    carriers_ended_count: Arc<AtomicUsize>,
}

/// What the workers are made with.
pub struct Parts<'a> {
    /// The listener table.
    pub listeners: Vec<Listener>,
    /// Who may come in, and how many.
    pub admission: Admission,
    /// Users.
    pub store: Arc<Store>,
    /// What the resolvers share.
    pub resolver: Arc<resolver::Shared>,
    /// The settings to begin with.
    pub snapshot: Arc<Snapshot>,
    /// One set of counters for each worker.
    pub metrics: &'a Metrics,
    /// The access log.
    pub access: &'a AccessWriter,
    /// The number of this start.
    pub start: u32,
    /// The control loop's: woken when a worker has something to tell, or has ended.
    pub waker: Arc<Waker>,
}

/// How the workers have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// As they were told to.
    Orderly,
    /// One of them panicked or could not wait for events.
    Broken,
}

impl Plane {
    /// Starts as many workers as the settings say, and as many carriers.
    pub fn start(parts: Parts<'_>) -> io::Result<Self> {
        let count = parts.snapshot.settings.workers;
        let polls = (0..count).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let inboxes = polls
            .iter()
            .map(|poll| Ok(Arc::new(Inbox::new(Waker::new(poll.registry(), worker::WAKER)?))))
            .collect::<io::Result<Vec<_>>>()?;
        let epoch = Instant::now();
        let carriers_ended_count = Arc::new(AtomicUsize::new(0));
        let (mut carriers, mut docks) = (Vec::new(), Vec::new());
        for place in 0..count {
            let Some(counters) = parts.metrics.carrier(place) else { break }; // As many were made.
            let buffer_size = parts.snapshot.settings.buffer_size;
            let carrier = Carrier::new(Arc::clone(counters), buffer_size, inboxes.clone(), epoch)?;
            docks.push(carrier.dock());
            let on_end =
                TellEnd { ended_count: Arc::clone(&carriers_ended_count), waker: Arc::clone(&parts.waker) };
            carriers.push(std::thread::Builder::new().name(format!("carrier {place}")).spawn(move || {
                let _on_end = on_end;
                // What gathers while others run takes fewer calls, and nobody who moves little waits for it.
                if let Err(error) = thread::be_patient(limits::CARRIER_PROCESSOR_TURN) {
                    log::debug!("a carrier interrupts whoever runs: error=\"{error}\"");
                }
                carrier.run()
            })?);
        }
        let shared = Arc::new(Shared {
            listeners: parts.listeners,
            inboxes,
            docks,
            admission: parts.admission,
            store: parts.store,
            start: parts.start,
            epoch,
            paused_count: AtomicUsize::new(0),
            is_crowded: AtomicBool::new(parts.snapshot.settings.spread_from == 0),
        });
        let door = Arc::new(Door::new(count, Arc::clone(&parts.waker)));
        let mut threads = Vec::new();
        let ended_count = Arc::new(AtomicUsize::new(0));
        for (place, poll) in polls.into_iter().enumerate() {
            let (Some(inbox), Some(counters)) = (shared.inboxes.get(place), parts.metrics.worker(place))
            else {
                break; // As many of each were made above.
            };
            let seed = Seed {
                id: WorkerId(u16::try_from(place).unwrap_or(u16::MAX)),
                poll,
                inbox: Arc::clone(inbox),
                shared: Arc::clone(&shared),
                snapshot: Arc::clone(&parts.snapshot),
                counters: Arc::clone(counters),
                sink: parts.access.sink(),
                resolver: Arc::clone(&parts.resolver),
                door: Arc::clone(&door),
                pipes_count_max: limits::PIPES_PER_WORKER_MAX,
            };
            let on_end = TellEnd { ended_count: Arc::clone(&ended_count), waker: Arc::clone(&parts.waker) };
            let thread = std::thread::Builder::new().name(format!("worker {place}")).spawn(move || {
                let _on_end = on_end;
                // A message of 64 bytes passes a worker twice; behind others' turns of some milliseconds it would
                // wait as long each time.
                if let Err(error) = thread::ask_for_turns_of(limits::PROCESSOR_TURN) {
                    log::debug!("turns on a processor are as long as usual: error=\"{error}\"");
                }
                Worker::new(seed).run()
            })?;
            threads.push(thread);
        }
        Ok(Self { shared, door, threads, ended_count, carriers, carriers_ended_count })
    }

    /// Where it listens.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.shared.listeners
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers_count(&self) -> usize {
        self.shared.inboxes.len()
    }

    /// How many threads the data plane has: workers, and carriers behind them.
    #[must_use]
    pub fn threads_count(&self) -> usize {
        self.shared.inboxes.len() + self.shared.docks.len()
    }

    /// Messages that wait for the worker at that place. Nobody counts those for carriers.
    #[must_use]
    pub fn waiting_count(&self, place: usize) -> usize {
        self.shared.inboxes.get(place).map_or(0, |inbox| inbox.count())
    }

    /// The places that sessions take.
    #[must_use]
    pub fn admission(&self) -> &Admission {
        &self.shared.admission
    }

    /// Has connections that come in from now on behave so.
    pub fn set_tcp_options(&self, options: &TcpOptions) {
        for listener in &self.shared.listeners {
            if let Err(error) = options.set_on_listener(&listener.socket, listener.address.ip()) {
                log::warn!("TCP options were not set: address={} error=\"{error}\"", listener.address);
            }
        }
    }

    /// Refuses new connections from now on, those in the backlog too; on sockets that are not ours they wait for
    /// whoever comes after us.
    pub fn stop_listening(&self) {
        for listener in self.shared.listeners.iter().filter(|each| each.bound_by == BoundBy::Us) {
            if let Err(error) = socket::stop_listening(&listener.socket)
                && error.kind() != io::ErrorKind::NotConnected
            {
                log::warn!("still listening: address={} error=\"{error}\"", listener.address);
            }
        }
    }

    /// Lets connections come in again; they wait in the backlog until workers accept.
    pub fn listen_again(&self) -> Result<(), ListenError> {
        for listener in self.shared.listeners.iter().filter(|each| each.bound_by == BoundBy::Us) {
            let address = listener.address;
            socket::listen_again(&listener.socket).map_err(|cause| ListenError { address, cause })?;
        }
        Ok(())
    }

    /// Asks one worker, which answers through [`Plane::take_told`].
    pub fn ask(&self, worker: WorkerId, id: QuestionId, question: Question) -> Result<(), Unasked> {
        let inbox = self.shared.inboxes.get(usize::from(worker.0)).ok_or(Unasked::Gone)?;
        inbox.leave(Message::Ask(id, question)).map_err(|(_, why)| why)
    }

    /// Asks every worker that there still is, or says that one has too many questions already; gives how many
    /// were asked either way.
    pub fn ask_all(&self, id: QuestionId, question: &Question) -> (usize, Result<(), Unasked>) {
        let (mut asked, mut result) = (0, Ok(()));
        for inbox in &self.shared.inboxes {
            match inbox.leave(Message::Ask(id, question.clone())) {
                Ok(()) => asked += 1,
                Err((_, Unasked::Gone)) => {}
                Err((_, Unasked::Full)) => result = Err(Unasked::Full),
            }
        }
        (asked, result)
    }

    /// Tells one worker.
    pub fn tell_one(&self, worker: WorkerId, message: Message) {
        let inbox = self.shared.inboxes.get(usize::from(worker.0));
        if inbox.is_some_and(|inbox| inbox.send(message).is_err()) {
            log::error!("a worker could not be told"); // Only connections and questions are ever refused.
        }
    }

    /// Takes what workers have told since the last time, in the order in which each of them did.
    pub fn take_told(&self, hear: impl FnMut(WorkerId, Told)) {
        self.door.take(hear);
    }

    /// Gives every worker the settings of now, and carriers what concerns them.
    pub fn publish(&self, snapshot: &Arc<Snapshot>) {
        self.tell(|| Message::Snapshot(Arc::clone(snapshot)));
        self.shared.docks.iter().for_each(|dock| dock.send(Errand::Resize(snapshot.settings.buffer_size)));
    }

    /// Tells every worker.
    pub fn tell(&self, message: impl Fn() -> Message) {
        for inbox in &self.shared.inboxes {
            if inbox.send(message()).is_err() {
                log::error!("a worker could not be told"); // Only connections and questions are ever refused.
            }
        }
    }

    /// Whether a worker accepts nobody for want of places or descriptors.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.shared.paused_count.load(Ordering::Relaxed) > 0
    }

    /// Whether a worker or a carrier has ended before it was told to.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.ended_count.load(Ordering::Acquire) + self.carriers_ended_count.load(Ordering::Acquire) > 0
    }

    /// Have all workers ended?
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended_count.load(Ordering::Acquire) == self.threads.len()
    }

    /// Waits for the workers, which have been told to end, and ends the carriers.
    #[must_use]
    pub fn join(self) -> Ended {
        let workers = joined(self.threads);
        self.shared.docks.iter().for_each(|dock| dock.send(Errand::Stop));
        workers.max(joined(self.carriers))
    }
}

/// Waits for threads, and gives how the worst of them has ended.
fn joined(threads: Vec<JoinHandle<io::Result<()>>>) -> Ended {
    let end_of = |thread: JoinHandle<_>| match thread.join() {
        Ok(Ok(())) => Ended::Orderly,
        Ok(Err(error)) => {
            let error: io::Error = error;
            log::error!("a thread could not go on: error=\"{error}\"");
            Ended::Broken
        }
        // The panic hook has said where and why.
        Err(_) => Ended::Broken,
    };
    threads.into_iter().map(end_of).max().unwrap_or(Ended::Orderly)
}

/// Tells the control loop, whichever way the thread ends.
struct TellEnd {
    ended_count: Arc<AtomicUsize>,
    waker: Arc<Waker>,
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        self.ended_count.fetch_add(1, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            log::error!("the control loop could not be woken: error=\"{error}\"");
        }
    }
}
