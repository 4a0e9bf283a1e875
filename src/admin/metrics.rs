//! What is counted, as the admin channel shows it. The list of all metrics is [`crate::metrics`].

use super::core::Core;
use crate::metrics::Counter;

/// Connections accepted from clients since the start, whatever became of them: with this meaning the number
/// is never below those of now and of the highest mark.
pub(super) fn sessions_historic(core: &Core) -> u64 {
    core.metrics.total(Counter::SessionsAccepted)
}

/// Connections of clients now.
pub(super) fn sessions_current(core: &Core) -> u64 {
    core.plane.admission().entered() as u64
}

/// Most connections of clients at once since the start.
pub(super) fn sessions_highest(core: &Core) -> u64 {
    core.plane.admission().entered_max() as u64
}

/// Payload sent to clients, bytes.
pub(super) fn bytes_sent(core: &Core) -> u64 {
    core.metrics.total(Counter::BytesDown)
}

/// Payload received from clients, bytes.
pub(super) fn bytes_received(core: &Core) -> u64 {
    core.metrics.total(Counter::BytesUp)
}
