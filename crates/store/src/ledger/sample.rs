//! Measuring consumptions without leaving any: on a scratch organization, in a transaction that is rolled back.
//!
//! The same statements and the same decision as the portable path, one consumption after the other. What is missing is
//! the commit, which nobody can measure and take back.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use chrono::DateTime;
use multicredit_domain::{ActionType, Consume, OrganizationId, Quantity};

use super::decide::decide;
use super::{Request, Task, read, write};
use crate::clock;
use crate::config::{Engine, StoreConfig};
use crate::error::{AttemptError, StoreError};
use crate::sql::{Cell, Column, Connection, Kind, Statement, credit_columns};

/// What the scratch organization has of each type.
const CREDITS: i64 = 1_000_000;

static INSERT_ORGANIZATION: LazyLock<Statement> = LazyLock::new(|| {
    let columns = [
        ("id", Kind::Uuid),
        ("name", Kind::Text),
        ("time_zone", Kind::Text),
        ("status", Kind::Text),
        ("created_at", Kind::Time),
        ("updated_at", Kind::Time),
    ];
    Statement::insert("organizations", columns.map(|(name, kind)| Column::new(name, kind)).into())
});

static INSERT_ACCOUNT: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns = vec![
        Column::new("organization_id", Kind::Uuid),
        Column::new("status", Kind::Text),
        Column::new("sequence", Kind::BigInt),
        Column::new("last_movement_at", Kind::Time),
        Column::new("settled_sequence", Kind::BigInt),
    ];
    columns.extend(credit_columns("available").chain(credit_columns("held")));
    Statement::insert("organization_credits", columns)
});

/// How long that many consumptions took, each.
pub(crate) async fn sample(
    engine: Engine,
    config: &StoreConfig,
    action: &ActionType,
    count: usize,
) -> Result<Vec<Duration>, AttemptError> {
    let mut connection = Connection::open(engine, config).await?;
    connection.begin().await?;
    let sampled = spend(&mut connection, config, action, count).await;
    connection.rollback().await?;
    connection.close().await?;
    sampled
}

async fn spend(
    connection: &mut Connection,
    config: &StoreConfig,
    action: &ActionType,
    count: usize,
) -> Result<Vec<Duration>, AttemptError> {
    let organization_id = OrganizationId::new(clock::new_uuid());
    insert_scratch(connection, organization_id).await?;
    let quantity = Quantity::new(1).map_err(|error| StoreError::Internal(error.to_string()))?;
    let request = Consume { action: action.clone(), quantity, occurred_at: None, metadata: None, actor: None };
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let id = clock::new_uuid();
        let task =
            Task { organization_id, id, request: Request::Consume(request.clone()), binding: None, author: None };
        let started = Instant::now();
        let facts = read::read(connection, &config.clock, &[&task]).await?;
        let (verdicts, effects) = decide(facts, &[&task])?;
        write::write(connection, &effects).await?;
        took.push(started.elapsed());
        for verdict in verdicts {
            verdict?;
        }
    }
    Ok(took)
}

async fn insert_scratch(connection: &mut Connection, id: OrganizationId) -> Result<(), AttemptError> {
    let at = Cell::Time(DateTime::UNIX_EPOCH);
    let mut organization = INSERT_ORGANIZATION.rows();
    organization.cell(Cell::Uuid(id.uuid())).cell(Cell::Static("scratch of the performance report"));
    organization.cell(Cell::Static("UTC")).cell(Cell::Static("active")).cell(at.clone()).cell(at.clone()).end();
    connection.execute(&INSERT_ORGANIZATION, &organization).await?;
    let mut account = INSERT_ACCOUNT.rows();
    account.cell(Cell::Uuid(id.uuid())).cell(Cell::Static("active")).cell(Cell::Int(0)).cell(at).cell(Cell::Int(0));
    for amount in [CREDITS, 0] {
        for _ in multicredit_domain::CreditType::ALL {
            account.cell(Cell::Int(amount));
        }
    }
    account.end();
    connection.execute(&INSERT_ACCOUNT, &account).await?;
    Ok(())
}
