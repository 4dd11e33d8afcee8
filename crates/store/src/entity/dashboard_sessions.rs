//! `dashboard_sessions`: who is logged in to the dashboard.

use sea_orm::entity::prelude::*;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "dashboard_sessions")]
pub struct Model {
    /// SHA-256 of the token that the browser keeps.
    #[sea_orm(primary_key, auto_increment = false)]
    pub token_digest: Vec<u8>,
    /// The key that was logged in with.
    pub api_key_id: Uuid,
    /// When it began.
    pub created_at: DateTimeUtc,
    /// From when on it is none.
    pub expires_at: DateTimeUtc,
}

/// The key that was logged in with.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// The key.
    #[sea_orm(belongs_to = "super::api_keys::Entity", from = "Column::ApiKeyId", to = "super::api_keys::Column::Id")]
    ApiKey,
}

impl Related<super::api_keys::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::ApiKey.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
