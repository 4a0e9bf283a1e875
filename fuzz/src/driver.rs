//! Runs a target on changed seeds, on any toolchain: a bounded number of inputs, each made from the run's seed
//! and its own number alone, so that any of them can be had again.
//!
//! A failure, a panic or an input that does not come to an end, is made smaller, saved, and described with all
//! that is needed to repeat it.

use std::cell::Cell;
use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::mutate::input;
use crate::{Judged, Target};

/// Tries to make a failing input smaller.
const SHRINKS_MAX: usize = 4_000;

/// How much of a run there is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The run's seed.
    pub seed: u64,
    /// Number of the first input.
    pub first: u64,
    /// Inputs, at most.
    pub inputs_max: u64,
    /// Time, at most.
    pub time_max: Duration,
    /// Time after which one input counts as endless.
    pub patience: Duration,
    /// Where failing inputs are saved: one directory for each target in it.
    pub artifacts: PathBuf,
}

/// What a run without failure came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Inputs tried, seeds included.
    pub inputs: u64,
    /// Those that were [`Judged::Accepted`].
    pub accepted: u64,
}

/// What went wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The target panicked, saying this.
    Panic(String),
    /// It went on for longer than [`Plan::patience`].
    Endless,
}

/// Where a failing input came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The committed seed in that place of the list.
    Seed(usize),
    /// The input of that number of a run with that seed.
    Made {
        /// [`Plan::seed`].
        seed: u64,
        /// Counted from 0.
        number: u64,
    },
}

/// A failing input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Name of the target.
    pub target: &'static str,
    /// What went wrong.
    pub fault: Fault,
    /// Where the input came from.
    pub cause: Cause,
    /// The input, made as small as it could be.
    pub input: Vec<u8>,
    /// The file that holds it, if it could be written.
    pub saved: Option<PathBuf>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { target, fault, cause, input, saved } = self;
        match fault {
            Fault::Panic(text) => writeln!(f, "{target}: panicked: {text}")?,
            Fault::Endless => writeln!(f, "{target}: did not come to an end")?,
        }
        match cause {
            Cause::Seed(place) => writeln!(f, "  on committed input {place} in order of names")?,
            Cause::Made { seed, number } => {
                writeln!(
                    f,
                    "  on input {number} of seed {seed}; again: FUZZ_SEED={seed} FUZZ_FIRST={number}"
                )?;
            }
        }
        writeln!(f, "  {} octets: b\"{}\"", input.len(), input.escape_ascii())?;
        match saved {
            Some(path) => {
                write!(f, "  saved as {}; once mended it belongs into seeds/{target}", path.display())
            }
            None => write!(f, "  and could not be saved"),
        }
    }
}

/// Runs `target` on every seed and then on changed ones. The first failure ends the run.
pub fn run(target: &Target, seeds: Vec<Vec<u8>>, plan: &Plan) -> Result<Summary, Box<Failure>> {
    quiet_panics();
    let progress = Arc::new(Progress::default());
    let (sender, receiver) = mpsc::sync_channel(1);
    let (work, watched, limits) = (*target, Arc::clone(&progress), plan.clone());
    let spawned = thread::Builder::new().name(target.name.to_owned()).spawn(move || {
        // Nobody listens any more once an input was found endless.
        let _ = sender.send(work_through(&work, &seeds, &limits, &watched));
    });
    assert!(spawned.is_ok(), "no thread for {}: {spawned:?}", target.name);
    let mut failure = loop {
        let before = progress.inputs.load(Ordering::Relaxed);
        match receiver.recv_timeout(plan.patience) {
            Ok(Ok(summary)) => return Ok(summary),
            Ok(Err(failure)) => break failure,
            Err(RecvTimeoutError::Timeout) if progress.inputs.load(Ordering::Relaxed) != before => {}
            Err(RecvTimeoutError::Timeout) => {
                progress.given_up.store(true, Ordering::Relaxed);
                break progress.endless(target.name);
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the thread of {} is gone", target.name),
        }
    };
    failure.saved = save(&plan.artifacts, &failure).ok();
    Err(failure)
}

/// What the thread that works shows to the one that watches it.
#[derive(Default)]
struct Progress {
    inputs: AtomicU64,
    given_up: AtomicBool,
    current: Mutex<Option<(Cause, Vec<u8>)>>,
}

impl Progress {
    fn begin(&self, cause: &Cause, input: &[u8]) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (shown, octets) = current.get_or_insert_with(|| (cause.clone(), Vec::new()));
        *shown = cause.clone();
        octets.clear();
        octets.extend_from_slice(input);
        self.inputs.fetch_add(1, Ordering::Relaxed);
    }

    fn endless(&self, target: &'static str) -> Box<Failure> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (cause, input) = current.unwrap_or((Cause::Seed(0), Vec::new()));
        Box::new(Failure { target, fault: Fault::Endless, cause, input, saved: None })
    }
}

fn work_through(
    target: &Target,
    seeds: &[Vec<u8>],
    plan: &Plan,
    progress: &Progress,
) -> Result<Summary, Box<Failure>> {
    let mut summary = Summary::default();
    let mut take = |cause: Cause, input: Vec<u8>| {
        progress.begin(&cause, &input);
        summary.inputs += 1;
        match attempt(target, &input) {
            Ok(judged) => {
                summary.accepted += u64::from(judged == Judged::Accepted);
                Ok(())
            }
            Err(text) => {
                let (text, input) = shrink(target, input, text, progress);
                let fault = Fault::Panic(text);
                Err(Box::new(Failure { target: target.name, fault, cause, input, saved: None }))
            }
        }
    };
    for (place, seed) in seeds.iter().enumerate() {
        take(Cause::Seed(place), seed.clone())?;
    }
    let end = Instant::now() + plan.time_max;
    for number in plan.first..plan.first.saturating_add(plan.inputs_max) {
        // Looking at the clock costs more than some targets do.
        if number % 16 == 0 && (Instant::now() >= end || progress.given_up.load(Ordering::Relaxed)) {
            break;
        }
        take(Cause::Made { seed: plan.seed, number }, input(seeds, target.words, plan.seed, number))?;
    }
    Ok(summary)
}

/// Leaves out more and more of the input for as long as it goes on to fail, in halves first, single octets last.
fn shrink(target: &Target, input: Vec<u8>, text: String, progress: &Progress) -> (String, Vec<u8>) {
    let (mut smallest, mut said) = (input, text);
    let mut length = smallest.len() / 2;
    let mut tries = 0;
    while length > 0 && tries < SHRINKS_MAX {
        let mut at = 0;
        let before = smallest.len();
        while at < smallest.len() && tries < SHRINKS_MAX {
            tries += 1;
            let mut candidate = smallest.clone();
            candidate.drain(at..(at + length).min(smallest.len()));
            progress.inputs.fetch_add(1, Ordering::Relaxed);
            match attempt(target, &candidate) {
                Err(text) => (smallest, said) = (candidate, text),
                Ok(_) => at += length,
            }
        }
        if length > 1 || smallest.len() == before {
            length /= 2;
        }
    }
    (said, smallest)
}

thread_local! {
    /// Panics of this thread are expected, and told by other means.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// What the last of them said, and where.
    static SAID: Cell<String> = const { Cell::new(String::new()) };
}

/// Runs the target once; a panic is an error with what it said.
fn attempt(target: &Target, input: &[u8]) -> Result<Judged, String> {
    QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    QUIET.set(false);
    result.map_err(|_| SAID.take())
}

/// Keeps the panics of targets off standard error: there may be thousands while an input is made smaller.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                SAID.set(format!("{place}: {}", info.payload_as_str().unwrap_or("something else than text")));
            } else {
                usual(info);
            }
        }));
    });
}

/// Saves under a name made from the octets, so that the same input is saved once.
fn save(artifacts: &Path, failure: &Failure) -> io::Result<PathBuf> {
    let directory = artifacts.join(failure.target);
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("found-{:016x}.seed", fingerprint(&failure.input)));
    fs::write(&path, &failure.input)?;
    Ok(path)
}

/// FNV-1a: tells a few files apart.
fn fingerprint(octets: &[u8]) -> u64 {
    octets
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, octet| (sum ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}

/// The committed inputs of a target, in order of their names.
pub fn seeds_of(directory: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut paths =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    paths.iter().map(fs::read).collect()
}
