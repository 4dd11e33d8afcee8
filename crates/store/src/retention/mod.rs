//! Retention: history that is old enough is dropped, and sums stand for it.
//!
//! | what | kept |
//! | --- | --- |
//! | attempts to spend (`credit_consumption_logs`) | as long as configured, in whole months |
//! | everything else: movements, lots, draws, holds, refunds | for ever: it follows what people do, not how much is spent |
//! | usage | for ever, as rollups and totals |
//!
//! Dropping has two steps. Sealing ([`seal`]) writes a checkpoint of an organization: where its history begins, the balance
//! there, and the sums of the attempts before. From then on they are gone to everybody, and cannot come back. Taking the
//! rows away ([`rows`]) comes after it and changes nothing that anybody can see, so it may come late, in parts, twice, or
//! after a crash: a month's partition on PostgreSQL, some rows at a time on SQLite.
//!
//! Before the cut everything must have been said that the rows alone could say. So an organization is sealed when
//!
//! - a fence lies behind the cut, so that nothing can join what is summed up;
//! - its usage is rolled up past the cut, and with the refunds of what is dropped;
//! - its lots are settled past the cut;
//! - no idempotency key can point there any more ([`RETENTION_MONTHS_MIN`]).
//!
//! Instants never decrease with the sequence, so what lies before an instant is a beginning of the sequence.

mod rows;
mod seal;

use chrono::{Datelike, Months, NaiveDate, NaiveTime};
use multicredit_domain::{OrganizationId, Refusal, Timestamp};
use sea_orm::EntityTrait;
use serde::Serialize;

use crate::config::Engine;
use crate::entity::retention_checkpoints;
use crate::error::StoreError;
use crate::store::Store;
use rows::Place;
use seal::Sealer;

/// The fewest months that can be kept: with the present one left out, two are 59 days at least, and an idempotency key
/// lives for 41.
pub const RETENTION_MONTHS_MIN: u32 = 2;

/// What dropping history did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DroppedHistory {
    /// How many organizations have less history than before.
    pub organizations: u64,
    /// How many attempts are no longer in it.
    pub attempts: u64,
    /// How many months' partitions were dropped.
    pub partitions: u64,
    /// How many organizations and partitions somebody was in the way of, which the log explains. They come next time.
    pub left: u64,
}

impl Store {
    /// Drops history that is older than configured.
    pub(crate) async fn drop_history(&self) -> Result<DroppedHistory, StoreError> {
        let Some(cut) = self.retention_cut().await? else { return Ok(DroppedHistory::default()) };
        // A key must not outlive what it points to.
        self.prune_keys().await?;
        let mut sealer = Sealer::new(self, cut).await?;
        sealer.seal_all().await?;
        let mut done = sealer.end().await?;
        let mut connection = self.job_connection().await?;
        if self.engine() == Engine::Postgres {
            rows::drop_partitions(&mut connection, cut, &mut done).await?;
        }
        rows::delete_sealed(&mut connection, Place::without_partitions(self.engine())).await?;
        connection.close().await?;
        Ok(done)
    }

    /// What dropping history would do now.
    pub(crate) async fn droppable_history(&self) -> Result<DroppedHistory, StoreError> {
        let Some(cut) = self.retention_cut().await? else { return Ok(DroppedHistory::default()) };
        let mut connection = self.job_connection().await?;
        let mut found = seal::backlog(&mut connection, cut).await?;
        if self.engine() == Engine::Postgres {
            found.partitions = rows::partitions_before(&mut connection, cut).await?;
        }
        connection.close().await?;
        Ok(found)
    }

    /// Drops the history of one organization before an instant, moved back to a quarter of an hour. The rows are deleted one
    /// by one: where whole months go, [`drop_history`](Self::drop_history) is the way.
    ///
    /// [`Refusal::InvalidField`] where the instant is in the future.
    pub async fn drop_history_before(
        &self,
        organization_id: OrganizationId,
        before: Timestamp,
    ) -> Result<DroppedHistory, StoreError> {
        if before > self.now().await? {
            return Err(Refusal::InvalidField { field: "before", message: "must not be in the future" }.into());
        }
        let mut sealer = Sealer::new(self, multicredit_domain::usage::quarter(before)).await?;
        sealer.seal_page(&[organization_id].into()).await?;
        let done = sealer.end().await?;
        let mut connection = self.job_connection().await?;
        rows::delete(&mut connection, Place::Log, organization_id).await?;
        connection.close().await?;
        Ok(done)
    }

    /// Where history begins for an organization of which something was dropped. Whoever reads the log asks this *after*
    /// reading: then what was taken away meanwhile is covered.
    pub(crate) async fn checkpoint(
        &self,
        organization_id: OrganizationId,
    ) -> Result<Option<retention_checkpoints::Model>, StoreError> {
        Ok(retention_checkpoints::Entity::find_by_id(organization_id.uuid()).one(self.database()).await?)
    }

    /// The first instant of the months that are kept, if not all are.
    async fn retention_cut(&self) -> Result<Option<Timestamp>, StoreError> {
        let Some(months) = self.config().retention_months else { return Ok(None) };
        let today = self.now().await?.date_naive();
        let cut =
            today.with_day(1).and_then(|first| first.checked_sub_months(Months::new(months.max(RETENTION_MONTHS_MIN))));
        Ok(cut.map(|date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc()))
    }
}
