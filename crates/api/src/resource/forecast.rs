//! `/v1/organizations/{organization_id}/forecast`: how long the credits last.

use multicredit_domain::{Credits, Forecast, Timestamp};
use multicredit_store::ForecastView;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;
use uuid::Uuid;

use super::example;
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::param::Path;
use crate::payload::Json;
use crate::problem::{Failure, failures};
use crate::wire::Wire;

/// When each type of credit runs out; `null` where it does not.
#[derive(Debug, Serialize, Object)]
struct RunsOutAt {
    #[oai(nullable)]
    ai: Option<Wire<Timestamp>>,
    #[oai(nullable)]
    whatsapp: Option<Wire<Timestamp>>,
    #[oai(nullable)]
    email: Option<Wire<Timestamp>>,
    #[oai(nullable)]
    sms: Option<Wire<Timestamp>>,
}

/// Credits that will expire unused.
#[derive(Debug, Serialize, Object)]
struct ExpiringUnused {
    /// When.
    at: Wire<Timestamp>,
    /// What.
    credits: Wire<Credits>,
}

/// A forecast by the rate of a number of days.
#[derive(Debug, Serialize, Object)]
struct Outlook {
    /// How many days were looked at, up to now.
    days: i64,
    /// What was consumed in them and not refunded.
    consumed: Wire<Credits>,
    /// What that is a day, rounded down.
    per_day: Wire<Credits>,
    /// When each type runs out, if that goes on.
    runs_out_at: RunsOutAt,
    /// What will expire unused, if that goes on, earliest first.
    expiring_unused: Vec<ExpiringUnused>,
}

/// How long an organization's credits last.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Forecast", example)]
struct Outlooks {
    organization_id: Wire<Uuid>,
    /// What can be spent now.
    available: Wire<Credits>,
    /// A forecast by the last 7 days, and one by the last 30.
    forecasts: Vec<Outlook>,
    /// The instant from which they look ahead.
    as_of: Wire<Timestamp>,
}

impl From<Forecast> for Outlook {
    fn from(forecast: Forecast) -> Self {
        let [ai, whatsapp, email, sms] = forecast.runs_out_at.map(|at| at.map(Wire));
        Self {
            days: forecast.rate.days,
            consumed: Wire(forecast.rate.consumed),
            per_day: Wire(forecast.rate.per_day()),
            runs_out_at: RunsOutAt { ai, whatsapp, email, sms },
            expiring_unused: forecast
                .expiring_unused
                .into_iter()
                .map(|(at, credits)| ExpiringUnused { at: Wire(at), credits: Wire(credits) })
                .collect(),
        }
    }
}

impl Example for Outlooks {
    fn example() -> Self {
        Self {
            organization_id: Wire(example::ORGANIZATION_ID.uuid()),
            available: Wire(example::credits(1_000, 500)),
            forecasts: vec![Outlook {
                days: 7,
                consumed: Wire(example::credits(700, 0)),
                per_day: Wire(example::credits(100, 0)),
                runs_out_at: RunsOutAt {
                    ai: Some(example::text("2026-12-02T09:30:00.123456Z")),
                    whatsapp: Some(example::text("2026-12-31T23:00:00Z")),
                    email: Some(example::time()),
                    sms: Some(example::time()),
                },
                expiring_unused: vec![ExpiringUnused {
                    at: example::text("2026-12-31T23:00:00Z"),
                    credits: Wire(example::credits(0, 500)),
                }],
            }],
            as_of: example::time(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Usage")]
impl Api {
    /// Forecast
    ///
    /// How long the credits last if they go on being used as in the last 7 and 30 days, and what of them will expire
    /// unused, given the order in which they are spent. Credits that a plan will give in periods to come are not counted.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/forecast", method = "get", operation_id = "getForecast")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
    ) -> Result<Json<Outlooks>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        let ForecastView { available, forecasts, as_of } = auth.store().forecast(id).await?;
        Ok(Json(Outlooks {
            organization_id: Wire(id.uuid()),
            available: Wire(available),
            forecasts: forecasts.into_iter().map(Outlook::from).collect(),
            as_of: Wire(as_of),
        }))
    }
}
