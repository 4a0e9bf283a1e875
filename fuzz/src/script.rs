//! A script: a target reads its decisions from its input, octet by octet. At the end everything is zero.

/// Octets that are read as decisions.
pub(crate) struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn octet(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((octet, rest)) => {
                self.rest = rest;
                *octet
            }
            None => 0,
        }
    }

    /// Two octets, the higher first.
    pub(crate) fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.octet(), self.octet()])
    }

    /// A length octet and as many octets, or fewer if there are no more.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(self.octet());
        let (piece, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        piece
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// Cuts `octets` into pieces whose lengths `cuts` gives, round and round. No cuts, or zeros, are single octets.
pub(crate) fn pieces<'a>(octets: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = cuts.iter().copied().cycle();
    let mut rest = octets;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = usize::from(lengths.next().unwrap_or(1)).clamp(1, rest.len());
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        Some(piece)
    })
}
