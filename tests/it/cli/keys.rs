//! `multicredit keys`.

use serde_json::{Value, json};
use tests::both_engines;
use tests::fixtures::{ai, organization, store};

use super::process::{Server, run};

both_engines!(keys_are_made_listed_and_revoked_beside_a_running_server, async |db| {
    let server = Server::start(db.url(), &["--admin-key", "an-admin-key-of-this-test-0123456789"]).await;
    let store = store(&db).await;
    let acme = organization(&store, "acme", ai(10)).await;

    let create = ["keys", "create", "--name", "checkout", "--scopes", "consume,read", "--format", "json"];
    let made = run(db.url(), &create).await.succeeded().json();
    assert_eq!((&made["scopes"], &made["organization_id"]), (&json!(["read", "consume"]), &Value::Null));
    let bound =
        run(db.url(), &["keys", "create", "--name", "acme's", "--scopes", "read", "--organization", "acme"]).await;
    let bound = bound.succeeded().stdout;
    let secret = bound.lines().next().unwrap();

    let client = server.client.with_key(made["key"].as_str().unwrap());
    let path = format!("/v1/organizations/{acme}/consume");
    client.post(&path).json(json!({ "action": "ai_chat" })).await.expect(201);
    let listed = server.client.with_key(secret).get("/v1/organizations").await.expect(200);
    assert_eq!(listed["items"][0]["id"], acme.to_string());

    let list = run(db.url(), &["keys", "list", "--format", "json"]).await.succeeded();
    let names: Vec<Value> = list.json().as_array().unwrap().iter().map(|key| key["name"].clone()).collect();
    assert_eq!(names, ["acme's", "checkout", "MULTICREDIT_ADMIN_KEY"]);
    assert!(!list.stdout.contains(secret) && !list.stdout.contains(made["key"].as_str().unwrap()));
    let of_acme = run(db.url(), &["keys", "list", "--organization", "acme"]).await.succeeded().stdout;
    assert_eq!(of_acme.lines().count(), 2, "{of_acme}");

    let unused = run(db.url(), &create).await.succeeded().json();
    run(db.url(), &["keys", "revoke", unused["id"].as_str().unwrap()]).await.succeeded();
    let client = server.client.with_key(unused["key"].as_str().unwrap());
    client.get("/v1/actions").await.refused(401, "unauthorized");

    let admin = server.client.with_key("an-admin-key-of-this-test-0123456789");
    let audited = admin.get("/v1/audit-log?operation=revokeApiKey").await.expect(200)["items"][0].clone();
    assert_eq!((&audited["subject"], &audited["actor"]), (&unused["id"], &json!("multicredit keys")), "{audited}");
    assert!(audited["api_key_id"].is_null() && audited["before"]["revoked_at"].is_null(), "{audited}");
    let audited = admin.all("/v1/audit-log?operation=createApiKey", 100).await;
    assert_eq!(audited.len(), 4);
    assert_eq!(audited[3]["actor"], "multicredit serve", "the first one was configured");
    server.stop().await;
    store.close().await;
});

both_engines!(what_is_no_key_and_nobodys_organization_is_said_so, async |db| {
    for (arguments, part) in [
        (&["keys", "revoke", "0199a3d1-0b77-7a90-a2f4-6c1d5e839b40"][..], "there is no key"),
        (&["keys", "create", "--name", "k", "--scopes", "read", "--organization", "nobody"], "nobody"),
        (&["keys", "create", "--name", "", "--scopes", "read"], "--name"),
        (&["keys", "list", "--organization", "nobody"], "nobody"),
    ] {
        let ended = run(db.url(), arguments).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
    for arguments in [
        &["keys", "create", "--name", "k", "--scopes", "root"][..],
        &["keys", "create", "--name", "k"],
        &["keys", "revoke", "no-id"],
    ] {
        assert_eq!(run(db.url(), arguments).await.code, Some(2), "{arguments:?}");
    }
    assert_eq!(run(db.url(), &["keys", "list", "--format", "json"]).await.succeeded().json(), json!([]));
});
