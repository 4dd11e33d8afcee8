//! Tests of the schema and of migrating it, on SQLite: the engine that needs no server.

mod checks;
mod running;
mod schema;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, Statement,
    sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};

use crate::migrate_up;

const AT: &str = "'2026-02-01T00:00:00+00:00'";
const LATER: &str = "'2026-02-01T00:00:00.500+00:00'";

/// A database file in a folder of its own, which goes with the value.
struct TestFile {
    folder: PathBuf,
}

impl TestFile {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("multicredit-migration-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("test.db")
    }

    async fn open(&self) -> DatabaseConnection {
        open(&self.path(), SqliteJournalMode::Delete, Duration::from_secs(5)).await
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        // A folder that stays behind in the temporary one is no reason to fail a test that passed.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Opens a pool of its own on a file, as each process does.
async fn open(path: &Path, journal_mode: SqliteJournalMode, busy_timeout: Duration) -> DatabaseConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(journal_mode)
        .busy_timeout(busy_timeout);
    SqlitePoolOptions::new().max_connections(2).connect_with(options).await.unwrap().into()
}

/// A file with the whole schema, and a pool on it.
async fn migrated() -> (TestFile, DatabaseConnection) {
    let file = TestFile::new();
    let db = file.open().await;
    migrate_up(&db).await.unwrap();
    (file, db)
}

/// An object of the schema: its type, its name and the SQL that made it.
type Object = (String, String, Option<String>);

/// Everything in the schema but what SQLite makes by itself.
async fn objects(db: &DatabaseConnection) -> Vec<Object> {
    let sql = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
    rows.iter().map(|row| row.try_get_many_by_index().unwrap()).collect()
}

/// The number a query answers.
async fn number(db: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    db.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}
