//! The express path on SQLite: one transaction of small statements, prepared once, on the writer's own thread.
//!
//! It does what the SQL function does on PostgreSQL, in the same order and with the same meaning. The file's write lock
//! takes the place of the locks of rows and prices: from `BEGIN IMMEDIATE` on nobody else changes anything.
//!
//! The accounts come first, then the log, then the keys, each in the order of organizations: neighbours in a tree are
//! written one after the other, and a page is looked for once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::TimeDelta;
use multicredit_domain::consume::Outcome;
use multicredit_domain::{Actor, Amount, Consumption, CreditType, Credits, Metadata, OrganizationId, Timestamp};
use rusqlite::{CachedStatement, Connection as Sqlite, OptionalExtension as _, Row, ToSql};

use super::{After, Demand, Item, consumptions};
use crate::clock;
use crate::error::{AttemptError, StoreError, is_unique_violation_of};
use crate::sql::{Connection, Fault, credit_columns, time_text};

/// The version of an action that is in force, if it may be charged.
const PRICE_IN_FORCE: &str = "SELECT version, active FROM credit_action_versions \
     WHERE action_type = ?1 AND effective_at <= ?2 ORDER BY effective_at DESC, version DESC LIMIT 1";

const FIND_KEY: &str = "SELECT 1 FROM idempotency_keys WHERE organization_id = ?1 AND key_id = ?2";

/// Spends a sum where nothing is out of the ordinary.
static TAKE: LazyLock<String> = LazyLock::new(|| {
    let columns: Vec<_> = credit_columns("available").map(|column| column.name).zip(4..).collect();
    let each = |sep: &str, text: &dyn Fn(&str, i32) -> String| {
        columns.iter().map(|(name, nth)| text(name, *nth)).collect::<Vec<_>>().join(sep)
    };
    format!(
        "UPDATE organization_credits SET {spend}, sequence = sequence + ?3, last_movement_at = ?2 \
         WHERE organization_id = ?1 AND status = 'active' AND {affordable} \
         AND (next_boundary_at IS NULL OR next_boundary_at > ?2) AND last_movement_at <= ?2 \
         RETURNING sequence, {after}",
        spend = each(", ", &|name, nth| format!("{name} = {name} - ?{nth}")),
        affordable = each(" AND ", &|name, nth| format!("{name} >= ?{nth}")),
        after = each(", ", &|name, _| name.to_owned()),
    )
});

static LOG: LazyLock<String> = LazyLock::new(|| {
    let fixed = "organization_id, created_at, success, id, action_type, quantity, metadata, occurred_at, sequence, \
                 price_version, actor";
    let credits: Vec<_> =
        credit_columns("consumed").chain(credit_columns("available_after")).map(|column| column.name).collect();
    let parameters: Vec<_> = (3..11 + credits.len()).map(|nth| format!("?{nth}")).collect();
    format!(
        "INSERT INTO credit_consumption_logs ({fixed}, {}) VALUES (?1, ?2, 1, {})",
        credits.join(", "),
        parameters.join(", ")
    )
});

const BIND_KEY: &str = "INSERT INTO idempotency_keys \
     (organization_id, reference_at, operation, key_id, fingerprint, reference, expires_on) \
     VALUES (?1, ?2, 'consume', ?3, ?4, ?5, ?6)";

/// Spends what can be spent of a demand. It does not wait for anything but the file.
pub(super) async fn spend(
    connection: &mut Connection,
    demand: &Demand<'_>,
    clock: Option<Timestamp>,
    screens: bool,
) -> Result<Vec<(usize, Consumption)>, AttemptError> {
    let Some(direct) = connection.direct().await? else { return Ok(Vec::new()) };
    let spent = direct.in_transaction(|sqlite| {
        let at = clock.unwrap_or_else(clock::now);
        Spending { sqlite, at, time: time_text(at) }.spend(demand, screens).map_err(nothing_happened)
    });
    if let Err(error) = &spent
        && !is_unique_violation_of(error)
    {
        connection.drop_direct();
    }
    Ok(spent?.unwrap_or_default())
}

/// What fails before the commit is for the portable path to find out more about.
fn nothing_happened(error: AttemptError) -> sqlx::Error {
    match error {
        AttemptError::Database(error) => error,
        AttemptError::Store(error) => sqlx::Error::Decode(Box::new(error)),
    }
}

/// A transaction that spends.
struct Spending<'a> {
    sqlite: &'a Sqlite,
    /// The instant of everything in it.
    at: Timestamp,
    time: String,
}

impl Spending<'_> {
    /// Answers what was spent; `None` if nothing was.
    fn spend(&self, demand: &Demand<'_>, screens: bool) -> Result<Option<Vec<(usize, Consumption)>>, AttemptError> {
        if !self.has_prices_in_force(demand)? {
            return Ok(None);
        }
        let mut spent = Vec::new();
        let taken = self.take(demand, screens, &mut spent)?;
        self.log(&spent)?;
        self.bind(taken)?;
        Ok(Some(spent).filter(|spent| !spent.is_empty()))
    }

    /// Whether every item was calculated with the price that is in force.
    fn has_prices_in_force(&self, demand: &Demand<'_>) -> Result<bool, Fault> {
        let versions: BTreeMap<&str, i32> =
            demand.values().flatten().map(|item| (item.request.action.as_str(), item.version)).collect();
        let mut find = self.sqlite.prepare_cached(PRICE_IN_FORCE)?;
        for (action, version) in versions {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let in_force: Option<(i32, bool)> = find.query_row((action, &self.time), read).optional()?;
            if in_force != Some((version, true)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes from every account what is asked of it, where the whole sum fits and nothing is out of the ordinary. Answers
    /// the items of those, and adds their consumptions to `spent`.
    fn take<'d>(
        &self,
        demand: &'d Demand<'_>,
        screens: bool,
        spent: &mut Vec<(usize, Consumption)>,
    ) -> Result<Vec<(OrganizationId, &'d [Item<'d>])>, AttemptError> {
        let mut find_key = self.sqlite.prepare_cached(FIND_KEY).map_err(Fault)?;
        let mut take = self.sqlite.prepare_cached(&TAKE).map_err(Fault)?;
        let mut taken = Vec::with_capacity(demand.len());
        for (organization_id, items) in demand {
            if screens && knows_a_key(&mut find_key, *organization_id, items)? {
                continue;
            }
            if let Some(after) = self.take_from(&mut take, *organization_id, items)? {
                consumptions(&after, demand, spent)?;
                taken.push((*organization_id, items.as_slice()));
            }
        }
        Ok(taken)
    }

    fn take_from(
        &self,
        take: &mut CachedStatement<'_>,
        organization_id: OrganizationId,
        items: &[Item<'_>],
    ) -> Result<Option<After>, AttemptError> {
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        let total = items.last().map_or(Credits::ZERO, |item| item.so_far);
        let mut binding = Binding::of(take);
        binding.next(organization_id.uuid().as_bytes().as_slice())?.next(&self.time)?.next(count)?.credits(total)?;
        let mut rows = take.raw_query();
        let Some(row) = rows.next().map_err(Fault)? else { return Ok(None) };
        let after = after(row, organization_id, self.at);
        // To the end, or the statement would still be at work when the transaction is committed.
        if rows.next().map_err(Fault)?.is_some() {
            return Err(StoreError::Internal("an organization has two accounts".to_owned()).into());
        }
        after.map(Some)
    }

    fn log(&self, spent: &[(usize, Consumption)]) -> Result<(), Fault> {
        let mut log = self.sqlite.prepare_cached(&LOG)?;
        for (_, consumption) in spent {
            let Outcome::Spent { sequence, available } = consumption.outcome else { continue };
            let request = &consumption.request;
            Binding::of(&mut log)
                .next(consumption.organization_id.uuid().as_bytes().as_slice())?
                .next(&self.time)?
                .next(consumption.id.uuid().as_bytes().as_slice())?
                .next(request.action.as_str())?
                .next(request.quantity.get())?
                .next(request.metadata.as_ref().map(Metadata::to_json))?
                .next(request.occurred_at.map(time_text))?
                .next(sequence)?
                .next(consumption.price_version)?
                .next(request.actor.as_ref().map(Actor::as_str))?
                .credits(consumption.consumed)?
                .credits(available)?;
            log.raw_execute()?;
        }
        Ok(())
    }

    fn bind(&self, taken: Vec<(OrganizationId, &[Item<'_>])>) -> Result<(), Fault> {
        let mut bind = self.sqlite.prepare_cached(BIND_KEY)?;
        let mut last_day = (0, String::new());
        for (organization_id, items) in taken {
            for (item, binding) in items.iter().filter_map(|item| Some((item, item.binding?))) {
                let days = binding.key.kept_days();
                if last_day.0 != days {
                    last_day = (days, (self.at + TimeDelta::days(i64::from(days))).date_naive().to_string());
                }
                Binding::of(&mut bind)
                    .next(organization_id.uuid().as_bytes().as_slice())?
                    .next(&self.time)?
                    .next(binding.key.id().as_bytes().as_slice())?
                    .next(binding.fingerprint.as_bytes().as_slice())?
                    .next(item.id.as_bytes().as_slice())?
                    .next(&last_day.1)?;
                bind.raw_execute()?;
            }
        }
        Ok(())
    }
}

fn knows_a_key(
    find_key: &mut CachedStatement<'_>,
    organization_id: OrganizationId,
    items: &[Item<'_>],
) -> Result<bool, Fault> {
    for binding in items.iter().filter_map(|item| item.binding) {
        let organization = organization_id.uuid();
        if find_key.exists((organization.as_bytes().as_slice(), binding.key.id().as_bytes().as_slice()))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a row of [`TAKE`] says.
fn after(row: &Row<'_>, organization_id: OrganizationId, created_at: Timestamp) -> Result<After, AttemptError> {
    let mut available = Credits::ZERO;
    for (credit_type, nth) in CreditType::ALL.into_iter().zip(1_usize..) {
        let value = row.get(nth).map_err(Fault)?;
        available[credit_type] = Amount::new(value).map_err(|error| StoreError::Internal(error.to_string()))?;
    }
    Ok(After { organization_id, sequence: row.get(0).map_err(Fault)?, available, created_at })
}

/// The parameters of a statement, one after the other.
struct Binding<'a, 'c> {
    statement: &'a mut CachedStatement<'c>,
    nth: usize,
}

impl<'a, 'c> Binding<'a, 'c> {
    fn of(statement: &'a mut CachedStatement<'c>) -> Self {
        Self { statement, nth: 1 }
    }

    fn next(&mut self, value: impl ToSql) -> Result<&mut Self, Fault> {
        self.statement.raw_bind_parameter(self.nth, value)?;
        self.nth += 1;
        Ok(self)
    }

    fn credits(&mut self, credits: Credits) -> Result<&mut Self, Fault> {
        for amount in credits.to_array() {
            self.next(amount.get())?;
        }
        Ok(self)
    }
}
