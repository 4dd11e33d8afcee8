//! The operations, in files that mirror the URL. Each file has its handlers and the bodies that they read and write.
//!
//! A handler is thin: it opens what the caller named through its [`Auth`](crate::auth::Auth), makes a command of the
//! domain from the body, hands it to the store and shows the answer. It takes its `Auth` first, so that a caller without
//! a valid key learns nothing else about the request.

mod actions;
mod adjustments;
mod alert_rules;
mod api_keys;
mod audit_log;
mod balance;
mod batch;
mod consume;
mod consumptions;
mod events;
pub mod example;
mod export;
mod forecast;
mod grants;
mod health;
mod holds;
mod ledger;
mod live_events;
mod members;
mod no_fields;
mod organization_events;
mod organizations;
mod performance;
mod plans;
mod quote;
pub mod raised_events;
mod refunds;
mod results;
mod subscription;
mod top_up_rules;
mod top_ups;
mod usage;
mod usage_summary;
mod users;
mod webhook_deliveries;
mod webhook_endpoints;

#[cfg(any(test, fuzzing))]
pub use self::events::Events;
pub use self::live_events::{balance_event, movement_event};
pub use self::performance::LastReport;

use multicredit_domain::{OrganizationId, Refusal};
use poem_openapi::OpenApi;

use crate::auth::Auth;
use crate::openapi::Secured;
use crate::problem::{Code, Problem};

/// Every operation.
pub fn api() -> Secured<impl OpenApi> {
    Secured(operations())
}

fn operations() -> impl OpenApi {
    (
        (organizations::Api, actions::Api, balance::Api, ledger::Api, usage::Api, usage_summary::Api, forecast::Api),
        (grants::Api, adjustments::Api, plans::Api, subscription::Api),
        (consume::Api, quote::Api, batch::Api, events::Api, consumptions::Api, refunds::Api, holds::Api),
        (alert_rules::Api, top_up_rules::Api, top_ups::Api, raised_events::Api, live_events::Api),
        (webhook_endpoints::Api, webhook_deliveries::Api, organization_events::Api),
        (members::Api, users::Api, api_keys::Api, audit_log::Api, performance::Api, health::Api),
    )
}

/// Makes sure that the organization of a list exists: an empty list of one that does not would be a lie.
async fn exists<R, T>(auth: &Auth<R>, id: OrganizationId, items: &[T]) -> Result<(), Problem> {
    if items.is_empty() {
        auth.store().organization(id).await?;
    }
    Ok(())
}

/// What to say of something that is not there: if its organization is not there either, then that, as everywhere.
async fn unknown<R>(auth: &Auth<R>, id: OrganizationId, thing: Refusal) -> Problem {
    match auth.store().organization(id).await {
        Ok(_) => thing.into(),
        Err(error) => error.into(),
    }
}

/// The same of a thing that has no code of its own.
async fn unknown_thing<R>(auth: &Auth<R>, id: OrganizationId) -> Problem {
    match auth.store().organization(id).await {
        Ok(_) => Problem::new(Code::NotFound),
        Err(error) => error.into(),
    }
}

/// Every operation as it states itself, with its scope where the security scheme will be.
pub fn stated() -> Vec<poem_openapi::registry::MetaApi> {
    fn meta<A: OpenApi>(_: &A) -> Vec<poem_openapi::registry::MetaApi> {
        A::meta()
    }
    meta(&operations())
}
