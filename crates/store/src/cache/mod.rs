//! Caches for what is shown: balances, actions, plans, and the organizations of a user.
//!
//! Two levels: this process's memory over Redis, where there is one. Nothing here decides anything. Credits are moved,
//! and prices charged, from what the database says under the lock of the account; a cache that is empty, slow, out of
//! date or full of lies changes what is shown and nothing else.
//!
//! One rule keeps what is shown right: **nothing is kept that nobody would tell us has changed.** Whoever changes
//! something says so ([`News`]), to itself before it answers and to every other process within a few milliseconds:
//! through Redis, or, for everything but balances, through PostgreSQL's notifications. While a process cannot hear, it
//! keeps nothing and asks the database. So
//!
//! | | balances | actions, plans, organizations of a user |
//! | --- | --- | --- |
//! | with Redis | kept in both levels | kept in both levels |
//! | PostgreSQL without Redis | not kept: too much news for notifications | kept in memory |
//! | PostgreSQL without Redis behind a pooler | not kept | not kept: a pooler passes no notifications on |
//! | SQLite without Redis | not kept: other programs write the file, and reading it is cheap | kept in memory |
//!
//! What a cache cannot hear of is SQL that others run: `consume_credits_rpc` moves balances behind its back. That shows
//! when the entry ends, or at once for whoever asks for a fresh balance.

mod balances;
mod catalogue;
mod hearing;
mod news;
mod redis;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use multicredit_domain::{ActionType, OrganizationId, Plan, PlanCode, Spending, Standing, Timestamp};
use sea_orm::DatabaseConnection;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use self::balances::{Balances, Shown};
use self::catalogue::Catalogue;
use self::news::News;
use self::redis::Shared;
use crate::clock::new_uuid;
use crate::config::{Engine, StoreConfig};
use crate::error::StoreError;
use crate::repo::action::ActionEntry;
use crate::repo::member::Membership;
use crate::stats::Stats;

/// How long a balance is shown again, at most.
const BALANCE_TTL: Duration = Duration::from_mins(5);
/// The same for the prices of an action.
const ACTION_TTL: Duration = Duration::from_hours(1);
/// The same for a plan.
const PLAN_TTL: Duration = Duration::from_hours(24);
/// The same for the organizations of a user.
const MEMBERSHIPS_TTL: Duration = Duration::from_mins(30);

/// The most organizations whose balances one process keeps: some hundred bytes each, and more with many lots.
const BALANCES_MAX: u64 = 50_000;
/// The most entries of every other kind.
const CATALOGUE_MAX: u64 = 10_000;

/// The caches of a store.
pub(crate) struct Caches {
    /// This process, as it is called among those that tell each other of changes.
    id: Uuid,
    balances: Balances,
    pub(crate) actions: Catalogue<ActionType, ActionEntry>,
    pub(crate) plans: Catalogue<PlanCode, Plan>,
    pub(crate) memberships: Catalogue<String, Vec<Membership>>,
    /// Redis, if there is one.
    shared: Option<Arc<Shared>>,
    /// How news reaches other processes.
    voice: Voice,
    /// Whether news of others reaches this process.
    hears: AtomicBool,
    /// Changes when credits were moved by this process, or by one that it hears of.
    moves: watch::Sender<()>,
}

/// How news leaves this process.
enum Voice {
    /// Nobody else is to know.
    None,
    /// PostgreSQL's notifications.
    Notify(DatabaseConnection),
    /// Redis.
    Redis(tokio::sync::mpsc::Sender<News>),
}

/// What keeps the caches informed. They end with it.
#[derive(Default)]
pub(crate) struct Hearing(Vec<JoinHandle<()>>);

impl Drop for Hearing {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Caches {
    /// Makes the caches for a database, and starts whatever keeps them informed.
    pub(crate) fn start(
        engine: Engine,
        config: &StoreConfig,
        pool: &DatabaseConnection,
        stats: &Stats,
    ) -> Result<(Arc<Self>, Hearing), StoreError> {
        let shared = match &config.redis_url {
            Some(url) => Some(Arc::new(Shared::open(url)?)),
            None => None,
        };
        let (voice, news) = match (&shared, engine) {
            (Some(_), _) => {
                let (sender, receiver) = tokio::sync::mpsc::channel(news::WAITING_MAX);
                (Voice::Redis(sender), Some(receiver))
            }
            (None, Engine::Postgres) if !config.pooler => (Voice::Notify(pool.clone()), None),
            (None, _) => (Voice::None, None),
        };
        let listens = matches!(voice, Voice::Notify(_));
        let catalogue = |name| stats.caches.cache(name);
        let caches = Arc::new(Self {
            id: new_uuid(),
            balances: Balances::new(stats.caches.cache("balances")),
            actions: Catalogue::new("action", ACTION_TTL, catalogue("actions")),
            plans: Catalogue::new("plan", PLAN_TTL, catalogue("plans")),
            memberships: Catalogue::new("user", MEMBERSHIPS_TTL, catalogue("memberships")),
            shared,
            voice,
            // With nobody to hear there is nothing to miss; behind a pooler there is somebody.
            hears: AtomicBool::new(engine == Engine::Sqlite && config.redis_url.is_none()),
            moves: watch::Sender::new(()),
        });
        let mut hearing = Hearing::default();
        if let (Some(shared), Some(news)) = (&caches.shared, news) {
            let identity = redis::identity(engine, config, pool.clone());
            hearing.0.push(tokio::spawn(redis::work(Arc::clone(&caches), Arc::clone(shared), news, identity)));
        } else if listens {
            hearing.0.push(tokio::spawn(hearing::listen(Arc::clone(&caches), config.clone())));
        }
        Ok((caches, hearing))
    }

    /// The organization's standing: the one that is kept, if it may be shown and `fresh` is not asked for, else what
    /// `load` reads from the database.
    pub(crate) async fn standing<F>(
        &self,
        organization_id: OrganizationId,
        fresh: bool,
        clock: Option<Timestamp>,
        load: impl Fn() -> F,
    ) -> Result<Arc<Shown>, StoreError>
    where
        F: Future<Output = Result<Standing, StoreError>> + Send,
    {
        let shared = self.shared.as_deref().filter(|_| self.hears());
        self.balances.get(organization_id, fresh, clock, shared, load).await
    }

    /// A value of a catalogue: the one that is kept, else what `load` reads.
    pub(crate) async fn get<K, V, F>(
        &self,
        catalogue: &Catalogue<K, V>,
        key: &K,
        load: impl FnOnce() -> F,
    ) -> Result<Arc<V>, StoreError>
    where
        K: catalogue::Key,
        V: catalogue::Value,
        F: Future<Output = Result<V, StoreError>>,
    {
        if !self.hears() {
            return load().await.map(Arc::new);
        }
        catalogue.get(key, self.shared.as_deref(), load).await
    }

    /// Credits were moved: whoever follows the ledger looks at it now rather than a moment later.
    pub(crate) fn committed(&self) {
        self.moves.send_replace(());
    }

    /// Changes when credits were moved by this process, or by one that it hears of.
    pub(crate) fn moves(&self) -> watch::Receiver<()> {
        self.moves.subscribe()
    }

    /// Whether anything is to be told about balances.
    pub(crate) const fn keep_balances(&self) -> bool {
        self.shared.is_some()
    }

    /// Consumptions were committed.
    pub(crate) async fn spent(&self, organization: OrganizationId, spending: Spending) {
        self.tell_of_balance(News::spent(organization, &spending)).await;
    }

    /// Something else has changed an account, up to that movement.
    pub(crate) async fn moved(&self, organization: OrganizationId, sequence: i64) {
        self.tell_of_balance(News::Moved { organization, sequence }).await;
    }

    /// It is not known what has changed.
    pub(crate) async fn forget(&self, organization: OrganizationId) {
        self.tell_of_balance(News::Lost { organization }).await;
    }

    async fn tell_of_balance(&self, news: News) {
        if self.keep_balances() {
            self.tell(news).await;
        }
    }

    /// The price of an action has changed.
    pub(crate) async fn action_changed(&self, action: &ActionType) {
        self.tell(News::Action(action.clone())).await;
    }

    /// A plan has changed.
    pub(crate) async fn plan_changed(&self, plan: &PlanCode) {
        self.tell(News::Plan(plan.clone())).await;
    }

    /// The organizations of a user have changed.
    pub(crate) async fn user_changed(&self, user: &str) {
        self.tell(News::User(user.to_owned())).await;
    }

    /// Takes news in here, and passes it on.
    async fn tell(&self, news: News) {
        self.hear(&news).await;
        match &self.voice {
            Voice::None => {}
            Voice::Redis(sender) => {
                // What does not fit is lost, and found out about by the number that is missing.
                if sender.try_send(news).is_err()
                    && let Some(shared) = &self.shared
                {
                    shared.lose_news();
                }
            }
            Voice::Notify(pool) => hearing::notify(pool, self.id, news).await,
        }
    }

    /// Takes in what has changed.
    async fn hear(&self, news: &News) {
        match news {
            News::Spent { .. } | News::Moved { .. } | News::Lost { .. } => {
                self.balances.hear(news).await;
                self.committed();
            }
            News::Action(action) => self.actions.forget(action).await,
            News::Plan(plan) => self.plans.forget(plan).await,
            News::User(user) => self.memberships.forget(user).await,
            News::Everything => self.clear(),
        }
    }

    /// Whether news comes in.
    pub(crate) fn hears(&self) -> bool {
        self.hears.load(Ordering::Acquire)
    }

    /// From now on news comes in, or no longer does. Whatever was kept before is not shown again.
    fn set_hears(&self, hears: bool) {
        if !hears {
            self.hears.store(false, Ordering::Release);
        }
        self.clear();
        if hears {
            self.hears.store(true, Ordering::Release);
        }
    }

    fn clear(&self) {
        self.balances.clear();
        self.actions.clear();
        self.plans.clear();
        self.memberships.clear();
    }
}

/// When something ends that may be shown for `ttl` and no longer.
fn ends(ttl: Duration) -> Instant {
    Instant::now() + ttl
}
