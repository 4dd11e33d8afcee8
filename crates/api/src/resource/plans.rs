//! `/v1/plans`: allowances of credits for every period of the calendar.

use multicredit_domain::book::DEFAULT_PRIORITY;
use multicredit_domain::plan::PlanPeriod;
use multicredit_domain::{Credits, PlanCode, Timestamp};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::example;
use super::grants::priority;
use crate::auth::{Auth, scope};
use crate::openapi::Tag;
use crate::param::Path;
use crate::payload::{Json, optional_object};
use crate::problem::{Failure, failures};
use crate::wire::{Wire, some_credits};

/// What is left of a period, for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Rollover {
    /// The most that the next period takes over of what is left.
    max: Wire<Credits>,
}

/// A new version of a plan.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example, skip_serializing_if_is_none)]
struct NewPlan {
    /// What each period gives; at least one type more than 0.
    #[serde(deserialize_with = "some_credits")]
    allowance: Wire<Credits>,
    /// How long a period is.
    interval: Wire<PlanPeriod>,
    /// What the next period takes over. Left out, what is left at a period's end goes.
    #[serde(default, deserialize_with = "optional_object", skip_serializing_if = "Option::is_none")]
    rollover: Option<Rollover>,
    /// Lower is spent first; of two with the same, the one that expires first.
    #[serde(default = "priority")]
    #[oai(default = "priority")]
    priority: i32,
}

impl From<NewPlan> for multicredit_store::NewPlan {
    fn from(new: NewPlan) -> Self {
        Self {
            allowance: new.allowance.0,
            period: new.interval.0,
            rollover_max: new.rollover.map(|rollover| rollover.max.0),
            priority: new.priority,
        }
    }
}

impl Example for NewPlan {
    fn example() -> Self {
        Self {
            allowance: Wire(example::credits(1_000, 100)),
            interval: Wire(PlanPeriod::Month),
            rollover: Some(Rollover { max: Wire(example::credits(500, 0)) }),
            priority: DEFAULT_PRIORITY,
        }
    }
}

/// The latest version of a plan.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
struct Plan {
    /// What it is called.
    code: Wire<PlanCode>,
    /// The version, from 1.
    version: i32,
    /// What each period gives.
    allowance: Wire<Credits>,
    /// How long a period is.
    interval: Wire<PlanPeriod>,
    /// What the next period takes over.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollover: Option<Rollover>,
    /// Lower is spent first.
    priority: i32,
    /// When the plan was first made.
    created_at: Wire<Timestamp>,
}

impl From<multicredit_domain::Plan> for Plan {
    fn from(multicredit_domain::Plan { terms, created_at }: multicredit_domain::Plan) -> Self {
        Self {
            code: Wire(terms.code),
            version: terms.version,
            allowance: Wire(terms.allowance),
            interval: Wire(terms.period),
            rollover: terms.rollover_max.map(|max| Rollover { max: Wire(max) }),
            priority: terms.priority,
            created_at: Wire(created_at),
        }
    }
}

impl Example for Plan {
    fn example() -> Self {
        let NewPlan { allowance, interval, rollover, priority } = NewPlan::example();
        Self {
            code: example::text("pro-monthly"),
            version: 1,
            allowance,
            interval,
            rollover,
            priority,
            created_at: example::time(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Plans")]
impl Api {
    /// Set a plan
    ///
    /// Makes a new version of the plan, and the plan if there is none. Versions never change: who subscribed before keeps
    /// the version subscribed to, until the subscription is put again.
    ///
    /// Scope: `admin`, with a key that is bound to no organization.
    #[oai(path = "/plans/:code", method = "put", operation_id = "putPlan")]
    async fn put(
        &self,
        auth: Auth<scope::Operate>,
        /// What the plan is called.
        code: Path<PlanCode>,
        body: Json<NewPlan>,
    ) -> Result<Json<Plan>, Failure<failures::Writing>> {
        Ok(Json(auth.acting().put_plan(code.0, body.0.into()).await?.into()))
    }

    /// Read a plan
    ///
    /// Its latest version. A plan that does not exist is 404 `unknown_plan`.
    ///
    /// Scope: `read`.
    #[oai(path = "/plans/:code", method = "get", operation_id = "getPlan")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// What the plan is called.
        code: Path<PlanCode>,
    ) -> Result<Json<Plan>, Failure<failures::Reading>> {
        Ok(Json(auth.store().shown_plan(&code.0).await?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::parse_object;

    fn read(rest: &str) -> Result<multicredit_store::NewPlan, String> {
        parse_object::<NewPlan>(&format!(r#"{{"allowance":{{"ai":100}},"interval":"month"{rest}}}"#))
            .map(Into::into)
            .map_err(|problem| problem.into_field_errors().into_vec().remove(0).field)
    }

    #[test]
    fn nothing_rolls_over_and_the_priority_is_the_usual_one_where_nothing_is_said() {
        let plan = read("").unwrap();
        assert_eq!((plan.period, plan.rollover_max, plan.priority), (PlanPeriod::Month, None, 10));
        let plan = read(r#","rollover":{"max":{"ai":7}},"priority":-1"#).unwrap();
        assert_eq!(
            (plan.rollover_max.unwrap().to_string().as_str(), plan.priority),
            ("ai 7, whatsapp 0, email 0, sms 0", -1)
        );
        assert_eq!(read(r#","rollover":null"#).unwrap().rollover_max, None);
    }

    #[test]
    fn what_is_not_valid_is_refused_by_field() {
        let field = |rest| read(rest).unwrap_err();
        assert_eq!(field(r#","interval":"month""#), "interval");
        assert_eq!(field(r#","rollover":{}"#), "rollover.max");
        assert_eq!(field(r#","rollover":[{"ai":1}]"#), "rollover");
        assert_eq!(field(r#","rollover":{"max":{"ai":-1}}"#), "rollover.max.ai");
        assert_eq!(field(r#","priority":1.5"#), "priority");
        for (body, expected) in [
            (r#"{"allowance":{},"interval":"day"}"#, "allowance"),
            (r#"{"allowance":{"ai":0},"interval":"day"}"#, "allowance"),
            (r#"{"allowance":{"ai":1},"interval":"decade"}"#, "interval"),
            (r#"{"interval":"day"}"#, "allowance"),
            (r#"{"allowance":{"ai":1}}"#, "interval"),
        ] {
            let problem = parse_object::<NewPlan>(body).unwrap_err();
            assert_eq!(problem.into_field_errors().as_slice()[0].field, expected, "{body}");
        }
    }
}
