//! What one line of a file means, whatever its format.

use multicredit_domain::{Consume, ExternalId, IdempotencyKey, OrganizationId};
use multicredit_store::ConsumeItem;

use crate::cloud_event::CloudEvent;
use crate::occurrence::OccurrenceWindow;
use crate::problem::FieldErrors;

/// One consumption, its organization still by the name that the customer gave it.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A line of NDJSON.
    Event(CloudEvent),
    /// A line of CSV.
    Row(Row),
}

/// A line of CSV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Whose credits.
    pub organization: ExternalId,
    /// What was used.
    pub request: Consume,
    /// The key under which it is charged once.
    pub key: IdempotencyKey,
}

impl Entry {
    /// What the customer's system calls the organization.
    pub const fn organization(&self) -> &ExternalId {
        match self {
            Self::Event(event) => event.subject(),
            Self::Row(row) => &row.organization,
        }
    }

    /// The consumption, of the organization that the name stands for.
    pub fn into_item(
        self,
        organization_id: OrganizationId,
        window: OccurrenceWindow,
    ) -> Result<ConsumeItem, FieldErrors> {
        match self {
            Self::Event(event) => event.into_item(organization_id, window),
            Self::Row(Row { request, key, .. }) => {
                window.check(super::csv::OCCURRED_AT, request.occurred_at)?;
                Ok(ConsumeItem { organization_id, request, key: Some(key) })
            }
        }
    }
}
