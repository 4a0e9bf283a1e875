//! What may stand at the cursor of a line: words of the grammar at once, and where to ask for the others.

use pipo_protocol::v2::Role;

use super::globals::{self, GLOBALS};
use super::kind::Source;
use super::parse::{alone, expand_menu, noun, nouns, rows_of, sole_row, verb};
use super::{Arity, Flag, Kind, Row, split};

/// What may complete a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Where the word begins in the line, octets.
    pub start: usize,
    /// What of it is there, without quotes.
    pub word: String,
    /// What it may become, each beginning so.
    pub candidates: Vec<Candidate>,
    /// Where there are others.
    pub source: Source,
    /// What the source needs to know: the setting whose values are wanted.
    pub of: Option<String>,
}

/// One thing that the word may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The whole word.
    pub text: String,
    /// What it means.
    pub help: &'static str,
}

/// Completes the word that ends at `cursor`. What the role may not say is not offered.
#[must_use]
pub fn complete(line: &str, cursor: usize, role: Option<Role>) -> Completion {
    let before = line.get(..cursor).unwrap_or(line);
    let start = last_word(before);
    let words = split(before.get(..start).unwrap_or_default()).unwrap_or_default();
    let word = before.get(start..).unwrap_or_default().trim_start_matches(['\'', '"']).to_owned();
    let mut place = Place { role, candidates: Vec::new(), source: Source::Nothing, of: None };
    place.walk(&words, &word);
    place.candidates.retain(|candidate| candidate.text.starts_with(&word));
    Completion { start, word, candidates: place.candidates, source: place.source, of: place.of }
}

/// Where the last word begins, quotes included.
fn last_word(before: &str) -> usize {
    let mut start = 0;
    let mut quote = None;
    for (at, c) in before.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c.is_whitespace() => start = at + c.len_utf8(),
            None => {}
        }
    }
    start
}

struct Place {
    role: Option<Role>,
    candidates: Vec<Candidate>,
    source: Source,
    of: Option<String>,
}

impl Place {
    /// Follows the words before the one at the cursor, and offers what may stand there.
    fn walk(&mut self, words: &[String], word: &str) {
        let words = expand_menu(words);
        let Some((first, rest)) = words.split_first() else { return self.offer_nouns() };
        let Ok(noun) = noun(first) else { return };
        if let Some(row) = sole_row(noun) {
            return self.walk_row(row, rest, word);
        }
        match rest.split_first().map(|(second, rest)| (verb(noun, second), rest)) {
            None => self.offer_verbs(noun),
            Some((Ok(Some(row)), behind)) => self.walk_row(row, behind, word),
            Some((Ok(None), _)) => alone(noun).into_iter().for_each(|row| self.walk_row(row, rest, word)),
            Some((Err(_), _)) => {}
        }
    }

    fn walk_row(&mut self, row: &'static Row, words: &[String], word: &str) {
        let mut positionals: Vec<&String> = Vec::new();
        let mut rest = words.iter();
        while let Some(given) = rest.next() {
            let last_takes_rest = row.arguments.last().is_some_and(|last| last.arity == Arity::Rest);
            if last_takes_rest && !given.starts_with('-') {
                let nested: Vec<String> = std::iter::once(given).chain(rest).cloned().collect();
                return self.walk(&nested, word);
            }
            if !given.starts_with('-') {
                positionals.push(given);
                continue;
            }
            // An option with its value in the next word; at the end of the line that is the word wanted.
            let Some((_, kind)) = flag(row, given).and_then(|flag| flag.value) else { continue };
            if rest.next().is_none() {
                return self.offer_kind(kind, None);
            }
        }
        if word.starts_with('-') {
            return self.offer_options(row);
        }
        let at = positionals.len();
        let repeated = row.arguments.last().filter(|last| last.arity == Arity::Any);
        let Some(argument) = row.arguments.get(at).or(repeated) else { return };
        if argument.kind == Kind::Command && at > 0 {
            self.walk(&positionals.into_iter().cloned().collect::<Vec<_>>(), word);
        } else {
            self.offer_kind(argument.kind, positionals.first().map(|first| first.as_str()));
        }
    }

    fn offer_nouns(&mut self) {
        for noun in nouns() {
            let mut rows = rows_of(noun).filter(|row| row.permits(self.role)).peekable();
            let help = rows.peek().map(|row| row.help);
            let help = if rows.count() == 1 { help } else { help.map(|_| "") };
            self.candidates.extend(help.map(|help| Candidate { text: noun.to_owned(), help }));
        }
    }

    fn offer_verbs(&mut self, noun: &str) {
        for row in rows_of(noun).filter(|row| row.permits(self.role)) {
            match (row.verb, row.arguments.first()) {
                ("", Some(argument)) => self.source = argument.kind.source(),
                ("", None) => {}
                (verb, _) => self.candidates.push(Candidate { text: verb.to_owned(), help: row.help }),
            }
        }
    }

    fn offer_options(&mut self, row: &'static Row) {
        let globals =
            GLOBALS.iter().filter(|global| global.group == globals::OUTPUT).map(|global| &global.flag);
        for flag in row.options.iter().chain(globals) {
            self.candidates.push(Candidate { text: format!("--{}", flag.long), help: flag.help });
        }
    }

    fn offer_kind(&mut self, kind: Kind, of: Option<&str>) {
        match kind.source() {
            Source::Words(words) => {
                let rows = words.iter().map(|row| Candidate { text: row.name.to_owned(), help: row.help });
                self.candidates.extend(rows);
            }
            Source::Commands => self.offer_nouns(),
            Source::SettingValues => {
                self.source = Source::SettingValues;
                self.of = of.map(str::to_owned);
            }
            Source::Users
            | Source::Sessions
            | Source::Settings
            | Source::Metrics
            | Source::Files
            | Source::Nothing => {
                self.source = kind.source();
            }
        }
    }
}

/// The option that is written so, without a value in the same word.
fn flag(row: &'static Row, written: &str) -> Option<&'static Flag> {
    if let Some(name) = written.strip_prefix("--") {
        return row.option(name).or_else(|| globals::long(name).map(|global| &global.flag));
    }
    let mut letters = written.chars().skip(1);
    let (short, None) = (letters.next()?, letters.next()) else { return None };
    row.options.iter().find(|flag| flag.short == Some(short))
}
