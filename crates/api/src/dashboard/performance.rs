//! The performance report as a page: the same report that `GET /v1/performance` answers.

use std::sync::Arc;

use askama::Template;
use multicredit_store::performance::{IndexFigures, PerformanceReport, QueryFigures, TableFigures, Thresholds};
use poem::Response;

use super::answer::{self, Shell};
use super::session::Visit;
use super::show::{self, Moment, number};
use crate::auth::scope;
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "dashboard/performance.html")]
struct PerformancePage {
    shell: Shell,
    at: Moment,
    report: Arc<PerformanceReport>,
    thresholds: Thresholds,
    size: Option<String>,
    counting_since: Option<Moment>,
    queries: Vec<QueryRow>,
    tables: Vec<TableRow>,
    indexes: Vec<IndexRow>,
    caches: Vec<(String, String, String)>,
}

struct QueryRow {
    name: String,
    purpose: String,
    execution: String,
    planning: String,
    rows: String,
    access: String,
    sql: String,
    verdict: &'static str,
}

struct TableRow {
    name: String,
    live: String,
    dead: String,
    is_dirty: bool,
    inserts: String,
    updates: String,
    deletes: String,
    hot: String,
    by_index: String,
    vacuumed: Option<Moment>,
    analyzed: Option<Moment>,
    size: String,
}

struct IndexRow {
    table: String,
    name: String,
    columns: String,
    condition: Option<String>,
    scans: String,
    size: String,
}

/// What cannot be told.
const UNKNOWN: &str = "\u{2013}";

fn maybe(value: Option<i64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), number)
}

fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |ms| format!("{ms:.3}"))
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), show::percent)
}

fn size(value: Option<i64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), show::bytes)
}

fn query_row(query: &QueryFigures, thresholds: &Thresholds) -> QueryRow {
    let mut access: Vec<String> = query.indexes.clone();
    access.extend(query.full_scans.iter().map(|table| format!("all of {table}")));
    let verdict = match query.execution_ms {
        None => "unknown",
        Some(ms) if ms > thresholds.query_critical_ms => "critical",
        Some(ms) if ms > thresholds.query_warning_ms => "warning",
        Some(_) => "fine",
    };
    QueryRow {
        name: query.name.clone(),
        purpose: query.purpose.clone(),
        execution: ms(query.execution_ms),
        planning: ms(query.planning_ms),
        rows: maybe(query.rows),
        access: query.error.clone().unwrap_or_else(|| access.join(", ")),
        sql: query.sql.clone(),
        verdict: if query.error.is_some() { "warning" } else { verdict },
    }
}

fn table_row(table: &TableFigures, thresholds: &Thresholds) -> TableRow {
    TableRow {
        name: if table.partitions > 0 {
            format!("{} ({} partitions)", table.name, table.partitions)
        } else {
            table.name.clone()
        },
        live: maybe(table.live),
        dead: maybe(table.dead),
        is_dirty: table.dead.is_some_and(|dead| dead > thresholds.dead_rows_max),
        inserts: maybe(table.inserts),
        updates: maybe(table.updates),
        deletes: maybe(table.deletes),
        hot: ratio(table.hot_ratio()),
        by_index: ratio(table.index_ratio()),
        vacuumed: table.last_vacuum_at.map(show::moment),
        analyzed: table.last_analyze_at.map(show::moment),
        size: size(table.size_bytes),
    }
}

fn index_row(index: &IndexFigures) -> IndexRow {
    IndexRow {
        table: index.table.clone(),
        name: index.name.clone(),
        columns: index.columns.join(", "),
        condition: index.condition.clone(),
        scans: maybe(index.scans),
        size: size(index.size_bytes),
    }
}

/// The page.
pub async fn page(visit: &Visit) -> Result<Response, Problem> {
    let auth = visit.auth::<scope::Observe>()?;
    let state = auth.context().state();
    let report = state.report.get(state).await?;
    let thresholds = state.settings.thresholds;
    let measured = &report.measured;
    let caches = measured.caches.iter().map(|it| {
        let lookups = i128::from(it.hits) + i128::from(it.misses);
        (show::words(&it.name), number(lookups), ratio(it.hit_ratio()))
    });
    answer::html(&PerformancePage {
        shell: visit.shell("performance"),
        at: show::moment_to_the_second(measured.at),
        size: measured.size_bytes.map(show::bytes),
        counting_since: measured.counting_since.map(show::moment),
        queries: measured.queries.iter().map(|query| query_row(query, &thresholds)).collect(),
        tables: measured.tables.iter().map(|table| table_row(table, &thresholds)).collect(),
        indexes: measured.indexes.iter().map(index_row).collect(),
        caches: caches.collect(),
        thresholds,
        report: Arc::clone(&report),
    })
}
