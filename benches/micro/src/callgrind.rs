//! Counting the instructions of every operation in one run under callgrind.
//!
//! callgrind counts while [`counted_section`] runs, on the thread that runs it, and writes the sum down whenever
//! it returns; so start-up, preparation, warm-up and the threads behind store and log are not in the figures.

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io};

use crate::OPERATIONS;
use crate::counts::Counts;

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
    /// Not as many sums as operations.
    Incomplete {
        /// Sums that callgrind wrote.
        got: usize,
    },
}

impl std::fmt::Display for MeasureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => write!(f, "valgrind is missing: apt-get install valgrind"),
            Self::Io(error) => write!(f, "cannot run valgrind or read its result: {error}"),
            Self::Failed(status) => write!(f, "valgrind ended with {status}"),
            Self::Incomplete { got } => {
                write!(f, "callgrind wrote {got} sums for {} operations", OPERATIONS.len())
            }
        }
    }
}

impl std::error::Error for MeasureError {}

impl From<io::Error> for MeasureError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Missing } else { Self::Io(error) }
    }
}

/// Does every operation, in the order of the table: what runs under callgrind.
pub fn perform() {
    for operation in OPERATIONS {
        let mut work = (operation.prepare)();
        work(REPETITIONS);
        counted_section(&mut *work, REPETITIONS);
    }
}

/// What callgrind counts. A call of its own, never inlined and never the last thing it does: callgrind has to
/// see it begin and return.
#[inline(never)]
fn counted_section(work: &mut dyn FnMut(u64), repetitions: u64) {
    work(black_box(repetitions));
    black_box(repetitions);
}

/// Runs `program` (this one) under callgrind with `argument`, which has to lead to [`perform`]. Instructions
/// per operation, rounded. `folder` takes callgrind's files.
///
/// # Errors
/// [`MeasureError`].
pub fn measure(program: &Path, argument: &str, folder: &Path) -> Result<Counts, MeasureError> {
    let out = folder.join("callgrind.out");
    let status = Command::new("valgrind")
        // Neither ~/.valgrindrc nor the environment may change what is counted.
        .args(["--command-line-only=yes", "--quiet", "--tool=callgrind", "--combine-dumps=yes"])
        .arg(format!("--toggle-collect={SECTION}"))
        .arg(format!("--dump-after={SECTION}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .arg(argument)
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(MeasureError::Failed(status));
    }
    let sums = sums_of(&fs::read_to_string(&out)?);
    if sums.len() != OPERATIONS.len() {
        return Err(MeasureError::Incomplete { got: sums.len() });
    }
    let per_operation = |sum: u64| (sum + REPETITIONS / 2) / REPETITIONS;
    Ok(OPERATIONS
        .iter()
        .zip(sums)
        .map(|(operation, sum)| (operation.name.to_owned(), per_operation(sum)))
        .collect())
}

/// The sums of those parts of callgrind's file that were written because the section returned.
///
/// Shape (valgrind's manual, "Callgrind Format Specification"): each part has a line `desc: Trigger: WHY` and
/// later `summary: COST`.
fn sums_of(text: &str) -> Vec<u64> {
    let mut is_section = false;
    let mut sums = Vec::new();
    for line in text.lines() {
        if let Some(why) = line.strip_prefix("desc: Trigger:") {
            is_section = why.trim_start().starts_with("--dump-after=");
        } else if let Some(cost) = line.strip_prefix("summary:")
            && is_section
            && let Ok(cost) = cost.trim().parse()
        {
            sums.push(cost);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_sums_of_the_section_and_no_others() {
        let text = "version: 1\ncreator: callgrind-3.19.0\n\npart: 1\n\ndesc: Trigger: --dump-after=*x\n\n\
                    events: Ir\nsummary: 1200\n\nfn=(1) a\n1 1200\n\npart: 2\n\
                    desc: Trigger: --dump-after=*x\nsummary: 7\n\npart: 3\n\
                    desc: Trigger: Program termination\nsummary: 99\n\ntotals: 1306\n";
        assert_eq!(sums_of(text), [1200, 7]);
        assert!(sums_of("").is_empty());
    }
}
