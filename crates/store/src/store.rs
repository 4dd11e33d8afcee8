//! The one public type of the database side.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use multicredit_domain::{Consume, Consumption, IdempotencyKey, OrganizationId, Timestamp};
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, Statement, TransactionOptions};
use sqlx::pool::PoolOptions;
use sqlx::{Connection as _, PgConnection, PgPool, SqlitePool};
use tokio::sync::watch;

use crate::audit::Author;
use crate::cache::{Caches, Hearing};
use crate::clock::Clock;
use crate::config::{Engine, StoreConfig};
use crate::error::{Fault, StoreError};
use crate::ledger::{Answer, ConsumeItem, Ledger};
use crate::reader::{self, RESERVED_CONNECTIONS, Reader};
use crate::sql::{Connection, connect_options_pool, connect_options_sqlite};
use crate::stats::{GaugeCache, PoolGauges, PoolShare, Stats};
use crate::webhook::Wake;

/// How long a pooled connection lives: modest, because after a migration the statements it has prepared may no longer
/// fit the tables.
const MAX_LIFETIME: Duration = Duration::from_mins(15);

/// How long a pooled connection to PostgreSQL is idle before it is asked whether it still is one. The server may have ended it,
/// or have been started anew, and then the first statement over it would fail. Connections that are busy are not asked: it
/// is a round trip.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);

/// How long to wait before a SQLite file that is busy is opened again.
const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// The database, its catalogues and its ledger. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Who changes what is changed through this one.
    author: Option<Arc<Author>>,
}

struct Inner {
    engine: Engine,
    pool: DatabaseConnection,
    reads: Reader,
    reserved: Reader,
    pool_max: u32,
    ledger: Ledger,
    caches: Arc<Caches>,
    wake: Arc<Wake>,
    hearing: Mutex<Hearing>,
    config: StoreConfig,
    clock: Clock,
    stats: Arc<Stats>,
    gauges: GaugeCache,
}

impl Store {
    /// Opens the database for reading and starts the ledger's writers, which connect when they have something to do.
    /// Does not migrate. On SQLite the folder of the file is made.
    pub async fn open(config: StoreConfig) -> Result<Self, StoreError> {
        let engine = Engine::of_url(&config.database_url)?;
        let pool = match engine {
            Engine::Sqlite => open_sqlite(&config).await?,
            Engine::Postgres => open_postgres(&config).await?,
        };
        let stats = Arc::new(Stats::default());
        let (caches, hearing) = Caches::start(engine, &config, &pool, &stats)?;
        let wake = Arc::new(Wake::default());
        let share = |share| Reader::new(pool.clone(), share, &config, Arc::clone(&stats));
        let inner = Inner {
            engine,
            reads: share(PoolShare::Reads),
            reserved: share(PoolShare::Reserved),
            pool_max: pool_max(&config),
            ledger: Ledger::start(engine, &config, &caches, &stats, &wake),
            caches,
            wake,
            hearing: Mutex::new(hearing),
            clock: config.clock.clone(),
            config,
            pool,
            stats,
            gauges: GaugeCache::default(),
        };
        Ok(Self { inner: Arc::new(inner), author: None })
    }

    /// The same store for what somebody changes: the audit log names them.
    #[must_use]
    pub fn acting_for(&self, author: Author) -> Self {
        Self { inner: Arc::clone(&self.inner), author: Some(Arc::new(author)) }
    }

    pub(crate) fn author(&self) -> Option<Arc<Author>> {
        self.author.clone()
    }

    /// Which engine is behind it.
    pub fn engine(&self) -> Engine {
        self.inner.engine
    }

    /// The pool of connections, for migrations.
    pub fn pool(&self) -> &DatabaseConnection {
        &self.inner.pool
    }

    /// Where reads, and writes to catalogues, go.
    pub(crate) fn database(&self) -> &Reader {
        &self.inner.reads
    }

    /// Where what must be looked up before anybody can spend goes, whatever reads do.
    pub(crate) fn reserved(&self) -> &Reader {
        &self.inner.reserved
    }

    pub(crate) fn config(&self) -> &StoreConfig {
        &self.inner.config
    }

    /// Begins a transaction whose session is in order even behind a pooler, for a look at the schema.
    pub async fn begin(&self) -> Result<DatabaseTransaction, StoreError> {
        Ok(self.reserved().begin(TransactionOptions::default()).await?.1)
    }

    /// What the store counts of its work.
    pub fn stats(&self) -> &Stats {
        &self.inner.stats
    }

    /// The pool as it is now.
    pub fn pool_gauges(&self) -> PoolGauges {
        reader::gauges(self.pool(), self.inner.pool_max)
    }

    /// Whether whatever changes is told to the caches of this process. While it is not, they keep nothing.
    pub fn caches_are_informed(&self) -> bool {
        self.inner.caches.hears()
    }

    /// Changes when credits were moved by this process, or by one that it hears of. It is a hint to look, and may be missed
    /// or come too often.
    pub fn moves(&self) -> watch::Receiver<()> {
        self.caches().moves()
    }

    /// Fails as a call to the ledger would that is handed in now, if there is no room for one: for whoever can refuse it
    /// before it has cost anything.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`].
    pub fn has_room_for_a_call(&self) -> Result<(), StoreError> {
        self.queue().has_room()
    }

    /// How many requests wait for the ledger's writer.
    pub fn queued_requests(&self) -> usize {
        self.queue().queued()
    }

    pub(crate) fn gauge_cache(&self) -> &GaugeCache {
        &self.inner.gauges
    }

    pub(crate) fn caches(&self) -> &Caches {
        &self.inner.caches
    }

    pub(crate) fn wake(&self) -> &Wake {
        &self.inner.wake
    }

    pub(crate) fn queue(&self) -> &Ledger {
        &self.inner.ledger
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.reserved().ping().await?)
    }

    /// What the database's clock shows; the machine's on SQLite.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        now(self.database(), self.clock()).await
    }

    /// A connection of a job's own, which may take its time.
    pub(crate) async fn job_connection(&self) -> Result<Connection, StoreError> {
        let mut connection = Connection::open(self.engine(), self.config()).await?;
        connection.be_patient().await?;
        Ok(connection)
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Takes no new movements, lets what waits finish, and closes every connection.
    pub async fn close(&self) {
        self.queue().close().await;
        drop(std::mem::take(&mut *self.inner.hearing.lock().unwrap_or_else(PoisonError::into_inner)));
        if let Err(error) = self.pool().clone().close().await {
            tracing::warn!(%error, "the database did not close cleanly");
        }
    }

    /// Spends credits, all of the cost or nothing. A refusal is an error; [`multicredit_domain::Refusal`] says why.
    pub async fn consume(
        &self,
        organization_id: OrganizationId,
        request: Consume,
        key: Option<IdempotencyKey>,
    ) -> Result<Answer<Consumption>, StoreError> {
        self.queue().consume(ConsumeItem { organization_id, request, key }).await
    }

    /// Spends credits many times, each on its own. Answers stand in the order of the items.
    pub async fn consume_many(&self, items: Vec<ConsumeItem>) -> Vec<Result<Answer<Consumption>, StoreError>> {
        self.queue().consume_many(items).await
    }
}

/// What the database's clock shows; the machine's on SQLite.
pub(crate) async fn now(database: &impl ConnectionTrait, clock: &Clock) -> Result<Timestamp, StoreError> {
    let backend = database.get_database_backend();
    if backend != DbBackend::Postgres {
        return Ok(clock.instant(None));
    }
    let statement = Statement::from_string(backend, "SELECT clock_timestamp() AS clock");
    let row = database.query_one_raw(statement).await?;
    let row = row.ok_or_else(|| StoreError::Internal("the clock answered nothing".to_owned()))?;
    Ok(clock.instant(row.try_get("", "clock")?))
}

async fn open_sqlite(config: &StoreConfig) -> Result<DatabaseConnection, StoreError> {
    let options = connect_options_sqlite(config)?;
    if let Some(folder) = options.get_filename().parent()
        && !folder.as_os_str().is_empty()
    {
        std::fs::create_dir_all(folder).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    }
    let deadline = tokio::time::Instant::now() + config.acquire_timeout;
    loop {
        let connected: Result<SqlitePool, _> = pool_options(config).connect_with(options.clone()).await;
        match connected {
            Ok(pool) => return Ok(pool.into()),
            // The first to open a new file switches it to the write-ahead log; whoever comes at the same time is told
            // that the file is busy, whatever its busy timeout.
            Err(error) if Fault::of(&error) == Fault::Contention && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(OPEN_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn open_postgres(config: &StoreConfig) -> Result<DatabaseConnection, StoreError> {
    let options = connect_options_pool(config)?;
    let pool = pool_options(config).before_acquire(|connection: &mut PgConnection, meta| {
        Box::pin(async move {
            if meta.idle_for > IDLE_TRUSTED {
                connection.ping().await?;
            }
            Ok(true)
        })
    });
    let pool: PgPool = pool.connect_with(options).await?;
    Ok(pool.into())
}

/// Both shares together.
fn pool_max(config: &StoreConfig) -> u32 {
    config.max_connections.saturating_add(RESERVED_CONNECTIONS)
}

fn pool_options<DB: sqlx::Database>(config: &StoreConfig) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(pool_max(config))
        .acquire_timeout(config.acquire_timeout)
        .max_lifetime(MAX_LIFETIME)
        // A test on every acquire is one more round trip.
        .test_before_acquire(false)
}
