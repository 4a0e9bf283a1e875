//! Signals as readable events: blocked everywhere, read from a signalfd by the control loop.

#![expect(unsafe_code, reason = "signal masks and signalfd have no safe wrapper among our dependencies")]

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A signal that the daemon acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain and stop; the second time stop at once.
    Stop,
    /// SIGHUP: read the configuration again and reopen the logs.
    Reload,
}

/// The signals of this process, from the moment of creation on.
#[derive(Debug)]
pub struct Signals {
    descriptor: File,
}

const SIGNALS: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

impl Signals {
    /// Blocks the signals in this thread and those it starts later; call before any other thread exists.
    pub fn new() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the pointer is valid for writes, and sigemptyset initialises what it points to.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset above has initialised it.
        let mut set = unsafe { set.assume_init() };
        for signal in SIGNALS {
            // SAFETY: the set is initialised, and the number is one of libc's own.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        // SAFETY: the set is initialised; a null old set is allowed.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: -1 asks for a new descriptor; the set is initialised.
        let raw = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd has just opened it, and nobody else knows it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { descriptor: File::from(descriptor) })
    }

    /// The next signal that has arrived, if one has.
    pub fn next_arrived(&mut self) -> Option<Signal> {
        // The first four bytes of signalfd_siginfo are the signal's number.
        let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
        self.descriptor.read_exact(&mut bytes).ok()?;
        let number = bytes.first_chunk::<4>().map(|number| u32::from_ne_bytes(*number))?;
        match libc::c_int::try_from(number) {
            Ok(libc::SIGHUP) => Some(Signal::Reload),
            Ok(_) => Some(Signal::Stop),
            Err(_) => None,
        }
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}
