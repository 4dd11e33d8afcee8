//! Endpoints of webhooks. Their secrets are here, as they are, and nowhere else: neither in a log nor in the audit log.

use std::sync::Arc;

use chrono::TimeDelta;
use futures_util::FutureExt as _;
use multicredit_domain::webhook::{EventFilter, WebhookSecret};
use multicredit_domain::{EndpointId, EventType, OrganizationId, Timestamp};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, LockType};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::{audit, in_transaction, lock_organization};
use crate::audit::{AuditOperation, Author, Change, snapshot};
use crate::clock::{self, Clock};
use crate::entity::webhook_cursors;
use crate::entity::webhook_endpoints::{ActiveModel, Column, Entity};
use crate::error::{Conflict, StoreError};
use crate::page::{Page, PageRequest};
use crate::store::{Store, now};
use crate::webhook::{WebhookEndpoint, cursors};

/// How many endpoints an organization may have, and how many there may be for all organizations: each costs a request
/// for every event.
pub const WEBHOOK_ENDPOINTS_MAX: u64 = 20;

/// An endpoint to make.
#[derive(Debug, Clone)]
pub struct NewWebhookEndpoint {
    /// Whose events; `None` is those of all organizations.
    pub organization_id: Option<OrganizationId>,
    /// Where they are sent.
    pub url: String,
    /// For people.
    pub description: Option<String>,
    /// Which events.
    pub events: EventFilter,
    /// What is signed with.
    pub secret: WebhookSecret,
}

/// What is to be different about an endpoint; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct WebhookEndpointUpdate {
    /// Where events are sent.
    pub url: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Which events.
    pub events: Option<EventFilter>,
    /// Whether anything is sent.
    pub enabled: Option<bool>,
}

impl Store {
    /// Makes an endpoint, which is told of what happens from now on. [`Conflict::TooManyEndpoints`] if there are
    /// [`WEBHOOK_ENDPOINTS_MAX`] already.
    pub async fn create_webhook_endpoint(&self, new: NewWebhookEndpoint) -> Result<WebhookEndpoint, StoreError> {
        let (clock, author) = (self.clock().clone(), self.author());
        let made =
            in_transaction(self.database(), move |transaction| create(transaction, clock, new, author).boxed()).await?;
        self.webhook_interest().await?;
        Ok(made)
    }

    /// The endpoint of that id, if there is one.
    pub async fn webhook_endpoint(&self, id: EndpointId) -> Result<Option<WebhookEndpoint>, StoreError> {
        let row = Entity::find_by_id(id.uuid()).filter(Column::DeletedAt.is_null()).one(self.database()).await?;
        Ok(row.map(WebhookEndpoint::try_from).transpose()?)
    }

    /// All endpoints, or those of one organization, newest first.
    pub async fn webhook_endpoints(
        &self,
        organization_id: Option<OrganizationId>,
        page: PageRequest<EndpointId>,
    ) -> Result<Page<WebhookEndpoint, EndpointId>, StoreError> {
        let mut query = Entity::find().filter(Column::DeletedAt.is_null()).order_by_desc(Column::Id);
        if let Some(organization_id) = organization_id {
            query = query.filter(Column::OrganizationId.eq(organization_id.uuid()));
        }
        if let Some(after) = page.after {
            query = query.filter(Column::Id.lt(after.uuid()));
        }
        let rows = query.limit(page.fetch_limit()).all(self.database()).await?;
        let items = rows.into_iter().map(WebhookEndpoint::try_from).collect::<Result<_, _>>()?;
        Ok(Page::new(items, page.limit, |endpoint: &WebhookEndpoint| endpoint.id))
    }

    /// Changes an endpoint. One that gets another URL, or is enabled, is tried at once.
    pub async fn update_webhook_endpoint(
        &self,
        id: EndpointId,
        update: WebhookEndpointUpdate,
    ) -> Result<Option<WebhookEndpoint>, StoreError> {
        let changing = self.changing_endpoint(id, AuditOperation::UpdateWebhookEndpoint);
        let updated = in_transaction(self.database(), move |transaction| {
            async move { changing.apply(transaction, |endpoint, _| update.apply(endpoint)).await }.boxed()
        })
        .await?;
        self.webhook_interest().await?;
        Ok(updated)
    }

    /// Disables an endpoint whose receiver has said that it is gone.
    pub async fn disable_gone_endpoint(&self, id: EndpointId) -> Result<(), StoreError> {
        let changing = self.changing_endpoint(id, AuditOperation::UpdateWebhookEndpoint);
        let gone = |endpoint: &mut WebhookEndpoint, _| {
            endpoint.enabled = false;
            endpoint.is_gone = true;
        };
        in_transaction(self.database(), move |transaction| {
            async move { changing.apply(transaction, gone).await.map(drop) }.boxed()
        })
        .await
    }

    /// Signs with another secret, and with the present one as well for `grace` from now.
    pub async fn rotate_webhook_secret(
        &self,
        id: EndpointId,
        secret: WebhookSecret,
        grace: TimeDelta,
    ) -> Result<Option<WebhookEndpoint>, StoreError> {
        let changing = self.changing_endpoint(id, AuditOperation::RotateWebhookSecret);
        let rotate = move |endpoint: &mut WebhookEndpoint, at: Timestamp| {
            let before = std::mem::replace(&mut endpoint.secret, secret);
            endpoint.previous = (grace > TimeDelta::zero()).then_some((before, at + grace));
            endpoint.secret_made_at = at;
        };
        in_transaction(self.database(), move |transaction| {
            async move { changing.apply(transaction, rotate).await }.boxed()
        })
        .await
    }

    /// Deletes an endpoint and forgets its secrets; `false` if there is none. Its log stays for as long as logs do.
    pub async fn delete_webhook_endpoint(&self, id: EndpointId) -> Result<bool, StoreError> {
        let changing = self.changing_endpoint(id, AuditOperation::DeleteWebhookEndpoint);
        in_transaction(self.database(), move |transaction| async move { changing.delete(transaction).await }.boxed())
            .await
    }

    fn changing_endpoint(&self, id: EndpointId, operation: AuditOperation) -> Changing {
        Changing { id, operation, clock: self.clock().clone(), author: self.author() }
    }
}

impl WebhookEndpointUpdate {
    fn apply(self, endpoint: &mut WebhookEndpoint) {
        if let Some(url) = self.url {
            endpoint.url = url;
        }
        if let Some(description) = self.description {
            endpoint.description = Some(description);
        }
        if let Some(events) = self.events {
            endpoint.events = events;
        }
        if let Some(enabled) = self.enabled {
            endpoint.enabled = enabled;
            endpoint.is_gone = endpoint.is_gone && !enabled;
        }
    }
}

/// A change of an endpoint.
struct Changing {
    id: EndpointId,
    operation: AuditOperation,
    clock: Clock,
    author: Option<Arc<Author>>,
}

impl Changing {
    async fn locked(&self, transaction: &DatabaseTransaction) -> Result<Option<WebhookEndpoint>, StoreError> {
        let query = Entity::find_by_id(self.id.uuid()).filter(Column::DeletedAt.is_null());
        let row = query.lock(LockType::NoKeyUpdate).one(transaction).await?;
        Ok(row.map(WebhookEndpoint::try_from).transpose()?)
    }

    async fn apply(
        self,
        transaction: &DatabaseTransaction,
        change: impl FnOnce(&mut WebhookEndpoint, Timestamp) + Send,
    ) -> Result<Option<WebhookEndpoint>, StoreError> {
        let Some(before) = self.locked(transaction).await? else { return Ok(None) };
        let at = now(transaction, &self.clock).await?;
        let mut after = before.clone();
        change(&mut after, at);
        if after == before {
            return Ok(Some(after));
        }
        after.updated_at = at;
        row(&after).update(transaction).await?;
        begin_anew(transaction, &before, &after, at).await?;
        audit(transaction, self.change((Some(&before), Some(&after)), at)).await?;
        Ok(Some(after))
    }

    async fn delete(self, transaction: &DatabaseTransaction) -> Result<bool, StoreError> {
        let Some(before) = self.locked(transaction).await? else { return Ok(false) };
        let at = now(transaction, &self.clock).await?;
        let deleted = ActiveModel {
            id: Set(self.id.uuid()),
            enabled: Set(false),
            secret: Set(String::new()),
            previous_secret: Set(None),
            previous_until: Set(None),
            updated_at: Set(at),
            deleted_at: Set(Some(at)),
            ..Default::default()
        };
        deleted.update(transaction).await?;
        let of_endpoint = webhook_cursors::Column::EndpointId.eq(self.id.uuid());
        cursors::lock(transaction, self.id).await?;
        webhook_cursors::Entity::delete_many().filter(of_endpoint).exec(transaction).await?;
        audit(transaction, self.change((Some(&before), None), at)).await?;
        Ok(true)
    }

    fn change(&self, states: (Option<&WebhookEndpoint>, Option<&WebhookEndpoint>), at: Timestamp) -> Change {
        change(self.operation, self.author.clone(), states, at)
    }
}

/// The change for the audit log. What is of an organization is told to that organization's chain.
fn change(
    operation: AuditOperation,
    author: Option<Arc<Author>>,
    (before, after): (Option<&WebhookEndpoint>, Option<&WebhookEndpoint>),
    at: Timestamp,
) -> Change {
    let subject = before.or(after);
    Change {
        organization_id: subject.and_then(|endpoint| endpoint.organization_id),
        author,
        actor: None,
        operation,
        subject: subject.map(|endpoint| endpoint.id.to_string()).unwrap_or_default(),
        before: before.map(snapshot::webhook_endpoint),
        after: after.map(snapshot::webhook_endpoint),
        at,
    }
}

async fn create(
    transaction: &DatabaseTransaction,
    clock: Clock,
    new: NewWebhookEndpoint,
    author: Option<Arc<Author>>,
) -> Result<WebhookEndpoint, StoreError> {
    let of_owner = match new.organization_id {
        Some(id) => {
            lock_organization(transaction, id).await?;
            Column::OrganizationId.eq(id.uuid())
        }
        None => Column::OrganizationId.is_null(),
    };
    let there = Entity::find().filter(of_owner).filter(Column::DeletedAt.is_null()).count(transaction).await?;
    if there >= WEBHOOK_ENDPOINTS_MAX {
        return Err(Conflict::TooManyEndpoints.into());
    }
    let at = now(transaction, &clock).await?;
    let endpoint = WebhookEndpoint {
        id: EndpointId::new(clock::new_uuid()),
        organization_id: new.organization_id,
        url: new.url,
        description: new.description,
        events: new.events,
        enabled: true,
        is_gone: false,
        secret: new.secret,
        secret_made_at: at,
        previous: None,
        created_at: at,
        updated_at: at,
    };
    row(&endpoint).insert(transaction).await?;
    cursors::begin(transaction, endpoint.id, endpoint.organization_id, at).await?;
    audit(transaction, change(AuditOperation::CreateWebhookEndpoint, author, (None, Some(&endpoint)), at)).await?;
    Ok(endpoint)
}

fn row(endpoint: &WebhookEndpoint) -> ActiveModel {
    ActiveModel {
        id: Set(endpoint.id.uuid()),
        organization_id: Set(endpoint.organization_id.map(OrganizationId::uuid)),
        url: Set(endpoint.url.clone()),
        description: Set(endpoint.description.clone()),
        events: Set(endpoint.events.to_text()),
        wants_consumed: Set(endpoint.events.wants(EventType::CreditsConsumed)),
        wants_refused: Set(endpoint.events.wants(EventType::CreditsRefused)),
        enabled: Set(endpoint.enabled),
        is_gone: Set(endpoint.is_gone),
        secret: Set(endpoint.secret.expose()),
        secret_made_at: Set(endpoint.secret_made_at),
        previous_secret: Set(endpoint.previous.as_ref().map(|(secret, _)| secret.expose())),
        previous_until: Set(endpoint.previous.as_ref().map(|(_, until)| *until)),
        created_at: Set(endpoint.created_at),
        updated_at: Set(endpoint.updated_at),
        deleted_at: Set(None),
    }
}

/// Lets cursors follow a change: what was waiting for a broken receiver is tried at once where it may be another one, and
/// refused attempts are told from now on where they were not wanted before.
async fn begin_anew(
    transaction: &DatabaseTransaction,
    before: &WebhookEndpoint,
    after: &WebhookEndpoint,
    at: Timestamp,
) -> Result<(), StoreError> {
    use webhook_cursors::Column as Cursor;
    let of_endpoint = || Cursor::EndpointId.eq(after.id.uuid());
    let wants_refused = |endpoint: &WebhookEndpoint| endpoint.events.wants(EventType::CreditsRefused);
    let is_other = before.url != after.url || before.enabled != after.enabled;
    let wants_more = wants_refused(after) && !wants_refused(before);
    if is_other || wants_more {
        cursors::lock(transaction, after.id).await?;
    }
    if is_other {
        webhook_cursors::Entity::update_many()
            .col_expr(Cursor::Failures, Expr::value(0))
            .col_expr(Cursor::DueAt, Expr::value(at))
            .filter(of_endpoint())
            .exec(transaction)
            .await?;
    }
    if wants_more {
        webhook_cursors::Entity::update_many()
            .col_expr(Cursor::RefusedAt, Expr::value(at))
            .col_expr(Cursor::RefusedUntil, Expr::value(at))
            .filter(of_endpoint())
            .exec(transaction)
            .await?;
    }
    Ok(())
}
