//! `credit_action_versions`: immutable prices.

use multicredit_domain::{Price, Quantity};
use sea_orm::entity::prelude::*;

use crate::entity::credits;
use crate::error::BadRow;

const TABLE: &str = "credit_action_versions";

/// A row of `credit_action_versions`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "credit_action_versions")]
pub struct Model {
    /// The action.
    #[sea_orm(primary_key, auto_increment = false)]
    pub action_type: String,
    /// From 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i32,
    /// What one unit costs.
    pub ai_credits_cost: i64,
    /// What one unit costs.
    pub whatsapp_credits_cost: i64,
    /// What one unit costs.
    pub email_credits_cost: i64,
    /// What one unit costs.
    pub sms_credits_cost: i64,
    /// How much quantity makes one unit.
    pub unit_size: i64,
    /// For people.
    pub description: Option<String>,
    /// Whether the action may be used.
    pub active: bool,
    /// From when it is in force.
    pub effective_at: DateTimeUtc,
    /// When it was made.
    pub created_at: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Price {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let costs = [row.ai_credits_cost, row.whatsapp_credits_cost, row.email_credits_cost, row.sms_credits_cost];
        Ok(Self {
            version: row.version,
            costs: credits(costs, TABLE, "cost")?,
            unit_size: Quantity::new(row.unit_size).map_err(|_| BadRow { table: TABLE, column: "unit_size" })?,
            active: row.active,
            effective_at: row.effective_at,
            description: row.description,
        })
    }
}
