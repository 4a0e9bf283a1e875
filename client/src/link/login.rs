//! From an open association to a user who is logged in, in either version.
//!
//! Version 2 proves the password and has the server prove itself (SCRAM); nothing of the password travels, and
//! nothing else is asked before the proof is checked. Version 1 sends the password; it is never tried by itself.

use std::collections::VecDeque;

use pipo_protocol::limits::{NONCE_BYTES_MIN, RECORD_BYTES_MAX};
use pipo_protocol::v2::login::{ClientStarted, LoginError, Transcript};
use pipo_protocol::v2::messages::{HelloReply, HelloRequest, Limits, Nonce, NoticeKind};
use pipo_protocol::v2::{
    Command, ErrorBody, Header, Kind, Message, Record, Reply, Request, Role, Status, Word, encode_raw,
};
use pipo_protocol::{Version, v1};

use super::carrier::{Carrier, Ended};
use super::{ConnectError, Credentials, Server};

/// An open association with what has arrived and not been read.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) carrier: Carrier,
    pub(super) outgoing: VecDeque<Vec<u8>>,
    pub(super) arrived: Vec<u8>,
}

/// A log-in that was accepted on both sides.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub(super) stream: Stream,
    pub(super) server: Server,
    pub(super) role: Role,
    /// What the server told; `None` in version 1.
    pub(super) limits: Option<Limits>,
    /// The last REQUEST used.
    pub(super) request_last: u32,
}

impl From<Ended> for ConnectError {
    fn from(ended: Ended) -> Self {
        Self::Closed(ended.to_string())
    }
}

impl Stream {
    /// Starts on an association that has just been opened.
    pub(super) fn new(carrier: Carrier) -> Self {
        Self { carrier, outgoing: VecDeque::new(), arrived: Vec::new() }
    }

    /// Waits until more has arrived.
    async fn more(&mut self) -> Result<(), ConnectError> {
        let octets = self.carrier.turn(&mut self.outgoing).await?;
        self.arrived.extend(octets);
        Ok(())
    }

    /// Sends a request and waits for its reply; gives both as they travelled. Events in between are skipped, except
    /// goodbye.
    pub(super) async fn exchange(
        &mut self,
        number: u32,
        request: &Request,
    ) -> Result<(Vec<u8>, Vec<u8>, Reply), ConnectError> {
        let header = Header::request(request.command().code(), number);
        let sent = encode_raw(&header, &request.encode()).map_err(|error| protocol(&error))?;
        self.outgoing.push_back(sent.clone());
        loop {
            let taken = match Record::split(&self.arrived) {
                // What servers of version 1 answer to another version.
                Err(_) if self.arrived.first() == Some(&1) => return Err(ConnectError::Version(2)),
                Err(error) => return Err(protocol(&error)),
                Ok(Some((_, taken))) => taken,
                Ok(None) => {
                    self.more().await?;
                    continue;
                }
            };
            let received: Vec<u8> = self.arrived.drain(..taken).collect();
            if let Some(reply) = read_reply(&received, number, request.command())? {
                return Ok((sent, received, reply));
            }
        }
    }
}

/// Reads a record that may be the reply to the request `number`. `None`: an event or something unknown.
fn read_reply(received: &[u8], number: u32, command: Command) -> Result<Option<Reply>, ConnectError> {
    let record = Record::decode(received).map_err(|error| protocol(&error))?;
    match record.header.kind {
        Kind::Reply => {}
        Kind::Event => return check_goodbye(&record).map(|()| None),
        Kind::Request => return Err(ConnectError::Protocol("a request came from the server".to_owned())),
        Kind::Unassigned(_) => return Ok(None),
    }
    let header = record.header;
    if (header.request, header.command) != (number, command.code()) {
        let what = format!("a reply to request {} that was not asked", header.request);
        return Err(ConnectError::Protocol(what));
    }
    if header.status != Status::Ok {
        let sentence = sentence(&record);
        let failed = matches!(header.status, Status::LoginFailed | Status::TooManyFailures);
        return Err(if failed {
            ConnectError::LoginFailed(sentence)
        } else {
            ConnectError::Closed(sentence)
        });
    }
    let reply = Reply::decode(command, record.body).map_err(|error| protocol(&error))?;
    reply.ok_or_else(|| ConnectError::Protocol("a reply where none belongs".to_owned())).map(Some)
}

fn check_goodbye(record: &Record<'_>) -> Result<(), ConnectError> {
    let event = pipo_protocol::v2::events::Event::decode(record.body).map_err(|error| protocol(&error))?;
    match event.notice {
        Some(notice) if notice.kind == NoticeKind::Goodbye => {
            let said = notice.sentence.map(|sentence| sentence.to_string());
            Err(ConnectError::Closed(said.unwrap_or_else(|| record.header.status.sentence().to_owned())))
        }
        Some(_) | None => Ok(()),
    }
}

/// What an error reply says; that of its status where it says nothing.
pub(super) fn sentence(record: &Record<'_>) -> String {
    let body = ErrorBody::decode(record.body);
    body.map_or_else(|_| record.header.status.sentence().to_owned(), |body| body.sentence.to_string())
}

fn protocol(error: &dyn std::error::Error) -> ConnectError {
    ConnectError::Protocol(error.to_string())
}

/// Logs in by version 2.
pub(super) async fn version_2(carrier: Carrier, credentials: &Credentials) -> Result<LoggedIn, ConnectError> {
    let mut stream = Stream::new(carrier);
    let mut transcript = Transcript::default();
    let name = Word::cut(concat!("pipoctl ", env!("CARGO_PKG_VERSION")));
    let hello = Request::Hello(HelloRequest { client: name, features: Vec::new() });
    let (sent, received, reply) = stream.exchange(1, &hello).await?;
    transcript.add(&sent);
    transcript.add(&received);
    let Reply::Hello(hello) = reply else { return Err(unexpected()) };
    check_limits(&hello)?;

    let mut nonce = [0; NONCE_BYTES_MIN];
    getrandom::fill(&mut nonce).map_err(|error| ConnectError::Closed(error.to_string()))?;
    let nonce = Nonce::new(nonce).unwrap_or_else(|| unreachable!("the shortest nonce is one"));
    let (started, start) = ClientStarted::new(credentials.user.clone(), nonce);
    let (sent, received, reply) = stream.exchange(2, &Request::LoginStart(start)).await?;
    transcript.add(&sent);
    transcript.add(&received);
    let Reply::LoginStart(challenge) = reply else { return Err(unexpected()) };

    let (proved, proof) =
        started.prove(&challenge, &credentials.password, &transcript).map_err(refused_challenge)?;
    let (_, _, reply) = stream.exchange(3, &Request::LoginProof(proof)).await?;
    let Reply::LoginProof(done) = reply else { return Err(unexpected()) };
    let role = proved.accept(&done).map_err(refused_challenge)?;
    let server = Server {
        version: Version::V2,
        transport: stream.carrier.transport(),
        software: hello.server,
        features: hello.features,
        iterations: hello.iterations,
    };
    Ok(LoggedIn { stream, server, role, limits: Some(hello.limits), request_last: 3 })
}

fn unexpected() -> ConnectError {
    ConnectError::Protocol("a reply of another command".to_owned())
}

/// Limits within which this client can work.
fn check_limits(hello: &HelloReply) -> Result<(), ConnectError> {
    let limits = &hello.limits;
    if usize::from(limits.record_bytes_max) > RECORD_BYTES_MAX {
        return Err(ConnectError::Protocol(format!("records of {} octets", limits.record_bytes_max)));
    }
    if limits.credit_bytes_max < pipo_protocol::limits::CREDIT_BYTES_MIN {
        return Err(ConnectError::Protocol(format!("credit of at most {} octets", limits.credit_bytes_max)));
    }
    Ok(())
}

fn refused_challenge(error: LoginError) -> ConnectError {
    match error {
        LoginError::Signature => ConnectError::Impostor,
        LoginError::Nonce | LoginError::Iterations(_) => ConnectError::Protocol(error.to_string()),
    }
}

/// Logs in by version 1: the password travels in clear.
pub(super) async fn version_1(carrier: Carrier, credentials: &Credentials) -> Result<LoggedIn, ConnectError> {
    let mut stream = Stream::new(carrier);
    let login = v1::Login { name: credentials.user.clone(), password: credentials.password.clone() };
    stream.outgoing.push_back(v1::encode_login(&login));
    let status = loop {
        match v1::decode_login_reply(&stream.arrived) {
            Ok(Some((status, taken))) => {
                stream.arrived.drain(..taken);
                break status;
            }
            Ok(None) => stream.more().await?,
            Err(error) => return Err(protocol(&error)),
        }
    };
    match status {
        v1::LoginStatus::Accepted => {}
        v1::LoginStatus::Refused => {
            return Err(ConnectError::LoginFailed(Status::LoginFailed.sentence().to_owned()));
        }
        v1::LoginStatus::UnsupportedVersion => return Err(ConnectError::Version(1)),
    }
    let server = Server {
        version: Version::V1,
        transport: stream.carrier.transport(),
        software: Word::default(),
        features: Vec::new(),
        iterations: 0,
    };
    // Nobody else may log in by version 1.
    Ok(LoggedIn { stream, server, role: Role::Admin, limits: None, request_last: 0 })
}
