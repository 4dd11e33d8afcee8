//! Everything that a database holds, to see whether anything has changed.

use std::collections::BTreeMap;

use anyhow::Context as _;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement};

/// The rows of every table, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents(BTreeMap<String, String>);

impl Contents {
    /// The tables in which the two differ.
    pub fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let names = self.0.keys().chain(other.0.keys());
        let mut different: Vec<&str> =
            names.filter(|name| self.0.get(*name) != other.0.get(*name)).map(String::as_str).collect();
        different.sort_unstable();
        different.dedup();
        different
    }
}

/// Reads the contents of a database again and again: its tables are looked up once.
#[derive(Debug)]
pub struct ContentsReader {
    connection: DatabaseConnection,
    statement: Statement,
}

impl ContentsReader {
    /// For the tables that there are now.
    pub async fn new(connection: DatabaseConnection) -> anyhow::Result<Self> {
        let backend = connection.get_database_backend();
        let parts = match backend {
            DbBackend::Sqlite => sqlite_parts(&connection).await?,
            _ => postgres_parts(&connection).await?,
        };
        anyhow::ensure!(!parts.is_empty(), "a database without tables");
        let statement = Statement::from_string(backend, parts.join(" UNION ALL "));
        Ok(Self { connection, statement })
    }

    /// What is in the database at this instant.
    pub async fn read(&self) -> anyhow::Result<Contents> {
        let rows = self.connection.query_all_raw(self.statement.clone()).await?;
        let tables = rows.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?)));
        tables.collect::<anyhow::Result<_>>().map(Contents)
    }
}

async fn texts(connection: &DatabaseConnection, sql: &str) -> anyhow::Result<Vec<String>> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let rows = connection.query_all_raw(statement).await?;
    rows.iter().map(|row: &QueryResult| row.try_get_by_index(0).context("a text")).collect()
}

async fn postgres_parts(connection: &DatabaseConnection) -> anyhow::Result<Vec<String>> {
    let tables = texts(connection, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'").await?;
    let part = |table: String| {
        format!("SELECT '{table}' AS name, coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM {table} t")
    };
    Ok(tables.into_iter().map(part).collect())
}

async fn sqlite_parts(connection: &DatabaseConnection) -> anyhow::Result<Vec<String>> {
    let mut parts = Vec::new();
    for table in texts(connection, "SELECT name FROM sqlite_schema WHERE type = 'table'").await? {
        let columns = texts(connection, &format!("SELECT name FROM pragma_table_info('{table}')")).await?;
        let columns: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
        parts.push(format!(
            "SELECT '{table}' AS name, coalesce(group_concat(line, char(10)), '') \
             FROM (SELECT {} AS line FROM {table} ORDER BY 1)",
            columns.join(" || ',' || ")
        ));
    }
    Ok(parts)
}
