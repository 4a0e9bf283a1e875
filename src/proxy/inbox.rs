//! Messages to a worker: from other workers, the store and the control loop. Bounded; never waits.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::accept::Place;
use super::live::{Question, QuestionId};
use super::loan::Returned;
use super::policy::Policy;
use super::session::Rules;
use crate::ids::{ListenerId, SessionId};
use crate::limits;
use crate::resolver;
use crate::settings::Settings;
use crate::store::Verdict;
use crate::sys::socket::TcpOptions;

/// What the live settings come to for a worker: immutable, swapped whole.
#[derive(Debug)]
pub struct Snapshot {
    /// The settings themselves.
    pub settings: Arc<Settings>,
    /// How sessions begin and how long their stages last.
    pub rules: Rules,
    /// Which destinations are allowed.
    pub policy: Policy,
    /// How names are resolved.
    pub resolver: resolver::Config,
    /// How TCP behaves towards origins.
    pub tcp: TcpOptions,
}

/// A connection that was let in and not begun yet.
#[derive(Debug)]
pub struct Connection {
    pub(super) socket: TcpStream,
    pub(super) listener: ListenerId,
    pub(super) client: SocketAddr,
    pub(super) place: Place,
}

/// Names a session to the worker that holds it; stale once the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey(pub(super) u64);

/// What a worker can be told.
#[derive(Debug)]
pub enum Message {
    /// A connection that another worker accepted.
    Accepted(Connection),
    /// What became of a password.
    Verdict(SessionKey, Verdict),
    /// What a carrier has to say of a relay that it was lent.
    Returned(SessionKey, Returned),
    /// Settings, policy or resolver have changed.
    Snapshot(Arc<Snapshot>),
    /// Something to look up or to do, answered through the door.
    Ask(QuestionId, Question),
    /// The next page of an answer.
    More(QuestionId),
    /// Nobody waits for the rest of an answer any more.
    Forget(QuestionId),
    /// Whether to tell what happens to sessions.
    TellNews(Switch),
    /// Nobody follows this session any more.
    Untrace(SessionId),
    /// Another number of workers is to accept.
    LookAround,
    /// Accept no more; end once the last session has.
    Drain,
    /// End every session and then the worker.
    Stop,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// Why a worker is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// It has too many questions already.
    Full,
    /// It has ended, or there never was one: it has no session.
    Gone,
}

/// What waits for a worker.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The latest one; those before it are of no interest any more.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) messages: VecDeque<Message>,
    questions_count: usize,
    /// The worker has ended.
    is_closed: bool,
}

/// A worker as the others see it.
#[derive(Debug)]
pub struct Inbox {
    waiting_for_it: Mutex<Waiting>,
    /// Something waits: looked at without the lock.
    waiting: AtomicBool,
    waker: mio::Waker,
    /// Sessions of the worker, and connections on their way to it.
    pub(super) load: AtomicUsize,
    /// When it last had a session that moves little, in microseconds from the epoch on.
    served_at_us: AtomicU64,
}

impl Inbox {
    pub(super) fn new(waker: mio::Waker) -> Self {
        Self {
            waiting_for_it: Mutex::default(),
            waiting: AtomicBool::new(false),
            waker,
            load: AtomicUsize::new(0),
            served_at_us: AtomicU64::new(0),
        }
    }

    /// The worker has had a session that moves little.
    pub(super) fn note_served(&self, at: Duration) {
        self.served_at_us.store(u64::try_from(at.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When it last had one, from the epoch on.
    pub(super) fn served_at(&self) -> Duration {
        Duration::from_micros(self.served_at_us.load(Ordering::Relaxed))
    }

    /// Leaves a message; gives it back when too many of its kind wait. A snapshot takes the place of the one
    /// that waits; of the other control messages there are few.
    pub fn send(&self, message: Message) -> Result<(), Message> {
        self.leave(message).map_err(|(message, _)| message)
    }

    /// The same; says why a message is given back.
    pub(super) fn leave(&self, message: Message) -> Result<(), (Message, Unasked)> {
        let mut waiting = self.waiting_for_it.lock().unwrap_or_else(PoisonError::into_inner);
        let is_question = matches!(message, Message::Ask(..));
        let is_connection = matches!(message, Message::Accepted(_));
        if is_connection && waiting.messages.len() >= limits::INBOX_MESSAGES_MAX
            || is_question && waiting.questions_count >= limits::DESK_QUESTIONS_MAX
        {
            return Err((message, Unasked::Full));
        }
        if waiting.is_closed && (is_connection || is_question) {
            return Err((message, Unasked::Gone));
        }
        waiting.questions_count += usize::from(is_question);
        if let Message::Snapshot(snapshot) = message {
            waiting.snapshot = Some(snapshot);
        } else {
            waiting.messages.push_back(message);
        }
        drop(waiting);
        if !self.waiting.swap(true, Ordering::AcqRel) {
            self.wake();
        }
        Ok(())
    }

    /// Takes all messages, in exchange for what `into` has: nothing.
    pub(super) fn take(&self, into: &mut Waiting) {
        if self.waiting.load(Ordering::Acquire) && self.waiting.swap(false, Ordering::AcqRel) {
            into.questions_count = 0;
            let mut waiting = self.waiting_for_it.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *waiting, into);
        }
    }

    /// The worker ends: what waits is taken, and nothing that wants an answer is left any more.
    pub(super) fn close(&self, into: &mut Waiting) {
        let mut waiting = self.waiting_for_it.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_closed = true;
        into.messages.append(&mut waiting.messages);
    }

    /// Messages that wait.
    pub(super) fn count(&self) -> usize {
        let waiting = self.waiting_for_it.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.messages.len() + usize::from(waiting.snapshot.is_some())
    }

    fn wake(&self) {
        // An eventfd write fails only when its counter is full, and then the worker is awake already.
        if let Err(error) = self.waker.wake()
            && error.kind() != io::ErrorKind::WouldBlock
        {
            log::error!("a worker could not be woken: error=\"{error}\"");
        }
    }
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Token, Waker};

    use super::*;
    use crate::proxy::session::Authentication;

    fn snapshot(idle_ms: u64) -> Message {
        let settings = Arc::new(Settings::default());
        let idle = Duration::from_millis(idle_ms);
        Message::Snapshot(Arc::new(Snapshot {
            rules: Rules {
                auth: Authentication::None,
                connect_timeout: idle,
                idle_timeout: Some(idle),
                half_closed_timeout: idle,
            },
            policy: Policy::default(),
            resolver: resolver::Config::from_settings(&settings, &[]),
            tcp: TcpOptions::default(),
            settings,
        }))
    }

    #[test]
    fn of_the_snapshots_the_latest_is_taken_and_questions_are_bounded() {
        let poll = Poll::new().unwrap();
        let inbox = Inbox::new(Waker::new(poll.registry(), Token(0)).unwrap());
        for idle_ms in 1..=10_000 {
            inbox.send(snapshot(idle_ms)).unwrap();
        }
        for question in 0..limits::DESK_QUESTIONS_MAX as u64 {
            inbox.send(Message::Ask(QuestionId(question), Question::Resume)).unwrap();
        }
        inbox.send(Message::Ask(QuestionId(0), Question::Resume)).unwrap_err();
        inbox.send(Message::Drain).unwrap();
        assert_eq!(inbox.count(), limits::DESK_QUESTIONS_MAX + 2);
        let mut taken = Waiting::default();
        inbox.take(&mut taken);
        let idle = taken.snapshot.take().unwrap().rules.idle_timeout;
        assert_eq!(idle, Some(Duration::from_millis(10_000)));
        assert_eq!(taken.messages.len(), limits::DESK_QUESTIONS_MAX + 1);
        inbox.send(Message::Ask(QuestionId(1), Question::Resume)).unwrap();
        taken.messages.clear();
        inbox.close(&mut taken);
        assert_eq!(taken.messages.len(), 1, "what waited can be answered");
        let late = inbox.leave(Message::Ask(QuestionId(2), Question::Resume));
        assert_eq!(late.unwrap_err().1, Unasked::Gone);
        inbox.send(Message::Drain).unwrap();
    }
}
