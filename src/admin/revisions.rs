//! Revisions of settings and users, and the commit that waits to be confirmed, as a value: the time and what was
//! changed come in, what is to be taken back comes out. It changes nothing itself and reads no clock.
//!
//! `S` is what a revision is kept as, to return to it; `U` is what takes the changes of users back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::{CONFIRM_SECONDS_MAX, REVISIONS_KEPT_MAX};

/// Which revision is in force, which others can be returned to, and what waits.
#[derive(Debug)]
pub(super) struct Revisions<S, U, W> {
    number: u64,
    /// The latest revisions, the one in force among them, from the oldest to the newest.
    kept: VecDeque<(u64, S)>,
    pending: Option<Pending<S, U, W>>,
}

/// A commit that waits to be confirmed.
#[derive(Clone, Debug)]
pub(super) struct Pending<S, U, W> {
    /// Its revision.
    pub(super) revision: u64,
    /// Who may confirm it.
    pub(super) who: W,
    /// When it is taken back.
    pub(super) until: Instant,
    /// The settings of before.
    pub(super) before: S,
    /// What takes its changes of users back.
    pub(super) undo: U,
}

/// Why nothing may be changed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Conflict {
    /// The base revision has passed.
    #[error("the revision in force is {0}")]
    Base(u64),
    /// Another commit waits.
    #[error("revision {0} waits to be confirmed")]
    Pending(u64),
}

/// Why a commit was not confirmed or taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotPending {
    /// There is none.
    #[error("no commit waits to be confirmed")]
    Nothing,
    /// The one that waits has another revision.
    #[error("revision {0} waits to be confirmed, no other")]
    Other(u64),
    /// Somebody else made it.
    #[error("only who made a commit may confirm it")]
    Somebody,
}

/// How long a commit may wait: 1 to [`CONFIRM_SECONDS_MAX`]. `None`: not allowed.
pub(super) fn confirm_time(seconds: u32) -> Option<Duration> {
    (1..=CONFIRM_SECONDS_MAX).contains(&seconds).then(|| Duration::from_secs(u64::from(seconds)))
}

impl<S, U, W> Revisions<S, U, W> {
    /// The revision that the daemon starts with.
    pub(super) fn new(settings: S) -> Self {
        Self { number: 1, kept: VecDeque::from([(1, settings)]), pending: None }
    }

    /// The one in force.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The oldest that can be returned to.
    pub(super) fn oldest(&self) -> u64 {
        self.kept.front().map_or(self.number, |(number, _)| *number)
    }

    /// What waits to be confirmed.
    pub(super) fn pending(&self) -> Option<&Pending<S, U, W>> {
        self.pending.as_ref()
    }

    /// When [`Revisions::take_expired`] is to be asked.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.until)
    }

    /// Whether somebody may change something who has seen revision `base`, or does not say.
    pub(super) fn check(&self, base: Option<u64>) -> Result<(), Conflict> {
        match (&self.pending, base) {
            (Some(pending), _) => Err(Conflict::Pending(pending.revision)),
            (None, Some(base)) if base != self.number => Err(Conflict::Base(self.number)),
            (None, Some(_) | None) => Ok(()),
        }
    }

    /// Something was changed, and the settings are these now. Gives the new revision.
    pub(super) fn advance(&mut self, settings: S) -> u64 {
        self.number += 1;
        self.kept.push_back((self.number, settings));
        while self.kept.len() > REVISIONS_KEPT_MAX {
            self.kept.pop_front();
        }
        self.number
    }

    /// A commit was made that holds until then unless it is confirmed. `undo` takes its users back.
    pub(super) fn commit_until(&mut self, until: Instant, who: W, undo: U, before: S, settings: S) -> u64 {
        debug_assert!(self.pending.is_none(), "one commit waits at a time");
        let revision = self.advance(settings);
        self.pending = Some(Pending { revision, who, until, before, undo });
        revision
    }

    /// Lets the commit that waits last, if who made it may confirm it. Gives its revision.
    pub(super) fn confirm(
        &mut self,
        revision: Option<u64>,
        may_confirm: impl FnOnce(&W) -> bool,
    ) -> Result<u64, NotPending> {
        let pending = self.pending.as_ref().ok_or(NotPending::Nothing)?;
        if revision.is_some_and(|wanted| wanted != pending.revision) {
            return Err(NotPending::Other(pending.revision));
        }
        if !may_confirm(&pending.who) {
            return Err(NotPending::Somebody);
        }
        let confirmed = pending.revision;
        self.pending = None;
        Ok(confirmed)
    }

    /// Gives the commit whose time is up, to be taken back as by [`Revisions::take_pending`].
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Pending<S, U, W>> {
        self.pending.take_if(|pending| now >= pending.until)
    }

    /// Gives the commit that waits, to be taken back: whoever takes it does that, and [advances](Self::advance).
    pub(super) fn take_pending(&mut self) -> Result<Pending<S, U, W>, NotPending> {
        self.pending.take().ok_or(NotPending::Nothing)
    }

    /// The settings of a revision, if it is still kept.
    pub(super) fn settings_of(&self, revision: u64) -> Option<&S> {
        self.kept.iter().find(|(number, _)| *number == revision).map(|(_, settings)| settings)
    }
}
