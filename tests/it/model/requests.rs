//! What is sent to the real ledger, and what it answers, as values that can be kept, sent again and compared.

use anyhow::{Context as _, bail};
use multicredit_domain::consume::Outcome;
use multicredit_domain::{
    Consume, Consumption, ConsumptionId, Credits, Delta, Grant, GrantId, HoldId, IdempotencyKey, NewGrant, NewHold,
    NewRefund, OrganizationId, Quantity, Refund, Refusal, Shortfall, Timestamp,
};
use multicredit_store::{Adjustment, Answer, HoldAnswer, Store, StoreError};
use serde_json::Value;
use tests::fixtures::values;
use tests::oracle::{OracleShortfall, Refused};
use tests::rpc::Rpc;

/// A request that takes an idempotency key.
#[derive(Debug, Clone)]
pub enum Request {
    Consume(Consume),
    Grant(NewGrant),
    Void(GrantId),
    Adjust(Delta, String),
    Hold(NewHold),
    Capture(HoldId, Option<Quantity>),
    Release(HoldId),
    Extend(HoldId, i64),
    Refund(NewRefund),
}

/// What it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Consumption(Consumption),
    Grant(Grant),
    Adjustment(Adjustment),
    Hold(HoldAnswer),
    Refund(Refund),
}

impl Request {
    /// Sends it.
    pub async fn send(
        self,
        store: &Store,
        id: OrganizationId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answer<Reply>, StoreError> {
        match self {
            Self::Consume(request) => reply(store.consume(id, request, key).await, Reply::Consumption),
            Self::Grant(new) => reply(store.grant(id, new, key).await, Reply::Grant),
            Self::Void(grant) => reply(store.void_grant(id, grant, key).await, Reply::Grant),
            Self::Adjust(change, reason) => reply(store.adjust(id, change, reason, key).await, Reply::Adjustment),
            Self::Hold(new) => reply(store.place_hold(id, new, key).await, Reply::Hold),
            Self::Capture(hold, quantity) => {
                reply(store.capture_hold(id, hold, quantity, key).await, Reply::Consumption)
            }
            Self::Release(hold) => reply(store.release_hold(id, hold, key).await, Reply::Hold),
            Self::Extend(hold, ttl) => reply(store.extend_hold(id, hold, ttl, key).await, Reply::Hold),
            Self::Refund(new) => reply(store.refund(id, new, key).await, Reply::Refund),
        }
    }

    /// Another request, as alike as can be: of the same operation where that has a quantity.
    pub fn other(self) -> Self {
        let other = |quantity: Quantity| Quantity::new(quantity.get() - 1).unwrap_or(Quantity::MAX);
        match self {
            Self::Consume(request) => Self::Consume(Consume { quantity: other(request.quantity), ..request }),
            Self::Hold(new) => Self::Hold(NewHold { quantity: other(new.quantity), ..new }),
            Self::Capture(hold, quantity) => Self::Capture(hold, quantity.is_none().then_some(Quantity::ONE)),
            Self::Extend(hold, ttl) => Self::Extend(hold, ttl + 1),
            Self::Release(hold) => Self::Capture(hold, None),
            Self::Refund(new) => Self::Refund(NewRefund { reason: format!("{}!", new.reason), ..new }),
            Self::Grant(new) => Self::Grant(NewGrant { priority: new.priority + 1, ..new }),
            Self::Void(_) => Self::Adjust(Delta::ZERO, String::new()),
            Self::Adjust(change, reason) => Self::Adjust(change, format!("{reason}!")),
        }
    }
}

fn reply<T>(answer: Result<Answer<T>, StoreError>, wrap: fn(T) -> Reply) -> Result<Answer<Reply>, StoreError> {
    answer.map(|Answer { value, replayed }| Answer { value: wrap(value), replayed })
}

/// Spends by the SQL function at an instant, and reads its answer as the store's.
pub async fn consume_by_rpc(
    rpc: &Rpc,
    id: OrganizationId,
    request: &Consume,
    at: Timestamp,
) -> Result<Answer<Reply>, StoreError> {
    let answer = rpc.consume_at(id, request.action.as_str(), request.quantity.get(), at).await;
    let answer = answer.map_err(|error| StoreError::Internal(format!("{error:#}")))?;
    read_answer(id, request, &answer).map_err(|error| StoreError::Internal(format!("{answer}: {error:#}")))?
}

fn read_answer(
    id: OrganizationId,
    request: &Consume,
    answer: &Value,
) -> anyhow::Result<Result<Answer<Reply>, StoreError>> {
    let credits = |name: &str| serde_json::from_value::<Credits>(answer[name].clone());
    if answer["success"] == true {
        let sequence = answer["sequence"].as_i64().context("a number")?;
        let consumption = Consumption {
            id: ConsumptionId::new(serde_json::from_value(answer["consumption_id"].clone())?),
            organization_id: id,
            request: request.clone(),
            hold_id: None,
            consumed: credits("consumed")?,
            // The function does not say.
            price_version: None,
            outcome: Outcome::Spent { sequence, available: credits("available")? },
            created_at: serde_json::from_value(answer["created_at"].clone())?,
        };
        return Ok(Ok(Answer { value: Reply::Consumption(consumption), replayed: false }));
    }
    let refusal = match answer["error"].as_str() {
        Some("insufficient_credits") => Refusal::InsufficientCredits(Box::new(Shortfall {
            required: credits("required")?,
            available: credits("available")?,
            shortfall: credits("shortfall")?,
            max_affordable_quantity: answer["max_affordable_quantity"].as_i64().context("a number")?,
        })),
        Some("organization_frozen") => Refusal::OrganizationFrozen,
        Some("unknown_action") => Refusal::UnknownAction,
        Some("out_of_range") => Refusal::OutOfRange,
        _ => bail!("no refusal that a sequence can meet"),
    };
    Ok(Err(refusal.into()))
}

/// The refusal among the errors; any other is a failure of the test.
pub fn refused(error: StoreError) -> anyhow::Result<Refused> {
    let StoreError::Refused(refusal) = error else { bail!("the store failed: {error}") };
    let code = refusal.code();
    let shortfall = match refusal {
        Refusal::InsufficientCredits(terms) => Some(Box::new(OracleShortfall {
            required: values(terms.required),
            available: values(terms.available),
            missing: values(terms.shortfall),
            affordable: terms.max_affordable_quantity,
        })),
        _ => None,
    };
    Ok(Refused { code, shortfall })
}

/// What both said, if both agree; `None` if both refused for the same reason.
pub fn agreed<T: std::fmt::Debug, U: std::fmt::Debug>(
    expected: Result<T, Refused>,
    got: Result<U, Refused>,
) -> anyhow::Result<Option<(T, U)>> {
    match (expected, got) {
        (Ok(expected), Ok(got)) => Ok(Some((expected, got))),
        (Err(expected), Err(got)) if expected == got => Ok(None),
        (expected, got) => bail!("the verdict should be\n  {expected:?}\nand was\n  {got:?}"),
    }
}
