//! Candidates: several changes, checked as one and applied as one or not at all.

use super::{SettingValue, Verifier, part};
use crate::Name;
use crate::v2::body::message;
use crate::v2::values::{Doors, Role, wire_enum};
use crate::v2::{Sentence, Word};

wire_enum! {
    /// What a change does.
    pub enum ChangeKind "change-kind" {
        /// Sets setting to value.
        Set = 0 "set",
        /// Resets setting.
        Reset = 1 "reset",
        /// Adds user with verifier, role and doors.
        UserAdd = 2 "user-add",
        /// Removes user.
        UserRemove = 3 "user-remove",
        /// Gives user a new verifier.
        UserPassword = 4 "user-password",
        /// Gives user another role, and doors.
        UserRole = 5 "user-role",
    }
}

message! {
    /// One change. Which fields must be there follows from the kind; others must not.
    pub struct Change "change" {
        /// What it does.
        1 kind: ChangeKind,
        /// Which setting.
        2 setting: Option<Word>,
        /// Its value.
        3 value: Option<SettingValue>,
        /// Which user.
        4 user: Option<Name>,
        /// Its verifier.
        5 verifier: Option<Verifier>,
        /// Its role.
        6 role: Option<Role>,
        /// Its doors.
        7 doors: Option<Doors>,
    }
}

message! {
    /// A candidate, to be checked.
    pub struct Candidate "candidate" {
        /// The revision that the changes were made against.
        1 base: u64,
        /// The changes in their order, at least one.
        2 changes: Vec<Change>,
    }
}

message! {
    /// A candidate, to be compared with what is in force.
    pub struct DiffRequest "diff-request" {
        /// Credit of the channel, octets.
        0 credit: u32,
        /// The revision that the changes were made against.
        1 base: u64,
        /// The changes in their order, at least one.
        2 changes: Vec<Change>,
    }
}

message! {
    /// One line of a diff.
    pub struct DiffRow "diff-row" {
        /// What the change does.
        1 kind: ChangeKind,
        /// Which setting.
        2 setting: Option<Word>,
        /// Which user.
        3 user: Option<Name>,
        /// Value or role before; absent where there was none.
        4 before: Option<SettingValue>,
        /// Value or role after; absent where there will be none.
        5 after: Option<SettingValue>,
        /// Sessions that would end.
        6 sessions_count: Option<u32>,
    }
}

part! {
    /// Part of a diff.
    pub struct DiffPart "diff-part" of DiffRow;
}

message! {
    /// Something wrong with a candidate.
    pub struct Problem "problem" {
        /// Which change, from 0.
        1 change: u16,
        /// The status that the change alone would get.
        2 status: u8,
        /// What is allowed.
        3 sentence: Sentence,
    }
}

message! {
    /// The answer to config check: it may be committed if there are no problems.
    pub struct Checked "checked" {
        /// The sequence of which this is true.
        0 as_of: u64,
        /// The revision in force.
        1 revision: u64,
        /// The first problems, at most 8.
        2 problems: Vec<Problem>,
        /// How many there are.
        3 problems_count: u16,
    }
}

message! {
    /// A candidate, to be applied.
    pub struct Commit "commit" {
        /// The revision that the changes were made against.
        1 base: u64,
        /// The changes in their order, at least one.
        2 changes: Vec<Change>,
        /// Take it back after this time unless confirmed; until then it is in memory only.
        3 confirm_seconds: Option<u32>,
    }
}

message! {
    /// Makes the pending commit last.
    pub struct Confirm "confirm" {
        /// Its revision, to be sure which; any when absent.
        1 revision: Option<u64>,
    }
}

message! {
    /// Takes the pending commit back; or, with a revision, returns to the settings of that one.
    pub struct Rollback "rollback" {
        /// A revision that the server still has.
        1 revision: Option<u64>,
    }
}

message! {
    /// A commit that waits to be confirmed.
    pub struct PendingCommit "pending-commit" {
        /// Its revision.
        1 revision: u64,
        /// Who may confirm it.
        2 user: Name,
        /// Time until it is taken back.
        3 left_ms: u64,
    }
}

message! {
    /// The answer to config status.
    pub struct ConfigStatus "config-status" {
        /// The sequence of which this is true.
        0 as_of: u64,
        /// The revision in force.
        1 revision: u64,
        /// A commit that waits to be confirmed.
        2 pending: Option<PendingCommit>,
        /// Oldest revision that rollback can return to.
        3 revision_oldest: Option<u64>,
    }
}
