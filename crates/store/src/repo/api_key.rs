//! API keys. The secret is never here: only its SHA-256 comes in, and only that is compared.

use std::sync::Arc;

use futures_util::FutureExt as _;
use multicredit_domain::{ApiKeyId, OrganizationId, Timestamp};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::LockType;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::{audit, in_transaction};
use crate::audit::{AuditOperation, Author, Change, snapshot};
use crate::clock::{self, Clock};
use crate::entity::api_keys::{ActiveModel, Column, Entity, Model};
use crate::error::{BadRow, Conflict, StoreError, is_unique_violation};
use crate::page::{Page, PageRequest};
use crate::store::{Store, now};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Read everything that the key sees, and ask for quotes.
    Read,
    /// Spend.
    Consume,
    /// Grant and give back.
    Credit,
    /// Everything.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Read, Self::Consume, Self::Credit, Self::Admin];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Consume => "consume",
            Self::Credit => "credit",
            Self::Admin => "admin",
        }
    }

    /// The scope of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// A key to register.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// For people.
    pub name: String,
    /// SHA-256 of the secret.
    pub digest: [u8; 32],
    /// The secret's first characters, to recognize it by.
    pub prefix: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The only organization that it sees; `None` is all.
    pub organization_id: Option<OrganizationId>,
}

/// A registered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id, which is no secret.
    pub id: ApiKeyId,
    /// For people.
    pub name: String,
    /// The secret's first characters.
    pub prefix: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The only organization that it sees; `None` is all.
    pub organization_id: Option<OrganizationId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ceased to be valid.
    pub revoked_at: Option<Timestamp>,
}

impl TryFrom<Model> for ApiKey {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let scopes = row.scopes.split(',').map(Scope::from_name).collect::<Option<_>>();
        Ok(Self {
            id: ApiKeyId::new(row.id),
            name: row.name,
            prefix: row.prefix,
            scopes: scopes.ok_or(BadRow { table: "api_keys", column: "scopes" })?,
            organization_id: row.organization_id.map(OrganizationId::new),
            created_at: row.created_at,
            revoked_at: row.revoked_at,
        })
    }
}

impl Store {
    /// Registers a key. [`Conflict::KeyExists`] if it is registered already.
    pub async fn create_api_key(&self, new: NewApiKey) -> Result<ApiKey, StoreError> {
        let scopes = new.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",");
        let row = ActiveModel {
            id: Set(clock::new_uuid()),
            name: Set(new.name),
            key_digest: Set(new.digest.to_vec()),
            prefix: Set(new.prefix),
            scopes: Set(scopes),
            organization_id: Set(new.organization_id.map(OrganizationId::uuid)),
            created_at: Set(self.now().await?),
            revoked_at: Set(None),
        };
        let author = self.author();
        in_transaction(self.database(), move |transaction| {
            async move {
                let row = row.insert(transaction).await.map_err(|error| {
                    if is_unique_violation(&error) { Conflict::KeyExists.into() } else { StoreError::from(error) }
                })?;
                let key = ApiKey::try_from(row)?;
                let made = change(&key, AuditOperation::CreateApiKey, (None, Some(&key)), author, key.created_at);
                audit(transaction, made).await?;
                Ok(key)
            }
            .boxed()
        })
        .await
    }

    /// The key with that digest, revoked or not, if there is one.
    pub async fn api_key_by_digest(&self, digest: &[u8; 32]) -> Result<Option<ApiKey>, StoreError> {
        let row = Entity::find().filter(Column::KeyDigest.eq(digest.to_vec())).one(self.reserved()).await?;
        Ok(row.map(ApiKey::try_from).transpose()?)
    }

    /// All keys, or those bound to one organization, newest first.
    pub async fn api_keys(
        &self,
        organization_id: Option<OrganizationId>,
        page: PageRequest<ApiKeyId>,
    ) -> Result<Page<ApiKey, ApiKeyId>, StoreError> {
        let mut query = Entity::find().order_by_desc(Column::Id);
        if let Some(organization_id) = organization_id {
            query = query.filter(Column::OrganizationId.eq(organization_id.uuid()));
        }
        if let Some(after) = page.after {
            query = query.filter(Column::Id.lt(after.uuid()));
        }
        let rows = query.limit(page.fetch_limit()).all(self.database()).await?;
        let items = rows.into_iter().map(ApiKey::try_from).collect::<Result<_, _>>()?;
        Ok(Page::new(items, page.limit, |key: &ApiKey| key.id))
    }

    /// Whether anybody can administer everything: a valid admin key that is bound to no organization.
    pub async fn has_admin_key(&self) -> Result<bool, StoreError> {
        let keys = Entity::find()
            .filter(Column::RevokedAt.is_null())
            .filter(Column::OrganizationId.is_null())
            .filter(Column::Scopes.contains(Scope::Admin.as_str()))
            .count(self.database())
            .await?;
        Ok(keys > 0)
    }

    /// Ends a key's validity, once; `false` if there is no such key.
    pub async fn revoke_api_key(&self, id: ApiKeyId) -> Result<bool, StoreError> {
        let (clock, author) = (self.clock().clone(), self.author());
        in_transaction(self.database(), move |transaction| revoke(transaction, clock, id, author).boxed()).await
    }
}

async fn revoke(
    transaction: &DatabaseTransaction,
    clock: Clock,
    id: ApiKeyId,
    author: Option<Arc<Author>>,
) -> Result<bool, StoreError> {
    let row = Entity::find_by_id(id.uuid()).lock(LockType::NoKeyUpdate).one(transaction).await?;
    let Some(row) = row else { return Ok(false) };
    let before = ApiKey::try_from(row)?;
    if before.revoked_at.is_some() {
        return Ok(true);
    }
    let now = now(transaction, &clock).await?;
    let revoked = ActiveModel { id: Set(id.uuid()), revoked_at: Set(Some(now)), ..Default::default() };
    let after = ApiKey::try_from(revoked.update(transaction).await?)?;
    let revoked = change(&after, AuditOperation::RevokeApiKey, (Some(&before), Some(&after)), author, now);
    audit(transaction, revoked).await?;
    Ok(true)
}

/// The change for the audit log. What is bound to an organization is told to that organization's chain.
fn change(
    key: &ApiKey,
    operation: AuditOperation,
    (before, after): (Option<&ApiKey>, Option<&ApiKey>),
    author: Option<Arc<Author>>,
    at: Timestamp,
) -> Change {
    Change {
        organization_id: key.organization_id,
        author,
        actor: None,
        operation,
        subject: key.id.to_string(),
        before: before.map(snapshot::api_key),
        after: after.map(snapshot::api_key),
        at,
    }
}
