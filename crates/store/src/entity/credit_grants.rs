//! `credit_grants`: the lots.

use multicredit_domain::{Grant, GrantId, GrantSource, GrantState, Lot, Validity};
use sea_orm::entity::prelude::*;

use crate::entity::credits;
use crate::error::BadRow;

const TABLE: &str = "credit_grants";

/// A row of `credit_grants`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "credit_grants")]
pub struct Model {
    /// Whose credits.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// What it held at first.
    pub ai_credits_granted: i64,
    /// What it held at first.
    pub whatsapp_credits_granted: i64,
    /// What it held at first.
    pub email_credits_granted: i64,
    /// What it held at first.
    pub sms_credits_granted: i64,
    /// What was left at the last settlement.
    pub ai_credits_remaining: i64,
    /// What was left at the last settlement.
    pub whatsapp_credits_remaining: i64,
    /// What was left at the last settlement.
    pub email_credits_remaining: i64,
    /// What was left at the last settlement.
    pub sms_credits_remaining: i64,
    /// `pending`, `active`, `exhausted`, `expired` or `voided`, at the last settlement.
    pub state: String,
    /// Where it came from.
    pub source: String,
    /// Lower burns first.
    pub priority: i32,
    /// The first instant at which it may be spent.
    pub effective_at: DateTimeUtc,
    /// The instant from which it may no longer be spent.
    pub expires_at: Option<DateTimeUtc>,
    /// The caller's own name for it.
    pub reference: Option<String>,
    /// When it was granted.
    pub created_at: DateTimeUtc,
    /// When it was taken back.
    pub voided_at: Option<DateTimeUtc>,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Grant {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let bad = |column| BadRow { table: TABLE, column };
        let granted =
            [row.ai_credits_granted, row.whatsapp_credits_granted, row.email_credits_granted, row.sms_credits_granted];
        let remaining = [
            row.ai_credits_remaining,
            row.whatsapp_credits_remaining,
            row.email_credits_remaining,
            row.sms_credits_remaining,
        ];
        Ok(Self {
            lot: Lot {
                id: GrantId::new(row.id),
                granted: credits(granted, TABLE, "granted")?,
                remaining: credits(remaining, TABLE, "remaining")?,
                state: GrantState::from_name(&row.state).ok_or(bad("state"))?,
                source: GrantSource::from_name(&row.source).ok_or(bad("source"))?,
                priority: row.priority,
                validity: Validity { effective_at: row.effective_at, expires_at: row.expires_at },
                created_at: row.created_at,
                voided_at: row.voided_at,
            },
            reference: row.reference,
        })
    }
}
