//! A child process that ends with the test, and whose output can be waited for line by line.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::waiting::{LIMIT, look_until};

/// How long a process may take to end when asked, before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running child. Dropping it sends SIGTERM, and SIGKILL to what does not end.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: &'static str,
    /// Lines of standard error so far.
    pub(crate) stderr: Lines,
}

/// Lines that a thread collects from a pipe.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<(Mutex<Collected>, Condvar)>);

#[derive(Debug, Default)]
struct Collected {
    lines: Vec<String>,
    ended: bool,
}

impl Process {
    /// Starts it, with standard error collected.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Self {
        Self::start_with_input(name, command, Stdio::null())
    }

    /// The same with a standard input.
    pub(crate) fn start_with_input(name: &'static str, command: &mut Command, input: Stdio) -> Self {
        command.stdin(input).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let stderr = Lines::collect(child.stderr.take().expect("standard error is piped"));
        Self { child, name, stderr }
    }

    /// The child's id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Takes the reading end of its standard output, which must have been piped.
    pub(crate) fn take_stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().expect("standard output is piped and was not taken")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap_or_else(|error| panic!("{} is gone: {error}", self.name));
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        look_until(Instant::now() + limit, || self.ended())
            .unwrap_or_else(|| panic!("{} did not end within {limit:?}\n{}", self.name, self.stderr.text()))
    }

    /// Waits until `ready` says so; panics with its standard error when it ends before that.
    pub(crate) fn wait_ready(&mut self, mut ready: impl FnMut() -> bool) {
        let outcome = look_until(Instant::now() + LIMIT, || match self.ended() {
            Some(status) => Some(Err(status)),
            None => ready().then_some(Ok(())),
        });
        match outcome {
            Some(Ok(())) => {}
            Some(Err(status)) => panic!("{} ended with {status}\n{}", self.name, self.stderr.text()),
            None => panic!("{} is not ready after {LIMIT:?}\n{}", self.name, self.stderr.text()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        let _ended_already = kill_process(self.pid(), Signal::TERM);
        let ended = look_until(Instant::now() + PATIENCE, || self.child.try_wait().ok().flatten());
        if ended.is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

impl Lines {
    /// Collects lines from `pipe` on a thread of their own, until it ends.
    pub(crate) fn collect(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let collector = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n') {
                let Ok(line) = line else { break };
                collector
                    .change(|collected| collected.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            collector.change(|collected| collected.ended = true);
        });
        lines
    }

    /// Every line so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// Every line so far, as one text.
    pub(crate) fn text(&self) -> String {
        self.all().join("\n")
    }

    /// Waits for a line that contains `part`.
    pub(crate) fn wait_for(&self, part: &str) -> String {
        self.find(LIMIT, |line| line.contains(part))
            .unwrap_or_else(|| panic!("no line with {part:?} within {LIMIT:?} in:\n{}", self.text()))
    }

    /// Waits for at least `count` lines and returns all.
    pub(crate) fn wait_for_count(&self, count: usize) -> Vec<String> {
        let (lock, changed) = &*self.0;
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = changed
            .wait_timeout_while(guard, LIMIT, |collected| collected.lines.len() < count && !collected.ended)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(guard.lines.len() >= count, "{count} lines expected, got {:#?}", guard.lines);
        guard.lines.clone()
    }

    /// Waits for a line that `wanted` accepts; `None` when the pipe ends or time is up before.
    pub(crate) fn find(&self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + limit;
        let (lock, changed) = &*self.0;
        let mut guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = 0;
        loop {
            if let Some(line) = guard.lines[seen..].iter().find(|line| wanted(line)) {
                return Some(line.clone());
            }
            seen = guard.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if guard.ended || left.is_zero() {
                return None;
            }
            (guard, _) = changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Collected)) {
        let (lock, changed) = &*self.0;
        change(&mut lock.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }
}
