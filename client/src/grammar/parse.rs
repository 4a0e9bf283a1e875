//! From words to a command with its values.

use super::globals::{self, Global};
use super::near::nearest;
use super::values::Values;
use super::{Argument, Arity, Flag, Kind, Row, TABLE, menu, split};

/// A command with its values.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Which.
    pub row: &'static Row,
    /// What stood behind its words.
    pub values: Values,
}

/// What a line, or pipoctl's own command line, says.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The command; none where there are only options, or nothing.
    pub command: Option<Parsed>,
    /// Options of pipoctl itself.
    pub globals: Values,
}

/// Where words come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// pipoctl's own command line: every option.
    CommandLine,
    /// A line of a script or of the interactive mode: options of output only.
    Line,
}

/// What is wrong with a line, in one sentence that says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

impl UsageError {
    /// With that sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

/// Reads a line of a script or of the interactive mode.
pub fn parse_line(line: &str) -> Result<Said, UsageError> {
    parse_words(&split(line)?, Scope::Line)
}

/// Reads words that are cut already.
pub fn parse_words(words: &[String], scope: Scope) -> Result<Said, UsageError> {
    let words = expand_question(words.to_vec());
    let mut reading = Reading { scope, node: Node::Start, positionals: Vec::new(), said: Said::default() };
    let mut rest = words.iter();
    let mut only_words = false;
    while let Some(word) = rest.next() {
        if reading.takes_rest() {
            reading.positionals.push(word.clone());
        } else if !only_words && word == "--" {
            only_words = true;
        } else if !only_words && word.len() > 1 && word.starts_with('-') {
            reading.option(word, &mut rest)?;
        } else {
            reading.word(word, &mut rest)?;
        }
    }
    reading.finish()
}

/// A number of the menu stands for its words.
pub(super) fn expand_menu(words: &[String]) -> Vec<String> {
    match words.split_first() {
        Some((first, arguments)) => match menu::expand(first) {
            Some(expanded) => {
                expanded.iter().map(|&w| w.to_owned()).chain(arguments.iter().cloned()).collect()
            }
            None => words.to_vec(),
        },
        None => Vec::new(),
    }
}

/// `?` at the end asks for help on the words before it.
fn expand_question(mut words: Vec<String>) -> Vec<String> {
    if let Some(last) = words.last_mut().filter(|last| *last == "?") {
        "--help".clone_into(last);
    }
    words
}

/// How far the command's own words have been read.
enum Node {
    Start,
    Noun(&'static str),
    Row(&'static Row, Values),
}

struct Reading {
    scope: Scope,
    node: Node,
    positionals: Vec<String>,
    said: Said,
}

impl Reading {
    /// Whether everything from here on belongs to the last argument.
    fn takes_rest(&self) -> bool {
        let Node::Row(row, _) = &self.node else { return false };
        let fixed = row.arguments.len().saturating_sub(1);
        row.arguments.last().is_some_and(|last| last.arity == Arity::Rest) && self.positionals.len() > fixed
    }

    fn word<'a>(
        &mut self,
        word: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), UsageError> {
        match &mut self.node {
            Node::Start => {
                if let Some(expanded) = menu::expand(word) {
                    let mut nothing = std::iter::empty();
                    return expanded.iter().try_for_each(|&word| match word.starts_with('-') {
                        true => self.option(word, &mut nothing),
                        false => self.word(word, &mut nothing),
                    });
                }
                let noun = if word == "?" { "help" } else { noun(word)? };
                self.node = match sole_row(noun) {
                    Some(row) => Node::Row(row, Values::default()),
                    None => Node::Noun(noun),
                };
            }
            Node::Noun(noun) => match verb(noun, word)? {
                Some(row) => self.node = Node::Row(row, Values::default()),
                None => {
                    // The noun stands alone, and this is its first argument.
                    let row = alone(noun).ok_or_else(|| UsageError::new(format!("{noun}: no verb")))?;
                    self.node = Node::Row(row, Values::default());
                    self.positionals.push(word.to_owned());
                }
            },
            Node::Row(row, values) => match row.option(word).filter(|flag| flag.bare) {
                Some(flag) => take_value(flag, word, None, rest, values)?,
                None => self.positionals.push(word.to_owned()),
            },
        }
        Ok(())
    }

    /// An option of the command, or of pipoctl; the command's own goes first.
    fn option<'a>(
        &mut self,
        word: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), UsageError> {
        // A noun that stands alone may be followed by its options at once.
        if let Node::Noun(noun) = self.node
            && let Some(row) = alone(noun)
            && find(word, |flag| row.option(flag), |short| with_short(row, short)).is_some()
        {
            self.node = Node::Row(row, Values::default());
        }
        if let Node::Row(row, values) = &mut self.node
            && let Some((flag, inline)) = find(word, |flag| row.option(flag), |short| with_short(row, short))
        {
            return take_value(flag, word, inline, rest, values);
        }
        let global = find(word, globals::long, globals::short);
        match global {
            Some((global, inline)) => {
                self.check_scope(global)?;
                take_value(&global.flag, word, inline, rest, &mut self.said.globals)
            }
            None => Err(self.unknown_option(word)),
        }
    }

    fn check_scope(&self, global: &Global) -> Result<(), UsageError> {
        let allowed = match self.scope {
            Scope::CommandLine => true,
            Scope::Line => global.group == globals::OUTPUT || global.flag.long == "help",
        };
        let sentence = || format!("--{} belongs on the command line of pipoctl", global.flag.long);
        if allowed { Ok(()) } else { Err(UsageError::new(sentence())) }
    }

    fn unknown_option(&self, word: &str) -> UsageError {
        let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
        let (place, own): (String, &[Flag]) = match &self.node {
            Node::Row(row, _) => (format!("{}: ", row.words()), row.options),
            Node::Noun(_) | Node::Start => (String::new(), &[]),
        };
        let known = own.iter().map(|flag| flag.long);
        let known = known.chain(globals::GLOBALS.iter().map(|global| global.flag.long));
        let near = nearest(name, known).map(|near| format!("; did you mean --{near}?")).unwrap_or_default();
        UsageError::new(format!("{place}{} is not an option{near}", shown(word)))
    }

    fn finish(mut self) -> Result<Said, UsageError> {
        let (row, mut values) = match self.node {
            Node::Start => return Ok(self.said),
            Node::Noun(noun) => match alone(noun) {
                Some(row) => (row, Values::default()),
                None if self.said.globals.has("help") => {
                    self.said.globals.push("help-on", noun);
                    return Ok(self.said);
                }
                None => return Err(missing_verb(noun)),
            },
            Node::Row(row, values) => (row, values),
        };
        if self.said.globals.has("help") {
            self.said.globals.push("help-on", row.words());
        } else {
            assign(row, self.positionals, &mut values)?;
        }
        self.said.command = Some(Parsed { row, values });
        Ok(self.said)
    }
}

/// Gives the words behind a command to its arguments.
fn assign(row: &'static Row, words: Vec<String>, values: &mut Values) -> Result<(), UsageError> {
    let mut words = words.into_iter().peekable();
    for argument in row.arguments {
        match argument.arity {
            Arity::One => match words.next() {
                Some(word) => put(row, argument, word, values)?,
                None => return Err(missing(row, argument)),
            },
            Arity::Optional => words.next().map_or(Ok(()), |word| put(row, argument, word, values))?,
            Arity::Any | Arity::Rest => {
                if argument.arity == Arity::Rest && words.peek().is_none() {
                    return Err(missing(row, argument));
                }
                words.by_ref().try_for_each(|word| put(row, argument, word, values))?;
            }
        }
    }
    match words.next() {
        Some(word) => {
            let sentence = format!("{}: {} is too much; usage: {}", row.words(), shown(&word), row.usage());
            Err(UsageError::new(sentence))
        }
        None => Ok(()),
    }
}

fn put(row: &Row, argument: &Argument, word: String, values: &mut Values) -> Result<(), UsageError> {
    check(&format!("{}: {}", row.words(), argument.name), argument.kind, &word)?;
    values.push(argument.name, word);
    Ok(())
}

fn missing(row: &Row, argument: &Argument) -> UsageError {
    UsageError::new(format!("{}: {} is missing; usage: {}", row.words(), argument.name, row.usage()))
}

fn check(place: &str, kind: Kind, value: &str) -> Result<(), UsageError> {
    if kind.accepts(value) {
        return Ok(());
    }
    UsageError::refuse(place, value, &kind.allowed())
}

impl UsageError {
    fn refuse(place: &str, value: &str, allowed: &str) -> Result<(), Self> {
        Err(Self(format!("{place}: {} is not allowed: {allowed}", shown(value))))
    }
}

/// In quotes, safe to print.
fn shown(word: &str) -> String {
    format!("\"{}\"", crate::output::safe(word))
}

/// `--long`, `--long=value`, `-s`, `-svalue`: the option and the value that stands in the same word.
fn find<F>(
    word: &str,
    long: impl Fn(&str) -> Option<&'static F>,
    short: impl Fn(char) -> Option<&'static F>,
) -> Option<(&'static F, Option<&str>)> {
    if let Some(name) = word.strip_prefix("--") {
        let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        return long(name).map(|flag| (flag, value));
    }
    let mut letters = word.strip_prefix('-')?.chars();
    let flag = short(letters.next()?)?;
    Some((flag, Some(letters.as_str()).filter(|value| !value.is_empty())))
}

fn with_short(row: &'static Row, short: char) -> Option<&'static Flag> {
    row.options.iter().find(|flag| flag.short == Some(short))
}

fn take_value<'a>(
    flag: &'static Flag,
    word: &str,
    inline: Option<&str>,
    rest: &mut impl Iterator<Item = &'a String>,
    values: &mut Values,
) -> Result<(), UsageError> {
    let Some((name, kind)) = flag.value else {
        return match inline {
            None => {
                values.push(flag.long, "");
                Ok(())
            }
            Some(_) => Err(UsageError::new(format!("{} takes no value", shown(word)))),
        };
    };
    let value = match inline {
        Some(value) => value.to_owned(),
        None => rest.next().cloned().ok_or_else(|| {
            let sentence = format!("--{}: {name} is missing: {}", flag.long, kind.allowed());
            UsageError::new(sentence)
        })?,
    };
    check(&format!("--{}", flag.long), kind, &value)?;
    values.push(flag.long, value);
    Ok(())
}

// ---- the command's own words ----------------------------------------------------------------------------

/// Every noun once, in the order of the table.
pub(super) fn nouns() -> impl Iterator<Item = &'static str> {
    let first = |place: usize, noun: &str| TABLE.iter().position(|row| row.noun == noun) == Some(place);
    TABLE.iter().enumerate().filter(move |(place, row)| first(*place, row.noun)).map(|(_, row)| row.noun)
}

/// Rows of one noun.
pub(super) fn rows_of(noun: &str) -> impl Iterator<Item = &'static Row> + use<'_> {
    TABLE.iter().filter(move |row| row.noun == noun)
}

/// The row where the noun stands alone.
pub(super) fn alone(noun: &str) -> Option<&'static Row> {
    rows_of(noun).find(|row| row.verb.is_empty())
}

/// The row of a noun that has no verbs.
pub(super) fn sole_row(noun: &str) -> Option<&'static Row> {
    alone(noun).filter(|_| rows_of(noun).count() == 1)
}

pub(super) fn noun(word: &str) -> Result<&'static str, UsageError> {
    match unique(word, nouns()) {
        Found::One(noun) => Ok(noun),
        Found::Several(nouns) => Err(UsageError::new(format!("{} may be {}", shown(word), or(&nouns)))),
        Found::None => {
            let near = nearest(word, nouns()).map(|near| format!("; did you mean {near}?"));
            let near = near.unwrap_or_else(|| "; help lists the commands".to_owned());
            Err(UsageError::new(format!("{} is not a command{near}", shown(word))))
        }
    }
}

/// The verb's row. `None`: the word is an argument of the noun, which may stand alone.
pub(super) fn verb(noun: &'static str, word: &str) -> Result<Option<&'static Row>, UsageError> {
    let verbs = || rows_of(noun).map(|row| row.verb).filter(|verb| !verb.is_empty());
    if alone(noun).is_some() {
        return Ok(rows_of(noun).find(|row| row.verb == word));
    }
    match unique(word, verbs()) {
        Found::One(verb) => Ok(rows_of(noun).find(|row| row.verb == verb)),
        Found::Several(verbs) => {
            Err(UsageError::new(format!("{noun} {} may be {}", shown(word), or(&verbs))))
        }
        Found::None => {
            let near = nearest(word, verbs()).map(|near| format!("did you mean {noun} {near}?"));
            let near = near.unwrap_or_else(|| format!("it has {}", or(&verbs().collect::<Vec<_>>())));
            Err(UsageError::new(format!("{noun} {} is not a command; {near}", shown(word))))
        }
    }
}

fn missing_verb(noun: &str) -> UsageError {
    let verbs: Vec<_> = rows_of(noun).map(|row| row.verb).collect();
    UsageError::new(format!("{noun}: {} is missing", or(&verbs)))
}

/// What a beginning of words comes to.
enum Found {
    None,
    One(&'static str),
    Several(Vec<&'static str>),
}

/// The word itself, or the only one that starts so.
fn unique(word: &str, words: impl Iterator<Item = &'static str>) -> Found {
    let mut starting: Vec<_> = words.filter(|known| known.starts_with(word)).collect();
    if let Some(exact) = starting.iter().find(|known| **known == word) {
        return Found::One(exact);
    }
    match (starting.pop(), starting.is_empty()) {
        _ if word.is_empty() => Found::None,
        (Some(only), true) => Found::One(only),
        (Some(last), false) => {
            starting.push(last);
            Found::Several(starting)
        }
        (None, _) => Found::None,
    }
}

/// `a, b or c`.
fn or(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
