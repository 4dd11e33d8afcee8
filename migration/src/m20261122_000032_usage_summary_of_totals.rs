//! The usage summary again, over the totals instead of the whole log.
//!
//! It adds the rows that are not in the totals yet, so that a refresh, however it is started, is current; and its cost
//! follows the organizations, not their history: the tail of each is one range of an index, in the one or two months that
//! it lies in.

use sea_orm_migration::{MigrationTrait, SchemaManager, prelude::DbErr, sea_orm::DeriveMigrationName};

use crate::{
    helper::{
        credits::{CREDIT_TYPES, credit_column},
        engine::{Engine, execute},
    },
    m20261122_000012_organization_usage_summary as first,
};

/// `REFRESH MATERIALIZED VIEW CONCURRENTLY` needs a unique index without a condition.
const UNIQUE_INDEX: &str =
    "CREATE UNIQUE INDEX uq_mv_organization_usage_summary ON mv_organization_usage_summary (organization_id)";

/// Making the view was a run of the job that makes it anew: so it is known at all times how old it is.
/// Nobody holds its lease, whatever clock is looked at.
const MADE: &str = "INSERT INTO background_jobs (name, leased_until, due_at, done_as_of) \
                    VALUES ('refresh_summary', '0001-01-01T00:00:00+00:00', '0001-01-01T00:00:00+00:00', now())";

/// The names of the totals, in the order of the types of credits. The report that the view comes from says `wa`.
const NAMES: [&str; 4] = ["total_ai", "total_wa", "total_email", "total_sms"];

/// Before anything happened: the tail of an organization without totals is all of its log.
const BEGINNING: &str = "'0001-01-01T00:00:00+00:00'";

fn each(f: impl Fn(&str, String) -> String) -> String {
    NAMES.iter().zip(CREDIT_TYPES).map(|(name, kind)| f(name, credit_column(kind, "consumed"))).collect()
}

/// Totals and tail beside each other, added up.
///
/// On PostgreSQL the tail is read by a lateral join, one organization after the other: only then is each a range of the
/// index whose months are known when it is read. `OFFSET 0` keeps the planner from making a join of it that reads the
/// whole log. Sums of bigints are numeric there, which readers of whole credits would
/// have to convert: hence the casts.
fn query(engine: Engine) -> String {
    let attempts = format!(
        "{} 1 AS attempts, CASE WHEN l.success THEN 0 ELSE 1 END AS refused, l.created_at AS last_at",
        each(|name, column| format!("l.{column} AS {name}, "))
    );
    let condition =
        format!("l.organization_id = c.organization_id AND l.created_at >= COALESCE(t.through, {BEGINNING})");
    let accounts = "organization_credits c LEFT JOIN usage_totals t ON t.organization_id = c.organization_id";
    let tail = match engine {
        Engine::Postgres => format!(
            "SELECT c.organization_id, total_ai, total_wa, total_email, total_sms, attempts, refused, last_at \
             FROM {accounts} \
             CROSS JOIN LATERAL (SELECT {attempts} FROM credit_consumption_logs l WHERE {condition} OFFSET 0) AS a"
        ),
        Engine::Sqlite => format!(
            "SELECT c.organization_id, {attempts} FROM {accounts} CROSS JOIN credit_consumption_logs l WHERE {condition}"
        ),
    };
    format!(
        "SELECT organization_id, {sums} CAST(SUM(attempts) AS bigint) AS transaction_count, \
         CAST(SUM(refused) AS bigint) AS refused_count, MAX(last_at) AS last_attempt_at FROM ( \
         SELECT organization_id, {totals} consumption_count + refused_count AS attempts, refused_count AS refused, \
         last_attempt_at AS last_at FROM usage_totals UNION ALL {tail}) AS parts \
         GROUP BY organization_id HAVING SUM(attempts) > 0",
        sums = each(|name, _| format!("CAST(SUM({name}) AS bigint) AS {name}, ")),
        totals = each(|name, column| format!("{column} AS {name}, ")),
    )
}

/// Makes the summary anew.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let engine = Engine::of(manager.get_database_backend())?;
        first::drop_summary(manager).await?;
        let query = query(engine);
        match engine {
            Engine::Postgres => {
                let view = format!("CREATE MATERIALIZED VIEW mv_organization_usage_summary AS {query} WITH DATA");
                execute(manager, &view).await?;
                execute(manager, UNIQUE_INDEX).await?;
                execute(manager, MADE).await
            }
            Engine::Sqlite => execute(manager, &format!("CREATE VIEW mv_organization_usage_summary AS {query}")).await,
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        first::drop_summary(manager).await?;
        // `fresh` runs every `down`, whatever has been applied: without the log there was no summary of it.
        if manager.has_table("credit_consumption_logs").await? { first::create_summary(manager).await } else { Ok(()) }
    }
}
