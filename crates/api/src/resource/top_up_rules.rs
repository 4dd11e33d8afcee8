//! `/v1/organizations/{organization_id}/top-up-rules`: when credits are asked for by themselves.

use multicredit_domain::{Amount, CreditType, OrganizationId, Timestamp, TopUpTerms};
use multicredit_store::StoreError;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{example, exists};
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{Path, Query};
use crate::payload::{Json, NoContent};
use crate::problem::{Code, Failure, Problem, failures};
use crate::wire::Wire;

const DAY_SECONDS: i64 = 24 * 60 * 60;
const HOUR_SECONDS: i64 = 60 * 60;

/// When to ask, and for how much.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example)]
struct NewTopUpRule {
    /// It asks where this much or less can be spent.
    threshold: Wire<Amount>,
    /// What it asks for; more than 0.
    amount: Wire<Amount>,
    /// How long an answer is waited for, before it may ask again.
    #[serde(default = "a_day")]
    #[oai(default = "a_day", validator(minimum(value = "1"), maximum(value = "31622400")))]
    timeout_seconds: i64,
    /// How long it is at least from one request to the next.
    #[serde(default = "an_hour")]
    #[oai(default = "an_hour", validator(minimum(value = "0"), maximum(value = "31622400")))]
    cooldown_seconds: i64,
    /// Within which time there are no more than `window_max` requests.
    #[serde(default = "a_month")]
    #[oai(default = "a_month", validator(minimum(value = "1"), maximum(value = "31622400")))]
    window_seconds: i64,
    /// How many requests there may be within the window.
    #[serde(default = "ten")]
    #[oai(default = "ten", validator(minimum(value = "1"), maximum(value = "1000")))]
    window_max: i64,
    /// Whether it asks at all.
    #[serde(default = "yes")]
    #[oai(default = "yes")]
    active: bool,
}

const fn a_day() -> i64 {
    DAY_SECONDS
}

const fn an_hour() -> i64 {
    HOUR_SECONDS
}

const fn a_month() -> i64 {
    30 * DAY_SECONDS
}

const fn ten() -> i64 {
    10
}

const fn yes() -> bool {
    true
}

impl From<NewTopUpRule> for TopUpTerms {
    fn from(new: NewTopUpRule) -> Self {
        Self {
            threshold: new.threshold.0,
            amount: new.amount.0,
            timeout_seconds: new.timeout_seconds,
            cooldown_seconds: new.cooldown_seconds,
            window_seconds: new.window_seconds,
            window_max: new.window_max,
            active: new.active,
        }
    }
}

impl Example for NewTopUpRule {
    fn example() -> Self {
        Self {
            threshold: Wire(example::amount(500)),
            amount: Wire(example::amount(10_000)),
            timeout_seconds: DAY_SECONDS,
            cooldown_seconds: HOUR_SECONDS,
            window_seconds: 30 * DAY_SECONDS,
            window_max: 10,
            active: true,
        }
    }
}

/// A top-up rule.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct TopUpRule {
    organization_id: Wire<Uuid>,
    /// Which type of credits it watches.
    credit_type: Wire<CreditType>,
    /// It asks where this much or less can be spent.
    threshold: Wire<Amount>,
    /// What it asks for.
    amount: Wire<Amount>,
    /// How long an answer is waited for.
    timeout_seconds: i64,
    /// How long it is at least from one request to the next.
    cooldown_seconds: i64,
    /// Within which time there are no more than `window_max` requests.
    window_seconds: i64,
    /// How many requests there may be within the window.
    window_max: i64,
    /// Whether it asks at all.
    active: bool,
    /// When it was made.
    created_at: Wire<Timestamp>,
    /// When it was last changed.
    updated_at: Wire<Timestamp>,
}

impl From<multicredit_domain::TopUpRule> for TopUpRule {
    fn from(rule: multicredit_domain::TopUpRule) -> Self {
        let terms = rule.terms;
        Self {
            organization_id: Wire(rule.organization_id.uuid()),
            credit_type: Wire(rule.credit_type),
            threshold: Wire(terms.threshold),
            amount: Wire(terms.amount),
            timeout_seconds: terms.timeout_seconds,
            cooldown_seconds: terms.cooldown_seconds,
            window_seconds: terms.window_seconds,
            window_max: terms.window_max,
            active: terms.active,
            created_at: Wire(rule.created_at),
            updated_at: Wire(rule.updated_at),
        }
    }
}

impl Example for TopUpRule {
    fn example() -> Self {
        multicredit_domain::TopUpRule {
            organization_id: example::ORGANIZATION_ID,
            credit_type: CreditType::Ai,
            terms: NewTopUpRule::example().into(),
            created_at: example::time().0,
            updated_at: example::time().0,
        }
        .into()
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Alerts")]
impl Api {
    /// Set a top-up rule
    ///
    /// Makes the rule of a type of credits, or changes it. Where no more than the threshold can be spent, the service asks
    /// for credits by the event `topup.requested`, whose `top_up_id` the grant that answers it names. One request is under
    /// way at a time; one that is not answered in time is made again.
    ///
    /// Scope: `admin`.
    #[oai(
        path = "/organizations/:organization_id/top-up-rules/:credit_type",
        method = "put",
        operation_id = "putTopUpRule"
    )]
    async fn put(
        &self,
        auth: Auth<scope::Admin>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The type of credits.
        credit_type: Path<CreditType>,
        body: Json<NewTopUpRule>,
    ) -> Result<Json<TopUpRule>, Failure<failures::Writing>> {
        let id = auth.organization(organization_id.0)?;
        Ok(Json(auth.acting().put_top_up_rule(id, credit_type.0, body.0.into()).await?.into()))
    }

    /// List top-up rules
    ///
    /// One for each type of credits at most, in the order of their names.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/top-up-rules", method = "get", operation_id = "listTopUpRules")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<TopUpRule>>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        let found = auth.store().top_up_rules(id, page::request::<CreditType>(limit, cursor)?).await?;
        exists(&auth, id, &found.items).await?;
        Ok(Json(Page::of(found, TopUpRule::from)))
    }

    /// Read a top-up rule
    ///
    /// A type of credits without one is 404 `not_found`.
    ///
    /// Scope: `read`.
    #[oai(
        path = "/organizations/:organization_id/top-up-rules/:credit_type",
        method = "get",
        operation_id = "getTopUpRule"
    )]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The type of credits.
        credit_type: Path<CreditType>,
    ) -> Result<Json<TopUpRule>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        match auth.store().top_up_rule(id, credit_type.0).await? {
            Some(rule) => Ok(Json(rule.into())),
            None => Err(none(&auth, id).await.into()),
        }
    }

    /// Delete a top-up rule
    ///
    /// It asks no more; what it asked for can still be answered. A type of credits without one is 404 `not_found`.
    ///
    /// Scope: `admin`.
    #[oai(
        path = "/organizations/:organization_id/top-up-rules/:credit_type",
        method = "delete",
        operation_id = "deleteTopUpRule"
    )]
    async fn delete(
        &self,
        auth: Auth<scope::Admin>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The type of credits.
        credit_type: Path<CreditType>,
    ) -> Result<NoContent, Failure<failures::Revoking>> {
        let id = auth.organization(organization_id.0)?;
        match auth.acting().delete_top_up_rule(id, credit_type.0).await {
            Err(StoreError::NotFound) => Err(none(&auth, id).await.into()),
            deleted => Ok(deleted.map(|()| NoContent)?),
        }
    }
}

/// What to say where there is no rule.
async fn none<R>(auth: &Auth<R>, id: OrganizationId) -> Problem {
    match auth.store().organization(id).await {
        Ok(_) => Problem::new(Code::NotFound),
        Err(error) => error.into(),
    }
}
