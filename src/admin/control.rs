//! The daemon's life: start, signals, reload, drain, end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::system::System;
use crate::limits;
use crate::logging::{AccessWriter, Diagnostics};
use crate::metrics::{Counter, Gauge, Metrics};
use crate::proxy::accept::{self, Addresses, Admission, ListenError};
use crate::proxy::inbox::{Message, Snapshot};
use crate::proxy::plane::{Ended, Parts, Plane};
use crate::proxy::policy::Policy;
use crate::proxy::session::{Authentication, Rules};
use crate::resolver;
use crate::settings::{AccessLog, AuthMode, DnsMode, Reloaded, Resolved, Settings};
use crate::store::{self, Replaced, Store, StoreOptions, UserError};
use crate::sys::network;
use crate::sys::signals::{Signal, Signals};

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
    resolved: Resolved,
    diagnostics: Diagnostics,
    poll: Poll,
    signals: Signals,
    store: Arc<Store>,
    access: AccessWriter,
    metrics: Metrics,
    resolver: Arc<resolver::Shared>,
    system: System,
    descriptors: u64,
    plane: Plane,
    phase: Phase,
    /// Wakes this loop.
    waker: Arc<Waker>,
    /// Answers of the store to reloads.
    users_replaced: (Sender<UsersReplaced>, Receiver<UsersReplaced>),
}

type UsersReplaced = Result<Replaced, UserError>;

/// Where in its life the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Until then sessions may end by themselves.
    DrainingUntil(Instant),
    Stopping,
}

impl Daemon {
    /// Binds, starts the workers and says so on one line. `signals` were blocked before any thread started.
    pub fn start(resolved: Resolved, signals: Signals, diagnostics: Diagnostics) -> Result<Self, StartError> {
        let settings = without_users(&resolved.settings);
        resolved.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        resolved.overridden.iter().for_each(|overridden| log::info!("{overridden}"));
        let descriptors = network::raise_descriptor_limit();
        let system = System::read(&settings);
        let store = Store::start(resolved.settings.users.clone(), StoreOptions::default())?;
        let authentication = decide(&settings, &store);
        let listeners = listen(&settings, authentication)?;
        let access = AccessWriter::new(settings.access_log.clone())
            .map_err(|cause| StartError::AccessLog { place: place_of(&settings.access_log), cause })?;
        let metrics = Metrics::new(settings.workers);
        let resolver = resolver::Shared::new(system.hosts_table());
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.address).collect();
        let snapshot = Arc::new(Snapshot {
            rules: rules(&settings, authentication),
            policy: policy(&settings, &system, addresses),
            resolver: resolver::Config::from_settings(&settings, &system.servers),
            settings: Arc::clone(&settings),
        });
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&signals_fd(&signals)), SIGNALS, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let plane = Plane::start(Parts {
            listeners,
            admission: Admission::new(sessions_max(&settings, descriptors), settings.max_sessions_per_source),
            store: Arc::clone(&store),
            resolver: Arc::clone(&resolver),
            snapshot,
            metrics: &metrics,
            access: &access,
            start: start_number(),
            on_end: Arc::clone(&waker),
        })?;
        let daemon = Self {
            resolved,
            diagnostics,
            poll,
            signals,
            store,
            access,
            metrics,
            resolver,
            system,
            descriptors,
            plane,
            phase: Phase::Serving,
            waker,
            users_replaced: channel(),
        };
        daemon.say_hello();
        Ok(daemon)
    }

    /// Serves until a signal ends it.
    pub fn run(mut self) -> io::Result<Ended> {
        let mut events = Events::with_capacity(16);
        let mut system_at = Instant::now() + SYSTEM_INTERVAL;
        loop {
            let wake_at = match self.phase {
                Phase::Serving => system_at,
                Phase::DrainingUntil(at) => at,
                Phase::Stopping => Instant::now() + SYSTEM_INTERVAL,
            };
            let patience = wake_at.saturating_duration_since(Instant::now());
            match self.poll.poll(&mut events, Some(patience)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.take_replaced_users();
            while let Some(signal) = self.signals.next_arrived() {
                self.hear(signal);
            }
            let now = Instant::now();
            if matches!(self.phase, Phase::DrainingUntil(at) if now >= at) {
                self.stop("the drain timeout has passed");
            }
            if self.phase == Phase::Serving && now >= system_at {
                system_at = now + SYSTEM_INTERVAL;
                self.look_at_system();
            }
            if self.plane.ended_count() > 0 && self.phase == Phase::Serving {
                log::error!("a worker has ended by itself: the daemon cannot go on");
                self.stop("a worker has ended");
            }
            if self.plane.has_ended() {
                return Ok(self.finish());
            }
        }
    }

    fn hear(&mut self, signal: Signal) {
        match (signal, self.phase) {
            (Signal::Reload, Phase::Serving) => self.reload(),
            (Signal::Reload, Phase::DrainingUntil(_) | Phase::Stopping) => {
                log::warn!("not reloading: the daemon is stopping");
            }
            (Signal::Stop, Phase::Serving) => {
                let timeout = self.resolved.settings.drain_timeout;
                let sessions = self.metrics.gauge(Gauge::SessionsCurrent);
                log::info!("draining: sessions={sessions} timeout={timeout:?}");
                self.phase = Phase::DrainingUntil(Instant::now() + timeout);
                self.plane.tell(|| Message::Drain);
                self.plane.stop_listening();
            }
            (Signal::Stop, Phase::DrainingUntil(_) | Phase::Stopping) => self.stop("a second signal came"),
        }
    }

    fn stop(&mut self, because: &str) {
        let sessions = self.metrics.gauge(Gauge::SessionsCurrent);
        log::info!("closing what is left: sessions={sessions} because=\"{because}\"");
        self.phase = Phase::Stopping;
        self.plane.tell(|| Message::Stop);
    }

    fn finish(self) -> Ended {
        let ended = self.plane.join();
        let lost = self.access.finish(limits::LOG_FLUSH_MAX);
        if lost > 0 {
            log::warn!("access lines were lost: lines={lost}");
        }
        let sessions = self.metrics.total(Counter::SessionsAccepted);
        log::info!("stopped: sessions_accepted={sessions}");
        self.diagnostics.finish(limits::LOG_FLUSH_MAX);
        ended
    }

    /// SIGHUP: everything is read and checked again; what is live is taken up, logs are opened again.
    fn reload(&mut self) {
        if let Err(error) = self.access.reopen() {
            log::error!("the access log could not be opened again: error=\"{error}\"");
        }
        let Reloaded { resolved, live, restart } = match self.resolved.reload() {
            Ok(reloaded) => reloaded,
            Err(error) => return log::error!("nothing was changed: {error}"),
        };
        if resolved.settings.access_log != self.resolved.settings.access_log
            && let Err(error) = self.access.redirect(resolved.settings.access_log.clone())
        {
            return log::error!("nothing was changed: access log: error=\"{error}\"");
        }
        if resolved.settings.log_level != self.resolved.settings.log_level {
            self.diagnostics.set_level(resolved.settings.log_level);
        }
        self.resolved = resolved;
        let settings = &self.resolved.settings;
        let sessions_max = sessions_max(settings, self.descriptors);
        self.plane.admission().set_limits(sessions_max, settings.max_sessions_per_source);
        self.system = System::read(settings);
        self.publish();
        let (users_replaced, waker) = (self.users_replaced.0.clone(), Arc::clone(&self.waker));
        self.store.replace_configured(settings.users.clone(), move |replaced| {
            // Both fail only when the control loop is over, and then nobody cares.
            if users_replaced.send(replaced).is_ok()
                && let Err(error) = waker.wake()
            {
                log::error!("the control loop could not be woken: error=\"{error}\"");
            }
        });
        log::info!("reloaded: changed=[{}]", live.join(" "));
        if !restart.is_empty() {
            log::warn!("these take a restart to change: [{}]", restart.join(" "));
        }
    }

    /// The store's answer to a reload: who is not who they were has to log in again.
    fn take_replaced_users(&self) {
        while let Ok(replaced) = self.users_replaced.1.try_recv() {
            match replaced {
                Ok(Replaced { added, removed, changed }) => {
                    self.publish(); // Whether passwords are required may depend on it.
                    self.plane.tell(|| Message::UsersChanged);
                    let counts = (added.len(), removed.len(), changed.len());
                    log::info!("users: added={} removed={} changed={}", counts.0, counts.1, counts.2);
                }
                Err(error) => log::error!("the users were not changed: {error}"),
            }
        }
    }

    fn look_at_system(&mut self) {
        let system = System::read(&self.resolved.settings);
        if system != self.system {
            log::info!("the system's hosts, name servers, routes or addresses have changed");
            self.system = system;
            self.publish();
        }
    }

    /// Gives every worker the settings and facts of now.
    fn publish(&self) {
        let settings = without_users(&self.resolved.settings);
        let listeners = self.plane.listeners().iter().map(|listener| listener.address).collect();
        let snapshot = Arc::new(Snapshot {
            rules: rules(&settings, decide(&settings, &self.store)),
            policy: policy(&settings, &self.system, listeners),
            resolver: resolver::Config::from_settings(&settings, &self.system.servers),
            settings,
        });
        self.resolver.set_hosts(self.system.hosts_table());
        self.plane.tell(|| Message::Snapshot(Arc::clone(&snapshot)));
    }

    /// One line that says what is served, and warnings about what nobody should serve by accident.
    fn say_hello(&self) {
        let settings = &self.resolved.settings;
        let authentication = decide(settings, &self.store);
        let addresses: Vec<_> = self.plane.listeners().iter().map(|each| each.address.to_string()).collect();
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
        let open = self.plane.listeners().iter().any(|each| !each.address.ip().is_loopback());
        if open && authentication != Authentication::Required {
            log::warn!("an open proxy: anyone who reaches {addresses} can use it without a password");
        }
        if !open && settings.socks_addr.is_empty() {
            log::info!("without users it listens on loopback only; add users, or name addresses with -l");
        }
        // After all warnings, so that whoever waits for this line has seen them.
        let workers = settings.workers;
        let hello = format!("socks5d: listening on {addresses}; {workers} workers; auth {auth}; dns {dns}");
        self.diagnostics.say(&hello);
    }
}

/// What workers get: the passwords of the configuration are for the store alone.
fn without_users(settings: &Settings) -> Arc<Settings> {
    let mut settings = settings.clone();
    settings.users = Vec::new();
    Arc::new(settings)
}

/// `--auth` with `auto` decided.
fn decide(settings: &Settings, store: &Store) -> Authentication {
    match settings.auth {
        AuthMode::Required => Authentication::Required,
        AuthMode::Optional => Authentication::Optional,
        AuthMode::None => Authentication::None,
        AuthMode::Auto if store.directory().proxy_users() > 0 => Authentication::Required,
        AuthMode::Auto => Authentication::None,
    }
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

fn rules(settings: &Settings, auth: Authentication) -> Rules {
    Rules {
        auth,
        connect_timeout: settings.connect_timeout,
        idle_timeout: settings.idle_timeout,
        half_closed_timeout: settings.half_closed_timeout,
    }
}

fn policy(settings: &Settings, system: &System, listeners: Vec<SocketAddr>) -> Policy {
    Policy {
        deny_private: settings.deny_private,
        listeners,
        bind_outgoing: settings.bind_outgoing.clone(),
        ipv6_route: system.ipv6_route,
        local_addresses: system.local_addresses.clone(),
    }
}

/// Sessions that the descriptors allow: two each, after everything else has got its own.
fn sessions_max(settings: &Settings, descriptors: u64) -> usize {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let reserve = limits::DESCRIPTORS_RESERVED + settings.workers * limits::DESCRIPTORS_PER_WORKER;
    // A limit too small for the reserve still serves somebody; EMFILE then pauses accepting.
    let left = descriptors.saturating_sub(reserve).max(descriptors / 4);
    let possible = (left / limits::DESCRIPTORS_PER_SESSION).max(1);
    settings.max_sessions.map_or(possible, |wanted| wanted.min(possible))
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
