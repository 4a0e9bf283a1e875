//! Candidates: several changes of settings and users, looked at as one. What they would come to is worked out on
//! copies; nothing here changes anything, opens anything or reads a clock.

use pipo_protocol::Name;
use pipo_protocol::v2::messages::{Change, ChangeKind, DiffRow, Problem, SettingValue};
use pipo_protocol::v2::{Sentence, Status, Text, Word};

use super::answer::Refusal;
use super::dispatch::v2::{doors_from, role_from};
use super::users::password_of;
use crate::limits::CANDIDATE_SENTENCE_BYTES_MAX;
use crate::settings::{Resolved, Source, rows};
use crate::store::{Doors, NewUser, Role, Store, UserChange, UserDelta, UserName};

/// What a candidate comes to.
#[derive(Debug)]
pub(super) struct Plan {
    /// The settings after it.
    pub(super) resolved: Resolved,
    /// The changes of users, in their order.
    pub(super) users: Vec<UserChange>,
    /// What each of them would do.
    pub(super) deltas: Vec<UserDelta>,
    /// What is wrong, by the place of the change in the candidate.
    pub(super) problems: Vec<(usize, Refusal)>,
}

/// Works out what changes come to, each after those before it. One that cannot be made is a problem, and left out.
pub(super) fn plan(changes: &[Change], resolved: &Resolved, store: &Store) -> Plan {
    let mut resolved = resolved.clone();
    let (mut users, mut places, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for (place, change) in changes.iter().enumerate() {
        match read(change) {
            Ok(Read::Set(name, value)) => {
                problems.extend(resolved.change(name, value).err().map(|error| (place, error.into())));
            }
            Ok(Read::Reset(name)) => {
                problems.extend(resolved.reset(name).err().map(|error| (place, error.into())));
            }
            Ok(Read::User(change)) => {
                users.push(change);
                places.push(place);
            }
            Err(refusal) => problems.push((place, refusal)),
        }
    }
    let mut deltas = Vec::new();
    for (result, place) in store.rehearse(&users).into_iter().zip(places) {
        match result {
            Ok(delta) => deltas.push(delta),
            Err(error) => problems.push((place, error.into())),
        }
    }
    problems.sort_by_key(|(place, _)| *place);
    Plan { resolved, users, deltas: net(deltas), problems }
}

impl Plan {
    /// Why the candidate cannot be committed, if there is a reason.
    pub(super) fn refusal(&self) -> Result<(), Refusal> {
        match self.problems.first() {
            None => Ok(()),
            Some((place, refusal)) => {
                let sentence = format!("Change {place}: {}", refusal.body.sentence.as_str());
                Err(Refusal::saying(refusal.status, &sentence))
            }
        }
    }

    /// The first problems as they travel.
    pub(super) fn wire_problems(&self, count_max: usize) -> Vec<Problem> {
        let problem = |(place, refusal): &(usize, Refusal)| Problem {
            change: u16::try_from(*place).unwrap_or(u16::MAX),
            status: refusal.status.code(),
            sentence: Sentence::cut(
                Text::<CANDIDATE_SENTENCE_BYTES_MAX>::cut(refusal.body.sentence.as_str()).as_str(),
            ),
        };
        self.problems.iter().take(count_max).map(problem).collect()
    }

    /// What would be other than in `present`, settings first.
    pub(super) fn diff(&self, present: &Resolved) -> Vec<DiffRow> {
        let settings = rows().filter_map(|row| {
            let (before, after) = (row.show(&present.settings)?, row.show(&self.resolved.settings)?);
            let kind = match self.resolved.sources.of(row.name) {
                Source::Runtime => ChangeKind::Set,
                Source::Default | Source::File | Source::Environment | Source::Flag => ChangeKind::Reset,
            };
            (row.is_value() && before != after).then(|| DiffRow {
                kind,
                setting: Some(Word::cut(row.name)),
                user: None,
                before: Some(SettingValue::cut(&before)),
                after: Some(SettingValue::cut(&after)),
                sessions_count: None,
            })
        });
        settings.chain(self.deltas.iter().filter_map(user_row)).collect()
    }
}

/// How many sessions a change would end.
fn sessions_ended(delta: &UserDelta) -> u32 {
    match &delta.before {
        Some(user) if delta.ended().proxy => user.live().sessions(),
        Some(_) | None => 0,
    }
}

/// One for each user: several changes of one come to what was before the first and is after the last.
fn net(deltas: Vec<UserDelta>) -> Vec<UserDelta> {
    let mut net: Vec<UserDelta> = Vec::new();
    for delta in deltas {
        match net.iter_mut().find(|known| known.name == delta.name) {
            Some(known) => known.after = delta.after,
            None => net.push(delta),
        }
    }
    net
}

fn user_row(delta: &UserDelta) -> Option<DiffRow> {
    let text = |role: Role, doors: Doors| {
        let doors = match (doors.proxy, doors.admin) {
            (true, true) => "both",
            (false, true) => "admin",
            (true, false) => "proxy",
            (false, false) => "none",
        };
        Text::cut(&format!("{} {doors}", role.name()))
    };
    let (before, after) = (delta.before.as_ref(), delta.after.as_ref());
    let kind = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => ChangeKind::UserAdd,
        (Some(_), None) => ChangeKind::UserRemove,
        (Some(before), Some(after)) if (before.role(), before.doors()) == (after.role(), after.doors()) => {
            ChangeKind::UserPassword
        }
        (Some(_), Some(_)) => ChangeKind::UserRole,
    };
    Some(DiffRow {
        kind,
        setting: None,
        user: Name::new(delta.name.as_octets()).ok(),
        before: before.map(|user| text(user.role(), user.doors())),
        after: after.map(|user| text(user.role(), user.doors())),
        sessions_count: Some(sessions_ended(delta)),
    })
}

/// A change whose fields are what its kind wants.
enum Read<'a> {
    Set(&'a str, &'a str),
    Reset(&'a str),
    User(UserChange),
}

/// Reads a change: the fields of its kind must be there, no others may.
fn read(change: &Change) -> Result<Read<'_>, Refusal> {
    let Change { kind, setting, value, user, verifier, role, doors } = change;
    let name = user.as_ref().map(|user| UserName::new(user.as_bytes())).transpose()?;
    let password = verifier.as_ref().map(password_of).transpose()?;
    let role = role.map(|role| role_from(role, 6)).transpose()?;
    let doors = doors.map(|doors| doors_from(doors, 7)).transpose()?;
    let settings = (setting.as_ref().map(Word::as_str), value.as_ref().map(Text::as_str));
    Ok(match (*kind, settings, name, password, role, doors) {
        (ChangeKind::Set, (Some(name), Some(value)), None, None, None, None) => Read::Set(name, value),
        (ChangeKind::Reset, (Some(name), None), None, None, None, None) => Read::Reset(name),
        (ChangeKind::UserAdd, (None, None), Some(name), Some(password), Some(role), doors) => {
            let doors = doors.unwrap_or(Doors::usual(role));
            Read::User(UserChange::Add(NewUser { name, password, role, doors }))
        }
        (ChangeKind::UserRemove, (None, None), Some(name), None, None, None) => {
            Read::User(UserChange::Remove(name))
        }
        (ChangeKind::UserPassword, (None, None), Some(name), Some(password), None, None) => {
            Read::User(UserChange::Password(name, password))
        }
        (ChangeKind::UserRole, (None, None), Some(name), None, Some(role), doors) => {
            Read::User(UserChange::Rights(name, role, doors))
        }
        (kind, ..) => return Err(Refusal::saying(Status::Invalid, fields_of(kind))),
    })
}

fn fields_of(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Set => "A change of kind set has setting and value.",
        ChangeKind::Reset => "A change of kind reset has setting.",
        ChangeKind::UserAdd => "A change of kind user-add has user, verifier, role and perhaps doors.",
        ChangeKind::UserRemove => "A change of kind user-remove has user.",
        ChangeKind::UserPassword => "A change of kind user-password has user and verifier.",
        ChangeKind::UserRole => "A change of kind user-role has user, role and perhaps doors.",
        ChangeKind::Unassigned(_) => "Allowed kinds of changes are 0 to 5.",
    }
}

#[cfg(test)]
mod tests;
