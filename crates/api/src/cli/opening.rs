//! Organizations that the command line makes, each with the credits that it begins with, exactly once.
//!
//! An organization and its first grant are two movements of the store, and a crash may come between them. The grant
//! therefore has a fixed idempotency key, so that it can be sent again by whoever comes next, at the same time or
//! later; and an organization that looks as if it had been left in between gets it: one of the expected name without
//! any movement so far. One that has had a movement is somebody's, and gets nothing.

use multicredit_domain::book::DEFAULT_PRIORITY;
use multicredit_domain::{
    Credits, ExternalId, GrantSource, IdempotencyKey, NewGrant, Organization, OrganizationId, Refusal, TimeZone,
};
use multicredit_store::{Conflict, NewOrganization, Store, StoreError};

/// What an organization begins with.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The credits; not all zero.
    pub credits: Credits,
    /// Where they come from.
    pub source: GrantSource,
    /// The key under which they are granted once, and the reference under which they are found later.
    pub key: &'static str,
}

/// The id of the organization with that external id, which is made if there is none and has its opening afterwards.
pub async fn ensure(
    store: &Store,
    external_id: &ExternalId,
    name: &str,
    opening: &Opening,
) -> Result<OrganizationId, StoreError> {
    let (organization, is_new) = find_or_create(store, external_id, name).await?;
    if is_new || (organization.name == name && store.balance(organization.id).await?.sequence == 0) {
        grant(store, organization.id, opening).await?;
    }
    Ok(organization.id)
}

async fn find_or_create(
    store: &Store,
    external_id: &ExternalId,
    name: &str,
) -> Result<(Organization, bool), StoreError> {
    if let Some(organization) = store.organization_by_external_id(external_id).await? {
        return Ok((organization, false));
    }
    let new = NewOrganization {
        name: name.to_owned(),
        external_id: Some(external_id.clone()),
        time_zone: TimeZone::default(),
    };
    match store.create_organization(new).await {
        Ok(organization) => Ok((organization, true)),
        // Another process was faster. Organizations are never deleted.
        Err(StoreError::Conflict(Conflict::ExternalIdTaken)) => {
            let organization = store.organization_by_external_id(external_id).await?;
            organization.map(|organization| (organization, false)).ok_or(StoreError::NotFound)
        }
        Err(error) => Err(error),
    }
}

async fn grant(store: &Store, organization_id: OrganizationId, opening: &Opening) -> Result<(), StoreError> {
    let key = IdempotencyKey::of_request(opening.key).map_err(|error| StoreError::Internal(error.to_string()))?;
    let new = NewGrant {
        credits: opening.credits,
        source: opening.source,
        priority: DEFAULT_PRIORITY,
        effective_at: None,
        expires_at: None,
        reference: Some(opening.key.to_owned()),
        top_up_id: None,
    };
    match store.grant(organization_id, new, Some(key)).await {
        // Another process opened it meanwhile with other credits, or somebody closed it: not ours to change.
        Ok(_) | Err(StoreError::Refused(Refusal::IdempotencyMismatch | Refusal::OrganizationClosed)) => Ok(()),
        Err(error) => Err(error),
    }
}
