//! Reading events: what lies behind a cursor, and single ones by their id.
//!
//! Three streams, each in its own order: movements, which are rows of `credit_movements` and of the log of consumptions;
//! refused attempts, which are rows of the log; raised events. Between streams the instants decide, as far as both are
//! known. An event whose row was dropped by retention is passed over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;

use multicredit_domain::consume::Outcome;
use multicredit_domain::{
    Consumption, ConsumptionId, EventFilter, EventId, EventPlace, EventType, Grant, Hold, HoldId, Movement,
    MovementKind, OrganizationId, Timestamp,
};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QueryResult};
use uuid::Uuid;

use super::claim::Position;
use super::{Event, EventDetail, WebhookClaim};
use crate::entity::{
    credit_consumption_logs as log, credit_grants, credit_holds, credit_movements as movements, raised_events,
};
use crate::error::StoreError;
use crate::sql::{Cell, Column, Kind, Rows, Statement, entity_columns};
use crate::store::Store;

/// How many rows of a pair's stream are read at once; a few more where several are of the same instant.
const ROWS_AT_ONCE: usize = 100;

/// The place of the last of them, as SQL counts.
const LAST_AT_ONCE: usize = ROWS_AT_ONCE - 1;

/// Nothing is recorded later.
const FAR: &str = "9999-12-31T23:59:59+00:00";

fn columns(of: &[(&str, Kind)]) -> Vec<Column> {
    let common = [("nth", Kind::Int), ("organization_id", Kind::Uuid)];
    common.iter().chain(of).map(|(name, kind)| Column::new(*name, *kind)).collect()
}

/// Up to where there is something to be told of.
static HEADS: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(columns(&[]), |d| {
        format!(
            "SELECT v.nth, c.sequence, c.settled_sequence, COALESCE(a.last_number, 0) AS last_number FROM {} \
             JOIN organization_credits c ON c.organization_id = v.organization_id \
             LEFT JOIN alert_cursors a ON a.organization_id = v.organization_id",
            d.source
        )
    })
});

// The rows of each pair are bounded by where its last one lies, which is looked up first: neither engine has another way
// to say "so many of each" that reads no more than those.

static BOOKED: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(columns(&[("first", Kind::BigInt), ("head", Kind::BigInt)]), |d| {
        format!(
            "WITH w AS MATERIALIZED (SELECT v.nth, v.organization_id, v.first, COALESCE(( \
             SELECT x.sequence FROM credit_movements x WHERE x.organization_id = v.organization_id \
             AND x.sequence >= v.first AND x.sequence <= v.head ORDER BY x.sequence LIMIT 1 OFFSET {LAST_AT_ONCE} \
             ), v.head) AS last FROM {}) \
             SELECT w.nth, {} FROM w JOIN credit_movements m ON m.organization_id = w.organization_id \
             AND m.sequence >= w.first AND m.sequence <= w.last ORDER BY w.nth, m.sequence",
            d.source,
            entity_columns::<movements::Entity>("m", ""),
        )
    })
});

/// Consumptions by instant and number, which is the order of their numbers. The instant bounds the search: no index holds
/// the number.
static SPENT: LazyLock<Statement> = LazyLock::new(|| {
    let of = [("first", Kind::BigInt), ("head", Kind::BigInt), ("told_at", Kind::Time)];
    Statement::new(columns(&of), |d| {
        let is_next = |row, of| {
            format!(
                "{row}.organization_id = {of}.organization_id AND {row}.created_at >= {of}.told_at \
                 AND {row}.sequence >= {of}.first AND {row}.sequence <= {of}.head AND {row}.hold_id IS NULL"
            )
        };
        format!(
            "WITH w AS MATERIALIZED (SELECT v.nth, v.organization_id, v.first, v.head, v.told_at, COALESCE(( \
             SELECT x.created_at FROM credit_consumption_logs x WHERE {} \
             ORDER BY x.created_at, x.sequence LIMIT 1 OFFSET {LAST_AT_ONCE}), {}) AS last_at FROM {}) \
             SELECT w.nth, {} FROM w JOIN credit_consumption_logs l ON {} AND l.created_at <= w.last_at \
             ORDER BY w.nth, l.created_at, l.sequence",
            is_next("x", "v"),
            d.instant(FAR),
            d.source,
            entity_columns::<log::Entity>("l", ""),
            is_next("l", "w"),
        )
    })
});

static REFUSED: LazyLock<Statement> = LazyLock::new(|| {
    let of = [("refused_at", Kind::Time), ("refused_id", Kind::Uuid), ("until", Kind::Time)];
    Statement::new(columns(&of), |d| {
        let is_next = |row, of| {
            format!(
                "{row}.organization_id = {of}.organization_id AND {row}.success = FALSE \
                 AND {row}.created_at >= {of}.refused_at AND {row}.created_at < {of}.until \
                 AND ({row}.created_at > {of}.refused_at OR {row}.id > {of}.refused_id)"
            )
        };
        format!(
            "WITH w AS MATERIALIZED (SELECT v.nth, v.organization_id, v.refused_at, v.refused_id, v.until, COALESCE(( \
             SELECT x.created_at FROM credit_consumption_logs x WHERE {} \
             ORDER BY x.created_at, x.id LIMIT 1 OFFSET {LAST_AT_ONCE}), v.until) AS last_at FROM {}) \
             SELECT w.nth, {} FROM w JOIN credit_consumption_logs l ON {} AND l.created_at <= w.last_at \
             ORDER BY w.nth, l.created_at, l.id",
            is_next("x", "v"),
            d.source,
            entity_columns::<log::Entity>("l", ""),
            is_next("l", "w"),
        )
    })
});

static RAISED: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(columns(&[("first", Kind::BigInt), ("last", Kind::BigInt)]), |d| {
        format!(
            "SELECT v.nth, {} FROM {} JOIN raised_events r ON r.organization_id = v.organization_id \
             AND r.number >= v.first AND r.number <= v.last ORDER BY v.nth, r.number",
            entity_columns::<raised_events::Entity>("r", ""),
            d.source,
        )
    })
});

/// The rows of a table with these ids.
fn by_id<E: EntityTrait>(table: &'static str) -> Statement {
    let columns = vec![Column::new("organization_id", Kind::Uuid), Column::new("id", Kind::Uuid)];
    Statement::new(columns, |d| {
        format!(
            "SELECT {} FROM {} JOIN {table} t ON t.organization_id = v.organization_id AND t.id = v.id",
            entity_columns::<E>("t", ""),
            d.source,
        )
    })
}

static GRANTS: LazyLock<Statement> = LazyLock::new(|| by_id::<credit_grants::Entity>("credit_grants"));
static HOLDS: LazyLock<Statement> = LazyLock::new(|| by_id::<credit_holds::Entity>("credit_holds"));
static CONSUMPTIONS: LazyLock<Statement> = LazyLock::new(|| by_id::<log::Entity>("credit_consumption_logs"));

/// Events that are next, each with what the cursor is behind it.
#[derive(Debug, Clone)]
pub struct EventBatch {
    /// The events, in the order in which they are to be told.
    pub events: Vec<(Event, Position)>,
    /// What the cursor is when all were told: beyond what nobody wants to be told of.
    pub end: Position,
    /// Whether more may follow at once.
    pub is_cut: bool,
}

/// What comes next in one of the streams.
struct Stream {
    events: VecDeque<(Event, Mark)>,
    /// Its place at the end of what was read.
    end: Mark,
    is_cut: bool,
}

/// A place in one of the streams.
#[derive(Debug, Clone, Copy)]
enum Mark {
    Movement { sequence: i64, place: i32, told_at: Timestamp },
    Refusal { at: Timestamp, id: Uuid },
    Raised { number: i64 },
}

impl Mark {
    const fn set(self, position: &mut Position) {
        match self {
            Self::Movement { sequence, place, told_at } => {
                position.sequence = sequence;
                position.place = place;
                position.told_at = told_at;
            }
            Self::Refusal { at, id } => {
                position.refused_at = at;
                position.refused_id = id;
            }
            Self::Raised { number } => position.raised_number = number,
        }
    }
}

/// A movement, whichever table it is from.
struct Line {
    organization_id: OrganizationId,
    sequence: i64,
    kind: MovementKind,
    created_at: Timestamp,
    source: Source,
}

enum Source {
    Booked(Movement),
    Spent(Consumption),
}

/// Something that a movement refers to.
type Subject = (OrganizationId, Uuid);

/// What movements refer to.
#[derive(Default)]
struct Subjects {
    grants: BTreeMap<Subject, Grant>,
    holds: BTreeMap<Subject, Hold>,
    consumptions: BTreeMap<Subject, Consumption>,
}

/// Up to where a pair could be told.
#[derive(Debug, Clone, Copy, Default)]
struct Heads {
    /// The last movement that the endpoint may want.
    movement: i64,
    /// The last one but for consumptions.
    booked: i64,
    /// The last raised event.
    raised: i64,
}

impl Store {
    /// The events that these pairs are to be told next, in the order of the pairs.
    pub async fn webhook_events(&self, claims: &[WebhookClaim]) -> Result<Vec<EventBatch>, StoreError> {
        // Before the rows: what is there up to these numbers is seen by whoever reads later.
        let heads = self.heads(claims).await?;
        let movements = self.movement_streams(claims, &heads).await?;
        let refusals = self.refusal_streams(claims).await?;
        let raised = self.raised_streams(claims, &heads).await?;
        let streams = movements.into_iter().zip(refusals).zip(raised);
        let batches = claims.iter().zip(streams);
        Ok(batches.map(|(claim, ((one, two), three))| merge(claim.position, [one, two, three])).collect())
    }

    /// The event of that id, if there is one of the organization.
    pub async fn event(&self, organization_id: OrganizationId, id: &EventId) -> Result<Option<Event>, StoreError> {
        let place = id.place().filter(|place| place.organization_id().is_none_or(|of| of == organization_id));
        match place {
            None => Ok(None),
            Some(EventPlace::Refusal(refusal)) => {
                let query = log::Entity::find().filter(log::Column::Id.eq(refusal.uuid()));
                let query = query.filter(log::Column::OrganizationId.eq(organization_id.uuid()));
                let row = query.filter(log::Column::Success.eq(false)).one(self.database()).await?;
                Ok(row.map(Consumption::try_from).transpose()?.map(refused))
            }
            Some(EventPlace::Raised { number, .. }) => {
                let row = raised_events::Entity::find_by_id((organization_id.uuid(), number)).one(self.database());
                Ok(row.await?.and_then(raised))
            }
            Some(EventPlace::Movement { sequence, place, .. }) => {
                let Some(line) = self.line(organization_id, sequence).await? else { return Ok(None) };
                let subjects = self.subjects(std::iter::once(&line)).await?;
                let mut events = EventId::of_movement(organization_id, line.sequence, line.kind);
                let Some((id, event_type)) = events.nth(place) else { return Ok(None) };
                Ok(event(&line, id, event_type, &subjects))
            }
        }
    }

    /// The movement of that number. A consumption is looked for between the movements around it, which have instants.
    async fn line(&self, organization_id: OrganizationId, sequence: i64) -> Result<Option<Line>, StoreError> {
        let organization = organization_id.uuid();
        let booked = movements::Entity::find_by_id((organization, sequence)).one(self.database()).await?;
        if let Some(row) = booked {
            return Ok(Some(Line::of_movement(organization_id, Movement::try_from(row)?)));
        }
        let around = || movements::Entity::find().filter(movements::Column::OrganizationId.eq(organization));
        let before = around()
            .filter(movements::Column::Sequence.lt(sequence))
            .order_by_desc(movements::Column::Sequence)
            .one(self.database())
            .await?;
        let after = around()
            .filter(movements::Column::Sequence.gt(sequence))
            .order_by_asc(movements::Column::Sequence)
            .one(self.database())
            .await?;
        let mut query = log::Entity::find()
            .filter(log::Column::OrganizationId.eq(organization))
            .filter(log::Column::Sequence.eq(sequence))
            .filter(log::Column::HoldId.is_null());
        if let Some(before) = before {
            query = query.filter(log::Column::CreatedAt.gte(before.created_at));
        }
        if let Some(after) = after {
            query = query.filter(log::Column::CreatedAt.lte(after.created_at));
        }
        let row = query.one(self.database()).await?;
        Ok(row.map(Consumption::try_from).transpose()?.and_then(Line::of_consumption))
    }

    async fn heads(&self, claims: &[WebhookClaim]) -> Result<Vec<Heads>, StoreError> {
        let mut rows = HEADS.rows();
        for (nth, claim) in numbered(claims) {
            common(&mut rows, nth, claim).end();
        }
        let mut heads = vec![Heads::default(); claims.len()];
        for row in HEADS.query(self.database(), &rows).await? {
            let nth = nth(&row)?;
            let (Some(heads), Some(claim)) = (heads.get_mut(nth), claims.get(nth)) else { continue };
            let booked = row.try_get("", "settled_sequence")?;
            let movement = if wants_consumed(claim) { row.try_get("", "sequence")? } else { booked };
            *heads = Heads { movement, booked, raised: row.try_get("", "last_number")? };
        }
        Ok(heads)
    }

    async fn movement_streams(&self, claims: &[WebhookClaim], heads: &[Heads]) -> Result<Vec<Stream>, StoreError> {
        let booked = self.booked(claims, heads).await?;
        let spent = self.spent(claims, heads).await?;
        let mut of_each = Vec::with_capacity(claims.len());
        for ((mut lines, spent), heads) in booked.into_iter().zip(spent).zip(heads) {
            let mut cut = heads.movement;
            for stream in [&lines, &spent] {
                if let Some(last) = stream.last().filter(|_| stream.len() >= ROWS_AT_ONCE) {
                    cut = cut.min(last.sequence);
                }
            }
            lines.extend(spent);
            lines.retain(|line| line.sequence <= cut);
            lines.sort_by_key(|line| line.sequence);
            of_each.push((lines, cut));
        }
        let subjects = self.subjects(of_each.iter().flat_map(|(lines, _)| lines)).await?;
        let streams = claims.iter().zip(heads).zip(of_each).map(|((claim, heads), (lines, cut))| {
            let from = claim.position;
            let told_at = lines.last().map_or(from.told_at, |line| line.created_at);
            let end = Mark::Movement { sequence: from.sequence.max(cut + 1), place: 0, told_at };
            let end = if heads.movement >= from.sequence { end } else { mark(from) };
            let events = told(from, &lines, &subjects, &claim.endpoint.events);
            Stream { events, end, is_cut: cut < heads.movement }
        });
        Ok(streams.collect())
    }

    async fn booked(&self, claims: &[WebhookClaim], heads: &[Heads]) -> Result<Vec<Vec<Line>>, StoreError> {
        let mut rows = BOOKED.rows();
        for ((nth, claim), heads) in numbered(claims).zip(heads) {
            if heads.booked >= claim.position.sequence {
                let row = common(&mut rows, nth, claim).cell(Cell::Int(claim.position.sequence));
                row.cell(Cell::Int(heads.booked)).end();
            }
        }
        self.of_each::<movements::Model, _>(claims, &BOOKED, &rows, |row| {
            let organization_id = OrganizationId::new(row.organization_id);
            Ok(Some(Line::of_movement(organization_id, Movement::try_from(row)?)))
        })
        .await
    }

    async fn spent(&self, claims: &[WebhookClaim], heads: &[Heads]) -> Result<Vec<Vec<Line>>, StoreError> {
        let mut rows = SPENT.rows();
        for ((nth, claim), heads) in numbered(claims).zip(heads) {
            if wants_consumed(claim) && heads.movement >= claim.position.sequence {
                common(&mut rows, nth, claim)
                    .cell(Cell::Int(claim.position.sequence))
                    .cell(Cell::Int(heads.movement))
                    .cell(Cell::Time(claim.position.told_at))
                    .end();
            }
        }
        let line = |row: log::Model| Ok(Line::of_consumption(Consumption::try_from(row)?));
        self.of_each::<log::Model, _>(claims, &SPENT, &rows, line).await
    }

    /// What a statement finds for each of the pairs.
    async fn of_each<M: FromQueryResult, T>(
        &self,
        claims: &[WebhookClaim],
        statement: &Statement,
        rows: &Rows,
        read: impl Fn(M) -> Result<Option<T>, StoreError>,
    ) -> Result<Vec<Vec<T>>, StoreError> {
        let mut of_each: Vec<Vec<T>> = claims.iter().map(|_| Vec::new()).collect();
        if rows.is_empty() {
            return Ok(of_each);
        }
        for row in statement.query(self.database(), rows).await? {
            if let Some(of_one) = of_each.get_mut(nth(&row)?) {
                of_one.extend(read(M::from_query_result(&row, "")?)?);
            }
        }
        Ok(of_each)
    }

    async fn subjects<'a>(&self, lines: impl Iterator<Item = &'a Line>) -> Result<Subjects, StoreError> {
        let (mut grants, mut holds, mut consumptions) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for line in lines {
            let Source::Booked(Movement { kind, reference: Some(reference), .. }) = &line.source else { continue };
            let of_kind = match kind {
                MovementKind::Grant | MovementKind::PeriodGrant | MovementKind::Expiry | MovementKind::Void => {
                    &mut grants
                }
                MovementKind::Hold | MovementKind::Release | MovementKind::HoldExpiry => &mut holds,
                MovementKind::Capture => &mut consumptions,
                _ => continue,
            };
            of_kind.insert((line.organization_id, *reference));
        }
        let mut subjects = Subjects::default();
        for row in self.with_ids::<log::Model>(&CONSUMPTIONS, consumptions).await? {
            let organization_id = OrganizationId::new(row.organization_id);
            holds.extend(row.hold_id.map(|hold_id| (organization_id, hold_id)));
            subjects.consumptions.insert((organization_id, row.id), row.try_into()?);
        }
        for row in self.with_ids::<credit_grants::Model>(&GRANTS, grants).await? {
            subjects.grants.insert((OrganizationId::new(row.organization_id), row.id), row.try_into()?);
        }
        for row in self.with_ids::<credit_holds::Model>(&HOLDS, holds).await? {
            subjects.holds.insert((OrganizationId::new(row.organization_id), row.id), row.try_into()?);
        }
        Ok(subjects)
    }

    async fn with_ids<M: FromQueryResult>(
        &self,
        statement: &Statement,
        ids: BTreeSet<Subject>,
    ) -> Result<Vec<M>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut rows = statement.rows();
        for (organization_id, id) in ids {
            rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Uuid(id)).end();
        }
        let found = statement.query(self.database(), &rows).await?;
        Ok(found.iter().map(|row| M::from_query_result(row, "")).collect::<Result<_, _>>()?)
    }

    async fn refusal_streams(&self, claims: &[WebhookClaim]) -> Result<Vec<Stream>, StoreError> {
        let is_asked = |claim: &WebhookClaim| {
            claim.endpoint.events.wants(EventType::CreditsRefused) && claim.refused_until > claim.position.refused_at
        };
        let mut rows = REFUSED.rows();
        for (nth, claim) in numbered(claims).filter(|(_, claim)| is_asked(claim)) {
            common(&mut rows, nth, claim)
                .cell(Cell::Time(claim.position.refused_at))
                .cell(Cell::Uuid(claim.position.refused_id))
                .cell(Cell::Time(claim.refused_until))
                .end();
        }
        let of_each = self
            .of_each::<log::Model, _>(claims, &REFUSED, &rows, |row| {
                let place = Mark::Refusal { at: row.created_at, id: row.id };
                Ok(Some((refused(row.try_into()?), place)))
            })
            .await?;
        let streams = claims.iter().zip(of_each).map(|(claim, events)| {
            let Position { refused_at, refused_id, .. } = claim.position;
            let is_cut = events.len() >= ROWS_AT_ONCE;
            let end = match events.last() {
                Some((_, last)) if is_cut => *last,
                _ if is_asked(claim) => Mark::Refusal { at: claim.refused_until, id: Uuid::nil() },
                _ => Mark::Refusal { at: refused_at, id: refused_id },
            };
            Stream { events: events.into(), end, is_cut }
        });
        Ok(streams.collect())
    }

    async fn raised_streams(&self, claims: &[WebhookClaim], heads: &[Heads]) -> Result<Vec<Stream>, StoreError> {
        // They are numbered without a gap.
        let last = |claim: &WebhookClaim, heads: &Heads| {
            heads.raised.min(claim.position.raised_number + i64::try_from(LAST_AT_ONCE).unwrap_or(i64::MAX))
        };
        let mut rows = RAISED.rows();
        for ((nth, claim), heads) in numbered(claims).zip(heads) {
            let first = claim.position.raised_number;
            if heads.raised >= first {
                let row = common(&mut rows, nth, claim).cell(Cell::Int(first));
                row.cell(Cell::Int(last(claim, heads))).end();
            }
        }
        let of_each = self
            .of_each::<raised_events::Model, _>(claims, &RAISED, &rows, |row| {
                let place = Mark::Raised { number: row.number + 1 };
                Ok(raised(row).map(|event| (event, place)))
            })
            .await?;
        let streams = claims.iter().zip(heads).zip(of_each).map(|((claim, heads), events)| {
            let filter = &claim.endpoint.events;
            let number = claim.position.raised_number.max(last(claim, heads) + 1);
            Stream {
                events: events.into_iter().filter(|(event, _)| filter.wants(event.event_type)).collect(),
                end: Mark::Raised { number },
                is_cut: heads.raised >= number,
            }
        });
        Ok(streams.collect())
    }
}

fn wants_consumed(claim: &WebhookClaim) -> bool {
    claim.endpoint.events.wants(EventType::CreditsConsumed)
}

/// The pairs, and what their rows are called by.
fn numbered(claims: &[WebhookClaim]) -> impl Iterator<Item = (i64, &WebhookClaim)> {
    (0..).zip(claims)
}

/// Begins a pair's row.
fn common<'a>(rows: &'a mut Rows, nth: i64, claim: &WebhookClaim) -> &'a mut Rows {
    rows.cell(Cell::Int(nth)).cell(Cell::Uuid(claim.organization_id.uuid()))
}

/// Which pair a row is of.
fn nth(row: &QueryResult) -> Result<usize, StoreError> {
    let nth: i32 = row.try_get("", "nth")?;
    usize::try_from(nth).map_err(|_| StoreError::Internal("a row is of no pair".to_owned()))
}

impl Line {
    const fn of_movement(organization_id: OrganizationId, movement: Movement) -> Self {
        let Movement { sequence, kind, created_at, .. } = movement;
        Self { organization_id, sequence, kind, created_at, source: Source::Booked(movement) }
    }

    fn of_consumption(consumption: Consumption) -> Option<Self> {
        let Outcome::Spent { sequence, .. } = consumption.outcome else { return None };
        let Consumption { organization_id, created_at, .. } = consumption;
        let kind = MovementKind::Consumption;
        Some(Self { organization_id, sequence, kind, created_at, source: Source::Spent(consumption) })
    }
}

const fn mark(position: Position) -> Mark {
    Mark::Movement { sequence: position.sequence, place: position.place, told_at: position.told_at }
}

/// The events of these movements that are wanted and were not told, each with the place behind it.
fn told(from: Position, lines: &[Line], subjects: &Subjects, filter: &EventFilter) -> VecDeque<(Event, Mark)> {
    let mut events = VecDeque::new();
    for line in lines {
        let of_line = EventId::of_movement(line.organization_id, line.sequence, line.kind);
        for (place, (id, event_type)) in (0_i32..).zip(of_line) {
            if (line.sequence == from.sequence && place < from.place) || !filter.wants(event_type) {
                continue;
            }
            let behind = Mark::Movement { sequence: line.sequence, place: place + 1, told_at: line.created_at };
            events.extend(event(line, id, event_type, subjects).map(|event| (event, behind)));
        }
    }
    events
}

/// An event of a movement; `None` where what it tells of was dropped.
fn event(line: &Line, id: EventId, event_type: EventType, subjects: &Subjects) -> Option<Event> {
    let detail = match &line.source {
        Source::Spent(consumption) => EventDetail::Consumption(Box::new(consumption.clone())),
        Source::Booked(movement) => {
            let reference = movement.reference?;
            let subject = (line.organization_id, reference);
            match (line.kind, event_type) {
                (MovementKind::Capture, EventType::CreditsConsumed) => {
                    EventDetail::Consumption(Box::new(subjects.consumptions.get(&subject)?.clone()))
                }
                (MovementKind::Capture, _) => {
                    let hold_id = subjects.consumptions.get(&subject)?.hold_id?;
                    let hold = subjects.holds.get(&(line.organization_id, hold_id.uuid())).cloned();
                    EventDetail::Hold(Box::new((movement.clone(), hold_id, hold)))
                }
                (MovementKind::Hold | MovementKind::Release | MovementKind::HoldExpiry, _) => {
                    let hold = subjects.holds.get(&subject).cloned();
                    EventDetail::Hold(Box::new((movement.clone(), HoldId::new(reference), hold)))
                }
                (MovementKind::Refund, _) => EventDetail::Refund(Box::new(movement.clone())),
                _ => EventDetail::Grant(Box::new((movement.clone(), subjects.grants.get(&subject)?.clone()))),
            }
        }
    };
    let Line { organization_id, created_at: occurred_at, .. } = *line;
    Some(Event { id, event_type, organization_id, occurred_at, detail })
}

fn refused(consumption: Consumption) -> Event {
    Event {
        id: EventId::of_refusal(ConsumptionId::new(consumption.id.uuid())),
        event_type: EventType::CreditsRefused,
        organization_id: consumption.organization_id,
        occurred_at: consumption.created_at,
        detail: EventDetail::Consumption(Box::new(consumption)),
    }
}

/// `None` of a type that a later release raises.
fn raised(row: raised_events::Model) -> Option<Event> {
    let organization_id = OrganizationId::new(row.organization_id);
    Some(Event {
        id: EventId::of_raised(organization_id, row.number),
        event_type: EventType::from_name(&row.event_type)?,
        organization_id,
        occurred_at: row.occurred_at,
        detail: EventDetail::Raised(row.data),
    })
}

/// Puts the streams together by their instants. Where one was not read to its end, nothing is told that may come later.
fn merge(from: Position, mut streams: [Stream; 3]) -> EventBatch {
    let mut position = from;
    let mut events = Vec::new();
    loop {
        if streams.iter().any(|stream| stream.is_cut && stream.events.is_empty()) {
            break;
        }
        let heads = streams.iter_mut().filter(|stream| !stream.events.is_empty());
        let next = heads.min_by_key(|stream| stream.events.front().map(|(event, _)| event.occurred_at));
        let Some((event, mark)) = next.and_then(|stream| stream.events.pop_front()) else { break };
        mark.set(&mut position);
        events.push((event, position));
    }
    let mut end = position;
    for stream in streams.iter().filter(|stream| stream.events.is_empty()) {
        stream.end.set(&mut end);
    }
    let is_cut = streams.iter().any(|stream| stream.is_cut || !stream.events.is_empty());
    EventBatch { events, end, is_cut }
}
