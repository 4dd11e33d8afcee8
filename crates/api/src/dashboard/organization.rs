//! One organization: what it has, how that goes down, and what is next.

use askama::Template;
use chrono::TimeDelta;
use multicredit_domain::{
    Amount, CreditType, EventType, Grant, GrantState, Hold, HoldState, Organization, OrganizationId, Timestamp,
};
use multicredit_store::{BalanceView, ForecastView, PageRequest, RaisedEvent};
use poem::Response;

use super::answer::{self, Shell};
use super::assets;
use super::charts::{self, Burn, BurnDown};
use super::lists::{HoldRow, LotRow};
use super::show::{self, Chips, Kind, Moment};
use super::{PATH, Subject};
use crate::limits::PAGE_LIMIT_MAX;
use crate::problem::Problem;

/// How many balances of the past a burn-down shows: two look-ups each.
const PAST_POINTS: i32 = 24;

/// How far a burn-down looks back, and ahead where nothing runs out before.
const PAST_MAX: TimeDelta = TimeDelta::days(30);

/// The least time that a burn-down looks back: an organization that was just made has a chart, too.
const PAST_MIN: TimeDelta = TimeDelta::hours(1);

/// How far it looks ahead for the day on which something runs out.
const AHEAD_MAX: TimeDelta = TimeDelta::days(60);

/// How much of what was told of it is shown.
const RAISED_MAX: u32 = 5;

/// From when on running out is worth a warning.
const SOON: TimeDelta = TimeDelta::days(7);

/// Where an organization's pages are.
pub fn path(id: OrganizationId, rest: &str) -> String {
    format!("{PATH}/organizations/{id}{rest}")
}

/// What stands above every page of an organization.
pub struct Heading {
    pub id: String,
    pub name: String,
    pub external_id: Option<String>,
    pub status: &'static str,
    pub time_zone: String,
    pub created: Moment,
    pub path: String,
    /// Which of its pages it is.
    pub tab: &'static str,
}

impl Heading {
    pub fn new(organization: &Organization, tab: &'static str) -> Self {
        Self {
            id: organization.id.to_string(),
            name: organization.name.clone(),
            external_id: organization.external_id.as_ref().map(|id| id.as_str().to_owned()),
            status: organization.status.as_str(),
            time_zone: organization.time_zone.as_str().to_owned(),
            created: show::moment(organization.created_at),
            path: path(organization.id, ""),
            tab,
        }
    }
}

/// A type's balance.
struct BalanceCard {
    kind: Kind,
    available: String,
    held: Option<String>,
    per_day: String,
    outlook: Outlook,
}

/// How long a type lasts.
enum Outlook {
    /// There is nothing.
    Empty,
    /// It is not used, and does not end.
    Lasts,
    /// It is gone at some time.
    RunsOut { at: Moment, away: Moment, is_soon: bool },
}

/// Something that was told of it.
struct RaisedRow {
    event: String,
    is_good: bool,
    /// What people call the rule that told it; none of a request for credits.
    rule: Option<String>,
    kind: Option<Kind>,
    available: String,
    at: Moment,
    away: Moment,
}

impl RaisedRow {
    fn new(event: RaisedEvent, now: Timestamp) -> Self {
        let credit_type = event.data["credit_type"].as_str().and_then(CreditType::from_name);
        Self {
            is_good: event.event_type == EventType::BalanceRecovered.as_str(),
            rule: event.data["rule_name"].as_str().map(str::to_owned),
            kind: credit_type.map(Kind),
            available: show::number(event.data["available"].as_i64().unwrap_or_default()),
            at: show::moment(event.occurred_at),
            away: show::distance(event.occurred_at, now),
            event: event.event_type,
        }
    }
}

#[derive(Template)]
#[template(path = "dashboard/organization.html")]
struct OrganizationPage {
    script: String,
    shell: Shell,
    heading: Heading,
    as_of: Moment,
    sequence: String,
    balances: Vec<BalanceCard>,
    expiring_next: Option<(Chips, Moment, Moment)>,
    expiring_unused: Vec<(Chips, Moment, Moment)>,
    days: i64,
    charts: Vec<BurnDown>,
    without_chart: Vec<Kind>,
    raised: Vec<RaisedRow>,
    lots: Vec<LotRow>,
    holds: Vec<HoldRow>,
    width: f64,
    height: f64,
}

/// The page.
pub async fn page(subject: &Subject<'_>) -> Result<Response, Problem> {
    let (store, id) = (subject.auth.store(), subject.id);
    let organization = store.organization(id).await?;
    let balance = store.balance(id).await?;
    let forecast = store.forecast(id).await?;
    let now = balance.as_of;
    let past = past(subject, &organization, &balance).await?;
    let lots = store.grants(id, PageRequest::first(PAGE_LIMIT_MAX)).await?.items;
    let is_alive = |grant: &Grant| matches!(grant.lot.state, GrantState::Pending | GrantState::Active);
    let mut lots: Vec<_> = lots.into_iter().filter(is_alive).collect();
    lots.sort_by(|one, other| one.lot.burn_order(&other.lot));
    let raised = store.raised_events(id, PageRequest::first(RAISED_MAX)).await?.items;
    let holds = store.holds(id, PageRequest::first(PAGE_LIMIT_MAX)).await?.items;
    let is_open = |hold: &Hold| hold.state == HoldState::Open;
    let (charts, without_chart) = burn_downs(&past, &forecast, now);
    let expiring = |credits, at| (show::chips(credits), show::moment(at), show::distance(at, now));
    let outlook = forecast.forecasts.first();
    answer::live_html(&OrganizationPage {
        script: assets::LIVE.url(),
        shell: subject.visit.shell("organizations"),
        heading: Heading::new(&organization, "overview"),
        as_of: show::moment_to_the_second(now),
        sequence: show::number(balance.sequence),
        balances: Kind::ALL.map(|kind| card(kind, &balance, &forecast)).into(),
        expiring_next: balance.expiring_next.as_ref().map(|it| expiring(it.credits, it.at)),
        expiring_unused: outlook.map_or_else(Vec::new, |outlook| {
            outlook.expiring_unused.iter().take(5).map(|(at, credits)| expiring(*credits, *at)).collect()
        }),
        days: outlook.map_or(0, |outlook| outlook.rate.days),
        charts,
        without_chart,
        raised: raised.into_iter().map(|event| RaisedRow::new(event, now)).collect(),
        lots: lots.iter().map(|grant| LotRow::new(grant, now)).collect(),
        holds: holds.iter().filter(|hold| is_open(hold)).map(|hold| HoldRow::new(hold, now)).collect(),
        width: charts::BURN_WIDTH,
        height: charts::BURN_HEIGHT,
    })
}

/// The balances of the past at even distances, and the present one.
async fn past(
    subject: &Subject<'_>,
    organization: &Organization,
    balance: &BalanceView,
) -> Result<Vec<BalanceView>, Problem> {
    let now = balance.as_of;
    let start = organization.created_at.max(now - PAST_MAX).min(now - PAST_MIN);
    let step = (now - start) / PAST_POINTS;
    let instants: Vec<Timestamp> = (0..PAST_POINTS).map(|index| start + step * index).collect();
    let mut past = subject.auth.store().balances_at(subject.id, &instants).await?;
    past.push(balance.clone());
    Ok(past)
}

fn card(kind: Kind, balance: &BalanceView, view: &ForecastView) -> BalanceCard {
    let Kind(credit_type) = kind;
    let (available, held) = (balance.balance.available[credit_type], balance.balance.held[credit_type]);
    let outlook = view.forecasts.first();
    let runs_out_at = outlook.and_then(|outlook| outlook.runs_out_at[credit_type as usize]);
    let now = balance.as_of;
    BalanceCard {
        kind,
        available: show::number(available.get()),
        held: (held > Amount::ZERO).then(|| show::number(held.get())),
        per_day: show::number(outlook.map_or(0, |outlook| outlook.rate.per_day()[credit_type].get())),
        outlook: match runs_out_at {
            _ if available == Amount::ZERO => Outlook::Empty,
            None => Outlook::Lasts,
            Some(at) => {
                Outlook::RunsOut { at: show::moment(at), away: show::distance(at, now), is_soon: at - now < SOON }
            }
        },
    }
}

/// A burn-down of each type that there is anything of, and the other types.
fn burn_downs(past: &[BalanceView], view: &ForecastView, now: Timestamp) -> (Vec<BurnDown>, Vec<Kind>) {
    let Some(forecast) = view.forecasts.first() else { return (Vec::new(), Vec::new()) };
    let start = past.first().map_or(now, |first| first.as_of);
    let per_day = forecast.rate.per_day();
    let runs_out = |credit_type: CreditType| {
        let at = forecast.runs_out_at[credit_type as usize]?;
        (forecast.rate.consumed[credit_type] > Amount::ZERO && at > now && at - now <= AHEAD_MAX).then_some(at)
    };
    // A little beyond the last end, so that it is seen to be one.
    let last = CreditType::ALL.into_iter().filter_map(runs_out).max();
    let behind = now - start;
    let ahead = last.map_or(behind / 2, |at| (at - now) * 11 / 10).max(behind / 4);
    // Not so far that nothing is seen of the past.
    let end = now + ahead.min(AHEAD_MAX).min(behind * 3);
    let mut charts = Vec::new();
    let mut without = Vec::new();
    for kind in Kind::ALL {
        let Kind(credit_type) = kind;
        let amounts: Vec<(Timestamp, i64)> =
            past.iter().map(|view| (view.as_of, view.balance.available[credit_type].get())).collect();
        let burn = Burn {
            kind,
            past: &amounts,
            course: &forecast.course[credit_type as usize],
            runs_out_at: forecast.runs_out_at[credit_type as usize],
            per_day: per_day[credit_type].get(),
            end,
        };
        match charts::burn_down(&burn) {
            Some(chart) => charts.push(chart),
            None => without.push(kind),
        }
    }
    (charts, without)
}
