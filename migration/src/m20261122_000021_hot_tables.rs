//! What every consumption pays on PostgreSQL, made smaller: one check instead of eleven on each of the two tables that it
//! writes, and plans of the express path that are kept.
//!
//! PostgreSQL reads the text of every check of a table anew for every statement that writes to it. With eleven on the
//! balances and eleven on the log, that was two fifths of a call that spends once. One check that says the same is read
//! in a fraction of that. Nothing is checked less: what stood in a check each now stands in one, and what is a
//! minimum of many values is compared once.
//!
//! SQLite reads its checks once for each prepared statement and cannot change those of a table, so it keeps them.

use sea_orm_migration::{MigrationTrait, SchemaManager, prelude::DbErr, sea_orm::DeriveMigrationName};

use crate::helper::{
    ORGANIZATION_STATUSES,
    credits::{CREDIT_TYPES, credit_column},
    engine::on_postgres,
};
use crate::m20261122_000019_express_path::function;

/// A condition that rows had to meet, by the name of its check.
type NamedCheck = (String, String);

/// A table with its checks.
struct HotTable {
    name: &'static str,
    /// All of them in one.
    together: String,
    /// The same, each by itself, as the table was made with.
    each: Vec<NamedCheck>,
}

fn hot_tables() -> [HotTable; 2] {
    let statuses = ORGANIZATION_STATUSES.iter().map(|status| format!("'{status}'")).collect::<Vec<_>>().join(", ");
    let balances = amounts(&["available", "held"]);
    let log = amounts(&["consumed", "available_after"]);
    [
        HotTable {
            name: "organization_credits",
            together: format!(
                "LEAST({}, sequence, settled_sequence, sequence - settled_sequence) >= 0 AND status IN ({statuses})",
                balances.join(", ")
            ),
            each: non_negative(&balances)
                .chain([
                    ("status".to_owned(), format!("status IN ({statuses})")),
                    ("sequence".to_owned(), "sequence >= 0".to_owned()),
                    (
                        "settled_sequence".to_owned(),
                        "settled_sequence >= 0 AND settled_sequence <= sequence".to_owned(),
                    ),
                ])
                .collect(),
        },
        HotTable {
            name: "credit_consumption_logs",
            // LEAST passes over nulls, as the checks of columns that may be null did.
            together: format!(
                "LEAST(quantity - 1, {}) >= 0 AND success = (sequence IS NOT NULL) AND success = (error_code IS NULL)",
                log.join(", ")
            ),
            each: non_negative(&log)
                .chain([
                    ("quantity".to_owned(), "quantity >= 1".to_owned()),
                    ("success_has_sequence".to_owned(), "success = (sequence IS NOT NULL)".to_owned()),
                    ("refusal_has_error_code".to_owned(), "(error_code IS NULL) = success".to_owned()),
                ])
                .collect(),
        },
    ]
}

fn amounts(suffixes: &[&str]) -> Vec<String> {
    let of = |suffix: &&str| CREDIT_TYPES.map(|credit_type| credit_column(credit_type, suffix));
    suffixes.iter().flat_map(of).collect()
}

fn non_negative(columns: &[String]) -> impl Iterator<Item = NamedCheck> {
    columns.iter().map(|column| (column.clone(), format!("{column} >= 0")))
}

impl HotTable {
    /// Replaces the checks by one. It is known to hold for the rows that are there, so they are not read again.
    fn merge(&self) -> String {
        let Self { name, together, each } = self;
        let drop = each.iter().map(|(check, _)| format!("DROP CONSTRAINT IF EXISTS ck_{name}_{check}"));
        let add = format!("ADD CONSTRAINT ck_{name}_in_range CHECK ({together}) NOT VALID");
        format!("ALTER TABLE {name} {}, {add};", drop.collect::<Vec<_>>().join(", "))
    }

    fn split(&self) -> String {
        let Self { name, each, .. } = self;
        let add = each.iter().map(|(check, rule)| {
            format!(
                "DROP CONSTRAINT IF EXISTS ck_{name}_{check}, ADD CONSTRAINT ck_{name}_{check} CHECK ({rule}) NOT VALID"
            )
        });
        format!(
            "ALTER TABLE IF EXISTS {name} DROP CONSTRAINT IF EXISTS ck_{name}_in_range, {};",
            add.collect::<Vec<_>>().join(", ")
        )
    }
}

/// Merges the checks and makes the function anew.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in hot_tables() {
            on_postgres(manager, &table.merge()).await?;
        }
        on_postgres(manager, &function()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in hot_tables() {
            on_postgres(manager, &table.split()).await?;
        }
        Ok(())
    }
}
