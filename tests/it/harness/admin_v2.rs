//! A client of version 2 of the admin channel, over SCTP over UDP, on the protocol crate's own client side: it
//! checks what a client has to check, and gives tests every record.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pipo_encap::CloseReason;
use pipo_protocol::v2::events::{Event, Happening};
use pipo_protocol::v2::login::{ClientStarted, Transcript};
use pipo_protocol::v2::messages::{
    Goodbye, HelloReply, HelloRequest, ListRequest, LoginChallenge, LoginDone, Nonce, Part,
    SessionListRequest, SessionPart, Verifier, WorkerPart,
};
use pipo_protocol::v2::{
    Command, ErrorBody, Header, Kind, Message, Record, Reply, Request, Role, Status, Word, encode_raw,
};
use pipo_protocol::{Name, Password};

use super::Daemon;
use super::admin::AdminClient;
use super::waiting::LIMIT;

/// Credit that tests grant to channels.
pub(crate) const CREDIT: u32 = 65_536;

/// One association, and the records that were not asked for yet.
#[derive(Debug)]
pub(crate) struct Client2 {
    pub(crate) raw: AdminClient,
    waiting: VecDeque<Got>,
    next_request: u32,
    pub(crate) hello: Option<HelloReply>,
}

/// A record that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
}

impl Got {
    /// What it says, where it is an event.
    pub(crate) fn event(&self) -> Event {
        assert_eq!(self.header.kind, Kind::Event, "{self:?}");
        Event::decode(&self.body).expect("the body of an event")
    }

    /// The body of an error.
    pub(crate) fn error(&self) -> ErrorBody {
        assert_ne!(self.header.status, Status::Ok, "{self:?}");
        ErrorBody::decode(&self.body).expect("the body of an error")
    }
}

/// Octets that nobody can foresee.
pub(crate) fn nonce() -> Nonce {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).expect("random bytes");
    Nonce::new(octets).expect("16 octets")
}

pub(crate) fn name(octets: &[u8]) -> Name {
    Name::new(octets).expect("1 to 255 octets")
}

/// The verifier of a password, as a client makes it.
pub(crate) fn verifier(password: &[u8]) -> Verifier {
    let password = Password::new(password).expect("1 to 255 octets");
    let salt = pipo_protocol::v2::messages::Salt::new(nonce().as_bytes()).expect("16 octets");
    Verifier::from_password(&password, salt, 4096)
}

impl Client2 {
    /// An association of which nothing was said yet.
    pub(crate) fn connect(daemon: &Daemon) -> Self {
        Self::over(AdminClient::connect(daemon))
    }

    /// The same over an association that is open.
    pub(crate) fn over(raw: AdminClient) -> Self {
        Self { raw, waiting: VecDeque::new(), next_request: 1, hello: None }
    }

    /// An association whose log-in was accepted, both ways.
    pub(crate) fn log_in(daemon: &Daemon, user: &[u8], password: &[u8]) -> Self {
        let mut client = Self::connect(daemon);
        let role = client.try_log_in(user, password);
        role.unwrap_or_else(|refused| panic!("{}: {refused:?}", user.escape_ascii()));
        client
    }

    /// Says HELLO and logs in; gives the role, or the record that refuses.
    pub(crate) fn try_log_in(&mut self, user: &[u8], password: &[u8]) -> Result<Role, Got> {
        let mut transcript = Transcript::default();
        let hello = HelloRequest { client: Word::cut("tests"), features: Vec::new() };
        let (sent, got) = self.exchange(Request::Hello(hello));
        let Ok(Some(Reply::Hello(reply))) = Reply::decode(Command::Hello, &got.body) else {
            return Err(got);
        };
        transcript.add(&sent);
        transcript.add(&octets(&got));
        self.hello = Some(reply);
        let (started, start) = ClientStarted::new(name(user), nonce());
        let (sent, got) = self.exchange(Request::LoginStart(start));
        let challenge = LoginChallenge::decode(&got.body).map_err(|_| got.clone())?;
        transcript.add(&sent);
        transcript.add(&octets(&got));
        let password = Password::new(password).expect("1 to 255 octets");
        let (proved, proof) = started.prove(&challenge, &password, &transcript).expect("a sound challenge");
        let (_, got) = self.exchange(Request::LoginProof(proof));
        if got.header.status != Status::Ok {
            return Err(got);
        }
        let done = LoginDone::decode(&got.body).expect("the body of login done");
        Ok(proved.accept(&done).expect("the daemon knows the verifier, too"))
    }

    fn exchange(&mut self, request: Request) -> (Vec<u8>, Got) {
        let header = Header::request(request.command().code(), self.fresh_request());
        let sent = encode_raw(&header, &request.encode()).expect("a record");
        self.raw.send(&sent);
        (sent, self.answer_to(header.request))
    }

    /// A number for a request.
    pub(crate) fn fresh_request(&mut self) -> u32 {
        self.next_request += 1;
        self.next_request - 1
    }

    /// Sends a request on that channel and gives its number.
    pub(crate) fn send(&mut self, request: &Request, channel: u32) -> u32 {
        let number = self.fresh_request();
        let header = Header { channel, ..Header::request(request.command().code(), number) };
        self.raw.send(&encode_raw(&header, &request.encode()).expect("a record"));
        number
    }

    /// The next record that `is_wanted`; others wait for those who want them.
    pub(crate) fn next_where(&mut self, is_wanted: impl Fn(&Got) -> bool) -> Got {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(place) = self.waiting.iter().position(&is_wanted) {
                return self.waiting.remove(place).expect("it is there");
            }
            assert!(Instant::now() < deadline, "no such record; there are {:?}", self.waiting);
            let message = self.raw.receive();
            let record = Record::decode(&message).expect("a message is one record");
            self.waiting.push_back(Got { header: record.header, body: record.body.to_vec() });
        }
    }

    /// The record on channel 0 that answers a request.
    pub(crate) fn answer_to(&mut self, request: u32) -> Got {
        self.next_where(|got| {
            (got.header.kind, got.header.request, got.header.channel) == (Kind::Reply, request, 0)
        })
    }

    /// Asks for one reply; gives it, or the status and what is allowed.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply, (Status, ErrorBody)> {
        let number = self.send(request, 0);
        let got = self.answer_to(number);
        assert!(got.header.last, "a reply is the last of its answer");
        if got.header.status != Status::Ok {
            return Err((got.header.status, got.error()));
        }
        Ok(Reply::decode(request.command(), &got.body).expect("a body").expect("a known command"))
    }

    /// The status of a request that is refused.
    pub(crate) fn refusal(&mut self, request: &Request) -> Status {
        self.ask(request).map(|reply| panic!("{reply:?}")).unwrap_err().0
    }

    /// How many sessions each worker has; carriers, which have none, behind them. Every worker has acted on what it
    /// was told before.
    pub(crate) fn sessions_by_worker(&mut self) -> Vec<u64> {
        let request = Request::ServerWorkers(ListRequest { credit: CREDIT });
        let (_, workers) = self.rows::<WorkerPart>(&request, 1);
        let everybody =
            SessionListRequest { credit: CREDIT, filter: None, sort: None, descending: None, limit: None };
        self.rows::<SessionPart>(&Request::SessionList(everybody), 1);
        workers.iter().map(|row| row.sessions_count).collect()
    }

    /// Asks for a list on a channel, returns credit as the parts come, and gives all rows.
    pub(crate) fn rows<P: Part>(&mut self, request: &Request, channel: u32) -> (u64, Vec<P::Row>) {
        let number = self.send(request, channel);
        let mut rows = Vec::new();
        loop {
            let got = self.next_where(|got| got.header.request == number);
            assert_eq!((got.header.kind, got.header.status), (Kind::Reply, Status::Ok), "{got:?}");
            assert_eq!(got.header.channel, channel);
            let (as_of, mut part) = P::decode(&got.body).expect("a part").into_rows();
            rows.append(&mut part);
            if got.header.last {
                return (as_of, rows);
            }
            self.give_credit(channel, u32::try_from(octets(&got).len()).expect("a record"));
        }
    }

    /// Returns credit.
    pub(crate) fn give_credit(&mut self, channel: u32, bytes: u32) {
        let credit = pipo_protocol::v2::messages::Credit { channel, bytes };
        self.send(&Request::Credit(credit), 0);
    }

    /// Asks for a subscription, and waits until it is one.
    pub(crate) fn follow(&mut self, request: &Request, channel: u32) -> Reply {
        let number = self.send(request, channel);
        let got = self.answer_to(number);
        assert_eq!(got.header.status, Status::Ok, "{got:?}: {:?}", ErrorBody::decode(&got.body));
        Reply::decode(request.command(), &got.body).expect("a body").expect("a known command")
    }

    /// The next record of a channel.
    pub(crate) fn next_of(&mut self, channel: u32) -> Got {
        self.next_where(|got| got.header.channel == channel)
    }

    /// What the next event of a channel says; its credit is returned.
    pub(crate) fn happening(&mut self, channel: u32) -> Happening {
        let got = self.next_of(channel);
        self.give_credit(channel, u32::try_from(octets(&got).len()).expect("a record"));
        got.event().happening().expect("something known")
    }

    /// The next notice.
    pub(crate) fn notice(&mut self) -> (Header, pipo_protocol::v2::messages::Notice) {
        let got = self.next_where(|got| got.header.kind == Kind::Event && got.header.channel == 0);
        assert_eq!((got.header.command, got.header.request), (0, 0));
        (got.header, got.event().notice.expect("a notice"))
    }

    /// Whether no record comes for that time.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.waiting.is_empty() && self.raw.is_silent_for(time)
    }

    /// Waits for the end, which the daemon brings about.
    pub(crate) fn expect_close(&mut self) {
        assert_eq!(self.raw.expect_close(), CloseReason::PeerClosed);
    }

    /// Says good-bye and waits until the daemon has closed.
    pub(crate) fn say_goodbye(mut self) {
        self.ask(&Request::Goodbye(Goodbye { reason: None })).expect("good-bye is answered");
        self.expect_close();
    }
}

/// The record as it travelled: the daemon writes as few octets as there can be, and so do we.
pub(crate) fn octets(got: &Got) -> Vec<u8> {
    encode_raw(&got.header, &got.body).expect("a record")
}
