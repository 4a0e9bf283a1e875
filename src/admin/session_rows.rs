//! Sessions, their events and their steps, from the words of the proxy into those of the protocol and back.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use pipo_protocol::Name;
use pipo_protocol::v2::events::{CredentialEvent, SessionEvent};
use pipo_protocol::v2::messages::{
    EventKind, SessionDetails, SessionFilter, SessionRow, Stage as WireStage, TraceKind,
    TraceStep as WireStep,
};
use pipo_protocol::v2::{Status, Text, Word};

use super::answer::Refusal;
use crate::proxy::connect::AttemptError;
use crate::proxy::dissect::Found;
use crate::proxy::live::{
    DestinationPattern, Details, Filter, Glimpse, Happened, News, Noticed, Row, TraceStep, Traced,
};
use crate::proxy::session::{Families, Stage, Target};
use crate::resolver::{Family, Outcome};

// ---- what the proxy says --------------------------------------------------------------------------------

/// A row of a list.
pub(super) fn session_row(row: &Row) -> Option<SessionRow> {
    let is_asked = row.target != Target::Unknown;
    Some(SessionRow {
        id: row.id.as_u64(),
        user: Name::new(row.user.name().as_octets()).ok()?,
        source: row.client,
        destination: destination_of(&row.target),
        destination_port: is_asked.then_some(row.port),
        origin: row.resolved,
        stage: wire_stage(row.stage),
        age_ms: milliseconds(row.age),
        idle_ms: milliseconds(row.idle),
        bytes_up: row.bytes_up,
        bytes_down: row.bytes_down,
    })
}

/// One session in full.
pub(super) fn session_details(details: &Details, as_of: u64) -> Option<SessionDetails> {
    let accepted = details.accepted.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(SessionDetails {
        as_of,
        session: session_row(&details.row)?,
        worker: details.row.id.worker().0,
        listener: details.listener,
        outgoing: details.outgoing,
        accepted_unix_ms: milliseconds(accepted),
        command: details.command,
        reply: details.reply,
        dns_us: details.dns.map(microseconds),
        connect_us: details.connect.map(microseconds),
        candidates: details.candidates.clone(),
        attempts_count: details.attempts_count.into(),
        mover: details.mover.map(Word::cut),
        buffered_up_bytes: details.held_up_bytes as u64,
        buffered_down_bytes: details.held_down_bytes as u64,
        client_ended: details.ended.client,
        origin_ended: details.ended.origin,
        deadline_ms: details.deadline.map(milliseconds),
    })
}

/// What happened to a session.
pub(super) fn session_event(news: &News) -> Option<SessionEvent> {
    let (kind, reason) = match news.happened {
        Happened::Opened => (EventKind::SessionOpened, None),
        Happened::Connected => (EventKind::SessionConnected, None),
        Happened::Ended(reason) => (EventKind::SessionClosed, Some(Word::cut(reason.as_str()))),
    };
    Some(SessionEvent { kind, session: session_row(&news.row)?, reply: news.reply, reason })
}

/// Credentials that were noticed; octets that are not printable ASCII are escaped.
pub(super) fn credential_event(noticed: &Noticed) -> Option<CredentialEvent> {
    let Found { protocol, credentials } = &noticed.found;
    Some(CredentialEvent {
        protocol: Word::cut(protocol.name()),
        session: noticed.session.as_u64(),
        user: Name::new(noticed.user.name().as_octets()).ok()?,
        destination: destination_of(&noticed.target)?,
        destination_port: noticed.port,
        user_found: Text::cut(&credentials.user.escape_ascii().to_string()),
        password_found: Text::cut(&credentials.password.escape_ascii().to_string()),
    })
}

/// A step of a traced session.
pub(super) fn trace_step(step: &TraceStep) -> WireStep {
    let mut wire = WireStep {
        id: step.session.as_u64(),
        kind: TraceKind::Stage,
        elapsed_us: microseconds(step.elapsed),
        stage: wire_stage(step.stage),
        address: None,
        addresses: Vec::new(),
        bytes_up: None,
        bytes_down: None,
        reply: None,
        detail: None,
    };
    let (kind, detail) = match &step.what {
        Traced::Stage => (TraceKind::Stage, None),
        Traced::DnsQuestion(name, families) => {
            let families = match families {
                Families::V4 => "A",
                Families::V6 => "AAAA",
                Families::Both => "A AAAA",
            };
            (TraceKind::DnsQuestion, Some(format!("{name} {families}")))
        }
        Traced::DnsAnswer(family, outcome) => {
            let family = match family {
                Family::V4 => "A",
                Family::V6 => "AAAA",
            };
            let said = match outcome {
                Outcome::Addresses(addresses) => {
                    wire.addresses = addresses.to_vec();
                    "addresses"
                }
                Outcome::NotFound => "not-found",
                Outcome::Failed => "failed",
            };
            (TraceKind::DnsAnswer, Some(format!("{family} {said}")))
        }
        Traced::ConnectStart(address) => {
            wire.address = Some(*address);
            (TraceKind::ConnectStart, None)
        }
        Traced::ConnectEnd(address, result) => {
            wire.address = *address;
            (TraceKind::ConnectEnd, Some(end_of_attempt(*result).to_owned()))
        }
        Traced::Reply(code) => {
            wire.reply = Some(*code);
            (TraceKind::Reply, None)
        }
        Traced::Bytes(up, down) => {
            (wire.bytes_up, wire.bytes_down) = (Some(*up), Some(*down));
            (TraceKind::Bytes, None)
        }
        Traced::HalfClosed(sides) => {
            let who = match (sides.client, sides.origin) {
                (true, true) => "client origin",
                (true, false) => "client",
                (false, _) => "origin",
            };
            (TraceKind::HalfClosed, Some(who.to_owned()))
        }
        Traced::Expired => (TraceKind::Expired, None),
        Traced::Closed(reason) => (TraceKind::Closed, Some(reason.as_str().to_owned())),
    };
    wire.kind = kind;
    wire.detail = detail.as_deref().map(Text::cut);
    wire
}

fn end_of_attempt(result: Option<Result<(), AttemptError>>) -> &'static str {
    match result {
        Some(Ok(())) => "connected",
        Some(Err(AttemptError::Refused)) => "refused",
        Some(Err(AttemptError::TimedOut)) => "timed-out",
        Some(Err(AttemptError::HostUnreachable)) => "host-unreachable",
        Some(Err(AttemptError::NetworkUnreachable)) => "network-unreachable",
        Some(Err(AttemptError::Other)) => "failed",
        None => "given-up",
    }
}

/// Names are octets; what is not printable ASCII is escaped.
fn destination_of(target: &Target) -> Option<Text<256>> {
    match target {
        Target::Unknown => None,
        Target::Name(octets) => Some(Text::cut(&octets.escape_ascii().to_string())),
        Target::Address(ip) => Some(Text::cut(&ip.to_string())),
    }
}

fn wire_stage(stage: Stage) -> WireStage {
    match stage {
        Stage::Negotiate => WireStage::Negotiate,
        Stage::Authenticate => WireStage::Authenticate,
        Stage::Request => WireStage::Request,
        Stage::Resolve => WireStage::Resolve,
        Stage::Connect => WireStage::Connect,
        Stage::Relay => WireStage::Relay,
        Stage::Closing => WireStage::Closing,
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

// ---- what people ask for --------------------------------------------------------------------------------

/// A filter as the workers understand it.
pub(super) fn filter_from(filter: &SessionFilter) -> Result<Filter, Refusal> {
    let source = match (filter.source, filter.source_prefix) {
        (None, None) => None,
        (None, Some(_)) => return Err(invalid(3, "A prefix needs the address that it is of.")),
        (Some(ip), prefix) => {
            let width = if ip.is_ipv4() { 32 } else { 128 };
            let bits = prefix.unwrap_or(width);
            if bits > width {
                return Err(invalid(3, &format!("Allowed are 0 to {width} bits for this address.")));
            }
            Some((ip, bits))
        }
    };
    let stage = filter.stage.map(stage_from).transpose()?;
    let destination = filter.destination.as_ref();
    Ok(Filter {
        user: filter.user.as_ref().map(|user| user.as_bytes().into()),
        source,
        destination: destination.map(|text| DestinationPattern::new(text.as_str().as_bytes())),
        port: filter.destination_port,
        age_min: filter.age_ms_min.map(Duration::from_millis),
        age_max: filter.age_ms_max.map(Duration::from_millis),
        bytes_min: filter.bytes_min,
        bytes_max: filter.bytes_max,
        stage,
        idle_min: filter.idle_ms_min.map(Duration::from_millis),
    })
}

fn stage_from(stage: WireStage) -> Result<Stage, Refusal> {
    Ok(match stage {
        WireStage::Negotiate => Stage::Negotiate,
        WireStage::Authenticate => Stage::Authenticate,
        WireStage::Request => Stage::Request,
        WireStage::Resolve => Stage::Resolve,
        WireStage::Connect => Stage::Connect,
        WireStage::Relay => Stage::Relay,
        WireStage::Closing => Stage::Closing,
        WireStage::Unassigned(_) => return Err(invalid(10, "Allowed stages are 0 to 6.")),
    })
}

fn invalid(key: u64, sentence: &str) -> Refusal {
    Refusal::field(Status::Invalid, key, sentence)
}

/// Whether a filter means the session of an event.
pub(super) fn is_meant(filter: &Filter, row: &SessionRow) -> bool {
    let target = match &row.destination {
        None => Target::Unknown,
        Some(text) => match text.as_str().parse::<IpAddr>() {
            Ok(ip) => Target::Address(ip),
            Err(_) => Target::Name(text.as_str().as_bytes().into()),
        },
    };
    let Ok(stage) = stage_from(row.stage) else { return false };
    filter.matches(&Glimpse {
        user: row.user.as_bytes(),
        source: row.source.ip(),
        target: &target,
        port: row.destination_port.unwrap_or(0),
        stage,
        age: Duration::from_millis(row.age_ms),
        idle: Duration::from_millis(row.idle_ms),
        bytes: row.bytes_up.saturating_add(row.bytes_down),
    })
}
