//! Which organization a customer's own name stands for.
//!
//! An organization keeps its `external_id` and its existence for good, so what was found once need not be looked up
//! again. What was not found is not remembered: it may be made any moment.

use std::sync::{PoisonError, RwLock};

use multicredit_domain::{ExternalId, OrganizationId};
use multicredit_store::{Store, StoreError};

use crate::bounded::Bounded;
use crate::limits::DIRECTORY_MAX;

/// The names that this process has looked up.
#[derive(Debug)]
pub struct Directory(RwLock<Bounded<ExternalId, OrganizationId>>);

impl Default for Directory {
    fn default() -> Self {
        Self(RwLock::new(Bounded::new(DIRECTORY_MAX)))
    }
}

impl Directory {
    /// The organization of that name, if there is one.
    pub async fn organization(&self, store: &Store, name: &ExternalId) -> Result<Option<OrganizationId>, StoreError> {
        if let Some(id) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Some(*id));
        }
        let Some(organization) = store.organization_by_external_id(name).await? else { return Ok(None) };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), organization.id);
        Ok(Some(organization.id))
    }
}
