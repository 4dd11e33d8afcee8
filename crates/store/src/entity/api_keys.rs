//! `api_keys`: who may call. The secret itself is nowhere; its SHA-256 is.

use sea_orm::entity::prelude::*;

/// A row of `api_keys`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_keys")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// SHA-256 of the secret.
    pub key_digest: Vec<u8>,
    /// The secret's first characters, to recognize it by.
    pub prefix: String,
    /// Comma separated.
    pub scopes: String,
    /// The only organization that it sees, if it is bound.
    pub organization_id: Option<Uuid>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it ceased to be valid.
    pub revoked_at: Option<DateTimeUtc>,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
