//! The queue between those who write lines and the one thread that may wait for the output.
//!
//! Two buffers change places: writers of lines append to one under a lock held for a copy, the output thread
//! empties the other. In steady state nothing is allocated, and a wake-up is sent only to a thread that
//! sleeps. Bounded in bytes, those being written included; what does not fit is dropped and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::output::Output;
use crate::limits::LOG_BUFFER_BYTES_KEPT;

/// Whole lines on their way to one output.
pub(super) struct LineQueue {
    bytes_max: usize,
    state: Mutex<State>,
    /// Wakes the output thread: lines, an output to change to, or the end.
    work: Condvar,
    /// Wakes [`LineQueue::finish`].
    ended: Condvar,
    /// Lines that the output thread lost, until someone who counts takes them.
    lost: AtomicU64,
    /// All lines that were ever lost, here or by the output thread.
    lost_total: AtomicU64,
}

#[derive(Default)]
struct State {
    pending: Vec<u8>,
    pending_lines: u64,
    /// Taken by the output thread and not written yet.
    in_flight_bytes: usize,
    in_flight_lines: u64,
    /// Lines dropped since the queue was last empty: more than none means that a stall was told.
    stall_lines: u64,
    /// The output that replaces the present one.
    output: Option<Box<dyn Output>>,
    sleeps: bool,
    finishing: bool,
    abandoned: bool,
    ended: bool,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It will be written.
    Taken,
    /// There was no room, for the first time since the queue was last empty.
    LostFirst,
    /// There was still no room.
    Lost,
}

/// What the output thread does next.
pub(super) enum Work {
    /// The buffer holds lines.
    Lines,
    /// Go on with another output.
    Output(Box<dyn Output>),
    /// Nothing is left and nothing will come.
    End,
}

impl LineQueue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            state: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
            lost: AtomicU64::new(0),
            lost_total: AtomicU64::new(0),
        }
    }

    /// Hands over a batch of whole lines. Never waits for the output.
    pub(super) fn push(&self, batch: &[u8], lines: u64) -> Pushed {
        let mut state = self.lock();
        let waiting = state.pending.len() + state.in_flight_bytes;
        if state.finishing || batch.len() > self.bytes_max.saturating_sub(waiting) {
            let first = state.stall_lines == 0 && !state.finishing;
            state.stall_lines += lines;
            self.lost_total.fetch_add(lines, Ordering::Relaxed);
            return if first { Pushed::LostFirst } else { Pushed::Lost };
        }
        state.pending.extend_from_slice(batch);
        state.pending_lines += lines;
        self.wake(state);
        Pushed::Taken
    }

    /// Makes the output thread go on with another output, even while the present one blocks.
    pub(super) fn change_output(&self, output: Box<dyn Output>) {
        let mut state = self.lock();
        state.output = Some(output);
        self.wake(state);
    }

    /// Lines that were lost after they had been taken, since the last call.
    pub(super) fn take_lost(&self) -> u64 {
        // The load keeps the line shared between the workers' caches while nothing is lost.
        if self.lost.load(Ordering::Relaxed) == 0 { 0 } else { self.lost.swap(0, Ordering::Relaxed) }
    }

    /// Every line that was dropped or lost so far.
    pub(super) fn lost_total(&self) -> u64 {
        self.lost_total.load(Ordering::Relaxed)
    }

    /// Lets the output thread write what is left, at most for `time_max`. Lines pushed later are dropped.
    /// Gives the lines that were lost by then and have not been counted.
    pub(super) fn finish(&self, time_max: Duration) -> u64 {
        let mut state = self.lock();
        state.finishing = true;
        self.work.notify_all();
        let waited = self.ended.wait_timeout_while(state, time_max, |state| !state.ended);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut lost = self.take_lost();
        if !state.ended {
            state.abandoned = true;
            let unwritten = state.pending_lines + state.in_flight_lines;
            self.lost_total.fetch_add(unwritten, Ordering::Relaxed);
            lost += unwritten;
            state.pending.clear();
            state.pending_lines = 0;
            state.in_flight_lines = 0;
        }
        lost
    }

    /// Nothing more will come: the output thread ends when it has written what is left.
    pub(super) fn close(&self) {
        self.lock().finishing = true;
        self.work.notify_all();
    }

    /// Waits for work. `lines` comes empty or with what was dealt with, and is filled for [`Work::Lines`].
    pub(super) fn take(&self, lines: &mut Vec<u8>) -> Work {
        lines.clear();
        // A buffer that grew in a stall is given back; the other one follows at the next exchange.
        lines.shrink_to(LOG_BUFFER_BYTES_KEPT);
        let mut state = self.lock();
        loop {
            if let Some(output) = state.output.take() {
                return Work::Output(output);
            }
            if !state.pending.is_empty() {
                std::mem::swap(&mut state.pending, lines);
                state.in_flight_bytes = lines.len();
                state.in_flight_lines = std::mem::take(&mut state.pending_lines);
                return Work::Lines;
            }
            if state.finishing {
                return Work::End;
            }
            state.sleeps = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeps = false;
        }
    }

    /// The output thread has dealt with so much of what it took.
    pub(super) fn done(&self, bytes: usize, lines: u64) {
        let mut state = self.lock();
        state.in_flight_bytes = state.in_flight_bytes.saturating_sub(bytes);
        state.in_flight_lines = state.in_flight_lines.saturating_sub(lines);
    }

    /// The output thread lost lines.
    pub(super) fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        self.lost_total.fetch_add(lines, Ordering::Relaxed);
    }

    /// What a blocked output thread goes on with, if anything.
    pub(super) fn take_output(&self) -> Option<Box<dyn Output>> {
        self.lock().output.take()
    }

    /// Whether what is left was counted as lost, so that it must not be written any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    /// When the queue is empty: how many lines were dropped since it was so before, if any.
    pub(super) fn end_stall(&self) -> Option<u64> {
        let mut state = self.lock();
        if !state.pending.is_empty() || state.stall_lines == 0 {
            return None;
        }
        Some(std::mem::take(&mut state.stall_lines))
    }

    /// The output thread ends.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.ended.notify_all();
    }

    /// The lock is held for copies only, so waiting for it is not blocking in the sense that matters here.
    /// A thread that panicked inside it left whole values behind.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the lock go and wakes the output thread if it sleeps.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if std::mem::take(&mut state.sleeps) {
            drop(state);
            self.work.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(queue: &LineQueue) -> Vec<u8> {
        let mut lines = Vec::new();
        assert!(matches!(queue.take(&mut lines), Work::Lines));
        lines
    }

    #[test]
    fn the_bound_covers_what_waits_and_what_is_being_written() {
        let queue = LineQueue::new(10);
        assert_eq!(queue.push(b"12345\n", 1), Pushed::Taken);
        assert_eq!(taken(&queue), b"12345\n");
        assert_eq!(queue.push(b"12345\n", 1), Pushed::LostFirst);
        assert_eq!(queue.push(b"123\n", 1), Pushed::Taken);
        assert_eq!(queue.push(b"\n", 1), Pushed::Lost);
        queue.done(3, 0);
        assert_eq!(queue.push(b"12\n", 1), Pushed::Taken);
        queue.done(3, 1);
        assert_eq!(queue.push(b"12\n", 1), Pushed::Taken);
        assert_eq!(taken(&queue), b"123\n12\n12\n");
    }

    #[test]
    fn a_stall_is_told_once_and_ends_when_the_queue_is_empty() {
        let queue = LineQueue::new(4);
        assert_eq!(queue.end_stall(), None);
        assert_eq!(queue.push(b"12345\n", 3), Pushed::LostFirst);
        assert_eq!(queue.push(b"123\n", 1), Pushed::Taken);
        assert_eq!(queue.push(b"12345\n", 2), Pushed::Lost);
        assert_eq!(queue.end_stall(), None, "lines still wait");
        taken(&queue);
        assert_eq!(queue.end_stall(), Some(5));
        assert_eq!(queue.end_stall(), None);
        queue.done(4, 1);
        assert_eq!(queue.push(b"12345\n", 1), Pushed::LostFirst);
    }

    #[test]
    fn finishing_counts_what_nobody_wrote() {
        let queue = LineQueue::new(100);
        queue.push(b"1\n2\n", 2);
        taken(&queue);
        queue.done(2, 1);
        queue.push(b"3\n4\n5\n", 3);
        queue.lose(7);
        assert_eq!(queue.finish(Duration::ZERO), 1 + 3 + 7);
        assert!(queue.is_abandoned());
        assert_eq!(queue.push(b"6\n", 1), Pushed::Lost);
        assert_eq!(queue.lost_total(), 12);
    }

    #[test]
    fn lost_lines_are_taken_once() {
        let queue = LineQueue::new(1);
        queue.lose(2);
        queue.lose(3);
        assert_eq!(queue.take_lost(), 5);
        assert_eq!(queue.take_lost(), 0);
    }
}
