//! What the store measures of itself, for whoever operates it.
//!
//! Numbers and no words about how they are shown: the metrics page and the performance report read them from here. Each
//! store has its own, so that two in one process (tests, a command beside a server) do not mix. Nothing here names an
//! organization.

mod database;
mod instrument;
mod ledger;
mod pool;
mod registry;
mod webhooks;

pub use database::{DatabaseGauges, TableGauges};
pub use instrument::{COUNT_BOUNDS, Counter, DURATION_BOUNDS_US, Distribution, Histogram};
pub use ledger::{DecidedBy, LedgerStats, PathStats};
pub use pool::{PoolGauges, PoolShare, ShareStats};
pub use registry::{CacheLevel, CacheRegistry, CacheStats, JobOutcome, JobRuns, JobStats};
pub use webhooks::WebhookStats;

pub(crate) use database::GaugeCache;
pub(crate) use pool::PoolStats;

/// Everything that a store counts.
#[derive(Debug, Default)]
pub struct Stats {
    /// The ledger.
    pub ledger: LedgerStats,
    /// Waiting for connections.
    pub pool: PoolStats,
    /// What runs in the background.
    pub jobs: JobStats,
    /// What is kept in memory.
    pub caches: CacheRegistry,
    /// Webhooks.
    pub webhooks: WebhookStats,
}
