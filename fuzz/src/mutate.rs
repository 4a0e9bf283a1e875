//! Inputs from seeds: changed at random, the same for the same numbers.

/// Longest input that is made. Long enough for every bound of a message, short enough for many a second.
const INPUT_BYTES_MAX: usize = 4096;

/// Changes that one input gets, at most.
const CHANGES_MAX: u64 = 6;

/// Octets at which decoders change their mind.
const OCTETS: [u8; 12] = [0, 1, 2, 3, 4, 5, 0x3f, 0x7f, 0x80, 0xc0, 0xfe, 0xff];

/// Numbers that look random and are the same for the same seed (SplitMix64, Steele et al., 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end`, without `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.number() % end).unwrap_or(0)
    }

    fn octet(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }

    /// Short ones more often than long ones: from 1 to `max`.
    fn length(&mut self, max: usize) -> usize {
        let bound = 1 << self.below(11);
        1 + self.below(bound).min(max.saturating_sub(1))
    }
}

/// The input of that number: a seed with a few changes, or now and then something that no seed looks like.
#[must_use]
pub fn input(seeds: &[Vec<u8>], words: &[&[u8]], seed: u64, number: u64) -> Vec<u8> {
    let mut random = Random::new(Random::new(seed).number() ^ number.wrapping_mul(0xff51_afd7_ed55_8ccd));
    let mut octets = match seeds.get(random.below(seeds.len() + seeds.len() / 8 + 1)) {
        Some(seed) => seed.clone(),
        None => (0..random.length(64)).map(|_| random.octet()).collect(),
    };
    for _ in 0..=random.number() % CHANGES_MAX {
        change(&mut octets, seeds, words, &mut random);
    }
    octets.truncate(INPUT_BYTES_MAX);
    octets
}

fn change(octets: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&[u8]], random: &mut Random) {
    let at = random.below(octets.len() + 1);
    let length = random.length(octets.len().saturating_sub(at).max(1)).min(octets.len() - at);
    match random.below(10) {
        // One octet: a bit, another value, a step up or down.
        0 => set(octets, at, |old, random| old ^ (1 << random.below(8)), random),
        1 => set(octets, at, |_, random| OCTETS[random.below(OCTETS.len())], random),
        2 => set(octets, at, |_, random| random.octet(), random),
        3 => {
            let step = |old: u8, random: &mut Random| match random.below(2) {
                0 => old.wrapping_add(1),
                _ => old.wrapping_sub(1),
            };
            set(octets, at, step, random);
        }
        // Less, or more of the same.
        4 => drop(octets.drain(at..at + length)),
        5 => octets.truncate(at),
        6 => {
            let piece = octets.get(at..at + length).unwrap_or_default().to_vec();
            let place = random.below(octets.len() + 1);
            let times = 1 + random.below(3) * random.below(32);
            insert(octets, place, &piece.repeat(times));
        }
        // Something else.
        7 => {
            let octet = random.octet();
            let count = random.length(300);
            insert(octets, at, &vec![octet; count]);
        }
        8 => insert(octets, at, words.get(random.below(words.len())).copied().unwrap_or_default()),
        _ => {
            let other = seeds.get(random.below(seeds.len())).map(Vec::as_slice).unwrap_or_default();
            let from = random.below(other.len() + 1);
            octets.truncate(at);
            octets.extend_from_slice(other.get(from..).unwrap_or_default());
        }
    }
}

fn set(octets: &mut [u8], at: usize, new: impl Fn(u8, &mut Random) -> u8, random: &mut Random) {
    if let Some(octet) = octets.get_mut(at) {
        *octet = new(*octet, random);
    }
}

fn insert(octets: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if octets.len() + piece.len() <= INPUT_BYTES_MAX {
        octets.splice(at..at, piece.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_input_depends_on_its_seed_and_number_alone() {
        let seeds = [b"one".to_vec(), b"and another".to_vec()];
        let words: [&[u8]; 1] = [b"word"];
        for number in 0..100 {
            assert_eq!(input(&seeds, &words, 7, number), input(&seeds, &words, 7, number));
        }
        let different: BTreeSet<_> = (0..1_000).map(|number| input(&seeds, &words, 7, number)).collect();
        assert!(different.len() > 800, "only {} of 1,000 inputs differ", different.len());
        assert_ne!(input(&seeds, &words, 7, 1), input(&seeds, &words, 8, 1));
    }

    #[test]
    fn inputs_are_bounded_and_come_from_nothing_too() {
        for number in 0..10_000 {
            assert!(input(&[vec![0; INPUT_BYTES_MAX + 5]], &[], 1, number).len() <= INPUT_BYTES_MAX);
        }
        assert!((0..100).any(|number| !input(&[], &[], 1, number).is_empty()));
    }
}
