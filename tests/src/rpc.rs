//! `consume_credits_rpc`, called as anybody calls it who talks SQL to the database.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use multicredit_domain::OrganizationId;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, Value};

use crate::TestDb;

/// Connections to a database, past the product's code.
#[derive(Debug)]
pub struct Rpc(DatabaseConnection);

impl Rpc {
    /// To the test's database, which is on PostgreSQL.
    pub async fn connect(db: &TestDb) -> anyhow::Result<Self> {
        Ok(Self(db.connect().await?))
    }

    /// The function as it is called from outside.
    pub async fn consume(
        &self,
        organization_id: OrganizationId,
        action: &str,
        quantity: i64,
    ) -> anyhow::Result<serde_json::Value> {
        let values = [organization_id.uuid().into(), action.into(), quantity.into()];
        self.answer("SELECT consume_credits_rpc($1, $2, $3)", values).await
    }

    /// The rule beneath it, at an instant that the caller chooses.
    pub async fn consume_at(
        &self,
        organization_id: OrganizationId,
        action: &str,
        quantity: i64,
        at: DateTime<Utc>,
    ) -> anyhow::Result<serde_json::Value> {
        let values = [organization_id.uuid().into(), action.into(), quantity.into(), at.into()];
        self.answer("SELECT consume_credits_at($1, $2, $3, credit_new_id(), $4)", values).await
    }

    /// The one value that a query answers.
    pub async fn answer<T: sea_orm::TryGetable, const N: usize>(
        &self,
        sql: &str,
        values: [Value; N],
    ) -> anyhow::Result<T> {
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        let row = self.0.query_one_raw(statement).await?.context("the query answered nothing")?;
        Ok(row.try_get_by_index(0)?)
    }
}
