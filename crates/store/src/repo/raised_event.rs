//! Raised events, newest first. They are written by [`crate::alerts`].

use multicredit_domain::{OrganizationId, Timestamp};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value;

use crate::entity::raised_events::{Column, Entity, Model};
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::store::Store;

/// An event that is no movement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaisedEvent {
    /// Whose.
    pub organization_id: OrganizationId,
    /// Its number within the organization, dense from 1.
    pub number: i64,
    /// What it tells of, by the name of its type. A newer release may know others than the domain has.
    pub event_type: String,
    /// When that was.
    pub occurred_at: Timestamp,
    /// What is told.
    pub data: Value,
}

impl From<Model> for RaisedEvent {
    fn from(row: Model) -> Self {
        Self {
            organization_id: OrganizationId::new(row.organization_id),
            number: row.number,
            event_type: row.event_type,
            occurred_at: row.occurred_at,
            data: row.data,
        }
    }
}

impl Store {
    /// The organization's raised events, newest first. A place in the list is a number.
    pub async fn raised_events(
        &self,
        organization_id: OrganizationId,
        page: PageRequest<i64>,
    ) -> Result<Page<RaisedEvent, i64>, StoreError> {
        let mut query =
            Entity::find().filter(Column::OrganizationId.eq(organization_id.uuid())).order_by_desc(Column::Number);
        if let Some(after) = page.after {
            query = query.filter(Column::Number.lt(after));
        }
        let rows = query.limit(page.fetch_limit()).all(self.database()).await?;
        let events = rows.into_iter().map(RaisedEvent::from).collect();
        Ok(Page::new(events, page.limit, |event: &RaisedEvent| event.number))
    }
}
