//! "Did you mean": the word that takes the fewest changes.

/// The nearest of `words`, if it is near enough to have been meant.
pub fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(WORD_CHARS_MAX).collect();
    let allowed = word.chars().count().div_ceil(3).min(3);
    let distances = words.into_iter().map(|known| (distance(&word, known), known));
    distances
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, w)| w)
}

/// Longer words are compared by their beginning.
const WORD_CHARS_MAX: usize = 64;

/// Insertions, removals, replacements and swaps of neighbours between the two.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(WORD_CHARS_MAX).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (row, a) in a.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, &b_char) in b.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&last, column) + usize::from(a != b_char);
            let mut least = replaced.min(at(&last, column + 1) + 1).min(at(&current, column) + 1);
            let before = column.checked_sub(1);
            if before.is_some_and(|before| b.get(before) == Some(&a)) && previous == Some(b_char) {
                least = least.min(before.map_or(usize::MAX, |before| at(&before_last, before) + 1));
            }
            current.push(least);
        }
        before_last = std::mem::replace(&mut last, current);
        previous = Some(a);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_slips_are_found_and_other_words_are_not() {
        let words = ["user", "session", "setting", "server", "statistics"];
        for (word, expected) in [
            ("usre", Some("user")),
            ("uesr", Some("user")),
            ("sesion", Some("session")),
            ("settings", Some("setting")),
            ("sever", Some("server")),
            ("reboot", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, words), expected, "{word}");
        }
    }

    #[test]
    fn distances_are_those_of_the_textbook() {
        for (a, b, expected) in [("", "", 0), ("kitten", "sitting", 3), ("ab", "ba", 1), ("abc", "", 3)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
