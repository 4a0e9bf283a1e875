//! The command line of pipoctl with its environment and configuration file, as one value.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use pipo_protocol::{Name, Version};

use crate::exit::EXITS;
use crate::grammar::{GLOBALS, Kind, Said, Scope, UsageError, Values, overview, parse_words};
use crate::limits::{TIMEOUT_DEFAULT, TIMEOUT_MAX, TIMEOUT_MIN};
use crate::link::{Target, TransportChoice};
use crate::output::name_octets;
use crate::profile::{Profile, Profiles};

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Print this and end.
    Print(String),
    /// Do something.
    Run(Box<Options>),
}

/// How to reach the server, and what to do.
#[derive(Debug)]
pub struct Options {
    /// The server.
    pub target: Target,
    /// Who logs in, if that was said.
    pub user: Option<Name>,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// What to run.
    pub mode: Mode,
    /// Options of output.
    pub globals: Values,
    /// What an error means for the lines behind it.
    pub after_error: AfterError,
}

/// Where the password comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// The first line of a file.
    File(PathBuf),
    /// The variable.
    Environment,
    /// A person.
    Asked,
}

/// What to run.
#[derive(Debug)]
pub enum Mode {
    /// One command.
    One(Said),
    /// These lines.
    Lines(Vec<String>),
    /// The lines of a file.
    File(PathBuf),
    /// The lines of standard input; a person at a terminal gets the interactive mode.
    Standard,
}

/// What an error means for the lines behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterError {
    /// They are not run.
    Stop,
    /// They are run.
    GoOn,
}

/// The password's variable; never shown and never read but for the log-in.
pub const PASSWORD_VARIABLE: &str = "PIPO_PASSWORD";

/// Ports when nobody says.
const SCTP_PORT: u16 = 8080;

/// Reads arguments (without the program's name) and variables; `profiles` reads the configuration file when it is
/// needed.
pub fn parse(
    arguments: impl Iterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<String>,
    profiles: impl FnOnce() -> Result<Profiles, UsageError>,
) -> Result<Invocation, UsageError> {
    let words: Vec<String> = arguments
        .map(|argument| {
            argument.into_string().map_err(|argument| {
                let argument = argument.to_string_lossy().into_owned();
                let sentence = format!("\"{}\" is not UTF-8", crate::output::safe(&argument));
                UsageError::new(sentence)
            })
        })
        .collect::<Result<_, _>>()?;
    let said = parse_words(&words, Scope::CommandLine)?;
    let globals = said.globals.clone();
    if globals.has("version") {
        return Ok(Invocation::Print(format!("pipoctl {}\n", env!("CARGO_PKG_VERSION"))));
    }
    if globals.has("help") {
        return help(&globals).map(Invocation::Print);
    }
    let mode = mode(said)?;
    let profiles = profiles()?;
    let (target, profile) = target(&globals, &variable, &profiles)?;
    let user = match (globals.text("user"), variable("PIPO_USER"), &profile.user) {
        (Some(user), ..) => Some(name(user, "--user")?),
        (None, Some(user), _) => Some(name(&user, "PIPO_USER")?),
        (None, None, Some(user)) => Some(name(user, "user in the configuration file")?),
        (None, None, None) => None,
    };
    let password = match (globals.text("password-file"), variable(PASSWORD_VARIABLE), &profile.password_file)
    {
        (Some(file), ..) => PasswordSource::File(PathBuf::from(file)),
        (None, Some(_), _) => PasswordSource::Environment,
        (None, None, Some(file)) => PasswordSource::File(from_home(file, &variable)),
        (None, None, None) => PasswordSource::Asked,
    };
    let after_error = if globals.has("keep-going") { AfterError::GoOn } else { AfterError::Stop };
    Ok(Invocation::Run(Box::new(Options { target, user, password, mode, globals, after_error })))
}

fn mode(said: Said) -> Result<Mode, UsageError> {
    let lines: Vec<_> = said.globals.texts("command").map(str::to_owned).collect();
    let file = said.globals.text("file").map(str::to_owned);
    match (said.command.is_some(), lines.is_empty(), file) {
        (true, true, None) => Ok(Mode::One(said)),
        (false, false, None) => Ok(Mode::Lines(lines)),
        (false, true, Some(file)) if file == "-" => Ok(Mode::Standard),
        (false, true, Some(file)) => Ok(Mode::File(PathBuf::from(file))),
        (false, true, None) => Ok(Mode::Standard),
        _ => Err(UsageError::new("a command, --command and --file exclude each other")),
    }
}

fn help(globals: &Values) -> Result<String, UsageError> {
    match globals.text("help-on") {
        Some(words) => {
            let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
            crate::grammar::command_help(&words)
        }
        None => Ok(usage()),
    }
}

/// The text of --help.
#[must_use]
pub fn usage() -> String {
    let mut text = "Manages a running socks5d over its admin channel\n\n\
                    Usage: pipoctl [OPTIONS] [COMMAND]\n       \
                    pipoctl [OPTIONS] -c COMMAND [-c COMMAND]...\n       \
                    pipoctl [OPTIONS] -f FILE\n\n\
                    Without a command it is interactive on a terminal, else it runs the lines of standard input.\n"
        .to_owned();
    let mut group = "";
    for global in GLOBALS {
        if global.group != group {
            group = global.group;
            text.push_str(&format!("\n{group}:\n"));
        }
        let kind = global.flag.value.map(|(_, kind)| kind).filter(|kind| *kind != Kind::Span);
        let variable = global.variable.map(|name| format!(" [variable {name}]")).unwrap_or_default();
        let help = format!("{}{variable}", global.flag.help);
        text.push_str(&crate::grammar::aligned(&global.flag.written(), &help, kind));
    }
    text.push_str("\nA password never stands on the command line.\n\n");
    text.push_str(&overview(None));
    text.push_str("\nExit codes:\n\n");
    for (_, code, meaning) in EXITS {
        text.push_str(&format!("  {code:>3}  {meaning}\n"));
    }
    text
}

// ---- which server ---------------------------------------------------------------------------------------

fn target(
    globals: &Values,
    variable: impl Fn(&str) -> Option<String>,
    profiles: &Profiles,
) -> Result<(Target, Profile), UsageError> {
    let named = globals.text("server").map(str::to_owned).or_else(|| variable("PIPO_SERVER"));
    let named = named.or_else(|| profiles.default.clone());
    let profile = named.as_ref().and_then(|name| profiles.servers.get(name)).cloned();
    let address = match (&profile, named) {
        (Some(profile), _) => profile.server.clone(),
        (None, named) => named,
    };
    let profile = profile.unwrap_or_default();
    let (host, port) = match &address {
        Some(address) => host_and_port(address)?,
        None => ("127.0.0.1".to_owned(), SCTP_PORT),
    };
    let transport = match globals.text("transport").or(profile.transport.as_deref()) {
        None | Some("auto") => TransportChoice::Auto,
        Some("kernel") => TransportChoice::Kernel,
        Some("udp") => TransportChoice::Udp,
        Some(_) => return Err(UsageError::new("transport in the configuration file: auto, kernel or udp")),
    };
    let version = match globals.number("protocol").or(profile.protocol) {
        None | Some(2) => Version::V2,
        Some(1) => Version::V1,
        Some(_) => return Err(UsageError::new("protocol in the configuration file: 1 or 2")),
    };
    let limit = match globals.span("timeout") {
        None => TIMEOUT_DEFAULT,
        Some(limit) if (TIMEOUT_MIN..=TIMEOUT_MAX).contains(&limit) => limit,
        Some(_) => return Err(UsageError::new("--timeout: 10ms to 1h are allowed")),
    };
    let udp_port = globals.number("udp-port").or(profile.udp_port).unwrap_or(pipo_encap::UDP_PORT);
    let (connect_limit, reply_limit): (Duration, Duration) = (limit, limit);
    Ok((Target { host, port, udp_port, transport, version, connect_limit, reply_limit }, profile))
}

/// `host`, `host:port`, `::1`, `[::1]`, `[::1]:port`.
fn host_and_port(text: &str) -> Result<(String, u16), UsageError> {
    let wrong = || {
        let text = crate::output::safe(text);
        UsageError::new(format!(
            "--server: \"{text}\" is not allowed: HOST, HOST:PORT, ::1, [::1] or [::1]:PORT"
        ))
    };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) };
        (host, port)
    } else if text.matches(':').count() >= 2 {
        (text, None)
    } else {
        text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
    };
    let port = match port {
        None => SCTP_PORT,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?,
    };
    let plain = !host.is_empty()
        && host.len() <= 255
        && !host.contains(|c: char| c.is_whitespace() || c.is_control());
    if plain { Ok((host.to_owned(), port)) } else { Err(wrong()) }
}

fn name(text: &str, from: &str) -> Result<Name, UsageError> {
    let name = name_octets(text).and_then(|octets| Name::new(octets).ok());
    name.ok_or_else(|| UsageError::new(format!("{from}: {}", Kind::User.allowed())))
}

/// A path, `~/` being the home folder.
fn from_home(path: &str, variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    match (path.strip_prefix("~/"), variable("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &str, variables: &[(&str, &str)], file: &str) -> Result<Options, UsageError> {
        let arguments = arguments.split_whitespace().map(OsString::from);
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let profiles = || Ok(toml::from_str(file).expect("a configuration"));
        parse(arguments, variable, profiles).map(|invocation| match invocation {
            Invocation::Run(options) => *options,
            Invocation::Print(text) => panic!("{text}"),
        })
    }

    #[test]
    fn servers_are_written_in_every_usual_way() {
        for (text, expected) in [
            ("example.com", Some(("example.com", 8080))),
            ("example.com:81", Some(("example.com", 81))),
            ("192.0.2.1:81", Some(("192.0.2.1", 81))),
            ("::1", Some(("::1", 8080))),
            ("[::1]", Some(("::1", 8080))),
            ("[fe80::1%eth0]:81", Some(("fe80::1%eth0", 81))),
            ("", None),
            (":81", None),
            ("a:", None),
            ("a:0", None),
            ("a:65536", None),
            ("[::1", None),
            ("[::1]81", None),
            ("a b", None),
        ] {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(host_and_port(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn the_command_line_goes_before_the_environment_and_that_before_the_file() {
        let file = "default = 'home'\n[servers.home]\nserver = '[::1]:81'\nudp-port = 5\nuser = 'file'\n\
                    protocol = 1\ntransport = 'udp'\npassword-file = '~/p'\n";
        let home = options("user list", &[("HOME", "/h")], file).unwrap();
        assert_eq!((home.target.host.as_str(), home.target.port, home.target.udp_port), ("::1", 81, 5));
        assert_eq!((home.target.version, home.target.transport), (Version::V1, TransportChoice::Udp));
        assert_eq!(
            (home.user, home.password),
            (Name::new(*b"file").ok(), PasswordSource::File("/h/p".into()))
        );

        let variables = [("PIPO_SERVER", "other"), ("PIPO_USER", "env"), ("PIPO_PASSWORD", "x")];
        let other = options("user list", &variables, file).unwrap();
        assert_eq!((other.target.host.as_str(), other.target.port), ("other", 8080));
        assert_eq!((other.user, other.password), (Name::new(*b"env").ok(), PasswordSource::Environment));

        let arguments =
            "--server home --udp-port 6 --protocol 2 --user me --password-file f --timeout 2s user list";
        let line = options(arguments, &variables, file).unwrap();
        assert_eq!((line.target.host.as_str(), line.target.udp_port), ("::1", 6));
        assert_eq!((line.user, line.password), (Name::new(*b"me").ok(), PasswordSource::File("f".into())));
        assert_eq!((line.target.version, line.target.reply_limit), (Version::V2, Duration::from_secs(2)));
    }

    #[test]
    fn there_is_one_thing_to_run() {
        assert!(matches!(options("", &[], "").unwrap().mode, Mode::Standard));
        assert!(matches!(options("-f -", &[], "").unwrap().mode, Mode::Standard));
        assert!(matches!(options("-f x", &[], "").unwrap().mode, Mode::File(_)));
        assert!(
            matches!(options("-c help -c help", &[], "").unwrap().mode, Mode::Lines(lines) if lines.len() == 2)
        );
        assert!(matches!(options("user list", &[], "").unwrap().mode, Mode::One(_)));
        for both in ["-c help user list", "-f x user list", "-f x -c help"] {
            assert!(options(both, &[], "").is_err(), "{both}");
        }
    }

    #[test]
    fn help_names_every_option_command_and_exit_code() {
        let text = usage();
        expect_test::expect_file!["help.txt"].assert_eq(&text);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "lines fit a wide terminal");
    }
}
