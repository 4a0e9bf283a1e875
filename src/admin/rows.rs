//! Answers in parts: rows from wherever they come, cut into records as they are pulled.

use std::time::Instant;

use pipo_protocol::v2::messages::Part;
use pipo_protocol::v2::parts::Parts;
use pipo_protocol::v2::{Header, Status};

use super::answer::Refusal;
use super::channels::{Content, Pull, Source};
use super::core::Core;
use crate::limits::ADMIN_ROWS_PER_PULL;

/// What comes next of a list.
#[derive(Debug)]
pub(super) enum Next<R> {
    /// This row.
    Row(R),
    /// Rows are on their way; the association gets a turn when they are here.
    Wait,
    /// No more.
    End,
    /// The list cannot be given, or not to its end.
    Failed(Refusal),
}

/// A list whose rows `next` gives, one at a time, each in a bounded time. `P` is the part that it travels in;
/// everything up to `as_of` is in it.
pub(super) fn listing<P>(as_of: u64, next: impl FnMut(&mut Core) -> Next<P::Row> + Send + 'static) -> Content
where
    P: Part + Send + 'static,
    P::Row: Send,
{
    Content::new(Listing::<P, _> { as_of, parts: None, next })
}

/// As [`listing`], for rows that are there or made without asking anybody.
pub(super) fn listing_of<P>(
    core: &Core,
    rows: impl IntoIterator<Item = P::Row, IntoIter: Send + 'static>,
) -> Content
where
    P: Part + Send + 'static,
    P::Row: Send,
{
    let mut rows = rows.into_iter();
    listing::<P>(core.events.sequence(), move |_| rows.next().map_or(Next::End, Next::Row))
}

struct Listing<P, F> {
    as_of: u64,
    parts: Option<Parts<P>>,
    next: F,
}

impl<P, F> Source for Listing<P, F>
where
    P: Part + Send,
    F: FnMut(&mut Core) -> Next<P::Row> + Send,
{
    fn pull(&mut self, core: &mut Core, request: &Header, _now: Instant) -> Pull {
        let as_of = self.as_of;
        let parts = self.parts.get_or_insert_with(|| Parts::new(request, as_of));
        for _ in 0..ADMIN_ROWS_PER_PULL {
            match (self.next)(core) {
                Next::Row(row) => match parts.push(&row) {
                    Ok(None) => {}
                    Ok(Some(record)) => return Pull::Record(record),
                    Err(_) => return Pull::Failed(Refusal::of(Status::TooLong)),
                },
                Next::Wait => return Pull::Nothing,
                Next::Failed(refusal) => return Pull::Failed(refusal),
                Next::End => {
                    let last = self.parts.take().map(Parts::finish);
                    return match last {
                        Some(Ok(record)) => Pull::Last(record),
                        Some(Err(_)) | None => Pull::Failed(Refusal::of(Status::Internal)),
                    };
                }
            }
        }
        Pull::More
    }
}
