//! Identities. One type for each kind of thing, so that a grant's id cannot be taken for an organization's.
//!
//! Ids are UUIDv7 (RFC 9562 section 5.7): ordered by time of creation, which keeps index pages of one organization
//! together and lets lists page by id. They are made outside this crate and handed in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The least of all.
            pub const MIN: Self = Self(Uuid::nil());

            /// The id of that UUID.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID of that id.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::from_str(text).map(Self)
            }
        }
    )+};
}

ids! {
    /// An organization: the tenant that holds credits.
    OrganizationId;
    /// A grant, which is a lot of credits.
    GrantId;
    /// An attempt to consume, successful or refused.
    ConsumptionId;
    /// A hold.
    HoldId;
    /// A refund.
    RefundId;
    /// An API key (not the secret).
    ApiKeyId;
    /// An alert rule.
    AlertRuleId;
    /// A request for credits that a top-up rule made.
    TopUpId;
    /// An endpoint of webhooks.
    EndpointId;
    /// An attempt to deliver a webhook.
    DeliveryId;
}
