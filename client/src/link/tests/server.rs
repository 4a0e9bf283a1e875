//! A server in this process: SCTP over UDP, the real log-in, and answers that each test writes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pipo_encap::{AssociationId, Endpoint, Event, Limits};
use pipo_protocol::v2::login::{ServerStarted, Transcript};
use pipo_protocol::v2::messages::{self, HelloReply, LoginDone, Nonce, Nothing, Salt, Verifier};
use pipo_protocol::v2::{
    Command, ErrorBody, Header, Kind, Message, Record, Reply, Request, Role, Status, Word, encode_raw,
};
use pipo_protocol::{Name, Password, Version};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::link::{Credentials, Target, TransportChoice};

/// What a server does.
pub(super) enum Act {
    /// Sends a message.
    Send(Vec<u8>),
    /// Closes in order.
    Close,
    /// Breaks off.
    Abort,
}

/// Every request that came, with its header, over all associations.
pub(super) type Seen = Arc<Mutex<Vec<(Header, Request)>>>;

/// A running server. Dropping it ends it without a word, as a crash does.
pub(super) struct Fake {
    address: SocketAddr,
    pub(super) seen: Seen,
    task: JoinHandle<()>,
}

/// The user `root` with the password `secret`.
pub(super) fn credentials() -> Credentials {
    Credentials { user: Name::new("root").unwrap(), password: Password::new("secret").unwrap() }
}

/// A target that nothing stands for yet.
pub(crate) fn target() -> Target {
    Target {
        host: "127.0.0.1".to_owned(),
        port: 8080,
        udp_port: 9899,
        transport: TransportChoice::Auto,
        version: Version::V2,
        connect_limit: Duration::from_secs(10),
        reply_limit: Duration::from_secs(5),
    }
}

impl Fake {
    /// Speaks version 2. The script sees every request first; where it says `None`, the server says HELLO, logs in
    /// and says goodbye as it should, and answers nothing else.
    pub(super) async fn start(
        script: impl FnMut(&Header, &Request) -> Option<Vec<Act>> + Send + 'static,
    ) -> Self {
        Self::start_at(0, script).await
    }

    /// The same at the port of a server that was there before.
    pub(super) async fn start_at(
        port: u16,
        mut script: impl FnMut(&Header, &Request) -> Option<Vec<Act>> + Send + 'static,
    ) -> Self {
        let seen = Seen::default();
        let noted = Arc::clone(&seen);
        let mut logins: BTreeMap<AssociationId, Login> = BTreeMap::new();
        let answer = move |id, message: &[u8]| {
            let record = Record::decode(message).expect("clients send whole records");
            let request = Request::decode(Command::from(record.header.command), record.body);
            let request = request.expect("well formed").expect("a known command");
            noted.lock().unwrap().push((record.header, request.clone()));
            if let Some(acts) = script(&record.header, &request) {
                return acts;
            }
            logins.entry(id).or_default().answer(message, &record.header, &request)
        };
        Self::serve(port, seen, answer).await
    }

    /// Speaks anything.
    pub(super) async fn raw(mut script: impl FnMut(&[u8]) -> Vec<Act> + Send + 'static) -> Self {
        Self::serve(0, Seen::default(), move |_, message: &[u8]| script(message)).await
    }

    async fn serve(
        port: u16,
        seen: Seen,
        answer: impl FnMut(AssociationId, &[u8]) -> Vec<Act> + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", port)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let endpoint = Endpoint::server(8080, Limits::default(), [7; 32], Instant::now()).unwrap();
        let task = tokio::spawn(run(socket, endpoint, answer));
        Self { address, seen, task }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn target(&self) -> Target {
        Target { udp_port: self.port(), transport: TransportChoice::Udp, ..target() }
    }

    /// The commands that came, without the log-in.
    pub(super) fn commands(&self) -> Vec<Command> {
        let seen = self.seen.lock().unwrap();
        let commands = seen.iter().map(|(_, request)| request.command());
        commands.filter(|command| command.code() > Command::LoginProof.code()).collect()
    }

    /// Ends it, so that its port is free.
    pub(super) async fn crash(self) -> u16 {
        let port = self.port();
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        port
    }
}

async fn run(
    socket: UdpSocket,
    mut endpoint: Endpoint,
    mut answer: impl FnMut(AssociationId, &[u8]) -> Vec<Act>,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        while let Some(event) = endpoint.next_event() {
            let Event::Message { association, bytes, .. } = event else { continue };
            for act in answer(association, &bytes) {
                match act {
                    Act::Send(message) => endpoint.send(association, 0, &message, Instant::now()).unwrap(),
                    Act::Close => endpoint.close(association, Instant::now()),
                    Act::Abort => endpoint.abort(association, Instant::now()),
                }
            }
        }
        while let Some((to, datagram)) = endpoint.next_datagram() {
            // A client that has gone is none of our business.
            let _sent = socket.send_to(&datagram, to).await;
        }
        let wait = endpoint.deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
        if let Ok(Ok((count, from))) =
            tokio::time::timeout_at(wait.into(), socket.recv_from(&mut buffer)).await
        {
            endpoint.receive(from, &buffer[..count], Instant::now());
        }
        endpoint.expire(Instant::now());
    }
}

/// The log-in of one association.
#[derive(Default)]
struct Login {
    transcript: Transcript,
    started: Option<ServerStarted>,
}

impl Login {
    fn answer(&mut self, message: &[u8], header: &Header, request: &Request) -> Vec<Act> {
        match request {
            Request::Hello(_) => {
                self.transcript.add(message);
                let reply = reply(header, &Reply::Hello(hello()));
                self.transcript.add(&reply);
                vec![Act::Send(reply)]
            }
            Request::LoginStart(start) => {
                self.transcript.add(message);
                let salt = Salt::new([9; 16]).unwrap();
                let verifier = Verifier::from_password(&Password::new("secret").unwrap(), salt, 4096);
                let (started, challenge) = ServerStarted::new(start, verifier, &Nonce::new([8; 16]).unwrap());
                self.started = Some(started);
                let reply = reply(header, &Reply::LoginStart(challenge));
                self.transcript.add(&reply);
                vec![Act::Send(reply)]
            }
            Request::LoginProof(proof) => match self.started.take().unwrap().check(proof, &self.transcript) {
                Ok(signature) => {
                    let done = LoginDone { as_of: 1, signature, role: Role::Admin };
                    vec![Act::Send(reply(header, &Reply::LoginProof(done)))]
                }
                Err(_) => vec![Act::Send(refuse(header, Status::LoginFailed)), Act::Close],
            },
            Request::Goodbye(_) => {
                vec![Act::Send(reply(header, &Reply::Goodbye(Nothing {}))), Act::Close]
            }
            _ => Vec::new(),
        }
    }
}

pub(super) fn hello() -> HelloReply {
    HelloReply {
        server: Word::cut("fake 1.0"),
        features: vec![Word::cut("trace")],
        limits: messages::Limits::SPECIFIED,
        iterations: 4096,
    }
}

/// A reply on channel 0.
pub(super) fn reply(request: &Header, reply: &Reply) -> Vec<u8> {
    encode_raw(&request.reply(Status::Ok), &reply.encode()).unwrap()
}

/// A refusal.
pub(super) fn refuse(request: &Header, status: Status) -> Vec<u8> {
    encode_raw(&request.reply(status), &ErrorBody::of(status).encode()).unwrap()
}

/// A record on the request's channel.
pub(super) fn on_channel(request: &Header, kind: Kind, status: Status, body: &[u8]) -> Vec<u8> {
    encode_raw(&Header { kind, status, last: false, ..*request }, body).unwrap()
}

/// The last one there.
pub(super) fn last_on_channel(request: &Header, kind: Kind, status: Status, body: &[u8]) -> Vec<u8> {
    encode_raw(&Header { kind, status, last: true, ..*request }, body).unwrap()
}
