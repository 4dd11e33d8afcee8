//! Cursors: how they begin.
//!
//! An endpoint is told of what happens from its beginning on. A pair begins with the account as its transaction sees it:
//! whatever is committed afterwards has a higher number. Organizations that are made later get their pair when a
//! deliverer finds it missing, from their first movement on.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use chrono::TimeDelta;
use multicredit_domain::{EndpointId, OrganizationId, Timestamp};
use sea_orm::DatabaseTransaction;
use uuid::Uuid;

use crate::error::StoreError;
use crate::sql::{Cell, Column, Kind, Statement};
use crate::store::Store;

use super::claim::{LOCK_ORDER, pair};

/// How far before the present the search for consumptions begins. The number decides; this bounds the search, with room
/// for a clock that is set back.
const ROOM: TimeDelta = TimeDelta::hours(1);

/// Nothing can have happened before.
const BEGINNING: &str = "0001-01-01T00:00:00+00:00";

/// How many missing pairs are made at once.
const MISSING_AT_ONCE: usize = 1_000;

const COLUMNS: &str = "organization_id, endpoint_id, sequence, place, told_at, refused_at, refused_id, refused_until, \
                       raised_number, failures, due_at, lease, leased_until";

fn columns() -> Vec<Column> {
    vec![
        Column::new("endpoint_id", Kind::Uuid),
        Column::new("organization_id", Kind::Uuid),
        Column::new("told_at", Kind::Time),
        Column::new("now", Kind::Time),
        Column::new("nil", Kind::Uuid),
    ]
}

static BEGIN: LazyLock<Statement> = LazyLock::new(|| {
    Statement::of_text(columns(), |d| {
        format!(
            "INSERT INTO webhook_cursors ({COLUMNS}) SELECT c.organization_id, v.endpoint_id, c.sequence + 1, 0, \
             v.told_at, v.now, v.nil, v.now, COALESCE(a.last_number, 0) + 1, 0, v.now, NULL, v.now FROM {} \
             JOIN organization_credits c ON v.organization_id IS NULL OR c.organization_id = v.organization_id \
             LEFT JOIN alert_cursors a ON a.organization_id = c.organization_id",
            d.source
        )
    })
});

static FIND_MISSING: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("one", Kind::Int)], |d| {
        format!(
            "SELECT c.organization_id, e.id AS endpoint_id FROM {} CROSS JOIN webhook_endpoints e \
             CROSS JOIN organization_credits c \
             LEFT JOIN webhook_cursors k ON k.organization_id = c.organization_id AND k.endpoint_id = e.id \
             WHERE e.enabled AND e.organization_id IS NULL AND k.organization_id IS NULL LIMIT {MISSING_AT_ONCE}",
            d.source
        )
    })
});

static ADD_MISSING: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(columns(), |d| {
        // `WHERE true`: without it SQLite takes ON for the beginning of a join's condition.
        format!(
            "INSERT INTO webhook_cursors ({COLUMNS}) SELECT v.organization_id, v.endpoint_id, 1, 0, v.told_at, \
             v.told_at, v.nil, v.told_at, 1, 0, v.now, NULL, v.now FROM {} WHERE true \
             ON CONFLICT (organization_id, endpoint_id) DO NOTHING",
            d.source
        )
    })
});

static LOCK: LazyLock<Statement> = LazyLock::new(|| {
    Statement::of_text(vec![Column::new("endpoint_id", Kind::Uuid)], |d| {
        format!(
            "SELECT COUNT(*) AS locked FROM (SELECT 1 AS one FROM {} \
             JOIN webhook_cursors c ON c.endpoint_id = v.endpoint_id ORDER BY {LOCK_ORDER} {}) AS l",
            d.source, d.lock_c
        )
    })
});

/// Locks all pairs of an endpoint, before they are changed or removed together.
pub(crate) async fn lock(transaction: &DatabaseTransaction, endpoint_id: EndpointId) -> Result<(), StoreError> {
    let mut rows = LOCK.rows();
    rows.cell(Cell::Uuid(endpoint_id.uuid())).end();
    LOCK.query_in(transaction, &rows).await?;
    Ok(())
}

/// Begins the pairs of a new endpoint, of one organization or of all there are.
pub(crate) async fn begin(
    transaction: &DatabaseTransaction,
    endpoint_id: EndpointId,
    organization_id: Option<OrganizationId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut rows = BEGIN.rows();
    rows.cell(Cell::Uuid(endpoint_id.uuid()))
        .cell(Cell::opt(organization_id, |id| Cell::Uuid(id.uuid())))
        .cell(Cell::Time(now - ROOM))
        .cell(Cell::Time(now))
        .cell(Cell::Uuid(Uuid::nil()))
        .end();
    BEGIN.query_in(transaction, &rows).await?;
    Ok(())
}

impl Store {
    /// Makes the pairs of organizations that came after the endpoints of all organizations, and answers how many.
    pub async fn complete_webhook_cursors(&self) -> Result<u64, StoreError> {
        let mut completed = 0;
        loop {
            let mut one = FIND_MISSING.rows();
            one.cell(Cell::Null).end();
            let missing = FIND_MISSING.query(self.database(), &one).await?;
            if missing.is_empty() {
                return Ok(completed);
            }
            let now = self.now().await?;
            let beginning: Timestamp =
                BEGINNING.parse().map_err(|_| StoreError::Internal("the beginning is none".to_owned()))?;
            let mut rows = ADD_MISSING.rows();
            // In one order: whoever makes the same pairs at this moment waits, and is not waited for.
            let missing = missing.iter().map(pair).collect::<Result<BTreeSet<_>, _>>()?;
            for (organization_id, endpoint_id) in &missing {
                rows.cell(Cell::Uuid(endpoint_id.uuid()))
                    .cell(Cell::Uuid(organization_id.uuid()))
                    .cell(Cell::Time(beginning))
                    .cell(Cell::Time(now))
                    .cell(Cell::Uuid(Uuid::nil()))
                    .end();
            }
            ADD_MISSING.query(self.database(), &rows).await?;
            completed += missing.len() as u64;
        }
    }
}
