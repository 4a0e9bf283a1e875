//! Copies of lines for those who follow a log: taken as the lines are written, kept in a bounded queue until the
//! control loop fetches them. While nobody follows, a line costs one relaxed load.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::Level;

use crate::limits::{LOG_TAP_BYTES_MAX, LOG_TAP_LINE_BYTES_MAX, LOG_TAP_LINES_MAX};

/// Which log a line belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineOf {
    /// The access log; the user whose session it is.
    Access(Box<[u8]>),
    /// Credentials seen in clear, for administrators only; the user whose session it is.
    Credentials(Box<[u8]>),
    /// Diagnostics.
    Diagnostics(Level),
    /// What was changed and by whom: diagnostics of the target [`AUDIT`](super::AUDIT).
    Audit,
}

/// A line as it was written, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TappedLine {
    /// Where it belongs.
    pub of: LineOf,
    /// The line, cut where it is too long.
    pub text: String,
}

/// What was fetched from a tap.
#[derive(Debug, Default)]
pub struct Tapped {
    /// Lines in the order in which they were written.
    pub lines: VecDeque<TappedLine>,
    /// Lines after them that found no room.
    pub missed: u64,
}

/// Called once a line waits that nobody knows of yet.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// Where lines are copied to.
#[derive(Default)]
pub struct Tap {
    open: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tapped: Tapped,
    bytes: usize,
    /// The reader knows that something waits.
    woken: bool,
    wake: Option<Wake>,
}

impl Tap {
    /// Whether anybody follows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Copies lines from now on. `wake` is called from the thread that writes a line, when none waited before.
    pub fn open(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.lock().wake = Some(Arc::new(wake));
        self.open.store(true, Ordering::Relaxed);
    }

    /// Nobody follows any more: what waits is dropped.
    pub fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
        *self.lock() = State::default();
    }

    /// Fetches what waits.
    #[must_use]
    pub fn take(&self) -> Tapped {
        let mut state = self.lock();
        state.bytes = 0;
        state.woken = false;
        std::mem::take(&mut state.tapped)
    }

    /// Copies a line, if there is room for it. To be called where the tap is open.
    pub(super) fn push(&self, of: LineOf, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.get(..LOG_TAP_LINE_BYTES_MAX).unwrap_or(line);
        let text = String::from_utf8_lossy(line).into_owned();
        let mut state = self.lock();
        if state.wake.is_none() {
            return; // It was closed meanwhile.
        }
        let full = state.bytes + text.len() > LOG_TAP_BYTES_MAX
            || state.tapped.lines.len() >= LOG_TAP_LINES_MAX
            // What comes after a gap would stand before it.
            || state.tapped.missed > 0;
        if full {
            state.tapped.missed += 1;
        } else {
            state.bytes += text.len();
            state.tapped.lines.push_back(TappedLine { of, text });
        }
        let wake = if std::mem::replace(&mut state.woken, true) { None } else { state.wake.clone() };
        drop(state); // Waking may write a line of its own.
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Held for copies only; who panicked inside left whole values behind.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn access(user: &str) -> LineOf {
        LineOf::Access(user.as_bytes().into())
    }

    fn open(tap: &Tap) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        tap.open(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        count
    }

    #[test]
    fn lines_are_copied_while_somebody_follows_and_the_reader_is_woken_once() {
        let tap = Tap::default();
        assert!(!tap.is_open());
        tap.push(access("alice"), b"before\n");
        let woken = open(&tap);
        assert!(tap.is_open());
        tap.push(access("alice"), b"one\n");
        tap.push(LineOf::Audit, b"two");
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        let texts: Vec<_> = tap.take().lines.into_iter().map(|line| (line.of, line.text)).collect();
        assert_eq!(texts, [(access("alice"), "one".to_owned()), (LineOf::Audit, "two".to_owned())]);
        tap.push(LineOf::Diagnostics(Level::Warn), b"three\n");
        assert_eq!(woken.load(Ordering::Relaxed), 2);
        tap.close();
        assert!(!tap.is_open() && tap.take().lines.is_empty());
    }

    #[test]
    fn what_finds_no_room_is_counted_until_the_reader_comes() {
        let tap = Tap::default();
        let _ = open(&tap);
        let line = vec![b'x'; LOG_TAP_LINE_BYTES_MAX + 10];
        let room = LOG_TAP_BYTES_MAX / LOG_TAP_LINE_BYTES_MAX;
        (0..room + 3).for_each(|_| tap.push(LineOf::Audit, &line));
        tap.push(LineOf::Audit, b"short, but after those that are missing");
        let tapped = tap.take();
        assert_eq!((tapped.lines.len(), tapped.missed), (room, 4));
        assert!(tapped.lines.iter().all(|line| line.text.len() == LOG_TAP_LINE_BYTES_MAX));
        (0..LOG_TAP_LINES_MAX + 1).for_each(|_| tap.push(LineOf::Audit, b"x"));
        let tapped = tap.take();
        assert_eq!((tapped.lines.len(), tapped.missed), (LOG_TAP_LINES_MAX, 1));
    }

    #[test]
    fn octets_that_are_not_text_are_shown_as_such() {
        let tap = Tap::default();
        let _ = open(&tap);
        tap.push(LineOf::Audit, b"a\xffb\n");
        assert_eq!(tap.take().lines[0].text, "a\u{fffd}b");
    }
}
