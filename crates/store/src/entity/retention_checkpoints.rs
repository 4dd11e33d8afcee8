//! `retention_checkpoints`: what stands for the attempts of an organization that the log no longer has.
//!
//! Readers want to know where history begins, and the balance there. The sums of what was dropped are written and checked
//! in SQL alone.

use multicredit_domain::Balance;
use sea_orm::entity::prelude::*;

use crate::entity::credits;
use crate::error::BadRow;

const TABLE: &str = "retention_checkpoints";

/// What is read of a row of `retention_checkpoints`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "retention_checkpoints")]
pub struct Model {
    /// Whose history.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Where history begins: what was decided before is gone.
    pub through: DateTimeUtc,
    /// The number of the last movement before that instant.
    pub sequence: i64,
    /// What could be spent after it.
    pub ai_credits_available: i64,
    /// What could be spent after it.
    pub whatsapp_credits_available: i64,
    /// What could be spent after it.
    pub email_credits_available: i64,
    /// What could be spent after it.
    pub sms_credits_available: i64,
    /// What was held after it.
    pub ai_credits_held: i64,
    /// What was held after it.
    pub whatsapp_credits_held: i64,
    /// What was held after it.
    pub email_credits_held: i64,
    /// What was held after it.
    pub sms_credits_held: i64,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The balance where history begins.
    pub(crate) fn balance(&self) -> Result<Balance, BadRow> {
        let available = [
            self.ai_credits_available,
            self.whatsapp_credits_available,
            self.email_credits_available,
            self.sms_credits_available,
        ];
        let held = [self.ai_credits_held, self.whatsapp_credits_held, self.email_credits_held, self.sms_credits_held];
        Ok(Balance { available: credits(available, TABLE, "available")?, held: credits(held, TABLE, "held")? })
    }
}
