//! `multicredit import`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use multicredit_domain::ExternalId;
use multicredit_store::{PageRequest, Store};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, Statement};
use serde_json::{Value, json};
use tests::fixtures::{ai, organization, request, store};
use tests::{Engine, TestDb, both_engines, scratch};
use tokio::io::AsyncWriteExt as _;

use super::process::{Ended, Server, data, program, run};
use super::spent_by_organization;

const EXCERPT: &str = "llm-usage-code-excerpt.ndjson";
const OPENING: i64 = 100_000_000;

fn counts(accepted: u64, replayed: u64, refused: u64, invalid: u64) -> Value {
    json!({ "accepted": accepted, "replayed": replayed, "refused": refused, "invalid": invalid })
}

/// A file of this test alone.
fn file(name: &str, content: &str) -> PathBuf {
    let id = multicredit_store::clock::new_uuid();
    let path = scratch::shared_directory().unwrap().join(format!("{id}-{name}"));
    std::fs::write(&path, content).unwrap();
    path
}

async fn import(db: &TestDb, file: &Path, arguments: &[&str]) -> Ended {
    let file = file.to_str().unwrap();
    run(db.url(), &[&["import", file, "--format", "json"], arguments].concat()).await
}

/// What each organization has spent of what it was opened with.
async fn spent(store: &Store) -> BTreeMap<String, i64> {
    let mut spent = BTreeMap::new();
    let mut page = PageRequest::first(100);
    loop {
        let found = store.organizations(None, page).await.unwrap();
        for organization in found.items {
            let balance = store.balance(organization.id).await.unwrap().balance;
            let name = organization.external_id.unwrap().as_str().to_owned();
            spent.insert(name, OPENING - balance.available.to_array()[0].get());
        }
        match found.next {
            Some(next) => page = PageRequest { after: Some(next), limit: 100 },
            None => return spent,
        }
    }
}

/// How many consumptions are in the log.
async fn charged(connection: &DatabaseConnection) -> i64 {
    let sql = "SELECT COUNT(*) FROM credit_consumption_logs";
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

async fn assert_verified(db: &TestDb) {
    let report = run(db.url(), &["verify", "--format", "json"]).await.succeeded().json();
    assert_eq!(report["passed"], true, "{report}");
}

fn event(id: usize, subject: &str, quantity: i64) -> String {
    json!({
        "specversion": "1.0", "id": id.to_string(), "source": "/s", "type": "ai_tokens", "subject": subject,
        "time": "2023-11-16T18:17:03.979960Z", "data": { "quantity": quantity },
    })
    .to_string()
}

both_engines!(real_usage_is_charged_to_the_credit_and_imported_again_it_is_not_charged_again, async |db| {
    let arguments = ["--create-missing", "ai=100000000"];
    let first = import(&db, &data(EXCERPT), &arguments).await.succeeded();
    assert_eq!(first.json(), counts(200, 0, 0, 0));
    let store = store(&db).await;
    let expected = spent_by_organization(&std::fs::read_to_string(data(EXCERPT)).unwrap());
    assert_eq!(expected.values().sum::<i64>(), 538, "as the data's description says");
    assert_eq!(spent(&store).await, expected);
    assert_verified(&db).await;

    let again = import(&db, &data(EXCERPT), &arguments).await.succeeded();
    assert_eq!(again.json(), counts(0, 200, 0, 0));
    assert_eq!(spent(&store).await, expected);
    assert_verified(&db).await;
    store.close().await;
});

both_engines!(lines_that_are_not_valid_are_named_and_the_others_charged, async |db| {
    let store = store(&db).await;
    let poor = organization(&store, "poor", ai(1)).await;
    organization(&store, "rich", ai(OPENING)).await;
    let long = format!("{}{}", event(9, "rich", 1), " ".repeat(2 << 20));
    let lines = [
        event(1, "rich", 1),
        "{\"specversion\":\"1.0\",".to_owned(),
        event(2, "rich", 0),
        String::new(),
        event(3, "nobody", 1),
        event(4, "rich", 1).replace("ai_tokens", "nothing"),
        event(5, "poor", 5_000),
        "\u{0}\u{1}".to_owned(),
        event(6, "rich", 1).replace("2023-11-16T18:17:03.979960Z", "2999-01-01T00:00:00Z"),
        long,
        event(7, "poor", 1),
        event(1, "rich", 2),
        event(1, "rich", 1),
    ];
    let mut content = lines.join("\n").into_bytes();
    content.extend(b"\n\xff\xfe\n");
    content.extend(event(8, "rich", 1).into_bytes());
    let path = file("mixed.ndjson", "");
    std::fs::write(&path, content).unwrap();

    let ended = import(&db, &path, &[]).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(ended.json(), counts(3, 1, 1, 9));
    let named = ended.stderr.lines().filter_map(|line| line.strip_prefix("line ")?.split(':').next());
    assert_eq!(named.collect::<Vec<_>>(), ["2", "3", "5", "6", "8", "9", "10", "12", "14"], "{}", ended.stderr);
    assert!(store.balance(poor).await.unwrap().balance.available.is_zero());
    assert_eq!(spent(&store).await["rich"], 2);
    assert_verified(&db).await;
    store.close().await;
});

both_engines!(usage_as_csv_is_charged_under_the_keys_of_requests, async |db| {
    let store = store(&db).await;
    let comma = organization(&store, "Acme, \"Inc\"", ai(100)).await;
    let csv = file(
        "usage.csv",
        "action,organization,idempotency_key,quantity,occurred_at\n\
         ai_chat,\"Acme, \"\"Inc\"\"\",k1,3,2023-11-16T18:17:03Z\n\
         ai_chat,\"Acme, \"\"Inc\"\"\",k1,3,2023-11-16T18:17:03Z\n\
         ai_chat,new,k1,,\n\
         ai_chat,new,,1,\n\
         ai_chat,new,k2,1.5,\r\n\
         ai_tokens,new,k3,1001,\r\n",
    );
    let ended = import(&db, &csv, &["--create-missing", "ai=100000000"]).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(ended.json(), counts(3, 1, 0, 2));
    assert!(
        ended.stderr.contains("line 5: idempotency_key: ") && ended.stderr.contains("line 6: quantity: "),
        "{ended:?}"
    );
    assert_eq!(store.balance(comma).await.unwrap().balance.available, ai(97));
    assert_eq!(spent(&store).await["new"], 3);
    // The key is the one of the header `Idempotency-Key`.
    let again = multicredit_domain::Consume {
        occurred_at: Some("2023-11-16T18:17:03Z".parse().unwrap()),
        ..request("ai_chat", 3)
    };
    let again = store.consume(comma, again, tests::fixtures::key("k1")).await.unwrap();
    assert!(again.replayed);
    assert_verified(&db).await;
    store.close().await;
});

both_engines!(a_file_whose_columns_or_format_nobody_knows_is_not_begun, async |db| {
    for (file, part) in [
        (file("usage.csv", "organization,action,amount,idempotency_key\na,sms,1,k\n"), "amount"),
        (file("usage.csv", ""), "header"),
        (file("usage.txt", &event(1, "a", 1)), "--input-format"),
        (PathBuf::from("/nowhere/usage.ndjson"), "/nowhere/usage.ndjson"),
    ] {
        let ended = import(&db, &file, &["--create-missing", "ai=5"]).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
    let store = store(&db).await;
    assert_eq!(spent(&store).await, BTreeMap::new());
    store.close().await;
});

both_engines!(an_import_that_was_killed_is_finished_by_running_it_again, async |db| {
    let lines: Vec<String> = (0..4_000).map(|id| event(id, &format!("org-{}", id % 7), 1_001) + "\n").collect();
    let arguments = ["import", "-", "--format", "json", "--create-missing", "ai=100000000"];
    let store = store(&db).await;
    let connection = db.connect().await.unwrap();
    let mut killed = program(db.url(), &arguments).stdin(Stdio::piped()).spawn().unwrap();
    // It waits for more, and so cannot have come to its end.
    let mut input = killed.stdin.take().unwrap();
    input.write_all(lines[..2_500].concat().as_bytes()).await.unwrap();
    let begun = async {
        while charged(&connection).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), begun).await.expect("it begins");
    killed.kill().await.unwrap();
    let before = charged(&connection).await;

    let whole = file("large.ndjson", &lines.concat());
    let again = import(&db, &whole, &["--create-missing", "ai=100000000"]).await.succeeded().json();
    let (accepted, replayed) = (again["accepted"].as_i64().unwrap(), again["replayed"].as_i64().unwrap());
    assert_eq!(accepted + replayed, 4_000);
    // What was on its way when the program was killed may have been charged after we looked.
    assert!((before..=2_500).contains(&replayed), "what was charged is not charged again: {before}, {again}");
    assert_eq!(spent(&store).await, spent_by_organization(&lines.concat()));
    assert_verified(&db).await;
    store.close().await;
});

both_engines!(an_import_beside_a_server_at_work_loses_nothing_of_either, async |db| {
    let store = store(&db).await;
    let expected = spent_by_organization(&std::fs::read_to_string(data(EXCERPT)).unwrap());
    for name in expected.keys() {
        organization(&store, name, ai(OPENING)).await;
    }
    let busiest = expected.iter().max_by_key(|(_, spent)| **spent).unwrap().0;
    let found = store.organization_by_external_id(&ExternalId::new(busiest.as_str()).unwrap()).await.unwrap().unwrap();
    let server = Server::start(db.url(), &["--admin-key", "an-admin-key-of-this-test-0123456789"]).await;
    let client = server.client.with_key("an-admin-key-of-this-test-0123456789");
    let path = format!("/v1/organizations/{}/consume", found.id);
    let spend = async || {
        for _ in 0..60 {
            client.post(&path).json(json!({ "action": "ai_chat" })).await.expect(201);
        }
    };
    let (ended, ()) = futures_util::future::join(import(&db, &data(EXCERPT), &[]), spend()).await;
    assert_eq!(ended.succeeded().json(), counts(200, 0, 0, 0));
    let mut together = expected.clone();
    *together.get_mut(busiest).unwrap() += 60;
    assert_eq!(spent(&store).await, together);
    let seen = client.get(&format!("/v1/organizations/{}/balance", found.id)).await.expect(200);
    assert_eq!(seen["available"]["ai"], OPENING - together[busiest]);
    server.stop().await;
    assert_verified(&db).await;
    store.close().await;
});

both_engines!(what_an_organization_cannot_pay_is_refused_and_imported_after_a_top_up, async |db| {
    let store = store(&db).await;
    let acme = organization(&store, "acme", ai(2)).await;
    let path = file("usage.ndjson", &(1..=5).map(|id| event(id, "acme", 1) + "\n").collect::<String>());
    assert_eq!(import(&db, &path, &[]).await.succeeded().json(), counts(2, 0, 3, 0));
    store.grant(acme, tests::fixtures::purchase(ai(10)), None).await.unwrap();
    assert_eq!(import(&db, &path, &[]).await.succeeded().json(), counts(3, 2, 0, 0));
    assert_eq!(store.balance(acme).await.unwrap().balance.available, ai(7));
    store.close().await;
});

#[tokio::test]
async fn on_sqlite_an_import_makes_its_database_and_on_postgres_it_does_not_touch_one_that_is_behind() {
    let db = TestDb::empty(Engine::Sqlite).await.unwrap();
    let ended = import(&db, &data(EXCERPT), &["--create-missing", "ai=1000"]).await.succeeded();
    assert_eq!(ended.json(), counts(200, 0, 0, 0));
    let db = TestDb::empty(Engine::Postgres).await.unwrap();
    let ended = import(&db, &data(EXCERPT), &["--create-missing", "ai=1000"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stderr.contains("--migrate"), "{ended:?}");
    let ended = import(&db, &data(EXCERPT), &["--create-missing", "ai=1000", "--migrate"]).await.succeeded();
    assert_eq!(ended.json(), counts(200, 0, 0, 0));
}
