//! The audit log, newest first. It is written where the changes are ([`crate::audit`]).

use multicredit_domain::{ApiKeyId, OrganizationId, Timestamp};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value;
use uuid::Uuid;

use crate::audit::{AuditOperation, NOBODYS};
use crate::entity::audit_log::{Column, Entity, Model};
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::store::Store;

/// Which lines are wanted; `None` is all.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of that organization.
    pub organization_id: Option<OrganizationId>,
    /// Of that operation.
    pub operation: Option<AuditOperation>,
    /// Of changes that came with that key.
    pub api_key_id: Option<ApiKeyId>,
    /// From this instant on.
    pub from: Option<Timestamp>,
    /// Before this instant.
    pub to: Option<Timestamp>,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Whose it is; `None` is nobody's.
    pub organization_id: Option<OrganizationId>,
    /// Its number in the chain of its organization, dense from 1.
    pub sequence: i64,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// What was done, by its name in the OpenAPI document. A newer release may know others than [`AuditOperation`] has.
    pub operation: String,
    /// What it was done to.
    pub subject: String,
    /// The key that the request came with.
    pub api_key_id: Option<ApiKeyId>,
    /// What people called it then.
    pub api_key_name: Option<String>,
    /// The first characters of its secret.
    pub api_key_prefix: Option<String>,
    /// Whom the caller named as the one who caused it.
    pub actor: Option<String>,
    /// The request.
    pub request_id: Option<String>,
    /// What it was; `None` if it was not.
    pub before: Option<Value>,
    /// What it is; `None` if it is no more.
    pub after: Option<Value>,
    /// The SHA-256 of all this and of the line before.
    pub hash: String,
}

impl From<Model> for AuditLine {
    fn from(row: Model) -> Self {
        Self {
            organization_id: (row.organization_id != NOBODYS).then(|| OrganizationId::new(row.organization_id)),
            sequence: row.sequence,
            created_at: row.created_at,
            operation: row.operation,
            subject: row.subject,
            api_key_id: row.api_key_id.map(ApiKeyId::new),
            api_key_name: row.api_key_name,
            api_key_prefix: row.api_key_prefix,
            actor: row.actor,
            request_id: row.request_id,
            before: row.before,
            after: row.after,
            hash: row.hash,
        }
    }
}

/// A place in the audit log. Instants never decrease along a chain, so one order serves a chain and all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPosition {
    /// The instant of the last line seen.
    pub created_at: Timestamp,
    /// Its chain; the nil UUID is that of what belongs to no organization.
    pub chain: Uuid,
    /// Its number.
    pub sequence: i64,
}

impl Store {
    /// Lines of the audit log, newest first.
    pub async fn audit_log(
        &self,
        filter: AuditFilter,
        page: PageRequest<AuditPosition>,
    ) -> Result<Page<AuditLine, AuditPosition>, StoreError> {
        let mut query = Entity::find();
        if let Some(organization_id) = filter.organization_id {
            query = query.filter(Column::OrganizationId.eq(organization_id.uuid()));
        }
        if let Some(operation) = filter.operation {
            query = query.filter(Column::Operation.eq(operation.as_str()));
        }
        if let Some(api_key_id) = filter.api_key_id {
            query = query.filter(Column::ApiKeyId.eq(api_key_id.uuid()));
        }
        if let Some(from) = filter.from {
            query = query.filter(Column::CreatedAt.gte(from));
        }
        if let Some(to) = filter.to {
            query = query.filter(Column::CreatedAt.lt(to));
        }
        if let Some(AuditPosition { created_at, chain, sequence }) = page.after {
            // The first half alone bounds the index range; the rest decides within one instant.
            let in_chain = Condition::all().add(Column::OrganizationId.eq(chain)).add(Column::Sequence.lt(sequence));
            let within = Condition::any()
                .add(Column::CreatedAt.lt(created_at))
                .add(Column::OrganizationId.lt(chain))
                .add(in_chain);
            query = query.filter(Column::CreatedAt.lte(created_at)).filter(within);
        }
        let rows = query
            .order_by_desc(Column::CreatedAt)
            .order_by_desc(Column::OrganizationId)
            .order_by_desc(Column::Sequence)
            .limit(page.fetch_limit())
            .all(self.database())
            .await?;
        let position = |row: &Model| AuditPosition {
            created_at: row.created_at,
            chain: row.organization_id,
            sequence: row.sequence,
        };
        let Page { items, next } = Page::new(rows, page.limit, position);
        Ok(Page { items: items.into_iter().map(AuditLine::from).collect(), next })
    }
}
