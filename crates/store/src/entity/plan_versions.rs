//! `plan_versions`: immutable terms of plans.

use multicredit_domain::{Credits, PlanCode, PlanPeriod, PlanTerms};
use sea_orm::entity::prelude::*;

use crate::entity::credits;
use crate::error::BadRow;

const TABLE: &str = "plan_versions";

/// A row of `plan_versions`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "plan_versions")]
pub struct Model {
    /// The plan.
    #[sea_orm(primary_key, auto_increment = false)]
    pub code: String,
    /// From 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i32,
    /// What each period gives.
    pub ai_credits_allowance: i64,
    /// What each period gives.
    pub whatsapp_credits_allowance: i64,
    /// What each period gives.
    pub email_credits_allowance: i64,
    /// What each period gives.
    pub sms_credits_allowance: i64,
    /// `day`, `week`, `month` or `year`.
    pub period: String,
    /// How much the next period may take over; none means nothing.
    pub ai_credits_rollover_max: Option<i64>,
    /// How much the next period may take over.
    pub whatsapp_credits_rollover_max: Option<i64>,
    /// How much the next period may take over.
    pub email_credits_rollover_max: Option<i64>,
    /// How much the next period may take over.
    pub sms_credits_rollover_max: Option<i64>,
    /// Lower burns first.
    pub priority: i32,
    /// When it was made.
    pub created_at: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    fn rollover_max(&self) -> Result<Option<Credits>, BadRow> {
        let columns = [
            self.ai_credits_rollover_max,
            self.whatsapp_credits_rollover_max,
            self.email_credits_rollover_max,
            self.sms_credits_rollover_max,
        ];
        if columns.iter().all(Option::is_none) {
            return Ok(None);
        }
        // Some but not all is a row that makes no sense; no amount is negative.
        credits(columns.map(|column| column.unwrap_or(-1)), TABLE, "rollover_max").map(Some)
    }
}

impl TryFrom<Model> for PlanTerms {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let bad = |column| BadRow { table: TABLE, column };
        let allowance = [
            row.ai_credits_allowance,
            row.whatsapp_credits_allowance,
            row.email_credits_allowance,
            row.sms_credits_allowance,
        ];
        Ok(Self {
            rollover_max: row.rollover_max()?,
            version: row.version,
            allowance: credits(allowance, TABLE, "allowance")?,
            period: PlanPeriod::from_name(&row.period).ok_or(bad("period"))?,
            priority: row.priority,
            code: PlanCode::new(row.code).map_err(|_| bad("code"))?,
        })
    }
}
