//! `/v1/organizations/{organization_id}/adjustments`: corrections, with a reason.

use multicredit_domain::{Credits, Delta, OrganizationId, Timestamp};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::example;
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::param::{KeyHeader, Path};
use crate::payload::{CreatedOnce, Json};
use crate::problem::{Failure, failures};
use crate::wire::{Line, Wire, some_change};

/// The longest reason of an adjustment or a refund: a few sentences.
pub const REASON_MAX_CHARS: usize = 500;

/// A correction of a balance.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example)]
struct NewAdjustment {
    /// What to add (positive) and what to take away (negative), by type; at least one type other than 0.
    #[serde(deserialize_with = "some_change")]
    change: Wire<Delta>,
    /// Why.
    reason: Wire<Line<REASON_MAX_CHARS>>,
}

impl Example for NewAdjustment {
    fn example() -> Self {
        Self { change: Wire(example_change()), reason: example::text(EXAMPLE_REASON) }
    }
}

const EXAMPLE_REASON: &str = "Charged twice by a faulty client on 21 November";

fn example_change() -> Delta {
    Delta::between(Credits::ZERO, example::credits(5, 0))
}

/// A correction that was made.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
struct Adjustment {
    id: Wire<Uuid>,
    organization_id: Wire<Uuid>,
    /// What was added and what was taken away.
    change: Wire<Delta>,
    /// Why.
    reason: String,
    /// The grant that what was added became.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant_id: Option<Wire<Uuid>>,
    /// What could be spent right after it.
    available: Wire<Credits>,
    /// The movement's number in the organization's ledger.
    sequence: i64,
    /// The movement's instant.
    created_at: Wire<Timestamp>,
}

impl Adjustment {
    fn of(organization_id: OrganizationId, adjustment: multicredit_store::Adjustment) -> Self {
        Self {
            id: Wire(adjustment.id.uuid()),
            organization_id: Wire(organization_id.uuid()),
            change: Wire(adjustment.change),
            reason: adjustment.reason,
            grant_id: adjustment.grant_id.map(|id| Wire(id.uuid())),
            available: Wire(adjustment.available),
            sequence: adjustment.sequence,
            created_at: Wire(adjustment.created_at),
        }
    }
}

impl Example for Adjustment {
    fn example() -> Self {
        Self {
            id: Wire(example::ADJUSTMENT_ID),
            organization_id: Wire(example::ORGANIZATION_ID.uuid()),
            change: Wire(example_change()),
            reason: EXAMPLE_REASON.to_owned(),
            grant_id: Some(Wire(example::ADJUSTMENT_ID)),
            available: Wire(example::credits(10_000, 500)),
            sequence: 3,
            created_at: example::time(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Grants")]
impl Api {
    /// Correct a balance
    ///
    /// What is added becomes a grant of its own, without an end; what is taken away is taken as spending takes it, and
    /// never below 0: if one credit type does not suffice, nothing changes, and 402 `insufficient_credits` says what is
    /// missing. A frozen organization can be corrected, a closed one cannot: 409 `organization_closed`.
    ///
    /// Scope: `credit`.
    #[oai(path = "/organizations/:organization_id/adjustments", method = "post", operation_id = "createAdjustment")]
    async fn create(
        &self,
        auth: Auth<scope::Credit>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// Makes the request safe to repeat.
        #[oai(name = "Idempotency-Key")]
        key: KeyHeader,
        body: Json<NewAdjustment>,
    ) -> Result<CreatedOnce<Adjustment>, Failure<failures::Adjusting>> {
        let id = auth.organization(organization_id.0)?;
        let NewAdjustment { change, reason } = body.0;
        let answer = auth.acting().adjust(id, change.0, reason.0.into_string(), key.0).await?;
        Ok(CreatedOnce { value: Adjustment::of(id, answer.value), replayed: answer.replayed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::parse_object;

    fn field_of(body: &str) -> String {
        parse_object::<NewAdjustment>(body).expect_err(body).into_field_errors().into_vec().remove(0).field
    }

    #[test]
    fn a_change_of_any_sign_is_read_with_its_reason() {
        let read = parse_object::<NewAdjustment>(r#"{"change":{"ai":-5,"sms":2},"reason":"x"}"#).unwrap();
        assert_eq!((read.change.0.to_array(), read.reason.0.as_str()), ([-5, 0, 0, 2], "x"));
    }

    #[test]
    fn a_change_of_nothing_or_beyond_the_range_and_a_bad_reason_are_refused_by_field() {
        let changes = ["{}", r#"{"ai":0,"sms":0}"#, r#"{"ai":9007199254740992}"#, r#"{"ai":-9007199254740992}"#, "[1]"];
        for change in changes {
            assert_eq!(field_of(&format!(r#"{{"change":{change},"reason":"x"}}"#)), "change", "{change}");
        }
        assert_eq!(field_of(r#"{"change":{"ai":1.5},"reason":"x"}"#), "change.ai");
        assert_eq!(field_of(r#"{"change":{"ai":1}}"#), "reason");
        assert_eq!(field_of(r#"{"reason":"x"}"#), "change");
        for reason in ["", "a\\nb", &"x".repeat(REASON_MAX_CHARS + 1)] {
            assert_eq!(field_of(&format!(r#"{{"change":{{"ai":1}},"reason":"{reason}"}}"#)), "reason");
        }
    }
}
