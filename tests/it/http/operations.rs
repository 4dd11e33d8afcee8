//! The alert rules and the dashboard of `docs/ops`: what they ask for is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::{Value, json};
use tests::app::{TestApp, served};
use tests::both_engines;
use tests::exposition::Exposition;

use super::metrics::scrape;

/// Labels that Prometheus adds, and names that are its own.
const ADDED: [&str; 3] = ["instance", "job_name", "le"];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ops").join(name)
}

/// The page of a server that has done a bit of everything.
async fn busy(app: &TestApp) -> Exposition {
    let acme = app.organization("acme", json!({ "ai": 100 })).await;
    app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" })).await.expect(201);
    app.admin.get(&acme.path("/balance")).await.expect(200);
    let stats = app.store.stats();
    stats.jobs.ran("sweep", multicredit_store::stats::JobOutcome::Success, std::time::Duration::from_millis(1));
    if app.store.engine() == multicredit_store::Engine::Postgres {
        have_reads_counted(app).await;
    }
    scrape(&app.stranger()).await
}

/// Reads by an index, so that there is a ratio to make of them, and waits until PostgreSQL has counted them, which it
/// does after a session has ended. The page must not be looked at before: it shows what it read of the tables for a
/// minute.
async fn have_reads_counted(app: &TestApp) {
    let reader = app.db().connect().await.unwrap();
    // By the index, however small the table is: reading all of a small one counts for nothing.
    let sql = "SET enable_seqscan = off; SELECT count(*) FROM organization_credits WHERE organization_id IS NOT NULL";
    reader.execute_unprepared(sql).await.unwrap();
    reader.close().await.unwrap();
    let connection = app.db().connect().await.unwrap();
    let counted = "SELECT 1 FROM pg_stat_user_tables WHERE relname = 'organization_credits' \
                   AND idx_scan > 0";
    for _ in 0..50 {
        let statement = Statement::from_string(DbBackend::Postgres, counted);
        if connection.query_one_raw(statement).await.unwrap().is_some() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("PostgreSQL counts no reads");
}

/// The metrics of a query, each with the labels that are asked of it and the values they must have.
fn selectors(query: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find("multicredit_").into_iter().chain(rest.find("process_")).min() {
        rest = &rest[start..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        rest = &rest[end..];
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            // A value may hold braces, but no quotes.
            let mut quoted = false;
            let close = inside.find(|c| {
                quoted ^= c == '"';
                c == '}' && !quoted
            });
            let (inside, after) = inside.split_at(close.expect("the selector ends"));
            for matcher in inside.split("\",").map(|matcher| matcher.trim_end_matches('"')) {
                let (label, value) =
                    matcher.split_once("=\"").or_else(|| matcher.split_once("!~\"")).expect("a matcher");
                let value = if matcher.contains("!~") { "" } else { value };
                labels.push((label.trim().to_owned(), value.to_owned()));
            }
            rest = after;
        }
        found.push((name, labels));
    }
    found
}

/// The labels that a query groups by.
fn groupings(query: &str) -> BTreeSet<String> {
    let of = |word: &'static str| query.split(word).skip(1).filter_map(|rest| rest.split(')').next());
    of("by (").chain(of("on (")).flat_map(|labels| labels.split(',')).map(|label| label.trim().to_owned()).collect()
}

/// What a query asks for that the page does not have.
fn missing(page: &Exposition, query: &str) -> Vec<String> {
    let selectors = selectors(query);
    assert!(!selectors.is_empty(), "{query} asks for nothing of ours");
    let mut missing = Vec::new();
    let mut labels: BTreeSet<String> = ADDED.map(str::to_owned).into();
    for (name, matchers) in &selectors {
        let samples: Vec<_> = page.samples.iter().filter(|sample| sample.name == *name).collect();
        labels.extend(samples.iter().flat_map(|sample| sample.labels.keys().cloned()));
        if samples.is_empty() {
            missing.push(name.clone());
        }
        for (label, value) in matchers {
            // Statuses and verdicts that have not happened yet have no sample.
            let may_be_absent = ["5xx", "outcome_unknown"].contains(&value.as_str());
            let has = |sample: &&&tests::exposition::Sample| {
                sample.labels.get(label).is_some_and(|found| value.is_empty() || may_be_absent || found == value)
            };
            if !samples.iter().any(|sample| has(&sample)) {
                missing.push(format!("{name}{{{label}=\"{value}\"}}"));
            }
        }
    }
    missing.extend(groupings(query).difference(&labels).map(|label| format!("label {label}")));
    missing
}

#[test]
fn what_a_query_asks_for_is_understood() {
    let query = "sum by (le, path) (rate(multicredit_a_bucket{route=\"/x/{id}\",status!~\"2|3\"}[5m])) / process_b > 1";
    let labels = vec![("route".to_owned(), "/x/{id}".to_owned()), ("status".to_owned(), String::new())];
    assert_eq!(selectors(query), [("multicredit_a_bucket".to_owned(), labels), ("process_b".to_owned(), vec![])]);
    assert_eq!(groupings(query), BTreeSet::from(["le".to_owned(), "path".to_owned()]));
    let page = Exposition::read("# HELP process_b B.\n# TYPE process_b gauge\nprocess_b 1\n");
    assert_eq!(missing(&page, "sum by (x) (process_b{y=\"1\"})"), ["process_b{y=\"1\"}", "label x"]);
    assert_eq!(missing(&page, "multicredit_a"), ["multicredit_a"]);
}

/// Every expression of the dashboard.
fn dashboard() -> Vec<String> {
    let dashboard: Value = std::fs::read_to_string(file("grafana.json")).unwrap().parse().unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// Every expression of the rules.
fn rules() -> Vec<String> {
    let text = std::fs::read_to_string(file("alerts.yml")).unwrap();
    let mut rules: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        if let Some(expression) = line.trim().strip_prefix("expr: ") {
            is_open = expression == ">-";
            rules.push(if is_open { String::new() } else { expression.to_owned() });
        } else if is_open && line.starts_with("          ") {
            let rule = rules.last_mut().unwrap();
            rule.push_str(line.trim());
            rule.push(' ');
        } else {
            is_open = false;
        }
    }
    rules
}

both_engines!(
    every_query_of_the_dashboard_and_the_rules_finds_its_metrics_and_labels,
    served(async |app| {
        let page = busy(app).await;
        let queries: Vec<String> = dashboard().into_iter().chain(rules()).collect();
        assert!(queries.len() >= 38, "{}", queries.len());
        let mut absent = Vec::new();
        for query in &queries {
            // SQLite does not count what PostgreSQL does.
            let of_postgres = ["multicredit_table_", "multicredit_buffer_"].iter().any(|name| query.contains(name));
            if app.store.engine() == multicredit_store::Engine::Postgres || !of_postgres {
                absent.extend(missing(&page, query).into_iter().map(|what| format!("{what} of {query}")));
            }
        }
        assert_eq!(absent, Vec::<String>::new());
    })
);

#[test]
fn prometheus_accepts_the_rules() {
    let checked = Command::new("promtool").args(["check", "rules"]).arg(file("alerts.yml")).output();
    let checked = checked.expect("promtool is installed (scripts/install-test-deps.sh)");
    let said = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success() && said.contains("SUCCESS"), "{said}");
    assert!(said.contains(&format!("{} rules found", rules().len())), "every rule was read: {said}");
}

#[test]
fn the_rules_go_by_the_thresholds_of_the_report() {
    let rules = rules().join("\n");
    let thresholds = multicredit_store::performance::Thresholds::default();
    let seconds = [thresholds.consumption_target_ms, thresholds.query_warning_ms, thresholds.query_critical_ms];
    for seconds in seconds.map(|ms| ms / 1e3) {
        assert!(rules.contains(&format!("> {seconds}")), "{seconds}\n{rules}");
    }
    for part in [
        format!("multicredit_table_dead_rows) > {}", thresholds.dead_rows_max),
        format!("multicredit_table_index_scan_ratio) < {}", thresholds.index_ratio_min),
        format!("multicredit_table_live_rows) >= {}", thresholds.index_ratio_rows_min),
        format!("< {}", thresholds.cache_ratio_min),
    ] {
        assert!(rules.contains(&part), "{part}\n{rules}");
    }
}
