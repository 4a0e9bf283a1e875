//! The candidate: changes collected here, compared, checked and applied by the server as one.

use pipo_protocol::v2::messages::{
    Candidate as CheckRequest, Change, ChangeKind, Commit, ConfigStatus, Confirm, DiffRequest, Nothing,
    Rollback,
};
use pipo_protocol::v2::{Reply, Request, Role, Status, Word};

use super::changes::{doors, role, setting_value, user, verifier};
use super::queries::setting;
use super::{Failure, Runner};
use crate::exit::Exit;
use crate::grammar::{Action, Parsed, Values};
use crate::limits::CHANGES_COUNT_MAX;
use crate::link::{CREDIT_BYTES, Link};
use crate::output::{Field, Record, Rows, Value, name_text, safe};

/// Changes that are not applied yet, and the revision that they were made against.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidate {
    base: u64,
    changes: Vec<Change>,
}

impl Candidate {
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }
}

impl Runner {
    pub(super) async fn config_status(&mut self, link: &Link) -> Result<(), Failure> {
        let status = status(link).await?;
        Ok(self.printer.record(&status.fields()).await?)
    }

    /// Adds a change; the first one takes the revision in force as the base.
    pub(super) async fn config_add(&mut self, link: &Link, parsed: &Parsed) -> Result<(), Failure> {
        let change = self.change(link, parsed).await?;
        if self.candidate.changes.len() >= CHANGES_COUNT_MAX {
            return Err(Failure::usage(format!("the candidate has {CHANGES_COUNT_MAX} changes already")));
        }
        if self.candidate.changes.is_empty() {
            self.candidate.base = status(link).await?.revision;
        }
        self.candidate.changes.push(change);
        let count = self.candidate.changes.len();
        let fields = [Field::new("changes_count", count as u64), Field::new("base", self.candidate.base)];
        let sentence = format!("The candidate has {}; config commit applies it.", changes(count));
        Ok(self.printer.done(&sentence, &fields).await?)
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "only the actions that add a change are sent here")]
    async fn change(&mut self, link: &Link, parsed: &Parsed) -> Result<Change, Failure> {
        let values = &parsed.values;
        Ok(match parsed.row.action {
            Action::ConfigSet => {
                let value = setting_value(values.text("VALUE"))?;
                Change { setting: Some(setting(values)?), value: Some(value), ..blank(ChangeKind::Set) }
            }
            Action::ConfigReset => Change { setting: Some(setting(values)?), ..blank(ChangeKind::Reset) },
            Action::ConfigAddUser => {
                let user = user(values)?;
                let password = self.new_password_of(&user, values).await?;
                Change {
                    user: Some(user),
                    verifier: Some(verifier(link, &password)?),
                    role: Some(role(values.text("role")).unwrap_or(Role::User)),
                    doors: doors(values),
                    ..blank(ChangeKind::UserAdd)
                }
            }
            Action::ConfigRemoveUser => Change { user: Some(user(values)?), ..blank(ChangeKind::UserRemove) },
            Action::ConfigPassword => {
                let user = user(values)?;
                let password = self.new_password_of(&user, values).await?;
                let verifier = Some(verifier(link, &password)?);
                Change { user: Some(user), verifier, ..blank(ChangeKind::UserPassword) }
            }
            Action::ConfigRole => Change {
                user: Some(user(values)?),
                role: role(values.text("ROLE")),
                doors: doors(values),
                ..blank(ChangeKind::UserRole)
            },
            _ => return Err(Failure::OtherAnswer),
        })
    }

    pub(super) async fn config_show(&mut self) -> Result<(), Failure> {
        let rows =
            self.candidate.changes.iter().enumerate().map(|(place, change)| change_fields(place, change));
        let shown = rows.collect();
        let mut rows = Rows::default();
        self.printer.rows(&mut rows, shown).await?;
        Ok(self.printer.end(rows).await?)
    }

    pub(super) async fn config_discard(&mut self, values: &Values) -> Result<(), Failure> {
        match values.number::<usize>("CHANGE").map(|number| number - 1) {
            Some(place) if place < self.candidate.changes.len() => drop(self.candidate.changes.remove(place)),
            Some(place) => {
                let sentence = format!("the candidate has no change {}", place + 1);
                return Err(Failure::Refused { exit: Exit::NotFound, sentence });
            }
            None => self.candidate.changes.clear(),
        }
        let count = self.candidate.changes.len();
        let fields = [Field::new("changes_count", count as u64)];
        Ok(self.printer.done(&format!("The candidate has {}.", changes(count)), &fields).await?)
    }

    pub(super) async fn config_rebase(&mut self, link: &Link) -> Result<(), Failure> {
        self.candidate.base = status(link).await?.revision;
        let sentence = format!("The candidate stands on revision {}.", self.candidate.base);
        Ok(self.printer.done(&sentence, &[Field::new("base", self.candidate.base)]).await?)
    }

    /// The candidate, with the changes that stand behind the command.
    async fn whole(&self, link: &Link, values: &Values) -> Result<Candidate, Failure> {
        let mut whole = self.candidate.clone();
        if whole.changes.is_empty() {
            whole.base = status(link).await?.revision;
        }
        for assignment in values.texts("SETTING=VALUE") {
            let (name, value) = assignment.split_once('=').unwrap_or((assignment, ""));
            let setting = Word::new(name);
            let value = Some(setting_value(Some(value))?);
            whole.changes.push(Change { setting, value, ..blank(ChangeKind::Set) });
        }
        match whole.changes.len() {
            0 => Err(Failure::usage(
                "the candidate is empty: config set SETTING VALUE, or SETTING=VALUE behind this command",
            )),
            1..=CHANGES_COUNT_MAX => Ok(whole),
            count => Err(Failure::usage(format!("{count} changes, at most {CHANGES_COUNT_MAX} are allowed"))),
        }
    }

    pub(super) async fn config_diff(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let Candidate { base, changes } = self.whole(link, values).await?;
        let request = Request::ConfigDiff(DiffRequest { credit: CREDIT_BYTES, base, changes });
        let rows = |reply| if let Reply::ConfigDiff(part) = reply { Some(part.rows) } else { None };
        self.list(link, request, rows, Record::fields).await
    }

    /// Problems are shown, and make the command fail as the first of them would.
    pub(super) async fn config_check(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let Candidate { base, changes } = self.whole(link, values).await?;
        let request = Request::ConfigCheck(CheckRequest { base, changes });
        let Reply::ConfigCheck(checked) = link.request(request).await? else {
            return Err(Failure::OtherAnswer);
        };
        let problems = checked.problems.iter().map(|problem| {
            let sentence = safe(problem.sentence.as_str());
            format!("change {}: {sentence}", u64::from(problem.change) + 1)
        });
        let text = problems.collect::<Vec<_>>().join("\n");
        let text = if text.is_empty() { "Nothing is wrong with the candidate.".to_owned() } else { text };
        self.printer.done(&text, &checked.fields()).await?;
        match checked.problems.first() {
            None => Ok(()),
            Some(first) => {
                let exit = crate::link::refusal_exit(Status::from(first.status));
                let count = checked.problems_count;
                let sentence = match count {
                    1 => "the candidate has 1 problem".to_owned(),
                    count => format!("the candidate has {count} problems"),
                };
                Err(Failure::Refused { exit, sentence })
            }
        }
    }

    pub(super) async fn config_commit(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let Candidate { base, changes } = self.whole(link, values).await?;
        let confirm_seconds: Option<u32> = values.number("confirmed");
        let commit = Request::ConfigCommit(Commit { base, changes, confirm_seconds });
        let Reply::ConfigCommit(changed) = link.request(commit).await? else {
            return Err(Failure::OtherAnswer);
        };
        self.candidate = Candidate::default();
        let sentence = match confirm_seconds {
            Some(seconds) => format!("Committed; taken back in {seconds} s unless config confirm comes"),
            None => "Committed".to_owned(),
        };
        self.changed(&sentence, &changed).await
    }

    pub(super) async fn config_confirm(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let revision = values.number("REVISION");
        let Reply::ConfigConfirm(changed) =
            link.request(Request::ConfigConfirm(Confirm { revision })).await?
        else {
            return Err(Failure::OtherAnswer);
        };
        self.changed("Confirmed", &changed).await
    }

    pub(super) async fn config_rollback(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let revision = values.number("REVISION");
        let request = Request::ConfigRollback(Rollback { revision });
        let Reply::ConfigRollback(changed) = link.request(request).await? else {
            return Err(Failure::OtherAnswer);
        };
        self.changed("Rolled back", &changed).await
    }
}

async fn status(link: &Link) -> Result<ConfigStatus, Failure> {
    let reply = link.request(Request::ConfigStatus(Nothing {})).await?;
    if let Reply::ConfigStatus(status) = reply { Ok(status) } else { Err(Failure::OtherAnswer) }
}

fn blank(kind: ChangeKind) -> Change {
    Change { kind, setting: None, value: None, user: None, verifier: None, role: None, doors: None }
}

fn changes(count: usize) -> String {
    if count == 1 { "1 change".to_owned() } else { format!("{count} changes") }
}

/// A change as it is shown; verifiers are not.
fn change_fields(place: usize, change: &Change) -> Vec<Field> {
    let word = |word: Option<String>| word.map(Value::Word);
    vec![
        Field::new("change", place as u64 + 1),
        Field::new("kind", Value::Word(change.kind.to_string())),
        Field::new("setting", change.setting.as_ref()),
        Field::new("value", change.value.as_ref()),
        Field::new("user", word(change.user.as_ref().map(|user| name_text(user.as_bytes())))),
        Field::new("role", word(change.role.map(|role| role.to_string()))),
        Field::new("doors", word(change.doors.map(|doors| doors.to_string()))),
    ]
}
