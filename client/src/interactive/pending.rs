//! A commit that waits to be confirmed: how long there is, and when to remind of it.

use std::time::Duration;

use pipo_protocol::v2::messages::{Notice, NoticeKind};
use tokio::time::Instant;

/// Time left at which a reminder is due, latest last.
const REMINDERS: [Duration; 4] =
    [Duration::from_secs(60), Duration::from_secs(30), Duration::from_secs(10), Duration::from_secs(5)];

/// What the notices said.
#[derive(Debug, Default)]
pub(super) struct Pending {
    until: Option<Instant>,
    /// Reminders that are due at these times, latest first.
    reminders: Vec<Instant>,
}

impl Pending {
    /// Takes a notice in.
    pub(super) fn note(&mut self, notice: &Notice, now: Instant) {
        if let (NoticeKind::ConfirmPending, Some(left)) = (notice.kind, notice.left_ms) {
            let until = now + Duration::from_millis(left.into());
            self.until = Some(until);
            let times = REMINDERS.iter().rev().filter_map(|left| until.checked_sub(*left));
            self.reminders = times.filter(|time| *time > now).collect();
        } else if matches!(notice.kind, NoticeKind::Confirmed | NoticeKind::Reverted) {
            *self = Self::default();
        }
    }

    /// How long there is; `None`: nothing waits.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// When to remind next.
    pub(super) fn next_reminder(&self) -> Option<Instant> {
        self.reminders.last().copied()
    }

    /// The reminder that is due.
    pub(super) fn remind(&mut self, now: Instant) -> Option<String> {
        while self.reminders.last().is_some_and(|due| *due <= now) {
            self.reminders.pop();
        }
        let left = self.left(now)?;
        // A reminder that comes a little late still names its round number.
        let seconds = left.as_millis().div_ceil(1000);
        Some(format!("the commit is taken back in {seconds} s; config confirm keeps it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(kind: NoticeKind, left_ms: Option<u32>) -> Notice {
        Notice { kind, sentence: None, left_ms, revision: None }
    }

    #[test]
    fn reminders_come_as_the_time_runs_out_and_stop_when_it_is_over() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pending = Pending::default();
        assert_eq!(pending.next_reminder(), None);
        pending.note(&notice(NoticeKind::ConfirmPending, Some(31_000)), start);
        let mut told = Vec::new();
        while let Some(due) = pending.next_reminder() {
            told.push(((due - start).as_secs(), pending.remind(due).unwrap()));
        }
        let seconds: Vec<_> = told.iter().map(|(at, _)| *at).collect();
        assert_eq!(seconds, [1, 21, 26]);
        assert!(told[1].1.contains("in 10 s"), "{}", told[1].1);
        assert_eq!(pending.left(at(30)), Some(Duration::from_secs(1)));
        assert_eq!(pending.left(at(31)), None);
    }

    #[test]
    fn a_confirmed_commit_waits_no_longer() {
        let start = Instant::now();
        for kind in [NoticeKind::Confirmed, NoticeKind::Reverted] {
            let mut pending = Pending::default();
            pending.note(&notice(NoticeKind::ConfirmPending, Some(100_000)), start);
            pending.note(&notice(NoticeKind::Draining, None), start);
            assert!(pending.left(start).is_some());
            pending.note(&notice(kind, None), start);
            assert_eq!((pending.left(start), pending.next_reminder()), (None, None));
        }
    }
}
