//! The pool that hashes passwords beside everything else: a bounded queue, fair between sources, and threads.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::throttle::Source;

/// Bounds of a [`FairQueue`].
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    /// Items of all sources together.
    pub items_count: usize,
    /// Items of one source.
    pub items_per_source: usize,
}

/// What became of an item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Queued<T> {
    /// It waits for its turn.
    Taken,
    /// It waits, and this one of the source with most items had to leave.
    Displaced(T),
    /// Its source has too many, or nobody has more: it comes back.
    Full(T),
}

/// Items wait in their source's own line, and the lines take turns: a source that sends a thousand delays
/// another's first by one. Pure.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    limits: QueueLimits,
    /// Lines with at least one item.
    lines: HashMap<Source, VecDeque<T>>,
    /// The sources of `lines`, next one first.
    turns: VecDeque<Source>,
    items_count: usize,
}

impl<T> FairQueue<T> {
    /// Nobody waits.
    #[must_use]
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self { limits, lines: HashMap::new(), turns: VecDeque::new(), items_count: 0 }
    }

    /// Appends to the source's line. A full queue makes room at the expense of the longest line, where that is
    /// longer than this one would become.
    pub(super) fn push(&mut self, source: Source, item: T) -> Queued<T> {
        let waiting = self.lines.get(&source).map_or(0, VecDeque::len);
        if waiting >= self.limits.items_per_source {
            return Queued::Full(item);
        }
        let displaced = if self.items_count < self.limits.items_count {
            None
        } else {
            match self.displace(waiting + 1) {
                Some(displaced) => Some(displaced),
                None => return Queued::Full(item),
            }
        };
        let line = self.lines.entry(source).or_default();
        if line.is_empty() {
            self.turns.push_back(source);
        }
        line.push_back(item);
        self.items_count += 1;
        self.check_invariants();
        displaced.map_or(Queued::Taken, Queued::Displaced)
    }

    /// The next item: the oldest of the source whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let source = self.turns.pop_front()?;
        let line = self.lines.get_mut(&source)?;
        let item = line.pop_front()?;
        self.items_count -= 1;
        if line.is_empty() {
            self.lines.remove(&source);
        } else {
            self.turns.push_back(source);
        }
        self.check_invariants();
        Some(item)
    }

    /// Takes the newest item of the longest line, if it is longer than `length`.
    fn displace(&mut self, length: usize) -> Option<T> {
        let line =
            self.lines.values_mut().max_by_key(|line| line.len()).filter(|line| line.len() > length)?;
        let item = line.pop_back();
        self.items_count -= usize::from(item.is_some());
        item
    }

    fn check_invariants(&self) {
        debug_assert_eq!(self.turns.len(), self.lines.len());
        debug_assert_eq!(self.items_count, self.lines.values().map(VecDeque::len).sum::<usize>());
        debug_assert!(self.lines.values().all(|line| !line.is_empty()));
        debug_assert!(self.items_count <= self.limits.items_count);
    }
}

/// Threads that work off a [`FairQueue`].
pub(super) struct HashPool<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    work: Condvar,
}

struct State<T> {
    queue: FairQueue<T>,
    stopping: bool,
}

impl<T: Send + 'static> HashPool<T> {
    /// Starts the threads; each calls `work` for one item after the other.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn start<W>(threads_count: usize, limits: QueueLimits, work: W) -> io::Result<Self>
    where
        W: Fn(T) + Clone + Send + 'static,
    {
        let state = State { queue: FairQueue::new(limits), stopping: false };
        let pool = Self { shared: Arc::new(Shared { state: Mutex::new(state), work: Condvar::new() }) };
        for _ in 0..threads_count {
            let (shared, work) = (Arc::clone(&pool.shared), work.clone());
            thread::Builder::new().name("hashing".to_owned()).spawn(move || {
                while let Some(item) = shared.next() {
                    work(item);
                }
            })?;
        }
        Ok(pool)
    }

    /// Queues an item; never waits.
    pub(super) fn submit(&self, source: Source, item: T) -> Queued<T> {
        let queued = self.shared.lock().queue.push(source, item);
        if !matches!(queued, Queued::Full(_)) {
            self.shared.work.notify_one();
        }
        queued
    }
}

/// The threads end after the item they have; what still waits is dropped.
impl<T> Drop for HashPool<T> {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
    }
}

impl<T> Shared<T> {
    /// Waits for an item; `None` at the end.
    fn next(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return None;
            }
            if let Some(item) = state.queue.pop() {
                return Some(item);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;
    use std::sync::mpsc;
    use std::time::Duration;

    const LIMITS: QueueLimits = QueueLimits { items_count: 8, items_per_source: 6 };

    fn source(number: u8) -> Source {
        Source::from(IpAddr::from([192, 0, 2, number]))
    }

    fn drain<T>(queue: &mut FairQueue<T>) -> Vec<T> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn a_source_that_floods_does_not_starve_another() {
        let mut queue = FairQueue::new(LIMITS);
        for item in ["a1", "a2", "a3", "a4"] {
            assert_eq!(queue.push(source(1), item), Queued::Taken);
        }
        queue.push(source(2), "b1");
        queue.push(source(3), "c1");
        queue.push(source(2), "b2");
        assert_eq!(drain(&mut queue), ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
    }

    #[test]
    fn one_source_has_a_bound_and_a_full_queue_takes_from_the_longest_line() {
        let mut queue = FairQueue::new(LIMITS);
        for item in 10..16 {
            assert_eq!(queue.push(source(1), item), Queued::Taken);
        }
        assert_eq!(queue.push(source(1), 16), Queued::Full(16));
        queue.push(source(2), 20);
        queue.push(source(2), 21);
        assert_eq!(queue.push(source(2), 22), Queued::Displaced(15));
        assert_eq!(queue.push(source(3), 30), Queued::Displaced(14));
        assert_eq!(queue.push(source(2), 23), Queued::Full(23), "four and four would gain nobody");
        assert_eq!(drain(&mut queue), [10, 20, 30, 11, 21, 12, 22, 13]);
        assert_eq!(queue.push(source(1), 17), Queued::Taken);
    }

    proptest! {
        #[test]
        fn every_item_comes_out_once_and_in_its_sources_order(
            steps in prop::collection::vec(prop::option::of(0u8..4), 0..200),
        ) {
            let mut queue = FairQueue::new(LIMITS);
            let (mut left, mut came) = (Vec::<(u8, usize)>::new(), Vec::<(u8, usize)>::new());
            let mut inserted = 0;
            for (number, step) in steps.into_iter().enumerate() {
                let Some(from) = step else {
                    came.extend(queue.pop());
                    continue;
                };
                inserted += 1;
                match queue.push(source(from), (from, number)) {
                    Queued::Taken => {}
                    Queued::Displaced(item) | Queued::Full(item) => left.push(item),
                }
            }
            came.extend(drain(&mut queue));
            prop_assert_eq!(came.len() + left.len(), inserted);
            for from in 0..4 {
                let numbers: Vec<_> = came.iter().filter(|item| item.0 == from).map(|item| item.1).collect();
                prop_assert!(numbers.is_sorted());
            }
        }
    }

    #[test]
    fn the_threads_take_turns_and_end_with_the_pool() {
        let (started, starts) = mpsc::channel();
        let (let_go, go) = mpsc::channel::<()>();
        let go = Arc::new(Mutex::new(go));
        let pool = HashPool::start(1, LIMITS, move |item: &'static str| {
            started.send(item).unwrap();
            go.lock().unwrap().recv().unwrap();
        })
        .unwrap();
        let next = || starts.recv_timeout(Duration::from_secs(10));
        pool.submit(source(1), "a1");
        assert_eq!(next(), Ok("a1"));
        for (from, item) in [(1, "a2"), (1, "a3"), (2, "b1"), (1, "a4")] {
            assert_eq!(pool.submit(source(from), item), Queued::Taken);
        }
        for expected in ["a2", "b1", "a3"] {
            let_go.send(()).unwrap();
            assert_eq!(next(), Ok(expected));
        }
        drop(pool);
        let_go.send(()).unwrap();
        assert_eq!(next(), Err(mpsc::RecvTimeoutError::Disconnected), "a4 was dropped with the pool");
    }
}
