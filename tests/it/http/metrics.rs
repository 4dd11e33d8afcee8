//! `/metrics`: what this process says of itself to whoever watches it.

use serde_json::json;
use tests::app::{Client, served};
use tests::both_engines;
use tests::exposition::Exposition;

/// The page as that caller sees it.
pub(crate) async fn scrape(client: &Client) -> Exposition {
    let answer = client.get("/metrics").await;
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    Exposition::read(std::str::from_utf8(&answer.body).unwrap())
}

/// What counts of one verdict on consumptions.
fn verdict(page: &Exposition, verdict: &str) -> Option<f64> {
    page.value("multicredit_ledger_verdicts_total", &[("operation", "consume"), ("verdict", verdict)])
}

both_engines!(
    consumptions_are_counted_by_what_became_of_them,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 3 })).await;
        let before = scrape(&app.stranger()).await;
        assert_eq!(verdict(&before, "done"), Some(0.0), "a verdict that has not happened is there, as 0");
        let consume = |key: &str| app.admin.post(&acme.path("/consume")).once(key).json(json!({ "action": "ai_chat" }));
        consume("a").await.expect(201);
        consume("a").await.expect(201);
        consume("b").await.expect(201);
        let too_much = json!({ "action": "ai_chat", "quantity": 5 });
        app.admin.post(&acme.path("/consume")).json(too_much).await.refused(402, "insufficient_credits");
        app.set_status(&acme, "frozen").await;
        consume("c").await.refused(423, "organization_frozen");

        let page = scrape(&app.stranger()).await;
        let counted = ["done", "replayed", "insufficient_credits", "organization_frozen", "failed"];
        let counted = counted.map(|name| verdict(&page, name));
        assert_eq!(counted, [2.0, 1.0, 1.0, 1.0, 0.0].map(Some));
        let route = ("route", "/v1/organizations/{organization_id}/consume");
        let answers =
            |status| page.value("multicredit_http_requests_total", &[route, ("method", "POST"), ("status", status)]);
        assert_eq!((answers("2xx"), answers("4xx"), answers("5xx")), (Some(3.0), Some(2.0), None));
        let timed = page.value("multicredit_http_request_duration_seconds_count", &[route]);
        assert_eq!(timed, Some(5.0));
    })
);

both_engines!(
    the_ledger_tells_how_it_works,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1000 })).await;
        let before = scrape(&app.stranger()).await;
        for _ in 0..20 {
            app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" })).await.expect(201);
        }
        let after = scrape(&app.stranger()).await;
        let grown = |name, labels: &[_]| after.value(name, labels).unwrap() - before.value(name, labels).unwrap();
        let exactly = |found: f64, expected: f64| (found - expected).abs() < f64::EPSILON;
        assert!(exactly(grown("multicredit_ledger_decided_total", &[]), 20.0));
        assert!(exactly(grown("multicredit_ledger_batch_requests_sum", &[]), 20.0));
        assert!(exactly(grown("multicredit_ledger_queue_wait_seconds_count", &[]), 20.0));
        assert!(grown("multicredit_ledger_commit_duration_seconds_sum", &[]) > 0.0);
        assert_eq!(after.value("multicredit_ledger_queue_requests", &[]), Some(0.0));
        // The first that a writer takes finds no price on its board yet.
        let express = grown("multicredit_ledger_decided_total", &[("path", "express")]);
        assert!((10.0..20.0).contains(&express), "{express}");
    })
);

both_engines!(
    open_holds_and_late_bookkeeping_are_counted_by_the_database,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        for _ in 0..2 {
            app.admin.post(&acme.path("/holds")).json(json!({ "action": "ai_chat" })).await.expect(201);
        }
        let page = scrape(&app.stranger()).await;
        assert_eq!(page.value("multicredit_database_up", &[]), Some(1.0));
        assert_eq!(page.value("multicredit_holds_open", &[]), Some(2.0));
        assert_eq!(page.value("multicredit_boundaries_overdue", &[]), Some(0.0));
        // What was asked some seconds ago at most is not asked again.
        app.admin.post(&acme.path("/holds")).json(json!({ "action": "ai_chat" })).await.expect(201);
        assert_eq!(scrape(&app.stranger()).await.value("multicredit_holds_open", &[]), Some(2.0));
    })
);

both_engines!(
    the_page_names_no_organization_and_has_units_in_its_names,
    served(async |app| {
        let acme = app.organization("acme-of-this-test", json!({ "ai": 10 })).await;
        app.admin.get(&acme.path("/balance")).await.expect(200);
        app.admin.get("/nothing/acme-of-this-test").await.refused(404, "unknown_path");
        let text = String::from_utf8(app.stranger().get("/metrics").await.body.to_vec()).unwrap();
        assert!(!text.contains(&acme.id) && !text.contains("acme-of-this-test"), "{text}");

        let page = Exposition::read(&text);
        for (name, kind) in &page.kinds {
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
            assert!(!name.ends_with("_ms") && !name.ends_with("_us"), "{name}");
            assert!(name.starts_with("multicredit_") || name.starts_with("process_"), "{name}");
        }
        assert!(page.samples.iter().all(|sample| sample.labels.len() <= 4), "few labels");
        assert_eq!(page.value("multicredit_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
        assert!(page.value("process_start_time_seconds", &[]).unwrap() > 1.7e9);
        assert!(page.value("process_resident_memory_bytes", &[]).unwrap() > 1e6);
        let hits = page.value("multicredit_cache_requests_total", &[("cache", "api_keys"), ("result", "hit")]);
        assert!(hits.unwrap() >= 1.0, "{hits:?}");
        assert_eq!(page.value("multicredit_http_requests_total", &[("route", "none")]), Some(1.0));
    })
);

both_engines!(a_page_without_its_database_is_still_a_page, async |db| {
    let app = tests::app::TestApp::start(db, multicredit_store::clock::Clock::default()).await;
    app.store.close().await;
    let page = scrape(&app.stranger()).await;
    assert_eq!(page.value("multicredit_database_up", &[]), Some(0.0));
    assert_eq!(page.value("multicredit_holds_open", &[]), None);
    assert!(page.value("multicredit_pool_connections_max", &[]).is_some());
    app.stop().await;
});
