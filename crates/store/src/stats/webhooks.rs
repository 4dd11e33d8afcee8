//! What became of webhooks.

use std::time::Duration;

use super::instrument::{Counter, Histogram};
use crate::webhook::DeliveryOutcome;

/// What became of the attempts of this process, and how long they took.
#[derive(Debug)]
pub struct WebhookStats {
    outcomes: [Counter; DeliveryOutcome::ALL.len()],
    /// How long attempts took.
    pub took: Histogram,
}

impl Default for WebhookStats {
    fn default() -> Self {
        Self { outcomes: Default::default(), took: Histogram::of_durations() }
    }
}

impl WebhookStats {
    /// An attempt ended so, and took that long.
    pub fn sent(&self, outcome: DeliveryOutcome, took: Duration) {
        self.outcomes[outcome as usize].increment();
        self.took.record_duration(took);
    }

    /// How many attempts ended so.
    pub fn count(&self, outcome: DeliveryOutcome) -> u64 {
        self.outcomes[outcome as usize].get()
    }
}
