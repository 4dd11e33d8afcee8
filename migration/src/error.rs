//! What can go wrong when the schema is migrated or inspected.

use std::time::Duration;

use sea_orm_migration::{DbErr, sea_orm::RuntimeErr, sea_orm::sqlx};

/// An error of migrating or inspecting the schema.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// The database, or the way to it, failed; on PostgreSQL also when a migration could not get a table's lock, however
    /// often it was tried.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// Another process kept the database to itself for as long as this one was ready to wait.
    #[error("another process has been migrating or writing this database for {} s: gave up waiting", .0.as_secs())]
    Busy(Duration),
    /// The database has had migrations applied that this program does not know, by their names.
    #[error("the database was migrated by another release, which applied {}: use that release", .0.join(", "))]
    Unknown(Vec<String>),
}

impl From<sqlx::Error> for MigrationError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(DbErr::Conn(RuntimeErr::SqlxError(error.into())))
    }
}
