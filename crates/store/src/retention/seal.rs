//! Sealing: the checkpoint of an organization, from what its log still has.
//!
//! What is added up lies behind a fence and cannot change, so it is added up before anybody is kept waiting. The account's
//! lock is held for what can change until then: a refund of something old, which would have to be in the checkpoint and in
//! the rollups, or in neither.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use multicredit_domain::{Balance, OrganizationId, Refusal, Timestamp};
use sea_orm::QueryResult;
use sea_orm::prelude::DateTimeUtc;

use super::DroppedHistory;
use crate::error::{AttemptError, StoreError};
use crate::ledger::lock_accounts;
use crate::sql::{Cell, Column, Connection, Kind, Rows, Statement, credit_columns};
use crate::store::Store;

/// How many organizations are found and rolled up together.
const PAGE: usize = 100;

/// How often an organization is tried that is refunded or spends against its lots while it is sealed.
const TRIES_MAX: usize = 5;

fn by_range() -> Vec<Column> {
    vec![Column::new("organization_id", Kind::Uuid), Column::new("since", Kind::Time), Column::new("until", Kind::Time)]
}

/// Organizations with attempts before the cut that no checkpoint stands for.
static UNSEALED: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("after", Kind::Uuid), Column::new("cut", Kind::Time)];
    Statement::new(columns, |d| {
        format!(
            "SELECT c.organization_id FROM {source} CROSS JOIN organization_credits c \
             LEFT JOIN retention_checkpoints k ON k.organization_id = c.organization_id \
             WHERE c.organization_id > (SELECT v.after FROM {source}) AND EXISTS (SELECT 1 FROM credit_consumption_logs l \
             WHERE l.organization_id = c.organization_id AND l.created_at >= COALESCE(k.through, {beginning}) \
             AND l.created_at < v.cut) ORDER BY c.organization_id LIMIT {PAGE}",
            source = d.source,
            beginning = d.instant(BEGINNING),
        )
    })
});

static BACKLOG: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("cut", Kind::Time)], |d| {
        format!(
            "SELECT COUNT(DISTINCT l.organization_id) AS organizations, COUNT(*) AS attempts \
             FROM {} JOIN credit_consumption_logs l ON l.created_at < v.cut \
             LEFT JOIN retention_checkpoints k ON k.organization_id = l.organization_id \
             WHERE k.through IS NULL OR l.created_at >= k.through",
            d.source
        )
    })
});

/// Before anything was recorded.
const BEGINNING: &str = "0001-01-01T00:00:00+00:00";

/// `SUM(value of the column where condition)` for each type, called after `name`.
fn summed(condition: &str, table: &str, column: &str, name: &str) -> String {
    let sums = credit_columns(column).zip(credit_columns(name)).map(|(column, name)| {
        format!(
            "CAST(COALESCE(SUM(CASE WHEN {condition} THEN {table}.{} ELSE 0 END), 0) AS BIGINT) AS {}",
            column.name, name.name
        )
    });
    sums.collect::<Vec<_>>().join(", ")
}

/// The sums of the attempts of a range, and how far usage is rolled up.
static ADD_UP: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_range(), |d| {
        let spent = "l.success AND l.hold_id IS NULL";
        let captured = "l.success AND l.hold_id IS NOT NULL";
        let count = |condition, name| format!("COUNT(CASE WHEN {condition} THEN 1 END) AS {name}");
        format!(
            "SELECT t.through, COUNT(l.id) AS attempts, {}, {}, {}, {}, {} \
             FROM {} LEFT JOIN usage_totals t ON t.organization_id = v.organization_id \
             LEFT JOIN credit_consumption_logs l ON l.organization_id = v.organization_id \
             AND l.created_at >= v.since AND l.created_at < v.until GROUP BY t.through",
            count(spent, "spent_count"),
            count(captured, "captured_count"),
            count("NOT l.success", "refused_count"),
            summed(spent, "l", "consumed", "spent"),
            summed(captured, "l", "consumed", "captured"),
            d.source
        )
    })
});

/// The refunds of the attempts of a range, and how many of them are not in the rollups yet.
static ADD_UP_REFUNDS: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_range(), |d| {
        format!(
            "SELECT k.through AS sealed_through, COUNT(l.id) AS refund_count, \
             COUNT(CASE WHEN r.created_at >= t.through THEN l.id END) AS late_count, {} \
             FROM {} JOIN usage_totals t ON t.organization_id = v.organization_id \
             LEFT JOIN retention_checkpoints k ON k.organization_id = v.organization_id \
             LEFT JOIN credit_refunds r ON r.organization_id = v.organization_id AND r.created_at >= v.since \
             LEFT JOIN credit_consumption_logs l ON l.organization_id = r.organization_id AND l.id = r.consumption_id \
             AND l.created_at >= v.since AND l.created_at < v.until GROUP BY k.through",
            summed("l.id IS NOT NULL", "r", "refunded", "refunded"),
            d.source
        )
    })
});

const COUNTS: [&str; 4] = ["spent_count", "captured_count", "refused_count", "refund_count"];

/// The columns that grow with each checkpoint.
fn sums() -> impl Iterator<Item = Column> {
    let counts = COUNTS.map(|name| Column::new(name, Kind::BigInt));
    counts
        .into_iter()
        .chain(credit_columns("spent"))
        .chain(credit_columns("captured"))
        .chain(credit_columns("refunded"))
}

/// The columns that a checkpoint has anew.
fn places() -> impl Iterator<Item = Column> {
    let first = [
        Column::new("through", Kind::Time),
        Column::new("sealed_at", Kind::Time),
        Column::new("sequence", Kind::BigInt),
    ];
    first.into_iter().chain(credit_columns("available")).chain(credit_columns("held"))
}

static PUT_CHECKPOINT: LazyLock<Statement> = LazyLock::new(|| {
    let columns: Vec<_> =
        [Column::new("organization_id", Kind::Uuid)].into_iter().chain(places()).chain(sums()).collect();
    let names = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let moved = places().map(|column| format!("{0} = excluded.{0}", column.name));
    let grown = sums().map(|column| format!("{0} = retention_checkpoints.{0} + excluded.{0}", column.name));
    let updates = moved.chain(grown).collect::<Vec<_>>().join(", ");
    Statement::new(columns, |d| {
        // `WHERE true`: without it SQLite takes ON for the beginning of a join's condition.
        format!(
            "INSERT INTO retention_checkpoints ({names}) SELECT {names} FROM {} WHERE true \
             ON CONFLICT (organization_id) DO UPDATE SET {updates}",
            d.source
        )
    })
});

/// A row of a range that an enabled endpoint of webhooks was not told of: of one that wants such rows, and behind its cursor
/// or without one yet.
static FIND_UNTOLD: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_range(), |d| {
        format!(
            "SELECT e.id FROM {} JOIN webhook_endpoints e ON e.enabled \
             AND (e.organization_id IS NULL OR e.organization_id = v.organization_id) \
             LEFT JOIN webhook_cursors k ON k.organization_id = v.organization_id AND k.endpoint_id = e.id \
             WHERE EXISTS (SELECT 1 FROM credit_consumption_logs l \
             WHERE l.organization_id = v.organization_id AND l.created_at >= v.since AND l.created_at < v.until \
             AND ((l.success AND l.sequence >= COALESCE(k.sequence, 1) AND (e.wants_consumed OR l.hold_id IS NOT NULL)) \
             OR (NOT l.success AND e.wants_refused AND (k.refused_at IS NULL OR l.created_at > k.refused_at \
             OR (l.created_at = k.refused_at AND l.id > k.refused_id))))) LIMIT 1",
            d.source
        )
    })
});

/// What dropping history would do, but for the partitions.
pub(super) async fn backlog(connection: &mut Connection, cut: Timestamp) -> Result<DroppedHistory, StoreError> {
    let mut rows = BACKLOG.rows();
    rows.cell(Cell::Time(cut)).end();
    let found = connection.query(&BACKLOG, &rows).await?;
    let row = found.first().ok_or_else(|| StoreError::Internal("a count answered nothing".to_owned()))?;
    let count = |name| row.try_get::<i64>("", name).map(|count| u64::try_from(count).unwrap_or_default());
    Ok(DroppedHistory {
        organizations: count("organizations")?,
        attempts: count("attempts")?,
        ..DroppedHistory::default()
    })
}

/// What became of an attempt to seal an organization.
enum Outcome {
    /// So many attempts have a checkpoint now.
    Sealed(u64),
    /// There is nothing before the cut, or no longer.
    Nothing,
    /// Spending before the cut is not taken from its lots yet.
    Unsettled,
    /// Something before the cut, or a refund of it, is not in the rollups yet.
    NotRolledUp,
    /// An endpoint of webhooks was not told of something before the cut yet.
    Untold,
}

/// Seals organizations up to one instant.
pub(super) struct Sealer<'a> {
    store: &'a Store,
    connection: Connection,
    cut: Timestamp,
    done: DroppedHistory,
}

impl<'a> Sealer<'a> {
    pub(super) async fn new(store: &'a Store, cut: Timestamp) -> Result<Self, StoreError> {
        Ok(Self { store, connection: store.job_connection().await?, cut, done: DroppedHistory::default() })
    }

    pub(super) async fn end(self) -> Result<DroppedHistory, StoreError> {
        self.connection.close().await?;
        Ok(self.done)
    }

    /// Seals every organization that has something before the cut.
    pub(super) async fn seal_all(&mut self) -> Result<(), StoreError> {
        let mut after = uuid::Uuid::nil();
        loop {
            let mut rows = UNSEALED.rows();
            rows.cell(Cell::Uuid(after)).cell(Cell::Time(self.cut)).end();
            let found = self.connection.query(&UNSEALED, &rows).await?;
            let page = found.iter().map(|row| Ok(OrganizationId::new(row.try_get("", "organization_id")?)));
            let page = page.collect::<Result<BTreeSet<_>, sea_orm::DbErr>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.uuid();
            self.seal_page(&page).await?;
        }
    }

    /// Seals these. One that cannot be sealed does not keep the others from it.
    pub(super) async fn seal_page(&mut self, page: &BTreeSet<OrganizationId>) -> Result<(), StoreError> {
        self.store.roll_up_organizations(page).await?;
        for organization_id in page {
            match self.seal(*organization_id).await {
                Ok(Some(attempts)) => {
                    self.done.organizations += u64::from(attempts > 0);
                    self.done.attempts += attempts;
                }
                Ok(None) => {
                    self.done.left += 1;
                    tracing::warn!(
                        organization = %organization_id,
                        "history could not be sealed: it keeps being changed, or an endpoint of webhooks was not told yet"
                    );
                }
                Err(error) => {
                    self.done.left += 1;
                    tracing::warn!(organization = %organization_id, ?error, "history could not be sealed");
                    // Nothing may be left open on it.
                    self.connection = self.store.job_connection().await?;
                }
            }
        }
        Ok(())
    }

    /// Seals one organization and answers of how many attempts; `None` if it did not come to rest, or has something
    /// that an endpoint of webhooks was not told of.
    async fn seal(&mut self, organization_id: OrganizationId) -> Result<Option<u64>, AttemptError> {
        for _ in 0..TRIES_MAX {
            match self.try_to_seal(organization_id).await? {
                Outcome::Sealed(attempts) => return Ok(Some(attempts)),
                Outcome::Nothing => return Ok(Some(0)),
                Outcome::Unsettled => self.store.settle(organization_id).await?,
                // Telling takes as long as the receiver does.
                Outcome::Untold => return Ok(None),
                Outcome::NotRolledUp => self.store.roll_up_organizations(&[organization_id].into()).await?,
            }
        }
        Ok(None)
    }

    async fn try_to_seal(&mut self, organization_id: OrganizationId) -> Result<Outcome, AttemptError> {
        let checkpoint = self.store.checkpoint(organization_id).await?;
        let since = checkpoint.as_ref().map_or(DateTimeUtc::UNIX_EPOCH, |checkpoint| checkpoint.through);
        if since >= self.cut {
            return Ok(Outcome::Nothing);
        }
        let mut range = ADD_UP.rows();
        range.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Time(since)).cell(Cell::Time(self.cut)).end();
        let dropped = only(self.connection.query(&ADD_UP, &range).await?)?;
        let attempts: i64 = dropped.try_get("", "attempts")?;
        if attempts == 0 {
            return Ok(Outcome::Nothing);
        }
        let through: Option<DateTimeUtc> = dropped.try_get("", "through")?;
        if through.is_none_or(|through| through < self.cut) {
            return Ok(Outcome::NotRolledUp);
        }
        if !self.connection.query(&FIND_UNTOLD, &range).await?.is_empty() {
            return Ok(Outcome::Untold);
        }
        self.connection.begin().await?;
        let accounts = lock_accounts(&mut self.connection, [organization_id].into()).await?;
        let account = accounts.get(&organization_id).ok_or(StoreError::Refused(Refusal::UnknownOrganization))?;
        let refunds = only(self.connection.query(&ADD_UP_REFUNDS, &range).await?)?;
        let (sequence, balance) = self.store.balance_before(organization_id, self.cut).await?;
        // A boundary before the cut that is booked later would be a movement before the cut.
        let is_due = account.next_boundary_at.is_some_and(|boundary| boundary < self.cut);
        let obstacle =
            if refunds.try_get::<Option<DateTimeUtc>>("", "sealed_through")? != checkpoint.map(|it| it.through) {
                Some(Outcome::Nothing)
            } else if is_due || account.settled_sequence < sequence {
                Some(Outcome::Unsettled)
            } else if account.last_movement_at < self.cut || refunds.try_get::<i64>("", "late_count")? > 0 {
                // Booking a boundary takes the account back to its instant, and the fence with it.
                Some(Outcome::NotRolledUp)
            } else {
                None
            };
        if let Some(obstacle) = obstacle {
            self.connection.rollback().await?;
            return Ok(obstacle);
        }
        let row = self.row(organization_id, account.last_movement_at, (sequence, balance), &dropped, &refunds)?;
        self.connection.execute(&PUT_CHECKPOINT, &row).await?;
        self.connection.commit().await?;
        Ok(Outcome::Sealed(u64::try_from(attempts).unwrap_or_default()))
    }

    fn row(
        &self,
        organization_id: OrganizationId,
        sealed_at: Timestamp,
        (sequence, balance): (i64, Balance),
        dropped: &QueryResult,
        refunds: &QueryResult,
    ) -> Result<Rows, sea_orm::DbErr> {
        let mut row = PUT_CHECKPOINT.rows();
        row.cell(Cell::Uuid(organization_id.uuid()))
            .cell(Cell::Time(self.cut))
            .cell(Cell::Time(sealed_at))
            .cell(Cell::Int(sequence))
            .credits(balance.available)
            .credits(balance.held);
        for Column { name, .. } in sums() {
            let source = if name.contains("refund") { refunds } else { dropped };
            row.cell(Cell::Int(source.try_get("", &name)?));
        }
        row.end();
        Ok(row)
    }
}

fn only(rows: Vec<QueryResult>) -> Result<QueryResult, StoreError> {
    rows.into_iter().next().ok_or_else(|| StoreError::Internal("a sum answered nothing".to_owned()))
}
