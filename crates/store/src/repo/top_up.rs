//! Top-up rules, and the requests that they made. Making those is in [`crate::alerts`]; answering them, in the ledger.

use std::sync::Arc;

use futures_util::FutureExt as _;
use multicredit_domain::{CreditType, OrganizationId, Refusal, TopUp, TopUpId, TopUpRule, TopUpTerms};
use sea_orm::{ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{audit, in_transaction, lock_organization};
use crate::audit::{AuditOperation, Author, Change, snapshot};
use crate::clock::Clock;
use crate::entity::{top_up_rules, top_ups};
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::store::{Store, now};

/// Whose rule somebody changes.
struct Changing {
    organization_id: OrganizationId,
    credit_type: CreditType,
    clock: Clock,
    author: Option<Arc<Author>>,
}

impl Changing {
    /// The rule, under the organization's lock; `None` if there is none.
    async fn current(&self, transaction: &DatabaseTransaction) -> Result<Option<TopUpRule>, StoreError> {
        lock_organization(transaction, self.organization_id).await?;
        let key = (self.organization_id.uuid(), self.credit_type.as_str().to_owned());
        let row = top_up_rules::Entity::find_by_id(key).one(transaction).await?;
        Ok(row.map(TopUpRule::try_from).transpose()?)
    }

    async fn record(
        self,
        transaction: &DatabaseTransaction,
        operation: AuditOperation,
        before: Option<&TopUpRule>,
        after: Option<&TopUpRule>,
    ) -> Result<(), StoreError> {
        let change = Change {
            organization_id: Some(self.organization_id),
            author: self.author,
            actor: None,
            operation,
            subject: self.credit_type.as_str().to_owned(),
            before: before.map(snapshot::top_up_rule),
            after: after.map(snapshot::top_up_rule),
            at: now(transaction, &self.clock).await?,
        };
        audit(transaction, change).await
    }
}

async fn put(
    transaction: &DatabaseTransaction,
    changing: Changing,
    terms: TopUpTerms,
) -> Result<TopUpRule, StoreError> {
    let before = changing.current(transaction).await?;
    if let Some(before) = before.as_ref().filter(|before| before.terms == terms) {
        return Ok(before.clone());
    }
    let now = now(transaction, &changing.clock).await?;
    let rule = TopUpRule {
        organization_id: changing.organization_id,
        credit_type: changing.credit_type,
        terms,
        created_at: before.as_ref().map_or(now, |before| before.created_at),
        updated_at: now,
    };
    let row = top_up_rules::ActiveModel::from(&rule);
    if before.is_some() {
        row.update(transaction).await?
    } else {
        row.insert(transaction).await?
    };
    changing.record(transaction, AuditOperation::PutTopUpRule, before.as_ref(), Some(&rule)).await?;
    Ok(rule)
}

async fn delete(transaction: &DatabaseTransaction, changing: Changing) -> Result<(), StoreError> {
    let before = changing.current(transaction).await?.ok_or(StoreError::NotFound)?;
    let key = (changing.organization_id.uuid(), changing.credit_type.as_str().to_owned());
    top_up_rules::Entity::delete_by_id(key).exec(transaction).await?;
    changing.record(transaction, AuditOperation::DeleteTopUpRule, Some(&before), None).await
}

impl Store {
    /// Makes or changes the rule of a type of credits.
    pub async fn put_top_up_rule(
        &self,
        organization_id: OrganizationId,
        credit_type: CreditType,
        terms: TopUpTerms,
    ) -> Result<TopUpRule, StoreError> {
        let (terms, changing) = (terms.check()?, self.changing_top_up_rule(organization_id, credit_type));
        in_transaction(self.database(), move |transaction| put(transaction, changing, terms).boxed()).await
    }

    /// Deletes the rule of a type of credits; [`StoreError::NotFound`] if there is none. What it asked for can still be
    /// answered.
    pub async fn delete_top_up_rule(
        &self,
        organization_id: OrganizationId,
        credit_type: CreditType,
    ) -> Result<(), StoreError> {
        let changing = self.changing_top_up_rule(organization_id, credit_type);
        in_transaction(self.database(), move |transaction| delete(transaction, changing).boxed()).await
    }

    fn changing_top_up_rule(&self, organization_id: OrganizationId, credit_type: CreditType) -> Changing {
        Changing { organization_id, credit_type, clock: self.clock().clone(), author: self.author() }
    }

    /// The rule of a type of credits, if there is one.
    pub async fn top_up_rule(
        &self,
        organization_id: OrganizationId,
        credit_type: CreditType,
    ) -> Result<Option<TopUpRule>, StoreError> {
        let key = (organization_id.uuid(), credit_type.as_str().to_owned());
        let row = top_up_rules::Entity::find_by_id(key).one(self.database()).await?;
        Ok(row.map(TopUpRule::try_from).transpose()?)
    }

    /// The organization's rules, of which there is one for each type of credits at most, in the order of their names.
    pub async fn top_up_rules(
        &self,
        organization_id: OrganizationId,
        page: PageRequest<CreditType>,
    ) -> Result<Page<TopUpRule, CreditType>, StoreError> {
        use top_up_rules::{Column, Entity};
        let mut query =
            Entity::find().filter(Column::OrganizationId.eq(organization_id.uuid())).order_by_asc(Column::CreditType);
        if let Some(after) = page.after {
            query = query.filter(Column::CreditType.gt(after.as_str()));
        }
        let rows = query.limit(page.fetch_limit()).all(self.database()).await?;
        let rules = rows.into_iter().map(TopUpRule::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::new(rules, page.limit, |rule: &TopUpRule| rule.credit_type))
    }

    /// A request for credits; [`Refusal::UnknownTopUp`] if there is none.
    pub async fn top_up(&self, organization_id: OrganizationId, id: TopUpId) -> Result<TopUp, StoreError> {
        let row = top_ups::Entity::find_by_id((organization_id.uuid(), id.uuid())).one(self.database()).await?;
        Ok(row.ok_or(Refusal::UnknownTopUp)?.try_into()?)
    }

    /// The organization's requests for credits, newest first.
    pub async fn top_ups(
        &self,
        organization_id: OrganizationId,
        page: PageRequest<TopUpId>,
    ) -> Result<Page<TopUp, TopUpId>, StoreError> {
        use top_ups::{Column, Entity};
        let mut query =
            Entity::find().filter(Column::OrganizationId.eq(organization_id.uuid())).order_by_desc(Column::Id);
        if let Some(after) = page.after {
            query = query.filter(Column::Id.lt(after.uuid()));
        }
        let rows = query.limit(page.fetch_limit()).all(self.database()).await?;
        let found = rows.into_iter().map(TopUp::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::new(found, page.limit, |top_up: &TopUp| top_up.id))
    }
}
