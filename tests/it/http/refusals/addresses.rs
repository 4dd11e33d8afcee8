//! Paths, methods and query strings that are not valid, of every operation of the document.

use hyper::Method;
use serde_json::{Value, json};
use tests::app::served_at;
use tests::both_engines;

use super::super::walk::{Document, Operation, World};
use super::{Untouched, assert_invalid, field};

const NOW: &str = "2026-11-22T09:30:00Z";

/// What is none of its parameter's values, as it stands in a URL.
fn wrong_values(schema: &Value) -> Vec<&'static str> {
    let mut wrong = vec!["%00", "%FF", "%ED%A0%80"];
    wrong.extend(match (schema["type"].as_str().unwrap(), schema["format"].as_str()) {
        ("integer", _) => ["0", "-1", "101", "1.5", "1e1", "%2B1", "9007199254740992", "x"].as_slice(),
        ("boolean", _) => &["yes", "1", "TRUE", "0"],
        ("string", Some("uuid")) => &["x", "acme", "0199a3d2", "0199a3d2-7c50-7b2e-8a41-5f0c9d3e1b2g", "-", "*"],
        ("string", Some("date-time")) => {
            &["yesterday", "2026-11-22", "2026-13-01T00:00:00Z", "2026-11-22T09:00:00", "0"]
        }
        _ => &["%0A", "%7F"],
    });
    wrong
}

/// A text that is longer than the parameter may be.
fn too_long(schema: &Value) -> Option<String> {
    let length: usize = schema["maxLength"].as_u64()?.try_into().unwrap();
    Some("a".repeat(length + 1))
}

/// The path with one of its parameters replaced.
fn with_segment(world: &World, operation: &Operation, parameter: &str, segment: &str) -> String {
    let names = operation.path.split('/');
    let values = world.path(operation);
    let segments = names.zip(values.split('/')).map(
        |(name, value)| {
            if name == format!("{{{parameter}}}") { segment } else { value }
        },
    );
    segments.collect::<Vec<_>>().join("/")
}

both_engines!(
    a_segment_of_a_path_that_is_no_value_of_its_parameter_is_refused_by_name,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let world = World::new(app, "acme").await;
        let untouched = Untouched::new(app).await;
        for operation in document.operations() {
            for parameter in operation.parameters("path") {
                let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
                let long = too_long(schema);
                for wrong in wrong_values(schema).into_iter().chain(long.as_deref()) {
                    let path = with_segment(&world, &operation, name, wrong);
                    let call = world.call_at(&app.admin, &document, &operation, &path);
                    let what = format!("{} with {wrong} as {name}", operation.name());
                    assert_eq!(field(&assert_invalid(call, &what).await), name, "{what}");
                }
            }
            untouched.assert(&operation.name()).await;
        }
    })
);

both_engines!(
    a_query_that_is_unknown_or_there_twice_or_no_value_of_its_parameter_is_refused_by_name,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let world = World::new(app, "acme").await;
        let untouched = Untouched::new(app).await;
        for operation in document.operations() {
            let path = world.path(&operation);
            let refused = async |query: &str| {
                let call = world.call_at(&app.admin, &document, &operation, &format!("{path}?{query}"));
                let what = format!("{} with ?{query}", operation.name());
                (field(&assert_invalid(call, &what).await), what)
            };
            for unknown in ["page=2", "Limit=1", "limit[]=1", "x", "offset=0&page=1", "%6cimits=5"] {
                refused(unknown).await;
            }
            assert_eq!(refused("page=2").await.0, "page");
            for parameter in operation.parameters("query") {
                let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
                let long = too_long(schema);
                let twice = format!("{name}=1&{name}=1");
                let wrong = wrong_values(schema).into_iter().chain(["", "null", "%5B%5D"]).chain(long.as_deref());
                // Any word may be the name of an action.
                let wrong = wrong.filter(|wrong| name != "action" || *wrong != "null");
                for wrong in wrong.map(|wrong| format!("{name}={wrong}")).chain([twice]) {
                    let (field, what) = refused(&wrong).await;
                    // Of a query string that is no text nobody knows the names.
                    let known = field == name || (field == "" && (wrong.contains("%FF") || wrong.contains("%ED")));
                    assert!(known, "{what} names {field}");
                }
            }
            untouched.assert(&operation.name()).await;
        }
    })
);

both_engines!(
    a_cursor_is_good_for_the_list_that_it_came_from,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let world = World::new(app, "acme").await;
        let other = World::new(app, "other").await;
        let operations = document.operations();
        let lists: Vec<&Operation> = operations
            .iter()
            .filter(|operation| operation.parameters("query").iter().any(|parameter| parameter["name"] == "cursor"))
            .collect();
        assert!(lists.len() >= 9, "only {} lists", lists.len());
        app.admin.put(&world.organization.path("/members/user-43")).await.expect(200);
        app.admin.put(&other.organization.path("/members/user-42")).await.expect(200);
        let hold = json!({ "action": "ai_chat" });
        app.admin.post(&world.organization.path("/holds")).json(hold).await.expect(201);
        app.admin.post(&world.organization.path("/consume")).json(json!({ "action": "ai_chat" })).await.expect(201);

        app.admin.post(&other.organization.path("/consume")).json(json!({ "action": "ai_chat" })).await.expect(201);
        app.store.do_job(multicredit_store::Job::RefreshSummary, None).await.unwrap();

        let rule =
            json!({ "name": "second", "organization_id": world.organization.id, "measure": "share", "threshold": 5 });
        app.admin.post("/v1/alert-rules").json(rule).await.expect(201);
        let asks = json!({ "threshold": 5, "amount": 5 });
        app.admin.put(&world.organization.path("/top-up-rules/sms")).json(asks).await.expect(200);
        app.store.evaluate_alerts().await.unwrap();
        let send_test = operations.iter().find(|operation| operation.path.ends_with("/test")).unwrap();
        for _ in 0..2 {
            assert!(world.call(&app.admin, &document, send_test).await.status < 300);
        }

        let mut cursors = Vec::new();
        for list in &lists {
            let page = app.admin.get(&format!("{}?limit=1", world.path(list))).await.expect(200);
            let cursor = page["next_cursor"].as_str().unwrap_or_else(|| panic!("{} has one page", list.name()));
            cursors.push((list.name(), cursor.to_owned()));
        }
        for list in &lists {
            for (owner, cursor) in &cursors {
                let call = app.admin.get(&format!("{}?cursor={cursor}", world.path(list)));
                if *owner == list.name() {
                    call.await.expect(200);
                } else {
                    assert_invalid(call, &format!("{} with a cursor of {owner}", list.name())).await;
                }
                for broken in
                    [&cursor[1..], &cursor[..cursor.len() - 2], &format!("{cursor}AAAA"), &cursor.to_lowercase()]
                {
                    if broken != cursor {
                        let call = app.admin.get(&format!("{}?cursor={broken}", world.path(list)));
                        let status = call.await.status;
                        // What is left of it may be another position of the same list, and is then a page.
                        assert!(
                            status == 400 || (status == 200 && *owner == list.name()),
                            "{} at {broken}",
                            list.name()
                        );
                    }
                }
            }
        }
    })
);

both_engines!(
    a_method_that_a_path_does_not_have_is_told_those_that_it_has,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let world = World::new(app, "acme").await;
        let untouched = Untouched::new(app).await;
        let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"];
        for (path, mut documented) in document.paths() {
            if documented.contains(&"GET".to_owned()) {
                documented.push("HEAD".to_owned());
            }
            documented.sort_unstable();
            let operation = Operation { method: Method::GET, path, described: Value::Null };
            for method in methods.into_iter().filter(|method| !documented.iter().any(|known| known == method)) {
                let call = app.admin.call(method.parse().unwrap(), &world.path(&operation));
                let answer = call.await;
                assert_eq!(answer.status, 405, "{answer}");
                let mut allow: Vec<&str> = answer.header("Allow").unwrap().split(", ").collect();
                allow.sort_unstable();
                assert_eq!(allow, documented, "{answer}");
            }
        }
        untouched.assert("methods that are not there").await;
    })
);

both_engines!(
    a_path_that_is_not_there_is_unknown_to_everybody,
    served_at(NOW, async |app, _| {
        let world = World::new(app, "acme").await;
        let id = &world.organization.id;
        let untouched = Untouched::new(app).await;
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v2/organizations",
            "/v1/organizations/",
            "//v1/organizations",
            "/V1/organizations",
            "/v1/Organizations",
            "/docs/",
            "/openapi.yaml",
            "/health",
            "/metrics/x",
            "/v1/%6frganizations/",
            "/v1/organizations%2F",
            "/..",
            "/v1/../v1/organizations",
            "/%00",
            "/%FF",
            &format!("/v1/organizations/{id}/"),
            &format!("/v1/organizations/{id}/consume/"),
            &format!("/v1/organizations/{id}/nothing"),
            &format!("/{}", "x".repeat(8_000)),
        ] {
            for client in [&app.admin, &app.stranger()] {
                for method in [Method::GET, Method::POST] {
                    client.call(method, path).await.refused(404, "unknown_path");
                }
            }
        }
        untouched.assert("paths that are not there").await;
    })
);
