//! The access log: a batch per worker, one writer thread, and the file it writes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::credential::CredentialRecord;
use super::output::{FileOutput, NoOutput, Output, Report, drain};
use super::queue::{LineQueue, Pushed};
use super::record::AccessRecord;
use super::tap::{LineOf, Tap};
use super::text::Timestamps;
use crate::limits::{ACCESS_LOG_BATCH_BYTES, ACCESS_LOG_QUEUE_BYTES_MAX};
use crate::settings::{AccessLog, LogFormat};

/// A worker's end of the access log. Lines collect in a batch; [`AccessSink::flush`] hands it over.
pub struct AccessSink {
    queue: Arc<LineQueue>,
    enabled: Arc<AtomicBool>,
    tap: Arc<Tap>,
    batch: Vec<u8>,
    batch_lines: u64,
    /// Lines dropped and not yet told by [`AccessSink::flush`].
    dropped_lines: u64,
    timestamps: Timestamps,
}

impl AccessSink {
    /// Whether lines go anywhere: where not, the caller need not gather what they say.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Appends a line to the batch. A batch that becomes large is handed over before the turn ends.
    pub fn push(&mut self, format: LogFormat, record: &AccessRecord<'_>) {
        let of = || LineOf::Access(record.user.into());
        self.push_line(of, |timestamps, line| record.write(format, timestamps, line));
    }

    /// Appends a line about credentials that passed in clear. It is for administrators: whoever else may follow
    /// access lines may not see it.
    pub fn push_credentials(&mut self, format: LogFormat, record: &CredentialRecord<'_>) {
        let of = || LineOf::Credentials(record.user.into());
        self.push_line(of, |timestamps, line| record.write(format, timestamps, line));
    }

    fn push_line(&mut self, of: impl FnOnce() -> LineOf, write: impl FnOnce(&mut Timestamps, &mut Vec<u8>)) {
        if !self.enabled() {
            return;
        }
        let line_at = self.batch.len();
        write(&mut self.timestamps, &mut self.batch);
        self.batch_lines += 1;
        if self.tap.is_open() {
            self.tap.push(of(), self.batch.get(line_at..).unwrap_or_default());
        }
        if self.batch.len() >= ACCESS_LOG_BATCH_BYTES {
            self.hand_over();
        }
    }

    /// Whether lines wait in the batch.
    #[must_use]
    pub fn has_lines(&self) -> bool {
        self.batch_lines > 0
    }

    /// Hands the batch over, which wakes the writer: once in a while rather than for each line. Gives the lines that were lost since the last call, by this worker
    /// for want of room or by the writer after it had taken them; each lost line is told to one worker.
    pub fn flush(&mut self) -> u64 {
        if self.batch_lines > 0 {
            self.hand_over();
        }
        std::mem::take(&mut self.dropped_lines) + self.queue.take_lost()
    }

    fn hand_over(&mut self) {
        let pushed = self.queue.push(&self.batch, self.batch_lines);
        if pushed != Pushed::Taken {
            self.dropped_lines += self.batch_lines;
        }
        if pushed == Pushed::LostFirst {
            log::warn!("access log: its reader is too slow, lines are lost");
        }
        self.batch.clear();
        self.batch_lines = 0;
    }
}

/// A destination that was opened.
pub struct Opened {
    destination: AccessLog,
    /// `None`: it is the present one.
    output: Option<Box<dyn Output>>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("destination", &self.destination).finish_non_exhaustive()
    }
}

/// Owns the writer thread and what it writes to. Belongs to the control plane: opening a file may block.
pub struct AccessWriter {
    queue: Arc<LineQueue>,
    enabled: Arc<AtomicBool>,
    tap: Arc<Tap>,
    destination: Mutex<AccessLog>,
}

impl AccessWriter {
    /// Opens the destination and starts the writer thread.
    ///
    /// # Errors
    /// Of opening the file (a named pipe that nobody reads: `ENXIO`) or starting the thread.
    pub fn new(destination: AccessLog) -> io::Result<Self> {
        let output = open(&destination)?;
        Self::with_output(destination, output)
    }

    fn with_output(destination: AccessLog, output: Box<dyn Output>) -> io::Result<Self> {
        let queue = Arc::new(LineQueue::new(ACCESS_LOG_QUEUE_BYTES_MAX));
        let drained = Arc::clone(&queue);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || drain(&drained, output, report))?;
        let enabled = Arc::new(AtomicBool::new(destination != AccessLog::Off));
        Ok(Self { queue, enabled, tap: Arc::default(), destination: Mutex::new(destination) })
    }

    /// Where lines are copied to for those who follow them.
    #[must_use]
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// One more worker's end.
    #[must_use]
    pub fn sink(&self) -> AccessSink {
        AccessSink {
            queue: Arc::clone(&self.queue),
            enabled: Arc::clone(&self.enabled),
            tap: Arc::clone(&self.tap),
            batch: Vec::with_capacity(ACCESS_LOG_BATCH_BYTES / 16),
            batch_lines: 0,
            dropped_lines: 0,
            timestamps: Timestamps::default(),
        }
    }

    /// Opens the file by its name again, after it was rotated. Where that fails the old one stays in use.
    ///
    /// # Errors
    /// Of opening the file; logged already.
    pub fn reopen(&self) -> io::Result<()> {
        let destination = self.destination();
        match &*destination {
            AccessLog::Stdout | AccessLog::Off => Ok(()),
            AccessLog::File(path) => match open(&destination) {
                Ok(output) => {
                    self.queue.change_output(output);
                    log::info!("access log: opened again; file={path:?}");
                    Ok(())
                }
                Err(error) => {
                    log::error!("access log: cannot be opened again; file={path:?} error=\"{error}\"");
                    Err(error)
                }
            },
        }
    }

    /// Opens where lines are to go; nothing changes until it is [taken](AccessWriter::switch).
    ///
    /// # Errors
    /// Of opening the file.
    pub fn prepare(&self, destination: AccessLog) -> io::Result<Opened> {
        let output = if *self.destination() == destination { None } else { Some(open(&destination)?) };
        Ok(Opened { destination, output })
    }

    /// Writes there from now on; lines already handed over go to either. The same destination does nothing.
    pub fn switch(&self, opened: Opened) {
        let Opened { destination, output: Some(output) } = opened else { return };
        self.queue.change_output(output);
        self.enabled.store(destination != AccessLog::Off, Ordering::Relaxed);
        *self.destination() = destination;
    }

    /// Lets the writer finish what it was given, at most for `time_max`. Gives the lines that are lost with
    /// that, and those that no sink was told of; later lines are dropped.
    #[must_use = "lost lines are counted"]
    pub fn finish(&self, time_max: Duration) -> u64 {
        self.queue.finish(time_max)
    }

    fn destination(&self) -> std::sync::MutexGuard<'_, AccessLog> {
        self.destination.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer thread ends when it has written what is left.
impl Drop for AccessWriter {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn open(destination: &AccessLog) -> io::Result<Box<dyn Output>> {
    Ok(match destination {
        AccessLog::Stdout => Box::new(FileOutput::stdout()?),
        AccessLog::File(path) => Box::new(FileOutput::open(path)?),
        AccessLog::Off => Box::new(NoOutput),
    })
}

fn report(report: Report) {
    match report {
        Report::Gone(error) => {
            log::warn!("access log: its reader is gone, lines are lost; error=\"{error}\"")
        }
        Report::Failing(error) => {
            log::warn!("access log: cannot be written, lines are lost; error=\"{error}\"");
        }
        Report::Recovered { lines_lost } => {
            log::info!("access log: can be written again; lines_lost={lines_lost}");
        }
        Report::CaughtUp { lines_lost } => {
            log::info!("access log: its reader caught up; lines_lost={lines_lost}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::{Answer, Scripted};
    use super::super::record::tests::record;
    use super::*;
    use std::fs;
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::os::fd::OwnedFd;
    use std::path::PathBuf;

    const SOON: Duration = Duration::from_secs(10);

    /// A folder of its own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("socks5d-access-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn push(sink: &mut AccessSink, port: u16) {
        sink.push(LogFormat::Tab, &AccessRecord { port, ..record() });
    }

    fn ports(text: &str) -> Vec<u16> {
        text.lines().map(|line| line.split('\t').nth(6).unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn who_follows_gets_the_lines_as_they_stand_in_the_file() {
        let folder = Folder::new("follow");
        let path = folder.file("access");
        let writer = AccessWriter::new(AccessLog::File(path.clone())).unwrap();
        let mut sink = writer.sink();
        push(&mut sink, 1);
        writer.tap().open(|| ());
        for format in [LogFormat::Tab, LogFormat::Json] {
            sink.push(format, &AccessRecord { user: b"alice", ..record() });
        }
        writer.tap().close();
        writer.tap().open(|| ());
        push(&mut sink, 2);
        let _ = sink.flush();
        assert_eq!(writer.finish(SOON), 0);
        let file = fs::read_to_string(path).unwrap();
        let tapped = writer.tap().take();
        let texts: Vec<_> = tapped.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, [file.lines().last().unwrap()]);
    }

    #[test]
    fn lines_of_all_workers_reach_the_file() {
        let folder = Folder::new("all");
        let path = folder.file("access");
        let writer = AccessWriter::new(AccessLog::File(path.clone())).unwrap();
        thread::scope(|scope| {
            for worker in 0..4 {
                let mut sink = writer.sink();
                scope.spawn(move || {
                    for number in 0..500 {
                        push(&mut sink, worker * 1000 + number);
                        if number % 7 == 0 {
                            assert_eq!(sink.flush(), 0);
                        }
                    }
                    assert_eq!(sink.flush(), 0);
                });
            }
        });
        assert_eq!(writer.finish(SOON), 0);
        let mut ports = ports(&fs::read_to_string(path).unwrap());
        ports.sort_unstable();
        let expected: Vec<u16> = (0..4).flat_map(|worker| (0..500).map(move |n| worker * 1000 + n)).collect();
        assert_eq!(ports, expected);
    }

    #[test]
    fn a_rotated_file_is_opened_again_and_a_part_of_a_line_is_ended() {
        let folder = Folder::new("rotate");
        let (path, rotated) = (folder.file("access"), folder.file("access.1"));
        fs::write(&path, "cut off").unwrap();
        let writer = AccessWriter::new(AccessLog::File(path.clone())).unwrap();
        let mut sink = writer.sink();
        fs::rename(&path, &rotated).unwrap();
        writer.reopen().unwrap();
        push(&mut sink, 1);
        assert_eq!(sink.flush(), 0);
        assert_eq!(writer.finish(SOON), 0);
        assert_eq!(fs::read_to_string(rotated).unwrap(), "cut off\n");
        assert_eq!(ports(&fs::read_to_string(path).unwrap()), [1]);
    }

    #[test]
    fn where_opening_again_fails_the_old_file_stays() {
        let folder = Folder::new("keep");
        let inner = folder.file("inner");
        fs::create_dir(&inner).unwrap();
        let path = inner.join("access");
        let writer = AccessWriter::new(AccessLog::File(path)).unwrap();
        let moved = folder.file("moved");
        fs::rename(&inner, &moved).unwrap();
        assert_eq!(writer.reopen().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(writer.prepare(AccessLog::File(inner.join("other"))).is_err());
        let mut sink = writer.sink();
        push(&mut sink, 2);
        sink.flush();
        assert_eq!(writer.finish(SOON), 0);
        assert_eq!(ports(&fs::read_to_string(moved.join("access")).unwrap()), [2]);
    }

    #[test]
    fn off_formats_nothing_and_can_be_switched_on() {
        let folder = Folder::new("off");
        let path = folder.file("access");
        let writer = AccessWriter::new(AccessLog::Off).unwrap();
        let mut sink = writer.sink();
        assert!(!sink.enabled());
        push(&mut sink, 1);
        assert!(sink.batch.is_empty());
        writer.switch(writer.prepare(AccessLog::File(path.clone())).unwrap());
        assert!(sink.enabled());
        push(&mut sink, 2);
        assert_eq!(sink.flush(), 0);
        assert_eq!(writer.finish(SOON), 0);
        assert_eq!(ports(&fs::read_to_string(path).unwrap()), [2]);
    }

    #[test]
    fn the_batch_keeps_its_memory() {
        let writer = AccessWriter::with_output(AccessLog::Stdout, Box::new(Scripted::new(&[]))).unwrap();
        let mut sink = writer.sink();
        let turn = |sink: &mut AccessSink| {
            (0..20).for_each(|port| push(sink, port));
            sink.flush();
        };
        turn(&mut sink);
        let (memory, capacity) = (sink.batch.as_ptr(), sink.batch.capacity());
        (0..100).for_each(|_| turn(&mut sink));
        assert_eq!((sink.batch.as_ptr(), sink.batch.capacity()), (memory, capacity));
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_never_a_worker() {
        let (reader, pipe) = io::pipe().unwrap();
        let output = FileOutput::from(OwnedFd::from(pipe));
        let writer = AccessWriter::with_output(AccessLog::Stdout, Box::new(output)).unwrap();
        let mut sink = writer.sink();
        let (mut pushed, mut lost) = (0u64, 0);
        while lost == 0 {
            for _ in 0..1000 {
                push(&mut sink, 80);
            }
            pushed += 1000;
            lost += sink.flush();
            assert!(pushed < 1_000_000, "the queue has a bound");
        }
        // The reader comes back: what was taken arrives whole, and the rest was counted.
        let received = thread::spawn(move || {
            BufReader::new(reader).lines().map(|line| ports(&line.unwrap()).len() as u64).sum::<u64>()
        });
        lost += writer.finish(SOON);
        drop(sink);
        drop(writer);
        assert_eq!(received.join().unwrap() + lost, pushed);
    }

    #[test]
    fn finishing_does_not_wait_for_a_reader_that_stalls() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let output = FileOutput::from(OwnedFd::from(pipe));
        let writer = AccessWriter::with_output(AccessLog::Stdout, Box::new(output)).unwrap();
        let mut sink = writer.sink();
        (0..20_000).for_each(|_| push(&mut sink, 80));
        let dropped = sink.flush();
        let lost = writer.finish(Duration::from_millis(50));
        assert!(lost > 0);
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count() as u64 + lost + dropped, 20_000);
        assert!(text.ends_with('\n'), "no part of a line is left in a pipe");
    }

    #[test]
    fn losses_of_the_writer_are_told_to_a_sink_once() {
        let script = [Answer::Fail(libc::ENOSPC)];
        let output = Scripted::new(&script);
        let writer = AccessWriter::with_output(AccessLog::Stdout, Box::new(output.clone())).unwrap();
        let mut sink = writer.sink();
        push(&mut sink, 1);
        push(&mut sink, 2);
        let mut lost = sink.flush();
        lost += writer.finish(SOON);
        assert_eq!((lost, output.written().as_str()), (2, ""));
        assert_eq!(sink.flush(), 0);
        push(&mut sink, 3);
        assert_eq!(sink.flush(), 1, "after the end there is nobody to write");
    }

    #[test]
    fn a_full_disk_is_survived() {
        let folder = Folder::new("full");
        let path = folder.file("access");
        let writer = AccessWriter::new(AccessLog::File("/dev/full".into())).unwrap();
        let mut sink = writer.sink();
        push(&mut sink, 1);
        let mut lost = sink.flush();
        let deadline = std::time::Instant::now() + SOON;
        while lost == 0 {
            assert!(std::time::Instant::now() < deadline);
            thread::yield_now();
            lost += sink.flush();
        }
        assert_eq!(lost, 1);
        writer.switch(writer.prepare(AccessLog::File(path.clone())).unwrap());
        push(&mut sink, 2);
        assert_eq!(sink.flush() + writer.finish(SOON), 0);
        assert_eq!(ports(&fs::read_to_string(path).unwrap()), [2]);
    }
}
