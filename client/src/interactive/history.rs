//! Where the lines of former conversations are kept: a file that only its owner reads. Secrets are never in lines:
//! passwords are asked for without echo, by another way.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file's place: `$XDG_STATE_HOME/pipoctl/history`, else under `~/.local/state`. `None`: there is no home.
pub(super) fn path(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |path: String| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let state = variable("XDG_STATE_HOME").and_then(absolute);
    let state = state.or_else(|| Some(variable("HOME").and_then(absolute)?.join(".local/state")));
    Some(state?.join("pipoctl/history"))
}

/// Makes the file where it is missing, and takes everybody else's rights away where it is there.
pub(super) fn prepare(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_follows_the_environment() {
        for (state, home, expected) in [
            (Some("/s"), Some("/h"), Some("/s/pipoctl/history")),
            (Some("relative"), Some("/h"), Some("/h/.local/state/pipoctl/history")),
            (None, Some("/h"), Some("/h/.local/state/pipoctl/history")),
            (None, None, None),
        ] {
            let found = path(|name| if name == "HOME" { home } else { state }.map(str::to_owned));
            assert_eq!(found, expected.map(PathBuf::from));
        }
    }

    #[test]
    fn nobody_else_reads_it() {
        let folder = std::env::temp_dir().join(format!("pipoctl-history-{}", std::process::id()));
        let file = folder.join("state/pipoctl/history");
        for _ in 0..2 {
            prepare(&file).unwrap();
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
