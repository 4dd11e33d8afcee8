//! What keeps the database small and its plans good: partitions ahead of time, keys that are over, dead rows.

use std::sync::LazyLock;

use chrono::{Datelike, NaiveDate};
use sea_orm::{ConnectionTrait, DbBackend, Statement as Raw};

use crate::config::Engine;
use crate::error::StoreError;
use crate::sql::{Cell, Column, Kind, Statement};
use crate::store::Store;

/// How many months of the log have their partition, the present one included. A server that does not come to it for two
/// months still writes into partitions; after that rows go to the default one, which works as well.
const PARTITIONS_AHEAD: i32 = 4;

/// How many keys are deleted at once: a few milliseconds, for which SQLite makes every other writer wait.
const KEYS_AT_ONCE: u64 = 2_000;

/// More dead rows than this in a table ask for a vacuum, as the performance report has it.
const DEAD_ROWS_MAX: i64 = 1_000;

/// The tables of ours with many dead rows, and those with rows that were never counted, by their quoted names. Only a
/// table's owner may vacuum it; to a server with a role of its own that is the autovacuum's business.
const TABLES_TO_VACUUM: &str = "SELECT format('%I', s.relname) AS name FROM pg_stat_user_tables s \
    JOIN pg_class c ON c.oid = s.relid \
    WHERE s.schemaname = current_schema() AND c.relkind IN ('r', 'm') \
    AND pg_has_role(c.relowner, 'USAGE') AND (s.n_dead_tup > $1 \
    OR (s.last_analyze IS NULL AND s.last_autoanalyze IS NULL AND pg_relation_size(c.oid) > 0)) ORDER BY 1";

/// The months of the log, from the present one on, that have no partition. Those whose rows are in the default one stay
/// there.
const MISSING_PARTITIONS: &str = "SELECT COUNT(*) AS missing FROM generate_series(0, $1 - 1) AS n(step) \
    WHERE to_regclass(to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n.step), \
    '\"credit_consumption_logs_y\"YYYY\"m\"MM')) IS NULL";

static PRUNE: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("today", Kind::Date)], |d| {
        format!(
            "DELETE FROM idempotency_keys WHERE (organization_id, key_id) IN (SELECT k.organization_id, k.key_id \
             FROM idempotency_keys k WHERE k.expires_on < (SELECT v.today FROM {}) \
             ORDER BY k.expires_on LIMIT {KEYS_AT_ONCE})",
            d.source
        )
    })
});

static EXPIRED: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("today", Kind::Date)], |d| {
        format!(
            "SELECT COUNT(*) AS expired FROM idempotency_keys k WHERE k.expires_on < (SELECT v.today FROM {})",
            d.source
        )
    })
});

impl Store {
    /// Makes the partitions of the log for this month and the next three, and answers how many were missing.
    pub(crate) async fn make_partitions(&self) -> Result<u64, StoreError> {
        if self.engine() == Engine::Sqlite {
            return Ok(0);
        }
        let now = self.now().await?;
        let month = NaiveDate::from_ymd_opt(now.year(), now.month(), 1).unwrap_or_default();
        let statement = Raw::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT ensure_consumption_log_partitions($1, $2) AS made",
            [month.into(), PARTITIONS_AHEAD.into()],
        );
        let row = self.database().query_one_raw(statement).await?;
        let made: i32 = row.map(|row| row.try_get("", "made")).transpose()?.unwrap_or_default();
        Ok(u64::try_from(made).unwrap_or_default())
    }

    pub(crate) async fn missing_partitions(&self) -> Result<u64, StoreError> {
        if self.engine() == Engine::Sqlite {
            return Ok(0);
        }
        let values = [PARTITIONS_AHEAD.into()];
        let statement = Raw::from_sql_and_values(DbBackend::Postgres, MISSING_PARTITIONS, values);
        let row = self.database().query_one_raw(statement).await?;
        let missing: i64 = row.map(|row| row.try_get("", "missing")).transpose()?.unwrap_or_default();
        Ok(u64::try_from(missing).unwrap_or_default())
    }

    /// Deletes the keys whose last day is over, some at a time, and answers how many.
    pub(crate) async fn prune_keys(&self) -> Result<u64, StoreError> {
        let mut rows = PRUNE.rows();
        rows.cell(Cell::Date(self.now().await?.date_naive())).end();
        let mut connection = self.job_connection().await?;
        let mut pruned = 0;
        loop {
            let deleted = connection.execute(&PRUNE, &rows).await?;
            pruned += deleted;
            if deleted < KEYS_AT_ONCE {
                break;
            }
        }
        connection.close().await?;
        Ok(pruned)
    }

    pub(crate) async fn expired_keys(&self) -> Result<u64, StoreError> {
        let mut rows = EXPIRED.rows();
        rows.cell(Cell::Date(self.now().await?.date_naive())).end();
        let found = EXPIRED.query(self.database(), &rows).await?;
        let expired: i64 = found.first().map(|row| row.try_get("", "expired")).transpose()?.unwrap_or_default();
        Ok(u64::try_from(expired).unwrap_or_default())
    }

    /// Vacuums and analyzes the tables that need it, and answers which. SQLite has nothing of the kind: it reuses what is
    /// freed at once, and its planner is told to look at the tables that changed much.
    pub(crate) async fn vacuum(&self) -> Result<Vec<String>, StoreError> {
        let tables = self.tables_to_vacuum().await?;
        let mut connection = self.job_connection().await?;
        if self.engine() == Engine::Sqlite {
            connection.run("PRAGMA optimize").await?;
        }
        for table in &tables {
            connection.run(&format!("VACUUM (ANALYZE) {table}")).await?;
        }
        connection.close().await?;
        Ok(tables)
    }

    pub(crate) async fn tables_to_vacuum(&self) -> Result<Vec<String>, StoreError> {
        if self.engine() == Engine::Sqlite {
            return Ok(Vec::new());
        }
        let values = [DEAD_ROWS_MAX.into()];
        let statement = Raw::from_sql_and_values(DbBackend::Postgres, TABLES_TO_VACUUM, values);
        let rows = self.database().query_all_raw(statement).await?;
        Ok(rows.iter().map(|row| row.try_get("", "name")).collect::<Result<_, _>>()?)
    }
}
