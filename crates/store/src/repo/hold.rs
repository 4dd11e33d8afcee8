//! Holds, as they are shown: settled to the present.

use multicredit_domain::{Hold, HoldId, HoldState, OrganizationId, Refusal, Timestamp};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::entity::credit_holds::{Column, Entity};
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::store::Store;

impl Store {
    /// One hold; [`Refusal::UnknownHold`] if this organization has none of that id.
    pub async fn hold(&self, organization_id: OrganizationId, id: HoldId) -> Result<Hold, StoreError> {
        let now = self.now().await?;
        let row = Entity::find_by_id((organization_id.uuid(), id.uuid())).one(self.database()).await?;
        Ok(shown(row.ok_or(Refusal::UnknownHold)?.try_into()?, now))
    }

    /// The organization's holds, newest first.
    pub async fn holds(
        &self,
        organization_id: OrganizationId,
        page: PageRequest<HoldId>,
    ) -> Result<Page<Hold, HoldId>, StoreError> {
        let now = self.now().await?;
        let mut query =
            Entity::find().filter(Column::OrganizationId.eq(organization_id.uuid())).order_by_desc(Column::Id);
        if let Some(after) = page.after {
            query = query.filter(Column::Id.lt(after.uuid()));
        }
        let rows = query.limit(page.fetch_limit()).all(self.database()).await?;
        let mut holds = Vec::with_capacity(rows.len());
        for row in rows {
            holds.push(shown(row.try_into()?, now));
        }
        Ok(Page::new(holds, page.limit, |hold: &Hold| hold.id))
    }
}

/// An open hold whose time is over has expired, whether or not that was booked. `now` must have been read before the hold:
/// what is open then and over by that instant can no longer be captured or extended, while one that was read first may
/// have been since.
fn shown(mut hold: Hold, now: Timestamp) -> Hold {
    if hold.state == HoldState::Open && hold.expires_at <= now {
        hold.state = HoldState::Expired;
        hold.finished_at = Some(hold.expires_at);
    }
    hold
}
