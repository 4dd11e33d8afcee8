//! The performance report in words and tables, for a terminal or as Markdown.
//!
//! It follows the report that somebody once made by hand: indexes, queries, tables, benchmarks, recommendations. What
//! the figures mean was decided where they were judged ([`multicredit_store::performance`]); here they are only shown.

mod comparison;
mod page;
pub mod schedule;

use multicredit_domain::Timestamp;
use multicredit_store::performance::Latency;
use multicredit_store::performance::{
    Measured, PerformanceReport, QueryFigures, TableFigures, Thresholds, is_unused, redundant,
};
use multicredit_store::stats::Distribution;

use self::page::Page;
pub use self::page::Style;

/// What stands where nothing is known.
const UNKNOWN: &str = "-";

/// What a server has measured of consumptions; `None` before the first.
pub fn latency_of(durations: &Distribution) -> Option<Latency> {
    let ms = |share| durations.quantile(share).map(|us| us / 1e3);
    #[expect(clippy::cast_precision_loss, reason = "an average")]
    let mean_ms = durations.sum as f64 / durations.count().max(1) as f64 / 1e3;
    Some(Latency {
        source: "POST .../consume of this server since its start".to_owned(),
        count: durations.count(),
        mean_ms,
        p50_ms: ms(0.5)?,
        p95_ms: ms(0.95)?,
        p99_ms: ms(0.99)?,
    })
}

/// The report, compared with an earlier one if there is one.
pub fn render(
    report: &PerformanceReport,
    thresholds: &Thresholds,
    since: Option<&PerformanceReport>,
    style: Style,
) -> String {
    let measured = &report.measured;
    let mut page = Page::new(style);
    page.heading(1, "Performance report");
    summary(&mut page, report);
    indexes(&mut page, measured);
    queries(&mut page, measured, thresholds);
    tables(&mut page, measured, thresholds);
    benchmarks(&mut page, measured, thresholds);
    caches_and_connections(&mut page, measured);
    statements(&mut page, measured);
    recommendations(&mut page, report);
    if let Some(since) = since {
        comparison::write(&mut page, since, report);
    }
    unknown(&mut page, measured);
    page.into_text()
}

fn summary(page: &mut Page, report: &PerformanceReport) {
    let measured = &report.measured;
    let rows = [
        ["date", &time(measured.at)],
        ["database", &format!("{} {}", measured.engine, measured.version)],
        ["size", &bytes(measured.size_bytes)],
        ["counting since", &measured.counting_since.map_or_else(|| "it was made".to_owned(), time)],
        ["grade", &format!("{}: {}", report.assessment.grade, report.assessment.rule)],
    ];
    page.table(["", "value"], &rows.map(|row| row.map(str::to_owned)));
}

fn indexes(page: &mut Page, measured: &Measured) {
    page.heading(2, "Indexes");
    let covered = redundant(&measured.indexes);
    let rows: Vec<_> = measured
        .indexes
        .iter()
        .map(|index| {
            let kind = match (index.is_primary, index.is_unique) {
                (true, _) => "PRIMARY KEY",
                (_, true) => "UNIQUE",
                _ => "INDEX",
            };
            let mut definition = index.columns.join(", ");
            if let Some(condition) = &index.condition {
                definition = format!("{definition} WHERE {condition}");
            }
            let twin = covered.iter().find(|(narrow, _)| narrow.name == index.name);
            let verdict = match twin {
                Some((_, wide)) => format!("duplicate of {}", wide.name),
                None if is_unused(index) => "unused".to_owned(),
                None => "ok".to_owned(),
            };
            [
                index.table.clone(),
                index.name.clone(),
                kind.to_owned(),
                definition,
                bytes(index.size_bytes),
                count(index.scans),
                verdict,
            ]
        })
        .collect();
    page.table(["table", "index", "type", "definition", "size", "scans", "verdict"], &rows);
    let unused = measured.indexes.iter().filter(|index| is_unused(index)).count();
    let duplicates = covered.len();
    page.paragraph(&format!("Total indexes: {}; duplicates: {duplicates}; unused: {unused}.", measured.indexes.len()));
}

fn queries(page: &mut Page, measured: &Measured, thresholds: &Thresholds) {
    page.heading(2, "Query performance");
    let rows: Vec<_> = measured
        .queries
        .iter()
        .map(|query| {
            [
                query.name.clone(),
                query.purpose.clone(),
                ms(query.execution_ms),
                ms(query.planning_ms),
                count(query.rows),
                access(query),
                verdict(query, thresholds).to_owned(),
            ]
        })
        .collect();
    page.table(["query", "asked by", "execution", "planning", "rows", "indexes used", "verdict"], &rows);
    for query in &measured.queries {
        page.heading(3, &query.name);
        page.code("sql", &query.sql);
    }
}

/// By which indexes a query found its rows.
fn access(query: &QueryFigures) -> String {
    let mut access = query.indexes.clone();
    access.extend(query.full_scans.iter().map(|table| format!("all of {table}")));
    if access.is_empty() { "inside the function".to_owned() } else { access.join(", ") }
}

fn verdict(query: &QueryFigures, thresholds: &Thresholds) -> &'static str {
    let over = |limit: f64| query.execution_ms.is_some_and(|ms| ms > limit);
    match query {
        QueryFigures { error: Some(_), .. } => "could not be run",
        _ if over(thresholds.query_critical_ms) => "critical",
        _ if over(thresholds.query_warning_ms) => "slow",
        _ if over(thresholds.consumption_target_ms) => "acceptable",
        _ => "good",
    }
}

fn tables(page: &mut Page, measured: &Measured, thresholds: &Thresholds) {
    page.heading(2, "Table statistics");
    let rows: Vec<_> = measured
        .tables
        .iter()
        .map(|table| {
            [
                table.name.clone(),
                count(table.inserts),
                count(table.updates),
                percent(table.hot_ratio()),
                count(table.deletes),
                count(table.live),
                count(table.dead),
                percent(table.index_ratio()),
                table.last_vacuum_at.map_or_else(|| UNKNOWN.to_owned(), time),
                table.last_analyze_at.map_or_else(|| UNKNOWN.to_owned(), time),
                bytes(table.size_bytes),
                table_verdict(table, thresholds).to_owned(),
            ]
        })
        .collect();
    let header = [
        "table",
        "inserts",
        "updates",
        "HOT",
        "deletes",
        "live rows",
        "dead rows",
        "by index",
        "last vacuum",
        "last analyze",
        "size",
        "verdict",
    ];
    page.table(header, &rows);
    let sum = |value: fn(&TableFigures) -> Option<i64>| {
        measured.tables.iter().filter_map(value).reduce(|sum, value| sum + value)
    };
    if let (Some(live), Some(dead)) = (sum(|table| table.live), sum(|table| table.dead)) {
        page.paragraph(&format!("Total live rows: {live}; dead rows: {dead}."));
    }
}

fn table_verdict(table: &TableFigures, thresholds: &Thresholds) -> &'static str {
    match table.dead {
        None => UNKNOWN,
        Some(dead) if dead > thresholds.dead_rows_max => "needs vacuum",
        Some(_) => "healthy",
    }
}

fn benchmarks(page: &mut Page, measured: &Measured, thresholds: &Thresholds) {
    page.heading(2, "Benchmarks");
    let met = |is_met: bool| if is_met { "met" } else { "MISSED" }.to_owned();
    let mut rows = Vec::new();
    if let Some(latency) = &measured.consumption {
        let target = thresholds.consumption_target_ms;
        rows.push([
            "credit consumption, 95 of 100".to_owned(),
            format!("{target} ms"),
            format!("{:.3} ms", latency.p95_ms),
            met(latency.p95_ms <= target),
        ]);
    }
    let slowest =
        |value: fn(&QueryFigures) -> Option<f64>| measured.queries.iter().filter_map(value).max_by(f64::total_cmp);
    if let Some(planning) = slowest(|query| query.planning_ms) {
        let target = thresholds.planning_target_ms;
        let row = ["slowest planning", &format!("{target} ms"), &format!("{planning:.3} ms")].map(str::to_owned);
        let [what, target_text, found] = row;
        rows.push([what, target_text, found, met(planning <= target)]);
    }
    if let Some(execution) = slowest(|query| query.execution_ms) {
        let limit = thresholds.query_warning_ms;
        rows.push([
            "slowest critical query".to_owned(),
            format!("{limit} ms"),
            format!("{execution:.3} ms"),
            met(execution <= limit),
        ]);
    }
    if let Some(ratio) = index_ratio(measured, thresholds.index_ratio_rows_min) {
        rows.push([
            "reads by an index".to_owned(),
            percent(Some(thresholds.index_ratio_target)),
            percent(Some(ratio)),
            met(ratio >= thresholds.index_ratio_target),
        ]);
    }
    if let Some(ratio) = measured.buffer_hit_ratio {
        let target = thresholds.cache_ratio_min;
        let found = percent(Some(ratio));
        rows.push(["blocks found in memory".to_owned(), percent(Some(target)), found, met(ratio >= target)]);
    }
    page.table(["benchmark", "target", "achieved", "status"], &rows);
    if let Some(latency) = &measured.consumption {
        page.paragraph(&format!(
            "Credit consumption: mean {:.3} ms, median {:.3} ms, 95 of 100 {:.3} ms, 99 of 100 {:.3} ms ({} measured: {}).",
            latency.mean_ms, latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.count, latency.source
        ));
    }
}

/// The share of reads by an index over all tables that are large enough to count.
pub fn index_ratio(measured: &Measured, rows_min: i64) -> Option<f64> {
    let large = measured.tables.iter().filter(|table| table.live.unwrap_or_default() >= rows_min);
    let (by_index, full) = large.fold((0, 0), |(by_index, full), table| {
        (by_index + table.index_scans.unwrap_or_default(), full + table.full_scans.unwrap_or_default())
    });
    let all = TableFigures { index_scans: Some(by_index), full_scans: Some(full), ..TableFigures::default() };
    all.index_ratio()
}

fn caches_and_connections(page: &mut Page, measured: &Measured) {
    page.heading(2, "Caches and connections");
    let buffers = measured
        .buffer_hit_ratio
        .map(|ratio| ["the engine's buffers".to_owned(), percent(Some(ratio)), UNKNOWN.to_owned()]);
    let ours = measured
        .caches
        .iter()
        .map(|cache| [cache.name.clone(), percent(cache.hit_ratio()), (cache.hits + cache.misses).to_string()]);
    page.table(["cache", "hit ratio", "look-ups"], &buffers.into_iter().chain(ours).collect::<Vec<_>>());
    let pool = &measured.pool;
    let row = [
        format!("{} of {}", pool.open, pool.max),
        pool.idle.to_string(),
        ms(pool.wait_p95_ms),
        pool.timeouts.to_string(),
        match (pool.database_connections, pool.database_connections_max) {
            (Some(open), Some(max)) => format!("{open} of {max}"),
            _ => UNKNOWN.to_owned(),
        },
    ];
    page.table(["pool", "idle", "wait, 95 of 100", "timeouts", "the whole database"], &[row]);
}

fn statements(page: &mut Page, measured: &Measured) {
    if measured.statements.is_empty() {
        return;
    }
    page.heading(2, "Statements that took the most time");
    let rows: Vec<_> = measured
        .statements
        .iter()
        .map(|statement| {
            [
                statement.calls.to_string(),
                ms(Some(statement.mean_ms)),
                ms(Some(statement.max_ms)),
                ms(Some(statement.total_ms)),
                statement.sql.clone(),
            ]
        })
        .collect();
    page.table(["calls", "mean", "longest", "total", "statement"], &rows);
}

fn recommendations(page: &mut Page, report: &PerformanceReport) {
    page.heading(2, "Recommendations");
    if report.assessment.findings.is_empty() {
        page.paragraph("None.");
    }
    for finding in &report.assessment.findings {
        page.paragraph(&format!("{}: {}: {}", finding.severity.as_str(), finding.subject, finding.detail));
        page.code("", &finding.command);
    }
    page.heading(2, "Grade");
    page.paragraph(&format!("{}: {}.", report.assessment.grade, report.assessment.rule));
}

fn unknown(page: &mut Page, measured: &Measured) {
    if measured.unknown.is_empty() {
        return;
    }
    page.heading(2, "What cannot be told here");
    let rows: Vec<_> = measured.unknown.iter().map(|unknown| [unknown.what.clone(), unknown.why.clone()]).collect();
    page.table(["what", "why"], &rows);
}

fn time(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn count(value: Option<i64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string())
}

fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| format!("{value:.3} ms"))
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| UNKNOWN.to_owned(), |ratio| format!("{:.1} %", ratio * 100.0))
}

fn bytes(value: Option<i64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
    let show = |value: i64| match value {
        ..1_024 => format!("{value} B"),
        1_024..1_048_576 => format!("{:.1} KiB", value as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", value as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", value as f64 / 1_073_741_824.0),
    };
    value.map_or_else(|| UNKNOWN.to_owned(), show)
}
