//! How a store reaches its database.

use std::time::Duration;

use crate::clock::Clock;
use crate::error::StoreError;

/// Which database engine is behind the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// A file of this machine: the embedded default.
    Sqlite,
    /// A server.
    Postgres,
}

impl Engine {
    /// The engine that a database URL names.
    pub fn of_url(url: &str) -> Result<Self, StoreError> {
        match url.split(':').next() {
            Some("sqlite") => Ok(Self::Sqlite),
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            _ => Err(StoreError::Internal("DATABASE_URL must begin with sqlite: or postgres:".to_owned())),
        }
    }
}

/// Where the database is and how many connections may read from it.
#[derive(Clone)]
pub struct StoreConfig {
    /// `sqlite://...` or `postgres://...`.
    pub database_url: String,
    /// The most connections for reads and catalogue writes. Two more are reserved for what must be looked up before
    /// anybody can spend, and the ledger writer has one of its own, so that reads starve neither.
    pub max_connections: u32,
    /// How long a read waits for a connection.
    pub acquire_timeout: Duration,
    /// How long PostgreSQL works on one statement of a read.
    pub statement_timeout: Duration,
    /// Whether PostgreSQL is behind a pooler in transaction mode (pgbouncer), where no session is ours: nothing may rest
    /// on what an earlier statement left in it.
    pub pooler: bool,
    /// Whether consumptions may take the express path. It means the same and is faster; without it everything takes the
    /// portable path, against which it is measured and tested.
    pub express: bool,
    /// How many writers move credits at once on PostgreSQL, each with a connection of its own, beside one that takes half of
    /// each large batch. SQLite takes one writer.
    pub writers: usize,
    /// Where the second level of the caches is, `redis://...` or `rediss://...`, if there is one.
    pub redis_url: Option<String>,
    /// How many months of history are kept beside the present one, at least
    /// [`RETENTION_MONTHS_MIN`](crate::RETENTION_MONTHS_MIN); `None` keeps everything.
    pub retention_months: Option<u32>,
    /// Whether every statement is logged when it was run, with its text, at the level of debugging. It costs, and its texts
    /// are long: for whoever wants to know what is asked.
    pub log_statements: bool,
    /// What time it is. Leave the default, the database's clock, everywhere but in tests.
    pub clock: Clock,
}

impl StoreConfig {
    /// Connections for reads: two cores serve few more at once, and every idle one costs the server memory.
    pub const DEFAULT_MAX_CONNECTIONS: u32 = 10;
    /// A read that has waited this long is better refused than answered.
    pub const DEFAULT_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

    /// One writer was as fast as two over many organizations, and faster on one organization and for a lone client
    /// (`docs/PERFORMANCE.md`): two make smaller batches and wait for each other at the rows of a busy organization.
    pub const DEFAULT_WRITERS: usize = 1;

    /// A report may take longer than a batch; nothing that a request asks may take this long.
    pub const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);

    /// The configuration for that database, everything else as by default.
    pub fn new(database_url: impl Into<String>) -> Self {
        Self {
            database_url: database_url.into(),
            max_connections: Self::DEFAULT_MAX_CONNECTIONS,
            acquire_timeout: Self::DEFAULT_ACQUIRE_TIMEOUT,
            statement_timeout: Self::DEFAULT_STATEMENT_TIMEOUT,
            pooler: false,
            express: true,
            writers: Self::DEFAULT_WRITERS,
            redis_url: None,
            retention_months: None,
            log_statements: false,
            clock: Clock::default(),
        }
    }
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URLs may hold passwords.
        f.debug_struct("StoreConfig").field("max_connections", &self.max_connections).finish_non_exhaustive()
    }
}
