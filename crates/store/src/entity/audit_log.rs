//! `audit_log`: one line for every change that is not a consumption. Lines are only ever added.

use sea_orm::entity::prelude::*;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_log")]
pub struct Model {
    /// Whose chain it stands in; the nil UUID is that of what belongs to no organization.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// Its number in the chain, dense from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
    /// When it was recorded; never before the line before.
    pub created_at: DateTimeUtc,
    /// What was done.
    pub operation: String,
    /// What it was done to.
    pub subject: String,
    /// The key that it was done with.
    pub api_key_id: Option<Uuid>,
    /// What people called the key.
    pub api_key_name: Option<String>,
    /// The first characters of the key's secret.
    pub api_key_prefix: Option<String>,
    /// Who caused it, in the caller's words.
    pub actor: Option<String>,
    /// The request that it was done by.
    pub request_id: Option<String>,
    /// What it was.
    pub before: Option<Json>,
    /// What it is.
    pub after: Option<Json>,
    /// The hash of all this and of the hash before.
    pub hash: String,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
