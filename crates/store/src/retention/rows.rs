//! Taking away the rows that a checkpoint stands for. Nobody can see them any more, so it may take as long as it likes.

use std::sync::LazyLock;
use std::time::Duration;

use multicredit_domain::{OrganizationId, Timestamp};

use super::DroppedHistory;
use crate::config::Engine;
use crate::error::{Fault, StoreError};
use crate::sql::{Cell, Column, Connection, Kind, Statement};

/// How many rows are deleted at once: some milliseconds, for which SQLite makes every other writer wait.
const ROWS_AT_ONCE: u64 = 2_000;

/// How long those who wait to write are let through between two deletions.
const PAUSE: Duration = Duration::from_millis(5);

/// How many organizations with rows to delete are found at once.
const PAGE: usize = 100;

/// How often a partition is tried that somebody reads.
const TRIES_MAX: usize = 4;

/// How long the readers of a partition are given to come to an end before it is tried again. While it is tried, nobody
/// spends.
const READERS_PATIENCE: Duration = Duration::from_secs(1);

/// Which rows are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// All that are sealed.
    Log,
    /// Those that have no month of their own, which goes as a whole.
    DefaultPartition,
}

impl Place {
    /// What is left to delete where whole partitions are dropped.
    pub(super) const fn without_partitions(engine: Engine) -> Self {
        match engine {
            Engine::Postgres => Self::DefaultPartition,
            Engine::Sqlite => Self::Log,
        }
    }

    const fn find(self) -> &'static LazyLock<Statement> {
        match self {
            Self::Log => &FIND,
            Self::DefaultPartition => &FIND_IN_DEFAULT,
        }
    }
}

fn by_organization() -> Vec<Column> {
    vec![Column::new("organization_id", Kind::Uuid)]
}

static DELETE_ON_SQLITE: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_organization(), |d| {
        format!(
            "DELETE FROM credit_consumption_logs WHERE (organization_id, id, created_at) IN ( \
             SELECT l.organization_id, l.id, l.created_at FROM {} \
             JOIN retention_checkpoints k ON k.organization_id = v.organization_id \
             JOIN credit_consumption_logs l ON l.organization_id = k.organization_id AND l.created_at < k.through \
             ORDER BY l.created_at LIMIT {ROWS_AT_ONCE})",
            d.source
        )
    })
});

/// Through a function of the owner's: servers may add to the log and nothing else.
static DELETE_ON_POSTGRES: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns = by_organization();
    columns.push(Column::new("only_default", Kind::Bool));
    Statement::new(columns, |d| {
        format!(
            "SELECT delete_sealed_consumption_logs(v.organization_id, v.only_default, {ROWS_AT_ONCE}) AS deleted FROM {}",
            d.source
        )
    })
});

static FIND: LazyLock<Statement> = LazyLock::new(|| find_statement(""));
static FIND_IN_DEFAULT: LazyLock<Statement> =
    LazyLock::new(|| find_statement("AND l.tableoid = 'credit_consumption_logs_default'::regclass"));

/// Organizations with sealed rows that are there still.
fn find_statement(condition: &str) -> Statement {
    Statement::new(vec![Column::new("after", Kind::Uuid)], |d| {
        format!(
            "SELECT k.organization_id FROM retention_checkpoints k \
             WHERE k.organization_id > (SELECT v.after FROM {}) AND EXISTS (SELECT 1 FROM credit_consumption_logs l \
             WHERE l.organization_id = k.organization_id AND l.created_at < k.through {condition}) \
             ORDER BY k.organization_id LIMIT {PAGE}",
            d.source
        )
    })
}

static DROP_PARTITION: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("before", Kind::Time)], |d| {
        format!("SELECT drop_sealed_consumption_log_partition(v.before) AS name FROM {}", d.source)
    })
});

static COUNT_PARTITIONS: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("before", Kind::Time)], |d| {
        format!(
            "SELECT COUNT(*) AS partitions FROM {} JOIN pg_inherits i ON i.inhparent = 'credit_consumption_logs'::regclass \
             JOIN pg_class c ON c.oid = i.inhrelid AND c.relname ~ '^credit_consumption_logs_y\\d{{4,}}m\\d{{2}}$' \
             WHERE (to_date(substring(c.relname FROM 'y(\\d+m\\d+)$'), 'YYYY\"m\"MM') + interval '1 month') \
             AT TIME ZONE 'UTC' <= v.before",
            d.source
        )
    })
});

/// How many partitions end at or before the instant.
pub(super) async fn partitions_before(connection: &mut Connection, before: Timestamp) -> Result<u64, StoreError> {
    let mut rows = COUNT_PARTITIONS.rows();
    rows.cell(Cell::Time(before)).end();
    let found = connection.query(&COUNT_PARTITIONS, &rows).await?;
    let count: i64 = found.first().map(|row| row.try_get("", "partitions")).transpose()?.unwrap_or_default();
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Drops the partitions that end at or before the instant and are sealed, oldest first.
pub(super) async fn drop_partitions(
    connection: &mut Connection,
    before: Timestamp,
    done: &mut DroppedHistory,
) -> Result<(), StoreError> {
    let mut rows = DROP_PARTITION.rows();
    rows.cell(Cell::Time(before)).end();
    let mut tries = 0;
    loop {
        match connection.query(&DROP_PARTITION, &rows).await {
            Ok(found) => {
                let name: Option<String> = found.first().map(|row| row.try_get("", "name")).transpose()?.flatten();
                let Some(name) = name else { break };
                tracing::info!(partition = name, "a month of history is dropped");
                done.partitions += 1;
                tries = 0;
            }
            Err(error) if Fault::of(&error) == Fault::Contention => {
                tries += 1;
                if tries >= TRIES_MAX {
                    tracing::warn!(%error, "a month of history could not be dropped yet: somebody reads the log");
                    break;
                }
                tokio::time::sleep(READERS_PATIENCE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    done.left += partitions_before(connection, before).await?;
    Ok(())
}

/// Deletes all rows there that a checkpoint stands for.
pub(super) async fn delete_sealed(connection: &mut Connection, place: Place) -> Result<(), StoreError> {
    let mut after = uuid::Uuid::nil();
    loop {
        let mut rows = place.find().rows();
        rows.cell(Cell::Uuid(after)).end();
        let found = connection.query(place.find(), &rows).await?;
        if found.is_empty() {
            return Ok(());
        }
        for row in found {
            after = row.try_get("", "organization_id")?;
            delete(connection, place, OrganizationId::new(after)).await?;
        }
    }
}

/// Deletes the rows of an organization that its checkpoint stands for, some at a time.
pub(super) async fn delete(
    connection: &mut Connection,
    place: Place,
    organization_id: OrganizationId,
) -> Result<(), StoreError> {
    while delete_some(connection, place, organization_id).await? >= ROWS_AT_ONCE {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn delete_some(
    connection: &mut Connection,
    place: Place,
    organization_id: OrganizationId,
) -> Result<u64, StoreError> {
    if matches!(connection, Connection::Sqlite(..)) {
        let mut rows = DELETE_ON_SQLITE.rows();
        rows.cell(Cell::Uuid(organization_id.uuid())).end();
        return Ok(connection.execute(&DELETE_ON_SQLITE, &rows).await?);
    }
    let mut rows = DELETE_ON_POSTGRES.rows();
    rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Bool(place == Place::DefaultPartition)).end();
    let found = connection.query(&DELETE_ON_POSTGRES, &rows).await?;
    let deleted: i64 = found.first().map(|row| row.try_get("", "deleted")).transpose()?.unwrap_or_default();
    Ok(u64::try_from(deleted).unwrap_or_default())
}
