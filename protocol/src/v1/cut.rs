//! A cursor over octets that have arrived: each step gives a field, or `None` when it is not complete yet.

use byteorder::{BigEndian, ByteOrder};

pub(super) struct Cut<'a> {
    rest: &'a [u8],
    taken: usize,
}

impl<'a> Cut<'a> {
    pub(super) fn new(arrived: &'a [u8]) -> Self {
        Self { rest: arrived, taken: 0 }
    }

    /// Octets consumed so far.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        self.taken += count;
        Some(field)
    }

    pub(super) fn octet(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// A big-endian number of 1 to 8 octets.
    pub(super) fn number(&mut self, width: usize) -> Option<u64> {
        Some(BigEndian::read_uint(self.take(width)?, width))
    }

    /// A length octet and as many octets.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let count = self.octet()?;
        self.take(usize::from(count))
    }
}
