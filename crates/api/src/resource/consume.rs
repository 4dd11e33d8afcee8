//! `/v1/organizations/{organization_id}/consume`: spending.

use multicredit_domain::consume::Outcome;
use multicredit_domain::{ActionType, Actor, Consume, Consumption, Credits, Metadata, Quantity, Timestamp};
use multicredit_store::clock;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::example;
use crate::auth::{Auth, Tenant, scope};
use crate::occurrence::OccurrenceWindow;
use crate::openapi::Tag;
use crate::param::{KeyHeader, Path};
use crate::payload::{CreatedOnce, Json};
use crate::problem::{Failure, FieldErrors, Problem, failures};
use crate::wire::Wire;

/// What was done, and so what to pay for.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(rename = "Consume", example, skip_serializing_if_is_none)]
pub struct ConsumeBody {
    /// The action.
    action: Wire<ActionType>,
    /// How often, or how much.
    #[serde(default)]
    #[oai(default)]
    quantity: Wire<Quantity>,
    /// When it happened: at most 35 days past and 5 minutes ahead. Only reports use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Wire<Timestamp>>,
    /// What to remember with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Wire<Metadata>>,
    /// Who caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Wire<Actor>>,
}

impl ConsumeBody {
    /// The command that the body is.
    pub fn into_command(self, window: OccurrenceWindow) -> Result<Consume, FieldErrors> {
        Ok(Consume {
            action: self.action.0,
            quantity: self.quantity.0,
            occurred_at: window.check("occurred_at", self.occurred_at.map(|Wire(at)| at))?,
            metadata: self.metadata.map(|Wire(metadata)| metadata),
            actor: self.actor.map(|Wire(actor)| actor),
        })
    }
}

impl Example for ConsumeBody {
    fn example() -> Self {
        Self {
            action: example::text("ai_tokens"),
            quantity: example::quantity(4818),
            occurred_at: None,
            metadata: None,
            actor: Some(example::text("user-42")),
        }
    }
}

/// Credits that were spent.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Consumption", example, skip_serializing_if_is_none)]
pub struct SpentBody {
    id: Wire<Uuid>,
    organization_id: Wire<Uuid>,
    /// The action.
    action: Wire<ActionType>,
    /// How often, or how much.
    quantity: Wire<Quantity>,
    /// The hold that it was captured from.
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_id: Option<Wire<Uuid>>,
    /// What it cost.
    consumed: Wire<Credits>,
    /// What could be spent right after it.
    available: Wire<Credits>,
    /// The movement's number in the organization's ledger.
    sequence: i64,
    /// The movement's instant.
    created_at: Wire<Timestamp>,
}

impl TryFrom<Consumption> for SpentBody {
    type Error = Problem;

    fn try_from(consumption: Consumption) -> Result<Self, Problem> {
        let Outcome::Spent { sequence, available } = consumption.outcome else {
            return Err(Problem::internal("a refused consumption was answered as a success"));
        };
        Ok(Self {
            id: Wire(consumption.id.uuid()),
            organization_id: Wire(consumption.organization_id.uuid()),
            action: Wire(consumption.request.action),
            quantity: Wire(consumption.request.quantity),
            hold_id: consumption.hold_id.map(|id| Wire(id.uuid())),
            consumed: Wire(consumption.consumed),
            available: Wire(available),
            sequence,
            created_at: Wire(consumption.created_at),
        })
    }
}

impl Example for SpentBody {
    fn example() -> Self {
        Self {
            id: Wire(example::CONSUMPTION_ID),
            organization_id: Wire(example::ORGANIZATION_ID.uuid()),
            action: example::text("ai_tokens"),
            quantity: example::quantity(4818),
            hold_id: None,
            consumed: Wire(example::credits(5, 0)),
            available: Wire(example::credits(9_995, 500)),
            sequence: 2,
            created_at: example::time(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Consumption")]
impl Api {
    /// Consume credits
    ///
    /// Pays for `quantity` of an action at the price in force, in full or not at all: if one credit type does not
    /// suffice, nothing is deducted, and 402 `insufficient_credits` says what is missing and how much would have been
    /// affordable. An unknown or inactive action is 404, a frozen organization 423, a closed one 409, a cost beyond
    /// 9007199254740991 is 400 `out_of_range`. After 503 `outcome_unknown` the same key is safe to send again.
    ///
    /// Scope: `consume`.
    #[oai(path = "/organizations/:organization_id/consume", method = "post", operation_id = "consume")]
    async fn consume(
        &self,
        auth: Auth<scope::Consume>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// Makes the request safe to repeat.
        #[oai(name = "Idempotency-Key")]
        key: KeyHeader,
        body: Json<ConsumeBody>,
    ) -> Result<CreatedOnce<SpentBody>, Failure<failures::Spending>> {
        let id = auth.organization(organization_id.0)?;
        let command = body.0.into_command(OccurrenceWindow::around(clock::now()))?;
        let answer = auth.store().consume(id, command, key.0).await?;
        Ok(CreatedOnce { value: answer.value.try_into()?, replayed: answer.replayed })
    }
}
