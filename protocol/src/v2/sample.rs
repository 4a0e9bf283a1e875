//! Values for property tests: everything that a message can hold, drawn from one seed.

/// A xorshift generator; the seed comes from proptest, which prints it when a case fails.
pub struct Source(u64);

impl Source {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    /// Short ones often, the longest sometimes.
    pub fn octets(&mut self, min: usize, max: usize) -> Vec<u8> {
        let spread = (max - min) as u64;
        let extra = if self.below(8) == 0 { spread } else { self.below(spread.min(12) + 1) };
        (0..min as u64 + extra).map(|_| self.next().to_be_bytes()[0]).collect()
    }

    pub fn text(&mut self) -> String {
        let alphabet: Vec<char> = "abcz-. \\é\u{1F980}\u{7}".chars().collect();
        let count = alphabet.len() as u64;
        (0..self.below(20)).map(|_| alphabet[usize::try_from(self.below(count)).unwrap()]).collect()
    }
}
