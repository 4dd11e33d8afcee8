//! Members: which users belong to which organizations.

use std::sync::Arc;

use futures_util::FutureExt as _;
use multicredit_domain::{OrganizationId, Refusal, Timestamp};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, ModelTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{audit, in_transaction, lock_organization};
use crate::audit::{AuditOperation, Author, Change};
use crate::clock::Clock;
use crate::entity::organization_members::{ActiveModel, Column, Entity, Model};
use crate::error::{BadRow, StoreError};
use crate::page::{Page, PageRequest};
use crate::store::{Store, now};

/// The most organizations of a user that are kept in memory. A user of more is looked up page by page.
const KEPT_MAX: u32 = 200;

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

/// Whose membership somebody changes.
struct Changing {
    organization_id: OrganizationId,
    user_id: String,
    clock: Clock,
    author: Option<Arc<Author>>,
}

impl Changing {
    async fn current(&self, transaction: &DatabaseTransaction) -> Result<Option<Model>, StoreError> {
        Ok(Entity::find_by_id((self.organization_id.uuid(), self.user_id.clone())).one(transaction).await?)
    }

    /// The change for the audit log, of a role that was and one that is.
    fn change(
        self,
        operation: AuditOperation,
        before: Option<&str>,
        after: Option<MemberRole>,
        at: Timestamp,
    ) -> Change {
        Change {
            organization_id: Some(self.organization_id),
            author: self.author,
            actor: None,
            operation,
            subject: self.user_id,
            before: before.map(|role| json!({ "role": role })),
            after: after.map(|role| json!({ "role": role.as_str() })),
            at,
        }
    }
}

async fn put(transaction: &DatabaseTransaction, changing: Changing, role: MemberRole) -> Result<Member, StoreError> {
    lock_organization(transaction, changing.organization_id).await?;
    let current = changing.current(transaction).await?;
    let now = now(transaction, &changing.clock).await?;
    let created_at = current.as_ref().map_or(now, |row| row.created_at);
    let member = Member { user_id: changing.user_id.clone(), role, created_at };
    let row = ActiveModel {
        organization_id: Set(changing.organization_id.uuid()),
        user_id: Set(member.user_id.clone()),
        role: Set(role.as_str().to_owned()),
        created_at: Set(created_at),
    };
    match &current {
        Some(current) if current.role == role.as_str() => return Ok(member),
        Some(_) => row.update(transaction).await?,
        None => row.insert(transaction).await?,
    };
    let before = current.as_ref().map(|row| row.role.as_str());
    audit(transaction, changing.change(AuditOperation::PutMember, before, Some(role), now)).await?;
    Ok(member)
}

async fn delete(transaction: &DatabaseTransaction, changing: Changing) -> Result<bool, StoreError> {
    match lock_organization(transaction, changing.organization_id).await {
        Err(StoreError::Refused(Refusal::UnknownOrganization)) => return Ok(false),
        locked => locked?,
    };
    let Some(current) = changing.current(transaction).await? else { return Ok(false) };
    let now = now(transaction, &changing.clock).await?;
    let before = current.role.clone();
    current.delete(transaction).await?;
    audit(transaction, changing.change(AuditOperation::DeleteMember, Some(&before), None, now)).await?;
    Ok(true)
}

impl Store {
    /// Makes a user a member, or changes the role of one.
    pub async fn put_member(
        &self,
        organization_id: OrganizationId,
        user_id: &str,
        role: MemberRole,
    ) -> Result<Member, StoreError> {
        let changing = self.changing(organization_id, user_id);
        let put = in_transaction(self.database(), move |transaction| put(transaction, changing, role).boxed());
        let member = put.await?;
        self.caches().user_changed(user_id).await;
        Ok(member)
    }

    /// Ends a membership; `false` if there was none.
    pub async fn delete_member(&self, organization_id: OrganizationId, user_id: &str) -> Result<bool, StoreError> {
        let changing = self.changing(organization_id, user_id);
        let delete = in_transaction(self.database(), move |transaction| delete(transaction, changing).boxed());
        let deleted = delete.await?;
        self.caches().user_changed(user_id).await;
        Ok(deleted)
    }

    fn changing(&self, organization_id: OrganizationId, user_id: &str) -> Changing {
        let (clock, author) = (self.clock().clone(), self.author());
        Changing { organization_id, user_id: user_id.to_owned(), clock, author }
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
        let load = || async { Ok(self.membership_page(user_id, None, PageRequest::first(KEPT_MAX)).await?.items) };
        let first = self.caches().get(&self.caches().memberships, &user_id.to_owned(), load).await?;
        if first.len() >= KEPT_MAX as usize {
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
        let memberships = rows.iter().map(membership).collect::<Result<_, _>>()?;
        Ok(Page::new(memberships, page.limit, |membership: &Membership| membership.organization_id))
    }
}

fn membership(row: &Model) -> Result<Membership, StoreError> {
    let organization_id = OrganizationId::new(row.organization_id);
    Ok(Membership { organization_id, role: role(row)?, created_at: row.created_at })
}
