//! How a server ends: what it has acknowledged stays, and nobody waits for it in vain.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use multicredit_domain::consume::Outcome;
use multicredit_domain::{ConsumptionId, OrganizationId};
use serde_json::{Value, json};
use tests::both_engines;
use tests::fixtures::{ai, organization, store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::process::{Server, run};

const ADMIN_KEY: &str = "an-admin-key-of-this-test-0123456789";

/// How long a server may take to end that has no more than a few requests in hand.
const SOON: Duration = Duration::from_secs(10);

/// Spends one credit after the other, each on a connection of its own, until the server is gone; remembers what was
/// acknowledged.
async fn spend_until_the_end(server: &Server, organization: OrganizationId, acknowledged: &Mutex<Vec<String>>) {
    while let Some(id) = spend(server, organization).await {
        acknowledged.lock().unwrap().push(id);
    }
}

/// The id of a consumption that was acknowledged with 201; none if there was no such answer.
async fn spend(server: &Server, organization: OrganizationId) -> Option<String> {
    let body = json!({ "action": "ai_chat" }).to_string();
    let request = format!(
        "POST /v1/organizations/{organization}/consume HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Authorization: Bearer {ADMIN_KEY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(server.client.address()).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 201") || head.starts_with("HTTP/1.1 503"), "{answer}");
    let body: Value = body.parse().ok()?;
    head.starts_with("HTTP/1.1 201").then(|| body["id"].as_str().unwrap().to_owned())
}

both_engines!(a_server_that_is_told_to_stop_under_load_keeps_all_that_it_has_acknowledged, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "busy", ai(1_000_000)).await;
    let server = Server::start(db.url(), &["--admin-key", ADMIN_KEY]).await;
    let acknowledged = Mutex::new(Vec::new());
    let stop = async {
        while acknowledged.lock().unwrap().len() < 200 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.terminate().await;
        Instant::now()
    };
    let spenders = join_all((0..16).map(|_| spend_until_the_end(&server, id, &acknowledged)));
    let (asked_at, _) = futures_util::future::join(stop, spenders).await;
    server.end().await.succeeded();
    assert!(asked_at.elapsed() < SOON, "it took {:?}", asked_at.elapsed());

    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() >= 200);
    for consumption in &acknowledged {
        let consumption: ConsumptionId = consumption.parse().unwrap();
        let found = store.consumption(id, consumption).await.unwrap();
        assert!(matches!(found.outcome, Outcome::Spent { .. }), "{found:?}");
    }
    let left = store.balance(id).await.unwrap().balance.available.to_array()[0].get();
    assert!(1_000_000 - left >= i64::try_from(acknowledged.len()).unwrap(), "{left} left");
    let report = run(db.url(), &["verify", "--format", "json"]).await.succeeded().json();
    assert_eq!(report["passed"], true, "{report}");
    store.close().await;
});

both_engines!(connections_that_are_open_and_idle_do_not_keep_a_server_from_ending, async |db| {
    let server = Server::start(db.url(), &["--admin-key", ADMIN_KEY]).await;
    let client = server.client.with_key(ADMIN_KEY);
    join_all((0..5).map(|_| client.get("/v1/actions").into_future())).await;
    let silent = TcpStream::connect(server.client.address()).await.unwrap();
    let asked_at = Instant::now();
    let ended = server.stop().await;
    assert!(asked_at.elapsed() < SOON, "it took {:?}: {ended:?}", asked_at.elapsed());
    drop(silent);
});

both_engines!(while_it_is_about_to_end_a_server_is_not_ready_and_serves_on, async |db| {
    let server = Server::start(db.url(), &["--admin-key", ADMIN_KEY, "--shutdown-delay-ms", "600"]).await;
    server.client.get("/health/ready").await.expect(200);
    server.terminate().await;
    let not_ready = async {
        while server.client.get("/health/ready").await.status == 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), not_ready).await.expect("it says that it is not ready");
    server.client.get("/health/ready").await.refused(503, "unavailable");
    server.client.get("/health/live").await.expect(200);
    server.client.with_key(ADMIN_KEY).get("/v1/actions").await.expect(200);
    server.end().await.succeeded();
});
