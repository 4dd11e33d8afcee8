//! Which organization a customer's own name stands for.
//!
//! An organization keeps its `external_id` and its existence for good, so what was found once need not be looked up
//! again. What was not found is not remembered: it may be made any moment.

use std::sync::{Arc, PoisonError, RwLock};

use multicredit_domain::{ExternalId, OrganizationId};
use multicredit_store::stats::CacheStats;
use multicredit_store::{Store, StoreError};

use crate::bounded::Bounded;
use crate::limits::DIRECTORY_MAX;

/// The names that this process has looked up.
#[derive(Debug)]
pub struct Directory {
    known: RwLock<Bounded<ExternalId, OrganizationId>>,
    stats: Arc<CacheStats>,
}

impl Directory {
    /// Knows no organization yet, and counts there how often it knew one.
    pub fn new(stats: Arc<CacheStats>) -> Self {
        Self { known: RwLock::new(Bounded::new(DIRECTORY_MAX)), stats }
    }

    /// The organization of that name, if there is one.
    pub async fn organization(&self, store: &Store, name: &ExternalId) -> Result<Option<OrganizationId>, StoreError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        self.stats.looked_up(known.is_some());
        if known.is_some() {
            return Ok(known);
        }
        let Some(organization) = store.organization_by_external_id(name).await? else { return Ok(None) };
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), organization.id);
        Ok(Some(organization.id))
    }
}
