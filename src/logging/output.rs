//! The thread that writes lines: waits where a worker must not, and never leaves a part of a line behind.
//!
//! Whatever happens to the output is one of three things: it blocks (then the queue fills up), it fails (lines
//! are lost until it works again), or its reader is gone for good (lines are lost until it is replaced).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::queue::{LineQueue, Work};
use crate::limits::LOG_BLOCKED_WAIT;

/// What a pipe takes whole or not at all (POSIX: at least 512; Linux: one page).
const PIPE_WRITE_BYTES: usize = 4096;

/// Something that takes bytes. The real one is [`FileOutput`]; tests have others.
pub(super) trait Output: Send {
    /// As `write(2)`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Waits until a write of [`Output::write_bytes_max`] would not block; false when the time has passed.
    fn wait(&mut self, time_max: Duration) -> bool;
    /// Most bytes given to one write.
    fn write_bytes_max(&self) -> usize;
}

/// What the operator should hear of an output.
#[derive(Debug)]
pub(super) enum Report {
    /// The reader is gone; everything is dropped from here on.
    Gone(io::Error),
    /// Writing fails; told once until it works again.
    Failing(io::Error),
    /// Writing works again after so many lines were lost.
    Recovered { lines_lost: u64 },
    /// The queue is empty again after so many lines found it full.
    CaughtUp { lines_lost: u64 },
}

/// The body of an output thread: writes until the queue ends.
pub(super) fn drain(queue: &LineQueue, output: Box<dyn Output>, mut report: impl FnMut(Report)) {
    let mut writer = LineWriter::new(output);
    let mut lines = Vec::new();
    loop {
        match queue.take(&mut lines) {
            Work::Lines => {
                if !write_batch(queue, &mut writer, &lines, &mut report) {
                    break;
                }
                if let Some(lines_lost) = queue.end_stall() {
                    report(Report::CaughtUp { lines_lost });
                }
            }
            Work::Output(output) => queue.lose(writer.change_output(output)),
            Work::End => break,
        }
    }
    queue.lose(writer.abandon());
    queue.end();
}

/// Writes or loses every line of a batch. False: given up because nobody waits for it any more.
fn write_batch(
    queue: &LineQueue,
    writer: &mut LineWriter,
    lines: &[u8],
    report: &mut impl FnMut(Report),
) -> bool {
    let mut rest = lines;
    while !rest.is_empty() {
        let ready = writer.ready();
        if queue.is_abandoned() {
            return false;
        }
        match if ready { writer.step(rest, report) } else { Step::Blocked } {
            Step::Wrote(bytes) => {
                let (wrote, unwritten) = rest.split_at(bytes.min(rest.len()));
                queue.done(wrote.len(), count_lines(wrote));
                rest = unwritten;
            }
            Step::Lost { lines } => {
                queue.done(rest.len(), count_lines(rest));
                queue.lose(lines);
                return true;
            }
            Step::Blocked => {
                if let Some(output) = queue.take_output() {
                    // The new output gets the line from its beginning: the part that the old one took is lost
                    // with its reader.
                    let written = lines.len() - rest.len();
                    rest = from_line_start(lines, written);
                    queue.lose(writer.change_output(output));
                }
            }
        }
    }
    true
}

/// The lines from the one that position `at` is in.
fn from_line_start(lines: &[u8], at: usize) -> &[u8] {
    let before = lines.get(..at).unwrap_or(lines);
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    lines.get(start..).unwrap_or_default()
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte == b'\n')).sum()
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// So many bytes were written; none is no progress, but worth another try.
    Wrote(usize),
    /// Nothing of the rest can be written now, and so many of its lines are lost for good.
    Lost { lines: u64 },
    /// The output took nothing for a while.
    Blocked,
}

enum Condition {
    Fine,
    Failing { lines_lost: u64 },
    Gone,
}

/// Writes lines so that each is there whole: one cut off by a failure is continued when writing works again.
struct LineWriter {
    output: Box<dyn Output>,
    condition: Condition,
    /// The last byte written was not a line end.
    inside_line: bool,
    /// What is missing of a line cut off by a failure.
    cut_off: Vec<u8>,
}

impl LineWriter {
    fn new(output: Box<dyn Output>) -> Self {
        Self { output, condition: Condition::Fine, inside_line: false, cut_off: Vec::new() }
    }

    /// Goes on with another output, at the start of a line. Gives the lines lost with the old one.
    fn change_output(&mut self, output: Box<dyn Output>) -> u64 {
        let lost = self.abandon();
        *self = Self::new(output);
        lost
    }

    /// The lines lost if nothing more is written.
    fn abandon(&self) -> u64 {
        u64::from(!self.cut_off.is_empty())
    }

    /// Waits a while until a write would not block.
    fn ready(&mut self) -> bool {
        matches!(self.condition, Condition::Gone) || self.output.wait(LOG_BLOCKED_WAIT)
    }

    /// One attempt on `rest`, which begins where the last one stopped and ends with a line end.
    fn step(&mut self, rest: &[u8], report: &mut impl FnMut(Report)) -> Step {
        if matches!(self.condition, Condition::Gone) {
            return Step::Lost { lines: count_lines(rest) };
        }
        let continues = !self.cut_off.is_empty();
        let bytes = if continues { &self.cut_off } else { rest };
        let result = self.output.write(whole_lines(bytes, self.output.write_bytes_max()));
        match result {
            Ok(0) => self.fail(io::ErrorKind::WriteZero.into(), rest, report),
            Ok(wrote) if continues => {
                let last = self.cut_off.drain(..wrote.min(self.cut_off.len())).next_back();
                self.wrote(last, report);
                Step::Wrote(0)
            }
            Ok(wrote) => {
                self.wrote(rest.get(wrote.wrapping_sub(1)).copied(), report);
                Step::Wrote(wrote)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Step::Wrote(0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Step::Blocked,
            Err(error) => self.fail(error, rest, report),
        }
    }

    /// Something was written, up to the byte `last`. Only a line end proves that it works again.
    fn wrote(&mut self, last: Option<u8>, report: &mut impl FnMut(Report)) {
        self.inside_line = last != Some(b'\n');
        if let Condition::Failing { lines_lost } = self.condition
            && !self.inside_line
        {
            self.condition = Condition::Fine;
            report(Report::Recovered { lines_lost });
        }
    }

    /// Nothing could be written. The line that is cut off waits to be continued, all others are lost.
    fn fail(&mut self, error: io::Error, rest: &[u8], report: &mut impl FnMut(Report)) -> Step {
        let gone = error.kind() == io::ErrorKind::BrokenPipe;
        let mut lines = count_lines(rest);
        if self.inside_line && self.cut_off.is_empty() && !gone {
            let line_bytes = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |end| end + 1);
            self.cut_off.extend_from_slice(rest.get(..line_bytes).unwrap_or(rest));
            lines = lines.saturating_sub(1);
        }
        if gone {
            lines += u64::from(!self.cut_off.is_empty());
            self.cut_off.clear();
            self.condition = Condition::Gone;
            report(Report::Gone(error));
        } else if let Condition::Failing { lines_lost } = &mut self.condition {
            *lines_lost += lines;
        } else {
            self.condition = Condition::Failing { lines_lost: lines };
            report(Report::Failing(error));
        }
        Step::Lost { lines }
    }
}

/// The longest part from the front that holds whole lines and is not above `bytes_max`; where a single line is
/// longer, a part of it.
fn whole_lines(bytes: &[u8], bytes_max: usize) -> &[u8] {
    let Some(front) = bytes.get(..bytes_max) else { return bytes };
    match front.iter().rposition(|&byte| byte == b'\n') {
        Some(end) => front.get(..=end).unwrap_or(front),
        None => front,
    }
}

/// An open descriptor: standard output or error, a file, or a pipe with a name.
pub(super) struct FileOutput {
    file: File,
    /// Writes to a regular file wait for the disk only, and no poll says for how long.
    regular: bool,
}

impl FileOutput {
    /// A duplicate of standard output.
    pub(super) fn stdout() -> io::Result<Self> {
        Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    /// A duplicate of standard error.
    pub(super) fn stderr() -> io::Result<Self> {
        Self::new(File::from(io::stderr().as_fd().try_clone_to_owned()?))
    }

    /// Opens a file to append to, creating it readable for owner and group: it says who went where.
    ///
    /// A line that an earlier run left without its end is ended. A named pipe without a reader is an error
    /// (`ENXIO`) rather than a wait.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK);
        let mut output = Self::new(options.open(path)?)?;
        if output.regular && lacks_line_end(path) {
            output.file.write_all(b"\n")?;
        }
        Ok(output)
    }

    fn new(file: File) -> io::Result<Self> {
        let regular = file.metadata()?.is_file();
        Ok(Self { file, regular })
    }
}

impl From<OwnedFd> for FileOutput {
    fn from(descriptor: OwnedFd) -> Self {
        Self { file: File::from(descriptor), regular: false }
    }
}

/// Whether a file that is not empty ends inside a line. One that cannot be read is taken as it is.
fn lacks_line_end(path: &Path) -> bool {
    let last_byte = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        let [byte] = byte;
        Ok(byte)
    };
    last_byte().is_ok_and(|byte| byte != b'\n')
}

impl Output for FileOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    /// Standard output is shared with other processes, so it is not made non-blocking; but a pipe that polls
    /// writable takes [`PIPE_WRITE_BYTES`] without blocking. Errors count as ready: the write will name them.
    fn wait(&mut self, time_max: Duration) -> bool {
        if self.regular {
            return true;
        }
        let timeout = Timespec::try_from(time_max).ok();
        let mut polled = [PollFd::new(&self.file, PollFlags::OUT)];
        !matches!(rustix::event::poll(&mut polled, timeout.as_ref()), Ok(0))
    }

    fn write_bytes_max(&self) -> usize {
        if self.regular { usize::MAX } else { PIPE_WRITE_BYTES }
    }
}

/// Where lines go that nobody wants.
pub(super) struct NoOutput;

impl Output for NoOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn wait(&mut self, _time_max: Duration) -> bool {
        true
    }

    fn write_bytes_max(&self) -> usize {
        usize::MAX
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    /// One answer of a scripted output.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::logging) enum Answer {
        /// Takes at most so many bytes of one write.
        Take(usize),
        /// Is not writable for as long as one waits.
        Block,
        /// Fails with an error number.
        Fail(i32),
    }

    /// An output that follows a script and takes everything after its end.
    #[derive(Clone)]
    pub(in crate::logging) struct Scripted {
        script: Arc<Mutex<VecDeque<Answer>>>,
        written: Arc<Mutex<Vec<u8>>>,
        write_bytes_max: usize,
    }

    impl Scripted {
        pub(in crate::logging) fn new(script: &[Answer]) -> Self {
            let script = Arc::new(Mutex::new(script.iter().copied().collect()));
            Self { script, written: Arc::default(), write_bytes_max: usize::MAX }
        }

        pub(in crate::logging) fn written(&self) -> String {
            String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
        }
    }

    impl Output for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = match self.script.lock().unwrap().pop_front() {
                Some(Answer::Take(count)) => count.min(bytes.len()),
                Some(Answer::Fail(number)) => return Err(io::Error::from_raw_os_error(number)),
                Some(Answer::Block) => return Err(io::ErrorKind::WouldBlock.into()),
                None => bytes.len(),
            };
            self.written.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn wait(&mut self, _time_max: Duration) -> bool {
            let mut script = self.script.lock().unwrap();
            if matches!(script.front(), Some(Answer::Block)) {
                script.pop_front();
                return false;
            }
            true
        }

        fn write_bytes_max(&self) -> usize {
            self.write_bytes_max
        }
    }

    /// Runs batches through a scripted output; gives what was written, the lines lost, and the reports.
    fn run(script: &[Answer], batches: &[&str]) -> (String, u64, Vec<String>) {
        let output = Scripted::new(script);
        let queue = LineQueue::new(1 << 20);
        let mut writer = LineWriter::new(Box::new(output.clone()));
        let mut reports = Vec::new();
        for batch in batches {
            queue.push(batch.as_bytes(), count_lines(batch.as_bytes()));
            let mut lines = Vec::new();
            assert!(matches!(queue.take(&mut lines), Work::Lines));
            let mut report = |report: Report| {
                reports.push(match report {
                    Report::Gone(_) => "gone".to_owned(),
                    Report::Failing(_) => "failing".to_owned(),
                    Report::Recovered { lines_lost } => format!("recovered {lines_lost}"),
                    Report::CaughtUp { lines_lost } => format!("caught up {lines_lost}"),
                });
            };
            assert!(write_batch(&queue, &mut writer, &lines, &mut report));
        }
        queue.lose(writer.abandon());
        (output.written(), queue.take_lost(), reports)
    }

    fn check(script: &[Answer], batches: &[&str], expected: (&str, u64, &[&str])) {
        let (written, lost, reports) = run(script, batches);
        assert_eq!((written.as_str(), lost), (expected.0, expected.1), "{script:?}");
        assert_eq!(reports, expected.2, "{script:?}");
    }

    #[test]
    fn short_writes_and_blocking_lose_nothing() {
        use Answer::{Block, Fail, Take};
        check(&[], &["a\nb\n", "c\n"], ("a\nb\nc\n", 0, &[]));
        let script = [Take(1), Block, Take(2), Fail(libc::EINTR), Fail(libc::EAGAIN), Take(1)];
        check(&script, &["abc\ndef\n", "g\n"], ("abc\ndef\ng\n", 0, &[]));
    }

    #[test]
    fn a_full_disk_loses_whole_lines_and_is_told_once() {
        use Answer::{Fail, Take};
        let full = Fail(libc::ENOSPC);
        check(&[full, full], &["a\nb\n", "c\n", "d\n"], ("d\n", 3, &["failing", "recovered 3"]));
        // The line that was cut off is continued once there is room again.
        check(
            &[Take(3), full, full],
            &["a\nbcd\ne\n", "f\n", "g\n"],
            ("a\nbcd\ng\n", 2, &["failing", "recovered 2"]),
        );
        // Room for a part of it does not count as recovered.
        check(
            &[Take(1), full, Take(1), full, Take(1)],
            &["abcd\n", "e\n", "f\n"],
            ("abcd\nf\n", 1, &["failing", "recovered 1"]),
        );
        // What never comes back is lost in the end.
        check(&[Take(1), full], &["abc\n"], ("a", 1, &["failing"]));
    }

    #[test]
    fn a_broken_pipe_is_told_once_and_loses_everything_after() {
        use Answer::{Fail, Take};
        let script = [Take(2), Fail(libc::EPIPE)];
        check(&script, &["a\nb\n", "c\nd\n"], ("a\n", 3, &["gone"]));
        let script = [Take(1), Fail(libc::ENOSPC), Fail(libc::EPIPE)];
        check(&script, &["ab\n", "c\n"], ("a", 2, &["failing", "gone"]));
    }

    #[test]
    fn an_output_that_replaces_a_blocked_one_gets_the_line_whole() {
        let blocked: Vec<_> = std::iter::once(Answer::Take(4)).chain([Answer::Block; 2]).collect();
        let (old, new) = (Scripted::new(&blocked), Scripted::new(&[]));
        let queue = LineQueue::new(100);
        let mut writer = LineWriter::new(Box::new(old.clone()));
        queue.push(b"ab\ncd\nef\n", 3);
        let mut lines = Vec::new();
        assert!(matches!(queue.take(&mut lines), Work::Lines));
        queue.change_output(Box::new(new.clone()));
        assert!(write_batch(&queue, &mut writer, &lines, &mut |_| panic!("nothing to report")));
        assert_eq!((old.written().as_str(), new.written().as_str()), ("ab\nc", "cd\nef\n"));
        assert_eq!(queue.take_lost(), 0);
    }

    #[test]
    fn a_blocked_output_is_given_up_when_nobody_waits() {
        let queue = LineQueue::new(100);
        let blocked = Scripted::new(&[Answer::Block; 3]);
        let mut writer = LineWriter::new(Box::new(blocked));
        queue.push(b"ab\n", 1);
        let mut lines = Vec::new();
        assert!(matches!(queue.take(&mut lines), Work::Lines));
        assert_eq!(queue.finish(Duration::ZERO), 1);
        assert!(!write_batch(&queue, &mut writer, &lines, &mut |_| ()));
    }

    #[test]
    fn writes_to_pipes_hold_whole_lines() {
        for (bytes, bytes_max, expected) in [
            ("ab\ncd\n", 6, "ab\ncd\n"),
            ("ab\ncd\n", 5, "ab\n"),
            ("ab\ncd\n", 3, "ab\n"),
            ("ab\ncd\n", 2, "ab"),
            ("ab\n", usize::MAX, "ab\n"),
        ] {
            assert_eq!(whole_lines(bytes.as_bytes(), bytes_max), expected.as_bytes());
        }
    }

    #[test]
    fn a_full_device_fails_and_says_so() {
        let mut output = FileOutput::open(Path::new("/dev/full")).unwrap();
        assert!(output.wait(Duration::ZERO));
        assert_eq!(output.write(b"line\n").unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    }

    #[test]
    fn a_pipe_nobody_reads_becomes_unwritable_without_blocking() {
        let (reader, writer) = io::pipe().unwrap();
        let mut output = FileOutput::from(OwnedFd::from(writer));
        let line = [b'x'; PIPE_WRITE_BYTES];
        let mut written = 0;
        while output.wait(Duration::ZERO) {
            written += output.write(&line).unwrap();
            assert!(written <= 1 << 24, "a pipe has an end");
        }
        assert!(written > 0);
        drop(reader);
        assert!(output.wait(Duration::ZERO));
        assert_eq!(output.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    proptest! {
        /// Whatever an output does, it shows whole lines in order, and written and lost lines add up.
        #[test]
        fn every_line_is_written_whole_or_lost_and_counted(
            acts in prop::collection::vec((0u8..4, 1usize..9), 0..24),
            sizes in prop::collection::vec(prop::collection::vec(0usize..7, 1..5), 1..8),
        ) {
            let script: Vec<_> = acts.iter().map(|&(act, count)| match act {
                0 => Answer::Fail(libc::ENOSPC),
                1 => Answer::Block,
                _ => Answer::Take(count),
            }).collect();
            let mut number = 0u64;
            let batches: Vec<String> = sizes.iter().map(|lines| lines.iter().map(|&size| {
                number += 1;
                format!("{number}:{}\n", "x".repeat(size))
            }).collect()).collect();
            let batches: Vec<&str> = batches.iter().map(String::as_str).collect();
            let all = batches.concat();
            let (written, lost, _) = run(&script, &batches);
            let mut expected = all.lines();
            let whole = written.rfind('\n').map_or("", |end| &written[..=end]);
            for line in whole.lines() {
                prop_assert!(expected.any(|one| one == line), "{line:?} of {written:?}");
            }
            prop_assert_eq!(whole.lines().count() as u64 + lost, number);
        }
    }
}
