//! Webhooks: what endpoints are told, and that they are told it whatever happens.

mod connections;
mod endpoints;
mod faults;
mod kills;
mod locks;
mod refused_addresses;
mod retention;
mod telling;

use std::collections::BTreeMap;

use multicredit::limits::WEBHOOK_RATE_DEFAULT;
use multicredit::webhook::courier::Courier;
use multicredit::webhook::deliverer::Deliverer;
use multicredit_domain::{Amount, EventId, EventType, OrganizationId};
use multicredit_store::{ConsumptionFilter, PageRequest, Store};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tests::app::{Organization, TestApp, own_network};
use tests::receiver::{Received, Receiver};

const PATH: &str = "/v1/webhook-endpoints";

/// An endpoint that leads to a receiver.
struct Hook {
    path: String,
    secret: String,
}

/// A deliverer of the application's store that may go to receivers.
fn deliverer(store: &Store) -> Deliverer {
    Deliverer::start(store.clone(), Courier::new(own_network()), WEBHOOK_RATE_DEFAULT)
}

/// A new endpoint, told of these events, or of the usual ones.
async fn hook(app: &TestApp, receiver: &Receiver, of: Option<&Organization>, events: Option<&[EventType]>) -> Hook {
    let mut new = json!({ "url": receiver.url() });
    if let Some(of) = of {
        new["organization_id"] = of.id.as_str().into();
    }
    if let Some(events) = events {
        new["events"] = events.iter().map(|event| event.as_str()).collect();
    }
    let made = app.admin.post(PATH).json(new).await.expect(201);
    Hook { path: format!("{PATH}/{}", made["id"].as_str().unwrap()), secret: made["secret"].as_str().unwrap().into() }
}

/// Asserts that a webhook is signed with that secret, by the specification's own library.
fn assert_signed(received: &Received, secret: &str) {
    Webhook::new(secret).unwrap().verify(&received.body, &received.headers).unwrap();
}

fn types(received: &[Received]) -> Vec<Value> {
    received.iter().map(|it| it.json()["type"].clone()).collect()
}

/// What all events of an organization are, by what the ledger says of itself; those of the ledger in their order.
async fn expected_events(store: &Store, id: OrganizationId) -> (Vec<String>, Vec<String>) {
    let mut movements = store.ledger(id, PageRequest::first(1_000_000)).await.unwrap().items;
    movements.reverse();
    let events = movements.iter().flat_map(|it| EventId::of_movement(id, it.sequence, it.kind));
    let told = events.map(|(id, _)| id.to_string()).collect();
    let filter = ConsumptionFilter { success: Some(false), ..ConsumptionFilter::default() };
    let refused = store.consumptions(id, filter, PageRequest::first(1_000_000)).await.unwrap().items;
    (told, refused.iter().map(|it| EventId::of_refusal(it.id).to_string()).collect())
}

/// Asserts that everything of these organizations was taken at least once, with the same body each time, and each
/// organization's movements in their order.
async fn assert_all_told(store: &Store, organizations: &[OrganizationId], taken: &[Received]) {
    let mut bodies: BTreeMap<&str, &[u8]> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for received in taken {
        if let Some(body) = bodies.insert(received.id(), &received.body) {
            assert_eq!(body, received.body, "{} was told twice, and otherwise", received.id());
        } else {
            order.push(received.id());
        }
    }
    let mut all = 0;
    for id in organizations {
        let (told, refused) = expected_events(store, *id).await;
        let beginning = format!("evt_{}_", id.uuid().simple());
        let came: Vec<&str> = order.iter().filter(|it| it.starts_with(&beginning)).copied().collect();
        assert_eq!(came, told, "of {id}");
        for event in &refused {
            assert!(bodies.contains_key(event.as_str()), "{event} was not told");
        }
        all += told.len() + refused.len();
    }
    assert_eq!(bodies.len(), all, "something was told that did not happen");
}

fn id_of(organization: &Organization) -> OrganizationId {
    organization.id.parse().unwrap()
}

/// Every type of event that the ledger makes.
fn all_kinds() -> Vec<EventType> {
    EventType::ALL.into_iter().filter(|event| !event.is_raised()).collect()
}

/// A balance, as plain numbers.
fn ai_available(value: &Value) -> i64 {
    Amount::new(value["available"]["ai"].as_i64().unwrap()).unwrap().get()
}
