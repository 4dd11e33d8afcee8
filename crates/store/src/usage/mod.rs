//! Usage: reports over the consumption log that stay fast however long it grows.
//!
//! | what | where | follows |
//! | --- | --- | --- |
//! | sums by organization, quarter of an hour and action | `usage_rollups` | the log, up to `through` |
//! | sums by organization over all time, and `through` | `usage_totals` | the log, up to `through` |
//! | what came since | the log from `through` on, the *tail* | |
//!
//! A report is rollups and tail in one statement, so it is exact at every instant, whether a background job has run or
//! not: the job only keeps tails short. What makes that hold is `through`. It is an instant of the organization of which
//! the ledger has made sure that nothing can be added before it any more (`ledger::fence`), so a row is in the rollups if,
//! and only if, its `created_at` lies before it.
//!
//! Sums are added to, never made anew: an event of long ago (`occurred_at`) that is recorded now, or a refund of an old
//! consumption, adds to the quarter in which it happened. A consumption belongs to the quarter of its `occurred_at`, else
//! of its `created_at`; a refund to the quarter and action of the consumption that it gives back, so that `consumed` less
//! `refunded` is what a bucket cost in the end.

mod delta;
mod forecast;
mod probe;
mod report;
mod rollup;
mod summary;

pub use forecast::ForecastView;
pub use report::{UsageQuery, UsageReport};
pub use rollup::RolledUp;
pub use summary::{SummaryPage, SummaryRow};
