//! One migrating process at a time. Replicas start together and each migrates; sea-orm's migrator takes no lock, so
//! two of them would both find the same migration missing and both apply it.
//!
//! | engine | what excludes the others | when it ends |
//! | --- | --- | --- |
//! | PostgreSQL | a session's advisory lock, on the one connection that also migrates | with the session, however that ends |
//! | SQLite | `BEGIN IMMEDIATE`, the file's own write lock, around everything | with the transaction |
//!
//! Whoever waited reads what is left to do only once it is alone, and then usually finds nothing.

mod postgres;
mod sqlite;

use std::time::Duration;

use sea_orm_migration::sea_orm::DatabaseConnection;

use crate::{MigrationError, helper::engine::Engine, task::Task};

/// How long a process waits for another one: longer than any migration of this schema takes on a large installation,
/// short enough that whoever started it sees an error instead of a hang.
pub const WAIT_MAX: Duration = Duration::from_mins(5);

/// Does `task` on `db` while no other process migrates it, waiting for its turn for at most `wait_max`.
///
/// # Errors
///
/// [`MigrationError::Busy`] if the turn did not come, otherwise what the task answers.
pub async fn run(db: &DatabaseConnection, task: Task, wait_max: Duration) -> Result<Vec<String>, MigrationError> {
    match Engine::of(db.get_database_backend())? {
        Engine::Postgres => postgres::run(db, task, wait_max).await,
        Engine::Sqlite => sqlite::run(db, task, wait_max).await,
    }
}
