//! `plans`: what can be subscribed to, and how many versions each has.

use sea_orm::entity::prelude::*;

/// A row of `plans`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "plans")]
pub struct Model {
    /// The plan's name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub code: String,
    /// The version made last.
    pub latest_version: i32,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When its last version was made.
    pub updated_at: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
