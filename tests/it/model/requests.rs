//! What is sent to the real ledger, and what it answers, as values that can be kept, sent again and compared.

use anyhow::bail;
use multicredit_domain::{
    Consume, Consumption, Delta, Grant, GrantId, HoldId, IdempotencyKey, NewGrant, NewHold, NewRefund, OrganizationId,
    Quantity, Refund, Refusal,
};
use multicredit_store::{Adjustment, Answer, HoldAnswer, Store, StoreError};
use tests::fixtures::values;
use tests::oracle::{OracleShortfall, Refused};

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
