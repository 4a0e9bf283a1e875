//! Settings as the admin channel shows and changes them. What there is to set is [`crate::settings::table`].

use std::time::Duration;

use super::core::{AdoptError, Core};
use crate::settings::{BadValue, Settings};

/// Why a setting was not changed; everything is as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangeError {
    /// The name or the value.
    #[error(transparent)]
    Value(#[from] BadValue),
    /// The system does not let it hold.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
}

/// Whether idle sessions are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleanup {
    /// After the idle timeout.
    On,
    /// Never.
    Off,
}

/// Changes a setting at run time. Every worker takes it up within 100 ms.
pub(super) fn change(core: &mut Core, name: &str, text: &str) -> Result<(), ChangeError> {
    let mut resolved = core.resolved.clone();
    resolved.change(name, text)?;
    core.adopt(resolved)?;
    Ok(())
}

/// I/O buffer, bytes.
pub(super) fn buffer_bytes(core: &Core) -> u64 {
    core.resolved.settings.buffer_size as u64
}

/// Longest sleep of a worker, in seconds that have begun.
pub(super) fn poll_timeout_seconds(core: &Core) -> u64 {
    seconds(core.resolved.settings.poll_timeout)
}

/// Idle timeout in seconds that have begun; while idle sessions are not closed the one that would hold again.
pub(super) fn idle_timeout_seconds(core: &Core) -> u64 {
    seconds(core.idle_timeout_kept)
}

/// Version 1 has a switch and a timeout where we have one setting: the switch keeps the timeout.
pub(super) fn set_cleanup(core: &mut Core, cleanup: Cleanup) -> Result<(), ChangeError> {
    match (cleanup, core.resolved.settings.idle_timeout) {
        (Cleanup::Off, Some(_)) => change(core, IDLE_TIMEOUT, "off"),
        (Cleanup::On, None) => change(core, IDLE_TIMEOUT, &text_of(core.idle_timeout_kept)),
        (Cleanup::On, Some(_)) | (Cleanup::Off, None) => Ok(()),
    }
}

/// Sets the timeout; whether idle sessions are closed stays as it is.
pub(super) fn set_idle_timeout(core: &mut Core, seconds: u8) -> Result<(), ChangeError> {
    let text = seconds.to_string();
    if core.resolved.settings.idle_timeout.is_some() {
        return change(core, IDLE_TIMEOUT, &text);
    }
    let mut checked = Settings::default();
    crate::settings::set(&mut checked, IDLE_TIMEOUT, &text)?;
    core.idle_timeout_kept = checked.idle_timeout.unwrap_or(core.idle_timeout_kept);
    Ok(())
}

const IDLE_TIMEOUT: &str = "idle-timeout";

fn text_of(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

fn seconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_that_has_begun_counts() {
        for (ms, expected) in [(0, 0), (1, 1), (1000, 1), (1500, 2), (300_000, 300)] {
            assert_eq!(seconds(Duration::from_millis(ms)), expected);
        }
    }

    #[test]
    fn a_kept_timeout_is_read_back_as_it_was() {
        for ms in [100, 1500, 300_000] {
            let mut settings = Settings::default();
            let time = Duration::from_millis(ms);
            crate::settings::set(&mut settings, IDLE_TIMEOUT, &text_of(time)).unwrap();
            assert_eq!(settings.idle_timeout, Some(time));
        }
    }
}
