//! The resolver caches of the workers as the admin channel shows and flushes them.

use pipo_protocol::v2::messages::{CachePart, CacheRow, CacheSource, DnsFlush, DnsShow, Flushed};
use pipo_protocol::v2::{Command, Reply, Status, Text};

use super::answer::{Answer, Asker, Outcome, Refusal};
use super::core::Core;
use super::inquiry::{Gathered, NextRow};
use super::notes::Note;
use super::rows::{self, Next};
use crate::ids::WorkerId;
use crate::proxy::live::Question;
use crate::resolver::Outcome as Resolved;
use crate::resolver::{CacheEntryView, DomainName, Family, Freshness, Source};

/// Cached answers of all workers, or those to one name.
pub(super) fn show(core: &mut Core, body: &DnsShow, asker: &Asker) -> Answer {
    let name = body.name.as_ref().map(name_from).transpose()?;
    let mut left = body.limit.unwrap_or(u32::MAX);
    let as_of = core.events.sequence();
    let key = core.list_cached(Question::Cache(name), asker.peer)?;
    let next = move |core: &mut Core| {
        loop {
            if left == 0 {
                return Next::End;
            }
            match core.next_cached(&key) {
                NextRow::Row((worker, entry)) => {
                    // A failure that is remembered for a second is no answer.
                    let Some(row) = row(worker, &entry) else { continue };
                    left -= 1;
                    return Next::Row(row);
                }
                NextRow::Wait => return Next::Wait,
                NextRow::End => return Next::End,
                NextRow::Failed(trouble) => return Next::Failed(trouble.into()),
            }
        }
    };
    Ok(Outcome::Open(rows::listing::<CachePart>(as_of, next)))
}

fn row(worker: WorkerId, entry: &CacheEntryView) -> Option<CacheRow> {
    let addresses = match &entry.outcome {
        Resolved::Addresses(addresses) => addresses.to_vec(),
        Resolved::NotFound => Vec::new(),
        Resolved::Failed => return None,
    };
    let source = match entry.source {
        Source::Doh => CacheSource::Relay,
        Source::Plain | Source::Substitute { .. } => CacheSource::Plain,
        Source::Failure => return None,
    };
    let ttl_ms = match entry.freshness {
        Freshness::Fresh => u64::try_from(entry.ttl_left.as_millis()).unwrap_or(u64::MAX),
        Freshness::Stale => 0,
    };
    Some(CacheRow {
        name: Text::cut(entry.name.as_str()),
        family: match entry.family {
            Family::V4 => 4,
            Family::V6 => 6,
        },
        addresses,
        ttl_ms,
        source,
        worker: worker.0,
    })
}

/// Forgets cached answers; the reply comes when every worker has.
pub(super) fn flush(core: &mut Core, body: &DnsFlush, asker: &Asker) -> Answer {
    let name = body.name.as_ref().map(name_from).transpose()?;
    core.check_room()?;
    let subject = name.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string);
    let asker = asker.clone();
    core.inquire(&Question::Flush(name), None, move |core, gathered| {
        let answer = gathered.map_err(Refusal::from).map(|Gathered { count, .. }| {
            core.noted(&asker, Command::DnsFlush, &subject);
            let flushed = Flushed { as_of: core.events.sequence(), entries_count: count };
            Outcome::Reply(Box::new(Reply::DnsFlush(flushed)))
        });
        core.notes.leave(Note::Answered(asker, answer));
    });
    Ok(Outcome::Later)
}

fn name_from(text: &Text<255>) -> Result<DomainName, Refusal> {
    DomainName::parse(text.as_str().as_bytes()).map_err(|error| {
        Refusal::field(Status::Invalid, 1, &format!("Not a name that is asked for: {error}."))
    })
}
