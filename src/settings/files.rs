//! The two files that settings come from: the configuration file and the users file. Read whole, within
//! bounds.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::UserSpec;
use super::error::SettingsError;
use super::grammar::{Rejected, Shape, escape};
use super::layers::{Layer, Source};
use super::table::{self, Binding, File, Row};
use super::users::{self, Place};
use crate::limits::{CONFIG_FILE_BYTES_MAX, USERS_FILE_BYTES_MAX};

/// Permission bits of group and others.
const MODE_OTHERS: u32 = 0o077;

/// Whether the sources are read for the first time. A pipe can be read once only, and waiting for one would
/// stop a running daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// At the start.
    First,
    /// While the daemon runs.
    Again,
}

/// What a file held, and its permission bits when it was opened.
struct Contents {
    octets: Vec<u8>,
    mode: u32,
}

/// Reads the configuration file at `path`, which `place` named: TOML, each key the name of a row. A file with
/// passwords that others can open is a warning.
pub(super) fn config(path: &Path, place: &str, reading: Reading) -> Result<Layer, SettingsError> {
    let contents = read(path, place, reading, CONFIG_FILE_BYTES_MAX)?;
    let file = escape(path.as_os_str());
    let mut layer = config_layer(&file, &contents.octets)?;
    if layer.given.iter().any(|given| given.row.is_secret()) && contents.mode & MODE_OTHERS != 0 {
        let mode = contents.mode;
        layer.warnings.push(format!("{file}: holds passwords and has mode {mode:04o}: others can read them"));
    }
    Ok(layer)
}

/// What a configuration file of these `octets` says; `file` names it in errors.
pub(super) fn config_layer(file: &str, octets: &[u8]) -> Result<Layer, SettingsError> {
    let syntax = |at: usize, message: &str| {
        let before = octets.get(..at).unwrap_or(octets);
        let line = 1 + before.iter().filter(|octet| **octet == b'\n').count();
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        SettingsError::Syntax { file: file.to_owned(), line, message }
    };
    let text = std::str::from_utf8(octets).map_err(|error| syntax(error.valid_up_to(), "not UTF-8"))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        syntax(error.span().map_or(octets.len(), |span| span.start), error.message())
    })?;
    if let Some(key) = table.keys().find(|key| table::row(key).is_none()) {
        let nearest = table::nearest(key);
        return Err(SettingsError::UnknownKey { file: file.to_owned(), key: key.clone(), nearest });
    }
    let mut layer = Layer::new(Source::File);
    for row in table::rows() {
        if let Some(value) = table.get(row.name) {
            let place = format!("{file}: {}", row.name);
            texts(row, &place, value)?.into_iter().for_each(|text| layer.push(row, &place, text));
        }
    }
    Ok(layer)
}

/// The texts of a TOML value, as they would stand on the command line: several for a list.
fn texts(row: &Row, place: &str, value: &toml::Value) -> Result<Vec<OsString>, SettingsError> {
    let types = match row.shape() {
        Shape::Text => "a string",
        Shape::Number => "an integer or a string",
        Shape::Switch => "a boolean",
        Shape::List => "a string or an array of strings",
    };
    let wrong = |got| {
        let allowed = format!("{types}: {}", row.range());
        SettingsError::Type { place: place.to_owned(), got, allowed }
    };
    if matches!(row.binding, Binding::File(File::Config)) {
        let allowed = "only an option or a variable names the configuration file".to_owned();
        return Err(SettingsError::Type { place: place.to_owned(), got: "a key of this name", allowed });
    }
    match (value, row.shape()) {
        (toml::Value::String(text), Shape::Text | Shape::Number | Shape::List) => Ok(vec![text.into()]),
        (toml::Value::Integer(number), Shape::Number) => Ok(vec![number.to_string().into()]),
        (toml::Value::Boolean(on), Shape::Switch) => Ok(vec![on.to_string().into()]),
        (toml::Value::Array(parts), Shape::List) => {
            let text = |part: &toml::Value| match part.as_str() {
                Some(text) => Ok(text.into()),
                None => Err(wrong("an array that holds something else than strings")),
            };
            parts.iter().map(text).collect()
        }
        (value, Shape::Text | Shape::Number | Shape::Switch | Shape::List) => Err(wrong(type_name(value))),
    }
}

fn type_name(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "a string",
        toml::Value::Integer(_) => "an integer",
        toml::Value::Float(_) => "a number with a fraction",
        toml::Value::Boolean(_) => "a boolean",
        toml::Value::Datetime(_) => "a date",
        toml::Value::Array(_) => "an array",
        toml::Value::Table(_) => "a table",
    }
}

/// Reads the users file at `path`, which `place` named: each user with its line. Octets need not be UTF-8.
/// Errors name file and line and repeat nothing of the line.
pub(super) fn users(
    path: &Path,
    place: &str,
    reading: Reading,
) -> Result<Vec<(UserSpec, Place)>, SettingsError> {
    let contents = read(path, place, reading, USERS_FILE_BYTES_MAX)?;
    if contents.mode & MODE_OTHERS != 0 {
        return Err(SettingsError::Exposed {
            place: place.to_owned(),
            path: quoted(path),
            mode: contents.mode,
        });
    }
    users_of(&escape(path.as_os_str()), &contents.octets)
}

/// The users that the lines of `octets` name; `file` names them in errors.
pub(super) fn users_of(file: &str, octets: &[u8]) -> Result<Vec<(UserSpec, Place)>, SettingsError> {
    let file: std::sync::Arc<str> = file.into();
    let mut users = Vec::new();
    for (index, line) in octets.split(|octet| *octet == b'\n').enumerate() {
        let at = Place { text: file.clone(), line: Some(index + 1) };
        let user = users::parse_line(line).map_err(|what| SettingsError::Value {
            place: at.to_string(),
            rejected: Rejected { what: what.to_owned(), allowed: users::LINE_ALLOWED.to_owned() },
        })?;
        users.extend(user.map(|user| (user, at)));
    }
    Ok(users)
}

/// Opens and reads a file of at most `bytes_max` bytes. The mode is that of the file that was opened.
fn read(path: &Path, place: &str, reading: Reading, bytes_max: usize) -> Result<Contents, SettingsError> {
    let unreadable = |error| SettingsError::Unreadable { place: place.to_owned(), path: quoted(path), error };
    if reading == Reading::Again && !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(SettingsError::NotAgain { place: place.to_owned(), path: quoted(path) });
    }
    let file = fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut octets = Vec::new();
    file.take(limit).read_to_end(&mut octets).map_err(unreadable)?;
    if octets.len() > bytes_max {
        return Err(SettingsError::TooLong { place: place.to_owned(), path: quoted(path), bytes_max });
    }
    Ok(Contents { octets, mode })
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", escape(path.as_os_str()))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(config: &str, expected: &Expect) {
        let text = match config_layer("/etc/socks5d.toml", config.as_bytes()) {
            Ok(layer) => layer.given.iter().map(|given| format!("{given:?}\n")).collect(),
            Err(error) => format!("{error}\n"),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn keys_are_the_names_of_settings_and_values_have_their_types() {
        check(
            "buffer-size = \"1MiB\"\nworkers = 4\ndeny-private = true\nsocks-addr = [\"::1\", \"127.0.0.1\"]\n\
             admin-addr = \"::1\"\nuser = [\"a:b\", \"c:d\"]\nidle-timeout = 20\nlog-format = 'json'\nadmin = []\n",
            &expect![[r#"
                Given { place: "/etc/socks5d.toml: socks-addr", value: "::1,127.0.0.1" }
                Given { place: "/etc/socks5d.toml: admin-addr", value: "::1" }
                Given { place: "/etc/socks5d.toml: user", value: "***" }
                Given { place: "/etc/socks5d.toml: user", value: "***" }
                Given { place: "/etc/socks5d.toml: deny-private", value: "true" }
                Given { place: "/etc/socks5d.toml: buffer-size", value: "1MiB" }
                Given { place: "/etc/socks5d.toml: idle-timeout", value: "20" }
                Given { place: "/etc/socks5d.toml: log-format", value: "json" }
                Given { place: "/etc/socks5d.toml: workers", value: "4" }
            "#]],
        );
        check("", &expect![""]);
    }

    #[test]
    fn unknown_keys_and_wrong_types_name_file_and_key() {
        check(
            "bufer-size = 1\n",
            &expect![[r#"
            /etc/socks5d.toml: bufer-size: no such setting; did you mean buffer-size?
        "#]],
        );
        check(
            "[socks]\nport = 1\n",
            &expect![[r#"
            /etc/socks5d.toml: socks: no such setting
        "#]],
        );
        check(
            "workers = 4.0\n",
            &expect![[r#"
            /etc/socks5d.toml: workers: a number with a fraction is not allowed: an integer or a string: 1 to 1024
        "#]],
        );
        check(
            "deny-private = \"true\"\n",
            &expect![[r#"
            /etc/socks5d.toml: deny-private: a string is not allowed: a boolean: true or false
        "#]],
        );
        check(
            "doh-host = 5\n",
            &expect![[r#"
            /etc/socks5d.toml: doh-host: an integer is not allowed: a string: a host name or an address, with a port if need be, at most 261 octets
        "#]],
        );
        check(
            "socks-addr = [1]\n",
            &expect![[r#"
            /etc/socks5d.toml: socks-addr: an array that holds something else than strings is not allowed: a string or an array of strings: up to 64 IPv4 or IPv6 addresses, or auto
        "#]],
        );
        check(
            "user = 5\n",
            &expect![[r#"
            /etc/socks5d.toml: user: an integer is not allowed: a string or an array of strings: NAME:PASS, each of 1 to 255 octets
        "#]],
        );
        check(
            "workers = { count = 1 }\n",
            &expect![[r#"
            /etc/socks5d.toml: workers: a table is not allowed: an integer or a string: 1 to 1024
        "#]],
        );
        check(
            "config = \"/etc/other.toml\"\n",
            &expect![[r#"
            /etc/socks5d.toml: config: a key of this name is not allowed: only an option or a variable names the configuration file
        "#]],
        );
        check(
            "no-idle-timeout = 1\n",
            &expect![[r#"
            /etc/socks5d.toml: no-idle-timeout: an integer is not allowed: a boolean: true or false
        "#]],
        );
    }

    #[test]
    fn bad_toml_names_file_and_line_and_repeats_nothing() {
        check(
            "workers = 4\nuser = [\"alice:hunter2\"\nadmin = \"x\"\n",
            &expect![[r#"
            /etc/socks5d.toml: line 3: missing comma between array elements, expected `,`
        "#]],
        );
        check(
            "workers = 4\nworkers = 5\n",
            &expect![[r#"
            /etc/socks5d.toml: line 2: duplicate key
        "#]],
        );
        check(
            "workers",
            &expect![[r#"
            /etc/socks5d.toml: line 1: key with no value, expected `=`
        "#]],
        );
        check(
            "user = \"alice:hunter2\n",
            &expect![[r#"
            /etc/socks5d.toml: line 1: invalid basic string, expected `"`
        "#]],
        );
        let error = config_layer("f", b"workers = 4\nuser = \"\xff\"").unwrap_err().to_string();
        assert_eq!(error, "f: line 2: not UTF-8");
    }
}
