//! Reads pipoProtocol.txt: its form, its examples, and the parts that are rendered from the crate's tables.
//!
//! `UPDATE_SPEC=1 cargo test -p pipo-protocol` writes the rendered parts and the version 2 examples anew; review the
//! difference as if it were code. Version 1 examples are written by hand and never touched.

use std::fmt::Write as _;
use std::path::PathBuf;

use pipo_protocol::v2::messages::FEATURES;
use pipo_protocol::v2::{Answer, COMMANDS, Effect, Role, STATUSES, cddl};

/// One example of the specification.
pub(crate) struct Example {
    pub(crate) version: String,
    /// Everything between version and direction.
    pub(crate) name: String,
    pub(crate) direction: String,
    pub(crate) octets: Vec<u8>,
}

pub(crate) fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../pipoProtocol.txt")
}

pub(crate) fn text() -> String {
    std::fs::read_to_string(path()).unwrap()
}

pub(crate) fn updating() -> bool {
    std::env::var_os("UPDATE_SPEC").is_some()
}

/// Every example of a version, in the order of the file.
pub(crate) fn examples(version: &str) -> Vec<Example> {
    let text = text();
    let mut lines = text.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let Some(head) = line.trim().strip_prefix("example: ") else { continue };
        let words: Vec<_> = head.split(' ').collect();
        let [first, name @ .., direction] = words.as_slice() else { panic!("incomplete: {line}") };
        let octets = lines.by_ref().take_while(|line| !line.trim().is_empty()).flat_map(octets_of).collect();
        found.push(Example {
            version: (*first).to_owned(),
            name: name.join(" "),
            direction: (*direction).to_owned(),
            octets,
        });
    }
    assert!(found.iter().all(|example| ["v1", "v2"].contains(&example.version.as_str())));
    assert!(found.iter().all(|example| ["C->S", "S->C"].contains(&example.direction.as_str())));
    found.retain(|example| example.version == version);
    found
}

fn octets_of(line: &str) -> Vec<u8> {
    let hex = line.split(';').next().unwrap_or_default();
    hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).expect(line)).collect()
}

#[test]
fn lines_have_72_columns_of_ascii() {
    for (number, line) in text().lines().enumerate() {
        assert!(line.is_ascii() && line.len() <= 72, "line {}: {line}", number + 1);
        assert_eq!(line.trim_end(), line, "line {}: spaces at the end", number + 1);
    }
}

#[test]
fn the_table_of_contents_is_the_headings_in_order() {
    let text = text();
    let (before, after) = text.split_once("\nTable of Contents\n").unwrap();
    assert!(before.contains("Abstract"));
    let (contents, sections) = after.split_once("\n\n\n").unwrap();
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_heading = |line: &&str| {
        line.starts_with("Appendix ")
            || line.starts_with(|c: char| c.is_ascii_digit()) && line.contains(".  ")
    };
    let contents: Vec<_> = contents.lines().filter(|line| !line.is_empty()).map(squeezed).collect();
    let headings: Vec<_> = sections.lines().filter(is_heading).map(squeezed).collect();
    assert_eq!(contents, headings);
}

#[test]
fn rendered_parts_are_those_of_the_crate() {
    let mut text = text();
    let parts = [
        ("features.txt", features()),
        ("roles.txt", roles()),
        ("commands.txt", commands()),
        ("statuses.txt", statuses()),
        ("pipo2.cddl", cddl::render()),
    ];
    for (file, expected) in parts {
        let begin = format!("<CODE BEGINS> file \"{file}\"\n");
        let start = text.find(&begin).unwrap_or_else(|| panic!("no part {file}")) + begin.len();
        let end = start + text[start..].find("<CODE ENDS>").unwrap();
        if updating() {
            text.replace_range(start..end, &format!("\n{expected}\n"));
            std::fs::write(path(), &text).unwrap();
        }
        let end = start + text[start..].find("<CODE ENDS>").unwrap();
        assert_eq!(text[start..end].trim(), expected.trim(), "{file}: see the head of this module");
    }
}

/// `indent` and the words, wrapped at 72 columns.
fn paragraph(out: &mut String, indent: &str, words: &str) {
    let mut line = indent.to_owned();
    for word in words.split_whitespace() {
        if line.len() + word.len() + 1 > 72 {
            writeln!(out, "{}", line.trim_end()).unwrap();
            line = indent.to_owned();
        }
        line.push_str(word);
        line.push(' ');
    }
    writeln!(out, "{}", line.trim_end()).unwrap();
}

fn features() -> String {
    let mut out = String::new();
    for (name, help) in FEATURES {
        writeln!(out, "   {name}").unwrap();
        paragraph(&mut out, "      ", help);
    }
    out
}

fn roles() -> String {
    let mut out = String::new();
    for row in Role::ROWS {
        writeln!(out, "   {}  {:<9} {}", row.code, row.name, row.help.trim()).unwrap();
    }
    out
}

fn commands() -> String {
    let mut out = String::new();
    let mut rows: Vec<_> = COMMANDS.iter().collect();
    rows.sort_by_key(|row| row.code);
    for row in rows {
        let effect = match row.effect {
            Effect::Query => "query",
            Effect::Change => "change",
            Effect::Association => "association",
        };
        let answer = match row.answer {
            Answer::One => "one",
            Answer::Parts => "parts",
            Answer::Subscription => "subscription",
            Answer::Never => "never",
        };
        let words = format!("{} {}", row.noun, row.verb);
        let role = row.role.map_or("none", Role::name);
        writeln!(out, "   0x{:04X}  {words:<18} {role:<9} {effect:<12} {answer}", row.code).unwrap();
        let bodies = [Some(row.request.name), row.reply.map(|reply| reply.name)];
        let bodies: Vec<_> = bodies.into_iter().flatten().collect();
        writeln!(out, "           {}", bodies.join(" -> ")).unwrap();
        paragraph(&mut out, "           ", row.help);
    }
    out
}

fn statuses() -> String {
    let mut out = String::new();
    for row in STATUSES {
        writeln!(out, "   {:>3}  {}", row.code, row.name).unwrap();
        paragraph(&mut out, "        ", row.sentence);
    }
    out
}
