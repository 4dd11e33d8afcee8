//! The history of consumptions, refused attempts included.

use chrono::TimeDelta;
use multicredit_domain::{ActionType, Consumption, ConsumptionId, OrganizationId, Refusal, Timestamp};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::entity::credit_consumption_logs::{Column, Entity, Model};
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::store::Store;

/// How far an id's instant and its row's lie apart at most, for all that is expected: the first is of a server's clock, the
/// second of the database's. What lies farther apart is found, too, only not as fast.
const CLOCKS_DIFFER_MAX: TimeDelta = TimeDelta::hours(1);

/// How far back from its beginning a page is looked for at first: a month or two of the log, as it lies.
const RECENT: TimeDelta = TimeDelta::days(28);

/// Which consumptions are wanted; `None` is all.
#[derive(Debug, Clone, Default)]
pub struct ConsumptionFilter {
    /// Of that action.
    pub action: Option<ActionType>,
    /// Only successes, or only refusals.
    pub success: Option<bool>,
    /// From this instant on, by time of recording.
    pub from: Option<Timestamp>,
    /// Before this instant, by time of recording.
    pub to: Option<Timestamp>,
}

/// A place in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// The instant of the last row seen.
    pub created_at: Timestamp,
    /// Its id, for there may be several at an instant.
    pub id: ConsumptionId,
}

impl Store {
    /// One attempt; [`StoreError::NotFound`] if this organization has none of that id, and
    /// [`Refusal::BeyondRetention`] if it would lie before its history begins.
    pub async fn consumption(
        &self,
        organization_id: OrganizationId,
        id: ConsumptionId,
    ) -> Result<Consumption, StoreError> {
        let row = self.consumption_row(organization_id, id).await?;
        let made_at = row.as_ref().map_or_else(|| instant_of(id), |row| Some(row.created_at));
        if let Some(checkpoint) = self.checkpoint(organization_id).await?
            && made_at.is_some_and(|made_at| made_at < checkpoint.through)
        {
            return Err(Refusal::BeyondRetention.into());
        }
        Ok(row.ok_or(StoreError::NotFound)?.try_into()?)
    }

    /// The row, looked for in the months around the instant that the id tells of, and in all the others only if it is not
    /// there: on PostgreSQL each month is a table to be opened.
    async fn consumption_row(
        &self,
        organization_id: OrganizationId,
        id: ConsumptionId,
    ) -> Result<Option<Model>, StoreError> {
        let query =
            Entity::find().filter(Column::OrganizationId.eq(organization_id.uuid())).filter(Column::Id.eq(id.uuid()));
        if let Some(at) = instant_of(id) {
            let near = Column::CreatedAt.between(at - CLOCKS_DIFFER_MAX, at + CLOCKS_DIFFER_MAX);
            let found = query.clone().filter(near).one(self.database()).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(query.one(self.database()).await?)
    }

    /// The organization's attempts, newest first. [`Refusal::BeyondRetention`] if they all would lie before its history
    /// begins.
    pub async fn consumptions(
        &self,
        organization_id: OrganizationId,
        filter: ConsumptionFilter,
        page: PageRequest<LogPosition>,
    ) -> Result<Page<Consumption, LogPosition>, StoreError> {
        let mut query = Entity::find().filter(Column::OrganizationId.eq(organization_id.uuid()));
        if let Some(action) = filter.action {
            query = query.filter(Column::ActionType.eq(action.as_str()));
        }
        if let Some(success) = filter.success {
            query = query.filter(Column::Success.eq(success));
        }
        if let Some(from) = filter.from {
            query = query.filter(Column::CreatedAt.gte(from));
        }
        if let Some(to) = filter.to {
            query = query.filter(Column::CreatedAt.lt(to));
        }
        if let Some(LogPosition { created_at, id }) = page.after {
            // The first half alone bounds the index range; the second decides within one instant.
            query = query
                .filter(Column::CreatedAt.lte(created_at))
                .filter(Condition::any().add(Column::CreatedAt.lt(created_at)).add(Column::Id.lt(id.uuid())));
        }
        let to = filter.to;
        let query = query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
        let newest = page.after.map(|after| after.created_at).or(to);
        let mut rows = self.newest_log_rows(query, newest, page.fetch_limit()).await?;
        if let Some(checkpoint) = self.checkpoint(organization_id).await? {
            if to.is_some_and(|to| to <= checkpoint.through) {
                return Err(Refusal::BeyondRetention.into());
            }
            rows.retain(|row| row.created_at >= checkpoint.through);
        }
        let items = rows.into_iter().map(Consumption::try_from).collect::<Result<_, _>>()?;
        Ok(Page::new(items, page.limit, |item: &Consumption| LogPosition { created_at: item.created_at, id: item.id }))
    }
}

impl Store {
    /// The first rows of such a query of one organization's rows, ordered from the newest to the oldest, none of which is
    /// newer than `newest`; `None` is now. Those of the last time before it are looked for by themselves, and the others
    /// only if these are too few: on PostgreSQL each month is a table to be opened, and for an order over all of them
    /// each is read from.
    pub(super) async fn newest_log_rows(
        &self,
        query: Select<Entity>,
        newest: Option<Timestamp>,
        limit: u64,
    ) -> Result<Vec<Model>, StoreError> {
        let edge = newest.unwrap_or_else(clock::now) - RECENT;
        let recent = query.clone().filter(Column::CreatedAt.gte(edge));
        let mut rows = recent.limit(limit).all(self.database()).await?;
        let missing = limit.saturating_sub(u64::try_from(rows.len()).unwrap_or(limit));
        if missing > 0 {
            rows.extend(query.filter(Column::CreatedAt.lt(edge)).limit(missing).all(self.database()).await?);
        }
        Ok(rows)
    }
}

/// When an id was made, as it says itself: shortly before its row. Clocks that differ make this differ, too, so it decides
/// nothing but what is said of a row that is not there.
pub(crate) fn instant_of(id: ConsumptionId) -> Option<Timestamp> {
    let (seconds, nanos) = id.uuid().get_timestamp()?.to_unix();
    Timestamp::from_timestamp(i64::try_from(seconds).ok()?, nanos)
}
