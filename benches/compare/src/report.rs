//! The table as Markdown, its place in a document, and the one way to stdout.

use crate::rows::{Book, Mark, Measure, Row, Verdict, judge, rows};
use crate::servers::{Kind, Role};
use crate::stats::{Spread, median};
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// What stands between these lines of a document is replaced by the last output.
const BEGIN: &str = "<!-- compare: begin -->";
const END: &str = "<!-- compare: end -->";

/// Prints a line. A reader that has gone away is success: it read what it wanted.
pub(crate) fn say(line: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// All parts of the output that are not figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Circumstances {
    /// One line each: machine, kernel, command, lengths.
    pub(crate) facts: Vec<String>,
    /// Slices that failed and servers that were not there.
    pub(crate) gaps: Vec<String>,
}

/// The whole output. Rows without any figure are left out.
pub(crate) fn markdown(book: &Book, kinds: &[Kind], circumstances: &Circumstances) -> String {
    let shown: Vec<Row> = rows()
        .into_iter()
        .filter(|row| kinds.iter().any(|kind| book.values(*kind, row.measure).iter().any(Option::is_some)))
        .collect();
    let columns = columns(kinds);
    let mut text = String::new();
    text.push_str(&table_of_ratios(book, &shown, &columns));
    text.push_str(
        "\nThe same as absolute numbers, medians; they vary from minute to minute and prove nothing.\n\n",
    );
    text.push_str(&table_of_numbers(book, &shown, &columns));
    for (title, lines) in [("How it was obtained", &circumstances.facts), ("Gaps", &circumstances.gaps)] {
        if !lines.is_empty() {
            // Writing to a String does not fail.
            let _ = write!(text, "\n{title}:\n\n");
            for line in lines {
                let _ = writeln!(text, "- {line}");
            }
        }
    }
    text
}

/// Replaces what stands between the two marker lines; `None` when the document has not both, in this order.
pub(crate) fn insert(document: &str, output: &str) -> Option<String> {
    let (head, rest) = document.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n\n{}\n\n{END}{tail}", output.trim()))
}

/// The daemon first, then peers, then references.
fn columns(kinds: &[Kind]) -> Vec<Kind> {
    let mut columns = Vec::new();
    for role in [Role::Daemon, Role::Peer, Role::Reference] {
        columns.extend(kinds.iter().copied().filter(|kind| kind.role() == role));
    }
    columns
}

fn header(columns: &[Kind], more: &[&str]) -> String {
    let mut cells = vec!["work"];
    cells.extend(columns.iter().map(|kind| kind.name()));
    cells.extend(more);
    format!("{}{}", line(&cells), line(&vec!["---"; cells.len()]))
}

fn line(cells: &[impl AsRef<str>]) -> String {
    let mut line = String::from("|");
    for cell in cells {
        let _ = write!(line, " {} |", cell.as_ref());
    }
    line.push('\n');
    line
}

fn table_of_ratios(book: &Book, rows: &[Row], columns: &[Kind]) -> String {
    let mut text = header(columns, &["mark", "reached"]);
    for row in rows {
        let mut cells = vec![format!("{} (`{}`)", row.title, row.name)];
        cells.extend(columns.iter().map(|kind| spread(&book.ratios(row, *kind))));
        cells.push(mark(row, book));
        let verdict = match judge(row, book) {
            Verdict::Reached => "yes",
            Verdict::Missed => "**no**",
            Verdict::Open => "—",
        };
        cells.push(verdict.to_owned());
        text.push_str(&line(&cells));
    }
    text
}

fn table_of_numbers(book: &Book, rows: &[Row], columns: &[Kind]) -> String {
    let mut text = header(columns, &["unit"]);
    let mut done: Vec<Measure> = Vec::new();
    for row in rows {
        if done.contains(&row.measure) {
            continue;
        }
        done.push(row.measure);
        let (factor, unit) = row.measure.1.unit();
        let mut cells = vec![format!("`{}`", row.name)];
        cells.extend(columns.iter().map(|kind| {
            let values: Vec<f64> = book.values(*kind, row.measure).into_iter().flatten().collect();
            median(&values).map_or("—".to_owned(), |value| number(value * factor))
        }));
        cells.push(unit.to_owned());
        text.push_str(&line(&cells));
    }
    text
}

/// Shape: `MEDIAN (LOW–HIGH)`; one value stands alone.
fn spread(values: &[f64]) -> String {
    match Spread::of(values) {
        None => "—".to_owned(),
        Some(spread) if values.len() == 1 => number(spread.median),
        Some(spread) => {
            format!("{} ({}–{})", number(spread.median), number(spread.low), number(spread.high))
        }
    }
}

fn mark(row: &Row, book: &Book) -> String {
    let over = || match book.over_best_peer(row.measure) {
        Some((peer, over)) => format!("over the best, {}: {}", peer.name(), spread(&over)),
        None => "none was there".to_owned(),
    };
    match row.mark {
        Mark::AtMost(limit) => format!("≤ {}", number(limit)),
        Mark::AtLeast(limit) => format!("≥ {}", number(limit)),
        Mark::AtLeastAndEveryPeer(limit) => format!("≥ {} and ≥ every peer; {}", number(limit), over()),
        Mark::TimesBestPeer(factor) => format!("≥ {} × the best peer; {}", number(factor), over()),
        Mark::Shown => "—".to_owned(),
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Figure, Work};

    #[test]
    fn numbers_keep_three_digits() {
        let check = |value, expected| assert_eq!(number(value), expected);
        check(0.414, "0.41");
        check(12.34, "12.3");
        check(4321.9, "4322");
    }

    #[test]
    fn a_document_keeps_everything_but_the_last_output() {
        let document = format!("head\n{BEGIN}\nold\n{END}\ntail\n");
        assert_eq!(insert(&document, "new\n"), Some(format!("head\n{BEGIN}\n\nnew\n\n{END}\ntail\n")));
        assert_eq!(insert("no markers", "new"), None);
        assert_eq!(insert(&format!("{END} {BEGIN}"), "new"), None);
    }

    #[test]
    fn a_table_has_the_median_its_range_the_mark_and_the_verdict() {
        let mut book = Book::default();
        let measure = (Work::BulkDown, Figure::CpuPerGib);
        for (round, own) in [0.4, 0.5, 0.45].into_iter().enumerate() {
            book.note(round, Kind::Copy64, measure, 1.0);
            book.note(round, Kind::Daemon, measure, own);
        }
        let text = markdown(&book, &[Kind::Copy64, Kind::Daemon], &Circumstances::default());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "| work | socks5d | copy-64 | mark | reached |");
        assert!(lines[2].contains("| 0.45 (0.40–0.50) | 1.00 (1.00–1.00) | ≤ 0.50 | yes |"), "{}", lines[2]);
        assert!(text.contains("| `bulk-down-cpu` | 0.45 | 1.00 | CPU s/GiB |"), "{text}");
        assert!(!text.contains("bulk-up-cpu"), "{text}");
    }
}
