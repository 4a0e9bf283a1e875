//! One end of one session: does what the plan says, checks every byte that comes.
//!
//! The client speaks SOCKS first, then sends the session's number, by which the origin finds the plan.

use super::plan::{Ahead, Content, EarlyData, Ending, Kill, Plan, Random, Side};
use crate::poller::Ready;
use crate::socks::{Dialogue, Script, Step};
use crate::target::reset;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

/// Reads and writes of one peer before another has its turn.
const MOVES_PER_TURN: usize = 16;

/// Payload that goes ahead of the reply: what any server has to keep (a TLS client hello is smaller).
const AHEAD_BYTES_MAX: u64 = 2048;

/// Length of the session's number before the client's payload.
const NUMBER_BYTES: usize = 8;

/// How an end of a session ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Everything sent, everything received, both ends seen.
    Whole,
    /// This end broke the session, as planned.
    Killed,
    /// The other end broke it, as planned, and this one saw a break.
    Broken,
    /// The other end reset it and this one saw an ordinary end before all bytes had come.
    CutAsEnd,
    /// A connection ended before it said which session it was.
    Nameless,
    Wrong(Fault),
}

/// What must not happen.
#[derive(Debug, PartialEq)]
pub(crate) enum Fault {
    Byte { offset: u64 },
    Excess { bytes: u64 },
    Short { received: u64, expected: u64 },
    Broken { sent: u64, received: u64, cause: io::ErrorKind },
    Dialogue(String),
    Number(u64),
    Hangs { sent: u64, received: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte { offset } => write!(f, "wrong byte at offset {offset}"),
            Self::Excess { bytes } => write!(f, "{bytes} bytes more than were sent"),
            Self::Short { received, expected } => write!(f, "ended after {received} of {expected} bytes"),
            Self::Broken { sent, received, cause } => {
                write!(f, "broken ({cause}) after {sent} bytes sent and {received} received")
            }
            Self::Dialogue(cause) => write!(f, "no connection: {cause}"),
            Self::Number(number) => {
                write!(f, "session number {number}, which was not sent or was sent twice")
            }
            Self::Hangs { sent, received } => {
                write!(f, "hangs after {sent} bytes sent and {received} received")
            }
        }
    }
}

/// What a turn left.
#[derive(Debug, PartialEq)]
pub(crate) enum Turn {
    /// Until the socket is ready.
    Wait,
    /// Until then, ready or not.
    WaitUntil(Instant),
    /// Nothing was in the way; the others first.
    Again,
    Done(Outcome),
}

/// Rules of the run that every session shares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) seed: u64,
    pub(crate) early: EarlyData,
    /// Numbers from 0 up to, and without, this one are sessions of the run.
    pub(crate) sessions_end: u64,
}

/// One end.
pub(crate) struct Peer {
    /// `None` after a kill.
    stream: Option<TcpStream>,
    side: Side,
    rules: Rules,
    talk: Talk,
    /// Bytes that go before the payload.
    head: Vec<u8>,
    known: Option<Known>,
    pub(crate) begun: Instant,
    read_blocked: bool,
    write_blocked: bool,
    paused_until: Option<Instant>,
    received_end: bool,
    sent_end: bool,
    sent: u64,
    received: u64,
}

/// What follows from a session's number.
struct Known {
    number: u64,
    plan: Plan,
    random: Random,
    outgoing: Content,
    incoming: Content,
}

enum Talk {
    Dialogue(Dialogue, Script),
    /// The origin reads the number.
    Number(Vec<u8>),
    Payload,
}

/// What the readers and checkers of a turn share.
pub(crate) struct Scratch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: Vec<u8>,
}

/// A turn's way out: the session is over.
type Progress = Result<(), Outcome>;

impl Peer {
    /// A client that has begun to connect; `script` is what a SOCKS server has to be told.
    pub(crate) fn client(
        stream: TcpStream,
        number: u64,
        rules: Rules,
        script: Option<Script>,
        now: Instant,
    ) -> Self {
        let mut peer = Self::new(stream, Side::Client, rules, Talk::Payload, now);
        let known = peer.learn(number);
        let ahead = known.plan.ahead;
        match script {
            None => peer.queue_number(0),
            Some(script) => {
                if ahead == Ahead::Everything {
                    peer.head = script.whole();
                    peer.queue_number(AHEAD_BYTES_MAX);
                } else {
                    peer.head.clone_from(&script.greeting);
                }
                peer.talk = Talk::Dialogue(Dialogue::new(), script);
            }
        }
        peer
    }

    /// An origin's end, which will read whose it is.
    pub(crate) fn origin(stream: TcpStream, rules: Rules, now: Instant) -> Self {
        Self::new(stream, Side::Origin, rules, Talk::Number(Vec::new()), now)
    }

    fn new(stream: TcpStream, side: Side, rules: Rules, talk: Talk, begun: Instant) -> Self {
        Self {
            stream: Some(stream),
            side,
            rules,
            talk,
            head: Vec::new(),
            known: None,
            begun,
            read_blocked: false,
            write_blocked: false,
            paused_until: None,
            received_end: false,
            sent_end: false,
            sent: 0,
            received: 0,
        }
    }

    /// The session's number, where it is known yet.
    pub(crate) fn number(&self) -> Option<u64> {
        self.known.as_ref().map(|known| known.number)
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    pub(crate) fn hangs(&self) -> Outcome {
        Outcome::Wrong(Fault::Hangs { sent: self.sent, received: self.received })
    }

    /// The socket said that it is ready.
    pub(crate) fn unblock(&mut self, event: Ready) {
        self.read_blocked &= !event.is_readable();
        self.write_blocked &= !event.is_writable();
    }

    /// Reads and writes until both wait.
    pub(crate) fn turn(&mut self, now: Instant, scratch: &mut Scratch) -> Turn {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        for _ in 0..MOVES_PER_TURN {
            let step =
                self.write(scratch).and_then(|()| self.read(now, scratch)).and_then(|()| self.check_end());
            if let Err(outcome) = step {
                return Turn::Done(outcome);
            }
            let may_read = !self.read_blocked && !self.received_end && self.paused_until.is_none();
            let may_write = !self.write_blocked && self.has_something_to_write();
            if !may_read && !may_write {
                return self.paused_until.map_or(Turn::Wait, Turn::WaitUntil);
            }
        }
        Turn::Again
    }

    fn learn(&mut self, number: u64) -> &Known {
        let Rules { seed, early, .. } = self.rules;
        let other = if self.side == Side::Client { Side::Origin } else { Side::Client };
        self.known.insert(Known {
            number,
            plan: Plan::new(seed, number, early),
            random: Random::new(seed ^ 0x5eed, number),
            outgoing: Content::new(seed, number, self.side),
            incoming: Content::new(seed, number, other),
        })
    }

    /// The number, and up to `payload_max` bytes of payload behind it, go out next.
    fn queue_number(&mut self, payload_max: u64) {
        let Some(known) = &self.known else { return };
        self.head.extend(known.number.to_be_bytes());
        if known.plan.sends_last(self.side) {
            return;
        }
        let count = known.plan.bytes(self.side).0.min(payload_max);
        let start = self.head.len();
        self.head.resize(start + usize::try_from(count).unwrap_or(0), 0);
        known.outgoing.fill(0, self.head.get_mut(start..).unwrap_or_default());
        self.sent += count;
    }

    fn has_something_to_write(&self) -> bool {
        if !self.head.is_empty() {
            return true;
        }
        let Some(known) = &self.known else { return false };
        let waits = known.plan.sends_last(self.side) && !self.received_end;
        matches!(self.talk, Talk::Payload) && !self.sent_end && !waits
    }

    fn write(&mut self, scratch: &mut Scratch) -> Progress {
        if self.write_blocked || !self.has_something_to_write() {
            return Ok(());
        }
        let (Some(known), Some(mut stream)) = (&mut self.known, self.stream.as_ref()) else { return Ok(()) };
        let left = known.plan.bytes(self.side).0 - self.sent;
        let piece_max = known.random.between(1, known.plan.manners(self.side).write_bytes_max);
        let piece_length = |available: u64| usize::try_from(piece_max.min(available)).unwrap_or(1);
        let result = if !self.head.is_empty() {
            let piece = self.head.get(..piece_length(self.head.len() as u64)).unwrap_or_default();
            stream.write(piece).map(|count| drop(self.head.drain(..count)))
        } else if left == 0 {
            self.sent_end = true;
            stream.shutdown(Shutdown::Write)
        } else {
            let length = piece_length(left).min(scratch.bytes.len());
            let piece = scratch.bytes.get_mut(..length).unwrap_or_default();
            known.outgoing.fill(self.sent, piece);
            stream.write(piece).map(|count| self.sent += count as u64)
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.write_blocked = true;
                Ok(())
            }
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn read(&mut self, now: Instant, scratch: &mut Scratch) -> Progress {
        if self.read_blocked || self.received_end || self.paused_until.is_some() {
            return Ok(());
        }
        let Some(mut stream) = self.stream.as_ref() else { return Ok(()) };
        let manners = self.known.as_ref().map(|known| known.plan.manners(self.side));
        let length_max = manners.map_or(512, |manners| manners.read_bytes_max);
        let length = usize::try_from(length_max).unwrap_or(usize::MAX).min(scratch.bytes.len());
        let count = match stream.read(scratch.bytes.get_mut(..length).unwrap_or_default()) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.read_blocked = true;
                return Ok(());
            }
            Err(error) => return Err(self.broken(&error)),
        };
        if count == 0 {
            self.received_end = true;
            return self.check_received();
        }
        if let Some(pause) = manners.map(|manners| manners.read_pause).filter(|pause| !pause.is_zero()) {
            self.paused_until = Some(now + pause);
        }
        let input = scratch.bytes.get(..count).unwrap_or_default();
        let payload = match self.before_payload(input)? {
            Some(consumed) => input.get(consumed..).unwrap_or_default(),
            None => return Ok(()),
        };
        let Some(known) = &self.known else { return Ok(()) };
        if let Some(offset) = known.incoming.first_wrong(self.received, payload, &mut scratch.expected) {
            return Err(Outcome::Wrong(Fault::Byte { offset }));
        }
        self.received += payload.len() as u64;
        let expected = known.plan.bytes(self.side).1;
        match self.received.checked_sub(expected) {
            Some(bytes @ 1..) => Err(Outcome::Wrong(Fault::Excess { bytes })),
            _ => Ok(()),
        }
    }

    /// Takes what comes before the payload; `Some`: so many bytes of the input, the rest is payload.
    fn before_payload(&mut self, input: &[u8]) -> Result<Option<usize>, Outcome> {
        match &mut self.talk {
            Talk::Payload => Ok(Some(0)),
            Talk::Number(number) => {
                let consumed = input.len().min(NUMBER_BYTES - number.len());
                number.extend(input.get(..consumed).unwrap_or_default());
                let Ok(bytes) = <[u8; NUMBER_BYTES]>::try_from(number.as_slice()) else { return Ok(None) };
                let number = u64::from_be_bytes(bytes);
                if number >= self.rules.sessions_end {
                    return Err(Outcome::Wrong(Fault::Number(number)));
                }
                self.learn(number);
                self.talk = Talk::Payload;
                Ok(Some(consumed))
            }
            Talk::Dialogue(dialogue, script) => {
                let step = dialogue.receive(script, input);
                let ahead = self.known.as_ref().map_or(Ahead::Nothing, |known| known.plan.ahead);
                match step {
                    Err(error) => Err(Outcome::Wrong(Fault::Dialogue(error.to_string()))),
                    Ok(Step::Wait) => Ok(None),
                    Ok(Step::Send(message)) => {
                        if ahead != Ahead::Everything {
                            let is_request = script.whole().ends_with(message);
                            self.head.extend(message);
                            if is_request && ahead == Ahead::WithRequest {
                                self.queue_number(AHEAD_BYTES_MAX);
                            }
                        }
                        Ok(None)
                    }
                    Ok(Step::Established(consumed)) => {
                        self.talk = Talk::Payload;
                        if ahead == Ahead::Nothing {
                            self.queue_number(0);
                        }
                        Ok(Some(consumed))
                    }
                }
            }
        }
    }

    /// After every move: is it time to break the session, or is it over?
    fn check_end(&mut self) -> Progress {
        let Some(known) = &self.known else { return Ok(()) };
        if !matches!(self.talk, Talk::Payload) || !self.head.is_empty() {
            return Ok(());
        }
        if let Ending::Kill { by, after, how } = known.plan.ending
            && by == self.side
            && self.sent + self.received > after
        {
            if let (Some(stream), Kill::Reset) = (self.stream.take(), how) {
                // A connection that is broken already needs no breaking.
                let _ = reset(stream);
            }
            return Err(Outcome::Killed);
        }
        if self.received_end && self.sent_end { Err(Outcome::Whole) } else { Ok(()) }
    }

    /// The other side's end came: was everything before it?
    fn check_received(&self) -> Progress {
        let Some(known) = &self.known else { return Err(Outcome::Nameless) };
        if let Talk::Dialogue(..) = self.talk {
            return Err(Outcome::Wrong(Fault::Dialogue("closed during the dialogue".to_owned())));
        }
        let expected = known.plan.bytes(self.side).1;
        if self.received == expected {
            return Ok(());
        }
        match known.plan.ending {
            Ending::Kill { by, how: Kill::Reset, .. } if by != self.side => Err(Outcome::CutAsEnd),
            Ending::Kill { by, how: Kill::Close, .. } if by != self.side => Err(Outcome::Broken),
            Ending::Kill { .. } | Ending::Whole => {
                Err(Outcome::Wrong(Fault::Short { received: self.received, expected }))
            }
        }
    }

    fn broken(&self, error: &io::Error) -> Outcome {
        let Some(known) = &self.known else { return Outcome::Nameless };
        match known.plan.ending {
            Ending::Kill { by, .. } if by != self.side => Outcome::Broken,
            Ending::Kill { .. } | Ending::Whole => Outcome::Wrong(Fault::Broken {
                sent: self.sent,
                received: self.received,
                cause: error.kind(),
            }),
        }
    }
}
