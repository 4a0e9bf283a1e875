//! A line into words, as a shell would: blanks separate, quotes keep together, `#` begins a comment.
//!
//! In single quotes everything stands for itself. In double quotes a backslash takes the quote, the backslash
//! itself, n, r and t out of their meaning; elsewhere it takes any character out of it. `\xNN` is left as it is
//! everywhere: names are written so.

use super::parse::UsageError;

/// The words of a line; none for an empty one or a comment.
///
/// Errors: a quote that is not closed, a backslash at the end.
pub fn split(line: &str) -> Result<Vec<String>, UsageError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '#' if word.is_none() => break,
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some('\'') => break,
                        Some(inner) => word.push(inner),
                        None => return Err(UsageError::new("a ' is not closed")),
                    }
                }
            }
            '"' => quoted(&mut rest, word.get_or_insert_default())?,
            '\\' => {
                let word = word.get_or_insert_default();
                match rest.next() {
                    Some('x') => word.push_str("\\x"),
                    Some(taken) => word.push(taken),
                    None => return Err(UsageError::new("a \\ stands at the end of the line")),
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(rest: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), UsageError> {
    loop {
        match rest.next() {
            Some('"') => return Ok(()),
            Some('\\') => match rest.next() {
                Some('n') => word.push('\n'),
                Some('r') => word.push('\r'),
                Some('t') => word.push('\t'),
                Some(taken @ ('"' | '\\')) => word.push(taken),
                Some(other) => word.extend(['\\', other]),
                None => return Err(UsageError::new("a \" is not closed")),
            },
            Some(inner) => word.push(inner),
            None => return Err(UsageError::new("a \" is not closed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        assert_eq!(split(line).unwrap(), expected, "{line:?}");
    }

    #[test]
    fn words_are_cut_as_a_shell_would() {
        check("", &[]);
        check("  # only a comment", &[]);
        check("user list # all", &["user", "list"]);
        check("user remove a#b", &["user", "remove", "a#b"]);
        check("user add 'two words' \"\"", &["user", "add", "two words", ""]);
        check(r#"a"b c"'d e' f\ g"#, &["ab cd e", "f g"]);
        check(r#""\"\\\n\t" '\n'"#, &["\"\\\n\t", "\\n"]);
    }

    #[test]
    fn octets_of_names_stay_as_they_are_written() {
        check(r#"\xff "\xff" '\xff'"#, &["\\xff", "\\xff", "\\xff"]);
    }

    #[test]
    fn what_is_not_closed_is_said() {
        for line in ["'a", "\"a", "\"a\\", "a\\"] {
            assert!(split(line).is_err(), "{line:?}");
        }
    }
}
