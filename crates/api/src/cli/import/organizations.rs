//! Which organization a name means, and the making of those that nobody has made yet.

use std::collections::{BTreeSet, HashMap};

use futures_util::stream::{self, StreamExt as _};
use multicredit_domain::{Credits, ExternalId, GrantSource, OrganizationId};
use multicredit_store::{Store, StoreError};

use super::patience::patiently;
use crate::cli::opening::{self, Opening};
use crate::limits::DIRECTORY_LOOKUPS_MAX;

/// The most names that are remembered, some 100 bytes each. A file may have more; they are then looked up again.
const KNOWN_MAX: usize = 100_000;

/// The idempotency key of the opening grant, the same for every import, so that two of them grant once.
const GRANT_KEY: &str = "import:create-missing";

/// The organizations that have been met so far.
pub struct Organizations {
    store: Store,
    /// What unknown ones are made with; `None` leaves them unknown.
    opening: Option<Opening>,
    known: HashMap<ExternalId, OrganizationId>,
}

impl Organizations {
    /// Nobody has been met yet.
    pub fn new(store: Store, create_missing: Option<Credits>) -> Self {
        // Nobody bought these credits here: they would be no purchase in any report.
        let opening =
            create_missing.map(|credits| Opening { credits, source: GrantSource::Adjustment, key: GRANT_KEY });
        Self { store, opening, known: HashMap::new() }
    }

    /// Looks up those of the names that are not known yet, and makes those that do not exist where that is wanted.
    pub async fn meet<'a>(&mut self, names: impl Iterator<Item = &'a ExternalId>) -> Result<(), StoreError> {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let unknown: BTreeSet<_> = names.filter(|name| !self.known.contains_key(*name)).collect();
        let this = &*self;
        // All of them are awaited even if one fails: a database call is not dropped half-way.
        let found: Vec<_> = stream::iter(unknown)
            .map(|name| async move { (name, patiently(async || this.find(name).await).await) })
            .buffer_unordered(DIRECTORY_LOOKUPS_MAX)
            .collect()
            .await;
        for (name, found) in found {
            // One that does not exist is looked for again with the next batch: somebody may make it meanwhile.
            if let Some(id) = found? {
                self.known.insert(name.clone(), id);
            }
        }
        Ok(())
    }

    /// The organization of that name, if it has been met and exists.
    pub fn get(&self, name: &ExternalId) -> Option<OrganizationId> {
        self.known.get(name).copied()
    }

    async fn find(&self, name: &ExternalId) -> Result<Option<OrganizationId>, StoreError> {
        match &self.opening {
            Some(opening) => opening::ensure(&self.store, name, name.as_str(), opening).await.map(Some),
            None => Ok(self.store.organization_by_external_id(name).await?.map(|organization| organization.id)),
        }
    }
}
