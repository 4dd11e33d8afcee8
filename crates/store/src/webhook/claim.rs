//! Pairs of an endpoint and an organization: which have something to be told, and who works them off.
//!
//! Finding reads and locks nothing, and what it found is old a moment later. Claiming takes a lease on what still has
//! something to be told, as far as nobody else has: rows that somebody is claiming at the same moment are skipped, and a
//! claim that comes later sees the lease. A request is sent under the lease and never in a transaction; whoever dies
//! leaves a lease that runs out. What is written under a lease is written only as long as it is one's own, so that a
//! server that was away for a while cannot take a cursor back.
//!
//! Everything is done for many pairs at once: what a pair costs the database is a share of a few statements.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use chrono::TimeDelta;
use futures_util::FutureExt as _;
use multicredit_domain::clock::to_micros;
use multicredit_domain::{EndpointId, OrganizationId, Timestamp};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryResult};
use uuid::Uuid;

use super::{NewDelivery, WebhookEndpoint, WebhookInterest};
use crate::clock;
use crate::entity::{webhook_cursors, webhook_endpoints};
use crate::error::StoreError;
use crate::repo::{in_transaction, webhook_delivery};
use crate::sql::{Cell, Column, Kind, Rows, Statement};
use crate::store::Store;

/// How long a pair is left to a server that says nothing. Every attempt renews it, and takes half of it at most. What a
/// server had in hand that died is told by another one after that.
const LEASE: TimeDelta = TimeDelta::seconds(30);

/// How many pairs are found at once,
const FOUND_MAX: usize = 2_000;
/// and of each endpoint, so that one that has fallen behind leaves room for the others.
const FOUND_OF_EACH_MAX: usize = 1_000;

/// A pair.
pub type WebhookPair = (OrganizationId, EndpointId);

/// How far a pair was told: what is next in each of the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The next movement.
    pub(crate) sequence: i64,
    /// The next of its events.
    pub(crate) place: i32,
    /// Nothing that is left lies before.
    pub(crate) told_at: Timestamp,
    /// The last refused attempt: its instant
    pub(crate) refused_at: Timestamp,
    /// and its id.
    pub(crate) refused_id: Uuid,
    /// The next raised event.
    pub(crate) raised_number: i64,
}

/// A pair that this process has a lease of.
#[derive(Debug, Clone)]
pub struct WebhookClaim {
    /// Of whom.
    pub organization_id: OrganizationId,
    /// To whom. Pairs of one endpoint that were claimed together share it.
    pub endpoint: Arc<WebhookEndpoint>,
    /// How often the next event has failed.
    pub failures: u32,
    pub(crate) position: Position,
    /// Refused attempts before it can be told.
    pub(crate) refused_until: Timestamp,
    lease: Uuid,
    /// When it was claimed, by the database's clock and by this process's.
    claimed_at: (Timestamp, Instant),
}

/// What a pair has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The event was told, or given up. It goes on behind it, under the same lease.
    On(Position),
    /// Nothing more is told under this lease: it goes on there, whoever does it.
    End(Position),
    /// The event has failed so many times, and is tried again after a while. Others may do so.
    Later {
        /// How often.
        failures: u32,
        /// How long after now.
        delay: TimeDelta,
    },
    /// Nothing more is told under this lease, and the next event is tried no earlier than it was to be.
    Release,
}

/// What there is to write down of a pair.
#[derive(Debug, Clone)]
pub struct WebhookRecord {
    /// The pair, as it was.
    pub claim: WebhookClaim,
    /// The attempt, if there was one.
    pub delivery: Option<NewDelivery>,
    /// What the pair has come to.
    pub progress: Progress,
}

/// In which order cursors are locked by whoever changes several, so that nobody waits for somebody who waits for them.
pub(super) const LOCK_ORDER: &str = "c.organization_id, c.endpoint_id";

static INTEREST: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("one", Kind::Int)], |d| {
        let count = |condition, name| format!("COUNT(CASE WHEN {condition} THEN 1 END) AS {name}");
        format!(
            "SELECT COUNT(*) AS endpoints, {}, {}, {} FROM {} CROSS JOIN webhook_endpoints e WHERE e.enabled",
            count("e.wants_consumed", "consumed"),
            count("e.wants_refused", "refused"),
            count("e.organization_id IS NULL", "everybody"),
            d.source
        )
    })
});

/// The pairs that are due and have something behind their cursor, some of each endpoint, those that wait longest first.
fn find(columns: Vec<Column>, of: &'static str) -> Statement {
    Statement::new(columns, move |d| {
        format!(
            "SELECT f.organization_id, f.endpoint_id FROM ( \
             SELECT k.organization_id, k.endpoint_id, k.due_at, \
             ROW_NUMBER() OVER (PARTITION BY k.endpoint_id ORDER BY k.due_at, k.organization_id) AS turn \
             FROM {} JOIN webhook_cursors k ON {of} \
             JOIN webhook_endpoints e ON e.id = k.endpoint_id AND e.enabled \
             JOIN organization_credits c ON c.organization_id = k.organization_id \
             LEFT JOIN alert_cursors a ON a.organization_id = k.organization_id \
             WHERE k.due_at <= v.now AND k.leased_until <= v.now AND (c.settled_sequence >= k.sequence \
             OR (e.wants_consumed AND c.sequence >= k.sequence) OR k.refused_until > k.refused_at \
             OR a.last_number >= k.raised_number)) AS f \
             WHERE f.turn <= {FOUND_OF_EACH_MAX} ORDER BY f.due_at, f.organization_id LIMIT {FOUND_MAX}",
            d.source
        )
    })
}

static FIND: LazyLock<Statement> = LazyLock::new(|| find(vec![Column::new("now", Kind::Time)], "true"));

static FIND_OF: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("now", Kind::Time), Column::new("organization_id", Kind::Uuid)];
    find(columns, "k.organization_id = v.organization_id")
});

static CLAIM: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        Column::new("organization_id", Kind::Uuid),
        Column::new("endpoint_id", Kind::Uuid),
        Column::new("lease", Kind::Uuid),
        Column::new("now", Kind::Time),
        Column::new("until", Kind::Time),
    ];
    Statement::new(columns, |d| {
        // SQLite has one process, and locks no rows.
        let skip = if d.lock_c.is_empty() { String::new() } else { format!("{} SKIP LOCKED", d.lock_c) };
        format!(
            "UPDATE webhook_cursors AS k SET lease = p.by, leased_until = p.until FROM ( \
             SELECT c.organization_id AS organization, c.endpoint_id AS endpoint, v.lease AS by, v.until FROM {} \
             JOIN webhook_cursors c ON c.organization_id = v.organization_id AND c.endpoint_id = v.endpoint_id \
             WHERE c.due_at <= v.now AND c.leased_until <= v.now {skip}) AS p \
             WHERE k.organization_id = p.organization AND k.endpoint_id = p.endpoint \
             RETURNING organization_id, endpoint_id, sequence, place, told_at, refused_at, refused_id, refused_until, \
             raised_number, failures, due_at, lease, leased_until",
            d.source
        )
    })
});

/// Moves cursors that are still one's own. Like all that change several at once it locks them in one order first.
static MOVE: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        Column::new("organization", Kind::Uuid),
        Column::new("endpoint", Kind::Uuid),
        Column::new("own", Kind::Uuid),
        Column::new("to_sequence", Kind::BigInt),
        Column::new("to_place", Kind::Int),
        Column::new("to_told_at", Kind::Time),
        Column::new("to_refused_at", Kind::Time),
        Column::new("to_refused_id", Kind::Uuid),
        Column::new("to_raised_number", Kind::BigInt),
        Column::new("failed", Kind::Int),
        Column::new("due", Kind::Time),
        Column::new("until", Kind::Time),
    ];
    Statement::of_text(columns, |d| {
        format!(
            "UPDATE webhook_cursors AS k SET sequence = p.to_sequence, place = p.to_place, told_at = p.to_told_at, \
             refused_at = p.to_refused_at, refused_id = p.to_refused_id, raised_number = p.to_raised_number, \
             failures = p.failed, due_at = p.due, leased_until = p.until FROM ( \
             SELECT v.* FROM {} JOIN webhook_cursors c ON c.organization_id = v.organization \
             AND c.endpoint_id = v.endpoint AND c.lease = v.own ORDER BY {LOCK_ORDER} {}) AS p \
             WHERE k.organization_id = p.organization AND k.endpoint_id = p.endpoint \
             RETURNING organization_id, endpoint_id",
            d.source, d.lock_c
        )
    })
});

impl Store {
    /// What there are enabled endpoints for. Whom this process moves is remembered from now on for those.
    pub async fn webhook_interest(&self) -> Result<WebhookInterest, StoreError> {
        let mut rows = INTEREST.rows();
        rows.cell(Cell::Null).end();
        let found = INTEREST.query(self.database(), &rows).await?;
        let row = found.first().ok_or_else(|| StoreError::Internal("a count answered nothing".to_owned()))?;
        let is_there = |name| row.try_get::<i64>("", name).map(|count| count > 0);
        let interest = WebhookInterest {
            endpoints: row.try_get("", "endpoints")?,
            consumed: is_there("consumed")?,
            refused: is_there("refused")?,
            everybody: is_there("everybody")?,
        };
        self.wake().listen(interest);
        Ok(interest)
    }

    /// Waits until this process has committed something that somebody wants to be told of.
    pub async fn webhook_news(&self) {
        self.wake().news().await;
    }

    /// Whose it was, since this was asked last.
    pub fn moved_organizations(&self) -> BTreeSet<OrganizationId> {
        self.wake().take()
    }

    /// Pairs that have something to be told, of everybody or of `only` these organizations, those that wait longest first,
    /// and whether there may be more.
    pub async fn waiting_webhooks(
        &self,
        only: Option<&BTreeSet<OrganizationId>>,
    ) -> Result<(Vec<WebhookPair>, bool), StoreError> {
        let now = self.now().await?;
        let found = match only {
            None => {
                let mut rows = FIND.rows();
                rows.cell(Cell::Time(now)).end();
                FIND.query(self.database(), &rows).await?
            }
            Some(only) => {
                let mut rows = FIND_OF.rows();
                for organization_id in only {
                    rows.cell(Cell::Time(now)).cell(Cell::Uuid(organization_id.uuid())).end();
                }
                if rows.is_empty() { Vec::new() } else { FIND_OF.query(self.database(), &rows).await? }
            }
        };
        let pairs = found.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
        let mut of_each: BTreeMap<EndpointId, usize> = BTreeMap::new();
        for (_, endpoint_id) in &pairs {
            *of_each.entry(*endpoint_id).or_default() += 1;
        }
        let is_full = pairs.len() >= FOUND_MAX || of_each.values().any(|count| *count >= FOUND_OF_EACH_MAX);
        Ok((pairs, is_full))
    }

    /// Takes leases on those of the pairs that are due and that nobody has.
    pub async fn claim_webhooks(&self, pairs: &[WebhookPair]) -> Result<Vec<WebhookClaim>, StoreError> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.now().await?;
        let claimed_at = (now, Instant::now());
        let lease = clock::new_uuid();
        let mut rows = CLAIM.rows();
        for (organization_id, endpoint_id) in pairs {
            rows.cell(Cell::Uuid(organization_id.uuid()))
                .cell(Cell::Uuid(endpoint_id.uuid()))
                .cell(Cell::Uuid(lease))
                .cell(Cell::Time(now))
                .cell(Cell::Time(now + LEASE))
                .end();
        }
        let claimed = CLAIM.query(self.database(), &rows).await?;
        self.with_endpoints(&claimed, lease, claimed_at).await
    }

    /// The instant, by what the database's clock showed when the pair was claimed: for what is said to others.
    pub fn instant_of(&self, claim: &WebhookClaim) -> Timestamp {
        let (at, since) = claim.claimed_at;
        let elapsed = TimeDelta::from_std(since.elapsed()).unwrap_or_default();
        self.clock().manual_instant().unwrap_or_else(|| to_micros(at + elapsed))
    }

    async fn with_endpoints(
        &self,
        claimed: &[QueryResult],
        lease: Uuid,
        claimed_at: (Timestamp, Instant),
    ) -> Result<Vec<WebhookClaim>, StoreError> {
        let cursors = claimed
            .iter()
            .map(|row| webhook_cursors::Model::from_query_result(row, ""))
            .collect::<Result<Vec<_>, _>>()?;
        let ids: BTreeSet<Uuid> = cursors.iter().map(|cursor| cursor.endpoint_id).collect();
        let endpoints = webhook_endpoints::Entity::find()
            .filter(webhook_endpoints::Column::Id.is_in(ids))
            .filter(webhook_endpoints::Column::Enabled.eq(true))
            .all(self.database())
            .await?;
        let endpoints = endpoints.into_iter().map(|row| WebhookEndpoint::try_from(row).map(Arc::new));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        // One that was disabled at this moment has lost nothing: its lease runs out.
        let claims = cursors.into_iter().filter_map(|cursor| {
            let endpoint =
                endpoints.iter().find(|endpoint| endpoint.id.uuid() == cursor.endpoint_id).map(Arc::clone)?;
            Some(WebhookClaim {
                organization_id: OrganizationId::new(cursor.organization_id),
                endpoint,
                failures: u32::try_from(cursor.failures).unwrap_or_default(),
                position: Position {
                    sequence: cursor.sequence,
                    place: cursor.place,
                    told_at: cursor.told_at,
                    refused_at: cursor.refused_at,
                    refused_id: cursor.refused_id,
                    raised_number: cursor.raised_number,
                },
                refused_until: cursor.refused_until,
                lease,
                claimed_at,
            })
        });
        Ok(claims.collect())
    }

    /// Writes down attempts, at most one of a pair, and what the pairs have come to, and answers for each whether the lease
    /// was still one's own. Where it has run out somebody else may have the pair, and nothing is written of it.
    pub async fn record_webhooks(&self, records: Vec<WebhookRecord>) -> Result<Vec<bool>, StoreError> {
        let now = self.now().await?;
        let mut rows = MOVE.rows();
        for record in &records {
            record.write(&mut rows, now);
        }
        in_transaction(self.database(), move |transaction| {
            async move {
                let moved = MOVE.query_in(transaction, &rows).await?;
                let moved = moved.iter().map(pair).collect::<Result<HashSet<_>, _>>()?;
                let is_own: Vec<_> = records.iter().map(|record| moved.contains(&record.claim.pair())).collect();
                let own = records.into_iter().zip(&is_own).filter(|(_, is_own)| **is_own);
                let deliveries: Vec<_> = own.filter_map(|(record, _)| record.delivery).collect();
                webhook_delivery::insert_all(transaction, deliveries, now).await?;
                Ok(is_own)
            }
            .boxed()
        })
        .await
    }
}

pub(super) fn pair(row: &QueryResult) -> Result<WebhookPair, sea_orm::DbErr> {
    let organization_id = OrganizationId::new(row.try_get("", "organization_id")?);
    Ok((organization_id, EndpointId::new(row.try_get("", "endpoint_id")?)))
}

impl WebhookRecord {
    /// The cursor as it is from now on.
    fn write(&self, rows: &mut Rows, now: Timestamp) {
        let claim = &self.claim;
        let (to, failures, due_at, until) = match self.progress {
            Progress::On(position) => (position, 0, now, now + LEASE),
            Progress::End(position) => (position, 0, now, now),
            Progress::Later { failures, delay } => (claim.position, failures, now + delay, now),
            Progress::Release => (claim.position, claim.failures, now, now),
        };
        rows.cell(Cell::Uuid(claim.organization_id.uuid()))
            .cell(Cell::Uuid(claim.endpoint.id.uuid()))
            .cell(Cell::Uuid(claim.lease))
            .cell(Cell::Int(to.sequence))
            .cell(Cell::Int(to.place.into()))
            .cell(Cell::Time(to.told_at))
            .cell(Cell::Time(to.refused_at))
            .cell(Cell::Uuid(to.refused_id))
            .cell(Cell::Int(to.raised_number))
            .cell(Cell::Int(failures.into()))
            .cell(Cell::Time(due_at))
            .cell(Cell::Time(until))
            .end();
    }
}

impl WebhookClaim {
    /// Which pair it is.
    pub fn pair(&self) -> WebhookPair {
        (self.organization_id, self.endpoint.id)
    }

    /// Takes the place behind an event that was told, or given up.
    pub const fn go_on(&mut self, position: Position) {
        self.position = position;
        self.failures = 0;
    }
}
