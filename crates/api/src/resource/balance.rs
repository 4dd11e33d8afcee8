//! `/v1/organizations/{organization_id}/balance`: what there is.

use multicredit_domain::{Credits, Timestamp};
use multicredit_store::BalanceView;
use poem_openapi::registry::MetaSchema;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::example;
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::param::{Path, Query};
use crate::payload::Written;
use crate::problem::{Failure, failures};
use crate::wire::{Reason, Text, Wire};

/// `true` or `false` in a query string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag(pub bool);

impl Text for Flag {
    const NAME: &'static str = "Flag";

    fn schema() -> MetaSchema {
        MetaSchema::new("boolean")
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        text.parse().map(Self).map_err(|_| "must be true or false".into())
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(self.0)
    }
}

/// Credits that go next.
#[derive(Debug, Serialize, Object)]
struct Expiring {
    /// What goes, if it is not spent before.
    credits: Wire<Credits>,
    /// When.
    at: Wire<Timestamp>,
}

/// What an organization has.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct Balance {
    organization_id: Wire<Uuid>,
    /// What can be spent.
    available: Wire<Credits>,
    /// What is set aside.
    held: Wire<Credits>,
    /// What expires next, or `null` if nothing does, or the balance is one of the past.
    #[oai(nullable)]
    expiring_next: Option<Expiring>,
    /// The number of the last movement in it; 0 before the first.
    sequence: i64,
    /// The instant for which it holds.
    as_of: Wire<Timestamp>,
}

impl From<BalanceView> for Balance {
    fn from(view: BalanceView) -> Self {
        Self {
            organization_id: Wire(view.organization_id.uuid()),
            available: Wire(view.balance.available),
            held: Wire(view.balance.held),
            expiring_next: view
                .expiring_next
                .map(|expiring| Expiring { credits: Wire(expiring.credits), at: Wire(expiring.at) }),
            sequence: view.sequence,
            as_of: Wire(view.as_of),
        }
    }
}

impl Example for Balance {
    fn example() -> Self {
        Self {
            organization_id: Wire(example::ORGANIZATION_ID.uuid()),
            available: Wire(example::credits(9_995, 500)),
            held: Wire(Credits::ZERO),
            expiring_next: Some(Expiring {
                credits: Wire(example::credits(9_995, 500)),
                at: example::text("2027-11-22T00:00:00Z"),
            }),
            sequence: 2,
            as_of: example::time(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Ledger")]
impl Api {
    /// Read the balance
    ///
    /// Exact at `as_of`: credits that have expired by then are gone from it, those that have started are in it. With `at`
    /// it is the balance of that instant, as it was answered then; an instant in the future is 400.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/balance", method = "get", operation_id = "getBalance")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The instant whose balance is wanted; not in the future. Left out, it is now.
        at: Query<Timestamp>,
        /// Goes past every cache: what others have spent by SQL of their own shows at once.
        fresh: Query<Flag>,
    ) -> Result<Written<Balance>, Failure<failures::ReadingHistory>> {
        let id = auth.organization(organization_id.0)?;
        let write = |view| Written::of(&Balance::from(view));
        if let Some(at) = at.0 {
            // Boxed: it is large, and seldom wanted.
            return Ok(write(Box::pin(auth.store().balance_at(id, at)).await?));
        }
        let fresh = fresh.0.is_some_and(|Flag(fresh)| fresh);
        let bytes = auth.store().shown_balance(id, fresh, |view| write(view).into_bytes()).await?;
        Ok(Written::again(bytes))
    }
}
