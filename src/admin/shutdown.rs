//! The end of the daemon, asked for over the admin channel. What happens then is the control loop's: the same as
//! after a signal.

use std::time::Duration;

use pipo_protocol::v2::messages::{DrainReply, ShutdownRequest};
use pipo_protocol::v2::{Reply, Status};

use super::answer::{Answer, Asker, Outcome, Refusal};
use super::core::Core;
use super::metrics;
use crate::limits::DRAIN_TIMEOUT_MAX;

/// Asks the control loop to let sessions end, and then the daemon.
pub(super) fn shutdown(core: &mut Core, body: &ShutdownRequest, asker: &Asker) -> Answer {
    let drain = match body.drain_ms {
        Some(ms) => Duration::from_millis(u64::from(ms)),
        None => core.resolved.settings.drain_timeout,
    };
    if drain > DRAIN_TIMEOUT_MAX {
        let sentence = format!("Allowed are at most {} ms.", DRAIN_TIMEOUT_MAX.as_millis());
        return Err(Refusal::field(Status::Invalid, 1, &sentence));
    }
    log::info!("shutdown asked for: user={} source={}", asker.user.name(), asker.source);
    core.shutdown_asked = Some(drain);
    let sessions_count = metrics::sessions_current(core);
    Outcome::reply(Reply::ServerShutdown(DrainReply { as_of: core.events.sequence(), sessions_count }))
}
