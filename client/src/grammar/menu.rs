//! The numbers of the original menu: queries 0 to 11, then changes 12 to 18, each argument after the number.

/// A number and the command that it stands for.
#[derive(Debug)]
pub struct MenuRow {
    /// What the menu called it.
    pub title: &'static str,
    /// The command; arguments follow.
    pub words: &'static [&'static str],
}

const fn menu(title: &'static str, words: &'static [&'static str]) -> MenuRow {
    MenuRow { title, words }
}

/// By the number.
pub static MENU: &[MenuRow] = &[
    menu("list users", &["user", "list"]),
    menu("historic connections", &["metrics", "sessions_accepted"]),
    menu("current connections", &["metrics", "sessions_current"]),
    menu("maximum concurrent connections", &["metrics", "sessions_highest"]),
    menu("bytes sent", &["metrics", "bytes_down"]),
    menu("bytes received", &["metrics", "bytes_up"]),
    menu("users connected", &["server", "info", "--field=users_connected_count"]),
    menu("users registered", &["server", "info", "--field=users_registered_count"]),
    menu("I/O buffer size", &["setting", "get", "buffer-size"]),
    menu("selector timeout", &["setting", "get", "poll-timeout"]),
    menu("idle timeout", &["setting", "get", "idle-timeout"]),
    menu("current connections of a user: NAME", &["user", "list"]),
    menu("add a user: NAME", &["user", "add"]),
    menu("remove a user: NAME", &["user", "remove"]),
    menu("credential dissector: on or off", &["setting", "set", "dissector"]),
    menu("idle clean-up: on or off", &["setting", "set", "idle-timeout"]),
    menu("I/O buffer size: BYTES", &["setting", "set", "buffer-size"]),
    menu("selector timeout: SECONDS", &["setting", "set", "poll-timeout"]),
    menu("idle timeout: SECONDS", &["setting", "set", "idle-timeout"]),
];

/// The words that a number stands for; none where it is no number of the menu.
pub(super) fn expand(number: &str) -> Option<&'static [&'static str]> {
    let digits = (1..=2).contains(&number.len()) && number.bytes().all(|octet| octet.is_ascii_digit());
    let place: usize = number.parse().ok().filter(|_| digits)?;
    MENU.get(place).map(|row| row.words)
}
