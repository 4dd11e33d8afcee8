//! Exclusion on SQLite: the file's own write lock.
//!
//! The whole task runs in one transaction that takes the write lock when it begins. SQLite's DDL is transactional, so a
//! process that dies halfway leaves what was there before; and a transaction that only took the lock when it first
//! writes (the default) could have read what another process has changed since, and would fail instead of waiting.

use std::time::Duration;

use sea_orm_migration::{
    DbErr,
    sea_orm::{
        DatabaseConnection, RuntimeErr, SqliteTransactionMode, TransactionOptions, TransactionTrait,
        sqlx::error::DatabaseError,
    },
};
use tokio::time::{Instant, sleep};

use crate::{MigrationError, task::Task};

/// How long to sleep between attempts. Each attempt itself already waits for the connection's `busy_timeout`.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// `SQLITE_BUSY` and `SQLITE_LOCKED`: another connection has the lock. They are the low byte of the extended codes.
const BUSY_CODES: [i32; 2] = [5, 6];

/// Does `task` alone.
///
/// # Errors
///
/// [`MigrationError::Busy`] if the write lock was not to be had within `wait_max`, otherwise what the task answers.
pub async fn run(db: &DatabaseConnection, task: Task, wait_max: Duration) -> Result<Vec<String>, MigrationError> {
    let deadline = Instant::now() + wait_max;
    let mut is_first_attempt = true;
    loop {
        match attempt(db, task).await {
            Err(MigrationError::Database(error)) if is_busy(&error) => {
                if Instant::now() >= deadline {
                    return Err(MigrationError::Busy(wait_max));
                }
                if is_first_attempt {
                    tracing::info!("another process is writing this database: waiting for it");
                    is_first_attempt = false;
                }
                sleep(RETRY_INTERVAL).await;
            }
            outcome => return outcome,
        }
    }
}

async fn attempt(db: &DatabaseConnection, task: Task) -> Result<Vec<String>, MigrationError> {
    // Commands that find nothing to do must not wait for a server that is writing.
    if task.is_done(db).await? {
        return Ok(Vec::new());
    }
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = db.begin_with_options(options).await?;
    match task.run(&transaction).await {
        Ok(names) => {
            transaction.commit().await?;
            Ok(names)
        }
        Err(error) => {
            // SQLite itself rolls back after some errors, and then has nothing left to roll back.
            if let Err(error) = transaction.rollback().await {
                tracing::debug!(%error, "rolling back the migrations failed");
            }
            Err(error)
        }
    }
}

fn is_busy(error: &DbErr) -> bool {
    let (DbErr::Conn(RuntimeErr::SqlxError(error))
    | DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    error
        .as_database_error()
        .and_then(DatabaseError::code)
        .and_then(|code| code.parse::<i32>().ok())
        .is_some_and(|code| BUSY_CODES.contains(&(code & 0xff)))
}
