//! Pipes as carriers between two sockets (splice(2)). All calls are rustix's safe ones.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// A non-blocking pipe.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    asked_size: usize,
    size: usize,
}

impl Pipe {
    /// A pipe of about `size` bytes. An unprivileged user over its share gets an error rather than the small
    /// pipe that the kernel would still give: copying is faster than splicing 8 KiB at a time.
    pub fn new(size: usize) -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let granted = fcntl_setpipe_size(&writer, size)?;
        Ok(Self { reader, writer, asked_size: size, size: granted })
    }

    /// How many bytes fit, if they come in whole pages.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// What was asked for; the kernel rounds up.
    #[must_use]
    pub fn asked_size(&self) -> usize {
        self.asked_size
    }

    /// Moves bytes from a socket into the pipe.
    pub fn fill(&self, socket: &impl AsFd, bytes: usize) -> io::Result<usize> {
        Ok(splice(socket, None, &self.writer, None, bytes, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
    }

    /// Reads bytes back that were put in. After an error, that there were fewer among them, the pipe's content is
    /// unknown.
    pub fn read_all(&self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = rustix::io::read(&self.reader, &mut *bytes)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes = bytes.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Moves bytes from the pipe into a socket.
    pub fn drain(&self, socket: &impl AsFd, bytes: usize) -> io::Result<usize> {
        Ok(splice(&self.reader, None, socket, None, bytes, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn bytes_pass_from_one_socket_to_another() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (near, listener.accept().unwrap().0)
        };
        let (mut client, from) = connect();
        let (to, mut origin) = connect();
        let pipe = Pipe::new(64 * 1024).unwrap();
        assert!(pipe.size() >= 64 * 1024);
        client.write_all(b"through the kernel").unwrap();
        let taken = pipe.fill(&from, pipe.size()).unwrap();
        assert_eq!(taken, 18);
        assert_eq!(pipe.drain(&to, taken).unwrap(), 18);
        let mut bytes = [0; 18];
        origin.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"through the kernel");
        from.set_nonblocking(true).unwrap();
        let error = pipe.fill(&from, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
