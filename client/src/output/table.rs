//! Tables for people, plain columns for pipes.

use unicode_width::UnicodeWidthStr;

use super::escape::safe;
use super::units::{bytes_for_people, duration_for_people, microseconds_for_people, time_text};
use super::value::{Field, Place, Value};

/// A value as people read it.
pub(super) fn for_people(value: &Value) -> String {
    match value {
        Value::Absent => "-".to_owned(),
        Value::Text(text) => safe(text).into_owned(),
        Value::Word(word) => word.clone(),
        Value::Switch(true) => "yes".to_owned(),
        Value::Switch(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bytes(bytes) => bytes_for_people(*bytes),
        Value::Milliseconds(ms) => duration_for_people(*ms),
        Value::Microseconds(us) => microseconds_for_people(*us),
        Value::Time(ms) => time_text(*ms),
        Value::List(values) if values.is_empty() => "-".to_owned(),
        Value::List(values) => values.iter().map(for_people).collect::<Vec<_>>().join(", "),
        Value::Record(fields) => {
            let parts = fields.iter().filter(|field| field.place != Place::Programs);
            let parts = parts
                .map(|field| format!("{} {}", title(field.name).to_lowercase(), for_people(&field.value)));
            parts.collect::<Vec<_>>().join(", ")
        }
    }
}

/// A value as programs read it: exact, in the unit that the name says.
pub(super) fn for_pipes(value: &Value) -> String {
    match value {
        Value::Absent => "-".to_owned(),
        Value::Text(text) => safe(text).into_owned(),
        Value::Word(word) => word.clone(),
        Value::Switch(on) => on.to_string(),
        Value::Number(number)
        | Value::Bytes(number)
        | Value::Milliseconds(number)
        | Value::Microseconds(number)
        | Value::Time(number) => number.to_string(),
        Value::List(values) if values.is_empty() => "-".to_owned(),
        Value::List(values) => values.iter().map(for_pipes).collect::<Vec<_>>().join(","),
        Value::Record(fields) => {
            let parts = fields.iter().filter(|field| field.place != Place::People);
            let parts = parts.map(|field| format!("{}={}", field.name, for_pipes(&field.value)));
            parts.collect::<Vec<_>>().join(" ")
        }
    }
}

/// The head of a column: the name without its unit, which the values show.
pub(super) fn title(name: &str) -> String {
    let units = ["_unix_ms", "_count", "_ms", "_us"];
    let bare = units.iter().find_map(|unit| name.strip_suffix(unit)).unwrap_or(name);
    bare.replace("_us_max", " max").replace('_', " ").to_uppercase()
}

/// Whether a column of such values is aligned at its right edge.
fn is_number(value: &Value) -> bool {
    matches!(value, Value::Number(_) | Value::Bytes(_) | Value::Milliseconds(_) | Value::Microseconds(_))
}

/// The columns of a table whose rows come one after the other.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    widths: Vec<usize>,
    right: Vec<bool>,
    names: Vec<&'static str>,
}

impl Columns {
    /// As wide as the first rows need it; later ones may be wider and then stand out.
    pub(super) fn fitting(rows: &[Vec<Field>]) -> Self {
        let mut columns = Self { widths: Vec::new(), right: Vec::new(), names: Vec::new() };
        for row in rows {
            for (place, field) in visible(row).enumerate() {
                if columns.names.len() == place {
                    columns.names.push(field.name);
                    columns.widths.push(title(field.name).width());
                    columns.right.push(false);
                }
                let width = for_people(&field.value).width();
                columns.widths.iter_mut().skip(place).take(1).for_each(|widest| *widest = width.max(*widest));
                let right = is_number(&field.value);
                columns.right.iter_mut().skip(place).take(1).for_each(|so_far| *so_far |= right);
            }
        }
        columns
    }

    /// The line of titles.
    pub(super) fn head(&self) -> String {
        self.line(self.names.iter().map(|name| title(name)))
    }

    /// The line of one row.
    pub(super) fn row(&self, row: &[Field]) -> String {
        self.line(visible(row).map(|field| for_people(&field.value)))
    }

    fn line(&self, cells: impl Iterator<Item = String>) -> String {
        let mut line = String::new();
        for ((cell, width), right) in cells.zip(&self.widths).zip(&self.right) {
            let missing = width.saturating_sub(cell.width());
            if !line.is_empty() {
                line.push_str("  ");
            }
            if *right {
                line.extend(std::iter::repeat_n(' ', missing));
                line.push_str(&cell);
            } else {
                line.push_str(&cell);
                line.extend(std::iter::repeat_n(' ', missing));
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

fn visible(row: &[Field]) -> impl Iterator<Item = &Field> {
    row.iter().filter(|field| field.place != Place::Programs)
}

/// One thing in full, a line for each field, for people.
pub(super) fn sheet(fields: &[Field]) -> String {
    let mut flat = Vec::new();
    flatten("", fields, &mut flat);
    let widest = flat.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    flat.iter().map(|(name, value)| format!("{name:<widest$}  {value}\n")).collect()
}

fn flatten(before: &str, fields: &[Field], out: &mut Vec<(String, String)>) {
    for field in visible(fields) {
        let name = format!("{before}{}", title(field.name).to_lowercase());
        if let Value::Record(inner) = &field.value {
            flatten(&format!("{name} "), inner, out);
        } else {
            out.push((name, for_people(&field.value)));
        }
    }
}

/// The names of the columns for pipes.
pub(super) fn pipe_head(row: &[Field]) -> String {
    joined(row.iter().filter(|field| field.place != Place::People).map(|field| field.name.to_owned()))
}

/// One row for pipes.
pub(super) fn pipe_row(row: &[Field]) -> String {
    joined(row.iter().filter(|field| field.place != Place::People).map(|field| for_pipes(&field.value)))
}

/// One thing in full for pipes: name, tab, value; the names of records within stand behind the record's.
pub(super) fn pipe_sheet(fields: &[Field]) -> String {
    let mut text = String::new();
    pipe_lines("", fields, &mut text);
    text
}

fn pipe_lines(before: &str, fields: &[Field], text: &mut String) {
    for field in fields.iter().filter(|field| field.place != Place::People) {
        if let Value::Record(inner) = &field.value {
            pipe_lines(&format!("{before}{}.", field.name), inner, text);
        } else {
            text.push_str(&format!("{before}{}\t{}\n", field.name, for_pipes(&field.value)));
        }
    }
}

fn joined(cells: impl Iterator<Item = String>) -> String {
    let mut line = cells.collect::<Vec<_>>().join("\t");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn rows() -> Vec<Vec<Field>> {
        let row = |user: &str, bytes: u64, to: &str, idle_ms: Option<u64>| {
            vec![
                Field::new("user", Value::Word(user.to_owned())),
                Field::new("bytes_up", Value::Bytes(bytes)),
                Field::for_programs("destination", Value::Text(to.to_owned())),
                Field::for_people("to", Value::Text(format!("{to}:443"))),
                Field::new("idle_ms", idle_ms.map(Value::Milliseconds)),
            ]
        };
        vec![row("ada", 1536, "example.com", Some(90_000)), row("漢字", 7, "\x1b[31m", None)]
    }

    #[test]
    fn people_see_aligned_columns_with_units() {
        let columns = Columns::fitting(&rows());
        let text: String =
            std::iter::once(columns.head()).chain(rows().iter().map(|row| columns.row(row))).collect();
        expect![[r#"
            USER  BYTES UP  TO                IDLE
            ada    1.5 KiB  example.com:443  1m30s
            漢字       7 B  \x1b[31m:443         -
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn pipes_get_names_and_exact_values() {
        let rows = rows();
        let text: String =
            std::iter::once(pipe_head(&rows[0])).chain(rows.iter().map(|row| pipe_row(row))).collect();
        let expected = "user\tbytes_up\tdestination\tidle_ms\n\
                        ada\t1536\texample.com\t90000\n\
                        漢字\t7\t\\x1b[31m\t-\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn one_thing_is_a_line_for_each_field() {
        let fields = vec![
            Field::new("sessions_count", 3_u64),
            Field::new("pending", Value::Record(vec![Field::new("left_ms", Value::Milliseconds(1500))])),
        ];
        assert_eq!(sheet(&fields), "sessions      3\npending left  1.5s\n");
        assert_eq!(pipe_sheet(&fields), "sessions_count\t3\npending.left_ms\t1500\n");
    }
}
