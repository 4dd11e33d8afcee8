//! The sweep: bookkeeping of what has come due while nobody spent.
//!
//! Correctness never waits for it. Whoever moves an organization's credits settles it first, and whoever reads settles a
//! copy. The sweep only sees to it that expired holds and lots, and the grants of periods, stand in the ledger soon
//! after their time even where an organization is idle. It asks the ledger like everybody else, so any number of
//! processes may sweep at once.
//!
//! Whoever spends waits behind what the sweep has asked for. So it asks in steps, and takes larger ones only while they
//! are quick: an organization has one boundary due as a rule, and hundreds of them after a long absence.

use std::time::Duration;

use multicredit_domain::OrganizationId;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio::time::Instant;

use crate::entity::organization_credits::{Column, Entity};
use crate::error::StoreError;
use crate::store::Store;

/// How long a process waits between two sweeps.
pub const SWEEP_PAUSE: Duration = Duration::from_secs(5);

/// How many organizations are looked for at a time, and settled in one step at most.
const STEP_MAX: usize = 200;

/// How many are settled in the first step, before it is known how long one takes.
const STEP_FIRST: usize = 8;

/// The next step is half as large if one took longer than this, which is what spending may wait for bookkeeping; and twice
/// as large if it did not.
const STEP_TIME: Duration = Duration::from_millis(50);

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// How many organizations were settled.
    pub settled: u64,
    /// How many could not be, which the log explains.
    pub failed: u64,
}

impl Store {
    /// Settles organizations with a boundary that has come, the most overdue first, until none is left. It ends early where
    /// the database, or the queue, has no room for it: the next sweep goes on.
    ///
    /// # Errors
    ///
    /// If it cannot be found out who is due.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        let mut step = STEP_FIRST;
        loop {
            let due = self.due().await?;
            let mut rest = &due[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(step.min(rest.len()));
                let started = Instant::now();
                if !self.settle_all(now, &mut swept).await {
                    return Ok(swept);
                }
                step = step_after(step, started.elapsed());
                rest = later;
            }
            // One that cannot be settled stays due: going on would find it for ever.
            if due.len() < STEP_MAX || swept.failed > 0 {
                return Ok(swept);
            }
        }
    }

    /// Organizations with a boundary that has come, the most overdue first.
    async fn due(&self) -> Result<Vec<OrganizationId>, StoreError> {
        let due = Entity::find()
            .filter(Column::NextBoundaryAt.is_not_null())
            .filter(Column::NextBoundaryAt.lte(self.now().await?))
            .order_by_asc(Column::NextBoundaryAt)
            .limit(STEP_MAX as u64)
            .all(self.database())
            .await?;
        Ok(due.into_iter().map(|row| OrganizationId::new(row.organization_id)).collect())
    }

    /// Settles organizations together. Answers whether it makes sense to go on: not if one failed for what is no fault of its
    /// own.
    async fn settle_all(&self, organizations: &[OrganizationId], swept: &mut Swept) -> bool {
        let outcomes = futures_util::future::join_all(organizations.iter().map(|id| self.settle(*id))).await;
        let mut goes_on = true;
        for (id, outcome) in organizations.iter().zip(outcomes) {
            let Err(error) = outcome else {
                swept.settled += 1;
                continue;
            };
            tracing::error!(organization = %id, %error, "an organization could not be settled");
            swept.failed += 1;
            goes_on &= matches!(error, StoreError::Internal(_));
        }
        goes_on
    }
}

/// How large a step is after one that was so large and took so long.
fn step_after(step: usize, took: Duration) -> usize {
    if took > STEP_TIME { (step / 2).max(1) } else { (step * 2).min(STEP_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_become_larger_while_they_are_quick_and_smaller_while_they_are_slow() {
        let slow = STEP_TIME + Duration::from_nanos(1);
        let run = |took, count| {
            let mut step = STEP_FIRST;
            let mut next = || {
                step = step_after(step, took);
                step
            };
            (0..count).map(|_| next()).collect::<Vec<_>>()
        };
        assert_eq!(run(STEP_TIME, 6), [16, 32, 64, 128, 200, 200]);
        assert_eq!(run(slow, 4), [4, 2, 1, 1]);
    }
}
