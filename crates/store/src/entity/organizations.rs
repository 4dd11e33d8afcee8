//! `organizations`: the tenants.

use multicredit_domain::{ExternalId, Organization, OrganizationId, OrganizationStatus, TimeZone};
use sea_orm::entity::prelude::*;

use crate::error::BadRow;

/// A row of `organizations`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "organizations")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// The customer's own name for it; unique.
    pub external_id: Option<String>,
    /// Of the IANA database.
    pub time_zone: String,
    /// `active`, `frozen` or `closed`.
    pub status: String,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Organization {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let bad = |column| BadRow { table: "organizations", column };
        Ok(Self {
            id: OrganizationId::new(row.id),
            name: row.name,
            external_id: row.external_id.map(ExternalId::new).transpose().map_err(|_| bad("external_id"))?,
            time_zone: TimeZone::new(&row.time_zone).map_err(|_| bad("time_zone"))?,
            status: OrganizationStatus::from_name(&row.status).ok_or(bad("status"))?,
            created_at: row.created_at,
        })
    }
}
