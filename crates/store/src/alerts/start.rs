//! Where a rule begins that has not looked at an organization yet: at the last movement before it was made.

use std::sync::LazyLock;

use multicredit_domain::alert::Place;
use multicredit_domain::{Account, CreditType, Credits, OrganizationId, Timestamp};
use sea_orm::{DatabaseTransaction, QueryResult};

use crate::entity::credits;
use crate::error::StoreError;
use crate::sql::{Cell, Column, Kind, Statement};

/// What could be spent after the last movement at or before an instant: from the movements, the log, and what stands for
/// what was dropped of that.
static AVAILABLE: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("organization_id", Kind::Uuid), Column::new("at", Kind::Time)];
    Statement::of_text(columns, |d| {
        let last = |table: &str, at: &str, suffix: &str, condition: &str| {
            let available = CreditType::ALL.map(|it| format!("t.{it}_credits_{suffix} AS {it}")).join(", ");
            format!(
                "SELECT * FROM (SELECT t.sequence, t.{at} AS at, {available} FROM {} \
                 JOIN {table} t ON t.organization_id = v.organization_id AND t.{at} <= v.at {condition} \
                 ORDER BY t.{at} DESC, t.sequence DESC LIMIT 1) AS {table}_last",
                d.source
            )
        };
        format!(
            "SELECT * FROM ({} UNION ALL {} UNION ALL {}) AS places ORDER BY sequence DESC LIMIT 1",
            last("credit_movements", "created_at", "available_after", ""),
            last("credit_consumption_logs", "created_at", "available_after", "AND t.sequence IS NOT NULL"),
            last("retention_checkpoints", "through", "available", ""),
        )
    })
});

/// How large the last grant of each type was, up to a movement.
static BASE: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("organization_id", Kind::Uuid), Column::new("through", Kind::BigInt)];
    Statement::of_text(columns, |d| {
        let last = CreditType::ALL.map(|it| {
            format!(
                "COALESCE((SELECT m.{it}_credits_available_change FROM credit_movements m \
                 WHERE m.organization_id = v.organization_id AND m.sequence <= v.through \
                 AND m.kind IN ('grant', 'period_grant', 'activation') AND m.{it}_credits_available_change > 0 \
                 ORDER BY m.sequence DESC LIMIT 1), 0) AS {it}"
            )
        });
        format!("SELECT {} FROM {}", last.join(", "), d.source)
    })
});

/// The place of the last movement at or before an instant, of an account that was read already.
pub(super) async fn place_at(
    transaction: &DatabaseTransaction,
    account: &Account,
    at: Timestamp,
) -> Result<Place, StoreError> {
    let mut place = Place::START;
    if account.last_movement_at <= at {
        place = Place {
            sequence: account.sequence,
            at: account.last_movement_at,
            available: account.available,
            base: Credits::ZERO,
        };
    } else {
        let mut rows = AVAILABLE.rows();
        rows.cell(Cell::Uuid(account.organization_id.uuid())).cell(Cell::Time(at)).end();
        if let Some(row) = AVAILABLE.query_in(transaction, &rows).await?.first() {
            let available = vector(row)?;
            place = Place { sequence: row.try_get("", "sequence")?, at: row.try_get("", "at")?, available, ..place };
        }
    }
    Ok(Place { base: base(transaction, account.organization_id, place.sequence).await?, ..place })
}

async fn base(
    transaction: &DatabaseTransaction,
    organization_id: OrganizationId,
    through: i64,
) -> Result<Credits, StoreError> {
    let mut rows = BASE.rows();
    rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Int(through)).end();
    let found = BASE.query_in(transaction, &rows).await?;
    found.first().map_or(Ok(Credits::ZERO), vector)
}

fn vector(row: &QueryResult) -> Result<Credits, StoreError> {
    let mut amounts = [0; CreditType::ALL.len()];
    for (amount, credit_type) in amounts.iter_mut().zip(CreditType::ALL) {
        *amount = row.try_get("", credit_type.as_str())?;
    }
    Ok(credits(amounts, "credit_movements", "available")?)
}
