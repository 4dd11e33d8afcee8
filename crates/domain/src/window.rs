//! Validity: when a lot may be spent.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// The half-open interval `[effective_at, expires_at)`: spendable from its first instant, unspendable at its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// The first instant at which the lot may be spent.
    pub effective_at: Timestamp,
    /// The instant from which it may no longer be spent; `None` never comes.
    pub expires_at: Option<Timestamp>,
}

impl Validity {
    /// Whether the lot may be spent at `at`.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.effective_at <= at && !self.has_ended(at)
    }

    /// Whether the lot has expired at `at`.
    pub fn has_ended(&self, at: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= at)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn the_first_instant_belongs_to_it_and_the_last_does_not() {
        let at = |seconds| Timestamp::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let window = Validity { effective_at: at(10), expires_at: Some(at(20)) };
        assert_eq!([9, 10, 19, 20, 21].map(|second| window.contains(at(second))), [false, true, true, false, false]);
        assert_eq!([9, 19, 20, 21].map(|second| window.has_ended(at(second))), [false, false, true, true]);
        let endless = Validity { expires_at: None, ..window };
        assert!(endless.contains(at(1_000_000)) && !endless.contains(at(9)) && !endless.has_ended(at(1_000_000)));
    }
}
