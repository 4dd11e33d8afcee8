//! The schema of multicredit for PostgreSQL 15+ and SQLite: tables, indexes, SQL functions, views, and the starting
//! catalogue of actions. It is a crate of its own so that `migration up` can run in a deployment without the server,
//! with another role.
//!
//! Both engines have the same tables and columns. One migration is one file and one concern; what has been released is
//! never edited. Everything goes through the functions here, because they see to it that one process migrates at a
//! time (the module `exclusive` says how); the migrator of sea-orm underneath does not.

mod error;
mod exclusive;
mod helper;
mod task;

mod m20261122_000001_organizations;
mod m20261122_000002_organization_members;
mod m20261122_000003_organization_credits;
mod m20261122_000004_credit_actions;
mod m20261122_000005_credit_grants;
mod m20261122_000006_credit_draws;
mod m20261122_000007_credit_movements;
mod m20261122_000008_credit_consumption_logs;
mod m20261122_000009_consumption_log_indexes;
mod m20261122_000010_idempotency_keys;
mod m20261122_000011_api_keys;
mod m20261122_000012_organization_usage_summary;
mod m20261122_000013_starting_catalogue;
mod m20261122_000014_credit_holds;
mod m20261122_000015_credit_refunds;
mod m20261122_000016_plans;
mod m20261122_000017_subscriptions;
mod m20261122_000018_organization_credits_due;
mod m20261122_000019_express_path;
mod m20261122_000020_consume_credits_rpc;
mod m20261122_000021_hot_tables;
mod m20261122_000030_usage;
mod m20261122_000031_background_jobs;
mod m20261122_000032_usage_summary_of_totals;
mod m20261122_000033_jobs_of_servers;
mod m20261122_000040_performance_reports;
mod m20261123_000041_express_keys;
mod m20261123_000050_retention_checkpoints;
mod m20261123_000060_dashboard_sessions;
mod m20261123_000070_audit_log;
mod m20261123_000075_webhook_endpoints;
mod m20261123_000076_webhook_deliveries;
mod m20261123_000078_raised_events;
mod m20261123_000079_alert_rules;
mod m20261123_000080_top_ups;
mod m20261123_000085_fences_stay;
mod m20261123_000087_rollover_by_type;
mod m20261130_000088_express_records;

#[cfg(test)]
mod tests;

use sea_orm_migration::{IntoSchemaManagerConnection, MigrationTrait, MigratorTrait, sea_orm::DatabaseConnection};

pub use error::MigrationError;
pub use task::{State, Step};

use exclusive::WAIT_MAX;
use task::Task;

/// The list of migrations, in their order. Private, since its own `up` and `down` exclude nobody.
struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261122_000001_organizations::Migration),
            Box::new(m20261122_000002_organization_members::Migration),
            Box::new(m20261122_000003_organization_credits::Migration),
            Box::new(m20261122_000004_credit_actions::Migration),
            Box::new(m20261122_000005_credit_grants::Migration),
            Box::new(m20261122_000006_credit_draws::Migration),
            Box::new(m20261122_000007_credit_movements::Migration),
            Box::new(m20261122_000008_credit_consumption_logs::Migration),
            Box::new(m20261122_000009_consumption_log_indexes::Migration),
            Box::new(m20261122_000010_idempotency_keys::Migration),
            Box::new(m20261122_000011_api_keys::Migration),
            Box::new(m20261122_000012_organization_usage_summary::Migration),
            Box::new(m20261122_000013_starting_catalogue::Migration),
            Box::new(m20261122_000014_credit_holds::Migration),
            Box::new(m20261122_000015_credit_refunds::Migration),
            Box::new(m20261122_000016_plans::Migration),
            Box::new(m20261122_000017_subscriptions::Migration),
            Box::new(m20261122_000018_organization_credits_due::Migration),
            Box::new(m20261122_000019_express_path::Migration),
            Box::new(m20261122_000020_consume_credits_rpc::Migration),
            Box::new(m20261122_000021_hot_tables::Migration),
            Box::new(m20261122_000030_usage::Migration),
            Box::new(m20261122_000031_background_jobs::Migration),
            Box::new(m20261122_000032_usage_summary_of_totals::Migration),
            Box::new(m20261122_000033_jobs_of_servers::Migration),
            Box::new(m20261122_000040_performance_reports::Migration),
            Box::new(m20261123_000041_express_keys::Migration),
            Box::new(m20261123_000050_retention_checkpoints::Migration),
            Box::new(m20261123_000060_dashboard_sessions::Migration),
            Box::new(m20261123_000070_audit_log::Migration),
            Box::new(m20261123_000075_webhook_endpoints::Migration),
            Box::new(m20261123_000076_webhook_deliveries::Migration),
            Box::new(m20261123_000078_raised_events::Migration),
            Box::new(m20261123_000079_alert_rules::Migration),
            Box::new(m20261123_000080_top_ups::Migration),
            Box::new(m20261123_000085_fences_stay::Migration),
            Box::new(m20261123_000087_rollover_by_type::Migration),
            Box::new(m20261130_000088_express_records::Migration),
        ]
    }
}

/// Applies what is pending and answers the names of what it applied; waits while another process migrates.
///
/// Cheap when there is nothing to do: it then only reads. A database that is ahead of this program is left alone.
///
/// # Errors
///
/// [`MigrationError::Busy`] if another process did not finish in time, [`MigrationError::Unknown`] if the database has
/// migrations of another release while some of this one are pending, and what the database says. On SQLite an error
/// leaves the schema as it was; on PostgreSQL the migrations before the one that failed stay applied.
pub async fn migrate_up(db: &DatabaseConnection) -> Result<Vec<String>, MigrationError> {
    exclusive::run(db, Task::Up, WAIT_MAX).await
}

/// Reverts the last `steps` migrations, or all of them with `None`, and answers their names, last applied first.
///
/// What the reverted tables held is lost. After the last one nothing of ours is left in the database.
///
/// # Errors
///
/// As [`migrate_up`], [`MigrationError::Unknown`] whenever the database has migrations of another release.
pub async fn down(db: &DatabaseConnection, steps: Option<u32>) -> Result<Vec<String>, MigrationError> {
    exclusive::run(db, Task::Down(steps), WAIT_MAX).await
}

/// Drops everything of ours, functions and data included, applies every migration, and answers their names.
///
/// # Errors
///
/// As [`down`].
pub async fn fresh(db: &DatabaseConnection) -> Result<Vec<String>, MigrationError> {
    exclusive::run(db, Task::Fresh, WAIT_MAX).await
}

/// Every migration of this program and where it stands, then those only the database knows. Changes nothing.
///
/// # Errors
///
/// What the database says.
pub async fn status(db: &DatabaseConnection) -> Result<Vec<Step>, MigrationError> {
    Ok(task::steps(db).await?)
}

/// The names of this program's migrations that the database does not have: all of them if it has nothing at all.
///
/// Changes nothing and needs no more than the right to read, so that a server can refuse to start on a schema that is
/// behind. A schema that is ahead has nothing pending.
///
/// # Errors
///
/// What the database says.
pub async fn pending<'c>(db: impl IntoSchemaManagerConnection<'c> + Copy) -> Result<Vec<String>, MigrationError> {
    Ok(task::names(&task::steps(db).await?, State::Pending))
}
