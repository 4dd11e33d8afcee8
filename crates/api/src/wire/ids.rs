//! Ids: UUIDs. Which kind of thing an id names is known by where it stands.

use multicredit_domain::{
    AlertRuleId, ApiKeyId, ConsumptionId, DeliveryId, EndpointId, EventId, GrantId, HoldId, TopUpId,
};
use poem_openapi::registry::MetaSchema;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::Text;
use super::text::Reason;

impl Text for Uuid {
    const NAME: &'static str = "Uuid";

    fn schema() -> MetaSchema {
        MetaSchema {
            example: Some("0199a3d2-7c50-7b2e-8a41-5f0c9d3e1b27".into()),
            ..MetaSchema::new_with_format("string", "uuid")
        }
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        Self::try_parse(text).map_err(|_| "must be a UUID".into())
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }
}

macro_rules! ids {
    ($($id:ty),+) => {$(
        impl Text for $id {
            const NAME: &'static str = "Uuid";

            fn schema() -> MetaSchema {
                <Uuid as Text>::schema()
            }

            fn parse(text: &str) -> Result<Self, Reason> {
                <Uuid as Text>::parse(text).map(Self::new)
            }

            fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.uuid().serialize(serializer)
            }
        }
    )+};
}

// Not `OrganizationId`: an organization's id that comes from outside is a `Tenant`, which only an authenticated caller
// can open.
ids!(AlertRuleId, ApiKeyId, ConsumptionId, DeliveryId, EndpointId, GrantId, HoldId, TopUpId);

impl Text for EventId {
    const NAME: &'static str = "EventId";

    fn schema() -> MetaSchema {
        MetaSchema {
            description: Some("What an event is known by, the same however often it is told: `webhook-id`."),
            pattern: Some("^evt_[0-9a-f]{32}(_[0-9]+_[0-9]+|_r[0-9]+)?$".to_owned()),
            example: Some("evt_0199a3d27c507b2e8a415f0c9d3e1b27_1_0".into()),
            ..MetaSchema::new("string")
        }
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        Self::parse(text).ok_or_else(|| "must be the id of an event".into())
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
