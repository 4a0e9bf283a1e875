//! Which of the values that several sources give holds, and what becomes of the others.
//!
//! Precedence: run time, command line, environment, file, default. Users are gathered from all of them
//! instead.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::SettingsError;
use super::files::{self, Reading};
use super::grammar::{Grammar, Rejected, quote};
use super::layers::{Given, Layer, Source};
use super::table::{self, ALIAS, BadValue, Binding, File, Row, rows};
use super::users::{self, Door, Place, Roster};
use super::{DnsMode, Role, Settings, UserSpec};

/// Where the value of each setting came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Source and place by the name of the setting; one that is missing stands at its default.
    told: BTreeMap<&'static str, (Source, String)>,
}

impl Sources {
    /// The source of the setting `name`.
    #[must_use]
    pub fn of(&self, name: &str) -> Source {
        self.told.get(name).map_or(Source::Default, |(source, _)| *source)
    }

    /// Notes where the setting of `row` came from and says where the value before it came from.
    fn note(&mut self, row: &'static Row, source: Source, place: &str) -> Option<String> {
        self.told.insert(row.name, (source, place.to_owned())).map(|(_, before)| before)
    }

    /// Makes `name` come from where it comes from in `other`.
    fn copy(&mut self, other: &Self, name: &'static str) {
        match other.told.get(name) {
            Some(told) => self.told.insert(name, told.clone()),
            None => self.told.remove(name),
        };
    }
}

/// A value that somebody gave and that does not hold. `Display` is one line, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {kept} of {kept_place} overrides {lost} of {lost_place}")]
pub struct Overridden {
    /// The setting.
    pub name: &'static str,
    /// The value that holds, quoted; of a user the name.
    pub kept: String,
    /// The option, variable, or file and key that it stands in.
    pub kept_place: String,
    /// The value that does not.
    pub lost: String,
    /// Where that one stands.
    pub lost_place: String,
}

/// The settings that hold, and how they came about.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The snapshot.
    pub settings: Settings,
    /// Where each value came from.
    pub sources: Sources,
    /// What was given and does not hold, to be said at start.
    pub overridden: Vec<Overridden>,
    /// What else should be said at start, one line each.
    pub warnings: Vec<String>,
    flags: Layer,
    environment: Layer,
    runtime: Layer,
    /// Values (no users) and sources without the changes at run time: where a reset leads back to.
    configured: (Settings, Sources),
}

/// Everything that was changed at run time, as it was at one moment.
#[derive(Clone, Debug)]
pub struct RuntimeChanges(Layer);

/// What reading the sources again came to.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// What holds from now on. Settings of `restart` keep the value that the daemon started with.
    pub resolved: Resolved,
    /// Names of the settings that changed and are taken up; `user` and `admin`: the users of that door.
    pub live: Vec<&'static str>,
    /// Names of the settings that the sources now give another value than the daemon started with.
    pub restart: Vec<&'static str>,
}

impl Resolved {
    /// Reads the files that `flags` and `environment` name, checks every value of every source and lets the
    /// strongest hold.
    pub fn from_layers(flags: Layer, environment: Layer) -> Result<Self, SettingsError> {
        Self::assemble(flags, environment, Layer::new(Source::Runtime), Reading::First)
    }

    /// Reads the same sources again; changes made at run time stay. An error leaves everything as it is.
    pub fn reload(&self) -> Result<Reloaded, SettingsError> {
        let (flags, environment) = (self.flags.clone(), self.environment.clone());
        let mut resolved = Self::assemble(flags, environment, self.runtime.clone(), Reading::Again)?;
        let (mut live, mut restart) = (Vec::new(), Vec::new());
        for row in rows() {
            let is_changed = match &row.binding {
                Binding::Value(field) => field.differs(&self.settings, &resolved.settings),
                Binding::User(door) => !users::same(&self.settings.users, &resolved.settings.users, *door),
                Binding::File(_) | Binding::Alias { .. } => false,
            };
            match (is_changed, row.live) {
                (true, true) => live.push(row.name),
                (true, false) => {
                    restart.push(row.name);
                    resolved.keep(row, self);
                }
                (false, true | false) => {}
            }
        }
        Ok(Reloaded { resolved, live, restart })
    }

    /// Changes one setting at run time, over every other source. Live settings only; lists with commas.
    pub fn change(&mut self, name: &str, text: &str) -> Result<(), BadValue> {
        let row = Self::live_row(name)?;
        table::set(&mut self.settings, row.name, text)?;
        self.runtime.given.retain(|given| given.row.name != row.name);
        self.runtime.push(row, RUNTIME_PLACE, OsString::from(text));
        self.sources.note(row, Source::Runtime, RUNTIME_PLACE);
        Ok(())
    }

    /// Takes a change at run time back: what the other sources say holds again.
    pub fn reset(&mut self, name: &str) -> Result<(), BadValue> {
        let row = Self::live_row(name)?;
        self.runtime.given.retain(|given| given.row.name != row.name);
        row.field()?.copy(&self.configured.0, &mut self.settings);
        self.sources.copy(&self.configured.1, row.name);
        Ok(())
    }

    /// What was changed at run time until now.
    #[must_use]
    pub fn runtime_changes(&self) -> RuntimeChanges {
        RuntimeChanges(self.runtime.clone())
    }

    /// Takes every change at run time back, and makes those of another moment.
    pub fn return_to(&mut self, changes: &RuntimeChanges) -> Result<(), BadValue> {
        let present: Vec<_> = self.runtime.given.iter().map(|given| given.row.name).collect();
        present.into_iter().try_for_each(|name| self.reset(name))?;
        let given = |given: &Given| self.change(given.row.name, &given.value.to_string_lossy());
        changes.0.given.iter().try_for_each(given)
    }

    fn live_row(name: &str) -> Result<&'static Row, BadValue> {
        let row = table::row(name).ok_or_else(|| table::unknown(name))?;
        row.field()?;
        if row.live { Ok(row) } else { Err(BadValue::StartOnly { name: row.name }) }
    }

    /// Lets the setting of `row` be what it is in `running`.
    fn keep(&mut self, row: &'static Row, running: &Self) {
        if let Ok(field) = row.field() {
            field.copy(&running.settings, &mut self.settings);
            field.copy(&running.configured.0, &mut self.configured.0);
        }
        self.sources.copy(&running.sources, row.name);
        self.configured.1.copy(&running.configured.1, row.name);
    }

    fn assemble(
        flags: Layer,
        environment: Layer,
        runtime: Layer,
        reading: Reading,
    ) -> Result<Self, SettingsError> {
        let mut work = Work::default();
        let file = match work.strongest(File::Config, &[&environment, &flags]) {
            Some(given) => files::config(Path::new(&given.value), &given.place, reading)?,
            None => Layer::new(Source::File),
        };
        let layers = [&file, &environment, &flags];
        work.apply_all(&layers)?;
        work.imply_doh();
        let configured = (work.settings.clone(), work.sources.clone());
        work.apply_runtime(&runtime)?;
        work.gather_users(&layers, reading)?;
        let warnings = layers.into_iter().flat_map(|layer| layer.warnings.clone()).collect();
        let Work { settings, sources, overridden } = work;
        Ok(Self { settings, sources, overridden, warnings, flags, environment, runtime, configured })
    }
}

/// The place of a change at run time.
const RUNTIME_PLACE: &str = "run time";

/// Settings that are being put together.
#[derive(Default)]
struct Work {
    settings: Settings,
    sources: Sources,
    overridden: Vec<Overridden>,
}

impl Work {
    /// Applies the values of `layers`, which stand from the weakest to the strongest.
    fn apply_all(&mut self, layers: &[&Layer]) -> Result<(), SettingsError> {
        let switches = self.settle_switches(layers)?;
        for layer in layers {
            refuse_contradictions(layer)?;
            for given in &layer.given {
                let is_on = switches.iter().any(|switch| std::ptr::eq(*switch, given));
                match given.row.binding {
                    Binding::Value(_) => self.apply(layer.source, given, given.row, &given.value)?,
                    Binding::Alias { of, text } if is_on => {
                        let row = table::row(of).unwrap_or(given.row);
                        self.apply(layer.source, given, row, OsStr::new(text))?;
                    }
                    Binding::Alias { .. } | Binding::User(_) | Binding::File(_) => {}
                }
            }
        }
        Ok(())
    }

    /// The switches that are on once the strongest source of each has spoken. Off takes a weaker on back and
    /// says nothing about the setting itself.
    fn settle_switches<'a>(&mut self, layers: &[&'a Layer]) -> Result<Vec<&'a Given>, SettingsError> {
        let mut switches = Vec::new();
        for row in rows().filter(|row| matches!(row.binding, Binding::Alias { .. })) {
            let mut holds: Option<&Given> = None;
            for given in layers.iter().flat_map(|layer| layer.about(row)) {
                read_switch(given)?;
                self.note_loss(holds.replace(given), given);
            }
            if let Some(given) = holds.filter(|given| ALIAS.read(&given.value) == Some(true)) {
                switches.push(given);
            }
        }
        Ok(switches)
    }

    /// Gives the setting of `row` the value `text`, which `given` says.
    fn apply(
        &mut self,
        source: Source,
        given: &Given,
        row: &'static Row,
        text: &OsStr,
    ) -> Result<(), SettingsError> {
        let Ok(field) = row.field() else { return Ok(()) };
        let lost = quote(OsStr::new(&field.show(&self.settings)));
        field.set(&mut self.settings, text).map_err(|rejected| value_error(&given.place, rejected))?;
        let kept = quote(OsStr::new(&field.show(&self.settings)));
        if let Some(lost_place) = self.sources.note(row, source, &given.place) {
            let kept_place = given.place.clone();
            self.overridden.push(Overridden { name: row.name, kept, kept_place, lost, lost_place });
        }
        Ok(())
    }

    /// Naming a relay means to ask it and nobody else, unless somebody says otherwise. At run time a relay is
    /// only replaced: an operator who corrects its address does not ask for the end of plain DNS.
    fn imply_doh(&mut self) {
        let relay = ["doh-ip", "doh-host", "doh-path"];
        let told = relay.into_iter().filter_map(|name| self.sources.told.get(name)).max_by_key(|told| told.0);
        if let Some(told) = told.cloned()
            && self.sources.of(DNS) == Source::Default
        {
            self.settings.dns = DnsMode::Doh;
            self.sources.told.insert(DNS, told);
        }
    }

    fn apply_runtime(&mut self, runtime: &Layer) -> Result<(), SettingsError> {
        runtime.given.iter().try_for_each(|given| self.apply(Source::Runtime, given, given.row, &given.value))
    }

    /// Gathers the users of all `layers`, which are those of configuration file, environment and command
    /// line, and of the users file, which ranks with the configuration file.
    fn gather_users(&mut self, layers: &[&Layer; 3], reading: Reading) -> Result<(), SettingsError> {
        let [file, environment, flags] = layers;
        let mut roster = Roster::default();
        self.add_users(&mut roster, file)?;
        if let Some(given) = self.strongest(File::Users, layers) {
            for (user, place) in files::users(Path::new(&given.value), &given.place, reading)? {
                self.add_user(&mut roster, user, Source::File, place)?;
            }
        }
        self.add_users(&mut roster, environment)?;
        self.add_users(&mut roster, flags)?;
        self.settings.users = roster.into_users();
        Ok(())
    }

    fn add_users(&mut self, roster: &mut Roster, layer: &Layer) -> Result<(), SettingsError> {
        for (row, door) in user_rows() {
            for given in layer.about(row) {
                let (name, password) = users::parse(given.value.as_bytes()).map_err(|what| {
                    value_error(&given.place, Rejected { what: what.to_owned(), allowed: row.range() })
                })?;
                let (proxy, admin) = (door == Door::Proxy, door == Door::Admin);
                let role = if admin { Role::Admin } else { Role::User };
                let place = Place { text: given.place.as_str().into(), line: None };
                let user = UserSpec { name, password, proxy, admin, role };
                self.add_user(roster, user, layer.source, place)?;
            }
        }
        Ok(())
    }

    fn add_user(
        &mut self,
        roster: &mut Roster,
        user: UserSpec,
        source: Source,
        place: Place,
    ) -> Result<(), SettingsError> {
        for (row, door) in user_rows() {
            if users::opens(&user, door) {
                self.sources.note(row, source, &place.text);
            }
        }
        let (name, user_name) =
            (if user.proxy { "user" } else { "admin" }, user.name.escape_ascii().to_string());
        if let Some(lost_place) = roster.add(user, place.clone())? {
            self.overridden.push(Overridden {
                name,
                kept: user_name.clone(),
                kept_place: place.to_string(),
                lost: user_name,
                lost_place: lost_place.to_string(),
            });
        }
        Ok(())
    }

    /// What the strongest of `layers` says about which file to read.
    fn strongest<'a>(&mut self, file: File, layers: &[&'a Layer]) -> Option<&'a Given> {
        let row = rows().find(|row| matches!(row.binding, Binding::File(other) if other == file))?;
        let mut holds = None;
        for given in layers.iter().flat_map(|layer| layer.about(row)) {
            self.note_loss(holds.replace(given), given);
        }
        holds
    }

    /// Notes that `kept` came after `lost`, if there was such a value.
    fn note_loss(&mut self, lost: Option<&Given>, kept: &Given) {
        self.overridden.extend(lost.map(|lost| Overridden {
            name: kept.row.name,
            kept: quote(&kept.value),
            kept_place: kept.place.clone(),
            lost: quote(&lost.value),
            lost_place: lost.place.clone(),
        }));
    }
}

const DNS: &str = "dns";

/// In a source without an order a switch and its setting may not disagree.
fn refuse_contradictions(layer: &Layer) -> Result<(), SettingsError> {
    if layer.source == Source::Flag {
        return Ok(());
    }
    for switch in layer.given.iter().filter(|given| ALIAS.read(&given.value) == Some(true)) {
        let Binding::Alias { of, text } = switch.row.binding else { continue };
        let differs = |given: &&Given| given.row.name == of && given.value != text;
        if let Some(other) = layer.given.iter().find(differs) {
            let (place, other) = (switch.place.clone(), other.place.clone());
            return Err(SettingsError::Contradiction { place, other });
        }
    }
    Ok(())
}

fn read_switch(given: &Given) -> Result<bool, SettingsError> {
    ALIAS.parse(&given.value).map_err(|rejected| value_error(&given.place, rejected))
}

fn value_error(place: &str, rejected: Rejected) -> SettingsError {
    SettingsError::Value { place: place.to_owned(), rejected }
}

fn user_rows() -> impl Iterator<Item = (&'static Row, Door)> {
    rows().filter_map(|row| match row.binding {
        Binding::User(door) => Some((row, door)),
        Binding::Value(_) | Binding::File(_) | Binding::Alias { .. } => None,
    })
}
