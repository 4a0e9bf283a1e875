//! Events: sessions that open, connect and end, changes of users and settings, credentials that were seen.

use pipo_protocol::v2::events::Happening;
use pipo_protocol::v2::messages::{EventKind, EventsFollow, Subscribed};
use pipo_protocol::v2::{Reply, Role, Status};

use super::answer::{Answer, Asker, Outcome, Refusal};
use super::core::Core;
use super::dispatch::v2::role_of;
use super::events::{Feed, Past};
use super::follow::{self, Interest, Taken};
use super::session_rows::{filter_from, is_meant};

/// Follows events of some kinds, or of all that the role allows.
pub(super) fn follow(core: &mut Core, body: EventsFollow, asker: &Asker) -> Answer {
    let is_admin = role_of(&asker.user).includes(Role::Admin);
    if body.kinds.contains(&EventKind::Credential) && !is_admin {
        return Err(Refusal::saying(Status::NotAllowed, "Credentials are for the role admin."));
    }
    if body.kinds.iter().any(|kind| matches!(kind, EventKind::Unassigned(_))) {
        return Err(Refusal::field(Status::Invalid, 2, "Allowed kinds of events are 0 to 4."));
    }
    let EventsFollow { from, kinds, filter, .. } = body;
    let filter = filter.as_ref().map(filter_from).transpose()?;
    let is_about_sessions = kinds.is_empty() || kinds.iter().any(|kind| TOLD_BY_WORKERS.contains(kind));
    let watching = is_about_sessions.then(|| core.watch_sessions());
    let (kinds_count, has_filter) = (kinds.len(), filter.is_some());
    let interest = move |past: &Past| {
        let _ = &watching; // Workers tell of sessions for as long as this is there.
        if let Happening::Gap(_) = past.happening {
            return Interest::Yes;
        }
        let kind = kind_of(&past.happening);
        let is_kind = kind.is_some_and(|kind| kinds.is_empty() || kinds.contains(&kind));
        let is_allowed = is_admin || kind != Some(EventKind::Credential);
        let is_session = match (&filter, &past.happening) {
            (Some(filter), Happening::Session(event)) => is_meant(filter, &event.session),
            (Some(_) | None, _) => true,
        };
        if is_kind && is_allowed && is_session { Interest::Yes } else { Interest::No }
    };
    let is_everything = is_admin && kinds_count == 0 && !has_filter;
    let taken = if is_everything { Taken::All } else { Taken::Some };
    let content = follow::follow(&core.events, Feed::Events, from, taken, interest);
    let as_of = from.unwrap_or_else(|| core.events.sequence());
    Ok(Outcome::Follow(Box::new(Reply::Events(Subscribed { as_of })), content))
}

const TOLD_BY_WORKERS: [EventKind; 4] =
    [EventKind::SessionOpened, EventKind::SessionConnected, EventKind::SessionClosed, EventKind::Credential];

/// What kind of event it is, for those that travel by this subscription.
fn kind_of(happening: &Happening) -> Option<EventKind> {
    match happening {
        Happening::Session(event) => Some(event.kind),
        Happening::Change(_) => Some(EventKind::Changed),
        Happening::Credential(_) => Some(EventKind::Credential),
        Happening::Gap(_)
        | Happening::Notice(_)
        | Happening::Line(_)
        | Happening::Sample(_)
        | Happening::Step(_)
        | Happening::End(_) => None,
    }
}
