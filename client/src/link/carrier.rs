//! What carries the association, whichever transport it is: octets in, messages out, and an end.

use std::collections::VecDeque;
use std::io;

use pipo_encap::CloseReason;

use super::Transport;
use super::kernel::Kernel;
use super::udp::Udp;

/// An open association.
#[derive(Debug)]
pub(super) enum Carrier {
    /// Of the kernel.
    Kernel(Kernel),
    /// Over UDP.
    Udp(Box<Udp>),
}

/// Why an association is over, or was not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The server closed it.
    #[error("the server closed the association")]
    Closed,
    /// What SCTP over UDP says.
    #[error("{0}")]
    Udp(CloseReason),
    /// What the system says.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl Carrier {
    /// Sends what waits in `outgoing`, one message each, and waits for octets of the server, at least one.
    ///
    /// Dropping the future loses nothing: a message leaves the queue when it is handed over, and octets are
    /// returned in the poll that took them.
    pub(super) async fn turn(&mut self, outgoing: &mut VecDeque<Vec<u8>>) -> Result<Vec<u8>, Ended> {
        match self {
            Self::Kernel(kernel) => kernel.turn(outgoing).await,
            Self::Udp(udp) => udp.turn(outgoing).await,
        }
    }

    /// Sends what waits in `outgoing` and closes in order; a server that does not take part is left alone after
    /// [`super::limits::CLOSE_TIME_MAX`].
    pub(super) async fn close(self, outgoing: VecDeque<Vec<u8>>) {
        match self {
            Self::Kernel(kernel) => kernel.close(outgoing).await,
            Self::Udp(udp) => udp.close(outgoing).await,
        }
    }

    /// Which it is.
    pub(super) fn transport(&self) -> Transport {
        match self {
            Self::Kernel(_) => Transport::Kernel,
            Self::Udp(_) => Transport::Udp,
        }
    }
}
