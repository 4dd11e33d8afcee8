//! Somebody who wants to be told of every consumption: an endpoint of webhooks, and a receiver within this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use multicredit_domain::webhook::{EventFilter, WebhookSecret};
use multicredit_domain::{EndpointId, EventType};
use multicredit_store::{NewWebhookEndpoint, Store, StoreConfig, WebhookEndpointUpdate};
use poem::Response;
use poem::endpoint::make_sync;
use poem::http::StatusCode;
use tokio::task::JoinHandle;

use crate::server::{self, Connections, Listener};

/// Servers may send to the receiver, which is on this machine.
pub const SERVER_SETTINGS: [(&str, &str); 1] = [("MULTICREDIT_WEBHOOK_ALLOW", "127.0.0.1/32")];

/// How long servers take at most to notice that an endpoint was enabled or disabled, and to end what is under way.
const NOTICE: Duration = Duration::from_millis(1_500);

/// The endpoint, and its receiver for as long as this lives.
pub struct Told {
    store: Store,
    endpoint: EndpointId,
    taken: Arc<AtomicU64>,
    receiver: JoinHandle<()>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

impl Told {
    /// Makes a receiver, and an endpoint that leads to it and is not enabled yet.
    pub async fn make(database_url: &str) -> anyhow::Result<Self> {
        let listener = Listener::bind("127.0.0.1:0").await.context("the receiver listens nowhere")?;
        let address = listener.address();
        let taken = Arc::new(AtomicU64::new(0));
        let receiver = tokio::spawn({
            let taken = Arc::clone(&taken);
            async move {
                let take = make_sync(move |_| {
                    taken.fetch_add(1, Ordering::Relaxed);
                    Response::from(StatusCode::NO_CONTENT)
                });
                let until_it_is_aborted = std::future::pending();
                server::serve(listener, take, Connections::default(), until_it_is_aborted, Duration::ZERO).await;
            }
        });
        let store = Store::open(StoreConfig::new(database_url)).await.context("cannot open the database")?;
        let new = NewWebhookEndpoint {
            organization_id: None,
            url: format!("http://{address}/"),
            description: None,
            events: EventFilter::Only([EventType::CreditsConsumed].into()),
            secret: WebhookSecret::new(*b"of a receiver that does not look"),
        };
        let endpoint = store.create_webhook_endpoint(new).await.context("cannot make an endpoint")?.id;
        let told = Self { store, endpoint, taken, receiver };
        told.enable(false).await?;
        Ok(told)
    }

    /// From now on it is told of everything, or of nothing.
    pub async fn enable(&self, enabled: bool) -> anyhow::Result<()> {
        let update = WebhookEndpointUpdate { enabled: Some(enabled), ..WebhookEndpointUpdate::default() };
        self.store.update_webhook_endpoint(self.endpoint, update).await.context("cannot change the endpoint")?;
        tokio::time::sleep(NOTICE).await;
        Ok(())
    }

    /// How many webhooks came so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Lets go of the database.
    pub async fn close(self) {
        self.store.close().await;
    }
}
