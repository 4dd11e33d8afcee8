//! The sums of a part of the log, as columns of rows and as values.

use multicredit_domain::credit::COUNT;
use multicredit_domain::{CreditType, UsageSums};
use sea_orm::{DbErr, QueryResult};

use crate::sql::{Cell, Column, Kind};
use crate::sql::{Dialect, Rows, credit_columns};

/// The columns of sums.
pub(super) fn columns() -> impl Iterator<Item = Column> {
    let counts = ["consumption_count", "refused_count"].map(|name| Column::new(name, Kind::BigInt));
    credit_columns("consumed").chain(credit_columns("refunded")).chain(counts)
}

/// `f(column)` for every column of sums, separated by commas.
pub(super) fn each(f: impl Fn(&str) -> String) -> String {
    columns().map(|column| f(&column.name)).collect::<Vec<_>>().join(", ")
}

/// What adds the columns up. The sum of bigints is numeric on PostgreSQL.
pub(super) fn summed(table: &str) -> String {
    each(|name| format!("CAST(SUM({table}.{name}) AS BIGINT) AS {name}"))
}

/// Two selects of what happened to an organization of `owners`, a relation that has `organization_id`: attempts and
/// refunds, a row each, with `organization_id`, `bucket_start`, `action_type`, `created_at` and the columns of sums.
/// `condition` bounds the `created_at` of either, by its table's name.
pub(super) fn events(d: &Dialect<'_>, owners: &str, condition: impl Fn(&str) -> String) -> String {
    let quarter = d.quarter("COALESCE(l.occurred_at, l.created_at)");
    let nothing = |suffix| credit_columns(suffix).map(|column| format!("0 AS {}", column.name)).collect::<Vec<_>>();
    let of = |table, suffix| credit_columns(suffix).map(move |column| format!("{table}.{}", column.name));
    let attempts = of("l", "consumed").chain(nothing("refunded")).collect::<Vec<_>>().join(", ");
    let refunds = nothing("consumed").into_iter().chain(of("r", "refunded")).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT l.organization_id, {quarter} AS bucket_start, l.action_type, l.created_at AS attempted_at, {attempts}, \
         CASE WHEN l.success THEN 1 ELSE 0 END AS consumption_count, CASE WHEN l.success THEN 0 ELSE 1 END AS refused_count \
         FROM {owners} JOIN credit_consumption_logs l ON l.organization_id = o.organization_id AND {of_attempts} \
         UNION ALL \
         SELECT r.organization_id, {quarter}, l.action_type, NULL, {refunds}, 0, 0 \
         FROM {owners} JOIN credit_refunds r ON r.organization_id = o.organization_id AND {of_refunds} \
         JOIN credit_consumption_logs l ON l.organization_id = r.organization_id AND l.id = r.consumption_id",
        of_attempts = condition("l"),
        of_refunds = condition("r"),
    )
}

/// Reads the sums of a row.
pub(super) fn read(row: &QueryResult) -> Result<UsageSums, DbErr> {
    Ok(UsageSums {
        consumed: vector(row, "consumed")?,
        refunded: vector(row, "refunded")?,
        count: row.try_get("", "consumption_count")?,
        refused: row.try_get("", "refused_count")?,
    })
}

fn vector(row: &QueryResult, suffix: &str) -> Result<[i64; COUNT], DbErr> {
    let mut values = [0; COUNT];
    for (value, credit_type) in values.iter_mut().zip(CreditType::ALL) {
        *value = row.try_get("", &format!("{credit_type}_credits_{suffix}"))?;
    }
    Ok(values)
}

/// The cells of sums.
pub(super) fn cells(rows: &mut Rows, sums: &UsageSums) {
    for value in sums.consumed.into_iter().chain(sums.refunded).chain([sums.count, sums.refused]) {
        rows.cell(Cell::Int(value));
    }
}
