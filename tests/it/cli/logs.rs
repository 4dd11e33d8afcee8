//! What the program logs: JSON if asked for, every line of a request with its id, and nothing that a caller sent.

use serde_json::{Value, json};
use tests::both_engines;

use super::process::Server;

const ADMIN_KEY: &str = "an-admin-key-of-this-test-0123456789";

/// Texts of callers, each of which would be found if it were logged.
const SECRETS: [&str; 6] =
    [ADMIN_KEY, "name-of-acme", "external-of-acme", "value-in-metadata", "query-of-mine", "idempotent-mine"];

both_engines!(a_log_in_json_has_the_id_of_every_request_and_nothing_that_callers_sent, async |db| {
    let arguments = [
        "--log-format",
        "json",
        "--log",
        "trace,hyper=off,h2=off,mio=off,sqlx=info,tokio=off,poem=info",
        "--admin-key",
        ADMIN_KEY,
    ];
    let server = Server::start(db.url(), &arguments).await;
    let admin = server.client.with_key(ADMIN_KEY);
    let new = json!({ "name": "name-of-acme", "external_id": "external-of-acme" });
    let acme = admin.post("/v1/organizations").header("X-Request-Id", "made-here").json(new).await.expect(201);
    let path = format!("/v1/organizations/{}", acme["id"].as_str().unwrap());
    let consume = json!({ "action": "ai_chat", "metadata": { "key": "value-in-metadata" } });
    let consuming = admin.post(&format!("{path}/consume")).header("X-Request-Id", "spent-here");
    consuming.once("idempotent-mine").json(consume).await.refused(402, "insufficient_credits");
    admin.get(&format!("{path}/grants?query-of-mine=1")).await.refused(400, "invalid_request");
    admin.get("/v1/query-of-mine").await.refused(404, "unknown_path");
    admin.with_key(&ADMIN_KEY.replace('0', "1")).get("/v1/actions").await.refused(401, "unauthorized");
    let ended = server.stop().await;

    let lines: Vec<Value> =
        ended.stderr.lines().map(|line| line.parse().unwrap_or_else(|_| panic!("{line}"))).collect();
    let answered: Vec<&Value> = lines.iter().filter(|line| line["message"] == "answered").collect();
    assert_eq!(answered.len(), 5, "{answered:#?}");
    for line in &answered {
        assert!(line["span"]["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
        assert!(line["operation"].is_string() && line["status"].is_u64() && line["duration_us"].is_u64(), "{line}");
    }
    for id in ["made-here", "spent-here"] {
        assert!(answered.iter().any(|line| line["span"]["request_id"] == id), "{id}");
    }
    for secret in SECRETS.iter().copied().chain(["an-admin-key-of-this-test"]) {
        let told: Vec<&str> = ended.stderr.lines().filter(|line| line.contains(secret)).collect();
        assert_eq!(told, Vec::<&str>::new(), "{secret} is in the log");
    }
});
