//! Texts that strangers chose, made safe: nothing of them may move a cursor, colour a terminal or reorder a line.

use std::borrow::Cow;

/// A text with everything that a terminal might obey replaced by `\xNN` (octets of it) or `\u{N}`.
#[must_use]
pub fn safe(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_harmless(c) {
            escaped.push(c);
        } else if c.is_ascii() {
            escaped.push_str(&format!("\\x{:02x}", u32::from(c)));
        } else {
            escaped.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
        }
    }
    Cow::Owned(escaped)
}

/// Neither a control character nor one that changes how others are shown.
pub(super) fn is_harmless(c: char) -> bool {
    let reorders = matches!(c,
        '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !reorders
}

/// The octets of a user's name as text: what is printable as it is, the backslash and everything else as `\xNN`.
/// Read back by [`name_octets`].
#[must_use]
pub fn name_text(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_harmless(c) && c != '\\' {
                text.push(c);
            } else {
                let mut buffer = [0; 4];
                push_octets(&mut text, c.encode_utf8(&mut buffer).as_bytes());
            }
        }
        push_octets(&mut text, chunk.invalid());
    }
    text
}

fn push_octets(text: &mut String, octets: &[u8]) {
    for octet in octets {
        text.push_str(&format!("\\x{octet:02x}"));
    }
}

/// The octets of a name as a person writes it: itself, with `\xNN` for single octets and `\\` for a backslash.
///
/// `None`: a backslash with something else behind it.
#[must_use]
pub fn name_octets(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&octet, behind)) = rest.split_first() {
        rest = behind;
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        match rest.split_first() {
            Some((b'\\', behind)) => {
                octets.push(b'\\');
                rest = behind;
            }
            Some((b'x', behind)) => {
                let (digits, behind) = behind.split_first_chunk::<2>()?;
                let digits = std::str::from_utf8(digits).ok()?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                octets.push(u8::from_str_radix(digits, 16).ok()?);
                rest = behind;
            }
            Some(_) | None => return None,
        }
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (text, expected) in [
            ("plain äöü \\ 漢", "plain äöü \\ 漢"),
            ("\x1b[2J", "\\x1b[2J"),
            ("a\r\n\tb\x7f", "a\\x0d\\x0a\\x09b\\x7f"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("user\u{202e}gpj", "user\\u{202e}gpj"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
        ] {
            assert_eq!(safe(text), expected);
        }
    }

    #[test]
    fn names_of_any_octets_are_shown_and_read_back() {
        for (octets, expected) in [
            (b"ada".as_slice(), "ada"),
            ("zoë".as_bytes(), "zoë"),
            (b"a\\b", "a\\x5cb"),
            (b"\xff\x1b", "\\xff\\x1b"),
            ("\u{202e}".as_bytes(), "\\xe2\\x80\\xae"),
        ] {
            assert_eq!(name_text(octets), expected);
        }
        assert_eq!(name_octets("a\\\\b").unwrap(), b"a\\b");
        for wrong in ["\\", "\\q", "\\x1", "\\x+1", "\\xgg"] {
            assert_eq!(name_octets(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_name_reads_back_as_itself(octets: Vec<u8>) {
            let text = name_text(&octets);
            prop_assert_eq!(name_octets(&text), Some(octets));
            prop_assert!(text.chars().all(is_harmless));
        }

        #[test]
        fn whatever_the_text_it_is_harmless_afterwards(text: String) {
            prop_assert!(safe(&text).chars().all(is_harmless));
        }
    }
}
