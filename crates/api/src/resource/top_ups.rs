//! `/v1/organizations/{organization_id}/top-ups`: requests for credits that top-up rules made, and their answers.

use multicredit_domain::{Amount, CreditType, Refusal, Timestamp, TopUpId, TopUpState};
use multicredit_store::StoreError;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;
use uuid::Uuid;

use super::{example, exists, unknown};
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{Path, Query};
use crate::payload::Json;
use crate::problem::{Failure, failures};
use crate::wire::Wire;

/// A request for credits.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct TopUp {
    /// What the grant that answers it names.
    id: Wire<Uuid>,
    /// The type of credits that it asks for.
    credit_type: Wire<CreditType>,
    /// How much it asks for.
    amount: Wire<Amount>,
    /// Where it is in its life.
    status: Wire<TopUpState>,
    /// When it was made.
    requested_at: Wire<Timestamp>,
    /// Until when an answer is waited for. What comes later is taken all the same.
    expires_at: Wire<Timestamp>,
    /// The grant that answered it, or `null`.
    #[oai(nullable)]
    grant_id: Option<Wire<Uuid>>,
    /// When it was answered, or `null`.
    #[oai(nullable)]
    granted_at: Option<Wire<Timestamp>>,
    /// Whether the answer came when none was waited for any more.
    late: bool,
}

impl TopUp {
    fn of(top_up: &multicredit_domain::TopUp, now: Timestamp) -> Self {
        let (grant_id, granted_at) = top_up.granted.unzip();
        Self {
            id: Wire(top_up.id.uuid()),
            credit_type: Wire(top_up.credit_type),
            amount: Wire(top_up.amount),
            status: Wire(top_up.state_at(now)),
            requested_at: Wire(top_up.requested_at),
            expires_at: Wire(top_up.expires_at),
            grant_id: grant_id.map(|id| Wire(id.uuid())),
            granted_at: granted_at.map(Wire),
            late: top_up.is_late(),
        }
    }
}

impl Example for TopUp {
    fn example() -> Self {
        Self {
            id: Wire(example::TOP_UP_ID),
            credit_type: Wire(CreditType::Ai),
            amount: Wire(example::amount(10_000)),
            status: Wire(TopUpState::Granted),
            requested_at: example::time(),
            expires_at: example::text("2026-11-23T09:30:00.123456Z"),
            grant_id: Some(Wire(example::GRANT_ID)),
            granted_at: Some(example::text("2026-11-22T09:31:12.004711Z")),
            late: false,
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Alerts")]
impl Api {
    /// List top-ups
    ///
    /// The requests for credits that the organization's top-up rules made, newest first.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/top-ups", method = "get", operation_id = "listTopUps")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<TopUp>>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        let found = auth.store().top_ups(id, page::request::<TopUpId>(limit, cursor)?).await?;
        exists(&auth, id, &found.items).await?;
        let now = auth.store().now().await?;
        Ok(Json(Page::of(found, |top_up| TopUp::of(&top_up, now))))
    }

    /// Read a top-up
    ///
    /// One that does not exist is 404 `unknown_top_up`.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/top-ups/:top_up_id", method = "get", operation_id = "getTopUp")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The top-up.
        top_up_id: Path<TopUpId>,
    ) -> Result<Json<TopUp>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        match auth.store().top_up(id, top_up_id.0).await {
            Err(StoreError::Refused(Refusal::UnknownTopUp)) => {
                Err(unknown(&auth, id, Refusal::UnknownTopUp).await.into())
            }
            found => Ok(Json(TopUp::of(&found?, auth.store().now().await?))),
        }
    }
}
