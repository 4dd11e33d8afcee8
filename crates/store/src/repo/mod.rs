//! Reads, and writes to catalogues. Nothing here moves credits.
//!
//! One file a noun, each an `impl Store`, so that a caller sees one type. Every read of a tenant's table begins with the
//! organization.

pub mod action;
pub mod api_key;
pub mod balance;
pub mod book;
pub mod consumption;
pub mod grant;
pub mod hold;
pub mod member;
pub mod movement;
pub mod organization;
pub mod plan;

use futures_util::future::BoxFuture;
use sea_orm::{DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait};

use crate::error::StoreError;

/// Does catalogue writes that belong together in one transaction.
///
/// The work runs in a task of its own: a caller that hangs up must not drop a transaction half-way, which could leave it
/// open on a pooled connection and swallow what that connection writes next.
async fn in_transaction<T, F>(database: &DatabaseConnection, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: for<'a> FnOnce(&'a DatabaseTransaction) -> BoxFuture<'a, Result<T, StoreError>> + Send + 'static,
{
    let database = database.clone();
    let task = tokio::spawn(async move {
        // IMMEDIATE: a SQLite transaction that reads before it writes fails at once if another wrote in between.
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let transaction = database.begin_with_options(options).await?;
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
    });
    task.await.unwrap_or_else(|error| Err(StoreError::Internal(error.to_string())))
}
