//! The performance report: what the database says of itself, what critical queries cost, and what to think of it.
//!
//! Measuring ([`measured`]), judging ([`assess`]) and keeping ([`history`]) are apart: figures are read here and nowhere
//! else, the judgement is a pure function of them, and whoever shows a report adds nothing to it. The database is asked
//! through the connections for reads, so that a report delays nobody who spends.

mod assess;
mod catalogue;
mod explain;
mod history;
mod measured;
mod postgres;
mod sqlite;

use multicredit_domain::action::price_at;
use multicredit_domain::{ActionType, Price, Timestamp};
use sea_orm::{ConnectionTrait, QueryResult, Statement};

use crate::config::Engine;
use crate::error::{AttemptError, StoreError};
use crate::ledger;
use crate::reader::Reader;
use crate::stats::PoolShare;
use crate::store::Store;

pub use assess::{Assessment, Finding, Severity, Thresholds, assess, is_unused, redundant};
pub use history::PerformanceReport;
pub use measured::{
    CacheFigures, IndexFigures, Latency, Measured, PoolFigures, QueryFigures, StatementFigures, TableFigures, Unknown,
};

/// How many consumptions are measured where no server has measured them.
const SAMPLE: usize = 50;

impl Store {
    /// Measures everything and judges it. `consumption` is what a server has measured of consumptions; without it a few
    /// are made on a scratch organization, and rolled back.
    pub async fn performance(
        &self,
        consumption: Option<Latency>,
        thresholds: &Thresholds,
    ) -> Result<PerformanceReport, StoreError> {
        let measured = self.measure(consumption).await?;
        let assessment = assess(&measured, thresholds);
        Ok(PerformanceReport { measured, assessment })
    }

    async fn measure(&self, consumption: Option<Latency>) -> Result<Measured, StoreError> {
        let at = self.now().await?;
        let mut measured = Measured {
            at,
            engine: String::new(),
            version: String::new(),
            size_bytes: None,
            counting_since: None,
            consumption,
            // First, so that what they do to the counters below is in them as it is in everybody's.
            queries: self.explain(at).await?,
            tables: Vec::new(),
            indexes: Vec::new(),
            buffer_hit_ratio: None,
            caches: self.cache_figures(),
            pool: self.pool_figures(),
            statements: Vec::new(),
            unknown: Vec::new(),
        };
        if measured.consumption.is_none() {
            measured.consumption = self.sample_consumption(at).await?;
        }
        match self.engine() {
            Engine::Postgres => {
                "postgres".clone_into(&mut measured.engine);
                self.measure_postgres(&mut measured).await?;
            }
            Engine::Sqlite => {
                "sqlite".clone_into(&mut measured.engine);
                self.measure_sqlite(&mut measured).await?;
            }
        }
        Ok(measured)
    }

    fn cache_figures(&self) -> Vec<CacheFigures> {
        let caches = self.stats().caches.all().into_iter();
        let figures = caches.map(|(name, cache)| CacheFigures {
            name: name.to_owned(),
            hits: cache.hits.get(),
            misses: cache.misses.get(),
        });
        figures.collect()
    }

    fn pool_figures(&self) -> PoolFigures {
        let gauges = self.pool_gauges();
        let reads = self.stats().pool.share(PoolShare::Reads);
        PoolFigures {
            max: gauges.max,
            open: gauges.open,
            idle: gauges.idle,
            wait_p95_ms: reads.wait.snapshot().quantile(0.95).map(|us| us / 1e3),
            timeouts: reads.timeouts.get(),
            database_connections: None,
            database_connections_max: None,
        }
    }

    /// A few consumptions on a scratch organization; `None` where there is no price to pay.
    async fn sample_consumption(&self, now: Timestamp) -> Result<Option<Latency>, StoreError> {
        let Some((action, _)) = self.any_price(now).await? else { return Ok(None) };
        let sampled = ledger::sample(self.engine(), self.config(), &action, SAMPLE).await;
        let sampled = sampled.map_err(|error| match error {
            AttemptError::Database(error) => error.into(),
            AttemptError::Store(error) => error,
        })?;
        let mut ms: Vec<f64> = sampled.iter().map(|took| took.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let source = format!("{} consumptions of a scratch organization, one after the other, rolled back", ms.len());
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let mean_ms = ms.iter().sum::<f64>() / ms.len().max(1) as f64;
        let rank = |percent: usize| ms.get((ms.len() * percent / 100).min(ms.len() - 1)).copied().unwrap_or_default();
        let (p50_ms, p95_ms, p99_ms) = (rank(50), rank(95), rank(99));
        Ok(Some(Latency { source, count: ms.len() as u64, mean_ms, p50_ms, p95_ms, p99_ms }))
    }

    /// Some action that can be paid for now, preferably the one of the examples.
    async fn any_price(&self, now: Timestamp) -> Result<Option<(ActionType, Price)>, StoreError> {
        let names = "SELECT action_type FROM credit_actions ORDER BY action_type <> 'ai_chat', action_type LIMIT 20";
        for row in query_all(self.database(), names).await? {
            let name: String = row.try_get("", "action_type")?;
            let Ok(action) = ActionType::new(name) else { continue };
            let prices = self.prices(&action).await?;
            if let Ok(price) = price_at(&prices, now) {
                let price = price.clone();
                return Ok(Some((action, price)));
            }
        }
        Ok(None)
    }
}

async fn query_all(database: &Reader, sql: &str) -> Result<Vec<QueryResult>, StoreError> {
    Ok(database.query_all_raw(Statement::from_string(database.get_database_backend(), sql)).await?)
}

async fn query_one(database: &Reader, sql: &str) -> Result<Option<QueryResult>, StoreError> {
    Ok(database.query_one_raw(Statement::from_string(database.get_database_backend(), sql)).await?)
}
