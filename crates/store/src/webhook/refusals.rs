//! Refused attempts: up to where they can be told.
//!
//! They have an instant and no number. A transaction that is under way has its instant already and cannot be seen, so
//! that whoever took what there is by time would pass it over. A fence of the organization is an instant that nothing can
//! join any more; a pair is told up to there. Raising one takes the account's lock for an instant, and is done only for
//! organizations that were refused something since the last one.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use multicredit_domain::{OrganizationId, Timestamp};

use crate::error::StoreError;
use crate::ledger::fence;
use crate::sql::{Cell, Column, Kind, Statement};
use crate::store::Store;

use super::claim::LOCK_ORDER;

/// How many organizations are fenced in together.
const PAGE: usize = 100;

/// Organizations with a refusal at or after the fence of a pair that wants it. The order is that of the locks.
static FIND: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("since", Kind::Time), Column::new("after", Kind::Uuid)];
    Statement::new(columns, |d| {
        format!(
            "SELECT DISTINCT l.organization_id FROM credit_consumption_logs l \
             JOIN webhook_cursors k ON k.organization_id = l.organization_id AND k.refused_until <= l.created_at \
             JOIN webhook_endpoints e ON e.id = k.endpoint_id AND e.enabled AND e.wants_refused \
             WHERE l.success = FALSE AND l.created_at >= (SELECT v.since FROM {0}) \
             AND l.organization_id > (SELECT v.after FROM {0}) ORDER BY l.organization_id LIMIT {PAGE}",
            d.source
        )
    })
});

static RAISE: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("organization", Kind::Uuid), Column::new("fence", Kind::Time)];
    Statement::new(columns, |d| {
        format!(
            "UPDATE webhook_cursors AS k SET refused_until = p.fence FROM ( \
             SELECT c.organization_id AS organization, c.endpoint_id AS endpoint, v.fence FROM {} \
             JOIN webhook_cursors c ON c.organization_id = v.organization AND c.refused_until < v.fence \
             JOIN webhook_endpoints e ON e.id = c.endpoint_id AND e.enabled AND e.wants_refused \
             ORDER BY {LOCK_ORDER} {}) AS p \
             WHERE k.organization_id = p.organization AND k.endpoint_id = p.endpoint",
            d.source, d.lock_c
        )
    })
});

static OLDEST: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("one", Kind::Int)], |d| {
        format!(
            "SELECT MIN(k.refused_until) AS oldest FROM {} CROSS JOIN webhook_cursors k \
             JOIN webhook_endpoints e ON e.id = k.endpoint_id WHERE e.enabled AND e.wants_refused",
            d.source
        )
    })
});

impl Store {
    /// From when on there may be refused attempts that nobody was told of; `None` if nobody wants to be.
    pub async fn untold_refusals_since(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut rows = OLDEST.rows();
        rows.cell(Cell::Null).end();
        let found = OLDEST.query(self.database(), &rows).await?;
        Ok(found.first().map(|row| row.try_get("", "oldest")).transpose()?.flatten())
    }

    /// Lets those be told of refused attempts who want it, as far as any lie at or after `since`, and answers whose they
    /// are.
    pub async fn release_refusals(&self, since: Timestamp) -> Result<BTreeSet<OrganizationId>, StoreError> {
        let mut released = BTreeSet::new();
        let mut after = OrganizationId::MIN;
        loop {
            let mut rows = FIND.rows();
            rows.cell(Cell::Time(since)).cell(Cell::Uuid(after.uuid())).end();
            let found = FIND.query(self.database(), &rows).await?;
            let page = found.iter().map(|row| Ok(OrganizationId::new(row.try_get("", "organization_id")?)));
            let page = page.collect::<Result<BTreeSet<_>, sea_orm::DbErr>>()?;
            let Some(last) = page.last() else { return Ok(released) };
            after = *last;
            // One that is in the way does not keep the others from being told.
            if self.raise(page.clone()).await.is_ok() {
                released.extend(page);
                continue;
            }
            for organization_id in page {
                match self.raise([organization_id].into()).await {
                    Ok(()) => drop(released.insert(organization_id)),
                    Err(error) => {
                        tracing::warn!(organization = %organization_id, %error, "refusals cannot be told yet");
                    }
                }
            }
        }
    }

    async fn raise(&self, organizations: BTreeSet<OrganizationId>) -> Result<(), StoreError> {
        let mut connection = self.job_connection().await?;
        let fences = fence(&mut connection, self.clock(), organizations).await?;
        let mut rows = RAISE.rows();
        for (organization_id, fence) in fences {
            rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Time(fence)).end();
        }
        connection.execute(&RAISE, &rows).await?;
        Ok(connection.close().await?)
    }
}
