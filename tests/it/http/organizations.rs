//! `/v1/organizations`.

use serde_json::{Value, json};
use tests::app::served;
use tests::both_engines;

use super::{assert_is_id, assert_is_instant, column};

both_engines!(
    an_organization_is_what_was_asked_for_and_begins_active,
    served(async |app| {
        let new = json!({ "name": "Müller & Söhne", "external_id": "müller/1", "time_zone": "Europe/Berlin" });
        let made = app.admin.post("/v1/organizations").json(new).await.expect(201);
        assert_is_id(&made["id"]);
        assert_is_instant(&made["created_at"]);
        let expected = json!({
            "id": made["id"],
            "name": "Müller & Söhne",
            "external_id": "müller/1",
            "time_zone": "Europe/Berlin",
            "status": "active",
            "created_at": made["created_at"],
        });
        assert_eq!(made, expected);
        let path = format!("/v1/organizations/{}", made["id"].as_str().unwrap());
        assert_eq!(app.admin.get(&path).await.expect(200), expected);
    })
);

both_engines!(
    an_organization_needs_no_more_than_a_name_and_then_its_days_are_those_of_utc,
    served(async |app| {
        let made = app.admin.post("/v1/organizations").json(json!({ "name": "plain" })).await.expect(201);
        assert_eq!(made["time_zone"], "UTC");
        assert!(made.as_object().unwrap()["external_id"].is_null(), "{made}");
        // Any number may be without one.
        app.admin.post("/v1/organizations").json(json!({ "name": "plain" })).await.expect(201);
    })
);

both_engines!(
    an_external_id_is_taken_once,
    served(async |app| {
        let new = |external_id: &str| json!({ "name": "any", "external_id": external_id });
        app.admin.post("/v1/organizations").json(new("acme")).await.expect(201);
        let before = app.admin.get("/v1/organizations").await.expect(200);
        app.admin.post("/v1/organizations").json(new("acme")).await.refused(409, "external_id_taken");
        assert_eq!(app.admin.get("/v1/organizations").await.expect(200), before);
        // It is compared letter by letter.
        app.admin.post("/v1/organizations").json(new("Acme")).await.expect(201);
    })
);

both_engines!(
    organizations_are_listed_newest_first_page_by_page,
    served(async |app| {
        for number in 0..5 {
            app.organization(&format!("org-{number}"), json!({})).await;
        }
        let expected: Vec<Value> = (0..5).rev().map(|number| format!("org-{number}").into()).collect();
        for limit in [1, 2, 5, 100] {
            let items = app.admin.all("/v1/organizations", limit).await;
            assert_eq!(column(&items, "external_id"), expected, "{limit} a page");
        }
        // What is made while somebody pages comes before what they have seen, and moves nothing.
        let first = app.admin.get("/v1/organizations?limit=3").await.expect(200);
        app.organization("newer", json!({})).await;
        let rest = format!("/v1/organizations?cursor={}", first["next_cursor"].as_str().unwrap());
        let rest = app.admin.get(&rest).await.expect(200);
        assert_eq!(column(rest["items"].as_array().unwrap(), "external_id"), expected[3..]);
    })
);

both_engines!(
    a_page_has_twenty_items_where_nothing_is_said,
    served(async |app| {
        for number in 0..21 {
            app.organization(&format!("org-{number}"), json!({})).await;
        }
        let page = app.admin.get("/v1/organizations").await.expect(200);
        assert_eq!(page["items"].as_array().unwrap().len(), 20);
        let next = format!("/v1/organizations?cursor={}", page["next_cursor"].as_str().unwrap());
        let last = app.admin.get(&next).await.expect(200);
        assert_eq!((last["items"].as_array().unwrap().len(), &last["next_cursor"]), (1, &Value::Null));
    })
);

both_engines!(
    a_change_changes_what_it_names_and_nothing_else,
    served(async |app| {
        let organization = app.organization("acme", json!({})).await;
        let path = organization.path("");
        let mut expected = app.admin.get(&path).await.expect(200);
        for (field, value) in
            [("name", "Acme"), ("time_zone", "Asia/Kolkata"), ("status", "frozen"), ("status", "active")]
        {
            expected[field] = value.into();
            let change = json!({ field: value });
            assert_eq!(app.admin.patch(&path).json(change).await.expect(200), expected);
            assert_eq!(app.admin.get(&path).await.expect(200), expected);
        }
        assert_eq!(app.admin.patch(&path).json(json!({})).await.expect(200), expected);
        let change = json!({ "name": "both", "status": "frozen" });
        expected["name"] = "both".into();
        expected["status"] = "frozen".into();
        assert_eq!(app.admin.patch(&path).json(change).await.expect(200), expected);
    })
);

both_engines!(
    closed_is_for_good_and_everything_stays_to_be_seen,
    served(async |app| {
        let organization = app.organization("acme", json!({ "ai": 5 })).await;
        app.set_status(&organization, "closed").await;
        let path = organization.path("");
        for change in [
            json!({ "status": "active" }),
            json!({ "status": "frozen" }),
            json!({ "status": "active", "name": "again" }),
            json!({ "name": "again" }),
            json!({ "time_zone": "Asia/Tokyo" }),
        ] {
            app.admin.patch(&path).json(change).await.refused(409, "organization_closed");
        }
        assert_eq!(app.admin.get(&path).await.expect(200)["status"], "closed");
        assert_eq!(app.available(&organization).await["ai"], 5);
        assert_eq!(app.admin.all(&organization.path("/ledger"), 10).await.len(), 1);
    })
);
