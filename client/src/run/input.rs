//! Where lines, passwords and answers come from: standard input and the terminal.
//!
//! Nothing here blocks the thread that keeps the association alive. Echo comes back whatever happens meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};

use pipo_protocol::Password;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin};

use super::Failure;
use crate::limits::LINE_BYTES_MAX;

/// Standard input by lines, and the terminal.
#[derive(Debug)]
pub struct Input {
    stdin: BufReader<Stdin>,
    person: Person,
}

/// Whether there is somebody to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Person {
    /// At the terminal.
    There,
    /// Nobody.
    Absent,
}

/// A terminal whose echo is off while this lives.
#[derive(Debug)]
struct Hidden {
    terminal: File,
    before: Termios,
}

impl Input {
    /// Of this process: somebody can be asked where standard input is a terminal.
    #[must_use]
    pub fn of_process() -> Self {
        let person = if std::io::stdin().is_terminal() { Person::There } else { Person::Absent };
        Self { stdin: BufReader::new(tokio::io::stdin()), person }
    }

    /// Of a command that runs beside others: nobody can be asked, and there are no lines.
    #[must_use]
    pub fn of_nobody() -> Self {
        Self { stdin: BufReader::new(tokio::io::stdin()), person: Person::Absent }
    }

    /// Whether there is somebody to ask.
    #[must_use]
    pub fn person(&self) -> Person {
        self.person
    }

    /// The next line of standard input, without its end. `None`: there is no more.
    pub async fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let read = |error| Failure::Read { what: "standard input".to_owned(), error };
        let mut line = Vec::new();
        let longest = LINE_BYTES_MAX as u64 + 1;
        let count = (&mut self.stdin).take(longest).read_until(b'\n', &mut line).await.map_err(read)?;
        if count > LINE_BYTES_MAX {
            return Err(Failure::usage(format!(
                "standard input: a line has more than {LINE_BYTES_MAX} octets"
            )));
        }
        if count == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }

    /// A password from one line of standard input.
    pub async fn password_line(&mut self) -> Result<Password, Failure> {
        let line = self.line().await?.unwrap_or_default();
        password(line, "standard input")
    }

    /// A new password, asked for twice.
    pub async fn new_password(&mut self, user: &str) -> Result<Password, Failure> {
        if self.person == Person::Absent {
            return Err(Failure::usage(
                "nobody can be asked for the password here: --password-stdin reads it",
            ));
        }
        let first = hidden_line(&format!("New password of {user}: ")).await?;
        let second = hidden_line("The same again: ").await?;
        if first != second {
            return Err(Failure::usage("the two passwords differ; nothing was changed"));
        }
        password(first, "the password")
    }

    /// Asks a question that is answered by yes or no.
    pub async fn agrees(&mut self, question: &str) -> Result<(), Failure> {
        if self.person == Person::Absent {
            return Err(Failure::usage("nobody can be asked here: --yes is needed"));
        }
        let answer = shown_line(&format!("{question} [y/N] ")).await?;
        let answer = String::from_utf8_lossy(&answer).trim().to_lowercase();
        if ["y", "yes"].contains(&answer.as_str()) { Ok(()) } else { Err(Failure::Declined) }
    }

    /// Asks for a line that everybody may see.
    pub async fn asked(&mut self, question: &str) -> Result<Vec<u8>, Failure> {
        shown_line(question).await
    }
}

/// Asks for a line at the terminal and does not show it.
pub(crate) async fn hidden_line(question: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::Read { what: "the terminal".to_owned(), error };
    let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL).map_err(failed)?;
    let mut hidden = Hidden::new(terminal).map_err(failed)?;
    hidden.terminal.write_all(question.as_bytes()).map_err(failed)?;
    read_terminal().await.map_err(failed)
}

/// Asks for a line at the terminal that everybody may see.
async fn shown_line(question: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::Read { what: "the terminal".to_owned(), error };
    let mut terminal = OpenOptions::new().write(true).open(TERMINAL).map_err(failed)?;
    terminal.write_all(question.as_bytes()).map_err(failed)?;
    read_terminal().await.map_err(failed)
}

/// One line of the terminal. Giving it up leaves no reader behind that would take the next line from others.
async fn read_terminal() -> std::io::Result<Vec<u8>> {
    // A terminal is as pollable as the pipes that this was made for.
    let terminal = tokio::net::unix::pipe::OpenOptions::new().unchecked(true).open_receiver(TERMINAL)?;
    let mut line = Vec::new();
    let mut reader = BufReader::new(terminal.take(LINE_BYTES_MAX as u64));
    reader.read_until(b'\n', &mut line).await?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(line)
}

/// The terminal of this process, whatever its standard streams are.
const TERMINAL: &str = "/dev/tty";

/// Whether [`hidden_line`] has a terminal, and somebody who looks at it.
pub(crate) fn can_ask() -> bool {
    (std::io::stdin().is_terminal() || std::io::stderr().is_terminal()) && File::open("/dev/tty").is_ok()
}

/// A password of that many octets, or what is wrong with it.
pub(crate) fn password(octets: Vec<u8>, from: &str) -> Result<Password, Failure> {
    Password::new(octets).map_err(|error| Failure::usage(format!("{from}: a password of {error}")))
}

impl Hidden {
    fn new(terminal: File) -> std::io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes &= !LocalModes::ECHO;
        quiet.local_modes |= LocalModes::ECHONL;
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that has gone needs no echo.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
