//! Pairs of an endpoint and an organization: which have something to be told, and who works them off.
//!
//! Finding reads and locks nothing. Claiming takes a lease on what was found, as far as nobody else has: rows that somebody
//! is claiming at the same moment are skipped, and a claim that comes later sees the lease. A request is sent under the
//! lease and never in a transaction; whoever dies leaves a lease that runs out. What is written under a lease is written
//! only as long as it is one's own, so that a server that was away for a while cannot take a cursor back.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use chrono::TimeDelta;
use futures_util::FutureExt as _;
use multicredit_domain::{EndpointId, OrganizationId, Timestamp};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryResult};
use uuid::Uuid;

use super::{NewDelivery, WebhookEndpoint, WebhookInterest};
use crate::clock;
use crate::entity::{webhook_cursors, webhook_endpoints};
use crate::error::StoreError;
use crate::repo::{in_transaction, webhook_delivery};
use crate::sql::{Cell, Column, Kind, Statement};
use crate::store::Store;

/// How long a pair is left to a server that says nothing. Every attempt renews it, and takes half of it at most. What a
/// server had in hand that died is told by another one after that.
const LEASE: TimeDelta = TimeDelta::seconds(30);

/// How many pairs are found at once.
const FOUND_MAX: usize = 200;

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
    /// To whom.
    pub endpoint: WebhookEndpoint,
    /// How often the next event has failed.
    pub failures: u32,
    pub(crate) position: Position,
    /// Refused attempts before it can be told.
    pub(crate) refused_until: Timestamp,
    lease: Uuid,
}

/// What a pair has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The event was told, or given up, and it goes on behind it.
    On(Position),
    /// The event has failed so many times, and is tried again at that instant. Others may do so.
    Later {
        /// How often.
        failures: u32,
        /// When.
        due_at: Timestamp,
    },
}

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

/// The pairs that are due and have something behind their cursor, a few of each endpoint, those that wait longest first.
fn find(columns: Vec<Column>, of: &'static str) -> Statement {
    Statement::new(columns, move |d| {
        format!(
            "SELECT f.organization_id, f.endpoint_id FROM ( \
             SELECT k.organization_id, k.endpoint_id, k.due_at, \
             ROW_NUMBER() OVER (PARTITION BY k.endpoint_id ORDER BY k.due_at, k.organization_id) AS turn, v.of_each \
             FROM {} JOIN webhook_cursors k ON {of} \
             JOIN webhook_endpoints e ON e.id = k.endpoint_id AND e.enabled \
             JOIN organization_credits c ON c.organization_id = k.organization_id \
             LEFT JOIN alert_cursors a ON a.organization_id = k.organization_id \
             WHERE k.due_at <= v.now AND k.leased_until <= v.now AND (c.settled_sequence >= k.sequence \
             OR (e.wants_consumed AND c.sequence >= k.sequence) OR k.refused_until > k.refused_at \
             OR a.last_number >= k.raised_number)) AS f \
             WHERE f.turn <= f.of_each ORDER BY f.due_at, f.organization_id LIMIT {FOUND_MAX}",
            d.source
        )
    })
}

static FIND: LazyLock<Statement> =
    LazyLock::new(|| find(vec![Column::new("now", Kind::Time), Column::new("of_each", Kind::BigInt)], "true"));

static FIND_OF: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        Column::new("now", Kind::Time),
        Column::new("of_each", Kind::BigInt),
        Column::new("organization_id", Kind::Uuid),
    ];
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

/// Moves a cursor that is still one's own.
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
            "UPDATE webhook_cursors AS k SET sequence = v.to_sequence, place = v.to_place, told_at = v.to_told_at, \
             refused_at = v.to_refused_at, refused_id = v.to_refused_id, raised_number = v.to_raised_number, \
             failures = v.failed, due_at = v.due, leased_until = v.until FROM {} \
             WHERE k.organization_id = v.organization AND k.endpoint_id = v.endpoint AND k.lease = v.own \
             RETURNING organization_id",
            d.source
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

    /// Takes leases on pairs that have something to be told, of everybody or of `only` these organizations: `of_each` of an
    /// endpoint at the most, none of what `is_busy`, and `limit` in all. Answers whether others wait, too.
    pub async fn claim_webhooks(
        &self,
        only: Option<&BTreeSet<OrganizationId>>,
        of_each: usize,
        limit: usize,
        is_busy: impl Fn(EndpointId, usize) -> bool,
    ) -> Result<(Vec<WebhookClaim>, bool), StoreError> {
        let now = self.now().await?;
        let found = self.find_pairs(only, of_each, now).await?;
        let mut of_endpoint: HashMap<EndpointId, usize> = HashMap::new();
        for (_, endpoint_id) in &found {
            *of_endpoint.entry(*endpoint_id).or_default() += 1;
        }
        // Those of an endpoint that has as many as were looked for may be more.
        let is_full = of_endpoint.values().any(|count| *count >= of_each);
        let there = found.len();
        let mut taken: HashMap<EndpointId, usize> = HashMap::new();
        let free: Vec<_> = found
            .into_iter()
            .filter(|(_, endpoint_id)| {
                let count = taken.entry(*endpoint_id).or_default();
                let is_free = !is_busy(*endpoint_id, *count);
                *count += usize::from(is_free);
                is_free
            })
            .take(limit)
            .collect();
        let others_wait = is_full || free.len() < there;
        let lease = clock::new_uuid();
        let mut rows = CLAIM.rows();
        for (organization_id, endpoint_id) in free {
            rows.cell(Cell::Uuid(organization_id.uuid()))
                .cell(Cell::Uuid(endpoint_id.uuid()))
                .cell(Cell::Uuid(lease))
                .cell(Cell::Time(now))
                .cell(Cell::Time(now + LEASE))
                .end();
        }
        if rows.is_empty() {
            return Ok((Vec::new(), others_wait));
        }
        let claimed = CLAIM.query(self.database(), &rows).await?;
        Ok((self.with_endpoints(&claimed, lease).await?, others_wait))
    }

    async fn find_pairs(
        &self,
        only: Option<&BTreeSet<OrganizationId>>,
        of_each: usize,
        now: Timestamp,
    ) -> Result<Vec<(OrganizationId, EndpointId)>, StoreError> {
        let of_each = Cell::Int(i64::try_from(of_each).unwrap_or(i64::MAX));
        let found = match only {
            None => {
                let mut rows = FIND.rows();
                rows.cell(Cell::Time(now)).cell(of_each).end();
                FIND.query(self.database(), &rows).await?
            }
            Some(only) => {
                let mut rows = FIND_OF.rows();
                for organization_id in only {
                    rows.cell(Cell::Time(now)).cell(of_each.clone()).cell(Cell::Uuid(organization_id.uuid())).end();
                }
                if rows.is_empty() { Vec::new() } else { FIND_OF.query(self.database(), &rows).await? }
            }
        };
        let pair = |row: &QueryResult| {
            let organization_id = OrganizationId::new(row.try_get("", "organization_id")?);
            Ok((organization_id, EndpointId::new(row.try_get("", "endpoint_id")?)))
        };
        found.iter().map(pair).collect()
    }

    async fn with_endpoints(&self, claimed: &[QueryResult], lease: Uuid) -> Result<Vec<WebhookClaim>, StoreError> {
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
        let endpoints = endpoints.into_iter().map(WebhookEndpoint::try_from).collect::<Result<Vec<_>, _>>()?;
        // One that was disabled at this moment has lost nothing: its lease runs out.
        let claims = cursors.into_iter().filter_map(|cursor| {
            let endpoint = endpoints.iter().find(|endpoint| endpoint.id.uuid() == cursor.endpoint_id)?.clone();
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
            })
        });
        Ok(claims.collect())
    }

    /// Records an attempt and what the pair has come to, and renews the lease unless it is to be tried again later. `false`
    /// if the lease has run out and somebody else may have the pair: nothing is recorded then.
    pub async fn record_delivery(
        &self,
        claim: &mut WebhookClaim,
        delivery: NewDelivery,
        progress: Progress,
    ) -> Result<bool, StoreError> {
        let now = self.now().await?;
        let (position, failures, due_at, until) = match progress {
            Progress::On(position) => (position, 0, now, now + LEASE),
            Progress::Later { failures, due_at } => (claim.position, failures, due_at, now),
        };
        let rows = claim.rows(position, failures, due_at, until);
        let own = in_transaction(self.database(), move |transaction| {
            async move {
                let own = !MOVE.query_in(transaction, &rows).await?.is_empty();
                if own {
                    webhook_delivery::insert(transaction, delivery, now).await?;
                }
                Ok(own)
            }
            .boxed()
        })
        .await?;
        claim.position = position;
        claim.failures = failures;
        Ok(own)
    }

    /// Ends a lease. What the pair was told goes on behind `position`; the others get their turn before it.
    pub async fn release_webhook(&self, claim: &WebhookClaim, position: Position) -> Result<(), StoreError> {
        let now = self.now().await?;
        let rows = claim.rows(position, claim.failures, now, now);
        in_transaction(self.database(), move |transaction| {
            async move {
                MOVE.query_in(transaction, &rows).await?;
                Ok(())
            }
            .boxed()
        })
        .await
    }
}

impl WebhookClaim {
    /// How far it was told.
    pub const fn position(&self) -> Position {
        self.position
    }

    fn rows(&self, to: Position, failures: u32, due_at: Timestamp, until: Timestamp) -> crate::sql::Rows {
        let mut rows = MOVE.rows();
        rows.cell(Cell::Uuid(self.organization_id.uuid()))
            .cell(Cell::Uuid(self.endpoint.id.uuid()))
            .cell(Cell::Uuid(self.lease))
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
        rows
    }
}
