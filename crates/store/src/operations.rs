//! Everything that moves credits other than spending, as methods of the store.
//!
//! Each hands a request to the ledger and takes the reply that belongs to it. What a request means is in the domain;
//! when it happens, and that it happens once, is the ledger's.

use multicredit_domain::{
    Consumption, Delta, Grant, GrantId, HoldId, IdempotencyKey, NewGrant, NewHold, NewRefund, OrganizationId,
    OrganizationStatus, PlanTerms, Quantity, Refund, Subscription, TimeZone, Timestamp,
};

use crate::error::StoreError;
use crate::ledger::{Adjustment, Answer, HoldAnswer, Reply, Request, unexpected};
use crate::store::Store;

/// Hands in a request and takes the one kind of reply that it has.
macro_rules! ask {
    ($store:expr, $organization:expr, $key:expr, $request:expr, $reply:ident) => {{
        let answer = $store.queue().request($organization, $request, $key, $store.author()).await?;
        match answer.value {
            Reply::$reply(value) => Ok(Answer { value: *value, replayed: answer.replayed }),
            other => Err(unexpected(&other)),
        }
    }};
}

impl Store {
    /// Grants credits.
    pub async fn grant(
        &self,
        organization_id: OrganizationId,
        new: NewGrant,
        key: Option<IdempotencyKey>,
    ) -> Result<Answer<Grant>, StoreError> {
        ask!(self, organization_id, key, Request::Grant(new), Grant)
    }

    /// Takes back what is left of a grant. Doing it again changes nothing.
    pub async fn void_grant(
        &self,
        organization_id: OrganizationId,
        grant_id: GrantId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answer<Grant>, StoreError> {
        ask!(self, organization_id, key, Request::Void { grant_id }, Grant)
    }

    /// Corrects a balance, with a reason.
    pub async fn adjust(
        &self,
        organization_id: OrganizationId,
        change: Delta,
        reason: String,
        key: Option<IdempotencyKey>,
    ) -> Result<Answer<Adjustment>, StoreError> {
        ask!(self, organization_id, key, Request::Adjust { change, reason }, Adjustment)
    }

    /// Sets credits aside.
    pub async fn place_hold(
        &self,
        organization_id: OrganizationId,
        new: NewHold,
        key: Option<IdempotencyKey>,
    ) -> Result<Answer<HoldAnswer>, StoreError> {
        ask!(self, organization_id, key, Request::Hold(new), Hold)
    }

    /// Spends a hold, wholly, in part, or more than was held; the rest is released.
    pub async fn capture_hold(
        &self,
        organization_id: OrganizationId,
        hold_id: HoldId,
        quantity: Option<Quantity>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answer<Consumption>, StoreError> {
        ask!(self, organization_id, key, Request::Capture { hold_id, quantity }, Consumption)
    }

    /// Gives up a hold. Doing it again changes nothing.
    pub async fn release_hold(
        &self,
        organization_id: OrganizationId,
        hold_id: HoldId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answer<HoldAnswer>, StoreError> {
        ask!(self, organization_id, key, Request::Release { hold_id }, Hold)
    }

    /// Lets a hold last `ttl_seconds` from now.
    pub async fn extend_hold(
        &self,
        organization_id: OrganizationId,
        hold_id: HoldId,
        ttl_seconds: i64,
        key: Option<IdempotencyKey>,
    ) -> Result<Answer<HoldAnswer>, StoreError> {
        ask!(self, organization_id, key, Request::Extend { hold_id, ttl_seconds }, Hold)
    }

    /// Gives a consumption back, wholly or in part.
    pub async fn refund(
        &self,
        organization_id: OrganizationId,
        new: NewRefund,
        key: Option<IdempotencyKey>,
    ) -> Result<Answer<Refund>, StoreError> {
        ask!(self, organization_id, key, Request::Refund(new), Refund)
    }

    /// Subscribes to the terms of a plan. Where there is a subscription, the terms count from its next period on.
    pub(crate) async fn subscribe_to(
        &self,
        organization_id: OrganizationId,
        terms: PlanTerms,
        time_zone: TimeZone,
        anchor: Option<Timestamp>,
    ) -> Result<Subscription, StoreError> {
        let request = Request::Subscribe { terms, time_zone, anchor };
        let answer = self.queue().request(organization_id, request, None, self.author()).await?;
        match answer.value {
            Reply::Subscription(Some(subscription)) => Ok(*subscription),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends the subscription: the current period's lot stays until its end, and no other follows.
    pub async fn unsubscribe(&self, organization_id: OrganizationId) -> Result<(), StoreError> {
        self.queue().request(organization_id, Request::Unsubscribe, None, self.author()).await.map(drop)
    }

    /// Changes what an organization may do, when no spending of it is under way.
    pub(crate) async fn set_status(
        &self,
        organization_id: OrganizationId,
        status: OrganizationStatus,
    ) -> Result<(), StoreError> {
        self.queue().request(organization_id, Request::SetStatus(status), None, self.author()).await.map(drop)
    }

    /// Books what is due for an organization. Nothing waits for this to be correct.
    pub(crate) async fn settle(&self, organization_id: OrganizationId) -> Result<(), StoreError> {
        self.queue().request(organization_id, Request::Settle, None, None).await.map(drop)
    }
}
