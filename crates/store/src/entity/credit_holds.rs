//! `credit_holds`: credits set aside.

use multicredit_domain::{ActionType, Actor, ConsumptionId, Hold, HoldId, HoldState, Quantity};
use sea_orm::entity::prelude::*;

use crate::entity::credits;
use crate::error::BadRow;

const TABLE: &str = "credit_holds";

/// A row of `credit_holds`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "credit_holds")]
pub struct Model {
    /// Whose credits.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// What it is for.
    pub action_type: String,
    /// How much of it was expected.
    pub quantity: i64,
    /// The price version at which it is captured.
    pub price_version: i32,
    /// What was set aside.
    pub ai_credits_held: i64,
    /// What was set aside.
    pub whatsapp_credits_held: i64,
    /// What was set aside.
    pub email_credits_held: i64,
    /// What was set aside.
    pub sms_credits_held: i64,
    /// `open`, `captured`, `released` or `expired`, at the last settlement.
    pub state: String,
    /// The movement that placed it.
    pub sequence: i64,
    /// Who asked for it.
    pub actor: Option<String>,
    /// When it was placed.
    pub created_at: DateTimeUtc,
    /// The instant from which it is no more.
    pub expires_at: DateTimeUtc,
    /// When it came to its end.
    pub finished_at: Option<DateTimeUtc>,
    /// What it was captured as.
    pub consumption_id: Option<Uuid>,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Hold {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let bad = |column| BadRow { table: TABLE, column };
        let held = [row.ai_credits_held, row.whatsapp_credits_held, row.email_credits_held, row.sms_credits_held];
        Ok(Self {
            id: HoldId::new(row.id),
            action: ActionType::new(row.action_type).map_err(|_| bad("action_type"))?,
            quantity: Quantity::new(row.quantity).map_err(|_| bad("quantity"))?,
            price_version: row.price_version,
            credits: credits(held, TABLE, "held")?,
            state: HoldState::from_name(&row.state).ok_or(bad("state"))?,
            sequence: row.sequence,
            actor: row.actor.map(Actor::new).transpose().map_err(|_| bad("actor"))?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            finished_at: row.finished_at,
            consumption_id: row.consumption_id.map(ConsumptionId::new),
        })
    }
}
