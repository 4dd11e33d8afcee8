//! Exclusion on PostgreSQL: a session's advisory lock.
//!
//! A session's lock and not a transaction's, because a migration may have to run outside of any transaction
//! (`CREATE INDEX CONCURRENTLY`). Three things follow:
//!
//! - The lock belongs to a connection, so the migrations run on that very connection: in a pool they might be on
//!   another one and go on when the lock is long lost. A pool of one connection of its own is opened for the run, with
//!   the options of the pool given. It never replaces that connection: should it break, the migration fails.
//! - The lock is polled for. A session that waits inside `pg_advisory_lock` holds a snapshot, and
//!   `CREATE INDEX CONCURRENTLY` of the session that has the lock would wait for that snapshot: a deadlock.
//! - A transaction pooler between (pgbouncer) would hand the lock to somebody else: migrate over a direct connection.
//!
//! Servers work meanwhile. A statement that waits for a table's lock makes everybody queue behind it, so it waits for
//! less long than they bear, gives up, lets them pass, and is tried again.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sea_orm_migration::{
    DbErr,
    sea_orm::{
        ConnectionTrait, DatabaseConnection, RuntimeErr, Statement, TryGetable,
        sqlx::{self, error::DatabaseError, postgres::PgPoolOptions},
    },
};
use tokio::time::{Instant, sleep};

use crate::{
    MigrationError,
    task::{State, Task, names, steps},
};

/// The key of the advisory lock: "mcredit" in ASCII. Keys are per database and shared with whoever else uses it.
const LOCK_KEY: i64 = 0x006d_6372_6564_6974;

/// How often a waiting process asks for the lock.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How long opening the connection may take, and how long the pool tries to replace a lost one before it says so.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to leave the tables to others before a migration is tried again that could not get a lock: long enough that
/// whoever queued behind it is done.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// `lock_not_available`, and `deadlock_detected`: the migration was rolled back, and may succeed the next time.
const CONTENTION_CODES: [&str; 2] = ["55P03", "40P01"];

/// How the session that migrates differs from others.
///
/// - `lock_timeout`: half of what servers wait for a lock, so that none of their statements fails because it queued.
/// - `statement_timeout`: whatever the role has, an index on a large table may take its time.
/// - `idle_in_transaction_session_timeout`: a process that was stopped in the middle must not keep its locks.
/// - `tcp_keepalives_*`: nor may a machine that vanished, whose silence the server would bear for two hours.
const SESSION_SETTINGS: &str = "
    SET lock_timeout = '1s';
    SET statement_timeout = 0;
    SET idle_in_transaction_session_timeout = '60s';
    SET tcp_keepalives_idle = 20;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 4;
";

/// Does `task` alone.
///
/// # Errors
///
/// [`MigrationError::Busy`] if the lock was not to be had within `wait_max`, otherwise what the task answers.
pub async fn run(db: &DatabaseConnection, task: Task, wait_max: Duration) -> Result<Vec<String>, MigrationError> {
    if task.is_done(db).await? {
        return Ok(Vec::new());
    }
    let session = open_session(db).await?;
    let outcome = match lock(&session, wait_max).await {
        Ok(()) => {
            let outcome = run_with_patience(&session, task, wait_max).await;
            if outcome.is_ok() {
                unlock(&session).await;
            }
            outcome
        }
        Err(error) => Err(error),
    };
    // Closing ends the session and with it the lock, whatever failed before.
    if let Err(error) = session.close().await {
        tracing::warn!(%error, "closing the connection that migrated failed");
    }
    outcome
}

/// Does `task`; where it is to apply what is pending, again and again while others hold locks that it needs, for at most
/// `wait_max`. What it has applied stays applied. To revert is not tried again: it would revert more than was asked for.
async fn run_with_patience(
    session: &DatabaseConnection,
    task: Task,
    wait_max: Duration,
) -> Result<Vec<String>, MigrationError> {
    if task != Task::Up {
        return task.run(session).await;
    }
    let deadline = Instant::now() + wait_max;
    let pending = names(&steps(session).await?, State::Pending);
    loop {
        match task.run(session).await {
            Err(MigrationError::Database(error)) if is_contention(&error) && Instant::now() < deadline => {
                tracing::info!(%error, "others hold a lock that a migration needs: it is tried again");
                sleep(RETRY_PAUSE).await;
            }
            outcome => return outcome.map(|_| pending),
        }
    }
}

fn is_contention(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| CONTENTION_CODES.contains(&&*code))
}

/// Opens a pool of exactly one connection, to the database and the schema that `db` uses.
async fn open_session(db: &DatabaseConnection) -> Result<DatabaseConnection, MigrationError> {
    // The search path may have been set by a callback of the given pool, which its options do not tell.
    let show = Statement::from_string(db.get_database_backend(), "SHOW search_path");
    let search_path: String = query_value(db, show).await?;

    let options = db.get_postgres_connection_pool().connect_options().as_ref().clone();
    let opened = AtomicBool::new(false);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |_, _| {
            let is_replacement = opened.swap(true, Ordering::Relaxed);
            Box::pin(async move {
                if is_replacement {
                    return Err(sqlx::Error::Protocol("the connection that held the migration lock was lost".into()));
                }
                Ok(())
            })
        })
        .connect_with(options.application_name("multicredit-migration"))
        .await?;

    let session = DatabaseConnection::from(pool);
    session.execute_unprepared(SESSION_SETTINGS).await?;
    session
        .query_one_raw(Statement::from_sql_and_values(
            session.get_database_backend(),
            "SELECT set_config('search_path', $1, false)",
            [search_path.into()],
        ))
        .await?;
    Ok(session)
}

async fn lock(session: &DatabaseConnection, wait_max: Duration) -> Result<(), MigrationError> {
    let deadline = Instant::now() + wait_max;
    let mut is_first_attempt = true;
    while !query_value::<bool>(session, advisory(session, "SELECT pg_try_advisory_lock($1)")).await? {
        if Instant::now() >= deadline {
            return Err(MigrationError::Busy(wait_max));
        }
        if is_first_attempt {
            tracing::info!("another process is migrating this database: waiting for it");
            is_first_attempt = false;
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Gives the lock back. The end of the session would do that, too; but only the answer tells whether the lock was still
/// there.
async fn unlock(session: &DatabaseConnection) {
    match query_value(session, advisory(session, "SELECT pg_advisory_unlock($1)")).await {
        Ok(true) => {}
        Ok(false) => tracing::warn!(
            "the session did not hold the migration lock any more: is a transaction pooler between this process and \
             PostgreSQL?"
        ),
        Err(error) => tracing::warn!(%error, "giving the migration lock back failed"),
    }
}

fn advisory(session: &DatabaseConnection, sql: &str) -> Statement {
    Statement::from_sql_and_values(session.get_database_backend(), sql, [LOCK_KEY.into()])
}

/// The one value of a query that always answers one row of one column.
async fn query_value<T: TryGetable>(db: &DatabaseConnection, statement: Statement) -> Result<T, DbErr> {
    let sql = statement.sql.clone();
    let row = db.query_one_raw(statement).await?.ok_or(DbErr::RecordNotFound(sql))?;
    row.try_get_by_index(0)
}
