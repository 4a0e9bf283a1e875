//! The daemon: flags, run, exit code. 0: ended as asked; 1: could not start or go on; 2: wrong usage.

use std::io::Write;
use std::process::ExitCode;

use socks5d::admin::control::Daemon;
use socks5d::admin::manager::Manager;
use socks5d::cli::{self, Exit, Invocation, Stream};
use socks5d::logging::start_diagnostics;
use socks5d::proxy::plane::Ended;
use socks5d::sys::signals::Signals;

fn main() -> ExitCode {
    // Before anything is opened: a descriptor that was announced and is not there must not be one of ours.
    let manager = Manager::take().map_err(|error| error.to_string());
    let resolved = match cli::parse(std::env::args_os(), std::env::vars_os()) {
        Ok(Invocation::Run(resolved)) => resolved,
        Err(exit) => return print(&exit),
    };
    let level = resolved.settings.log_level;
    // Before any thread exists, so that every thread has them blocked.
    let started = Signals::new().map_err(|error| error.to_string()).and_then(|signals| {
        let manager = manager?;
        let diagnostics = start_diagnostics(level).map_err(|error| error.to_string())?;
        Daemon::start(resolved, signals, diagnostics, manager).map_err(|error| error.to_string())
    });
    match started.and_then(|daemon| daemon.run().map_err(|error| error.to_string())) {
        Ok(Ended::Orderly) => ExitCode::SUCCESS,
        Ok(Ended::Broken) => ExitCode::from(1),
        Err(error) => {
            // In one piece: the thread that writes diagnostics may be writing to the same place.
            let line = format!("socks5d: {error}\n");
            // Where nobody reads it, the exit code says the same.
            drop(std::io::stderr().write_all(line.as_bytes()));
            ExitCode::from(1)
        }
    }
}

/// Help, version, or what is wrong with the command line. A reader that has gone is no failure of ours.
fn print(exit: &Exit) -> ExitCode {
    let text = exit.text.as_bytes();
    let printed = match exit.stream {
        Stream::Stdout => std::io::stdout().write_all(text),
        Stream::Stderr => std::io::stderr().write_all(text),
    };
    match printed {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(1),
        Err(_) | Ok(()) => ExitCode::from(exit.code),
    }
}
