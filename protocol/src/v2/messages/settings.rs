//! Settings, each by its name; values are the text that the command line takes.

use super::part;
use crate::v2::body::message;
use crate::v2::values::wire_enum;
use crate::v2::{Sentence, Text, Word};

/// A value as the command line takes it.
pub type SettingValue = Text<1024>;

message! {
    /// Asks for settings.
    pub struct SettingListRequest "setting-list-request" {
        /// Credit of the channel, octets.
        0 credit: u32,
        /// Only names that start so.
        1 prefix: Option<Word>,
    }
}

message! {
    /// One setting.
    pub struct SettingRow "setting-row" {
        /// Its name.
        1 name: Word,
        /// Its value now.
        2 value: SettingValue,
        /// Its value when nobody sets it.
        3 default: SettingValue,
        /// What sort of value it is.
        4 kind: SettingKind,
        /// Unit of a bare number.
        5 unit: Option<Word>,
        /// What is allowed, for people.
        6 allowed: Sentence,
        /// The words it may be, where it is one of some words.
        7 words: Vec<Word>,
        /// Where its value comes from.
        8 source: SettingSource,
        /// When a change takes effect.
        9 effect: SettingEffect,
        /// What it is for.
        10 help: Sentence,
    }
}

part! {
    /// Part of the list of settings.
    pub struct SettingPart "setting-part" of SettingRow;
}

wire_enum! {
    /// What sort of value a setting has.
    pub enum SettingKind "setting-kind" {
        /// on or off.
        Switch = 0 "switch",
        /// A number.
        Number = 1 "number",
        /// Octets; k, m and g multiply by 1,024.
        Bytes = 2 "bytes",
        /// A span of time, with unit.
        Duration = 3 "duration",
        /// One of some words.
        Word = 4 "word",
        /// Free text.
        Text = 5 "text",
        /// An IP address, or several.
        Address = 6 "address",
    }
}

wire_enum! {
    /// Where a value comes from, later ones overriding earlier ones.
    pub enum SettingSource "setting-source" {
        /// Nobody set it.
        Default = 0 "default",
        /// The configuration file.
        File = 1 "file",
        /// The environment.
        Environment = 2 "environment",
        /// The command line.
        Flag = 3 "flag",
        /// A change at runtime.
        Runtime = 4 "runtime",
    }
}

wire_enum! {
    /// When a change takes effect.
    pub enum SettingEffect "setting-effect" {
        /// At the next start only.
        StartOnly = 0 "start-only",
        /// At once, for sessions that begin after it.
        NewSessions = 1 "new-sessions",
        /// At once, for running sessions too.
        AllSessions = 2 "all-sessions",
    }
}

message! {
    /// Asks for one setting.
    pub struct SettingGet "setting-get" {
        /// Its name.
        1 name: Word,
    }
}

message! {
    /// The answer to setting get.
    pub struct SettingReply "setting-reply" {
        /// The sequence of which this is true.
        0 as_of: u64,
        /// The setting.
        1 setting: SettingRow,
        /// The revision of which this is true.
        2 revision: u64,
    }
}

message! {
    /// Changes one setting.
    pub struct SettingSet "setting-set" {
        /// Its name.
        1 name: Word,
        /// Its new value.
        2 value: SettingValue,
        /// Only if this is still the revision; else conflict.
        3 base: Option<u64>,
    }
}

message! {
    /// Takes a runtime change of one setting back.
    pub struct SettingReset "setting-reset" {
        /// Its name.
        1 name: Word,
        /// Only if this is still the revision; else conflict.
        2 base: Option<u64>,
    }
}
