//! `top_up_rules`: when an organization's credits are asked for by themselves.

use multicredit_domain::{Amount, CreditType, OrganizationId, TopUpRule, TopUpTerms};
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;

use crate::error::BadRow;

const TABLE: &str = "top_up_rules";

/// A row of `top_up_rules`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "top_up_rules")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Of which type of credits.
    #[sea_orm(primary_key, auto_increment = false)]
    pub credit_type: String,
    /// It asks where this much or less can be spent.
    pub threshold: i64,
    /// What it asks for.
    pub amount: i64,
    /// How long an answer is waited for.
    pub timeout_seconds: i64,
    /// How long it is at least from one request to the next.
    pub cooldown_seconds: i64,
    /// Within which time there are no more than `window_max` requests.
    pub window_seconds: i64,
    /// How many requests there may be within the window.
    pub window_max: i64,
    /// Whether it asks at all.
    pub active: bool,
    /// Before when there is nothing to do, for its pause and its window.
    pub waits_until: Option<DateTimeUtc>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for TopUpRule {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let bad = |column| BadRow { table: TABLE, column };
        Ok(Self {
            organization_id: OrganizationId::new(row.organization_id),
            credit_type: CreditType::from_name(&row.credit_type).ok_or(bad("credit_type"))?,
            terms: TopUpTerms {
                threshold: Amount::new(row.threshold).map_err(|_| bad("threshold"))?,
                amount: Amount::new(row.amount).map_err(|_| bad("amount"))?,
                timeout_seconds: row.timeout_seconds,
                cooldown_seconds: row.cooldown_seconds,
                window_seconds: row.window_seconds,
                window_max: row.window_max,
                active: row.active,
            },
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

impl From<&TopUpRule> for ActiveModel {
    /// Whatever was waited for by other terms is looked at anew.
    fn from(rule: &TopUpRule) -> Self {
        let terms = &rule.terms;
        Self {
            organization_id: Set(rule.organization_id.uuid()),
            credit_type: Set(rule.credit_type.as_str().to_owned()),
            threshold: Set(terms.threshold.get()),
            amount: Set(terms.amount.get()),
            timeout_seconds: Set(terms.timeout_seconds),
            cooldown_seconds: Set(terms.cooldown_seconds),
            window_seconds: Set(terms.window_seconds),
            window_max: Set(terms.window_max),
            active: Set(terms.active),
            waits_until: Set(None),
            created_at: Set(rule.created_at),
            updated_at: Set(rule.updated_at),
        }
    }
}
