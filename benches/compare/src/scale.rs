//! Many sessions at once: all opened, half of them active for a while, every one asked at the end.

use crate::load::{self, idle::Lost};
use crate::measure::Subject;
use crate::report::say;
use crate::target::Target;
use std::io;
use std::time::{Duration, Instant};

/// How many, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) count: usize,
    /// All of them do nothing.
    pub(crate) idle: Duration,
    /// Every second one is busy.
    pub(crate) active: Duration,
}

/// Prints what it saw; `Ok(false)`: sessions were lost.
pub(crate) fn run(target: &Target, subject: Subject, plan: Plan) -> io::Result<bool> {
    let Plan { count, idle, active } = plan;
    let begun = Instant::now();
    let (cost, mut sessions) = load::idle::cost(target, subject, count, idle)?;
    say(&format!("opened {count} sessions and looked at them in {:.1} s", begun.elapsed().as_secs_f64()))?;
    say(&format!("opened {:.0} sessions a second", cost.opened_per_second))?;
    say(&format!("memory per session: {:.2} KiB", cost.memory_kib))?;
    say(&format!("descriptors per session: {:.2}", cost.descriptors))?;
    say(&format!("CPU while all are idle: {:.2} ms a second", cost.cpu_ms_per_second))?;
    let until = Instant::now() + active;
    let (mut passes, mut lost) = (0, Vec::new());
    while Instant::now() < until && lost.is_empty() {
        lost.extend(sessions.exchange(2));
        passes += 1;
    }
    say(&format!(
        "half of them active for {} s: {passes} exchanges each, {}",
        active.as_secs(),
        described(&lost)
    ))?;
    let lost_at_end = sessions.exchange(1);
    say(&format!("all of them asked at the end: {}", described(&lost_at_end)))?;
    say(&format!("memory of the server: {} KiB", subject.memory_kib()?))?;
    Ok(lost.is_empty() && lost_at_end.is_empty())
}

/// How many were lost, and what the first of them said.
fn described(lost: &[Lost]) -> String {
    match lost.first() {
        None => "0 lost".to_owned(),
        Some(Lost { session, because }) => {
            format!("{} lost, the first of them session {session}: {because}", lost.len())
        }
    }
}
