//! A database for each test.
//!
//! Tests that share a database see each other's rows, and one that cleans up after itself does not when it fails. So
//! each has its own. What makes that affordable is a template: the migrations run once, and each test copies the
//! result, a file on SQLite and `CREATE DATABASE ... TEMPLATE` on PostgreSQL.
//!
//! The test processes of a run share the template through its name, which is made of the size and the time of the test
//! program. The migrations are compiled into that program, so a change of any makes a new template; a name made of the
//! migrations' names would stay the same while one of them is edited.

mod contents;
mod postgres;
mod sqlite;

use std::time::{Duration, UNIX_EPOCH};

use sea_orm::{ConnectOptions, Database, DatabaseConnection};
use uuid::Uuid;

pub use contents::{Contents, ContentsReader};
use postgres::PostgresDatabase;
use sqlite::SqliteDatabase;

/// How many connections a pool for a look at the rows may open; the server has 200 for all tests that run at once.
const POOL_SIZE: u32 = 10;

/// How long a test waits for a connection. Short, so that a leaked one shows as what it is and not as a slow test.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(20);

/// A database that the product runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The embedded default.
    Sqlite,
    /// The one to deploy on.
    Postgres,
}

/// A database of one test, which is removed when this value is dropped.
///
/// Whoever is still connected then loses the connection: keep it for as long as anything uses it.
#[derive(Debug)]
pub struct TestDb(Inner);

#[derive(Debug)]
enum Inner {
    Sqlite(SqliteDatabase),
    Postgres(PostgresDatabase),
}

impl TestDb {
    /// A database with every migration applied, and nothing done to it since.
    pub async fn new(engine: Engine) -> anyhow::Result<Self> {
        Ok(Self(match engine {
            Engine::Sqlite => Inner::Sqlite(SqliteDatabase::migrated().await?),
            Engine::Postgres => Inner::Postgres(PostgresDatabase::migrated().await?),
        }))
    }

    /// A database without any table, for tests of the migrations themselves.
    pub async fn empty(engine: Engine) -> anyhow::Result<Self> {
        Ok(Self(match engine {
            Engine::Sqlite => Inner::Sqlite(SqliteDatabase::empty()?),
            Engine::Postgres => Inner::Postgres(PostgresDatabase::empty().await?),
        }))
    }

    /// The engine that it is on.
    pub fn engine(&self) -> Engine {
        match &self.0 {
            Inner::Sqlite(_) => Engine::Sqlite,
            Inner::Postgres(_) => Engine::Postgres,
        }
    }

    /// What the product takes as `DATABASE_URL`.
    pub fn url(&self) -> &str {
        match &self.0 {
            Inner::Sqlite(database) => database.url(),
            Inner::Postgres(database) => database.url(),
        }
    }

    /// A new pool of connections for a look at the rows past the product's code. Its settings are those of the
    /// libraries, not the product's.
    pub async fn connect(&self) -> anyhow::Result<DatabaseConnection> {
        connect(self.url(), POOL_SIZE).await
    }

    /// Sees whether anything in it changes.
    pub async fn contents(&self) -> anyhow::Result<ContentsReader> {
        ContentsReader::new(self.connect().await?).await
    }
}

async fn connect(url: &str, connections_max: u32) -> anyhow::Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .sqlx_logging(false);
    Ok(Database::connect(options).await?)
}

/// A name that no other database of the run has, in the letters that need no quotes in SQL.
fn unique_name() -> String {
    #[expect(clippy::disallowed_methods, reason = "it names a throwaway database, not a thing of the domain")]
    let id = Uuid::now_v7();
    format!("test_{}", id.simple())
}

/// The name of the template that this test program makes, or finds made by another process of the same program.
fn template_name() -> anyhow::Result<String> {
    let program = std::env::current_exe()?.metadata()?;
    let modified = program.modified()?.duration_since(UNIX_EPOCH)?;
    Ok(format!("template_{:x}_{:x}", program.len(), modified.as_nanos()))
}
