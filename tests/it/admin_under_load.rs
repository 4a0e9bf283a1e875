//! A transfer of 256 MiB while every command of both versions is asked for in a loop. The one table of commands says
//! which there are: one that is new there does not compile here before it is asked for, too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pipo_protocol::v2::events::Happening;
use pipo_protocol::v2::messages::*;
use pipo_protocol::v2::{COMMANDS, Command, Doors, Reply, Request, Role, Status, Text, Word};

use crate::harness::admin::{AdminClient, counted};
use crate::harness::admin_v2::{CREDIT, Client2, name, verifier};
use crate::harness::nginx::{Hash, LARGE_BYTES, Nginx, OriginFile, fetch_watched};
use crate::harness::origin::{Origin, V4};
use crate::harness::plain_dns::{Manner, PlainDns};
use crate::harness::{Client, Daemon, LIMIT, connect_through, exclusive, within};

/// How often every command is asked for during the transfer, at the least.
const ROUNDS: usize = 20;

/// The least credit that a channel may begin with: that of one record.
const CREDIT_MIN: u32 = 4096;

/// The name that is looked up, so that there is an answer to show and to forget.
const NAME: &str = "plain.test";

#[test]
fn a_transfer_of_256_mib_is_unharmed_while_every_command_is_asked_for() {
    let _alone = exclusive();
    let hash = OriginFile::Large.hash();
    let nginx = Nginx::start();
    let names = PlainDns::start(Manner::Answers, &[(NAME, &[V4])]);
    let users = ["--admin", "root:secret", "--admin", "old:secret", "--user", "ann:pw", "--auth", "optional"];
    let mut daemon = Daemon::with(&users)
        .arg("--socks-addr=127.0.0.1")
        .arg("--access-log=access.log")
        .name_server(names.address())
        .start();
    let transfer = connect_through(daemon.address(), nginx.address(V4));
    let answers = Arc::new(AtomicUsize::new(0));
    let mut commands = Commands::new(&daemon, transfer.stream.local_addr().unwrap(), Arc::clone(&answers));
    let mut commands_v1 = CommandsV1::new(&daemon);
    let fetching = std::thread::spawn(move || fetch_in_step(transfer, &answers));
    while !fetching.is_finished() {
        commands.ask_all();
        commands_v1.ask_all();
    }
    let (found, transfer) = fetching.join().expect("the whole transfer");
    assert!(found == hash, "the bytes of the transfer");
    drop(transfer);
    let Commands { answered, mut admin, .. } = commands;
    for row in COMMANDS {
        let count = answered.get(&row.code).copied().unwrap_or(0);
        assert!(count >= ROUNDS, "{} {} was answered {count} times", row.noun, row.verb);
    }
    // The one command that the loop was refused.
    daemon.may_end();
    let shutdown = admin.ask(&Request::ServerShutdown(ShutdownRequest { drain_ms: Some(0) }));
    assert!(matches!(shutdown, Ok(Reply::ServerShutdown(_))), "{shutdown:?}");
    assert!(daemon.wait(LIMIT).success());
}

/// Reads a part of the file for each command that was answered: every one of them meets bytes that move. Gives its
/// end of the session back, which so goes on until the last round is done.
fn fetch_in_step(mut client: Client, answers: &AtomicUsize) -> (Hash, Client) {
    let part = LARGE_BYTES / (ROUNDS * COMMANDS.len());
    let hash = fetch_watched(&mut client.stream, OriginFile::Large, |bytes| {
        within(LIMIT, "the answer to a command", || answers.load(Ordering::Acquire) >= bytes / part);
    });
    (hash, client)
}

// ---- version 2 ------------------------------------------------------------------------------------------

/// Who asks for every command of version 2, and how often each was answered as it should be.
struct Commands<'a> {
    daemon: &'a Daemon,
    admin: Client2,
    operator: Client2,
    /// The client's end of the transfer.
    transfer: SocketAddr,
    /// Where short sessions go.
    origin: Origin,
    answered: BTreeMap<u16, usize>,
    /// Answers in all, for the transfer.
    answers: Arc<AtomicUsize>,
    round: usize,
}

/// Channels of lists and of subscriptions.
const LIST: u32 = 1;
const FOLLOWED: u32 = 2;

impl<'a> Commands<'a> {
    fn new(daemon: &'a Daemon, transfer: SocketAddr, answers: Arc<AtomicUsize>) -> Self {
        let mut admin = Client2::log_in(daemon, b"root", b"secret");
        let (user, verifier) = (name(b"operator"), verifier(b"pw"));
        let operator = UserAdd { user, verifier, role: Role::Operator, doors: Some(Doors::Admin) };
        admin.ask(&Request::UserAdd(operator)).expect("an operator");
        let operator = Client2::log_in(daemon, b"operator", b"pw");
        let origin = Origin::echo(V4);
        Self { daemon, admin, operator, transfer, origin, answered: BTreeMap::new(), answers, round: 0 }
    }

    /// Each once, in the order of the table: what is added there is removed, what is set is reset.
    fn ask_all(&mut self) {
        for row in COMMANDS {
            self.ask(row.command);
            *self.answered.entry(row.code).or_default() += 1;
            self.answers.fetch_add(1, Ordering::Release);
        }
        self.round += 1;
    }

    fn ask(&mut self, command: Command) {
        match command {
            Command::Hello | Command::LoginStart | Command::LoginProof | Command::Goodbye => {
                // Any of them takes the others.
                Client2::log_in(self.daemon, b"old", b"secret").say_goodbye();
            }
            Command::Credit => self.read_on_credit(),
            Command::Cancel => self.cancel(),
            Command::Unsubscribe => {
                let samples = MetricsFollow { credit: CREDIT, prefix: None, interval_ms: 3_600_000 };
                self.follow(&Request::MetricsFollow(samples), |happening| {
                    matches!(happening, Happening::Sample(_))
                });
            }
            Command::ServerInfo
            | Command::ServerWorkers
            | Command::ServerDrain
            | Command::ServerUndrain
            | Command::ServerShutdown => self.ask_of_server(command),
            Command::Metrics | Command::MetricsFollow | Command::Statistics => self.ask_of_metrics(command),
            Command::UserList
            | Command::UserAdd
            | Command::UserRemove
            | Command::UserPassword
            | Command::UserRole => self.ask_of_users(command),
            Command::SessionList | Command::SessionShow | Command::SessionKill | Command::SessionTrace => {
                self.ask_of_sessions(command);
            }
            Command::SettingList | Command::SettingGet | Command::SettingSet | Command::SettingReset => {
                self.ask_of_settings(command);
            }
            Command::ConfigStatus
            | Command::ConfigDiff
            | Command::ConfigCheck
            | Command::ConfigCommit
            | Command::ConfigConfirm
            | Command::ConfigRollback => self.ask_of_config(command),
            Command::DnsShow | Command::DnsFlush => self.ask_of_dns(command),
            Command::LogFollow | Command::LogRotate | Command::Events => self.ask_of_logs(command),
            Command::Unassigned(code) => panic!("{code:#06x} stands in the table"),
        }
    }

    /// The one reply to a request that has to be carried out.
    fn reply(&mut self, request: &Request) -> Reply {
        let answer = self.admin.ask(request);
        answer.unwrap_or_else(|(status, body)| panic!("{request:?}: {status:?}, {body:?}"))
    }

    /// A subscription, until the first happening that is wanted; then it is ended.
    fn follow(&mut self, request: &Request, is_wanted: impl Fn(&Happening) -> bool) {
        self.admin.follow(request, FOLLOWED);
        while !is_wanted(&self.admin.happening(FOLLOWED)) {}
        self.unsubscribe();
    }

    fn unsubscribe(&mut self) {
        self.reply(&Request::Unsubscribe(Unsubscribe { channel: FOLLOWED }));
        loop {
            let got = self.admin.next_of(FOLLOWED);
            if got.header.last {
                return assert_eq!(got.header.status, Status::Cancelled);
            }
        }
    }

    /// A list of more records than the credit that it begins with.
    fn read_on_credit(&mut self) {
        let (_, rows) = self.admin.rows::<MetricPart>(&all_metrics(CREDIT_MIN), LIST);
        assert!(rows.len() > 100, "{} metrics", rows.len());
    }

    fn cancel(&mut self) {
        let request = self.admin.send(&all_metrics(CREDIT_MIN), LIST);
        assert!(!self.admin.next_of(LIST).header.last);
        let reply = self.reply(&Request::Cancel(Cancel { request }));
        assert_eq!(reply, Reply::Cancel(Cancelled { found: true }));
        assert_eq!(self.admin.next_of(LIST).header.status, Status::Cancelled);
    }

    fn ask_of_server(&mut self, command: Command) {
        match command {
            Command::ServerWorkers => {
                let request = Request::ServerWorkers(ListRequest { credit: CREDIT });
                let (_, workers) = self.admin.rows::<WorkerPart>(&request, LIST);
                assert!(workers.iter().any(|worker| worker.sessions_count > 0), "{workers:?}");
            }
            Command::ServerDrain => {
                let reply = self.reply(&Request::ServerDrain(Nothing {}));
                assert!(matches!(&reply, Reply::ServerDrain(drain) if drain.sessions_count > 0), "{reply:?}");
                assert_eq!(self.server().state, ServerState::Draining);
            }
            Command::ServerUndrain => {
                self.reply(&Request::ServerUndrain(Nothing {}));
                assert_eq!(self.server().state, ServerState::Running);
            }
            // Carried out at the end of the test; until then by who may not.
            Command::ServerShutdown => {
                let request = Request::ServerShutdown(ShutdownRequest { drain_ms: Some(0) });
                assert_eq!(self.operator.refusal(&request), Status::NotAllowed);
            }
            _ => assert!(self.server().sessions_count > 0),
        }
    }

    fn server(&mut self) -> ServerInfo {
        match self.reply(&Request::ServerInfo(Nothing {})) {
            Reply::ServerInfo(info) => info,
            other => panic!("{other:?}"),
        }
    }

    fn ask_of_metrics(&mut self, command: Command) {
        match command {
            Command::MetricsFollow => {
                let prefix = Some(Word::cut("sessions_current"));
                let samples = MetricsFollow { credit: CREDIT, prefix, interval_ms: 100 };
                let is_one = |happening: &Happening| matches!(happening, Happening::Sample(sample) if sample.values.iter().all(|one| one.value > 0));
                self.follow(&Request::MetricsFollow(samples), is_one);
            }
            Command::Statistics => {
                let reply = self.reply(&Request::Statistics(Nothing {}));
                assert!(
                    matches!(&reply, Reply::Statistics(own) if own.user.user == name(b"root")),
                    "{reply:?}"
                );
            }
            _ => {
                let (_, rows) = self.admin.rows::<MetricPart>(&all_metrics(CREDIT), LIST);
                let moved = rows.iter().find(|row| row.name.as_str() == "bytes_down").expect("bytes_down");
                assert!(moved.value > 0);
            }
        }
    }

    /// One user comes and goes, another one is changed.
    fn ask_of_users(&mut self, command: Command) {
        let is_changed = matches!(command, Command::UserPassword | Command::UserRole);
        let user = name(if is_changed { b"ann".as_slice() } else { b"passing" });
        let request = match command {
            Command::UserAdd => {
                let verifier = verifier(b"pw");
                Request::UserAdd(UserAdd { user, verifier, role: Role::User, doors: None })
            }
            Command::UserPassword => {
                Request::UserPassword(UserPassword { user, verifier: verifier(b"other") })
            }
            Command::UserRole => {
                Request::UserRole(UserRole { user, role: Role::Observer, doors: Some(Doors::Both) })
            }
            Command::UserRemove => Request::UserRemove(UserRemove { user }),
            _ => {
                let request = UserListRequest { credit: CREDIT, user: None, prefix: None, limit: None };
                let (_, rows) = self.admin.rows::<UserPart>(&Request::UserList(request), LIST);
                let anonymous = rows.iter().find(|row| row.user == name(b"anonymous")).expect("anonymous");
                return assert!(anonymous.sessions_count > 0 && anonymous.bytes_down > 0, "{anonymous:?}");
            }
        };
        let reply = self.reply(&request);
        let (Reply::UserAdd(body)
        | Reply::UserPassword(body)
        | Reply::UserRole(body)
        | Reply::UserRemove(body)) = reply
        else {
            panic!("{reply:?}");
        };
        assert_eq!(body.sessions_closed_count, 0, "the transfer is nobody's");
    }

    fn ask_of_sessions(&mut self, command: Command) {
        let id = self.transfer_id();
        match command {
            Command::SessionShow => match self.reply(&Request::SessionShow(SessionShow { id })) {
                Reply::SessionShow(shown) => assert_eq!(shown.session.source, self.transfer),
                other => panic!("{other:?}"),
            },
            Command::SessionKill => self.kill(id),
            // It steps on as soon as the transfer does.
            Command::SessionTrace => {
                self.admin.follow(&Request::SessionTrace(SessionTrace { credit: CREDIT, id }), FOLLOWED);
                self.unsubscribe();
            }
            _ => {} // The number comes from the list.
        }
    }

    fn sessions(&mut self) -> Vec<SessionRow> {
        let request =
            SessionListRequest { credit: CREDIT, filter: None, sort: None, descending: None, limit: None };
        self.admin.rows::<SessionPart>(&Request::SessionList(request), LIST).1
    }

    fn transfer_id(&mut self) -> u64 {
        let transfer = self.transfer;
        let rows = self.sessions();
        rows.iter().find(|row| row.source == transfer).unwrap_or_else(|| panic!("{transfer} in {rows:?}")).id
    }

    /// All would go, the transfer among them; one other goes.
    fn kill(&mut self, transfer: u64) {
        let mut other = connect_through(self.daemon.address(), self.origin.address());
        let source = other.stream.local_addr().unwrap();
        let id = self.sessions().iter().find(|row| row.source == source).expect("the other session").id;
        let kill = |ids, dry_run| Request::SessionKill(SessionKill { ids, filter: None, dry_run });
        let would = self.reply(&kill(vec![transfer, id], Some(true)));
        assert!(matches!(&would, Reply::SessionKill(killed) if killed.sessions_count == 2), "{would:?}");
        let did = self.reply(&kill(vec![id], None));
        assert!(matches!(&did, Reply::SessionKill(killed) if killed.sessions_count == 1), "{did:?}");
        other.expect_end();
    }

    /// The buffer that moves the transfer becomes another one each time.
    fn ask_of_settings(&mut self, command: Command) {
        let setting = Word::cut("buffer-size");
        match command {
            Command::SettingGet => {
                let reply = self.reply(&Request::SettingGet(SettingGet { name: setting.clone() }));
                assert!(matches!(&reply, Reply::SettingGet(got) if got.setting.name == setting), "{reply:?}");
            }
            Command::SettingSet => {
                let value = Text::cut(["4 KiB", "1 MiB", "100 KiB"][self.round % 3]);
                let reply = self.reply(&Request::SettingSet(SettingSet { name: setting, value, base: None }));
                assert!(matches!(reply, Reply::SettingSet(_)), "{reply:?}");
            }
            Command::SettingReset => {
                let reply = self.reply(&Request::SettingReset(SettingReset { name: setting, base: None }));
                assert!(matches!(reply, Reply::SettingReset(_)), "{reply:?}");
            }
            _ => {
                let request = Request::SettingList(SettingListRequest { credit: CREDIT, prefix: None });
                let (_, rows) = self.admin.rows::<SettingPart>(&request, LIST);
                assert!(rows.iter().any(|row| row.name == setting), "{rows:?}");
            }
        }
    }

    /// A candidate, which is looked at, committed for a while, made last, and left for the revision before it.
    fn ask_of_config(&mut self, command: Command) {
        let Reply::ConfigStatus(status) = self.reply(&Request::ConfigStatus(Nothing {})) else { panic!() };
        let base = status.revision;
        let value = ["21 s", "22 s"][self.round % 2];
        let changes = vec![Change {
            kind: ChangeKind::Set,
            setting: Some(Word::cut("connect-timeout")),
            value: Some(Text::cut(value)),
            user: None,
            verifier: None,
            role: None,
            doors: None,
        }];
        match command {
            Command::ConfigDiff => {
                let request = Request::ConfigDiff(DiffRequest { credit: CREDIT, base, changes });
                let (_, rows) = self.admin.rows::<DiffPart>(&request, LIST);
                assert_eq!(rows.len(), 1, "{rows:?}");
            }
            Command::ConfigCheck => {
                let reply = self.reply(&Request::ConfigCheck(Candidate { base, changes }));
                assert!(matches!(&reply, Reply::ConfigCheck(all) if all.problems_count == 0), "{reply:?}");
            }
            Command::ConfigCommit => {
                let request = Request::ConfigCommit(Commit { base, changes, confirm_seconds: Some(60) });
                let reply = self.reply(&request);
                assert!(matches!(&reply, Reply::ConfigCommit(now) if now.revision > base), "{reply:?}");
            }
            Command::ConfigConfirm => {
                assert!(status.pending.is_some(), "the commit waits");
                self.reply(&Request::ConfigConfirm(Confirm { revision: Some(base) }));
            }
            Command::ConfigRollback => {
                let revision = Some(base - 1);
                let reply = self.reply(&Request::ConfigRollback(Rollback { revision }));
                assert!(matches!(&reply, Reply::ConfigRollback(now) if now.revision > base), "{reply:?}");
            }
            _ => assert_eq!(status.pending, None),
        }
    }

    /// The answer to a look-up that a session has just made.
    fn ask_of_dns(&mut self, command: Command) {
        connect_through(self.daemon.address(), (NAME, self.origin.port())).assert_echo(b"resolved");
        match command {
            Command::DnsShow => {
                let request = Request::DnsShow(DnsShow { credit: CREDIT, name: None, limit: None });
                let (_, rows) = self.admin.rows::<CachePart>(&request, LIST);
                assert!(rows.iter().any(|row| row.name.as_str() == NAME), "{rows:?}");
            }
            _ => match self.reply(&Request::DnsFlush(DnsFlush { name: Some(Text::cut(NAME)) })) {
                Reply::DnsFlush(flushed) => assert!(flushed.entries_count > 0),
                other => panic!("{other:?}"),
            },
        }
    }

    /// What a session does is followed by both: as an event, and as its line.
    fn ask_of_logs(&mut self, command: Command) {
        let request = match command {
            Command::LogFollow => {
                let (kinds, level, user) = (vec![LogKind::Access], None, None);
                Request::LogFollow(LogFollow { credit: CREDIT, from: None, kinds, level, user })
            }
            Command::Events => {
                let kinds = vec![EventKind::SessionClosed];
                Request::Events(EventsFollow { credit: CREDIT, from: None, kinds, filter: None })
            }
            _ => {
                let reply = self.reply(&Request::LogRotate(Nothing {}));
                return assert!(matches!(reply, Reply::LogRotate(_)), "{reply:?}");
            }
        };
        self.admin.follow(&request, FOLLOWED);
        connect_through(self.daemon.address(), self.origin.address()).assert_echo(b"to be told of");
        let told = self.admin.happening(FOLLOWED);
        match command {
            Command::LogFollow => assert!(matches!(told, Happening::Line(_)), "{told:?}"),
            _ => assert!(matches!(told, Happening::Session(_)), "{told:?}"),
        }
        self.unsubscribe();
    }
}

fn all_metrics(credit: u32) -> Request {
    Request::Metrics(MetricsRequest { credit, prefix: None, per_worker: None, meanings: Some(true) })
}

// ---- version 1 ------------------------------------------------------------------------------------------

/// Who asks for every command of version 1, in octets.
struct CommandsV1(AdminClient);

/// Octets of the value in the reply to the queries 01 to 0B.
const WIDTHS: [usize; 11] = [8, 2, 2, 8, 8, 1, 1, 4, 1, 1, 2];

impl CommandsV1 {
    fn new(daemon: &Daemon) -> Self {
        Self(AdminClient::log_in(daemon, b"old", b"secret"))
    }

    fn ask_all(&mut self) {
        let users = self.0.ask(&[0x00, 0x00]);
        assert!(users.starts_with(&[0x00, 0x00]) && users.len() > 3, "{users:02x?}");
        for (cmd, width) in (1..).zip(WIDTHS) {
            let name = if cmd == 0x0b { counted(b"anonymous") } else { Vec::new() };
            let reply = self.0.ask(&[&[0x00, cmd], &name[..]].concat());
            assert_eq!((&reply[..2], reply.len()), (&[0x00, cmd][..], 2 + width), "{reply:02x?}");
        }
        let changes: [(u8, Vec<u8>); 9] = [
            (0x00, [counted(b"passing"), counted(b"pw"), vec![0x00]].concat()),
            (0x01, counted(b"passing")),
            (0x02, vec![0x01]),
            (0x02, vec![0x00]),
            (0x03, vec![0x00]),
            (0x03, vec![0x01]),
            (0x04, vec![0x00, 0x00, 0x40, 0x00]),
            (0x05, vec![0x05]),
            (0x06, vec![0x3c]),
        ];
        for (cmd, arguments) in changes {
            let reply = self.0.ask(&[&[0x01, cmd], &arguments[..]].concat());
            assert_eq!(reply, [0x01, cmd, 0x00]);
        }
        // There are no others.
        assert_eq!(self.0.ask(&[0x00, 0x0c]), [0x00, 0xff]);
        assert_eq!(self.0.ask(&[0x01, 0x07]), [0x01, 0xff]);
    }
}
