//! A program at a terminal: a pseudo-terminal whose other end the test types at and reads.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::waiting::{LIMIT, look_until};

/// Ctrl-C.
pub(crate) const INTERRUPT: &str = "\x03";
/// Ctrl-D.
pub(crate) const END: &str = "\x04";
/// The key that completes.
pub(crate) const TAB: &str = "\t";
/// The key that ends a line.
pub(crate) const ENTER: &str = "\r";

/// A program that runs at a terminal of its own. Dropping it kills the program.
#[derive(Debug)]
pub(crate) struct Terminal {
    person: File,
    /// Kept open, so that the terminal outlives the program and can be looked at.
    other: File,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Octets of what was shown that a test has passed.
    passed: usize,
}

impl Terminal {
    /// Starts the program, which the command names, with the terminal as its three streams and as the one it is
    /// controlled by.
    pub(crate) fn start(command: &Command) -> Self {
        let person =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&person).expect("the terminal is ours");
        unlockpt(&person).expect("the terminal can be used");
        let path = ptsname(&person, Vec::new()).expect("the terminal's name").into_string().expect("plain");
        let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&person, size).expect("the terminal's size");
        let open = || {
            use std::os::unix::fs::OpenOptionsExt;
            let flags = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
            File::options()
                .read(true)
                .write(true)
                .custom_flags(flags)
                .open(&path)
                .expect("the terminal's end")
        };
        // setsid(1) makes the terminal the controlling one, which takes unsafe code otherwise.
        let mut started = Command::new("setsid");
        started.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        let path_variable = std::env::var_os("PATH").unwrap_or_default();
        started.env("PATH", path_variable).env("TERM", "xterm").env("NO_COLOR", "1");
        let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        started.envs(variables);
        started.stdin(Stdio::from(open())).stdout(Stdio::from(open())).stderr(Stdio::from(open()));
        let child = started.spawn().expect("setsid starts");
        let person = File::from(person);
        let shown = Arc::default();
        let (mut reader, to) = (person.try_clone().expect("a descriptor"), Arc::clone(&shown));
        // Ends with the terminal.
        std::thread::spawn(move || collect(&mut reader, &to));
        Self { person, other: open(), child, shown, passed: 0 }
    }

    /// Types.
    pub(crate) fn types(&mut self, keys: &str) {
        self.person.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Types a line.
    pub(crate) fn enters(&mut self, line: &str) {
        self.types(line);
        self.types(ENTER);
    }

    /// Waits until this is shown behind what was waited for before, and gives what stood between.
    pub(crate) fn shows(&mut self, wanted: &str) -> String {
        let passed = self.passed;
        let found = look_until(Instant::now() + LIMIT, || {
            let text = self.text_from(passed);
            text.find(wanted).map(|at| (text[..at].to_owned(), text.len() - at - wanted.len()))
        });
        let Some((between, behind)) = found else {
            panic!("\"{wanted}\" was not shown, but:\n{}", self.text_from(0));
        };
        self.passed = self.text_from(0).len() - behind.min(self.text_from(passed).len());
        between
    }

    /// Everything that was shown, without what moves the cursor.
    pub(crate) fn text(&self) -> String {
        self.text_from(0)
    }

    /// Whether keys are shown as they are typed.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&self.other).expect("the terminal's modes").local_modes.contains(LocalModes::ECHO)
    }

    /// Waits for the program's end.
    pub(crate) fn ends(&mut self) -> ExitStatus {
        let ended = look_until(Instant::now() + LIMIT, || self.child.try_wait().expect("a child"));
        ended.unwrap_or_else(|| panic!("it did not end:\n{}", self.text()))
    }

    fn text_from(&self, passed: usize) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let text = plain(&String::from_utf8_lossy(&shown));
        text.get(passed..).unwrap_or_default().to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the terminal:\n{}\n----", self.text());
        }
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn collect(reader: &mut File, to: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        to.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
    }
}

/// Without escape sequences and carriage returns.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' => {}
            '\x1b' if rest.next_if_eq(&'[').is_some() => {
                // Parameters, then one letter.
                while rest.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                rest.next();
            }
            '\x1b' => drop(rest.next()),
            c => out.push(c),
        }
    }
    out
}
