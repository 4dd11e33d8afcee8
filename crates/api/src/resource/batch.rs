//! `/v1/consume/batch`: spending of many organizations at once.

use multicredit_domain::{ActionType, Consume, Metadata, Quantity};
use multicredit_store::ConsumeItem;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::example;
use super::results::{self, Results};
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::param::NoKeyHeader;
use crate::payload::{self, Json};
use crate::problem::{Failure, failures};
use crate::wire::{KeyText, Wire};

/// One consumption of a batch.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(skip_serializing_if_is_none)]
struct BatchItem {
    /// Whose credits.
    organization_id: Wire<Tenant>,
    /// The action.
    action: Wire<ActionType>,
    /// How often, or how much.
    #[serde(default)]
    #[oai(default)]
    quantity: Wire<Quantity>,
    /// Makes the item safe to repeat, alone or in another batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<Wire<KeyText>>,
    /// What to remember with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Wire<Metadata>>,
}

/// Consumptions of any organizations.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example)]
struct Batch {
    /// 1 to 1000 consumptions.
    #[serde(deserialize_with = "payload::batch")]
    #[oai(validator(min_items = "1", max_items = "1000"))]
    items: Vec<BatchItem>,
}

impl Example for Batch {
    fn example() -> Self {
        let item = |action, key: &str| BatchItem {
            organization_id: Wire(Tenant::example()),
            action: example::text(action),
            quantity: example::quantity(1),
            idempotency_key: Some(example::text(key)),
            metadata: None,
        };
        Self { items: vec![item("ai_image", "render-7301"), item("whatsapp_message", "message-88120")] }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Consumption")]
impl Api {
    /// Consume many
    ///
    /// Each item is decided on its own, in order, and has a result with the status and body that it would have had alone;
    /// a result of an earlier item with the same key has `replayed: true`. Keys stand in the items: an `Idempotency-Key`
    /// header is 400. A body with an item that is not valid is 400 as a whole, and nothing is consumed.
    ///
    /// Scope: `consume`.
    #[oai(path = "/consume/batch", method = "post", operation_id = "consumeBatch")]
    async fn consume(
        &self,
        auth: Auth<scope::Consume>,
        _no_key: NoKeyHeader,
        body: Json<Batch>,
    ) -> Result<Json<Results>, Failure<failures::Batching>> {
        let items = body.0.items.into_iter().map(|item| {
            Ok(ConsumeItem {
                organization_id: auth.organization(item.organization_id.0)?,
                request: Consume {
                    action: item.action.0,
                    quantity: item.quantity.0,
                    occurred_at: None,
                    metadata: item.metadata.map(|Wire(metadata)| metadata),
                    actor: None,
                },
                key: item.idempotency_key.map(|Wire(key)| key.key()),
            })
        });
        Ok(Json(results::consume(&auth, items.collect()).await))
    }
}
