//! The kernel's SCTP: a socket made and connected with socket2, then handed to sctp-rs.
//!
//! Within what that library does: it receives at most 4,096 octets a call and tells no end of a message, so
//! records are put together by their LENGTH; it says `WouldBlock` under back-pressure, so sending is tried again.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::IntoRawFd;

use sctp_rs::{ConnectedSocket, NotificationOrData, SendData};
use socket2::{Domain, Protocol, Socket, Type};

use super::carrier::Ended;
use super::{limits, sctp_options};

/// An open association.
#[derive(Debug)]
pub(super) struct Kernel {
    socket: ConnectedSocket,
}

/// Whether a kernel without SCTP said this.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT))
}

impl Kernel {
    /// Opens an association. The caller limits the time.
    pub(super) async fn open(address: SocketAddr) -> Result<Self, Ended> {
        let protocol = Protocol::from(libc::IPPROTO_SCTP);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol))?;
        socket.set_nonblocking(true)?;
        sctp_options::prepare(&socket)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let connecting = sctp_options::watch(socket)?;
        // A refusal raises the error and write-closed bits only; tokio counts both as writable.
        let _ready = connecting.writable().await?;
        let socket = connecting.into_inner();
        if let Some(error) = socket.take_error()? {
            return Err(error.into());
        }
        // From here on the descriptor is closed by sctp-rs.
        Ok(Self { socket: ConnectedSocket::from_rawfd(socket.into_raw_fd())? })
    }

    /// See [`super::carrier::Carrier::turn`].
    pub(super) async fn turn(&mut self, outgoing: &mut VecDeque<Vec<u8>>) -> Result<Vec<u8>, Ended> {
        while let Some(message) = outgoing.front() {
            tokio::select! {
                biased;
                received = self.socket.sctp_recv() => return taken(received),
                sent = self.socket.sctp_send(data(message)) => {
                    if is_sent(sent)? {
                        outgoing.pop_front();
                        continue;
                    }
                }
            }
            tokio::select! {
                received = self.socket.sctp_recv() => return taken(received),
                () = tokio::time::sleep(limits::SEND_RETRY) => {}
            }
        }
        taken(self.socket.sctp_recv().await)
    }

    /// See [`super::carrier::Carrier::close`]. The kernel delivers what it has after the socket is gone.
    pub(super) async fn close(self, mut outgoing: VecDeque<Vec<u8>>) {
        let end = tokio::time::sleep(limits::CLOSE_TIME_MAX);
        tokio::pin!(end);
        while let Some(message) = outgoing.front() {
            match is_sent(self.socket.sctp_send(data(message)).await) {
                Ok(true) => {
                    outgoing.pop_front();
                }
                Ok(false) => tokio::select! {
                    () = &mut end => break,
                    () = tokio::time::sleep(limits::SEND_RETRY) => {}
                },
                Err(_) => break,
            }
        }
        if let Err(error) = self.socket.shutdown(Shutdown::Write) {
            log::debug!("the association is closed already: error=\"{error}\"");
        }
    }
}

fn data(message: &[u8]) -> SendData {
    SendData { payload: message.to_vec(), snd_info: None }
}

/// Whether the kernel took the message; if not, there was no room.
fn is_sent(sent: io::Result<()>) -> io::Result<bool> {
    match sent {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Octets that came; none of them means the end, and so do two errors of ordinary ends.
fn taken(received: io::Result<NotificationOrData>) -> Result<Vec<u8>, Ended> {
    match received {
        Ok(NotificationOrData::Data(data)) if !data.payload.is_empty() => Ok(data.payload),
        Ok(NotificationOrData::Data(_) | NotificationOrData::Notification(_)) => Err(Ended::Closed),
        Err(error) if error.kind() == ErrorKind::NotConnected => Err(Ended::Closed),
        Err(error) => Err(error.into()),
    }
}
