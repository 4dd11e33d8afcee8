//! The way to the pool of connections, for everything but the ledger.
//!
//! The pool has two shares, with a gate before each: reads, and a few connections *reserved* for what must be looked up
//! before anybody can spend (keys, and names of organizations). So reads that hold all of their connections keep neither
//! the ledger's writer, whose connection is its own, nor its callers waiting. The gate is where waiting is measured and
//! where it ends: the pool itself says nothing of it.
//!
//! Behind a pooler in transaction mode (pgbouncer) consecutive statements may reach different sessions of the server.
//! There every statement runs in a transaction of its own, which begins by making the session ours: see [`preamble`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sea_orm::error::{ConnAcquireErr, DbErr};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, ExecResult, QueryResult, Statement,
    TransactionOptions, TransactionTrait,
};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgArguments;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tracing::Instrument as _;

use crate::config::StoreConfig;
use crate::sql::preamble;
use crate::stats::{PoolGauges, PoolShare, ShareStats, Stats};

/// How many connections are kept for what must be looked up before anybody can spend. Both look-ups are by a unique
/// index and remembered for seconds, so that two connections serve thousands of them a second.
pub const RESERVED_CONNECTIONS: u32 = 2;

/// A share of the pool. Cheap to clone; its clones are one share.
#[derive(Clone)]
pub(crate) struct Reader {
    pool: DatabaseConnection,
    gate: Arc<Semaphore>,
    timeout: Duration,
    share: PoolShare,
    stats: Arc<Stats>,
    /// What a transaction begins with, where no session is ours.
    preamble: Option<Arc<str>>,
}

impl Reader {
    /// That share of the pool.
    pub(crate) fn new(pool: DatabaseConnection, share: PoolShare, config: &StoreConfig, stats: Arc<Stats>) -> Self {
        let connections = match share {
            PoolShare::Reads => config.max_connections,
            PoolShare::Reserved => RESERVED_CONNECTIONS,
        };
        let gate = Arc::new(Semaphore::new(connections as usize));
        let is_shared = config.pooler && pool.get_database_backend() == DbBackend::Postgres;
        let preamble = is_shared.then(|| preamble(config.statement_timeout).into());
        Self { pool, gate, timeout: config.acquire_timeout, share, stats, preamble }
    }

    /// Begins a transaction; the first of the answer must be kept as long as it lasts.
    pub(crate) async fn begin(
        &self,
        options: TransactionOptions,
    ) -> Result<(OwnedSemaphorePermit, DatabaseTransaction), DbErr> {
        let permit = self.permit().await?;
        let Some(preamble) = &self.preamble else {
            return Ok((permit, self.pool.begin_with_options(options).await?));
        };
        // sea-orm would prepare the statements that set these, before the session is ours. They must come first.
        let level = options.isolation_level.map(|level| format!("SET TRANSACTION ISOLATION LEVEL {level}; "));
        let mode = options.access_mode.map(|mode| format!("SET TRANSACTION {mode}; "));
        let sql = [level.as_deref().unwrap_or_default(), mode.as_deref().unwrap_or_default(), &**preamble].concat();
        let transaction = self.pool.begin().await?;
        transaction.execute_unprepared(&sql).await?;
        Ok((permit, transaction))
    }

    /// Whether the database answers.
    pub(crate) async fn ping(&self) -> Result<(), DbErr> {
        self.execute_unprepared("SELECT 1").await.map(drop)
    }

    /// The pool, for whoever has a permit.
    pub(crate) const fn pool(&self) -> &DatabaseConnection {
        &self.pool
    }

    /// Waits for a connection of this share to be free, with the errors of sqlx.
    pub(crate) async fn permit_of_sqlx(&self) -> Result<OwnedSemaphorePermit, sqlx::Error> {
        self.permit().await.map_err(|error| match error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => sqlx::Error::PoolTimedOut,
            _ => sqlx::Error::PoolClosed,
        })
    }

    /// Runs a statement of PostgreSQL past sea-orm, whose values know no arrays.
    pub(crate) async fn fetch_postgres(
        &self,
        sql: Arc<str>,
        arguments: PgArguments,
    ) -> Result<Vec<QueryResult>, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments);
        let Some(preamble) = self.preamble.clone() else {
            let _permit = self.permit_of_sqlx().await?;
            let found = query.fetch_all(self.pool.get_postgres_connection_pool()).await?;
            return Ok(found.into_iter().map(Into::into).collect());
        };
        let reader = self.clone();
        let task = async move {
            let _permit = reader.permit_of_sqlx().await?;
            let mut transaction = reader.pool.get_postgres_connection_pool().begin().await?;
            sqlx::raw_sql(AssertSqlSafe(preamble)).execute(&mut *transaction).await?;
            let found = query.fetch_all(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(found.into_iter().map(Into::into).collect())
        };
        tokio::spawn(task.in_current_span()).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    /// Waits for a connection of this share to be free.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, DbErr> {
        let stats: &ShareStats = self.stats.pool.share(self.share);
        match Arc::clone(&self.gate).try_acquire_owned() {
            Ok(permit) => {
                stats.wait.record(0);
                return Ok(permit);
            }
            Err(TryAcquireError::Closed) => return Err(closed()),
            Err(TryAcquireError::NoPermits) => {}
        }
        let started = Instant::now();
        // The gate is no database call: giving up waiting for it leaves nothing behind.
        let Ok(permit) = tokio::time::timeout(self.timeout, Arc::clone(&self.gate).acquire_owned()).await else {
            stats.timeouts.increment();
            return Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout));
        };
        stats.wait.record_duration(started.elapsed());
        permit.map_err(|_| closed())
    }

    /// Does one thing in a transaction of its own, and in a task of its own: a caller that hangs up must not leave the
    /// transaction open on a pooled connection.
    async fn in_own_transaction<T, F>(&self, work: F) -> Result<T, DbErr>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a DatabaseTransaction) -> BoxFuture<'a, Result<T, DbErr>> + Send + 'static,
    {
        let reader = self.clone();
        let task = async move {
            let (_permit, transaction) = reader.begin(TransactionOptions::default()).await?;
            match work(&transaction).await {
                Ok(value) => transaction.commit().await.map(|()| value),
                Err(error) => {
                    transaction.rollback().await?;
                    Err(error)
                }
            }
        };
        let task = tokio::spawn(task.in_current_span());
        task.await.unwrap_or_else(|error| Err(DbErr::Custom(error.to_string())))
    }
}

fn closed() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
}

#[async_trait::async_trait]
impl ConnectionTrait for Reader {
    fn get_database_backend(&self) -> DbBackend {
        self.pool.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        if self.preamble.is_some() {
            return self.in_own_transaction(move |own| async move { own.execute_raw(statement).await }.boxed()).await;
        }
        let _permit = self.permit().await?;
        self.pool.execute_raw(statement).await
    }

    /// Without parameters, which is one message and needs no transaction of its own anywhere.
    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let _permit = self.permit().await?;
        self.pool.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        if self.preamble.is_some() {
            return self.in_own_transaction(move |own| async move { own.query_one_raw(statement).await }.boxed()).await;
        }
        let _permit = self.permit().await?;
        self.pool.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        if self.preamble.is_some() {
            return self.in_own_transaction(move |own| async move { own.query_all_raw(statement).await }.boxed()).await;
        }
        let _permit = self.permit().await?;
        self.pool.query_all_raw(statement).await
    }
}

/// The pool as it is now.
pub(crate) fn gauges(pool: &DatabaseConnection, max: u32) -> PoolGauges {
    let (open, idle) = if pool.get_database_backend() == DbBackend::Postgres {
        let pool = pool.get_postgres_connection_pool();
        (pool.size(), pool.num_idle())
    } else {
        let pool = pool.get_sqlite_connection_pool();
        (pool.size(), pool.num_idle())
    };
    PoolGauges { max, open, idle: u32::try_from(idle).unwrap_or(u32::MAX).min(open) }
}
