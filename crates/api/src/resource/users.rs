//! `/v1/users/{user_id}/organizations`: membership from the user's side.

use multicredit_domain::Timestamp;
use multicredit_store::{MemberRole, Page as StorePage, PageRequest};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;
use uuid::Uuid;

use super::example;
use crate::auth::{Auth, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, MembershipPosition, Page};
use crate::param::{Path, Query};
use crate::payload::Json;
use crate::problem::{Failure, failures};
use crate::wire::{UserId, Wire};

/// An organization of a user.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct Membership {
    organization_id: Wire<Uuid>,
    /// What the user may do there, in the customer's own system.
    role: Wire<MemberRole>,
    /// Since when.
    created_at: Wire<Timestamp>,
}

impl From<multicredit_store::Membership> for Membership {
    fn from(membership: multicredit_store::Membership) -> Self {
        Self {
            organization_id: Wire(membership.organization_id.uuid()),
            role: Wire(membership.role),
            created_at: Wire(membership.created_at),
        }
    }
}

impl Example for Membership {
    fn example() -> Self {
        Self {
            organization_id: Wire(example::ORGANIZATION_ID.uuid()),
            role: Wire(MemberRole::Billing),
            created_at: example::time(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Members")]
impl Api {
    /// List a user's organizations
    ///
    /// Oldest organization first; none for a user of whom nothing is known. A key that is bound to an organization sees
    /// that one alone.
    ///
    /// Scope: `read`.
    #[oai(path = "/users/:user_id/organizations", method = "get", operation_id = "listMemberships")]
    async fn organizations(
        &self,
        auth: Auth<scope::Read>,
        /// The user.
        user_id: Path<UserId>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<Membership>>, Failure<failures::Listing>> {
        let PageRequest { after, limit } = page::request::<MembershipPosition>(limit, cursor)?;
        let wanted = PageRequest { after: after.map(|MembershipPosition(id)| id), limit };
        let found = auth.store().memberships(user_id.0.as_str(), auth.bound_to(), wanted).await?;
        let found = StorePage { items: found.items, next: found.next.map(MembershipPosition) };
        Ok(Json(Page::of(found, Membership::from)))
    }
}
