//! `/v1/events`.

use chrono::TimeDelta;
use multicredit_store::clock;
use serde_json::{Value, json};
use tests::app::{Answer, Client, credits, served};
use tests::both_engines;

use super::column;

const ONE: &str = "application/cloudevents+json";
const MANY: &str = "application/cloudevents-batch+json";

fn event(id: &str, subject: &str, quantity: i64) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/chat/eu", "type": "ai_tokens", "subject": subject,
        "data": { "quantity": quantity },
    })
}

fn with(mut event: Value, field: &str, value: impl Into<Value>) -> Value {
    event[field] = value.into();
    event
}

async fn report(client: &Client, event: &Value) -> Answer {
    client.post("/v1/events").body(ONE, event.to_string()).await
}

/// The results of several events.
async fn report_all(client: &Client, events: &[Value]) -> Vec<Value> {
    let body = Value::from(events).to_string();
    let answer = client.post("/v1/events").body(MANY, body).await.expect(200);
    answer["results"].as_array().unwrap().clone()
}

both_engines!(
    an_event_is_a_consumption_of_its_subject,
    served(async |app| {
        let acme = app.organization("acme/eu", json!({ "ai": 10 })).await;
        let time = clock::now() - TimeDelta::days(34);
        let mut event = with(event("1", "acme/eu", 2_500), "time", json!(time));
        event["data"]["metadata"] = json!({ "conversation": 7 });
        event["data"]["actor"] = "u-1".into();
        let results = report(&app.admin, &event).await.expect(200);
        let consumption = &results["results"][0]["consumption"];
        let expected = json!({ "results": [{ "index": 0, "status": 201, "consumption": {
            "id": consumption["id"], "organization_id": acme.id, "action": "ai_tokens", "quantity": 2_500,
            "consumed": credits(3, 0, 0, 0), "available": credits(7, 0, 0, 0), "sequence": 2,
            "created_at": consumption["created_at"],
        } }] });
        assert_eq!(results, expected);
        let log = app.admin.all(&acme.path("/consumptions"), 10).await;
        assert_eq!(
            (&log[0]["occurred_at"], &log[0]["metadata"], &log[0]["actor"]),
            (&json!(time), &json!({ "conversation": 7 }), &json!("u-1"))
        );
    })
);

both_engines!(
    an_event_without_data_is_one,
    served(async |app| {
        let acme = app.organization("acme", json!({ "sms": 10 })).await;
        let bare = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "sms", "subject": "acme" });
        for (id, data) in [("1", None), ("2", Some(Value::Null)), ("3", Some(json!({})))] {
            let mut event = with(bare.clone(), "id", id);
            if let Some(data) = data {
                event["data"] = data;
            }
            let results = report(&app.admin, &event).await.expect(200);
            assert_eq!(results["results"][0]["consumption"]["quantity"], 1, "{event}");
        }
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 7));
    })
);

both_engines!(
    source_and_id_together_are_charged_once,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        app.organization("other", json!({ "ai": 100 })).await;
        let first = event("1", "acme", 1_000);
        let once = report(&app.admin, &first).await.expect(200)["results"][0].clone();
        let again = report(&app.admin, &first).await.expect(200)["results"][0].clone();
        assert_eq!((&again["consumption"], &again["replayed"]), (&once["consumption"], &json!(true)));

        let results = report_all(
            &app.admin,
            &[
                first.clone(),
                event("1", "acme", 2_000),
                with(first.clone(), "source", "/chat/us"),
                event("2", "acme", 1_000),
                event("2", "acme", 1_000),
                event("1", "other", 1_000),
                with(first.clone(), "comexampletrace", "another"),
            ],
        )
        .await;
        assert_eq!(column(&results, "status"), [201, 422, 201, 201, 201, 201, 201]);
        let replayed = [json!(true), Value::Null, Value::Null, Value::Null, json!(true), Value::Null, json!(true)];
        assert_eq!(column(&results, "replayed"), replayed);
        assert_eq!(app.available(&acme).await, credits(97, 0, 0, 0));
        // The keys of requests are others.
        let spend = json!({ "action": "ai_tokens", "quantity": 1_000 });
        app.admin.post(&acme.path("/consume")).once("1").json(spend).await.expect(201);
        assert_eq!(app.available(&acme).await, credits(96, 0, 0, 0));
    })
);

both_engines!(
    a_part_of_the_source_is_no_part_of_the_id,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let pairs = [
            ("a", "bc"),
            ("ab", "c"),
            ("a:b", "c"),
            ("a", "b:c"),
            ("a/b", "c"),
            ("a", "b/c"),
            ("a ", "b"),
            ("a", " b"),
        ];
        let events = pairs.map(|(source, id)| with(event(id, "acme", 1), "source", source));
        let results = report_all(&app.admin, &events).await;
        assert_eq!(column(&results, "status"), [201; 8]);
        assert_eq!(column(&results, "replayed"), [const { Value::Null }; 8]);
        assert_eq!(app.available(&acme).await, credits(92, 0, 0, 0));
    })
);

both_engines!(
    each_of_many_events_stands_on_its_own_in_order,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 5 })).await;
        let results = report_all(
            &app.admin,
            &[
                event("1", "acme", 4_000),
                event("2", "nobody", 1),
                event("3", "acme", 9_000),
                with(event("4", "acme", 1), "type", "nothing"),
                event("5", "acme", 0),
                with(event("6", "acme", 1), "specversion", "0.3"),
                with(event("7", "acme", 1), "time", "2020-01-01T00:00:00Z"),
                json!({}),
                json!(7),
                event("8", "acme", 1_000),
            ],
        )
        .await;
        assert_eq!(column(&results, "index"), (0..10).map(Value::from).collect::<Vec<_>>());
        assert_eq!(column(&results, "status"), [201, 404, 402, 404, 400, 400, 400, 400, 400, 201]);
        let code = |index: usize| results[index]["problem"]["code"].as_str().unwrap();
        assert_eq!([code(1), code(2), code(3)], ["unknown_organization", "insufficient_credits", "unknown_action"]);
        let field = |index: usize| results[index]["problem"]["errors"][0]["field"].as_str().unwrap();
        assert_eq!([field(4), field(5), field(6)], ["data.quantity", "specversion", "time"]);
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 0));
    })
);

both_engines!(
    a_thousand_events_are_taken_and_one_more_is_not,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 2_000 })).await;
        let events: Vec<Value> = (0..1_001).map(|id| event(&id.to_string(), "acme", 1)).collect();
        let call = app.admin.post("/v1/events").body(MANY, Value::from(&events[..]).to_string());
        call.await.refused(400, "invalid_request");
        let call = app.admin.post("/v1/events").body(MANY, "[]");
        call.await.refused(400, "invalid_request");
        assert_eq!(app.available(&acme).await["ai"], 2_000);
        let results = report_all(&app.admin, &events[..1_000]).await;
        assert_eq!(column(&results, "status"), vec![201; 1_000]);
        assert_eq!(app.available(&acme).await["ai"], 1_000);
    })
);

both_engines!(
    attributes_of_others_are_accepted_and_data_that_is_not_ours_is_not,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let mut extended = event("1", "acme", 1);
        for (name, value) in [
            ("datacontenttype", json!("application/json")),
            ("dataschema", json!("https://example.com/usage.json")),
            ("traceparent", json!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
            ("sampledrate", json!(5)),
            ("comexampleflag", json!(true)),
        ] {
            extended[name] = value;
        }
        assert_eq!(report(&app.admin, &extended).await.expect(200)["results"][0]["status"], 201);
        for (field, bad) in [
            ("data.price", json!({ "price": 1 })),
            ("data.quantity", json!({ "quantity": "1" })),
            ("data", json!([1])),
            ("data", json!("text")),
        ] {
            let event = with(event("2", "acme", 1), "data", bad);
            let problem = report(&app.admin, &event).await.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0]["field"], field);
        }
        let binary = with(event("2", "acme", 1), "data_base64", "AA==");
        report(&app.admin, &binary).await.refused(400, "invalid_request");
        assert_eq!(app.available(&acme).await, credits(9, 0, 0, 0));
    })
);

both_engines!(
    events_come_as_events_and_as_nothing_else,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let one = event("1", "acme", 1).to_string();
        let call = |content_type: &str, body: &str| app.admin.post("/v1/events").body(content_type, body.to_owned());
        for wrong in ["application/json", "text/plain", "application/cloudevents", "application/cloudevents+xml", ""] {
            call(wrong, &one).await.refused(415, "unsupported_media_type");
        }
        app.admin.post("/v1/events").bare(one.clone()).await.refused(415, "unsupported_media_type");
        // One is no array, and an array is not one.
        call(MANY, &one).await.refused(400, "invalid_request");
        call(ONE, &format!("[{one}]")).await.refused(400, "invalid_request");
        for right in ["application/cloudevents+json; charset=utf-8", "Application/CloudEvents+JSON"] {
            assert_eq!(call(right, &one).await.expect(200)["results"][0]["status"], 201);
        }
        assert_eq!(app.available(&acme).await, credits(9, 0, 0, 0));
    })
);

both_engines!(
    an_event_that_is_not_valid_is_refused_with_its_request_where_it_came_alone,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        for (field, bad) in [
            ("specversion", with(event("1", "acme", 1), "specversion", "1")),
            ("id", with(event("1", "acme", 1), "id", "")),
            ("source", with(event("1", "acme", 1), "source", "a\u{0}b")),
            ("type", with(event("1", "acme", 1), "type", "s m s")),
            ("subject", with(event("1", "acme", 1), "subject", Value::Null)),
            ("data.quantity", event("1", "acme", 0)),
            ("data.quantity", event("1", "acme", 9_007_199_254_740_992)),
        ] {
            let problem = report(&app.admin, &bad).await.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0]["field"], field, "{bad}");
        }
        for name in ["specversion", "id", "source", "type", "subject"] {
            let mut bad = event("1", "acme", 1);
            bad.as_object_mut().unwrap().remove(name);
            let problem = report(&app.admin, &bad).await.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0], json!({ "field": name, "message": "is required" }));
        }
        assert_eq!(app.available(&acme).await, credits(10, 0, 0, 0));
    })
);

both_engines!(
    a_bound_key_reports_for_its_own_organization_alone,
    served(async |app| {
        let own = app.organization("own", json!({ "ai": 10 })).await;
        let other = app.organization("other", json!({ "ai": 10 })).await;
        let bound = app.bound_key(&["consume"], &own).await;
        let results =
            report_all(&bound, &[event("1", "own", 1), event("1", "other", 1), event("1", "nobody", 1)]).await;
        assert_eq!(column(&results, "status"), [201, 404, 404]);
        assert_eq!(results[1]["problem"], results[2]["problem"]);
        assert_eq!(app.available(&other).await, credits(10, 0, 0, 0));
    })
);
