//! The performance report: measured on a real database, judged, saved and shown.

use multicredit::config::ReportSchedule;
use multicredit::report::schedule::save_if_due;
use multicredit_store::performance::{Finding, PerformanceReport, Severity, Thresholds, redundant};
use multicredit_store::{ConsumeItem, Engine, Store};
use sea_orm::ConnectionTrait;
use serde_json::json;
use tests::app::served;
use tests::both_engines;
use tests::fixtures::{ai, organization, request, store};

use crate::cli::process::run;

/// A store with something in it to measure.
async fn used(db: &tests::TestDb) -> Store {
    let store = store(db).await;
    let id = organization(&store, "acme", ai(1_000)).await;
    for _ in 0..20 {
        store.consume(id, request("ai_chat", 2), None).await.unwrap();
    }
    db.connect().await.unwrap().execute_unprepared("ANALYZE").await.unwrap();
    store
}

async fn measured(store: &Store) -> PerformanceReport {
    store.performance(None, &Thresholds::default()).await.unwrap()
}

both_engines!(every_critical_query_is_measured_and_nothing_of_it_stays, async |db| {
    let store = used(&db).await;
    let contents = db.contents().await.unwrap();
    let before = contents.read().await.unwrap();
    let report = measured(&store).await;
    assert_eq!(contents.read().await.unwrap().differences(&before), Vec::<&str>::new());

    let queries = &report.measured.queries;
    for query in queries {
        assert_eq!(query.error, None, "{query:?}");
        assert!(query.execution_ms.is_some_and(|ms| ms > 0.0), "{query:?}");
        assert_eq!(query.planning_ms.is_some(), store.engine() == Engine::Postgres, "{query:?}");
    }
    let credits = queries.iter().find(|query| query.name == "organization credits").unwrap();
    assert_eq!(credits.rows, Some(1), "{credits:?}");
    let history = queries.iter().find(|query| query.name == "newest consumptions").unwrap();
    assert_eq!(history.rows, Some(20), "{history:?}");
    if store.engine() == Engine::Postgres {
        let express = queries.iter().find(|query| query.name == "consume_credits_express").unwrap();
        assert_eq!(express.rows, Some(1), "it spent, and took it back: {express:?}");
    }
    let latency = report.measured.consumption.as_ref().unwrap();
    assert_eq!(latency.count, 50);
    assert!(
        latency.p50_ms > 0.0 && latency.p50_ms <= latency.p95_ms && latency.p95_ms <= latency.p99_ms,
        "{latency:?}"
    );
    store.close().await;
});

/// A report that knows of that many inserts into the log, if the engine counts them: a session of PostgreSQL tells of what
/// it did when it ends, or some seconds later.
async fn measured_after(store: &Store, inserts: i64) -> PerformanceReport {
    for _ in 0..100 {
        let report = measured(store).await;
        let logs = report.measured.tables.iter().find(|table| table.name == "credit_consumption_logs").unwrap();
        if logs.inserts.is_none_or(|found| found >= inserts) {
            return report;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the engine does not count {inserts} inserts")
}

both_engines!(the_inventory_has_every_table_and_index_and_no_index_is_redundant, async |db| {
    used(&db).await.close().await;
    let store = store(&db).await;
    let report = measured_after(&store, 20).await;
    let index = |name: &str| report.measured.indexes.iter().find(|index| index.name == name);
    for name in ["idx_credits_txn_org_date_composite", "idx_credits_txn_success", "idx_credits_txn_multi_credit"] {
        let found = index(name).unwrap_or_else(|| panic!("{name} in {:?}", report.measured.indexes));
        assert_eq!(found.table, "credit_consumption_logs");
        assert_eq!(found.condition.is_some(), name != "idx_credits_txn_org_date_composite", "{found:?}");
    }
    let composite = index("idx_credits_txn_org_date_composite").unwrap();
    assert_eq!(composite.columns, ["organization_id", "created_at DESC"]);
    let redundant: Vec<_> = redundant(&report.measured.indexes).into_iter().map(|(narrow, _)| &narrow.name).collect();
    assert_eq!(redundant, Vec::<&String>::new());

    let table = |name: &str| report.measured.tables.iter().find(|table| table.name == name).unwrap();
    let logs = table("credit_consumption_logs");
    // An estimate: what a session tells of late is counted on top of what ANALYZE saw.
    assert!(logs.live.is_some_and(|live| live >= 20), "{logs:?}");
    assert!(logs.size_bytes.is_some_and(|bytes| bytes > 0), "{logs:?}");
    match store.engine() {
        Engine::Postgres => {
            assert!(logs.partitions >= 4, "{logs:?}");
            assert!(logs.last_analyze_at.is_some(), "{logs:?}");
            assert!(table("organization_credits").updates.unwrap() >= 20);
            assert!(table("organization_credits").hot_ratio().unwrap() > 0.9, "spending touches no index");
            assert!(report.measured.buffer_hit_ratio.is_some());
        }
        Engine::Sqlite => {
            assert_eq!((logs.inserts, logs.dead), (None, None));
            assert!(report.measured.unknown.len() >= 5, "it says what it cannot tell");
        }
    }
    store.close().await;
});

both_engines!(planted_faults_are_found_with_the_command_that_helps, async |db| {
    let store = used(&db).await;
    let plant = "CREATE INDEX planted ON credit_grants (organization_id)";
    db.connect().await.unwrap().execute_unprepared(plant).await.unwrap();
    let report = measured(&store).await;
    let finding = report.assessment.findings.iter().find(|finding| finding.subject == "planted").unwrap();
    assert_eq!(finding.command, "DROP INDEX planted;");
    assert!(matches!(report.assessment.grade.as_str(), "B" | "C" | "D" | "F"), "{:?}", report.assessment);
    // The thresholds given count, not the defaults.
    let impatient = Thresholds { query_critical_ms: 0.000_001, ..Thresholds::default() };
    let judged = store.performance(None, &impatient).await.unwrap();
    assert_eq!(judged.assessment.grade, "F", "{:?}", judged.assessment);
    store.close().await;
});

both_engines!(a_report_is_saved_once_a_period_and_found_again, async |db| {
    let store = used(&db).await;
    let thresholds = Thresholds::default();
    assert_eq!(store.saved_performance_report(None).await.unwrap(), None);
    assert!(!save_if_due(&store, ReportSchedule::Off, &thresholds).await.unwrap());
    assert!(save_if_due(&store, ReportSchedule::Monthly, &thresholds).await.unwrap());
    assert!(!save_if_due(&store, ReportSchedule::Monthly, &thresholds).await.unwrap());
    let saved = store.saved_performance_report(None).await.unwrap().unwrap();
    // Two servers that try at once: one saves.
    let both = [store.save_performance_report(&saved, Some("p")), store.save_performance_report(&saved, Some("p"))];
    let both = futures_util::future::try_join_all(both).await.unwrap();
    assert_eq!(both.iter().filter(|saved| **saved).count(), 1);
    let before = saved.measured.at - chrono::TimeDelta::seconds(1);
    assert_eq!(store.saved_performance_report(Some(before)).await.unwrap(), None);
    assert_eq!(
        store.saved_performance_report(Some(saved.measured.at)).await.unwrap().unwrap().measured.at,
        saved.measured.at
    );
    store.close().await;
});

both_engines!(the_command_prints_it_in_three_forms_and_compares_it_with_a_saved_one, async |db| {
    used(&db).await.close().await;
    let nothing = run(db.url(), &["report", "--since", "last"]).await;
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
    assert!(nothing.stderr.contains("no report was saved"), "{nothing:?}");

    let json = run(db.url(), &["report", "--format", "json", "--save"]).await.succeeded().json();
    assert!(json["assessment"]["grade"].is_string() && json["measured"]["queries"].is_array(), "{json}");
    let text = run(db.url(), &["report"]).await.succeeded().stdout;
    assert!(text.starts_with("Performance report\n=====") && !text.contains("| "), "{text}");
    let page = run(db.url(), &["report", "--format", "markdown", "--since", "last"]).await.succeeded().stdout;
    for part in [
        "# Performance report",
        "## Indexes",
        "## Query performance",
        "## Table statistics",
        "## Benchmarks",
        "## Caches and connections",
        "## Recommendations",
        "## Grade",
        "## Since ",
        "| credit_consumption_logs",
        "idx_credits_txn_success",
        "SELECT o.name, oc.ai_credits_available",
        "Total indexes: ",
    ] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
});

both_engines!(
    over_http_the_latency_is_the_servers_own,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        for _ in 0..10 {
            app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" })).await.expect(201);
        }
        let reader = app.key(&["read"]).await;
        let report = reader.get("/v1/performance").await.expect(200);
        assert_eq!(report["measured"]["consumption"]["count"], 10, "{report}");
        assert!(report["grade"].is_string() && report["findings"].is_array(), "{report}");
        let bound = app.bound_key(&["admin"], &acme).await;
        bound.get("/v1/performance").await.refused(403, "forbidden_bound_key");
        // Asked again soon it is the same: making one costs.
        assert_eq!(reader.get("/v1/performance").await.expect(200)["created_at"], report["created_at"]);
    })
);

/// Whether a report finds that the log is read without an index.
fn finds_full_scans(report: &PerformanceReport) -> bool {
    let of_log =
        |finding: &&Finding| finding.subject == "credit_consumption_logs" && finding.detail.contains("by an index");
    report.assessment.findings.iter().find(of_log).is_some_and(|finding| finding.severity == Severity::Critical)
}

#[test]
fn full_scans_of_a_large_table_are_critical_and_those_of_one_that_was_empty_are_not() {
    tests::run(tests::Engine::Postgres, async |db| {
        let store = used(&db).await;
        let id = organization(&store, "many", ai(10_000)).await;
        let item = || ConsumeItem { organization_id: id, request: request("ai_chat", 1), key: None };
        for answer in store.consume_many((0..1_200).map(|_| item()).collect()).await {
            answer.unwrap();
        }
        store.close().await;

        // The log was read in full while it was empty, when its indexes were made.
        let store = tests::fixtures::store(&db).await;
        assert!(!finds_full_scans(&measured_after(&store, 1_220).await));
        let reader = db.connect().await.unwrap();
        for _ in 0..300 {
            reader
                .execute_unprepared("SELECT count(*) FROM credit_consumption_logs WHERE actor = 'nobody'")
                .await
                .unwrap();
        }
        reader.close().await.unwrap();
        let mut found = false;
        for _ in 0..50 {
            found = finds_full_scans(&measured(&store).await);
            if found {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert!(found, "300 reads of all of the log are found");
        store.close().await;
    });
}
