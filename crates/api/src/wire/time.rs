//! Instants: RFC 3339 with any offset in, UTC with `Z` out, microseconds throughout.

use chrono::{DateTime, Datelike as _};
use multicredit_domain::Timestamp;
use poem_openapi::registry::MetaSchema;
use serde::{Serialize, Serializer};

use super::Text;
use super::text::Reason;

impl Text for Timestamp {
    const NAME: &'static str = "Time";

    fn schema() -> MetaSchema {
        MetaSchema {
            example: Some("2026-11-22T09:30:00Z".into()),
            ..MetaSchema::new_with_format("string", "date-time")
        }
    }

    /// Reads an instant, cut to the microsecond in which it lies. A leap second counts as the second after it, which is
    /// how PostgreSQL takes it.
    fn parse(text: &str) -> Result<Self, Reason> {
        const REASON: Reason = Reason::Borrowed("must be a time such as 2026-11-22T09:30:00Z (RFC 3339)");
        let instant = DateTime::parse_from_rfc3339(text).map_err(|_| REASON)?;
        let instant = DateTime::from_timestamp_micros(instant.timestamp_micros()).ok_or(REASON)?;
        // An offset can move an instant out of the years that RFC 3339 can write.
        if (1..=9999).contains(&instant.year()) { Ok(instant) } else { Err(REASON) }
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    fn round_trip(text: &str) -> String {
        serde_json::to_value(Wire(Timestamp::parse(text).unwrap())).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn instants_are_cut_to_microseconds_and_written_in_utc() {
        assert_eq!(round_trip("2026-11-22T10:30:00+01:00"), "2026-11-22T09:30:00Z");
        assert_eq!(round_trip("2026-11-22T09:30:00.1234569Z"), "2026-11-22T09:30:00.123456Z");
        assert_eq!(round_trip("1969-12-31T23:59:59.9999999Z"), "1969-12-31T23:59:59.999999Z");
        assert_eq!(round_trip("2016-12-31T23:59:60Z"), "2017-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        let bad =
            ["", "now", "2026-11-22", "2026-11-22T09:30:00", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+01:00", "1"];
        for bad in bad {
            assert!(Timestamp::parse(bad).is_err(), "{bad} was accepted");
        }
    }
}
