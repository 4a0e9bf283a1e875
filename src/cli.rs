//! The command line: the rows of the [settings table](crate::settings::table) as options, the help text, and
//! each thing that can be wrong with it as one line.
//!
//! Reads nothing but the files that are named; what is printed, and where, is for `main`.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use crate::settings::{Layer, Resolved, Row, SettingsError, Source, row, rows};

/// The name of the program, in front of every error line.
const PROGRAM: &str = "socks5d";

/// Width of the help text: what every terminal has.
const HELP_COLUMNS: usize = 80;

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run the daemon with these settings.
    Run(Resolved),
}

/// The end of the process before it did anything: help, version, or one line about what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0: done what was asked. 2: wrong use.
    pub code: u8,
    /// What to print, with its last line feed.
    pub text: String,
    /// Where to print it.
    pub stream: Stream,
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Reads the command line `args`, of which the first is the name of the program, and the variables `env`, and
/// then the files that they name.
///
/// Errors: an [`Exit`] with help, version or one line that names option, variable or file, the value, and
/// what is allowed; never a password.
pub fn parse(
    args: impl Iterator<Item = OsString>,
    env: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Invocation, Exit> {
    let flags = flags(args)?;
    Resolved::from_layers(flags, Layer::from_variables(env))
        .map(Invocation::Run)
        .map_err(|error| error.into())
}

impl From<SettingsError> for Exit {
    fn from(error: SettingsError) -> Self {
        Self::usage(&error.to_string())
    }
}

impl Exit {
    /// Wrong use, in one line.
    fn usage(message: &str) -> Self {
        Self { code: 2, text: format!("{PROGRAM}: {message}\n"), stream: Stream::Stderr }
    }

    fn success(text: String) -> Self {
        Self { code: 0, text, stream: Stream::Stdout }
    }
}

/// The options that were given, in order.
fn flags(args: impl Iterator<Item = OsString>) -> Result<Layer, Exit> {
    let matches = command().try_get_matches_from(args).map_err(|error| explain(&error))?;
    let mut given: Vec<(usize, &'static Row, OsString)> = Vec::new();
    for row in rows() {
        let values = matches.get_many::<OsString>(row.name).into_iter().flatten().cloned();
        let indices = matches.indices_of(row.name).into_iter().flatten();
        given.extend(indices.zip(values).map(|(index, value)| (index, row, value)));
    }
    given.sort_by_key(|(index, ..)| *index);
    let mut layer = Layer::new(Source::Flag);
    for (_, row, value) in given {
        layer.push(row, &format!("--{}", row.name), value);
    }
    Ok(layer)
}

/// The command line as clap knows it: for help and man page too.
#[must_use]
pub fn command() -> Command {
    let own = [
        Arg::new("version").short('v').long("version").action(ArgAction::Version).help("Print the version"),
        Arg::new("help").short('h').long("help").action(ArgAction::Help).help("Print this text"),
    ];
    Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .about("A SOCKS5 proxy with a built-in DNS-over-HTTP resolver, managed while it runs")
        .override_usage("socks5d [OPTIONS]")
        .after_help(AFTER_HELP)
        .term_width(HELP_COLUMNS)
        .next_line_help(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(rows().map(option))
        .args(own.map(|arg| arg.help_heading("The daemon")))
}

const AFTER_HELP: &str = "\
Values:
  TIME is a number of seconds, or has a unit: 500ms, 10s, 5m, 1h.
  SIZE is a number of bytes, or has a unit: 64K, 64KiB, 1M, 1MiB.
  Lists are separated by commas, or their option is repeated.
  In NAME:PASS the first colon ends the name.

Sources:
  Options are also read from the environment, --buffer-size as
  SOCKS5D_BUFFER_SIZE (users one on a line; an empty variable says nothing), and
  from the file that --config names, as buffer-size = \"1MiB\". The command line
  overrides the environment, which overrides the file; users of all sources are
  added together. On SIGHUP the files are read again.

Exit status:
  0 stopped as asked, 1 cannot run, 2 wrong use.";

/// A row as an option. Every value passes as it is: the settings check it, whatever the source.
fn option(row: &'static Row) -> Arg {
    let arg = Arg::new(row.name)
        .long(row.name)
        .help(help(row))
        .help_heading(row.group)
        .value_name(row.placeholder())
        .value_parser(clap::value_parser!(OsString))
        .action(ArgAction::Append);
    let arg = match row.short {
        Some(short) => arg.short(short),
        None => arg,
    };
    if row.is_switch() {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true").hide_possible_values(true)
    } else {
        arg.allow_negative_numbers(true)
    }
}

/// The help sentence of a row with its range and default.
fn help(row: &Row) -> String {
    let mut facts = Vec::new();
    if row.is_value() && !row.is_switch() {
        facts.push(row.range());
        // The cores of the machine that printed the text say nothing about the next.
        facts.extend(row.default().filter(|_| row.name != "workers").map(|text| format!("default {text}")));
    }
    if row.is_repeatable() {
        facts.push("repeatable".to_owned());
    }
    if facts.is_empty() { row.help.to_owned() } else { format!("{} [{}]", row.help, facts.join("; ")) }
}

// ---- errors --------------------------------------------------------------------------------------------

/// What clap refused, in one line.
fn explain(error: &clap::Error) -> Exit {
    let argument = context(error, ContextKind::InvalidArg);
    match (error.kind(), argument) {
        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => Exit::success(error.render().to_string()),
        (ErrorKind::UnknownArgument, Some(argument)) => {
            let hint = context(error, ContextKind::SuggestedArg);
            let hint = hint.map_or_else(String::new, |option| format!("; did you mean {option}?"));
            let what = if argument.starts_with('-') { "no such option" } else { "an option was expected" };
            Exit::usage(&format!("{}: {what}{hint}", without_password(argument)))
        }
        (ErrorKind::TooManyValues, Some(option)) => Exit::usage(&format!("{option}: takes no value")),
        (ErrorKind::InvalidValue, Some(argument)) => Exit::usage(&missing_value(argument)),
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            Exit::usage(line.strip_prefix("error: ").unwrap_or(line))
        }
    }
}

/// `argument` is `--workers <COUNT>`, or `-p` with its long form: the option that ended the line.
fn missing_value(argument: &str) -> String {
    let option = argument.split([' ', '=']).next().unwrap_or(argument);
    let allowed = option.strip_prefix("--").and_then(row).map(Row::range);
    let allowed = allowed.map_or_else(String::new, |allowed| format!(": {allowed}"));
    format!("{option}: a value is missing{allowed}")
}

/// An argument that nobody expected may be a user whose option was forgotten: nothing after a colon is
/// repeated, and nothing that would not stand on one line.
fn without_password(argument: &str) -> String {
    let (shown, hidden) = match argument.split_once(':') {
        Some((name, _)) => (name, ":…"),
        None => (argument, ""),
    };
    let shown: String = shown.escape_debug().take(MAX_SHOWN_CHARS).collect();
    let quote = if shown.starts_with('-') { "" } else { "\"" };
    format!("{quote}{shown}{hidden}{quote}")
}

const MAX_SHOWN_CHARS: usize = crate::limits::QUOTED_VALUE_CHARS_MAX;

fn context(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    let ContextValue::String(text) = error.get(kind)? else { return None };
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use expect_test::{Expect, expect, expect_file};

    use super::*;
    use crate::settings::{DohMethod, show};

    fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Resolved, Exit> {
        let args = std::iter::once("/usr/bin/socks5d").chain(args.iter().copied()).map(OsString::from);
        let env = env.iter().map(|(name, value)| (name.into(), value.into()));
        parse(args, env).map(|Invocation::Run(resolved)| resolved)
    }

    fn exit(args: &[&str]) -> Exit {
        run(args, &[]).unwrap_err()
    }

    #[test]
    fn help_names_every_option_with_its_range_and_default() {
        let help = exit(&["--help"]);
        assert_eq!((help.code, help.stream), (0, Stream::Stdout));
        assert_eq!(exit(&["-h"]), help);
        assert!(help.text.lines().all(|line| line.chars().count() <= HELP_COLUMNS && !line.ends_with(' ')));
        assert!(rows().all(|row| help.text.contains(&format!("--{}", row.name))));
        expect_file!["help.txt"].assert_eq(&help.text);
    }

    #[test]
    fn version_is_one_line() {
        let version = Exit::success(format!("socks5d {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(exit(&["-v"]), version);
        assert_eq!(exit(&["--version"]), version);
    }

    /// Each command line must end in one line on standard error, without a password.
    fn check_refused(lines: &[&[&str]], expected: &Expect) {
        let lines = lines.iter().map(|args| {
            let exit = exit(args);
            assert_eq!((exit.code, exit.stream), (2, Stream::Stderr), "{args:?}");
            assert_eq!(exit.text.matches('\n').count(), 1, "{args:?}");
            assert!(!exit.text.contains("hunter2"), "{args:?}");
            exit.text
        });
        expected.assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn a_bad_value_is_one_line_with_option_value_and_what_is_allowed() {
        check_refused(
            &[
                &["--buffer-size", "12"],
                &["--buffer-size=12MB"],
                &["--workers", "-1"],
                &["--workers", ""],
                &["-p", "65536"],
                &["-l", "localhost"],
                &["--auth", "maybe"],
                &["--deny-private=perhaps"],
                &["--idle-timeout", "1d"],
                &["--access-log", ""],
                &["--dns", "1\n2"],
                &["-u", "hunter2"],
                &["-a", ":hunter2"],
                &["-u", "alice:"],
            ],
            &expect![[r#"
                socks5d: --buffer-size: "12" is not allowed: 512 B to 16 MiB
                socks5d: --buffer-size: "12MB" is not allowed: 512 B to 16 MiB
                socks5d: --workers: "-1" is not allowed: 1 to 1024
                socks5d: --workers: "" is not allowed: 1 to 1024
                socks5d: --socks-port: "65536" is not allowed: 0 to 65535 (0: the kernel chooses)
                socks5d: --socks-addr: "localhost" is not allowed: up to 64 IPv4 or IPv6 addresses, or auto
                socks5d: --auth: "maybe" is not allowed: auto, required, optional or none
                socks5d: --deny-private: "perhaps" is not allowed: true or false
                socks5d: --idle-timeout: "1d" is not allowed: 100 ms to 86400 s, or off
                socks5d: --access-log: "" is not allowed: the path of a file, stdout or off
                socks5d: --dns: "1\n2" is not allowed: auto, doh or system
                socks5d: --user: a value without a colon is not allowed: NAME:PASS, each of 1 to 255 octets
                socks5d: --admin: an empty name is not allowed: NAME:PASS, each of 1 to 255 octets
                socks5d: --user: an empty password is not allowed: NAME:PASS, each of 1 to 255 octets
            "#]],
        );
    }

    #[test]
    fn arguments_that_are_no_options_are_one_line_without_passwords() {
        check_refused(
            &[
                &["--bufer-size", "12"],
                &["--bufer-size=12"],
                &["--hunger"],
                &["-x"],
                &["alice:hunter2"],
                &["--usr=alice:hunter2"],
                &["-u", "-alice:hunter2"],
                &["a\nb"],
                &["--buffer-size"],
                &["-p"],
                &["--workers", "--auth", "none"],
                &["-u"],
                &["--help=no"],
                &["--", "x"],
                &["-"],
            ],
            &expect![[r#"
                socks5d: --bufer-size: no such option; did you mean --buffer-size?
                socks5d: --bufer-size: no such option; did you mean --buffer-size?
                socks5d: --hunger: no such option; did you mean --user?
                socks5d: -x: no such option
                socks5d: "alice:…": an option was expected
                socks5d: --usr: no such option; did you mean --user?
                socks5d: --user: a value is missing: NAME:PASS, each of 1 to 255 octets
                socks5d: "a\nb": an option was expected
                socks5d: --buffer-size: a value is missing: 512 B to 16 MiB
                socks5d: --socks-port: a value is missing: 0 to 65535 (0: the kernel chooses)
                socks5d: --workers: a value is missing: 1 to 1024
                socks5d: --user: a value is missing: NAME:PASS, each of 1 to 255 octets
                socks5d: --help: takes no value
                socks5d: "x": an option was expected
                socks5d: -: no such option
            "#]],
        );
    }

    #[test]
    fn arguments_that_are_not_utf8_are_users_paths_or_an_error() {
        let octets = |octets: &[u8]| OsString::from_vec(octets.to_vec());
        let run = |args: &[&[u8]]| {
            let args = [b"socks5d".as_slice()].into_iter().chain(args.iter().copied()).map(octets);
            parse(args, std::iter::empty()).map(|Invocation::Run(resolved)| resolved.settings)
        };
        let settings = run(&[b"-u", b"\xff:\xfe", b"--admin=\xfd:\xfc"]).unwrap();
        assert_eq!(settings.users.first().unwrap().name, b"\xff");
        assert_eq!(settings.users.last().unwrap().password, b"\xfc");
        let lines: String = [
            run(&[b"-p", b"\xff"]),
            run(&[b"--\xff"]),
            run(&[b"-\xff"]),
            run(&[b"\xff"]),
            run(&[b"--doh-host", b"\xe9"]),
        ]
        .into_iter()
        .map(|result| result.unwrap_err().text)
        .collect();
        expect![[r#"
            socks5d: --socks-port: "\xff" is not allowed: 0 to 65535 (0: the kernel chooses)
            socks5d: --�: no such option
            socks5d: -�: no such option
            socks5d: "�": an option was expected
            socks5d: --doh-host: "\xe9" is not allowed: a host name or an address, with a port if need be, at most 261 octets
        "#]].assert_eq(&lines);
    }

    #[test]
    fn short_options_are_those_that_people_use() {
        let args = "-l 127.0.0.1 -l ::1 -p 1081 -L 127.0.0.2 -P 8081 -u a:b -u c:d -a root:toor -ND";
        let resolved = run(&args.split(' ').collect::<Vec<_>>(), &[]).unwrap();
        let settings = &resolved.settings;
        for (name, shown) in [
            ("socks-addr", "127.0.0.1,::1"),
            ("socks-port", "1081"),
            ("admin-addr", "127.0.0.2"),
            ("admin-port", "8081"),
            ("user", "a,c"),
            ("admin", "root"),
            ("dissector", "off"),
            ("idle-timeout", "off"),
        ] {
            assert_eq!(show(settings, name).as_deref(), Some(shown), "{name}");
        }
        assert!(resolved.overridden.is_empty());
    }

    #[test]
    fn switches_need_no_value_and_take_one_behind_an_equals_sign() {
        let check = |args: &[&str], post: DohMethod, private: bool| {
            let settings = run(args, &[("SOCKS5D_DENY_PRIVATE", "true")]).unwrap().settings;
            assert_eq!((settings.doh_method, settings.deny_private), (post, private), "{args:?}");
        };
        check(&[], DohMethod::Get, true);
        check(&["--doh-method-post", "--deny-private=false"], DohMethod::Post, false);
        check(&["--doh-method-post", "--doh-method-post=no", "--deny-private"], DohMethod::Get, true);
    }

    #[test]
    fn options_keep_their_order_across_names() {
        let idle = |args: &[&str]| show(&run(args, &[]).unwrap().settings, "idle-timeout").unwrap();
        assert_eq!(idle(&["-D", "--idle-timeout", "20"]), "20 s");
        assert_eq!(idle(&["--idle-timeout", "20", "-D"]), "off");
    }

    #[test]
    fn variables_are_read_and_named_in_errors() {
        let resolved = run(&["-p", "1"], &[("SOCKS5D_SOCKS_PORT", "2"), ("SOCKS5D_WORKERS", "3")]).unwrap();
        assert_eq!((resolved.settings.socks_port, resolved.settings.workers), (1, 3));
        let error = run(&[], &[("SOCKS5D_WORKERS", "three")]).unwrap_err();
        assert_eq!(error, Exit::usage("SOCKS5D_WORKERS: \"three\" is not allowed: 1 to 1024"));
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_table() {
        command().debug_assert();
    }
}
