//! Sockets that a service manager opened before we were started (sd_listen_fds(3), systemd.socket(5)).
//!
//! Takes them over; what they are, and whether they can be listened on, is for [`super::socket`] to say.

#![expect(unsafe_code, reason = "descriptors come as numbers, and the environment is changed")]

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::limits;

/// The first descriptor that is handed over: 0 to 2 are the standard streams.
const FIRST: RawFd = 3;

const COUNT: &str = "LISTEN_FDS";
const PROCESS: &str = "LISTEN_PID";
const NAMES: &str = "LISTEN_FDNAMES";

/// A descriptor that was handed over.
#[derive(Debug)]
pub struct Inherited {
    /// Its number and, where it has one, its name: what an operator knows it by.
    pub label: String,
    /// The descriptor, closed on exec from now on.
    pub socket: OwnedFd,
}

/// Why the sockets could not be taken over. Whoever starts us is at fault.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// A variable does not hold what sd_listen_fds(3) says.
    #[error("{variable}={value:?}: a number was expected")]
    Number {
        /// The variable.
        variable: &'static str,
        /// What it holds.
        value: OsString,
    },
    /// More than we would listen on.
    #[error("{COUNT}={0}: at most {max} sockets are allowed", max = limits::ADDRESSES_PER_SETTING_MAX)]
    TooMany(usize),
    /// A descriptor that should be there is not.
    #[error("inherited socket {label}: {cause}")]
    Closed {
        /// Number and name.
        label: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

/// Takes over what was handed to this process, and the variables that say so out of the environment: they are
/// not for any process that we start. Call before any other thread exists and before
/// anything is opened: what is announced and was never handed over is then an error, not a file of ours.
pub fn take_sockets() -> Result<Vec<Inherited>, InheritError> {
    let announced = announced(|name| env::var_os(name), std::process::id());
    for name in [COUNT, PROCESS, NAMES] {
        // SAFETY: no other thread exists that could read the environment meanwhile.
        unsafe { env::remove_var(name) };
    }
    announced?.into_iter().map(|(number, label)| take(number, label)).collect()
}

/// The numbers and labels that the variables announce to the process with this id.
fn announced(
    variable: impl Fn(&str) -> Option<OsString>,
    process: u32,
) -> Result<Vec<(RawFd, String)>, InheritError> {
    let (Some(count), Some(for_process)) = (variable(COUNT), variable(PROCESS)) else {
        return Ok(Vec::new());
    };
    // A parent that did not take them out of its environment means itself.
    if number::<u32>(PROCESS, for_process)? != process {
        return Ok(Vec::new());
    }
    let count = number::<usize>(COUNT, count)?;
    if count > limits::ADDRESSES_PER_SETTING_MAX {
        return Err(InheritError::TooMany(count));
    }
    let names = variable(NAMES).unwrap_or_default();
    let names = names.to_string_lossy();
    let names = names.split(':').chain(std::iter::repeat(""));
    let label = |(number, name): (RawFd, &str)| match name {
        "" => (number, number.to_string()),
        _ => (number, format!("{number} ({})", name.escape_debug())),
    };
    Ok((FIRST..).zip(names).take(count).map(label).collect())
}

fn number<T: std::str::FromStr>(variable: &'static str, value: OsString) -> Result<T, InheritError> {
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or(InheritError::Number { variable, value })
}

/// Takes a descriptor over that was announced to this process.
fn take(number: RawFd, label: String) -> Result<Inherited, InheritError> {
    // SAFETY: F_SETFD takes an integer and no pointer; a number that is not open is an error and nothing else.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(InheritError::Closed { label, cause: io::Error::last_os_error() });
    }
    // SAFETY: it is open, as fcntl has shown, and ours: it was announced to this process, each number is taken
    // once, and nothing was opened before.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    Ok(Inherited { label, socket })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    fn check(variables: &[(&str, &str)], expected: Result<&[(RawFd, &str)], &str>) {
        let lookup = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        let found = announced(lookup, 42).map_err(|error| error.to_string());
        let expected = expected.map(|all| all.iter().map(|(fd, label)| (*fd, (*label).to_owned())).collect());
        assert_eq!(found, expected.map_err(str::to_owned), "{variables:?}");
    }

    #[test]
    fn announced_are_those_that_are_meant_for_this_process() {
        check(&[], Ok(&[]));
        check(&[(COUNT, "2")], Ok(&[]));
        check(&[(COUNT, "2"), (PROCESS, "41")], Ok(&[]));
        check(&[(COUNT, "0"), (PROCESS, "42")], Ok(&[]));
        check(&[(COUNT, "2"), (PROCESS, "42")], Ok(&[(3, "3"), (4, "4")]));
        let named = [(COUNT, "3"), (PROCESS, "42"), (NAMES, "socks::more:unused")];
        check(&named, Ok(&[(3, "3 (socks)"), (4, "4"), (5, "5 (more)")]));
        check(&[(COUNT, "1"), (PROCESS, "42"), (NAMES, "a\nb")], Ok(&[(3, "3 (a\\nb)")]));
    }

    #[test]
    fn announcements_that_make_no_sense_are_errors() {
        check(&[(COUNT, "x"), (PROCESS, "42")], Err("LISTEN_FDS=\"x\": a number was expected"));
        check(&[(COUNT, "-1"), (PROCESS, "42")], Err("LISTEN_FDS=\"-1\": a number was expected"));
        check(&[(COUNT, "1"), (PROCESS, "")], Err("LISTEN_PID=\"\": a number was expected"));
        check(&[(COUNT, "65"), (PROCESS, "42")], Err("LISTEN_FDS=65: at most 64 sockets are allowed"));
    }

    #[test]
    fn a_descriptor_is_closed_on_exec_once_it_is_ours() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = take(listener.into_raw_fd(), "3".to_owned()).unwrap();
        let flags = rustix::io::fcntl_getfd(&taken.socket).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let error = take(RawFd::MAX, "9 (gone)".to_owned()).unwrap_err().to_string();
        assert!(error.starts_with("inherited socket 9 (gone): Bad file descriptor"), "{error}");
    }
}
