//! `/v1/organizations`: the tenants.

use multicredit_domain::{ExternalId, OrganizationId, OrganizationStatus, TimeZone, Timestamp};
use multicredit_store::{OrganizationUpdate, Page as StorePage};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::example;
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{Path, Query};
use crate::payload::{Created, Json};
use crate::problem::{Failure, failures};
use crate::wire::{Line, Wire};

/// The longest name.
const NAME_MAX_CHARS: usize = 200;

/// An organization to make.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example, skip_serializing_if_is_none)]
struct NewOrganization {
    /// What people call it.
    name: Wire<Line<NAME_MAX_CHARS>>,
    /// What the customer's own system calls it. Unique, and for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<Wire<ExternalId>>,
    /// Where its days and months begin.
    #[serde(default)]
    #[oai(default)]
    time_zone: Wire<TimeZone>,
}

impl Example for NewOrganization {
    fn example() -> Self {
        Self {
            name: example::text("Acme Europe"),
            external_id: Some(example::text("acme-eu")),
            time_zone: example::text("Europe/Berlin"),
        }
    }
}

/// What to change of an organization. What is left out stays as it is.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(rename = "OrganizationUpdate", example, skip_serializing_if_is_none)]
struct Update {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Wire<Line<NAME_MAX_CHARS>>>,
    /// Where its days and months begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<Wire<TimeZone>>,
    /// What it may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Wire<OrganizationStatus>>,
}

impl Example for Update {
    fn example() -> Self {
        Self { name: None, time_zone: None, status: Some(Wire(OrganizationStatus::Frozen)) }
    }
}

/// An organization.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct Organization {
    id: Wire<Uuid>,
    /// What people call it.
    name: String,
    /// What the customer's own system calls it, or `null`.
    #[oai(nullable)]
    external_id: Option<Wire<ExternalId>>,
    /// Where its days and months begin.
    time_zone: Wire<TimeZone>,
    /// What it may do.
    status: Wire<OrganizationStatus>,
    /// When it was made.
    created_at: Wire<Timestamp>,
}

impl From<multicredit_domain::Organization> for Organization {
    fn from(organization: multicredit_domain::Organization) -> Self {
        Self {
            id: Wire(organization.id.uuid()),
            name: organization.name,
            external_id: organization.external_id.map(Wire),
            time_zone: Wire(organization.time_zone),
            status: Wire(organization.status),
            created_at: Wire(organization.created_at),
        }
    }
}

impl Example for Organization {
    fn example() -> Self {
        Self {
            id: Wire(example::ORGANIZATION_ID.uuid()),
            name: "Acme Europe".to_owned(),
            external_id: Some(example::text("acme-eu")),
            time_zone: example::text("Europe/Berlin"),
            status: Wire(OrganizationStatus::Active),
            created_at: example::time(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Organizations")]
impl Api {
    /// Make an organization
    ///
    /// It begins active and without credits. A taken `external_id` is 409 `external_id_taken`.
    ///
    /// Scope: `admin`, with a key that is bound to no organization.
    #[oai(path = "/organizations", method = "post", operation_id = "createOrganization")]
    async fn create(
        &self,
        auth: Auth<scope::Operate>,
        body: Json<NewOrganization>,
    ) -> Result<Created<Organization>, Failure<failures::Writing>> {
        let NewOrganization { name, external_id, time_zone } = body.0;
        let new = multicredit_store::NewOrganization {
            name: name.0.into_string(),
            external_id: external_id.map(|Wire(external_id)| external_id),
            time_zone: time_zone.0,
        };
        Ok(Created(auth.acting().create_organization(new).await?.into()))
    }

    /// List organizations
    ///
    /// Newest first. A key that is bound to an organization sees that one alone.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations", method = "get", operation_id = "listOrganizations")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<Organization>>, Failure<failures::Listing>> {
        let wanted = page::request::<OrganizationId>(limit, cursor)?;
        let found = match auth.bound_to() {
            None => auth.store().organizations(None, wanted).await?,
            // Newest first: what comes after a position has a smaller id.
            Some(own) if wanted.after.is_none_or(|after| own < after) => {
                StorePage { items: vec![auth.store().organization(own).await?], next: None }
            }
            Some(_) => StorePage { items: Vec::new(), next: None },
        };
        Ok(Json(Page::of(found, Organization::from)))
    }

    /// Read an organization
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id", method = "get", operation_id = "getOrganization")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
    ) -> Result<Json<Organization>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        Ok(Json(auth.store().organization(id).await?.into()))
    }

    /// Change an organization
    ///
    /// What is left out stays as it is. When a change of `status` is answered, it holds: no spending of a frozen
    /// organization is under way any more. Closed is for good; a closed organization is 409 `organization_closed`.
    ///
    /// Scope: `admin`.
    #[oai(path = "/organizations/:organization_id", method = "patch", operation_id = "updateOrganization")]
    async fn update(
        &self,
        auth: Auth<scope::Admin>,
        /// The organization.
        organization_id: Path<Tenant>,
        body: Json<Update>,
    ) -> Result<Json<Organization>, Failure<failures::Writing>> {
        let id = auth.organization(organization_id.0)?;
        let Update { name, time_zone, status } = body.0;
        let update = OrganizationUpdate {
            name: name.map(|Wire(name)| name.into_string()),
            time_zone: time_zone.map(|Wire(time_zone)| time_zone),
            status: status.map(|Wire(status)| status),
        };
        Ok(Json(auth.acting().update_organization(id, update).await?.into()))
    }
}
