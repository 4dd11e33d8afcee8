//! Plans, and who subscribes to them.

use std::sync::Arc;

use futures_util::FutureExt as _;
use multicredit_domain::{
    Credits, OrganizationId, Plan, PlanCode, PlanPeriod, PlanTerms, Refusal, Subscription, Timestamp,
};
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, Statement};

use super::book::SettledBook;
use super::{audit, in_transaction};
use crate::audit::{AuditOperation, Author, Change, snapshot};
use crate::clock::Clock;
use crate::entity::{plan_versions, plans};
use crate::error::{BadRow, StoreError};
use crate::store::{Store, now};

/// A new version of a plan.
#[derive(Debug, Clone)]
pub struct NewPlan {
    /// What each period gives.
    pub allowance: Credits,
    /// How long a period is.
    pub period: PlanPeriod,
    /// How much of what is left the next period takes over; `None` is nothing.
    pub rollover_max: Option<Credits>,
    /// Lower burns first.
    pub priority: i32,
}

impl Store {
    /// Adds a version to a plan, and the plan if there is none. Who subscribed before keeps the version subscribed to.
    pub async fn put_plan(&self, code: PlanCode, new: NewPlan) -> Result<Plan, StoreError> {
        let (clock, author) = (self.clock().clone(), self.author());
        let put =
            in_transaction(self.database(), move |transaction| put(transaction, clock, code, new, author).boxed());
        let plan = put.await?;
        self.caches().plan_changed(&plan.terms.code).await;
        Ok(plan)
    }

    /// The latest version of a plan, to be shown; [`Refusal::UnknownPlan`] if there is none.
    pub async fn shown_plan(&self, code: &PlanCode) -> Result<Plan, StoreError> {
        let plan = self.caches().get(&self.caches().plans, code, || self.plan(code)).await?;
        Ok(Plan::clone(&plan))
    }

    /// The latest version of a plan; [`Refusal::UnknownPlan`] if there is none.
    pub async fn plan(&self, code: &PlanCode) -> Result<Plan, StoreError> {
        Ok(latest(self.database(), code).await?.ok_or(Refusal::UnknownPlan)?)
    }

    /// Subscribes an organization to the latest version of a plan. The current period's lot is granted at once; where
    /// there is a subscription already, the plan counts from its next period on.
    pub async fn subscribe(
        &self,
        organization_id: OrganizationId,
        code: &PlanCode,
        anchor: Option<Timestamp>,
    ) -> Result<Subscription, StoreError> {
        let organization = self.organization(organization_id).await?;
        let plan = self.plan(code).await?;
        self.subscribe_to(organization_id, plan.terms, organization.time_zone, anchor).await
    }

    /// The organization's subscription, in its current period; [`Refusal::UnknownSubscription`] if there is none.
    pub async fn subscription(&self, organization_id: OrganizationId) -> Result<Subscription, StoreError> {
        let SettledBook { book, .. } = self.settled_book(organization_id).await?;
        Ok(book.subscription().cloned().ok_or(Refusal::UnknownSubscription)?)
    }
}

/// The latest version of a plan, if there is one.
async fn latest(database: &impl ConnectionTrait, code: &PlanCode) -> Result<Option<Plan>, StoreError> {
    let Some(row) = plans::Entity::find_by_id(code.as_str()).one(database).await? else { return Ok(None) };
    let version = plan_versions::Entity::find_by_id((row.code, row.latest_version)).one(database).await?;
    let version = version.ok_or(BadRow { table: "plans", column: "latest_version" })?;
    Ok(Some(Plan { terms: version.try_into()?, created_at: row.created_at }))
}

async fn put(
    transaction: &DatabaseTransaction,
    clock: Clock,
    code: PlanCode,
    new: NewPlan,
    author: Option<Arc<Author>>,
) -> Result<Plan, StoreError> {
    let backend = transaction.get_database_backend();
    if backend == DbBackend::Postgres {
        // Two who change plans at once would make the same version.
        let lock = "LOCK TABLE plans IN SHARE ROW EXCLUSIVE MODE";
        transaction.execute_raw(Statement::from_string(backend, lock)).await?;
    }
    let now = now(transaction, &clock).await?;
    let existing = latest(transaction, &code).await?;
    let version = existing.as_ref().map_or(0, |plan| plan.terms.version) + 1;
    let created_at = existing.as_ref().map_or(now, |plan| plan.created_at);
    let row = plans::ActiveModel {
        code: Set(code.as_str().to_owned()),
        latest_version: Set(version),
        created_at: Set(created_at),
        updated_at: Set(now),
    };
    if existing.is_some() {
        row.update(transaction).await?
    } else {
        row.insert(transaction).await?
    };
    let terms = PlanTerms {
        code,
        version,
        allowance: new.allowance,
        period: new.period,
        rollover_max: new.rollover_max,
        priority: new.priority,
    };
    version_row(&terms, now).insert(transaction).await?;
    let plan = Plan { terms, created_at };
    let change = Change {
        organization_id: None,
        author,
        actor: None,
        operation: AuditOperation::PutPlan,
        subject: plan.terms.code.to_string(),
        before: existing.as_ref().map(snapshot::plan),
        after: Some(snapshot::plan(&plan)),
        at: now,
    };
    audit(transaction, change).await?;
    Ok(plan)
}

fn version_row(terms: &PlanTerms, now: Timestamp) -> plan_versions::ActiveModel {
    let [ai, whatsapp, email, sms] = terms.allowance.to_array().map(|amount| Set(amount.get()));
    let rollover_max = terms.rollover_max.map(Credits::to_array);
    let [max_ai, max_whatsapp, max_email, max_sms] =
        std::array::from_fn(|index| Set(rollover_max.map(|amounts| amounts[index].get())));
    plan_versions::ActiveModel {
        code: Set(terms.code.as_str().to_owned()),
        version: Set(terms.version),
        ai_credits_allowance: ai,
        whatsapp_credits_allowance: whatsapp,
        email_credits_allowance: email,
        sms_credits_allowance: sms,
        period: Set(terms.period.as_str().to_owned()),
        ai_credits_rollover_max: max_ai,
        whatsapp_credits_rollover_max: max_whatsapp,
        email_credits_rollover_max: max_email,
        sms_credits_rollover_max: max_sms,
        priority: Set(terms.priority),
        created_at: Set(now),
    }
}
