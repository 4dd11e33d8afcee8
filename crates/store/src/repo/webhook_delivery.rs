//! The log of webhooks: every attempt, newest first, for some weeks.

use std::sync::LazyLock;

use chrono::TimeDelta;
use futures_util::FutureExt as _;
use multicredit_domain::{DeliveryId, EndpointId, OrganizationId, Timestamp};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde_json::json;
use uuid::Uuid;

use super::{audit, in_transaction};
use crate::audit::{AuditOperation, Change};
use crate::clock;
use crate::entity::webhook_deliveries::{ActiveModel, Column, Entity};
use crate::error::{BadRow, StoreError};
use crate::page::{Page, PageRequest};
use crate::sql::{Cell, Column as SqlColumn, Kind, Statement};
use crate::store::Store;
use crate::webhook::{Delivery, DeliveryOutcome, DeliveryReason, NewDelivery};

/// How long attempts are kept: long enough to look into what somebody missed a month ago.
pub(crate) const KEPT: TimeDelta = TimeDelta::days(30);

/// How many are deleted at once: a few milliseconds, for which SQLite makes every other writer wait.
const AT_ONCE: u64 = 2_000;

/// The longest error that is kept, in characters.
const ERROR_CHARS_MAX: usize = 300;

/// Which attempts are wanted; `None` is all.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// About events of that organization.
    pub organization_id: Option<OrganizationId>,
    /// With that outcome.
    pub outcome: Option<DeliveryOutcome>,
    /// Of that event.
    pub event_id: Option<String>,
}

static PRUNE: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![SqlColumn::new("before", Kind::Time)], |d| {
        format!(
            "DELETE FROM webhook_deliveries WHERE (organization_id, endpoint_id, id) IN (SELECT w.organization_id, \
             w.endpoint_id, w.id FROM webhook_deliveries w WHERE w.created_at < (SELECT v.before FROM {}) \
             ORDER BY w.created_at LIMIT {AT_ONCE})",
            d.source
        )
    })
});

static INSERT_ALL: LazyLock<Statement> = LazyLock::new(|| {
    let columns = [
        ("organization_id", Kind::Uuid),
        ("endpoint_id", Kind::Uuid),
        ("id", Kind::Uuid),
        ("event_id", Kind::Text),
        ("event_type", Kind::Text),
        ("reason", Kind::Text),
        ("attempt", Kind::Int),
        ("outcome", Kind::Text),
        ("status_code", Kind::Int),
        ("error", Kind::Text),
        ("duration_ms", Kind::BigInt),
        ("created_at", Kind::Time),
    ];
    Statement::insert_of_text("webhook_deliveries", columns.map(|(name, kind)| SqlColumn::new(name, kind)).into())
});

static COUNT_OLD: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![SqlColumn::new("before", Kind::Time)], |d| {
        format!(
            "SELECT COUNT(*) AS old FROM webhook_deliveries w WHERE w.created_at < (SELECT v.before FROM {})",
            d.source
        )
    })
});

/// Adds an attempt to the log.
pub(crate) async fn insert(
    database: &impl ConnectionTrait,
    new: NewDelivery,
    now: Timestamp,
) -> Result<Delivery, StoreError> {
    let bad = |column| BadRow { table: "webhook_deliveries", column };
    let row = ActiveModel {
        organization_id: Set(new.organization_id.map_or(Uuid::nil(), OrganizationId::uuid)),
        endpoint_id: Set(new.endpoint_id.uuid()),
        id: Set(clock::new_uuid()),
        event_id: Set(new.event_id),
        event_type: Set(new.event_type),
        reason: Set(new.reason.as_str().to_owned()),
        attempt: Set(i32::try_from(new.attempt).map_err(|_| bad("attempt"))?),
        outcome: Set(new.outcome.as_str().to_owned()),
        status_code: Set(new.status_code.map(i32::from)),
        error: Set(new.error.as_deref().map(shortened)),
        duration_ms: Set(new.duration_ms),
        created_at: Set(now),
    };
    Ok(row.insert(database).await?.try_into()?)
}

/// Adds attempts to the log.
pub(crate) async fn insert_all(
    transaction: &DatabaseTransaction,
    new: Vec<NewDelivery>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut rows = INSERT_ALL.rows();
    for delivery in new {
        rows.cell(Cell::Uuid(delivery.organization_id.map_or(Uuid::nil(), OrganizationId::uuid)))
            .cell(Cell::Uuid(delivery.endpoint_id.uuid()))
            .cell(Cell::Uuid(clock::new_uuid()))
            .cell(Cell::Text(delivery.event_id))
            .cell(Cell::Text(delivery.event_type))
            .cell(Cell::Static(delivery.reason.as_str()))
            .cell(Cell::Int(delivery.attempt.into()))
            .cell(Cell::Static(delivery.outcome.as_str()))
            .cell(Cell::opt(delivery.status_code, |status| Cell::Int(status.into())))
            .cell(Cell::opt(delivery.error, |error| Cell::Text(shortened(&error))))
            .cell(Cell::Int(delivery.duration_ms))
            .cell(Cell::Time(now))
            .end();
    }
    if !rows.is_empty() {
        INSERT_ALL.query_in(transaction, &rows).await?;
    }
    Ok(())
}

fn shortened(error: &str) -> String {
    error.chars().take(ERROR_CHARS_MAX).collect()
}

impl Store {
    /// Records what somebody had sent by hand: a redelivery or a test.
    pub async fn record_manual_delivery(
        &self,
        owner: Option<OrganizationId>,
        new: NewDelivery,
    ) -> Result<Delivery, StoreError> {
        let now = self.now().await?;
        let author = self.author();
        let operation = match new.reason {
            DeliveryReason::Test => AuditOperation::TestWebhookEndpoint,
            DeliveryReason::Event | DeliveryReason::Redelivery => AuditOperation::RedeliverEvent,
        };
        in_transaction(self.database(), move |transaction| {
            async move {
                let made = insert(transaction, new, now).await?;
                let change = Change {
                    organization_id: owner,
                    author,
                    actor: None,
                    operation,
                    subject: made.endpoint_id.to_string(),
                    before: None,
                    after: Some(json!({
                        "event_id": made.event_id,
                        "event_type": made.event_type,
                        "outcome": made.outcome.as_str(),
                    })),
                    at: now,
                };
                audit(transaction, change).await?;
                Ok(made)
            }
            .boxed()
        })
        .await
    }

    /// Attempts of an endpoint, newest first.
    pub async fn webhook_deliveries(
        &self,
        endpoint_id: EndpointId,
        filter: DeliveryFilter,
        page: PageRequest<DeliveryId>,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        let mut query = Entity::find().filter(Column::EndpointId.eq(endpoint_id.uuid()));
        if let Some(organization_id) = filter.organization_id {
            query = query.filter(Column::OrganizationId.eq(organization_id.uuid()));
        }
        if let Some(outcome) = filter.outcome {
            query = query.filter(Column::Outcome.eq(outcome.as_str()));
        }
        if let Some(event_id) = filter.event_id {
            query = query.filter(Column::EventId.eq(event_id));
        }
        if let Some(after) = page.after {
            query = query.filter(Column::Id.lt(after.uuid()));
        }
        let rows = query.order_by_desc(Column::Id).limit(page.fetch_limit()).all(self.database()).await?;
        let items = rows.into_iter().map(Delivery::try_from).collect::<Result<_, _>>()?;
        Ok(Page::new(items, page.limit, |delivery: &Delivery| delivery.id))
    }

    /// Deletes the attempts that are older than is kept, some at a time, and answers how many.
    pub(crate) async fn prune_deliveries(&self) -> Result<u64, StoreError> {
        let mut rows = PRUNE.rows();
        rows.cell(Cell::Time(self.now().await? - KEPT)).end();
        let mut connection = self.job_connection().await?;
        let mut pruned = 0;
        loop {
            let deleted = connection.execute(&PRUNE, &rows).await?;
            pruned += deleted;
            if deleted < AT_ONCE {
                break;
            }
        }
        connection.close().await?;
        Ok(pruned)
    }

    pub(crate) async fn old_deliveries(&self) -> Result<u64, StoreError> {
        let mut rows = COUNT_OLD.rows();
        rows.cell(Cell::Time(self.now().await? - KEPT)).end();
        let found = COUNT_OLD.query(self.database(), &rows).await?;
        let old: i64 = found.first().map(|row| row.try_get("", "old")).transpose()?.unwrap_or_default();
        Ok(u64::try_from(old).unwrap_or_default())
    }
}
