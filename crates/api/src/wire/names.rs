//! Enumerations of the domain: their names, and nothing but their names.

use std::fmt::Write as _;

use multicredit_domain::plan::PlanPeriod;
use multicredit_domain::{
    AlertMeasure, CreditType, EventType, GrantSource, GrantState, HoldState, MovementKind, OrganizationStatus,
    TopUpState, UsageBucket,
};
use multicredit_store::{AuditOperation, DeliveryOutcome, DeliveryReason, MemberRole, Scope};
use poem_openapi::registry::MetaSchema;
use serde::Serializer;

use super::Text;
use super::text::Reason;

/// The schema of a choice between names.
pub fn one_of(names: impl Iterator<Item = &'static str>, description: &'static str) -> MetaSchema {
    MetaSchema {
        description: Some(description),
        enum_items: names.map(Into::into).collect(),
        ..MetaSchema::new("string")
    }
}

/// What to say of a text that is none of the names.
pub fn not_one_of(names: impl Iterator<Item = &'static str>) -> Reason {
    let mut reason = "must be one of".to_owned();
    for (index, name) in names.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing into a String cannot fail.
        let _ = write!(reason, "{comma} {name}");
    }
    reason.into()
}

macro_rules! names {
    ($($type:ty, $name:literal, $description:literal;)+) => {$(
        impl Text for $type {
            const NAME: &'static str = $name;

            fn schema() -> MetaSchema {
                one_of(Self::ALL.into_iter().map(Self::as_str), $description)
            }

            fn parse(text: &str) -> Result<Self, Reason> {
                Self::from_name(text).ok_or_else(|| not_one_of(Self::ALL.into_iter().map(Self::as_str)))
            }

            fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )+};
}

names! {
    OrganizationStatus, "OrganizationStatus",
        "`active` may do everything, `frozen` can receive credits but not spend them, `closed` can do nothing, for good.";
    GrantSource, "GrantSource", "Where a grant came from.";
    GrantState, "GrantState",
        "`pending` starts later, `active` can be spent, `exhausted` has nothing left, `expired` ended with something \
         left, `voided` was taken back.";
    HoldState, "HoldStatus",
        "`open` sets credits aside, `captured` was spent, wholly or in part, `released` was given up, `expired` was given \
         up by time.";
    MovementKind, "MovementKind", "What a movement was.";
    CreditType, "CreditType", "A type of credits.";
    AlertMeasure, "AlertMeasure",
        "`amount` is what can be spent, in credits; `share` the same in percent of the last grant; `forecast_days` in how \
         many days the credits run out, as they were used of late.";
    TopUpState, "TopUpStatus",
        "`requested` waits for an answer, `granted` was answered, `timed_out` was not in time; what comes later is taken \
         all the same.";
    PlanPeriod, "PlanInterval", "How long a period is, by the calendar of the organization's time zone.";
    UsageBucket, "UsageBucketLength", "How long a bucket of usage is, by the calendar of a time zone.";
    MemberRole, "MemberRole", "What a member may do in the customer's own system; it limits nothing here.";
    AuditOperation, "AuditOperation", "An operation that leaves a line in the audit log.";
    EventType, "EventType", "What an event tells of.";
    DeliveryReason, "DeliveryReason",
        "Why it was sent: `event` because it had happened, `redelivery` and `test` because somebody wanted it.";
    DeliveryOutcome, "DeliveryOutcome",
        "`delivered`: the answer was 2xx. `failed`: it was not, and where an event had happened it is tried again. \
         `given_up`: it was tried often enough. `gone`: the answer was 410, and the endpoint is disabled.";
    Scope, "Scope",
        "`read`: every GET and quotes. `consume`: consume, batch, events, holds. `credit`: grants, adjustments, refunds, \
         subscriptions. `admin`: everything.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_others_are_listed_what_they_could_be() {
        assert_eq!(OrganizationStatus::parse("frozen"), Ok(OrganizationStatus::Frozen));
        assert_eq!(OrganizationStatus::parse("Frozen").unwrap_err(), "must be one of active, frozen, closed");
        assert_eq!(serde_json::to_string(&crate::wire::Wire(MovementKind::Expiry)).unwrap(), r#""expiry""#);
    }
}
