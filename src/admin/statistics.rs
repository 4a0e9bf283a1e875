//! A user's own statistics, for everyone who may log in.

use pipo_protocol::v2::Reply;
use pipo_protocol::v2::messages::OwnStatistics;

use super::answer::{Answer, Asker, Outcome, Refusal};
use super::core::Core;
use super::users;

/// The row of who asks.
pub(super) fn own(core: &Core, asker: &Asker) -> Answer {
    let user = core.store.directory().present(&asker.user);
    let user = user.as_ref().and_then(users::row).ok_or_else(|| {
        // It was removed a moment ago; the association ends with its next turn.
        Refusal::of(pipo_protocol::v2::Status::NotFound)
    })?;
    Outcome::reply(Reply::Statistics(OwnStatistics { as_of: core.events.sequence(), user }))
}
