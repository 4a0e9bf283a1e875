//! Messages to a worker: from other workers, the store and the control loop. Bounded; never waits.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::accept::Place;
use super::policy::Policy;
use super::session::Rules;
use crate::ids::ListenerId;
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
    /// Settings, policy or resolver have changed.
    Snapshot(Arc<Snapshot>),
    /// Users were removed or changed: sessions of an older generation end.
    UsersChanged,
    /// Accept no more; end once the last session has.
    Drain,
    /// End every session and then the worker.
    Stop,
}

/// A worker as the others see it.
#[derive(Debug)]
pub struct Inbox {
    messages: Mutex<VecDeque<Message>>,
    /// Something waits: looked at without the lock.
    waiting: AtomicBool,
    waker: mio::Waker,
    /// Sessions of the worker, and connections on their way to it.
    pub(super) load: AtomicUsize,
}

impl Inbox {
    pub(super) fn new(waker: mio::Waker) -> Self {
        Self { messages: Mutex::default(), waiting: AtomicBool::new(false), waker, load: AtomicUsize::new(0) }
    }

    /// Leaves a message; gives it back when too many wait. Control messages always find room: there are few.
    pub fn send(&self, message: Message) -> Result<(), Message> {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let bounded = matches!(message, Message::Accepted(_));
        if bounded && messages.len() >= limits::INBOX_MESSAGES_MAX {
            return Err(message);
        }
        messages.push_back(message);
        drop(messages);
        if !self.waiting.swap(true, Ordering::AcqRel) {
            self.wake();
        }
        Ok(())
    }

    /// Messages that wait.
    pub(super) fn count(&self) -> usize {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes all messages.
    pub(super) fn take(&self, into: &mut VecDeque<Message>) {
        if self.waiting.load(Ordering::Acquire) && self.waiting.swap(false, Ordering::AcqRel) {
            let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *messages, into);
        }
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
