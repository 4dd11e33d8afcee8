//! Plans: an allowance of credits for every period of a calendar.
//!
//! Periods are counted from the subscription's anchor by the calendar of the organization's time zone, each from the
//! anchor itself and not from the period before: a month after 31 January is the end of February, and two months after
//! it is 31 March. The lot of a period is spendable from the period's first instant, with every background job stopped;
//! it ends with the period, and what rolls over becomes part of the next period's lot.

use jiff::tz::TimeZone as JiffZone;
use jiff::{Span, Timestamp as JiffTimestamp};
use serde::{Deserialize, Serialize};

use crate::account::Corrupt;
use crate::amount::{Amount, MAX};
use crate::book::Book;
use crate::clock::Timestamp;
use crate::credit::Credits;
use crate::error::{Denial, Refusal};
use crate::grant::{GrantSource, GrantState, Lot};
use crate::id::{GrantId, OrganizationId};
use crate::idempotency::digest;
use crate::movement::MovementKind;
use crate::organization::TimeZone;
use crate::text::PlanCode;
use crate::window::Validity;

/// How long a period is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanPeriod {
    /// A day of the calendar, 23 to 25 hours.
    Day,
    /// Seven days.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl PlanPeriod {
    /// Every period.
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Year];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The period of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.as_str() == name)
    }

    /// The instant `count` periods after `anchor`, by the calendar of `zone`; `None` beyond the calendar's end.
    pub fn after(self, anchor: Timestamp, zone: &TimeZone, count: i64) -> Option<Timestamp> {
        let zone = JiffZone::get(zone.as_str()).ok()?;
        let start = JiffTimestamp::from_microsecond(anchor.timestamp_micros()).ok()?.to_zoned(zone);
        let span = Span::new();
        let span = match self {
            Self::Day => span.try_days(count),
            Self::Week => span.try_weeks(count),
            Self::Month => span.try_months(count),
            Self::Year => span.try_years(count),
        };
        let instant = start.checked_add(span.ok()?).ok()?.timestamp();
        Timestamp::from_timestamp_micros(instant.as_microsecond())
    }

    /// The number, counted from `anchor`, of the last period that has begun at `at`; 0 if none has.
    fn number_at(self, anchor: Timestamp, zone: &TimeZone, at: Timestamp) -> i64 {
        let begun = |count| self.after(anchor, zone, count).is_some_and(|start| start <= at);
        let (mut last, mut beyond) = (0, 1_i64);
        while begun(beyond) {
            (last, beyond) = (beyond, beyond.saturating_mul(2));
        }
        while last + 1 < beyond {
            let middle = last.midpoint(beyond);
            if begun(middle) { last = middle } else { beyond = middle }
        }
        last
    }
}

/// What a version of a plan gives. Immutable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanTerms {
    /// The plan.
    pub code: PlanCode,
    /// The version, from 1.
    pub version: i32,
    /// What each period gives.
    pub allowance: Credits,
    /// How long a period is.
    pub period: PlanPeriod,
    /// How much of what is left at a period's end the next one's lot may take over; `None` is nothing.
    pub rollover_max: Option<Credits>,
    /// Lower burns first.
    pub priority: i32,
}

/// A plan as it is shown: its latest version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What the latest version gives.
    pub terms: PlanTerms,
    /// When the plan was first made.
    pub created_at: Timestamp,
}

/// An organization's subscription to a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// What each period gives.
    pub terms: PlanTerms,
    /// Whose calendar counts.
    pub time_zone: TimeZone,
    /// From where periods are counted.
    pub anchor: Timestamp,
    /// The number, counted from the anchor, of the next period to be granted.
    pub next_index: i64,
    /// The current period, `[start, end)`; `None` before the first.
    pub current: Option<(Timestamp, Timestamp)>,
    /// The current period's lot.
    pub grant_id: Option<GrantId>,
    /// What counts from the next period on, if that changes.
    pub next_terms: Option<PlanTerms>,
    /// When it was made.
    pub created_at: Timestamp,
    /// What was left of the lot that has just ended. The next period follows at the same instant, so this is nothing
    /// whenever a settlement is over, and never stored.
    #[serde(skip)]
    pub carry: Credits,
}

impl Subscription {
    /// A subscription that begins with the period of the calendar in which `at` lies, or at a later `anchor`.
    pub fn new(
        organization_id: OrganizationId,
        terms: PlanTerms,
        time_zone: TimeZone,
        anchor: Timestamp,
        at: Timestamp,
    ) -> Self {
        let next_index = terms.period.number_at(anchor, &time_zone, at);
        Self {
            organization_id,
            terms,
            time_zone,
            anchor,
            next_index,
            current: None,
            grant_id: None,
            next_terms: None,
            created_at: at,
            carry: Credits::ZERO,
        }
    }

    /// When the next period begins; `None` beyond the calendar's end.
    pub fn next_period_start(&self) -> Option<Timestamp> {
        self.terms.period.after(self.anchor, &self.time_zone, self.next_index)
    }

    /// Remembers what is left of a lot that has ended, if it is the current period's.
    pub(crate) fn lot_expired(&mut self, id: GrantId, left: Credits) {
        if self.grant_id == Some(id) {
            self.carry = left;
        }
    }

    /// Begins the next period, which starts at `start`. Answers its end and what it gives.
    fn begin_period(&mut self, start: Timestamp) -> Option<(Timestamp, Credits)> {
        if let Some(terms) = self.next_terms.take() {
            // The new plan's periods are counted from where it begins.
            self.terms = terms;
            self.anchor = start;
            self.next_index = 0;
        }
        let end = self.terms.period.after(self.anchor, &self.time_zone, self.next_index + 1)?;
        let carry = std::mem::take(&mut self.carry).min(self.terms.rollover_max.unwrap_or_default());
        self.next_index += 1;
        self.current = Some((start, end));
        Some((end, self.terms.allowance.saturating_add(carry)))
    }

    /// The id of the lot of a period, in the form of a UUIDv7 of its start. It follows from the period alone: the same
    /// whoever settles, and the same when somebody ends the subscription and begins it again, so that no period is
    /// granted twice.
    fn period_grant_id(&self, start: Timestamp, end: Timestamp) -> GrantId {
        let name = format!("{} {} {}", self.terms.code, start.timestamp_micros(), end.timestamp_micros());
        let random = digest(&["period", &self.organization_id.to_string(), &name]).into_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&random[6..]);
        let millis = u64::try_from(start.timestamp_millis()).unwrap_or_default();
        GrantId::new(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }

    /// The next period, `[start, end)`, by the terms in force now.
    fn next_period(&self) -> Option<(Timestamp, Timestamp)> {
        let end = self.terms.period.after(self.anchor, &self.time_zone, self.next_index + 1)?;
        Some((self.next_period_start()?, end))
    }

    /// The id of the lot of the period that a new subscription begins with. Whoever subscribes again may have it already.
    pub fn first_grant_id(&self) -> Option<GrantId> {
        self.next_period().map(|(start, end)| self.period_grant_id(start, end))
    }

    /// Goes on with the period whose lot was granted before.
    fn resume(&mut self, grant_id: GrantId) {
        self.current = self.next_period();
        self.grant_id = Some(grant_id);
        self.next_index += 1;
    }
}

impl Book {
    /// Subscribes at `at`, which must be settled: the current period's lot is granted at once, unless the book has it from
    /// an earlier subscription. Where there is a subscription already, the new terms count from the next period on; its
    /// anchor cannot be moved.
    pub fn subscribe(&mut self, mut new: Subscription, at: Timestamp) -> Result<Subscription, Denial> {
        if let Some(current) = &mut self.subscription {
            current.next_terms = (new.terms != current.terms).then_some(new.terms);
            return Ok(current.clone());
        }
        let starts = new.next_period_start().is_some_and(|start| start <= at);
        let granted = new.first_grant_id().filter(|id| starts && self.lot(*id).is_some());
        if let Some(granted) = granted {
            new.resume(granted);
            self.subscription = Some(new);
        } else {
            self.check_room_for(new.terms.allowance)?;
            self.subscription = Some(new);
            if starts {
                self.grant_period(at)?;
            }
        }
        self.mark_settled();
        self.subscription.clone().ok_or_else(|| Corrupt.into())
    }

    /// Ends the subscription at `at`: the current period's lot stays until its end, and no other follows.
    pub fn unsubscribe(&mut self) -> Result<(), Refusal> {
        self.subscription.take().ok_or(Refusal::UnknownSubscription)?;
        self.mark_settled();
        Ok(())
    }

    /// Grants the period whose start has come, at the instant `at`.
    pub(crate) fn grant_period(&mut self, at: Timestamp) -> Result<(), Corrupt> {
        let Some(mut subscription) = self.subscription.take() else { return Err(Corrupt) };
        let start = subscription.next_period_start().ok_or(Corrupt)?;
        let Some((end, credits)) = subscription.begin_period(start) else {
            // The calendar has no further period.
            return Ok(());
        };
        let credits = credits.min(self.room());
        let lot = Lot {
            priority: subscription.terms.priority,
            validity: Validity { effective_at: start, expires_at: Some(end) },
            ..Lot::of(subscription.period_grant_id(start, end), credits, GrantSource::Plan, at)
        };
        let before = self.account.balance();
        self.account.available = before.available.checked_add(credits).ok_or(Corrupt)?;
        self.record(MovementKind::PeriodGrant, before, lot.id.uuid(), at);
        subscription.grant_id = Some(lot.id);
        self.subscription = Some(subscription);
        let state = if credits.is_zero() { GrantState::Exhausted } else { GrantState::Active };
        self.insert_lot(Lot { state, ..lot });
        Ok(())
    }

    /// How much more the balance can take: settling must not fail because somebody holds nearly all there can be.
    fn room(&self) -> Credits {
        let pending = self.lots.iter().filter(|lot| lot.state == GrantState::Pending).map(|lot| lot.remaining);
        let full = Credits::from_array([Amount::new(MAX).unwrap_or_default(); crate::credit::COUNT]);
        pending.chain([self.account.available, self.account.held]).fold(full, Credits::saturating_sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn months_are_counted_from_the_anchor_and_end_where_the_calendar_ends_them() {
        let zone = TimeZone::default();
        let anchor = at("2026-01-31T10:00:00Z");
        let starts: Vec<_> = (0..4).map(|n| PlanPeriod::Month.after(anchor, &zone, n).unwrap()).collect();
        let expected = ["2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z", "2026-04-30T10:00:00Z"];
        assert_eq!(starts, expected.map(at));
    }

    #[test]
    fn a_day_is_one_of_the_calendar() {
        let zone = TimeZone::new("Europe/Berlin").unwrap();
        // Clocks go forward on 29 March 2026.
        let anchor = at("2026-03-28T23:00:00Z");
        assert_eq!(PlanPeriod::Day.after(anchor, &zone, 1), Some(at("2026-03-29T22:00:00Z")));
    }

    #[test]
    fn the_period_of_an_instant_is_found() {
        let zone = TimeZone::default();
        let anchor = at("2020-02-29T00:00:00Z");
        assert_eq!(PlanPeriod::Year.number_at(anchor, &zone, at("2019-01-01T00:00:00Z")), 0);
        assert_eq!(PlanPeriod::Year.number_at(anchor, &zone, at("2021-02-27T23:59:59Z")), 0);
        assert_eq!(PlanPeriod::Year.number_at(anchor, &zone, at("2021-02-28T00:00:00Z")), 1);
        assert_eq!(PlanPeriod::Day.number_at(anchor, &zone, at("2020-03-10T00:00:00Z")), 10);
    }

    fn ai(value: i64) -> Credits {
        Credits::from_sums([value, 0, 0, 0])
    }

    /// A subscription to so much a day from 1 November on, made at that hour of 3 November.
    fn daily(allowance: i64, hour: i64) -> Subscription {
        let (code, allowance, period) = (PlanCode::new("pro").unwrap(), ai(allowance), PlanPeriod::Day);
        let terms = PlanTerms { code, version: 1, allowance, period, rollover_max: None, priority: 5 };
        Subscription::new(OrganizationId::MIN, terms, TimeZone::default(), at("2026-11-01T00:00:00Z"), third(hour))
    }

    fn third(hour: i64) -> Timestamp {
        at("2026-11-03T00:00:00Z") + chrono::TimeDelta::hours(hour)
    }

    fn book() -> Book {
        let account = crate::account::Account::open(OrganizationId::MIN, third(0));
        Book::new(account, crate::book::Pages::default())
    }

    #[test]
    fn who_subscribes_again_within_a_period_goes_on_with_its_lot() {
        let mut book = book();
        let first = book.subscribe(daily(10, 1), third(1)).unwrap();
        assert_eq!((first.current, first.next_index), (Some((third(0), third(24))), 3));
        assert_eq!(first.grant_id, daily(10, 1).first_grant_id());
        book.unsubscribe().unwrap();
        assert_eq!(book.subscription(), None);
        assert_eq!(book.unsubscribe(), Err(Refusal::UnknownSubscription));
        book.settle(third(2)).unwrap();
        let again = book.subscribe(daily(10, 2), third(2)).unwrap();
        assert_eq!((again.current, again.grant_id, again.next_index), (first.current, first.grant_id, 3));
        assert_eq!((book.lots().len(), book.account.available), (1, ai(10)));
        assert_eq!((book.lots()[0].priority, book.lots()[0].source), (5, GrantSource::Plan));
        book.settle(third(24)).unwrap();
        assert_eq!((book.lots().len(), book.account.available), (2, ai(10)));
    }

    #[test]
    fn other_terms_count_from_the_next_period_on_and_the_same_change_nothing() {
        let mut book = book();
        book.subscribe(daily(10, 1), third(1)).unwrap();
        assert_eq!(book.subscribe(daily(10, 2), third(2)).unwrap().next_terms, None);
        let changed = book.subscribe(daily(20, 3), third(3)).unwrap();
        assert_eq!(changed.next_terms.map(|terms| terms.allowance), Some(ai(20)));
        assert_eq!(book.account.available, ai(10));
        book.settle(third(24)).unwrap();
        assert_eq!(book.account.available, ai(20));
        assert_eq!(book.subscription().unwrap().next_terms, None);
    }

    #[test]
    fn a_period_gives_what_there_is_room_for_and_its_lot_is_there_all_the_same() {
        let mut book = book();
        book.subscribe(daily(10, 1), third(1)).unwrap();
        book.account.spend(ai(10), third(2)).unwrap();
        book.settle(third(2)).unwrap();
        let most = crate::grant::NewGrant {
            credits: ai(MAX),
            source: GrantSource::Purchase,
            priority: 10,
            effective_at: None,
            expires_at: None,
            reference: None,
            top_up_id: None,
        };
        book.grant(GrantId::new(uuid::Uuid::from_u128(1)), &most, third(3)).unwrap();
        book.settle(third(24)).unwrap();
        let id = book.subscription().unwrap().grant_id.unwrap();
        let lot = book.lot(id).unwrap();
        assert_eq!((lot.granted, lot.state, book.account.available), (ai(0), GrantState::Exhausted, ai(MAX)));
    }
}
