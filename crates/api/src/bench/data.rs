//! What there is before anything is measured: organizations with a balance that no run uses up, and an API key.

use anyhow::Context;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use multicredit_domain::book::DEFAULT_PRIORITY;
use multicredit_domain::{Amount, Credits, GrantSource, NewGrant, TimeZone};
use multicredit_store::{Engine, NewApiKey, NewOrganization, Scope, Store, StoreConfig};
use sqlx::{Connection as _, SqliteConnection};
use uuid::Uuid;

use super::databases;
use crate::auth;

/// What each organization has of every type.
pub const BALANCE: Amount = match Amount::new(1_000_000_000_000) {
    Ok(amount) => amount,
    Err(_) => Amount::ZERO,
};

/// How many grants are handed in at once: what the writer takes in one batch, and more.
const GRANTS_AT_ONCE: usize = 1_024;

/// What was made.
pub struct Data {
    /// The organizations. The first one is the one that every request is for in the rows about a single organization.
    pub organizations: Vec<Uuid>,
    /// A key with which they can consume and be read.
    pub api_key: String,
}

/// Migrates the database and makes the data.
pub async fn make(database_url: &str, count: usize) -> anyhow::Result<Data> {
    let store = Store::open(StoreConfig::new(database_url)).await.context("cannot open the database")?;
    let made = fill(&store, count).await;
    store.close().await;
    made
}

async fn fill(store: &Store, count: usize) -> anyhow::Result<Data> {
    migration::migrate_up(store.pool()).await.context("cannot migrate")?;
    // SQLite has one writer: others would only wait for it.
    let at_once = if store.engine() == Engine::Postgres { StoreConfig::DEFAULT_MAX_CONNECTIONS as usize } else { 1 };
    let new = |number: usize| NewOrganization {
        name: format!("organization {number}"),
        external_id: None,
        time_zone: TimeZone::default(),
    };
    let made = stream::iter(0..count).map(|number| store.create_organization(new(number))).buffered(at_once);
    let organizations: Vec<_> = made.try_collect().await.context("cannot make organizations")?;
    let grant = || NewGrant {
        credits: Credits::from_array([BALANCE; 4]),
        source: GrantSource::Purchase,
        priority: DEFAULT_PRIORITY,
        effective_at: None,
        expires_at: None,
        reference: None,
        top_up_id: None,
    };
    let granted = stream::iter(&organizations)
        .map(|organization| store.grant(organization.id, grant(), None))
        .buffer_unordered(GRANTS_AT_ONCE);
    granted.try_for_each(|_| async { Ok(()) }).await.context("cannot grant credits")?;

    let api_key = auth::new_secret();
    let new = NewApiKey {
        name: "bench".to_owned(),
        digest: auth::digest(&api_key),
        prefix: auth::prefix(&api_key),
        scopes: vec![Scope::Consume, Scope::Read],
        organization_id: None,
    };
    store.create_api_key(new).await.context("cannot make an API key")?;
    Ok(Data { organizations: organizations.iter().map(|it| it.id.uuid()).collect(), api_key })
}

/// Whether the database is as the load has left it: the consumptions in its log, and whether every invariant holds.
pub async fn check(database_url: &str) -> anyhow::Result<(u64, bool)> {
    let charged = count_charged(database_url).await.context("cannot count what was charged")?;
    let store = Store::open(StoreConfig::new(database_url)).await.context("cannot open the database again")?;
    let report = store.verify().await;
    store.close().await;
    Ok((charged, report.context("cannot verify the ledger")?.passed()))
}

/// The successes in the log of that database.
pub async fn count_charged(database_url: &str) -> anyhow::Result<u64> {
    let count = "SELECT COUNT(*) FROM credit_consumption_logs WHERE success";
    let charged: i64 = match Engine::of_url(database_url)? {
        Engine::Postgres => sqlx::query_scalar(count).fetch_one(&mut databases::connect(database_url).await?).await?,
        Engine::Sqlite => {
            sqlx::query_scalar(count).fetch_one(&mut SqliteConnection::connect(database_url).await?).await?
        }
    };
    Ok(u64::try_from(charged)?)
}
