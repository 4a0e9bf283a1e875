//! The client's side of one association after the login, version 2, as a value: asks go in and records come out,
//! octets go in and what they say comes out. No socket, no clock.
//!
//! Every record is checked against what was asked and what was granted; a server that breaks the protocol ends the
//! association. What the asks are for, and what is done after a loss, is the keeper's business.

use std::collections::{BTreeMap, VecDeque};

use pipo_protocol::v2::credit::ReceiveCredit;
use pipo_protocol::v2::events::Event;
use pipo_protocol::v2::messages::{Cancel, Credit, Goodbye, Limits, Notice, NoticeKind, Unsubscribe};
use pipo_protocol::v2::{
    Answer, Command, ErrorBody, Header, Kind, Message, Record, Reply, Request, Status, encode_raw,
};

use super::{CREDIT_BYTES, RequestError};

/// Names one ask over all associations of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AskId(pub(super) u64);

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The one answer.
    Reply(AskId, Reply),
    /// A part, of so many octets; whether it is the last.
    Part { ask: AskId, reply: Reply, bytes: usize, last: bool },
    /// A subscription's channel is open; events after this number are delivered.
    Subscribed { ask: AskId, as_of: u64 },
    /// An event of a subscription, of so many octets.
    Event { ask: AskId, event: Box<Event>, bytes: usize },
    /// A subscription is over, or a request was refused.
    Ended(AskId, Result<(), RequestError>),
    /// Something that nobody asked for.
    Notice(Box<Event>),
    /// The server leaves, and why.
    Goodbye(String),
}

/// What is under way on one association.
#[derive(Debug)]
pub(super) struct Association {
    arrived: Vec<u8>,
    request_last: u32,
    credit_bytes: u32,
    /// By REQUEST.
    waiting: BTreeMap<u32, Waiting>,
    /// By CHANNEL.
    channels: BTreeMap<u32, Channel>,
}

/// A request that is not answered in full.
#[derive(Debug)]
struct Waiting {
    /// `None`: nobody waits for the answer any more.
    ask: Option<AskId>,
    command: Command,
    answer: Answer,
    /// Its channel, 0 for none.
    channel: u32,
    /// A subscription's reply is there.
    subscribed: bool,
}

/// A channel that the server may send on.
#[derive(Debug)]
struct Channel {
    request: u32,
    credit: ReceiveCredit,
    /// Credit that the server has left.
    left: u32,
}

/// What cannot be followed any further, for people.
pub(super) type Violation = String;

impl Association {
    /// After the login, with what arrived behind it.
    pub(super) fn new(arrived: Vec<u8>, request_last: u32, limits: &Limits) -> Self {
        Self {
            arrived,
            request_last,
            credit_bytes: CREDIT_BYTES.min(limits.credit_bytes_max),
            waiting: BTreeMap::new(),
            channels: BTreeMap::new(),
        }
    }

    // ---- what is asked -------------------------------------------------------------------------------------

    /// Sends a request. Errors: it does not fit in a record.
    pub(super) fn begin(
        &mut self,
        ask: AskId,
        request: &Request,
        outgoing: &mut VecDeque<Vec<u8>>,
    ) -> Result<(), RequestError> {
        let command = request.command();
        let answer = command.row().map_or(Answer::One, |row| row.answer);
        let number = self.free_request();
        let opens = matches!(answer, Answer::Parts | Answer::Subscription);
        let channel = if opens { self.free_channel() } else { 0 };
        let body = with_credit(request.clone(), self.credit_bytes).encode();
        let header = Header { channel, ..Header::request(command.code(), number) };
        outgoing.push_back(encode_raw(&header, &body).map_err(|error| RequestError::Refused {
            status: Status::TooLong,
            body: ErrorBody::saying(&format!("The request does not fit in a record: {error}.")),
        })?);
        self.waiting.insert(number, Waiting { ask: Some(ask), command, answer, channel, subscribed: false });
        if opens {
            let credit = ReceiveCredit::open(self.credit_bytes);
            self.channels.insert(channel, Channel { request: number, credit, left: self.credit_bytes });
        }
        Ok(())
    }

    /// Nobody waits for this ask any more: cancels it. Its number stays taken until the server is done with it.
    pub(super) fn cancel(&mut self, ask: AskId, outgoing: &mut VecDeque<Vec<u8>>) {
        let Some((&number, waiting)) = self.waiting.iter_mut().find(|(_, w)| w.ask == Some(ask)) else {
            return;
        };
        waiting.ask = None;
        let request = match waiting.answer {
            Answer::Subscription => Request::Unsubscribe(Unsubscribe { channel: waiting.channel }),
            Answer::One | Answer::Parts | Answer::Never => Request::Cancel(Cancel { request: number }),
        };
        self.tell(&request, Answer::One, outgoing);
    }

    /// A record of this ask was displayed.
    pub(super) fn displayed(&mut self, ask: AskId, bytes: usize, outgoing: &mut VecDeque<Vec<u8>>) {
        let of_ask = self.waiting.values().find(|waiting| waiting.ask == Some(ask));
        let Some((number, channel)) =
            of_ask.and_then(|w| self.channels.get_mut(&w.channel).map(|channel| (w.channel, channel)))
        else {
            return;
        };
        if let Some(bytes) = channel.credit.displayed(bytes) {
            channel.left = channel.left.saturating_add(bytes);
            self.tell(&Request::Credit(Credit { channel: number, bytes }), Answer::Never, outgoing);
        }
    }

    /// Leaves in good order.
    pub(super) fn goodbye(&mut self, outgoing: &mut VecDeque<Vec<u8>>) {
        self.tell(&Request::Goodbye(Goodbye { reason: None }), Answer::One, outgoing);
    }

    /// Sends a short request whose answer nobody waits for.
    fn tell(&mut self, request: &Request, answer: Answer, outgoing: &mut VecDeque<Vec<u8>>) {
        let number = self.free_request();
        let command = request.command();
        match encode_raw(&Header::request(command.code(), number), &request.encode()) {
            Ok(record) => outgoing.push_back(record),
            Err(error) => unreachable!("numbers alone fit in a record: {error}"),
        }
        if answer != Answer::Never {
            let waiting = Waiting { ask: None, command, answer, channel: 0, subscribed: false };
            self.waiting.insert(number, waiting);
        }
    }

    fn free_request(&mut self) -> u32 {
        loop {
            self.request_last = self.request_last.wrapping_add(1);
            if self.request_last != 0 && !self.waiting.contains_key(&self.request_last) {
                return self.request_last;
            }
        }
    }

    fn free_channel(&self) -> u32 {
        // Few are open at once, so the search is short.
        (1..=u32::MAX).find(|number| !self.channels.contains_key(number)).unwrap_or(u32::MAX)
    }

    // ---- what is said --------------------------------------------------------------------------------------

    /// Reads what has arrived. Errors: the association is of no more use; what was said before it is in `out`.
    pub(super) fn receive(&mut self, octets: &[u8], out: &mut Vec<Said>) -> Result<(), Violation> {
        self.arrived.extend_from_slice(octets);
        let arrived = std::mem::take(&mut self.arrived);
        let mut rest = arrived.as_slice();
        while let Some((record, taken)) = Record::split(rest).map_err(|error| error.to_string())? {
            out.extend(self.read(&record, taken)?);
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.arrived = rest.to_vec();
        Ok(())
    }

    fn read(&mut self, record: &Record<'_>, bytes: usize) -> Result<Option<Said>, Violation> {
        match record.header.kind {
            Kind::Reply if record.header.channel == 0 => self.read_reply(record),
            Kind::Reply => self.read_part(record, bytes),
            Kind::Event if record.header.channel == 0 => read_notice(record).map(Some),
            Kind::Event => self.read_event(record, bytes),
            Kind::Request => Err("a request came from the server".to_owned()),
            Kind::Unassigned(_) => Ok(None),
        }
    }

    /// A reply on channel 0: the one answer, the beginning of a subscription, or a refusal.
    fn read_reply(&mut self, record: &Record<'_>) -> Result<Option<Said>, Violation> {
        let Header { request: number, command, status, .. } = record.header;
        let waiting = self.waiting.get_mut(&number).filter(|waiting| waiting.command.code() == command);
        let Some(waiting) = waiting else {
            return Err(format!("a reply to request {number}, which was not asked"));
        };
        let ask = waiting.ask;
        if status != Status::Ok {
            self.channels.remove(&waiting.channel);
            self.waiting.remove(&number);
            return Ok(ask.map(|ask| Said::Ended(ask, Err(refusal(record)))));
        }
        let reply = decode_reply(record)?;
        match waiting.answer {
            Answer::One | Answer::Never => {
                self.waiting.remove(&number);
                Ok(ask.map(|ask| Said::Reply(ask, reply)))
            }
            Answer::Parts => Err("a list on channel 0".to_owned()),
            Answer::Subscription if waiting.subscribed => Err("a second reply to one request".to_owned()),
            Answer::Subscription => {
                waiting.subscribed = true;
                if !self.channels.contains_key(&waiting.channel) {
                    // The channel was over before the reply came.
                    self.waiting.remove(&number);
                }
                let (Reply::LogFollow(subscribed)
                | Reply::Events(subscribed)
                | Reply::SessionTrace(subscribed)
                | Reply::MetricsFollow(subscribed)) = reply
                else {
                    return Err("a subscription's reply of another kind".to_owned());
                };
                let as_of = subscribed.as_of;
                Ok(ask.map(|ask| Said::Subscribed { ask, as_of }))
            }
        }
    }

    /// A reply on another channel: part of a list.
    fn read_part(&mut self, record: &Record<'_>, bytes: usize) -> Result<Option<Said>, Violation> {
        let (number, ask) = self.take_credit(record, Answer::Parts, bytes)?;
        let Header { channel, last, status, .. } = record.header;
        if last {
            self.channels.remove(&channel);
            self.waiting.remove(&number);
        }
        if status != Status::Ok {
            self.channels.remove(&channel);
            self.waiting.remove(&number);
            return Ok(ask.map(|ask| Said::Ended(ask, Err(refusal(record)))));
        }
        let Some(ask) = ask else { return Ok(None) };
        Ok(Some(Said::Part { ask, reply: decode_reply(record)?, bytes, last }))
    }

    /// An event of a subscription.
    fn read_event(&mut self, record: &Record<'_>, bytes: usize) -> Result<Option<Said>, Violation> {
        let (number, ask) = self.take_credit(record, Answer::Subscription, bytes)?;
        let Header { channel, last, status, .. } = record.header;
        if last {
            self.channels.remove(&channel);
            if self.waiting.get(&number).is_some_and(|waiting| waiting.subscribed) {
                self.waiting.remove(&number);
            }
            let fine = matches!(status, Status::Ok | Status::Cancelled);
            let over = if fine { Ok(()) } else { Err(end_of_channel(record)) };
            return Ok(ask.map(|ask| Said::Ended(ask, over)));
        }
        let Some(ask) = ask else { return Ok(None) };
        let event = Event::decode(record.body).map_err(|error| error.to_string())?;
        Ok(Some(Said::Event { ask, event: Box::new(event), bytes }))
    }

    /// Whose channel a record is on. The server must have been granted it; the last one is free.
    fn take_credit(
        &mut self,
        record: &Record<'_>,
        answer: Answer,
        bytes: usize,
    ) -> Result<(u32, Option<AskId>), Violation> {
        let Header { request, command, channel: number, last, .. } = record.header;
        let Some(channel) = self.channels.get_mut(&number).filter(|channel| channel.request == request)
        else {
            return Err(format!("a record on channel {number}, which is not open"));
        };
        let Some(waiting) = self
            .waiting
            .get(&request)
            .filter(|waiting| waiting.answer == answer && waiting.command.code() == command)
        else {
            return Err(format!("a record on channel {number} that was not asked"));
        };
        if !last {
            let left = u32::try_from(bytes).ok().and_then(|bytes| channel.left.checked_sub(bytes));
            channel.left = left.ok_or_else(|| format!("more than was granted on channel {number}"))?;
        }
        Ok((request, waiting.ask))
    }
}

fn decode_reply(record: &Record<'_>) -> Result<Reply, Violation> {
    let command = Command::from(record.header.command);
    let reply = Reply::decode(command, record.body).map_err(|error| error.to_string())?;
    reply.ok_or_else(|| "a reply to a command that has none".to_owned())
}

fn refusal(record: &Record<'_>) -> RequestError {
    let status = record.header.status;
    RequestError::Refused {
        status,
        body: ErrorBody::decode(record.body).unwrap_or_else(|_| ErrorBody::of(status)),
    }
}

/// Why a channel ended: the sentence stands in the event, or in the body of an error.
fn end_of_channel(record: &Record<'_>) -> RequestError {
    let status = record.header.status;
    let said = Event::decode(record.body).ok().and_then(|event| event.end).and_then(|end| end.sentence);
    match said {
        Some(sentence) => RequestError::Refused { status, body: ErrorBody::saying(sentence.as_str()) },
        None => refusal(record),
    }
}

fn read_notice(record: &Record<'_>) -> Result<Said, Violation> {
    let event = Event::decode(record.body).map_err(|error| error.to_string())?;
    match &event.notice {
        Some(Notice { kind: NoticeKind::Goodbye, sentence, .. }) => {
            let said = sentence.as_ref().map(|sentence| sentence.as_str().to_owned());
            Ok(Said::Goodbye(said.unwrap_or_else(|| record.header.status.sentence().to_owned())))
        }
        Some(_) | None => Ok(Said::Notice(Box::new(event))),
    }
}

/// The request with this credit, if it opens a channel.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "those that open a channel are the few; a test holds them all"
)]
fn with_credit(mut request: Request, bytes: u32) -> Request {
    match &mut request {
        Request::ServerWorkers(body) => body.credit = bytes,
        Request::Metrics(body) => body.credit = bytes,
        Request::MetricsFollow(body) => body.credit = bytes,
        Request::UserList(body) => body.credit = bytes,
        Request::SessionList(body) => body.credit = bytes,
        Request::SessionTrace(body) => body.credit = bytes,
        Request::SettingList(body) => body.credit = bytes,
        Request::ConfigDiff(body) => body.credit = bytes,
        Request::DnsShow(body) => body.credit = bytes,
        Request::LogFollow(body) => body.credit = bytes,
        Request::Events(body) => body.credit = bytes,
        _ => {}
    }
    request
}

#[cfg(test)]
mod tests {
    use pipo_protocol::v2::COMMANDS;

    use super::*;

    #[test]
    fn every_channel_opens_with_the_credit_that_is_counted() {
        // Bodies with credit 0 and what else must be there.
        let bodies: &[&[u8]] = &[&[0xa1, 0, 0], &[0xa2, 0, 0, 1, 1], &[0xa2, 0, 0, 2, 0x18, 100]];
        let opening =
            COMMANDS.iter().filter(|row| matches!(row.answer, Answer::Parts | Answer::Subscription));
        for row in opening {
            let decode = |body: &&[u8]| Request::decode(row.command, body).ok().flatten();
            let request = bodies.iter().find_map(decode).expect("one of the bodies fits");
            let mut outgoing = VecDeque::new();
            let mut association = Association::new(Vec::new(), 0, &Limits::SPECIFIED);
            association.begin(AskId(1), &request, &mut outgoing).unwrap();
            let record = outgoing.pop_front().unwrap();
            let record = Record::decode(&record).unwrap();
            assert_ne!(record.header.channel, 0);
            // The map's second entry has another key than 0, so this is the credit's own head and value.
            assert_eq!(record.body[1..7], [0, 0x1a, 0, 1, 0, 0], "{} {}", row.noun, row.verb);
        }
    }

    #[test]
    fn records_are_read_however_they_are_split() {
        let mut outgoing = VecDeque::new();
        let request = Request::Statistics(pipo_protocol::v2::messages::Nothing {});
        let header = Header::request(request.command().code(), 1);
        let refused = encode_raw(&header.reply(Status::Busy), &ErrorBody::of(Status::Busy).encode()).unwrap();
        for cut in 0..=refused.len() {
            let mut association = Association::new(Vec::new(), 0, &Limits::SPECIFIED);
            association.begin(AskId(7), &request, &mut outgoing).unwrap();
            let mut said = Vec::new();
            association.receive(&refused[..cut], &mut said).unwrap();
            association.receive(&refused[cut..], &mut said).unwrap();
            let error = RequestError::Refused { status: Status::Busy, body: ErrorBody::of(Status::Busy) };
            assert_eq!(said, [Said::Ended(AskId(7), Err(error))]);
        }
    }

    #[test]
    fn a_number_is_used_again_only_when_the_server_is_done_with_it() {
        let mut outgoing = VecDeque::new();
        let mut association = Association::new(Vec::new(), u32::MAX - 1, &Limits::SPECIFIED);
        let list = Request::decode(Command::ServerWorkers, &[0xa1, 0, 0]).unwrap().unwrap();
        association.begin(AskId(1), &list, &mut outgoing).unwrap();
        association.cancel(AskId(1), &mut outgoing);
        association.begin(AskId(2), &list, &mut outgoing).unwrap();
        let headers: Vec<_> = outgoing.iter().map(|record| Record::decode(record).unwrap().header).collect();
        let numbers: Vec<_> = headers.iter().map(|header| (header.request, header.channel)).collect();
        assert_eq!(numbers, [(u32::MAX, 1), (1, 0), (2, 2)]);
        let last = Header { kind: Kind::Reply, status: Status::Cancelled, ..headers[0] };
        let last = encode_raw(&last, &ErrorBody::of(Status::Cancelled).encode()).unwrap();
        let mut said = Vec::new();
        association.receive(&last, &mut said).unwrap();
        assert!(said.is_empty());
        association.begin(AskId(3), &list, &mut outgoing).unwrap();
        let header = Record::decode(outgoing.back().unwrap()).unwrap().header;
        assert_eq!((header.request, header.channel), (3, 1));
    }
}
