//! The line editor: rustyline in a thread of its own, asked for one line at a time.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::time::Duration;

use pipo_protocol::v2::Role;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::config::BellStyle;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Helper};
use tokio::sync::mpsc;

use super::history;
use super::lookup::Lookup;
use super::screen::Screen;
use crate::grammar::{Source, complete};
use crate::limits::{HISTORY_LINES_MAX, LOOKUP_TIME_MAX};

/// The editor's thread, as the conversation sees it.
#[derive(Debug)]
pub(super) struct Editor {
    asks: Sender<Ask>,
    heard: mpsc::UnboundedReceiver<Heard>,
    lookups: mpsc::UnboundedReceiver<Lookup>,
}

/// A line is wanted.
#[derive(Debug)]
struct Ask {
    prompt: String,
    role: Option<Role>,
    kept: Kept,
}

/// Whether lines go into the history and are completed as commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

/// What the person did.
#[derive(Debug)]
pub(super) enum Heard {
    /// A line.
    Line(String),
    /// Ctrl-C: the line is cleared.
    Interrupted,
    /// Ctrl-D, or the terminal has gone.
    End,
    /// The terminal does not do what is needed.
    Failed(String),
}

/// What comes from the editor.
#[derive(Debug)]
pub(super) enum FromEditor {
    /// What the person did.
    Heard(Heard),
    /// What completion wants to know.
    Wanted(Lookup),
}

impl Editor {
    /// Starts the thread; the screen shows above the line that is being edited.
    pub(super) fn start() -> io::Result<(Self, Screen)> {
        let (asks, asked) = channel();
        let (say, heard) = mpsc::unbounded_channel();
        let (look_up, lookups) = mpsc::unbounded_channel();
        let mut lines = Lines::new(look_up).map_err(io::Error::other)?;
        let screen = Screen::start(lines.editor.create_external_printer().map_err(io::Error::other)?)?;
        std::thread::Builder::new().name("editor".to_owned()).spawn(move || lines.serve(&asked, &say))?;
        Ok((Self { asks, heard, lookups }, screen))
    }

    /// Asks for a command. Exactly one [`Heard`] follows.
    pub(super) fn ask_command(&self, prompt: String, role: Option<Role>) {
        // Without its thread, `heard` says so.
        drop(self.asks.send(Ask { prompt, role, kept: Kept::Yes }));
    }

    /// Asks for an answer. Exactly one [`Heard`] follows.
    pub(super) fn ask_answer(&self, prompt: String) {
        drop(self.asks.send(Ask { prompt, role: None, kept: Kept::No }));
    }

    /// What the editor says next.
    pub(super) async fn next(&mut self) -> FromEditor {
        tokio::select! {
            heard = self.heard.recv() => {
                FromEditor::Heard(heard.unwrap_or_else(|| Heard::Failed("the editor has gone".to_owned())))
            }
            Some(lookup) = self.lookups.recv() => FromEditor::Wanted(lookup),
        }
    }
}

/// What the thread holds.
struct Lines {
    editor: rustyline::Editor<Completion, FileHistory>,
    history: Option<PathBuf>,
}

impl Lines {
    fn new(look_up: mpsc::UnboundedSender<Lookup>) -> rustyline::Result<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY_LINES_MAX)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .bell_style(BellStyle::None)
            .build();
        let mut editor = rustyline::Editor::with_config(config)?;
        editor.set_helper(Some(Completion {
            look_up,
            role: None,
            kept: Kept::No,
            files: FilenameCompleter::new(),
        }));
        let mut history = history::path(|name| std::env::var(name).ok());
        if let Some(path) = &history
            && let Err(error) =
                history::prepare(path).map_err(ReadlineError::from).and_then(|()| editor.load_history(path))
        {
            log::warn!("no history is kept: {}: {error}", path.display());
            history = None;
        }
        Ok(Self { editor, history })
    }

    /// Reads a line whenever one is wanted, until nobody wants any.
    fn serve(&mut self, asked: &Receiver<Ask>, say: &mpsc::UnboundedSender<Heard>) {
        while let Ok(ask) = asked.recv() {
            if let Some(completion) = self.editor.helper_mut() {
                (completion.role, completion.kept) = (ask.role, ask.kept);
            }
            let heard = match self.editor.readline(&ask.prompt) {
                Ok(line) => {
                    if ask.kept == Kept::Yes {
                        self.keep(&line);
                    }
                    Heard::Line(line)
                }
                Err(ReadlineError::Interrupted) => Heard::Interrupted,
                Err(ReadlineError::Eof) => Heard::End,
                // What a terminal says that was taken away.
                Err(ReadlineError::Io(error)) if error.raw_os_error() == Some(libc::EIO) => Heard::End,
                Err(error) => Heard::Failed(error.to_string()),
            };
            if say.send(heard).is_err() {
                return;
            }
        }
    }

    /// Adds a line to the history, in memory and in the file.
    fn keep(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line).unwrap_or(false);
        if let Some(path) = self.history.as_ref().filter(|_| added)
            && let Err(error) = self.editor.append_history(path)
        {
            log::warn!("the history is not kept: {}: {error}", path.display());
            self.history = None;
        }
    }
}

/// Completes words: the grammar knows which, the server the names.
struct Completion {
    look_up: mpsc::UnboundedSender<Lookup>,
    role: Option<Role>,
    kept: Kept,
    files: FilenameCompleter,
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        if self.kept == Kept::No {
            return Ok((cursor, Vec::new()));
        }
        let found = complete(line, cursor, self.role);
        if found.source == Source::Files {
            return self.files.complete_path(line, cursor);
        }
        let mut pairs: Vec<Pair> = found.candidates.iter().map(|candidate| pair(&candidate.text)).collect();
        let names = self.names(found.source, found.of, &found.word);
        pairs.extend(names.iter().filter(|name| name.starts_with(&found.word)).map(|name| pair(name)));
        Ok((found.start, pairs))
    }
}

impl Completion {
    /// Names that only the server knows; none when it does not answer at once.
    fn names(&self, source: Source, of: Option<String>, word: &str) -> Vec<String> {
        if matches!(source, Source::Words(_) | Source::Commands | Source::Files | Source::Nothing) {
            return Vec::new();
        }
        let (answer, answered) = sync_channel(1);
        let lookup = Lookup { source, of, prefix: word.to_owned(), answer };
        if self.look_up.send(lookup).is_err() {
            return Vec::new();
        }
        answered.recv_timeout(LOOKUP_TIME_MAX + Duration::from_millis(100)).unwrap_or_default()
    }
}

/// What is shown, and what is put into the line: in quotes where it would be more than one word, and a blank behind.
fn pair(text: &str) -> Pair {
    let plain =
        !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '#'));
    let replacement = match (plain, text.contains('\'')) {
        (true, _) => format!("{text} "),
        (false, false) => format!("'{text}' "),
        (false, true) => format!("\"{}\" ", text.replace('"', "\\\"")),
    };
    Pair { display: text.to_owned(), replacement }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}

impl Validator for Completion {}

impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::split;

    #[test]
    fn what_is_put_into_the_line_is_read_as_the_word_that_was_meant() {
        for text in ["ada", "a b", "it's", "a\"b 'c'", "#1", "\\xff\\x00", "x y\\x27"] {
            let replacement = pair(text).replacement;
            assert_eq!(split(&replacement).unwrap(), [text], "{replacement}");
        }
    }

    #[test]
    fn names_come_from_whoever_knows_them_and_nobody_waits_for_long() {
        let (look_up, mut lookups) = mpsc::unbounded_channel();
        let completion =
            Completion { look_up, role: Some(Role::Admin), kept: Kept::Yes, files: FilenameCompleter::new() };
        let server = std::thread::spawn(move || {
            let lookup: Lookup = lookups.blocking_recv().unwrap();
            assert_eq!((lookup.source, lookup.prefix.as_str()), (Source::Users, "a"));
            lookup.answer.send(vec!["ada".to_owned(), "bob".to_owned()]).unwrap();
        });
        let history = FileHistory::default();
        let context = Context::new(&history);
        let (start, pairs) = completion.complete("user remove a", 13, &context).unwrap();
        server.join().unwrap();
        assert_eq!(start, 12);
        assert_eq!(pairs.iter().map(|pair| pair.display.as_str()).collect::<Vec<_>>(), ["ada"]);
        // Now nobody answers.
        let (_, pairs) = completion.complete("user remove a", 13, &context).unwrap();
        assert!(pairs.is_empty());
        let (_, pairs) = completion.complete("us", 2, &context).unwrap();
        assert_eq!(pairs[0].replacement, "user ");
    }
}
