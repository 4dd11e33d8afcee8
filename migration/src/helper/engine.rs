//! The fork between the engines, for what sea-query has no words for (functions, views, storage parameters).

use sea_orm_migration::{
    SchemaManager,
    prelude::DbErr,
    sea_orm::{ConnectionTrait, DbBackend},
};

/// A database engine this schema is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL 15 or later.
    Postgres,
    /// SQLite, as embedded by sqlx.
    Sqlite,
}

impl Engine {
    /// The engine behind `backend`; an error for the ones this schema is not written for.
    pub fn of(backend: DbBackend) -> Result<Self, DbErr> {
        match backend {
            DbBackend::Postgres => Ok(Self::Postgres),
            DbBackend::Sqlite => Ok(Self::Sqlite),
            other => Err(DbErr::BackendNotSupported { db: other.as_str(), ctx: "the migrations of multicredit" }),
        }
    }
}

/// Runs `sql`, which may be several statements, on PostgreSQL, and nothing elsewhere.
pub async fn on_postgres(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    match Engine::of(manager.get_database_backend())? {
        Engine::Postgres => execute(manager, sql).await,
        Engine::Sqlite => Ok(()),
    }
}

/// Runs `sql`, which may be several statements, as it stands.
pub async fn execute(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    manager.get_connection().execute_unprepared(sql).await.map(|_| ())
}
