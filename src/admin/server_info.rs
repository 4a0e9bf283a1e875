//! The server: what it is, how it is doing, and its workers.

use std::net::SocketAddr;
use std::time::Instant;

use pipo_protocol::v2::messages::{ResolverState, ServerInfo, ServerState, WorkerPart, WorkerRow};
use pipo_protocol::v2::{Reply, Word};

use super::answer::{Answer, Asker, Outcome, Refusal};
use super::core::Core;
use super::notes::Note;
use super::{metrics, rows, users};
use crate::metrics::{Counter, Counters, Gauge};
use crate::settings::DnsMode;

/// Name, version, uptime, listeners and state.
pub(super) fn info(core: &Core, asker: &Asker) -> Answer {
    let uptime = core.started.elapsed();
    let listeners: Vec<SocketAddr> = core.plane.listeners().iter().map(|each| each.address).collect();
    let info = ServerInfo {
        as_of: core.events.sequence(),
        version: Word::cut(concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"))),
        started_unix_ms: core.started_unix_ms,
        uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
        process: std::process::id(),
        workers_count: u16::try_from(core.plane.workers_count()).unwrap_or(u16::MAX),
        state: state(core),
        sessions_count: metrics::sessions_current(core),
        users_registered_count: clamp(users::registered_count(core)),
        users_connected_count: 0, // Counted below.
        socks_listeners: listeners,
        admin_listeners: core.admin_addresses.clone(),
        admin_transport: Word::cut(asker.transport),
        resolver: resolver_state(core),
        revision: core.revision(),
        pending: core.config.pending(Instant::now()),
    };
    let (notes, asker) = (core.notes.clone(), asker.clone());
    core.store.survey(move |directory| {
        let answer = directory.map_err(Refusal::from).and_then(|all| {
            let users_connected_count = clamp(users::connected_count(all));
            Outcome::reply(Reply::ServerInfo(ServerInfo { users_connected_count, ..info }))
        });
        notes.leave(Note::Answered(asker, answer));
    });
    Ok(Outcome::Later)
}

fn resolver_state(core: &Core) -> ResolverState {
    match (core.resolved.settings.dns, core.resolver.relay_is_up()) {
        (DnsMode::System, _) => ResolverState::Plain,
        (DnsMode::Auto | DnsMode::Doh, true) => ResolverState::Relay,
        (DnsMode::Auto, false) => ResolverState::Fallback,
        (DnsMode::Doh, false) => ResolverState::Down,
    }
}

fn state(core: &Core) -> ServerState {
    if core.state == ServerState::Running && core.plane.is_paused() {
        return ServerState::Paused;
    }
    core.state
}

/// Each worker with its load.
pub(super) fn workers(core: &Core) -> Answer {
    let row = |place: usize, counters: &Counters| WorkerRow {
        worker: u16::try_from(place).unwrap_or(u16::MAX),
        sessions_count: counters.gauge(Gauge::SessionsCurrent),
        sessions_total_count: counters.value(Counter::SessionsAccepted),
        bytes_up: counters.value(Counter::BytesUp),
        bytes_down: counters.value(Counter::BytesDown),
        lookups_count: clamp(counters.gauge(Gauge::DnsLookupsCurrent)),
        cache_entries_count: clamp(counters.gauge(Gauge::DnsCacheEntries)),
        inbox_count: clamp(core.plane.waiting_count(place) as u64),
        turn_us_max: None,
    };
    let places = 0..core.plane.threads_count();
    let rows = places.filter_map(|place| core.metrics.data_plane(place).map(|counters| row(place, counters)));
    let rows: Vec<_> = rows.collect();
    Ok(Outcome::Open(rows::listing_of::<WorkerPart>(core, rows)))
}

/// A number as the field has room for it.
fn clamp(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
