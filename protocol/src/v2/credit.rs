//! Credit: how much of a channel may be under way, so that a slow reader stalls its own channel and nothing else.
//! Counted in octets of whole records. The last record of a channel needs none.

use crate::limits::{CREDIT_BYTES_MAX, CREDIT_BYTES_MIN};

/// The server's side of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendCredit {
    left: u32,
}

impl SendCredit {
    /// Opens with what the request granted. `None`: less than one record or more than allowed.
    #[must_use]
    pub fn open(granted: u32) -> Option<Self> {
        (CREDIT_BYTES_MIN..=CREDIT_BYTES_MAX).contains(&granted).then_some(Self { left: granted })
    }

    /// Adds what the client returned; a client that returns more than it was sent gains nothing above the bound.
    pub fn grant(&mut self, bytes: u32) {
        self.left = self.left.saturating_add(bytes).min(CREDIT_BYTES_MAX);
    }

    /// Takes the octets of a record, if there is credit for all of them.
    #[must_use]
    pub fn take(&mut self, record_bytes: usize) -> bool {
        let left = u32::try_from(record_bytes).ok().and_then(|bytes| self.left.checked_sub(bytes));
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// What is left.
    #[must_use]
    pub fn left(self) -> u32 {
        self.left
    }
}

/// The client's side of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveCredit {
    window: u32,
    owed: u32,
}

impl ReceiveCredit {
    /// For a channel opened with that credit.
    #[must_use]
    pub fn open(granted: u32) -> Self {
        Self { window: granted, owed: 0 }
    }

    /// Notes a record that was displayed. Gives the credit to return now, once half the window is owed, or once
    /// what the server can have left no longer takes a record of any length.
    #[must_use]
    pub fn displayed(&mut self, record_bytes: usize) -> Option<u32> {
        self.owed = self.owed.saturating_add(u32::try_from(record_bytes).unwrap_or(u32::MAX));
        let scarce = self.window.saturating_sub(self.owed) < CREDIT_BYTES_MIN;
        (scarce || self.owed >= self.window / 2).then(|| std::mem::take(&mut self.owed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_opens_with_one_record_at_least() {
        assert_eq!(SendCredit::open(4095), None);
        assert_eq!(SendCredit::open(CREDIT_BYTES_MAX + 1), None);
        assert!(SendCredit::open(4096).is_some());
    }

    #[test]
    fn nothing_is_sent_without_credit_for_all_of_it() {
        let mut credit = SendCredit::open(4096).unwrap();
        assert!(credit.take(4000));
        assert!(!credit.take(97));
        assert_eq!(credit.left(), 96);
        credit.grant(1);
        assert!(credit.take(97));
        credit.grant(u32::MAX);
        assert_eq!(credit.left(), CREDIT_BYTES_MAX);
    }

    #[test]
    fn what_the_client_returns_never_lets_the_server_starve() {
        for (window, record) in [(4096, 17), (4096, 4096), (5000, 1000), (65_536, 300), (262_144, 4096)] {
            let mut server = SendCredit::open(window).unwrap();
            let mut client = ReceiveCredit::open(window);
            for _ in 0..1000 {
                assert!(server.take(record), "window {window}, record {record}");
                if let Some(returned) = client.displayed(record) {
                    server.grant(returned);
                }
                assert!(server.left() <= window);
            }
        }
    }
}
