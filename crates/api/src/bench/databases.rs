//! The databases of a run on a PostgreSQL server: new ones, so that a server that is in use can be given, and gone with
//! the run.

use anyhow::Context;
use multicredit_store::clock;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tokio::runtime;

/// Databases that are dropped with this value.
pub struct Databases {
    admin_url: String,
    names: Vec<String>,
}

impl Databases {
    /// None yet, on the server of that URL, whose own database is only used to make others.
    pub const fn on(admin_url: String) -> Self {
        Self { admin_url, names: Vec::new() }
    }

    /// Makes one, a copy of another if one is named, and answers its URL.
    pub async fn create(&mut self, template: Option<&str>) -> anyhow::Result<String> {
        let name = format!("multicredit_bench_{}", clock::new_uuid().simple());
        let template = template.and_then(|url| url.rsplit('/').next()).and_then(|name| name.split('?').next());
        let statement = format!("CREATE DATABASE {name} TEMPLATE {}", template.unwrap_or("template0"));
        execute(&self.admin_url, &statement).await.context("cannot make a database")?;
        let url = with_database(&self.admin_url, &name);
        self.names.push(name);
        Ok(url)
    }
}

impl Drop for Databases {
    /// On a thread of its own, for it has to wait and may stand in an async context, where one must not.
    fn drop(&mut self) {
        let (admin_url, names) = (std::mem::take(&mut self.admin_url), std::mem::take(&mut self.names));
        let dropping = std::thread::spawn(move || -> anyhow::Result<()> {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            for name in names {
                runtime.block_on(execute(&admin_url, &format!("DROP DATABASE {name} WITH (FORCE)")))?;
            }
            Ok(())
        });
        if let Ok(Err(error)) = dropping.join() {
            tracing::warn!(?error, "a database of the benchmark stays behind");
        }
    }
}

/// Connects to the database of that URL. That some statements of a benchmark take long is expected, and not logged.
pub async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let options: PgConnectOptions = url.parse()?;
    options.disable_statement_logging().connect().await.context("cannot connect to PostgreSQL")
}

/// Runs statements without results in the database of that URL.
pub async fn execute(url: &str, statements: &str) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await?;
    Ok(connection.close().await?)
}

/// The URL with another database.
fn with_database(url: &str, name: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(address, query)| (address, Some(query)));
    let authority_at = address.find("://").map_or(0, |at| at + 3);
    let end = address[authority_at..].find('/').map_or(address.len(), |at| authority_at + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &address[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced_and_nothing_else() {
        for (url, expected) in [
            ("postgres://a:b@host:1/old", "postgres://a:b@host:1/new"),
            ("postgres://a:b@host:1", "postgres://a:b@host:1/new"),
            ("postgres://host/old?sslmode=disable", "postgres://host/new?sslmode=disable"),
        ] {
            assert_eq!(with_database(url, "new"), expected);
        }
    }
}
