//! Each grammar by its texts and values, and the promise that what is shown is read back.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;

/// Each text must give its value, or none; each value must survive being shown.
fn check<T: PartialEq + std::fmt::Debug>(grammar: &impl Grammar<T>, cases: &[(&str, Option<T>)]) {
    for (text, expected) in cases {
        let value = grammar.read(OsStr::new(text));
        assert_eq!(&value, expected, "reading {text:?} as {}", grammar.kind());
        assert_eq!(grammar.parse(OsStr::new(text)).is_ok(), expected.is_some(), "parsing {text:?}");
        if let Some(value) = value {
            let shown = grammar.show(&value);
            assert_eq!(grammar.read(OsStr::new(&shown)), Some(value), "{text:?} shown as {shown:?}");
        }
    }
}

#[test]
fn endpoints_are_addresses_with_ports() {
    let one: SocketAddr = "127.0.0.1:9108".parse().unwrap();
    let two: SocketAddr = "[::1]:0".parse().unwrap();
    check(
        &Endpoints,
        &[
            ("off", Some(vec![])),
            ("127.0.0.1:9108", Some(vec![one])),
            ("127.0.0.1:9108, [::1]:0,127.0.0.1:9108", Some(vec![one, two])),
            ("127.0.0.1", None),
            (":9108", None),
            ("localhost:9108", None),
            ("127.0.0.1:99999", None),
            ("", None),
        ],
    );
}

#[test]
fn ports_and_counts_are_plain_decimal_numbers_within_their_range() {
    check(&Port { min: 0 }, &[("0", Some(0)), ("1080", Some(1080)), ("65535", Some(65535))]);
    check(&Port { min: 1 }, &[("0", None), ("1", Some(1))]);
    let bad = ["65536", "-1", "+1", "", " 1", "1 ", "0x10", "1.0", "99999999999999999999999", "１"];
    bad.iter().for_each(|text| check(&Port { min: 0 }, &[(text, None)]));

    let count = Count { unit: "threads", min: 1, max: 16 };
    check(&count, &[("1", Some(1)), ("16", Some(16)), ("007", Some(7)), ("0", None), ("17", None)]);
}

#[test]
fn sizes_take_binary_units_and_refuse_ambiguous_ones() {
    let bytes = Bytes { min: 512, max: 16 << 20 };
    check(&bytes, &[("512", Some(512)), ("511", None), ("0", None), ("", None), ("16777217", None)]);
    let cases = [("64K", 64 << 10), ("64k", 64 << 10), ("256KiB", 256 << 10), ("256 KiB", 256 << 10)];
    cases.into_iter().for_each(|(text, value)| check(&bytes, &[(text, Some(value))]));
    let cases = [("1M", 1 << 20), ("16MiB", 16 << 20), ("600 B", 600), ("1000", 1000), ("1536", 1536)];
    cases.into_iter().for_each(|(text, value)| check(&bytes, &[(text, Some(value))]));
    let bad = ["64KB", "1.5M", "KiB", "64 ", "64K ", "17179869184GiB", "1G", "-64K", "64Ki", "64\tK"];
    bad.iter().for_each(|text| check(&bytes, &[(text, None)]));
    assert_eq!(bytes.show(&(256 << 10)), "256 KiB");
    assert_eq!(bytes.show(&1000), "1000 B");
    assert_eq!(bytes.allowed(), "512 B to 16 MiB");
}

#[test]
fn durations_are_seconds_unless_a_unit_says_otherwise() {
    let time = Time { min: Duration::ZERO, max: Duration::from_secs(86_400) };
    let cases =
        [("0", 0), ("10", 10_000), ("10s", 10_000), ("500ms", 500), ("5m", 300_000), ("2 h", 7_200_000)];
    cases.into_iter().for_each(|(text, ms)| check(&time, &[(text, Some(Duration::from_millis(ms)))]));
    let bad = ["", "s", "1.5", "1d", "5M", "10 ", "-1", "86401", "1s500ms", "18446744073709551615", "off"];
    bad.iter().for_each(|text| check(&time, &[(text, None)]));
    assert_eq!(time.show(&Duration::from_millis(1500)), "1500 ms");
    assert_eq!(time.show(&Duration::from_secs(300)), "300 s");
}

#[test]
fn one_word_stands_for_no_value() {
    let limit = Optional { none: "off", some: Count { unit: "sessions", min: 1, max: 100 } };
    check(&limit, &[("off", Some(None)), ("5", Some(Some(5))), ("0", None), ("none", None), ("", None)]);
    assert_eq!(limit.allowed(), "1 to 100, or off");
}

#[test]
fn addresses_are_literals_with_or_without_brackets() {
    let v6: IpAddr = "2001:db8::1".parse().unwrap();
    let v4: IpAddr = "127.0.0.1".parse().unwrap();
    check(&Address, &[("127.0.0.1", Some(v4)), ("2001:db8::1", Some(v6)), ("[2001:db8::1]", Some(v6))]);
    let bad = ["", "localhost", "127.0.0.1:80", "[127.0.0.1]", "fe80::1%eth0", "127.1", "[::1", " ::1"];
    bad.iter().for_each(|text| check(&Address, &[(text, None)]));
}

#[test]
fn lists_of_addresses_drop_repetitions_and_have_a_bound() {
    let v4: IpAddr = "127.0.0.1".parse().unwrap();
    let v6: IpAddr = "::1".parse().unwrap();
    let any = Addresses { none: Some("auto"), plenty: Plenty::Any };
    check(&any, &[("auto", Some(vec![])), ("127.0.0.1", Some(vec![v4])), ("", None), ("::1,", None)]);
    check(&any, &[("::1, 127.0.0.1,::1", Some(vec![v6, v4])), ("auto,::1", None)]);
    let many: Vec<String> = (0..=ADDRESSES_PER_SETTING_MAX).map(|i| format!("10.0.0.{i}")).collect();
    check(&any, &[(&many.join(","), None)]);

    let pair = Addresses { none: None, plenty: Plenty::OneOfEachFamily };
    check(&pair, &[("127.0.0.1,::1", Some(vec![v4, v6])), ("127.0.0.1,127.0.0.2", None), ("auto", None)]);
    let rejected = pair.parse(OsStr::new("127.0.0.1,127.0.0.2")).unwrap_err();
    assert_eq!(
        rejected.to_string(),
        "\"127.0.0.2\" as well is not allowed: at most one IPv4 and one IPv6 address"
    );
}

#[test]
fn words_switches_texts_and_targets() {
    let choice = Choice { words: &[("auto", 1), ("doh", 2), ("system", 3)] };
    check(&choice, &[("auto", Some(1)), ("system", Some(3)), ("AUTO", None), ("", None)]);
    assert_eq!(choice.allowed(), "auto, doh or system");
    assert_eq!(Choice { words: &[("off", ())] }.allowed(), "only off");

    let switch = Switch { on: 'y', off: 'n' };
    for (text, value) in [("true", 'y'), ("1", 'y'), ("on", 'y'), ("false", 'n'), ("no", 'n'), ("0", 'n')] {
        check(&switch, &[(text, Some(value))]);
    }
    check(&switch, &[("", None), ("maybe", None), ("True", None)]);

    let text = Text {
        allowed: "letters",
        placeholder: "TEXT",
        bytes_max: 3,
        is_allowed: |text| text.bytes().all(|byte| byte.is_ascii_alphabetic()),
    };
    check(&text, &[("", Some(String::new())), ("abc", Some("abc".into())), ("abcd", None), ("a b", None)]);

    check(&Target, &[("stdout", Some(AccessLog::Stdout)), ("off", Some(AccessLog::Off)), ("", None)]);
    check(&Target, &[("./off", Some(AccessLog::File("./off".into()))), ("a\0b", None)]);
}

#[test]
fn octets_that_are_not_utf8_are_a_path_but_no_number() {
    let octets = OsString::from_vec(b"/tmp/\xff.log".to_vec());
    assert_eq!(Target.read(&octets), Some(AccessLog::File(PathBuf::from(&octets))));
    let rejected = Port { min: 1 }.parse(OsStr::from_bytes(b"10\xff")).unwrap_err();
    assert_eq!(rejected.to_string(), "\"10\\xff\" is not allowed: 1 to 65535");
}

#[test]
fn quoting_keeps_any_value_on_one_short_line() {
    assert_eq!(quote(OsStr::new("a\n\"b\"\x1b[31m é")), r#""a\n\"b\"\u{1b}[31m é""#);
    let long = quote(OsStr::new(&"x".repeat(10_000)));
    assert_eq!(long.chars().count(), QUOTED_VALUE_CHARS_MAX + 3);
    assert!(long.ends_with("…\""));
}

proptest! {
    #[test]
    fn no_octets_make_a_grammar_panic_or_print_two_lines(octets: Vec<u8>) {
        let text = OsStr::from_bytes(&octets);
        let time = Time { min: Duration::ZERO, max: Duration::MAX };
        let bytes = Bytes { min: 0, max: usize::MAX };
        let list = Addresses { none: None, plenty: Plenty::Any };
        let lines = [
            time.parse(text).map_or_else(|e| e.to_string(), |v| time.show(&v)),
            bytes.parse(text).map_or_else(|e| e.to_string(), |v| bytes.show(&v)),
            list.parse(text).map_or_else(|e| e.to_string(), |v| list.show(&v)),
        ];
        prop_assert!(lines.iter().all(|line| !line.contains(char::is_control)));
    }

    #[test]
    fn every_size_and_duration_survives_being_shown(number: u32) {
        let bytes = Bytes { min: 0, max: usize::MAX };
        let size = number as usize;
        prop_assert_eq!(bytes.read(OsStr::new(&bytes.show(&size))), Some(size));
        let time = Time { min: Duration::ZERO, max: Duration::MAX };
        let duration = Duration::from_millis(u64::from(number));
        prop_assert_eq!(time.read(OsStr::new(&time.show(&duration))), Some(duration));
    }
}
