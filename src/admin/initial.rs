//! The first administrator. Where nobody could log in to the admin channel, a user with a random password is
//! made, so that a daemon that was just installed can be managed.

use std::env;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use crate::limits;
use crate::logging::Diagnostics;
use crate::settings::Settings;
use crate::store::{Doors, NewPassword, NewUser, Role, Secret, Store, UserError, UserName};

/// The user's name.
const NAME: &str = "admin";

/// The file that holds the password, in the state folder: one line, nothing else.
const FILE: &str = "initial-admin";

/// Letters and digits that are not taken for one another: five bits each.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A hundred bits.
const PASSWORD_BYTES: usize = 20;

/// Makes the first administrator unless there is one. Fails only in the log: the proxy serves without it.
pub(super) fn ensure_admin(store: &Store, settings: &Settings, diagnostics: &Diagnostics) {
    if store.directory().admins() > 0 {
        return;
    }
    if store.directory().find(NAME.as_bytes()).is_some() {
        log::warn!("nobody can use the admin channel: {NAME} is a user of the proxy only; add one with -a");
        return;
    }
    match make_admin(store, settings) {
        Ok(Told::Shown(password)) => {
            diagnostics.say(&format!("socks5d: administrator {NAME}, password {password} (not shown again)"));
        }
        Ok(Told::Kept(path)) => {
            log::info!("no administrator was configured: user {NAME}, password in {}", path.display());
        }
        Err(error) => log::warn!("nobody can use the admin channel, add somebody with -a: {error}"),
    }
}

/// How the operator learns the password.
enum Told {
    /// On the terminal, now.
    Shown(String),
    /// In a file.
    Kept(PathBuf),
}

fn make_admin(store: &Store, settings: &Settings) -> io::Result<Told> {
    let folder = state_folder(settings, |name| env::var_os(name).map(PathBuf::from));
    let kept = folder.as_deref().map(|folder| folder.join(FILE));
    let present = kept.as_deref().map_or(Ok(None), read_password).map_err(|error| named(&kept, error))?;
    let (password, told) = match (present, kept) {
        (Some(password), Some(path)) => (password, Told::Kept(path)),
        (_, _) if io::stderr().is_terminal() => {
            let password = random_password()?;
            (password.clone(), Told::Shown(password))
        }
        (_, Some(path)) => {
            let password = write_password(&path).map_err(|error| named(&Some(path.clone()), error))?;
            (password, Told::Kept(path))
        }
        (_, None) => return Err(io::Error::other("there is no state folder; name one with --state-dir")),
    };
    add(store, &password).map_err(io::Error::other)?;
    Ok(told)
}

fn named(path: &Option<PathBuf>, error: io::Error) -> io::Error {
    let path = path.as_deref().unwrap_or(Path::new(FILE));
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn add(store: &Store, password: &str) -> Result<(), UserError> {
    let user = NewUser {
        name: UserName::new(NAME.as_bytes())?,
        password: NewPassword::Clear(Secret::new(password.as_bytes())),
        role: Role::Admin,
        doors: Doors::ADMIN,
    };
    let (sender, receiver) = sync_channel(1);
    store.add_user(user, move |result| {
        // The receiver below waits for exactly this.
        drop(sender.send(result));
    });
    receiver.recv_timeout(limits::LOOKUP_TIME_MAX).map_err(|_| UserError::Busy)?.map(drop)
}

/// The folder of what outlives a run: the setting, else what the service manager says, else the user's own.
fn state_folder(settings: &Settings, variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let named = settings.state_dir.as_ref().map(PathBuf::from);
    named
        // systemd.exec(5): a list separated by colons.
        .or_else(|| {
            let list = variable("STATE_DIRECTORY")?;
            env::split_paths(&list).next().filter(absolute)
        })
        .or_else(|| variable("XDG_STATE_HOME").filter(absolute).map(|home| home.join("socks5d")))
        .or_else(|| variable("HOME").filter(absolute).map(|home| home.join(".local/state/socks5d")))
}

/// The password of a former start. `None`: there is none. A file that others can read or write is an error.
fn read_password(path: &Path) -> io::Result<Option<String>> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let about = file.metadata()?;
    let own = about.uid() == rustix::process::geteuid().as_raw() && about.mode() & 0o077 == 0;
    if !about.is_file() || !own {
        return Err(io::Error::other("it is not a file that only its owner, who runs this, can read"));
    }
    let mut text = String::new();
    file.take(limits::USER_NAME_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    let password = text.trim_end_matches('\n');
    if password.is_empty() || password.contains('\n') {
        return Err(io::Error::other("it holds no password: remove it to get a new one"));
    }
    Ok(Some(password.to_owned()))
}

/// Makes a password and keeps it where only the owner can read it; of two that start at once one waits for
/// what the other wrote.
fn write_password(path: &Path) -> io::Result<String> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let password = random_password()?;
    // Under a name of its own first: whoever sees the file sees all of it.
    let draft = path.with_extension(std::process::id().to_string());
    drop(std::fs::remove_file(&draft)); // Of a start that was cut short; usually there is none.
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file
        .write_all(format!("{password}\n").as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft)?;
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read_password(path)?.ok_or_else(|| io::Error::other("it came and went"))
        }
        other => other.map(|()| password),
    }
}

fn random_password() -> io::Result<String> {
    let mut random = [0; PASSWORD_BYTES];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 32)).copied().map_or('a', char::from);
    Ok(random.iter().map(letter).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("socks5d-initial-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        folder
    }

    #[test]
    fn the_folder_is_what_the_nearest_authority_says() {
        let all = |name: &str| match name {
            "STATE_DIRECTORY" => Some(PathBuf::from("/var/lib/one:/var/lib/two")),
            "XDG_STATE_HOME" => Some("/home/u/.state".into()),
            "HOME" => Some("/home/u".into()),
            _ => None,
        };
        let mut settings = Settings::default();
        assert_eq!(state_folder(&settings, all), Some("/var/lib/one".into()));
        let without =
            |gone: &'static [&'static str]| move |name: &str| all(name).filter(|_| !gone.contains(&name));
        let xdg = state_folder(&settings, without(&["STATE_DIRECTORY"]));
        assert_eq!(xdg, Some("/home/u/.state/socks5d".into()));
        let home = state_folder(&settings, without(&["STATE_DIRECTORY", "XDG_STATE_HOME"]));
        assert_eq!(home, Some("/home/u/.local/state/socks5d".into()));
        assert_eq!(state_folder(&settings, |_| None), None);
        assert_eq!(state_folder(&settings, |_| Some("relative".into())), None);
        settings.state_dir = Some("/srv/state".into());
        assert_eq!(state_folder(&settings, all), Some("/srv/state".into()));
    }

    #[test]
    fn a_password_that_was_written_is_used_again_and_private() {
        let folder = folder("again");
        let path = folder.join(FILE);
        assert_eq!(read_password(&path).unwrap(), None);
        let password = write_password(&path).unwrap();
        assert_eq!(password.len(), PASSWORD_BYTES);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(read_password(&path).unwrap(), Some(password.clone()));
        assert_eq!(write_password(&path).unwrap(), password, "whoever comes second takes the first one's");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_others_can_read_is_not_trusted() {
        let folder = folder("open");
        let path = folder.join(FILE);
        write_password(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_password(&path).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "\n").unwrap();
        assert!(read_password(&path).unwrap_err().to_string().contains("no password"));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn passwords_differ() {
        assert_ne!(random_password().unwrap(), random_password().unwrap());
    }
}
