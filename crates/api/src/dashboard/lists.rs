//! The lists of one organization: lots, holds, and the statement.

use askama::Template;
use multicredit_domain::{Grant, GrantId, GrantState, Hold, HoldId, HoldState, Movement, Timestamp};
use multicredit_store::{LedgerPosition, PageRequest};
use poem::Response;

use super::answer::{self, Shell};
use super::organization::{self, Heading};
use super::query::Query;
use super::show::{self, Chips, Kind, Moment};
use super::{Subject, show::words};
use crate::limits::DASHBOARD_ROWS;
use crate::page::{self, Position};
use crate::problem::Problem;

/// From where to where the pages of a list go.
pub struct Pager {
    pub is_later: bool,
    pub first: String,
    pub next: Option<String>,
}

impl Pager {
    fn new<P: Position>(path: &str, after: Option<&P>, next: Option<&P>) -> Self {
        let next = next.map(|next| format!("{path}?cursor={}", page::encode(next)));
        Self { is_later: after.is_some(), first: path.to_owned(), next }
    }
}

/// A lot in a list.
pub struct LotRow {
    pub id: String,
    pub state: &'static str,
    pub source: String,
    pub reference: Option<String>,
    pub remaining: Chips,
    pub granted: Chips,
    /// How much of each type is left, for a bar of so many units of width.
    pub shares: Vec<(Kind, f64)>,
    pub priority: i32,
    pub starts: Option<(Moment, Moment)>,
    pub expires: Option<(Moment, Moment)>,
    pub created: Moment,
}

/// How wide the bar of a whole lot is.
pub const SHARE_WIDTH: f64 = 64.0;

impl LotRow {
    #[expect(clippy::cast_precision_loss, reason = "pixels")]
    pub fn new(grant: &Grant, now: Timestamp) -> Self {
        let lot = &grant.lot;
        let share = |kind: Kind| {
            let (left, whole) = (lot.remaining[kind.0].get(), lot.granted[kind.0].get());
            (whole > 0).then(|| (kind, (left as f64 / whole as f64 * SHARE_WIDTH * 10.0).round() / 10.0))
        };
        let starts = (lot.state == GrantState::Pending).then_some(lot.validity.effective_at);
        let both = |at| (show::moment(at), show::distance(at, now));
        Self {
            id: lot.id.to_string(),
            state: lot.state.as_str(),
            source: words(lot.source.as_str()),
            reference: grant.reference.clone(),
            remaining: show::chips(lot.remaining),
            granted: show::chips(lot.granted),
            shares: Kind::ALL.into_iter().filter_map(share).collect(),
            priority: lot.priority,
            starts: starts.map(both),
            expires: lot.validity.expires_at.map(both),
            created: show::moment(lot.created_at),
        }
    }
}

/// A hold in a list.
pub struct HoldRow {
    pub id: String,
    pub state: &'static str,
    pub is_open: bool,
    pub action: String,
    pub quantity: String,
    pub credits: Chips,
    pub actor: Option<String>,
    pub created: Moment,
    pub expires: Moment,
    pub expires_away: Moment,
}

impl HoldRow {
    pub fn new(hold: &Hold, now: Timestamp) -> Self {
        Self {
            id: hold.id.to_string(),
            state: hold.state.as_str(),
            is_open: hold.state == HoldState::Open,
            action: hold.action.to_string(),
            quantity: show::number(hold.quantity.get()),
            credits: show::chips(hold.credits),
            actor: hold.actor.as_ref().map(ToString::to_string),
            created: show::moment(hold.created_at),
            expires: show::moment(hold.expires_at),
            expires_away: show::distance(hold.expires_at, now),
        }
    }
}

/// A line of the statement.
struct Line {
    sequence: String,
    kind: String,
    class: &'static str,
    available: Chips,
    held: Chips,
    after: Chips,
    note: Option<String>,
    reference: Option<String>,
    at: Moment,
}

impl From<Movement> for Line {
    fn from(movement: Movement) -> Self {
        Self {
            sequence: show::number(movement.sequence),
            kind: words(movement.kind.as_str()),
            class: movement.kind.as_str(),
            available: show::changes(movement.change.available),
            held: show::changes(movement.change.held),
            after: show::chips(movement.balance_after.available),
            note: movement.note,
            reference: movement.reference.map(|reference| reference.to_string()),
            at: show::moment_to_the_second(movement.created_at),
        }
    }
}

#[derive(Template)]
#[template(path = "dashboard/lots.html")]
struct LotsPage {
    shell: Shell,
    heading: Heading,
    lots: Vec<LotRow>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "dashboard/holds.html")]
struct HoldsPage {
    shell: Shell,
    heading: Heading,
    holds: Vec<HoldRow>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "dashboard/statement.html")]
struct StatementPage {
    shell: Shell,
    heading: Heading,
    lines: Vec<Line>,
    pager: Pager,
}

/// Every lot that it ever had, newest first.
pub async fn lots(subject: &Subject<'_>, query: &Query) -> Result<Response, Problem> {
    let store = subject.auth.store();
    let organization = store.organization(subject.id).await?;
    let after = query.cursor::<GrantId>()?;
    let found = store.grants(subject.id, PageRequest { after, limit: DASHBOARD_ROWS }).await?;
    let now = store.now().await?;
    answer::html(&LotsPage {
        shell: subject.visit.shell("organizations"),
        heading: Heading::new(&organization, "lots"),
        lots: found.items.iter().map(|grant| LotRow::new(grant, now)).collect(),
        pager: Pager::new(&organization::path(subject.id, "/lots"), after.as_ref(), found.next.as_ref()),
    })
}

/// Every hold that it ever had, newest first.
pub async fn holds(subject: &Subject<'_>, query: &Query) -> Result<Response, Problem> {
    let store = subject.auth.store();
    let organization = store.organization(subject.id).await?;
    let after = query.cursor::<HoldId>()?;
    let found = store.holds(subject.id, PageRequest { after, limit: DASHBOARD_ROWS }).await?;
    let now = store.now().await?;
    answer::html(&HoldsPage {
        shell: subject.visit.shell("organizations"),
        heading: Heading::new(&organization, "holds"),
        holds: found.items.iter().map(|hold| HoldRow::new(hold, now)).collect(),
        pager: Pager::new(&organization::path(subject.id, "/holds"), after.as_ref(), found.next.as_ref()),
    })
}

/// Every movement, newest first.
pub async fn statement(subject: &Subject<'_>, query: &Query) -> Result<Response, Problem> {
    let store = subject.auth.store();
    let organization = store.organization(subject.id).await?;
    let after = query.cursor::<LedgerPosition>()?;
    let found = store.ledger(subject.id, PageRequest { after, limit: DASHBOARD_ROWS }).await?;
    let pager = Pager::new(&organization::path(subject.id, "/statement"), after.as_ref(), found.next.as_ref());
    answer::html(&StatementPage {
        shell: subject.visit.shell("organizations"),
        heading: Heading::new(&organization, "statement"),
        lines: found.items.into_iter().map(Line::from).collect(),
        pager,
    })
}
