//! The service manager that started us, if one did: the sockets that it handed over, and what it is told.

use std::env;
use std::io;
use std::time::Duration;

use crate::limits;
use crate::sys::inherit::{self, InheritError, Inherited};
use crate::sys::notify::{self, Notify, State};

/// What a service manager gave us.
#[derive(Debug, Default)]
pub struct Manager {
    pub(super) sockets: Vec<Inherited>,
    notify: Notify,
}

/// Why what it gave is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// Its sockets.
    #[error(transparent)]
    Sockets(#[from] InheritError),
    /// Where it wants to be told.
    #[error("{variable}: {0}", variable = notify::VARIABLE)]
    Notify(#[source] io::Error),
}

impl Manager {
    /// Takes what the environment speaks of. Call before any other thread exists and before anything is opened.
    pub fn take() -> Result<Self, ManagerError> {
        let notify = Notify::new(env::var_os(notify::VARIABLE)).map_err(ManagerError::Notify)?;
        Ok(Self { sockets: inherit::take_sockets()?, notify })
    }

    /// Serving, as `status` says.
    pub(super) fn ready(&mut self, status: &str) {
        self.notify.tell(State::Ready, status);
    }

    /// The configuration is read again.
    pub(super) fn reloading(&mut self) {
        self.notify.tell(State::Reloading, "reloading");
    }

    /// Ending; sessions have that long for it, then admins and the logs their own time.
    pub(super) fn stopping(&mut self, patience: Duration, status: &str) {
        let after = limits::ADMIN_GOODBYE_MAX + 2 * limits::LOG_FLUSH_MAX;
        self.notify.tell(State::Stopping(patience + after), status);
    }

    /// Sends what there was no room for; when to come again, if there is none yet.
    pub(super) fn flush(&mut self) -> Option<Duration> {
        self.notify.flush();
        self.notify.is_pending().then_some(limits::NOTIFY_RETRY)
    }
}
