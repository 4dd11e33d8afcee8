//! A test's database on the PostgreSQL server that all tests share.

use anyhow::Context;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use super::{connect, template_name, unique_name};
use crate::postgres;

/// The database from which others are made and dropped, which takes no connection while that happens to them.
const ADMIN_DATABASE: &str = "postgres";

/// The advisory lock that the maker of the template holds. Any number that nobody else locks in [`ADMIN_DATABASE`].
const TEMPLATE_LOCK: i64 = 1;

/// A database that is dropped with this value.
#[derive(Debug)]
pub struct PostgresDatabase {
    server_url: String,
    name: String,
    url: String,
}

impl PostgresDatabase {
    /// A copy of the template.
    pub async fn migrated() -> anyhow::Result<Self> {
        let server_url = postgres::shared_url()?;
        let admin = connect_admin(&server_url).await?;
        let template = template(&server_url, &admin).await?;
        let database = Self::create(server_url, &admin, &template).await?;
        admin.close().await?;
        Ok(database)
    }

    /// A copy of what PostgreSQL itself takes for empty.
    pub async fn empty() -> anyhow::Result<Self> {
        let server_url = postgres::shared_url()?;
        let admin = connect_admin(&server_url).await?;
        let database = Self::create(server_url, &admin, "template0").await?;
        admin.close().await?;
        Ok(database)
    }

    /// What the product takes as `DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn create(server_url: String, admin: &DatabaseConnection, template: &str) -> anyhow::Result<Self> {
        let name = unique_name();
        // The strategy is a fifth faster here than the default, `wal_log`, because nothing is synced.
        admin.execute_unprepared(&format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")).await?;
        Ok(Self { url: format!("{server_url}/{name}"), server_url, name })
    }
}

impl Drop for PostgresDatabase {
    /// On a thread of its own, for it has to wait and may stand in an async context, where one must not.
    fn drop(&mut self) {
        let server_url = std::mem::take(&mut self.server_url);
        let name = self.name.clone();
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(drop_database(&server_url, &name))
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("{} stays until the run ends: {dropped:?}", self.name);
        }
    }
}

/// Drops the database even if the test, which may have failed midway, left connections to it.
async fn drop_database(server_url: &str, name: &str) -> anyhow::Result<()> {
    let admin = connect_admin(server_url).await?;
    admin.execute_unprepared(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
    Ok(admin.close().await?)
}

/// One connection, so that a lock taken on it is still held at the next statement.
async fn connect_admin(server_url: &str) -> anyhow::Result<DatabaseConnection> {
    let url = format!("{server_url}/{ADMIN_DATABASE}");
    connect(&url, 1).await.with_context(|| format!("no connection to {url}"))
}

/// The name of the migrated template, which is made if this process is the first to ask.
async fn template(server_url: &str, admin: &DatabaseConnection) -> anyhow::Result<String> {
    let name = template_name()?;
    if is_template(admin, &name).await? {
        return Ok(name);
    }
    admin.execute_unprepared(&format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await?;
    if !is_template(admin, &name).await? {
        make_template(server_url, admin, &name).await?;
    }
    admin.execute_unprepared(&format!("SELECT pg_advisory_unlock({TEMPLATE_LOCK})")).await?;
    Ok(name)
}

/// Whether the database exists and was finished: being marked as a template is the last thing that happens to it.
async fn is_template(admin: &DatabaseConnection, name: &str) -> anyhow::Result<bool> {
    let sql = "SELECT 1 FROM pg_database WHERE datname = $1 AND datistemplate";
    let found = admin.query_one_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, [name.into()])).await?;
    Ok(found.is_some())
}

async fn make_template(server_url: &str, admin: &DatabaseConnection, name: &str) -> anyhow::Result<()> {
    // What a process left that was killed before it had finished.
    admin.execute_unprepared(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
    admin.execute_unprepared(&format!("CREATE DATABASE {name} TEMPLATE template0")).await?;
    let connection = connect(&format!("{server_url}/{name}"), 1).await?;
    migration::migrate_up(&connection).await?;
    connection.close().await?;
    // A database to which somebody is connected cannot be copied, so nobody may.
    admin.execute_unprepared(&format!("ALTER DATABASE {name} WITH IS_TEMPLATE true ALLOW_CONNECTIONS false")).await?;
    Ok(())
}
