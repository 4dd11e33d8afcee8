//! `multicredit verify`: every invariant of the ledger, checked in one read-only snapshot.
//!
//! The checks do not trust the code that wrote the rows. Most are SQL that adds the ledger up again ([`checks`]); the
//! balance against its lots is the domain's own settlement, done in memory ([`lots`]), and the chains of the audit log
//! are hashed again line by line ([`audit`]). They hold while servers run.

mod audit;
mod checks;
mod lots;

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, DbBackend, IsolationLevel, Statement, TransactionOptions,
};
use serde::Serialize;

use crate::clock::Clock;
use crate::error::StoreError;
use crate::store::Store;

/// The most examples of a violation that a report names.
pub const EXAMPLES_MAX: usize = 10;

/// One invariant and what was found.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// The invariant.
    pub name: &'static str,
    /// How often it does not hold.
    pub violations: u64,
    /// Where it does not hold: the first few.
    pub examples: Vec<String>,
    /// Whether the finding is only bookkeeping that is overdue, which harms nobody.
    pub is_warning: bool,
}

impl Check {
    /// An invariant of which nothing has been found yet.
    const fn new(name: &'static str) -> Self {
        Self { name, violations: 0, examples: Vec::new(), is_warning: false }
    }

    /// Adds what another statement found of the same invariant.
    fn add(&mut self, other: Self) {
        self.violations += other.violations;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
    }
}

/// Counts a violation, and keeps it as an example if there are few.
fn note(check: &mut Check, example: impl FnOnce() -> String) {
    check.violations += 1;
    if check.examples.len() < EXAMPLES_MAX {
        check.examples.push(example());
    }
}

/// What was checked and found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// How many organizations there are.
    pub organizations: u64,
    /// Every invariant, in a fixed order.
    pub checks: Vec<Check>,
}

impl VerifyReport {
    /// Whether every invariant holds. Warnings do not count.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.is_warning || check.violations == 0)
    }
}

impl Store {
    /// Checks every invariant of the ledger in one read-only snapshot.
    pub async fn verify(&self) -> Result<VerifyReport, StoreError> {
        let snapshot = TransactionOptions {
            isolation_level: Some(IsolationLevel::RepeatableRead),
            access_mode: Some(AccessMode::ReadOnly),
            ..TransactionOptions::default()
        };
        let options = match self.engine() {
            crate::Engine::Postgres => snapshot,
            // A deferred transaction of SQLite is a snapshot, and has no levels to choose from.
            crate::Engine::Sqlite => TransactionOptions::default(),
        };
        let (_permit, transaction) = self.database().begin(options).await?;
        let report = verify(&transaction, self.clock()).await;
        transaction.rollback().await?;
        report
    }
}

async fn verify(transaction: &DatabaseTransaction, clock: &Clock) -> Result<VerifyReport, StoreError> {
    let backend = transaction.get_database_backend();
    if backend == DbBackend::Postgres {
        // The connections' deadline and the way they are planned are meant for requests; this adds up a long history. Ends
        // with the snapshot.
        for setting in ["statement_timeout = 0", "enable_seqscan = on"] {
            transaction.execute_raw(Statement::from_string(backend, format!("SET LOCAL {setting}"))).await?;
        }
        // A partition that is dropped is gone from every snapshot at once, while its checkpoint is in the later ones alone.
        // Before the snapshot, which the first query takes.
        let lock = "LOCK TABLE credit_consumption_logs IN ACCESS SHARE MODE";
        transaction.execute_raw(Statement::from_string(backend, lock)).await?;
    }
    let (organizations, mut found) = lots::check(transaction, clock).await?;
    found.extend(checks::check(transaction).await?);
    found.extend(audit::check(transaction).await?);
    Ok(VerifyReport { organizations, checks: found })
}
