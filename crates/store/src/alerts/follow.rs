//! Following the ledger of one organization: what its rules tell of the movements since the cursor.

use futures_util::FutureExt as _;
use multicredit_domain::alert::{Crossing, Place, Step, Told, follow};
use multicredit_domain::{
    Account, AlertMeasure, AlertRule, Amount, CreditType, Credits, Movement, MovementKind, OrganizationId, Timestamp,
};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::claim::{Claim, NewEvent, told_of, types};
use super::start::place_at;
use crate::clock::Clock;
use crate::entity::{credit_consumption_logs, credit_movements, organization_credits};
use crate::error::StoreError;
use crate::repo::in_transaction;
use crate::store::{Store, now};

/// How many movements other than spending are looked at in one transaction. Who has more is looked at again.
const STEPS_MAX: usize = 1_000;

/// What a look at an organization did.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    events: u64,
    /// Whether there are movements that did not fit.
    has_more: bool,
}

/// Where it became so, as far as the ledger still says.
struct Spot {
    sequence: i64,
    at: Timestamp,
    available: i64,
    consumption_id: Option<Uuid>,
}

impl Store {
    /// Looks at an organization up to its last movement. Answers how many events were raised; none where somebody else
    /// looks at it.
    pub(super) async fn follow_to_the_end(&self, organization_id: OrganizationId) -> Result<u64, StoreError> {
        let mut events = 0;
        loop {
            let clock = self.clock().clone();
            let looking =
                in_transaction(self.database(), move |transaction| look(transaction, clock, organization_id).boxed());
            let look = looking.await?;
            events += look.events;
            if !look.has_more {
                return Ok(events);
            }
        }
    }
}

async fn look(
    transaction: &DatabaseTransaction,
    clock: Clock,
    organization_id: OrganizationId,
) -> Result<Look, StoreError> {
    let now = now(transaction, &clock).await?;
    let Some(mut claim) = Claim::of(transaction, organization_id, now).await? else { return Ok(Look::default()) };
    // The account first: whatever else is read later has seen its last movement.
    let Some(account) = account(transaction, organization_id).await? else { return Ok(Look::default()) };
    if account.sequence <= claim.place.sequence {
        return Ok(Look::default());
    }
    let rules = claim.rules(false).await?;
    if rules.is_empty() {
        return Ok(Look::default());
    }
    let states = claim.read_states(&rules).await?;
    let mut starts = Vec::with_capacity(rules.len());
    for rule in &rules {
        let begins = types(rule).any(|credit_type| !states.contains_key(&(rule.id, credit_type)));
        let place = if begins { place_at(transaction, &account, rule.since).await? } else { claim.place };
        // What lies before the cursor was looked at when the rule was not there yet.
        starts.push(if place.sequence > claim.place.sequence { place } else { claim.place });
    }
    let first = starts.iter().copied().min_by_key(|start| start.sequence).unwrap_or(claim.place);
    let (steps, end) = read_steps(transaction, &account, first.sequence).await?;
    let mut told = Vec::new();
    // A rule that begins beyond what was read begins with a later look.
    for (rule, start) in rules.iter().zip(&starts).filter(|(_, start)| start.sequence <= end.sequence) {
        for credit_type in types(rule) {
            let state = states.get(&(rule.id, credit_type)).copied();
            let (after, crossings) = follow(&rule.terms, credit_type, state, *start, &steps, end);
            if state != Some(after) {
                claim.states.insert((rule.id, credit_type), (after, rule.since));
            }
            for crossing in crossings {
                told.push((spot(transaction, organization_id, rule, &crossing, &steps, start).await?, rule, crossing));
            }
        }
    }
    told.sort_by_key(|(spot, rule, crossing)| (spot.sequence, rule.id, crossing.credit_type));
    claim.events.extend(told.into_iter().map(|(spot, rule, crossing)| event(&spot, rule, &crossing)));
    let base = steps.iter().fold(first, Place::after).base;
    claim.place = Place { base, ..end };
    Ok(Look { events: claim.write().await?, has_more: end.sequence < account.sequence })
}

/// The account as it is stored; `None` if there is no such organization.
pub(super) async fn account(
    transaction: &DatabaseTransaction,
    organization_id: OrganizationId,
) -> Result<Option<Account>, StoreError> {
    let row = organization_credits::Entity::find_by_id(organization_id.uuid()).one(transaction).await?;
    Ok(row.map(Account::try_from).transpose()?)
}

/// The movements other than spending between one and where the account is, as many as fit, and where that is.
async fn read_steps(
    transaction: &DatabaseTransaction,
    account: &Account,
    after: i64,
) -> Result<(Vec<Step>, Place), StoreError> {
    use credit_movements::{Column, Entity};
    let rows = Entity::find()
        .filter(Column::OrganizationId.eq(account.organization_id.uuid()))
        .filter(Column::Sequence.gt(after))
        .filter(Column::Sequence.lte(account.sequence))
        .order_by_asc(Column::Sequence)
        .limit(STEPS_MAX as u64)
        .all(transaction)
        .await?;
    let is_all = rows.len() < STEPS_MAX;
    let steps = rows.into_iter().map(|row| step(&Movement::try_from(row)?)).collect::<Result<Vec<_>, _>>()?;
    let there = |sequence, at, available| Place { sequence, at, available, base: Credits::ZERO };
    let end = match steps.last() {
        Some(last) if !is_all => there(last.sequence, last.at, last.after),
        _ => there(account.sequence, account.last_movement_at, account.available),
    };
    Ok((steps, end))
}

fn step(movement: &Movement) -> Result<Step, StoreError> {
    let (change, after) = (movement.change.available, movement.balance_after.available);
    let mut before = after.to_array().map(Amount::get);
    for (before, change) in before.iter_mut().zip(change.to_array()) {
        *before -= change;
    }
    let is_grant = matches!(movement.kind, MovementKind::Grant | MovementKind::PeriodGrant | MovementKind::Activation);
    let granted = if is_grant { Credits::from_sums(change.to_array()) } else { Credits::ZERO };
    Ok(Step {
        sequence: movement.sequence,
        at: movement.created_at,
        before: crate::entity::credits(before, "credit_movements", "available_change")?,
        after,
        granted,
    })
}

/// Finds out where exactly it became so: at a movement that was read, or at a consumption, which the log has.
async fn spot(
    transaction: &DatabaseTransaction,
    organization_id: OrganizationId,
    rule: &AlertRule,
    crossing: &Crossing,
    steps: &[Step],
    start: &Place,
) -> Result<Spot, StoreError> {
    use credit_consumption_logs::{Column, Entity};
    let known =
        Spot { sequence: crossing.through, at: crossing.at, available: crossing.available.get(), consumption_id: None };
    let at_step = |sequence| steps.binary_search_by_key(&sequence, |step: &Step| step.sequence).ok();
    let low_max = rule.terms.low_max(crossing.base);
    let Some(low_max) = low_max.filter(|_| crossing.told == Told::Low && at_step(crossing.through).is_none()) else {
        return Ok(known);
    };
    let from = at_step(crossing.after).map_or(start.at, |index| steps[index].at);
    let available = match crossing.credit_type {
        CreditType::Ai => Column::AiCreditsAvailableAfter,
        CreditType::Whatsapp => Column::WhatsappCreditsAvailableAfter,
        CreditType::Email => Column::EmailCreditsAvailableAfter,
        CreditType::Sms => Column::SmsCreditsAvailableAfter,
    };
    let found = Entity::find()
        .filter(Column::OrganizationId.eq(organization_id.uuid()))
        .filter(Column::CreatedAt.gte(from))
        .filter(Column::CreatedAt.lte(crossing.at))
        .filter(Column::Sequence.gt(crossing.after))
        .filter(Column::Sequence.lte(crossing.through))
        .filter(available.lte(low_max))
        .order_by_asc(Column::CreatedAt)
        .order_by_asc(Column::Sequence)
        .one(transaction)
        .await?;
    let Some(row) = found else { return Ok(known) };
    let left = match crossing.credit_type {
        CreditType::Ai => row.ai_credits_available_after,
        CreditType::Whatsapp => row.whatsapp_credits_available_after,
        CreditType::Email => row.email_credits_available_after,
        CreditType::Sms => row.sms_credits_available_after,
    };
    Ok(Spot {
        sequence: row.sequence.unwrap_or(known.sequence),
        at: row.created_at,
        available: left.unwrap_or(known.available),
        consumption_id: Some(row.id),
    })
}

fn event(spot: &Spot, rule: &AlertRule, crossing: &Crossing) -> NewEvent {
    let mut data = told_of(rule, crossing.credit_type, spot.available);
    data["sequence"] = spot.sequence.into();
    if rule.terms.measure == AlertMeasure::Share {
        data["last_grant"] = crossing.base.get().into();
    }
    if let Some(id) = spot.consumption_id {
        data["consumption_id"] = id.to_string().into();
    }
    NewEvent { event: rule.terms.event(crossing.told), occurred_at: spot.at, data }
}
