//! Version 2: HELLO, log-in by SCRAM, then requests and the channels they open.
//!
//! What concerns the association alone (order, roles, channel numbers, credit, cancel, good-bye) is answered
//! here; everything else goes out as a request to be carried out. Requests are begun in their order, and none
//! while a change is under way, so that each sees what those before it have changed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use pipo_protocol::Name;
use pipo_protocol::limits::{CHANNELS_COUNT_MAX, RECORD_BYTES_MAX};
use pipo_protocol::v2::credit::SendCredit;
use pipo_protocol::v2::events::{Event, Happening};
use pipo_protocol::v2::login::Transcript;
use pipo_protocol::v2::messages::{
    Cancelled, HelloReply, JoinedNonce, Limits, LoginChallenge, LoginDone, LoginProof, LoginStart, Nothing,
    Notice, NoticeKind, Salt,
};
use pipo_protocol::v2::{
    Answer, Command, CommandRow, Effect, Header, Key, Kind, Record, Reply, Request, Role, Status, Text, Word,
    encode_raw, encode_record,
};

use super::{Ending, Output};
use crate::admin::answer::Refusal;
use crate::admin::channels::{Channels, Content};
use crate::admin::dispatch::v2::{FEATURES, granted, role_of};
use crate::limits;
use crate::store::{RefusedBecause, User, Verdict};

/// One association that speaks version 2.
#[derive(Debug, Default)]
pub(in crate::admin) struct Dialogue {
    stage: Stage,
    messages: Messages,
    transcript: Transcript,
    /// Requests that are begun and not answered.
    waiting: BTreeMap<u32, Waiting>,
    /// Records to be sent before anything else is begun.
    outbox: VecDeque<Vec<u8>>,
    refused: Refused,
    pub(in crate::admin) channels: Channels,
}

/// Where the dialogue is.
#[derive(Debug, Default)]
enum Stage {
    #[default]
    Hello,
    /// Waits for the log-in to begin.
    Start,
    /// Waits for the user's salt and a nonce.
    Naming(Header, LoginStart),
    /// Waits for the proof that holds for this nonce.
    Proof(Name, JoinedNonce),
    /// Waits for the verdict on it.
    Checking(Header, Vec<u8>),
    /// Refused, and says so at that moment.
    Refusing(Instant, Header, Status),
    Open(Arc<User>),
}

/// Requests that were refused here, to be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::admin) struct Refused {
    pub(in crate::admin) unknown: u64,
    pub(in crate::admin) invalid: u64,
}

/// A request that is not answered.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    header: Header,
    effect: Effect,
    /// Of the channel that the answer opens.
    credit: Option<SendCredit>,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    Output(Output),
    /// Says these, then the association ends.
    End(Vec<Vec<u8>>, Ending),
}

/// Octets of our part of the nonce.
pub(in crate::admin) const NONCE_BYTES: usize = 24;

/// What a client computes its proof with.
#[derive(Debug)]
pub(in crate::admin) struct Seasoning {
    pub(in crate::admin) salt: Vec<u8>,
    pub(in crate::admin) iterations: u32,
    /// Random octets of ours, never used before.
    pub(in crate::admin) nonce: [u8; NONCE_BYTES],
}

// ---- what comes in --------------------------------------------------------------------------------------

impl Dialogue {
    /// Takes part of a message.
    pub(super) fn piece(&mut self, bytes: &[u8]) {
        self.messages.push(bytes);
    }

    /// The message ends with what came last.
    pub(super) fn message_ended(&mut self) {
        self.messages.end();
    }

    /// Bytes that have arrived and are not understood yet.
    pub(super) fn backlog_bytes(&self) -> usize {
        self.messages.bytes
    }

    /// Who has logged in.
    pub(super) fn user(&self) -> Option<&Arc<User>> {
        match &self.stage {
            Stage::Open(user) => Some(user),
            Stage::Hello
            | Stage::Start
            | Stage::Naming(..)
            | Stage::Proof(..)
            | Stage::Checking(..)
            | Stage::Refusing(..) => None,
        }
    }

    /// The user has another record, with other rights perhaps.
    pub(in crate::admin) fn set_user(&mut self, changed: Arc<User>) {
        if let Stage::Open(user) = &mut self.stage {
            *user = changed;
        }
    }

    /// When something is to be said although nothing comes in.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Refusing(at, ..) => Some(*at),
            Stage::Hello
            | Stage::Start
            | Stage::Naming(..)
            | Stage::Proof(..)
            | Stage::Checking(..)
            | Stage::Open(_) => None,
        }
    }

    /// Requests that are begun and not answered.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// A change is under way: what it makes of its own association comes with its reply.
    pub(super) fn is_changing(&self) -> bool {
        self.waiting.values().any(|waiting| waiting.effect == Effect::Change)
    }

    /// What was refused since the last call.
    pub(in crate::admin) fn take_refused(&mut self) -> Refused {
        std::mem::take(&mut self.refused)
    }

    /// A request is answered by one reply. `false`: it was cancelled meanwhile, and nothing may be sent.
    pub(in crate::admin) fn answered(&mut self, request: u32) -> bool {
        self.waiting.remove(&request).is_some()
    }

    /// A request is answered on its channel, which opens. `false`: it was cancelled meanwhile.
    pub(in crate::admin) fn open(&mut self, request: &Header, content: Content) -> bool {
        let waiting = self.waiting.remove(&request.request);
        let credit = waiting.and_then(|waiting| waiting.credit);
        if let Some(credit) = credit {
            self.channels.open(*request, credit, content);
        }
        credit.is_some()
    }
}

// ---- what goes out --------------------------------------------------------------------------------------

impl Dialogue {
    /// `None`: nothing before further input or a later moment. `sequence` is the number of the last event.
    pub(super) fn next_output(&mut self, sequence: u64, now: Instant) -> Option<Step> {
        loop {
            if let Some(record) = self.outbox.pop_front() {
                return Some(Step::Output(Output::Send(record)));
            }
            if let Stage::Refusing(at, header, status) = &self.stage {
                return (now >= *at).then(|| login_refused(header, *status, sequence));
            }
            if self.is_changing() || matches!(self.stage, Stage::Naming(..) | Stage::Checking(..)) {
                return None;
            }
            let Ok(message) = self.messages.next()? else {
                return Some(broken("A record has at most 4096 octets.", sequence));
            };
            let step = match Record::decode(&message) {
                Ok(record) => match self.judge(&record) {
                    Ok(request) => self.begin(record.header, request, &message, sequence),
                    Err(refusal) => self.refuse(&record.header, &refusal),
                },
                Err(error) => Some(broken(&format!("Not a record: {error}."), sequence)),
            };
            if step.is_some() {
                return step;
            }
        }
    }

    /// Whether a record is a request that may be begun.
    fn judge(&self, record: &Record<'_>) -> Result<Request, Refusal> {
        let header = &record.header;
        if header.kind != Kind::Request {
            return Err(Refusal::saying(Status::Malformed, "Clients send requests only (TYPE 1)."));
        }
        let command = Command::from(header.command);
        let row = command.row();
        let role = self.user().map(|user| role_of(user));
        match (row, role) {
            (Some(row), role) if row.permits(role) => {}
            (None | Some(_), None) => return Err(Refusal::of(Status::OutOfOrder)),
            (Some(row), Some(_)) => return Err(not_allowed(row)),
            (None, Some(_)) => return Err(Refusal::of(Status::UnknownCommand)),
        }
        if command != Command::Credit {
            self.judge_request(header.request)?;
        }
        let request = Request::decode(command, record.body).map_err(|error| Refusal::from(&error))?;
        let request = request.ok_or_else(|| Refusal::of(Status::UnknownCommand))?;
        self.judge_channel(header.channel, row.map(|row| row.answer))?;
        if let Some(granted) = granted(&request)
            && SendCredit::open(granted).is_none()
        {
            return Err(Refusal::field(Status::Invalid, 0, "Allowed credit is 4096 to 262144 octets."));
        }
        Ok(request)
    }

    fn judge_request(&self, request: u32) -> Result<(), Refusal> {
        if request == 0 || self.waiting.contains_key(&request) || self.channels.has_request(request) {
            let sentence = "REQUEST must not be 0, nor that of a request that is not answered in full.";
            return Err(Refusal::saying(Status::Malformed, sentence));
        }
        Ok(())
    }

    fn judge_channel(&self, channel: u32, answer: Option<Answer>) -> Result<(), Refusal> {
        let opens = matches!(answer, Some(Answer::Parts | Answer::Subscription));
        let promised = self.waiting.values().filter(|waiting| waiting.header.channel != 0);
        let is_taken =
            self.channels.is_open(channel) || promised.clone().any(|other| other.header.channel == channel);
        if opens != (channel != 0) || (opens && is_taken) {
            return Err(Refusal::of(Status::BadChannel));
        }
        if opens && self.channels.count() + promised.count() >= CHANNELS_COUNT_MAX {
            return Err(Refusal::of(Status::TooManyChannels));
        }
        Ok(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all else is for the nouns, whose match lists it")]
    fn begin(&mut self, header: Header, request: Request, message: &[u8], sequence: u64) -> Option<Step> {
        match request {
            Request::Hello(_) => self.hello(&header, message),
            Request::LoginStart(start) => self.start(header, start, message),
            Request::LoginProof(proof) => self.prove(header, &proof),
            Request::Goodbye(_) => {
                let answer = reply(&header, &Reply::Goodbye(Nothing {}));
                Some(Step::End(vec![answer], Ending::Goodbye))
            }
            Request::Credit(credit) => {
                self.channels.grant(credit.channel, credit.bytes);
                None
            }
            Request::Cancel(cancel) => {
                let found = self.cancel(cancel.request, sequence);
                self.say(&header, &Reply::Cancel(Cancelled { found }))
            }
            Request::Unsubscribe(which) if self.channels.unsubscribe(which.channel, sequence) => {
                self.say(&header, &Reply::Unsubscribe(Nothing {}))
            }
            Request::Unsubscribe(_) => self.refuse(&header, &Refusal::of(Status::NotFound)),
            request => {
                let effect = request.command().row().map_or(Effect::Query, |row| row.effect);
                let credit = granted(&request).and_then(SendCredit::open);
                self.waiting.insert(header.request, Waiting { header, effect, credit });
                Some(Step::Output(Output::Request(header, Box::new(request))))
            }
        }
    }

    /// Ends what can be ended: answers in parts, subscriptions, and queries that wait. Whether there was such a
    /// request; a change that has begun goes on.
    fn cancel(&mut self, request: u32, sequence: u64) -> bool {
        if self.channels.cancel(request, sequence) {
            return true;
        }
        match self.waiting.get(&request).copied() {
            None => false,
            Some(Waiting { effect: Effect::Change, .. }) => true,
            Some(Waiting { header, .. }) => {
                self.waiting.remove(&request);
                self.outbox.push_back(refusal_record(&header, &Refusal::of(Status::Cancelled)));
                true
            }
        }
    }

    fn say(&mut self, request: &Header, answer: &Reply) -> Option<Step> {
        self.outbox.push_back(reply(request, answer));
        None
    }

    fn refuse(&mut self, request: &Header, refusal: &Refusal) -> Option<Step> {
        let is_unknown = refusal.status == Status::UnknownCommand;
        let count = if is_unknown { &mut self.refused.unknown } else { &mut self.refused.invalid };
        *count += 1;
        self.outbox.push_back(refusal_record(request, refusal));
        None
    }
}

// ---- log-in ---------------------------------------------------------------------------------------------

impl Dialogue {
    fn hello(&mut self, header: &Header, message: &[u8]) -> Option<Step> {
        if !matches!(self.stage, Stage::Hello) {
            return self.refuse(header, &Refusal::of(Status::OutOfOrder));
        }
        self.stage = Stage::Start;
        let hello = HelloReply {
            server: Word::cut(env!("CARGO_PKG_NAME")),
            features: FEATURES.iter().map(|feature| Word::cut(feature)).collect(),
            limits: Limits::SPECIFIED,
            iterations: limits::SCRAM_ITERATIONS,
        };
        let answer = reply(header, &Reply::Hello(hello));
        self.transcript.add(message);
        self.transcript.add(&answer);
        self.outbox.push_back(answer);
        None
    }

    fn start(&mut self, header: Header, start: LoginStart, message: &[u8]) -> Option<Step> {
        if !matches!(self.stage, Stage::Start) {
            return self.refuse(&header, &Refusal::of(Status::OutOfOrder));
        }
        self.transcript.add(message);
        let user = start.user.clone();
        self.stage = Stage::Naming(header, start);
        Some(Step::Output(Output::Challenge(user)))
    }

    /// Takes what the challenge is made of.
    pub(super) fn season(&mut self, seasoning: &Seasoning) {
        let Stage::Naming(header, start) = &self.stage else { return };
        let joined = [start.nonce.as_bytes(), &seasoning.nonce].concat();
        let (Some(nonce), Some(salt)) = (JoinedNonce::new(joined), Salt::new(seasoning.salt.as_slice()))
        else {
            // Both lengths are in their bounds, unless the store was given a shorter salt than it takes.
            let refusal = Refusal::of(Status::Internal);
            self.outbox.push_back(refusal_record(header, &refusal));
            self.stage = Stage::Start;
            return;
        };
        let challenge = LoginChallenge { nonce: nonce.clone(), salt, iterations: seasoning.iterations };
        let answer = reply(header, &Reply::LoginStart(challenge));
        self.transcript.add(&answer);
        self.outbox.push_back(answer);
        self.stage = Stage::Proof(start.user.clone(), nonce);
    }

    fn prove(&mut self, header: Header, proof: &LoginProof) -> Option<Step> {
        let Stage::Proof(user, nonce) = &self.stage else {
            return self.refuse(&header, &Refusal::of(Status::OutOfOrder));
        };
        // A proof for a nonce that is not ours is checked like any other, as the proof for ours that it is not:
        // a refusal looks the same whatever was wrong.
        let auth_message = self.transcript.auth_message(nonce.as_bytes());
        let octets = if proof.nonce == *nonce { *proof.proof.as_bytes() } else { [0; 32] };
        let output = Output::Prove { user: user.clone(), auth_message: auth_message.clone(), proof: octets };
        self.stage = Stage::Checking(header, auth_message);
        Some(Step::Output(output))
    }

    /// Takes the verdict on the proof. Refusals are told at `refuse_at`.
    pub(super) fn verdict(&mut self, verdict: Verdict, as_of: u64, refuse_at: Instant) {
        let Stage::Checking(header, auth_message) = &self.stage else { return };
        let header = *header;
        self.stage = match verdict {
            Verdict::Accepted(user) => match user.server_signature(auth_message) {
                Some(signature) => {
                    let done = LoginDone { as_of, signature: Key::new(signature), role: role_of(&user) };
                    self.outbox.push_back(reply(&header, &Reply::LoginProof(done)));
                    self.transcript = Transcript::default();
                    Stage::Open(user)
                }
                None => Stage::Refusing(refuse_at, header, Status::Internal),
            },
            Verdict::Refused(RefusedBecause::Credentials) => {
                Stage::Refusing(refuse_at, header, Status::LoginFailed)
            }
            Verdict::Refused(RefusedBecause::Throttled) => {
                Stage::Refusing(refuse_at, header, Status::TooManyFailures)
            }
            Verdict::Refused(RefusedBecause::QueueFull) => Stage::Refusing(refuse_at, header, Status::Busy),
        };
    }
}

fn login_refused(header: &Header, status: Status, sequence: u64) -> Step {
    let records = vec![refusal_record(header, &Refusal::of(status)), goodbye(status, None, sequence)];
    Step::End(records, Ending::LoginRefused)
}

fn broken(sentence: &str, sequence: u64) -> Step {
    Step::End(vec![goodbye(Status::Malformed, Some(sentence), sequence)], Ending::Malformed)
}

fn not_allowed(row: &CommandRow) -> Refusal {
    let least = row.role.map_or("nobody", Role::name);
    let words = format!("{} {}", row.noun, row.verb);
    let sentence = format!("`{}` is for the role {least} and those above it.", words.trim_end());
    Refusal::saying(Status::NotAllowed, &sentence)
}

// ---- records --------------------------------------------------------------------------------------------

/// The one reply to a request; one that does not fit in a record says so.
pub(in crate::admin) fn reply(request: &Header, reply: &Reply) -> Vec<u8> {
    encode_raw(&request.reply(Status::Ok), &reply.encode())
        .unwrap_or_else(|_| refusal_record(request, &Refusal::of(Status::TooLong)))
}

/// The reply that refuses a request.
pub(in crate::admin) fn refusal_record(request: &Header, refusal: &Refusal) -> Vec<u8> {
    encode_record(&request.reply(refusal.status), &*refusal.body)
        .unwrap_or_else(|_| unreachable!("a sentence of 1024 octets fits a record"))
}

/// The notice that the association ends, and why.
pub(in crate::admin) fn goodbye(status: Status, sentence: Option<&str>, sequence: u64) -> Vec<u8> {
    let sentence = Text::cut(sentence.unwrap_or_else(|| status.sentence()));
    let said = Notice { kind: NoticeKind::Goodbye, sentence: Some(sentence), left_ms: None, revision: None };
    notice_record(Header { status, last: true, ..NOTICE }, said, sequence)
}

/// A notice on channel 0.
pub(in crate::admin) fn notice(said: Notice, sequence: u64) -> Vec<u8> {
    notice_record(NOTICE, said, sequence)
}

const NOTICE: Header =
    Header { kind: Kind::Event, command: 0, status: Status::Ok, last: false, request: 0, channel: 0 };

fn notice_record(header: Header, said: Notice, sequence: u64) -> Vec<u8> {
    let event = Event::new(sequence, crate::admin::events::unix_ms(), Happening::Notice(said));
    encode_record(&header, &event).unwrap_or_else(|_| unreachable!("a sentence of 512 octets fits a record"))
}

// ---- messages -------------------------------------------------------------------------------------------

/// Whole messages that wait to be understood, and the beginning of one.
#[derive(Default)]
struct Messages {
    whole: VecDeque<Result<Vec<u8>, TooLong>>,
    begun: Vec<u8>,
    is_too_long: bool,
    bytes: usize,
}

/// A message longer than any record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TooLong;

impl Messages {
    fn push(&mut self, bytes: &[u8]) {
        if self.begun.len() + bytes.len() > RECORD_BYTES_MAX {
            self.is_too_long = true; // Its end is not worth waiting for.
            self.whole.push_back(Err(TooLong));
        }
        if !self.is_too_long {
            self.begun.extend_from_slice(bytes);
            self.bytes += bytes.len();
        }
    }

    fn end(&mut self) {
        if !self.is_too_long {
            self.whole.push_back(Ok(std::mem::take(&mut self.begun)));
        }
    }

    fn next(&mut self) -> Option<Result<Vec<u8>, TooLong>> {
        let message = self.whole.pop_front()?;
        if let Ok(message) = &message {
            self.bytes -= message.len();
        }
        Some(message)
    }
}

/// The messages may hold verifiers.
impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").field("bytes_count", &self.bytes).finish()
    }
}

#[cfg(test)]
mod tests;
