//! What the control loop holds and every command works on: settings, users, counters, workers. Whatever changes
//! settings goes through [`Core::adopt`], so that a reload and the admin channel do the same.

use std::cmp::Ordering;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipo_protocol::Name;
use pipo_protocol::v2::events::{ChangeEvent, Happening};
use pipo_protocol::v2::messages::{Notice, ServerState};
use pipo_protocol::v2::{Command, Text};

use super::answer::Asker;
use super::commit::{Config, Underway};
use super::events::{Events, Feed};
use super::inquiry::{Gathered, Inquiries, Trouble};
use super::logs::Followed;
use super::notes::{Note, Notes};
use super::system::System;
use super::watch::Watch;
use crate::limits;
use crate::logging::{AUDIT, AccessWriter, Diagnostics, Opened};
use crate::metrics::{Counter, Metrics};
use crate::proxy::inbox::Snapshot;
use crate::proxy::live::{Question, Whose};
use crate::proxy::plane::Plane;
use crate::proxy::policy::Policy;
use crate::proxy::session::{Authentication, Rules};
use crate::resolver;
use crate::settings::{AuthMode, Dissector, Reloaded, Resolved, Settings};
use crate::store::{Replaced, Store, UserError};
use crate::sys::socket::{OptionError, TcpOptions};

/// Everything but sockets.
pub(super) struct Core {
    pub(super) resolved: Resolved,
    pub(super) diagnostics: Diagnostics,
    pub(super) store: Arc<Store>,
    pub(super) access: AccessWriter,
    pub(super) metrics: Metrics,
    pub(super) resolver: Arc<resolver::Shared>,
    pub(super) system: System,
    /// The limit of open descriptors, less those of the admin channel.
    pub(super) descriptors: u64,
    pub(super) plane: Plane,
    pub(super) notes: Notes,
    /// The last idle timeout that was not `off`: what holds again when idle sessions are closed again.
    pub(super) idle_timeout_kept: Duration,
    /// Questions to the workers that are under way.
    pub(super) inquiries: Inquiries,
    /// What workers tell without being asked.
    pub(super) watch: Watch,
    /// Accepting is about to end or to begin again.
    pub(super) is_turning: bool,
    /// Workers have not been told yet what they have to know.
    pub(super) unpublished: bool,
    /// What was said last of how much dissectors show.
    pub(super) dissector_told: Dissector,
    /// What happened, in one sequence.
    pub(super) events: Events,
    /// Revisions of settings and users, and what waits to be confirmed.
    pub(super) config: Config,
    /// To be told to every administrator.
    pub(super) notices: Vec<Notice>,
    /// Who follows the logs.
    pub(super) followed: Followed,
    pub(super) state: ServerState,
    pub(super) started: Instant,
    pub(super) started_unix_ms: u64,
    /// Where the admin channel is reached.
    pub(super) admin_addresses: Vec<SocketAddr>,
    /// Somebody asked for the end of the daemon, after sessions had this long.
    pub(super) shutdown_asked: Option<Duration>,
    /// Held once more by each list of users that is not sent yet.
    pub(super) user_lists: Arc<()>,
}

/// Settings that can be taken up without failing.
#[derive(Debug)]
pub(super) struct Prepared {
    resolved: Resolved,
    /// Where access lines go from then on; `None`: it cannot be opened, and they go on as they do.
    opened: Option<Opened>,
}

/// Why settings were not taken up; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdoptError {
    /// TCP does not take an option.
    #[error(transparent)]
    Tcp(#[from] OptionError),
    /// The access log cannot be written where it was sent to.
    #[error("access log: error=\"{0}\"")]
    AccessLog(#[from] io::Error),
}

/// The idle timeout that version 1 shows and returns to where `off` stands from the beginning.
pub(super) fn idle_timeout_kept(settings: &Settings) -> Duration {
    settings.idle_timeout.or(Settings::default().idle_timeout).unwrap_or(limits::TIMEOUT_MAX)
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Reload {
    /// Nothing was changed; the log says why.
    Refused,
    /// Settings hold; the store's answer about the users is to come.
    Begun,
}

impl Core {
    /// SIGHUP: logs are opened again at once, the configuration is read as soon as nothing else is being changed.
    /// Gives the revision of a commit that waits to be confirmed: it must be possible to take it back to what was
    /// before it, so the reload waits, too.
    pub(super) fn ask_for_reload(&mut self) -> Option<u64> {
        if let Err(error) = self.access.reopen() {
            log::error!("the access log could not be opened again: error=\"{error}\"");
        }
        self.config.reload_waits = true;
        self.config.revisions.pending().map(|pending| pending.revision)
    }

    /// Everything is read and checked again; what is live is taken up.
    pub(super) fn reload(&mut self) -> Reload {
        self.config.reload_waits = false;
        let Reloaded { resolved, live, restart } = match self.resolved.reload() {
            Ok(reloaded) => reloaded,
            Err(error) => return refuse(&error),
        };
        if let Err(error) = self.adopt(resolved) {
            return refuse(&error);
        }
        self.set_system(System::read(&self.resolved.settings));
        self.publish();
        let notes = self.notes.clone();
        self.store.replace_configured(self.resolved.settings.users.clone(), move |replaced| {
            notes.leave(Note::UsersReplaced(replaced));
        });
        self.config.underway = Some(Underway::Users(None));
        self.config.revisions.advance(self.resolved.runtime_changes());
        log::info!("reloaded: changed=[{}]", live.join(" "));
        if !restart.is_empty() {
            log::warn!("these take a restart to change: [{}]", restart.join(" "));
        }
        Reload::Begun
    }

    /// Takes settings up. The workers are told by the next [`Core::publish`]; an error changes nothing.
    pub(super) fn adopt(&mut self, resolved: Resolved) -> Result<(), AdoptError> {
        let prepared = self.prepare(resolved)?;
        self.take_up(prepared);
        Ok(())
    }

    /// Does everything that may fail when settings are taken up, and changes nothing yet.
    pub(super) fn prepare(&self, resolved: Resolved) -> Result<Prepared, AdoptError> {
        TcpOptions::from_settings(&resolved.settings).check()?;
        let opened = self.access.prepare(resolved.settings.access_log.clone())?;
        Ok(Prepared { resolved, opened: Some(opened) })
    }

    /// Takes settings up that held before. What cannot hold any more is said, and hinders nothing else.
    pub(super) fn take_up_again(&mut self, resolved: Resolved) {
        let opened = self.access.prepare(resolved.settings.access_log.clone());
        if let Err(error) = &opened {
            log::error!("access lines go on where they go now: error=\"{error}\"");
        }
        self.take_up(Prepared { resolved, opened: opened.ok() });
    }

    /// Takes settings up that were prepared.
    pub(super) fn take_up(&mut self, prepared: Prepared) {
        let Prepared { resolved, opened } = prepared;
        let (before, after) = (&self.resolved.settings, &resolved.settings);
        if let Some(opened) = opened {
            self.access.switch(opened);
        }
        if after.log_level != before.log_level {
            self.diagnostics.set_level(after.log_level);
        }
        let sessions_max = sessions_max(after, self.descriptors);
        self.plane.admission().set_limits(sessions_max, after.max_sessions_per_source);
        self.idle_timeout_kept = after.idle_timeout.unwrap_or(self.idle_timeout_kept);
        let are_other_files = (&after.hosts, &after.resolv_conf) != (&before.hosts, &before.resolv_conf);
        self.resolved = resolved;
        self.unpublished = true;
        if are_other_files {
            self.set_system(System::read(&self.resolved.settings));
        }
    }

    /// The revision in force.
    pub(super) fn revision(&self) -> u64 {
        self.config.revisions.number()
    }

    /// Adds to a counter of the control loop.
    pub(super) fn count(&self, counter: Counter, amount: u64) {
        self.metrics.control().add(counter, amount);
    }

    /// Notes that somebody changed something: a new revision, an event, a line in the log.
    pub(super) fn changed(&mut self, asker: &Asker, command: Command, subject: &str) {
        let revision = self.config.revisions.advance(self.resolved.runtime_changes());
        self.tell_change(asker, command, subject, revision);
    }

    /// Says who changed settings or users, which have that revision now.
    pub(super) fn tell_change(&mut self, asker: &Asker, command: Command, subject: &str, revision: u64) {
        self.tell_of_dissector(format_args!("user={} source={}", asker.user.name(), asker.source));
        self.note_change(asker, command, subject, Some(revision));
    }

    /// Notes that somebody did something that leaves settings and users as they are: an event, a line in the
    /// log.
    pub(super) fn noted(&mut self, asker: &Asker, command: Command, subject: &str) {
        self.note_change(asker, command, subject, None);
    }

    fn note_change(&mut self, asker: &Asker, command: Command, subject: &str, revision: Option<u64>) {
        let (user, source) = (asker.user.name(), asker.source);
        let row = command.row();
        let (noun, verb) = row.map_or(("", ""), |row| (row.noun, row.verb));
        log::info!(
            target: AUDIT,
            "changed: user={user} source={source} command=\"{noun} {verb}\" subject=\"{}\" revision={}",
            subject.escape_debug(),
            revision.unwrap_or(self.revision())
        );
        let Ok(name) = Name::new(user.as_octets()) else { return };
        let change = ChangeEvent {
            user: name,
            source,
            command: command.code(),
            subject: Some(Text::cut(subject)),
            revision,
        };
        self.events.publish(Feed::Events, Happening::Change(change));
    }

    /// Says when dissectors show more or less than when it was said last, and who wanted that.
    pub(super) fn tell_of_dissector(&mut self, by: fmt::Arguments<'_>) {
        let settings = &self.resolved.settings;
        let before = std::mem::replace(&mut self.dissector_told, settings.dissector);
        let word = crate::settings::show(settings, "dissector").unwrap_or_default();
        match settings.dissector.cmp(&before) {
            Ordering::Greater => {
                log::warn!("credentials that new sessions send in clear are logged: dissector={word} {by}");
            }
            Ordering::Less => log::info!("less of credentials is logged: dissector={word} {by}"),
            Ordering::Equal => {}
        }
    }

    /// The store's answer to a reload: who is not who they were has to log in again.
    pub(super) fn users_replaced(&mut self, replaced: Result<Replaced, UserError>) {
        match replaced {
            Ok(Replaced { added, removed, changed }) => {
                self.users_changed();
                let counts = (added.len(), removed.len(), changed.len());
                log::info!("users: added={} removed={} changed={}", counts.0, counts.1, counts.2);
            }
            Err(error) => log::error!("the users were not changed: {error}"),
        }
    }

    /// Users are not who they were: tells the workers at once, whose sessions may have to end.
    pub(super) fn users_changed(&mut self) {
        self.end_former_sessions(Whose::Everyone, |_, ended| match ended {
            Ok(Gathered { count, .. }) => log::info!("sessions of former users ended: sessions={count}"),
            Err(trouble) => log::error!("not every session of former users ended: because={trouble:?}"),
        });
    }

    /// The same for one user or all; goes on with `then` once their sessions have ended.
    pub(super) fn end_former_sessions(
        &mut self,
        whose: Whose,
        then: impl FnOnce(&mut Self, Result<Gathered, Trouble>) + Send + 'static,
    ) {
        self.publish(); // Whether passwords are required may depend on it.
        self.inquire(&Question::EndFormer(whose), None, then);
    }

    /// Looks whether hosts, name servers, routes or addresses have changed.
    pub(super) fn look_at_system(&mut self) {
        let system = System::read(&self.resolved.settings);
        if system != self.system {
            log::info!("the system's hosts, name servers, routes or addresses have changed");
            self.set_system(system);
        }
    }

    fn set_system(&mut self, system: System) {
        self.resolver.set_hosts(system.hosts_table());
        self.system = system;
        self.unpublished = true;
    }

    /// Tells the workers what was changed since the last time, if anything was.
    pub(super) fn publish_changes(&mut self) {
        if self.unpublished {
            self.publish();
        }
    }

    /// Gives every worker the settings and facts of now.
    fn publish(&mut self) {
        self.unpublished = false;
        let source = self.resolved.sources.of("dissector");
        self.tell_of_dissector(format_args!("source={source}"));
        let settings = without_users(&self.resolved.settings);
        let listeners = self.plane.listeners().iter().map(|listener| listener.address).collect();
        let authentication = decide(&settings, &self.store);
        let snapshot = snapshot(settings, authentication, &self.system, listeners);
        self.plane.set_tcp_options(&snapshot.tcp);
        self.plane.publish(&snapshot);
    }
}

fn refuse(error: &dyn std::error::Error) -> Reload {
    log::error!("nothing was changed: {error}");
    Reload::Refused
}

/// What workers get: the passwords of the configuration are for the store alone.
pub(super) fn without_users(settings: &Settings) -> Arc<Settings> {
    let mut settings = settings.clone();
    settings.users = Vec::new();
    Arc::new(settings)
}

/// `--auth` with `auto` decided.
pub(super) fn decide(settings: &Settings, store: &Store) -> Authentication {
    match settings.auth {
        AuthMode::Required => Authentication::Required,
        AuthMode::Optional => Authentication::Optional,
        AuthMode::None => Authentication::None,
        AuthMode::Auto if store.directory().proxy_users() > 0 => Authentication::Required,
        AuthMode::Auto => Authentication::None,
    }
}

/// What the workers go by: the settings, with everything that follows from them and from the system.
pub(super) fn snapshot(
    settings: Arc<Settings>,
    authentication: Authentication,
    system: &System,
    listeners: Vec<SocketAddr>,
) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        rules: rules(&settings, authentication),
        policy: policy(&settings, system, listeners),
        resolver: resolver::Config::from_settings(&settings, &system.servers),
        tcp: TcpOptions::from_settings(&settings),
        settings,
    })
}

/// What sessions go by.
fn rules(settings: &Settings, auth: Authentication) -> Rules {
    Rules {
        auth,
        connect_timeout: settings.connect_timeout,
        idle_timeout: settings.idle_timeout,
        half_closed_timeout: settings.half_closed_timeout,
    }
}

/// Which destinations are allowed.
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
pub(super) fn sessions_max(settings: &Settings, descriptors: u64) -> usize {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let reserve = limits::DESCRIPTORS_RESERVED + settings.workers * limits::DESCRIPTORS_PER_WORKER;
    // A limit too small for the reserve still serves somebody; EMFILE then pauses accepting.
    let left = descriptors.saturating_sub(reserve).max(descriptors / 4);
    let possible = (left / limits::DESCRIPTORS_PER_SESSION).max(1);
    settings.max_sessions.map_or(possible, |wanted| wanted.min(possible))
}
