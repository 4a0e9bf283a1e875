//! What operators write: the configuration file, the users file, single values. A hostile one is rare, a wrong
//! one is not; and what is wrong is printed on one line that shows no password.

use socks5d::limits::{ADDRESSES_PER_SETTING_MAX, BUFFER_BYTES_MAX, BUFFER_BYTES_MIN, WORKERS_COUNT_MAX};
use socks5d::settings::{Layer, Resolved, Settings, Source, UserSpec, rows, set, show};

use crate::Judged;
use crate::script::Script;

/// Name of the file in errors.
const FILE: &str = "f.toml";

/// Longest line that an error may become: places, quoted values and ranges are bounded, but a key is not.
const ERROR_CHARS_MAX: usize = 1024;

/// A configuration file: it becomes settings within their ranges, or one line that says what is wrong.
pub fn config(octets: &[u8]) -> Judged {
    let layer = match Layer::from_config(FILE, octets) {
        Ok(layer) => layer,
        Err(error) => return refused(&error.to_string(), octets.len()),
    };
    if names_a_file(octets) {
        return Judged::Accepted; // A target opens no file, least of all one that chance has named.
    }
    match Resolved::from_layers(Layer::new(Source::Flag), layer) {
        Ok(resolved) => check_ranges(&resolved.settings),
        Err(error) => return refused(&error.to_string(), octets.len()),
    }
    Judged::Accepted
}

fn names_a_file(octets: &[u8]) -> bool {
    let text = String::from_utf8_lossy(octets);
    text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("users-file"))
}

fn refused(error: &str, input_bytes: usize) -> Judged {
    assert!(!error.chars().any(char::is_control), "{error:?}");
    // An unknown key is repeated as it stands, at most six characters for each octet.
    assert!(error.chars().count() <= ERROR_CHARS_MAX + 6 * input_bytes, "{} characters", error.len());
    Judged::Refused
}

fn check_ranges(settings: &Settings) {
    assert!(
        (BUFFER_BYTES_MIN..=BUFFER_BYTES_MAX).contains(&settings.buffer_size),
        "{}",
        settings.buffer_size
    );
    assert!((1..=WORKERS_COUNT_MAX).contains(&settings.workers), "{}", settings.workers);
    assert!(settings.socks_addr.len() <= ADDRESSES_PER_SETTING_MAX);
    assert!(settings.bind_outgoing.len() <= 2, "{:?}", settings.bind_outgoing);
    for user in &settings.users {
        check_user(user);
    }
    // What is shown can be set again and is the same then.
    let mut again = settings.clone();
    for row in rows() {
        let Some(text) = row.show(settings) else { continue };
        if set(&mut again, row.name, &text).is_ok() {
            assert_eq!(row.show(&again).as_ref(), Some(&text), "{}", row.name);
        }
    }
}

fn check_user(user: &UserSpec) {
    assert!((1..=255).contains(&user.name.len()), "{user:?}");
    assert!((1..=255).contains(&user.password.len()), "{user:?}");
    assert!(!user.name.contains(&b':'), "{user:?}");
    assert!(user.proxy || user.admin, "{user:?}");
}

/// One value of one setting, which is named first: taken, it is shown as a text that gives the same value; refused, it leaves
/// everything as it was and is one short line.
pub fn setting(octets: &[u8]) -> Judged {
    let mut script = Script::new(octets);
    let wanted = script.piece();
    let names: Vec<&str> = rows().map(|row| row.name).collect();
    // A name, or any octets at all for one of them.
    let place = names.iter().position(|name| name.as_bytes() == wanted);
    let any = wanted.iter().map(|octet| usize::from(*octet)).sum::<usize>() % names.len();
    let Some(name) = names.get(place.unwrap_or(any)) else { return Judged::Refused };
    let Ok(text) = std::str::from_utf8(script.rest()) else { return Judged::Refused };
    let default = Settings::default();
    let mut settings = default.clone();
    if let Err(error) = set(&mut settings, name, text) {
        assert_eq!(settings, default, "{name}: a refused value changed something");
        let error = error.to_string();
        assert!(!error.chars().any(char::is_control), "{error:?}");
        assert!(error.chars().count() <= ERROR_CHARS_MAX, "{} characters", error.len());
        return Judged::Refused;
    }
    let Some(shown) = show(&settings, name) else { panic!("{name} was set and cannot be shown") };
    let mut again = default.clone();
    if let Err(error) = set(&mut again, name, &shown) {
        panic!("{name}: {shown:?} is shown for {text:?} and refused: {error}");
    }
    assert_eq!(again, settings, "{name}: {shown:?} is shown for {text:?}");
    Judged::Accepted
}

/// A password that no text made of it may repeat.
const SECRET: &str = "hunter2-hunter2";

/// A configuration with users whose passwords hold a secret, whatever stands around it: no error, warning,
/// or debug output repeats it.
pub fn secrets(octets: &[u8]) -> Judged {
    let mut script = Script::new(octets);
    let control = script.octet();
    let before = String::from_utf8_lossy(script.piece()).into_owned();
    let after = String::from_utf8_lossy(script.piece()).into_owned();
    let key = if control & 1 == 0 { "user" } else { "admin" };
    let value = toml::Value::String(format!("n:{before}{SECRET}{after}"));
    let value = match control >> 1 & 3 {
        0 => value,
        1 => toml::Value::Array(vec![value]),
        2 => toml::Value::Array(vec![value.clone(), value]),
        _ => toml::Value::Array(vec![toml::Value::Integer(1), value]),
    };
    let document = format!("{key} = {value}\n{}", String::from_utf8_lossy(script.rest()));
    let layer = match Layer::from_config(FILE, document.as_bytes()) {
        Ok(layer) => layer,
        Err(error) => return keeps_secret(&format!("{error} {error:?}"), Judged::Refused),
    };
    keeps_secret(&format!("{layer:?}"), Judged::Accepted);
    if names_a_file(document.as_bytes()) {
        return Judged::Accepted;
    }
    match Resolved::from_layers(Layer::new(Source::Flag), layer) {
        Ok(resolved) => {
            let lost: Vec<String> = resolved.overridden.iter().map(ToString::to_string).collect();
            let shown: Vec<_> = rows().map(|row| row.show(&resolved.settings)).collect();
            keeps_secret(&format!("{resolved:?} {lost:?} {shown:?}"), Judged::Accepted)
        }
        Err(error) => keeps_secret(&format!("{error} {error:?}"), Judged::Refused),
    }
}

fn keeps_secret(text: &str, judged: Judged) -> Judged {
    assert!(!text.contains(SECRET), "{text}");
    judged
}

/// A users file: users with names and passwords, or one line that repeats nothing of the file.
pub fn users_file(octets: &[u8]) -> Judged {
    match UserSpec::parse_lines("f", octets) {
        Ok(users) => {
            let lines = octets.split(|octet| *octet == b'\n').count();
            assert!(users.len() <= lines, "{} users on {lines} lines", users.len());
            for user in &users {
                check_user(user);
                assert!(user.proxy, "{user:?}");
                // Name and password stand in the file as they are, with one colon between them.
                let pair = [&user.name, &b":"[..], &user.password].concat();
                assert!(octets.windows(pair.len()).any(|window| window == pair), "{user:?}");
            }
            Judged::from(!users.is_empty())
        }
        Err(error) => {
            let error = error.to_string();
            let rest = error.strip_prefix("f: line ").unwrap_or_else(|| panic!("{error}"));
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            let known = [
                "a value without a colon",
                "an empty name",
                "an empty password",
                "a name of more than 255 octets",
                "a password of more than 255 octets",
            ];
            let allowed = "is not allowed: NAME:PASS, NAME:PASS:observer, NAME:PASS:operator or NAME:PASS:admin, \
                           name and password of 1 to 255 octets";
            assert!(known.iter().any(|what| rest == format!(": {what} {allowed}")), "{error}");
            Judged::Refused
        }
    }
}
