//! How far what can be seen is complete.
//!
//! A transaction that is under way may have its instant already and cannot be seen yet. Whoever gets the organization's
//! lock without waiting knows that there is none, and that whatever comes later has a later instant: the clock at that
//! moment is how far the next snapshot is complete. Nothing is written, and nobody waits; where somebody is spending at
//! this very moment, the instant of the last movement says enough.

use multicredit_domain::{OrganizationId, Timestamp};
use sea_orm::{ConnectionTrait, DbBackend, SqliteTransactionMode, Statement, TransactionOptions};

use crate::clock::Clock;
use crate::error::StoreError;
use crate::store::{Store, now};

impl Store {
    /// The instant up to which a snapshot taken after this call has everything of the organization; `None` if somebody is
    /// moving its credits, or on SQLite anybody's.
    pub(super) async fn nothing_under_way(
        &self,
        organization_id: OrganizationId,
    ) -> Result<Option<Timestamp>, StoreError> {
        let backend = self.database().get_database_backend();
        if backend == DbBackend::Postgres {
            let lock = "SELECT clock_timestamp() AS clock FROM organization_credits WHERE organization_id = $1 \
                        FOR SHARE SKIP LOCKED";
            let statement = Statement::from_sql_and_values(backend, lock, [organization_id.uuid().into()]);
            let row = self.database().query_one_raw(statement).await?;
            let clock = row.map(|row| row.try_get("", "clock")).transpose()?;
            return Ok(clock.map(|clock| self.clock().instant(Some(clock))));
        }
        let (database, clock): (_, Clock) = (self.database().clone(), self.clock().clone());
        // In a task of its own: a caller that hangs up must not leave a transaction open on a pooled connection.
        let probe = tokio::spawn(async move {
            // The one lock of a SQLite file. Everybody else's transaction has ended once it is had.
            let options = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            };
            let (_permit, transaction) = database.begin(options).await?;
            let clock = now(&transaction, &clock).await?;
            transaction.rollback().await?;
            Ok::<_, StoreError>(clock)
        });
        match probe.await {
            Ok(Err(StoreError::Unavailable(_))) => Ok(None),
            Ok(outcome) => outcome.map(Some),
            Err(error) => Err(StoreError::Internal(error.to_string())),
        }
    }
}
