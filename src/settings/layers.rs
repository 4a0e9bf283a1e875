//! What one source says: the command line, the environment, a file, or people at run time.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::error::SettingsError;
use super::files;
use super::grammar::{Shape, escape};
use super::table::{self, Binding, Row, VARIABLE_PREFIX, rows};

/// Where a value came from; the later ones override the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// The configuration file or the users file.
    File,
    /// A `SOCKS5D_…` variable.
    Environment,
    /// The command line.
    Flag,
    /// A change while the daemon runs.
    Runtime,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
            Self::Runtime => "runtime",
        })
    }
}

/// One value as it was written.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) row: &'static Row,
    /// `--workers`, `SOCKS5D_WORKERS`, `/etc/socks5d.toml: workers`.
    pub(super) place: String,
    pub(super) value: OsString,
}

/// `Debug` never shows a password.
impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.row.is_secret() { OsStr::new("***") } else { &self.value };
        f.debug_struct("Given").field("place", &self.place).field("value", &value).finish()
    }
}

/// Everything that one source says, not yet checked.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(super) source: Source,
    /// On the command line in the order in which it was written, else in the order of the table.
    pub(super) given: Vec<Given>,
    /// What people should hear about the source itself.
    pub(super) warnings: Vec<String>,
}

impl Layer {
    /// A source that says nothing yet.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self { source, given: Vec::new(), warnings: Vec::new() }
    }

    /// Takes the variables that begin with `SOCKS5D_`. An empty one says nothing. Users stand one on a line,
    /// because a password may hold a comma. A variable that no setting has is a warning, not an error: others
    /// name variables after a service as well.
    pub fn from_variables(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let ours = variables.filter(|(name, _)| name.as_bytes().starts_with(VARIABLE_PREFIX.as_bytes()));
        let mut ours: BTreeMap<OsString, OsString> = ours.collect();
        let mut layer = Self::new(Source::Environment);
        for row in rows() {
            let name = row.variable();
            let value = ours.remove(OsStr::new(&name)).unwrap_or_default();
            let lines: Vec<&[u8]> = match row.binding {
                Binding::User(_) => value.as_bytes().split(|octet| *octet == b'\n').collect(),
                Binding::Value(_) | Binding::File(_) | Binding::Alias { .. } => vec![value.as_bytes()],
            };
            for line in lines.into_iter().filter(|line| !line.is_empty()) {
                layer.push(row, &name, OsStr::from_bytes(line).to_owned());
            }
        }
        layer.warnings = ours.into_keys().map(|name| unknown_variable(&name)).collect();
        layer
    }

    /// What a configuration file of these `octets` says, not yet checked; `file` names it in errors.
    pub fn from_config(file: &str, octets: &[u8]) -> Result<Self, SettingsError> {
        files::config_layer(file, octets)
    }

    /// Adds what `place` says about `row`. Lists that are given in parts become one.
    pub(crate) fn push(&mut self, row: &'static Row, place: &str, value: OsString) {
        if row.is_value()
            && row.shape() == Shape::List
            && let Some(given) = self.given.iter_mut().find(|given| given.row.name == row.name)
        {
            given.value.push(",");
            given.value.push(value);
            return;
        }
        self.given.push(Given { row, place: place.to_owned(), value });
    }

    /// What was said about `row`, in order.
    pub(super) fn about(&self, row: &Row) -> impl DoubleEndedIterator<Item = &Given> {
        self.given.iter().filter(move |given| given.row.name == row.name)
    }
}

fn unknown_variable(variable: &OsStr) -> String {
    let name = variable.to_string_lossy().replace(VARIABLE_PREFIX, "").replace('_', "-").to_ascii_lowercase();
    let nearest = table::nearest(&name).and_then(table::row).map(Row::variable);
    let hint = nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"));
    format!("{}: no such setting{hint}", escape(variable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(variables: &[(&str, &str)]) -> Layer {
        Layer::from_variables(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn variables_are_the_names_of_settings_in_capitals() {
        let layer = layer(&[
            ("SOCKS5D_BUFFER_SIZE", "1M"),
            ("SOCKS5D_WORKERS", ""),
            ("PATH", "/bin"),
            ("SOCKS5D_USER", "a:b,c\n\nd:e"),
            ("SOCKS5D_SOCKS_ADDR", "::1,127.0.0.1"),
        ]);
        let given: Vec<(&str, &str)> =
            layer.given.iter().map(|given| (given.place.as_str(), given.value.to_str().unwrap())).collect();
        let expected = [
            ("SOCKS5D_SOCKS_ADDR", "::1,127.0.0.1"),
            ("SOCKS5D_USER", "a:b,c"),
            ("SOCKS5D_USER", "d:e"),
            ("SOCKS5D_BUFFER_SIZE", "1M"),
        ];
        assert_eq!(given, expected);
        assert_eq!(layer.warnings, Vec::<String>::new());
    }

    #[test]
    fn a_variable_that_is_no_setting_is_a_warning() {
        let layer = layer(&[("SOCKS5D_BUFER_SIZE", "1M"), ("SOCKS5D_SERVICE_HOST", "10.0.0.1")]);
        let expected = [
            "SOCKS5D_BUFER_SIZE: no such setting; did you mean SOCKS5D_BUFFER_SIZE?",
            "SOCKS5D_SERVICE_HOST: no such setting",
        ];
        assert_eq!(layer.warnings, expected);
        assert!(layer.given.is_empty());
    }

    #[test]
    fn debug_shows_no_password() {
        let text =
            format!("{:?}", layer(&[("SOCKS5D_USER", "alice:hunter2"), ("SOCKS5D_ADMIN", "bob:hunter2")]));
        assert!(text.contains("SOCKS5D_USER") && !text.contains("hunter2"), "{text}");
    }
}
