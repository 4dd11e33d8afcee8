//! The audit log: who changed what, for every change that is not a consumption.
//!
//! A [`Change`] is recorded in the transaction that makes it, whatever makes it: the ledger's writer, with its batch, or a
//! write to a catalogue. So there is no change without its line and no line without its change; a request that is refused
//! changes nothing and leaves none, and neither does one that finds everything as it should be.
//!
//! The lines of an organization are a chain ([`chain`]): each has its number, dense from 1, and a hash of what it says
//! and of the hash before it. What belongs to no organization has a chain of its own. `audit_chains` says how far each
//! goes, which is also what is locked to append to it.
//!
//! **The lock order.** Chains are the last thing that a transaction locks, in the order of their organizations' ids: after
//! the price lock, after accounts, and after every row that the change is about. Whoever has a chain waits for nothing but
//! chains further on, so there can be no circle. A change to a catalogue of an organization (its members, its name) locks
//! the row of the organization first, which is what makes its `before` true.

pub(crate) mod chain;
mod record;
pub(crate) mod snapshot;

use std::sync::Arc;

use multicredit_domain::{Actor, ApiKeyId, OrganizationId, Timestamp};
use serde_json::Value;
use uuid::Uuid;

pub(crate) use record::{Session, record};

/// The operations that leave a line: the names that the OpenAPI document has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditOperation {
    /// An organization was made.
    CreateOrganization,
    /// An organization's name, time zone or status was changed.
    UpdateOrganization,
    /// An action got a price.
    PutAction,
    /// A plan got a version.
    PutPlan,
    /// Credits were granted.
    CreateGrant,
    /// What was left of a grant was taken back.
    VoidGrant,
    /// A balance was corrected.
    CreateAdjustment,
    /// A consumption was given back.
    RefundConsumption,
    /// Credits were set aside.
    PlaceHold,
    /// A hold was given up.
    ReleaseHold,
    /// A hold was given another end.
    ExtendHold,
    /// A subscription was begun or changed.
    PutSubscription,
    /// A subscription was ended.
    DeleteSubscription,
    /// A user was made a member, or a member's role was changed.
    PutMember,
    /// A membership was ended.
    DeleteMember,
    /// An API key was made.
    CreateApiKey,
    /// An API key was revoked.
    RevokeApiKey,
    /// An alert rule was made.
    CreateAlertRule,
    /// An alert rule was changed.
    UpdateAlertRule,
    /// An alert rule was deleted.
    DeleteAlertRule,
    /// A top-up rule was made or changed.
    PutTopUpRule,
    /// A top-up rule was deleted.
    DeleteTopUpRule,
    /// An endpoint of webhooks was made.
    CreateWebhookEndpoint,
    /// An endpoint of webhooks was changed, or disabled because it is gone.
    UpdateWebhookEndpoint,
    /// An endpoint of webhooks was deleted.
    DeleteWebhookEndpoint,
    /// An endpoint of webhooks got another secret.
    RotateWebhookSecret,
    /// A test was sent to an endpoint of webhooks.
    TestWebhookEndpoint,
    /// An event was sent again to an endpoint of webhooks.
    RedeliverEvent,
}

impl AuditOperation {
    /// Every operation.
    pub const ALL: [Self; 28] = [
        Self::CreateOrganization,
        Self::UpdateOrganization,
        Self::PutAction,
        Self::PutPlan,
        Self::CreateGrant,
        Self::VoidGrant,
        Self::CreateAdjustment,
        Self::RefundConsumption,
        Self::PlaceHold,
        Self::ReleaseHold,
        Self::ExtendHold,
        Self::PutSubscription,
        Self::DeleteSubscription,
        Self::PutMember,
        Self::DeleteMember,
        Self::CreateApiKey,
        Self::RevokeApiKey,
        Self::CreateAlertRule,
        Self::UpdateAlertRule,
        Self::DeleteAlertRule,
        Self::PutTopUpRule,
        Self::DeleteTopUpRule,
        Self::CreateWebhookEndpoint,
        Self::UpdateWebhookEndpoint,
        Self::DeleteWebhookEndpoint,
        Self::RotateWebhookSecret,
        Self::TestWebhookEndpoint,
        Self::RedeliverEvent,
    ];

    /// The name in JSON, in the database and in the OpenAPI document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateOrganization => "createOrganization",
            Self::UpdateOrganization => "updateOrganization",
            Self::PutAction => "putAction",
            Self::PutPlan => "putPlan",
            Self::CreateGrant => "createGrant",
            Self::VoidGrant => "voidGrant",
            Self::CreateAdjustment => "createAdjustment",
            Self::RefundConsumption => "refundConsumption",
            Self::PlaceHold => "placeHold",
            Self::ReleaseHold => "releaseHold",
            Self::ExtendHold => "extendHold",
            Self::PutSubscription => "putSubscription",
            Self::DeleteSubscription => "deleteSubscription",
            Self::PutMember => "putMember",
            Self::DeleteMember => "deleteMember",
            Self::CreateApiKey => "createApiKey",
            Self::RevokeApiKey => "revokeApiKey",
            Self::CreateAlertRule => "createAlertRule",
            Self::UpdateAlertRule => "updateAlertRule",
            Self::DeleteAlertRule => "deleteAlertRule",
            Self::PutTopUpRule => "putTopUpRule",
            Self::DeleteTopUpRule => "deleteTopUpRule",
            Self::CreateWebhookEndpoint => "createWebhookEndpoint",
            Self::UpdateWebhookEndpoint => "updateWebhookEndpoint",
            Self::DeleteWebhookEndpoint => "deleteWebhookEndpoint",
            Self::RotateWebhookSecret => "rotateWebhookSecret",
            Self::TestWebhookEndpoint => "testWebhookEndpoint",
            Self::RedeliverEvent => "redeliverEvent",
        }
    }

    /// The operation of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == name)
    }
}

/// An API key as the audit log names it: never the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditKey {
    /// Its id.
    pub id: ApiKeyId,
    /// What people call it.
    pub name: String,
    /// The secret's first characters, to recognize it by.
    pub prefix: String,
}

/// Who makes a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Author {
    /// The key that the request came with; `None` where none did, as on the command line.
    pub key: Option<Arc<AuditKey>>,
    /// Whom the caller named as the one who causes it.
    pub actor: Option<Actor>,
    /// The request.
    pub request_id: Option<String>,
}

/// A change that is about to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// Whose it is; `None` is nobody's.
    pub(crate) organization_id: Option<OrganizationId>,
    pub(crate) author: Option<Arc<Author>>,
    /// Who causes it, where the request itself says so.
    pub(crate) actor: Option<Actor>,
    pub(crate) operation: AuditOperation,
    /// What was changed: an id, or a name where that is what identifies it.
    pub(crate) subject: String,
    /// What it was; `None` if it was not.
    pub(crate) before: Option<Value>,
    /// What it is; `None` if it is no more.
    pub(crate) after: Option<Value>,
    pub(crate) at: Timestamp,
}

/// The chain of what belongs to no organization.
pub(crate) const NOBODYS: Uuid = Uuid::nil();
