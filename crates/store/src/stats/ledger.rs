//! What the ledger counts of its work.
//!
//! The writer calls these a few times a batch and twice a request; each call is an addition or two.

use std::time::{Duration, Instant};

use multicredit_domain::Refusal;

use super::instrument::{Counter, Histogram};
use crate::error::StoreError;
use crate::ledger::{Answer, Reply, Request};

/// By which path requests were decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecidedBy {
    /// One statement of the database ([`crate::ledger`]).
    Express,
    /// The rules, in memory, under locks.
    Portable,
}

impl DecidedBy {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Express, Self::Portable];

    /// The path in words of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Express => "express",
            Self::Portable => "portable",
        }
    }
}

/// What can be asked of the ledger, as metrics name it: the order of [`operation_index`].
const OPERATIONS: [&str; 13] = [
    "consume",
    "grant",
    "void",
    "adjust",
    "hold",
    "capture",
    "release",
    "extend",
    "refund",
    "subscribe",
    "unsubscribe",
    "set_status",
    "settle",
];

const fn operation_index(request: &Request) -> usize {
    match request {
        Request::Consume(_) => 0,
        Request::Grant(_) => 1,
        Request::Void { .. } => 2,
        Request::Adjust { .. } => 3,
        Request::Hold(_) => 4,
        Request::Capture { .. } => 5,
        Request::Release { .. } => 6,
        Request::Extend { .. } => 7,
        Request::Refund(_) => 8,
        Request::Subscribe { .. } => 9,
        Request::Unsubscribe => 10,
        Request::SetStatus(_) => 11,
        Request::Settle => 12,
    }
}

/// What became of a request, as metrics name it: the order of [`verdict_index`].
const VERDICTS: [&str; 8] = [
    "done",
    "replayed",
    "insufficient_credits",
    "organization_frozen",
    "unknown_action",
    "refused",
    "outcome_unknown",
    "failed",
];

fn verdict_index(verdict: &Result<Answer<Reply>, StoreError>) -> usize {
    match verdict {
        Ok(Answer { replayed: false, .. }) => 0,
        Ok(Answer { replayed: true, .. }) => 1,
        Err(StoreError::Refused(Refusal::InsufficientCredits(_))) => 2,
        Err(StoreError::Refused(Refusal::OrganizationFrozen)) => 3,
        Err(StoreError::Refused(Refusal::UnknownAction)) => 4,
        Err(StoreError::Refused(_) | StoreError::Conflict(_) | StoreError::NotFound) => 5,
        Err(StoreError::OutcomeUnknown { .. }) => 6,
        Err(_) => 7,
    }
}

/// What the ledger has done since the store was opened.
#[derive(Debug)]
pub struct LedgerStats {
    /// How many requests the batches had.
    pub batch_requests: Histogram,
    /// How long requests waited for the writer to take them.
    pub queue_wait: Histogram,
    /// How often a batch was tried again.
    pub retries: Counter,
    /// How often a request was turned away because too many waited, of all organizations.
    pub rejected_busy: Counter,
    /// The same, of its own organization.
    pub rejected_organization_busy: Counter,
    paths: [PathStats; 2],
    verdicts: [[Counter; VERDICTS.len()]; OPERATIONS.len()],
}

/// What went by one path.
#[derive(Debug)]
pub struct PathStats {
    /// How many requests it decided.
    pub decided: Counter,
    /// How long a batch took on it, from the first statement until it was durable.
    pub commit: Histogram,
}

impl Default for LedgerStats {
    fn default() -> Self {
        Self {
            batch_requests: Histogram::of_counts(),
            queue_wait: Histogram::of_durations(),
            retries: Counter::default(),
            rejected_busy: Counter::default(),
            rejected_organization_busy: Counter::default(),
            paths: DecidedBy::ALL.map(|_| PathStats { decided: Counter::default(), commit: Histogram::of_durations() }),
            verdicts: std::array::from_fn(|_| std::array::from_fn(|_| Counter::default())),
        }
    }
}

impl LedgerStats {
    /// What went by a path.
    pub const fn path(&self, path: DecidedBy) -> &PathStats {
        &self.paths[path as usize]
    }

    /// Every operation with every verdict, and how often it came to that.
    pub fn verdicts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        OPERATIONS.iter().zip(&self.verdicts).flat_map(|(operation, verdicts)| {
            VERDICTS.iter().zip(verdicts).map(move |(verdict, count)| (*operation, *verdict, count.get()))
        })
    }

    /// A batch was decided by that path and is durable. A batch of which the path decided nothing is not counted.
    pub(crate) fn batch_committed(&self, path: DecidedBy, requests: usize, took: Duration) {
        if requests > 0 {
            let path = self.path(path);
            path.decided.add(requests as u64);
            path.commit.record_duration(took);
        }
    }

    /// A writer took so many requests, which had waited since then.
    pub(crate) fn batch_taken(&self, requests: usize, queued_at: impl Iterator<Item = Instant>) {
        let now = Instant::now();
        self.batch_requests.record(requests as u64);
        for queued_at in queued_at {
            self.queue_wait.record_duration(now - queued_at);
        }
    }

    /// Requests have their verdicts.
    pub(crate) fn decided<'a>(
        &self,
        requests: impl Iterator<Item = &'a Request>,
        verdicts: &[Result<Answer<Reply>, StoreError>],
    ) {
        for (request, verdict) in requests.zip(verdicts) {
            self.verdicts[operation_index(request)][verdict_index(verdict)].increment();
        }
    }

    /// A request was turned away before it was queued.
    pub(crate) fn rejected(&self, error: &StoreError) {
        match error {
            StoreError::Busy => self.rejected_busy.increment(),
            StoreError::OrganizationBusy => self.rejected_organization_busy.increment(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use multicredit_domain::OrganizationStatus;

    use super::*;

    #[test]
    fn operations_are_counted_under_their_own_names() {
        for request in [Request::Unsubscribe, Request::Settle, Request::SetStatus(OrganizationStatus::Active)] {
            assert_eq!(OPERATIONS[operation_index(&request)], request.operation());
        }
    }

    #[test]
    fn a_verdict_is_counted_once_where_it_belongs() {
        let stats = LedgerStats::default();
        let done = Ok(Answer { value: Reply::Settled, replayed: false });
        let refused = Err(StoreError::Refused(Refusal::OrganizationFrozen));
        stats.decided([&Request::Settle, &Request::Settle].into_iter(), &[done, refused]);
        let counted: Vec<_> = stats.verdicts().filter(|(_, _, count)| *count > 0).collect();
        assert_eq!(counted, [("settle", "done", 1), ("settle", "organization_frozen", 1)]);
    }

    #[test]
    fn a_batch_of_which_a_path_decided_nothing_says_nothing_about_it() {
        let stats = LedgerStats::default();
        stats.batch_committed(DecidedBy::Express, 0, Duration::from_secs(1));
        stats.batch_committed(DecidedBy::Portable, 3, Duration::from_millis(2));
        assert_eq!(stats.path(DecidedBy::Express).commit.snapshot().count(), 0);
        assert_eq!(stats.path(DecidedBy::Portable).decided.get(), 3);
        assert_eq!(stats.path(DecidedBy::Portable).commit.snapshot().sum, 2_000);
    }
}
