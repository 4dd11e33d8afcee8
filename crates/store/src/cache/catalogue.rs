//! What changes rarely: actions, plans, and the organizations of a user.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::future::Cache;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::redis::Shared;
use super::{CATALOGUE_MAX, ends};
use crate::error::StoreError;
use crate::stats::{CacheLevel, CacheStats};

/// What values are found by.
pub(crate) trait Key: Hash + Eq + Clone + AsRef<str> + Send + Sync + 'static {}
impl<K: Hash + Eq + Clone + AsRef<str> + Send + Sync + 'static> Key for K {}

/// What is kept.
pub(crate) trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Value for V {}

struct Kept<V> {
    value: Arc<V>,
    since: Instant,
    ends: Instant,
}

impl<V> Clone for Kept<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), since: self.since, ends: self.ends }
    }
}

/// Values of one kind.
pub(crate) struct Catalogue<K, V> {
    /// What they are called in Redis.
    name: &'static str,
    ttl: Duration,
    kept: Cache<K, Kept<V>>,
    /// How often something was forgotten: what was read before is not kept after.
    forgotten: AtomicU64,
    stats: Arc<CacheStats>,
}

impl<K: Key, V: Value> Catalogue<K, V> {
    pub(super) fn new(name: &'static str, ttl: Duration, stats: Arc<CacheStats>) -> Self {
        let kept = Cache::builder().max_capacity(CATALOGUE_MAX).time_to_live(ttl).build();
        Self { name, ttl, kept, forgotten: AtomicU64::new(0), stats }
    }

    pub(super) async fn get<F>(
        &self,
        key: &K,
        shared: Option<&Shared>,
        load: impl FnOnce() -> F,
    ) -> Result<Arc<V>, StoreError>
    where
        F: Future<Output = Result<V, StoreError>>,
    {
        if let Some(kept) = self.kept.get(key).await.filter(|kept| kept.ends > Instant::now()) {
            self.stats.hit(CacheLevel::Memory, kept.since.elapsed());
            return Ok(kept.value);
        }
        let before = self.forgotten.load(Ordering::Acquire);
        let found = self.kept.try_get_with_by_ref(key, self.find(key, shared, load)).await;
        let kept = found.map_err(Arc::unwrap_or_clone)?;
        if self.forgotten.load(Ordering::Acquire) != before {
            self.kept.invalidate(key).await;
        }
        Ok(kept.value)
    }

    /// Finds it in Redis, or in the database, and tells Redis then.
    async fn find<F>(&self, key: &K, shared: Option<&Shared>, load: impl FnOnce() -> F) -> Result<Kept<V>, StoreError>
    where
        F: Future<Output = Result<V, StoreError>>,
    {
        if let Some(shared) = shared
            && let Some((value, ttl)) = shared.value::<V>(self.name, key.as_ref()).await
        {
            self.stats.hit(CacheLevel::Redis, self.ttl.saturating_sub(ttl));
            return Ok(Kept { value: Arc::new(value), since: Instant::now(), ends: ends(ttl) });
        }
        let asked = Instant::now();
        let value = Arc::new(load().await?);
        self.stats.loaded(asked.elapsed());
        if let Some(shared) = shared {
            shared.put_value(self.name, key.as_ref(), value.as_ref(), self.ttl).await;
        }
        Ok(Kept { value, since: Instant::now(), ends: ends(self.ttl) })
    }

    pub(super) async fn forget(&self, key: &K) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.kept.invalidate(key).await;
    }

    pub(super) fn clear(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.kept.invalidate_all();
    }
}
