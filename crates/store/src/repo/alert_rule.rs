//! Alert rules: what balances are watched for. What comes of them is in [`crate::alerts`].

use std::sync::Arc;

use futures_util::FutureExt as _;
use multicredit_domain::{AlertRule, AlertRuleId, AlertTerms, CreditType, OrganizationId};
use sea_orm::sea_query::LockType;
use sea_orm::{ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{audit, in_transaction, lock_organization};
use crate::audit::{AuditOperation, Author, Change, snapshot};
use crate::clock::{Clock, new_uuid};
use crate::entity::alert_rules::{ActiveModel, Column, Entity};
use crate::entity::alert_states;
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::store::{Store, now};

/// A rule to make.
#[derive(Debug, Clone)]
pub struct NewAlertRule {
    /// Whose balances it watches; `None` is everybody's.
    pub organization_id: Option<OrganizationId>,
    /// What people call it.
    pub name: String,
    /// Which type of credits it watches; `None` is each by itself.
    pub credit_type: Option<CreditType>,
    /// When it tells something.
    pub terms: AlertTerms,
    /// Whether it tells anything.
    pub active: bool,
}

/// What to change of a rule; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct AlertRuleUpdate {
    /// What people call it.
    pub name: Option<String>,
    /// What is low.
    pub threshold: Option<i64>,
    /// What is recovered; `Some(None)` is everything above the threshold.
    pub recover_at: Option<Option<i64>>,
    /// Whether it tells anything.
    pub active: Option<bool>,
}

/// Who changes a rule, and which rules they see.
struct Changing {
    /// Only a rule about that organization is seen; `None` is all.
    own: Option<OrganizationId>,
    clock: Clock,
    author: Option<Arc<Author>>,
}

impl Changing {
    /// The rule, locked; [`StoreError::NotFound`] if there is none that is seen.
    async fn rule(&self, transaction: &DatabaseTransaction, id: AlertRuleId) -> Result<AlertRule, StoreError> {
        let row = Entity::find_by_id(id.uuid()).lock(LockType::NoKeyUpdate).one(transaction).await?;
        let rule = row.map(AlertRule::try_from).transpose()?;
        let is_seen = |rule: &AlertRule| self.own.is_none_or(|own| rule.organization_id == Some(own));
        rule.filter(is_seen).ok_or(StoreError::NotFound)
    }

    async fn record(
        self,
        transaction: &DatabaseTransaction,
        operation: AuditOperation,
        before: Option<&AlertRule>,
        after: Option<&AlertRule>,
    ) -> Result<(), StoreError> {
        let Some(rule) = after.or(before) else { return Ok(()) };
        let change = Change {
            organization_id: rule.organization_id,
            author: self.author,
            actor: None,
            operation,
            subject: rule.id.to_string(),
            before: before.map(snapshot::alert_rule),
            after: after.map(snapshot::alert_rule),
            at: now(transaction, &self.clock).await?,
        };
        audit(transaction, change).await
    }
}

async fn create(
    transaction: &DatabaseTransaction,
    changing: Changing,
    new: NewAlertRule,
) -> Result<AlertRule, StoreError> {
    if let Some(id) = new.organization_id {
        lock_organization(transaction, id).await?;
    }
    let now = now(transaction, &changing.clock).await?;
    let rule = AlertRule {
        id: AlertRuleId::new(new_uuid()),
        organization_id: new.organization_id,
        name: new.name,
        credit_type: new.credit_type,
        terms: new.terms,
        active: new.active,
        since: now,
        created_at: now,
        updated_at: now,
    };
    ActiveModel::from(&rule).insert(transaction).await?;
    changing.record(transaction, AuditOperation::CreateAlertRule, None, Some(&rule)).await?;
    Ok(rule)
}

async fn update(
    transaction: &DatabaseTransaction,
    changing: Changing,
    id: AlertRuleId,
    update: AlertRuleUpdate,
) -> Result<AlertRule, StoreError> {
    let before = changing.rule(transaction, id).await?;
    let mut rule = before.clone();
    rule.name = update.name.unwrap_or(rule.name);
    rule.terms.threshold = update.threshold.unwrap_or(rule.terms.threshold);
    rule.terms.recover_at = update.recover_at.unwrap_or(rule.terms.recover_at);
    rule.terms = rule.terms.check()?;
    rule.active = update.active.unwrap_or(rule.active);
    if rule == before {
        return Ok(rule);
    }
    rule.updated_at = now(transaction, &changing.clock).await?;
    if rule.terms != before.terms || rule.active != before.active {
        rule.since = rule.updated_at;
    }
    ActiveModel::from(&rule).update(transaction).await?;
    changing.record(transaction, AuditOperation::UpdateAlertRule, Some(&before), Some(&rule)).await?;
    Ok(rule)
}

async fn delete(transaction: &DatabaseTransaction, changing: Changing, id: AlertRuleId) -> Result<(), StoreError> {
    let before = changing.rule(transaction, id).await?;
    let states = alert_states::Entity::delete_many();
    states.filter(alert_states::Column::RuleId.eq(id.uuid())).exec(transaction).await?;
    Entity::delete_by_id(id.uuid()).exec(transaction).await?;
    changing.record(transaction, AuditOperation::DeleteAlertRule, Some(&before), None).await
}

impl Store {
    /// Makes a rule. It tells of what crosses its threshold from now on.
    pub async fn create_alert_rule(&self, new: NewAlertRule) -> Result<AlertRule, StoreError> {
        new.terms.check()?;
        let changing = self.changing_alert_rules(None);
        in_transaction(self.database(), move |transaction| create(transaction, changing, new).boxed()).await
    }

    /// Changes a rule, of those about `own` if that is said. Where it means something else afterwards it begins anew.
    pub async fn update_alert_rule(
        &self,
        own: Option<OrganizationId>,
        id: AlertRuleId,
        changes: AlertRuleUpdate,
    ) -> Result<AlertRule, StoreError> {
        let changing = self.changing_alert_rules(own);
        in_transaction(self.database(), move |transaction| update(transaction, changing, id, changes).boxed()).await
    }

    /// Deletes a rule, of those about `own` if that is said. What it has told stays told.
    pub async fn delete_alert_rule(&self, own: Option<OrganizationId>, id: AlertRuleId) -> Result<(), StoreError> {
        let changing = self.changing_alert_rules(own);
        in_transaction(self.database(), move |transaction| delete(transaction, changing, id).boxed()).await
    }

    /// A rule, of those about `own` if that is said; [`StoreError::NotFound`] if there is none.
    pub async fn alert_rule(&self, own: Option<OrganizationId>, id: AlertRuleId) -> Result<AlertRule, StoreError> {
        let mut query = Entity::find_by_id(id.uuid());
        if let Some(own) = own {
            query = query.filter(Column::OrganizationId.eq(own.uuid()));
        }
        let row = query.one(self.database()).await?.ok_or(StoreError::NotFound)?;
        Ok(row.try_into()?)
    }

    /// Rules, newest first: all, or those about one organization.
    pub async fn alert_rules(
        &self,
        organization_id: Option<OrganizationId>,
        page: PageRequest<AlertRuleId>,
    ) -> Result<Page<AlertRule, AlertRuleId>, StoreError> {
        let mut query = Entity::find().order_by_desc(Column::Id);
        if let Some(organization_id) = organization_id {
            query = query.filter(Column::OrganizationId.eq(organization_id.uuid()));
        }
        if let Some(after) = page.after {
            query = query.filter(Column::Id.lt(after.uuid()));
        }
        let rows = query.limit(page.fetch_limit()).all(self.database()).await?;
        let rules = rows.into_iter().map(AlertRule::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::new(rules, page.limit, |rule: &AlertRule| rule.id))
    }

    fn changing_alert_rules(&self, own: Option<OrganizationId>) -> Changing {
        Changing { own, clock: self.clock().clone(), author: self.author() }
    }
}
