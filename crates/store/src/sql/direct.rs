//! A connection to a SQLite file on the thread of the caller.
//!
//! sqlx gives every connection to SQLite a thread of its own, so a statement is two switches between threads and a look
//! for its text: some ten microseconds, whatever it does. A statement that inserts a row takes two or three. That is why
//! the portable path packs the rows of a batch into JSON; and unpacking that is most of what it costs.
//!
//! Here statements are run as C programs run them. That blocks the thread, so this is for the ledger's writer alone, which
//! has a thread to itself (`ledger::queue`) and would only wait. SQLite is the same library: both crates stand on one
//! `libsqlite3-sys`.

use std::borrow::Cow;
use std::error::Error as StdError;

use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{OpenFlags, ffi};
use sqlx::error::{DatabaseError, ErrorKind};
use thiserror::Error;

use super::checkpoint::{Checkpointer, TOO_LONG};
use crate::error::AttemptError;
use crate::ledger::limits;

/// What SQLite answers if a key is there already.
const UNIQUE_VIOLATIONS: [i32; 2] = [ffi::SQLITE_CONSTRAINT_PRIMARYKEY, ffi::SQLITE_CONSTRAINT_UNIQUE];

/// How much of the file it keeps in memory: most of the pages that a batch over ten thousand organizations goes through. With
/// the two megabytes that SQLite has by default a tenth of the time went into reading again what had just been written; with
/// twice as much as this, as long as that was saved went into commits, which may look through all of it.
const CACHE_KIB: u32 = 8 * 1024;

/// The settings of `connect_options_sqlite`, and those of its own. That the log is written ahead is a property of the file.
fn settings() -> String {
    format!(
        "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; \
         PRAGMA cache_size = -{CACHE_KIB}; PRAGMA wal_autocheckpoint = {TOO_LONG}"
    )
}

/// A connection without a thread.
pub(crate) struct Direct {
    connection: rusqlite::Connection,
    checkpointer: Checkpointer,
}

impl Direct {
    /// Opens a file that is there, and logs statements if that is asked for.
    pub(crate) fn open(file: &str, is_logged: bool) -> Result<Self, sqlx::Error> {
        let connection = connect(file).map_err(Fault)?;
        if is_logged {
            // As sqlx does.
            connection.trace_v2(
                TraceEventCodes::SQLITE_TRACE_STMT,
                Some(|event| {
                    if let TraceEvent::Stmt(_, sql) = event {
                        tracing::debug!(target: "sqlx::query", summary = sql);
                    }
                }),
            );
        }
        let checkpointer = Checkpointer::start(connect(file).map_err(Fault)?);
        let checkpointer = checkpointer.map_err(|error| sqlx::Error::Configuration(error.into()))?;
        Ok(Self { connection, checkpointer })
    }

    /// Runs what writes in one transaction; nothing of it has happened if that answers `None`, or fails. What fails in the
    /// commit may have happened, if [`leaves_doubt`](crate::error::leaves_doubt) says so.
    pub(crate) fn in_transaction<T>(
        &mut self,
        write: impl FnOnce(&rusqlite::Connection) -> Result<Option<T>, sqlx::Error>,
    ) -> Result<Option<T>, sqlx::Error> {
        // IMMEDIATE, as on the portable path: what is read here is what is written to.
        self.run("BEGIN IMMEDIATE").map_err(Fault)?;
        let written = write(&self.connection);
        if matches!(written, Ok(Some(_))) {
            self.run("COMMIT").map_err(|error| as_of_sqlx(error, true))?;
            self.checkpointer.committed(&self.connection);
        } else if !self.connection.is_autocommit() {
            self.run("ROLLBACK").map_err(Fault)?;
        }
        written
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.raw_execute().map(drop)
    }
}

fn connect(file: &str) -> rusqlite::Result<rusqlite::Connection> {
    // Nobody shares a connection, so nothing need be locked around it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(limits::SQLITE_BUSY_TIMEOUT_EXPRESS)?;
    connection.execute_batch(&settings())?;
    Ok(connection)
}

/// An error of SQLite, as sqlx tells of one.
#[derive(Debug, Error)]
#[error("(code: {code}) {message}")]
struct SqliteFault {
    /// The extended result code.
    code: i32,
    message: String,
    /// Whether this was the answer to a COMMIT. Before that nothing can have happened, whatever became of the file.
    is_of_commit: bool,
}

impl DatabaseError for SqliteFault {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.is_of_commit.then(|| self.code.to_string().into())
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        if UNIQUE_VIOLATIONS.contains(&self.code) { ErrorKind::UniqueViolation } else { ErrorKind::Other }
    }
}

/// An error of anything but a commit.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) rusqlite::Error);

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self(error)
    }
}

impl From<Fault> for sqlx::Error {
    fn from(Fault(error): Fault) -> Self {
        as_of_sqlx(error, false)
    }
}

impl From<Fault> for AttemptError {
    fn from(fault: Fault) -> Self {
        Self::Database(fault.into())
    }
}

fn as_of_sqlx(error: rusqlite::Error, is_of_commit: bool) -> sqlx::Error {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => sqlx::Error::Database(Box::new(SqliteFault {
            code: failure.extended_code,
            message: message.unwrap_or_else(|| failure.to_string()),
            is_of_commit,
        })),
        // Of this side: a value of another type than was asked for, a wrong number of parameters.
        error => sqlx::Error::Decode(Box::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Fault as Kind, is_unique_violation_of, leaves_doubt};

    fn opened() -> Direct {
        let direct = Direct::open(":memory:", false).unwrap();
        direct.connection.execute_batch("CREATE TABLE t (a PRIMARY KEY)").unwrap();
        direct
    }

    fn insert(connection: &rusqlite::Connection) -> Result<(), sqlx::Error> {
        Ok(connection.execute("INSERT INTO t VALUES (1)", ()).map(drop).map_err(Fault)?)
    }

    fn count(direct: &Direct) -> i64 {
        direct.connection.query_row("SELECT COUNT(*) FROM t", (), |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_answers_nothing_or_fails_has_not_happened() {
        let mut direct = opened();
        assert!(matches!(direct.in_transaction::<()>(|it| insert(it).map(|()| None)), Ok(None)));
        assert_eq!(count(&direct), 0);
        let failed = direct.in_transaction(|it| {
            insert(it)?;
            insert(it).map(Some)
        });
        assert!(is_unique_violation_of(&failed.unwrap_err()));
        assert_eq!(count(&direct), 0);
        assert!(matches!(direct.in_transaction(|it| insert(it).map(Some)), Ok(Some(()))));
        assert_eq!(count(&direct), 1);
    }

    #[test]
    fn only_a_commit_leaves_doubt() {
        for (code, of_a_commit) in
            [(ffi::SQLITE_IOERR_FSYNC, true), (ffi::SQLITE_FULL, true), (ffi::SQLITE_BUSY, false)]
        {
            let failed = |is_of_commit| {
                let failure = ffi::Error::new(code);
                as_of_sqlx(rusqlite::Error::SqliteFailure(failure, None), is_of_commit)
            };
            assert_eq!(leaves_doubt(&failed(true)), of_a_commit);
            assert!(!leaves_doubt(&failed(false)));
            assert_eq!(Kind::of(&failed(false)), Kind::Data);
        }
    }
}
