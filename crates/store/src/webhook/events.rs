//! Reading events: what lies behind a cursor, and single ones by their id.
//!
//! Three streams, each in its own order: movements, which are rows of `credit_movements` and of the log of consumptions;
//! refused attempts, which are rows of the log; raised events. Between streams the instants decide, as far as both are
//! known. An event whose row was dropped by retention is passed over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use multicredit_domain::consume::Outcome;
use multicredit_domain::{
    Consumption, ConsumptionId, EventFilter, EventId, EventPlace, EventType, Grant, Hold, HoldId, Movement,
    MovementKind, OrganizationId, Timestamp,
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::claim::Position;
use super::{Event, EventDetail, WebhookClaim};
use crate::entity::{
    alert_cursors, credit_consumption_logs as log, credit_grants, credit_holds, credit_movements as movements,
    organization_credits, raised_events,
};
use crate::error::StoreError;
use crate::store::Store;

/// How many rows of a stream are read at once.
const ROWS_AT_ONCE: u64 = 100;

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
    sequence: i64,
    kind: MovementKind,
    created_at: Timestamp,
    source: Source,
}

enum Source {
    Booked(Movement),
    Spent(Consumption),
}

/// What movements refer to.
#[derive(Default)]
struct Subjects {
    grants: BTreeMap<Uuid, Grant>,
    holds: BTreeMap<Uuid, Hold>,
    consumptions: BTreeMap<Uuid, Consumption>,
}

impl Store {
    /// The events that a pair is to be told next.
    pub async fn webhook_events(&self, claim: &WebhookClaim) -> Result<EventBatch, StoreError> {
        let streams =
            [self.movement_stream(claim).await?, self.refusal_stream(claim).await?, self.raised_stream(claim).await?];
        Ok(merge(claim.position, streams))
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
                let subjects = self.subjects(organization_id, std::slice::from_ref(&line)).await?;
                let mut events = EventId::of_movement(organization_id, line.sequence, line.kind);
                let Some((id, event_type)) = events.nth(place) else { return Ok(None) };
                Ok(event(organization_id, &line, id, event_type, &subjects))
            }
        }
    }

    /// The movement of that number. A consumption is looked for between the movements around it, which have instants.
    async fn line(&self, organization_id: OrganizationId, sequence: i64) -> Result<Option<Line>, StoreError> {
        let organization = organization_id.uuid();
        let booked = movements::Entity::find_by_id((organization, sequence)).one(self.database()).await?;
        if let Some(row) = booked {
            return Ok(Some(Line::of_movement(Movement::try_from(row)?)));
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

    async fn movement_stream(&self, claim: &WebhookClaim) -> Result<Stream, StoreError> {
        let (organization_id, from) = (claim.organization_id, claim.position);
        let wants_consumed = claim.endpoint.events.wants(EventType::CreditsConsumed);
        // Before the rows: what is there up to these numbers is seen by whoever reads later.
        let account = organization_credits::Entity::find_by_id(organization_id.uuid()).one(self.database()).await?;
        let account = account.ok_or(StoreError::NotFound)?;
        let head = if wants_consumed { account.sequence } else { account.settled_sequence };
        let mut lines = Vec::new();
        let mut cut = head;
        if head >= from.sequence {
            let booked = self.booked_from(organization_id, from.sequence, head).await?;
            if booked.len() as u64 >= ROWS_AT_ONCE {
                cut = booked.last().map_or(cut, |line| line.sequence);
            }
            lines.extend(booked);
            if wants_consumed {
                let spent = self.spent_from(organization_id, from, head).await?;
                if spent.len() as u64 >= ROWS_AT_ONCE {
                    cut = spent.last().map_or(cut, |line| line.sequence).min(cut);
                }
                lines.extend(spent);
            }
        }
        lines.retain(|line| line.sequence <= cut);
        lines.sort_by_key(|line| line.sequence);
        let told_at = lines.last().map_or(from.told_at, |line| line.created_at);
        let subjects = self.subjects(organization_id, &lines).await?;
        let end = Mark::Movement { sequence: from.sequence.max(cut + 1), place: 0, told_at };
        let end = if head >= from.sequence { end } else { mark(from) };
        let events = told(organization_id, from, &lines, &subjects, &claim.endpoint.events);
        Ok(Stream { events, end, is_cut: cut < head })
    }

    async fn booked_from(&self, id: OrganizationId, from: i64, to: i64) -> Result<Vec<Line>, StoreError> {
        let rows = movements::Entity::find()
            .filter(movements::Column::OrganizationId.eq(id.uuid()))
            .filter(movements::Column::Sequence.gte(from))
            .filter(movements::Column::Sequence.lte(to))
            .order_by_asc(movements::Column::Sequence)
            .limit(ROWS_AT_ONCE)
            .all(self.database())
            .await?;
        rows.into_iter().map(|row| Ok(Line::of_movement(Movement::try_from(row)?))).collect()
    }

    /// Consumptions by instant and number, which is the order of their numbers. The instant bounds the search: no index
    /// holds the number.
    async fn spent_from(&self, id: OrganizationId, from: Position, to: i64) -> Result<Vec<Line>, StoreError> {
        let rows = log::Entity::find()
            .filter(log::Column::OrganizationId.eq(id.uuid()))
            .filter(log::Column::CreatedAt.gte(from.told_at))
            .filter(log::Column::Sequence.gte(from.sequence))
            .filter(log::Column::Sequence.lte(to))
            .filter(log::Column::HoldId.is_null())
            .order_by_asc(log::Column::CreatedAt)
            .order_by_asc(log::Column::Sequence)
            .limit(ROWS_AT_ONCE)
            .all(self.database())
            .await?;
        let spent = rows.into_iter().map(Consumption::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(spent.into_iter().filter_map(Line::of_consumption).collect())
    }

    async fn subjects(&self, id: OrganizationId, lines: &[Line]) -> Result<Subjects, StoreError> {
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
            of_kind.insert(*reference);
        }
        let mut subjects = Subjects::default();
        if !consumptions.is_empty() {
            let query = log::Entity::find().filter(log::Column::OrganizationId.eq(id.uuid()));
            for row in query.filter(log::Column::Id.is_in(consumptions)).all(self.database()).await? {
                holds.extend(row.hold_id);
                subjects.consumptions.insert(row.id, row.try_into()?);
            }
        }
        if !grants.is_empty() {
            let query = credit_grants::Entity::find().filter(credit_grants::Column::OrganizationId.eq(id.uuid()));
            for row in query.filter(credit_grants::Column::Id.is_in(grants)).all(self.database()).await? {
                subjects.grants.insert(row.id, row.try_into()?);
            }
        }
        if !holds.is_empty() {
            let query = credit_holds::Entity::find().filter(credit_holds::Column::OrganizationId.eq(id.uuid()));
            for row in query.filter(credit_holds::Column::Id.is_in(holds)).all(self.database()).await? {
                subjects.holds.insert(row.id, row.try_into()?);
            }
        }
        Ok(subjects)
    }

    async fn refusal_stream(&self, claim: &WebhookClaim) -> Result<Stream, StoreError> {
        let Position { refused_at, refused_id, .. } = claim.position;
        let is_wanted = claim.endpoint.events.wants(EventType::CreditsRefused);
        let mut end = Mark::Refusal { at: refused_at, id: refused_id };
        if !is_wanted || claim.refused_until <= refused_at {
            return Ok(Stream { events: VecDeque::new(), end, is_cut: false });
        }
        let later = Condition::any().add(log::Column::CreatedAt.gt(refused_at)).add(log::Column::Id.gt(refused_id));
        let rows = log::Entity::find()
            .filter(log::Column::OrganizationId.eq(claim.organization_id.uuid()))
            .filter(log::Column::Success.eq(false))
            .filter(log::Column::CreatedAt.gte(refused_at))
            .filter(log::Column::CreatedAt.lt(claim.refused_until))
            .filter(later)
            .order_by_asc(log::Column::CreatedAt)
            .order_by_asc(log::Column::Id)
            .limit(ROWS_AT_ONCE)
            .all(self.database())
            .await?;
        let is_cut = rows.len() as u64 >= ROWS_AT_ONCE;
        let mut events = VecDeque::with_capacity(rows.len());
        for row in rows {
            let place = Mark::Refusal { at: row.created_at, id: row.id };
            events.push_back((refused(row.try_into()?), place));
            end = place;
        }
        if !is_cut {
            end = Mark::Refusal { at: claim.refused_until, id: Uuid::nil() };
        }
        Ok(Stream { events, end, is_cut })
    }

    async fn raised_stream(&self, claim: &WebhookClaim) -> Result<Stream, StoreError> {
        let id = claim.organization_id.uuid();
        let from = claim.position.raised_number;
        let mut end = Mark::Raised { number: from };
        let heads = alert_cursors::Entity::find_by_id(id).one(self.database()).await?;
        if heads.is_none_or(|heads| heads.last_number < from) {
            return Ok(Stream { events: VecDeque::new(), end, is_cut: false });
        }
        let rows = raised_events::Entity::find()
            .filter(raised_events::Column::OrganizationId.eq(id))
            .filter(raised_events::Column::Number.gte(from))
            .order_by_asc(raised_events::Column::Number)
            .limit(ROWS_AT_ONCE)
            .all(self.database())
            .await?;
        let is_cut = rows.len() as u64 >= ROWS_AT_ONCE;
        let mut events = VecDeque::with_capacity(rows.len());
        for row in rows {
            end = Mark::Raised { number: row.number + 1 };
            let event = raised(row).filter(|event| claim.endpoint.events.wants(event.event_type));
            events.extend(event.map(|event| (event, end)));
        }
        Ok(Stream { events, end, is_cut })
    }
}

impl Line {
    const fn of_movement(movement: Movement) -> Self {
        let Movement { sequence, kind, created_at, .. } = movement;
        Self { sequence, kind, created_at, source: Source::Booked(movement) }
    }

    fn of_consumption(consumption: Consumption) -> Option<Self> {
        let Outcome::Spent { sequence, .. } = consumption.outcome else { return None };
        let created_at = consumption.created_at;
        Some(Self { sequence, kind: MovementKind::Consumption, created_at, source: Source::Spent(consumption) })
    }
}

const fn mark(position: Position) -> Mark {
    Mark::Movement { sequence: position.sequence, place: position.place, told_at: position.told_at }
}

/// The events of these movements that are wanted and were not told, each with the place behind it.
fn told(
    organization_id: OrganizationId,
    from: Position,
    lines: &[Line],
    subjects: &Subjects,
    filter: &EventFilter,
) -> VecDeque<(Event, Mark)> {
    let mut events = VecDeque::new();
    for line in lines {
        let of_line = EventId::of_movement(organization_id, line.sequence, line.kind);
        for (place, (id, event_type)) in (0_i32..).zip(of_line) {
            if (line.sequence == from.sequence && place < from.place) || !filter.wants(event_type) {
                continue;
            }
            let behind = Mark::Movement { sequence: line.sequence, place: place + 1, told_at: line.created_at };
            events.extend(event(organization_id, line, id, event_type, subjects).map(|event| (event, behind)));
        }
    }
    events
}

/// An event of a movement; `None` where what it tells of was dropped.
fn event(
    organization_id: OrganizationId,
    line: &Line,
    id: EventId,
    event_type: EventType,
    subjects: &Subjects,
) -> Option<Event> {
    let detail = match &line.source {
        Source::Spent(consumption) => EventDetail::Consumption(Box::new(consumption.clone())),
        Source::Booked(movement) => {
            let reference = movement.reference?;
            match (line.kind, event_type) {
                (MovementKind::Capture, EventType::CreditsConsumed) => {
                    EventDetail::Consumption(Box::new(subjects.consumptions.get(&reference)?.clone()))
                }
                (MovementKind::Capture, _) => {
                    let hold_id = subjects.consumptions.get(&reference)?.hold_id?;
                    let hold = subjects.holds.get(&hold_id.uuid()).cloned();
                    EventDetail::Hold(Box::new((movement.clone(), hold_id, hold)))
                }
                (MovementKind::Hold | MovementKind::Release | MovementKind::HoldExpiry, _) => {
                    let hold = subjects.holds.get(&reference).cloned();
                    EventDetail::Hold(Box::new((movement.clone(), HoldId::new(reference), hold)))
                }
                (MovementKind::Refund, _) => EventDetail::Refund(Box::new(movement.clone())),
                _ => EventDetail::Grant(Box::new((movement.clone(), subjects.grants.get(&reference)?.clone()))),
            }
        }
    };
    Some(Event { id, event_type, organization_id, occurred_at: line.created_at, detail })
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
