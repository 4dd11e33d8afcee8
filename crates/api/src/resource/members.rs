//! `/v1/organizations/{organization_id}/members`: the users of an organization.

use multicredit_domain::Timestamp;
use multicredit_store::MemberRole;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::{example, exists};
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{Path, Query};
use crate::payload::{Json, NoContent};
use crate::problem::{Code, Failure, Problem, failures};
use crate::wire::{UserId, Wire};

/// What a member is.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example)]
struct NewMember {
    /// What the member may do in the customer's own system.
    #[serde(default = "member")]
    #[oai(default = "member")]
    role: Wire<MemberRole>,
}

const fn member() -> Wire<MemberRole> {
    Wire(MemberRole::Member)
}

impl Example for NewMember {
    fn example() -> Self {
        Self { role: Wire(MemberRole::Billing) }
    }
}

/// A user of an organization.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct Member {
    /// The user, as the customer's own system calls them.
    user_id: String,
    /// What the member may do in the customer's own system.
    role: Wire<MemberRole>,
    /// Since when.
    created_at: Wire<Timestamp>,
}

impl From<multicredit_store::Member> for Member {
    fn from(member: multicredit_store::Member) -> Self {
        Self { user_id: member.user_id, role: Wire(member.role), created_at: Wire(member.created_at) }
    }
}

impl Example for Member {
    fn example() -> Self {
        Self { user_id: "user-42".to_owned(), role: Wire(MemberRole::Billing), created_at: example::time() }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Members")]
impl Api {
    /// Make a user a member
    ///
    /// Or change the role of one. Roles are the customer's own: they limit nothing here. The body may be left out.
    ///
    /// Scope: `admin`.
    #[oai(path = "/organizations/:organization_id/members/:user_id", method = "put", operation_id = "putMember")]
    async fn put(
        &self,
        auth: Auth<scope::Admin>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The user.
        user_id: Path<UserId>,
        body: Json<NewMember>,
    ) -> Result<Json<Member>, Failure<failures::Writing>> {
        let id = auth.organization(organization_id.0)?;
        Ok(Json(auth.acting().put_member(id, user_id.0.as_str(), body.0.role.0).await?.into()))
    }

    /// End a membership
    ///
    /// A user who is no member is 404 `not_found`.
    ///
    /// Scope: `admin`.
    #[oai(path = "/organizations/:organization_id/members/:user_id", method = "delete", operation_id = "deleteMember")]
    async fn delete(
        &self,
        auth: Auth<scope::Admin>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The user.
        user_id: Path<UserId>,
    ) -> Result<NoContent, Failure<failures::Revoking>> {
        let id = auth.organization(organization_id.0)?;
        if auth.acting().delete_member(id, user_id.0.as_str()).await? {
            return Ok(NoContent);
        }
        auth.store().organization(id).await?;
        Err(Problem::new(Code::NotFound).into())
    }

    /// List members
    ///
    /// In the order of their user ids.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/members", method = "get", operation_id = "listMembers")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<Member>>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        let found = auth.store().members(id, page::request::<String>(limit, cursor)?).await?;
        exists(&auth, id, &found.items).await?;
        Ok(Json(Page::of(found, Member::from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::parse_object;

    #[test]
    fn a_member_is_a_member_where_nothing_is_said() {
        let role = |body| parse_object::<NewMember>(body).map(|new| new.role.0).ok();
        assert_eq!(role("{}"), Some(MemberRole::Member));
        assert_eq!(role(r#"{"role":"owner"}"#), Some(MemberRole::Owner));
        for bad in [r#"{"role":"Owner"}"#, r#"{"role":null}"#, r#"{"user_id":"u"}"#, r#"{"role":"root"}"#] {
            assert_eq!(role(bad), None, "{bad} was accepted");
        }
    }
}
