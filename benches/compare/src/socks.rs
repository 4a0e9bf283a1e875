//! The client's side of RFC 1928 and RFC 1929 as values: bytes in, bytes out, no socket.
//!
//! The next file is target.rs, which puts a socket under it.

use std::fmt;
use std::net::SocketAddr;

/// Longest answer of a server: reply with a 255-byte name (RFC 1928 §6).
const REPLY_BYTES_MAX: usize = 4 + 1 + 255 + 2;

/// Where the server is asked to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Address(SocketAddr),
    Name(String, u16),
}

/// User name and password of RFC 1929.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl Credentials {
    /// Shape: `NAME:PASS`; the password may hold further colons. `None`: no colon, an empty or too long part.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, password) = text.split_once(':')?;
        let fits = |part: &str| (1..=255).contains(&part.len());
        (fits(name) && fits(password)).then(|| Self { name: name.to_owned(), password: password.to_owned() })
    }
}

/// Everything a client sends, made once for many sessions.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) greeting: Vec<u8>,
    password: Option<Vec<u8>>,
    request: Vec<u8>,
}

impl Script {
    /// Without credentials method 00 is offered, with them 02 alone.
    pub(crate) fn new(credentials: Option<&Credentials>, destination: &Destination) -> Self {
        let method = if credentials.is_some() { 2 } else { 0 };
        Self {
            greeting: vec![5, 1, method],
            password: credentials.map(password_request),
            request: connect_request(destination),
        }
    }

    /// All of it at once: what a client sends that waits for nothing.
    pub(crate) fn whole(&self) -> Vec<u8> {
        [&self.greeting[..], self.password.as_deref().unwrap_or_default(), &self.request].concat()
    }
}

/// Shape: `VER(1)=1 ULEN(1) UNAME(ULEN) PLEN(1) PASSWD(PLEN)` (RFC 1929 §2).
fn password_request(credentials: &Credentials) -> Vec<u8> {
    let mut bytes = vec![1];
    for part in [&credentials.name, &credentials.password] {
        bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        bytes.extend(part.bytes().take(usize::from(u8::MAX)));
    }
    bytes
}

/// Shape: `VER(1)=5 CMD(1)=1 RSV(1) ATYP(1) DST.ADDR DST.PORT(2)` (RFC 1928 §4).
fn connect_request(destination: &Destination) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0];
    let port = match destination {
        Destination::Address(SocketAddr::V4(address)) => {
            bytes.push(1);
            bytes.extend(address.ip().octets());
            address.port()
        }
        Destination::Address(SocketAddr::V6(address)) => {
            bytes.push(4);
            bytes.extend(address.ip().octets());
            address.port()
        }
        Destination::Name(name, port) => {
            bytes.push(3);
            bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.extend(name.bytes().take(usize::from(u8::MAX)));
            *port
        }
    };
    bytes.extend(port.to_be_bytes());
    bytes
}

/// Why a dialogue ended without a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialogueError {
    Version(u8),
    Method(u8),
    Password(u8),
    Reply(u8),
    AddressType(u8),
}

impl fmt::Display for DialogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(code) => write!(f, "answer of version {code:#04x}"),
            Self::Method(code) => write!(f, "method {code:#04x} chosen"),
            Self::Password(code) => write!(f, "password refused with status {code:#04x}"),
            Self::Reply(code) => write!(f, "request refused with reply {code:#04x}"),
            Self::AddressType(code) => write!(f, "reply with address type {code:#04x}"),
        }
    }
}

impl std::error::Error for DialogueError {}

/// What to do after some bytes of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// The answer is not complete.
    Wait,
    Send(&'a [u8]),
    /// Connected; this many bytes of the input belonged to the dialogue, the rest is the origin's.
    Established(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Method,
    Password,
    Reply,
}

/// One dialogue. The greeting was sent; answers go in.
#[derive(Debug)]
pub(crate) struct Dialogue {
    stage: Stage,
    received: Vec<u8>,
}

impl Dialogue {
    pub(crate) fn new() -> Self {
        Self { stage: Stage::Method, received: Vec::new() }
    }

    /// Takes bytes of the server. A complete answer moves the dialogue one stage on; bytes of the stage after
    /// it cannot have come unless the client sent everything at once, and are then kept for it.
    pub(crate) fn receive<'a>(
        &mut self,
        script: &'a Script,
        input: &[u8],
    ) -> Result<Step<'a>, DialogueError> {
        let before = self.received.len();
        self.received.extend(input);
        loop {
            let Some(length) = self.answer_length()? else { return Ok(Step::Wait) };
            if self.received.len() < length {
                return Ok(Step::Wait);
            }
            let code = self.received.get(1).copied().unwrap_or_default();
            match (self.stage, code) {
                (Stage::Method, 0) if script.password.is_none() => {
                    self.advance(Stage::Reply, length);
                    if self.received.is_empty() {
                        return Ok(Step::Send(&script.request));
                    }
                }
                (Stage::Method, 2) => {
                    let Some(password) = &script.password else { return Err(DialogueError::Method(2)) };
                    self.advance(Stage::Password, length);
                    if self.received.is_empty() {
                        return Ok(Step::Send(password));
                    }
                }
                (Stage::Method, code) => return Err(DialogueError::Method(code)),
                (Stage::Password, 0) => {
                    self.advance(Stage::Reply, length);
                    if self.received.is_empty() {
                        return Ok(Step::Send(&script.request));
                    }
                }
                (Stage::Password, code) => return Err(DialogueError::Password(code)),
                (Stage::Reply, 0) => {
                    let payload = self.received.len() - length;
                    debug_assert!(payload <= input.len(), "an earlier call would have ended the dialogue");
                    debug_assert!(before <= REPLY_BYTES_MAX, "no answer is longer");
                    return Ok(Step::Established(input.len().saturating_sub(payload)));
                }
                (Stage::Reply, code) => return Err(DialogueError::Reply(code)),
            }
        }
    }

    fn advance(&mut self, stage: Stage, length: usize) {
        self.stage = stage;
        self.received.drain(..length.min(self.received.len()));
    }

    /// Length of the answer that is awaited; `None` while its own length has not come.
    fn answer_length(&self) -> Result<Option<usize>, DialogueError> {
        let Some(&version) = self.received.first() else { return Ok(None) };
        let expected = if self.stage == Stage::Password { 1 } else { 5 };
        if version != expected {
            return Err(DialogueError::Version(version));
        }
        if self.stage != Stage::Reply {
            return Ok(Some(2));
        }
        // A refusal may come with an address of any shape, or be cut: its code is enough.
        if let Some(&code) = self.received.get(1)
            && code != 0
        {
            return Ok(Some(2));
        }
        match (self.received.get(3), self.received.get(4)) {
            (None, _) | (Some(3), None) => Ok(None),
            (Some(1), _) => Ok(Some(4 + 4 + 2)),
            (Some(4), _) => Ok(Some(4 + 16 + 2)),
            (Some(3), Some(&length)) => Ok(Some(4 + 1 + usize::from(length) + 2)),
            (Some(&other), _) => Err(DialogueError::AddressType(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: [u8; 10] = [5, 0, 0, 1, 127, 0, 0, 1, 0x1f, 0x90];

    fn credentials() -> Credentials {
        Credentials::parse("ann:pw:1").unwrap()
    }

    #[test]
    fn messages_have_the_shape_of_the_rfcs() {
        let address = Destination::Address("1.2.3.4:80".parse().unwrap());
        assert_eq!(connect_request(&address), [5, 1, 0, 1, 1, 2, 3, 4, 0, 80]);
        let name = Destination::Name("ab".into(), 443);
        assert_eq!(connect_request(&name), [5, 1, 0, 3, 2, b'a', b'b', 1, 187]);
        let six = connect_request(&Destination::Address("[::1]:1".parse().unwrap()));
        assert_eq!((six.len(), six[3], six[19]), (22, 4, 1));
        assert_eq!(password_request(&credentials()), b"\x01\x03ann\x04pw:1");
        assert_eq!(Script::new(Some(&credentials()), &name).greeting, [5, 1, 2]);
    }

    #[test]
    fn credentials_need_both_parts() {
        for bad in ["", "ann", ":pw", "ann:", &format!("{}:x", "a".repeat(256))] {
            assert_eq!(Credentials::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn any_split_of_the_answers_gives_the_same_dialogue() {
        let script = Script::new(Some(&credentials()), &Destination::Name("x".into(), 1));
        let answers = [&[5, 2, 1, 0][..], &REPLY, b"payload"].concat();
        for first in 0..answers.len() {
            for second in first..answers.len() {
                let mut dialogue = Dialogue::new();
                let mut payload: Vec<u8> = Vec::new();
                let mut established = false;
                for part in [&answers[..first], &answers[first..second], &answers[second..]] {
                    if established {
                        payload.extend(part);
                        continue;
                    }
                    if let Step::Established(consumed) = dialogue.receive(&script, part).unwrap() {
                        established = true;
                        payload.extend(&part[consumed..]);
                    }
                }
                assert!(established, "split at {first} and {second}");
                assert_eq!(payload, b"payload", "split at {first} and {second}");
            }
        }
    }

    #[test]
    fn each_answer_asks_for_the_next_message() {
        let script = Script::new(None, &Destination::Address("1.2.3.4:80".parse().unwrap()));
        let mut dialogue = Dialogue::new();
        assert_eq!(dialogue.receive(&script, &[5]), Ok(Step::Wait));
        assert_eq!(dialogue.receive(&script, &[0]), Ok(Step::Send(&script.request)));
        assert_eq!(dialogue.receive(&script, &REPLY[..9]), Ok(Step::Wait));
        assert_eq!(dialogue.receive(&script, &REPLY[9..]), Ok(Step::Established(1)));
    }

    #[test]
    fn refusals_carry_their_code() {
        let check = |credentials: Option<&Credentials>, answers: &[u8], expected| {
            let script = Script::new(credentials, &Destination::Name("x".into(), 1));
            assert_eq!(Dialogue::new().receive(&script, answers), Err(expected), "{answers:?}");
        };
        check(None, &[4, 0], DialogueError::Version(4));
        check(None, &[5, 0xff], DialogueError::Method(0xff));
        check(None, &[5, 2], DialogueError::Method(2));
        check(None, &[5, 0, 5, 4], DialogueError::Reply(4));
        check(None, &[5, 0, 5, 0, 0, 9], DialogueError::AddressType(9));
        check(Some(&credentials()), &[5, 0], DialogueError::Method(0));
        check(Some(&credentials()), &[5, 2, 1, 1], DialogueError::Password(1));
    }
}
