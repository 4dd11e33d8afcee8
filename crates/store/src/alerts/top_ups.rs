//! Asking for credits: the requests that top-up rules make.

use std::sync::LazyLock;

use futures_util::FutureExt as _;
use multicredit_domain::top_up::Asking;
use multicredit_domain::{EventType, OrganizationId, OrganizationStatus, TopUp, TopUpId, TopUpRule, TopUpState};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use super::claim::{Claim, NewEvent};
use super::follow::account;
use crate::clock::{Clock, new_uuid};
use crate::entity::{top_up_rules, top_ups};
use crate::error::StoreError;
use crate::repo::in_transaction;
use crate::sql::{Cell, Column, Kind, Statement};
use crate::store::{Store, now};

static TIME_OUT: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        Column::new("organization_id", Kind::Uuid),
        Column::new("credit_type", Kind::Text),
        Column::new("now", Kind::Time),
    ];
    Statement::of_text(columns, |d| {
        format!(
            "UPDATE top_ups AS t SET state = 'timed_out' FROM {} WHERE t.organization_id = v.organization_id \
             AND t.credit_type = v.credit_type AND t.state = 'requested' AND t.expires_at <= v.now",
            d.source
        )
    })
});

static REQUEST: LazyLock<Statement> = LazyLock::new(|| {
    let columns = [
        ("organization_id", Kind::Uuid),
        ("id", Kind::Uuid),
        ("credit_type", Kind::Text),
        ("amount", Kind::BigInt),
        ("state", Kind::Text),
        ("requested_at", Kind::Time),
        ("expires_at", Kind::Time),
    ];
    Statement::insert_of_text("top_ups", columns.map(|(name, kind)| Column::new(name, kind)).into())
});

static WAIT: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        Column::new("organization_id", Kind::Uuid),
        Column::new("credit_type", Kind::Text),
        Column::new("waits_until", Kind::Time),
    ];
    Statement::of_text(columns, |d| {
        format!(
            "UPDATE top_up_rules AS r SET waits_until = v.waits_until FROM {} \
             WHERE r.organization_id = v.organization_id AND r.credit_type = v.credit_type",
            d.source
        )
    })
});

impl Store {
    /// Asks for credits of an organization, where its rules say so now. Answers how many requests were made.
    pub(super) async fn ask_for_credits(&self, organization_id: OrganizationId) -> Result<u64, StoreError> {
        let clock = self.clock().clone();
        in_transaction(self.database(), move |transaction| ask(transaction, clock, organization_id).boxed()).await
    }
}

async fn ask(
    transaction: &DatabaseTransaction,
    clock: Clock,
    organization_id: OrganizationId,
) -> Result<u64, StoreError> {
    let now = now(transaction, &clock).await?;
    let Some(mut claim) = Claim::of(transaction, organization_id, now).await? else { return Ok(0) };
    let mut asking = Vec::new();
    for rule in active_rules(transaction, organization_id).await? {
        let requests = last_requests(transaction, &rule).await?;
        asking.push((rule, requests));
    }
    // After the requests: whoever is seen to have answered has raised the balance that is seen.
    let account = account(transaction, organization_id).await?;
    let Some(account) = account.filter(|account| account.status == OrganizationStatus::Active) else { return Ok(0) };
    for (rule, requests) in asking {
        let available = account.available[rule.credit_type];
        match rule.terms.asking(available, &requests, now) {
            Asking::Enough => {}
            // An answer ends that wait, whenever it comes.
            Asking::Wait(_) if requests.first().is_some_and(|it| it.state_at(now) == TopUpState::Requested) => {}
            Asking::Wait(until) => {
                let mut rows = WAIT.rows();
                rows.cell(Cell::Uuid(organization_id.uuid()))
                    .cell(Cell::Static(rule.credit_type.as_str()))
                    .cell(Cell::Time(until))
                    .end();
                WAIT.query_in(transaction, &rows).await?;
            }
            Asking::Ask => {
                let top_up = request(&claim, &rule).await?;
                let data = json!({
                    "top_up_id": top_up.id,
                    "credit_type": top_up.credit_type.as_str(),
                    "amount": top_up.amount,
                    "available": available,
                    "threshold": rule.terms.threshold,
                    "expires_at": top_up.expires_at,
                    "sequence": account.sequence,
                });
                claim.events.push(NewEvent { event: EventType::TopUpRequested, occurred_at: now, data });
            }
        }
    }
    claim.write().await
}

async fn active_rules(
    transaction: &DatabaseTransaction,
    organization_id: OrganizationId,
) -> Result<Vec<TopUpRule>, StoreError> {
    use top_up_rules::{Column, Entity};
    let rows = Entity::find()
        .filter(Column::OrganizationId.eq(organization_id.uuid()))
        .filter(Column::Active.eq(true))
        .order_by_asc(Column::CreditType)
        .all(transaction)
        .await?;
    Ok(rows.into_iter().map(TopUpRule::try_from).collect::<Result<_, _>>()?)
}

/// The last requests of a rule, newest first, as many as its window allows: what there is to know of the window.
async fn last_requests(transaction: &DatabaseTransaction, rule: &TopUpRule) -> Result<Vec<TopUp>, StoreError> {
    use top_ups::{Column, Entity};
    let rows = Entity::find()
        .filter(Column::OrganizationId.eq(rule.organization_id.uuid()))
        .filter(Column::CreditType.eq(rule.credit_type.as_str()))
        .order_by_desc(Column::Id)
        .limit(u64::try_from(rule.terms.window_max).unwrap_or(1))
        .all(transaction)
        .await?;
    Ok(rows.into_iter().map(TopUp::try_from).collect::<Result<_, _>>()?)
}

/// Makes a request, and gives up waiting for the one before.
async fn request(claim: &Claim<'_>, rule: &TopUpRule) -> Result<TopUp, StoreError> {
    let (organization_id, credit_type) = (claim.organization_id.uuid(), rule.credit_type);
    let mut rows = TIME_OUT.rows();
    rows.cell(Cell::Uuid(organization_id)).cell(Cell::Static(credit_type.as_str())).cell(Cell::Time(claim.now)).end();
    TIME_OUT.query_in(claim.transaction(), &rows).await?;
    let top_up = TopUp {
        id: TopUpId::new(new_uuid()),
        credit_type,
        amount: rule.terms.amount,
        state: TopUpState::Requested,
        requested_at: claim.now,
        expires_at: claim.now + chrono::TimeDelta::seconds(rule.terms.timeout_seconds),
        granted: None,
    };
    let mut rows = REQUEST.rows();
    rows.cell(Cell::Uuid(organization_id))
        .cell(Cell::Uuid(top_up.id.uuid()))
        .cell(Cell::Static(credit_type.as_str()))
        .cell(Cell::Int(top_up.amount.get()))
        .cell(Cell::Static(top_up.state.as_str()))
        .cell(Cell::Time(top_up.requested_at))
        .cell(Cell::Time(top_up.expires_at))
        .end();
    REQUEST.query_in(claim.transaction(), &rows).await?;
    Ok(top_up)
}
