//! `/v1/organizations/{organization_id}/usage`.

use serde_json::{Value, json};
use tests::app::{Organization, TestApp, credits, instant, served, served_at};
use tests::both_engines;

use super::{assert_is_instant, column, fields};

const NOW: &str = "2026-11-22T09:07:00Z";

async fn consume(app: &TestApp, organization: &Organization, body: Value) -> Value {
    app.admin.post(&organization.path("/consume")).json(body).await.expect(201)
}

async fn buckets(app: &TestApp, organization: &Organization, query: &str) -> Vec<Value> {
    let usage = app.admin.get(&organization.path(&format!("/usage{query}"))).await.expect(200);
    assert_eq!(fields(&usage), ["buckets", "complete_through"]);
    assert_is_instant(&usage["complete_through"]);
    usage["buckets"].as_array().unwrap().clone()
}

both_engines!(
    an_organization_that_did_nothing_has_no_buckets_and_is_complete_to_the_present,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({ "ai": 1 })).await;
        let usage = app.admin.get(&acme.path("/usage")).await.expect(200);
        assert_eq!(usage, json!({ "buckets": [], "complete_through": NOW }));
    })
);

both_engines!(
    usage_counts_when_things_happened_with_refunds_and_refusals_apart,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({ "ai": 100, "whatsapp": 10 })).await;
        consume(app, &acme, json!({ "action": "ai_chat", "quantity": 7 })).await;
        let late = json!({ "action": "ai_chat", "quantity": 5, "occurred_at": "2026-11-20T23:59:59Z" });
        let late = consume(app, &acme, late).await;
        consume(app, &acme, json!({ "action": "whatsapp_ai_reply", "quantity": 2 })).await;
        app.admin
            .post(&acme.path("/consume"))
            .json(json!({ "action": "sms" }))
            .await
            .refused(402, "insufficient_credits");
        clock.set(instant("2026-11-23T10:00:00Z"));
        let refund = json!({ "quantity": 2, "reason": "a mistake" });
        let id = late["id"].as_str().unwrap();
        app.admin.post(&acme.path(&format!("/consumptions/{id}/refund"))).json(refund).await.expect(201);
        let expected = json!([
            { "start": "2026-11-20T00:00:00Z", "consumed": credits(5, 0, 0, 0), "refunded": credits(2, 0, 0, 0), "count": 1, "refused": 0 },
            { "start": "2026-11-22T00:00:00Z", "consumed": credits(9, 2, 0, 0), "refunded": credits(0, 0, 0, 0), "count": 2, "refused": 1 },
        ]);
        // Nothing is rolled up, then everything is, and nobody can tell.
        for _ in 0..2 {
            assert_eq!(Value::from(buckets(app, &acme, "").await), expected);
            assert_eq!(Value::from(buckets(app, &acme, "?bucket=day&time_zone=utc").await), expected);
            let by_action = buckets(app, &acme, "?group_by=action&from=2026-11-22T00:00:00Z").await;
            assert_eq!(column(&by_action, "action"), ["ai_chat", "sms", "whatsapp_ai_reply"]);
            assert_eq!(column(&by_action, "count"), [1, 0, 1]);
            assert_eq!(column(&by_action, "refused"), [0, 1, 0]);
            let hours = buckets(app, &acme, "?bucket=hour&from=2026-11-20T00:00:00Z").await;
            assert_eq!(column(&hours, "start"), ["2026-11-20T23:00:00Z", "2026-11-22T09:00:00Z"]);
            let months = buckets(app, &acme, "?bucket=month&time_zone=Asia/Kathmandu").await;
            assert_eq!(column(&months, "start"), ["2026-10-31T18:15:00Z"]);
            assert_eq!(months[0]["consumed"], credits(14, 2, 0, 0));
            // In Berlin it was the 21st already, by one second less than an hour.
            let days = buckets(app, &acme, "?time_zone=Europe/Berlin").await;
            assert_eq!(column(&days, "start"), ["2026-11-20T23:00:00Z", "2026-11-21T23:00:00Z"]);
            app.store.roll_up_usage(None).await.unwrap();
            clock.set(instant("2026-11-23T10:00:01Z"));
        }
    })
);

both_engines!(
    the_organizations_own_calendar_counts_where_nobody_says_another,
    served_at(NOW, async |app, _| {
        let new = json!({ "name": "acme", "external_id": "acme", "time_zone": "Pacific/Auckland" });
        let made = app.admin.post("/v1/organizations").json(new).await.expect(201);
        let acme = Organization { id: made["id"].as_str().unwrap().to_owned() };
        app.grant(&acme, json!({ "credits": { "ai": 5 }, "source": "purchase" })).await;
        consume(app, &acme, json!({ "action": "ai_chat" })).await;
        assert_eq!(column(&buckets(app, &acme, "").await, "start"), ["2026-11-21T11:00:00Z"]);
    })
);

both_engines!(
    a_table_is_what_the_json_says,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        consume(app, &acme, json!({ "action": "ai_chat", "quantity": 7 })).await;
        consume(app, &acme, json!({ "action": "ai_image" })).await;
        let table = async |query: &str| {
            let call = app.admin.get(&acme.path(&format!("/usage{query}"))).header("Accept", "text/csv");
            let answer = call.await;
            assert_eq!(answer.status, 200, "{answer}");
            assert!(answer.header("Content-Type").unwrap().starts_with("text/csv"), "{answer}");
            String::from_utf8(answer.body.to_vec()).unwrap()
        };
        let header = "start,action,ai_consumed,whatsapp_consumed,email_consumed,sms_consumed,ai_refunded,whatsapp_refunded,\
                      email_refunded,sms_refunded,count,refused\n";
        assert_eq!(table("").await, format!("{header}2026-11-22T00:00:00Z,,12,0,0,0,0,0,0,0,2,0\n"));
        let by_action =
            "2026-11-22T00:00:00Z,ai_chat,7,0,0,0,0,0,0,0,1,0\n2026-11-22T00:00:00Z,ai_image,5,0,0,0,0,0,0,0,1,0\n";
        assert_eq!(table("?group_by=action").await, format!("{header}{by_action}"));
    })
);

both_engines!(
    a_period_that_makes_no_sense_is_refused,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({})).await;
        for (query, field) in [
            ("?from=2026-11-22T00:00:00Z&to=2026-11-21T00:00:00Z", "to"),
            ("?from=2026-11-22T00:00:00Z&to=2026-11-22T00:00:00Z", "to"),
            ("?bucket=hour&from=2020-01-01T00:00:00Z", "to"),
            ("?bucket=week", "bucket"),
            ("?group_by=actor", "group_by"),
            ("?time_zone=Mars/Olympus", "time_zone"),
            ("?time_zone=%2B01:00", "time_zone"),
        ] {
            let problem = app.admin.get(&acme.path(&format!("/usage{query}"))).await.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0]["field"], field, "{query}");
        }
        for query in [
            "?bucket=month&from=0001-01-01T00:00:00Z&to=9999-12-31T00:00:00Z",
            "?to=0001-01-01T00:00:00Z",
            "?to=9999-12-31T23:59:59Z&bucket=month",
        ] {
            let answer = app.admin.get(&acme.path(&format!("/usage{query}"))).await;
            assert!(matches!(answer.status, 200 | 400), "{answer}");
        }
    })
);

both_engines!(
    usage_is_exact_at_once_and_says_how_far_it_goes,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        for quantity in 1..=5 {
            let spent = consume(app, &acme, json!({ "action": "ai_chat", "quantity": quantity })).await;
            let usage = app.admin.get(&acme.path("/usage?bucket=month")).await.expect(200);
            let total: i64 =
                usage["buckets"].as_array().unwrap().iter().map(|b| b["consumed"]["ai"].as_i64().unwrap()).sum();
            assert_eq!(total, quantity * (quantity + 1) / 2);
            let at = |value: &Value| instant(value.as_str().unwrap());
            assert!(at(&usage["complete_through"]) >= at(&spent["created_at"]), "{usage}");
        }
    })
);

both_engines!(
    the_summary_has_a_row_for_each_organization_that_ever_tried_and_a_bound_key_sees_its_own,
    served(async |app| {
        let mut organizations = Vec::new();
        for number in 0..5_i64 {
            let organization = app.organization(&format!("organization-{number}"), json!({ "ai": 10 })).await;
            consume(app, &organization, json!({ "action": "ai_chat", "quantity": number + 1 })).await;
            organizations.push(organization);
        }
        app.organization("idle", json!({ "ai": 10 })).await;
        let sms = app.admin.post(&organizations[0].path("/consume")).json(json!({ "action": "sms" }));
        sms.await.refused(402, "insufficient_credits");
        app.store.do_job(multicredit_store::Job::RefreshSummary, None).await.unwrap();

        let mut rows = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = app.admin.get(&format!("/v1/usage/summary?limit=2{cursor}")).await.expect(200);
            assert_eq!(fields(&page), ["items", "next_cursor", "refreshed_at"]);
            assert_is_instant(&page["refreshed_at"]);
            rows.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(column(&rows, "organization_id"), organizations.iter().map(|o| o.id.clone()).collect::<Vec<_>>());
        assert_eq!(column(&rows, "total_ai"), [1, 2, 3, 4, 5]);
        assert_eq!(column(&rows, "transaction_count"), [2, 1, 1, 1, 1]);
        assert_eq!(column(&rows, "refused_count"), [1, 0, 0, 0, 0]);
        let own = app.bound_key(&["read"], &organizations[3]).await;
        let own = own.get("/v1/usage/summary").await.expect(200);
        assert_eq!(own["items"].as_array().unwrap(), &rows[3..4]);
    })
);
