//! Members: which users belong to which organizations.

use multicredit_domain::{OrganizationId, Timestamp};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};

use crate::entity::organization_members::{ActiveModel, Column, Entity, Model};
use crate::error::{BadRow, StoreError};
use crate::page::{Page, PageRequest};
use crate::store::Store;

/// The most organizations of a user that are kept in memory. A user of more is looked up page by page.
const KEPT_MAX: usize = 200;

/// What a member may do in the customer's own system; it limits nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// Owns the organization.
    Owner,
    /// Administers it.
    Admin,
    /// Works in it.
    Member,
    /// Pays for it.
    Billing,
}

impl MemberRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Member, Self::Billing];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Billing => "billing",
        }
    }

    /// The role of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// A user of an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user, by the customer's own name.
    pub user_id: String,
    /// What the user may do.
    pub role: MemberRole,
    /// Since when.
    pub created_at: Timestamp,
}

/// An organization of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The organization.
    pub organization_id: OrganizationId,
    /// What the user may do in it.
    pub role: MemberRole,
    /// Since when.
    pub created_at: Timestamp,
}

fn role(row: &Model) -> Result<MemberRole, BadRow> {
    MemberRole::from_name(&row.role).ok_or(BadRow { table: "organization_members", column: "role" })
}

impl Store {
    /// Makes a user a member, or changes the role of one.
    pub async fn put_member(
        &self,
        organization_id: OrganizationId,
        user_id: &str,
        role: MemberRole,
    ) -> Result<Member, StoreError> {
        self.organization(organization_id).await?;
        let row = ActiveModel {
            organization_id: Set(organization_id.uuid()),
            user_id: Set(user_id.to_owned()),
            role: Set(role.as_str().to_owned()),
            created_at: Set(self.now().await?),
        };
        let conflict =
            OnConflict::columns([Column::OrganizationId, Column::UserId]).update_column(Column::Role).to_owned();
        Entity::insert(row).on_conflict(conflict).exec_without_returning(self.database()).await?;
        self.caches().user_changed(user_id).await;
        let row = Entity::find_by_id((organization_id.uuid(), user_id.to_owned())).one(self.database()).await?;
        let row = row.ok_or(StoreError::NotFound)?;
        Ok(Member { role: self::role(&row)?, user_id: row.user_id, created_at: row.created_at })
    }

    /// Ends a membership; `false` if there was none.
    pub async fn delete_member(&self, organization_id: OrganizationId, user_id: &str) -> Result<bool, StoreError> {
        let key = (organization_id.uuid(), user_id.to_owned());
        let deleted = Entity::delete_by_id(key).exec(self.database()).await?.rows_affected > 0;
        self.caches().user_changed(user_id).await;
        Ok(deleted)
    }

    /// The organization's members by user.
    pub async fn members(
        &self,
        organization_id: OrganizationId,
        page: PageRequest<String>,
    ) -> Result<Page<Member, String>, StoreError> {
        let mut query =
            Entity::find().filter(Column::OrganizationId.eq(organization_id.uuid())).order_by_asc(Column::UserId);
        if let Some(after) = &page.after {
            query = query.filter(Column::UserId.gt(after.as_str()));
        }
        let rows = query.limit(page.fetch_limit()).all(self.database()).await?;
        let mut members = Vec::with_capacity(rows.len());
        for row in rows {
            members.push(Member { role: role(&row)?, user_id: row.user_id, created_at: row.created_at });
        }
        Ok(Page::new(members, page.limit, |member: &Member| member.user_id.clone()))
    }

    /// The organizations of a user, or that one of them which `only` names.
    pub async fn memberships(
        &self,
        user_id: &str,
        only: Option<OrganizationId>,
        page: PageRequest<OrganizationId>,
    ) -> Result<Page<Membership, OrganizationId>, StoreError> {
        let load = || self.first_memberships(user_id);
        let first = self.caches().get(&self.caches().memberships, &user_id.to_owned(), load).await?;
        if first.len() >= KEPT_MAX {
            return self.membership_page(user_id, only, page).await;
        }
        let is_wanted = |membership: &&Membership| {
            only.is_none_or(|only| membership.organization_id == only)
                && page.after.is_none_or(|after| membership.organization_id > after)
        };
        let wanted = usize::try_from(page.fetch_limit()).unwrap_or(usize::MAX);
        let memberships = first.iter().filter(is_wanted).take(wanted).copied().collect();
        Ok(Page::new(memberships, page.limit, |membership: &Membership| membership.organization_id))
    }

    /// The first organizations of a user, as many as are kept.
    async fn first_memberships(&self, user_id: &str) -> Result<Vec<Membership>, StoreError> {
        let limit = u64::try_from(KEPT_MAX).unwrap_or(u64::MAX);
        let query = Entity::find().filter(Column::UserId.eq(user_id)).order_by_asc(Column::OrganizationId);
        query.limit(limit).all(self.database()).await?.into_iter().map(membership).collect()
    }

    async fn membership_page(
        &self,
        user_id: &str,
        only: Option<OrganizationId>,
        page: PageRequest<OrganizationId>,
    ) -> Result<Page<Membership, OrganizationId>, StoreError> {
        let mut query = Entity::find().filter(Column::UserId.eq(user_id)).order_by_asc(Column::OrganizationId);
        if let Some(only) = only {
            query = query.filter(Column::OrganizationId.eq(only.uuid()));
        }
        if let Some(after) = page.after {
            query = query.filter(Column::OrganizationId.gt(after.uuid()));
        }
        let rows = query.limit(page.fetch_limit()).all(self.database()).await?;
        let memberships = rows.into_iter().map(membership).collect::<Result<_, _>>()?;
        Ok(Page::new(memberships, page.limit, |membership: &Membership| membership.organization_id))
    }
}

fn membership(row: Model) -> Result<Membership, StoreError> {
    let organization_id = OrganizationId::new(row.organization_id);
    Ok(Membership { organization_id, role: role(&row)?, created_at: row.created_at })
}
