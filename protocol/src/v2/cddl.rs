//! The CDDL (RFC 8610) of all bodies, rendered from the tables; pipoProtocol.txt holds this text.

use std::fmt::Write as _;

use super::body::{Field, Message};
use super::commands::COMMANDS;
use super::events::Event;
use super::status::ErrorBody;
use super::values::EnumRow;

/// Columns of a line, as everywhere in an RFC.
const COLUMNS_MAX: usize = 69;

/// Definitions collected so far, each after those it consists of.
#[derive(Debug, Default)]
pub struct Definitions {
    seen: Vec<&'static str>,
    text: String,
}

impl Definitions {
    pub(super) fn message<M: Message>(&mut self) {
        self.map(M::NAME, M::HELP, M::FIELDS);
    }

    pub(super) fn map(&mut self, name: &'static str, help: &str, fields: &[Field]) {
        if self.seen.contains(&name) {
            return;
        }
        self.seen.push(name);
        for field in fields {
            (field.define)(self);
        }
        comment(&mut self.text, "", help);
        let _ = writeln!(self.text, "{name} = {{");
        for field in fields {
            comment(&mut self.text, "  ", &format!("{}:{}", field.name, field.help));
            let optional = if field.optional { "? " } else { "" };
            let _ = writeln!(self.text, "  {optional}{}: {},", field.key, (field.cddl)());
        }
        self.text.push_str("  * uint => any\n}\n\n");
    }

    pub(super) fn choice(&mut self, name: &'static str, help: &str, types: &str) {
        if self.seen.contains(&name) {
            return;
        }
        self.seen.push(name);
        comment(&mut self.text, "", help);
        let _ = writeln!(self.text, "{name} = {types}\n");
    }

    pub(super) fn enumeration(&mut self, name: &'static str, help: &str, rows: &[EnumRow]) {
        if self.seen.contains(&name) {
            return;
        }
        self.seen.push(name);
        comment(&mut self.text, "", help);
        for row in rows {
            comment(&mut self.text, "  ", &format!("{} {}:{}", row.code, row.name, row.help));
        }
        let _ = writeln!(self.text, "{name} = uint .size 1\n");
    }
}

/// A comment of one sentence, wrapped.
fn comment(out: &mut String, indent: &str, sentence: &str) {
    let mut line = format!("{indent};");
    for word in sentence.split_whitespace() {
        if line.len() + 1 + word.len() > COLUMNS_MAX {
            let _ = writeln!(out, "{line}");
            line = format!("{indent};  ");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

/// Everything, in the order of the commands.
#[must_use]
pub fn render() -> String {
    let mut all = Definitions::default();
    all.message::<ErrorBody>();
    for row in COMMANDS {
        all.map(row.request.name, row.request.help, row.request.fields);
        if let Some(reply) = row.reply {
            all.map(reply.name, reply.help, reply.fields);
        }
    }
    all.message::<Event>();
    let trimmed = all.text.trim_end().len();
    all.text.truncate(trimmed);
    all.text.push('\n');
    all.text
}
