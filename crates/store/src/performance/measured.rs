//! What a report is made of: figures, and nothing that judges them.

use multicredit_domain::Timestamp;
use serde::{Deserialize, Serialize};

/// Everything that was measured at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// When.
    pub at: Timestamp,
    /// `postgres` or `sqlite`.
    pub engine: String,
    /// The engine's own version.
    pub version: String,
    /// How large the database is, in bytes.
    pub size_bytes: Option<i64>,
    /// Since when the engine counts scans and changes; `None` if since it was made, or if it does not count.
    pub counting_since: Option<Timestamp>,
    /// How long a consumption takes.
    pub consumption: Option<Latency>,
    /// The critical queries.
    pub queries: Vec<QueryFigures>,
    /// The tables, by name.
    pub tables: Vec<TableFigures>,
    /// The indexes, by table and name.
    pub indexes: Vec<IndexFigures>,
    /// The share of blocks that the engine found in its own memory.
    pub buffer_hit_ratio: Option<f64>,
    /// Our caches.
    pub caches: Vec<CacheFigures>,
    /// The pool of connections.
    pub pool: PoolFigures,
    /// The statements that took the most time, where the engine counts them.
    pub statements: Vec<StatementFigures>,
    /// What this engine, or this database, cannot tell.
    pub unknown: Vec<Unknown>,
}

/// How long consumptions take, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Where it was measured.
    pub source: String,
    /// How many consumptions were measured.
    pub count: u64,
    /// On average.
    pub mean_ms: f64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
}

/// A critical query and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryFigures {
    /// What it is called here.
    pub name: String,
    /// What asks it.
    pub purpose: String,
    /// Its text, as it was run.
    pub sql: String,
    /// How long it took to run, in milliseconds.
    pub execution_ms: Option<f64>,
    /// How long it took to plan, in milliseconds.
    pub planning_ms: Option<f64>,
    /// How many rows it answered.
    pub rows: Option<i64>,
    /// The indexes that it used.
    pub indexes: Vec<String>,
    /// The tables that it read from one end to the other.
    pub full_scans: Vec<String>,
    /// Why it could not be run.
    pub error: Option<String>,
}

/// A table. What an engine does not count is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TableFigures {
    /// Its name; a partitioned table is one.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i64,
    /// Rows inserted.
    pub inserts: Option<i64>,
    /// Rows updated.
    pub updates: Option<i64>,
    /// Of those, updated without touching an index.
    pub hot_updates: Option<i64>,
    /// Rows deleted.
    pub deletes: Option<i64>,
    /// Rows that are there, as the engine estimates.
    pub live: Option<i64>,
    /// Rows that nobody sees any more and whose place is not free yet.
    pub dead: Option<i64>,
    /// When it was last vacuumed, by hand or by itself.
    pub last_vacuum_at: Option<Timestamp>,
    /// When its statistics were last taken.
    pub last_analyze_at: Option<Timestamp>,
    /// How often it was read from one end to the other.
    pub full_scans: Option<i64>,
    /// How often it was read by an index.
    pub index_scans: Option<i64>,
    /// Its size with indexes, in bytes.
    pub size_bytes: Option<i64>,
}

impl TableFigures {
    /// The share of updates that touched no index; `None` without updates.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn hot_ratio(&self) -> Option<f64> {
        let (hot, updates) = (self.hot_updates?, self.updates?);
        (updates > 0).then(|| hot as f64 / updates as f64)
    }

    /// The share of reads that went by an index; `None` without reads.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn index_ratio(&self) -> Option<f64> {
        let (by_index, full) = (self.index_scans?, self.full_scans?);
        (by_index + full > 0).then(|| by_index as f64 / (by_index + full) as f64)
    }
}

/// An index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexFigures {
    /// The table.
    pub table: String,
    /// The name.
    pub name: String,
    /// Whether it is the primary key.
    pub is_primary: bool,
    /// Whether it keeps values unique.
    pub is_unique: bool,
    /// Its columns, in order.
    pub columns: Vec<String>,
    /// Which rows are in it, if not all.
    pub condition: Option<String>,
    /// Its size, in bytes.
    pub size_bytes: Option<i64>,
    /// How often it was used.
    pub scans: Option<i64>,
}

/// A cache of ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheFigures {
    /// Its name.
    pub name: String,
    /// How often it had what was looked for.
    pub hits: u64,
    /// How often it had not.
    pub misses: u64,
}

impl CacheFigures {
    /// The share of look-ups that found what they looked for; `None` without any.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn hit_ratio(&self) -> Option<f64> {
        let lookups = self.hits + self.misses;
        (lookups > 0).then(|| self.hits as f64 / lookups as f64)
    }
}

/// The pool of connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolFigures {
    /// How many connections there may be.
    pub max: u32,
    /// How many are open.
    pub open: u32,
    /// How many of those nobody uses.
    pub idle: u32,
    /// How long 95 of 100 reads waited for one at most, in milliseconds.
    pub wait_p95_ms: Option<f64>,
    /// How often a read was refused for want of one.
    pub timeouts: u64,
    /// How many connections the whole database has, whoever opened them.
    pub database_connections: Option<i64>,
    /// How many it may have.
    pub database_connections_max: Option<i64>,
}

/// A statement and what all its runs took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatementFigures {
    /// Its text, shortened, with placeholders for values.
    pub sql: String,
    /// How often it ran.
    pub calls: i64,
    /// How long a run took on average, in milliseconds.
    pub mean_ms: f64,
    /// How long the longest took, in milliseconds.
    pub max_ms: f64,
    /// How long all of them took, in milliseconds.
    pub total_ms: f64,
}

/// Something that cannot be told, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Unknown {
    pub(crate) fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}
