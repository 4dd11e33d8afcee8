//! `webhook_deliveries`: attempts to deliver webhooks.

use multicredit_domain::{DeliveryId, EndpointId, OrganizationId};
use sea_orm::entity::prelude::*;

use crate::error::BadRow;
use crate::webhook::{Delivery, DeliveryOutcome, DeliveryReason};

const TABLE: &str = "webhook_deliveries";

/// A row of `webhook_deliveries`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_deliveries")]
pub struct Model {
    /// Whose event; the nil UUID is nobody's.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// To whom.
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint_id: Uuid,
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Which event.
    pub event_id: String,
    /// Of which type.
    pub event_type: String,
    /// Why it was sent: `event`, `redelivery` or `test`.
    pub reason: String,
    /// How often it had been tried, with this time.
    pub attempt: i32,
    /// `delivered`, `failed`, `given_up` or `gone`.
    pub outcome: String,
    /// The status of the answer, if there was one.
    pub status_code: Option<i32>,
    /// Why there was none, or none that counts.
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: i64,
    /// When it ended.
    pub created_at: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Delivery {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let bad = |column| BadRow { table: TABLE, column };
        Ok(Self {
            id: DeliveryId::new(row.id),
            organization_id: (!row.organization_id.is_nil()).then(|| OrganizationId::new(row.organization_id)),
            endpoint_id: EndpointId::new(row.endpoint_id),
            event_id: row.event_id,
            event_type: row.event_type,
            reason: DeliveryReason::from_name(&row.reason).ok_or(bad("reason"))?,
            attempt: u32::try_from(row.attempt).map_err(|_| bad("attempt"))?,
            outcome: DeliveryOutcome::from_name(&row.outcome).ok_or(bad("outcome"))?,
            status_code: row.status_code.map(u16::try_from).transpose().map_err(|_| bad("status_code"))?,
            error: row.error,
            duration_ms: row.duration_ms,
            created_at: row.created_at,
        })
    }
}
