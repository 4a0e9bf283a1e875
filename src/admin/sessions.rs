//! Live sessions as the admin channel shows, ends and follows them. Their workers hold them; what they answer
//! is collected in `inquiry.rs`.

use std::sync::Arc;
use std::time::Instant;

use pipo_protocol::v2::events::Happening;
use pipo_protocol::v2::messages::{
    Killed, SessionKill, SessionListRequest, SessionPart, SessionShow, SessionSort, SessionTrace, Subscribed,
    TraceKind,
};
use pipo_protocol::v2::{Command, Reply, Status};

use super::answer::{Answer, Asker, Outcome, Refusal};
use super::core::Core;
use super::events::{Feed, Past};
use super::follow::{self, Interest, Taken};
use super::inquiry::{Gathered, NextRow, Trouble};
use super::notes::Note;
use super::ranked::{By, Direction, Ranked};
use super::rows::{self, Next};
use super::session_rows::{filter_from, session_details, session_row};
use crate::ids::SessionId;
use crate::limits;
use crate::proxy::live::{Question, Run, Selection};

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Busy => Self::of(Status::Busy),
            Trouble::Timeout => Self::of(Status::Timeout),
            Trouble::TooMany => {
                let sentence = format!(
                    "At most {} sessions are sorted; ask for a limit.",
                    limits::ADMIN_ROWS_SORTED_MAX
                );
                Self::saying(Status::TooLong, &sentence)
            }
        }
    }
}

/// Sessions, filtered, in order, up to a limit.
pub(super) fn list(core: &mut Core, body: &SessionListRequest, asker: &Asker) -> Answer {
    let filter = body.filter.as_ref().map(filter_from).transpose()?.unwrap_or_default();
    let by = body.sort.map(by_from).transpose()?.unwrap_or(By::Id);
    let direction = if body.descending == Some(true) { Direction::Descending } else { Direction::Ascending };
    let limit = body.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    // Whoever goes on from this list by a subscription misses nothing that happens from here on.
    core.watch_sessions_for_a_while(Instant::now());
    let as_of = core.events.sequence();
    let question = Question::Sessions(Arc::new(filter));
    let key = if (by, direction) == (By::Id, Direction::Ascending) {
        core.list_sessions(question, asker.peer)?
    } else {
        let ranked = Ranked::new(by, direction, limit.min(limits::ADMIN_ROWS_SORTED_MAX));
        core.sort_sessions(question, ranked, limit, asker.peer)?
    };
    let mut left = limit;
    let next = move |core: &mut Core| {
        if left == 0 {
            return Next::End;
        }
        match core.next_session(&key) {
            NextRow::Row(row) => {
                left -= 1;
                session_row(&row).map_or_else(|| Next::Failed(Refusal::of(Status::Internal)), Next::Row)
            }
            NextRow::Wait => Next::Wait,
            NextRow::End => Next::End,
            NextRow::Failed(trouble) => Next::Failed(trouble.into()),
        }
    };
    Ok(Outcome::Open(rows::listing::<SessionPart>(as_of, next)))
}

fn by_from(sort: SessionSort) -> Result<By, Refusal> {
    Ok(match sort {
        SessionSort::Id => By::Id,
        SessionSort::Age => By::Age,
        SessionSort::Bytes => By::Bytes,
        SessionSort::User => By::User,
        SessionSort::Destination => By::Destination,
        SessionSort::Idle => By::Idle,
        SessionSort::Unassigned(_) => {
            return Err(Refusal::field(Status::Invalid, 2, "Allowed orders are 0 to 5."));
        }
    })
}

/// One session in full.
pub(super) fn show(core: &mut Core, body: &SessionShow, asker: &Asker) -> Answer {
    let id = locate(core, body.id)?;
    core.check_room()?;
    let asker = asker.clone();
    core.inquire(&Question::Session(id), Some(id.worker()), move |core, gathered| {
        let answer = shown(core, gathered);
        core.notes.leave(Note::Answered(asker, answer));
    });
    Ok(Outcome::Later)
}

fn shown(core: &Core, gathered: Result<Gathered, Trouble>) -> Answer {
    let details = gathered?.details.ok_or_else(|| Refusal::of(Status::NotFound))?;
    let details = session_details(&details, core.events.sequence());
    Outcome::reply(Reply::SessionShow(details.ok_or_else(|| Refusal::of(Status::Internal))?))
}

/// A number that some worker may know.
fn locate(core: &Core, id: u64) -> Result<SessionId, Refusal> {
    let id = SessionId::from_u64(id);
    let is_known = usize::from(id.worker().0) < core.plane.workers_count();
    is_known.then_some(id).ok_or_else(|| Refusal::of(Status::NotFound))
}

/// Ends sessions, or counts them; the reply comes when every worker has done so.
pub(super) fn kill(core: &mut Core, body: &SessionKill, asker: &Asker) -> Answer {
    if body.ids.is_empty() && body.filter.is_none() {
        let sentence = "Name sessions, or give a filter; an empty one means all sessions.";
        return Err(Refusal::field(Status::Invalid, 2, sentence));
    }
    let mut ids: Vec<_> = body.ids.iter().copied().map(SessionId::from_u64).collect();
    ids.sort_unstable();
    let filter = body.filter.as_ref().map(filter_from).transpose()?;
    let run = if body.dry_run == Some(true) { Run::Dry } else { Run::Real };
    core.check_room()?;
    let asker = asker.clone();
    let question = Question::Kill(Arc::new(Selection { ids, filter }), run);
    core.inquire(&question, None, move |core, gathered| {
        let answer = gathered.map_err(Refusal::from).map(|Gathered { count, .. }| {
            if run == Run::Real {
                core.noted(&asker, Command::SessionKill, &format!("{count} sessions"));
            }
            let killed = Killed { as_of: core.events.sequence(), sessions_count: count };
            Outcome::Reply(Box::new(Reply::SessionKill(killed)))
        });
        core.notes.leave(Note::Answered(asker, answer));
    });
    Ok(Outcome::Later)
}

/// Follows every step of one session.
pub(super) fn trace(core: &mut Core, body: &SessionTrace, asker: &Asker) -> Answer {
    let id = locate(core, body.id)?;
    core.check_room()?;
    if !core.has_room_for_trace(id) {
        return Err(Refusal::of(Status::Busy));
    }
    // Its first step is told before the worker's answer.
    let from = core.events.sequence();
    let held = core.hold_trace(id);
    let asker = asker.clone();
    core.inquire(&Question::Trace(id), Some(id.worker()), move |core, gathered| {
        let answer = match gathered {
            Ok(Gathered { count: 1.., .. }) => Ok(traced(core, id, from, held)),
            Ok(Gathered { count: 0, .. }) => Err(Refusal::of(Status::NotFound)),
            Err(trouble) => Err(trouble.into()),
        };
        core.notes.leave(Note::Answered(asker, answer));
    });
    Ok(Outcome::Later)
}

fn traced(core: &Core, id: SessionId, from: u64, held: Arc<()>) -> Outcome {
    let interest = move |past: &Past| {
        let _ = &held; // The trace goes on for as long as this is there.
        match &past.happening {
            Happening::Step(step) if step.id != id.as_u64() => Interest::No,
            Happening::Step(step) if step.kind == TraceKind::Closed => Interest::Last,
            Happening::Step(_) | Happening::Gap(_) => Interest::Yes,
            Happening::Session(_)
            | Happening::Change(_)
            | Happening::Credential(_)
            | Happening::Notice(_)
            | Happening::Line(_)
            | Happening::Sample(_)
            | Happening::End(_) => Interest::No,
        }
    };
    let content = follow::follow(&core.events, Feed::Steps, Some(from), Taken::Some, interest);
    Outcome::Follow(Box::new(Reply::SessionTrace(Subscribed { as_of: from })), content)
}
