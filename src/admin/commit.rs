//! Commits: candidates checked, applied as one or not at all, confirmed or taken back; and the order in which
//! everybody's changes are made, one after the other, although the store makes those of users elsewhere.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipo_protocol::Name;
use pipo_protocol::limits::CHANGES_COUNT_MAX;
use pipo_protocol::v1;
use pipo_protocol::v2::messages::{
    Candidate, Change, Changed, Checked, Commit, ConfigStatus, Confirm, DiffPart, DiffRequest, Notice,
    NoticeKind, PendingCommit, Rollback,
};
use pipo_protocol::v2::{Command, Reply, Request, Status, Text};

use super::answer::{Answer, Asker, Outcome, Refusal};
use super::candidate::{Plan, plan};
use super::core::{Core, Prepared};
use super::notes::{Note, PeerKey};
use super::revisions::{self, Conflict, NotPending, Pending, Revisions};
use super::rows;
use crate::limits::{CANDIDATE_PROBLEMS_MAX, CHANGES_WAITING_MAX, STORE_RETRY};
use crate::proxy::live::Whose;
use crate::settings::{Resolved, RuntimeChanges};
use crate::store::{ChangesError, UserDelta, UserError};
use crate::sys::socket::TcpOptions;

/// What takes the users of a commit back.
type Undo = Arc<[UserDelta]>;

/// Revisions, what waits to be confirmed, and what waits for its turn.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) revisions: Revisions<RuntimeChanges, Undo, Asker>,
    /// The store is at somebody's change of users: the others wait until it has answered.
    pub(super) underway: Option<Underway>,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
    /// SIGHUP came while nothing may be changed: the configuration is read once that is over.
    pub(super) reload_waits: bool,
}

/// What the store is at.
#[derive(Debug)]
pub(super) enum Underway {
    /// A change of one user that somebody asked for, or the users of a configuration that was read again.
    Users(Option<PeerKey>),
    /// The users of a commit; its settings follow.
    Commit(Box<Draft>),
    /// The users of a commit that is taken back.
    TakeBack(Box<TakeBack>),
}

/// A commit that was checked.
#[derive(Debug)]
pub(super) struct Draft {
    asker: Asker,
    prepared: Prepared,
    confirm_time: Option<Duration>,
    changes_count: usize,
}

/// A commit that is taken back.
#[derive(Debug)]
pub(super) struct TakeBack {
    pending: Pending<RuntimeChanges, Undo, Asker>,
    /// Who asked for it; `None`: its time was up.
    asker: Option<Asker>,
    /// When the store is asked again, after it had no time.
    retry_at: Option<Instant>,
}

/// A request that waits for its turn.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Of version 1, a modification.
    V1(Asker, v1::Request),
    /// Of version 2, a change or what comes after one.
    V2(Asker, Box<Request>),
}

impl Waiting {
    fn peer(&self) -> PeerKey {
        match self {
            Self::V1(asker, _) | Self::V2(asker, _) => asker.peer,
        }
    }
}

/// What a request does to settings and users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Changes them, and so has its place in the order.
    Change,
    /// Nothing.
    Nothing,
}

/// What a command does to settings and users.
pub(super) fn effect_of(command: Command) -> Effect {
    if is_change(command) { Effect::Change } else { Effect::Nothing }
}

/// Whether a command changes settings or users.
pub(super) fn is_change(command: Command) -> bool {
    const CHANGES: [Command; 9] = [
        Command::UserAdd,
        Command::UserRemove,
        Command::UserPassword,
        Command::UserRole,
        Command::SettingSet,
        Command::SettingReset,
        Command::ConfigCommit,
        Command::ConfigConfirm,
        Command::ConfigRollback,
    ];
    CHANGES.contains(&command)
}

impl Config {
    pub(super) fn new(resolved: &Resolved) -> Self {
        Self {
            revisions: Revisions::new(resolved.runtime_changes()),
            underway: None,
            waiting: VecDeque::new(),
            reload_waits: false,
        }
    }

    /// Whether a request of this association has to wait: a change for every other, anything else for those of the
    /// same association, because a later request sees what an earlier one did.
    pub(super) fn has_to_wait(&self, peer: PeerKey, effect: Effect) -> bool {
        if self.underway.is_none() {
            return false;
        }
        let is_own = self.is_asking(peer) || self.waiting.iter().any(|waiting| waiting.peer() == peer);
        effect == Effect::Change || is_own
    }

    /// Whether the store is at a change that this association asked for.
    pub(super) fn is_asking(&self, peer: PeerKey) -> bool {
        match &self.underway {
            None => false,
            Some(Underway::Users(asker)) => *asker == Some(peer),
            Some(Underway::Commit(draft)) => draft.asker.peer == peer,
            Some(Underway::TakeBack(back)) => back.asker.as_ref().is_some_and(|asker| asker.peer == peer),
        }
    }

    /// Has a request wait for its turn; `Err`: too many do.
    pub(super) fn wait(&mut self, waiting: Waiting) -> Result<(), Refusal> {
        if self.waiting.len() >= CHANGES_WAITING_MAX {
            return Err(Refusal::of(Status::Busy));
        }
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// The next request that may have its turn now.
    pub(super) fn next_waiting(&mut self) -> Option<Waiting> {
        if self.underway.is_some() { None } else { self.waiting.pop_front() }
    }

    /// Refuses changes while a commit waits, and those made against a revision that has passed.
    pub(super) fn check(&self, base: Option<u64>) -> Result<(), Refusal> {
        self.revisions.check(base).map_err(|conflict| match conflict {
            Conflict::Base(revision) => Refusal::conflict(revision),
            Conflict::Pending(revision) => {
                let mut refusal = Refusal::saying(Status::Conflict, &format!("{conflict}."));
                refusal.body.revision = Some(revision);
                refusal
            }
        })
    }

    /// When something is to be done although nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.underway {
            None => self.revisions.deadline(),
            Some(Underway::TakeBack(back)) => back.retry_at,
            Some(Underway::Users(_) | Underway::Commit(_)) => None,
        }
    }

    /// Whether the configuration is to be read again, and may be.
    pub(super) fn reload_is_due(&self) -> bool {
        self.reload_waits && self.underway.is_none() && self.revisions.pending().is_none()
    }

    /// What waits to be confirmed, as it travels.
    pub(super) fn pending(&self, now: Instant) -> Option<PendingCommit> {
        let pending = self.revisions.pending()?;
        let left = pending.until.saturating_duration_since(now);
        Some(PendingCommit {
            revision: pending.revision,
            user: Name::new(pending.who.user.name().as_octets()).ok()?,
            left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

// ---- asking ---------------------------------------------------------------------------------------------

/// The revision in force, and a commit that waits.
pub(super) fn status(core: &Core) -> Answer {
    let revisions = &core.config.revisions;
    Outcome::reply(Reply::ConfigStatus(ConfigStatus {
        as_of: core.events.sequence(),
        revision: revisions.number(),
        pending: core.config.pending(Instant::now()),
        revision_oldest: Some(revisions.oldest()),
    }))
}

/// What a candidate would change.
pub(super) fn diff(core: &Core, body: &DiffRequest) -> Answer {
    core.config.check(Some(body.base))?;
    let plan = checked(core, &body.changes)?;
    plan.refusal()?;
    Ok(Outcome::Open(rows::listing_of::<DiffPart>(core, plan.diff(&core.resolved))))
}

/// What is wrong with a candidate.
pub(super) fn check(core: &Core, body: &Candidate) -> Answer {
    core.config.check(Some(body.base))?;
    let plan = checked(core, &body.changes)?;
    Outcome::reply(Reply::ConfigCheck(Checked {
        as_of: core.events.sequence(),
        revision: core.revision(),
        problems: plan.wire_problems(CANDIDATE_PROBLEMS_MAX),
        problems_count: u16::try_from(plan.problems.len()).unwrap_or(u16::MAX),
    }))
}

/// A plan, with what only the system knows: whether TCP takes its options.
fn checked(core: &Core, changes: &[Change]) -> Result<Plan, Refusal> {
    if changes.is_empty() || changes.len() > CHANGES_COUNT_MAX {
        let sentence = format!("Allowed are 1 to {CHANGES_COUNT_MAX} changes.");
        return Err(Refusal::field(Status::Invalid, 2, &sentence));
    }
    let mut plan = plan(changes, &core.resolved, &core.store);
    if let Err(error) = TcpOptions::from_settings(&plan.resolved.settings).check() {
        plan.problems.push((0, Refusal::saying(Status::Invalid, &format!("{error}."))));
    }
    Ok(plan)
}

// ---- changing -------------------------------------------------------------------------------------------

/// Applies a candidate, all of it or nothing.
pub(super) fn commit(core: &mut Core, body: &Commit, asker: &Asker) -> Answer {
    let confirm_time = match body.confirm_seconds {
        None => None,
        Some(seconds) => Some(
            revisions::confirm_time(seconds)
                .ok_or_else(|| Refusal::field(Status::Invalid, 3, "Allowed are 1 to 86400 seconds."))?,
        ),
    };
    core.config.check(Some(body.base))?;
    let Plan { users, resolved, .. } = {
        let plan = checked(core, &body.changes)?;
        plan.refusal()?;
        plan
    };
    let prepared = core.prepare(resolved)?;
    let changes_count = body.changes.len();
    let draft = Draft { asker: asker.clone(), prepared, confirm_time, changes_count };
    if users.is_empty() {
        return apply(core, draft, Vec::new(), Instant::now());
    }
    let notes = core.notes.clone();
    core.store.change(users, move |result| notes.leave(Note::Committed(result)));
    core.config.underway = Some(Underway::Commit(Box::new(draft)));
    Ok(Outcome::Later)
}

/// The store has made the users of the commit that is underway, or not: the rest follows, or nothing does.
pub(super) fn committed(
    core: &mut Core,
    result: Result<Vec<UserDelta>, ChangesError>,
    now: Instant,
) -> Option<(Asker, Answer)> {
    let Some(Underway::Commit(draft)) = core.config.underway.take() else { return None };
    let asker = draft.asker.clone();
    Some((
        asker,
        result.map_err(|refused| refused.error.into()).and_then(|made| apply(core, *draft, made, now)),
    ))
}

fn apply(core: &mut Core, draft: Draft, made: Vec<UserDelta>, now: Instant) -> Answer {
    let Draft { asker, prepared, confirm_time, changes_count } = draft;
    let before = core.resolved.runtime_changes();
    core.take_up(prepared);
    let are_users_changed = !made.is_empty();
    let subject = format!("{changes_count} changes");
    match confirm_time {
        None => core.changed(&asker, Command::ConfigCommit, &subject),
        Some(time) => {
            let after = core.resolved.runtime_changes();
            let revision =
                core.config.revisions.commit_until(now + time, asker.clone(), made.into(), before, after);
            core.tell_change(&asker, Command::ConfigCommit, &subject, revision);
            let sentence =
                format!("{} has {} s to confirm revision {revision}.", asker.user.name(), time.as_secs());
            core.notices.push(Notice {
                left_ms: u32::try_from(time.as_millis()).ok(),
                ..notice(NoticeKind::ConfirmPending, &sentence, revision)
            });
        }
    }
    let body = changed(core);
    if are_users_changed {
        return answer_once_ended(core, asker, body, Reply::ConfigCommit);
    }
    Outcome::reply(Reply::ConfigCommit(body))
}

/// Lets the commit that waits last.
pub(super) fn confirm(core: &mut Core, body: &Confirm, asker: &Asker) -> Answer {
    let is_who = |who: &Asker| who.user.name() == asker.user.name();
    let revision = core.config.revisions.confirm(body.revision, is_who)?;
    core.tell_change(asker, Command::ConfigConfirm, &format!("revision {revision}"), revision);
    let sentence = format!("{} has confirmed revision {revision}.", asker.user.name());
    core.notices.push(notice(NoticeKind::Confirmed, &sentence, revision));
    Outcome::reply(Reply::ConfigConfirm(changed(core)))
}

/// Takes the commit that waits back, or returns to the settings of a revision.
pub(super) fn rollback(core: &mut Core, body: &Rollback, asker: &Asker) -> Answer {
    let Some(revision) = body.revision else {
        let pending = core.config.revisions.take_pending()?;
        return take_back(core, pending, Some(asker.clone()))
            .map_or(Ok(Outcome::Later), |(_, answer)| answer);
    };
    core.config.check(None)?;
    let oldest = core.config.revisions.oldest();
    let Some(settings) = core.config.revisions.settings_of(revision) else {
        let sentence = format!("Revisions from {oldest} to {} are there.", core.revision());
        return Err(Refusal::field(Status::NotFound, 1, &sentence));
    };
    let mut resolved = core.resolved.clone();
    resolved.return_to(settings)?;
    let prepared = core.prepare(resolved)?;
    core.take_up(prepared);
    core.changed(asker, Command::ConfigRollback, &format!("revision {revision}"));
    Outcome::reply(Reply::ConfigRollback(changed(core)))
}

/// Takes the commit back whose time is up, and asks the store again where it had no time.
pub(super) fn expire(core: &mut Core, now: Instant) {
    match core.config.underway.take_if(|underway| underway.is_to_retry(now)) {
        Some(Underway::TakeBack(back)) => ask_store(core, *back),
        Some(Underway::Users(_) | Underway::Commit(_)) | None => {}
    }
    if core.config.underway.is_none()
        && let Some(pending) = core.config.revisions.take_expired(now)
    {
        log::warn!("a commit was not confirmed in time: revision={}", pending.revision);
        // Nobody asked, so nobody is answered.
        drop(take_back(core, pending, None));
    }
}

/// Settings at once, users as soon as the store has done so. `None`: it is at it.
fn take_back(
    core: &mut Core,
    pending: Pending<RuntimeChanges, Undo, Asker>,
    asker: Option<Asker>,
) -> Option<(Option<Asker>, Answer)> {
    let mut resolved = core.resolved.clone();
    if let Err(error) = resolved.return_to(&pending.before) {
        log::error!("settings were not taken back: error=\"{error}\"");
    }
    core.take_up_again(resolved);
    let back = TakeBack { pending, asker, retry_at: None };
    if back.pending.undo.is_empty() {
        return Some(taken_back(core, back, &[]));
    }
    ask_store(core, back);
    None
}

fn ask_store(core: &mut Core, back: TakeBack) {
    let (notes, undo) = (core.notes.clone(), Arc::clone(&back.pending.undo));
    core.config.underway = Some(Underway::TakeBack(Box::new(TakeBack { retry_at: None, ..back })));
    core.store.restore(undo, move |result| notes.leave(Note::TakenBack(result)));
}

/// The store has taken the users back of the commit that is underway, or has no time.
pub(super) fn store_has_taken_back(
    core: &mut Core,
    result: Result<Vec<UserDelta>, UserError>,
    now: Instant,
) -> Option<(Option<Asker>, Answer)> {
    let Some(Underway::TakeBack(mut back)) = core.config.underway.take() else { return None };
    match result {
        Ok(deltas) => Some(taken_back(core, *back, &deltas)),
        Err(error) => {
            log::warn!("users are not taken back yet: error=\"{error}\"");
            back.retry_at = Some(now + STORE_RETRY);
            core.config.underway = Some(Underway::TakeBack(back));
            None
        }
    }
}

/// Everything is as it was before the commit, but for what had ended.
fn taken_back(core: &mut Core, back: TakeBack, deltas: &[UserDelta]) -> (Option<Asker>, Answer) {
    let TakeBack { pending, asker, .. } = back;
    let by = asker.as_ref().unwrap_or(&pending.who).clone();
    core.changed(&by, Command::ConfigRollback, &format!("revision {}", pending.revision));
    let sentence = format!("Revision {} was taken back.", pending.revision);
    core.notices.push(notice(NoticeKind::Reverted, &sentence, core.revision()));
    let body = changed(core);
    let answer = match &asker {
        _ if deltas.is_empty() => Outcome::reply(Reply::ConfigRollback(body)),
        Some(asker) => answer_once_ended(core, asker.clone(), body, Reply::ConfigRollback),
        None => {
            core.users_changed();
            Ok(Outcome::Later)
        }
    };
    (asker, answer)
}

/// Workers end the sessions that have to end; only then is somebody answered, with their number.
fn answer_once_ended(core: &mut Core, asker: Asker, body: Changed, reply: fn(Changed) -> Reply) -> Answer {
    core.end_former_sessions(Whose::Everyone, move |core, ended| {
        let answer = ended.map_err(Refusal::from).and_then(|gathered| {
            let sessions_closed_count = u32::try_from(gathered.count).unwrap_or(u32::MAX);
            Outcome::reply(reply(Changed { sessions_closed_count, ..body }))
        });
        core.notes.leave(Note::Answered(asker, answer));
    });
    Ok(Outcome::Later)
}

impl Underway {
    fn is_to_retry(&self, now: Instant) -> bool {
        match self {
            Self::TakeBack(back) => back.retry_at.is_some_and(|at| now >= at),
            Self::Users(_) | Self::Commit(_) => false,
        }
    }
}

fn changed(core: &Core) -> Changed {
    Changed { as_of: core.events.sequence(), revision: core.revision(), sessions_closed_count: 0 }
}

fn notice(kind: NoticeKind, sentence: &str, revision: u64) -> Notice {
    Notice { kind, sentence: Some(Text::cut(sentence)), left_ms: None, revision: Some(revision) }
}

impl From<NotPending> for Refusal {
    fn from(error: NotPending) -> Self {
        let status = match error {
            NotPending::Nothing => Status::NotFound,
            NotPending::Other(_) => Status::Conflict,
            NotPending::Somebody => Status::NotAllowed,
        };
        Self::saying(status, &format!("{error}."))
    }
}
