//! `alert_states`: how it stands with each rule and balance.

use multicredit_domain::{AlertRuleId, AlertState, CreditType};
use sea_orm::entity::prelude::*;

use crate::error::BadRow;

const TABLE: &str = "alert_states";

/// A row of `alert_states`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "alert_states")]
pub struct Model {
    /// Whose balance.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The rule.
    #[sea_orm(primary_key, auto_increment = false)]
    pub rule_id: Uuid,
    /// The type of credits.
    #[sea_orm(primary_key, auto_increment = false)]
    pub credit_type: String,
    /// `idle`, `armed` or `fired`.
    pub state: String,
    /// The `since` of the rule that this is a state of.
    pub since: DateTimeUtc,
    /// When it became so.
    pub changed_at: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The rule, the type of credits, and the state.
    pub(crate) fn parts(&self) -> Result<(AlertRuleId, CreditType, AlertState), BadRow> {
        let bad = |column| BadRow { table: TABLE, column };
        Ok((
            AlertRuleId::new(self.rule_id),
            CreditType::from_name(&self.credit_type).ok_or(bad("credit_type"))?,
            AlertState::from_name(&self.state).ok_or(bad("state"))?,
        ))
    }
}
