//! `credit_movements`: every line of the ledger that is no plain consumption.

use multicredit_domain::account::Balance;
use multicredit_domain::movement::Change;
use multicredit_domain::{Movement, MovementKind};
use sea_orm::entity::prelude::*;

use crate::entity::{credits, delta};
use crate::error::BadRow;

const TABLE: &str = "credit_movements";

/// A row of `credit_movements`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "credit_movements")]
pub struct Model {
    /// Whose credits.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Dense from 1, together with the consumptions.
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
    /// What it was.
    pub kind: String,
    /// By how much what can be spent changed.
    pub ai_credits_available_change: i64,
    /// By how much what can be spent changed.
    pub whatsapp_credits_available_change: i64,
    /// By how much what can be spent changed.
    pub email_credits_available_change: i64,
    /// By how much what can be spent changed.
    pub sms_credits_available_change: i64,
    /// By how much what is held changed.
    pub ai_credits_held_change: i64,
    /// By how much what is held changed.
    pub whatsapp_credits_held_change: i64,
    /// By how much what is held changed.
    pub email_credits_held_change: i64,
    /// By how much what is held changed.
    pub sms_credits_held_change: i64,
    /// What could be spent afterwards.
    pub ai_credits_available_after: i64,
    /// What could be spent afterwards.
    pub whatsapp_credits_available_after: i64,
    /// What could be spent afterwards.
    pub email_credits_available_after: i64,
    /// What could be spent afterwards.
    pub sms_credits_available_after: i64,
    /// What was held afterwards.
    pub ai_credits_held_after: i64,
    /// What was held afterwards.
    pub whatsapp_credits_held_after: i64,
    /// What was held afterwards.
    pub email_credits_held_after: i64,
    /// What was held afterwards.
    pub sms_credits_held_after: i64,
    /// The grant that it is about.
    pub reference: Option<Uuid>,
    /// A reason given by a person.
    pub note: Option<String>,
    /// Its instant.
    pub created_at: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Movement {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let available_change = [
            row.ai_credits_available_change,
            row.whatsapp_credits_available_change,
            row.email_credits_available_change,
            row.sms_credits_available_change,
        ];
        let held_change = [
            row.ai_credits_held_change,
            row.whatsapp_credits_held_change,
            row.email_credits_held_change,
            row.sms_credits_held_change,
        ];
        let available_after = [
            row.ai_credits_available_after,
            row.whatsapp_credits_available_after,
            row.email_credits_available_after,
            row.sms_credits_available_after,
        ];
        let held_after = [
            row.ai_credits_held_after,
            row.whatsapp_credits_held_after,
            row.email_credits_held_after,
            row.sms_credits_held_after,
        ];
        Ok(Self {
            sequence: row.sequence,
            kind: MovementKind::from_name(&row.kind).ok_or(BadRow { table: TABLE, column: "kind" })?,
            change: Change { available: delta(available_change), held: delta(held_change) },
            balance_after: Balance {
                available: credits(available_after, TABLE, "available_after")?,
                held: credits(held_after, TABLE, "held_after")?,
            },
            reference: row.reference,
            note: row.note,
            created_at: row.created_at,
        })
    }
}
