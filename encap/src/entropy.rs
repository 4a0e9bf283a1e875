//! Random numbers and authenticators from the caller's entropy.
//!
//! The crate asks no operating system for randomness: 32 bytes given once are the key of a pseudo-random
//! function in counter mode, so a seeded run repeats exactly and a daemon's is as unpredictable as its seed.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of an authenticator: HMAC-SHA-256 cut to 128 bits (RFC 2104 §5).
pub(crate) const AUTHENTICATOR_BYTES: usize = 16;

/// Key of one HMAC-SHA-256: a whole block, so that making a MAC of it cannot fail.
type Key = [u8; 64];

/// Draws numbers, and authenticates what is given away to come back.
pub(crate) struct Entropy {
    key: Key,
    cookie_key: Key,
    drawn: u64,
}

impl Entropy {
    /// From 32 unpredictable bytes.
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let mut key: Key = [0; 64];
        for (to, from) in key.iter_mut().zip(seed) {
            *to = from;
        }
        let mut cookie_key: Key = [0; 64];
        for (to, from) in cookie_key.iter_mut().zip(digest(&key, &[b"state cookie"])) {
            *to = from;
        }
        Self { key, cookie_key, drawn: 0 }
    }

    /// Eight random bytes as a number.
    pub(crate) fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        let block = digest(&self.key, &[b"draw", &self.drawn.to_be_bytes()]);
        block.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// A tag or first TSN: any 32 bits but zero (RFC 9260 §5.3.1).
    pub(crate) fn draw_nonzero(&mut self) -> u32 {
        loop {
            let [a, b, c, d, ..] = self.draw().to_be_bytes();
            let number = u32::from_be_bytes([a, b, c, d]);
            if number != 0 {
                return number;
            }
        }
    }

    /// The authenticator of `parts` one after the other. Their lengths must be fixed by the format.
    pub(crate) fn authenticate(&self, parts: &[&[u8]]) -> [u8; AUTHENTICATOR_BYTES] {
        let mut short = [0; AUTHENTICATOR_BYTES];
        for (to, from) in short.iter_mut().zip(digest(&self.cookie_key, parts)) {
            *to = from;
        }
        short
    }

    /// Whether `authenticator` is that of `parts`, in a time that does not depend on where it differs.
    pub(crate) fn verify(&self, parts: &[&[u8]], authenticator: &[u8; AUTHENTICATOR_BYTES]) -> bool {
        keyed(&self.cookie_key, parts).verify_truncated_left(authenticator).is_ok()
    }
}

fn keyed(key: &Key, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new(key.into());
    for part in parts {
        mac.update(part);
    }
    mac
}

fn digest(key: &Key, parts: &[&[u8]]) -> [u8; 32] {
    keyed(key, parts).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_numbers() {
        let numbers = |seed: u8| {
            let mut entropy = Entropy::new([seed; 32]);
            [entropy.draw(), entropy.draw(), entropy.draw()]
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
        let [first, second, _] = numbers(1);
        assert_ne!(first, second);
    }

    #[test]
    fn an_authenticator_holds_for_its_parts_and_key_only() {
        let entropy = Entropy::new([7; 32]);
        let authenticator = entropy.authenticate(&[b"abc", b"def"]);
        assert!(entropy.verify(&[b"abc", b"def"], &authenticator));
        assert!(!entropy.verify(&[b"abc", b"deg"], &authenticator));
        assert!(!Entropy::new([8; 32]).verify(&[b"abc", b"def"], &authenticator));
    }
}
