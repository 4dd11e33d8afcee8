//! The sweep: bookkeeping of what has come due while nobody spent.
//!
//! Correctness never waits for it. Whoever moves an organization's credits settles it first, and whoever reads settles a
//! copy. The sweep only sees to it that expired holds and lots, and the grants of periods, stand in the ledger soon
//! after their time even where an organization is idle. It asks the ledger like everybody else, so any number of
//! processes may sweep at once.

use std::time::Duration;

use multicredit_domain::OrganizationId;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::entity::organization_credits::{Column, Entity};
use crate::error::StoreError;
use crate::store::Store;

/// How long a process waits between two sweeps.
pub const SWEEP_PAUSE: Duration = Duration::from_secs(5);

/// How many organizations are settled in one go: few enough to leave the queue to those who spend.
const SWEEP_MAX: u64 = 200;

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// How many organizations were settled.
    pub settled: u64,
    /// How many could not be, which the log explains.
    pub failed: u64,
}

impl Store {
    /// Settles organizations with a boundary that has come, the most overdue first, until none is left.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        loop {
            let due = Entity::find()
                .filter(Column::NextBoundaryAt.is_not_null())
                .filter(Column::NextBoundaryAt.lte(self.now().await?))
                .order_by_asc(Column::NextBoundaryAt)
                .limit(SWEEP_MAX)
                .all(self.database())
                .await?;
            let found = due.len() as u64;
            let organizations = due.into_iter().map(|row| OrganizationId::new(row.organization_id));
            let settled = futures_util::future::join_all(organizations.map(|id| async move {
                let outcome = self.settle(id).await;
                if let Err(error) = &outcome {
                    tracing::error!(organization = %id, %error, "an organization could not be settled");
                }
                outcome.is_ok()
            }))
            .await;
            let ok = settled.into_iter().filter(|ok| *ok).count() as u64;
            swept.settled += ok;
            swept.failed += found - ok;
            // One that cannot be settled stays due: going on would find it for ever.
            if found < SWEEP_MAX || ok < found {
                return Ok(swept);
            }
        }
    }
}
