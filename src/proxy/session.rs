//! One session: the enum of its stages, what goes into a step and what comes out. Pure: no socket, no clock.
//!
//! The worker feeds inputs and carries out every output before it waits again. docs/LIFECYCLE.md draws the
//! same arrows. The bytes of a relay do not come through here: `relay.rs` moves them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::authenticate::Authenticate;
use super::connect::{AttemptError, Connect};
use super::negotiate::Negotiate;
use super::policy::Policy;
use super::relay::Relay;
use super::request::AwaitRequest;
use super::resolve::Resolve;
use super::wire::{Command, Reply, encode_reply};
use crate::limits;
use crate::logging::CloseReason;
use crate::metrics::Counter;
use crate::resolver::{DomainName, Family, Outcome};
use crate::store::User;

/// A session, by the stage it is in, in the order of the dialogue.
#[derive(Debug)]
pub enum Session {
    /// Waits for the method selection.
    Negotiate(Negotiate),
    /// Waits for user name and password, or for their verdict.
    Authenticate(Authenticate),
    /// Waits for the request.
    Request(AwaitRequest),
    /// Waits for addresses of the name.
    Resolve(Box<Resolve>),
    /// Tries the addresses.
    Connect(Box<Connect>),
    /// Client and origin talk.
    Relay(Relay),
    /// A last answer is on its way; what the client still sends is thrown away.
    Closing(Closing),
}

/// A stage without what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the variant of `Session` of that name")]
pub enum Stage {
    Negotiate,
    Authenticate,
    Request,
    Resolve,
    Connect,
    Relay,
    Closing,
}

impl Stage {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Negotiate => "negotiate",
            Self::Authenticate => "authenticate",
            Self::Request => "request",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Relay => "relay",
            Self::Closing => "closing",
        }
    }
}

/// What the worker tells a session. Borrows the bytes that have arrived and were not consumed yet.
#[derive(Debug)]
pub enum Input<'a> {
    /// All unconsumed bytes of the client, old and new.
    Bytes(&'a [u8]),
    /// The client has closed its side, and every byte of it was shown.
    ClientClosed,
    /// The client's connection broke; the session is over wherever it stands.
    ClientReset,
    /// Whose user name and password they are; `None`: refused.
    Verdict(Option<Arc<User>>),
    /// One family's addresses.
    Answer(Family, Outcome),
    /// An attempt connected; the local address of its socket.
    Connected(AttemptId, SocketAddr),
    /// An attempt failed.
    AttemptFailed(AttemptId, AttemptError),
    /// The session's deadline has come.
    Tick,
}

/// One connect attempt of a session, counted from 0, below [`limits::CANDIDATES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptId(pub u8);

/// A secret on its way from the wire to the store.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User name, 1 to 255 octets.
    pub name: Box<[u8]>,
    /// Password, 1 to 255 octets.
    pub password: Box<[u8]>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("name", &self.name).field("password", &"***").finish()
    }
}

/// What a session asks for; the worker carries them out in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Bytes for the client: the first `.1` of the array.
    Send([u8; super::wire::REPLY_BYTES_MAX], u8),
    /// Check a password; answered by [`Input::Verdict`].
    Verify(Login),
    /// Look a name up, for these families; answered by one [`Input::Answer`] each.
    Lookup(DomainName, Families),
    /// Begin to connect; answered by [`Input::Connected`] or [`Input::AttemptFailed`].
    Attempt(AttemptId, SocketAddr),
    /// Give an attempt up.
    Abandon(AttemptId),
    /// This attempt's socket is the origin from now on.
    Adopt(AttemptId),
    /// The reply was sent: the access log's moment.
    Replied,
    /// Something to count.
    Count(Counter),
    /// The session is over.
    Close(CloseReason),
}

/// Which families a look-up asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// A only.
    V4,
    /// AAAA only.
    V6,
    /// A and AAAA in parallel.
    Both,
}

/// A destination as asked, kept for logs and the admin channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing was asked yet.
    Unknown,
    /// Octets of the name as the client wrote them.
    Name(Box<[u8]>),
    /// An address as the client wrote it.
    Address(IpAddr),
}

/// What is known of a session, for logs, metrics and the admin channel.
#[derive(Debug)]
pub struct Facts {
    /// Whose session it is: the anonymous user until a password was accepted.
    pub user: Arc<User>,
    /// What was asked for.
    pub command: Command,
    /// Where to.
    pub target: Target,
    /// Where to.
    pub port: u16,
    /// When the last byte of the request was there.
    pub requested: Option<Instant>,
    /// The reply that was sent.
    pub reply: Option<Reply>,
    /// The address of the origin, once connected.
    pub resolved: Option<SocketAddr>,
    /// Time that the look-up took.
    pub dns: Option<Duration>,
    /// Time that connecting took.
    pub connect: Option<Duration>,
    /// Connect attempts so far.
    pub attempts_count: u8,
}

/// How sessions begin and how long their stages may last: an immutable snapshot of the live settings.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Who is asked for a password.
    pub auth: Authentication,
    /// One connect attempt.
    pub connect_timeout: Duration,
    /// A relay without a byte; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// A half-closed relay without a byte.
    pub half_closed_timeout: Duration,
}

/// `--auth` with `auto` decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Method 02 only.
    Required,
    /// 02 where offered, else 00.
    Optional,
    /// 00 only.
    None,
}

/// What a step may look at and write to besides the stage itself.
pub struct Context<'a> {
    /// The time of this turn.
    pub now: Instant,
    /// Some fixed moment, the same for every session: ticks are counted from it.
    pub epoch: Instant,
    /// How sessions begin and how long stages may last.
    pub rules: &'a Rules,
    /// Which destinations are allowed.
    pub policy: &'a Policy,
    /// What is known of the session.
    pub facts: &'a mut Facts,
    /// How many bytes of [`Input::Bytes`] the stage took.
    pub consumed: &'a mut usize,
    /// Outputs, in order.
    pub out: &'a mut Vec<Output>,
}

impl Session {
    /// A new session; the handshake has to be over at `deadline`.
    #[must_use]
    pub fn new(deadline: Instant) -> Self {
        Self::Negotiate(Negotiate::new(deadline))
    }

    /// One step: a stage is consumed and the next one, or the same, comes back.
    #[must_use]
    pub fn step(self, input: Input<'_>, context: &mut Context<'_>) -> Self {
        if matches!(input, Input::ClientReset) {
            context.count(Counter::ClientGone);
            return context.close(CloseReason::Reset);
        }
        match self {
            Self::Negotiate(stage) => stage.step(input, context), // to Authenticate, Request, Closing
            Self::Authenticate(stage) => stage.step(input, context), // to Request, Closing
            Self::Request(stage) => stage.step(input, context),   // to Resolve, Connect, Closing
            Self::Resolve(stage) => stage.step(input, context),   // to Connect, Closing
            Self::Connect(stage) => stage.step(input, context),   // to Relay, Closing
            Self::Relay(stage) => stage.step(input, context),     // stays until the relay is over
            Self::Closing(stage) => stage.step(input, context),
        }
    }

    /// When the session wants [`Input::Tick`].
    #[must_use]
    pub fn deadline(&self, rules: &Rules) -> Option<Instant> {
        match self {
            Self::Negotiate(stage) => Some(stage.deadline),
            Self::Authenticate(stage) => Some(stage.deadline()),
            Self::Request(stage) => Some(stage.deadline),
            Self::Resolve(stage) => stage.deadline(),
            Self::Connect(stage) => Some(stage.deadline()),
            Self::Relay(stage) => stage.deadline(rules),
            Self::Closing(stage) => Some(stage.deadline),
        }
    }

    /// Does the stage want what the client sends? What it does not want stays in the socket.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        match self {
            Self::Negotiate(_) | Self::Request(_) | Self::Closing(_) => true,
            Self::Authenticate(stage) => stage.wants_bytes(),
            Self::Resolve(_) | Self::Connect(_) | Self::Relay(_) => false,
        }
    }

    /// Which stage it is, for logs and the admin channel.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Negotiate(_) => Stage::Negotiate,
            Self::Authenticate(_) => Stage::Authenticate,
            Self::Request(_) => Stage::Request,
            Self::Resolve(_) => Stage::Resolve,
            Self::Connect(_) => Stage::Connect,
            Self::Relay(_) => Stage::Relay,
            Self::Closing(_) => Stage::Closing,
        }
    }
}

impl Facts {
    /// What is known when a connection was accepted.
    #[must_use]
    pub fn new(anonymous: Arc<User>) -> Self {
        Self {
            user: anonymous,
            command: Command::Connect,
            target: Target::Unknown,
            port: 0,
            requested: None,
            reply: None,
            resolved: None,
            dns: None,
            connect: None,
            attempts_count: 0,
        }
    }
}

impl Context<'_> {
    /// Counts something.
    pub fn count(&mut self, counter: Counter) {
        self.out.push(Output::Count(counter));
    }

    /// Takes that many of the bytes that were shown.
    pub fn consume(&mut self, bytes: usize) {
        *self.consumed += bytes;
    }

    /// Sends a short message to the client.
    pub fn send(&mut self, message: &[u8]) {
        let mut bytes = [0; super::wire::REPLY_BYTES_MAX];
        let length = message.len().min(bytes.len());
        bytes.iter_mut().zip(message).for_each(|(to, from)| *to = *from);
        self.out.push(Output::Send(bytes, u8::try_from(length).unwrap_or(0)));
    }

    /// Sends a reply, notes and counts it.
    pub fn reply(&mut self, reply: Reply, bound: SocketAddr) {
        let (bytes, length) = encode_reply(reply, bound);
        self.out.push(Output::Send(bytes, u8::try_from(length).unwrap_or(0)));
        self.facts.reply = Some(reply);
        self.count(counter_of(reply));
        self.out.push(Output::Replied);
    }

    /// Answers a request with a failure and says goodbye: the address of a failure is 0.0.0.0:0.
    pub fn fail(&mut self, reply: Reply) -> Session {
        self.reply(reply, SocketAddr::from(([0, 0, 0, 0], 0)));
        self.goodbye(CloseReason::Refused)
    }

    /// What ends every stage that waits for the client's next message: that it went away, or is too slow.
    pub fn waited_in_vain(&mut self, input: &Input<'_>, deadline: Instant) -> Option<Session> {
        match input {
            Input::ClientClosed => {
                self.count(Counter::ClientGone);
                Some(self.close(CloseReason::ClientClosed))
            }
            Input::Tick if self.now >= deadline => {
                self.count(Counter::HandshakeTimeout);
                Some(self.close(CloseReason::HandshakeTimeout))
            }
            Input::Tick
            | Input::Bytes(_)
            | Input::ClientReset
            | Input::Verdict(_)
            | Input::Answer(..)
            | Input::Connected(..)
            | Input::AttemptFailed(..) => None,
        }
    }

    /// Lets the client read the last answer, for a bounded time.
    pub fn goodbye(&mut self, reason: CloseReason) -> Session {
        Session::Closing(Closing { deadline: self.now + limits::CLOSING_LINGER, reason })
    }

    /// Ends the session at once, with nothing more to say.
    pub fn close(&mut self, reason: CloseReason) -> Session {
        self.out.push(Output::Close(reason));
        Session::Closing(Closing { deadline: self.now, reason })
    }
}

/// The last stage: the client reads the answer, then closes; if it does not, we do.
#[derive(Debug)]
pub struct Closing {
    deadline: Instant,
    reason: CloseReason,
}

impl Closing {
    fn step(self, input: Input<'_>, context: &mut Context<'_>) -> Session {
        match input {
            Input::Bytes(bytes) => context.consume(bytes.len()),
            Input::ClientClosed => context.out.push(Output::Close(self.reason)),
            Input::Tick if context.now >= self.deadline => context.out.push(Output::Close(self.reason)),
            // An attempt that connected after it was given up is the worker's to close.
            Input::Tick
            | Input::ClientReset
            | Input::Verdict(_)
            | Input::Answer(..)
            | Input::Connected(..)
            | Input::AttemptFailed(..) => {}
        }
        Session::Closing(self)
    }
}

fn counter_of(reply: Reply) -> Counter {
    match reply {
        Reply::Succeeded => Counter::ReplySucceeded,
        Reply::GeneralFailure => Counter::ReplyGeneralFailure,
        Reply::NotAllowed => Counter::ReplyNotAllowed,
        Reply::NetworkUnreachable => Counter::ReplyNetworkUnreachable,
        Reply::HostUnreachable => Counter::ReplyHostUnreachable,
        Reply::ConnectionRefused => Counter::ReplyConnectionRefused,
        Reply::TtlExpired => Counter::ReplyTtlExpired,
        Reply::CommandNotSupported => Counter::ReplyCommandNotSupported,
        Reply::AddressTypeNotSupported => Counter::ReplyAddressTypeNotSupported,
    }
}
