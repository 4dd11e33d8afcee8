//! Alerts and automatic top-up: finding out what there is to tell, and storing that it was told.
//!
//! Nothing here stands in the way of spending. Whoever evaluates follows the ledger, as deliverers of events do: an
//! organization's cursor says up to which movement it was looked at, and what lies behind is read in the order in which it
//! happened. What is told follows from the ledger ([`multicredit_domain::alert`]), so however many consumptions cross a
//! threshold, and however late anybody looks, a crossing makes one event.
//!
//! | step | what | why |
//! | --- | --- | --- |
//! | find | organizations whose `sequence` is beyond their cursor | one comparison a second instead of a write for each consumption |
//! | claim | the cursor's row, with `SKIP LOCKED` | any number of processes evaluate; each organization is looked at by one |
//! | read | the account, then rules, states, and the movements up to its `sequence` | whoever sees a number sees all smaller ones; a rule that is not there yet was not committed before that number |
//! | decide | in the domain, pure | |
//! | write | events, states, the cursor | in one transaction: a server that dies has told all of it or nothing |
//!
//! Consumptions are not read. Between two other movements they only lower a balance, so its lowest point is what it was
//! before the next one. Only where a threshold was crossed the log is asked which consumption it was.
//!
//! Locks are taken in this order: the cursor, then top-ups. Accounts are read and not locked, so that nobody who evaluates
//! waits for one who spends, nor the other way round.

mod claim;
mod find;
mod follow;
mod forecasts;
mod start;
mod top_ups;

use multicredit_domain::OrganizationId;

use crate::error::StoreError;
use crate::store::Store;

use find::Finding;

pub use forecasts::FORECASTS_EVERY;

/// What an evaluation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evaluated {
    /// How many organizations were looked at.
    pub organizations: u64,
    /// How many events were raised.
    pub events: u64,
    /// How many organizations could not be looked at, which the log explains. They are found again.
    pub failed: u64,
}

impl Evaluated {
    fn add(&mut self, organization_id: OrganizationId, outcome: Result<u64, StoreError>) {
        match outcome {
            Ok(events) => {
                self.organizations += 1;
                self.events += events;
            }
            Err(error) => {
                self.failed += 1;
                tracing::warn!(organization = %organization_id, %error, "alerts could not be evaluated");
            }
        }
    }
}

impl Store {
    /// Looks at every organization that has moved since it was looked at and that a rule is about, and asks for credits
    /// where a top-up rule says so.
    pub async fn evaluate_alerts(&self) -> Result<Evaluated, StoreError> {
        let mut done = Evaluated::default();
        let watched = self.watched().await?;
        if let Some(statement) = watched.balances {
            let mut moved = Finding::new(statement, None);
            while let Some(organization_id) = moved.next(self).await? {
                done.add(organization_id, self.follow_to_the_end(organization_id).await);
            }
        }
        if let Some(statement) = watched.top_ups {
            let mut short = Finding::new(statement, Some(self.now().await?));
            while let Some(organization_id) = short.next(self).await? {
                done.add(organization_id, self.ask_for_credits(organization_id).await);
            }
        }
        Ok(done)
    }
}
