//! `/health`, `/openapi.json` and `/docs`: what is there for those who operate and those who read.

use hyper::Method;
use multicredit_store::clock::Clock;
use serde_json::{Value, json};
use tests::app::{TestApp, served, served_at};
use tests::both_engines;

use super::walk::{Document, World};

both_engines!(
    a_server_with_a_database_is_live_and_ready_to_anybody,
    served(async |app| {
        assert_eq!(app.stranger().get("/health/live").await.expect(200), json!({ "status": "live" }));
        assert_eq!(app.stranger().get("/health/ready").await.expect(200), json!({ "status": "ready" }));
    })
);

both_engines!(a_server_that_lost_its_database_is_live_and_says_when_to_come_back, async |db| {
    let app = TestApp::start(db, Clock::default()).await;
    let acme = app.organization("acme", json!({ "ai": 1 })).await;
    app.store.close().await;
    assert_eq!(app.stranger().get("/health/live").await.expect(200)["status"], "live");
    app.stranger().get("/health/ready").await.refused(503, "unavailable");
    app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" })).await.refused(503, "unavailable");
    app.admin.get(&acme.path("/balance")).await.refused(503, "unavailable");
    app.stop().await;
});

both_engines!(
    the_document_of_the_api_is_openapi_and_the_same_for_everybody,
    served(async |app| {
        let document = app.stranger().get("/openapi.json").await;
        assert_eq!(String::from_utf8_lossy(&document.body), multicredit::app::openapi_json());
        let document = document.expect(200);
        assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{}", document["openapi"]);
        for path in
            ["/v1/organizations", "/v1/organizations/{organization_id}/consume", "/v1/consume/batch", "/v1/events"]
        {
            assert!(document["paths"][path].is_object(), "{path}");
        }
        assert_eq!(document["components"]["securitySchemes"].as_object().unwrap().len(), 1);
    })
);

both_engines!(
    every_operation_of_the_contract_is_in_the_document,
    served(async |app| {
        let document = app.stranger().get("/openapi.json").await.expect(200);
        let mut missing = Vec::new();
        for line in OPERATIONS.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (methods, path) = line.split_once(' ').unwrap();
            let documented =
                document["paths"].as_object().unwrap().iter().find(|(known, _)| shape(known) == shape(path));
            for method in methods.split(',') {
                let operation = documented.map(|(_, operations)| &operations[method.to_lowercase()]);
                if !operation.is_some_and(Value::is_object) {
                    missing.push(format!("{method} {path}"));
                }
            }
        }
        assert_eq!(missing, Vec::<String>::new());
    })
);

/// A path whatever its parameters are called.
fn shape(path: &str) -> Vec<&str> {
    path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment }).collect()
}

/// The contract's table, as far as it is built.
const OPERATIONS: &str = "
    POST,GET /v1/organizations
    GET,PATCH /v1/organizations/{id}
    GET /v1/actions
    PUT,GET /v1/actions/{action_type}
    POST,GET /v1/organizations/{id}/grants
    POST /v1/organizations/{id}/grants/{grant_id}/void
    POST /v1/organizations/{id}/adjustments
    GET /v1/organizations/{id}/balance
    POST /v1/organizations/{id}/consume
    POST /v1/events
    POST /v1/organizations/{id}/quote
    POST /v1/consume/batch
    GET /v1/organizations/{id}/consumptions
    GET /v1/organizations/{id}/consumptions/{cid}
    POST /v1/organizations/{id}/consumptions/{cid}/refund
    POST,GET /v1/organizations/{id}/holds
    GET /v1/organizations/{id}/holds/{hid}
    POST /v1/organizations/{id}/holds/{hid}/capture
    POST /v1/organizations/{id}/holds/{hid}/release
    POST /v1/organizations/{id}/holds/{hid}/extend
    GET /v1/organizations/{id}/ledger
    GET /v1/organizations/{id}/usage
    GET /v1/usage/summary
    GET /v1/organizations/{id}/forecast
    PUT,GET /v1/plans/{code}
    PUT,GET,DELETE /v1/organizations/{id}/subscription
    PUT,DELETE /v1/organizations/{id}/members/{user_id}
    GET /v1/organizations/{id}/members
    GET /v1/users/{user_id}/organizations
    POST,GET /v1/api-keys
    DELETE /v1/api-keys/{id}
    GET /v1/audit-log
    GET /v1/performance
    GET /health/live
    GET /health/ready
";

both_engines!(
    the_page_of_the_documentation_loads_and_loads_nothing_from_elsewhere,
    served(async |app| {
        let page = app.stranger().get("/docs").await;
        assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
        let page = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(page.contains("SwaggerUIBundle") && page.contains("\"createOrganization\""));
        for loading in ["<script src", "<link ", "@import", "url(http"] {
            assert!(!page.contains(loading), "{loading}");
        }
    })
);

both_engines!(
    head_is_get_without_its_body,
    served(async |app| {
        for path in ["/health/live", "/v1/actions", "/openapi.json", "/v1/organizations/no-id", "/nothing"] {
            let (get, head) = (app.admin.get(path).await, app.admin.call(Method::HEAD, path).await);
            assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
            assert_eq!(head.header("Content-Type"), get.header("Content-Type"), "{path}");
        }
    })
);

both_engines!(
    the_examples_of_the_document_are_accepted_and_answered_as_it_says,
    served_at("2026-11-22T09:30:00Z", async |app, _| {
        let document = Document::of(app).await;
        for (number, operation) in document.operations().into_iter().enumerate() {
            let world = World::new(app, &format!("world-{number}")).await;
            let answer = world.call(&app.admin, &document, &operation).await;
            assert!((200..300).contains(&answer.status), "{answer}");
            assert!(operation.documents(answer.status), "not in the document: {answer}");
            if answer.status != 204 {
                let schema = operation.answer(answer.status);
                assert_eq!(document.mismatches(schema, &answer.json()), Vec::<String>::new(), "{answer}");
                assert_ne!(document.mismatches(schema, &json!({ "field": 1 })), Vec::<String>::new(), "{schema}");
            }
        }
    })
);

both_engines!(
    null_is_taken_for_the_fields_whose_schema_says_so_and_refused_for_all_others,
    served_at("2026-11-22T09:30:00Z", async |app, _| {
        let document = Document::of(app).await;
        let (mut taken, mut refused) = (0, 0);
        for (number, operation) in document.operations().into_iter().enumerate() {
            let Some((_, schema)) = document.body(&operation) else { continue };
            let world = World::new(app, &format!("world-{number}")).await;
            let (media_type, example) = world.example(&document, &operation).unwrap();
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let mut body = example.clone();
                body[name] = Value::Null;
                let call = app.admin.call(operation.method.clone(), &world.path(&operation));
                let answer = call.body(&media_type, body.to_string()).await;
                let errors = if answer.status == 400 { answer.json()["errors"].clone() } else { json!([]) };
                let is_refused = errors.as_array().into_iter().flatten().any(|error| error["field"] == **name);
                assert_eq!(!is_refused, property["nullable"] == true, "{name}: {answer}");
                if is_refused { refused += 1 } else { taken += 1 }
            }
        }
        assert!(taken >= 20 && refused >= 20, "{taken} taken, {refused} refused");
    })
);

both_engines!(
    what_a_rule_of_any_measure_refuses_is_outside_the_bounds_of_its_schema,
    served(async |app| {
        let document = Document::of(app).await;
        for schema in ["NewAlertRule", "AlertRuleUpdate"].map(|name| &document.schema(name)["properties"]) {
            let bounds = |field: &str| (schema[field]["minimum"].clone(), schema[field]["maximum"].clone());
            assert_eq!(bounds("threshold"), (json!(0), json!(9_007_199_254_740_990_i64)));
            assert_eq!(bounds("recover_at"), (json!(1), json!(9_007_199_254_740_991_i64)));
        }
        let rule = |threshold: i64, recover_at: i64| {
            let rule = json!({ "name": "x", "measure": "amount", "threshold": threshold, "recover_at": recover_at });
            app.admin.post("/v1/alert-rules").json(rule)
        };
        rule(0, 1).await.expect(201);
        rule(9_007_199_254_740_990, 9_007_199_254_740_991).await.expect(201);
        for (threshold, recover_at) in [(-1, 1), (9_007_199_254_740_991, 9_007_199_254_740_991), (0, 0)] {
            rule(threshold, recover_at).await.refused(400, "invalid_request");
        }
        rule(1, 9_007_199_254_740_992).await.refused(400, "invalid_request");
    })
);
