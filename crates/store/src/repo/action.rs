//! The catalogue of actions and their prices.

use std::sync::Arc;

use futures_util::FutureExt as _;
use multicredit_domain::{Action, ActionType, Credits, Price, Quantity, Refusal, Timestamp};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Statement,
};
use serde::{Deserialize, Serialize};

use super::{audit, in_transaction};
use crate::audit::{AuditOperation, Author, Change, snapshot};
use crate::clock::Clock;
use crate::entity::{credit_action_versions, credit_actions};
use crate::error::{BadRow, StoreError};
use crate::ledger::PRICE_LOCK;
use crate::page::{Page, PageRequest};
use crate::store::{Store, now};

/// A new version of an action's price.
#[derive(Debug, Clone)]
pub struct NewPrice {
    /// What one unit costs.
    pub costs: Credits,
    /// How much quantity makes one unit.
    pub unit_size: Quantity,
    /// For people.
    pub description: Option<String>,
    /// Whether the action may be used.
    pub active: bool,
    /// From when it is in force; `None` is at once.
    pub effective_at: Option<Timestamp>,
}

/// An action as it is stored.
#[derive(Debug, Clone)]
pub struct StoredAction {
    /// The action, with its price in force and those to come.
    pub action: Action,
    /// When it was first made.
    pub created_at: Timestamp,
    /// The version made last, in force or not.
    pub latest: Price,
}

impl Store {
    /// Adds a version to an action's prices, and the action if there is none. What was charged before stays as it is.
    ///
    /// [`Refusal::InvalidField`] if `effective_at` lies in the past: what has been charged cannot be charged anew.
    pub async fn put_action(&self, action_type: ActionType, price: NewPrice) -> Result<StoredAction, StoreError> {
        let (clock, author) = (self.clock().clone(), self.author());
        let put = in_transaction(self.database(), move |transaction| {
            put(transaction, clock, action_type, price, author).boxed()
        });
        let stored = put.await?;
        self.caches().action_changed(&stored.action.action_type).await;
        Ok(stored)
    }

    /// The action of that name, active or not, to be shown; [`Refusal::UnknownAction`] if there is none.
    pub async fn action(&self, action_type: &ActionType) -> Result<StoredAction, StoreError> {
        let entry = self.caches().get(&self.caches().actions, action_type, || self.action_entry(action_type)).await?;
        // A price that was still to come may have come.
        let has_upcoming = entry.prices.iter().any(|price| price.effective_at > entry.as_of);
        let now = if has_upcoming { self.now().await? } else { entry.as_of };
        entry.stored(action_type, now).map_err(Into::into)
    }

    async fn action_entry(&self, action_type: &ActionType) -> Result<ActionEntry, StoreError> {
        let row = credit_actions::Entity::find_by_id(action_type.as_str()).one(self.database()).await?;
        let row = row.ok_or(Refusal::UnknownAction)?;
        let versions = versions(self.database(), [row.action_type.clone()]).await?;
        ActionEntry::new(&row, versions, self.now().await?)
    }

    /// All actions by name.
    pub async fn actions(&self, page: PageRequest<ActionType>) -> Result<Page<StoredAction, ActionType>, StoreError> {
        let mut query = credit_actions::Entity::find().order_by_asc(credit_actions::Column::ActionType);
        if let Some(after) = &page.after {
            query = query.filter(credit_actions::Column::ActionType.gt(after.as_str()));
        }
        let rows = query.limit(page.fetch_limit()).all(self.database()).await?;
        let versions = versions(self.database(), rows.iter().map(|row| row.action_type.clone())).await?;
        let now = self.now().await?;
        let items = rows.into_iter().map(|row| stored(row, &versions, now)).collect::<Result<_, _>>()?;
        Ok(Page::new(items, page.limit, |stored: &StoredAction| stored.action.action_type.clone()))
    }

    /// All versions of an action's price; none if there is no such action.
    pub(crate) async fn prices(&self, action_type: &ActionType) -> Result<Vec<Price>, StoreError> {
        let versions = versions(self.database(), [action_type.as_str().to_owned()]).await?;
        Ok(versions.into_iter().map(Price::try_from).collect::<Result<_, _>>()?)
    }
}

async fn put(
    transaction: &DatabaseTransaction,
    clock: Clock,
    action_type: ActionType,
    price: NewPrice,
    author: Option<Arc<Author>>,
) -> Result<StoredAction, StoreError> {
    let backend = transaction.get_database_backend();
    if backend == sea_orm::DbBackend::Postgres {
        // Waits for the batches under way and holds back new ones until the version is there, so that every movement
        // from its instant on is charged by it (`ledger::read` takes the same lock shared).
        let lock = "SELECT pg_advisory_xact_lock($1)";
        transaction.execute_raw(Statement::from_sql_and_values(backend, lock, [PRICE_LOCK.into()])).await?;
    }
    let now = now(transaction, &clock).await?;
    let effective_at = price.effective_at.unwrap_or(now);
    if effective_at < now {
        return Err(Refusal::InvalidField { field: "effective_at", message: "must not be in the past" }.into());
    }
    let existing = credit_actions::Entity::find_by_id(action_type.as_str()).one(transaction).await?;
    let version = existing.as_ref().map_or(0, |row| row.latest_version) + 1;
    let row = credit_actions::ActiveModel {
        action_type: Set(action_type.as_str().to_owned()),
        latest_version: Set(version),
        created_at: Set(existing.as_ref().map_or(now, |row| row.created_at)),
        updated_at: Set(now),
    };
    let row = if existing.is_some() { row.update(transaction).await? } else { row.insert(transaction).await? };
    let [ai, whatsapp, email, sms] = price.costs.to_array().map(multicredit_domain::Amount::get);
    let new_version = credit_action_versions::ActiveModel {
        action_type: Set(action_type.as_str().to_owned()),
        version: Set(version),
        ai_credits_cost: Set(ai),
        whatsapp_credits_cost: Set(whatsapp),
        email_credits_cost: Set(email),
        sms_credits_cost: Set(sms),
        unit_size: Set(price.unit_size.get()),
        description: Set(price.description),
        active: Set(price.active),
        effective_at: Set(effective_at),
        created_at: Set(now),
    };
    new_version.insert(transaction).await?;
    let versions = versions(transaction, [row.action_type.clone()]).await?;
    let before = versions.iter().find(|other| other.version == version - 1).cloned().map(Price::try_from);
    let stored = stored(row, &versions, now)?;
    let change = Change {
        organization_id: None,
        author,
        actor: None,
        operation: AuditOperation::PutAction,
        subject: stored.action.action_type.to_string(),
        before: before.transpose()?.as_ref().map(snapshot::price),
        after: Some(snapshot::price(&stored.latest)),
        at: now,
    };
    audit(transaction, change).await?;
    Ok(stored)
}

async fn versions(
    database: &impl ConnectionTrait,
    names: impl IntoIterator<Item = String>,
) -> Result<Vec<credit_action_versions::Model>, StoreError> {
    let query = credit_action_versions::Entity::find().filter(credit_action_versions::Column::ActionType.is_in(names));
    Ok(query.all(database).await?)
}

fn stored(
    row: credit_actions::Model,
    versions: &[credit_action_versions::Model],
    now: Timestamp,
) -> Result<StoredAction, StoreError> {
    let mine = versions.iter().filter(|version| version.action_type == row.action_type).cloned();
    let entry = ActionEntry::new(&row, mine.collect(), now)?;
    let bad = BadRow { table: "credit_actions", column: "action_type" };
    let action_type = ActionType::new(row.action_type).map_err(|_| bad)?;
    Ok(entry.stored(&action_type, now)?)
}

/// An action with all its prices: what does not change with time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ActionEntry {
    prices: Vec<Price>,
    latest_version: i32,
    created_at: Timestamp,
    /// When it was read.
    as_of: Timestamp,
}

impl ActionEntry {
    fn new(
        row: &credit_actions::Model,
        versions: Vec<credit_action_versions::Model>,
        as_of: Timestamp,
    ) -> Result<Self, StoreError> {
        let prices = versions.into_iter().map(Price::try_from).collect::<Result<_, _>>()?;
        Ok(Self { prices, latest_version: row.latest_version, created_at: row.created_at, as_of })
    }

    fn stored(&self, action_type: &ActionType, now: Timestamp) -> Result<StoredAction, BadRow> {
        let latest = self.prices.iter().find(|price| price.version == self.latest_version).cloned();
        Ok(StoredAction {
            action: Action::at(action_type.clone(), self.prices.clone(), now),
            created_at: self.created_at,
            latest: latest.ok_or(BadRow { table: "credit_actions", column: "latest_version" })?,
        })
    }
}
