//! `alert_cursors`: up to where organizations were looked at for alerts, and how far their raised events go.

use sea_orm::entity::prelude::*;

/// A row of `alert_cursors`. Its lock is what raising an event takes.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "alert_cursors")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The last movement that was looked at.
    pub sequence: i64,
    /// When it was made, or later, but not after the next one.
    pub moved_at: DateTimeUtc,
    /// What could be spent after it.
    pub ai_credits_available: i64,
    /// What could be spent after it.
    pub whatsapp_credits_available: i64,
    /// What could be spent after it.
    pub email_credits_available: i64,
    /// What could be spent after it.
    pub sms_credits_available: i64,
    /// The last grant of the type up to it.
    pub ai_credits_base: i64,
    /// The last grant of the type up to it.
    pub whatsapp_credits_base: i64,
    /// The last grant of the type up to it.
    pub email_credits_base: i64,
    /// The last grant of the type up to it.
    pub sms_credits_base: i64,
    /// The number of the last event that was raised; 0 is none.
    pub last_number: i64,
    /// When its forecast was last looked at.
    pub forecast_at: Option<DateTimeUtc>,
    /// When it was looked at.
    pub updated_at: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
