//! `/v1/organizations/{organization_id}/consumptions/{consumption_id}/refund`: giving back what was spent.

use multicredit_domain::{ConsumptionId, Credits, NewRefund, OnExpired, OrganizationId, Quantity, Timestamp};
use poem_openapi::registry::MetaSchema;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::adjustments::REASON_MAX_CHARS;
use super::example;
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::param::{KeyHeader, Path};
use crate::payload::{CreatedOnce, Json};
use crate::problem::{Failure, failures};
use crate::wire::{Line, Reason, Text, Wire, not_one_of, one_of};

impl Text for OnExpired {
    const NAME: &'static str = "OnExpired";

    fn schema() -> MetaSchema {
        one_of(
            ON_EXPIRED.into_iter(),
            "What becomes of credits that came from grants which have ended: `refuse` refuses the refund, `grant` makes \
             a new grant of them, without an end.",
        )
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        let known = [Self::Refuse, Self::Grant].into_iter().find(|choice| name(*choice) == text);
        known.ok_or_else(|| not_one_of(ON_EXPIRED.into_iter()))
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name(*self))
    }
}

const ON_EXPIRED: [&str; 2] = [name(OnExpired::Refuse), name(OnExpired::Grant)];

const fn name(choice: OnExpired) -> &'static str {
    match choice {
        OnExpired::Refuse => "refuse",
        OnExpired::Grant => "grant",
    }
}

/// What to give back, and why.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(rename = "NewRefund", example, skip_serializing_if_is_none)]
struct RefundBody {
    /// How much of the consumption's quantity. Left out, it is all that has not been given back yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<Wire<Quantity>>,
    /// Why.
    reason: Wire<Line<REASON_MAX_CHARS>>,
    /// What becomes of credits whose grants have ended.
    #[serde(default)]
    #[oai(default)]
    on_expired: Wire<OnExpired>,
}

impl RefundBody {
    fn into_command(self, consumption_id: ConsumptionId) -> NewRefund {
        NewRefund {
            consumption_id,
            quantity: self.quantity.map(|Wire(quantity)| quantity),
            reason: self.reason.0.into_string(),
            on_expired: self.on_expired.0,
        }
    }
}

impl Example for RefundBody {
    fn example() -> Self {
        Self {
            quantity: Some(example::quantity(2818)),
            reason: example::text(EXAMPLE_REASON),
            on_expired: Wire(OnExpired::Refuse),
        }
    }
}

const EXAMPLE_REASON: &str = "The model's answer was cut off";

/// Credits that were given back.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
struct Refund {
    id: Wire<Uuid>,
    organization_id: Wire<Uuid>,
    /// The consumption that they were spent by.
    consumption_id: Wire<Uuid>,
    /// How much of its quantity was given back.
    quantity: Wire<Quantity>,
    /// The credits.
    refunded: Wire<Credits>,
    /// What could be spent right after it.
    available: Wire<Credits>,
    /// The new grant of credits whose grants had ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant_id: Option<Wire<Uuid>>,
    /// Why.
    reason: String,
    /// The movement's number in the organization's ledger.
    sequence: i64,
    /// The movement's instant.
    created_at: Wire<Timestamp>,
}

impl Refund {
    fn of(organization_id: OrganizationId, refund: multicredit_domain::Refund) -> Self {
        Self {
            id: Wire(refund.id.uuid()),
            organization_id: Wire(organization_id.uuid()),
            consumption_id: Wire(refund.consumption_id.uuid()),
            quantity: Wire(refund.quantity),
            refunded: Wire(refund.refunded),
            available: Wire(refund.available),
            grant_id: refund.grant_id.map(|id| Wire(id.uuid())),
            reason: refund.reason,
            sequence: refund.sequence,
            created_at: Wire(refund.created_at),
        }
    }
}

impl Example for Refund {
    fn example() -> Self {
        Self {
            id: Wire(example::REFUND_ID),
            organization_id: Wire(example::ORGANIZATION_ID.uuid()),
            consumption_id: Wire(example::CONSUMPTION_ID),
            quantity: example::quantity(2818),
            refunded: Wire(example::credits(3, 0)),
            available: Wire(example::credits(9_998, 500)),
            grant_id: None,
            reason: EXAMPLE_REASON.to_owned(),
            sequence: 3,
            created_at: example::time(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Consumption")]
impl Api {
    /// Refund a consumption
    ///
    /// Gives back what `quantity` of it cost, at the price that was charged: the cost of what was kept before, less the
    /// cost of what is kept now. The credits return to the grants that they came from. What came from grants that have
    /// ended is 409 `lot_expired`, or with `on_expired: grant` a new grant. More than was consumed and not refunded yet is
    /// 409 `over_refund`, as is a consumption that was refused. A frozen organization gets refunds, a closed one does not.
    ///
    /// Scope: `credit`.
    #[oai(
        path = "/organizations/:organization_id/consumptions/:consumption_id/refund",
        method = "post",
        operation_id = "refundConsumption"
    )]
    async fn refund(
        &self,
        auth: Auth<scope::Credit>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The consumption.
        consumption_id: Path<ConsumptionId>,
        /// Makes the request safe to repeat.
        #[oai(name = "Idempotency-Key")]
        key: KeyHeader,
        body: Json<RefundBody>,
    ) -> Result<CreatedOnce<Refund>, Failure<failures::Refunding>> {
        let id = auth.organization(organization_id.0)?;
        let answer = auth.acting().refund(id, body.0.into_command(consumption_id.0), key.0).await?;
        Ok(CreatedOnce { value: Refund::of(id, answer.value), replayed: answer.replayed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::parse_object;

    fn command(body: &str) -> NewRefund {
        parse_object::<RefundBody>(body).unwrap().into_command(ConsumptionId::MIN)
    }

    #[test]
    fn the_rest_is_given_back_and_ended_grants_refuse_where_nothing_is_said() {
        let NewRefund { quantity, reason, on_expired, .. } = command(r#"{"reason":"x"}"#);
        assert_eq!((quantity, reason.as_str(), on_expired), (None, "x", OnExpired::Refuse));
        let NewRefund { quantity, on_expired, .. } = command(r#"{"reason":"x","quantity":2,"on_expired":"grant"}"#);
        assert_eq!((quantity.map(Quantity::get), on_expired), (Some(2), OnExpired::Grant));
    }

    #[test]
    fn what_is_not_valid_is_refused_by_field() {
        let field = |body: &str| {
            parse_object::<RefundBody>(body).expect_err(body).into_field_errors().into_vec().remove(0).field
        };
        assert_eq!(field("{}"), "reason");
        assert_eq!(field(r#"{"reason":"x","quantity":0}"#), "quantity");
        assert_eq!(field(r#"{"reason":"x","on_expired":"Grant"}"#), "on_expired");
        assert_eq!(field(r#"{"reason":"x","on_expired":null}"#), "on_expired");
        assert_eq!(field(r#"{"reason":"x","amount":1}"#), "amount");
    }
}
