//! Running the critical queries under the engine's own explanation.

use std::time::Instant;

use multicredit_domain::Timestamp;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement, TransactionOptions};
use serde_json::Value;
use uuid::Uuid;

use super::catalogue::{self, Critical};
use super::measured::QueryFigures;
use super::query_one;
use crate::clock;
use crate::config::Engine;
use crate::error::StoreError;
use crate::ledger::explainable_call;
use crate::store::Store;

/// The organization that spends for the report, and is gone when the transaction ends.
const SCRATCH: &str = "scratch of the performance report";

/// What the scratch organization has of each type.
const SCRATCH_CREDITS: i64 = 1_000;

impl Store {
    /// The critical queries and what became of each.
    pub(super) async fn explain(&self, now: Timestamp) -> Result<Vec<QueryFigures>, StoreError> {
        let busiest = self.busiest_organization().await?.unwrap_or_else(Uuid::nil);
        let mut queries = catalogue::reads(self.engine(), busiest, now);
        let scratch = clock::new_uuid();
        if self.engine() == Engine::Postgres {
            queries.extend(self.spending(scratch, now).await?);
        }
        let mut figures = Vec::with_capacity(queries.len());
        for query in queries {
            figures.push(self.explain_one(query, scratch).await?);
        }
        Ok(figures)
    }

    /// The organization of the newest consumption: one whose history is worth reading.
    async fn busiest_organization(&self) -> Result<Option<Uuid>, StoreError> {
        let sql = "SELECT organization_id FROM credit_consumption_logs WHERE success = TRUE \
                   ORDER BY created_at DESC LIMIT 1";
        let row = query_one(self.database(), sql).await?;
        Ok(row.map(|row| row.try_get("", "organization_id")).transpose()?)
    }

    /// The functions that spend, as far as they are there and something can be spent.
    async fn spending(&self, scratch: Uuid, now: Timestamp) -> Result<Vec<Critical>, StoreError> {
        let Some((action, price)) = self.any_price(now).await? else { return Ok(Vec::new()) };
        let critical = |name, purpose, sql| Critical { name, purpose, sql, spends: true };
        let mut queries = vec![critical(
            "consume_credits_express",
            "a batch of one consumption, as the ledger asks it",
            explainable_call(scratch, clock::new_uuid(), &action, &price),
        )];
        let exists = "SELECT to_regprocedure('consume_credits_rpc(uuid, text, bigint)') IS NOT NULL AS exists";
        let has_rpc =
            query_one(self.database(), exists).await?.is_some_and(|row| row.try_get("", "exists").unwrap_or(false));
        if has_rpc {
            let sql = format!("SELECT consume_credits_rpc('{scratch}', '{action}', 1)");
            queries.push(critical("consume_credits_rpc", "a consumption by SQL", sql));
        }
        Ok(queries)
    }

    /// Runs a query twice and tells of the second time, whose plan nobody had to look anything up for. Whatever it did is
    /// rolled back.
    async fn explain_one(&self, query: Critical, scratch: Uuid) -> Result<QueryFigures, StoreError> {
        let (_permit, transaction) = self.database().begin(TransactionOptions::default()).await?;
        let run = async {
            if query.spends {
                insert_scratch(&transaction, scratch).await?;
            }
            match self.engine() {
                Engine::Postgres => {
                    explain_postgres(&transaction, &query.sql).await?;
                    explain_postgres(&transaction, &query.sql).await
                }
                Engine::Sqlite => explain_sqlite(&transaction, &query.sql).await,
            }
        };
        let explained = run.await;
        transaction.rollback().await?;
        let mut figures = match explained {
            Ok(figures) => figures,
            Err(error) => QueryFigures { error: Some(error.to_string()), ..nothing() },
        };
        query.name.clone_into(&mut figures.name);
        query.purpose.clone_into(&mut figures.purpose);
        figures.sql = query.sql;
        Ok(figures)
    }
}

fn nothing() -> QueryFigures {
    QueryFigures {
        name: String::new(),
        purpose: String::new(),
        sql: String::new(),
        execution_ms: None,
        planning_ms: None,
        rows: None,
        indexes: Vec::new(),
        full_scans: Vec::new(),
        error: None,
    }
}

async fn insert_scratch(transaction: &DatabaseTransaction, id: Uuid) -> Result<(), DbErr> {
    let types = |f: &dyn Fn(&str) -> String| multicredit_domain::CreditType::ALL.map(|it| f(it.as_str())).join(", ");
    let sql = format!(
        "INSERT INTO organizations (id, name, time_zone, status, created_at, updated_at) \
         VALUES ('{id}', '{SCRATCH}', 'UTC', 'active', now(), now()); \
         INSERT INTO organization_credits (organization_id, status, sequence, last_movement_at, settled_sequence, \
         {available}, {held}) VALUES ('{id}', 'active', 1, now(), 1, {amounts}, {zeros}); \
         INSERT INTO credit_grants (organization_id, id, state, source, priority, effective_at, created_at, {granted}, \
         {remaining}) VALUES ('{id}', '{id}', 'active', 'purchase', 10, now(), now(), {amounts}, {amounts})",
        available = types(&|it| format!("{it}_credits_available")),
        held = types(&|it| format!("{it}_credits_held")),
        granted = types(&|it| format!("{it}_credits_granted")),
        remaining = types(&|it| format!("{it}_credits_remaining")),
        amounts = types(&|_| SCRATCH_CREDITS.to_string()),
        zeros = types(&|_| "0".to_owned()),
    );
    transaction.execute_unprepared(&sql).await.map(drop)
}

async fn explain_postgres(transaction: &DatabaseTransaction, sql: &str) -> Result<QueryFigures, DbErr> {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}");
    let statement = Statement::from_string(transaction.get_database_backend(), explain);
    let row = transaction.query_one_raw(statement).await?.ok_or_else(|| DbErr::RecordNotFound(sql.to_owned()))?;
    let explained: Value = row.try_get_by_index(0)?;
    Ok(read_plan(&explained))
}

/// What PostgreSQL's explanation says.
fn read_plan(explained: &Value) -> QueryFigures {
    let top = &explained[0];
    let mut figures = nothing();
    figures.execution_ms = top["Execution Time"].as_f64();
    figures.planning_ms = top["Planning Time"].as_f64();
    figures.rows = whole(&top["Plan"]["Actual Rows"]);
    collect(&top["Plan"], &mut figures);
    figures
}

fn whole(number: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "a number of rows; newer versions write it with a fraction")]
    number.as_i64().or_else(|| number.as_f64().map(|rows| rows.round() as i64))
}

fn collect(node: &Value, figures: &mut QueryFigures) {
    let add = |to: &mut Vec<String>, name: Option<&str>| {
        if let Some(name) = name
            && !to.iter().any(|known| known == name)
        {
            to.push(name.to_owned());
        }
    };
    // A node that was planned and never run read nothing.
    if node["Actual Loops"].as_f64() != Some(0.0) {
        add(&mut figures.indexes, node["Index Name"].as_str());
        if node["Node Type"] == "Seq Scan" {
            add(&mut figures.full_scans, node["Relation Name"].as_str());
        }
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        collect(child, figures);
    }
}

async fn explain_sqlite(transaction: &DatabaseTransaction, sql: &str) -> Result<QueryFigures, DbErr> {
    let backend = transaction.get_database_backend();
    let plan = Statement::from_string(backend, format!("EXPLAIN QUERY PLAN {sql}"));
    let mut figures = nothing();
    for row in transaction.query_all_raw(plan).await? {
        let step: String = row.try_get("", "detail")?;
        read_step(&step, &mut figures);
    }
    let run = async || {
        let started = Instant::now();
        let rows = transaction.query_all_raw(Statement::from_string(backend, sql.to_owned())).await?;
        Ok::<_, DbErr>((started.elapsed(), rows.len()))
    };
    run().await?;
    let (took, rows) = run().await?;
    figures.execution_ms = Some(took.as_secs_f64() * 1e3);
    figures.rows = i64::try_from(rows).ok();
    Ok(figures)
}

/// What a line of SQLite's plan says: `SEARCH t USING INDEX i (a=?)`, `SCAN t`, `SCAN t USING COVERING INDEX i`.
fn read_step(step: &str, figures: &mut QueryFigures) {
    let mut words = step.split_ascii_whitespace();
    let (verb, table) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let rest: Vec<&str> = words.collect();
    let index = rest.iter().position(|word| *word == "INDEX").and_then(|at| rest.get(at + 1));
    if let Some(index) = index {
        figures.indexes.push((*index).to_owned());
    } else if rest.contains(&"KEY") {
        figures.indexes.push(format!("{table} (primary key)"));
    } else if verb == "SCAN" {
        figures.full_scans.push(table.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_of_postgres_names_times_rows_indexes_and_full_scans() {
        let figures = read_plan(&json!([{
            "Plan": { "Node Type": "Nested Loop", "Actual Rows": 1, "Actual Loops": 1, "Plans": [
                { "Node Type": "Index Scan", "Index Name": "organizations_pkey", "Actual Loops": 1 },
                { "Node Type": "Index Scan", "Index Name": "organizations_pkey", "Actual Loops": 1 },
                { "Node Type": "Seq Scan", "Relation Name": "organization_credits", "Actual Loops": 1 },
                { "Node Type": "Seq Scan", "Relation Name": "credit_grants", "Actual Loops": 0 },
            ] },
            "Planning Time": 0.148, "Execution Time": 1.326
        }]));
        assert_eq!((figures.planning_ms, figures.execution_ms, figures.rows), (Some(0.148), Some(1.326), Some(1)));
        assert_eq!(figures.indexes, ["organizations_pkey"]);
        assert_eq!(figures.full_scans, ["organization_credits"]);
    }

    #[test]
    fn a_plan_of_sqlite_names_indexes_and_full_scans() {
        let mut figures = nothing();
        for step in [
            "SEARCH o USING INDEX sqlite_autoindex_organizations_1 (id=?)",
            "SCAN credit_grants",
            "SEARCH credit_holds USING COVERING INDEX idx_credit_holds_open (organization_id=?)",
            "SEARCH plans USING PRIMARY KEY (code=?)",
            "USE TEMP B-TREE FOR ORDER BY",
        ] {
            read_step(step, &mut figures);
        }
        assert_eq!(
            figures.indexes,
            ["sqlite_autoindex_organizations_1", "idx_credit_holds_open", "plans (primary key)"]
        );
        assert_eq!(figures.full_scans, ["credit_grants"]);
    }
}
