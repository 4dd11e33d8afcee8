//! `/v1/alert-rules`: what balances are watched for.

use multicredit_domain::{AlertMeasure, AlertRuleId, AlertTerms, CreditType, OrganizationId, Timestamp};
use multicredit_store::AlertRuleUpdate;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::{example, exists};
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{Path, Query};
use crate::payload::{Created, Json, NoContent};
use crate::problem::{Failure, Problem, failures};
use crate::wire::{Line, Nullable, Wire};

/// The longest name.
const NAME_MAX_CHARS: usize = 200;

/// A rule to make.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example, skip_serializing_if_is_none)]
struct NewAlertRule {
    /// What people call it.
    name: Wire<Line<NAME_MAX_CHARS>>,
    /// Whose balances it watches. Left out, everybody's, or those of the organization that the key is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<Wire<Tenant>>,
    /// Which type of credits it watches. Left out, each by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_type: Option<Wire<CreditType>>,
    /// What is compared with the threshold.
    measure: Wire<AlertMeasure>,
    /// Low is this and everything below: from 0 credits, 1 to 99 percent, or 1 to 365 days. A threshold of 0 credits tells
    /// `balance.depleted`, any other `balance.low`.
    #[oai(validator(minimum(value = "0"), maximum(value = "9007199254740990")))]
    threshold: i64,
    /// Recovered is this and everything above: more than the threshold, in the same unit. Left out, it is everything above
    /// the threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(validator(minimum(value = "1"), maximum(value = "9007199254740991")))]
    recover_at: Option<i64>,
    /// Whether it tells anything.
    #[serde(default = "yes")]
    #[oai(default = "yes")]
    active: bool,
}

const fn yes() -> bool {
    true
}

impl Example for NewAlertRule {
    fn example() -> Self {
        Self {
            name: example::text("AI credits run low"),
            organization_id: Some(Wire(Tenant::example())),
            credit_type: Some(Wire(CreditType::Ai)),
            measure: Wire(AlertMeasure::Amount),
            threshold: 1_000,
            recover_at: Some(2_000),
            active: true,
        }
    }
}

/// What to change of a rule. What is left out stays as it is.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(rename = "AlertRuleUpdate", example, skip_serializing_if_is_none)]
struct Update {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Wire<Line<NAME_MAX_CHARS>>>,
    /// What is low.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(validator(minimum(value = "0"), maximum(value = "9007199254740990")))]
    threshold: Option<i64>,
    /// What is recovered; `null` is everything above the threshold.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    recover_at: Option<Wire<Nullable<i64>>>,
    /// Whether it tells anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<bool>,
}

/// What is there was said, `null` included.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Wire<Nullable<i64>>>, D::Error> {
    Wire::deserialize(deserializer).map(Some)
}

impl Example for Update {
    fn example() -> Self {
        Self { name: None, threshold: Some(500), recover_at: Some(Wire(Nullable(Some(800)))), active: None }
    }
}

/// A rule.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct AlertRule {
    id: Wire<Uuid>,
    /// Whose balances it watches; `null` is everybody's.
    #[oai(nullable)]
    organization_id: Option<Wire<Uuid>>,
    /// What people call it.
    name: String,
    /// Which type of credits it watches; `null` is each by itself.
    #[oai(nullable)]
    credit_type: Option<Wire<CreditType>>,
    /// What is compared with the threshold.
    measure: Wire<AlertMeasure>,
    /// Low is this and everything below.
    threshold: i64,
    /// Recovered is this and everything above; `null` is everything above the threshold.
    #[oai(nullable)]
    recover_at: Option<i64>,
    /// Whether it tells anything.
    active: bool,
    /// From when it watches: when it was made, or last changed in what it means.
    since: Wire<Timestamp>,
    /// When it was made.
    created_at: Wire<Timestamp>,
    /// When it was last changed.
    updated_at: Wire<Timestamp>,
}

impl From<multicredit_domain::AlertRule> for AlertRule {
    fn from(rule: multicredit_domain::AlertRule) -> Self {
        Self {
            id: Wire(rule.id.uuid()),
            organization_id: rule.organization_id.map(|id| Wire(id.uuid())),
            name: rule.name,
            credit_type: rule.credit_type.map(Wire),
            measure: Wire(rule.terms.measure),
            threshold: rule.terms.threshold,
            recover_at: rule.terms.recover_at,
            active: rule.active,
            since: Wire(rule.since),
            created_at: Wire(rule.created_at),
            updated_at: Wire(rule.updated_at),
        }
    }
}

impl Example for AlertRule {
    fn example() -> Self {
        Self {
            id: Wire(example::ALERT_RULE_ID),
            organization_id: Some(Wire(example::ORGANIZATION_ID.uuid())),
            name: "AI credits run low".to_owned(),
            credit_type: Some(Wire(CreditType::Ai)),
            measure: Wire(AlertMeasure::Amount),
            threshold: 1_000,
            recover_at: Some(2_000),
            active: true,
            since: example::time(),
            created_at: example::time(),
            updated_at: example::time(),
        }
    }
}

/// Whose rules are asked for: an organization's that the key may know of, else what the key is bound to.
fn whose<R>(auth: &Auth<R>, asked: Option<Tenant>) -> Result<Option<OrganizationId>, Problem> {
    asked.map_or(Ok(auth.bound_to()), |tenant| auth.organization(tenant).map(Some))
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Alerts")]
impl Api {
    /// Make an alert rule
    ///
    /// From now on it tells once when a balance falls to the threshold (`balance.low`, or `balance.depleted` where that is
    /// 0 credits), however many consumptions make it fall, and once when it has recovered (`balance.recovered`). What is
    /// low already says nothing until it has risen. Forecasts go by the last seven days and are looked at every fifteen
    /// minutes.
    ///
    /// A key that is bound to an organization makes rules about that one; to name another is 404 `unknown_organization`.
    ///
    /// Scope: `admin`.
    #[oai(path = "/alert-rules", method = "post", operation_id = "createAlertRule")]
    async fn create(
        &self,
        auth: Auth<scope::Admin>,
        body: Json<NewAlertRule>,
    ) -> Result<Created<AlertRule>, Failure<failures::Writing>> {
        let NewAlertRule { name, organization_id, credit_type, measure, threshold, recover_at, active } = body.0;
        let new = multicredit_store::NewAlertRule {
            organization_id: whose(&auth, organization_id.map(|Wire(tenant)| tenant))?,
            name: name.0.into_string(),
            credit_type: credit_type.map(|Wire(credit_type)| credit_type),
            terms: AlertTerms { measure: measure.0, threshold, recover_at },
            active,
        };
        Ok(Created(auth.acting().create_alert_rule(new).await?.into()))
    }

    /// List alert rules
    ///
    /// Newest first: all, or those about one organization alone. A key that is bound to an organization sees those about
    /// that one.
    ///
    /// Scope: `read`.
    #[oai(path = "/alert-rules", method = "get", operation_id = "listAlertRules")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// Only those about this organization.
        organization_id: Query<Tenant>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<AlertRule>>, Failure<failures::Reading>> {
        let whose = whose(&auth, organization_id.0)?;
        let found = auth.store().alert_rules(whose, page::request::<AlertRuleId>(limit, cursor)?).await?;
        if let Some(id) = whose {
            exists(&auth, id, &found.items).await?;
        }
        Ok(Json(Page::of(found, AlertRule::from)))
    }

    /// Read an alert rule
    ///
    /// Scope: `read`.
    #[oai(path = "/alert-rules/:alert_rule_id", method = "get", operation_id = "getAlertRule")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// The rule.
        alert_rule_id: Path<AlertRuleId>,
    ) -> Result<Json<AlertRule>, Failure<failures::Reading>> {
        Ok(Json(auth.store().alert_rule(auth.bound_to(), alert_rule_id.0).await?.into()))
    }

    /// Change an alert rule
    ///
    /// What is left out stays as it is. Where its numbers change, or it is switched on, it begins anew: what is low then
    /// says nothing until it has risen.
    ///
    /// Scope: `admin`.
    #[oai(path = "/alert-rules/:alert_rule_id", method = "patch", operation_id = "updateAlertRule")]
    async fn update(
        &self,
        auth: Auth<scope::Admin>,
        /// The rule.
        alert_rule_id: Path<AlertRuleId>,
        body: Json<Update>,
    ) -> Result<Json<AlertRule>, Failure<failures::Writing>> {
        let Update { name, threshold, recover_at, active } = body.0;
        let update = AlertRuleUpdate {
            name: name.map(|Wire(name)| name.into_string()),
            threshold,
            recover_at: recover_at.map(|Wire(Nullable(recover_at))| recover_at),
            active,
        };
        Ok(Json(auth.acting().update_alert_rule(auth.bound_to(), alert_rule_id.0, update).await?.into()))
    }

    /// Delete an alert rule
    ///
    /// What it has told stays in the organizations' events.
    ///
    /// Scope: `admin`.
    #[oai(path = "/alert-rules/:alert_rule_id", method = "delete", operation_id = "deleteAlertRule")]
    async fn delete(
        &self,
        auth: Auth<scope::Admin>,
        /// The rule.
        alert_rule_id: Path<AlertRuleId>,
    ) -> Result<NoContent, Failure<failures::Revoking>> {
        auth.acting().delete_alert_rule(auth.bound_to(), alert_rule_id.0).await?;
        Ok(NoContent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::parse_object;

    #[test]
    fn what_is_not_said_stays_and_null_is_said() {
        let recover_at = |body| parse_object::<Update>(body).unwrap().recover_at.map(|Wire(Nullable(value))| value);
        assert_eq!(recover_at("{}"), None);
        assert_eq!(recover_at(r#"{"recover_at":null}"#), Some(None));
        assert_eq!(recover_at(r#"{"recover_at":7}"#), Some(Some(7)));
        for bad in [r#"{"recover_at":"7"}"#, r#"{"threshold":1.5}"#, r#"{"measure":"share"}"#, r#"{"name":""}"#] {
            assert!(parse_object::<Update>(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_rule_is_active_and_about_every_type_where_nothing_is_said() {
        let read =
            |rest| parse_object::<NewAlertRule>(&format!(r#"{{"name":"n","measure":"share","threshold":20{rest}}}"#));
        let rule = read("").unwrap();
        assert!(rule.active && rule.credit_type.is_none() && rule.recover_at.is_none());
        for bad in [r#","credit_type":"gold""#, r#","active":1"#, r#","since":"2026-11-22T00:00:00Z""#] {
            assert!(read(bad).is_err(), "{bad} was accepted");
        }
    }
}
