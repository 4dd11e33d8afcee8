//! Rows of typed cells, and how each engine takes them.

use std::fmt::Write as _;

use chrono::{NaiveDate, SecondsFormat};
use multicredit_domain::{CreditType, Credits, Delta, Timestamp};
use sqlx::Arguments as _;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, Postgres};
use uuid::Uuid;

use crate::config::Engine;

/// The type of a column, as both engines have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Uuid,
    BigInt,
    Int,
    Text,
    Bool,
    Time,
    Date,
    Json,
}

/// A column of a [`Rows`].
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

impl Column {
    pub(crate) fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), kind }
    }
}

/// The columns of a vector over the credit types: `ai_credits_<suffix>` and so on.
pub(crate) fn credit_columns(suffix: &str) -> impl Iterator<Item = Column> {
    CreditType::ALL
        .into_iter()
        .map(move |credit_type| Column::new(format!("{credit_type}_credits_{suffix}"), Kind::BigInt))
}

/// One value.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    Null,
    Uuid(Uuid),
    Int(i64),
    Text(String),
    Static(&'static str),
    Bool(bool),
    Time(Timestamp),
    Date(NaiveDate),
}

impl Cell {
    pub(crate) fn opt<T>(value: Option<T>, cell: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Null, cell)
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Static(text) => Some(text),
            _ => None,
        }
    }
}

/// Rows for a statement: row after row, every row with a cell for each column.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    columns: Vec<Column>,
    cells: Vec<Cell>,
}

impl Rows {
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self { columns, cells: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Begins or continues a row with the next cell.
    pub(crate) fn cell(&mut self, cell: Cell) -> &mut Self {
        self.cells.push(cell);
        self
    }

    /// The cells of a vector over the credit types.
    pub(crate) fn credits(&mut self, credits: Credits) -> &mut Self {
        self.cells.extend(credits.to_array().map(|amount| Cell::Int(amount.get())));
        self
    }

    /// The cells of a vector that may be absent.
    pub(crate) fn optional_credits(&mut self, credits: Option<Credits>) -> &mut Self {
        if let Some(credits) = credits {
            return self.credits(credits);
        }
        self.cells.extend(CreditType::ALL.map(|_| Cell::Null));
        self
    }

    /// The cells of a signed vector.
    pub(crate) fn delta(&mut self, delta: Delta) -> &mut Self {
        self.cells.extend(delta.to_array().map(Cell::Int));
        self
    }

    /// Ends a row; every column must have its cell.
    pub(crate) fn end(&mut self) {
        debug_assert_eq!(self.cells.len() % self.columns.len(), 0, "a row has a cell for each column");
    }

    /// The rows as one array a column.
    pub(super) fn bind_postgres(&self) -> Result<PgArguments, BoxDynError> {
        let mut arguments = PgArguments::default();
        for (index, column) in self.columns.iter().enumerate() {
            let cells = self.cells.iter().skip(index).step_by(self.columns.len());
            match column.kind {
                Kind::Uuid => add(&mut arguments, cells, |cell| match cell {
                    Cell::Uuid(uuid) => Some(*uuid),
                    _ => None,
                }),
                Kind::BigInt => add(&mut arguments, cells, int),
                Kind::Int => add(&mut arguments, cells, |cell| int(cell).and_then(|value| i32::try_from(value).ok())),
                Kind::Text | Kind::Json => add(&mut arguments, cells, Cell::text),
                Kind::Bool => add(&mut arguments, cells, |cell| match cell {
                    Cell::Bool(value) => Some(*value),
                    _ => None,
                }),
                Kind::Time => add(&mut arguments, cells, |cell| match cell {
                    Cell::Time(at) => Some(*at),
                    _ => None,
                }),
                Kind::Date => add(&mut arguments, cells, |cell| match cell {
                    Cell::Date(date) => Some(*date),
                    _ => None,
                }),
            }?;
        }
        Ok(arguments)
    }

    /// The rows as one JSON text: an array of arrays.
    pub(super) fn to_json(&self) -> String {
        let mut json = String::with_capacity(self.cells.len() * 16 + 2);
        json.push('[');
        for (index, cell) in self.cells.iter().enumerate() {
            json.push_str(match index % self.columns.len() {
                0 if index == 0 => "[",
                0 => "],[",
                _ => ",",
            });
            push_json(&mut json, cell);
        }
        json.push_str(if self.cells.is_empty() { "]" } else { "]]" });
        json
    }
}

/// Adds a column's cells as one array; a cell without a value of the column's type is NULL.
fn add<'a, T>(
    arguments: &mut PgArguments,
    cells: impl Iterator<Item = &'a Cell>,
    value: impl Fn(&'a Cell) -> Option<T>,
) -> Result<(), BoxDynError>
where
    Vec<Option<T>>: sqlx::Encode<'a, Postgres> + sqlx::Type<Postgres>,
{
    arguments.add(cells.map(value).collect::<Vec<_>>())
}

fn int(cell: &Cell) -> Option<i64> {
    if let Cell::Int(value) = cell { Some(*value) } else { None }
}

/// An instant as SQLite has it: as sqlx writes it, so that all instants of a column compare as text.
pub(crate) fn time_text(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, false)
}

fn push_json(json: &mut String, cell: &Cell) {
    // Writing into a String cannot fail.
    let _ = match cell {
        Cell::Null => json.write_str("null"),
        Cell::Uuid(uuid) => write!(json, "\"{}\"", uuid.simple()),
        Cell::Int(value) => write!(json, "{value}"),
        Cell::Bool(value) => write!(json, "{value}"),
        Cell::Time(at) => write!(json, "\"{}\"", time_text(*at)),
        Cell::Date(date) => write!(json, "\"{date}\""),
        Cell::Text(_) | Cell::Static(_) => {
            json.push_str(&serde_json::Value::from(cell.text()).to_string());
            Ok(())
        }
    };
}

/// The rows in a FROM clause, called `v`.
pub(super) fn source(engine: Engine, columns: &[Column]) -> String {
    let fields = columns.iter().enumerate().map(|(i, Column { name, kind })| match (engine, kind) {
        (Engine::Postgres, Kind::Json) => format!("u.a{i}::jsonb AS {name}"),
        (Engine::Postgres, _) => format!("u.a{i} AS {name}"),
        (Engine::Sqlite, Kind::Uuid) => format!("unhex(value->>{i}) AS {name}"),
        (Engine::Sqlite, _) => format!("value->>{i} AS {name}"),
    });
    let fields = fields.collect::<Vec<_>>().join(", ");
    if engine == Engine::Sqlite {
        return format!("(SELECT {fields} FROM json_each(?1)) AS v");
    }
    let arrays = columns.iter().enumerate().map(|(i, column)| format!("${}::{}[]", i + 1, array_type(column.kind)));
    let arrays = arrays.collect::<Vec<_>>().join(", ");
    let names = (0..columns.len()).map(|i| format!("a{i}")).collect::<Vec<_>>().join(", ");
    format!("(SELECT {fields} FROM unnest({arrays}) AS u({names})) AS v")
}

/// The rows in a FROM clause of PostgreSQL, called `v`, from the text that SQLite takes.
pub(super) fn source_of_text(columns: &[Column]) -> String {
    let fields = columns.iter().enumerate().map(|(i, Column { name, kind })| {
        let value_type = if *kind == Kind::Json { "jsonb" } else { array_type(*kind) };
        format!("(u.line->>{i})::{value_type} AS {name}")
    });
    format!(
        "(SELECT {} FROM jsonb_array_elements($1::text::jsonb) AS u(line)) AS v",
        fields.collect::<Vec<_>>().join(", ")
    )
}

const fn array_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Uuid => "uuid",
        Kind::BigInt => "bigint",
        Kind::Int => "integer",
        Kind::Text | Kind::Json => "text",
        Kind::Bool => "boolean",
        Kind::Time => "timestamptz",
        Kind::Date => "date",
    }
}
