//! `organization_credits`: the one row an organization that every movement locks.

use multicredit_domain::{Account, OrganizationId, OrganizationStatus};
use sea_orm::entity::prelude::*;

use crate::entity::credits;
use crate::error::BadRow;

const TABLE: &str = "organization_credits";

/// A row of `organization_credits`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "organization_credits")]
pub struct Model {
    /// Whose balance.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Spendable, as of the last settlement; exact while no boundary is due.
    pub ai_credits_available: i64,
    /// Spendable.
    pub whatsapp_credits_available: i64,
    /// Spendable.
    pub email_credits_available: i64,
    /// Spendable.
    pub sms_credits_available: i64,
    /// Set aside by open holds.
    pub ai_credits_held: i64,
    /// Set aside by open holds.
    pub whatsapp_credits_held: i64,
    /// Set aside by open holds.
    pub email_credits_held: i64,
    /// Set aside by open holds.
    pub sms_credits_held: i64,
    /// `organizations.status`, mirrored to be read under this row's lock.
    pub status: String,
    /// The number of the last movement.
    pub sequence: i64,
    /// Its instant.
    pub last_movement_at: DateTimeUtc,
    /// The earliest instant at which the set of lots changes by itself.
    pub next_boundary_at: Option<DateTimeUtc>,
    /// Up to which movement the lots are settled.
    pub settled_sequence: i64,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Account {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let available = [
            row.ai_credits_available,
            row.whatsapp_credits_available,
            row.email_credits_available,
            row.sms_credits_available,
        ];
        let held = [row.ai_credits_held, row.whatsapp_credits_held, row.email_credits_held, row.sms_credits_held];
        Ok(Self {
            organization_id: OrganizationId::new(row.organization_id),
            status: OrganizationStatus::from_name(&row.status).ok_or(BadRow { table: TABLE, column: "status" })?,
            available: credits(available, TABLE, "available")?,
            held: credits(held, TABLE, "held")?,
            sequence: row.sequence,
            last_movement_at: row.last_movement_at,
            next_boundary_at: row.next_boundary_at,
            settled_sequence: row.settled_sequence,
        })
    }
}
