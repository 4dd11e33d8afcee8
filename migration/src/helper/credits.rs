//! Credit vectors as columns: one column for each type of credit, so that the database can check and sum each by itself.

use sea_orm_migration::{
    prelude::{ColumnDef, Expr},
    schema::{big_integer, big_integer_null},
};

/// The types of credits there were when this set of migrations was written.
///
/// FROZEN: this is deliberately not the domain's enum. If it grew with the enum, a database migrated yesterday and one
/// migrated tomorrow would differ while both claim to have the same migrations applied. A fifth type is a migration
/// of its own that adds its columns.
pub const CREDIT_TYPES: [&str; 4] = ["ai", "whatsapp", "email", "sms"];

/// The largest amount of credits and the largest quantity, 2^53 - 1: the largest whole number that every reader of
/// JSON can represent. FROZEN like the types.
pub const AMOUNT_MAX: i64 = 9_007_199_254_740_991;

/// Which values the columns of a credit vector take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amounts {
    /// A stock or a cost: 0 or more, 0 unless said.
    NonNegative,
    /// A stock that is unknown for some rows: 0 or more, or null.
    NonNegativeOrNull,
    /// A change: any sign, 0 unless said.
    Signed,
}

/// The column of one type of credit: `ai_credits_available` for `ai` and `available`.
pub fn credit_column(credit_type: &str, suffix: &str) -> String {
    format!("{credit_type}_credits_{suffix}")
}

/// `f(type)` for every type of credit, one after the other: for the texts of functions.
pub fn each(separator: &str, f: impl Fn(&str) -> String) -> String {
    CREDIT_TYPES.iter().map(|credit_type| f(credit_type)).collect::<Vec<_>>().join(separator)
}

/// The columns of a credit vector of `table`, each with its own named check.
///
/// The checks stand on the columns and not on the vector, because SQLite cannot change a check of an existing table
/// but can add a column that brings one: so a new type of credit stays a plain `ADD COLUMN`.
pub fn credit_columns(table: &str, suffix: &str, amounts: Amounts) -> Vec<ColumnDef> {
    CREDIT_TYPES
        .iter()
        .map(|credit_type| {
            let name = credit_column(credit_type, suffix);
            let non_negative = (format!("ck_{table}_{name}"), Expr::cust(format!("{name} >= 0")));
            match amounts {
                Amounts::NonNegative => big_integer(name).default(0).check(non_negative).take(),
                Amounts::NonNegativeOrNull => big_integer_null(name).check(non_negative).take(),
                Amounts::Signed => big_integer(name).default(0).take(),
            }
        })
        .collect()
}
