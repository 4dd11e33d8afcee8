use chrono::DateTime;

use super::super::measured::{CacheFigures, Latency, PoolFigures, QueryFigures};
use super::*;

/// Nothing to complain of, on PostgreSQL.
fn sound() -> Measured {
    Measured {
        at: DateTime::UNIX_EPOCH,
        engine: "postgres".to_owned(),
        version: "15".to_owned(),
        size_bytes: None,
        counting_since: None,
        consumption: None,
        queries: Vec::new(),
        tables: Vec::new(),
        indexes: Vec::new(),
        buffer_hit_ratio: None,
        caches: Vec::new(),
        pool: PoolFigures::default(),
        statements: Vec::new(),
        unknown: Vec::new(),
    }
}

fn found(measured: &Measured) -> Vec<(Severity, String)> {
    let assessment = assess(measured, &Thresholds::default());
    assessment.findings.into_iter().map(|finding| (finding.severity, finding.subject)).collect()
}

/// What is found where a figure is just at its threshold, and just beyond it.
fn around(set: impl Fn(&mut Measured, bool)) -> [Option<Severity>; 2] {
    [false, true].map(|is_beyond| {
        let mut measured = sound();
        set(&mut measured, is_beyond);
        found(&measured).first().map(|(severity, _)| *severity)
    })
}

fn latency(p95_ms: f64) -> Latency {
    Latency { source: "a test".to_owned(), count: 100, mean_ms: 1.0, p50_ms: 1.0, p95_ms, p99_ms: p95_ms }
}

fn query(execution_ms: f64, planning_ms: f64) -> QueryFigures {
    QueryFigures {
        name: "q".to_owned(),
        purpose: "a test".to_owned(),
        sql: "SELECT 1".to_owned(),
        execution_ms: Some(execution_ms),
        planning_ms: Some(planning_ms),
        rows: Some(1),
        indexes: Vec::new(),
        full_scans: Vec::new(),
        error: None,
    }
}

fn table() -> TableFigures {
    TableFigures {
        name: "t".to_owned(),
        live: Some(1_000),
        last_analyze_at: Some(DateTime::UNIX_EPOCH),
        ..TableFigures::default()
    }
}

fn scanned(index_scans: i64, full_scans: i64, live: i64) -> TableFigures {
    TableFigures { index_scans: Some(index_scans), full_scans: Some(full_scans), live: Some(live), ..table() }
}

fn index(name: &str, columns: &[&str]) -> IndexFigures {
    IndexFigures {
        table: "t".to_owned(),
        name: name.to_owned(),
        is_primary: false,
        is_unique: false,
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        condition: None,
        size_bytes: Some(UNUSED_INDEX_BYTES_MIN),
        scans: Some(1),
    }
}

#[test]
fn consumption_slower_than_its_target_is_a_warning() {
    let found = around(|it, beyond| it.consumption = Some(latency(if beyond { 50.1 } else { 50.0 })));
    assert_eq!(found, [None, Some(Severity::Warning)]);
}

#[test]
fn planning_slower_than_its_target_is_a_notice() {
    let found = around(|it, beyond| it.queries = vec![query(1.0, if beyond { 1.1 } else { 1.0 })]);
    assert_eq!(found, [None, Some(Severity::Notice)]);
}

#[test]
fn a_query_is_a_warning_above_the_one_threshold_and_critical_above_the_other() {
    let warns = around(|it, beyond| it.queries = vec![query(if beyond { 100.1 } else { 100.0 }, 0.1)]);
    assert_eq!(warns, [None, Some(Severity::Warning)]);
    let alarms = around(|it, beyond| it.queries = vec![query(if beyond { 500.1 } else { 500.0 }, 0.1)]);
    assert_eq!(alarms, [Some(Severity::Warning), Some(Severity::Critical)]);
}

#[test]
fn a_query_that_cannot_be_run_is_a_warning() {
    let found = around(|it, beyond| {
        it.queries = vec![QueryFigures { error: beyond.then(|| "no".to_owned()), ..query(0.1, 0.1) }];
    });
    assert_eq!(found, [None, Some(Severity::Warning)]);
}

#[test]
fn more_dead_rows_than_allowed_are_a_warning_with_the_command_that_helps() {
    let found = around(|it, beyond| {
        it.tables = vec![TableFigures { dead: Some(if beyond { 1_001 } else { 1_000 }), ..table() }];
    });
    assert_eq!(found, [None, Some(Severity::Warning)]);
    let mut measured = sound();
    measured.tables = vec![TableFigures { dead: Some(2_000), ..table() }];
    let assessment = assess(&measured, &Thresholds::default());
    assert_eq!(assessment.findings[0].command, "VACUUM (ANALYZE) t;");
    assert_eq!(assessment.grade, "B");
}

#[test]
fn reads_past_the_indexes_miss_the_target_and_then_are_critical() {
    let misses = around(|it, beyond| it.tables = vec![scanned(if beyond { 949 } else { 950 }, 50, 1_000)]);
    assert_eq!(misses, [None, Some(Severity::Notice)]);
    let alarms = around(|it, beyond| it.tables = vec![scanned(if beyond { 89 } else { 90 }, 10, 1_000)]);
    assert_eq!(alarms, [Some(Severity::Notice), Some(Severity::Critical)]);
}

#[test]
fn tables_of_few_rows_may_be_read_whole() {
    let found = around(|it, beyond| it.tables = vec![scanned(0, 100, if beyond { 1_000 } else { 999 })]);
    assert_eq!(found, [None, Some(Severity::Critical)]);
}

#[test]
fn a_table_without_statistics_is_a_notice_once_it_has_rows() {
    let found = around(|it, beyond| {
        it.tables =
            vec![TableFigures { live: Some(if beyond { 1_000 } else { 999 }), last_analyze_at: None, ..table() }];
    });
    assert_eq!(found, [None, Some(Severity::Notice)]);
}

#[test]
fn caches_that_answer_too_little_are_a_warning_once_they_were_asked_enough() {
    let buffers = around(|it, beyond| it.buffer_hit_ratio = Some(if beyond { 0.79 } else { 0.8 }));
    assert_eq!(buffers, [None, Some(Severity::Warning)]);
    let cache = |hits, misses| vec![CacheFigures { name: "c".to_owned(), hits, misses }];
    let ours = around(|it, beyond| it.caches = if beyond { cache(799, 201) } else { cache(800, 200) });
    assert_eq!(ours, [None, Some(Severity::Warning)]);
    let young = around(|it, beyond| it.caches = if beyond { cache(0, 1_000) } else { cache(0, 999) });
    assert_eq!(young, [None, Some(Severity::Warning)]);
}

#[test]
fn reads_that_were_refused_for_want_of_a_connection_are_a_warning() {
    let found = around(|it, beyond| it.pool.timeouts = u64::from(beyond));
    assert_eq!(found, [None, Some(Severity::Warning)]);
}

#[test]
fn an_index_that_begins_as_another_one_is_redundant_unless_it_keeps_values_unique() {
    let unique = |index: IndexFigures| IndexFigures { is_unique: true, ..index };
    let partial = |index: IndexFigures| IndexFigures { condition: Some("x".to_owned()), ..index };
    let names = |indexes: &[IndexFigures]| -> Vec<(String, String)> {
        redundant(indexes).into_iter().map(|(one, other)| (one.name.clone(), other.name.clone())).collect()
    };
    let pair = |one: &str, other: &str| vec![(one.to_owned(), other.to_owned())];
    assert_eq!(names(&[index("a", &["x"]), index("b", &["x", "y"])]), pair("a", "b"));
    assert_eq!(names(&[index("a", &["y"]), index("b", &["x", "y"])]), []);
    assert_eq!(names(&[unique(index("a", &["x"])), index("b", &["x", "y"])]), []);
    assert_eq!(names(&[partial(index("a", &["x"])), index("b", &["x", "y"])]), []);
    assert_eq!(names(&[index("a", &["x"]), index("b", &["x"])]), pair("b", "a"), "of two that are the same, one stays");
    assert_eq!(names(&[index("a", &["x"]), unique(index("b", &["x"]))]), pair("a", "b"));
    let mut measured = sound();
    measured.indexes = vec![index("a", &["x"]), index("b", &["x", "y"])];
    assert_eq!(found(&measured), [(Severity::Warning, "a".to_owned())]);
}

#[test]
fn an_index_that_nothing_used_is_a_notice_once_it_is_large() {
    let found = around(|it, beyond| {
        let size_bytes = Some(if beyond { UNUSED_INDEX_BYTES_MIN } else { UNUSED_INDEX_BYTES_MIN - 1 });
        it.indexes = vec![IndexFigures { scans: Some(0), size_bytes, ..index("a", &["x"]) }];
    });
    assert_eq!(found, [None, Some(Severity::Notice)]);
}

#[test]
fn the_grade_follows_from_the_worst_and_the_number_of_what_was_found() {
    let grade_of = |critical: usize, warnings: usize, notices: usize| {
        let many = |severity, count| (0..count).map(move |_| finding(severity, "x", String::new(), ""));
        let findings: Vec<_> = many(Severity::Critical, critical)
            .chain(many(Severity::Warning, warnings))
            .chain(many(Severity::Notice, notices))
            .collect();
        grade(&findings).0
    };
    let grades = [(0, 0, 0), (0, 0, 9), (0, 1, 9), (0, 2, 0), (0, 3, 0), (1, 0, 0), (2, 0, 0)];
    let grades = grades.map(|(critical, warnings, notices)| grade_of(critical, warnings, notices));
    assert_eq!(grades, ["A+", "A", "B", "B", "C", "D", "F"]);
}

#[test]
fn the_worst_stands_first() {
    let mut measured = sound();
    measured.queries = vec![query(1.0, 2.0), query(600.0, 0.1)];
    let severities: Vec<_> = found(&measured).into_iter().map(|(severity, _)| severity).collect();
    assert_eq!(severities, [Severity::Critical, Severity::Notice]);
    assert_eq!(assess(&measured, &Thresholds::default()).grade, "D");
}
