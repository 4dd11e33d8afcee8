//! `/v1/organizations/{organization_id}/grants`: credits that are given.

use multicredit_domain::book::DEFAULT_PRIORITY;
use multicredit_domain::{Credits, GrantId, GrantSource, GrantState, OrganizationId, Timestamp, TopUpId};
use poem_openapi::registry::MetaSchema;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::example;
use super::no_fields::NoFields;
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{KeyHeader, Path, Query};
use crate::payload::{CreatedOnce, DoneOnce, Json};
use crate::problem::{Failure, failures};
use crate::wire::{Line, Reason, Text, Wire, not_one_of, one_of, some_credits};

/// The longest reference.
const REFERENCE_MAX_CHARS: usize = 200;

/// Where a grant that somebody asks for may come from: a refund makes its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AskedSource(GrantSource);

impl AskedSource {
    fn names() -> impl Iterator<Item = &'static str> {
        GrantSource::ALL.into_iter().filter(|source| *source != GrantSource::Refund).map(GrantSource::as_str)
    }
}

impl Text for AskedSource {
    const NAME: &'static str = "NewGrantSource";

    fn schema() -> MetaSchema {
        one_of(Self::names(), "Where the credits come from.")
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        let source = GrantSource::from_name(text).filter(|source| *source != GrantSource::Refund);
        source.map(Self).ok_or_else(|| not_one_of(Self::names()))
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

/// Credits to give.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example, skip_serializing_if_is_none)]
struct NewGrant {
    /// How much of each type; at least one type more than 0.
    #[serde(deserialize_with = "some_credits")]
    credits: Wire<Credits>,
    /// Where they come from.
    source: Wire<AskedSource>,
    /// Lower is spent first; of two with the same, the one that expires first.
    #[serde(default = "priority")]
    #[oai(default = "priority")]
    priority: i32,
    /// From when they may be spent. Left out, it is at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_at: Option<Wire<Timestamp>>,
    /// From when they may no longer be spent: in the future, and after `effective_at`. Left out, it is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Wire<Timestamp>>,
    /// The caller's own name for it: an invoice, an order.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<Wire<Line<REFERENCE_MAX_CHARS>>>,
    /// The top-up that it answers, of `topup.requested`.
    #[serde(skip_serializing_if = "Option::is_none")]
    top_up_id: Option<Wire<TopUpId>>,
}

/// The priority where nothing is said.
pub const fn priority() -> i32 {
    DEFAULT_PRIORITY
}

impl From<NewGrant> for multicredit_domain::NewGrant {
    fn from(new: NewGrant) -> Self {
        Self {
            credits: new.credits.0,
            source: new.source.0.0,
            priority: new.priority,
            effective_at: new.effective_at.map(|Wire(effective_at)| effective_at),
            expires_at: new.expires_at.map(|Wire(expires_at)| expires_at),
            reference: new.reference.map(|Wire(reference)| reference.into_string()),
            top_up_id: new.top_up_id.map(|Wire(id)| id),
        }
    }
}

impl Example for NewGrant {
    fn example() -> Self {
        Self {
            credits: Wire(example::credits(10_000, 500)),
            source: Wire(AskedSource(GrantSource::Purchase)),
            priority: DEFAULT_PRIORITY,
            effective_at: None,
            expires_at: Some(example::text("2027-11-22T00:00:00Z")),
            reference: Some(example::text("invoice 2026-1187")),
            top_up_id: None,
        }
    }
}

/// A grant, with what is left of it at the instant of answering.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
struct Grant {
    id: Wire<Uuid>,
    organization_id: Wire<Uuid>,
    /// What was given.
    credits: Wire<Credits>,
    /// What is left.
    remaining: Wire<Credits>,
    /// Where it is in its life.
    state: Wire<GrantState>,
    /// Where it came from.
    source: Wire<GrantSource>,
    /// Lower is spent first.
    priority: i32,
    /// From when it may be spent.
    effective_at: Wire<Timestamp>,
    /// From when it may no longer be spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Wire<Timestamp>>,
    /// The caller's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// When it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    voided_at: Option<Wire<Timestamp>>,
    /// When it was given.
    created_at: Wire<Timestamp>,
}

impl Grant {
    fn of(organization_id: OrganizationId, grant: multicredit_domain::Grant) -> Self {
        let lot = grant.lot;
        Self {
            id: Wire(lot.id.uuid()),
            organization_id: Wire(organization_id.uuid()),
            credits: Wire(lot.granted),
            remaining: Wire(lot.remaining),
            state: Wire(lot.state),
            source: Wire(lot.source),
            priority: lot.priority,
            effective_at: Wire(lot.validity.effective_at),
            expires_at: lot.validity.expires_at.map(Wire),
            reference: grant.reference,
            voided_at: lot.voided_at.map(Wire),
            created_at: Wire(lot.created_at),
        }
    }
}

impl Example for Grant {
    fn example() -> Self {
        Self {
            id: Wire(example::GRANT_ID),
            organization_id: Wire(example::ORGANIZATION_ID.uuid()),
            credits: Wire(example::credits(10_000, 500)),
            remaining: Wire(example::credits(10_000, 500)),
            state: Wire(GrantState::Active),
            source: Wire(GrantSource::Purchase),
            priority: DEFAULT_PRIORITY,
            effective_at: example::time(),
            expires_at: Some(example::text("2027-11-22T00:00:00Z")),
            reference: Some("invoice 2026-1187".to_owned()),
            voided_at: None,
            created_at: example::time(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Grants")]
impl Api {
    /// Grant credits
    ///
    /// The credits can be spent from `effective_at` until `expires_at`. What the organization has, what it holds and what
    /// is still to start may not go beyond 9007199254740991 of a type: 400 `out_of_range`. A frozen organization receives
    /// credits, a closed one does not: 409 `organization_closed`.
    ///
    /// With `top_up_id` it answers the top-up that asked for it (`topup.requested`), late or not, of which it holds some of
    /// the type of credits. One that does not exist is 404 `unknown_top_up`, one that was answered 409 `top_up_granted`.
    ///
    /// Scope: `credit`.
    #[oai(path = "/organizations/:organization_id/grants", method = "post", operation_id = "createGrant")]
    async fn create(
        &self,
        auth: Auth<scope::Credit>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// Makes the request safe to repeat.
        #[oai(name = "Idempotency-Key")]
        key: KeyHeader,
        body: Json<NewGrant>,
    ) -> Result<CreatedOnce<Grant>, Failure<failures::Granting>> {
        let id = auth.organization(organization_id.0)?;
        let answer = auth.acting().grant(id, body.0.into(), key.0).await?;
        Ok(CreatedOnce { value: Grant::of(id, answer.value), replayed: answer.replayed })
    }

    /// List grants
    ///
    /// Newest first, each with what is left of it now.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/grants", method = "get", operation_id = "listGrants")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<Grant>>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        let found = auth.store().grants(id, page::request::<GrantId>(limit, cursor)?).await?;
        Ok(Json(Page::of(found, |grant| Grant::of(id, grant))))
    }

    /// Void a grant
    ///
    /// Takes back what is left of it; what was spent of it stays spent, and what open holds have set aside of it stays
    /// held. To void it again, or one that has ended, changes nothing. The body may be left out.
    ///
    /// Scope: `credit`.
    #[oai(path = "/organizations/:organization_id/grants/:grant_id/void", method = "post", operation_id = "voidGrant")]
    async fn void(
        &self,
        auth: Auth<scope::Credit>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The grant.
        grant_id: Path<GrantId>,
        /// Makes the request safe to repeat.
        #[oai(name = "Idempotency-Key")]
        key: KeyHeader,
        _body: Json<NoFields>,
    ) -> Result<DoneOnce<Grant>, Failure<failures::Granting>> {
        let id = auth.organization(organization_id.0)?;
        let answer = auth.acting().void_grant(id, grant_id.0, key.0).await?;
        Ok(DoneOnce { value: Grant::of(id, answer.value), replayed: answer.replayed })
    }
}
