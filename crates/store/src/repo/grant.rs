//! Grants, as they are shown: settled to the present.

use std::collections::BTreeMap;

use multicredit_domain::{Grant, GrantId, OrganizationId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::book::SettledBook;
use crate::entity::credit_grants;
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::store::Store;

impl Store {
    /// The organization's grants, newest first, each with what is left of it now.
    pub async fn grants(
        &self,
        organization_id: OrganizationId,
        page: PageRequest<GrantId>,
    ) -> Result<Page<Grant, GrantId>, StoreError> {
        let mut query = credit_grants::Entity::find()
            .filter(credit_grants::Column::OrganizationId.eq(organization_id.uuid()))
            .order_by_desc(credit_grants::Column::Id);
        if let Some(after) = page.after {
            query = query.filter(credit_grants::Column::Id.lt(after.uuid()));
        }
        // The book comes after the page: a lot that ended in between is then not in it, and its row says so next time;
        // the other way round a lot could be shown with what it no longer has.
        let rows = query.limit(page.fetch_limit()).all(self.database()).await?;
        let SettledBook { book, as_of, .. } = self.settled_book(organization_id).await?;
        let stored = rows.into_iter().map(Grant::try_from).collect::<Result<Vec<_>, _>>()?;
        let mut grants: BTreeMap<GrantId, Grant> = stored.into_iter().map(|grant| (grant.lot.id, grant)).collect();
        let last = grants.keys().next().copied().filter(|_| grants.len() as u64 == page.fetch_limit());
        for lot in book.lots() {
            // Lots of the page as they are now, and those that settling has made but nobody has booked yet.
            let on_page = page.after.is_none_or(|after| lot.id < after) && last.is_none_or(|last| lot.id >= last);
            match grants.get_mut(&lot.id) {
                Some(grant) => grant.lot = lot.clone(),
                None if on_page => drop(grants.insert(lot.id, Grant { lot: lot.clone(), reference: None })),
                None => {}
            }
        }
        let shown = |grant: Grant| Grant { lot: grant.lot.shown(as_of), ..grant };
        let mut grants: Vec<_> = grants.into_values().rev().map(shown).collect();
        grants.truncate(usize::try_from(page.fetch_limit()).unwrap_or(usize::MAX));
        Ok(Page::new(grants, page.limit, |grant: &Grant| grant.lot.id))
    }
}
