//! `alert_rules`: what balances are watched for.

use multicredit_domain::{AlertMeasure, AlertRule, AlertRuleId, AlertTerms, CreditType, OrganizationId};
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;

use crate::error::BadRow;

const TABLE: &str = "alert_rules";

/// A row of `alert_rules`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "alert_rules")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose balances; `None` is everybody's.
    pub organization_id: Option<Uuid>,
    /// What people call it.
    pub name: String,
    /// Which type of credits; `None` is each.
    pub credit_type: Option<String>,
    /// `amount`, `share` or `forecast_days`.
    pub measure: String,
    /// In credits, percent or days.
    pub threshold: i64,
    /// In the same.
    pub recover_at: Option<i64>,
    /// Whether it tells anything.
    pub active: bool,
    /// From when what it means counts: states of before are not its.
    pub since: DateTimeUtc,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for AlertRule {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let bad = |column| BadRow { table: TABLE, column };
        let credit_type = row.credit_type.map(|name| CreditType::from_name(&name).ok_or(bad("credit_type")));
        Ok(Self {
            id: AlertRuleId::new(row.id),
            organization_id: row.organization_id.map(OrganizationId::new),
            name: row.name,
            credit_type: credit_type.transpose()?,
            terms: AlertTerms {
                measure: AlertMeasure::from_name(&row.measure).ok_or(bad("measure"))?,
                threshold: row.threshold,
                recover_at: row.recover_at,
            },
            active: row.active,
            since: row.since,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

impl From<&AlertRule> for ActiveModel {
    fn from(rule: &AlertRule) -> Self {
        Self {
            id: Set(rule.id.uuid()),
            organization_id: Set(rule.organization_id.map(OrganizationId::uuid)),
            name: Set(rule.name.clone()),
            credit_type: Set(rule.credit_type.map(|credit_type| credit_type.as_str().to_owned())),
            measure: Set(rule.terms.measure.as_str().to_owned()),
            threshold: Set(rule.terms.threshold),
            recover_at: Set(rule.terms.recover_at),
            active: Set(rule.active),
            since: Set(rule.since),
            created_at: Set(rule.created_at),
            updated_at: Set(rule.updated_at),
        }
    }
}
