//! POP3 (RFC 1939, 5034): USER and PASS, AUTH PLAIN with and without its continuation, once the origin says
//! `+OK`.
//!
//! Commands and replies are lines in two queues. A line is taken from one of them only when the dialogue has
//! come to it, so it makes no difference how far one direction is ahead of the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Credentials, Dissector, End, Way};
use crate::limits;

#[derive(Debug, Default)]
pub(super) struct Pop3 {
    commands: Lines,
    replies: Lines,
    state: State,
    /// The name that USER gave and the origin took.
    user: Option<Box<[u8]>>,
}

/// Where the dialogue is.
#[derive(Debug, Default)]
enum State {
    /// The origin has not greeted.
    #[default]
    Greeting,
    /// The next line is a command.
    Command,
    /// The next line is the reply to it.
    Reply(Asked),
    /// The next line is the client's answer to a challenge.
    Challenged(Mechanism),
    /// A reply of several lines goes on to its dot.
    Listing,
}

/// What the origin was asked, as far as its reply tells something.
#[derive(Debug)]
enum Asked {
    User(Box<[u8]>),
    Pass(Box<[u8]>),
    /// AUTH: by what, and the credentials that it has sent so far.
    Auth(Mechanism, Option<Credentials>),
    Apop,
    Stls,
    /// What has a reply of several lines.
    List,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mechanism {
    Plain,
    Other,
}

/// What a reply's first word says (RFC 1939 §3, RFC 5034 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok,
    Err,
    Challenge,
}

/// Commands that a client may begin with; whoever begins with anything else speaks another protocol.
const COMMANDS: [&[u8]; 10] =
    [b"USER", b"PASS", b"APOP", b"AUTH", b"CAPA", b"STLS", b"QUIT", b"NOOP", b"UTF8", b"LANG"];

impl Dissector for Pop3 {
    fn see(&mut self, way: Way, bytes: &[u8], found: &mut Vec<Credentials>) -> Result<(), End> {
        match way {
            Way::Up => {
                self.commands.add(bytes);
                if matches!(self.state, State::Greeting) && !may_be_command(self.commands.rest()) {
                    return Err(End::NotMine);
                }
            }
            Way::Down => {
                self.replies.add(bytes);
                if matches!(self.state, State::Greeting) && !may_be_greeting(self.replies.rest()) {
                    return Err(End::NotMine);
                }
            }
        }
        while self.go_on(found)? {}
        Ok(())
    }

    fn wants(&self, way: Way) -> bool {
        match way {
            Way::Up => !self.commands.is_full(),
            Way::Down => !self.replies.is_full(),
        }
    }
}

impl Pop3 {
    /// One line of the dialogue; `false` when it has not come.
    fn go_on(&mut self, found: &mut Vec<Credentials>) -> Result<bool, End> {
        let lines = match self.state {
            State::Command | State::Challenged(_) => &mut self.commands,
            State::Greeting | State::Reply(_) | State::Listing => &mut self.replies,
        };
        let Some(line) = lines.next()? else { return Ok(false) };
        self.state = match std::mem::replace(&mut self.state, State::Command) {
            State::Greeting if read_status(line) == Some(Status::Ok) => State::Command,
            State::Greeting => return Err(End::NotMine),
            State::Command => State::Reply(read_command(line).ok_or(End::Done)?),
            State::Challenged(mechanism) => {
                let credentials = (mechanism == Mechanism::Plain).then(|| read_plain(line)).flatten();
                State::Reply(Asked::Auth(mechanism, credentials))
            }
            State::Listing if line == b"." => State::Command,
            State::Listing => State::Listing,
            State::Reply(asked) => {
                let status = read_status(line).ok_or(End::Malformed)?;
                self.reply(asked, status, found)?
            }
        };
        Ok(true)
    }

    fn reply(&mut self, asked: Asked, status: Status, found: &mut Vec<Credentials>) -> Result<State, End> {
        match (asked, status) {
            (Asked::Auth(mechanism, _), Status::Challenge) => return Ok(State::Challenged(mechanism)),
            (_, Status::Challenge) => return Err(End::Malformed),
            (Asked::User(name), Status::Ok) => self.user = Some(name),
            (Asked::User(_) | Asked::Pass(_), Status::Err) => self.user = None,
            (Asked::Pass(password), Status::Ok) => {
                found.extend(self.user.take().and_then(|user| Credentials::new(&user, &password)));
                return Err(End::Done);
            }
            (Asked::Auth(_, credentials), Status::Ok) => {
                found.extend(credentials);
                return Err(End::Done);
            }
            (Asked::Apop, Status::Ok) => return Err(End::Done),
            (Asked::Stls, Status::Ok) => return Err(End::Switched),
            (Asked::List, Status::Ok) => return Ok(State::Listing),
            (Asked::Other, Status::Ok)
            | (Asked::Auth(..) | Asked::Apop | Asked::Stls | Asked::List | Asked::Other, Status::Err) => {}
        }
        Ok(State::Command)
    }
}

/// What a command asks for; `None`: nothing comes after it.
fn read_command(line: &[u8]) -> Option<Asked> {
    let (word, argument) = split_word(line);
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    Some(if is(b"USER") {
        Asked::User(argument.into())
    } else if is(b"PASS") {
        Asked::Pass(argument.into())
    } else if is(b"AUTH") && !argument.trim_ascii().is_empty() {
        let (mechanism, initial) = split_word(argument);
        let is_plain = mechanism.eq_ignore_ascii_case(b"PLAIN");
        let mechanism = if is_plain { Mechanism::Plain } else { Mechanism::Other };
        Asked::Auth(mechanism, is_plain.then(|| read_plain(initial)).flatten())
    } else if is(b"CAPA") || (is(b"AUTH") || is(b"LANG")) && argument.trim_ascii().is_empty() {
        Asked::List
    } else if is(b"APOP") {
        Asked::Apop
    } else if is(b"STLS") {
        Asked::Stls
    } else if is(b"QUIT") {
        return None;
    } else {
        Asked::Other
    })
}

/// The word before the first space and everything after it: a password may hold spaces (RFC 1939 §7).
fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    let at = line.iter().position(|octet| *octet == b' ').unwrap_or(line.len());
    (line.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default())
}

/// Shape: base64 of `[AUTHZID] NUL AUTHCID NUL PASSWD` (RFC 4616 §2).
fn read_plain(text: &[u8]) -> Option<Credentials> {
    let message = STANDARD.decode(text.trim_ascii()).ok()?;
    let mut parts = message.split(|octet| *octet == 0);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(user), Some(password), None) => Credentials::new(user, password),
        (..) => None,
    }
}

fn read_status(line: &[u8]) -> Option<Status> {
    match split_word(line).0 {
        b"+OK" => Some(Status::Ok),
        b"-ERR" => Some(Status::Err),
        b"+" => Some(Status::Challenge),
        _ => None,
    }
}

/// Whether what has come in part can be an origin's greeting.
fn may_be_greeting(line: &[u8]) -> bool {
    const GREETING: &[u8] = b"+OK";
    line.iter().zip(GREETING).all(|(octet, expected)| octet == expected)
}

/// Whether what has come in part can be a client's first command.
fn may_be_command(line: &[u8]) -> bool {
    COMMANDS.iter().any(|command| {
        let is_word = line.get(command.len()).is_none_or(|after| b" \r\n".contains(after));
        is_word && line.iter().zip(*command).all(|(octet, letter)| octet.eq_ignore_ascii_case(letter))
    })
}

/// The lines of one direction that are not read yet. What is beyond the limit is not kept.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    /// How many of them were read.
    read: usize,
}

impl Lines {
    fn is_full(&self) -> bool {
        self.bytes.len() >= limits::DISSECTED_POP3_BYTES_MAX
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = limits::DISSECTED_POP3_BYTES_MAX.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.read..).unwrap_or_default()
    }

    /// The next line without its end; `None` when it has not come.
    fn next(&mut self) -> Result<Option<&[u8]>, End> {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let Some(end) = rest.iter().position(|octet| *octet == b'\n') else {
            return if self.is_full() { Err(End::Limit) } else { Ok(None) };
        };
        self.read += end + 1;
        let line = rest.get(..end).unwrap_or_default();
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}
