//! Automatic top-up: asking for credits before they are gone.
//!
//! A rule watches one type of credits of one organization. Where no more than its threshold can be spent, the service
//! asks whoever sells credits for more, by an event; the answer is a grant that names the request. There is one request
//! under way at a time. One that nobody answers in time has *timed out*: the service may ask again, and the answer to the
//! first is still taken when it comes, for the credits may have been paid. None is taken twice.
//!
//! How often it may ask is bounded twice: by a pause between two requests, and by how many there may be within a window.
//! What goes wrong on the other side then costs so much and no more.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::clock::Timestamp;
use crate::credit::{CreditType, Credits};
use crate::error::Refusal;
use crate::id::{GrantId, OrganizationId, TopUpId};

/// The longest time that a rule may name, in seconds: a year of 366 days.
pub const SECONDS_MAX: i64 = 366 * 24 * 60 * 60;

/// The most requests that a rule may allow within its window.
pub const WINDOW_REQUESTS_MAX: i64 = 1_000;

/// When a rule asks, and for how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopUpTerms {
    /// It asks where this much or less can be spent.
    pub threshold: Amount,
    /// What it asks for; more than nothing.
    pub amount: Amount,
    /// How long an answer is waited for, in seconds; at least 1.
    pub timeout_seconds: i64,
    /// How long it is at least from one request to the next, in seconds.
    pub cooldown_seconds: i64,
    /// Within how many seconds there are no more than `window_max` requests; at least 1.
    pub window_seconds: i64,
    /// How many requests there may be within the window; at least 1.
    pub window_max: i64,
    /// Whether it asks at all.
    pub active: bool,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUpRule {
    /// Whose.
    pub organization_id: OrganizationId,
    /// Of which type of credits.
    pub credit_type: CreditType,
    /// When it asks, and for how much.
    pub terms: TopUpTerms,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Where a request is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopUpState {
    /// An answer is waited for.
    Requested,
    /// A grant answered it.
    Granted,
    /// Nothing came in time; what comes later is taken all the same.
    TimedOut,
}

impl TopUpState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Requested, Self::Granted, Self::TimedOut];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Granted => "granted",
            Self::TimedOut => "timed_out",
        }
    }

    /// The state of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A request for credits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUp {
    /// Its id, which the answer names.
    pub id: TopUpId,
    /// The type of credits that it asks for.
    pub credit_type: CreditType,
    /// How much it asks for.
    pub amount: Amount,
    /// Where it was in its life when that was last written.
    pub state: TopUpState,
    /// When it was made.
    pub requested_at: Timestamp,
    /// Until when an answer was waited for.
    pub expires_at: Timestamp,
    /// The answer: the grant, and when it came.
    pub granted: Option<(GrantId, Timestamp)>,
}

impl TopUp {
    /// Where it is in its life at `at`. That the time is over follows from it, whether or not anybody has written it.
    pub fn state_at(&self, at: Timestamp) -> TopUpState {
        match self.state {
            TopUpState::Requested if self.expires_at <= at => TopUpState::TimedOut,
            state => state,
        }
    }

    /// Whether the answer came when none was waited for any more.
    pub fn is_late(&self) -> bool {
        self.granted.is_some_and(|(_, at)| at >= self.expires_at)
    }

    /// Whether a grant of these credits may answer it: [`Refusal::TopUpGranted`] if one has. How much is granted is for
    /// whoever answers to say, as long as some of it is what was asked for.
    pub fn may_be_answered(&self, credits: Credits) -> Result<(), Refusal> {
        if self.granted.is_some() {
            return Err(Refusal::TopUpGranted);
        }
        if credits[self.credit_type] == Amount::ZERO {
            let message = "must hold some of the type of credits that the top-up asks for";
            return Err(Refusal::InvalidField { field: "credits", message });
        }
        Ok(())
    }

    /// The same, answered.
    #[must_use]
    pub fn answered(self, grant_id: GrantId, at: Timestamp) -> Self {
        Self { state: TopUpState::Granted, granted: Some((grant_id, at)), ..self }
    }
}

/// What a rule is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// There is enough.
    Enough,
    /// Nothing before that instant, if the balance stays as it is.
    Wait(Timestamp),
    /// It asks.
    Ask,
}

impl TopUpTerms {
    /// The terms, if their numbers make sense.
    pub fn check(self) -> Result<Self, Refusal> {
        let refuse = |field, message| Err(Refusal::InvalidField { field, message });
        if self.amount == Amount::ZERO {
            return refuse("amount", "must be more than 0");
        }
        if !(1..=SECONDS_MAX).contains(&self.timeout_seconds) {
            return refuse("timeout_seconds", "must be from 1 to 31622400");
        }
        if !(0..=SECONDS_MAX).contains(&self.cooldown_seconds) {
            return refuse("cooldown_seconds", "must be from 0 to 31622400");
        }
        if !(1..=SECONDS_MAX).contains(&self.window_seconds) {
            return refuse("window_seconds", "must be from 1 to 31622400");
        }
        if !(1..=WINDOW_REQUESTS_MAX).contains(&self.window_max) {
            return refuse("window_max", "must be from 1 to 1000");
        }
        Ok(self)
    }

    /// What is to be done at `now`, where that much can be spent and these are the rule's requests of late, newest first:
    /// all of those within the window, and at least the last one.
    pub fn asking(&self, available: Amount, requests: &[TopUp], now: Timestamp) -> Asking {
        if !self.active || available > self.threshold {
            return Asking::Enough;
        }
        let seconds = TimeDelta::seconds;
        let under_way = requests.iter().find(|it| it.state_at(now) == TopUpState::Requested);
        let under_way = under_way.map(|it| it.expires_at);
        let cooled = requests.first().map(|last| last.requested_at + seconds(self.cooldown_seconds));
        // The window has room again when the oldest of the last `window_max` has left it.
        let oldest = usize::try_from(self.window_max - 1).ok().and_then(|index| requests.get(index));
        let has_room = oldest.map(|it| it.requested_at + seconds(self.window_seconds));
        match [under_way, cooled, has_room].into_iter().flatten().max() {
            Some(until) if until > now => Asking::Wait(until),
            _ => Asking::Ask,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn amount(value: i64) -> Amount {
        Amount::new(value).unwrap()
    }

    fn terms() -> TopUpTerms {
        TopUpTerms {
            threshold: amount(10),
            amount: amount(100),
            timeout_seconds: 60,
            cooldown_seconds: 30,
            window_seconds: 1_000,
            window_max: 3,
            active: true,
        }
    }

    fn request(terms: &TopUpTerms, requested: i64) -> TopUp {
        TopUp {
            id: TopUpId::new(Uuid::from_u128(requested.unsigned_abs().into())),
            credit_type: CreditType::Ai,
            amount: terms.amount,
            state: TopUpState::Requested,
            requested_at: at(requested),
            expires_at: at(requested + terms.timeout_seconds),
            granted: None,
        }
    }

    fn granted(top_up: TopUp, seconds: i64) -> TopUp {
        top_up.answered(GrantId::new(Uuid::nil()), at(seconds))
    }

    #[test]
    fn one_is_asked_for_at_a_time_with_pauses_and_so_many_within_a_window() {
        let terms = terms();
        let one = request(&terms, 0);
        assert_eq!(terms.asking(amount(11), &[], at(0)), Asking::Enough);
        assert_eq!(terms.asking(amount(10), &[], at(0)), Asking::Ask);
        assert_eq!(terms.asking(amount(10), std::slice::from_ref(&one), at(59)), Asking::Wait(at(60)));
        assert_eq!(
            terms.asking(amount(10), std::slice::from_ref(&one), at(60)),
            Asking::Ask,
            "nobody answered in time"
        );
        let one = granted(one, 5);
        assert_eq!(terms.asking(amount(10), std::slice::from_ref(&one), at(29)), Asking::Wait(at(30)));
        assert_eq!(terms.asking(amount(10), std::slice::from_ref(&one), at(30)), Asking::Ask);
        let three = [granted(request(&terms, 200), 201), granted(request(&terms, 100), 101), one];
        assert_eq!(terms.asking(amount(0), &three, at(999)), Asking::Wait(at(1_000)));
        assert_eq!(terms.asking(amount(0), &three, at(1_000)), Asking::Ask);
        assert_eq!(TopUpTerms { active: false, ..terms }.asking(amount(0), &[], at(0)), Asking::Enough);
    }

    #[test]
    fn an_answer_is_taken_once_late_or_not_and_brings_some_of_what_was_asked_for() {
        let top_up = request(&terms(), 0);
        let of = |credit_type| Credits::of(credit_type, amount(1));
        assert!(top_up.may_be_answered(of(CreditType::Ai)).is_ok());
        let other = top_up.may_be_answered(of(CreditType::Sms)).unwrap_err();
        assert!(matches!(other, Refusal::InvalidField { field: "credits", .. }));
        assert_eq!(top_up.state_at(at(59)), TopUpState::Requested);
        assert_eq!(top_up.state_at(at(60)), TopUpState::TimedOut);
        let late = granted(top_up.clone(), 60);
        assert!(late.is_late() && !granted(top_up, 59).is_late());
        assert_eq!(
            (late.state_at(at(99)), late.may_be_answered(of(CreditType::Ai))),
            (TopUpState::Granted, Err(Refusal::TopUpGranted),)
        );
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_by_field() {
        let field = |change: fn(&mut TopUpTerms)| {
            let mut terms = terms();
            change(&mut terms);
            terms.check().err().map(|refusal| refusal.to_string())
        };
        assert_eq!(field(|_| {}), None);
        for (change, name) in [
            ((|terms| terms.amount = Amount::ZERO) as fn(&mut TopUpTerms), "amount"),
            (|terms| terms.timeout_seconds = 0, "timeout_seconds"),
            (|terms| terms.cooldown_seconds = -1, "cooldown_seconds"),
            (|terms| terms.window_seconds = SECONDS_MAX + 1, "window_seconds"),
            (|terms| terms.window_max = 0, "window_max"),
        ] {
            assert!(field(change).unwrap().starts_with(name), "{name}");
        }
    }

    #[test]
    fn a_number_may_be_as_large_as_is_told() {
        let largest = |change: fn(&mut TopUpTerms, i64), most: i64| {
            let checked = |value| {
                let mut terms = terms();
                change(&mut terms, value);
                terms.check()
            };
            assert!(checked(most).is_ok());
            let refusal = checked(most + 1).unwrap_err().to_string();
            assert!(refusal.ends_with(&format!(" to {most}")), "{refusal}");
        };
        largest(|terms, value| terms.timeout_seconds = value, 31_622_400);
        largest(|terms, value| terms.cooldown_seconds = value, 31_622_400);
        largest(|terms, value| terms.window_seconds = value, 31_622_400);
        largest(|terms, value| terms.window_max = value, 1_000);
    }

    proptest! {
        /// Whoever asks as soon as it is told that it may, never breaks a bound; and waiting as long as it is told is
        /// enough.
        #[test]
        fn whoever_follows_it_keeps_every_bound(
            cooldown in 0..50_i64,
            timeout in 1..50_i64,
            window in 1..200_i64,
            most in 1..5_i64,
            answers in proptest::collection::vec(proptest::option::of(0..60_i64), 1..30),
        ) {
            let terms = TopUpTerms {
                cooldown_seconds: cooldown, timeout_seconds: timeout, window_seconds: window, window_max: most, ..terms()
            };
            let mut requests: Vec<TopUp> = Vec::new();
            let mut now = 0;
            for answer in answers {
                let mut looks = 0;
                while let Asking::Wait(until) = terms.asking(Amount::ZERO, &requests, at(now)) {
                    prop_assert!(until > at(now));
                    now = (until - Timestamp::UNIX_EPOCH).num_seconds();
                    looks += 1;
                    prop_assert!(looks <= 1, "it was told to wait too short");
                }
                if let Some(last) = requests.first() {
                    prop_assert!(now - (last.requested_at - Timestamp::UNIX_EPOCH).num_seconds() >= cooldown);
                    prop_assert!(last.granted.is_some() || last.expires_at <= at(now));
                }
                let within = requests.iter().filter(|it| it.requested_at > at(now - window)).count();
                prop_assert!(i64::try_from(within).unwrap() < most);
                let asked = request(&terms, now);
                let asked = if let Some(delay) = answer { granted(asked, now + delay) } else { asked };
                requests.insert(0, asked);
            }
        }
    }
}
