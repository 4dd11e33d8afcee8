//! The application as it is served: over a socket, on a test's database.
//!
//! Tests of the API speak HTTP to it, because HTTP is what it promises: what happens between a socket and a handler
//! (bodies that are read to their end, connections that are kept, headers) is part of what callers see. It runs in the
//! test's own process, so that a test can also look at its store, move its clock, and plant what HTTP cannot.

mod answer;
mod call;

pub use answer::Answer;
pub use call::{Call, Client};

use std::time::Duration;

use multicredit::app::{AppSettings, Readiness, endpoint};
use multicredit::auth;
use multicredit::server::{self, Ended, Listener};
use multicredit_domain::Timestamp;
use multicredit_domain::webhook::Network;
use multicredit_store::clock::Clock;
use multicredit_store::{NewApiKey, Scope, Store, StoreConfig};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::TestDb;

/// A free port of this machine, which nobody else can reach.
const ANY_PORT: &str = "127.0.0.1:0";

/// How long the server may take to end. It has nothing left to do then, so that reaching this is a failure.
const DRAIN: Duration = Duration::from_secs(10);

/// The admin key of every test's application; each has a database of its own.
const ADMIN_KEY: &str = "the-admin-key-of-a-test-0123456789";

/// A running application, with a database of its own.
pub struct TestApp {
    /// A client that may do everything.
    pub admin: Client,
    /// The store that the application works on.
    pub store: Store,
    config: StoreConfig,
    server: Server,
    // Last: it is dropped after everything that uses it.
    db: TestDb,
}

/// A further process, as it were, that serves the same database as a [`TestApp`].
pub struct Replica {
    /// A client of this replica that may do everything.
    pub admin: Client,
    store: Store,
    server: Server,
}

/// An organization that a test has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Its id.
    pub id: String,
}

impl Organization {
    /// The path of something that belongs to it, or its own where `rest` is empty.
    pub fn path(&self, rest: &str) -> String {
        format!("/v1/organizations/{}{rest}", self.id)
    }
}

/// A test's body for [`both_engines!`](crate::both_engines): what it says of a running application, whose ledger is
/// verified and which is stopped in order when it has been said.
pub fn served(test: impl AsyncFnOnce(&TestApp)) -> impl AsyncFnOnce(TestDb) {
    async move |db| {
        let app = TestApp::start(db, Clock::default()).await;
        test(&app).await;
        app.finish().await;
    }
}

/// As [`served`], at an instant that stands still until the test moves it.
pub fn served_at(now: &str, test: impl AsyncFnOnce(&TestApp, &Clock)) -> impl AsyncFnOnce(TestDb) {
    let clock = Clock::manual(instant(now));
    async move |db| {
        let app = TestApp::start(db, clock.clone()).await;
        test(&app, &clock).await;
        app.finish().await;
    }
}

/// An instant.
///
/// # Panics
///
/// If the text is none.
pub fn instant(text: &str) -> Timestamp {
    text.parse().expect("an instant of RFC 3339")
}

/// All four credit types, as answers write them.
pub fn credits(ai: i64, whatsapp: i64, email: i64, sms: i64) -> Value {
    json!({ "ai": ai, "whatsapp": whatsapp, "email": email, "sms": sms })
}

impl TestApp {
    /// Serves the test's database, deciding by that clock.
    ///
    /// # Panics
    ///
    /// If it cannot be served.
    pub async fn start(db: TestDb, clock: Clock) -> Self {
        let config = StoreConfig { clock, ..StoreConfig::new(db.url()) };
        Self::configured(db, config).await
    }

    /// Serves the test's database, reached as that configuration says.
    ///
    /// # Panics
    ///
    /// If it cannot be served.
    pub async fn configured(db: TestDb, config: StoreConfig) -> Self {
        Self::with_settings(db, config, AppSettings::default()).await
    }

    /// Serves the test's database as these settings say.
    ///
    /// # Panics
    ///
    /// If it cannot be served.
    pub async fn with_settings(db: TestDb, config: StoreConfig, settings: AppSettings) -> Self {
        let store = Store::open(config.clone()).await.expect("the database opens");
        store.create_api_key(new_key(ADMIN_KEY)).await.expect("the admin key is registered");
        let (server, admin) = Server::start(&store, settings).await;
        Self { admin, store, config, server, db }
    }

    /// Another application on the same database, reached in the same way, with the same clock.
    ///
    /// # Panics
    ///
    /// If it cannot be served.
    pub async fn replica(&self) -> Replica {
        let store = Store::open(self.config.clone()).await.expect("the database opens");
        let (server, admin) = Server::start(&store, AppSettings::default()).await;
        Replica { admin, store, server }
    }

    /// Another store on the same database, reached in the same way, as another process would have.
    ///
    /// # Panics
    ///
    /// If the database cannot be opened.
    pub async fn other_store(&self) -> Store {
        Store::open(self.config.clone()).await.expect("the database opens")
    }

    /// The database.
    pub const fn db(&self) -> &TestDb {
        &self.db
    }

    /// A client without a key.
    pub fn stranger(&self) -> Client {
        self.admin.without_key()
    }

    /// A new organization that has these credits.
    pub async fn organization(&self, external_id: &str, credits: Value) -> Organization {
        let new = json!({ "name": external_id, "external_id": external_id });
        let made = self.admin.post("/v1/organizations").json(new).await.expect(201);
        let organization = Organization { id: text(&made, "id") };
        if credits != json!({}) {
            self.grant(&organization, json!({ "credits": credits, "source": "purchase" })).await;
        }
        organization
    }

    /// A new grant.
    pub async fn grant(&self, organization: &Organization, grant: Value) -> Value {
        self.admin.post(&organization.path("/grants")).json(grant).await.expect(201)
    }

    /// What an organization can spend now.
    pub async fn available(&self, organization: &Organization) -> Value {
        let balance = self.admin.get(&organization.path("/balance")).await.expect(200);
        balance["available"].clone()
    }

    /// Freezes, closes or thaws an organization.
    pub async fn set_status(&self, organization: &Organization, status: &str) {
        self.admin.patch(&organization.path("")).json(json!({ "status": status })).await.expect(200);
    }

    /// A client with a new key that has these scopes.
    pub async fn key(&self, scopes: &[&str]) -> Client {
        self.new_key(json!({ "name": "of a test", "scopes": scopes })).await
    }

    /// A client with a new key that has these scopes and is bound to that organization.
    pub async fn bound_key(&self, scopes: &[&str], organization: &Organization) -> Client {
        self.new_key(json!({ "name": "of a test", "scopes": scopes, "organization_id": organization.id })).await
    }

    async fn new_key(&self, new: Value) -> Client {
        let made = self.admin.post("/v1/api-keys").json(new).await.expect(201);
        self.admin.with_key(&text(&made, "key"))
    }

    /// Ends the application in order, after every invariant of its ledger was found to hold.
    ///
    /// # Panics
    ///
    /// If one does not, or if the server does not end by itself.
    pub async fn finish(self) {
        let report = self.store.verify().await.expect("the ledger can be verified");
        let violated: Vec<_> = report.checks.iter().filter(|check| check.violations > 0 && !check.is_warning).collect();
        assert!(report.passed(), "the ledger is violated: {violated:#?}");
        self.stop().await;
    }

    /// Ends the application in order.
    ///
    /// # Panics
    ///
    /// If the server does not end by itself.
    pub async fn stop(self) {
        self.server.stop().await;
        self.store.close().await;
    }
}

impl Replica {
    /// Ends the replica in order.
    ///
    /// # Panics
    ///
    /// If its server does not end by itself.
    pub async fn stop(self) {
        self.server.stop().await;
        self.store.close().await;
    }
}

/// What listens.
struct Server {
    stop: oneshot::Sender<()>,
    readiness: Readiness,
    task: JoinHandle<Ended>,
}

impl Server {
    /// Serves the store on a port of its own; with a client that may do everything.
    async fn start(store: &Store, settings: AppSettings) -> (Self, Client) {
        let listener = Listener::bind(ANY_PORT).await.expect("there is a free port");
        let admin = Client::new(listener.address()).with_key(ADMIN_KEY);
        let (stop, stopped) = oneshot::channel();
        let (readiness, connections) = (settings.readiness.clone(), settings.connections.clone());
        let task = server::serve(
            listener,
            endpoint(store.clone(), AppSettings { webhook_networks: own_network(), ..settings }),
            connections,
            async {
                // A test that failed has dropped the sender, which ends the server as well.
                let _ = stopped.await;
            },
            DRAIN,
        );
        (Self { stop, readiness, task: tokio::spawn(task) }, admin)
    }

    async fn stop(self) {
        self.readiness.end();
        drop(self.stop);
        let ended = self.task.await.expect("the server did not panic");
        assert_eq!(ended, Ended::InOrder, "a connection that had nothing to do had to be cut off");
    }
}

/// Where the receivers of tests listen.
///
/// # Panics
///
/// Never.
pub fn own_network() -> Vec<Network> {
    vec!["127.0.0.0/8".parse().expect("a network")]
}

fn new_key(secret: &str) -> NewApiKey {
    NewApiKey {
        name: "the test's own".to_owned(),
        digest: auth::digest(secret),
        prefix: auth::prefix(secret),
        scopes: vec![Scope::Admin],
        organization_id: None,
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().expect("a text").to_owned()
}
