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
