//! Deadlines. The one place where a test waits: it looks at a condition again and again, up to a limit.

use std::time::{Duration, Instant};

/// How long anything may take that should happen at once, on a machine that is busy with other tests.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; panics with `what` when it does not within [`LIMIT`].
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(LIMIT, what, condition);
}

/// Waits until `condition` holds; panics with `what` when it does not within `limit`.
pub(crate) fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let found = look_until(Instant::now() + limit, || condition().then_some(()));
    assert!(found.is_some(), "not within {limit:?}: {what}");
}

/// Looks until there is something or the time is up.
pub(crate) fn look_until<T>(deadline: Instant, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        pause(PAUSE);
    }
}

/// Lets time pass, for what is itself about time: a stalled reader, a slow peer, a measured interval.
#[expect(clippy::disallowed_methods, reason = "tests may wait, and they all do it here")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
