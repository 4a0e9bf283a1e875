//! A turn of the byte mover that copies, without what the kernel does for it.

use std::hint::black_box;
use std::io;
use std::time::Instant;

use socks5d::proxy::mover::Tools;
use socks5d::proxy::relay::Relay;
use socks5d::proxy::side::{Ready, Side};
use socks5d::sys::pipe::Pipe;

use crate::{Work, repeated};

const BUFFER_BYTES: usize = 64 * 1024;

/// A socket whose kernel part costs nothing: it gives what it was told to and takes everything.
struct Socket {
    ready: Ready,
    arrived: usize,
    sent: usize,
}

impl Socket {
    fn new() -> Self {
        Self { ready: Ready { writable: true, ..Ready::default() }, arrived: 0, sent: 0 }
    }
}

impl Side for Socket {
    fn ready(&mut self) -> &mut Ready {
        &mut self.ready
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.arrived.min(buffer.len());
        if bytes == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.arrived -= bytes;
        black_box(buffer);
        Ok(bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sent += black_box(bytes).len();
        Ok(bytes.len())
    }

    fn close_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn splice_into(&mut self, _pipe: &Pipe, _bytes: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn splice_from(&mut self, _pipe: &Pipe, _bytes: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

pub(crate) fn turn_of_64_bytes() -> Work {
    turn_of(64)
}

pub(crate) fn turn_of_64_kib() -> Work {
    turn_of(BUFFER_BYTES)
}

/// The origin sends `bytes`, the client takes them.
fn turn_of(bytes: usize) -> Work {
    let now = Instant::now();
    let mut tools = Tools::new(BUFFER_BYTES, 0); // No pipes: everything is copied.
    let mut relay = Relay::new(now);
    let (mut client, mut origin) = (Socket::new(), Socket::new());
    let mut once = move || {
        origin.arrived = bytes;
        origin.ready.readable = true;
        let progress = relay.turn(&mut client, &mut origin, &mut tools, now);
        (progress.is_ok(), client.sent)
    };
    assert_eq!(once(), (true, bytes), "the bytes were passed on");
    repeated(once)
}
