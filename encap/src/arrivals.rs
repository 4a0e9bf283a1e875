//! What has arrived on one association: which TSNs, in what order, and how much of it is still held.
//!
//! Every DATA chunk passes here before the engine sees it. The engine takes whatever it is given, at any
//! distance and of any size; this is where its memory is bounded, where a duplicate is told from news, and
//! where a peer is held to the order of RFC 9260 §6.5 and §6.9. It keeps no user data itself.

use std::collections::BTreeMap;

use crate::chunks::{Data, Gap};
use crate::limits::{CHUNK_OVERHEAD_BYTES, Limits, TSN_WINDOW};

/// What to do with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is news: the engine gets it.
    New,
    /// It came before.
    Duplicate,
    /// Too far ahead to be remembered.
    OutsideWindow,
    /// No room until something is taken out.
    NoRoom,
}

/// How a peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 9260 §6.2 has the receiver abort.
    #[error("a DATA chunk without user data")]
    NoUserData,
    /// At or past the number of streams that was agreed.
    #[error("a stream that was not agreed")]
    Stream,
    /// Stream sequence numbers of a stream must follow its TSNs one by one (RFC 9260 §6.5).
    #[error("a stream sequence number out of order")]
    Sequence,
    /// Fragments of a message must have TSNs one after the other (RFC 9260 §6.9).
    #[error("fragments of a message are not in one piece")]
    Fragment,
    /// Longer than `message_bytes_max`.
    #[error("a message longer than allowed")]
    MessageTooLong,
    /// Something acknowledged that was never sent, or gaps out of order.
    #[error("an acknowledgement of what was not sent")]
    Acknowledgement,
    /// The engine refused what passed every check here.
    #[error("refused by the engine")]
    Engine,
}

/// A message whose last fragment is still to come.
#[derive(Debug, Clone, Copy)]
struct Partial {
    stream: u16,
    sequence: u16,
    unordered: bool,
    bytes: usize,
}

/// The receiving side's books.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// Highest TSN up to which all have arrived.
    cumulative: u32,
    /// The same without wrapping around: orders `ahead`.
    position: u64,
    /// Chunks beyond a gap, by position.
    ahead: BTreeMap<u64, Data>,
    /// The message that the chunk after `cumulative` must continue.
    partial: Option<Partial>,
    /// Sequence number that the next ordered message must have, of each stream seen.
    expected: BTreeMap<u16, u16>,
    /// Bytes and overhead of all chunks in the engine.
    held: usize,
    room: usize,
    message_bytes_max: usize,
}

impl Arrivals {
    /// Nothing has arrived; the first TSN will be `first`.
    pub(crate) fn new(first: u32, limits: &Limits) -> Self {
        Self {
            cumulative: first.wrapping_sub(1),
            position: 0,
            ahead: BTreeMap::new(),
            partial: None,
            expected: BTreeMap::new(),
            held: 0,
            room: limits.receive_bytes_max,
            message_bytes_max: limits.message_bytes_max,
        }
    }

    /// Enters a chunk. After [`Verdict::New`] it counts as held until [`Arrivals::release`].
    pub(crate) fn admit(&mut self, data: Data) -> Result<Verdict, Violation> {
        if data.bytes == 0 {
            return Err(Violation::NoUserData);
        }
        if data.bytes > self.message_bytes_max {
            return Err(Violation::MessageTooLong);
        }
        // Serial number arithmetic (RFC 1982): the upper half of all distances is the past.
        let distance = data.tsn.wrapping_sub(self.cumulative);
        if distance == 0 || distance > u32::MAX / 2 {
            return Ok(Verdict::Duplicate);
        }
        if distance > TSN_WINDOW {
            return Ok(Verdict::OutsideWindow);
        }
        let position = self.position + u64::from(distance);
        if self.ahead.contains_key(&position) {
            return Ok(Verdict::Duplicate);
        }
        // Each TSN takes a stream at most one sequence number further.
        let expected = self.expected.get(&data.stream).copied().unwrap_or(0);
        if !data.unordered && u32::from(data.sequence.wrapping_sub(expected)) >= TSN_WINDOW {
            return Err(Violation::Sequence);
        }
        if !self.has_room(position) {
            return Ok(Verdict::NoRoom);
        }
        self.held += data.bytes + CHUNK_OVERHEAD_BYTES;
        self.ahead.insert(position, data);
        while let Some(next) = self.ahead.remove(&(self.position + 1)) {
            self.follow(next)?;
            self.position += 1;
            self.cumulative = self.cumulative.wrapping_add(1);
        }
        Ok(Verdict::New)
    }

    /// Whether a chunk at `position` may come in. A window of one byte takes a whole chunk, as peers count on;
    /// what fills a gap may go one message beyond, since it is what lets messages out.
    fn has_room(&self, position: u64) -> bool {
        let fills_gap = self.ahead.last_key_value().is_some_and(|(last, _)| position < *last);
        let slack = if fills_gap { self.message_bytes_max } else { 0 };
        self.held < self.room + slack
    }

    /// Checks the next chunk in TSN order against the message before it.
    fn follow(&mut self, data: Data) -> Result<(), Violation> {
        let expected = self.expected.entry(data.stream).or_insert(0);
        let before = match self.partial {
            None if !data.begins => return Err(Violation::Fragment),
            None if !data.unordered && data.sequence != *expected => return Err(Violation::Sequence),
            None => 0,
            Some(partial) => {
                let continues = !data.begins
                    && data.stream == partial.stream
                    && data.unordered == partial.unordered
                    && (data.unordered || data.sequence == partial.sequence);
                if !continues {
                    return Err(Violation::Fragment);
                }
                partial.bytes
            }
        };
        let bytes = before + data.bytes;
        if bytes > self.message_bytes_max {
            return Err(Violation::MessageTooLong);
        }
        let Data { stream, sequence, unordered, .. } = data;
        self.partial = (!data.ends).then_some(Partial { stream, sequence, unordered, bytes });
        if data.ends && !unordered {
            *expected = expected.wrapping_add(1);
        }
        Ok(())
    }

    /// A message of `chunks` chunks and `bytes` bytes left the engine.
    pub(crate) fn release(&mut self, chunks: usize, bytes: usize) {
        let charge = bytes + chunks * CHUNK_OVERHEAD_BYTES;
        debug_assert!(charge <= self.held, "released {charge} of {}", self.held);
        self.held = self.held.saturating_sub(charge);
    }

    /// Highest TSN up to which all have arrived.
    pub(crate) fn cumulative(&self) -> u32 {
        self.cumulative
    }

    /// Bytes that the peer may send: half of the room, since the other half is for the overhead that it does
    /// not count. Chunks of more than 256 bytes never meet a full house then.
    pub(crate) fn window(&self) -> u32 {
        window_of(self.room.saturating_sub(self.held))
    }

    /// Whether no chunk fits, so that only taking messages out can help.
    pub(crate) fn is_full(&self) -> bool {
        self.held >= self.room
    }

    /// What has arrived beyond the cumulative TSN.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for position in self.ahead.keys() {
            // The window keeps every distance below 2^16.
            let offset = u16::try_from(position - self.position).unwrap_or(u16::MAX);
            match gaps.last_mut() {
                Some((_, end)) if end.checked_add(1) == Some(offset) => *end = offset,
                _ => gaps.push((offset, offset)),
            }
        }
        gaps
    }
}

/// The window that `room` bytes make, overhead included.
pub(crate) fn window_of(room: usize) -> u32 {
    u32::try_from(room / 2).unwrap_or(u32::MAX)
}

const _: () = assert!(TSN_WINDOW < 1 << 14, "sequence numbers in use stay comparable");

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers of tests")]
mod tests {
    use super::*;

    const WHOLE: Data =
        Data { tsn: 0, stream: 0, sequence: 0, unordered: false, begins: true, ends: true, bytes: 10 };

    fn arrivals() -> Arrivals {
        Arrivals::new(100, &Limits::default())
    }

    fn whole(tsn: u32, sequence: u16) -> Data {
        Data { tsn, sequence, ..WHOLE }
    }

    #[test]
    fn news_is_told_from_what_came_before() {
        let mut arrivals = arrivals();
        for (tsn, sequence, verdict, cumulative, gaps) in [
            (100, 0, Verdict::New, 100, vec![]),
            (100, 0, Verdict::Duplicate, 100, vec![]),
            (103, 3, Verdict::New, 100, vec![(3, 3)]),
            (103, 3, Verdict::Duplicate, 100, vec![(3, 3)]),
            (102, 2, Verdict::New, 100, vec![(2, 3)]),
            (106, 6, Verdict::New, 100, vec![(2, 3), (6, 6)]),
            (101, 1, Verdict::New, 103, vec![(3, 3)]),
            (99, 0, Verdict::Duplicate, 103, vec![(3, 3)]),
            (103 + TSN_WINDOW + 1, 9, Verdict::OutsideWindow, 103, vec![(3, 3)]),
        ] {
            assert_eq!(arrivals.admit(whole(tsn, sequence)), Ok(verdict), "TSN {tsn}");
            assert_eq!((arrivals.cumulative(), arrivals.gaps()), (cumulative, gaps), "TSN {tsn}");
        }
    }

    #[test]
    fn tsns_and_sequence_numbers_wrap_around() {
        let mut arrivals = Arrivals::new(u32::MAX - 1, &Limits::default());
        for n in 0..70_000u32 {
            let data = whole((u32::MAX - 1).wrapping_add(n), n as u16);
            assert_eq!(arrivals.admit(data), Ok(Verdict::New), "chunk {n}");
            arrivals.release(1, 10);
        }
        assert_eq!(arrivals.window(), 131_072);
    }

    #[test]
    fn the_protocol_is_enforced_in_tsn_order() {
        let first = Data { ends: false, ..whole(100, 0) };
        let middle = Data { begins: false, ends: false, ..whole(101, 0) };
        let last = Data { begins: false, ..whole(102, 0) };
        let cases: [(&str, Vec<Data>, Result<Verdict, Violation>); 12] = [
            ("a message of three", vec![first, middle, last], Ok(Verdict::New)),
            ("backwards", vec![last, middle, first], Ok(Verdict::New)),
            (
                "two unordered, any sequence",
                vec![
                    Data { unordered: true, sequence: 900, ..whole(100, 0) },
                    Data { unordered: true, sequence: 9, ..whole(101, 0) },
                ],
                Ok(Verdict::New),
            ),
            ("empty", vec![Data { bytes: 0, ..WHOLE }], Err(Violation::NoUserData)),
            (
                "too long at once",
                vec![Data { bytes: 65_537, ..whole(100, 0) }],
                Err(Violation::MessageTooLong),
            ),
            (
                "too long together",
                vec![Data { bytes: 40_000, ..first }, Data { bytes: 40_000, begins: false, ..whole(101, 0) }],
                Err(Violation::MessageTooLong),
            ),
            ("a middle without a first", vec![Data { tsn: 100, ..middle }], Err(Violation::Fragment)),
            ("a first inside a message", vec![first, whole(101, 1)], Err(Violation::Fragment)),
            (
                "another stream inside a message",
                vec![first, Data { stream: 1, ..middle }],
                Err(Violation::Fragment),
            ),
            (
                "another sequence inside a message",
                vec![first, Data { sequence: 1, ..middle }],
                Err(Violation::Fragment),
            ),
            ("a sequence number left out", vec![whole(100, 0), whole(101, 2)], Err(Violation::Sequence)),
            ("a sequence number half way round", vec![whole(105, 40_000)], Err(Violation::Sequence)),
        ];
        for (name, chunks, expected) in cases {
            let mut arrivals = arrivals();
            let results: Vec<_> = chunks.into_iter().map(|chunk| arrivals.admit(chunk)).collect();
            assert_eq!(results.last(), Some(&expected), "{name}: {results:?}");
        }
    }

    #[test]
    fn single_bytes_use_up_the_window_as_fast_as_the_memory() {
        let mut arrivals = arrivals();
        let mut admitted = 0u32;
        // The first message is missing, so nothing can leave.
        while arrivals.admit(Data { bytes: 1, ..whole(101 + admitted, 1 + admitted as u16) })
            == Ok(Verdict::New)
        {
            admitted += 1;
        }
        assert_eq!(admitted, (262_144u32).div_ceil(257));
        assert!(arrivals.is_full());
        assert_eq!(arrivals.window(), 0);
        assert_eq!(arrivals.admit(whole(100, 0)), Ok(Verdict::New), "the gap may be filled");
        arrivals.release(1, 10);
    }
}
