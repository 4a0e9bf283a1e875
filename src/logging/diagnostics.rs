//! Diagnostics on standard error: formatted by env_logger, written by a thread that may wait.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use env_logger::fmt::WriteStyle;
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::AUDIT;
use super::output::{FileOutput, Output, Report, drain};
use super::queue::LineQueue;
use super::tap::{LineOf, Tap};
use super::text::{OneLine, Timestamps};

use crate::limits::DIAGNOSTICS_QUEUE_BYTES_MAX;

/// Why diagnostics could not be started.
#[derive(Debug, thiserror::Error)]
pub enum DiagnosticsError {
    /// Standard error could not be duplicated, or no thread could be started.
    #[error("cannot start writing diagnostics: {0}")]
    Io(#[from] io::Error),
    /// There can be one sink behind the `log` facade.
    #[error("diagnostics are already being written: {0}")]
    Started(#[from] log::SetLoggerError),
}

/// Diagnostics being written to standard error.
pub struct Diagnostics {
    queue: Arc<LineQueue>,
    level_chosen: Arc<AtomicBool>,
    tap: Arc<Tap>,
}

/// Starts writing diagnostics up to `level`; the environment's `RUST_LOG` goes before it, per module where it
/// says so.
///
/// # Errors
/// [`DiagnosticsError::Started`] at a second call in one process.
pub fn start_diagnostics(level: LevelFilter) -> Result<Diagnostics, DiagnosticsError> {
    let filters = std::env::var("RUST_LOG").ok().filter(|filters| !filters.trim().is_empty());
    let queue = Arc::new(LineQueue::new(DIAGNOSTICS_QUEUE_BYTES_MAX));
    let tap = Arc::default();
    let sink = Sink::new(&queue, &tap, filters.as_deref(), write_style());
    let level_chosen = Arc::clone(&sink.level_chosen);
    let level = sink.level(level);
    spawn(&queue, Box::new(FileOutput::stderr()?))?;
    let diagnostics = Diagnostics { queue, level_chosen, tap };
    // Where this fails, dropping the value ends the thread.
    log::set_boxed_logger(Box::new(sink))?;
    log::set_max_level(level);
    Ok(diagnostics)
}

impl Diagnostics {
    /// Writes up to `level` from now on, whatever `RUST_LOG` said.
    pub fn set_level(&self, level: LevelFilter) {
        self.level_chosen.store(true, Ordering::Relaxed);
        log::set_max_level(level);
    }

    /// Writes a line as it is, whatever the level: for what every start says.
    pub fn say(&self, line: &str) {
        self.queue.push(format!("{line}\n").as_bytes(), 1);
    }

    /// Where lines are copied to for those who follow them.
    #[must_use]
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Lines that were lost since the start, for want of room or because they could not be written.
    #[must_use]
    pub fn lines_lost(&self) -> u64 {
        self.queue.lost_total()
    }

    /// Lets the writer finish what it was given, at most for `time_max`. Gives the lines that are lost.
    /// Later lines are dropped.
    pub fn finish(&self, time_max: Duration) -> u64 {
        self.queue.finish(time_max)
    }
}

/// The writer thread ends when it has written what is left.
impl Drop for Diagnostics {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Standard error is coloured where a person reads it and does not mind (no-color.org).
fn write_style() -> WriteStyle {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if io::stderr().is_terminal() && !set("NO_COLOR") && !dumb {
        WriteStyle::Always
    } else {
        WriteStyle::Never
    }
}

fn spawn(queue: &Arc<LineQueue>, output: Box<dyn Output>) -> io::Result<()> {
    let queue = Arc::clone(queue);
    thread::Builder::new()
        .name("diagnostics".to_owned())
        .spawn(move || drain(&queue, output, |report| tell_losses(&queue, &report)))?;
    Ok(())
}

/// Says in the diagnostics themselves that some are missing, as soon as that can be read.
fn tell_losses(queue: &LineQueue, report: &Report) {
    match report {
        Report::Recovered { lines_lost } | Report::CaughtUp { lines_lost } => {
            let mut timestamps = Timestamps::default();
            let mut line = Vec::new();
            timestamps.write(SystemTime::now(), &mut line);
            super::text::put(
                &mut line,
                format_args!(
                    " {} {}: diagnostics were lost; lines_lost={lines_lost}\n",
                    Level::Warn,
                    module_path!()
                ),
            );
            let _ = queue.push(&line, 1);
        }
        // Standard error is the only place where this could be said.
        Report::Gone(_) | Report::Failing(_) => {}
    }
}

/// What stands behind the `log` facade.
struct Sink {
    /// Lets everything through; the facade's own maximum is the level.
    plain: env_logger::Logger,
    /// As `RUST_LOG` says, until a level is chosen while running.
    environment: Option<env_logger::Logger>,
    level_chosen: Arc<AtomicBool>,
}

impl Sink {
    fn new(queue: &Arc<LineQueue>, tap: &Arc<Tap>, filters: Option<&str>, style: WriteStyle) -> Self {
        let mut all = builder(queue, tap, style);
        let environment = filters.map(|filters| builder(queue, tap, style).parse_filters(filters).build());
        // The SCTP engine warns about every association, of what we ask of it.
        all.filter_level(LevelFilter::Trace).filter_module("sctp_proto", LevelFilter::Error);
        Self { plain: all.build(), environment, level_chosen: Arc::default() }
    }

    /// The facade's maximum at start.
    fn level(&self, level: LevelFilter) -> LevelFilter {
        self.environment.as_ref().map_or(level, env_logger::Logger::filter)
    }

    fn present(&self) -> &env_logger::Logger {
        match &self.environment {
            Some(environment) if !self.level_chosen.load(Ordering::Relaxed) => environment,
            Some(_) | None => &self.plain,
        }
    }
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.present().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.present().log(record);
    }

    fn flush(&self) {}
}

/// One event, one line: `2026-11-21T03:04:05.678Z WARN socks5d::proxy: message`.
fn builder(queue: &Arc<LineQueue>, tap: &Arc<Tap>, style: WriteStyle) -> env_logger::Builder {
    let mut builder = env_logger::Builder::new();
    let tap = Arc::clone(tap);
    builder
        .write_style(style)
        .target(env_logger::Target::Pipe(Box::new(QueueWriter(Arc::clone(queue)))))
        .format(move |out, record| {
            let mut time = Vec::new();
            Timestamps::default().write(SystemTime::now(), &mut time);
            out.write_all(&time)?;
            let level = record.level();
            let style = out.default_level_style(level);
            let mut message = String::new();
            // Fails only where a value's own `Display` does; then what it gave so far is still worth a line.
            let _ = write!(OneLine(&mut message), "{}", record.args());
            if tap.is_open() {
                let of = if record.target() == AUDIT { LineOf::Audit } else { LineOf::Diagnostics(level) };
                let mut line = time;
                super::text::put(&mut line, format_args!(" {level} {}: {message}", record.target()));
                tap.push(of, &line);
            }
            writeln!(out, " {style}{level}{style:#} {}: {message}", record.target())
        });
    builder
}

/// env_logger hands each line over in one write.
struct QueueWriter(Arc<LineQueue>);

impl io::Write for QueueWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.push(line, 1);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::Scripted;
    use super::*;

    fn log(sink: &Sink, level: Level, target: &str, message: &str) {
        sink.log(&Record::builder().level(level).target(target).args(format_args!("{message}")).build());
    }

    /// What a sink wrote, each line without its time after checking that it has one.
    fn written(sink: impl FnOnce(&Arc<LineQueue>)) -> Vec<String> {
        let queue = Arc::new(LineQueue::new(1 << 16));
        let output = Scripted::new(&[]);
        spawn(&queue, Box::new(output.clone())).unwrap();
        sink(&queue);
        assert_eq!(queue.finish(Duration::from_secs(10)), 0);
        let without_time = |line: &str| {
            let (time, rest) = line.split_once(' ').unwrap();
            assert!(time.len() == "2026-11-21T03:04:05.678Z".len() && time.ends_with('Z'), "{line}");
            rest.to_owned()
        };
        output.written().lines().map(without_time).collect()
    }

    #[test]
    fn an_event_is_one_line() {
        let lines = written(|queue| {
            let sink = Sink::new(queue, &Arc::default(), None, WriteStyle::Never);
            assert_eq!(sink.level(LevelFilter::Info), LevelFilter::Info);
            log(&sink, Level::Warn, "socks5d::proxy", "a\nb");
            log(&sink, Level::Trace, "other", "c");
        });
        assert_eq!(lines, ["WARN socks5d::proxy: a\\u{a}b", "TRACE other: c"]);
    }

    #[test]
    fn who_follows_gets_the_lines_that_are_written_without_colour() {
        let tap = Arc::new(Tap::default());
        let lines = written(|queue| {
            let sink = Sink::new(queue, &tap, Some("warn,socks5d::audit=info"), WriteStyle::Always);
            log(&sink, Level::Warn, "t", "before");
            tap.open(|| ());
            log(&sink, Level::Warn, "t", "a\nb");
            log(&sink, Level::Info, "t", "hidden");
            log(&sink, Level::Info, AUDIT, "changed");
        });
        assert_eq!(lines.len(), 3);
        let tapped: Vec<_> = tap.take().lines.into_iter().map(|line| (line.of, line.text)).collect();
        let rest = |text: &str| text.split_once(' ').unwrap().1.to_owned();
        let expected = [
            (LineOf::Diagnostics(Level::Warn), "WARN t: a\\u{a}b"),
            (LineOf::Audit, "INFO socks5d::audit: changed"),
        ];
        for ((of, text), (expected_of, expected_text)) in tapped.iter().zip(&expected) {
            assert_eq!((of, rest(text).as_str()), (expected_of, *expected_text));
        }
        assert_eq!(tapped.len(), expected.len());
    }

    #[test]
    fn the_environment_goes_first_until_a_level_is_chosen() {
        let lines = written(|queue| {
            let sink =
                Sink::new(queue, &Arc::default(), Some("warn,socks5d::resolver=debug"), WriteStyle::Never);
            assert_eq!(sink.level(LevelFilter::Error), LevelFilter::Debug);
            log(&sink, Level::Info, "socks5d::proxy", "hidden");
            log(&sink, Level::Debug, "socks5d::resolver", "shown");
            sink.level_chosen.store(true, Ordering::Relaxed);
            log(&sink, Level::Info, "socks5d::proxy", "shown now");
        });
        assert_eq!(lines, ["DEBUG socks5d::resolver: shown", "INFO socks5d::proxy: shown now"]);
    }

    #[test]
    fn a_person_sees_the_level_in_colour() {
        let lines = written(|queue| {
            log(&Sink::new(queue, &Arc::default(), None, WriteStyle::Always), Level::Warn, "t", "m");
        });
        assert_eq!(lines, ["\u{1b}[33mWARN\u{1b}[0m t: m"]);
    }

    #[test]
    fn there_is_one_sink_in_a_process_and_its_level_changes_while_it_runs() {
        let diagnostics = start_diagnostics(LevelFilter::Off).unwrap();
        assert!(matches!(start_diagnostics(LevelFilter::Off), Err(DiagnosticsError::Started(_))));
        diagnostics.set_level(LevelFilter::Error);
        assert_eq!(log::max_level(), LevelFilter::Error);
        diagnostics.set_level(LevelFilter::Off);
        assert_eq!(diagnostics.finish(Duration::from_secs(10)), 0);
    }

    #[test]
    fn lost_lines_are_told_once_when_it_can_be_read() {
        let queue = Arc::new(LineQueue::new(150));
        let sink = Sink::new(&queue, &Arc::default(), None, WriteStyle::Never);
        log(&sink, Level::Info, "t", "first");
        for _ in 0..5 {
            log(&sink, Level::Info, "t", &"x".repeat(200));
        }
        let output = Scripted::new(&[]);
        spawn(&queue, Box::new(output.clone())).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while output.written().lines().count() < 2 {
            assert!(std::time::Instant::now() < deadline, "{}", output.written());
            thread::yield_now();
        }
        assert_eq!(queue.finish(Duration::from_secs(10)), 0);
        assert_eq!(queue.lost_total(), 5);
        let text = output.written();
        assert!(text.ends_with(" WARN socks5d::logging::diagnostics: diagnostics were lost; lines_lost=5\n"));
        assert_eq!(text.lines().count(), 2);
    }
}
