//! `audit_chains`: how far each chain of the audit log goes.

use sea_orm::entity::prelude::*;

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_chains")]
pub struct Model {
    /// Whose chain it is; the nil UUID is that of what belongs to no organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The number of its last line; 0 before the first.
    pub sequence: i64,
    /// The hash of its last line.
    pub hash: String,
    /// When its last line was recorded.
    pub recorded_at: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
