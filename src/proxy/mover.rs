//! How bytes travel from one socket to the other: copied through the worker's scratch buffer, or spliced
//! through a pooled pipe while a direction's reads are large.
//!
//! Nothing is held by an idle direction: the scratch buffer is the worker's, what could not be written is
//! kept in a chunk or a pipe just until it is, and both go back to their pools then.

use std::io::{self, ErrorKind};

use super::side::{Fault, Ready, Side};
use crate::limits;
use crate::sys::pipe::Pipe;

/// Bytes that were read and not written yet.
#[derive(Debug, Default)]
pub enum Held {
    /// None.
    #[default]
    Nothing,
    /// In memory; the first of them still to be written.
    Chunk(Box<Chunk>),
    /// In a pipe, that many.
    Pipe(Box<(Pipe, usize)>),
}

/// A piece of memory on its way.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    written: usize,
}

/// What one read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// So many bytes were read, and so many of them passed on.
    Bytes { read: usize, passed: u64 },
    /// The peer has closed its side.
    End,
    /// There is nothing at the moment.
    Nothing,
}

/// What the reads of a direction have been like: decides between copying and splicing.
///
/// It is slow to leave splicing: whoever sends much still pauses now and then, and copying until the next large
/// reads have come would cost more than some small splices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Large reads, less the small ones among them.
    surplus: u8,
}

impl Pace {
    /// From here on a direction splices.
    const SPLICED_FROM: u8 = 2;
    /// No further: so many small reads, less [`Self::SPLICED_FROM`], end splicing.
    const SURPLUS_MAX: u8 = 8;

    /// Whether the direction is spliced, as long as there are pipes.
    pub(super) fn is_spliced(self) -> bool {
        self.surplus >= Self::SPLICED_FROM
    }

    fn note_large(&mut self) {
        self.surplus = (self.surplus + 1).min(Self::SURPLUS_MAX);
    }

    /// A small read: some of them end splicing, one ends what might have led to it.
    fn note_small(&mut self) {
        self.surplus = if self.is_spliced() { self.surplus - 1 } else { 0 };
    }
}

/// What a worker has for moving bytes, shared by its sessions one after the other.
#[derive(Debug)]
pub struct Tools {
    scratch: Vec<u8>,
    /// Chunks that carry nothing, for reuse.
    #[expect(clippy::vec_box, reason = "a chunk goes into a session and back as it is: 8 bytes there")]
    chunks: Vec<Box<Chunk>>,
    /// Bytes that all chunks of this worker hold.
    chunk_bytes: usize,
    /// Pipes proven empty, for reuse, each in the box in which a direction holds it.
    #[expect(clippy::vec_box, reason = "a pipe goes into a session and back as it is: 8 bytes there")]
    pipes: Vec<Box<(Pipe, usize)>>,
    /// Pipes in the pool and at work.
    pipes_count: usize,
    pipes_count_max: usize,
    /// Bytes that one call may move.
    call_bytes_max: usize,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// How many bytes are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Chunk(chunk) => chunk.bytes.len() - chunk.written,
            Self::Pipe(pipe) => pipe.1,
        }
    }
}

impl Tools {
    /// Tools with a scratch buffer of `buffer_size` bytes and at most `pipes_count_max` pipes of that size.
    #[must_use]
    pub fn new(buffer_size: usize, pipes_count_max: usize) -> Self {
        Self {
            scratch: vec![0; buffer_size],
            chunks: Vec::new(),
            chunk_bytes: 0,
            pipes: Vec::new(),
            pipes_count: 0,
            pipes_count_max,
            call_bytes_max: usize::MAX,
        }
    }

    /// A read that is worth being spliced.
    fn is_large(&self, bytes: usize) -> bool {
        bytes >= self.scratch.len().min(limits::LARGE_READ_BYTES)
    }

    fn note_read(&self, pace: &mut Pace, bytes: usize) {
        if self.is_large(bytes) { pace.note_large() } else { pace.note_small() }
    }

    /// A session has moved so many bytes in a turn; is that much?
    #[must_use]
    pub(super) fn is_much(&self, bytes: u64) -> bool {
        self.is_large(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Has no call move more than that: while one lasts, the kernel may let nobody else have its processor.
    pub(super) fn limit_calls(&mut self, bytes: usize) {
        self.call_bytes_max = bytes;
    }

    /// Takes another buffer size up; running sessions use it from their next read on.
    pub fn resize(&mut self, buffer_size: usize) {
        if buffer_size == self.scratch.len() {
            return;
        }
        self.scratch = vec![0; buffer_size];
        self.chunks.clear();
        self.pipes_count -= self.pipes.len();
        self.pipes.clear();
    }

    /// The scratch buffer, for reads outside a relay.
    pub fn scratch(&mut self) -> &mut [u8] {
        &mut self.scratch
    }

    /// Bytes that a direction may move in one turn.
    #[must_use]
    pub fn turn_bytes(&self) -> usize {
        self.scratch.len().clamp(limits::TURN_BYTES_MIN, limits::TURN_BYTES_MAX)
    }

    /// Reads once and passes on what the other side takes; the rest is held.
    pub(super) fn carry<S: Side>(
        &mut self,
        held: &mut Held,
        pace: &mut Pace,
        from: &mut S,
        to: &mut S,
    ) -> Result<Carried, Fault> {
        if pace.is_spliced()
            && let Some(pipe) = self.take_pipe()
        {
            return self.carry_spliced(held, pace, from, to, pipe);
        }
        self.carry_copied(held, pace, from, to)
    }

    /// The same by copying; shows what was read, once it was passed on or is held.
    pub(super) fn carry_shown<S: Side>(
        &mut self,
        held: &mut Held,
        pace: &mut Pace,
        from: &mut S,
        to: &mut S,
        show: impl FnOnce(&[u8]),
    ) -> Result<Carried, Fault> {
        let carried = self.carry_copied(held, pace, from, to)?;
        if let Carried::Bytes { read, .. } = carried {
            show(self.scratch.get(..read).unwrap_or_default());
        }
        Ok(carried)
    }

    fn carry_copied<S: Side>(
        &mut self,
        held: &mut Held,
        pace: &mut Pace,
        from: &mut S,
        to: &mut S,
    ) -> Result<Carried, Fault> {
        let room = self.room().min(self.call_bytes_max);
        let buffer = self.scratch.get_mut(..room).unwrap_or_default();
        let Some(bytes) = receive(from, |from| from.receive(buffer))? else {
            return Ok(Carried::Nothing);
        };
        if bytes == 0 {
            return Ok(Carried::End);
        }
        self.note_read(pace, bytes);
        if bytes < room {
            // A short read has emptied the socket, so the read that would say so can be saved; unless the
            // peer has closed: then the end may have come with these bytes, and no event will tell again.
            let ready = from.ready();
            ready.readable = ready.read_closed;
        }
        let written = send_some(to, self.scratch.get(..bytes).unwrap_or_default())?;
        if written < bytes {
            *held = self.hold(written, bytes);
        }
        Ok(Carried::Bytes { read: bytes, passed: written as u64 })
    }

    fn carry_spliced<S: Side>(
        &mut self,
        held: &mut Held,
        pace: &mut Pace,
        from: &mut S,
        to: &mut S,
        mut carried: Box<(Pipe, usize)>,
    ) -> Result<Carried, Fault> {
        // The pipe is empty, so "would block" can only mean that the socket is. A short splice means nothing:
        // a pipe may be full in slots long before it is full in bytes.
        let bytes_max = carried.0.size().min(self.call_bytes_max);
        match receive(from, |from| from.splice_into(&carried.0, bytes_max)) {
            Ok(Some(0)) => {
                self.put_pipe(carried);
                Ok(Carried::End)
            }
            Ok(Some(read)) => {
                self.note_read(pace, read);
                carried.1 = read;
                *held = Held::Pipe(carried);
                let passed = self.unload(held, to)?;
                self.keep_a_pipe(held)?;
                Ok(Carried::Bytes { read, passed })
            }
            Ok(None) => {
                self.put_pipe(carried);
                Ok(Carried::Nothing)
            }
            Err(fault) => {
                self.put_pipe(carried);
                Err(fault)
            }
        }
    }

    /// Passes held bytes on; gives back how many went. What carried them is free again once empty; after a
    /// fault it is still held, so that [`Tools::drop_held`] takes it off the books.
    pub(super) fn unload<S: Side>(&mut self, held: &mut Held, to: &mut S) -> Result<u64, Fault> {
        let mut passed = 0;
        match held {
            Held::Nothing => {}
            Held::Chunk(chunk) => {
                let written = send_some(to, chunk.bytes.get(chunk.written..).unwrap_or_default())?;
                chunk.written += written;
                passed += written as u64;
            }
            Held::Pipe(carried) => {
                while carried.1 > 0 {
                    let (pipe, bytes) = &**carried;
                    let Some(written) = write(to, |to| to.splice_from(pipe, *bytes))? else { break };
                    carried.1 = carried.1.saturating_sub(written);
                    passed += written as u64;
                }
            }
        }
        if held.bytes() == 0 {
            match std::mem::take(held) {
                Held::Nothing => {}
                Held::Chunk(chunk) => self.put_chunk(chunk),
                Held::Pipe(carried) => self.put_pipe(carried),
            }
        }
        Ok(passed)
    }

    /// One free pipe serves every session of a worker in turn, unless those whose other side is slow keep them
    /// all. The one who would keep the last has its bytes moved to memory instead.
    fn keep_a_pipe(&mut self, held: &mut Held) -> Result<(), Fault> {
        let exhausted = self.pipes.is_empty() && self.pipes_count >= self.pipes_count_max;
        let has_memory = self.chunk_bytes < limits::HELD_BYTES_PER_WORKER_MAX;
        if !exhausted || !has_memory {
            return Ok(());
        }
        *held = match std::mem::take(held) {
            Held::Pipe(carried) => {
                let bytes = carried.1;
                let mut chunk = self.empty_chunk();
                chunk.bytes.resize(bytes, 0);
                if let Err(error) = carried.0.read_all(&mut chunk.bytes) {
                    self.pipes_count -= 1; // It cannot be trusted, and the bytes are lost with the session.
                    return Err(error.into());
                }
                self.chunk_bytes += bytes;
                self.put_pipe(carried);
                Held::Chunk(chunk)
            }
            other @ (Held::Nothing | Held::Chunk(_)) => other,
        };
        Ok(())
    }

    /// How much may be read at once: less when the chunks of this worker hold much already, so that many
    /// slow readers cost a bounded amount of memory.
    fn room(&self) -> usize {
        let left = limits::HELD_BYTES_PER_WORKER_MAX.saturating_sub(self.chunk_bytes);
        self.scratch.len().min(left.max(limits::HELD_BYTES_MIN))
    }

    /// Takes bytes over that were read before the relay began.
    pub(super) fn hold_bytes(&mut self, bytes: Vec<u8>) -> Held {
        if bytes.is_empty() {
            return Held::Nothing;
        }
        self.chunk_bytes += bytes.len();
        Held::Chunk(Box::new(Chunk { bytes, written: 0 }))
    }

    fn hold(&mut self, from: usize, to: usize) -> Held {
        let mut chunk = self.empty_chunk();
        chunk.bytes.extend_from_slice(self.scratch.get(from..to).unwrap_or_default());
        self.chunk_bytes += chunk.bytes.len();
        Held::Chunk(chunk)
    }

    fn empty_chunk(&mut self) -> Box<Chunk> {
        let mut chunk =
            self.chunks.pop().unwrap_or_else(|| Box::new(Chunk { bytes: Vec::new(), written: 0 }));
        chunk.bytes.clear();
        chunk.written = 0;
        chunk
    }

    fn put_chunk(&mut self, chunk: Box<Chunk>) {
        self.chunk_bytes = self.chunk_bytes.saturating_sub(chunk.bytes.len());
        let reusable = chunk.bytes.capacity() <= self.scratch.len();
        if reusable && self.chunks.len() < limits::CHUNKS_POOLED_MAX {
            self.chunks.push(chunk);
        }
    }

    /// Other tools have to do with `held` from here on.
    pub(super) fn hand_over(&mut self, held: &Held) {
        match held {
            Held::Nothing => {}
            Held::Chunk(chunk) => self.chunk_bytes = self.chunk_bytes.saturating_sub(chunk.bytes.len()),
            Held::Pipe(_) => self.pipes_count -= 1,
        }
    }

    /// And these do.
    pub(super) fn take_over(&mut self, held: &Held) {
        match held {
            Held::Nothing => {}
            Held::Chunk(chunk) => self.chunk_bytes += chunk.bytes.len(),
            Held::Pipe(_) => self.pipes_count += 1,
        }
    }

    /// What a session that ends still held goes back, or is closed.
    pub(super) fn drop_held(&mut self, held: Held) {
        match held {
            Held::Nothing => {}
            Held::Chunk(chunk) => self.put_chunk(chunk),
            // Not empty: its bytes must never reach another session.
            Held::Pipe(_) => self.pipes_count -= 1,
        }
    }

    fn take_pipe(&mut self) -> Option<Box<(Pipe, usize)>> {
        if let Some(pipe) = self.pipes.pop() {
            return Some(pipe);
        }
        if self.pipes_count >= self.pipes_count_max {
            return None;
        }
        match Pipe::new(self.scratch.len()) {
            Ok(pipe) => {
                self.pipes_count += 1;
                Some(Box::new((pipe, 0)))
            }
            Err(error) => {
                // The user's share of pipe memory, or descriptors, are used up: make do with what there is.
                log::debug!("no more pipes: pipes={} error=\"{error}\"", self.pipes_count);
                self.pipes_count_max = self.pipes_count;
                None
            }
        }
    }

    /// Takes a pipe back that has been proven empty.
    fn put_pipe(&mut self, mut carried: Box<(Pipe, usize)>) {
        carried.1 = 0;
        if carried.0.asked_size() == self.scratch.len() {
            self.pipes.push(carried);
        } else {
            self.pipes_count -= 1;
        }
    }
}

/// Reads once; `None` when there is nothing, which readiness then knows too.
fn receive<S: Side>(
    from: &mut S,
    read: impl FnMut(&mut S) -> io::Result<usize>,
) -> Result<Option<usize>, Fault> {
    again(from, read, |ready| ready.readable = false)
}

/// Writes once; `None` when there is no room, which readiness then knows too.
fn write<S: Side>(
    to: &mut S,
    write: impl FnMut(&mut S) -> io::Result<usize>,
) -> Result<Option<usize>, Fault> {
    again(to, write, |ready| ready.writable = false)
}

fn again<S: Side>(
    side: &mut S,
    mut call: impl FnMut(&mut S) -> io::Result<usize>,
    blocked: impl Fn(&mut Ready),
) -> Result<Option<usize>, Fault> {
    loop {
        match call(side) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                blocked(side.ready());
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends as much as is taken.
fn send_some<S: Side>(to: &mut S, bytes: &[u8]) -> Result<usize, Fault> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match write(to, |to| to.send(rest))? {
            Some(count) => sent += count,
            None => break,
        }
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::slot::Socket;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// A socket of the proxy and its peer.
    fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut socket = Socket::new(mio::net::TcpStream::from_std(near));
        *socket.ready() = Ready { readable: true, writable: true, ..Ready::default() };
        (socket, peer)
    }

    /// Reads until the other side takes no more; gives back how many bytes were read.
    fn fill(tools: &mut Tools, held: &mut Held, from: &mut Socket, to: &mut Socket) -> usize {
        let mut pace = Pace { surplus: Pace::SPLICED_FROM };
        let mut total = 0;
        while held.is_empty() {
            pace.surplus = Pace::SPLICED_FROM;
            match tools.carry(held, &mut pace, from, to).unwrap() {
                Carried::Bytes { read, .. } => total += read,
                Carried::Nothing => from.ready().readable = true, // The sender is at it.
                Carried::End => panic!("the sender goes on"),
            }
        }
        total
    }

    #[test]
    fn a_direction_splices_after_two_large_reads_and_through_some_small_ones() {
        let tools = Tools::new(64 * 1024, 2);
        let spliced_after = |reads: &[usize]| {
            let mut pace = Pace::default();
            reads.iter().for_each(|bytes| tools.note_read(&mut pace, *bytes));
            pace.is_spliced()
        };
        let (large, small) = (limits::LARGE_READ_BYTES, limits::LARGE_READ_BYTES - 1);
        assert!(!spliced_after(&[large]));
        assert!(spliced_after(&[large, large]));
        assert!(!spliced_after(&[large, small, large]), "small reads are copied");
        assert!(!spliced_after(&[large, large, small]));
        let mut reads = vec![large; 100];
        reads.resize(106, small);
        assert!(spliced_after(&reads), "a pause is no change of habit");
        reads.push(small);
        assert!(!spliced_after(&reads), "seven are");
        assert!(spliced_after(&[reads.as_slice(), &[large]].concat()), "and habits come back");
    }

    #[test]
    fn a_small_buffer_is_filled_by_large_reads() {
        let tools = Tools::new(4096, 2);
        let mut pace = Pace::default();
        tools.note_read(&mut pace, 4096);
        tools.note_read(&mut pace, 4096);
        assert!(pace.is_spliced());
    }

    #[test]
    fn the_last_pipe_is_never_kept_by_a_slow_reader() {
        let mut tools = Tools::new(64 * 1024, 2);
        let mut slow = Vec::new();
        for _ in 0..4 {
            let (mut from, mut sender) = pair();
            let (mut to, reader) = pair();
            let sending = std::thread::spawn(move || {
                let bytes: Vec<u8> = (0..=255).cycle().take(16 * 1024 * 1024).collect();
                // Ends with an error once the relay is gone.
                let _sent_in_part = sender.write_all(&bytes);
            });
            let mut held = Held::default();
            let read = fill(&mut tools, &mut held, &mut from, &mut to);
            slow.push((held, read, from, to, reader, sending));
        }
        let kept = slow.iter().filter(|(held, ..)| matches!(held, Held::Pipe(_))).count();
        assert_eq!(kept, 1, "of two pipes one stays free");
        assert_eq!((tools.pipes.len(), tools.pipes_count), (1, 2));
        for (mut held, read, from, mut to, mut reader, sending) in slow {
            let mut got = 0;
            let mut buffer = vec![0; 256 * 1024];
            while got < read {
                let count = reader.read(&mut buffer).unwrap();
                for byte in &buffer[..count] {
                    assert_eq!(usize::from(*byte), got % 256);
                    got += 1;
                }
                to.ready().writable = true;
                tools.unload(&mut held, &mut to).unwrap();
            }
            assert!(held.is_empty());
            drop((from, to, reader));
            sending.join().unwrap();
        }
        assert_eq!((tools.pipes.len(), tools.chunk_bytes), (2, 0), "everything is given back");
    }

    #[test]
    fn a_session_that_breaks_while_it_holds_bytes_gives_everything_back() {
        for pipes_count_max in [0, 2] {
            let mut tools = Tools::new(64 * 1024, pipes_count_max);
            for _ in 0..4 {
                let (mut from, mut sender) = pair();
                let (mut to, reader) = pair();
                let sending = std::thread::spawn(move || {
                    // Ends with an error once the relay is gone.
                    let _sent_in_part = sender.write_all(&vec![7; 16 * 1024 * 1024]);
                });
                let mut held = Held::default();
                fill(&mut tools, &mut held, &mut from, &mut to);
                // Bytes that nobody has read: closing resets the connection.
                drop(reader);
                to.ready().writable = true;
                assert_eq!(tools.unload(&mut held, &mut to), Err(Fault::Reset));
                tools.drop_held(held);
                drop((from, to));
                sending.join().unwrap();
            }
            assert_eq!((tools.chunk_bytes, tools.pipes_count), (0, tools.pipes.len()));
        }
    }
}
