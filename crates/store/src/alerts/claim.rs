//! The cursor of an organization while somebody has it, and writing what comes of that.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use multicredit_domain::alert::Place;
use multicredit_domain::{
    AlertMeasure, AlertRule, AlertRuleId, AlertState, CreditType, EventType, OrganizationId, Timestamp,
};
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QueryResult,
};
use serde_json::Value;

use crate::entity::{alert_cursors, alert_rules, alert_states, credits};
use crate::error::StoreError;
use crate::sql::{Cell, Column, Kind, Statement, credit_columns, entity_columns};

fn by_organization() -> Column {
    Column::new("organization_id", Kind::Uuid)
}

static LOCK: LazyLock<Statement> = LazyLock::new(|| {
    Statement::of_text(vec![by_organization()], |d| {
        let skip = if d.lock_c.is_empty() { "" } else { "SKIP LOCKED" };
        format!(
            "SELECT {} FROM {} JOIN alert_cursors c ON c.organization_id = v.organization_id {} {skip}",
            entity_columns::<alert_cursors::Entity>("c", ""),
            d.source,
            d.lock_c
        )
    })
});

/// Answers nothing where there is a cursor that somebody else has.
static BEGIN: LazyLock<Statement> = LazyLock::new(|| {
    Statement::of_text(vec![by_organization(), Column::new("now", Kind::Time)], |d| {
        // `WHERE true`: without it SQLite takes ON for the beginning of a join's condition.
        format!(
            "INSERT INTO alert_cursors (organization_id, sequence, moved_at, updated_at) \
             SELECT v.organization_id, 0, {}, v.now FROM {} WHERE true ON CONFLICT (organization_id) DO NOTHING \
             RETURNING organization_id",
            d.instant("0001-01-01T00:00:00+00:00"),
            d.source
        )
    })
});

static MOVE: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns = vec![
        Column::new("sequence", Kind::BigInt),
        Column::new("moved_at", Kind::Time),
        Column::new("last_number", Kind::BigInt),
        Column::new("forecast_at", Kind::Time),
        Column::new("updated_at", Kind::Time),
    ];
    columns.extend(credit_columns("available").chain(credit_columns("base")));
    let set = columns.iter().map(|Column { name, .. }| format!("{name} = v.{name}")).collect::<Vec<_>>().join(", ");
    columns.insert(0, by_organization());
    Statement::of_text(columns, |d| {
        format!("UPDATE alert_cursors AS a SET {set} FROM {} WHERE a.organization_id = v.organization_id", d.source)
    })
});

static INSERT_EVENTS: LazyLock<Statement> = LazyLock::new(|| {
    let columns = [
        ("organization_id", Kind::Uuid),
        ("number", Kind::BigInt),
        ("event_type", Kind::Text),
        ("occurred_at", Kind::Time),
        ("data", Kind::Json),
    ];
    Statement::insert_of_text("raised_events", columns.map(|(name, kind)| Column::new(name, kind)).into())
});

static PUT_STATES: LazyLock<Statement> = LazyLock::new(|| {
    let columns = [
        ("organization_id", Kind::Uuid),
        ("rule_id", Kind::Uuid),
        ("credit_type", Kind::Text),
        ("state", Kind::Text),
        ("since", Kind::Time),
        ("changed_at", Kind::Time),
    ];
    let names = columns.map(|(name, _)| name).join(", ");
    let columns = columns.map(|(name, kind)| Column::new(name, kind)).to_vec();
    Statement::of_text(columns, |d| {
        format!(
            "INSERT INTO alert_states ({names}) SELECT {names} FROM {} WHERE true \
             ON CONFLICT (organization_id, rule_id, credit_type) DO UPDATE SET state = excluded.state, \
             since = excluded.since, changed_at = excluded.changed_at",
            d.source
        )
    })
});

/// An event to raise.
#[derive(Debug)]
pub(super) struct NewEvent {
    pub(super) event: EventType,
    pub(super) occurred_at: Timestamp,
    pub(super) data: Value,
}

/// An organization's cursor, locked until the end of the transaction, and what there is to write with it.
pub(super) struct Claim<'a> {
    transaction: &'a DatabaseTransaction,
    pub(super) organization_id: OrganizationId,
    /// Up to where it was looked at.
    pub(super) place: Place,
    pub(super) forecast_at: Option<Timestamp>,
    last_number: i64,
    pub(super) now: Timestamp,
    pub(super) events: Vec<NewEvent>,
    pub(super) states: BTreeMap<(AlertRuleId, CreditType), (AlertState, Timestamp)>,
}

impl<'a> Claim<'a> {
    /// Claims an organization; `None` if somebody else has it.
    pub(super) async fn of(
        transaction: &'a DatabaseTransaction,
        organization_id: OrganizationId,
        now: Timestamp,
    ) -> Result<Option<Self>, StoreError> {
        let mut found = lock(transaction, organization_id).await?;
        if found.is_empty() {
            let mut rows = BEGIN.rows();
            rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Time(now)).end();
            if BEGIN.query_in(transaction, &rows).await?.is_empty() {
                return Ok(None);
            }
            found = lock(transaction, organization_id).await?;
        }
        let Some(row) = found.first() else { return Ok(None) };
        let row = alert_cursors::Model::from_query_result(row, "")?;
        let available = [
            row.ai_credits_available,
            row.whatsapp_credits_available,
            row.email_credits_available,
            row.sms_credits_available,
        ];
        let base = [row.ai_credits_base, row.whatsapp_credits_base, row.email_credits_base, row.sms_credits_base];
        let place = Place {
            sequence: row.sequence,
            at: row.moved_at,
            available: credits(available, "alert_cursors", "available")?,
            base: credits(base, "alert_cursors", "base")?,
        };
        let (forecast_at, last_number) = (row.forecast_at, row.last_number);
        let (events, states) = (Vec::new(), BTreeMap::new());
        Ok(Some(Self { transaction, organization_id, place, forecast_at, last_number, now, events, states }))
    }

    pub(super) const fn transaction(&self) -> &'a DatabaseTransaction {
        self.transaction
    }

    /// The active rules about the organization, of forecasts or of balances, in the order of their ids.
    pub(super) async fn rules(&self, of_forecasts: bool) -> Result<Vec<AlertRule>, StoreError> {
        use alert_rules::{Column, Entity};
        let whose = Condition::any()
            .add(Column::OrganizationId.eq(self.organization_id.uuid()))
            .add(Column::OrganizationId.is_null());
        let forecasts = AlertMeasure::ForecastDays.as_str();
        let rows = Entity::find()
            .filter(whose)
            .filter(Column::Active.eq(true))
            .filter(if of_forecasts { Column::Measure.eq(forecasts) } else { Column::Measure.ne(forecasts) })
            .order_by_asc(Column::Id)
            .all(self.transaction)
            .await?;
        Ok(rows.into_iter().map(AlertRule::try_from).collect::<Result<_, _>>()?)
    }

    /// How it stands with these rules, by rule and type of credits. What was a state of a rule that meant something else is
    /// none.
    pub(super) async fn read_states(
        &self,
        rules: &[AlertRule],
    ) -> Result<BTreeMap<(AlertRuleId, CreditType), AlertState>, StoreError> {
        use alert_states::{Column, Entity};
        let of_organization = Column::OrganizationId.eq(self.organization_id.uuid());
        let mut states = BTreeMap::new();
        for row in Entity::find().filter(of_organization).all(self.transaction).await? {
            let (rule_id, credit_type, state) = row.parts()?;
            if rules.iter().any(|rule| rule.id == rule_id && rule.since == row.since) {
                states.insert((rule_id, credit_type), state);
            }
        }
        Ok(states)
    }

    /// Raises the events, in the order in which they stand, and writes the states and the cursor. Answers how many events.
    pub(super) async fn write(self) -> Result<u64, StoreError> {
        let mut events = INSERT_EVENTS.rows();
        let organization_id = self.organization_id.uuid();
        let mut number = self.last_number;
        for event in &self.events {
            number += 1;
            events
                .cell(Cell::Uuid(organization_id))
                .cell(Cell::Int(number))
                .cell(Cell::Static(event.event.as_str()))
                .cell(Cell::Time(event.occurred_at))
                .cell(Cell::Text(event.data.to_string()))
                .end();
        }
        if !events.is_empty() {
            INSERT_EVENTS.query_in(self.transaction, &events).await?;
        }
        let mut states = PUT_STATES.rows();
        for ((rule_id, credit_type), (state, since)) in &self.states {
            states
                .cell(Cell::Uuid(organization_id))
                .cell(Cell::Uuid(rule_id.uuid()))
                .cell(Cell::Static(credit_type.as_str()))
                .cell(Cell::Static(state.as_str()))
                .cell(Cell::Time(*since))
                .cell(Cell::Time(self.now))
                .end();
        }
        if !states.is_empty() {
            PUT_STATES.query_in(self.transaction, &states).await?;
        }
        let mut cursor = MOVE.rows();
        cursor
            .cell(Cell::Uuid(organization_id))
            .cell(Cell::Int(self.place.sequence))
            .cell(Cell::Time(self.place.at))
            .cell(Cell::Int(number))
            .cell(Cell::opt(self.forecast_at, Cell::Time))
            .cell(Cell::Time(self.now))
            .credits(self.place.available)
            .credits(self.place.base)
            .end();
        MOVE.query_in(self.transaction, &cursor).await?;
        Ok(self.events.len() as u64)
    }
}

async fn lock(
    transaction: &DatabaseTransaction,
    organization_id: OrganizationId,
) -> Result<Vec<QueryResult>, StoreError> {
    let mut rows = LOCK.rows();
    rows.cell(Cell::Uuid(organization_id.uuid())).end();
    Ok(LOCK.query_in(transaction, &rows).await?)
}

/// Which types of credits a rule watches.
pub(super) fn types(rule: &AlertRule) -> impl Iterator<Item = CreditType> {
    let only = rule.credit_type;
    CreditType::ALL.into_iter().filter(move |credit_type| only.is_none_or(|only| only == *credit_type))
}

/// What is told of a rule and a balance, whatever it measures.
pub(super) fn told_of(rule: &AlertRule, credit_type: CreditType, available: i64) -> Value {
    serde_json::json!({
        "rule_id": rule.id,
        "rule_name": rule.name,
        "measure": rule.terms.measure,
        "threshold": rule.terms.threshold,
        "recover_at": rule.terms.recover_at,
        "credit_type": credit_type.as_str(),
        "available": available,
    })
}
