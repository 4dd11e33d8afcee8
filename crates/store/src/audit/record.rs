//! Recording: the lines of a transaction's changes, added to their chains.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use multicredit_domain::{OrganizationId, Timestamp};
use sea_orm::{DatabaseTransaction, FromQueryResult, QueryResult};
use uuid::Uuid;

use super::{Author, Change, NOBODYS, chain};
use crate::entity::{audit_chains, audit_log};
use crate::error::{AttemptError, StoreError};
use crate::sql::{Cell, Column, Connection, Kind, Rows, Statement};

/// The transaction that makes the changes.
pub(crate) enum Session<'a> {
    /// The ledger's.
    Ledger(&'a mut Connection),
    /// One of the pool.
    Catalogue(&'a DatabaseTransaction),
}

impl Session<'_> {
    async fn query(&mut self, statement: &Statement, rows: &Rows) -> Result<Vec<QueryResult>, AttemptError> {
        Ok(match self {
            Self::Ledger(connection) => connection.query(statement, rows).await?,
            Self::Catalogue(transaction) => statement.query_in(transaction, rows).await?,
        })
    }
}

/// Locks the chains and answers how far they go; makes those that are not there yet.
static LOCK_CHAINS: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("organization_id", Kind::Uuid), Column::new("recorded_at", Kind::Time)];
    Statement::of_text(columns, |d| {
        // The ORDER BY must stay: it is the lock order. `WHERE true`: without it SQLite takes ON for the beginning of a
        // join's condition.
        format!(
            "INSERT INTO audit_chains (organization_id, sequence, hash, recorded_at) \
             SELECT v.organization_id, 0, '{}', v.recorded_at FROM {} WHERE true ORDER BY v.organization_id \
             ON CONFLICT (organization_id) DO UPDATE SET sequence = audit_chains.sequence \
             RETURNING organization_id, sequence, hash, recorded_at",
            chain::START,
            d.source
        )
    })
});

static INSERT_LINES: LazyLock<Statement> = LazyLock::new(|| {
    let columns = [
        ("organization_id", Kind::Uuid),
        ("sequence", Kind::BigInt),
        ("created_at", Kind::Time),
        ("operation", Kind::Text),
        ("subject", Kind::Text),
        ("api_key_id", Kind::Uuid),
        ("api_key_name", Kind::Text),
        ("api_key_prefix", Kind::Text),
        ("actor", Kind::Text),
        ("request_id", Kind::Text),
        ("before", Kind::Json),
        ("after", Kind::Json),
        ("hash", Kind::Text),
    ];
    Statement::insert_of_text("audit_log", columns.map(|(name, kind)| Column::new(name, kind)).into())
});

static MOVE_CHAINS: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        Column::new("organization_id", Kind::Uuid),
        Column::new("sequence", Kind::BigInt),
        Column::new("hash", Kind::Text),
        Column::new("recorded_at", Kind::Time),
    ];
    Statement::of_text(columns, |d| {
        format!(
            "UPDATE audit_chains AS c SET sequence = v.sequence, hash = v.hash, recorded_at = v.recorded_at FROM {} \
             WHERE c.organization_id = v.organization_id",
            d.source
        )
    })
});

/// Adds a line for each change to its chain, in their order. Must be the last thing that a transaction does, for it locks
/// the chains.
pub(crate) async fn record(mut session: Session<'_>, changes: &[Change]) -> Result<(), AttemptError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut chains = lock(&mut session, changes).await?;
    let mut lines = INSERT_LINES.rows();
    for change in changes {
        let chain = chains.get_mut(&chain_of(change)).ok_or_else(missing)?;
        let line = next_line(chain, change);
        chain.sequence = line.sequence;
        chain.recorded_at = line.created_at;
        chain.hash.clone_from(&line.hash);
        push(&mut lines, line);
    }
    session.query(&INSERT_LINES, &lines).await?;
    let mut ends = MOVE_CHAINS.rows();
    for chain in chains.into_values() {
        ends.cell(Cell::Uuid(chain.organization_id))
            .cell(Cell::Int(chain.sequence))
            .cell(Cell::Text(chain.hash))
            .cell(Cell::Time(chain.recorded_at))
            .end();
    }
    session.query(&MOVE_CHAINS, &ends).await?;
    Ok(())
}

fn chain_of(change: &Change) -> Uuid {
    change.organization_id.map_or(NOBODYS, OrganizationId::uuid)
}

async fn lock(
    session: &mut Session<'_>,
    changes: &[Change],
) -> Result<BTreeMap<Uuid, audit_chains::Model>, AttemptError> {
    let wanted: BTreeMap<Uuid, Timestamp> = changes.iter().map(|change| (chain_of(change), change.at)).collect();
    let mut rows = LOCK_CHAINS.rows();
    for (id, at) in wanted {
        rows.cell(Cell::Uuid(id)).cell(Cell::Time(at)).end();
    }
    let mut chains = BTreeMap::new();
    for row in session.query(&LOCK_CHAINS, &rows).await? {
        let chain = audit_chains::Model::from_query_result(&row, "")?;
        chains.insert(chain.organization_id, chain);
    }
    Ok(chains)
}

/// The line that a change adds to its chain.
fn next_line(chain: &audit_chains::Model, change: &Change) -> audit_log::Model {
    let nobody = Author::default();
    let author = change.author.as_deref().unwrap_or(&nobody);
    let key = author.key.as_deref();
    let mut line = audit_log::Model {
        organization_id: chain.organization_id,
        sequence: chain.sequence + 1,
        // A catalogue's clock is read before the chain is locked, and the ledger's movements may be behind a fence: the
        // order of the lines is the one that counts.
        created_at: change.at.max(chain.recorded_at),
        operation: change.operation.as_str().to_owned(),
        subject: change.subject.clone(),
        api_key_id: key.map(|key| key.id.uuid()),
        api_key_name: key.map(|key| key.name.clone()),
        api_key_prefix: key.map(|key| key.prefix.clone()),
        actor: change.actor.as_ref().or(author.actor.as_ref()).map(|actor| actor.as_str().to_owned()),
        request_id: author.request_id.clone(),
        before: change.before.clone(),
        after: change.after.clone(),
        hash: String::new(),
    };
    line.hash = chain::hash(&chain.hash, &line);
    line
}

fn push(rows: &mut Rows, line: audit_log::Model) {
    rows.cell(Cell::Uuid(line.organization_id))
        .cell(Cell::Int(line.sequence))
        .cell(Cell::Time(line.created_at))
        .cell(Cell::Text(line.operation))
        .cell(Cell::Text(line.subject))
        .cell(Cell::opt(line.api_key_id, Cell::Uuid))
        .cell(Cell::opt(line.api_key_name, Cell::Text))
        .cell(Cell::opt(line.api_key_prefix, Cell::Text))
        .cell(Cell::opt(line.actor, Cell::Text))
        .cell(Cell::opt(line.request_id, Cell::Text))
        .cell(Cell::opt(line.before, |json| Cell::Text(json.to_string())))
        .cell(Cell::opt(line.after, |json| Cell::Text(json.to_string())))
        .cell(Cell::Text(line.hash))
        .end();
}

fn missing() -> StoreError {
    StoreError::Internal("a chain of the audit log was neither found nor made".to_owned())
}
