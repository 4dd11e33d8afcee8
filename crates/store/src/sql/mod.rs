//! SQL that both engines understand, with any number of rows behind one text.
//!
//! The ledger writes in bulk: a batch of any size is a handful of statements, each with one text for every number of
//! rows, so that it is prepared once per connection. PostgreSQL takes the rows as one array a column (`unnest`), SQLite
//! as one JSON text (`json_each`). [`Statement`] hides which: a statement is written once, around a *source* of rows
//! called `v`.

mod connection;
mod rows;

pub(crate) use connection::{Backend, Connection, connect_options_postgres, connect_options_sqlite};
pub(crate) use rows::{Cell, Column, Kind, Rows, credit_columns};

use std::sync::Arc;

use sea_orm::{EntityTrait, IdenStatic, Iterable};

use crate::config::Engine;

/// A statement over a source of rows, in the dialects of both engines.
pub(crate) struct Statement {
    postgres: Arc<str>,
    sqlite: Arc<str>,
    columns: Vec<Column>,
}

/// What differs between the engines in the text of a statement.
pub(crate) struct Dialect<'a> {
    /// The rows, to stand in a FROM clause; its name is `v`.
    pub(crate) source: &'a str,
    /// Locks rows of `c` until the end of the transaction, where the engine locks rows.
    pub(crate) lock_c: &'a str,
    /// The instant, where the engine knows it; NULL where the machine does.
    pub(crate) clock: &'a str,
}

impl Statement {
    /// The statement that `text` writes for each engine over rows of these columns.
    pub(crate) fn new(columns: Vec<Column>, text: impl Fn(&Dialect<'_>) -> String) -> Self {
        let postgres = text(&Dialect {
            source: &rows::source(Engine::Postgres, &columns),
            // Not FOR UPDATE: that would block inserts of rows that refer to the organization.
            lock_c: "FOR NO KEY UPDATE OF c",
            clock: "clock_timestamp()",
        });
        let sqlite = text(&Dialect { source: &rows::source(Engine::Sqlite, &columns), lock_c: "", clock: "NULL" });
        Self { postgres: postgres.into(), sqlite: sqlite.into(), columns }
    }

    /// An INSERT of all columns.
    pub(crate) fn insert(table: &str, columns: Vec<Column>) -> Self {
        let names = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        Self::new(columns, |d| format!("INSERT INTO {table} ({names}) SELECT {names} FROM {}", d.source))
    }

    /// Empty rows for this statement.
    pub(crate) fn rows(&self) -> Rows {
        Rows::new(self.columns.clone())
    }
}

/// `table.a AS prefixa, table.b AS prefixb, ...` for every column of an entity: what its model is read from.
pub(crate) fn entity_columns<E: EntityTrait>(table: &str, prefix: &str) -> String {
    let columns = E::Column::iter().map(|column| format!("{table}.{name} AS {prefix}{name}", name = column.as_str()));
    columns.collect::<Vec<_>>().join(", ")
}
