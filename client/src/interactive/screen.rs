//! The screen while a line is being edited: what is shown appears above that line.
//!
//! The editor's printer may wait until the editor has taken the text; so a thread waits there, and a bounded queue
//! stands before it. What does not fit is dropped and counted on the screen itself.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rustyline::ExternalPrinter;

use crate::limits::{SCREEN_TEXTS_MAX, SCREEN_TIME_MAX};

/// Shows texts. Clones show on the same screen.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    texts: SyncSender<Text>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Text {
    Shown(String),
    /// Answers when everything before it is shown.
    Flush(SyncSender<()>),
}

impl Screen {
    /// A screen behind the editor's printer.
    pub(super) fn start(printer: impl ExternalPrinter + Send + 'static) -> std::io::Result<Self> {
        let (texts, waiting) = sync_channel(SCREEN_TEXTS_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        let show = move || show(printer, &waiting, &counted);
        let _thread: JoinHandle<()> = std::thread::Builder::new().name("screen".to_owned()).spawn(show)?;
        Ok(Self { texts, dropped })
    }

    /// Shows whole lines.
    pub(super) fn text(&self, text: &str) {
        match self.texts.try_send(Text::Shown(text.to_owned())) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            // The terminal has gone.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Shows one line.
    pub(super) fn line(&self, line: &str) {
        self.text(&format!("{line}\n"));
    }

    /// Waits until everything is shown, but not for a terminal that takes nothing.
    pub(super) fn finish(&self) {
        let (done, shown) = sync_channel(1);
        if self.texts.try_send(Text::Flush(done)).is_ok() {
            // Whether it was shown or the time is up: it goes on.
            let _ = shown.recv_timeout(SCREEN_TIME_MAX);
        }
    }
}

fn show(mut printer: impl ExternalPrinter, waiting: &Receiver<Text>, dropped: &AtomicU64) {
    while let Ok(text) = waiting.recv() {
        let text = match text {
            Text::Shown(text) => text,
            Text::Flush(done) => {
                // Whoever waited may have gone.
                let _ = done.send(());
                continue;
            }
        };
        let text = match dropped.swap(0, Ordering::Relaxed) {
            0 => text,
            count => format!("-- {count} lines came too fast and are not shown --\n{text}"),
        };
        if printer.print(text).is_err() {
            return;
        }
    }
}

/// Says what is wrong where no editor runs.
pub(super) fn complain(line: &str) {
    // Where standard error is closed, the exit code says it all the same.
    let _ = writeln!(std::io::stderr(), "{line}");
}
