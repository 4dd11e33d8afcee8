//! SQL that both engines understand, with any number of rows behind one text.
//!
//! The ledger writes in bulk: a batch of any size is a handful of statements, each with one text for every number of
//! rows, so that it is prepared once per connection. PostgreSQL takes the rows as one array a column (`unnest`), SQLite
//! as one JSON text (`json_each`). [`Statement`] hides which: a statement is written once, around a *source* of rows
//! called `v`.

mod checkpoint;
mod connection;
mod direct;
mod rows;

pub(crate) use connection::{
    Backend, Connection, connect_options_pool, connect_options_postgres, connect_options_sqlite, preamble,
};
pub(crate) use direct::{Direct, Fault};
pub(crate) use rows::{Cell, Column, Kind, Rows, credit_columns, time_text};

use std::sync::Arc;

use multicredit_domain::usage::QUARTER_SECONDS;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, IdenStatic, Iterable, QueryResult};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe};

use crate::config::Engine;
use crate::reader::Reader;

/// A statement over a source of rows, in the dialects of both engines.
pub(crate) struct Statement {
    postgres: Arc<str>,
    sqlite: Arc<str>,
    columns: Vec<Column>,
    /// Whether PostgreSQL takes the rows as one text as well.
    is_of_text: bool,
}

/// What differs between the engines in the text of a statement.
pub(crate) struct Dialect<'a> {
    /// The rows, to stand in a FROM clause; its name is `v`.
    pub(crate) source: &'a str,
    /// Locks rows of `c` until the end of the transaction, where the engine locks rows.
    pub(crate) lock_c: &'a str,
    /// The instant, where the engine knows it; NULL where the machine does.
    pub(crate) clock: &'a str,
    engine: Engine,
}

impl Dialect<'_> {
    /// The quarter of an hour in which an instant lies.
    pub(crate) fn quarter(&self, instant: &str) -> String {
        quarter(self.engine, instant)
    }

    /// An instant that is known when the statement is written, in RFC 3339.
    pub(crate) fn instant(&self, instant: &str) -> String {
        match self.engine {
            Engine::Postgres => format!("TIMESTAMPTZ '{instant}'"),
            Engine::Sqlite => format!("'{instant}'"),
        }
    }
}

/// The quarter of an hour in which an instant lies, as [`multicredit_domain::usage::quarter`] has it. `instant` is an
/// expression of SQL.
pub(crate) fn quarter(engine: Engine, instant: &str) -> String {
    match engine {
        Engine::Postgres => format!("date_bin('15 minutes', {instant}, TIMESTAMPTZ '0001-01-01T00:00:00+00:00')"),
        // Division cuts towards zero: the years before 1970 are moved beyond it, by a multiple of a quarter.
        Engine::Sqlite => format!(
            "strftime('%Y-%m-%dT%H:%M:%S+00:00', \
             (unixepoch({instant}) + 90000000000) / {QUARTER_SECONDS} * {QUARTER_SECONDS} - 90000000000, 'unixepoch')"
        ),
    }
}

impl Statement {
    /// The statement that `text` writes for each engine over rows of these columns.
    pub(crate) fn new(columns: Vec<Column>, text: impl Fn(&Dialect<'_>) -> String) -> Self {
        let source = rows::source(Engine::Postgres, &columns);
        Self::over(columns, &source, text)
    }

    /// The same with the rows as one JSON text on both engines. That costs PostgreSQL a little more, and is a parameter
    /// that every way to a connection can carry: the ledger's, and a transaction of the pool.
    pub(crate) fn of_text(columns: Vec<Column>, text: impl Fn(&Dialect<'_>) -> String) -> Self {
        let source = rows::source_of_text(&columns);
        Self { is_of_text: true, ..Self::over(columns, &source, text) }
    }

    fn over(columns: Vec<Column>, source: &str, text: impl Fn(&Dialect<'_>) -> String) -> Self {
        let postgres = text(&Dialect {
            source,
            // Not FOR UPDATE: that would block inserts of rows that refer to the organization.
            lock_c: "FOR NO KEY UPDATE OF c",
            clock: "clock_timestamp()",
            engine: Engine::Postgres,
        });
        let sqlite = text(&Dialect {
            source: &rows::source(Engine::Sqlite, &columns),
            lock_c: "",
            clock: "NULL",
            engine: Engine::Sqlite,
        });
        Self { postgres: postgres.into(), sqlite: sqlite.into(), columns, is_of_text: false }
    }

    /// An INSERT of all columns.
    pub(crate) fn insert(table: &str, columns: Vec<Column>) -> Self {
        let names = names(&columns);
        Self::new(columns, |d| format!("INSERT INTO {table} ({names}) SELECT {names} FROM {}", d.source))
    }

    /// The same for a transaction of the pool.
    pub(crate) fn insert_of_text(table: &str, columns: Vec<Column>) -> Self {
        let names = names(&columns);
        Self::of_text(columns, |d| format!("INSERT INTO {table} ({names}) SELECT {names} FROM {}", d.source))
    }

    /// Runs it over `rows` on any connection of a share of the pool, and answers what it returns.
    pub(crate) async fn query(&self, database: &Reader, rows: &Rows) -> Result<Vec<QueryResult>, sqlx::Error> {
        if database.get_database_backend() == DbBackend::Postgres {
            let arguments = self.bind_postgres(rows)?;
            return database.fetch_postgres(self.postgres.clone(), arguments).await;
        }
        let _permit = database.permit_of_sqlx().await?;
        let query = sqlx::query(AssertSqlSafe(self.sqlite.clone())).bind(rows.to_json());
        let found = query.fetch_all(database.pool().get_sqlite_connection_pool()).await?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    /// Runs one that takes its rows as text in a transaction of the pool, and answers what it returns.
    pub(crate) async fn query_in(
        &self,
        transaction: &DatabaseTransaction,
        rows: &Rows,
    ) -> Result<Vec<QueryResult>, DbErr> {
        debug_assert!(self.is_of_text, "arrays cannot be bound here");
        let backend = transaction.get_database_backend();
        let sql = if backend == DbBackend::Postgres { &self.postgres } else { &self.sqlite };
        let statement = sea_orm::Statement::from_sql_and_values(backend, &**sql, [rows.to_json().into()]);
        transaction.query_all_raw(statement).await
    }

    fn bind_postgres(&self, rows: &Rows) -> Result<PgArguments, sqlx::Error> {
        if !self.is_of_text {
            return rows.bind_postgres().map_err(sqlx::Error::Encode);
        }
        let mut arguments = PgArguments::default();
        arguments.add(rows.to_json()).map_err(sqlx::Error::Encode)?;
        Ok(arguments)
    }

    /// Empty rows for this statement.
    pub(crate) fn rows(&self) -> Rows {
        Rows::new(self.columns.clone())
    }
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// `table.a AS prefixa, table.b AS prefixb, ...` for every column of an entity: what its model is read from.
pub(crate) fn entity_columns<E: EntityTrait>(table: &str, prefix: &str) -> String {
    let columns = E::Column::iter().map(|column| format!("{table}.{name} AS {prefix}{name}", name = column.as_str()));
    columns.collect::<Vec<_>>().join(", ")
}
