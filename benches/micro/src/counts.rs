//! Counts as they are recorded, and the judgement of new ones. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Instructions per operation, by the operation's name.
pub type Counts = BTreeMap<String, u64>;

/// How far above the recorded count an operation may be, per cent.
pub const EXCESS_PERCENT_MAX: u64 = 10;

/// What was recorded, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Counts of different processor architectures say nothing about each other.
    pub architecture: String,
    /// Instructions per operation.
    pub counts: Counts,
}

/// A line of the record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Counted from 1; 0 for a line that is missing.
    pub line: usize,
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "the line `architecture NAME` is missing"),
            line => write!(f, "line {line}: expected `NAME COUNT`, each name once"),
        }
    }
}

impl std::error::Error for RecordError {}

/// What became of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Within the allowance, or cheaper.
    Kept,
    /// So much cheaper that the record would hide a later rise.
    Cheaper,
    /// More than [`EXCESS_PERCENT_MAX`] above the record: a failure.
    Dearer,
    /// Measured, not recorded: a failure, as nothing guards it.
    Unrecorded,
    /// Recorded, and not there any more: a failure.
    Gone,
}

impl Change {
    /// Does it fail the check?
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Self::Kept | Self::Cheaper => false,
            Self::Dearer | Self::Unrecorded | Self::Gone => true,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "",
            Self::Cheaper => "cheaper: record it",
            Self::Dearer => "FAILED: dearer",
            Self::Unrecorded => "FAILED: not recorded",
            Self::Gone => "FAILED: there is no such operation",
        }
    }
}

/// One line of the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The operation.
    pub name: String,
    /// Instructions, recorded.
    pub recorded: Option<u64>,
    /// Instructions, now.
    pub measured: Option<u64>,
    /// The judgement.
    pub change: Change,
}

/// Compares, in the order of the names.
#[must_use]
pub fn compare(recorded: &Counts, measured: &Counts) -> Vec<Comparison> {
    let names: std::collections::BTreeSet<&String> = recorded.keys().chain(measured.keys()).collect();
    names
        .into_iter()
        .map(|name| {
            let (recorded, measured) = (recorded.get(name).copied(), measured.get(name).copied());
            Comparison { name: name.clone(), recorded, measured, change: judge(recorded, measured) }
        })
        .collect()
}

fn judge(recorded: Option<u64>, measured: Option<u64>) -> Change {
    match (recorded, measured) {
        (Some(recorded), Some(measured)) => {
            if measured * 100 > recorded * (100 + EXCESS_PERCENT_MAX) {
                Change::Dearer
            } else if measured * 100 < recorded * (100 - EXCESS_PERCENT_MAX) {
                Change::Cheaper
            } else {
                Change::Kept
            }
        }
        (None, _) => Change::Unrecorded,
        (Some(_), None) => Change::Gone,
    }
}

/// The comparison as a table for people.
#[must_use]
pub fn table(lines: &[Comparison]) -> String {
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    let mut text =
        format!("{:width$}  {:>9}  {:>9}  {:>8}\n", "instructions", "recorded", "measured", "change");
    for line in lines {
        let number = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let row = format!(
            "{:width$}  {:>9}  {:>9}  {:>8}  {}",
            line.name,
            number(line.recorded),
            number(line.measured),
            percent(line.recorded, line.measured),
            line.change.as_str()
        );
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn percent(recorded: Option<u64>, measured: Option<u64>) -> String {
    let (Some(recorded), Some(measured)) = (recorded, measured) else { return "-".to_owned() };
    let permille = (i128::from(measured) - i128::from(recorded)) * 1000 / i128::from(recorded.max(1));
    let sign = if permille < 0 { '-' } else { '+' };
    format!("{sign}{}.{} %", permille.abs() / 10, permille.abs() % 10)
}

impl Recorded {
    /// Reads a record.
    ///
    /// Shape: lines `architecture NAME` and `OPERATION COUNT`; empty lines and those that begin with `#` say
    /// nothing.
    ///
    /// # Errors
    /// [`RecordError`], at the first line that is neither.
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        let mut architecture = None;
        let mut counts = Counts::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let error = RecordError { line: index + 1 };
            let (name, value) = line.split_once(' ').ok_or(error.clone())?;
            if name == "architecture" {
                architecture = Some(value.to_owned());
                continue;
            }
            let count = value.trim_start().parse().map_err(|_| error.clone())?;
            if counts.insert(name.to_owned(), count).is_some() {
                return Err(error);
            }
        }
        Ok(Self { architecture: architecture.ok_or(RecordError { line: 0 })?, counts })
    }

    /// The text that [`Recorded::parse`] reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "# Instructions per operation, counted by callgrind in the release profile.\n\
             # Compared by benches/micro/check, written by benches/micro/check --record.\n\
             architecture {}\n",
            self.architecture
        );
        for (name, count) in &self.counts {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} {count}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn fails_above_a_tenth_more_and_only_there() {
        let cases = [
            (Some(1000), Some(1100), Change::Kept),
            (Some(1000), Some(1101), Change::Dearer),
            (Some(1000), Some(900), Change::Kept),
            (Some(1000), Some(899), Change::Cheaper),
            (Some(0), Some(1), Change::Dearer),
            (None, Some(5), Change::Unrecorded),
            (Some(5), None, Change::Gone),
        ];
        for (recorded, measured, expected) in cases {
            assert_eq!(judge(recorded, measured), expected, "{recorded:?} {measured:?}");
        }
        assert!(Change::Dearer.is_failure() && Change::Unrecorded.is_failure() && Change::Gone.is_failure());
        assert!(!Change::Kept.is_failure() && !Change::Cheaper.is_failure());
    }

    #[test]
    fn compares_every_name_that_either_has() {
        let lines = compare(&counts(&[("a", 10), ("b", 10)]), &counts(&[("b", 12), ("c", 1)]));
        let told: Vec<_> = lines.iter().map(|line| (line.name.as_str(), line.change)).collect();
        assert_eq!(told, [("a", Change::Gone), ("b", Change::Dearer), ("c", Change::Unrecorded)]);
        let expected = "instructions".to_owned()
            + "   recorded   measured    change\n"
            + "a                    10          -         -  FAILED: there is no such operation\n"
            + "b                    10         12  +20.0 %  FAILED: dearer\n"
            + "c                     -          1         -  FAILED: not recorded\n";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&table(&lines)), squeezed(&expected));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record =
            Recorded { architecture: "x86_64".to_owned(), counts: counts(&[("wire/a", 12), ("b", 3)]) };
        assert_eq!(Recorded::parse(&record.to_text()), Ok(record));
    }

    #[test]
    fn a_record_with_a_bad_line_is_refused() {
        let cases = [
            ("a 1\n", 0),
            ("architecture x\na\n", 2),
            ("architecture x\n\n# c\na one\n", 4),
            ("architecture x\na 1\na 2\n", 3),
        ];
        for (text, line) in cases {
            assert_eq!(Recorded::parse(text), Err(RecordError { line }), "{text:?}");
        }
    }
}
