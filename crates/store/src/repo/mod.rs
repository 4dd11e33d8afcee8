//! Reads, and writes to catalogues. Nothing here moves credits.
//!
//! One file a noun, each an `impl Store`, so that a caller sees one type. Every read of a tenant's table begins with the
//! organization.

pub mod action;
pub mod alert_rule;
pub mod api_key;
pub mod audit_log;
pub mod balance;
pub mod book;
pub mod consumption;
pub mod fleet;
pub mod grant;
pub mod hold;
pub mod live;
pub mod member;
pub mod movement;
pub mod organization;
pub mod plan;
pub mod raised_event;
pub mod session;
pub mod top_up;
pub mod webhook_delivery;
pub mod webhook_endpoint;

use futures_util::future::BoxFuture;
use multicredit_domain::{OrganizationId, Refusal};
use sea_orm::sea_query::LockType;
use sea_orm::{DatabaseTransaction, EntityTrait, QuerySelect, SqliteTransactionMode, TransactionOptions};
use tracing::Instrument as _;

use crate::audit::{self, Change};
use crate::entity::organizations;
use crate::error::StoreError;
use crate::reader::Reader;

/// Tells the audit log of a change to a catalogue, which must be the last thing in its transaction.
async fn audit(transaction: &DatabaseTransaction, change: Change) -> Result<(), StoreError> {
    Ok(audit::record(audit::Session::Catalogue(transaction), &[change]).await?)
}

/// Locks an organization's row, so that what is read of the organization's catalogues is what will be changed. Answers
/// the row, or [`Refusal::UnknownOrganization`].
async fn lock_organization(
    transaction: &DatabaseTransaction,
    id: OrganizationId,
) -> Result<organizations::Model, StoreError> {
    // Not FOR UPDATE: that would block inserts of rows that refer to the organization. SQLite locks no rows.
    let row = organizations::Entity::find_by_id(id.uuid()).lock(LockType::NoKeyUpdate).one(transaction).await?;
    Ok(row.ok_or(Refusal::UnknownOrganization)?)
}

/// Does catalogue writes that belong together in one transaction.
///
/// The work runs in a task of its own: a caller that hangs up must not drop a transaction half-way, which could leave it
/// open on a pooled connection and swallow what that connection writes next.
pub(crate) async fn in_transaction<T, F>(database: &Reader, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: for<'a> FnOnce(&'a DatabaseTransaction) -> BoxFuture<'a, Result<T, StoreError>> + Send + 'static,
{
    let database = database.clone();
    let task = async move {
        // IMMEDIATE: a SQLite transaction that reads before it writes fails at once if another wrote in between.
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let (_permit, transaction) = database.begin(options).await?;
        match work(&transaction).await {
            Ok(value) => {
                transaction.commit().await?;
                Ok(value)
            }
            Err(error) => {
                transaction.rollback().await?;
                Err(error)
            }
        }
    };
    // What it logs belongs to the request that asked for it.
    let task = tokio::spawn(task.in_current_span());
    task.await.unwrap_or_else(|error| Err(StoreError::Internal(error.to_string())))
}
