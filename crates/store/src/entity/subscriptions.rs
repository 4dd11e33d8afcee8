//! `subscriptions`: which plan an organization has, and which period comes next.

use multicredit_domain::{Credits, GrantId, OrganizationId, PlanTerms, Subscription, TimeZone};
use sea_orm::entity::prelude::*;
use sea_orm::{FromQueryResult, QueryResult};

use super::plan_versions;
use crate::error::{BadRow, StoreError};

/// A row of `subscriptions`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "subscriptions")]
pub struct Model {
    /// Whose it is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The plan.
    pub plan_code: String,
    /// Its version.
    pub plan_version: i32,
    /// Whose calendar counts.
    pub time_zone: String,
    /// From where periods are counted.
    pub anchor: DateTimeUtc,
    /// The number of the next period to be granted.
    pub next_index: i64,
    /// Start of the current period.
    pub period_start: Option<DateTimeUtc>,
    /// End of the current period.
    pub period_end: Option<DateTimeUtc>,
    /// The current period's lot.
    pub grant_id: Option<Uuid>,
    /// The plan from the next period on, if that changes.
    pub next_plan_code: Option<String>,
    /// Its version.
    pub next_plan_version: Option<i32>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A subscription from a row with its terms (`t_`) and those that follow (`n_`) joined to it.
pub(crate) fn read(row: &QueryResult, prefix: &str) -> Result<Subscription, StoreError> {
    let terms = PlanTerms::try_from(plan_versions::Model::from_query_result(row, "t_")?)?;
    let next_terms = plan_versions::Model::from_query_result_optional(row, "n_")?;
    let row = Model::from_query_result(row, prefix)?;
    let bad = BadRow { table: "subscriptions", column: "time_zone" };
    Ok(Subscription {
        organization_id: OrganizationId::new(row.organization_id),
        terms,
        time_zone: TimeZone::new(&row.time_zone).map_err(|_| bad)?,
        anchor: row.anchor,
        next_index: row.next_index,
        current: row.period_start.zip(row.period_end),
        grant_id: row.grant_id.map(GrantId::new),
        next_terms: next_terms.map(PlanTerms::try_from).transpose()?,
        created_at: row.created_at,
        carry: Credits::ZERO,
    })
}
