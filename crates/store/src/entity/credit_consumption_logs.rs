//! `credit_consumption_logs`: one row an attempt to consume, refused ones too.

use multicredit_domain::consume::Outcome;
use multicredit_domain::{
    ActionType, Actor, Consume, Consumption, ConsumptionId, Credits, HoldId, Metadata, OrganizationId, Quantity,
};
use sea_orm::entity::prelude::*;

use crate::entity::credits;
use crate::error::BadRow;

const TABLE: &str = "credit_consumption_logs";

/// A row of `credit_consumption_logs`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "credit_consumption_logs")]
pub struct Model {
    /// Whose credits.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// What was done.
    pub action_type: String,
    /// How often, or how much.
    pub quantity: i64,
    /// What was spent; 0 where it was refused.
    pub ai_credits_consumed: i64,
    /// What was spent.
    pub whatsapp_credits_consumed: i64,
    /// What was spent.
    pub email_credits_consumed: i64,
    /// What was spent.
    pub sms_credits_consumed: i64,
    /// Whether it was spent.
    pub success: bool,
    /// Why not.
    pub error_code: Option<String>,
    /// The caller's own.
    pub metadata: Option<Json>,
    /// The movement's instant.
    pub created_at: DateTimeUtc,
    /// When it happened, if the caller said so.
    pub occurred_at: Option<DateTimeUtc>,
    /// The movement's number; none where it was refused.
    pub sequence: Option<i64>,
    /// The price version that was charged.
    pub price_version: Option<i32>,
    /// What could be spent afterwards; none where it was refused.
    pub ai_credits_available_after: Option<i64>,
    /// What could be spent afterwards.
    pub whatsapp_credits_available_after: Option<i64>,
    /// What could be spent afterwards.
    pub email_credits_available_after: Option<i64>,
    /// What could be spent afterwards.
    pub sms_credits_available_after: Option<i64>,
    /// The hold that it was captured from.
    pub hold_id: Option<Uuid>,
    /// Who caused it.
    pub actor: Option<String>,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    fn available_after(&self) -> Result<Credits, BadRow> {
        let columns = [
            self.ai_credits_available_after,
            self.whatsapp_credits_available_after,
            self.email_credits_available_after,
            self.sms_credits_available_after,
        ];
        // NULL in a successful row makes no sense; no amount is negative.
        credits(columns.map(|column| column.unwrap_or(-1)), TABLE, "available_after")
    }
}

impl TryFrom<Model> for Consumption {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let bad = |column| BadRow { table: TABLE, column };
        let consumed = [
            row.ai_credits_consumed,
            row.whatsapp_credits_consumed,
            row.email_credits_consumed,
            row.sms_credits_consumed,
        ];
        let outcome = if row.success {
            Outcome::Spent { sequence: row.sequence.ok_or(bad("sequence"))?, available: row.available_after()? }
        } else {
            Outcome::Refused { error_code: row.error_code.ok_or(bad("error_code"))? }
        };
        Ok(Self {
            id: ConsumptionId::new(row.id),
            organization_id: OrganizationId::new(row.organization_id),
            consumed: credits(consumed, TABLE, "consumed")?,
            request: Consume {
                action: ActionType::new(row.action_type).map_err(|_| bad("action_type"))?,
                quantity: Quantity::new(row.quantity).map_err(|_| bad("quantity"))?,
                occurred_at: row.occurred_at,
                metadata: row.metadata.map(Metadata::from_stored).transpose().map_err(|_| bad("metadata"))?,
                actor: row.actor.map(Actor::new).transpose().map_err(|_| bad("actor"))?,
            },
            hold_id: row.hold_id.map(HoldId::new),
            price_version: row.price_version,
            outcome,
            created_at: row.created_at,
        })
    }
}
