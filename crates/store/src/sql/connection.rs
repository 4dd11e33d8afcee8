//! A connection of the ledger's own, outside every pool.
//!
//! A pool would test it, lend it and take it back around every batch; and a pooled connection whose `begin` was
//! cancelled can keep a transaction open that swallows later writes. This one belongs to one task, which never drops a
//! future of it half-way except together with the connection.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::QueryResult;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, SqliteConnection};

use super::{Rows, Statement};
use crate::config::Engine;
use crate::ledger::{PRICE_LOCK, limits};

/// A connection to either engine.
pub(crate) enum Connection {
    Postgres(PgConnection, Backend),
    Sqlite(SqliteConnection),
}

/// The server's process behind a connection to PostgreSQL. The number alone would be given to another one some day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backend {
    pid: i32,
    started_at: DateTime<Utc>,
}

/// How to connect to a SQLite file: write-ahead log, every commit on disk before it is answered.
pub(crate) fn connect_options_sqlite(url: &str) -> Result<SqliteConnectOptions, sqlx::Error> {
    Ok(SqliteConnectOptions::from_str(url)?
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(limits::SQLITE_BUSY_TIMEOUT)
        .disable_statement_logging())
}

/// How to connect to PostgreSQL, with a deadline of the server's own for everything.
pub(crate) fn connect_options_postgres(url: &str, application_name: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let ms = |duration: Duration| format!("{}ms", duration.as_millis());
    Ok(PgConnectOptions::from_str(url)?
        .application_name(application_name)
        .options([
            ("lock_timeout", ms(limits::LOCK_TIMEOUT)),
            ("statement_timeout", ms(limits::STATEMENT_TIMEOUT)),
            ("idle_in_transaction_session_timeout", ms(limits::IDLE_IN_TRANSACTION_TIMEOUT)),
        ])
        .disable_statement_logging())
}

impl Connection {
    /// Connects. On PostgreSQL with plans that stay good while tables grow under them (a plan made over an empty
    /// table is kept for as long as the connection lives).
    pub(crate) async fn open(engine: Engine, url: &str) -> Result<Self, sqlx::Error> {
        match engine {
            Engine::Sqlite => connect_options_sqlite(url)?.connect().await.map(Self::Sqlite),
            Engine::Postgres => {
                let options = connect_options_postgres(url, "multicredit ledger")?.options([
                    ("jit", "off"),
                    ("max_parallel_workers_per_gather", "0"),
                    ("enable_seqscan", "off"),
                    ("statement_timeout", limits::LEDGER_STATEMENT_TIMEOUT_MS),
                ]);
                let mut connection = options.connect().await?;
                let backend = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()";
                let (pid, started_at) = sqlx::query_as(backend).fetch_one(&mut connection).await?;
                Ok(Self::Postgres(connection, Backend { pid, started_at }))
            }
        }
    }

    /// Lets its statements take as long as a job of the background may.
    pub(crate) async fn be_patient(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(connection, _) => {
                let patience = format!("SET statement_timeout = {}", limits::JOB_STATEMENT_TIMEOUT.as_millis());
                sqlx::raw_sql(AssertSqlSafe(patience)).execute(connection).await.map(drop)
            }
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// The server's process behind this connection, where there is one.
    pub(crate) const fn backend(&self) -> Option<Backend> {
        match self {
            Self::Postgres(_, backend) => Some(*backend),
            Self::Sqlite(_) => None,
        }
    }

    /// Ends what is left of a lost connection on the server, and waits until it is gone: whatever it still had to do is
    /// done or never will be.
    pub(crate) async fn end(&mut self, lost: Backend) -> Result<(), sqlx::Error> {
        if let Self::Postgres(connection, _) = self {
            let end =
                "SELECT pg_terminate_backend(pid, $3) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2";
            let wait_ms = i64::try_from(limits::END_BACKEND_WAIT.as_millis()).unwrap_or(i64::MAX);
            let query = sqlx::query_scalar(end).bind(lost.pid).bind(lost.started_at).bind(wait_ms);
            // No row: it is gone. False: it was told and is still there, and may still do what it was about to.
            let ended: Option<bool> = query.fetch_optional(connection).await?;
            if ended == Some(false) {
                return Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
            }
        }
        Ok(())
    }

    /// Begins a transaction that will write. On PostgreSQL it holds off changes of prices from here on: that lock comes
    /// before those of any account, on every path, or two writers and a change of prices could wait in a circle.
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(connection, _) => {
                let begin = AssertSqlSafe(format!("BEGIN; SELECT pg_advisory_xact_lock_shared({PRICE_LOCK})"));
                sqlx::raw_sql(begin).execute(connection).await.map(drop)
            }
            // IMMEDIATE: a transaction that reads first and then writes fails at once if another wrote in between.
            Self::Sqlite(_) => self.run("BEGIN IMMEDIATE").await,
        }
    }

    /// Commits.
    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.run("COMMIT").await
    }

    /// Rolls back.
    pub(crate) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.run("ROLLBACK").await
    }

    /// Runs a statement as it stands, outside a transaction if none was begun.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(connection, _) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
            Self::Sqlite(connection) => sqlx::query(sql).execute(connection).await.map(drop),
        }
    }

    /// Runs a statement over `rows` and answers what it returns.
    pub(crate) async fn query(&mut self, statement: &Statement, rows: &Rows) -> Result<Vec<QueryResult>, sqlx::Error> {
        match self {
            Self::Postgres(connection, _) => {
                let arguments = rows.bind_postgres().map_err(sqlx::Error::Encode)?;
                let query = sqlx::query_with(AssertSqlSafe(statement.postgres.clone()), arguments);
                Ok(query.fetch_all(connection).await?.into_iter().map(Into::into).collect())
            }
            Self::Sqlite(connection) => {
                let query = sqlx::query(AssertSqlSafe(statement.sqlite.clone())).bind(rows.to_json());
                Ok(query.fetch_all(connection).await?.into_iter().map(Into::into).collect())
            }
        }
    }

    /// Runs a statement over `rows` that returns nothing, unless there are none, and answers how many rows it touched.
    pub(crate) async fn execute(&mut self, statement: &Statement, rows: &Rows) -> Result<u64, sqlx::Error> {
        if rows.is_empty() {
            return Ok(0);
        }
        match self {
            Self::Postgres(connection, _) => {
                let arguments = rows.bind_postgres().map_err(sqlx::Error::Encode)?;
                let query = sqlx::query_with(AssertSqlSafe(statement.postgres.clone()), arguments);
                Ok(query.execute(connection).await?.rows_affected())
            }
            Self::Sqlite(connection) => {
                let query = sqlx::query(AssertSqlSafe(statement.sqlite.clone())).bind(rows.to_json());
                Ok(query.execute(connection).await?.rows_affected())
            }
        }
    }

    /// Closes it, telling the server.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(connection, _) => connection.close().await,
            Self::Sqlite(connection) => connection.close().await,
        }
    }
}
