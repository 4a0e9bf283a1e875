//! Where output goes, and in which form. Every line is written out at once, so that followers see it.

use std::io::IsTerminal;

use tokio::io::{AsyncWriteExt, Stdout};

use super::happenings::{Piped, Shown};
use super::json::to_json;
use super::table::{Columns, for_pipes, pipe_head, pipe_row, pipe_sheet, sheet};
use super::value::{Field, Place};
use crate::limits::TABLE_ROWS_HELD_MAX;

/// The form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned, with units, for people.
    Table(Colour),
    /// Columns with tabs between them, exact numbers.
    Plain,
    /// One value: an object, or an array of rows.
    Json,
    /// An object a line.
    JsonLines,
}

/// Whether titles stand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// By escape sequences.
    On,
    /// Not.
    Off,
}

/// Where output goes.
pub enum Sink {
    /// Standard output, written by a thread of its own: a pager that waits does not hold the association up.
    Stdout(Stdout),
    /// To whoever shows it: whole lines.
    Lines(Box<dyn FnMut(&str)>),
}

/// Standard output does not take any more.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Its reader has gone, as `head` does: no error.
    #[error("the reader of standard output has gone")]
    Gone,
    /// Something else.
    #[error("standard output: {0}")]
    Other(std::io::Error),
}

/// Writes what commands have to say.
#[derive(Debug)]
pub struct Printer {
    /// The form.
    pub format: Format,
    sink: Sink,
}

/// A list under way.
#[derive(Debug, Default)]
pub struct Rows {
    held: Vec<Vec<Field>>,
    columns: Option<Columns>,
    count: usize,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stdout(_) => "Stdout",
            Self::Lines(_) => "Lines",
        })
    }
}

impl Format {
    /// What suits standard output when nobody asked for a form.
    #[must_use]
    pub fn of_stdout() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self::Plain;
        }
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self::Table(if plain { Colour::Off } else { Colour::On })
    }
}

impl Printer {
    /// Writes in that form to that place.
    #[must_use]
    pub fn new(format: Format, sink: Sink) -> Self {
        Self { format, sink }
    }

    /// Writes a text of our own as it is, whatever the form.
    pub async fn text(&mut self, text: &str) -> Result<(), SinkError> {
        match &mut self.sink {
            Sink::Stdout(stdout) => {
                stdout.write_all(text.as_bytes()).await?;
                stdout.flush().await?;
            }
            Sink::Lines(show) => show(text),
        }
        Ok(())
    }

    /// Says that a change was made: a sentence to people and pipes, the fields to programs that read JSON.
    pub async fn done(&mut self, sentence: &str, fields: &[Field]) -> Result<(), SinkError> {
        match self.format {
            Format::Table(_) | Format::Plain => self.text(&format!("{sentence}\n")).await,
            Format::Json | Format::JsonLines => self.text(&format!("{}\n", to_json(fields))).await,
        }
    }

    /// Shows one thing in full.
    pub async fn record(&mut self, fields: &[Field]) -> Result<(), SinkError> {
        match self.format {
            Format::Table(_) => self.text(&sheet(fields)).await,
            Format::Plain => self.text(&pipe_sheet(fields)).await,
            Format::Json | Format::JsonLines => self.text(&format!("{}\n", to_json(fields))).await,
        }
    }

    /// Shows one value alone.
    pub async fn value(&mut self, field: &Field) -> Result<(), SinkError> {
        match self.format {
            Format::Table(_) | Format::Plain => self.text(&format!("{}\n", for_pipes(&field.value))).await,
            Format::Json | Format::JsonLines => {
                self.text(&format!("{}\n", to_json(std::slice::from_ref(field)))).await
            }
        }
    }

    /// Shows something that happened.
    pub async fn happening(&mut self, shown: &Shown) -> Result<(), SinkError> {
        match (self.format, shown.piped) {
            (Format::Table(_), _) | (Format::Plain, Piped::Line) => {
                self.text(&format!("{}\n", shown.line)).await
            }
            (Format::Plain, Piped::Fields) => {
                let fields = shown.fields.iter().filter(|field| field.place != Place::People);
                let cells = fields.map(|field| format!("{}={}", field.name, for_pipes(&field.value)));
                let line = cells.collect::<Vec<_>>().join("\t");
                self.text(&format!("{line}\n")).await
            }
            (Format::Json | Format::JsonLines, _) => {
                self.text(&format!("{}\n", to_json(&shown.fields))).await
            }
        }
    }

    /// Shows the next rows of a list.
    pub async fn rows(&mut self, rows: &mut Rows, next: Vec<Vec<Field>>) -> Result<(), SinkError> {
        if !matches!(self.format, Format::Table(_)) || rows.columns.is_some() {
            return self.write_rows(rows, &next).await;
        }
        rows.held.extend(next);
        if rows.held.len() >= TABLE_ROWS_HELD_MAX { self.release(rows).await } else { Ok(()) }
    }

    /// Ends a list.
    pub async fn end(&mut self, mut rows: Rows) -> Result<(), SinkError> {
        match self.format {
            Format::Table(_) => {
                if rows.columns.is_none() && !rows.held.is_empty() {
                    self.release(&mut rows).await?;
                }
                if rows.count == 0 { self.text("(none)\n").await } else { Ok(()) }
            }
            Format::Json => self.text(if rows.count == 0 { "[]\n" } else { "\n]\n" }).await,
            Format::Plain | Format::JsonLines => Ok(()),
        }
    }

    /// The columns are chosen by the rows so far.
    async fn release(&mut self, rows: &mut Rows) -> Result<(), SinkError> {
        let held = std::mem::take(&mut rows.held);
        let columns = Columns::fitting(&held);
        let head = columns.head();
        rows.columns = Some(columns);
        match self.format {
            Format::Table(Colour::On) => self.text(&format!("\x1b[1m{}\x1b[0m\n", head.trim_end())).await?,
            Format::Table(Colour::Off) | Format::Plain | Format::Json | Format::JsonLines => {
                self.text(&head).await?;
            }
        }
        self.write_rows(rows, &held).await
    }

    async fn write_rows(&mut self, rows: &mut Rows, next: &[Vec<Field>]) -> Result<(), SinkError> {
        let mut text = String::new();
        for row in next {
            match (self.format, &rows.columns) {
                (Format::Table(_), Some(columns)) => text.push_str(&columns.row(row)),
                (Format::Table(_) | Format::Plain, _) => {
                    if rows.count == 0 {
                        text.push_str(&pipe_head(row));
                    }
                    text.push_str(&pipe_row(row));
                }
                (Format::Json, _) => {
                    text.push_str(if rows.count == 0 { "[\n" } else { ",\n" });
                    text.push_str(&to_json(row));
                }
                (Format::JsonLines, _) => {
                    text.push_str(&to_json(row));
                    text.push('\n');
                }
            }
            rows.count += 1;
        }
        if text.is_empty() { Ok(()) } else { self.text(&text).await }
    }
}

impl From<std::io::Error> for SinkError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe { Self::Gone } else { Self::Other(error) }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    fn list(format: Format, parts: Vec<Vec<u64>>) -> String {
        let shown = Rc::new(RefCell::new(String::new()));
        let into = Rc::clone(&shown);
        let mut printer =
            Printer::new(format, Sink::Lines(Box::new(move |text| into.borrow_mut().push_str(text))));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut rows = Rows::default();
            for part in parts {
                let part = part.into_iter().map(|n| vec![Field::new("worker", n)]).collect();
                printer.rows(&mut rows, part).await.unwrap();
            }
            printer.end(rows).await.unwrap();
        });
        shown.take()
    }

    #[test]
    fn lists_come_in_parts_and_are_whole_in_every_form() {
        let parts = || vec![vec![1, 2], vec![], vec![30]];
        for (format, expected, empty) in [
            (Format::Table(Colour::Off), "WORKER\n     1\n     2\n    30\n", "(none)\n"),
            (Format::Plain, "worker\n1\n2\n30\n", ""),
            (Format::Json, "[\n{\"worker\":1},\n{\"worker\":2},\n{\"worker\":30}\n]\n", "[]\n"),
            (Format::JsonLines, "{\"worker\":1}\n{\"worker\":2}\n{\"worker\":30}\n", ""),
        ] {
            assert_eq!(list(format, parts()), expected);
            assert_eq!(list(format, vec![]), empty);
        }
        assert!(list(Format::Table(Colour::On), parts()).starts_with("\x1b[1mWORKER\x1b[0m\n"));
    }

    #[test]
    fn a_long_table_is_not_held_as_a_whole() {
        let rows = TABLE_ROWS_HELD_MAX as u64 + 5;
        let text = list(Format::Table(Colour::Off), vec![(0..rows).collect(), (0..3).collect()]);
        assert_eq!(text.lines().count(), TABLE_ROWS_HELD_MAX + 5 + 3 + 1);
    }
}
