//! Numbers that only the database knows, asked for when somebody looks, but not each time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sea_orm::{ConnectionTrait as _, Statement};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::Engine;
use crate::error::StoreError;
use crate::performance::TableFigures;
use crate::store::{Store, now};

/// How long an answer of the database is shown again. Several scrapers ask every few seconds each.
const SHOWN_FOR: Duration = Duration::from_secs(5);

/// The same for what is said of tables, which takes a look at every file and changes slowly.
const TABLES_SHOWN_FOR: Duration = Duration::from_mins(1);

/// How long whoever looks waits for the database: a page of metrics without these numbers is better than none.
const PATIENCE: Duration = Duration::from_secs(2);

/// Up to how many rows are counted, so that looking costs the same however much there is.
pub const COUNTED_MAX: i64 = 100_000;

/// What the database said of the ledger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DatabaseGauges {
    /// How many holds are open; at most [`COUNTED_MAX`] are counted.
    pub holds_open: i64,
    /// How many organizations have a boundary that has come and is not booked; at most [`COUNTED_MAX`] are counted.
    pub boundaries_overdue: i64,
    /// By how many seconds the oldest of them is late; 0 without any.
    pub boundary_overdue_seconds: f64,
}

/// What PostgreSQL said of the tables.
#[derive(Debug, Clone, PartialEq)]
pub struct TableGauges {
    /// The tables.
    pub tables: Vec<TableFigures>,
    /// The share of blocks that it found in its own memory.
    pub buffer_hit_ratio: Option<f64>,
}

/// The last answer.
#[derive(Debug)]
pub(crate) struct Remembered<T>(Mutex<Option<Answered<T>>>);

#[derive(Debug, Clone)]
struct Answered<T> {
    at: Instant,
    /// `None` where the database did not answer.
    gauges: Option<T>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Remembered<T> {
    fn fresh(&self, shown_for: Duration) -> Option<Answered<T>> {
        let answered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answered.as_ref().filter(|answered| answered.at.elapsed() < shown_for).cloned()
    }

    fn keep(&self, gauges: Option<T>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Answered { at: Instant::now(), gauges });
    }
}

/// Both kinds of answers.
#[derive(Debug, Default)]
pub(crate) struct GaugeCache {
    ledger: Remembered<DatabaseGauges>,
    tables: Remembered<TableGauges>,
}

impl Store {
    /// What the database says of the ledger, not older than some seconds; `None` if it does not answer soon.
    pub async fn database_gauges(&self) -> Option<DatabaseGauges> {
        if let Some(answered) = self.gauge_cache().ledger.fresh(SHOWN_FOR) {
            return answered.gauges;
        }
        self.ask(|store| store.read_gauges().boxed(), |cache| &cache.ledger).await
    }

    /// What PostgreSQL says of the tables, not older than a minute; `None` on SQLite, and if it does not answer soon.
    pub async fn table_gauges(&self) -> Option<TableGauges> {
        if self.engine() == Engine::Sqlite {
            return None;
        }
        if let Some(answered) = self.gauge_cache().tables.fresh(TABLES_SHOWN_FOR) {
            return answered.gauges;
        }
        self.ask(|store| store.read_table_gauges().boxed(), |cache| &cache.tables).await
    }

    /// Asks in a task of its own: whoever looks may hang up, and a database call is not dropped half-way.
    async fn ask<T, F>(&self, read: F, remembered: fn(&GaugeCache) -> &Remembered<T>) -> Option<T>
    where
        T: Clone + Send + 'static,
        F: for<'a> FnOnce(&'a Self) -> BoxFuture<'a, Result<T, StoreError>> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let store = self.clone();
        tokio::spawn(async move {
            let gauges = read(&store).await;
            if let Err(error) = &gauges {
                tracing::warn!(%error, "the database does not say how it is");
            }
            let gauges = gauges.ok();
            remembered(store.gauge_cache()).keep(gauges.clone());
            let _ = sender.send(gauges);
        });
        tokio::time::timeout(PATIENCE, receiver).await.ok()?.ok()?
    }

    async fn read_gauges(&self) -> Result<DatabaseGauges, StoreError> {
        // Not by the share of reads: when that is exhausted, somebody will look.
        let database = self.reserved();
        let now = now(database, self.clock()).await?;
        let backend = database.get_database_backend();
        let sql = format!(
            "SELECT (SELECT count(*) FROM (SELECT 1 FROM credit_holds WHERE state = 'open' LIMIT {COUNTED_MAX}) AS h) \
             AS holds_open, \
             (SELECT count(*) FROM (SELECT 1 FROM organization_credits WHERE next_boundary_at <= $1 LIMIT \
             {COUNTED_MAX}) AS b) AS boundaries_overdue, \
             (SELECT min(next_boundary_at) FROM organization_credits WHERE next_boundary_at <= $1) AS oldest"
        );
        let statement = Statement::from_sql_and_values(backend, sql, [now.into()]);
        let row = database.query_one_raw(statement).await?;
        let row = row.ok_or_else(|| StoreError::Internal("the gauges answered nothing".to_owned()))?;
        let oldest: Option<multicredit_domain::Timestamp> = row.try_get("", "oldest")?;
        let late = oldest.map_or(Duration::ZERO, |oldest| (now - oldest).to_std().unwrap_or_default());
        Ok(DatabaseGauges {
            holds_open: row.try_get("", "holds_open")?,
            boundaries_overdue: row.try_get("", "boundaries_overdue")?,
            boundary_overdue_seconds: late.as_secs_f64(),
        })
    }
}
