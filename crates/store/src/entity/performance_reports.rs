//! `performance_reports`: how the database was, at some time.

use sea_orm::entity::prelude::*;

/// A saved report.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "performance_reports")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// When it was measured.
    pub created_at: DateTimeUtc,
    /// Which period it was saved for on the schedule; `None` where somebody asked for it.
    pub period: Option<String>,
    /// Its grade.
    pub grade: String,
    /// The report.
    pub content: Json,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
