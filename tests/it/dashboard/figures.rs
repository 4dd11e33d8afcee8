//! What the pages say is what the API says.

use multicredit_domain::CreditType;
use multicredit_store::{Attempts, Job, TopOrder};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tests::app::{TestApp, instant, served, served_at};
use tests::{Engine, both_engines};

use super::{Visitor, escape};

async fn spend(app: &TestApp, path: &str, action: &str, quantity: i64) {
    let spent = json!({ "action": action, "quantity": quantity });
    app.admin.post(&format!("/v1{path}/consume")).json(spent).await.expect(201);
}

both_engines!(
    an_organization_has_the_balance_that_the_api_has,
    served_at("2026-11-23T09:30:00Z", async |app, clock| {
        let acme = app.organization("acme", json!({ "ai": 12_000, "whatsapp": 50 })).await;
        let promotion = json!({ "credits": { "email": 40 }, "source": "promotion",
            "expires_at": "2026-12-03T00:00:00Z", "reference": "welcome" });
        app.grant(&acme, promotion).await;
        let path = format!("/organizations/{}", acme.id);
        clock.set(instant("2026-11-28T09:30:00Z"));
        spend(app, &path, "ai_chat", 1_234).await;
        spend(app, &path, "whatsapp_ai_reply", 3).await;
        let hold = json!({ "action": "ai_chat", "quantity": 11 });
        app.admin.post(&acme.path("/holds")).json(hold).await.expect(201);
        clock.set(instant("2026-11-28T09:31:00Z"));

        let visitor = Visitor::with_key_of(&app.admin).await;
        let page = visitor.page(&format!("/dashboard{path}")).await;
        let balance = app.admin.get(&acme.path("/balance")).await.expect(200);
        assert_eq!(balance["available"]["ai"], 10_752);
        for (name, shown) in [("ai", "10,752"), ("whatsapp", "47"), ("email", "40"), ("sms", "0")] {
            assert!(page.contains(&format!("data-available=\"{name}\">{shown}<")), "{name}: {page}");
        }
        assert!(page.contains("<span class=\"num\">11</span> held"), "{page}");
        // The forecast is the API's, to the microsecond.
        let forecast = app.admin.get(&acme.path("/forecast")).await.expect(200);
        let ends = forecast["forecasts"][0]["runs_out_at"]["ai"].as_str().unwrap().to_owned();
        assert!(page.contains(&format!("title=\"{ends}\"")), "{ends}: {page}");
        // A point for each balance of the past and the present one, on three charts; nobody ever had SMS.
        assert_eq!(page.matches("class=\"dot\"").count(), 3 * 25, "{page}");
        assert!(page.contains("No SMS credits in this time.") && page.contains("Will expire unused"), "{page}");
        assert!(page.contains("welcome") && page.contains("title=\"2026-12-03T00:00:00Z\""), "{page}");

        let usage = visitor.page(&format!("/dashboard{path}/usage")).await;
        assert!(usage.contains("<code>whatsapp_ai_reply</code>") && usage.contains("1,237"), "{usage}");
        assert_eq!(usage.matches("class=\"bar\"").count(), 4, "one bar, one in the key, one in each row: {usage}");
        let statement = visitor.page(&format!("/dashboard{path}/statement")).await;
        let ledger = app.admin.all(&acme.path("/ledger"), 100).await;
        assert_eq!(statement.matches("class=\"movement").count(), ledger.len());
        for movement in &ledger {
            assert!(statement.contains(movement["reference"].as_str().unwrap()), "{movement}");
        }
    })
);

both_engines!(
    lists_have_pages_that_hold_everything_once,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1_000 })).await;
        for number in 0..60 {
            app.organization(&format!("many-{number:02}"), json!({})).await;
            spend(app, &format!("/organizations/{}", acme.id), "ai_chat", 1).await;
        }
        let visitor = Visitor::with_key_of(&app.admin).await;
        let mut names = Vec::new();
        let mut path = "/dashboard/organizations?q=MANY-".to_owned();
        let mut pages = 0;
        loop {
            let page = visitor.page(&path).await;
            names.extend(
                between(&page, "class=\"strong\" href=\"/dashboard/organizations/", "</a>")
                    .into_iter()
                    .map(|link| link.split_once('>').unwrap().1.to_owned()),
            );
            pages += 1;
            let Some(next) = between(&page, "<a class=\"button quiet\" href=\"", "\" rel=\"next\"").pop() else {
                break;
            };
            path = next.rsplit('"').next().unwrap().replace("&#38;", "&");
        }
        let expected: Vec<String> = (0..60).rev().map(|number| format!("many-{number:02}")).collect();
        assert_eq!((pages, names), (3, expected));
        let mut lines = 0;
        let mut path = format!("/dashboard/organizations/{}/statement", acme.id);
        loop {
            let page = visitor.page(&path).await;
            lines += page.matches("class=\"movement").count();
            let Some(next) = between(&page, "<a class=\"button quiet\" href=\"", "\" rel=\"next\"").pop() else {
                break;
            };
            path = next.rsplit('"').next().unwrap().to_owned();
        }
        assert_eq!(lines, 61);
    })
);

/// What stands between two texts, wherever it does.
fn between(page: &str, start: &str, end: &str) -> Vec<String> {
    page.split(start).skip(1).filter_map(|rest| rest.split_once(end)).map(|(found, _)| found.to_owned()).collect()
}

both_engines!(
    a_search_takes_what_was_typed_for_what_it_is,
    served(async |app| {
        for name in ["100% Recycled", "100 Words", "Under_score", "Bang!", "back\\slash", "M\u{fc}ller"] {
            app.admin.post("/v1/organizations").json(json!({ "name": name })).await.expect(201);
        }
        let acme = app.organization("acme-eu", json!({})).await;
        let visitor = Visitor::with_key_of(&app.admin).await;
        for (search, found) in [
            ("100%", vec!["100% Recycled"]),
            ("r_s", vec!["Under_score"]),
            ("!", vec!["Bang!"]),
            ("k\\s", vec!["back\\slash"]),
            ("RECYCLED", vec!["100% Recycled"]),
            ("m\u{fc}ll", vec!["M\u{fc}ller"]),
            (" acme ", vec!["acme-eu"]),
            (acme.id.as_str(), vec!["acme-eu"]),
            ("nobody", vec![]),
            ("\0", vec!["acme-eu", "M\u{fc}ller", "back\\slash", "Bang!", "Under_score", "100 Words", "100% Recycled"]),
        ] {
            let page = visitor.page(&format!("/dashboard/organizations?q={}", escape(search))).await;
            let links = between(&page, "class=\"strong\" href=\"", "</a>");
            let names: Vec<&str> = links.iter().map(|link| link.split_once('>').unwrap().1).collect();
            assert_eq!(names, found, "{search}");
        }
    })
);

both_engines!(
    the_fleet_is_the_sum_of_its_organizations,
    served(async |app| {
        let visitor = Visitor::with_key_of(&app.key(&["read"]).await).await;
        let acme = app.organization("acme", json!({ "ai": 100, "whatsapp": 100, "email": 5 })).await;
        let other = app.organization("other", json!({ "ai": 1_000_000 })).await;
        for _ in 0..3 {
            spend(app, &format!("/organizations/{}", acme.id), "whatsapp_ai_reply", 2).await;
        }
        spend(app, &format!("/organizations/{}", other.id), "ai_chat", 50).await;
        app.admin
            .post(&acme.path("/consume"))
            .json(json!({ "action": "sms" }))
            .await
            .refused(402, "insufficient_credits");
        app.store.do_job(Job::RefreshSummary, None).await.unwrap();
        app.set_status(&other, "frozen").await;

        let page = visitor.page("/dashboard").await;
        for (total, shown) in [("organizations", "2"), ("succeeded", "4"), ("refused", "1"), ("attempts", "5")] {
            assert!(page.contains(&format!("data-total=\"{total}\">{shown}<")), "{total}: {page}");
        }
        assert!(page.contains("1 active, 1 frozen") && page.contains("1,000,044"), "{page}");
        assert!(page.contains("Insufficient credits"), "{page}");

        let combinations = app.store.spending_by_combination().await.unwrap();
        let seen: Vec<_> = combinations.iter().map(|it| (it.types.clone(), it.count, it.consumed)).collect();
        let both = vec![CreditType::Ai, CreditType::Whatsapp];
        assert_eq!(seen, [(both, 3, [6, 6, 0, 0]), (vec![CreditType::Ai], 1, [50, 0, 0, 0])]);
        let top = |order| async move {
            let top = app.store.top_organizations(order, 10).await.unwrap();
            top.into_iter().map(|row| row.organization_id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(top(TopOrder::Count).await, [acme.id.clone(), other.id.clone()]);
        assert_eq!(top(TopOrder::Credits(CreditType::Ai)).await, [other.id.clone(), acme.id.clone()]);
        assert_eq!(top(TopOrder::Credits(CreditType::Whatsapp)).await, std::slice::from_ref(&acme.id));
        let newest = app.store.newest_attempts(Attempts::Succeeded, 2).await.unwrap();
        assert_eq!(newest[0].organization_id.to_string(), other.id);
        let busy = app.store.busy_organizations(5).await.unwrap();
        assert_eq!(busy[0].to_string(), acme.id);
    })
);

both_engines!(
    the_report_is_the_one_of_the_api,
    served(async |app| {
        let visitor = Visitor::with_key_of(&app.admin).await;
        let page = visitor.page("/dashboard/performance").await;
        // Within the ten seconds for which a report is shown.
        let report = app.admin.get("/v1/performance").await.expect(200);
        let grade = report["grade"].as_str().unwrap();
        assert!(page.contains(&format!(">{grade}</p>")) && page.contains(report["rule"].as_str().unwrap()), "{page}");
        for table in report["measured"]["tables"].as_array().unwrap() {
            assert!(page.contains(table["name"].as_str().unwrap()), "{table}");
        }
        for index in report["measured"]["indexes"].as_array().unwrap() {
            assert!(page.contains(index["name"].as_str().unwrap()), "{index}");
        }
        for finding in report["findings"].as_array().unwrap() {
            let detail: &Value = &finding["detail"];
            assert!(page.contains(detail.as_str().unwrap()), "{finding}");
        }
    })
);

both_engines!(
    the_queries_over_all_organizations_use_the_indexes_that_are_there_for_them,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100_000, "whatsapp": 100_000 })).await;
        for _ in 0..3 {
            let item = json!({ "organization_id": acme.id, "action": "whatsapp_ai_reply" });
            let items = vec![item; 1_000];
            app.admin.post("/v1/consume/batch").json(json!({ "items": items })).await.expect(200);
        }
        let connection = app.db().connect().await.unwrap();
        // What an index-only scan needs to know of the table, and what the planner does.
        let vacuum =
            if app.db().engine() == Engine::Postgres { "VACUUM (ANALYZE) credit_consumption_logs" } else { "ANALYZE" };
        // PostgreSQL calls the part of an index that a partition has by the columns.
        let postgres = ["success_created_at_idx", "created_at_idx", "Index Only Scan"];
        let sqlite =
            ["idx_credits_txn_success", "idx_credits_txn_refused", "COVERING INDEX idx_credits_txn_multi_credit"];
        let expected = if app.db().engine() == Engine::Postgres { postgres } else { sqlite };
        let mut plans = Vec::new();
        for _ in 0..50 {
            connection.execute_unprepared(vacuum).await.unwrap();
            plans = app.store.fleet_plans().await.unwrap();
            if plans[2].contains(expected[2]) {
                break;
            }
            // This server does not wait for its disk, and a vacuum takes no row for visible whose commit is not there.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        for (plan, expected) in plans.iter().zip(expected) {
            assert!(plan.contains(expected), "{expected} in\n{plan}");
        }
        // The newest come out of the index in their order. (There are no refusals here, and nothing is soon sorted.)
        let newest = &plans[0];
        let sorts = newest.lines().any(|line| line.trim_start_matches([' ', '-', '>']) == "Sort");
        assert!(!sorts && !newest.contains("FOR ORDER BY"), "{newest}");
    })
);

both_engines!(
    what_was_told_of_an_organization_stands_on_its_page_as_text,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 5_000 })).await;
        let path = format!("/dashboard/organizations/{}", acme.id);
        let visitor = Visitor::with_key_of(&app.admin).await;
        assert!(!visitor.page(&path).await.contains("data-raised"));
        let rule = json!({ "name": "<b>low</b>", "measure": "amount", "threshold": 4_000 });
        app.admin.post("/v1/alert-rules").json(rule).await.expect(201);
        spend(app, &format!("/organizations/{}", acme.id), "ai_chat", 1_500).await;
        assert_eq!(app.store.evaluate_alerts().await.unwrap().events, 1);
        let page = visitor.page(&path).await;
        assert_eq!(page.matches("data-raised>balance.low<").count(), 1, "{page}");
        assert!(
            page.contains("&#60;b&#62;low&#60;/b&#62;") && page.contains("<span class=\"num\">3,500</span> left"),
            "{page}"
        );
    })
);
