//! One command, or lines: connecting when the first command needs it, running, and the exit code.

use std::io::{Read, Write};
use std::path::Path;

use pipo_protocol::{Name, Password};

use crate::cli::{AfterError, Invocation, Mode, Options, PASSWORD_VARIABLE, PasswordSource, parse};
use crate::exit::Exit;
use crate::grammar::{Said, UsageError, parse_line};
use crate::limits::LINE_BYTES_MAX;
use crate::link::{Credentials, Link};
use crate::output::{Format, Printer, Sink, safe};
use crate::profile;
use crate::run::{Failure, Input, Runner, can_ask, hidden_line, password};

/// Runs pipoctl with these arguments (without the program's name) and gives its exit code.
#[must_use]
pub fn main(arguments: impl Iterator<Item = std::ffi::OsString>) -> u8 {
    let variable = |name: &str| std::env::var(name).ok();
    let profiles = || match profile::path(variable) {
        Some(path) => profile::read(&path).map_err(|error| UsageError::new(safe(&error.to_string()))),
        None => Ok(profile::Profiles::default()),
    };
    let options = match parse(arguments, variable, profiles) {
        Ok(Invocation::Print(text)) => return print(&text),
        Ok(Invocation::Run(options)) => options,
        Err(error) => return end(&Failure::from(error), ""),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return end(&Failure::Read { what: "the runtime".to_owned(), error }, ""),
    };
    let code = runtime.block_on(run(*options));
    // A thread that still waits for a line of standard input is left behind.
    runtime.shutdown_background();
    code
}

/// What was asked for itself; a reader that has gone wanted no more.
fn print(text: &str) -> u8 {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Exit::Done.code(),
        Err(error) => end(&Failure::Sink(error.into()), ""),
    }
}

/// Says why, if there is something to say, and gives the code.
fn end(failure: &Failure, place: &str) -> u8 {
    if let Some(line) = failure.line() {
        // Where standard error is closed, the code says it all the same.
        let _ = writeln!(std::io::stderr(), "pipoctl: {place}{line}");
    }
    failure.exit().code()
}

async fn run(options: Options) -> u8 {
    if matches!(options.mode, Mode::Standard) {
        let input = Input::of_process();
        if input.person() == crate::run::Person::There {
            return crate::interactive::run(&options, input).await;
        }
    }
    let mut session = Session::new(options);
    let mode = std::mem::replace(&mut session.options.mode, Mode::Standard);
    let interrupted = tokio::signal::ctrl_c();
    let code = tokio::select! {
        code = session.run_mode(mode) => code,
        _ = interrupted => Exit::Interrupted.code(),
    };
    if let Some(link) = session.link.take() {
        link.goodbye().await;
    }
    code
}

/// The options, and the link once something needed it.
struct Session {
    options: Options,
    runner: Runner,
    link: Option<Link>,
}

impl Session {
    fn new(options: Options) -> Self {
        let printer = Printer::new(Format::of_stdout(), Sink::Stdout(tokio::io::stdout()));
        let mut runner = Runner::new(printer, Input::of_process());
        runner.take_globals(&options.globals);
        Self { options, runner, link: None }
    }

    async fn run_mode(&mut self, mode: Mode) -> u8 {
        match mode {
            Mode::One(said) => match self.run_said(&said).await {
                Ok(()) => Exit::Done.code(),
                Err(failure) => end(&failure, ""),
            },
            Mode::Lines(lines) => self.run_lines("command ", Lines::Given(lines.into_iter())).await,
            Mode::File(path) => {
                let place = format!("{}:", safe(&path.display().to_string()));
                match read_script(&path) {
                    Ok(lines) => self.run_lines(&place, Lines::Given(lines.into_iter())).await,
                    Err(failure) => end(&failure, ""),
                }
            }
            Mode::Standard => self.run_lines("standard input:", Lines::Standard).await,
        }
    }

    /// Runs lines up to the first error, or all; the first error gives the code.
    async fn run_lines(&mut self, place: &str, mut lines: Lines) -> u8 {
        let mut first = None;
        for number in 1_u64.. {
            let line = match lines.next(&mut self.runner).await {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(failure) => return end(&failure, &format!("{place}{number}: ")),
            };
            let done = match parse_line(&line) {
                Ok(said) => self.run_said(&said).await,
                Err(error) => Err(error.into()),
            };
            if let Err(failure) = done {
                let code = end(&failure, &format!("{place}{number}: "));
                let code = *first.get_or_insert(code);
                if self.options.after_error == AfterError::Stop || failure.is_final() {
                    return code;
                }
            }
        }
        first.unwrap_or(Exit::Done.code())
    }

    async fn run_said(&mut self, said: &Said) -> Result<(), Failure> {
        let needs_link = said.command.as_ref().is_some_and(|parsed| !Runner::is_local(parsed));
        if needs_link && self.link.is_none() && !said.globals.has("help") {
            let credentials = credentials(&self.options, self.runner.input()).await?;
            self.link = Some(Link::connect(&self.options.target, &credentials).await?);
        }
        self.runner.run(self.link.as_ref(), said).await
    }
}

/// Where lines come from.
enum Lines {
    Given(std::vec::IntoIter<String>),
    Standard,
}

impl Lines {
    async fn next(&mut self, runner: &mut Runner) -> Result<Option<String>, Failure> {
        match self {
            Self::Given(lines) => Ok(lines.next()),
            Self::Standard => match runner.input().line().await? {
                Some(line) => {
                    String::from_utf8(line).map(Some).map_err(|_| Failure::usage("a line is not UTF-8"))
                }
                None => Ok(None),
            },
        }
    }
}

/// The lines of a script.
fn read_script(path: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error| Failure::Read { what: safe(&path.display().to_string()).into_owned(), error };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok(text.lines().map(str::to_owned).collect())
}

// ---- who logs in ----------------------------------------------------------------------------------------

/// User and password from where they are said to be, or from a person.
pub async fn credentials(options: &Options, input: &mut Input) -> Result<Credentials, Failure> {
    let user = match &options.user {
        Some(user) => user.clone(),
        None if input.person() == crate::run::Person::There => {
            let line = input.asked("User: ").await?;
            Name::new(line).map_err(|error| Failure::usage(format!("a user name of {error}")))?
        }
        None => {
            return Err(Failure::usage("who logs in: --user, PIPO_USER, or user in the configuration file"));
        }
    };
    let password = match &options.password {
        PasswordSource::File(path) => password_file(path)?,
        PasswordSource::Environment => {
            let octets = std::env::var_os(PASSWORD_VARIABLE).unwrap_or_default();
            password(std::os::unix::ffi::OsStringExt::into_vec(octets), PASSWORD_VARIABLE)?
        }
        PasswordSource::Asked if can_ask() => {
            let shown = crate::output::name_text(user.as_bytes());
            let line = hidden_line(&format!("Password of {shown} at {}: ", options.target)).await?;
            password(line, "the password")?
        }
        PasswordSource::Asked => {
            return Err(Failure::usage(
                "the password: --password-file, PIPO_PASSWORD, or a terminal to ask on",
            ));
        }
    };
    Ok(Credentials { user, password })
}

/// The first line of a file. Others who could read it are warned about.
fn password_file(path: &Path) -> Result<Password, Failure> {
    let shown = safe(&path.display().to_string()).into_owned();
    let failed = |error| Failure::Read { what: shown.clone(), error };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata().map_err(failed)?);
    if mode & 0o077 != 0 && mode & 0o170_000 == 0o100_000 {
        // A warning that cannot be written is no reason to fail.
        let _ = writeln!(std::io::stderr(), "pipoctl: {shown}: others may read this password (chmod 600)");
    }
    let mut octets = Vec::new();
    file.take(LINE_BYTES_MAX as u64).read_to_end(&mut octets).map_err(failed)?;
    let line = octets.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    password(line.to_vec(), &shown)
}
