//! The configuration file: named servers. Passwords do not stand in it, only the names of files that hold them.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::limits::CONFIG_BYTES_MAX;

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// Which of the servers is meant when none is named.
    pub default: Option<String>,
    /// The servers by their names.
    #[serde(default)]
    pub servers: BTreeMap<String, Profile>,
}

/// A named server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// `HOST[:PORT]`.
    pub server: Option<String>,
    /// UDP port of SCTP over UDP.
    pub udp_port: Option<u16>,
    /// `auto`, `kernel`, `udp`.
    pub transport: Option<String>,
    /// 1 or 2.
    pub protocol: Option<u8>,
    /// Who logs in.
    pub user: Option<String>,
    /// A file whose first line is the password.
    pub password_file: Option<String>,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It cannot be read.
    #[error("{0}: {1}")]
    Read(String, std::io::Error),
    /// It is too large.
    #[error("{0}: more than {CONFIG_BYTES_MAX} octets")]
    TooLong(String),
    /// It is not as it must be.
    #[error("{0}: {1}")]
    Content(String, String),
}

/// Where the file is: `$XDG_CONFIG_HOME/pipoctl/config.toml`, else below `~/.config`.
#[must_use]
pub fn path(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("pipoctl").join("config.toml"))
}

/// Reads the file; one that is not there has no servers.
///
/// Errors: it cannot be read, is too large, is no TOML, or has a key that is not one of these.
pub fn read(path: &Path) -> Result<Profiles, ProfileError> {
    let name = path.display().to_string();
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Profiles::default()),
        Err(error) => return Err(ProfileError::Read(name, error)),
    };
    let mut text = String::new();
    let taken = file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text);
    match taken {
        Err(error) => Err(ProfileError::Read(name, error)),
        Ok(count) if count as u64 > CONFIG_BYTES_MAX => Err(ProfileError::TooLong(name)),
        Ok(_) => parse(&text).map_err(|error| ProfileError::Content(name, error)),
    }
}

fn parse(text: &str) -> Result<Profiles, String> {
    let profiles: Profiles = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| before.matches('\n').count() + 1);
        let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        format!("{line}{}", error.message().lines().collect::<Vec<_>>().join(" "))
    })?;
    match &profiles.default {
        Some(default) if !profiles.servers.contains_key(default) => {
            Err(format!("default: there is no server \"{}\"", crate::output::safe(default)))
        }
        Some(_) | None => Ok(profiles),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_names() {
        let text = "default = 'home'\n[servers.home]\nserver = '[::1]:8081'\nudp-port = 9900\nprotocol = 2\n\
                    transport = 'udp'\nuser = 'ada'\npassword-file = '~/secret'\n[servers.other]\n";
        let profiles = parse(text).unwrap();
        let home = &profiles.servers["home"];
        assert_eq!((home.server.as_deref(), home.udp_port), (Some("[::1]:8081"), Some(9900)));
        assert_eq!(profiles.servers["other"], Profile::default());
        assert_eq!(parse("").unwrap(), Profiles::default());
    }

    #[test]
    fn passwords_and_unknown_keys_are_refused() {
        for text in [
            "[servers.home]\npassword = 'x'\n",
            "[server.home]\n",
            "default = 'home'\n",
            "[servers.home]\nudp-port = 70000\n",
            "[servers",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("[servers.home]\npassword = 'x'\n").unwrap_err().starts_with("line 2: unknown field"));
    }

    #[test]
    fn the_file_is_where_others_have_theirs() {
        let path_with = |pairs: &'static [(&str, &str)]| {
            path(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        let expected = |path: &str| Some(PathBuf::from(path));
        assert_eq!(path_with(&[("HOME", "/h")]), expected("/h/.config/pipoctl/config.toml"));
        let both = &[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")];
        assert_eq!(path_with(both), expected("/x/pipoctl/config.toml"));
        let relative = &[("HOME", "/h"), ("XDG_CONFIG_HOME", "x")];
        assert_eq!(path_with(relative), expected("/h/.config/pipoctl/config.toml"));
        assert_eq!(path_with(&[]), None);
    }
}
