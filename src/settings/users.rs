//! Users that are given at start: `NAME:PASS`, and what several of one name come to.
//!
//! No text that is made here holds a password.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Role, SettingsError, UserSpec};
use crate::limits::{SHOWN_NAMES_MAX, USER_NAME_BYTES_MAX, USERS_COUNT_MAX};

/// What a line of a users file may be.
pub(super) const LINE_ALLOWED: &str = "NAME:PASS, NAME:PASS:observer, NAME:PASS:operator or NAME:PASS:admin, name and password of 1 to 255 octets";

/// What a user may be written as.
pub(super) const ALLOWED: &str = "NAME:PASS, each of 1 to 255 octets";
const _: () = assert!(USER_NAME_BYTES_MAX == 255);

/// What a name and password open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The proxy.
    Proxy,
    /// The admin channel.
    Admin,
}

/// Reads `NAME:PASS`: the name ends at the first colon, the password may hold more. The error says what is
/// wrong without repeating anything.
pub(super) fn parse(octets: &[u8]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    let colon = octets.iter().position(|octet| *octet == b':').ok_or("a value without a colon")?;
    let (name, password) = octets.split_at(colon);
    let password = password.get(1..).unwrap_or_default();
    match (name.len(), password.len()) {
        (0, _) => Err("an empty name"),
        (_, 0) => Err("an empty password"),
        (name_bytes, _) if name_bytes > USER_NAME_BYTES_MAX => Err("a name of more than 255 octets"),
        (_, password_bytes) if password_bytes > USER_NAME_BYTES_MAX => {
            Err("a password of more than 255 octets")
        }
        _ => Ok((name.to_vec(), password.to_vec())),
    }
}

/// Reads a line of a users file: `NAME:PASS` for the proxy; with a role behind it (`NAME:PASS:observer`) for
/// both doors. `Ok(None)`: blank or a comment. A password that ends like a role needs one more behind it, and
/// so belongs to somebody with a role.
pub(super) fn parse_line(line: &[u8]) -> Result<Option<UserSpec>, &'static str> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = line.trim_ascii_start();
    if text.is_empty() || text.starts_with(b"#") {
        return Ok(None);
    }
    let colon = line.iter().position(|octet| *octet == b':').unwrap_or(line.len());
    let rest = line.get(colon + 1..).unwrap_or_default();
    let marked = ROLE_MARKS.iter().find(|(mark, _)| rest.ends_with(mark));
    let pair = marked.and_then(|(mark, _)| line.strip_suffix(*mark)).unwrap_or(line);
    let (name, password) = parse(pair)?;
    let role = marked.map_or(Role::User, |(_, role)| *role);
    Ok(Some(UserSpec { name, password, proxy: true, admin: marked.is_some(), role }))
}

/// What stands behind the password of somebody who may use the admin channel.
const ROLE_MARKS: [(&[u8], Role); 3] =
    [(b":observer", Role::Observer), (b":operator", Role::Operator), (b":admin", Role::Admin)];

/// Whether `door` opens to `user`.
pub(super) fn opens(user: &UserSpec, door: Door) -> bool {
    match door {
        Door::Proxy => user.proxy,
        Door::Admin => user.admin,
    }
}

/// Whether `door` opens to the same names with the same passwords, in the same roles.
pub(super) fn same(a: &[UserSpec], b: &[UserSpec], door: Door) -> bool {
    let of_a = a.iter().filter(|user| opens(user, door)).map(|user| (&user.name, &user.password, user.role));
    let of_b = b.iter().filter(|user| opens(user, door)).map(|user| (&user.name, &user.password, user.role));
    of_a.eq(of_b)
}

/// The names of those whom `door` opens to, separated by commas; after [`SHOWN_NAMES_MAX`] only their number.
pub(super) fn show(users: &[UserSpec], door: Door) -> String {
    let mut names =
        users.iter().filter(|user| opens(user, door)).map(|user| user.name.escape_ascii().to_string());
    let shown = names.by_ref().take(SHOWN_NAMES_MAX).collect::<Vec<_>>().join(",");
    match names.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Where a user was given: an option, a variable, a line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) text: Arc<str>,
    pub(super) line: Option<usize>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}: line {line}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// The users gathered so far, each name once.
#[derive(Default)]
pub(super) struct Roster {
    users: Vec<UserSpec>,
    places: Vec<Place>,
    by_name: HashMap<Vec<u8>, usize>,
}

impl Roster {
    /// Adds `user`. One of the same name who shares a door with it makes room, and the place where that one
    /// was given is returned. One for the other door only becomes a user of both, if the passwords are the
    /// same.
    ///
    /// Errors: [`SettingsError::TwoPasswords`], [`SettingsError::TooManyUsers`].
    pub(super) fn add(&mut self, user: UserSpec, place: Place) -> Result<Option<Place>, SettingsError> {
        let found = self.by_name.get(&user.name).copied();
        let Some((there, there_place)) =
            found.and_then(|index| self.users.get_mut(index).zip(self.places.get_mut(index)))
        else {
            if self.users.len() >= USERS_COUNT_MAX {
                return Err(SettingsError::TooManyUsers { place: place.to_string(), max: USERS_COUNT_MAX });
            }
            self.by_name.insert(user.name.clone(), self.users.len());
            self.users.push(user);
            self.places.push(place);
            return Ok(None);
        };
        if user.proxy && there.proxy || user.admin && there.admin {
            *there = user;
            return Ok(Some(std::mem::replace(there_place, place)));
        }
        if user.password != there.password {
            let name = user.name.escape_ascii().to_string();
            let (place, other) = (place.to_string(), there_place.to_string());
            return Err(SettingsError::TwoPasswords { place, other, name });
        }
        there.proxy |= user.proxy;
        there.admin |= user.admin;
        there.role = there.role.max(user.role);
        Ok(None)
    }

    /// The users in the order in which their names first came.
    pub(super) fn into_users(self) -> Vec<UserSpec> {
        self.users
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, password: &str, doors: &str) -> UserSpec {
        let (name, password) = (name.as_bytes().to_vec(), password.as_bytes().to_vec());
        let admin = doors.contains(['a', 'o', 's']);
        let roles = [('s', Role::Observer), ('o', Role::Operator), ('a', Role::Admin)];
        let role = roles
            .into_iter()
            .find(|(letter, _)| doors.contains(*letter))
            .map_or(Role::User, |(_, role)| role);
        UserSpec { name, password, proxy: doors.contains('p'), admin, role }
    }

    fn place(text: &str) -> Place {
        Place { text: text.into(), line: None }
    }

    #[test]
    fn the_first_colon_ends_the_name() {
        let long = "n".repeat(255);
        let longer = "n".repeat(256);
        for (text, expected) in [
            ("a:b".to_owned(), Ok(("a", "b"))),
            ("a:b:c".into(), Ok(("a", "b:c"))),
            ("a::".into(), Ok(("a", ":"))),
            (format!("{long}:{long}"), Ok((long.as_str(), long.as_str()))),
            ("".into(), Err("a value without a colon")),
            ("alice".into(), Err("a value without a colon")),
            (":b".into(), Err("an empty name")),
            ("a:".into(), Err("an empty password")),
            (format!("{longer}:b"), Err("a name of more than 255 octets")),
            (format!("a:{longer}"), Err("a password of more than 255 octets")),
        ] {
            let expected = expected.map(|(name, password)| (name.into(), password.into()));
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(parse(b"\xff\x00:\xfe"), Ok((b"\xff\x00".to_vec(), b"\xfe".to_vec())));
    }

    #[test]
    fn lines_of_a_users_file_are_users_administrators_or_comments() {
        for (line, expected) in [
            ("alice:secret", Ok(Some(user("alice", "secret", "p")))),
            ("root:secret:admin", Ok(Some(user("root", "secret", "pa")))),
            ("root:s:e:c:admin\r", Ok(Some(user("root", "s:e:c", "pa")))),
            ("root:admin", Ok(Some(user("root", "admin", "p")))),
            ("root:x:admin:admin", Ok(Some(user("root", "x:admin", "pa")))),
            ("eve:x:observer", Ok(Some(user("eve", "x", "ps")))),
            ("otto:x:operator\r", Ok(Some(user("otto", "x", "po")))),
            ("otto:x:admin:operator", Ok(Some(user("otto", "x:admin", "po")))),
            ("otto:operator", Ok(Some(user("otto", "operator", "p")))),
            ("otto:x:Operator", Ok(Some(user("otto", "x:Operator", "p")))),
            ("otto::operator", Err("an empty password")),
            (" spaced : pass ", Ok(Some(user(" spaced ", " pass ", "p")))),
            ("", Ok(None)),
            (" \t\r", Ok(None)),
            ("# alice:secret", Ok(None)),
            ("  # note", Ok(None)),
            ("alice", Err("a value without a colon")),
            ("root::admin", Err("an empty password")),
            (":admin", Err("an empty name")),
        ] {
            assert_eq!(parse_line(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn a_later_user_replaces_an_earlier_one_of_the_same_door() {
        let mut roster = Roster::default();
        assert_eq!(roster.add(user("a", "1", "p"), place("first")).unwrap(), None);
        assert_eq!(roster.add(user("b", "1", "pa"), place("first")).unwrap(), None);
        assert_eq!(roster.add(user("a", "2", "p"), place("second")).unwrap(), Some(place("first")));
        assert_eq!(roster.add(user("b", "2", "a"), place("second")).unwrap(), Some(place("first")));
        assert_eq!(roster.into_users(), [user("a", "2", "p"), user("b", "2", "a")]);
    }

    #[test]
    fn one_name_for_both_doors_needs_one_password() {
        let mut roster = Roster::default();
        roster.add(user("a", "1", "p"), place("--user")).unwrap();
        assert_eq!(roster.add(user("a", "1", "a"), place("--admin")).unwrap(), None);
        roster.add(user("b", "1", "p"), place("--user")).unwrap();
        let error = roster.add(user("b", "2", "a"), place("--admin")).unwrap_err().to_string();
        assert_eq!(error, "--admin: user b has another password at --user; one name has one password");
        assert_eq!(roster.into_users(), [user("a", "1", "pa"), user("b", "1", "p")]);
    }

    #[test]
    fn showing_users_names_some_and_counts_the_rest() {
        let users = [user("a", "1", "p"), user("b", "1", "a"), user("c\n", "1", "pa")];
        assert_eq!(show(&users, Door::Proxy), "a,c\\n");
        assert_eq!(show(&users, Door::Admin), "b,c\\n");
        let many: Vec<UserSpec> = (0..100).map(|i| user(&i.to_string(), "1", "p")).collect();
        assert!(show(&many, Door::Proxy).ends_with("14,15 and 84 more"));
    }
}
