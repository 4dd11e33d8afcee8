//! What the figures of a report mean: thresholds, findings, a grade and the rule behind it. Pure.

use serde::{Deserialize, Serialize};

use super::measured::{IndexFigures, Measured, TableFigures};

/// From where on a figure is worth a word.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// 95 of 100 consumptions should take no longer, in milliseconds.
    pub consumption_target_ms: f64,
    /// No critical query should take longer to plan, in milliseconds.
    pub planning_target_ms: f64,
    /// A query that takes longer is a warning, in milliseconds.
    pub query_warning_ms: f64,
    /// A query that takes longer is critical, in milliseconds.
    pub query_critical_ms: f64,
    /// More dead rows of a table are a warning.
    pub dead_rows_max: i64,
    /// A lower share of reads by an index is critical.
    pub index_ratio_min: f64,
    /// A lower share of reads by an index misses the target.
    pub index_ratio_target: f64,
    /// Tables with fewer rows do not count there: reading them whole is right.
    pub index_ratio_rows_min: i64,
    /// A lower share of look-ups that a cache answers is a warning.
    pub cache_ratio_min: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            consumption_target_ms: 50.0,
            planning_target_ms: 1.0,
            query_warning_ms: 100.0,
            query_critical_ms: 500.0,
            dead_rows_max: 1_000,
            index_ratio_min: 0.9,
            index_ratio_target: 0.95,
            index_ratio_rows_min: 1_000,
            cache_ratio_min: 0.8,
        }
    }
}

/// Fewer look-ups say nothing about a cache: a process has just started.
const CACHE_LOOKUPS_MIN: u64 = 1_000;

/// Fewer block reads say nothing about the engine's memory either; it is told by the sum over all tables.
const UNUSED_INDEX_BYTES_MIN: i64 = 1_048_576;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A target is missed, or something could be better.
    Notice,
    /// Somebody should look.
    Warning,
    /// Somebody should look now.
    Critical,
}

impl Severity {
    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Something that is not as it should be, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: String,
    /// What was found, with the figure and the threshold.
    pub detail: String,
    /// The exact command that helps, or that shows more.
    pub command: String,
}

/// How it all is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assessment {
    /// `A+` to `F`.
    pub grade: String,
    /// The rule that gave it.
    pub rule: String,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
}

/// Judges what was measured.
pub fn assess(measured: &Measured, thresholds: &Thresholds) -> Assessment {
    let mut findings = consumption(measured, thresholds);
    findings.extend(queries(measured, thresholds));
    for table in &measured.tables {
        findings.extend(dead_rows(measured, table, thresholds));
        findings.extend(index_ratio(table, thresholds));
        findings.extend(statistics(measured, table));
    }
    findings.extend(redundant_indexes(&measured.indexes));
    findings.extend(unused_indexes(measured));
    findings.extend(caches(measured, thresholds));
    findings.extend(pool(measured));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let (grade, rule) = grade(&findings);
    Assessment { grade: grade.to_owned(), rule, findings }
}

fn grade(findings: &[Finding]) -> (&'static str, String) {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (critical, warnings, notices) = (count(Severity::Critical), count(Severity::Warning), count(Severity::Notice));
    let (grade, why) = match (critical, warnings, notices) {
        (0, 0, 0) => ("A+", "every target is met and nothing was found"),
        (0, 0, _) => ("A", "no warning; notices are for an occasion"),
        (0, 1..=2, _) => ("B", "one or two warnings"),
        (0, ..) => ("C", "more than two warnings"),
        (1, ..) => ("D", "one critical finding"),
        _ => ("F", "more than one critical finding"),
    };
    (grade, format!("{why} ({critical} critical, {warnings} warnings, {notices} notices)"))
}

fn finding(severity: Severity, subject: &str, detail: String, command: impl Into<String>) -> Finding {
    Finding { severity, subject: subject.to_owned(), detail, command: command.into() }
}

fn consumption(measured: &Measured, thresholds: &Thresholds) -> Vec<Finding> {
    let Some(latency) = &measured.consumption else { return Vec::new() };
    let target = thresholds.consumption_target_ms;
    if latency.p95_ms <= target {
        return Vec::new();
    }
    let detail = format!("95 of 100 take up to {:.3} ms, the target is {target} ms", latency.p95_ms);
    let command = "curl -s http://ADDRESS/metrics | grep -E 'ledger_(queue_wait|commit_duration)_seconds_(sum|count)'";
    vec![finding(Severity::Warning, "credit consumption", detail, command)]
}

fn queries(measured: &Measured, thresholds: &Thresholds) -> Vec<Finding> {
    let mut findings = Vec::new();
    for query in &measured.queries {
        let explain = match measured.engine.as_str() {
            "postgres" => format!("EXPLAIN (ANALYZE, BUFFERS) {};", query.sql),
            _ => format!("EXPLAIN QUERY PLAN {};", query.sql),
        };
        if let Some(error) = &query.error {
            findings.push(finding(Severity::Warning, &query.name, format!("could not be run: {error}"), explain));
            continue;
        }
        let execution = query.execution_ms.unwrap_or_default();
        let over = |limit: f64| format!("took {execution:.3} ms, more than {limit} ms");
        if execution > thresholds.query_critical_ms {
            let detail = over(thresholds.query_critical_ms);
            findings.push(finding(Severity::Critical, &query.name, detail, explain.clone()));
        } else if execution > thresholds.query_warning_ms {
            findings.push(finding(Severity::Warning, &query.name, over(thresholds.query_warning_ms), explain.clone()));
        }
        let planning = query.planning_ms.unwrap_or_default();
        if planning > thresholds.planning_target_ms {
            let limit = thresholds.planning_target_ms;
            let detail = format!("took {planning:.3} ms to plan, the target is {limit} ms");
            findings.push(finding(Severity::Notice, &query.name, detail, explain));
        }
    }
    findings
}

fn dead_rows(measured: &Measured, table: &TableFigures, thresholds: &Thresholds) -> Option<Finding> {
    let (dead, limit) = (table.dead?, thresholds.dead_rows_max);
    (dead > limit).then(|| {
        let detail = format!("{dead} dead rows, more than {limit}");
        finding(Severity::Warning, &table.name, detail, vacuum(measured, table))
    })
}

fn vacuum(measured: &Measured, table: &TableFigures) -> String {
    if measured.engine == "postgres" { format!("VACUUM (ANALYZE) {};", table.name) } else { "VACUUM;".to_owned() }
}

fn index_ratio(table: &TableFigures, thresholds: &Thresholds) -> Option<Finding> {
    let ratio = table.index_ratio()?;
    if table.live.unwrap_or_default() < thresholds.index_ratio_rows_min {
        return None;
    }
    let show =
        |limit: f64| format!("{:.1} % of its reads go by an index, {:.0} % should", ratio * 100.0, limit * 100.0);
    let command = format!(
        "SELECT query, calls FROM pg_stat_statements WHERE query ILIKE '%{}%' ORDER BY calls DESC;",
        table.name
    );
    if ratio < thresholds.index_ratio_min {
        Some(finding(Severity::Critical, &table.name, show(thresholds.index_ratio_min), command))
    } else if ratio < thresholds.index_ratio_target {
        Some(finding(Severity::Notice, &table.name, show(thresholds.index_ratio_target), command))
    } else {
        None
    }
}

/// Plans rest on statistics: a table that has never been looked at is planned by guesses.
fn statistics(measured: &Measured, table: &TableFigures) -> Option<Finding> {
    let is_used = table.live.unwrap_or_default() >= 1_000;
    (is_used && table.last_analyze_at.is_none() && measured.engine == "postgres").then(|| {
        let detail = "its statistics have never been taken".to_owned();
        finding(Severity::Notice, &table.name, detail, format!("ANALYZE {};", table.name))
    })
}

/// Indexes whose columns are the beginning of another one's over the same rows, with that other one.
pub fn redundant(indexes: &[IndexFigures]) -> Vec<(&IndexFigures, &IndexFigures)> {
    let covers = |wide: &IndexFigures, narrow: &IndexFigures| {
        let same_rows = wide.table == narrow.table && wide.condition == narrow.condition;
        let is_same = wide.columns == narrow.columns;
        // Of two that are the same, the one goes that keeps nothing unique, or else that comes later.
        let stays = (wide.is_primary, wide.is_unique, std::cmp::Reverse(&wide.name))
            > (narrow.is_primary, narrow.is_unique, std::cmp::Reverse(&narrow.name));
        wide.name != narrow.name
            && same_rows
            && wide.columns.starts_with(&narrow.columns)
            && (if is_same { stays } else { !narrow.is_unique })
    };
    let pair = |narrow| indexes.iter().find(|wide| covers(wide, narrow)).map(|wide| (narrow, wide));
    indexes.iter().filter_map(pair).collect()
}

fn redundant_indexes(indexes: &[IndexFigures]) -> Vec<Finding> {
    let pairs = redundant(indexes).into_iter();
    pairs
        .map(|(narrow, wide)| {
            let detail = format!("{} answers everything that it does", wide.name);
            finding(Severity::Warning, &narrow.name, detail, format!("DROP INDEX {};", narrow.name))
        })
        .collect()
}

/// Whether an index has never been used and keeps nothing unique.
pub fn is_unused(index: &IndexFigures) -> bool {
    index.scans == Some(0) && !index.is_primary && !index.is_unique
}

fn unused_indexes(measured: &Measured) -> Vec<Finding> {
    let worth =
        |index: &&IndexFigures| is_unused(index) && index.size_bytes.unwrap_or_default() >= UNUSED_INDEX_BYTES_MIN;
    let since = measured.counting_since.map_or_else(String::new, |at| format!(" since {at}"));
    let unused = measured.indexes.iter().filter(worth);
    unused
        .map(|index| {
            let detail = format!("{} bytes that no query has used{since}", index.size_bytes.unwrap_or_default());
            let command = format!("grep {} docs/INDEXES.md   # the query that needs it, before DROP INDEX", index.name);
            finding(Severity::Notice, &index.name, detail, command)
        })
        .collect()
}

fn caches(measured: &Measured, thresholds: &Thresholds) -> Vec<Finding> {
    let mut findings = Vec::new();
    let limit = thresholds.cache_ratio_min;
    let show =
        |ratio: f64| format!("{:.1} % of look-ups are answered, {:.0} % should be", ratio * 100.0, limit * 100.0);
    if let Some(ratio) = measured.buffer_hit_ratio.filter(|ratio| *ratio < limit) {
        let command = "ALTER SYSTEM SET shared_buffers = '25% of the memory';   -- then restart PostgreSQL";
        findings.push(finding(Severity::Warning, "the engine's buffers", show(ratio), command));
    }
    for cache in measured.caches.iter().filter(|cache| cache.hits + cache.misses >= CACHE_LOOKUPS_MIN) {
        if let Some(ratio) = cache.hit_ratio().filter(|ratio| *ratio < limit) {
            let command = "curl -s http://ADDRESS/metrics | grep multicredit_cache_requests_total";
            findings.push(finding(Severity::Warning, &format!("cache {}", cache.name), show(ratio), command));
        }
    }
    findings
}

fn pool(measured: &Measured) -> Option<Finding> {
    let pool = &measured.pool;
    (pool.timeouts > 0).then(|| {
        let detail = format!("{} reads were refused for want of a connection", pool.timeouts);
        let command =
            format!("MULTICREDIT_MAX_CONNECTIONS={}   # docs/OPERATING.md says when that helps", pool.max * 2);
        finding(Severity::Warning, "connection pool", detail, command)
    })
}

#[cfg(test)]
#[path = "assess_tests.rs"]
mod tests;
