//! A connection of the ledger's own, outside every pool.
//!
//! A pool would test it, lend it and take it back around every batch; and a pooled connection whose `begin` was
//! cancelled can keep a transaction open that swallows later writes. This one belongs to one task, which never drops a
//! future of it half-way except together with the connection.

use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::QueryResult;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, PgConnection, SqliteConnection};

use super::{Direct, Rows, Statement, checkpoint};
use crate::config::{Engine, StoreConfig};
use crate::error::leaves_doubt;
use crate::ledger::{PRICE_LOCK, limits};

/// What connections of the pool are called in `pg_stat_activity`.
const POOL_NAME: &str = "multicredit";

/// What the ledger's connection is called there.
const LEDGER_NAME: &str = "multicredit ledger";

/// How the ledger's statements are planned: once for a connection (to plan the express path's costs more than it does), for
/// what they are, a millisecond of look-ups, and however small a table was then.
const PLANNING: [(&str, &str); 4] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("enable_seqscan", "off"),
];

/// How statements of the pool are planned: once for a connection, whatever their values are, and however small a table was
/// then. Each asks for what an index finds, and a plan over a log of many months takes several times as long to make as to
/// follow.
const PLANNING_POOL: [(&str, &str); 3] =
    [("plan_cache_mode", "force_generic_plan"), ("jit", "off"), ("enable_seqscan", "off")];

static BEGIN: LazyLock<String> = LazyLock::new(|| format!("BEGIN; SELECT pg_advisory_xact_lock_shared({PRICE_LOCK})"));

/// The same where the session is lent, in as many round trips: for the ledger, and for jobs.
static BEGIN_LENT: LazyLock<[String; 2]> =
    LazyLock::new(|| [limits::LEDGER_STATEMENT_TIMEOUT, limits::JOB_STATEMENT_TIMEOUT].map(begin_lent));

fn begin_lent(statement_timeout: Duration) -> String {
    let planning = PLANNING.map(|(name, value)| format!("SET LOCAL {name} = {value}; ")).concat();
    format!("BEGIN; {}; {planning}SELECT pg_advisory_xact_lock_shared({PRICE_LOCK})", preamble(statement_timeout))
}

/// A connection to either engine. To SQLite there may be a second one beside it, once the ledger has spent over it.
pub(crate) enum Connection {
    Postgres(PgConnection, Session),
    Sqlite(SqliteConnection, Beside),
}

/// What there may be beside a connection to SQLite.
pub(crate) struct Beside {
    direct: Option<Direct>,
    /// Whether its statements are logged.
    is_logged: bool,
}

/// Whose session of the server is behind a connection to PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    /// Ours, for as long as the connection lives.
    Own(Backend),
    /// A pooler's, which lends one to every transaction.
    Lent(Lent),
}

/// What has to be remembered of sessions that are lent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lent {
    /// Whether a transaction is open, and so there is a session.
    is_open: bool,
    /// Whether statements may take as long as a job of the background may.
    is_patient: bool,
}

/// The server's process behind a connection to PostgreSQL. The number alone would be given to another one some day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backend {
    pid: i32,
    started_at: DateTime<Utc>,
}

/// How to connect to a SQLite file: write-ahead log, every commit on disk before it is answered.
pub(crate) fn connect_options_sqlite(config: &StoreConfig) -> Result<SqliteConnectOptions, sqlx::Error> {
    let options = SqliteConnectOptions::from_str(&config.database_url)?
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(limits::SQLITE_BUSY_TIMEOUT)
        // A statement that writes many rows keeps what it changes, to take it back by itself: in memory rather than in a file
        // of its own, which was a tenth of the time that a batch of consumptions took.
        .pragma("temp_store", "MEMORY")
        .pragma("wal_autocheckpoint", checkpoint::LONG.to_string());
    Ok(with_logging(options, config))
}

/// The options with statements logged as the configuration says. What is slow shows in the metrics and, on PostgreSQL, in
/// the server's log.
fn with_logging<O: ConnectOptions>(options: O, config: &StoreConfig) -> O {
    if config.log_statements { options } else { options.disable_statement_logging() }
}

/// How the pool connects to PostgreSQL.
pub(crate) fn connect_options_pool(config: &StoreConfig) -> Result<PgConnectOptions, sqlx::Error> {
    let options = connect_options_postgres(config, POOL_NAME)?;
    Ok(if config.pooler { options } else { options.options(PLANNING_POOL) })
}

/// How to connect to PostgreSQL, with a deadline of the server's own for everything.
///
/// Behind a pooler in transaction mode a session's settings would be somebody else's, and it takes none; nor may a
/// statement be prepared once and used later. There every transaction begins with a [`preamble`].
pub(crate) fn connect_options_postgres(
    config: &StoreConfig,
    application_name: &str,
) -> Result<PgConnectOptions, sqlx::Error> {
    let options = PgConnectOptions::from_str(&config.database_url)?.application_name(application_name);
    let options = with_logging(options, config);
    if config.pooler {
        // pgbouncer takes no setting that it does not know; PostgreSQL has written floats exactly since version 12.
        return Ok(options.statement_cache_capacity(0).extra_float_digits(None));
    }
    Ok(options.options(deadlines(config.statement_timeout)))
}

/// The deadlines of the server's own, as settings.
fn deadlines(statement_timeout: Duration) -> [(&'static str, String); 3] {
    let ms = |duration: Duration| format!("{}ms", duration.as_millis());
    [
        ("lock_timeout", ms(limits::LOCK_TIMEOUT)),
        ("statement_timeout", ms(statement_timeout)),
        ("idle_in_transaction_session_timeout", ms(limits::IDLE_IN_TRANSACTION_TIMEOUT)),
    ]
}

/// What a transaction begins with behind a pooler in transaction mode.
///
/// The session that it has got may hold statements that another client prepared, under the names that ours are about to
/// get (without a cache, sqlx still names them and does not close them). And the deadlines hold for this transaction
/// alone, since the session will serve others.
pub(crate) fn preamble(statement_timeout: Duration) -> String {
    let settings = deadlines(statement_timeout).map(|(name, value)| format!("; SET LOCAL {name} = '{value}'"));
    format!("DEALLOCATE ALL{}", settings.concat())
}

impl Connection {
    /// Connects. On PostgreSQL with plans that stay good while tables grow under them (a plan made over an empty
    /// table is kept for as long as the connection lives).
    pub(crate) async fn open(engine: Engine, config: &StoreConfig) -> Result<Self, sqlx::Error> {
        match engine {
            Engine::Sqlite => {
                let beside = Beside { direct: None, is_logged: config.log_statements };
                connect_options_sqlite(config)?.connect().await.map(|connection| Self::Sqlite(connection, beside))
            }
            Engine::Postgres => {
                let options = connect_options_postgres(config, LEDGER_NAME)?;
                if config.pooler {
                    return Ok(Self::Postgres(options.connect().await?, Session::Lent(Lent::default())));
                }
                let deadlines = deadlines(limits::LEDGER_STATEMENT_TIMEOUT);
                let mut connection = options.options(PLANNING).options(deadlines).connect().await?;
                let backend = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()";
                let (pid, started_at) = sqlx::query_as(backend).fetch_one(&mut connection).await?;
                Ok(Self::Postgres(connection, Session::Own(Backend { pid, started_at })))
            }
        }
    }

    /// Lets its statements take as long as a job of the background may.
    pub(crate) async fn be_patient(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(connection, Session::Own(_)) => {
                let patience = format!("SET statement_timeout = {}", limits::JOB_STATEMENT_TIMEOUT.as_millis());
                sqlx::raw_sql(AssertSqlSafe(patience)).execute(connection).await.map(drop)
            }
            Self::Postgres(_, Session::Lent(lent)) => {
                lent.is_patient = true;
                Ok(())
            }
            Self::Sqlite(..) => Ok(()),
        }
    }

    /// The server's process behind this connection, where there is one and it is ours. One that a pooler lent may be
    /// somebody else's by now. A commit is then only ever sent on locks that are held, so that looking under the same
    /// locks is enough to know what became of it.
    pub(crate) const fn backend(&self) -> Option<Backend> {
        match self {
            Self::Postgres(_, Session::Own(backend)) => Some(*backend),
            Self::Postgres(_, Session::Lent(_)) | Self::Sqlite(..) => None,
        }
    }

    /// Begins a transaction around a statement that has none, where that is needed; answers whether it did. It is where
    /// every transaction has a session of the server that is not ours.
    pub(crate) async fn begin_around(&mut self) -> Result<bool, sqlx::Error> {
        let is_needed = matches!(self, Self::Postgres(_, Session::Lent(Lent { is_open: false, .. })));
        if is_needed {
            self.begin().await?;
        }
        Ok(is_needed)
    }

    /// Ends what [`begin_around`](Self::begin_around) began. On a connection that is lost there is nothing to roll back.
    pub(crate) async fn end_around<T>(
        &mut self,
        is_needed: bool,
        done: Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        match &done {
            Ok(_) if is_needed => self.commit().await?,
            Err(error) if is_needed && !leaves_doubt(error) => self.rollback().await?,
            _ => {}
        }
        done
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
            Self::Postgres(connection, session) => {
                let begin = match session {
                    Session::Own(_) => &*BEGIN,
                    Session::Lent(lent) => {
                        lent.is_open = true;
                        &BEGIN_LENT[usize::from(lent.is_patient)]
                    }
                };
                sqlx::raw_sql(AssertSqlSafe(begin.as_str())).execute(connection).await.map(drop)
            }
            // IMMEDIATE: a transaction that reads first and then writes fails at once if another wrote in between.
            Self::Sqlite(..) => self.run("BEGIN IMMEDIATE").await,
        }
    }

    /// Commits.
    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.finish("COMMIT").await
    }

    /// Rolls back.
    pub(crate) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.finish("ROLLBACK").await
    }

    async fn finish(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        self.run(sql).await?;
        if let Self::Postgres(_, Session::Lent(lent)) = self {
            lent.is_open = false;
        }
        Ok(())
    }

    /// Runs a statement as it stands, outside a transaction if none was begun.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(connection, _) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
            Self::Sqlite(connection, _) => sqlx::query(sql).execute(connection).await.map(drop),
        }
    }

    /// Runs a statement over `rows` and answers what it returns.
    pub(crate) async fn query(&mut self, statement: &Statement, rows: &Rows) -> Result<Vec<QueryResult>, sqlx::Error> {
        let is_needed = self.begin_around().await?;
        let found = self.query_here(statement, rows).await;
        self.end_around(is_needed, found).await
    }

    async fn query_here(&mut self, statement: &Statement, rows: &Rows) -> Result<Vec<QueryResult>, sqlx::Error> {
        match self {
            Self::Postgres(connection, _) => {
                let arguments = statement.bind_postgres(rows)?;
                let query = sqlx::query_with(AssertSqlSafe(statement.postgres.clone()), arguments);
                Ok(query.fetch_all(connection).await?.into_iter().map(Into::into).collect())
            }
            Self::Sqlite(connection, _) => {
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
        let is_needed = self.begin_around().await?;
        let touched = self.execute_here(statement, rows).await;
        self.end_around(is_needed, touched).await
    }

    async fn execute_here(&mut self, statement: &Statement, rows: &Rows) -> Result<u64, sqlx::Error> {
        match self {
            Self::Postgres(connection, _) => {
                let arguments = statement.bind_postgres(rows)?;
                let query = sqlx::query_with(AssertSqlSafe(statement.postgres.clone()), arguments);
                Ok(query.execute(connection).await?.rows_affected())
            }
            Self::Sqlite(connection, _) => {
                let query = sqlx::query(AssertSqlSafe(statement.sqlite.clone())).bind(rows.to_json());
                Ok(query.execute(connection).await?.rows_affected())
            }
        }
    }

    /// The connection to the same file that has no thread of its own, opened if there is none; `None` on PostgreSQL, and
    /// where there is no file.
    pub(crate) async fn direct(&mut self) -> Result<Option<&mut Direct>, sqlx::Error> {
        let Self::Sqlite(connection, beside) = self else { return Ok(None) };
        if beside.direct.is_none() {
            // Whatever the URL said: the file that is open.
            let file: String = sqlx::query_scalar("SELECT file FROM pragma_database_list WHERE name = 'main'")
                .fetch_one(connection)
                .await?;
            if file.is_empty() {
                return Ok(None);
            }
            beside.direct = Some(Direct::open(&file, beside.is_logged)?);
        }
        Ok(beside.direct.as_mut())
    }

    /// Closes what [`direct`](Self::direct) opened, to be opened anew.
    pub(crate) fn drop_direct(&mut self) {
        if let Self::Sqlite(_, beside) = self {
            beside.direct = None;
        }
    }

    /// Closes it, telling the server.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(connection, _) => connection.close().await,
            Self::Sqlite(connection, beside) => {
                drop(beside);
                connection.close().await
            }
        }
    }
}
