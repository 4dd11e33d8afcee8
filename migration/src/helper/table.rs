//! A table that names its own keys and checks, so that every constraint has a name and all follow one pattern.
//!
//! Everything is part of `CREATE TABLE`: SQLite can add neither a check nor a foreign key to a table that exists.
//! Names say `<table>_pkey` for the primary key (PostgreSQL's own habit, which the plans in old reports show), `ck_`
//! for checks, `fk_` for foreign keys and `uq_` for unique constraints. sea-query leaves out the names of foreign keys
//! on SQLite, which never shows them either.

use sea_orm_migration::{
    SchemaManager,
    prelude::{
        ColumnDef, DbErr, Expr, ExprTrait, ForeignKey, Index, IndexCreateStatement, Table, TableCreateStatement,
        TableDropStatement,
    },
    schema::text,
};

use super::{
    credits::{Amounts, CREDIT_TYPES, credit_column, credit_columns},
    engine::Engine,
};

/// A table under construction.
#[derive(Debug)]
pub struct TableDraft {
    name: &'static str,
    statement: TableCreateStatement,
    postgres_suffix: Option<&'static str>,
}

impl TableDraft {
    /// An empty draft of the table `name`.
    pub fn new(name: &'static str) -> Self {
        Self { name, statement: Table::create().table(name).take(), postgres_suffix: None }
    }

    /// Adds a column.
    pub fn column(mut self, column: ColumnDef) -> Self {
        self.statement.col(column);
        self
    }

    /// Adds a column with a check on it alone, named after the column.
    pub fn checked_column(self, mut column: ColumnDef, condition: impl Into<Expr>) -> Self {
        let name = format!("ck_{}_{}", self.name, column.get_column_name());
        self.column(column.check((name, condition.into())).take())
    }

    /// Adds a text column that takes one of `values`.
    pub fn text_enum(self, column: &'static str, values: &[&'static str]) -> Self {
        self.checked_column(text(column), Expr::col(column).is_in(values.iter().copied()))
    }

    /// Adds the columns of a credit vector, with their checks.
    pub fn credits(mut self, suffix: &str, amounts: Amounts) -> Self {
        for column in credit_columns(self.name, suffix, amounts) {
            self.statement.col(column);
        }
        self
    }

    /// Adds a check over several columns, named `ck_<table>_<name>`.
    pub fn check(mut self, name: &str, condition: &'static str) -> Self {
        self.statement.check((format!("ck_{}_{name}", self.name), Expr::cust(condition)));
        self
    }

    /// Adds a check for each type of credit that the vector `part` never exceeds the vector `whole`.
    pub fn credits_within(mut self, part: &str, whole: &str) -> Self {
        for credit_type in CREDIT_TYPES {
            let name = format!("ck_{}_{credit_type}_{part}_within_{whole}", self.name);
            let condition = format!("{} <= {}", credit_column(credit_type, part), credit_column(credit_type, whole));
            self.statement.check((name, Expr::cust(condition)));
        }
        self
    }

    /// Makes `columns` the primary key.
    pub fn primary_key(mut self, columns: &[&'static str]) -> Self {
        self.statement.primary_key(&mut key(format!("{}_pkey", self.name), columns));
        self
    }

    /// Adds a unique constraint named `uq_<table>_<name>`.
    pub fn unique(mut self, name: &str, columns: &[&'static str]) -> Self {
        self.statement.index(key(format!("uq_{}_{name}", self.name), columns).unique());
        self
    }

    /// Adds a foreign key from `columns` to the primary key `referenced_columns` of `referenced`.
    ///
    /// There is no `ON DELETE`: nothing this schema refers to is ever deleted, so an attempt is a mistake.
    pub fn references(
        self,
        columns: &[&'static str],
        referenced: &'static str,
        referenced_columns: &[&'static str],
    ) -> Self {
        self.references_as(referenced, columns, referenced, referenced_columns)
    }

    /// As [`Self::references`], named `fk_<table>_<name>`: for a second foreign key to the same table.
    pub fn references_as(
        mut self,
        name: &str,
        columns: &[&'static str],
        referenced: &'static str,
        referenced_columns: &[&'static str],
    ) -> Self {
        let mut foreign_key = ForeignKey::create();
        foreign_key.name(format!("fk_{}_{name}", self.name)).from_tbl(self.name).to_tbl(referenced);
        for column in columns {
            foreign_key.from_col(*column);
        }
        for column in referenced_columns {
            foreign_key.to_col(*column);
        }
        self.statement.foreign_key(&mut foreign_key);
        self
    }

    /// Adds the foreign key of a tenant's table: `organization_id` is an organization.
    pub fn references_organization(self) -> Self {
        self.references(&["organization_id"], "organizations", &["id"])
    }

    /// What follows the columns on PostgreSQL: partitioning and storage parameters, neither of which SQLite has.
    pub fn on_postgres(mut self, suffix: &'static str) -> Self {
        self.postgres_suffix = Some(suffix);
        self
    }

    /// Creates the table.
    ///
    /// # Errors
    ///
    /// What the database says, and [`DbErr::BackendNotSupported`] on an engine this schema is not written for.
    pub async fn create(mut self, manager: &SchemaManager<'_>) -> Result<(), DbErr> {
        let engine = Engine::of(manager.get_database_backend())?;
        if let (Engine::Postgres, Some(suffix)) = (engine, self.postgres_suffix) {
            self.statement.extra(suffix);
        }
        manager.create_table(self.statement).await
    }
}

/// Drops the table `name` if it is there: `fresh` runs every `down`, whatever has been applied.
pub async fn drop_table(manager: &SchemaManager<'_>, name: &'static str) -> Result<(), DbErr> {
    let statement: TableDropStatement = Table::drop().table(name).if_exists().take();
    manager.drop_table(statement).await
}

fn key(name: String, columns: &[&'static str]) -> IndexCreateStatement {
    let mut key = Index::create();
    key.name(name);
    for column in columns {
        key.col(*column);
    }
    key.take()
}
