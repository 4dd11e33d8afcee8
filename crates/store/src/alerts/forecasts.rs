//! Rules of forecasts: looked at now and then, for they change by time alone.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::FutureExt as _;
use multicredit_domain::{AlertState, CreditType, OrganizationId};
use sea_orm::DatabaseTransaction;
use serde_json::json;

use super::Evaluated;
use super::claim::{Claim, NewEvent, told_of, types};
use super::find::Finding;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::repo::in_transaction;
use crate::store::{Store, now};
use crate::usage::ForecastView;

/// How often the forecast of an organization is looked at.
pub const FORECASTS_EVERY: Duration = Duration::from_mins(15);

impl Store {
    /// Looks at the forecasts that rules are about and that were not looked at for `every`, or not since the rules are as
    /// they are. The rate is that of the last seven days.
    pub async fn evaluate_forecasts(&self, every: Duration) -> Result<Evaluated, StoreError> {
        let mut done = Evaluated::default();
        let before = self.now().await? - TimeDelta::from_std(every).unwrap_or_default();
        let Some(statement) = self.watched().await?.forecasts else { return Ok(done) };
        let mut due = Finding::new(statement, Some(before));
        while let Some(organization_id) = due.next(self).await? {
            done.add(organization_id, self.look_ahead(organization_id).await);
        }
        Ok(done)
    }

    async fn look_ahead(&self, organization_id: OrganizationId) -> Result<u64, StoreError> {
        // Outside the transaction: it reads at length, and what it says is of this instant whoever else looks.
        let view = self.forecast(organization_id).await?;
        let clock = self.clock().clone();
        let judging = in_transaction(self.database(), move |transaction| {
            judge(transaction, clock, organization_id, view).boxed()
        });
        judging.await
    }
}

async fn judge(
    transaction: &DatabaseTransaction,
    clock: Clock,
    organization_id: OrganizationId,
    view: ForecastView,
) -> Result<u64, StoreError> {
    let now = now(transaction, &clock).await?;
    let Some(mut claim) = Claim::of(transaction, organization_id, now).await? else { return Ok(0) };
    // Somebody looked at a later forecast meanwhile.
    if claim.forecast_at.is_some_and(|looked_at| looked_at >= view.as_of) {
        return Ok(0);
    }
    let Some(forecast) = view.forecasts.first() else { return Ok(0) };
    let rules = claim.rules(true).await?;
    let states = claim.read_states(&rules).await?;
    let runs_out: BTreeMap<_, _> = CreditType::ALL.into_iter().zip(forecast.runs_out_at).collect();
    for rule in &rules {
        for credit_type in types(rule) {
            let runs_out_at = runs_out.get(&credit_type).copied().flatten();
            let level = rule.terms.level_of_forecast(runs_out_at, view.as_of);
            let state = states.get(&(rule.id, credit_type)).copied();
            let (after, told) = state.unwrap_or_else(|| AlertState::beginning(level)).after(level);
            if state != Some(after) {
                claim.states.insert((rule.id, credit_type), (after, rule.since));
            }
            if let Some(told) = told {
                let mut data = told_of(rule, credit_type, view.available[credit_type].get());
                data["runs_out_at"] = json!(runs_out_at);
                claim.events.push(NewEvent { event: rule.terms.event(told), occurred_at: view.as_of, data });
            }
        }
    }
    claim.forecast_at = Some(view.as_of);
    claim.write().await
}
