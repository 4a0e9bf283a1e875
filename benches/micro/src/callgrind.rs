//! Counting the instructions of every operation, each in a run of its own under callgrind.
//!
//! callgrind counts while `counted_section` runs, on the thread that runs it; so start-up, preparation, warm-up
//! and the threads behind store and log are not in the figures. A run of its own: what one operation leaves on
//! the heap changes what the allocator does for the next by some per cent.

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io};

use crate::counts::Counts;
use crate::{OPERATIONS, Operation};

/// How often an operation is done while it is counted, and before that to warm up: tables have grown then, and
/// allocations come from what was freed. Enough that what happens now and then (a batch handed over, a level
/// of the wheel moved down) and the random seeds of hash tables even out.
const REPETITIONS: u64 = 4_000;

/// The function that callgrind watches for, in whatever module. A star at the end would never match.
const SECTION: &str = "*counted_section";

/// Why there are no counts.
#[derive(Debug)]
pub enum MeasureError {
    /// valgrind is not installed.
    Missing,
    /// It could not be run, or its result not be read.
    Io(io::Error),
    /// It ended with an error; its own words are on stderr.
    Failed(std::process::ExitStatus),
    /// No sum for this operation: callgrind did not see the section.
    NoSum(&'static str),
}

impl std::fmt::Display for MeasureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => write!(f, "valgrind is missing: apt-get install valgrind"),
            Self::Io(error) => write!(f, "cannot run valgrind or read its result: {error}"),
            Self::Failed(status) => write!(f, "valgrind ended with {status}"),
            Self::NoSum(name) => write!(f, "callgrind counted nothing for {name}"),
        }
    }
}

impl std::error::Error for MeasureError {}

impl From<io::Error> for MeasureError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Missing } else { Self::Io(error) }
    }
}

/// Does an operation: what runs under callgrind.
pub fn perform(operation: &Operation) {
    let mut work = (operation.prepare)();
    work(REPETITIONS);
    counted_section(&mut *work, REPETITIONS);
}

/// What callgrind counts. A call of its own, never inlined and never the last thing it does: callgrind has to
/// see it begin and return.
#[inline(never)]
fn counted_section(work: &mut dyn FnMut(u64), repetitions: u64) {
    work(black_box(repetitions));
    black_box(repetitions);
}

/// Runs `program` (this one) under callgrind for every operation, with the arguments `perform NAME`, which have
/// to lead to [`perform`]. `folder` takes callgrind's files.
///
/// # Errors
/// [`MeasureError`].
pub fn measure(program: &Path, folder: &Path) -> Result<Counts, MeasureError> {
    OPERATIONS
        .iter()
        .map(|operation| Ok((operation.name.to_owned(), measure_one(operation, program, folder)?)))
        .collect()
}

/// Instructions per operation, rounded.
fn measure_one(operation: &Operation, program: &Path, folder: &Path) -> Result<u64, MeasureError> {
    let out = folder.join("callgrind.out");
    let status = Command::new("valgrind")
        // Neither ~/.valgrindrc nor the environment may change what is counted.
        .args(["--command-line-only=yes", "--quiet", "--tool=callgrind"])
        .arg(format!("--toggle-collect={SECTION}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["perform", operation.name])
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(MeasureError::Failed(status));
    }
    let sum = sum_of(&fs::read_to_string(&out)?).filter(|sum| *sum > 0);
    let sum = sum.ok_or(MeasureError::NoSum(operation.name))?;
    Ok((sum + REPETITIONS / 2) / REPETITIONS)
}

/// What callgrind's file gives as the sum.
///
/// Shape (valgrind's manual, "Callgrind Format Specification"): a line `summary: COST`, here of the one event Ir.
fn sum_of(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("summary:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_sum_that_callgrind_gives() {
        let text = "version: 1\ncreator: callgrind-3.19.0\npart: 1\n\ndesc: Trigger: Program termination\n\n\
                    events: Ir\nsummary: 1200\n\nfn=(1) summary\n1 1200\n\ntotals: 1200\n";
        assert_eq!(sum_of(text), Some(1200));
        assert_eq!(sum_of("events: Ir\n"), None);
        assert_eq!(sum_of("summary: many\n"), None);
    }
}
