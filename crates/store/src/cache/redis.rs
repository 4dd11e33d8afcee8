//! Redis: what processes share, and how they hear of each other's changes.
//!
//! Redis is believed in nothing that matters, and waited for briefly: a command that is not answered within
//! [`PATIENCE`] counts as a miss, and after a failure Redis is left alone for [`REST`]. Values have an end of their own;
//! one without is somebody else's, and ignored.
//!
//! Two things keep a value from being put behind what has been told. A balance carries the number of its last movement,
//! and a script puts only higher ones; what replaces a value that has changed is a mark with that number, for as long
//! as a read that began before could still arrive. A process that could not tell its news begins a new *epoch*, a part
//! of every key, so that nothing from before is found again, and tells everybody.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use multicredit_domain::{OrganizationId, Standing};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, FromRedisValue, RedisError, RedisResult, Script};
use sea_orm::DatabaseConnection;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::balances::ttl;
use super::news::{Message, News, together};
use super::{BALANCE_TTL, Caches};
use crate::config::{Engine, StoreConfig};
use crate::error::StoreError;

/// How long a command may take. The database answers in a few milliseconds.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long Redis is left alone after a command that failed.
const REST: Duration = Duration::from_secs(1);

/// How long news gathers before it is sent together. Others are to see a change within 100 ms.
const GATHERING: Duration = Duration::from_millis(10);

/// How often a process makes sure that it still hears, and how long it waits for the answer.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// How long to wait before Redis is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// How long what has changed is marked: longer than any read of the database takes.
const MARK: Duration = Duration::from_secs(20);

/// The most organizations whose balances go into one script.
const SCRIPT_MAX: usize = 500;

/// Puts balances that are newer than what is there. Each value begins with its number and a bar.
static PUT_NEWER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "for i = 1, #KEYS do
            local new, old = ARGV[2 * i - 1], redis.call('GET', KEYS[i])
            local number = tonumber(string.match(new, '^%d+'))
            local known = old and tonumber(string.match(old, '^%d+'))
            if not known or known < number or (known == number and string.sub(old, -1) == '|') then
                redis.call('SET', KEYS[i], new, 'PX', ARGV[2 * i])
            end
        end",
    )
});

/// The connection to Redis.
pub(super) struct Shared {
    client: Client,
    manager: ConnectionManager,
    /// What every key begins with: databases that share a Redis do not mix.
    prefix: OnceLock<String>,
    epoch: AtomicU64,
    rests_until: Mutex<Option<Instant>>,
    has_lost_news: AtomicBool,
}

impl Shared {
    pub(super) fn open(url: &str) -> Result<Self, StoreError> {
        // The error would repeat the URL, which may hold a password.
        let bad = |_: RedisError| StoreError::Internal("REDIS_URL must be redis://... or rediss://...".to_owned());
        let client = Client::open(url).map_err(bad)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(REST))
            .set_response_timeout(Some(REST))
            .set_number_of_retries(1);
        let manager = client.get_connection_manager_lazy(config).map_err(bad)?;
        Ok(Self {
            client,
            manager,
            prefix: OnceLock::new(),
            epoch: AtomicU64::new(0),
            rests_until: Mutex::new(None),
            has_lost_news: AtomicBool::new(false),
        })
    }

    /// The organization's standing, and how long it may be shown.
    pub(super) async fn standing(&self, organization_id: OrganizationId) -> Option<(Standing, Duration)> {
        let (text, ttl) = self.read(&self.key("balance", &organization_id.to_string())?, BALANCE_TTL).await?;
        let (number, json) = text.split_once('|')?;
        let standing: Standing = serde_json::from_str(json).ok()?;
        (number.parse() == Ok(standing.sequence())).then_some((standing, ttl))
    }

    pub(super) async fn put_standing(&self, organization_id: OrganizationId, standing: &Standing) {
        let Some(key) = self.key("balance", &organization_id.to_string()) else { return };
        if let Some(value) = balance_value(standing) {
            let put = async |mut manager: ConnectionManager| {
                let millis = millis(ttl(standing));
                PUT_NEWER.key(key).arg(value).arg(millis).invoke_async::<()>(&mut manager).await
            };
            self.ask(put).await;
        }
    }

    /// A value of a catalogue, and how long it may be shown.
    pub(super) async fn value<V: serde::de::DeserializeOwned>(&self, kind: &str, key: &str) -> Option<(V, Duration)> {
        let (text, ttl) = self.read(&self.key(kind, key)?, Duration::MAX).await?;
        Some((serde_json::from_str(&text).ok()?, ttl))
    }

    /// Puts a value where there is neither one nor a mark.
    pub(super) async fn put_value<V: serde::Serialize>(&self, kind: &str, key: &str, value: &V, ttl: Duration) {
        let (Some(key), Ok(text)) = (self.key(kind, key), serde_json::to_string(value)) else { return };
        let mut set = redis::cmd("SET");
        set.arg(key).arg(text).arg("NX").arg("PX").arg(millis(ttl));
        self.ask(async |mut manager| set.query_async::<Option<String>>(&mut manager).await).await;
    }

    async fn read(&self, key: &str, ttl_max: Duration) -> Option<(String, Duration)> {
        let mut both = redis::pipe();
        both.get(key).pttl(key);
        let (text, left): (Option<String>, i64) =
            self.ask(async |mut manager| both.query_async(&mut manager).await).await?;
        let ttl = Duration::from_millis(u64::try_from(left).ok()?);
        text.filter(|_| ttl <= ttl_max).map(|text| (text, ttl))
    }

    fn key(&self, kind: &str, key: &str) -> Option<String> {
        let epoch = self.epoch.load(Ordering::Acquire);
        self.prefix.get().map(|prefix| format!("{prefix}:{epoch}:{kind}:{key}"))
    }

    fn name(&self, what: &str) -> String {
        format!("{}:{what}", self.prefix.get().map_or("multicredit", String::as_str))
    }

    /// Asks, unless Redis rests, and no longer than there is patience for.
    async fn ask<T: FromRedisValue>(
        &self,
        command: impl AsyncFnOnce(ConnectionManager) -> RedisResult<T>,
    ) -> Option<T> {
        let rests_until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        if rests_until.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        let error = match timeout(PATIENCE, command(self.manager.clone())).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::debug!(%error, "Redis is left alone for a while");
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REST);
        None
    }

    /// News did not find its way out.
    pub(super) fn lose_news(&self) {
        self.has_lost_news.store(true, Ordering::Release);
    }

    async fn refresh_epoch(&self) -> RedisResult<()> {
        let mut manager = self.manager.clone();
        let epoch: Option<u64> = redis::cmd("GET").arg(self.name("epoch")).query_async(&mut manager).await?;
        self.epoch.store(epoch.unwrap_or_default(), Ordering::Release);
        Ok(())
    }

    /// Begins a new epoch, and tells everybody to forget everything.
    async fn begin_epoch(&self, from: Uuid) -> RedisResult<()> {
        let mut manager = self.manager.clone();
        let epoch: u64 = redis::cmd("INCR").arg(self.name("epoch")).query_async(&mut manager).await?;
        self.epoch.store(epoch, Ordering::Release);
        self.publish(from, vec![News::Everything]).await
    }

    async fn publish(&self, from: Uuid, news: Vec<News>) -> RedisResult<()> {
        let text = Message::text(from, news);
        let mut manager = self.manager.clone();
        redis::cmd("PUBLISH").arg(self.name("news")).arg(text).query_async(&mut manager).await
    }
}

fn balance_value(standing: &Standing) -> Option<String> {
    let json = serde_json::to_string(standing).ok()?;
    Some(format!("{}|{json}", standing.sequence()))
}

/// At least one: Redis refuses a value that has ended.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What tells databases apart, whoever connects to them, by whatever name.
pub(super) fn identity(
    engine: Engine,
    config: &StoreConfig,
    pool: DatabaseConnection,
) -> impl Future<Output = String> + use<> {
    let url = config.database_url.clone();
    async move {
        let name = match engine {
            Engine::Sqlite => {
                let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
                let path = path.split('?').next().unwrap_or_default();
                std::fs::canonicalize(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
            }
            Engine::Postgres => loop {
                let sql = "SELECT system_identifier::text || '/' || current_database() FROM pg_control_system()";
                match sqlx::query_scalar(sql).fetch_one(pool.get_postgres_connection_pool()).await {
                    Ok(name) => break name,
                    Err(sqlx::Error::PoolClosed) => break url,
                    Err(error) => tracing::debug!(%error, "the database has not said yet which one it is"),
                }
                tokio::time::sleep(RETRY).await;
            },
        };
        let digest = Sha256::digest(name.as_bytes());
        digest[..8].iter().fold("multicredit:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }
}

/// Hears and tells, for as long as the store lives.
pub(super) async fn work(
    caches: Arc<Caches>,
    shared: Arc<Shared>,
    news: mpsc::Receiver<News>,
    identity: impl Future<Output = String>,
) {
    let _ = shared.prefix.set(identity.await);
    tokio::join!(listen(&caches, &shared), speak(&caches, &shared, news));
}

/// Takes in what others tell. Whenever that cannot be, nothing is kept.
async fn listen(caches: &Caches, shared: &Shared) {
    let mut was_heard = true;
    loop {
        let ended = hear(caches, shared).await;
        if caches.hears() || was_heard {
            tracing::warn!(error = %ended, "Redis does not tell of changes: nothing is cached until it does");
        }
        was_heard = false;
        caches.set_hears(false);
        tokio::time::sleep(RETRY).await;
    }
}

/// Hears until that ends, and answers why.
async fn hear(caches: &Caches, shared: &Shared) -> String {
    let subscribed = async {
        let mut pubsub = shared.client.get_async_pubsub().await?;
        pubsub.subscribe(shared.name("news")).await?;
        shared.refresh_epoch().await?;
        RedisResult::Ok(pubsub.split())
    };
    let (mut sink, mut messages) = match timeout(REST, subscribed).await {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => return error.to_string(),
        Err(_) => return "no answer in time".to_owned(),
    };
    caches.set_hears(true);
    tracing::info!("balances and catalogues are cached in memory and in Redis");
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message else { return "the connection ended".to_owned() };
                let news = Message::told(message.get_payload_bytes(), caches.id);
                if news.contains(&News::Everything) && let Err(error) = shared.refresh_epoch().await {
                    return error.to_string();
                }
                for item in &news {
                    caches.hear(item).await;
                }
            }
            _ = heartbeat.tick() => {
                if !matches!(timeout(HEARTBEAT, sink.ping::<redis::Value>()).await, Ok(Ok(_))) {
                    return "no heartbeat".to_owned();
                }
            }
        }
    }
}

/// Tells others what happens here.
async fn speak(caches: &Caches, shared: &Shared, mut news: mpsc::Receiver<News>) {
    let mut waiting = Vec::new();
    while news.recv_many(&mut waiting, super::news::WAITING_MAX).await > 0 {
        tokio::time::sleep(GATHERING).await;
        while let Ok(more) = news.try_recv() {
            waiting.push(more);
        }
        let told = together(waiting.drain(..));
        if !matches!(timeout(REST, tell(caches, shared, told)).await, Ok(Ok(()))) {
            shared.lose_news();
        }
        while shared.has_lost_news.load(Ordering::Acquire) {
            tokio::time::sleep(RETRY).await;
            // All of this is covered by the new epoch.
            while news.try_recv().is_ok() {}
            shared.has_lost_news.store(false, Ordering::Release);
            if !matches!(timeout(REST, shared.begin_epoch(caches.id)).await, Ok(Ok(()))) {
                shared.lose_news();
            }
        }
    }
}

async fn tell(caches: &Caches, shared: &Shared, news: Vec<News>) -> RedisResult<()> {
    let mut balances = Vec::new();
    let mut others = redis::pipe();
    for item in &news {
        match item {
            News::Spent { organization, sequence, .. } | News::Moved { organization, sequence } => {
                let kept = caches.balances.kept(*organization, *sequence).await;
                let value = kept.and_then(|(standing, ttl)| Some((balance_value(&standing)?, ttl)));
                let (value, ttl) = value.unwrap_or_else(|| (format!("{sequence}|"), MARK));
                balances.extend(shared.key("balance", &organization.to_string()).map(|key| (key, value, ttl)));
            }
            News::Lost { organization } => {
                others.del(shared.key("balance", &organization.to_string())).ignore();
            }
            News::Action(action) => mark_changed(&mut others, shared.key("action", action.as_str())),
            News::Plan(plan) => mark_changed(&mut others, shared.key("plan", plan.as_str())),
            News::User(user) => mark_changed(&mut others, shared.key("user", user)),
            News::Everything => {}
        }
    }
    let mut manager = shared.manager.clone();
    if !others.is_empty() {
        others.query_async::<()>(&mut manager).await?;
    }
    for balances in balances.chunks(SCRIPT_MAX) {
        let mut script = PUT_NEWER.prepare_invoke();
        for (key, value, ttl) in balances {
            script.key(key).arg(value).arg(millis(*ttl));
        }
        script.invoke_async::<()>(&mut manager).await?;
    }
    shared.publish(caches.id, news).await
}

fn mark_changed(pipe: &mut redis::Pipeline, key: Option<String>) {
    if let Some(key) = key {
        pipe.cmd("SET").arg(key).arg("").arg("PX").arg(millis(MARK)).ignore();
    }
}
