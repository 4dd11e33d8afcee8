//! `/v1/organizations/{organization_id}/holds`: credits set aside for what is known only afterwards.

use multicredit_domain::{ActionType, Actor, Credits, HoldId, HoldState, OrganizationId, Quantity, Refusal, Timestamp};
use multicredit_store::{HoldAnswer, StoreError};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::consume::SpentBody;
use super::no_fields::NoFields;
use super::{example, exists, unknown};
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{KeyHeader, Path, Query};
use crate::payload::{CreatedOnce, DoneOnce, Json};
use crate::problem::{Failure, failures};
use crate::wire::{TtlSeconds, Wire};

/// What is about to be done, and so what to set aside.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example, skip_serializing_if_is_none)]
struct NewHold {
    /// The action.
    action: Wire<ActionType>,
    /// How often, or how much, is expected.
    #[serde(default)]
    #[oai(default)]
    quantity: Wire<Quantity>,
    /// How long it lasts, in seconds.
    #[serde(default)]
    #[oai(default)]
    ttl_seconds: Wire<TtlSeconds>,
    /// Who causes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Wire<Actor>>,
}

impl From<NewHold> for multicredit_domain::NewHold {
    fn from(new: NewHold) -> Self {
        Self {
            action: new.action.0,
            quantity: new.quantity.0,
            ttl_seconds: new.ttl_seconds.0.get(),
            actor: new.actor.map(|Wire(actor)| actor),
        }
    }
}

impl Example for NewHold {
    fn example() -> Self {
        Self {
            action: example::text("ai_tokens"),
            quantity: example::quantity(8_000),
            ttl_seconds: Wire(TtlSeconds::default()),
            actor: Some(example::text("user-42")),
        }
    }
}

/// What was done of what was expected.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example, skip_serializing_if_is_none)]
struct Capture {
    /// How often, or how much. Left out, it is what was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<Wire<Quantity>>,
}

impl Example for Capture {
    fn example() -> Self {
        Self { quantity: Some(example::quantity(4_818)) }
    }
}

/// How long a hold is to last.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example)]
struct Extension {
    /// How long it lasts from now, in seconds.
    ttl_seconds: Wire<TtlSeconds>,
}

impl Example for Extension {
    fn example() -> Self {
        Self { ttl_seconds: Wire(TtlSeconds::default()) }
    }
}

/// Credits that are set aside, or were.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
struct Hold {
    id: Wire<Uuid>,
    organization_id: Wire<Uuid>,
    /// The action.
    action: Wire<ActionType>,
    /// How often, or how much, was expected.
    quantity: Wire<Quantity>,
    /// Where it is in its life.
    status: Wire<HoldState>,
    /// What was set aside when it was placed.
    held: Wire<Credits>,
    /// What could be spent right after it was placed, released or extended, in the answer to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<Wire<Credits>>,
    /// The version of the action's price at which it is captured.
    price_version: i32,
    /// Who caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Wire<Actor>>,
    /// From when it is given up, unless it was captured or released before.
    expires_at: Wire<Timestamp>,
    /// When it was captured or released, or expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Wire<Timestamp>>,
    /// The consumption that it was captured as.
    #[serde(skip_serializing_if = "Option::is_none")]
    consumption_id: Option<Wire<Uuid>>,
    /// When it was placed.
    created_at: Wire<Timestamp>,
}

impl Hold {
    fn of(organization_id: OrganizationId, hold: multicredit_domain::Hold) -> Self {
        Self {
            id: Wire(hold.id.uuid()),
            organization_id: Wire(organization_id.uuid()),
            action: Wire(hold.action),
            quantity: Wire(hold.quantity),
            status: Wire(hold.state),
            held: Wire(hold.credits),
            available: None,
            price_version: hold.price_version,
            actor: hold.actor.map(Wire),
            expires_at: Wire(hold.expires_at),
            finished_at: hold.finished_at.map(Wire),
            consumption_id: hold.consumption_id.map(|id| Wire(id.uuid())),
            created_at: Wire(hold.created_at),
        }
    }

    fn answered(organization_id: OrganizationId, HoldAnswer { hold, available }: HoldAnswer) -> Self {
        Self { available: Some(Wire(available)), ..Self::of(organization_id, hold) }
    }
}

impl Example for Hold {
    fn example() -> Self {
        Self {
            id: Wire(example::HOLD_ID),
            organization_id: Wire(example::ORGANIZATION_ID.uuid()),
            action: example::text("ai_tokens"),
            quantity: example::quantity(8_000),
            status: Wire(HoldState::Open),
            held: Wire(example::credits(8, 0)),
            available: Some(Wire(example::credits(9_992, 500))),
            price_version: 1,
            actor: Some(example::text("user-42")),
            expires_at: example::text("2026-11-22T09:35:00.123456Z"),
            finished_at: None,
            consumption_id: None,
            created_at: example::time(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Holds")]
impl Api {
    /// Place a hold
    ///
    /// Sets the cost of `quantity` aside at the price in force, in full or not at all, for `ttl_seconds`. Until it is
    /// captured or released, or expires, nobody else can spend it. It is refused as a consumption is: 402 with what is
    /// missing, 404 `unknown_action`, 423 for a frozen organization, 409 for a closed one.
    ///
    /// Scope: `consume`.
    #[oai(path = "/organizations/:organization_id/holds", method = "post", operation_id = "placeHold")]
    async fn place(
        &self,
        auth: Auth<scope::Consume>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// Makes the request safe to repeat.
        #[oai(name = "Idempotency-Key")]
        key: KeyHeader,
        body: Json<NewHold>,
    ) -> Result<CreatedOnce<Hold>, Failure<failures::Spending>> {
        let id = auth.organization(organization_id.0)?;
        let answer = auth.acting().place_hold(id, body.0.into(), key.0).await?;
        Ok(CreatedOnce { value: Hold::answered(id, answer.value), replayed: answer.replayed })
    }

    /// List holds
    ///
    /// Newest first, those that have ended included.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/holds", method = "get", operation_id = "listHolds")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<Hold>>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        let found = auth.store().holds(id, page::request::<HoldId>(limit, cursor)?).await?;
        exists(&auth, id, &found.items).await?;
        Ok(Json(Page::of(found, |hold| Hold::of(id, hold))))
    }

    /// Read a hold
    ///
    /// Open or ended; one whose time is over is `expired` from that instant on.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/holds/:hold_id", method = "get", operation_id = "getHold")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The hold.
        hold_id: Path<HoldId>,
    ) -> Result<Json<Hold>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        match auth.store().hold(id, hold_id.0).await {
            Err(StoreError::Refused(Refusal::UnknownHold)) => {
                Err(unknown(&auth, id, Refusal::UnknownHold).await.into())
            }
            found => Ok(Json(Hold::of(id, found?))),
        }
    }

    /// Capture a hold
    ///
    /// Spends it, at the price at which it was placed: all of it, or what `quantity` costs. What is left is released; what
    /// costs more is taken from what can be spent, and where that does not suffice it is 402 and the hold stays open. A
    /// hold that was captured or released is 409 `hold_finalized`, one whose time is over 410 `hold_expired`. For a frozen
    /// organization 423 if it costs more than was held. The body may be left out.
    ///
    /// Scope: `consume`.
    #[oai(
        path = "/organizations/:organization_id/holds/:hold_id/capture",
        method = "post",
        operation_id = "captureHold"
    )]
    async fn capture(
        &self,
        auth: Auth<scope::Consume>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The hold.
        hold_id: Path<HoldId>,
        /// Makes the request safe to repeat.
        #[oai(name = "Idempotency-Key")]
        key: KeyHeader,
        body: Json<Capture>,
    ) -> Result<CreatedOnce<SpentBody>, Failure<failures::Capturing>> {
        let id = auth.organization(organization_id.0)?;
        let quantity = body.0.quantity.map(|Wire(quantity)| quantity);
        let answer = auth.store().capture_hold(id, hold_id.0, quantity, key.0).await?;
        Ok(CreatedOnce { value: answer.value.try_into()?, replayed: answer.replayed })
    }

    /// Release a hold
    ///
    /// Gives it up: what was set aside can be spent again, except for what came from grants that have ended meanwhile. To
    /// release it again changes nothing; one that was captured is 409 `hold_finalized`, one whose time is over 410
    /// `hold_expired`. The body may be left out.
    ///
    /// Scope: `consume`.
    #[oai(
        path = "/organizations/:organization_id/holds/:hold_id/release",
        method = "post",
        operation_id = "releaseHold"
    )]
    async fn release(
        &self,
        auth: Auth<scope::Consume>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The hold.
        hold_id: Path<HoldId>,
        /// Makes the request safe to repeat.
        #[oai(name = "Idempotency-Key")]
        key: KeyHeader,
        _body: Json<NoFields>,
    ) -> Result<DoneOnce<Hold>, Failure<failures::Holding>> {
        let id = auth.organization(organization_id.0)?;
        let answer = auth.acting().release_hold(id, hold_id.0, key.0).await?;
        Ok(DoneOnce { value: Hold::answered(id, answer.value), replayed: answer.replayed })
    }

    /// Extend a hold
    ///
    /// Lets it last `ttl_seconds` from now, be that longer or shorter than before. A hold that was captured or released is
    /// 409 `hold_finalized`, one whose time is over 410 `hold_expired`.
    ///
    /// Scope: `consume`.
    #[oai(path = "/organizations/:organization_id/holds/:hold_id/extend", method = "post", operation_id = "extendHold")]
    async fn extend(
        &self,
        auth: Auth<scope::Consume>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The hold.
        hold_id: Path<HoldId>,
        /// Makes the request safe to repeat.
        #[oai(name = "Idempotency-Key")]
        key: KeyHeader,
        body: Json<Extension>,
    ) -> Result<DoneOnce<Hold>, Failure<failures::Holding>> {
        let id = auth.organization(organization_id.0)?;
        let answer = auth.acting().extend_hold(id, hold_id.0, body.0.ttl_seconds.0.get(), key.0).await?;
        Ok(DoneOnce { value: Hold::answered(id, answer.value), replayed: answer.replayed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::parse_object;

    #[test]
    fn one_unit_is_held_for_five_minutes_where_nothing_is_said() {
        let command = |body| multicredit_domain::NewHold::from(parse_object::<NewHold>(body).unwrap());
        let least = command(r#"{"action":"sms"}"#);
        assert_eq!((least.quantity, least.ttl_seconds, least.actor), (Quantity::ONE, 300, None));
        let full = command(r#"{"action":"sms","quantity":7,"ttl_seconds":86400,"actor":"u"}"#);
        assert_eq!((full.quantity.get(), full.ttl_seconds), (7, 86_400));
        assert_eq!(full.actor.unwrap().as_str(), "u");
    }

    #[test]
    fn what_is_captured_may_be_left_out_and_how_long_to_extend_may_not() {
        assert!(parse_object::<Capture>("{}").unwrap().quantity.is_none());
        assert_eq!(parse_object::<Capture>(r#"{"quantity":3}"#).unwrap().quantity, Some(example::quantity(3)));
        assert!(parse_object::<Capture>(r#"{"quantity":0}"#).is_err());
        let missing = parse_object::<Extension>("{}").unwrap_err().into_field_errors();
        assert_eq!(missing.as_slice()[0].field, "ttl_seconds");
    }
}
