//! The daemon's life: start, signals, drain, end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use pipo_protocol::v2::messages::{Notice, NoticeKind, ServerState};

use super::commit::{self, Config};
use super::core::{self, Core, Reload, decide, sessions_max, snapshot, without_users};
use super::events::{self, unix_ms};
use super::http::Http;
use super::initial;
use super::inquiry::Inquiries;
use super::logs::{self, Followed};
use super::manager::Manager;
use super::notes::{Note, Notes};
use super::server::{self, Server};
use super::system::System;
use super::watch::Watch;
use crate::limits;
use crate::logging::{AccessWriter, Diagnostics};
use crate::metrics::{Counter, Gauge, Metrics};
use crate::proxy::accept::{self, Addresses, Admission, ListenError, UnfitError};
use crate::proxy::inbox::Message;
use crate::proxy::live::Whose;
use crate::proxy::plane::{Ended, Parts, Plane};
use crate::proxy::session::Authentication;
use crate::resolver;
use crate::settings::{AccessLog, Dissector, DnsMode, Resolved, Settings, Source};
use crate::store::{self, Store, StoreOptions};
use crate::sys::inherit::Inherited;
use crate::sys::network;

use crate::sys::signals::{Signal, Signals};
use crate::sys::socket::{OptionError, TcpOptions};

const SIGNALS: Token = Token(0);
const WAKER: Token = Token(1);

/// How often the system's facts (hosts, name servers, routes) are looked at again.
const SYSTEM_INTERVAL: Duration = Duration::from_secs(10);

/// Why the daemon could not start. One line each; nothing was served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or not ours.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A socket that was handed to us is of no use.
    #[error(transparent)]
    Inherited(#[from] UnfitError),
    /// TCP does not take an option.
    #[error(transparent)]
    Tcp(#[from] OptionError),
    /// An address of the admin channel is taken, not ours, or not carried by this kernel.
    #[error(transparent)]
    Admin(#[from] server::AdminListenError),
    /// The users of the configuration, or the store's threads.
    #[error(transparent)]
    Store(#[from] store::StartError),
    /// The access log cannot be written.
    #[error("--access-log: cannot open {place}: {cause}")]
    AccessLog {
        /// The file.
        place: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The system refused something that every start needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// The daemon while it runs.
pub struct Daemon {
    poll: Poll,
    signals: Signals,
    core: Core,
    admin: Server,
    http: Http,
    /// What other threads have left for this loop.
    left: Receiver<Note>,
    phase: Phase,
    manager: Manager,
}

/// Where in its life the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Until then sessions may end by themselves.
    DrainingUntil(Instant),
    Stopping,
    /// The workers have ended; until then associations may take their good-bye.
    Parting(Instant),
}

impl Daemon {
    /// Binds, starts the workers and says so on one line. `signals` were blocked before any thread started.
    pub fn start(
        resolved: Resolved,
        signals: Signals,
        diagnostics: Diagnostics,
        mut manager: Manager,
    ) -> Result<Self, StartError> {
        let settings = without_users(&resolved.settings);
        say_what_holds_not(&resolved);
        let descriptors = network::raise_descriptor_limit();
        let system = System::read(&settings);
        let tcp = TcpOptions::from_settings(&settings);
        tcp.check()?;
        let store = Store::start(resolved.settings.users.clone(), StoreOptions::default())?;
        let authentication = decide(&settings, &store);
        let listeners = match std::mem::take(&mut manager.sockets) {
            none if none.is_empty() => listen(&settings, authentication)?,
            sockets => adopt(sockets, &resolved)?,
        };
        let poll = poll_of(&signals)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let metrics = Metrics::new(settings.workers);
        let counters = metrics.control();
        let http = Http::listen(&settings.metrics_listen, poll.registry(), Arc::clone(&counters))?;
        let admin = Server::listen(&resolved, poll.registry(), counters, Instant::now())?;
        let descriptors = descriptors.saturating_sub(admin.descriptors_max() + http.descriptors_max());
        let access = open_access_log(&settings.access_log)?;
        let resolver = resolver::Shared::new(system.hosts_table());
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.address).collect();
        let snapshot = snapshot(Arc::clone(&settings), authentication, &system, addresses);
        initial::ensure_admin(&store, &settings, &diagnostics);
        let plane = Plane::start(Parts {
            listeners,
            admission: Admission::new(sessions_max(&settings, descriptors), settings.max_sessions_per_source),
            store: Arc::clone(&store),
            resolver: Arc::clone(&resolver),
            snapshot,
            metrics: &metrics,
            access: &access,
            start: start_number(),
            waker: Arc::clone(&waker),
        })?;
        plane.set_tcp_options(&tcp);
        let (notes, left) = Notes::new(waker);
        let core = Core {
            config: Config::new(&resolved),
            resolved,
            diagnostics,
            store,
            access,
            metrics,
            resolver,
            system,
            descriptors,
            plane,
            notes,
            idle_timeout_kept: core::idle_timeout_kept(&settings),
            inquiries: Inquiries::default(),
            watch: Watch::default(),
            is_turning: false,
            unpublished: false,
            dissector_told: Dissector::Off,
            events: events::Events::default(),
            notices: Vec::new(),
            followed: Followed::default(),
            state: ServerState::Running,
            started: Instant::now(),
            started_unix_ms: unix_ms(),
            admin_addresses: admin.addresses(),
            shutdown_asked: None,
            user_lists: Arc::default(),
        };
        let mut daemon = Self { poll, signals, core, admin, http, left, phase: Phase::Serving, manager };
        let source = daemon.core.resolved.sources.of("dissector");
        daemon.core.tell_of_dissector(format_args!("source={source}"));
        daemon.say_hello();
        Ok(daemon)
    }

    /// Serves until a signal ends it.
    pub fn run(mut self) -> io::Result<Ended> {
        let mut events = Events::with_capacity(limits::EVENTS_PER_POLL);
        let mut system_at = Instant::now() + SYSTEM_INTERVAL;
        loop {
            let wake_at = match self.phase {
                Phase::Serving => system_at,
                Phase::DrainingUntil(at) | Phase::Parting(at) => at,
                Phase::Stopping => Instant::now() + SYSTEM_INTERVAL,
            };
            let now = Instant::now();
            let others = [
                self.admin.deadline(now),
                self.http.deadline(now),
                self.core.inquiries_deadline(),
                self.core.watch_deadline(),
                self.core.config.deadline(),
            ];
            let wake_at = others.into_iter().flatten().fold(wake_at, Instant::min);
            let wake_at = self.manager.flush().map_or(wake_at, |wait| wake_at.min(now + wait));
            let patience = wake_at.saturating_duration_since(now);
            match self.poll.poll(&mut events, Some(patience)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let now = Instant::now();
            for event in &events {
                self.admin.note_event(event);
                self.http.note_event(event);
            }
            self.listen(now);
            while let Some(signal) = self.signals.next_arrived() {
                self.hear(signal);
            }
            if matches!(self.phase, Phase::DrainingUntil(at) if now >= at) {
                self.stop("the drain timeout has passed");
            }
            if self.phase == Phase::Serving && now >= system_at {
                system_at = now + SYSTEM_INTERVAL;
                self.core.look_at_system();
            }
            if self.phase == Phase::Serving {
                commit::expire(&mut self.core, now);
                if self.core.config.reload_is_due() {
                    self.reload();
                }
            }
            self.admin.turn(&mut self.core, self.poll.registry(), now);
            self.core.settle_watch(now);
            if let Some(timeout) = self.core.shutdown_asked.take()
                && self.phase == Phase::Serving
            {
                self.drain(timeout);
            }
            self.http.turn(&self.core, self.poll.registry(), now);
            if self.core.plane.is_broken() && self.phase == Phase::Serving {
                log::error!("a worker has ended by itself: the daemon cannot go on");
                self.stop("a worker has ended");
            }
            if self.has_finished(now) {
                return Ok(self.finish());
            }
        }
    }

    /// Takes what the workers have told and what other threads have left.
    fn listen(&mut self, now: Instant) {
        self.core.hear_workers(now);
        self.core.expire_inquiries(now);
        while let Ok(note) = self.left.try_recv() {
            self.take(note, now);
        }
        for reader in self.core.take_ready() {
            self.admin.enqueue(reader);
        }
    }

    /// Takes what another thread has left.
    fn take(&mut self, note: Note, now: Instant) {
        match note {
            Note::UsersReplaced(replaced) => {
                self.core.users_replaced(replaced);
                self.admin.follow_users(&self.core, now);
                if self.phase == Phase::Serving {
                    self.manager.ready("serving; reloaded");
                }
                self.go_on(now);
            }
            Note::Verdict(peer, verdict) => self.admin.verdict(peer, verdict, &self.core, now),
            Note::UserChanged(asker, change) => {
                if let Ok(user) = &change.result {
                    let whose = Whose::One(Arc::clone(user.live()));
                    self.core.changed(&asker, change.deed.command(), &change.name.to_string());
                    self.admin.spare(&asker, &change);
                    // The workers first: once the reply is there, the change holds.
                    self.core.end_former_sessions(whose, move |core, ended| {
                        let ended = ended.map(|gathered| gathered.count);
                        core.notes.leave(Note::UserSettled(asker, change, ended));
                    });
                } else {
                    self.admin.user_changed(&asker, &change, Ok(0), &self.core, now);
                }
                self.go_on(now);
            }
            Note::UserSettled(asker, change, ended) => {
                self.admin.user_changed(&asker, &change, ended, &self.core, now);
            }
            Note::Replied(peer, reply) => self.admin.replied(peer, reply, now),
            Note::Committed(result) => {
                self.admin.committed(result, &mut self.core, now);
                self.admin.resume_changes(&mut self.core, now);
            }
            Note::TakenBack(result) => {
                self.admin.taken_back(result, &mut self.core, now);
                self.admin.resume_changes(&mut self.core, now);
            }
            Note::Lines => logs::take(&mut self.core, now),
            Note::Answered(asker, answer) => self.admin.answer(&asker, answer, now),
            Note::Notify(notice) => self.admin.notify(&notice, &self.core, now),
        }
    }

    /// Reads the configuration again.
    fn reload(&mut self) {
        self.manager.reloading();
        match self.core.reload() {
            Reload::Refused => self.manager.ready("serving; the last reload was refused, see the log"),
            Reload::Begun => {} // The store's answer ends it.
        }
    }

    /// The store has made somebody's change: the next one may be made.
    fn go_on(&mut self, now: Instant) {
        self.core.config.underway = None;
        self.admin.resume_changes(&mut self.core, now);
    }

    fn hear(&mut self, signal: Signal) {
        match (signal, self.phase) {
            (Signal::Reload, Phase::Serving) => {
                if let Some(revision) = self.core.ask_for_reload() {
                    log::warn!(
                        "the configuration is read again once a commit is settled: revision={revision}"
                    );
                    self.manager.reloading();
                    self.manager.ready("serving; the reload waits until a commit is confirmed or taken back");
                }
            }
            (Signal::Reload, Phase::DrainingUntil(_) | Phase::Stopping | Phase::Parting(_)) => {
                log::warn!("not reloading: the daemon is stopping");
            }
            (Signal::Stop, Phase::Serving) => self.drain(self.core.resolved.settings.drain_timeout),
            (Signal::Stop, Phase::DrainingUntil(_) | Phase::Stopping | Phase::Parting(_)) => {
                self.stop("a second signal came");
            }
        }
    }

    /// Lets sessions end by themselves for that long, then the daemon.
    fn drain(&mut self, timeout: Duration) {
        let now = Instant::now();
        self.core.plane.tell(|| Message::Drain);
        self.core.plane.stop_listening();
        let sessions = self.core.metrics.gauge(Gauge::SessionsCurrent);
        log::info!("draining: sessions={sessions} timeout={timeout:?}");
        self.manager.stopping(timeout, &format!("draining, {sessions} sessions at first"));
        self.phase = Phase::DrainingUntil(now + timeout);
        self.core.state = ServerState::ShuttingDown;
        let left_ms = u32::try_from(timeout.as_millis()).ok();
        let said = Notice { kind: NoticeKind::ShuttingDown, sentence: None, left_ms, revision: None };
        self.admin.notify(&said, &self.core, now);
    }

    fn stop(&mut self, because: &str) {
        let sessions = self.core.metrics.gauge(Gauge::SessionsCurrent);
        log::info!("closing what is left: sessions={sessions} because=\"{because}\"");
        self.manager.stopping(Duration::ZERO, because);
        self.phase = Phase::Stopping;
        self.core.plane.tell(|| Message::Stop);
    }

    /// Whether everybody has ended: the workers first, then the associations, who are told.
    fn has_finished(&mut self, now: Instant) -> bool {
        match self.phase {
            Phase::Parting(until) => self.admin.is_empty() || now >= until,
            Phase::Serving | Phase::DrainingUntil(_) | Phase::Stopping => {
                if self.core.plane.has_ended() {
                    // The last thing that a worker did may have been what somebody asked for.
                    self.listen(now);
                    self.admin.turn(&mut self.core, self.poll.registry(), now);
                    self.phase = Phase::Parting(now + limits::ADMIN_GOODBYE_MAX);
                    self.admin.part_all(&mut self.core, now);
                    return self.admin.is_empty();
                }
                false
            }
        }
    }

    fn finish(mut self) -> Ended {
        self.admin.abort_all(Instant::now());
        let Core { plane, access, metrics, diagnostics, .. } = self.core;
        let ended = plane.join();
        let lost = access.finish(limits::LOG_FLUSH_MAX);
        if lost > 0 {
            log::warn!("access lines were lost: lines={lost}");
        }
        let sessions = metrics.total(Counter::SessionsAccepted);
        log::info!("stopped: sessions_accepted={sessions}");
        diagnostics.finish(limits::LOG_FLUSH_MAX);
        ended
    }

    /// One line that says what is served, and warnings about what nobody should serve by accident.
    fn say_hello(&mut self) {
        let settings = &self.core.resolved.settings;
        let authentication = decide(settings, &self.core.store);
        let addresses: Vec<_> =
            self.core.plane.listeners().iter().map(|each| each.address.to_string()).collect();
        let addresses = addresses.join(", ");
        let auth = match authentication {
            Authentication::Required => "required",
            Authentication::Optional => "optional",
            Authentication::None => "none",
        };
        let relay = SocketAddr::new(settings.doh_ip, settings.doh_port);
        let dns = match settings.dns {
            DnsMode::Auto => format!("auto (relay {relay}, else system)"),
            DnsMode::Doh => format!("doh (relay {relay})"),
            DnsMode::System => "system".to_owned(),
        };
        let open = self.core.plane.listeners().iter().any(|each| !each.address.ip().is_loopback());
        if open && authentication != Authentication::Required {
            log::warn!("an open proxy: anyone who reaches {addresses} can use it without a password");
        }
        if !open && settings.socks_addr.is_empty() {
            log::info!("without users it listens on loopback only; add users, or name addresses with -l");
        }
        // After all warnings, so that whoever waits for this line has seen them.
        let workers = settings.workers;
        let admin = self.admin.places();
        let metrics = match self.http.places() {
            none if none.is_empty() => none,
            places => format!("; metrics {places}"),
        };
        let hello = format!(
            "socks5d: listening on {addresses}; {workers} workers; auth {auth}; dns {dns}; admin {admin}{metrics}"
        );
        self.core.diagnostics.say(&hello);
        self.manager.ready(&format!("serving on {addresses}"));
    }
}

/// The loop's poll, which wakes for signals.
fn poll_of(signals: &Signals) -> io::Result<Poll> {
    let poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&signals_fd(signals)), SIGNALS, Interest::READABLE)?;
    Ok(poll)
}

fn listen(settings: &Settings, auth: Authentication) -> Result<Vec<accept::Listener>, ListenError> {
    let chosen: [IpAddr; 2] = match auth {
        Authentication::Required => [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        Authentication::Optional | Authentication::None => {
            [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
    };
    if settings.socks_addr.is_empty() {
        accept::listen(&chosen, settings.socks_port, Addresses::Chosen)
    } else {
        accept::listen(&settings.socks_addr, settings.socks_port, Addresses::Named)
    }
}

/// Serves on the sockets that were handed over; where else it should listen does not count then.
fn adopt(sockets: Vec<Inherited>, resolved: &Resolved) -> Result<Vec<accept::Listener>, UnfitError> {
    for name in ["socks-addr", "socks-port"] {
        if resolved.sources.of(name) != Source::Default {
            log::warn!("--{name} is not used: the service manager has opened the sockets");
        }
    }
    accept::adopt(sockets)
}

/// What was given and does not hold, or should not stand where it does.
fn say_what_holds_not(resolved: &Resolved) {
    resolved.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    resolved.overridden.iter().for_each(|overridden| log::info!("{overridden}"));
}

fn open_access_log(destination: &AccessLog) -> Result<AccessWriter, StartError> {
    AccessWriter::new(destination.clone())
        .map_err(|cause| StartError::AccessLog { place: place_of(destination), cause })
}

fn place_of(access_log: &AccessLog) -> String {
    match access_log {
        AccessLog::Stdout => "stdout".to_owned(),
        AccessLog::File(path) => path.display().to_string(),
        AccessLog::Off => "off".to_owned(),
    }
}

/// The number of this start, from the clock until the store lasts: twelve days of seconds before it repeats.
fn start_number() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    u32::try_from(seconds & u64::from(u32::MAX)).unwrap_or(0)
}

fn signals_fd(signals: &Signals) -> std::os::fd::RawFd {
    std::os::fd::AsRawFd::as_raw_fd(signals)
}
