//! `idempotency_keys`: what each key is bound to.

use sea_orm::entity::prelude::*;

/// A row of `idempotency_keys`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_keys")]
pub struct Model {
    /// In whose space the key is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// What stands for the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: Uuid,
    /// The request's digest.
    pub fingerprint: Uuid,
    /// What the request was.
    pub operation: String,
    /// What it made.
    pub reference: Uuid,
    /// When.
    pub reference_at: DateTimeUtc,
    /// The answer, where it cannot be rebuilt from what was made.
    pub response: Option<String>,
    /// The last day on which it is kept.
    pub expires_on: Date,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
