//! Text that is safe in a log: one record is one line, whatever a peer sent. Pure.

use std::fmt;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 86_400;

/// 9999-12-31T23:59:59Z, the last second that four digits can name.
const SECOND_MAX: u64 = 253_402_300_799;

/// Appends formatted text. Writing to a vector cannot fail, so there is no error to lose.
pub(super) fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// Writes moments as `2026-11-21T03:04:05.678Z`; everything down to the second is kept from the last one,
/// because a busy worker writes thousands of lines within one second.
#[derive(Debug, Default)]
pub(super) struct Timestamps {
    /// The second that `text` names, in seconds of 1970; `None` before the first use.
    second: Option<u64>,
    /// `2026-11-21T03:04:05`.
    text: Vec<u8>,
}

impl Timestamps {
    /// Appends `time`, in UTC to the millisecond. Before 1970 and after 9999 it is the nearest of these.
    pub(super) fn write(&mut self, time: SystemTime, out: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs().min(SECOND_MAX);
        if self.second != Some(second) {
            self.text.clear();
            write_second(second, &mut self.text);
            self.second = Some(second);
        }
        out.extend_from_slice(&self.text);
        put(out, format_args!(".{:03}Z", since.subsec_millis()));
    }
}

fn write_second(second: u64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(second / SECONDS_PER_DAY);
    let second = second % SECONDS_PER_DAY;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    put(out, format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"));
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year; an era is 400 years.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    const DAYS_FROM_0000_03_01_TO_1970: u64 = 719_468;
    const DAYS_PER_ERA: u64 = 146_097;
    let days = days + DAYS_FROM_0000_03_01_TO_1970;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// Appends octets of a peer for a tab-separated line: printable ASCII as it is, backslash, control bytes and
/// everything from 7f up as `\xNN`. Reversible, and never a tab, a line end or a terminal's escape.
pub(super) fn put_escaped(out: &mut Vec<u8>, octets: &[u8]) {
    for &octet in octets {
        match octet {
            b'\\' | 0..=0x1f | 0x7f.. => put(out, format_args!("\\x{octet:02x}")),
            b' '..=b'~' => out.push(octet),
        }
    }
}

/// Appends a JSON string with its quotes (RFC 8259 §7). Beyond what JSON asks for, everything is escaped that
/// ends a line or steers a terminal somewhere: DEL, the C1 controls, U+2028 and U+2029.
pub(super) fn put_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                put(out, format_args!("\\u{:04x}", u32::from(character)));
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// A message on its way into a diagnostics line: what would end the line or steer a terminal becomes `\u{NN}`.
/// A backslash stays as it is, since `Debug` output is full of them.
pub(super) struct OneLine<'a>(pub(super) &'a mut dyn fmt::Write);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain_from = 0;
        for (at, character) in text.char_indices() {
            if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
                self.0.write_str(text.get(plain_from..at).unwrap_or_default())?;
                write!(self.0, "{}", character.escape_unicode())?;
                plain_from = at + character.len_utf8();
            }
        }
        self.0.write_str(text.get(plain_from..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write as _;
    use std::time::Duration;

    fn timestamp(seconds: u64, millis: u32) -> String {
        let mut out = Vec::new();
        let time = UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000);
        Timestamps::default().write(time, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_moments_as_iso_8601_in_utc() {
        // From `date -u -d @SECONDS +%FT%TZ`.
        for (seconds, millis, expected) in [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, 999, "2000-02-28T23:59:59.999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000Z"),
            (951_868_800, 5, "2000-03-01T00:00:00.005Z"),
            (1_709_251_199, 0, "2024-02-29T23:59:59.000Z"),
            (1_795_230_245, 678, "2026-11-21T03:04:05.678Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z"),
            (SECOND_MAX, 0, "9999-12-31T23:59:59.000Z"),
            (SECOND_MAX + 1, 0, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(timestamp(seconds, millis), expected);
        }
    }

    #[test]
    fn a_moment_before_1970_is_1970() {
        let mut out = Vec::new();
        Timestamps::default().write(UNIX_EPOCH - Duration::from_secs(9), &mut out);
        assert_eq!(out, b"1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_kept_second_is_written_anew_when_time_moves_either_way() {
        let mut timestamps = Timestamps::default();
        let mut write = |millis: u64| {
            let mut out = Vec::new();
            timestamps.write(UNIX_EPOCH + Duration::from_millis(millis), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(write(1_001), "1970-01-01T00:00:01.001Z");
        assert_eq!(write(1_999), "1970-01-01T00:00:01.999Z");
        assert_eq!(write(61_000), "1970-01-01T00:01:01.000Z");
        assert_eq!(write(1_002), "1970-01-01T00:00:01.002Z");
    }

    /// Undoes [`put_escaped`], by its documentation.
    fn unescape(line: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        let mut rest = line;
        while let [first, tail @ ..] = rest {
            if *first == b'\\' {
                assert_eq!(tail[0], b'x');
                octets.push(u8::from_str_radix(std::str::from_utf8(&tail[1..3]).unwrap(), 16).unwrap());
                rest = &tail[3..];
            } else {
                octets.push(*first);
                rest = tail;
            }
        }
        octets
    }

    #[test]
    fn escapes_what_could_leave_its_field() {
        for (octets, expected) in [
            (&b"plain user~"[..], &b"plain user~"[..]),
            (b"a\tb\nc\rd\0", b"a\\x09b\\x0ac\\x0dd\\x00"),
            (b"back\\slash", b"back\\x5cslash"),
            (b"\x1b[31m\x7f\x80\xff", b"\\x1b[31m\\x7f\\x80\\xff"),
            ("ж".as_bytes(), b"\\xd0\\xb6"),
            (b"", b""),
        ] {
            let mut out = Vec::new();
            put_escaped(&mut out, octets);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_message_of_several_lines_becomes_one() {
        let mut out = String::new();
        let message = "first\nsecond\x1b[0m";
        write!(OneLine(&mut out), "a {message} \u{2028}b\\").unwrap();
        assert_eq!(out, "a first\\u{a}second\\u{1b}[0m \\u{2028}b\\");
    }

    proptest! {
        #[test]
        fn escaping_is_reversible_and_stays_printable(octets: Vec<u8>) {
            let mut out = Vec::new();
            put_escaped(&mut out, &octets);
            prop_assert!(out.iter().all(|octet| (b' '..=b'~').contains(octet)));
            prop_assert_eq!(unescape(&out), octets);
        }

        #[test]
        fn json_strings_read_back_as_they_were(text: String) {
            let mut out = Vec::new();
            put_json_string(&mut out, &text);
            prop_assert!(!out.iter().any(|octet| octet.is_ascii_control()));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn every_control_and_separator_is_escaped_in_json(code in 0u32..0x2030) {
            let Some(character) = char::from_u32(code) else { return Ok(()) };
            let mut out = Vec::new();
            put_json_string(&mut out, &character.to_string());
            if character.is_control() || code == 0x2028 || code == 0x2029 {
                prop_assert!(out.is_ascii());
            }
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), character.to_string());
        }

        #[test]
        fn days_follow_each_other(day in 0u64..2_932_896) {
            let (year, month, date) = civil_from_days(day);
            let (next_year, next_month, next_date) = civil_from_days(day + 1);
            prop_assert!((1..=12).contains(&month) && (1..=31).contains(&date));
            let follows = (next_year, next_month, next_date) == (year, month, date + 1)
                || (next_year, next_month, next_date) == (year, month + 1, 1)
                || (month, date, next_year, next_month, next_date) == (12, 31, year + 1, 1, 1);
            prop_assert!(follows);
        }
    }
}
