//! Plans with periods of a day in UTC.

use chrono::{DateTime, TimeDelta, Utc};

use super::{About, Oracle, Refused, TYPES, Vector, plus, smaller};

/// What a plan gives each day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OraclePlan {
    /// Its code.
    pub code: &'static str,
    /// What each period gives.
    pub allowance: Vector,
    /// How much of what is left the next period takes over.
    pub rollover_max: Vector,
    /// Lower burns first.
    pub priority: i32,
}

/// A subscription to a plan.
#[derive(Debug, Clone)]
pub struct OracleSubscription {
    /// The plan of the current period, or of the first if that is still to come.
    pub plan: OraclePlan,
    /// The plan from the next period on, if that changes.
    pub next_plan: Option<OraclePlan>,
    /// From where days are counted.
    pub anchor: DateTime<Utc>,
    /// The current period.
    pub current: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// How many days after the anchor the next period starts.
    days: i64,
    /// The current period's lot.
    lot: Option<usize>,
    /// What was left of it when it ended.
    carry: Vector,
}

impl OracleSubscription {
    /// When the next period starts.
    pub fn next_start(&self) -> DateTime<Utc> {
        self.anchor + TimeDelta::days(self.days)
    }

    pub(super) fn lot_ended(&mut self, place: usize, left: Vector) {
        if self.lot == Some(place) {
            self.carry = left;
        }
    }
}

impl Oracle {
    /// Subscribes to a plan. The period in which now lies is granted at once; where there is a subscription already, the
    /// plan counts from the next period on.
    pub fn subscribe(&mut self, plan: &OraclePlan, anchor: Option<DateTime<Utc>>) -> Result<(), Refused> {
        self.settle();
        if let Some(subscription) = &mut self.subscription {
            if anchor.is_some_and(|anchor| anchor != subscription.anchor) {
                return Err(Refused::because("invalid_request"));
            }
            subscription.next_plan = (subscription.plan != *plan).then(|| plan.clone());
            return Ok(());
        }
        let anchor = anchor.unwrap_or(self.now);
        let mut days = 0;
        while anchor + TimeDelta::days(days + 1) <= self.now {
            days += 1;
        }
        let mut subscription = OracleSubscription {
            plan: plan.clone(),
            next_plan: None,
            anchor,
            current: None,
            days,
            lot: None,
            carry: [0; TYPES],
        };
        let starts = subscription.next_start() <= self.now;
        let first = (plan.code, subscription.next_start());
        if let Some((_, lot)) = self.periods.iter().find(|(period, _)| starts && *period == first) {
            // The period was granted to an earlier subscription, and is not granted again.
            subscription.current = Some((first.1, first.1 + TimeDelta::days(1)));
            subscription.days += 1;
            subscription.lot = Some(*lot);
            self.subscription = Some(subscription);
            self.settle();
            return Ok(());
        }
        self.check_room_for(plan.allowance)?;
        self.subscription = Some(subscription);
        if starts {
            self.begin_period(self.now);
        }
        self.settle();
        Ok(())
    }

    /// Ends the subscription. The current period's lot stays until its end.
    pub fn unsubscribe(&mut self) -> Result<(), Refused> {
        self.settle();
        let ended = self.subscription.take();
        self.settle();
        ended.map(drop).ok_or_else(|| Refused::because("unknown_subscription"))
    }

    /// The next period begins, and its lot is granted at `at`.
    pub(super) fn begin_period(&mut self, at: DateTime<Utc>) {
        let (before, room) = (self.balance(), self.room());
        let subscription = self.subscription.as_mut().expect("somebody subscribed");
        let start = subscription.next_start();
        let end = start + TimeDelta::days(1);
        if let Some(plan) = subscription.next_plan.take() {
            subscription.plan = plan;
            subscription.anchor = start;
            subscription.days = 0;
        }
        let OraclePlan { allowance, rollover_max, priority, .. } = subscription.plan;
        let rolled_over = smaller(subscription.carry, rollover_max);
        let credits = smaller(plus(allowance, rolled_over), room);
        let place = self.add_lot(credits, "plan", at);
        let lot = &mut self.lots[place];
        lot.priority = priority;
        lot.from = start;
        lot.until = Some(end);
        let subscription = self.subscription.as_mut().expect("somebody subscribed");
        self.periods.push(((subscription.plan.code, start), place));
        subscription.carry = [0; TYPES];
        subscription.days += 1;
        subscription.current = Some((start, end));
        subscription.lot = Some(place);
        self.write("period_grant", before, About::Lot(place), at);
    }
}
