//! What one session does, drawn from a seed and its number alone: both sides and a replay know the same plan.

use std::time::Duration;

/// Numbers that look random and are the same everywhere (splitmix64, Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self(mix(seed ^ mix(stream)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From `low` to `high`, both included; `low` when they are the wrong way round.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        low + self.next() % span
    }

    /// True in so many of a hundred cases.
    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The end of a session that a stream of bytes starts at, or an act is done by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Origin,
}

/// The bytes of one direction of one session; any piece can be made or checked at any offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    key: u64,
}

impl Content {
    pub(crate) fn new(seed: u64, session: u64, from: Side) -> Self {
        let direction = if from == Side::Client { 0 } else { 1 };
        Self { key: mix(seed ^ mix(session << 1 | direction)) }
    }

    fn byte(self, offset: u64) -> u8 {
        let word = mix(self.key.wrapping_add(offset / 8)).to_le_bytes();
        word.iter().copied().cycle().nth(usize::try_from(offset % 8).unwrap_or(0)).unwrap_or(0)
    }

    /// Fills `piece` with what stands at `offset`.
    pub(crate) fn fill(self, offset: u64, piece: &mut [u8]) {
        let lead = usize::try_from((8 - offset % 8) % 8).unwrap_or(0).min(piece.len());
        let (head, rest) = piece.split_at_mut(lead);
        for (at, byte) in (offset..).zip(head) {
            *byte = self.byte(at);
        }
        let words = (offset + lead as u64) / 8;
        for (index, chunk) in (words..).zip(rest.chunks_mut(8)) {
            for (byte, value) in chunk.iter_mut().zip(mix(self.key.wrapping_add(index)).to_le_bytes()) {
                *byte = value;
            }
        }
    }

    /// The offset of the first byte of `piece` that is not what stands at `offset`. `room` is scratch of any length.
    pub(crate) fn first_wrong(self, offset: u64, piece: &[u8], room: &mut Vec<u8>) -> Option<u64> {
        room.clear();
        room.resize(piece.len(), 0);
        self.fill(offset, room);
        if room == piece {
            return None;
        }
        (offset..).zip(piece.iter().zip(room)).find(|(_, (got, expected))| got != expected).map(|(at, _)| at)
    }
}

/// When the two directions run and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Both at once; each side sends its end when it has sent its bytes.
    Together,
    /// The origin answers only after it read the client's end.
    AnswerAfterEnd,
    /// The client sends only after it read the origin's end.
    RequestAfterAnswer,
}

/// How the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Whole,
    /// `by` breaks it once it has sent and received `after` bytes together.
    Kill {
        by: Side,
        after: u64,
        how: Kill,
    },
}

/// What a kill is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    Reset,
    /// The socket is closed as it is: FIN, or a reset when bytes were unread.
    Close,
}

/// What the client sends ahead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    Nothing,
    /// The first payload together with the request.
    WithRequest,
    /// Greeting, password, request and payload at once.
    Everything,
}

/// How one side reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manners {
    pub(crate) write_bytes_max: u64,
    pub(crate) read_bytes_max: u64,
    /// Between reads; zero: reads as it can.
    pub(crate) read_pause: Duration,
}

/// A session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) up_bytes: u64,
    pub(crate) down_bytes: u64,
    pub(crate) order: Order,
    pub(crate) ending: Ending,
    pub(crate) ahead: Ahead,
    pub(crate) client: Manners,
    pub(crate) origin: Manners,
}

/// What may be left out where a server is known not to bear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EarlyData {
    Sent,
    Avoided,
}

impl Plan {
    pub(crate) fn new(seed: u64, session: u64, early: EarlyData) -> Self {
        let mut random = Random::new(seed, session);
        let (up_bytes, down_bytes) = (size(&mut random), size(&mut random));
        let order = match random.between(0, 3) {
            0 => Order::AnswerAfterEnd,
            1 => Order::RequestAfterAnswer,
            _ => Order::Together,
        };
        let ahead = match (random.between(0, 3), early) {
            (0, EarlyData::Sent) => Ahead::WithRequest,
            (1, EarlyData::Sent) => Ahead::Everything,
            _ => Ahead::Nothing,
        };
        let by = if random.chance(50) { Side::Client } else { Side::Origin };
        let how = if random.chance(60) { Kill::Reset } else { Kill::Close };
        let killed = random.chance(15);
        let total = up_bytes + down_bytes;
        let after = random.between(0, total.saturating_sub(1));
        let ending = if killed && total > 0 { Ending::Kill { by, after, how } } else { Ending::Whole };
        let client = manners(&mut random, up_bytes, down_bytes);
        let origin = manners(&mut random, down_bytes, up_bytes);
        Self { up_bytes, down_bytes, order, ending, ahead, client, origin }
    }

    pub(crate) fn manners(&self, side: Side) -> Manners {
        match side {
            Side::Client => self.client,
            Side::Origin => self.origin,
        }
    }

    /// Bytes that a side sends and those that it receives.
    pub(crate) fn bytes(&self, side: Side) -> (u64, u64) {
        match side {
            Side::Client => (self.up_bytes, self.down_bytes),
            Side::Origin => (self.down_bytes, self.up_bytes),
        }
    }

    /// A side that waits for the other's end before it sends.
    pub(crate) fn sends_last(&self, side: Side) -> bool {
        match (side, self.order) {
            (Side::Client, Order::RequestAfterAnswer) | (Side::Origin, Order::AnswerAfterEnd) => true,
            (_, Order::Together)
            | (Side::Client, Order::AnswerAfterEnd)
            | (Side::Origin, Order::RequestAfterAnswer) => false,
        }
    }
}

/// Mostly small, some none, a few of many times any buffer.
fn size(random: &mut Random) -> u64 {
    let largest = match random.between(0, 99) {
        0..=4 => 0,
        5..=24 => 100,
        25..=54 => 4 << 10,
        55..=79 => 64 << 10,
        80..=94 => 1 << 20,
        _ => 8 << 20,
    };
    random.between(largest.min(1), largest)
}

/// A third writes in fragments, a fifth reads slowly; neither so finely that a session takes more than seconds.
fn manners(random: &mut Random, sent: u64, received: u64) -> Manners {
    const FRAGMENTS_MAX: u64 = 2000;
    const PAUSES_MAX: u64 = 100;
    const BLOCK: u64 = 64 << 10;
    let write_bytes_max = match random.chance(33) {
        true => random.between(1, 1500).max(sent / FRAGMENTS_MAX),
        false => BLOCK,
    };
    let slow = random.chance(20);
    let read_bytes_max = match slow {
        true => random.between(1, BLOCK).max(received / PAUSES_MAX).max(1),
        false => BLOCK,
    };
    let read_pause = if slow { Duration::from_millis(random.between(1, 15)) } else { Duration::ZERO };
    Manners { write_bytes_max, read_bytes_max, read_pause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_its_seed_and_number() {
        let plan = |seed, session| Plan::new(seed, session, EarlyData::Sent);
        assert_eq!(plan(1, 2), plan(1, 2));
        assert_ne!(plan(1, 2), plan(1, 3));
        assert_ne!(plan(1, 2), plan(2, 2));
    }

    #[test]
    fn plans_hold_everything_that_is_to_be_tried() {
        let plans: Vec<Plan> = (0..500).map(|session| Plan::new(7, session, EarlyData::Sent)).collect();
        let some = |test: &dyn Fn(&Plan) -> bool| assert!(plans.iter().any(test));
        for order in [Order::Together, Order::AnswerAfterEnd, Order::RequestAfterAnswer] {
            some(&|plan| plan.order == order);
        }
        for ahead in [Ahead::Nothing, Ahead::WithRequest, Ahead::Everything] {
            some(&|plan| plan.ahead == ahead);
        }
        for (side, kill) in
            [(Side::Client, Kill::Reset), (Side::Origin, Kill::Reset), (Side::Client, Kill::Close)]
        {
            some(&|plan| matches!(plan.ending, Ending::Kill { by, how, .. } if by == side && how == kill));
        }
        some(&|plan| plan.up_bytes == 0 && plan.down_bytes > 0);
        some(&|plan| plan.down_bytes > 4 << 20);
        some(&|plan| plan.client.write_bytes_max < 100);
        some(&|plan| !plan.origin.read_pause.is_zero());
        for plan in &plans {
            if let Ending::Kill { after, .. } = plan.ending {
                assert!(after < plan.up_bytes + plan.down_bytes, "{plan:?}");
            }
        }
    }

    #[test]
    fn early_data_can_be_avoided() {
        assert!((0..200).all(|id| Plan::new(7, id, EarlyData::Avoided).ahead == Ahead::Nothing));
    }

    #[test]
    fn any_piece_of_the_content_is_a_piece_of_the_whole() {
        let content = Content::new(3, 4, Side::Origin);
        let mut whole = [0; 64];
        content.fill(0, &mut whole);
        for from in 0..64 {
            for to in from..64 {
                let mut piece = vec![0; to - from];
                content.fill(from as u64, &mut piece);
                assert_eq!(piece, whole[from..to], "{from}..{to}");
                assert_eq!(content.first_wrong(from as u64, &piece, &mut Vec::new()), None);
            }
        }
        assert_eq!(content.byte(13), whole[13]);
    }

    #[test]
    fn one_wrong_byte_is_found_where_it_is() {
        let content = Content::new(3, 4, Side::Client);
        let mut piece = [0; 50];
        content.fill(11, &mut piece);
        piece[20] ^= 1;
        assert_eq!(content.first_wrong(11, &piece, &mut Vec::new()), Some(31));
        let other = Content::new(3, 4, Side::Origin);
        assert!(other.first_wrong(11, &piece, &mut Vec::new()).is_some());
    }
}
