//! `/v1/organizations/{organization_id}/quote`: what spending would cost.

use multicredit_domain::{Credits, Quote};
use multicredit_store::clock;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;

use super::consume::ConsumeBody;
use super::example;
use crate::auth::{Auth, Tenant, scope};
use crate::occurrence::OccurrenceWindow;
use crate::openapi::Tag;
use crate::param::Path;
use crate::payload::Json;
use crate::problem::{Failure, failures};
use crate::wire::Wire;

/// What a consumption would cost, and whether it would be allowed at this instant.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Quote", example)]
struct QuoteBody {
    /// Whether it would succeed.
    allowed: bool,
    /// What it would cost.
    required: Wire<Credits>,
    /// What can be spent.
    available: Wire<Credits>,
    /// What is missing, by type.
    shortfall: Wire<Credits>,
    /// The largest quantity that the balance covers.
    max_affordable_quantity: i64,
}

impl From<Quote> for QuoteBody {
    fn from(quote: Quote) -> Self {
        Self {
            allowed: quote.allowed,
            required: Wire(quote.terms.required),
            available: Wire(quote.terms.available),
            shortfall: Wire(quote.terms.shortfall),
            max_affordable_quantity: quote.terms.max_affordable_quantity,
        }
    }
}

impl Example for QuoteBody {
    fn example() -> Self {
        Self {
            allowed: true,
            required: Wire(example::credits(5, 0)),
            available: Wire(example::credits(9_995, 500)),
            shortfall: Wire(Credits::ZERO),
            max_affordable_quantity: 9_995_000,
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Consumption")]
impl Api {
    /// Quote a consumption
    ///
    /// What the same body would cost if it were consumed now, and whether it would be allowed. Nothing changes, and
    /// nothing is set aside. An unknown or inactive action is 404 `unknown_action`.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/quote", method = "post", operation_id = "quote")]
    async fn quote(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        body: Json<ConsumeBody>,
    ) -> Result<Json<QuoteBody>, Failure<failures::Quoting>> {
        let id = auth.organization(organization_id.0)?;
        let command = body.0.into_command(OccurrenceWindow::around(clock::now()))?;
        Ok(Json(auth.store().quote(id, &command.action, command.quantity).await?.into()))
    }
}
