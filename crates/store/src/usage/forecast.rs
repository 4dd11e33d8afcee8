//! The forecast: lots as they are, and usage as it was of late.

use chrono::TimeDelta;
use multicredit_domain::forecast::forecast;
use multicredit_domain::usage::quarter;
use multicredit_domain::{BurnRate, Credits, Forecast, OrganizationId, TimeZone, Timestamp, UsageBucket, UsageSums};

use super::UsageQuery;
use crate::error::StoreError;
use crate::repo::book::SettledBook;
use crate::store::Store;

/// Over how many days rates are taken: what is new shows in the first, and weekends do not in the second.
const DAYS: [i64; 2] = [7, 30];

/// What the future holds, by the rates of different periods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForecastView {
    /// What can be spent now.
    pub available: Credits,
    /// A forecast for each period, the shortest first.
    pub forecasts: Vec<Forecast>,
    /// The instant from which they look ahead.
    pub as_of: Timestamp,
}

impl Store {
    /// How long the credits last, and what will expire unused.
    pub async fn forecast(&self, organization_id: OrganizationId) -> Result<ForecastView, StoreError> {
        let SettledBook { book, as_of, .. } = self.settled_book(organization_id).await?;
        let mut forecasts = Vec::with_capacity(DAYS.len());
        for days in DAYS {
            let query = UsageQuery {
                from: quarter(as_of) - TimeDelta::days(days),
                to: as_of + TimeDelta::microseconds(1),
                bucket: UsageBucket::Day,
                time_zone: TimeZone::default(),
                by_action: false,
            };
            let mut sums = UsageSums::default();
            for line in self.usage(organization_id, &query).await?.lines {
                sums.add(&line.sums);
            }
            let mut consumed = sums.consumed;
            for (consumed, refunded) in consumed.iter_mut().zip(sums.refunded) {
                *consumed -= refunded;
            }
            let rate = BurnRate { days, consumed: Credits::from_sums(consumed) };
            forecasts.push(forecast(book.lots(), rate, as_of));
        }
        Ok(ForecastView { available: book.account.available, forecasts, as_of })
    }
}
