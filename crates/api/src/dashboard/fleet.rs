//! All organizations: totals, who uses the most, the newest attempts, what is spent together, and what needs attention.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use askama::Template;
use chrono::TimeDelta;
use multicredit_domain::consume::Outcome;
use multicredit_domain::{Amount, Consumption, CreditType, OrganizationId, OrganizationStatus, Timestamp};
use multicredit_store::performance::Severity;
use multicredit_store::{Attempts, Combination, FleetTotals, PageRequest, Store, SummaryRow, TopOrder};
use poem::Response;
use tokio::sync::Mutex;

use super::answer::{self, Shell};
use super::organization;
use super::query::Query;
use super::session::Visit;
use super::show::{self, Chips, Kind, Moment, words};
use crate::auth::scope;
use crate::limits::FLEET_SHOWN_FOR;
use crate::problem::Problem;

/// How many rows each list has.
const ROWS: u32 = 10;

/// How many of the busiest organizations are asked how long their credits last: three statements each.
const FORECASTS: u32 = 12;

/// What runs out sooner is worth an alert.
const SOON: TimeDelta = TimeDelta::days(7);

/// How wide the bar of the most frequent combination is.
const BAR_WIDTH: f64 = 120.0;

/// What was last found. Whoever asks while it is looked for waits for that.
#[derive(Debug, Default)]
pub struct LastFleet(Mutex<Option<(Instant, Arc<Fleet>)>>);

/// What all organizations do.
#[derive(Debug)]
struct Fleet {
    at: Timestamp,
    refreshed_at: Timestamp,
    totals: FleetTotals,
    succeeded_today: u64,
    refused_today: u64,
    combinations: Vec<Combination>,
    running_out: Vec<RunsOut>,
    newest: Vec<Consumption>,
    refused: Vec<Consumption>,
}

/// An organization that runs out of something soon.
#[derive(Debug)]
struct RunsOut {
    id: OrganizationId,
    credit_type: CreditType,
    at: Timestamp,
}

impl LastFleet {
    async fn get(&self, store: &Store) -> Result<Arc<Fleet>, Problem> {
        let mut last = self.0.lock().await;
        if let Some((at, fleet)) = &*last
            && at.elapsed() < FLEET_SHOWN_FOR
        {
            return Ok(Arc::clone(fleet));
        }
        let fleet = Arc::new(Fleet::read(store).await?);
        *last = Some((Instant::now(), Arc::clone(&fleet)));
        Ok(fleet)
    }
}

impl Fleet {
    async fn read(store: &Store) -> Result<Self, Problem> {
        let at = store.now().await?;
        let yesterday = at - TimeDelta::days(1);
        let mut running_out = Vec::new();
        for id in store.busy_organizations(FORECASTS).await? {
            let view = store.forecast(id).await?;
            let Some(forecast) = view.forecasts.first() else { continue };
            for credit_type in CreditType::ALL {
                let is_used = forecast.rate.consumed[credit_type] > Amount::ZERO;
                let at = forecast.runs_out_at[credit_type as usize].filter(|at| is_used && *at - view.as_of < SOON);
                running_out.extend(at.map(|at| RunsOut { id, credit_type, at }));
            }
        }
        running_out.sort_by_key(|it| it.at);
        Ok(Self {
            at,
            refreshed_at: store.usage_summary(None, PageRequest::first(1)).await?.refreshed_at,
            totals: store.fleet_totals().await?,
            succeeded_today: store.attempts_since(Attempts::Succeeded, yesterday).await?,
            refused_today: store.attempts_since(Attempts::Refused, yesterday).await?,
            combinations: store.spending_by_combination().await?,
            running_out,
            newest: store.newest_attempts(Attempts::Succeeded, ROWS).await?,
            refused: store.newest_attempts(Attempts::Refused, ROWS).await?,
        })
    }
}

/// A total of one type.
struct TotalCard {
    kind: Kind,
    available: String,
    held: String,
    consumed: String,
}

struct Alert {
    severity: &'static str,
    subject: String,
    path: Option<String>,
    detail: String,
    away: Option<Moment>,
}

struct TopRow {
    name: String,
    path: String,
    totals: Vec<(Kind, String)>,
    count: String,
    refused: String,
    last: Moment,
}

struct Column {
    key: &'static str,
    name: &'static str,
    is_chosen: bool,
}

struct CombinationRow {
    kinds: Vec<Kind>,
    count: String,
    consumed: Chips,
    width: f64,
}

struct AttemptRow {
    name: String,
    path: String,
    action: String,
    quantity: String,
    consumed: Chips,
    why: String,
    at: Moment,
}

#[derive(Template)]
#[template(path = "dashboard/fleet.html")]
struct FleetPage {
    shell: Shell,
    at: Moment,
    refreshed_at: Moment,
    organizations: String,
    statuses: Vec<(&'static str, String)>,
    attempts: String,
    succeeded_today: String,
    refused_today: String,
    refused_share: Option<String>,
    totals: Vec<TotalCard>,
    grade: String,
    alerts: Vec<Alert>,
    columns: Vec<Column>,
    top: Vec<TopRow>,
    combinations: Vec<CombinationRow>,
    newest: Vec<AttemptRow>,
    refused: Vec<AttemptRow>,
    bar_width: f64,
}

/// The page.
pub async fn page(visit: &Visit, query: &Query) -> Result<Response, Problem> {
    let auth = visit.auth::<scope::Observe>()?;
    let (state, store) = (auth.context().state(), auth.store());
    let fleet = state.fleet.get(store).await?;
    let by = query.get("by").and_then(CreditType::from_name);
    let top = store.top_organizations(by.map_or(TopOrder::Count, TopOrder::Credits), ROWS).await?;
    let report = state.report.get(state).await?;
    let names = names(store, &fleet, &top).await?;

    let mut alerts: Vec<Alert> = fleet.running_out.iter().map(|it| running_out(it, &names, fleet.at)).collect();
    let findings = report.assessment.findings.iter().filter(|it| it.severity > Severity::Notice);
    alerts.extend(findings.map(|finding| Alert {
        severity: finding.severity.as_str(),
        subject: finding.subject.clone(),
        path: Some(format!("{}/performance", super::PATH)),
        detail: finding.detail.clone(),
        away: None,
    }));
    let totals = &fleet.totals;
    let today = fleet.succeeded_today + fleet.refused_today;
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let refused_share = (today > 0).then(|| show::percent(fleet.refused_today as f64 / today as f64));
    answer::html(&FleetPage {
        shell: visit.shell("fleet"),
        at: show::moment_to_the_second(fleet.at),
        refreshed_at: show::distance(fleet.refreshed_at, fleet.at),
        organizations: show::number(totals.organizations.iter().sum::<i64>()),
        statuses: OrganizationStatus::ALL
            .into_iter()
            .zip(totals.organizations)
            .filter(|(_, count)| *count > 0)
            .map(|(status, count)| (status.as_str(), show::number(count)))
            .collect(),
        attempts: show::number(totals.attempts),
        succeeded_today: show::number(fleet.succeeded_today),
        refused_today: show::number(fleet.refused_today),
        refused_share,
        totals: Kind::ALL
            .map(|kind| TotalCard {
                kind,
                available: show::number(totals.available[kind.0 as usize]),
                held: show::number(totals.held[kind.0 as usize]),
                consumed: show::number(totals.consumed[kind.0 as usize]),
            })
            .into(),
        grade: report.assessment.grade.clone(),
        alerts,
        columns: Kind::ALL
            .map(|kind| Column { key: kind.key(), name: kind.name(), is_chosen: by == Some(kind.0) })
            .into_iter()
            .chain([Column { key: "", name: "Consumptions", is_chosen: by.is_none() }])
            .collect(),
        top: top.iter().map(|row| top_row(row, &names, fleet.at)).collect(),
        combinations: combinations(&fleet.combinations),
        newest: fleet.newest.iter().map(|it| attempt(it, &names, fleet.at)).collect(),
        refused: fleet.refused.iter().map(|it| attempt(it, &names, fleet.at)).collect(),
        bar_width: BAR_WIDTH,
    })
}

/// The names of all organizations that the page mentions.
async fn names(store: &Store, fleet: &Fleet, top: &[SummaryRow]) -> Result<HashMap<OrganizationId, String>, Problem> {
    let mut ids: Vec<OrganizationId> = top.iter().map(|row| row.organization_id).collect();
    ids.extend(fleet.newest.iter().chain(&fleet.refused).map(|it| it.organization_id));
    ids.extend(fleet.running_out.iter().map(|it| it.id));
    ids.sort_unstable();
    ids.dedup();
    let found = store.organizations_of(&ids).await?;
    Ok(found.into_iter().map(|organization| (organization.id, organization.name)).collect())
}

fn name(names: &HashMap<OrganizationId, String>, id: OrganizationId) -> String {
    names.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

fn running_out(it: &RunsOut, names: &HashMap<OrganizationId, String>, now: Timestamp) -> Alert {
    let kind = Kind(it.credit_type).name();
    let is_out = it.at <= now;
    Alert {
        severity: if is_out { "critical" } else { "warning" },
        subject: name(names, it.id),
        path: Some(organization::path(it.id, "")),
        detail: if is_out { format!("has no {kind} credits left") } else { format!("runs out of {kind} credits") },
        away: (!is_out).then(|| show::distance(it.at, now)),
    }
}

fn top_row(row: &SummaryRow, names: &HashMap<OrganizationId, String>, now: Timestamp) -> TopRow {
    TopRow {
        name: name(names, row.organization_id),
        path: organization::path(row.organization_id, ""),
        totals: Kind::ALL.into_iter().zip(row.totals.map(show::number)).collect(),
        count: show::number(row.transaction_count - row.refused_count),
        refused: show::number(row.refused_count),
        last: show::distance(row.last_attempt_at, now),
    }
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn combinations(found: &[Combination]) -> Vec<CombinationRow> {
    let most = found.iter().map(|it| it.count).max().unwrap_or_default().max(1) as f64;
    let row = |it: &Combination| CombinationRow {
        kinds: it.types.iter().copied().map(Kind).collect(),
        count: show::number(it.count),
        consumed: show::sums(it.consumed),
        width: ((it.count as f64 / most * BAR_WIDTH).max(1.5) * 10.0).round() / 10.0,
    };
    found.iter().map(row).collect()
}

fn attempt(it: &Consumption, names: &HashMap<OrganizationId, String>, now: Timestamp) -> AttemptRow {
    AttemptRow {
        name: name(names, it.organization_id),
        path: organization::path(it.organization_id, ""),
        action: it.request.action.to_string(),
        quantity: show::number(it.request.quantity.get()),
        consumed: show::chips(it.consumed),
        why: if let Outcome::Refused { error_code } = &it.outcome { words(error_code) } else { String::new() },
        at: show::distance(it.created_at, now),
    }
}
