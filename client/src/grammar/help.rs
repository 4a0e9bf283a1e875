//! Help, for people: which commands there are, and how each is written.

use pipo_protocol::v2::Role;

use super::kind::{Kind, Source};
use super::parse::{nouns, rows_of};
use super::{MENU, Row, TABLE, UsageError, Version1};

/// What the role may say, a line for each command.
#[must_use]
pub fn overview(role: Option<Role>) -> String {
    let rows = TABLE.iter().filter(|row| row.permits(role));
    let mut text =
        "Commands, each by any unique beginning of its words; help COMMAND tells more:\n\n".to_owned();
    text.push_str(&listed(rows));
    text.push_str("\nThe numbers of the original menu work as commands, too:\n\n");
    for (number, row) in MENU.iter().enumerate() {
        text.push_str(&format!("  {number:>2}  {:<39} {}\n", row.title, row.words.join(" ")));
    }
    text
}

/// Help on a noun or on one command.
///
/// Errors: the words are not of the grammar.
pub fn command_help(words: &[String]) -> Result<String, UsageError> {
    let said = super::parse_words(
        &words.iter().cloned().chain(["--help".to_owned()]).collect::<Vec<_>>(),
        super::Scope::Line,
    )?;
    match said.command {
        Some(command) => {
            let row = command.row;
            let siblings = rows_of(row.noun).count();
            let mut text = one(row);
            if row.verb.is_empty() && siblings > 1 {
                text.push('\n');
                text.push_str(&listed(rows_of(row.noun).filter(|other| !other.verb.is_empty())));
            }
            Ok(text)
        }
        None => {
            let noun = said.globals.text("help-on").unwrap_or_default().to_owned();
            let noun = nouns().find(|known| *known == noun).unwrap_or_default();
            Ok(listed(rows_of(noun)))
        }
    }
}

fn listed<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    rows.map(|row| format!("  {:<19} {}\n", row.words(), row.help)).collect()
}

/// How one command is written.
fn one(row: &Row) -> String {
    let mut text = format!("{}\n  {}\n", row.usage(), row.help);
    if let Some(role) = row.role() {
        text.push_str(&format!("  From the role {role} on.\n"));
    }
    match row.version_1 {
        Version1::Says(what) => text.push_str(&format!("  With --protocol 1: {what}.\n")),
        Version1::Cannot => text.push_str("  Not with --protocol 1.\n"),
        Version1::Local => {}
    }
    if !row.arguments.is_empty() {
        text.push('\n');
    }
    for argument in row.arguments {
        text.push_str(&aligned(argument.name, argument.help, Some(argument.kind)));
    }
    if !row.options.is_empty() {
        text.push_str("\nOptions:\n");
    }
    for flag in row.options {
        text.push_str(&aligned(&flag.written(), flag.help, flag.value.map(|(_, kind)| kind)));
    }
    text
}

/// Columns of help: what most terminals have.
const COLUMNS: usize = 100;

/// Where the meaning begins.
const MEANING: usize = 31;

/// What is written, what it means, and what is allowed where that is a choice or has units.
pub(crate) fn aligned(written: &str, help: &str, kind: Option<Kind>) -> String {
    let allowed = kind.map(allowed).unwrap_or_default();
    let mut text = format!("  {written}");
    let mut column = text.chars().count();
    if column >= MEANING {
        text.push('\n');
        column = 0;
    }
    text.extend(std::iter::repeat_n(' ', MEANING - column));
    column = MEANING;
    for (place, word) in format!("{help}{allowed}").split(' ').enumerate() {
        let width = word.chars().count();
        if place > 0 && column + 1 + width > COLUMNS {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', MEANING));
            column = MEANING;
        } else if place > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += width;
    }
    text.push('\n');
    text
}

/// What is allowed, in brackets, where it has to be known to write a value.
pub(crate) fn allowed(kind: Kind) -> String {
    let telling = matches!(kind.source(), Source::Words(_)) || matches!(kind, Kind::Span | Kind::Bytes);
    if telling { format!(" [{}]", kind.allowed()) } else { String::new() }
}
