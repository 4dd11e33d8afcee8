//! `/v1/consume/batch`.

use serde_json::{Value, json};
use tests::app::{credits, served};
use tests::both_engines;

use super::{column, fields};

const PATH: &str = "/v1/consume/batch";

fn batch(items: impl Into<Vec<Value>>) -> Value {
    json!({ "items": items.into() })
}

both_engines!(
    every_item_has_the_result_that_it_would_have_had_alone_in_order,
    served(async |app| {
        let rich = app.organization("rich", json!({ "ai": 100 })).await;
        let poor = app.organization("poor", json!({ "ai": 2 })).await;
        let frozen = app.organization("frozen", json!({ "ai": 5 })).await;
        let closed = app.organization("closed", json!({ "ai": 5 })).await;
        app.set_status(&frozen, "frozen").await;
        app.set_status(&closed, "closed").await;
        let absent = "0199a3d2-7c50-7b2e-8a41-5f0c9d3e1b27";
        let item = |organization: &str, action: &str, quantity: i64| json!({ "organization_id": organization, "action": action, "quantity": quantity });
        let items = [
            item(&rich.id, "ai_chat", 7),
            item(&poor.id, "ai_chat", 3),
            item(&poor.id, "ai_chat", 2),
            item(&poor.id, "ai_chat", 1),
            item(&frozen.id, "ai_chat", 1),
            item(&closed.id, "ai_chat", 1),
            item(absent, "ai_chat", 1),
            item(&rich.id, "nothing", 1),
            item(&rich.id, "ai_image", 9_007_199_254_740_991),
            item(&rich.id, "ai_chat", 3),
        ];
        let answer = app.admin.post(PATH).json(batch(items)).await;
        let request_id = Value::from(answer.header("X-Request-Id").unwrap());
        let answer = answer.expect(200);
        assert_eq!(fields(&answer), ["results"]);
        let results = answer["results"].as_array().unwrap();
        assert_eq!(column(results, "index"), (0..10).map(Value::from).collect::<Vec<_>>());
        assert_eq!(column(results, "status"), [201, 402, 201, 402, 423, 409, 404, 404, 400, 201]);
        let codes: Vec<&str> = results.iter().filter_map(|result| result["problem"]["code"].as_str()).collect();
        let expected = [
            "insufficient_credits",
            "insufficient_credits",
            "organization_frozen",
            "organization_closed",
            "unknown_organization",
            "unknown_action",
            "out_of_range",
        ];
        assert_eq!(codes, expected);
        for result in results {
            if result["status"] == 201 {
                assert_eq!(fields(result), ["consumption", "index", "status"]);
            } else {
                assert_eq!(fields(result), ["index", "problem", "status"]);
                assert_eq!(
                    (&result["problem"]["status"], &result["problem"]["request_id"]),
                    (&result["status"], &request_id)
                );
            }
        }
        let first = &results[0]["consumption"];
        let expected = json!({
            "id": first["id"], "organization_id": rich.id, "action": "ai_chat", "quantity": 7,
            "consumed": credits(7, 0, 0, 0), "available": credits(93, 0, 0, 0), "sequence": 2,
            "created_at": first["created_at"],
        });
        assert_eq!(first, &expected);
        let short = &results[1]["problem"];
        assert_eq!((&short["shortfall"], &short["max_affordable_quantity"]), (&credits(1, 0, 0, 0), &json!(2)));
        assert_eq!(app.available(&rich).await, credits(90, 0, 0, 0));
        assert_eq!(app.available(&poor).await, credits(0, 0, 0, 0));
    })
);

both_engines!(
    a_key_in_an_item_charges_once_within_a_batch_and_across_batches,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let other = app.organization("other", json!({ "ai": 100 })).await;
        let item = |organization: &str, quantity: i64, key: &str| json!({ "organization_id": organization, "action": "ai_chat", "quantity": quantity, "idempotency_key": key });
        let items = [
            item(&acme.id, 5, "a"),
            item(&acme.id, 5, "a"),
            item(&acme.id, 6, "a"),
            item(&acme.id, 5, "b"),
            item(&other.id, 5, "a"),
        ];
        let first = app.admin.post(PATH).json(batch(items.clone())).await.expect(200)["results"].clone();
        let first = first.as_array().unwrap();
        assert_eq!(column(first, "status"), [201, 201, 422, 201, 201]);
        assert_eq!(first[0]["consumption"], first[1]["consumption"]);
        assert_eq!((&first[0]["replayed"], &first[1]["replayed"]), (&Value::Null, &json!(true)));
        assert_eq!(first[2]["problem"]["code"], "idempotency_mismatch");

        let again = app.admin.post(PATH).json(batch(items)).await.expect(200)["results"].clone();
        let again = again.as_array().unwrap();
        assert_eq!(column(again, "consumption"), column(first, "consumption"));
        assert_eq!(column(again, "replayed"), [json!(true), json!(true), Value::Null, json!(true), json!(true)]);
        assert_eq!(app.available(&acme).await, credits(90, 0, 0, 0));
        assert_eq!(app.available(&other).await, credits(95, 0, 0, 0));
    })
);

both_engines!(
    the_key_of_an_item_is_the_key_of_the_header,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let body = json!({ "action": "ai_chat", "metadata": { "a": 1 } });
        let alone = app.admin.post(&acme.path("/consume")).once("k").json(body).await.expect(201);
        let item = json!({
            "organization_id": acme.id, "action": "ai_chat", "metadata": { "a": 1 }, "idempotency_key": "k",
        });
        let results = app.admin.post(PATH).json(batch([item])).await.expect(200)["results"].clone();
        assert_eq!((&results[0]["consumption"], &results[0]["replayed"]), (&alone, &json!(true)));
        assert_eq!(app.available(&acme).await, credits(9, 0, 0, 0));
    })
);

both_engines!(
    a_thousand_items_are_taken_and_none_of_one_organization_is_turned_away,
    served(async |app| {
        let acme = app.organization("acme", json!({ "sms": 5_000 })).await;
        let item = json!({ "organization_id": acme.id, "action": "sms" });
        let answer = app.admin.post(PATH).json(batch(vec![item.clone(); 1_000])).await.expect(200);
        let results = answer["results"].as_array().unwrap();
        assert_eq!(column(results, "status"), vec![201; 1_000]);
        let left: Vec<i64> =
            results.iter().map(|result| result["consumption"]["available"]["sms"].as_i64().unwrap()).collect();
        assert_eq!(left, (4_000..5_000).rev().collect::<Vec<_>>(), "decided in the order of the items");
    })
);

both_engines!(
    a_batch_of_none_or_too_many_or_with_a_key_in_the_header_is_refused_whole,
    served(async |app| {
        let acme = app.organization("acme", json!({ "sms": 5_000 })).await;
        let item = json!({ "organization_id": acme.id, "action": "sms" });
        for count in [0, 1_001] {
            let call = app.admin.post(PATH).json(batch(vec![item.clone(); count]));
            let problem = call.await.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0]["field"], "items");
        }
        let problem = app.admin.post(PATH).once("k").json(batch([item])).await.refused(400, "invalid_request");
        assert_eq!(problem["errors"][0]["field"], "Idempotency-Key");
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 5_000));
    })
);

both_engines!(
    a_bound_key_spends_for_its_own_organization_alone,
    served(async |app| {
        let (own, other) =
            (app.organization("own", json!({ "ai": 10 })).await, app.organization("other", json!({ "ai": 10 })).await);
        let bound = app.bound_key(&["consume"], &own).await;
        let item = |id: &str| json!({ "organization_id": id, "action": "ai_chat" });
        let items = [item(&own.id), item(&other.id), item("0199a3d2-7c50-7b2e-8a41-5f0c9d3e1b27")];
        let results = bound.post(PATH).json(batch(items)).await.expect(200)["results"].clone();
        assert_eq!(column(results.as_array().unwrap(), "status"), [201, 404, 404]);
        assert_eq!(results[1]["problem"], results[2]["problem"]);
        assert_eq!(app.available(&other).await, credits(10, 0, 0, 0));
    })
);
