//! `webhook_cursors`: how far each endpoint was told of each organization.

use sea_orm::entity::prelude::*;

/// A row of `webhook_cursors`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_cursors")]
pub struct Model {
    /// Of whom.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// To whom.
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint_id: Uuid,
    /// The next movement.
    pub sequence: i64,
    /// The next of its events.
    pub place: i32,
    /// Nothing that is left lies before.
    pub told_at: DateTimeUtc,
    /// The last refused attempt lies there,
    pub refused_at: DateTimeUtc,
    /// and is this one.
    pub refused_id: Uuid,
    /// A fence: refused attempts before it can be told.
    pub refused_until: DateTimeUtc,
    /// The next raised event.
    pub raised_number: i64,
    /// How often the next event failed.
    pub failures: i32,
    /// Not to be tried before.
    pub due_at: DateTimeUtc,
    /// Who had it last.
    pub lease: Option<Uuid>,
    /// Whoever has it has it until then.
    pub leased_until: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
