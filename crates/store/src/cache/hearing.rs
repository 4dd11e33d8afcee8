//! PostgreSQL's notifications: how processes without Redis hear that an action, a plan or a membership has changed.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::DatabaseConnection;
use sqlx::postgres::{PgListener, PgPoolOptions};
use uuid::Uuid;

use super::Caches;
use super::news::{Message, News};
use crate::config::StoreConfig;
use crate::sql::connect_options_postgres;

/// The channel; it belongs to the database.
const CHANNEL: &str = "multicredit_news";

/// How long to wait before the database is asked again.
const RETRY: Duration = Duration::from_millis(200);

/// Tells the others. What is lost here shows for as long as an entry is kept.
pub(super) async fn notify(pool: &DatabaseConnection, from: Uuid, news: News) {
    let text = Message::text(from, vec![news]);
    let sent = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(text);
    if let Err(error) = sent.execute(pool.get_postgres_connection_pool()).await {
        tracing::warn!(%error, "other servers were not told of a change, and may show what was before for a while");
    }
}

/// Takes in what others tell. Whenever that cannot be, nothing is kept.
pub(super) async fn listen(caches: Arc<Caches>, config: StoreConfig) {
    loop {
        if let Err(error) = hear(&caches, &config).await {
            tracing::debug!(%error, "the database does not tell of changes: catalogues are not cached until it does");
        }
        caches.set_hears(false);
        tokio::time::sleep(RETRY).await;
    }
}

async fn hear(caches: &Caches, config: &StoreConfig) -> Result<(), sqlx::Error> {
    let options = connect_options_postgres(config, "multicredit news")?;
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(config.acquire_timeout).connect_with(options);
    let mut listener = PgListener::connect_with(&pool.await?).await?;
    listener.listen(CHANNEL).await?;
    caches.set_hears(true);
    while let Some(notification) = listener.try_recv().await? {
        for news in Message::told(notification.payload().as_bytes(), caches.id) {
            caches.hear(&news).await;
        }
    }
    Ok(())
}
