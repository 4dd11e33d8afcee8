//! A server that is killed again and again, in the middle of anything, beside a receiver that is no better: nothing that
//! was acknowledged is lost, and everything that the ledger holds is told.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use multicredit_domain::webhook::{EventFilter, WebhookSecret};
use multicredit_domain::{EventType, OrganizationId};
use multicredit_store::{NewWebhookEndpoint, Store};
use serde_json::json;
use tests::app::Client;
use tests::both_engines;
use tests::fixtures::{ai, organization, store};
use tests::receiver::{Answer, Receiver};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{all_kinds, assert_all_told, expected_events};
use crate::cli::process::{Server, run};

const ADMIN_KEY: &str = "an-admin-key-of-this-test-0123456789";

/// How often the server is killed, in each engine's test. `make deliveries` does so 200 times.
const KILLS: &str = "MULTICREDIT_DELIVERY_KILLS";
const KILLS_DEFAULT: u32 = 5;

/// How many move organizations at once.
const CLIENTS: usize = 4;

fn kills() -> u32 {
    std::env::var(KILLS).map_or(KILLS_DEFAULT, |text| text.parse().unwrap())
}

/// How many organizations move. A killed server leaves the pairs that it was working off to their leases, so for each kill
/// to hit one that delivers there have to be more than a few.
fn organizations() -> usize {
    if kills() > 20 { 120 } else { 16 }
}

/// Moves organizations in every way that needs no time, until the server is gone. What was answered is remembered.
async fn live(client: Client, ids: &[OrganizationId], acknowledged: &Mutex<Vec<String>>, answered: &Notify) {
    for turn in 0_usize.. {
        let id = ids[turn % ids.len()];
        let path = |rest: &str| format!("/v1/organizations/{id}{rest}");
        let call = match (turn / ids.len() + turn) % 5 {
            0 | 3 => client.post(&path("/consume")).json(json!({ "action": "ai_chat" })),
            1 => client.post(&path("/grants")).json(json!({ "credits": { "ai": 5 }, "source": "purchase" })),
            2 => client.post(&path("/consume")).json(json!({ "action": "ai_chat", "quantity": 100_000_000 })),
            _ => client.post(&path("/holds")).json(json!({ "action": "ai_chat" })),
        };
        let Some(answer) = call.try_send().await else { return };
        assert!(matches!(answer.status, 201 | 402), "{answer}");
        answered.notify_one();
        if let Some(sequence) = answer.json()["sequence"].as_i64() {
            acknowledged.lock().unwrap().push(format!("evt_{}_{sequence}_", id.uuid().simple()));
        }
    }
}

/// A receiver that fails now and then, in every way but for good, and never twice at one event: the third attempt would be
/// minutes later. Each failure holds its pair up for some seconds.
fn misbehave(receiver: &Receiver) {
    let mut count = 0_u32;
    let mut failed = BTreeSet::new();
    receiver.behave(move |received| {
        count += 1;
        let answer = match count % 97 {
            13 => Answer::Status(500),
            41 => Answer::Reset,
            67 => Answer::Redirect("http://127.0.0.1:1/".to_owned()),
            90 => Answer::Status(429),
            _ => return Answer::Status(200),
        };
        let is_first = failed.len() < 16 && failed.insert(received.id().to_owned());
        if is_first { answer } else { Answer::Status(200) }
    });
}

async fn endpoint(store: &Store, receiver: &Receiver) {
    let kinds = all_kinds().into_iter().collect::<BTreeSet<EventType>>();
    let new = NewWebhookEndpoint {
        organization_id: None,
        url: receiver.url(),
        description: None,
        events: EventFilter::Only(kinds),
        secret: WebhookSecret::new([7; 32]),
    };
    store.create_webhook_endpoint(new).await.unwrap();
}

both_engines!(a_server_that_is_killed_again_and_again_tells_everything, async |db| {
    let store = store(&db).await;
    let receiver = Receiver::start().await;
    misbehave(&receiver);
    endpoint(&store, &receiver).await;
    let mut ids = Vec::new();
    for number in 0..organizations() {
        ids.push(organization(&store, &format!("o{number}"), ai(1_000_000)).await);
    }
    let acknowledged = Mutex::default();
    let arguments = ["--admin-key", ADMIN_KEY, "--webhook-allow", "127.0.0.0/8"];
    for kill in 0..kills() {
        let server = Server::start(db.url(), &arguments).await;
        let client = server.client.with_key(ADMIN_KEY);
        let answered = Notify::new();
        let moving = ids.chunks(ids.len() / CLIENTS).map(|some| live(client.clone(), some, &acknowledged, &answered));
        // Never at the same moment of what it does.
        let life = Duration::from_millis(100 + u64::from(kill * 37 % 400));
        let killing = async {
            timeout(Duration::from_mins(1), answered.notified()).await.expect("it answers");
            tokio::time::sleep(life).await;
            server.kill().await;
        };
        tokio::join!(join_all(moving), killing);
    }
    let server = Server::start(db.url(), &arguments).await;
    let (mut expected, mut there) = (0, BTreeSet::new());
    for id in &ids {
        let (told, refused) = expected_events(&store, *id).await;
        expected += told.len() + refused.len();
        there.extend(told);
    }
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() >= kills() as usize, "{} movements were acknowledged", acknowledged.len());
    for movement in &acknowledged {
        let is_there = there.range(movement.clone()..).next().is_some_and(|event| event.starts_with(movement));
        assert!(is_there, "{movement} was acknowledged and is not there");
    }
    let different = |received: &[tests::receiver::Received]| {
        let taken = received.iter().filter(|it| it.is_taken());
        taken.map(|it| it.id().to_owned()).collect::<BTreeSet<_>>().len()
    };
    receiver.until(&format!("{expected} events"), |received| different(received) >= expected).await;
    assert_all_told(&store, &ids, &receiver.taken()).await;
    let (all, taken) = (receiver.received().len(), receiver.taken().len());
    eprintln!("{} kills: {expected} events, {all} requests, {taken} taken, {} twice", kills(), taken - expected);
    server.stop().await;
    let report = run(db.url(), &["verify", "--format", "json"]).await.succeeded().json();
    assert_eq!(report["passed"], true, "{report}");
    store.close().await;
});
