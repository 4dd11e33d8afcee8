//! `/v1/actions`: what can be done, and what it costs.

use multicredit_domain::{ActionType, Credits, Price, Quantity, Timestamp};
use multicredit_store::{NewPrice, StoredAction};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::example;
use crate::auth::{Auth, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{Path, Query};
use crate::payload::Json;
use crate::problem::{Failure, failures};
use crate::wire::{Line, Wire};

/// The longest description.
const DESCRIPTION_MAX_CHARS: usize = 500;

/// A new version of an action's price.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(rename = "NewActionPrice", example, skip_serializing_if_is_none)]
struct NewActionPrice {
    /// What one unit costs.
    costs: Wire<Credits>,
    /// How much quantity makes one unit: the cost is `ceil(quantity / unit_size) * costs`.
    #[serde(default)]
    #[oai(default)]
    unit_size: Wire<Quantity>,
    /// What the action is, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Wire<Line<DESCRIPTION_MAX_CHARS>>>,
    /// Whether the action may be used.
    #[serde(default = "active")]
    #[oai(default = "active")]
    active: bool,
    /// From when this version is charged; not in the past. Left out, it is at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_at: Option<Wire<Timestamp>>,
}

const fn active() -> bool {
    true
}

impl Example for NewActionPrice {
    fn example() -> Self {
        Self {
            costs: Wire(example::credits(1, 0)),
            unit_size: example::quantity(1000),
            description: Some(example::text("Tokens of a language model")),
            active: true,
            effective_at: None,
        }
    }
}

/// One version of an action's price.
#[derive(Debug, Serialize, Object)]
#[oai(skip_serializing_if_is_none)]
struct ActionPrice {
    /// The version, from 1.
    version: i32,
    /// What one unit costs.
    costs: Wire<Credits>,
    /// How much quantity makes one unit.
    unit_size: Wire<Quantity>,
    /// What the action is, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Whether the action may be used.
    active: bool,
    /// From when this version is charged.
    effective_at: Wire<Timestamp>,
}

impl From<Price> for ActionPrice {
    fn from(price: Price) -> Self {
        Self {
            version: price.version,
            costs: Wire(price.costs),
            unit_size: Wire(price.unit_size),
            description: price.description,
            active: price.active,
            effective_at: Wire(price.effective_at),
        }
    }
}

/// An action, with the version of its price that is in force, and those to come.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Action", example, skip_serializing_if_is_none)]
struct ActionBody {
    /// What it is called.
    action_type: Wire<ActionType>,
    /// The version that is in force, the first to come where none is yet, and in the answer to PUT the one just made.
    version: i32,
    /// What one unit costs.
    costs: Wire<Credits>,
    /// How much quantity makes one unit: the cost is `ceil(quantity / unit_size) * costs`.
    unit_size: Wire<Quantity>,
    /// What the action is, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Whether the action may be used.
    active: bool,
    /// From when this version is charged.
    effective_at: Wire<Timestamp>,
    /// When the action was first made.
    created_at: Wire<Timestamp>,
    /// Versions that take effect later, soonest first.
    upcoming: Vec<ActionPrice>,
}

impl ActionBody {
    /// The action as it is: shown by the version in force, or the first to come.
    fn current(stored: StoredAction) -> Self {
        let in_force = stored.action.in_force.clone().or_else(|| stored.action.upcoming.first().cloned());
        let shown = in_force.unwrap_or_else(|| stored.latest.clone());
        Self::by(shown, stored)
    }

    /// The action as the last PUT left it: shown by the version that it made.
    fn latest(stored: StoredAction) -> Self {
        Self::by(stored.latest.clone(), stored)
    }

    fn by(price: Price, stored: StoredAction) -> Self {
        Self {
            action_type: Wire(stored.action.action_type),
            version: price.version,
            costs: Wire(price.costs),
            unit_size: Wire(price.unit_size),
            description: price.description,
            active: price.active,
            effective_at: Wire(price.effective_at),
            created_at: Wire(stored.created_at),
            upcoming: stored.action.upcoming.into_iter().map(Into::into).collect(),
        }
    }
}

impl Example for ActionBody {
    fn example() -> Self {
        Self {
            action_type: example::text("ai_tokens"),
            version: 2,
            costs: Wire(example::credits(1, 0)),
            unit_size: example::quantity(1000),
            description: Some("Tokens of a language model".to_owned()),
            active: true,
            effective_at: example::time(),
            created_at: example::text("2026-01-01T00:00:00Z"),
            upcoming: Vec::new(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Actions")]
impl Api {
    /// Set an action's price
    ///
    /// Makes a new version of the action's price, and the action if there is none. From its instant on it is what is
    /// charged, everywhere; what was charged before stays as it is. `active: false` takes the action out of use.
    ///
    /// Scope: `admin`, with a key that is bound to no organization.
    #[oai(path = "/actions/:action_type", method = "put", operation_id = "putAction")]
    async fn put(
        &self,
        auth: Auth<scope::Operate>,
        /// What the action is called.
        action_type: Path<ActionType>,
        body: Json<NewActionPrice>,
    ) -> Result<Json<ActionBody>, Failure<failures::Writing>> {
        let NewActionPrice { costs, unit_size, description, active, effective_at } = body.0;
        let price = NewPrice {
            costs: costs.0,
            unit_size: unit_size.0,
            description: description.map(|Wire(description)| description.into_string()),
            active,
            effective_at: effective_at.map(|Wire(effective_at)| effective_at),
        };
        Ok(Json(ActionBody::latest(auth.acting().put_action(action_type.0, price).await?)))
    }

    /// List actions
    ///
    /// By name, with those that are not active.
    ///
    /// Scope: `read`.
    #[oai(path = "/actions", method = "get", operation_id = "listActions")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<ActionBody>>, Failure<failures::Listing>> {
        let found = auth.store().actions(page::request(limit, cursor)?).await?;
        Ok(Json(Page::of(found, ActionBody::current)))
    }

    /// Read an action
    ///
    /// Whether it is active or not. One that does not exist is 404 `unknown_action`.
    ///
    /// Scope: `read`.
    #[oai(path = "/actions/:action_type", method = "get", operation_id = "getAction")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// What the action is called.
        action_type: Path<ActionType>,
    ) -> Result<Json<ActionBody>, Failure<failures::Reading>> {
        Ok(Json(ActionBody::current(auth.store().action(&action_type.0).await?)))
    }
}
