//! What PostgreSQL counts of itself, of the schema that our tables are in.
//!
//! A partitioned table and its indexes are one thing to whoever reads a report: their parts are added up.

use sea_orm::QueryResult;

use super::measured::{IndexFigures, Measured, StatementFigures, TableFigures, Unknown};
use super::{query_all, query_one};
use crate::error::StoreError;
use crate::stats::TableGauges;
use crate::store::Store;

/// The tables. A full scan counts if it read a thousand rows: those of a table that was small, and of the empty parts of a
/// large one, are no reason to worry, and making an index over an empty table is one, too. Their size is asked for by `SIZE`, apart from the rest: it takes a lock of each table, if only against its
/// being dropped, and would wait for whoever has locked one.
const TABLES: &str = "
SELECT c.relname::text AS name, (SELECT count(*) FROM pg_inherits i WHERE i.inhparent = c.oid) AS partitions, s.*
FROM pg_class c, LATERAL (
    SELECT sum(n_tup_ins)::bigint AS inserts, sum(n_tup_upd)::bigint AS updates,
        sum(n_tup_hot_upd)::bigint AS hot_updates, sum(n_tup_del)::bigint AS deletes,
        sum(n_live_tup)::bigint AS live, sum(n_dead_tup)::bigint AS dead,
        max(GREATEST(last_vacuum, last_autovacuum)) AS last_vacuum_at,
        max(GREATEST(last_analyze, last_autoanalyze)) AS last_analyze_at,
        sum(LEAST(seq_scan, seq_tup_read / 1000))::bigint AS full_scans,
        sum(COALESCE(idx_scan, 0))::bigint AS index_scans,
        SIZE AS size_bytes
    FROM pg_stat_user_tables t
    WHERE t.relid = c.oid OR t.relid IN (SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = c.oid)
) AS s
WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relname <> 'seaql_migrations'
    AND c.relnamespace = (SELECT o.relnamespace FROM pg_class o WHERE o.oid = to_regclass('organizations'))
ORDER BY c.relname";

const SIZE: &str = "sum(pg_total_relation_size(relid))::bigint";

const INDEXES: &str = "
SELECT t.relname::text AS table_name, c.relname::text AS name, x.indisprimary AS is_primary, x.indisunique AS is_unique,
    ARRAY(SELECT pg_get_indexdef(x.indexrelid, k, true)
            || CASE WHEN x.indoption[k - 1] & 1 = 1 THEN ' DESC' ELSE '' END
        FROM generate_series(1, x.indnkeyatts::integer) AS k) AS columns,
    pg_get_expr(x.indpred, x.indrelid) AS condition, s.size_bytes, s.scans
FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid, LATERAL (
    SELECT sum(pg_relation_size(u.indexrelid))::bigint AS size_bytes, sum(u.idx_scan)::bigint AS scans
    FROM pg_stat_user_indexes u
    WHERE u.indexrelid = x.indexrelid
        OR u.indexrelid IN (SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = x.indexrelid)
) AS s
WHERE NOT c.relispartition AND t.relname <> 'seaql_migrations'
    AND t.relnamespace = (SELECT o.relnamespace FROM pg_class o WHERE o.oid = to_regclass('organizations'))
ORDER BY t.relname, c.relname";

const DATABASE: &str = "
SELECT current_setting('server_version') AS version, pg_database_size(current_database()) AS size_bytes,
    d.stats_reset AS counting_since, d.blks_hit::double precision / NULLIF(d.blks_hit + d.blks_read, 0) AS buffer_hit_ratio,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
    current_setting('max_connections')::bigint AS connections_max
FROM pg_stat_database d WHERE d.datname = current_database()";

const HAS_STATEMENTS: &str = "SELECT to_regclass('pg_stat_statements') IS NOT NULL AS installed";

/// The most statements that a report lists.
const STATEMENTS_MAX: usize = 10;

/// How much of a statement's text it shows.
const STATEMENT_CHARS_MAX: usize = 160;

impl Store {
    /// Fills in what PostgreSQL knows.
    pub(super) async fn measure_postgres(&self, measured: &mut Measured) -> Result<(), StoreError> {
        if let Some(row) = query_one(self.database(), DATABASE).await? {
            measured.version = row.try_get("", "version")?;
            measured.size_bytes = row.try_get("", "size_bytes")?;
            measured.counting_since = row.try_get("", "counting_since")?;
            measured.buffer_hit_ratio = row.try_get("", "buffer_hit_ratio")?;
            measured.pool.database_connections = row.try_get("", "connections")?;
            measured.pool.database_connections_max = row.try_get("", "connections_max")?;
        }
        let database = self.database();
        measured.tables =
            query_all(database, &TABLES.replace("SIZE", SIZE)).await?.iter().map(table).collect::<Result<_, _>>()?;
        measured.indexes = query_all(database, INDEXES).await?.iter().map(index).collect::<Result<_, _>>()?;
        match self.top_statements().await {
            Ok(Some(statements)) => measured.statements = statements,
            Ok(None) => measured.unknown.push(Unknown::new(
                "which statements take the most time",
                "pg_stat_statements is not installed: add it to shared_preload_libraries, restart PostgreSQL, and run \
                 CREATE EXTENSION pg_stat_statements;",
            )),
            Err(error) => {
                let why = format!("pg_stat_statements does not answer: {error}");
                measured.unknown.push(Unknown::new("which statements take the most time", why));
            }
        }
        Ok(())
    }

    /// What is shown of the tables all the time: asked apart from reads, as everything that watches, and without the
    /// sizes, so that it waits for no lock.
    pub(crate) async fn read_table_gauges(&self) -> Result<TableGauges, StoreError> {
        let database = self.reserved();
        let tables = query_all(database, &TABLES.replace("SIZE", "NULL::bigint"))
            .await?
            .iter()
            .map(table)
            .collect::<Result<_, _>>()?;
        let buffer_hit_ratio = match query_one(database, DATABASE).await? {
            Some(row) => row.try_get("", "buffer_hit_ratio")?,
            None => None,
        };
        Ok(TableGauges { tables, buffer_hit_ratio })
    }

    async fn top_statements(&self) -> Result<Option<Vec<StatementFigures>>, StoreError> {
        let installed = query_one(self.database(), HAS_STATEMENTS).await?;
        if !installed.is_some_and(|row| row.try_get("", "installed").unwrap_or(false)) {
            return Ok(None);
        }
        let sql = format!(
            "SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), {STATEMENT_CHARS_MAX}) AS query, calls, \
             mean_exec_time AS mean_ms, max_exec_time AS max_ms, total_exec_time AS total_ms FROM pg_stat_statements \
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             ORDER BY total_exec_time DESC LIMIT {STATEMENTS_MAX}"
        );
        let statements = query_all(self.database(), &sql).await?;
        Ok(Some(statements.iter().map(statement).collect::<Result<_, _>>()?))
    }
}

fn table(row: &QueryResult) -> Result<TableFigures, StoreError> {
    Ok(TableFigures {
        name: row.try_get("", "name")?,
        partitions: row.try_get("", "partitions")?,
        inserts: row.try_get("", "inserts")?,
        updates: row.try_get("", "updates")?,
        hot_updates: row.try_get("", "hot_updates")?,
        deletes: row.try_get("", "deletes")?,
        live: row.try_get("", "live")?,
        dead: row.try_get("", "dead")?,
        last_vacuum_at: row.try_get("", "last_vacuum_at")?,
        last_analyze_at: row.try_get("", "last_analyze_at")?,
        full_scans: row.try_get("", "full_scans")?,
        index_scans: row.try_get("", "index_scans")?,
        size_bytes: row.try_get("", "size_bytes")?,
    })
}

fn index(row: &QueryResult) -> Result<IndexFigures, StoreError> {
    Ok(IndexFigures {
        table: row.try_get("", "table_name")?,
        name: row.try_get("", "name")?,
        is_primary: row.try_get("", "is_primary")?,
        is_unique: row.try_get("", "is_unique")?,
        columns: row.try_get("", "columns")?,
        condition: row.try_get("", "condition")?,
        size_bytes: row.try_get("", "size_bytes")?,
        scans: row.try_get("", "scans")?,
    })
}

fn statement(row: &QueryResult) -> Result<StatementFigures, StoreError> {
    Ok(StatementFigures {
        sql: row.try_get("", "query")?,
        calls: row.try_get("", "calls")?,
        mean_ms: row.try_get("", "mean_ms")?,
        max_ms: row.try_get("", "max_ms")?,
        total_ms: row.try_get("", "total_ms")?,
    })
}
