//! Balances and quotes: the account as it is at this instant.

use bytes::Bytes;
use multicredit_domain::{
    ActionType, Balance, Expiring, OrganizationId, Quantity, Quote, Standing, Timestamp, consume,
};

use super::book::SettledBook;
use crate::error::StoreError;
use crate::store::Store;

/// A balance, and when it is that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceView {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// What can be spent, and what is held.
    pub balance: Balance,
    /// What expires next, and when.
    pub expiring_next: Option<Expiring>,
    /// The number of the last movement that it contains.
    pub sequence: i64,
    /// The instant of which it is true.
    pub as_of: Timestamp,
}

impl Store {
    /// The organization's balance now; [`Refusal::UnknownOrganization`] if there is none.
    pub async fn balance(&self, organization_id: OrganizationId) -> Result<BalanceView, StoreError> {
        let SettledBook { book, as_of, .. } = self.settled_book(organization_id).await?;
        Ok(BalanceView {
            organization_id,
            balance: book.account.balance(),
            expiring_next: book.expiring_next(),
            sequence: book.account.sequence,
            as_of,
        })
    }

    /// The balance to be shown, as `write` writes it: one that is kept, if there is one, unless a `fresh` one is asked for.
    /// One that is kept is written once. It is of the instant that it names, and nothing may be decided from it.
    pub async fn shown_balance(
        &self,
        organization_id: OrganizationId,
        fresh: bool,
        write: impl FnOnce(BalanceView) -> Bytes,
    ) -> Result<Bytes, StoreError> {
        // Boxed: it is large, and nearly never wanted.
        let load = || {
            Box::pin(async move {
                let SettledBook { book, as_of, .. } = self.settled_book(organization_id).await?;
                Ok(Standing::of(&book, as_of))
            })
        };
        let clock = self.clock().manual_instant();
        let shown = self.caches().standing(organization_id, fresh, clock, load).await?;
        shown.written(|standing| {
            Ok(write(BalanceView {
                organization_id,
                balance: standing.balance(),
                expiring_next: standing.expiring_next()?,
                sequence: standing.sequence(),
                as_of: standing.as_of(),
            }))
        })
    }

    /// What a consumption would cost now, and whether it would be allowed. Nothing changes.
    pub async fn quote(
        &self,
        organization_id: OrganizationId,
        action: &ActionType,
        quantity: Quantity,
    ) -> Result<Quote, StoreError> {
        let SettledBook { book, as_of, .. } = self.settled_book(organization_id).await?;
        let prices = self.prices(action).await?;
        Ok(consume::quote(&book.account, &prices, quantity, as_of)?)
    }
}
