//! What can go wrong between a request and its rows, sorted by what the caller can do about it.

use multicredit_domain::{ConsumptionId, Refusal};
use sea_orm::{DbErr, SqlErr};
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use thiserror::Error;

/// Something that must be unique exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Conflict {
    /// Another organization has this `external_id`.
    #[error("the external_id is taken")]
    ExternalIdTaken,
    /// The API key is registered already.
    #[error("the API key is registered already")]
    KeyExists,
    /// There are as many endpoints of webhooks as there may be.
    #[error("there are as many endpoints of webhooks as there may be")]
    TooManyEndpoints,
}

/// Why the store did not do what was asked. Texts of [`Unavailable`](Self::Unavailable) and [`Internal`](Self::Internal)
/// are for the log alone.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// A rule said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something unique exists already.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// There is no such thing.
    #[error("not found")]
    NotFound,
    /// Too many requests wait; try again shortly.
    #[error("too many requests are waiting")]
    Busy,
    /// Too many requests of this organization wait; try again shortly.
    #[error("too many requests of this organization are waiting")]
    OrganizationBusy,
    /// The connection broke around the commit, and what became of it could not be found out in time. Safe to send again
    /// with the same key.
    #[error("the outcome is not known")]
    OutcomeUnknown {
        /// Under which id the consumption exists, if it does.
        consumption_id: Option<ConsumptionId>,
    },
    /// The database cannot be reached, or the service is stopping.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// A bug, or a row that makes no sense.
    #[error("internal error: {0}")]
    Internal(String),
}

/// A row holds what the rules could not have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("column {column} of {table} holds a value that makes no sense")]
pub struct BadRow {
    /// Which table.
    pub table: &'static str,
    /// Which column.
    pub column: &'static str,
}

impl From<BadRow> for StoreError {
    fn from(bad: BadRow) -> Self {
        Self::Internal(bad.to_string())
    }
}

impl From<multicredit_domain::account::Corrupt> for StoreError {
    fn from(corrupt: multicredit_domain::account::Corrupt) -> Self {
        Self::Internal(corrupt.to_string())
    }
}

impl From<multicredit_domain::Denial> for StoreError {
    fn from(denial: multicredit_domain::Denial) -> Self {
        match denial {
            multicredit_domain::Denial::Refused(refusal) => refusal.into(),
            multicredit_domain::Denial::Corrupt(corrupt) => corrupt.into(),
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match error {
            DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => Self::Unavailable(error.to_string()),
            DbErr::Exec(sea_orm::RuntimeErr::SqlxError(ref inner))
            | DbErr::Query(sea_orm::RuntimeErr::SqlxError(ref inner)) => classify(inner),
            _ => Self::Internal(error.to_string()),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        classify(&error)
    }
}

fn classify(error: &sqlx::Error) -> StoreError {
    match Fault::of(error) {
        Fault::Data => StoreError::Internal(error.to_string()),
        Fault::Contention | Fault::Connection => StoreError::Unavailable(error.to_string()),
    }
}

/// Whether a write failed because something unique exists.
pub(crate) fn is_unique_violation(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

/// The same of an error that was not made one of sea-orm's.
pub(crate) fn is_unique_violation_of(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// What kind of failure a database reported, by its code and never by its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The statement or its data: the same again fails again.
    Data,
    /// Others were in the way: the same again may succeed.
    Contention,
    /// The connection or the server: the same again may succeed on another connection.
    Connection,
}

impl Fault {
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        // Whatever the code: the session has ended, or was never begun. A disk that is full is told of so as well, without a
        // code of its own ("could not write init file").
        if postgres_severity(error).is_some_and(|it| matches!(it, PgSeverity::Fatal | PgSeverity::Panic)) {
            return Self::Connection;
        }
        let Some(code) = error.as_database_error().and_then(sqlx::error::DatabaseError::code) else {
            return match error {
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => Self::Connection,
                _ => Self::Data,
            };
        };
        // SQLite's extended result codes keep the primary code in their low byte: 5 is BUSY, 6 LOCKED.
        if let Ok(number) = code.parse::<u32>()
            && code.len() != 5
        {
            return match number & 0xff {
                5 | 6 => Self::Contention,
                // IOERR, CORRUPT, FULL, CANTOPEN: the file, not the data.
                10 | 11 | 13 | 14 => Self::Connection,
                _ => Self::Data,
            };
        }
        match code.as_ref() {
            // serialization_failure, deadlock_detected, lock_not_available, query_canceled (statement_timeout)
            "40001" | "40P01" | "55P03" | "57014" => Self::Contention,
            // Class 08 connection, 53 resources (disk full, too many connections), 57P0x shutdown, 25006 read-only
            // (a replica after failover), 58 system error.
            code if code.starts_with("08") || code.starts_with("53") || code.starts_with("57P") => Self::Connection,
            code if code.starts_with("58") || code == "25006" || code == "25P03" => Self::Connection,
            _ => Self::Data,
        }
    }
}

fn postgres_severity(error: &sqlx::Error) -> Option<PgSeverity> {
    let answer = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    Some(answer.severity())
}

/// Whether a commit that failed so may have happened all the same: the connection broke before the answer. That there was
/// no room for it (disk, memory) is an answer, if the session goes on: nothing has happened. Not so on SQLite, which may
/// run out of room behind a commit that is in its log already, and would find it there after a crash.
pub(crate) fn leaves_doubt(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let is_out_of_room =
        code.is_some_and(|code| code.starts_with("53")) && postgres_severity(error) == Some(PgSeverity::Error);
    Fault::of(error) == Fault::Connection && !is_out_of_room
}

/// Why an attempt at a batch failed, with the database's own error kept for [`Fault::of`].
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// The database said so.
    Database(sqlx::Error),
    /// We did.
    Store(StoreError),
}

impl From<sqlx::Error> for AttemptError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl<E: Into<StoreError>> From<E> for AttemptError
where
    E: NotSqlx,
{
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl From<AttemptError> for StoreError {
    fn from(error: AttemptError) -> Self {
        match error {
            AttemptError::Database(error) => error.into(),
            AttemptError::Store(error) => error,
        }
    }
}

/// Whatever becomes a [`StoreError`] before it reaches an attempt.
pub(crate) trait NotSqlx {}
impl NotSqlx for StoreError {}
impl NotSqlx for BadRow {}
impl NotSqlx for DbErr {}
