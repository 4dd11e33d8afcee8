//! `raised_events`: events that are no movements. Rows are only ever added.

use sea_orm::entity::prelude::*;

/// A row of `raised_events`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "raised_events")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Its number within the organization, dense from 1; a number is committed before the next one is given.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// What it tells of.
    pub event_type: String,
    /// When that was; it need not rise with the number.
    pub occurred_at: DateTimeUtc,
    /// What is told.
    pub data: Json,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
