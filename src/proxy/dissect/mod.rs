//! Credentials that pass in clear, noticed for an operator who must warn those who send them.
//!
//! A [`Watch`] is shown the bytes of a session after they were passed on and can change nothing about them.
//! Each protocol is one file with a `Dissector` and a row of `PROTOCOLS`; all of them see the same bytes
//! until they give up or find something, and protocols are told by content, not by port. What is found depends
//! on the two streams alone, never on how they were cut. Pure: what becomes of a finding is `notice.rs`'s
//! business.

mod http;
mod messages;
mod pop3;

use std::fmt;

use crate::limits;
use crate::settings::Dissector as Mode;

/// A protocol that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 and 1.1: the Basic scheme (RFC 7617).
    Http,
    /// POP3: USER and PASS (RFC 1939), AUTH PLAIN (RFC 5034).
    Pop3,
}

/// Begins to look for a protocol.
type Begin = fn() -> Box<dyn Dissector>;

/// Every protocol, and how its dissector begins.
const PROTOCOLS: [(Protocol, Begin); 2] =
    [(Protocol::Http, || Box::<http::Http>::default()), (Protocol::Pop3, || Box::<pop3::Pop3>::default())];

impl Protocol {
    /// The name that stands in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Pop3 => "POP3",
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the origin.
    Up,
    /// From the origin to the client.
    Down,
}

/// Why a dissector looks no further. The later ones say more about the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// This is another protocol.
    NotMine,
    /// It began as this protocol and broke its rules.
    Malformed,
    /// More than is looked at: bytes, lines, requests.
    Limit,
    /// It goes on as something else: TLS after STLS, a tunnel, an upgrade.
    Switched,
    /// Nothing more can come.
    Done,
}

/// A user name and the password that the origin took.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name, as sent.
    pub user: Box<[u8]>,
    /// The password, as sent.
    pub password: Box<[u8]>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).field("password", &"***").finish()
    }
}

impl Credentials {
    /// `None`: too long to be anybody's, or nothing at all.
    fn new(user: &[u8], password: &[u8]) -> Option<Self> {
        let is_short = |text: &[u8]| text.len() <= limits::CREDENTIAL_BYTES_MAX;
        let is_something = !(user.is_empty() && password.is_empty());
        (is_something && is_short(user) && is_short(password))
            .then(|| Self { user: user.into(), password: password.into() })
    }
}

/// What stands for a password that is not to be shown, whatever its length.
const STARS: &[u8] = b"***";

/// Credentials that were noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// In which protocol.
    pub protocol: Protocol,
    /// Whose.
    pub credentials: Credentials,
}

/// What understands one protocol. Keeps at most [`limits::DISSECTOR_STATE_BYTES_MAX`] of each direction.
trait Dissector: fmt::Debug + Send {
    /// Looks at the next bytes of one direction and adds what it finds; an error is the end of it.
    fn see(&mut self, way: Way, bytes: &[u8], found: &mut Vec<Credentials>) -> Result<(), End>;

    /// Whether it needs the rest of a direction.
    fn wants(&self, way: Way) -> bool;
}

/// What looks at one session.
#[derive(Debug)]
pub struct Watch {
    /// What was to be done with findings when the session's relay began.
    mode: Mode,
    /// Those that have not given up.
    dissectors: Vec<(Protocol, Box<dyn Dissector>)>,
    found: Vec<Found>,
    /// The most telling end so far.
    end: End,
}

impl Watch {
    /// Begins to look for every protocol.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        let dissectors = PROTOCOLS.iter().map(|(protocol, begin)| (*protocol, begin())).collect();
        Self { mode, dissectors, found: Vec::new(), end: End::NotMine }
    }

    /// Looks at the next bytes of one direction.
    pub fn see(&mut self, way: Way, bytes: &[u8]) {
        let mut credentials = Vec::new();
        let mut finder = None;
        let Self { dissectors, found, end, .. } = self;
        dissectors.retain_mut(|(protocol, dissector)| {
            let result =
                if dissector.wants(way) { dissector.see(way, bytes, &mut credentials) } else { Ok(()) };
            if !credentials.is_empty() {
                finder = Some(*protocol);
            }
            found.extend(credentials.drain(..).map(|credentials| Found { protocol: *protocol, credentials }));
            match result {
                Ok(()) => true,
                Err(reason) => {
                    *end = (*end).max(reason);
                    false
                }
            }
        });
        if let Some(finder) = finder {
            self.dissectors.retain(|(protocol, _)| *protocol == finder);
        }
    }

    /// Whether the rest of a direction is of interest; where not, it travels as if nobody looked.
    #[must_use]
    pub fn wants(&self, way: Way) -> bool {
        self.dissectors.iter().any(|(_, dissector)| dissector.wants(way))
    }

    /// What was found since the last time, with stars for passwords unless both the mode that it was begun with
    /// and `now` show them; nothing where either is off.
    pub fn take_found(&mut self, now: Mode) -> Vec<Found> {
        let mut found = std::mem::take(&mut self.found);
        match self.mode.min(now) {
            Mode::Off => found.clear(),
            Mode::Mask => found.iter_mut().for_each(|found| found.credentials.password = STARS.into()),
            Mode::Full => {}
        }
        found
    }

    /// Why nobody looks any more; `None` while somebody does.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.dissectors.is_empty().then_some(self.end)
    }
}

#[cfg(test)]
mod tests;
