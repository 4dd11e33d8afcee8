//! History is not dropped before those were told of it who want to be.

use multicredit_domain::EventType;
use multicredit_domain::webhook::{EventFilter, WebhookSecret};
use multicredit_store::clock::Clock;
use multicredit_store::{Job, JobDone, JobRun, NewWebhookEndpoint, Store, StoreConfig, WebhookEndpointUpdate};
use sea_orm::{ConnectionTrait as _, Statement};
use tests::app::instant;
use tests::fixtures::{ai, organization, request};
use tests::receiver::{Answer, Receiver};
use tests::{TestDb, both_engines};

use super::deliverer;

async fn rows(db: &TestDb) -> i64 {
    let connection = db.connect().await.unwrap();
    let sql = "SELECT COUNT(*) FROM credit_consumption_logs";
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

async fn left(store: &Store) -> u64 {
    match store.do_job(Job::DropHistory, None).await.unwrap() {
        JobRun::Done(JobDone::Dropped(dropped)) => dropped.left,
        other => panic!("{other:?}"),
    }
}

both_engines!(history_waits_for_an_endpoint_that_was_not_told, async |db| {
    let clock = Clock::manual(instant("2026-12-10T12:00:00Z"));
    let config = StoreConfig { clock: clock.clone(), retention_months: Some(2), ..StoreConfig::new(db.url()) };
    let store = Store::open(config).await.unwrap();
    let id = organization(&store, "acme", ai(10)).await;
    let receiver = Receiver::start().await;
    receiver.behave(|_| Answer::Status(500));
    let new = NewWebhookEndpoint {
        organization_id: Some(id),
        url: receiver.url(),
        description: None,
        events: EventFilter::Only([EventType::CreditsConsumed, EventType::CreditsRefused].into()),
        secret: WebhookSecret::new([7; 32]),
    };
    let endpoint = store.create_webhook_endpoint(new.clone()).await.unwrap();
    for _ in 0..3 {
        store.consume(id, request("ai_chat", 1), None).await.unwrap();
    }
    store.consume(id, request("ai_chat", 1_000), None).await.unwrap_err();
    clock.set(instant("2027-04-10T12:00:00Z"));
    store.consume(id, request("ai_chat", 1), None).await.unwrap();
    assert!(left(&store).await > 0, "it was dropped untold");
    assert_eq!(rows(&db).await, 5);

    receiver.behave(|_| Answer::Status(200));
    let telling = deliverer(&store);
    let taken = receiver.until_taken(5).await;
    assert_eq!(taken.len(), 5);
    telling.stop().await;
    left(&store).await;
    assert_eq!(rows(&db).await, 1, "what was told is dropped");

    // One that is disabled keeps nothing, and one of refusals alone keeps no consumptions.
    clock.set(instant("2027-05-10T12:00:00Z"));
    let off = WebhookEndpointUpdate { enabled: Some(false), ..WebhookEndpointUpdate::default() };
    store.update_webhook_endpoint(endpoint.id, off).await.unwrap().unwrap();
    let only = EventFilter::Only([EventType::CreditsRefused].into());
    store.create_webhook_endpoint(NewWebhookEndpoint { events: only, ..new }).await.unwrap();
    store.consume(id, request("ai_chat", 1), None).await.unwrap();
    clock.set(instant("2027-09-10T12:00:00Z"));
    left(&store).await;
    assert_eq!(rows(&db).await, 0);
    assert!(store.verify().await.unwrap().passed());
    store.close().await;
});
