//! The chains of the audit log: every line is as it was recorded, none is missing, and none has been added.

use std::collections::HashMap;

use sea_orm::{ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::{Check, note};
use crate::audit::{NOBODYS, chain};
use crate::entity::{audit_chains, audit_log};
use crate::error::StoreError;

/// How many lines are in memory at once.
const LINES: u64 = 1_000;

/// How many ends of chains are.
const CHAINS: u64 = 500;

struct Findings {
    hashes: Check,
    dense: Check,
    ends: Check,
}

/// A chain, as far as it has been walked.
struct Walked {
    id: Uuid,
    sequence: i64,
    hash: String,
}

impl Walked {
    fn from_the_start(id: Uuid) -> Self {
        Self { id, sequence: 0, hash: chain::START.to_owned() }
    }
}

/// Walks every chain from its first line to where it should end.
pub(super) async fn check(transaction: &DatabaseTransaction) -> Result<Vec<Check>, StoreError> {
    let mut found = Findings {
        hashes: Check::new("every line of the audit log has the hash of what it says and of the line before"),
        dense: Check::new("lines of the audit log are dense from 1"),
        ends: Check::new("every chain of the audit log ends where it was left"),
    };
    let mut after = None;
    loop {
        let page = next_chains(transaction, after).await?;
        // After the last chain: lines without one.
        let until = page.last().map(|chain| chain.organization_id);
        let ends = page.into_iter().map(|chain| (chain.organization_id, chain)).collect();
        found.walk(transaction, (after, until), ends).await?;
        if until.is_none() {
            return Ok(vec![found.hashes, found.dense, found.ends]);
        }
        after = until;
    }
}

async fn next_chains(
    transaction: &DatabaseTransaction,
    after: Option<Uuid>,
) -> Result<Vec<audit_chains::Model>, StoreError> {
    let mut chains = audit_chains::Entity::find();
    if let Some(after) = after {
        chains = chains.filter(audit_chains::Column::OrganizationId.gt(after));
    }
    Ok(chains.order_by_asc(audit_chains::Column::OrganizationId).limit(CHAINS).all(transaction).await?)
}

/// The lines that follow the position, of chains up to that one.
async fn next_lines(
    transaction: &DatabaseTransaction,
    (chain, sequence): (Uuid, i64),
    until: Option<Uuid>,
) -> Result<Vec<audit_log::Model>, StoreError> {
    use audit_log::Column;
    let in_chain = Condition::all().add(Column::OrganizationId.eq(chain)).add(Column::Sequence.gt(sequence));
    let mut lines = audit_log::Entity::find()
        .filter(Column::OrganizationId.gte(chain))
        .filter(Condition::any().add(Column::OrganizationId.gt(chain)).add(in_chain));
    if let Some(until) = until {
        lines = lines.filter(Column::OrganizationId.lte(until));
    }
    let lines = lines.order_by_asc(Column::OrganizationId).order_by_asc(Column::Sequence).limit(LINES);
    Ok(lines.all(transaction).await?)
}

impl Findings {
    /// Walks the chains after one and up to another, which end there.
    async fn walk(
        &mut self,
        transaction: &DatabaseTransaction,
        (after, until): (Option<Uuid>, Option<Uuid>),
        mut ends: HashMap<Uuid, audit_chains::Model>,
    ) -> Result<(), StoreError> {
        let mut position = after.map_or((Uuid::nil(), 0), |after| (after, i64::MAX));
        let mut walked: Option<Walked> = None;
        loop {
            let lines = next_lines(transaction, position, until).await?;
            let is_last = (lines.len() as u64) < LINES;
            for line in lines {
                position = (line.organization_id, line.sequence);
                if let Some(done) = walked.take_if(|walked| walked.id != line.organization_id) {
                    self.finish(&done, ends.remove(&done.id));
                }
                self.step(walked.get_or_insert_with(|| Walked::from_the_start(line.organization_id)), line);
            }
            if is_last {
                break;
            }
        }
        if let Some(done) = walked {
            self.finish(&done, ends.remove(&done.id));
        }
        for (id, end) in ends {
            self.finish(&Walked::from_the_start(id), Some(end));
        }
        Ok(())
    }

    /// Goes on from what a line says of itself, so that one fault is found once.
    fn step(&mut self, walked: &mut Walked, line: audit_log::Model) {
        let place = || place(walked.id, line.sequence);
        if line.sequence != walked.sequence + 1 {
            note(&mut self.dense, place);
        }
        if chain::hash(&walked.hash, &line) != line.hash {
            note(&mut self.hashes, place);
        }
        walked.sequence = line.sequence;
        walked.hash = line.hash;
    }

    fn finish(&mut self, walked: &Walked, end: Option<audit_chains::Model>) {
        let is_right = match end {
            Some(end) => end.sequence == walked.sequence && end.hash == walked.hash,
            None => walked.sequence == 0,
        };
        if !is_right {
            note(&mut self.ends, || place(walked.id, walked.sequence));
        }
    }
}

fn place(chain: Uuid, sequence: i64) -> String {
    match chain {
        NOBODYS => format!("no organization, number {sequence}"),
        id => format!("organization {id}, number {sequence}"),
    }
}
