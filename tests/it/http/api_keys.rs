//! `/v1/api-keys`.

use serde_json::{Value, json};
use tests::app::{Client, TestApp, credits, served};
use tests::both_engines;

use super::{assert_is_id, assert_is_instant, column, fields};

const PATH: &str = "/v1/api-keys";

async fn make(client: &Client, new: Value) -> Value {
    client.post(PATH).json(new).await.expect(201)
}

fn client_of(app: &TestApp, made: &Value) -> Client {
    app.admin.with_key(made["key"].as_str().unwrap())
}

both_engines!(
    a_key_is_shown_once_and_never_in_a_list,
    served(async |app| {
        let made = make(&app.admin, json!({ "name": "chat", "scopes": ["consume", "read"] })).await;
        assert_is_id(&made["id"]);
        assert_is_instant(&made["created_at"]);
        assert_eq!((&made["name"], &made["scopes"]), (&json!("chat"), &json!(["consume", "read"])));
        let secret = made["key"].as_str().unwrap();
        assert!(secret.len() >= 40, "{secret} could be guessed");
        client_of(app, &made).get("/v1/organizations").await.expect(200);

        let listed = app.admin.all(PATH, 1).await;
        assert_eq!(listed.len(), 2, "the test's own admin key as well");
        assert_eq!(listed[0]["id"], made["id"], "newest first");
        for key in &listed {
            assert!(!fields(key).contains(&"key"), "{key}");
            assert!(!key.to_string().contains(&secret[12..]), "{key}");
        }
        let stored = app.db().contents().await.unwrap().read().await.unwrap();
        assert!(!format!("{stored:?}").contains(&secret[12..]), "the secret is stored");
        let other = make(&app.admin, json!({ "name": "chat", "scopes": ["read"] })).await;
        assert_ne!(other["key"], made["key"]);
    })
);

both_engines!(
    a_revoked_key_is_no_key_from_that_moment_on,
    served(async |app| {
        let made = make(&app.admin, json!({ "name": "short-lived", "scopes": ["read"] })).await;
        let client = client_of(app, &made);
        client.get("/v1/actions").await.expect(200);
        let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
        app.admin.delete(&path).await.expect(204);
        let refused = client.get("/v1/actions").await;
        refused.refused(401, "unauthorized");
        let unknown = app.admin.with_key("mc_unknown").get("/v1/actions").await;
        assert_eq!(refused.without_request_id(), unknown.without_request_id());
        // Again, it changes nothing; it stays in the list.
        let listed = app.admin.all(PATH, 100).await;
        assert_is_instant(&listed[0]["revoked_at"]);
        app.admin.delete(&path).await.expect(204);
        assert_eq!(app.admin.all(PATH, 100).await, listed);
        app.admin.delete(&format!("{PATH}/0199a3d1-0b77-7a90-a2f4-6c1d5e839b40")).await.refused(404, "not_found");
    })
);

both_engines!(
    a_key_does_what_its_scopes_say,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let calls = async |client: &Client| {
            let grant = json!({ "credits": { "ai": 1 }, "source": "purchase" });
            let spend = json!({ "action": "ai_chat" });
            [
                client.get(&acme.path("/balance")).await.status,
                client.post(&acme.path("/quote")).json(spend.clone()).await.status,
                client.post(&acme.path("/consume")).json(spend).await.status,
                client.post(&acme.path("/grants")).json(grant).await.status,
                client.patch(&acme.path("")).json(json!({ "name": "acme" })).await.status,
            ]
        };
        for (scopes, statuses) in [
            (&["read"][..], [200, 200, 403, 403, 403]),
            (&["consume"], [403, 403, 201, 403, 403]),
            (&["credit"], [403, 403, 403, 201, 403]),
            (&["read", "credit"], [200, 200, 403, 201, 403]),
            (&["admin"], [200, 200, 201, 201, 200]),
        ] {
            assert_eq!(calls(&app.key(scopes).await).await, statuses, "{scopes:?}");
            assert_eq!(calls(&app.bound_key(scopes, &acme).await).await, statuses, "{scopes:?}, bound");
        }
    })
);

both_engines!(
    a_bound_key_sees_its_organization_and_no_other,
    served(async |app| {
        let own = app.organization("own", json!({ "ai": 10 })).await;
        let other = app.organization("other", json!({ "ai": 10 })).await;
        app.bound_key(&["read"], &other).await;
        app.admin.put(&own.path("/members/shared")).await.expect(200);
        app.admin.put(&other.path("/members/shared")).await.expect(200);
        let bound = app.bound_key(&["admin"], &own).await;

        assert_eq!(column(&bound.all("/v1/organizations", 1).await, "id"), [json!(own.id)]);
        assert_eq!(column(&bound.all(PATH, 1).await, "organization_id"), [json!(own.id)]);
        let memberships = bound.all("/v1/users/shared/organizations", 1).await;
        assert_eq!(column(&memberships, "organization_id"), [json!(own.id)]);
        assert_eq!(app.admin.all("/v1/users/shared/organizations", 1).await.len(), 2);
        bound.get("/v1/actions").await.expect(200);
        for (call, body) in [
            (bound.post("/v1/organizations"), json!({ "name": "mine" })),
            (bound.put("/v1/actions/ai_chat"), json!({ "costs": { "ai": 0 } })),
            (bound.put("/v1/plans/mine"), json!({ "allowance": { "ai": 1 }, "interval": "day" })),
        ] {
            call.json(body).await.refused(403, "forbidden_bound_key");
        }
    })
);

both_engines!(
    a_bound_key_makes_and_revokes_keys_of_its_own_organization_alone,
    served(async |app| {
        let own = app.organization("own", json!({})).await;
        let other = app.organization("other", json!({})).await;
        let bound = app.bound_key(&["admin"], &own).await;
        let made = make(&bound, json!({ "name": "unsaid", "scopes": ["admin"] })).await;
        assert_eq!(made["organization_id"], own.id);
        client_of(app, &made).get(&other.path("")).await.refused(404, "unknown_organization");
        let named = make(&bound, json!({ "name": "said", "scopes": ["read"], "organization_id": own.id })).await;
        assert_eq!(named["organization_id"], own.id);

        let escape = json!({ "name": "escape", "scopes": ["read"], "organization_id": other.id });
        let refused = bound.post(PATH).json(escape.clone()).await;
        refused.refused(404, "unknown_organization");
        let mut absent = escape;
        absent["organization_id"] = "0199a3d2-7c50-7b2e-8a41-5f0c9d3e1b27".into();
        let unknown = bound.post(PATH).json(absent.clone()).await;
        assert_eq!(refused.without_request_id(), unknown.without_request_id());
        app.admin.post(PATH).json(absent).await.refused(404, "unknown_organization");

        let foreign =
            make(&app.admin, json!({ "name": "theirs", "scopes": ["read"], "organization_id": other.id })).await;
        let unbound = make(&app.admin, json!({ "name": "everybody's", "scopes": ["read"] })).await;
        for key in [foreign, unbound] {
            bound.delete(&format!("{PATH}/{}", key["id"].as_str().unwrap())).await.refused(404, "not_found");
            let untouched = client_of(app, &key).get("/v1/actions").await;
            untouched.expect(200);
        }
        bound.delete(&format!("{PATH}/{}", named["id"].as_str().unwrap())).await.expect(204);
        client_of(app, &named).get("/v1/actions").await.refused(401, "unauthorized");
    })
);

both_engines!(
    what_is_no_set_of_scopes_makes_no_key,
    served(async |app| {
        for (field, bad) in [
            ("scopes", json!({ "name": "k", "scopes": [] })),
            ("scopes", json!({ "name": "k" })),
            ("scopes", json!({ "name": "k", "scopes": "read" })),
            ("scopes", json!({ "name": "k", "scopes": ["read", "read"] })),
            ("scopes[1]", json!({ "name": "k", "scopes": ["read", "root"] })),
            ("name", json!({ "scopes": ["read"] })),
            ("name", json!({ "name": "", "scopes": ["read"] })),
            ("organization_id", json!({ "name": "k", "scopes": ["read"], "organization_id": "acme" })),
            ("key", json!({ "name": "k", "scopes": ["read"], "key": "of my own choice, long enough to be one" })),
        ] {
            let problem = app.admin.post(PATH).json(bad).await.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0]["field"], field);
        }
        assert_eq!(app.admin.all(PATH, 10).await.len(), 1);
    })
);

both_engines!(
    whatever_is_no_bearer_key_is_answered_alike,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1 })).await;
        let key = app.admin.key().unwrap();
        let stranger = app.stranger();
        let expected = stranger.get(&acme.path("/balance")).await;
        expected.refused(401, "unauthorized");
        let long = format!("Bearer {}", "k".repeat(10_000));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            key,
            &format!("Basic {key}"),
            &format!("Bearer {key} {key}"),
            &format!("Bearer {}", key.to_uppercase()),
            &format!("Bearer {key}x"),
            "Bearer \u{e9}",
            &long,
        ] {
            let answer = stranger.get(&acme.path("/balance")).header("Authorization", wrong).await;
            assert_eq!(answer.without_request_id(), expected.without_request_id(), "{wrong}");
        }
        let twice = app.admin.get(&acme.path("/balance")).header("Authorization", format!("Bearer {key}")).await;
        assert_eq!(twice.without_request_id(), expected.without_request_id());
        let lower = stranger.get(&acme.path("/balance")).header("Authorization", format!("bearer {key}")).await;
        assert_eq!(lower.expect(200)["available"], credits(1, 0, 0, 0), "the scheme's name has no case");
        // Nothing else is found out without a key: not what exists, nor what a body should be.
        for call in [
            stranger.get("/v1/organizations/not-an-id"),
            stranger.get("/v1/consumptions-of-nobody").header("Authorization", "Bearer x"),
            stranger.post(&acme.path("/consume")).body("text/plain", "no JSON"),
            stranger.get("/v1/actions/nothing"),
        ] {
            let status = call.await.status;
            assert!(status == 401 || status == 404, "{status}");
        }
    })
);
