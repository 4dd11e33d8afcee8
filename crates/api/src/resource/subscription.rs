//! `/v1/organizations/{organization_id}/subscription`: which plan gives an organization credits.

use multicredit_domain::{PlanCode, TimeZone, Timestamp};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::example;
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::param::Path;
use crate::payload::{Json, NoContent};
use crate::problem::{Failure, failures};
use crate::wire::Wire;

/// The plan to subscribe to.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example, skip_serializing_if_is_none)]
struct NewSubscription {
    /// The plan, whose latest version counts.
    plan: Wire<PlanCode>,
    /// From where periods are counted. Left out, it is now, or where it is already; while there is a subscription it
    /// cannot be moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<Wire<Timestamp>>,
}

impl Example for NewSubscription {
    fn example() -> Self {
        Self { plan: example::text("pro-monthly"), anchor: Some(example::text("2026-11-01T00:00:00+01:00")) }
    }
}

/// A period of a subscription.
#[derive(Debug, Serialize, Object)]
struct Period {
    /// From when its credits can be spent.
    start: Wire<Timestamp>,
    /// From when they no longer can, and the next period's can.
    end: Wire<Timestamp>,
}

/// A version of a plan.
#[derive(Debug, Serialize, Object)]
struct PlanVersion {
    /// The plan.
    plan: Wire<PlanCode>,
    /// The version.
    version: i32,
}

/// An organization's subscription to a plan.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct Subscription {
    organization_id: Wire<Uuid>,
    /// The plan.
    plan: Wire<PlanCode>,
    /// The plan's version.
    version: i32,
    /// The period that is under way, or `null` before the first.
    #[oai(nullable)]
    current_period: Option<Period>,
    /// What counts from the next period on, or `null` if that is the same.
    #[oai(nullable)]
    next: Option<PlanVersion>,
    /// From where periods are counted.
    anchor: Wire<Timestamp>,
    /// Whose calendar counts: the organization's time zone when it subscribed.
    time_zone: Wire<TimeZone>,
    /// When it began.
    created_at: Wire<Timestamp>,
}

impl From<multicredit_domain::Subscription> for Subscription {
    fn from(subscription: multicredit_domain::Subscription) -> Self {
        Self {
            organization_id: Wire(subscription.organization_id.uuid()),
            plan: Wire(subscription.terms.code),
            version: subscription.terms.version,
            current_period: subscription.current.map(|(start, end)| Period { start: Wire(start), end: Wire(end) }),
            next: subscription.next_terms.map(|terms| PlanVersion { plan: Wire(terms.code), version: terms.version }),
            anchor: Wire(subscription.anchor),
            time_zone: Wire(subscription.time_zone),
            created_at: Wire(subscription.created_at),
        }
    }
}

impl Example for Subscription {
    fn example() -> Self {
        Self {
            organization_id: Wire(example::ORGANIZATION_ID.uuid()),
            plan: example::text("pro-monthly"),
            version: 1,
            current_period: Some(Period {
                start: example::text("2026-10-31T23:00:00Z"),
                end: example::text("2026-11-30T23:00:00Z"),
            }),
            next: Some(PlanVersion { plan: example::text("pro-monthly"), version: 2 }),
            anchor: example::text("2026-10-31T23:00:00Z"),
            time_zone: example::text("Europe/Berlin"),
            created_at: example::time(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Plans")]
impl Api {
    /// Subscribe to a plan
    ///
    /// Every period of the plan grants its allowance once, from its first instant on, by the calendar of the
    /// organization's time zone; the period under way is granted at once. Where there is a subscription already, the plan's
    /// latest version counts from its next period on (`next`). An unknown plan is 404 `unknown_plan`, a closed organization
    /// 409 `organization_closed`.
    ///
    /// Scope: `credit`.
    #[oai(path = "/organizations/:organization_id/subscription", method = "put", operation_id = "putSubscription")]
    async fn put(
        &self,
        auth: Auth<scope::Credit>,
        /// The organization.
        organization_id: Path<Tenant>,
        body: Json<NewSubscription>,
    ) -> Result<Json<Subscription>, Failure<failures::Subscribing>> {
        let id = auth.organization(organization_id.0)?;
        let NewSubscription { plan, anchor } = body.0;
        let anchor = anchor.map(|Wire(anchor)| anchor);
        Ok(Json(auth.acting().subscribe(id, &plan.0, anchor).await?.into()))
    }

    /// Read the subscription
    ///
    /// In the period that is under way. An organization without one is 404 `unknown_subscription`.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/subscription", method = "get", operation_id = "getSubscription")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
    ) -> Result<Json<Subscription>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        Ok(Json(auth.store().subscription(id).await?.into()))
    }

    /// End the subscription
    ///
    /// What the period under way has granted stays until its end, and no other follows. An organization without a
    /// subscription is 404 `unknown_subscription`.
    ///
    /// Scope: `credit`.
    #[oai(
        path = "/organizations/:organization_id/subscription",
        method = "delete",
        operation_id = "deleteSubscription"
    )]
    async fn delete(
        &self,
        auth: Auth<scope::Credit>,
        /// The organization.
        organization_id: Path<Tenant>,
    ) -> Result<NoContent, Failure<failures::Unsubscribing>> {
        let id = auth.organization(organization_id.0)?;
        auth.acting().unsubscribe(id).await?;
        Ok(NoContent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::parse_object;

    #[test]
    fn a_plan_is_enough_and_an_anchor_is_any_instant() {
        let read = parse_object::<NewSubscription>;
        assert!(read(r#"{"plan":"pro"}"#).unwrap().anchor.is_none());
        let anchored = read(r#"{"plan":"pro","anchor":"2026-11-01T00:00:00+01:00"}"#).unwrap();
        assert_eq!(anchored.anchor, Some(example::text("2026-10-31T23:00:00Z")));
        for (bad, field) in [
            ("{}", "plan"),
            (r#"{"plan":"pro/1"}"#, "plan"),
            (r#"{"plan":"pro","anchor":"2026-11-01"}"#, "anchor"),
            (r#"{"plan":"pro","version":1}"#, "version"),
        ] {
            assert_eq!(read(bad).unwrap_err().into_field_errors().as_slice()[0].field, field, "{bad}");
        }
    }

    #[test]
    fn what_there_is_not_is_null() {
        let empty = Subscription { current_period: None, next: None, ..Subscription::example() };
        let written = serde_json::to_value(empty).unwrap();
        let fields = written.as_object().unwrap();
        assert!(fields["current_period"].is_null() && fields["next"].is_null());
    }
}
