//! The timing wheel of a worker with ten thousand sessions.

use std::hint::black_box;
use std::time::{Duration, Instant};

use socks5d::proxy::timers::Wheel;

use crate::{Work, repeated};

const SESSIONS_COUNT: u64 = 10_000;
/// Time between two operations: as many deadlines as sessions are in the wheel at any time.
const PAUSE: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(10);

/// The whole life of a deadline: set, moved down through the levels, expired. At any time ten thousand others
/// are on their way, as each comes ten seconds after it was set and one is set each millisecond.
pub(crate) fn insert_and_expire() -> Work {
    let mut now = Instant::now();
    let mut wheel = Wheel::new(now);
    let mut expired = Vec::new();
    let (mut key, mut expired_count) = (0, 0);
    let mut once = move || {
        now += PAUSE;
        key += 1;
        let tick = wheel.tick_of(now + TIMEOUT);
        wheel.insert(tick, black_box(key));
        wheel.expire(now, &mut expired);
        expired_count += expired.len();
        black_box(&expired);
        expired.clear();
        expired_count
    };
    // Twice the timeout: the first half fills the wheel, in the second as many expire as are inserted.
    let count = (1..2 * SESSIONS_COUNT).map(|_| once()).last().unwrap_or(0);
    assert!((9_900..=10_000).contains(&count), "{count} of the first ten thousand have expired");
    repeated(once)
}

/// What a turn of the worker's loop costs when no deadline has come: expire, and ask for the next moment.
pub(crate) fn turn_with_nothing_due() -> Work {
    let now = Instant::now();
    let mut wheel = Wheel::new(now);
    for key in 0..SESSIONS_COUNT {
        let tick = wheel.tick_of(now + TIMEOUT + PAUSE * u32::try_from(key).unwrap_or(0));
        wheel.insert(tick, key);
    }
    let mut expired = Vec::new();
    let mut once = move || {
        wheel.expire(black_box(now), &mut expired);
        (wheel.next(), expired.len())
    };
    let (next, count) = once();
    assert!(next.is_some() && count == 0, "all are ahead");
    repeated(once)
}
